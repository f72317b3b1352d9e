"""Sending a message to a webhook: an HTTP POST of JSON, in the form that a chat expects."""

from __future__ import annotations

import http.client
import json
import ssl
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from dlc_assets.lab.errors import DlcAssetsError, EnvironmentProblem, SettingsError
from dlc_assets.lab.settings import Webhook
from dlc_assets.notices.messages import Message
from dlc_assets.notices.secrets import from_environment, parts_of_url, without_secrets
from dlc_assets.notices.voice import Voice
from dlc_assets.notices.words import one_line

# What the chats take at most, in signs, with room for what is written around it.
_LONGEST = {"json": 100_000, "slack": 30_000, "discord": 1_900, "teams": 15_000}
_ANSWER_BYTES = 2_000


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A redirected POST would be repeated as a GET without the message, and look like a success."""

    def redirect_request(self, *_: Any) -> None:
        return None


def send_to_webhook(webhook: Webhook, voice: Voice, message: Message, *, timeout: float) -> str:
    """Post *message* to the URL that the environment holds; return an empty string: there is nothing to be said of a success.

    Raises
    ------
    SettingsError
        The URL is not in the environment, or is none.
    EnvironmentProblem
        The server does not answer in *timeout* seconds, or answers other than 2xx; the URL is not in the text.
    """
    url = from_environment(webhook.url_env, "notify.webhook.url_env")
    try:
        usable = urlsplit(url).scheme in {"http", "https"} and urlsplit(url).hostname is not None
    except ValueError:
        usable = False
    if not usable:
        raise SettingsError(
            f"notify.webhook.url_env: expected a URL that begins with https:// in the environment variable {webhook.url_env}; what it "
            "holds is none."
        )
    where = f"the webhook (its URL is in {webhook.url_env})"
    try:
        _post(url, json.dumps(payload(webhook, voice, message)).encode(), timeout)
    except DlcAssetsError:
        raise
    except Exception as error:  # noqa: BLE001  # whatever it is, its text or that of a cause may hold the URL
        said = without_secrets(_why(error), parts_of_url(url))
        raise EnvironmentProblem(f"{where} {one_line(said, 600)}") from None  # a traceback would show the URL
    return ""


def payload(webhook: Webhook, voice: Voice, message: Message) -> dict[str, Any]:
    """Return *message* in the form that *webhook* expects, shortened to what it takes."""
    text = f"{message.subject}\n\n{message.body}"
    longest = _LONGEST[webhook.format]
    if len(text) > longest:
        text = f"{text[:longest]}\n[shortened; all of it: dlc-assets status]"
    if webhook.format == "slack":
        # In these three signs people and channels can be called upon.
        return {"text": text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")}
    if webhook.format == "discord":
        return {"content": text, "allowed_mentions": {"parse": []}}
    if webhook.format == "teams":
        block = {"type": "TextBlock", "text": text, "wrap": True}
        card = {"type": "AdaptiveCard", "version": "1.4", "body": [block]}
        attachment = {"contentType": "application/vnd.microsoft.card.adaptive", "content": card}
        return {"type": "message", "attachments": [attachment]}
    made = datetime.fromtimestamp(message.made, UTC).isoformat(timespec="seconds")
    return {
        "id": message.id,
        "lab": one_line(voice.name),
        "kind": message.kind,
        "subject": message.subject,
        "text": message.body,
        "made": made,
    }


def _post(url: str, content: bytes, timeout: float) -> None:
    headers = {"Content-Type": "application/json; charset=utf-8", "User-Agent": "dlc-assets"}
    request = urllib.request.Request(url, content, headers, method="POST")
    ends = time.monotonic() + timeout
    with urllib.request.build_opener(_NoRedirects).open(request, timeout=timeout) as answer:
        if not 200 <= answer.status < 300:
            raise urllib.error.HTTPError(url, answer.status, answer.reason, answer.headers, answer)
        if time.monotonic() < ends:
            answer.read(_ANSWER_BYTES)  # so that the server sees the end of it; what it says is of no use


def _why(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"answered {error.code} {error.reason}{_said(error)}."
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, TimeoutError):
        return "did not answer in time. Check the URL and the network."
    if isinstance(reason, ssl.SSLError):
        return f"does not show a certificate that this machine trusts ({reason.reason})."
    if isinstance(reason, OSError):
        return f"cannot be reached ({reason.strerror or reason}). Check the URL and the network."
    return f"broke off: {type(error).__name__}: {reason}"


def _said(error: urllib.error.HTTPError) -> str:
    try:
        text = error.read(_ANSWER_BYTES).decode("utf-8", "replace").strip()
    except (OSError, http.client.HTTPException):
        return ""
    return f": {text}" if text else ""
