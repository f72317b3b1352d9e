"""What people were told and what is still to be sent: one file, written in one step, so that a crash neither loses nor repeats much."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from dlc_assets.lab.files import read_json, write_json
from dlc_assets.lab.layout import LabLayout
from dlc_assets.notices.causes import LISTED, Causes
from dlc_assets.notices.failure_files import Seen
from dlc_assets.notices.messages import Message

_GIVEN_UP_KEPT = 20


@dataclass
class Unsent:
    """A message that one channel has still to take, and how often that was tried."""

    channel: str
    message: Message
    attempts: int = 0


@dataclass
class Trouble:
    """Why a channel does not work: failures in a row, the last reason, and when it is tried again (unix time)."""

    attempts: int
    why: str
    next_try: float


@dataclass
class GivenUp:
    """A message that could not be sent for a day; `at` is unix time."""

    channel: str
    subject: str
    why: str
    at: float


@dataclass
class Told:
    """Everything that is remembered from one look to the next; all times are unix times.

    Attributes
    ----------
    seen
        The failure files as they were last read.
    gathered, gathered_since
        New failures for the next message, and since when there are any.
    failures_told
        When the last message about failures was made.
    runs
        When the failed runs of the last day ended, by id: those that were looked at.
    stopped
        When each thing that has stopped was told of, by its name.
    recovered, recovered_names
        What no longer fails since the last digest, the first 20 by name.
    digest
        When the last digest was made; at the first look, when that was.
    voice
        What of lab.yaml is needed to tell that lab.yaml cannot be read.
    """

    seen: dict[str, Seen] = field(default_factory=dict)
    gathered: Causes = field(default_factory=Causes)
    gathered_since: float | None = None
    failures_told: float = 0.0
    runs: dict[str, float] = field(default_factory=dict)
    stopped: dict[str, float] = field(default_factory=dict)
    recovered: int = 0
    recovered_names: list[str] = field(default_factory=list)
    digest: float | None = None
    voice: dict[str, Any] = field(default_factory=dict)
    unsent: list[Unsent] = field(default_factory=list)
    trouble: dict[str, Trouble] = field(default_factory=dict)
    given_up: list[GivenUp] = field(default_factory=list)

    def put(self, message: Message, channels: Iterable[str]) -> None:
        """Leave *message* to be sent by each of *channels*."""
        self.unsent += [Unsent(channel, message) for channel in channels]

    def count_recovered(self, names: Iterable[str]) -> None:
        for name in names:
            self.recovered += 1
            if len(self.recovered_names) < LISTED:
                self.recovered_names.append(name)

    def give_up(self, unsent: Unsent, why: str, now: float) -> None:
        self.unsent.remove(unsent)
        self.given_up = [*self.given_up, GivenUp(unsent.channel, unsent.message.subject, why, now)][-_GIVEN_UP_KEPT:]

    def to_json(self) -> dict[str, Any]:
        return {**{name: value for name, value in vars(self).items() if name not in _NESTED}, **_nested(self)}

    def write(self, layout: LabLayout) -> None:
        write_json(layout.told_file, self.to_json())

    @classmethod
    def read(cls, layout: LabLayout) -> Told:
        """Return what is remembered; nothing where the file is missing or not one of these (what fails now is then told anew)."""
        try:
            kept = read_json(layout.told_file)
            kept["seen"] = {name: Seen(*seen) for name, seen in kept["seen"].items()}
            kept["gathered"] = Causes.from_json(kept["gathered"])
            kept["unsent"] = [Unsent(**{**each, "message": Message(**each["message"])}) for each in kept["unsent"]]
            kept["trouble"] = {name: Trouble(**each) for name, each in kept["trouble"].items()}
            kept["given_up"] = [GivenUp(**each) for each in kept["given_up"]]
            return cls(**kept)
        except (FileNotFoundError, ValueError, TypeError, KeyError, AttributeError):
            return cls()


_NESTED = {"gathered", "unsent", "trouble", "given_up"}


def _nested(told: Told) -> dict[str, Any]:
    return {
        "gathered": told.gathered.to_json(),
        "unsent": [asdict(each) for each in told.unsent],
        "trouble": {name: asdict(each) for name, each in told.trouble.items()},
        "given_up": [asdict(each) for each in told.given_up],
    }
