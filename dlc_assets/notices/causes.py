"""Failures grouped by what went wrong: a full disk is one piece of news, not five hundred."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from dlc_assets.lab.files import content_hash
from dlc_assets.notices.words import counted, one_line, plain_text
from dlc_assets.state.failures import RecordedFailure

# What is kept of a group: enough for a message, and no more, however many failures there are.
LISTED = 20
_MOST_CAUSES = 200
_LONGEST_MESSAGE = 1500
_PATH = re.compile(r"(?:[A-Za-z]:)?(?:[/\\][^\s/\\:,;\"']+)+[/\\]?")
_WORD = re.compile(r"[\w-]+")
_NUMBER = re.compile(r"\d[\d.,]*")
_FAILED = {
    "training_dataset": "the training dataset was not made",
    "trained_model": "the model was not trained",
    "model_evaluation": "the model was not evaluated",
    "session_recordings": "the recordings could not be used",
    "pose_table": "the poses were not estimated",
    "nwb_file": "the NWB file was not written",
    "dandi_asset": "the session was not published",
    "run": "a run ended without a result",
}


@dataclass
class Cause:
    """Failures of one asset with one cause.

    `example` is the whole message of the first, `keys` name the first 20, `count` counts all.
    """

    asset: str
    example: str
    keys: list[str] = field(default_factory=list)
    count: int = 0

    def heading(self) -> str:
        return f"{_FAILED.get(self.asset, f'{self.asset} failed')} ({self.count:,})"


@dataclass
class Causes:
    """Failures by cause; `others` are only counted: those of more than 200 causes, or not read."""

    by_id: dict[str, Cause] = field(default_factory=dict)
    others: int = 0

    @property
    def count(self) -> int:
        return sum(cause.count for cause in self.by_id.values()) + self.others

    def add(self, failure: RecordedFailure) -> None:
        """Count *failure* with the others of its cause."""
        name = content_hash([failure.asset, cause_of(failure)])[:12]
        if name not in self.by_id and len(self.by_id) >= _MOST_CAUSES:
            self.others += 1
            return
        cause = self.by_id.setdefault(name, Cause(failure.asset, failure.message[:_LONGEST_MESSAGE]))
        cause.count += 1
        if len(cause.keys) < LISTED:
            cause.keys.append(failure.key)

    def to_json(self) -> dict[str, Any]:
        return {"others": self.others, "causes": {name: asdict(cause) for name, cause in self.by_id.items()}}

    @classmethod
    def from_json(cls, kept: dict[str, Any]) -> Causes:
        return cls({name: Cause(**cause) for name, cause in kept["causes"].items()}, kept["others"])

    def paragraphs(self) -> list[str]:
        """Return the most frequent causes in words; at most 20 partitions are named in all of them together."""
        groups = sorted(self.by_id.values(), key=lambda cause: -cause.count)[:LISTED]
        left, texts = LISTED, []
        for number, cause in enumerate(groups):
            share = max(1, left // (len(groups) - number))  # a large group leaves the others their lines
            shown = cause.keys[:share]
            left -= len(shown)
            lines = [
                f"{number + 1}. {cause.heading()}",
                *_indented(cause.example),
                *(f"   - {_named(k)}" for k in shown),
            ]
            if cause.count > len(shown):
                lines.append(f"   - and {cause.count - len(shown):,} more")
            texts.append("\n".join(lines))
        rest = self.count - sum(cause.count for cause in groups)
        return [*texts, f"And {counted(rest, 'more failure', 'more failures')}."] if rest else texts


def grouped(failures: Iterable[RecordedFailure]) -> Causes:
    """Return *failures* by cause."""
    causes = Causes()
    for failure in failures:
        causes.add(failure)
    return causes


def cause_of(failure: RecordedFailure) -> str:
    """Return the first line of a failure's message without what differs from one partition to the next: names, paths, numbers."""
    first = failure.message.strip().partition("\n")[0]
    names = {failure.key, *failure.key.split("|"), *re.split(r"\||_ses-|sub-|ses-", failure.key)}
    # One pattern for all, and a look into a set: a pattern for each name would take longer to compile than to use.
    first = _WORD.sub(lambda word: "<name>" if word[0] in names else word[0], first)
    return _NUMBER.sub("<number>", _PATH.sub("<path>", first))


def _indented(message: str) -> list[str]:
    return [f"   {line}" for line in plain_text(message).strip().splitlines()]


def _named(key: str) -> str:
    model, bar, session = key.partition("|")
    return one_line(f"{session} by {model}" if bar else key)
