"""What the checks of a pose table found."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Moment:
    """One place worth looking at."""

    recording: str
    first_frame: int
    last_frame: int
    time: float
    individual: str
    bodyparts: tuple[str, ...]
    what: str
    badness: float


@dataclass(frozen=True)
class Finding:
    """What one check says of one pose table."""

    check: str
    passed: bool
    severity: Literal["warn", "error"]
    sentence: str
    value: float | None
    limit: float | None
    moments: tuple[Moment, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)
