"""Colours of the report's drawings: one set for a white page, one that a page's style sheet fills in, for light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dlc_assets.review.report.measures import Name


@dataclass(frozen=True)
class Style:
    """Colours of text, lines of the grid, raw values, their spread, and filtered values."""

    ink: str
    grid: str
    raw: str
    spread: str
    filtered: str


PAPER = Style(ink="#24292f", grid="#d0d7de", raw="#2f6fb0", spread="#a9c8e8", filtered="#d9730d")
# Colours that nothing else has: the page's style sheet says what each of them is, in light and in dark.
PAGE = Style(ink="#010203", grid="#010204", raw="#010205", spread="#010206", filtered="#010207")
PAGE_VARIABLES = {
    PAGE.ink: "var(--ink)",
    PAGE.grid: "var(--line)",
    PAGE.raw: "var(--raw)",
    PAGE.spread: "var(--spread)",
    PAGE.filtered: "var(--filtered)",
}


def track_colors(names: Sequence[Name]) -> list[str]:
    """Return a colour (#rrggbb) for each track: one a body part, or one an animal where there are several."""
    from matplotlib.colors import to_hex

    keys = colored_by(names)
    distinct = list(dict.fromkeys(keys))
    return [to_hex(_color(distinct.index(key), len(distinct))) for key in keys]


def colored_by(names: Sequence[Name]) -> list[str]:
    """Return what each track's colour stands for: its body part, or its animal where there are several."""
    several = len({individual for individual, _ in names}) > 1
    return [individual if several else part for individual, part in names]


def _color(place: int, count: int) -> Any:
    from matplotlib import colormaps

    return colormaps["turbo"](0.06 + 0.88 * (place + 0.5) / max(count, 1))


def track_words(name: Name) -> str:
    """Return a track's name for people."""
    individual, part = name
    return f"{individual}: {part}" if individual else part
