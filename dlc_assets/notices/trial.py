"""Trying each way to reach people, so that a wrong setting is found before there is something to tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dlc_assets.lab.errors import DlcAssetsError
from dlc_assets.notices.channels import Channel
from dlc_assets.notices.messages import trial_message
from dlc_assets.notices.voice import Voice


@dataclass(frozen=True)
class Trial:
    """What came of a test message: `why` says why it was not sent, or what is to be said of it although it was."""

    channel: str
    leads_to: str
    sent: bool
    why: str

    def cells(self) -> tuple[str, str, str]:
        return self.channel, self.leads_to, self.why or "sent"


def try_channels(voice: Voice, channels: Mapping[str, Channel], *, now: float) -> list[Trial]:
    """Send a test message by each of *channels*, whatever waits; a recipient that is refused counts as a failure here."""
    message = trial_message(voice, now)
    trials = []
    for channel in channels.values():
        try:
            why = channel.send(message)
        except DlcAssetsError as error:
            why = str(error)
        trials.append(Trial(channel.name, channel.leads_to, not why, why))
    return trials
