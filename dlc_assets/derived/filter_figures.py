"""Pictures of what filters do, before and after: white background, so that they read in light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dlc_assets.derived.filter_steps import present
from dlc_assets.poses.schema import Track

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_TRACKS = 12  # of one picture
_BEFORE, _AFTER, _REMOVED, _FILLED = "#9aa0a6", "#0b57d0", "#d93025", "#188038"
_ROOM = 0.6  # of the range of what is left, above and below it; what was removed may lie far outside


@dataclass(frozen=True)
class Span:
    """One track over the same frames before and after, at *times* ((frames,), s); *filled*, (frames,) bool: points that were filled in."""

    name: str
    times: np.ndarray
    before: Track
    after: Track
    filled: np.ndarray


def spans_figure(spans: Sequence[Span]) -> Figure:
    """Draw x and y of each track over its span: the points before in grey, those removed as red crosses, what is left as a blue line,
    points filled in as green dots. An arrow at the edge stands for a removed point beyond it.
    """
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    shown = list(spans[:MOST_TRACKS])
    figure = Figure(figsize=(10.5, 0.9 + 1.25 * max(len(shown), 1)), layout="constrained", facecolor="white")
    axes = figure.subplots(max(len(shown), 1), 2, squeeze=False)
    for (left, right), span in zip(axes, shown, strict=False):
        for axis, column in ((left, "x"), (right, "y")):
            _draw(axis, span, column)
        left.set_title(span.name, fontsize=9, loc="left", fontweight="bold")
        left.set_ylabel("x (px)", fontsize=8)
        right.set_ylabel("y (px)", fontsize=8)
    for axis in axes[-1]:
        axis.set_xlabel("time (s)", fontsize=8)
    handles = [
        Line2D([], [], color=_BEFORE, marker="o", ms=3.5, ls="none", label="before"),
        Line2D([], [], color=_REMOVED, marker="x", ms=5, mew=1.3, ls="none", label="removed"),
        Line2D([], [], color=_AFTER, lw=1.4, label="after"),
        Line2D([], [], color=_FILLED, marker="o", ms=4, ls="none", label="filled in"),
    ]
    figure.legend(handles=handles, loc="outside upper right", ncols=4, fontsize=8, frameon=False)
    return figure


def _draw(axis: Axes, span: Span, column: str) -> None:
    before, after = (np.asarray(getattr(track, column), dtype=np.float64) for track in (span.before, span.after))
    was, there = (present(np.stack([track.x, track.y], axis=1)) for track in (span.before, span.after))
    axis.tick_params(labelsize=7)
    axis.grid(alpha=0.25)
    if len(span.times):
        margin = max(0.02 * float(span.times[-1] - span.times[0]), 1e-3)
        axis.set_xlim(span.times[0] - margin, span.times[-1] + margin)
    if not was.any():
        axis.text(0.5, 0.5, "no point was detected", ha="center", va="center", fontsize=8, transform=axis.transAxes)
        axis.set_yticks([])
        return
    kept = after[there] if there.any() else before[was]
    room = max(_ROOM * float(np.ptp(kept)), 8.0)
    low, high = float(kept.min()) - room, float(kept.max()) + room
    filled = span.filled & there
    removed, kept_on = was & (~there | filled), was & there & ~filled
    axis.plot(span.times[kept_on], before[kept_on], "o", ms=2.6, color=_BEFORE, mew=0)
    axis.plot(span.times, np.where(there, after, np.nan), "-", lw=1.2, color=_AFTER)
    axis.plot(span.times[filled], after[filled], "o", ms=3.2, color=_FILLED, mew=0)
    inside = removed & (before >= low) & (before <= high)
    axis.plot(span.times[inside], before[inside], "x", ms=4.5, mew=1.1, color=_REMOVED)
    for beyond, marker, edge in ((removed & (before > high), "^", 0.97), (removed & (before < low), "v", 0.03)):
        at = np.full(int(np.count_nonzero(beyond)), low + edge * (high - low))
        axis.plot(span.times[beyond], at, marker, ms=4.5, color=_REMOVED, mew=0)
    axis.set_ylim((high, low) if column == "y" else (low, high))
    if not there.any():
        axis.text(0.5, 0.9, "nothing is left", ha="center", va="top", fontsize=8, transform=axis.transAxes)


def trajectories_figure(before: Sequence[Track], after: Sequence[Track], width: int, height: int) -> Figure:
    """Draw where each body part went, before and after, over the whole frame (px)."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.5, 0.9 + 5.0 * min(height / width, 1.4)), layout="constrained", facecolor="white")
    axes: Any = figure.subplots(1, 2, sharex=True, sharey=True)
    for axis, tracks, title in zip(axes, (before, after), ("before", "after"), strict=True):
        for place, track in enumerate(tracks):
            color = colormaps["turbo"]((place + 0.5) / len(tracks))
            name = f"{track.individual}: {track.bodypart}" if track.individual else track.bodypart
            axis.plot(track.x, track.y, lw=0.7, color=color, label=name)
        axis.set(xlim=(0, width), ylim=(height, 0), aspect="equal", xlabel="x (px)", ylabel="y (px)")
        axis.set_title(title, fontsize=9)
    handles, names = axes[1].get_legend_handles_labels()
    figure.legend(handles[:30], names[:30], loc="outside lower center", ncols=6, fontsize=7, frameon=False)
    return figure
