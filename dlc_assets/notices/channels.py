"""The ways that lab.yaml names to reach people."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from dlc_assets.notices.mail import send_mail
from dlc_assets.notices.messages import Message
from dlc_assets.notices.voice import Voice
from dlc_assets.notices.webhook import send_to_webhook

TIMEOUT = 20.0  # s for one message


@dataclass(frozen=True)
class Channel:
    """A way to reach people: its name (``mail``, ``webhook``), where it leads in words without secrets, and how to send.

    `send` takes a message and returns a remark ("" for none). It raises a SettingsError or an EnvironmentProblem without secrets.
    """

    name: str
    leads_to: str
    send: Callable[[Message], str]


def channels_of(voice: Voice) -> dict[str, Channel]:
    """Return the channels that lab.yaml names, by name."""
    mail, webhook = voice.notify.mail, voice.notify.webhook
    channels = []
    if mail is not None:
        leads_to = f"{', '.join(mail.to)} by {mail.host}:{mail.server_port}"
        channels.append(Channel("mail", leads_to, partial(send_mail, mail, voice, timeout=TIMEOUT)))
    if webhook is not None:
        leads_to = f"the URL in {webhook.url_env} ({webhook.format})"
        channels.append(Channel("webhook", leads_to, partial(send_to_webhook, webhook, voice, timeout=TIMEOUT)))
    return {channel.name: channel for channel in channels}
