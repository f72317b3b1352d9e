"""Pictures of what was measured: speed over time, the way with regions, where the time was spent. White, to read in light and dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dlc_assets.lab.regions import CircleRegion, Region, corners_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_BINS = 600  # of time: more cannot be told apart
_POINTS = 6000  # of a way
_CELLS = 48  # of the longer side of the picture
_COLORS = ("#0b57d0", "#c5221f", "#188038", "#b06000", "#8430ce", "#007b83", "#5f6368", "#ad1457")
_INK = "#3c4043"


@dataclass(frozen=True)
class Shown:
    """The centroid of one individual: *times*, *x*, *y*, *speed* of each frame ((frames,), s, px, px/s; NaN where unknown)."""

    name: str
    times: np.ndarray
    x: np.ndarray
    y: np.ndarray
    speed: np.ndarray


def kinematics_figure(
    shown: Sequence[Shown],
    regions: Mapping[str, Region],
    width: int,
    height: int,
    *,
    px_per_cm: float | None = None,
    title: str = "",
) -> Figure:
    """Draw speed over time, in cm/s where *px_per_cm* is known, above the way and the time spent in each place of a frame (px)."""
    from matplotlib.figure import Figure

    high = float(np.clip(4.6 * height / width, 1.5, 7.0))
    figure = Figure(figsize=(10.5, 2.4 + high), layout="constrained", facecolor="white")
    grid = figure.add_gridspec(2, 2, height_ratios=[1.9, high])
    _draw_speed(figure.add_subplot(grid[0, :]), shown, px_per_cm, title)
    way, occupied = figure.add_subplot(grid[1, 0]), figure.add_subplot(grid[1, 1])
    for place, of in enumerate(shown):
        step = -(-len(of.x) // _POINTS)
        way.plot(of.x[::step], of.y[::step], lw=0.8, color=_color(place), label=of.name or None)
    way.set_title("way of the centroid", fontsize=9, loc="left")
    if len(shown) > 1:
        way.legend(fontsize=7, loc="upper right")
    _draw_occupancy(figure, occupied, shown, width, height)
    for axis, line in ((way, _INK), (occupied, "white")):
        _draw_regions(axis, regions, line)
        axis.set(xlim=(0, width), ylim=(height, 0), aspect="equal")
        axis.set_xlabel("x (px)", fontsize=8)
        axis.set_ylabel("y (px)", fontsize=8)
        axis.tick_params(labelsize=7)
    return figure


def _color(place: int) -> str:
    return _COLORS[place % len(_COLORS)]


def _draw_speed(axis: Axes, shown: Sequence[Shown], px_per_cm: float | None, title: str) -> None:
    known = False
    for place, of in enumerate(shown):
        speed = of.speed / (px_per_cm or 1.0)
        known |= bool(np.isfinite(speed).any())
        if len(speed) <= 2 * _BINS:
            axis.plot(of.times, speed, lw=0.9, color=_color(place), label=of.name or None)
            continue
        times, mean, most = _binned(of.times, speed)
        axis.fill_between(times, 0, most, color=_color(place), alpha=0.22, lw=0)
        axis.plot(times, mean, lw=0.9, color=_color(place), label=of.name or None)
    axis.set_ylabel("speed (cm/s)" if px_per_cm else "speed (px/s)", fontsize=8)
    axis.set_xlabel("time (s)", fontsize=8)
    axis.set_ylim(bottom=0)
    whole = shown[0].times if shown else np.empty(0)
    if len(whole) > 1:  # all of the recording, also where nothing is known
        axis.set_xlim(whole.min(), whole.max())
    axis.grid(alpha=0.25)
    axis.tick_params(labelsize=7)
    thinned = any(len(of.speed) > 2 * _BINS for of in shown)
    axis.set_title(f"{title}{' (line: mean, band: up to the highest)' if thinned else ''}", fontsize=9, loc="left")
    if len(shown) > 1:
        axis.legend(fontsize=7, loc="upper right")
    if not known:
        axis.text(0.5, 0.5, "no speed is known", ha="center", va="center", fontsize=9, transform=axis.transAxes)


def _binned(times: np.ndarray, speed: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the middle of each of `_BINS` spans of time, and the mean and the highest speed in it; NaN where none is known."""
    edges = np.linspace(times.min(), times.max(), _BINS + 1)
    of = np.clip(np.searchsorted(edges, times, side="right") - 1, 0, _BINS - 1)
    known = np.isfinite(speed)
    count = np.bincount(of[known], minlength=_BINS)
    total = np.bincount(of[known], weights=speed[known], minlength=_BINS)
    most = np.full(_BINS, -np.inf)
    np.maximum.at(most, of[known], speed[known])
    with np.errstate(invalid="ignore"):
        mean = np.where(count > 0, total / np.maximum(count, 1), np.nan)
    return (edges[:-1] + edges[1:]) / 2, mean, np.where(count > 0, most, np.nan)


def _draw_occupancy(figure: Figure, axis: Axes, shown: Sequence[Shown], width: int, height: int) -> None:
    from matplotlib.colors import LogNorm
    from matplotlib.ticker import LogLocator

    cell = max(width, height) / _CELLS
    edges = [np.arange(0, size + cell, cell) for size in (width, height)]
    spent = np.zeros((len(edges[0]) - 1, len(edges[1]) - 1))
    for of in shown:
        known = np.isfinite(of.x)
        usual = float(np.median(np.diff(of.times))) if len(of.times) > 1 else 0.0
        spent += np.histogram2d(of.x[known], of.y[known], bins=edges)[0] * usual
    axis.set_facecolor("#440154")  # the color of no time
    axis.set_title("time spent", fontsize=9, loc="left")
    if spent.max() > 0:
        shades = LogNorm(vmin=float(spent[spent > 0].min()), vmax=float(spent.max()) * 1.001)
        image = axis.pcolormesh(*edges, np.ma.masked_equal(spent.T, 0), norm=shades, cmap="viridis")
        bar = figure.colorbar(image, ax=axis, shrink=0.9, ticks=LogLocator(subs=(1.0, 2.0, 5.0)), format="%g")
        bar.ax.minorticks_off()
        bar.set_label("s", fontsize=8)
        bar.ax.tick_params(labelsize=7)
    else:
        axis.text(0.5, 0.5, "not known", ha="center", color="white", transform=axis.transAxes)


def _draw_regions(axis: Axes, regions: Mapping[str, Region], line: str) -> None:
    from matplotlib import patches
    from matplotlib.patheffects import withStroke

    for name, region in regions.items():
        drawn: Any
        if isinstance(region, CircleRegion):
            center, radius = region.circle.center, region.circle.radius
            drawn = patches.Circle(center, radius, fill=False, ec=line, lw=1.2, ls="--")
            place = (center[0], center[1] - radius)
        else:
            corners = corners_of(region)
            drawn = patches.Polygon(corners, closed=True, fill=False, ec=line, lw=1.2, ls="--")
            place = min(corners, key=lambda corner: (corner[1], corner[0]))
        axis.add_patch(drawn)
        axis.annotate(
            name,
            place,
            (3, -3),
            textcoords="offset points",
            fontsize=7,
            color=line,
            va="top",
            annotation_clip=True,
            path_effects=[withStroke(linewidth=2, foreground="white" if line == _INK else "#440154")],
        )
