"""The overview's heat map for the UI: sessions by check, the newest first, as far as a picture can be read."""

from __future__ import annotations

import io
from typing import Any

from dlc_assets.review.overview.table import ERROR, NONE, PASS, WARN, Cell, Overview, Row
from dlc_assets.review.report.page import number_words
from dlc_assets.review.report.verdict import check_words

MOST_ROWS = 60
COLORS = {PASS: "#9fd3ac", WARN: "#f3b95f", ERROR: "#e5645c", NONE: "#eceff2"}
_INK = "#24292f"
_LONGEST = 44


def rows_drawn(overview: Overview) -> list[Row]:
    """Return the rows of the picture: the newest; where these are too many, what is worth a look goes before what is good."""
    if len(overview.rows) <= MOST_ROWS:
        return list(overview.rows)
    chosen = {id(row) for row in overview.to_look_at()[:MOST_ROWS]}
    for row in overview.rows:
        if len(chosen) >= MOST_ROWS:
            break
        chosen.add(id(row))
    return [row for row in overview.rows if id(row) in chosen]


def heat_map(overview: Overview) -> bytes:
    """Return the heat map as a PNG; what is left out is counted in its last line."""
    from matplotlib.figure import Figure

    rows, checks = rows_drawn(overview), list(overview.checks)
    several = len({row.model for row in overview.rows}) > 1
    names = [_short(f"{row.session} · {row.model}" if several else row.session) for row in rows]
    left = 0.075 * max((len(name) for name in names), default=10) + 0.3
    top = 0.066 * max((len(check) for check in checks), default=10) * 0.72 + 0.35
    wide, tall = left + 0.62 * max(len(checks), 3) + 0.75, top + 0.23 * max(len(rows), 1) + 0.75
    figure = Figure(figsize=(wide, tall), facecolor="white")
    axis = figure.add_axes(
        (left / wide, 0.62 / tall, 0.62 * max(len(checks), 3) / wide, 0.23 * max(len(rows), 1) / tall)
    )
    for y, row in enumerate(rows):
        for x, check in enumerate(checks):
            cell = row.cells.get(check, Cell())
            axis.add_patch(_box(x, y, COLORS[cell.state]))
            said = number_words(cell.value)
            if said and cell.state in {WARN, ERROR}:
                axis.text(x + 0.5, y + 0.53, said, ha="center", va="center", fontsize=6.5, color=_INK)
    axis.set(xlim=(0, max(len(checks), 3)), ylim=(max(len(rows), 1), 0))
    axis.set_xticks([x + 0.5 for x in range(len(checks))], [check_words(check) for check in checks])
    axis.tick_params(axis="x", top=True, bottom=False, labeltop=True, labelbottom=False, labelsize=7.5, length=0, pad=2)
    for label in axis.get_xticklabels():
        label.set(rotation=42, ha="left", rotation_mode="anchor", color=_INK)
    axis.set_yticks([y + 0.5 for y in range(len(rows))], [name.replace("$", r"\$") for name in names])
    axis.tick_params(axis="y", labelsize=7.5, length=0, labelcolor=_INK)
    for spine in axis.spines.values():
        spine.set_visible(False)
    omitted = len(overview.rows) - len(rows)
    notes = [
        f"green: passes, orange: look, red: do not use, grey: not checked{' or no report' if overview.counts[''] else ''}"
    ]
    notes += [f"{omitted:,} more sessions are not drawn; what is worth a look is drawn first"] if omitted else []
    figure.text(0.1 / wide, 0.3 / tall, "\n".join(notes), fontsize=7.5, color="#59636e", va="center")
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=100)
    return _few_colors(stream)


def _box(x: int, y: int, color: str) -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle((x + 0.03, y + 0.06), 0.94, 0.88, facecolor=color, edgecolor="none")


def _short(name: str) -> str:
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"


def _few_colors(png: io.BytesIO) -> bytes:
    from PIL import Image

    reduced = io.BytesIO()
    with Image.open(png) as drawn:
        few = drawn.convert("RGB").quantize(32, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    few.save(reduced, format="png", optimize=True)
    return reduced.getvalue()
