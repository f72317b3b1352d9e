"""The report's page: one HTML file that needs nothing else; names from the lab are text in it, never markup."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dlc_assets.review.findings import Finding
from dlc_assets.review.report.verdict import WORDS, Verdict, check_words, worst_first


@dataclass(frozen=True)
class Picture:
    """A picture of the page: its address (the data themselves), its size in px of the page, and what it shows."""

    data: str
    width: int
    height: int
    said: str = ""

    @classmethod
    def of(cls, content: bytes, kind: str, size: tuple[int, int], said: str = "") -> Picture:
        """Return the picture whose file is *content*, of *kind* ``jpeg`` or ``png``."""
        return cls(f"data:image/{kind};base64,{base64.b64encode(content).decode()}", *size, said)


@dataclass(frozen=True)
class Fact:
    """Something said in few words under a name."""

    name: str
    value: str


@dataclass(frozen=True)
class MomentShown:
    """A moment's strip of frames."""

    picture: str
    width: int
    height: int
    tone: str
    said: str
    check: str
    where: str
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class RecordingShown:
    """All that the page shows of one recording; charts are SVG elements."""

    name: str
    said: str
    even: Picture | None
    even_said: str
    places: tuple[Picture, ...]
    legend: tuple[dict[str, str], ...]
    likelihood: Any
    likelihood_said: str
    limbs: Any
    limbs_said: str
    speed: Any
    speed_said: str
    filtered: bool


@dataclass(frozen=True)
class Page:
    """All that the page shows."""

    session: str
    model: str
    version: str
    verdict: Verdict
    facts: tuple[Fact, ...]
    notes: tuple[str, ...]
    checks: tuple[dict[str, str], ...]
    moments_title: str
    moments_said: str
    moments: tuple[MomentShown, ...]
    recordings: tuple[RecordingShown, ...]
    provenance: tuple[Fact, ...]

    @property
    def verdict_word(self) -> str:
        return WORDS[self.verdict.level]

    @property
    def verdict_rest(self) -> str:
        return self.verdict.sentence.removeprefix(f"{self.verdict_word}:")


def tone_of(finding: Finding) -> str:
    """Return the style of a finding, which is also the level of a verdict that rests on it."""
    return "good" if finding.passed else "unusable" if finding.severity == "error" else "look"


def check_rows(findings: Sequence[Finding]) -> list[dict[str, str]]:
    """Return the rows of the table of checks, those that failed first."""
    words = {"good": "pass", "look": "look", "unusable": "fail"}
    return [
        {
            "tone": tone_of(finding),
            "word": words[tone_of(finding)],
            "check": check_words(finding.check),
            "sentence": finding.sentence,
            "value": number_words(finding.value),
            "limit": number_words(finding.limit),
        }
        for finding in worst_first(findings)
    ]


def number_words(value: float | None) -> str:
    """Return a number as people write it, with four digits at most behind the first; nothing for none."""
    if value is None or value != value:
        return ""
    return f"{value:,.0f}" if abs(value) >= 1000 or float(value).is_integer() else f"{value:.3g}"


def html_of(page: Page) -> str:
    """Return *page* as HTML."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("dlc_assets.review.report", package_path=""), autoescape=True, undefined=StrictUndefined
    )
    return environment.get_template("page.html").render(page=page)
