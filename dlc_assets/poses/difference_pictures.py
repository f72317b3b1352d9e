"""Sheets of video frames with the poses of two pose tables drawn in, for judging a change by eye."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dlc_assets.lab.files import atomic_path

Positions = Mapping[tuple[str, str], np.ndarray]
"""Likely positions in one frame by (individual, body part): shape (2,), px in the full upright frame."""

OLD_COLOR, NEW_COLOR = "#1e90ff", "#ff8c00"
_COLUMNS = 3
_MARGIN = 0.35  # of the animal's size, around it
_SMALLEST = 96  # px; less shows nothing of the surroundings
_NAMED = 3  # body parts by name; more names hide the animal


@dataclass(frozen=True)
class Panel:
    """One frame: (height, width, 3) uint8 RGB, where each version puts the body parts, and a line above it."""

    frame: np.ndarray
    old: Positions
    new: Positions
    caption: str


def draw_sheet(
    path: Path, panels: Sequence[Panel], *, title: str, old: str, new: str, skeleton: Sequence[Sequence[str]]
) -> None:
    """Write a PNG at *path* with one picture a panel, each cut to what the poses of both versions take up.

    Parameters
    ----------
    old, new
        Names of the versions, for the legend.
    skeleton
        Pairs of body parts that a line joins.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    columns = min(_COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    width = max(4.2 * columns, 7.0)  # room for the names of title and legend
    figure = Figure(figsize=(width, 4.3 * rows + 1.1), layout="constrained", facecolor="white")
    for number, panel in enumerate(panels, start=1):
        _draw(figure.add_subplot(rows, columns, number), panel, skeleton)
    figure.suptitle(title, fontsize=12, color="black", wrap=True)
    handles = [
        Line2D([], [], color=color, marker=marker, ms=7, mfc=fill, mew=1.6, lw=1.4, label=name)
        for name, color, marker, fill in ((old, OLD_COLOR, "o", "none"), (new, NEW_COLOR, "s", "none"))
    ]
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=min(2, max(1, columns - 1)),
        fontsize=10,
        labelcolor="black",
        frameon=False,
    )
    with atomic_path(path) as partial:
        figure.savefig(partial, format="png", dpi=100)


def _draw(axis: Any, panel: Panel, skeleton: Sequence[Sequence[str]]) -> None:
    from matplotlib.patheffects import withStroke

    left, right, top, bottom = window(panel.frame.shape[1], panel.frame.shape[0], [panel.old, panel.new])
    # Pixel centers are whole numbers: the picture's edge lies half a pixel before its first one.
    extent = (left - 0.5, right - 0.5, bottom - 0.5, top - 0.5)
    axis.imshow(panel.frame[top:bottom, left:right], extent=extent, interpolation="nearest")
    outline = [withStroke(linewidth=3, foreground="black", alpha=0.55)]
    for before, after in ((panel.old[track], panel.new[track]) for track in panel.old if track in panel.new):
        axis.plot(*np.transpose([before, after]), "-", color="white", lw=1.1, path_effects=outline)
    for positions, color, marker, size in ((panel.old, OLD_COLOR, "o", 12), (panel.new, NEW_COLOR, "s", 9)):
        for one, other in skeleton:
            for individual in dict.fromkeys(individual for individual, _ in positions):
                ends = [positions[individual, part] for part in (one, other) if (individual, part) in positions]
                if len(ends) == 2:
                    axis.plot(*np.transpose(ends), "-", color=color, lw=1.4, alpha=0.9, path_effects=outline)
        if positions:
            points = np.transpose(list(positions.values()))
            for edge, width in (
                ("black", 3.2),
                (color, 1.8),
            ):  # seen on fur and on bedding, with the very spot left free
                axis.plot(*points, marker, ms=size, mfc="none", mec=edge, mew=width, ls="none")
    for track in _most_changed(panel):
        at = panel.new.get(track, panel.old.get(track))
        axis.annotate(
            track[1], at, (6, -6), textcoords="offset points", fontsize=8, color="white", path_effects=outline
        )
    axis.set(xlim=extent[:2], ylim=extent[2:], xticks=[], yticks=[])
    axis.set_title(panel.caption, fontsize=9, color="black")


def window(width: int, height: int, positions: Sequence[Positions]) -> tuple[int, int, int, int]:
    """Return left, right, top, bottom (px) of a square part of a frame that shows all *positions*; the whole frame for none."""
    points = [xy for of_one in positions for xy in of_one.values()]
    if not points:
        return 0, width, 0, height
    low, high = np.min(points, axis=0), np.max(points, axis=0)
    side = max(float(np.max(high - low)) * (1 + 2 * _MARGIN), _SMALLEST)
    spans = []
    for middle, whole in zip((low + high) / 2, (width, height), strict=True):
        length = min(round(side), whole)
        start = int(np.clip(round(float(middle) - length / 2), 0, whole - length))
        spans += [start, start + length]
    return spans[0], spans[1], spans[2], spans[3]


def _most_changed(panel: Panel) -> list[tuple[str, str]]:
    """Return the tracks to name: those that came or went, then those that lie farthest apart."""

    def how_far(track: tuple[str, str]) -> float:
        if track not in panel.old or track not in panel.new:
            return np.inf
        return float(np.hypot(*(panel.new[track] - panel.old[track])))

    return sorted({*panel.old, *panel.new}, key=lambda track: (-how_far(track), track))[:_NAMED]
