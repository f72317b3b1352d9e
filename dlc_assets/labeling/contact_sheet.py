"""A sheet of the chosen frames with the machine labels drawn in, to see at a glance what there is to correct."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dlc_assets.lab.files import atomic_path
from dlc_assets.labeling.dlc_folder import Pose

MOST_SHOWN = 60  # frames on one sheet; more cannot be looked at
_COLUMNS = 4
_WIDTH = 320  # px of one frame on the sheet
# Inches on it: a panel's width, what is above it, the title, a line of the legend, and room between.
_ACROSS, _CAPTION, _TITLE, _LINE, _GAP = 3.3, 0.5, 0.45, 0.25, 0.1
_NAMED_A_LINE = 6


@dataclass(frozen=True)
class Panel:
    """One frame, small enough for the sheet, with its labels in px of this small picture.

    Attributes
    ----------
    picture
        (height, width, 3) uint8 RGB.
    sure, unsure
        Positions that reach the p-cutoff, and those that do not and are left to people: body part to (2,).
    caption
        Lines above it.
    """

    picture: np.ndarray
    sure: dict[tuple[str, str], np.ndarray]
    unsure: dict[tuple[str, str], np.ndarray]
    caption: str


def panel(picture: np.ndarray, pose: Pose, pcutoff: float, caption: str) -> Panel:
    """Return a frame, (height, width, 3) uint8 RGB, and its pose as they come onto the sheet."""
    from PIL import Image

    scale = min(1.0, _WIDTH / picture.shape[1])
    size = (max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale)))
    small = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))
    there = {track: values for track, values in pose.items() if np.isfinite(values[:2]).all()}
    # Pixel centers are whole numbers in both.
    placed = {track: (values[:2].astype(np.float64) + 0.5) * scale - 0.5 for track, values in there.items()}
    sure = {track for track, values in there.items() if not values[2] < pcutoff}
    return Panel(
        small,
        {track: xy for track, xy in placed.items() if track in sure},
        {track: xy for track, xy in placed.items() if track not in sure},
        caption,
    )


def write_sheet(path: Path, panels: Sequence[Panel], *, title: str) -> None:
    """Write a PNG at *path* with up to `MOST_SHOWN` panels."""
    with atomic_path(path) as partial:
        _figure(panels[:MOST_SHOWN], title).savefig(partial, format="png", dpi=100)


def sheet_for_page(path: Path, most_bytes: int) -> bytes:
    """Return the sheet at *path* as a JPEG of at most *most_bytes*, smaller or coarser if it must be, for a page in the UI."""
    from PIL import Image

    with Image.open(path) as opened:
        image = opened.convert("RGB")
    while True:
        for quality in (80, 60, 40):
            stream = io.BytesIO()
            image.save(stream, format="JPEG", quality=quality, optimize=True)
            if stream.tell() <= most_bytes:
                return stream.getvalue()
        image = image.resize((max(1, image.width * 3 // 4), max(1, image.height * 3 // 4)), Image.Resampling.LANCZOS)


def _figure(panels: Sequence[Panel], title: str) -> Any:
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    tracks = list(dict.fromkeys(track for one in panels for track in (*one.sure, *one.unsure)))
    parts = list(dict.fromkeys(part for _, part in tracks))
    color = {part: colormaps["turbo"]((at + 0.5) / len(parts)) for at, part in enumerate(parts)}
    columns = min(_COLUMNS, max(1, len(panels)))
    rows = -(-len(panels) // columns)
    tallest = max((one.picture.shape[0] / one.picture.shape[1] for one in panels), default=0.75)
    named = -(-(len(parts) + 1) // _NAMED_A_LINE)
    cell = _ACROSS * tallest + _CAPTION
    width, height = max(_ACROSS * columns + _GAP, 6.6), _TITLE + cell * rows + _LINE * named + _GAP
    # Placed by hand: matplotlib's own layout takes seconds for as many panels.
    figure = Figure(figsize=(width, height), facecolor="white")
    for number, one in enumerate(panels):
        left, top = _GAP + _ACROSS * (number % columns), _TITLE + cell * (number // columns) + _CAPTION
        place = (left, height - top - _ACROSS * tallest, _ACROSS - _GAP, _ACROSS * tallest - _GAP)
        axis = figure.add_axes((place[0] / width, place[1] / height, place[2] / width, place[3] / height))
        _draw(axis, one, color)
    figure.text(_GAP / width, 1 - 0.25 / height, title, fontsize=11, color="black")
    handles = [Line2D([], [], marker="o", ls="none", mfc=color[part], mec="white", ms=7, label=part) for part in parts]
    handles.append(Line2D([], [], marker="x", ls="none", mec="gray", mew=1.6, label="below the p-cutoff: left to you"))
    figure.legend(handles=handles, loc="lower left", ncols=_NAMED_A_LINE, fontsize=8, labelcolor="black", frameon=False)
    return figure


def _draw(axis: Any, one: Panel, color: dict[str, Any]) -> None:
    axis.imshow(one.picture, interpolation="nearest")
    for (_, part), xy in one.unsure.items():
        axis.plot(*xy, "x", ms=6, mec=color[part], mew=1.6)
    for (_, part), xy in one.sure.items():
        axis.plot(*xy, "o", ms=5, mfc=color[part], mec="white", mew=0.8)
    axis.set(xlim=(-0.5, one.picture.shape[1] - 0.5), ylim=(one.picture.shape[0] - 0.5, -0.5), xticks=[], yticks=[])
    axis.set_anchor("N")
    axis.set_title(one.caption, fontsize=7.5, color="black", loc="left")
