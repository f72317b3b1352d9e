"""What is said of a pose table as a whole: good, to be looked at, or not to be used, in one sentence."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from dlc_assets.review.findings import Finding

Level = Literal["good", "look", "unusable"]
LEVELS: tuple[Level, ...] = ("good", "look", "unusable")  # from the best to the worst
WORDS: dict[Level, str] = {"good": "Good", "look": "Look at it", "unusable": "Do not use"}

_SAID_IN_FULL = 2  # findings whose own sentence is in the verdict; more is a list, and the table has it
_LONGEST = 600  # characters of a sentence that is made of names of any length


@dataclass(frozen=True)
class Verdict:
    """The level, and a sentence that begins with its word (`WORDS`)."""

    level: Level
    sentence: str


def verdict_of(findings: Sequence[Finding]) -> Verdict:
    """Return what *findings* come to: one failed error is enough for "Do not use", one failed warning for "Look at it"."""
    if not findings:
        return Verdict("look", f"{WORDS['look']}: nothing was checked. Your eyes are the only check there is.")
    failed = worst_first(finding for finding in findings if not finding.passed)
    if not failed:
        counted = len(findings)
        said = "the one check passes" if counted == 1 else f"all {counted} checks pass"
        return Verdict("good", f"{WORDS['good']}: {said}.")
    level: Level = "unusable" if failed[0].severity == "error" else "look"
    # Warnings beside an error are in the table; the verdict says what it rests on.
    decisive = [finding for finding in failed if finding.severity == failed[0].severity]
    count = f"{len(decisive)} of {len(findings)} checks {'fails' if len(decisive) == 1 else 'fail'}"
    said = " ".join(_ended(finding.sentence) for finding in decisive[:_SAID_IN_FULL])
    rest = [check_words(finding.check) for finding in decisive[_SAID_IN_FULL:]]
    also = f" Also: {', '.join(rest)}." if rest else ""
    return Verdict(level, _shortened(f"{WORDS[level]}: {count}. {said}{also}"))


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Return *findings* with failed errors first, then failed warnings, then what passed; else in their own order."""
    return sorted(findings, key=lambda finding: (finding.passed, finding.severity != "error"))


def check_words(check: str) -> str:
    """Return a check's name as words."""
    return check.replace("_", " ")


def _ended(sentence: str) -> str:
    said = sentence.strip()
    return said if said.endswith((".", "!", "?")) else f"{said}."


def _shortened(sentence: str) -> str:
    return sentence if len(sentence) <= _LONGEST else f"{sentence[: _LONGEST - 4].rstrip()} ..."
