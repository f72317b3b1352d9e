"""The report's charts over time, as SVG that takes its colours from the page, and as parts of the summary picture."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dlc_assets.review.report.measures import Band, RecordingMeasures
from dlc_assets.review.report.style import PAGE, PAGE_VARIABLES, Style, track_words

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 10.4  # inches of a chart on the page
MOST_TRACKS = 40  # rows of a chart; more are thinner than a line of text
MOST_LIMBS = 10
MOST_ANIMALS = 8
_FONT = 8.5
_STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800)


def clock(seconds: float, step: float = 1.0) -> str:
    """Return a time as ``4:07`` or ``1:04:07``, with tenths of seconds where *step* is below a second."""
    if step < 1:
        tenths = abs(round(seconds * 10)) % 10
        whole_seconds = clock(np.trunc(round(seconds * 10) / 10))
        return f"{'-' if seconds < 0 and whole_seconds[0] != '-' else ''}{whole_seconds}.{tenths}"
    sign, whole = ("-", -round(seconds)) if seconds < 0 else ("", round(seconds))
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{sign}{hours}:{minutes:02}:{rest:02}" if hours else f"{sign}{minutes}:{rest:02}"


def worst_tracks(measures: RecordingMeasures, most: int = MOST_TRACKS) -> list[int]:
    """Return the tracks to draw, in their own order: all, or those that can be trusted least where there are too many."""
    places = np.argsort(measures.usable, kind="stable")[:most]
    return sorted(int(place) for place in places)


def worst_limbs(measures: RecordingMeasures, most: int = MOST_LIMBS) -> list[int]:
    """Return the limbs to draw, in their own order: all, or those whose length varies most where there are too many."""
    spread = [(limb.high - limb.low) / limb.median if limb.median > 0 else np.inf for limb in measures.limbs]
    return sorted(sorted(range(len(spread)), key=lambda place: -spread[place])[:most])


def likelihood_chart(measures: RecordingMeasures, pcutoff: float) -> str:
    """Return the likelihood of each body part over time as SVG: one row a body part."""
    shown = worst_tracks(measures)
    figure, (axis,) = _figure(0.24 * len(shown) + 0.75, 1)
    draw_likelihoods(axis, measures, pcutoff, shown, PAGE, shares=True)
    return _svg(figure)


def draw_likelihoods(
    axis: Axes, measures: RecordingMeasures, pcutoff: float, shown: Sequence[int], style: Style, *, shares: bool
) -> None:
    """Draw the mean likelihood over time, one row for each track of *shown*; *shares* adds the share of frames to trust."""
    values = np.ma.masked_invalid(measures.likelihood[list(shown)])
    edges = (measures.first_time, measures.first_time + measures.width * len(measures.times))
    axis.imshow(
        values,
        extent=(*edges, len(shown) - 0.5, -0.5),
        aspect="auto",
        interpolation="none",
        cmap=_trust(),
        norm=_around(pcutoff),
    )
    axis.set_yticks(range(len(shown)), [_short(track_words(measures.names[place])) for place in shown])
    axis.set_ylim(len(shown) - 0.5, -0.5)
    if shares:
        for row, place in enumerate(shown):
            axis.annotate(
                f"{measures.usable[place]:.1%}",
                (1.006, row),
                xycoords=axis.get_yaxis_transform(),
                va="center",
                fontsize=_FONT,
                color=style.ink,
                annotation_clip=False,
            )
    _dress(axis, style, measures, grid=False)


def _trust() -> Any:
    """Red below the p-cutoff, blue above it, the darker the farther; nothing where there is no value."""
    from matplotlib.colors import LinearSegmentedColormap

    stops = [(0, "#a50f15"), (0.4999, "#fcae91"), (0.5, "#b9d4ea"), (1, "#2166ac")]
    return LinearSegmentedColormap.from_list("trust", stops, N=256).with_extremes(bad=(0, 0, 0, 0))


def _around(pcutoff: float) -> Any:
    from matplotlib.colors import TwoSlopeNorm

    return TwoSlopeNorm(vcenter=min(max(pcutoff, 0.01), 0.99), vmin=0, vmax=1)


def limb_chart(measures: RecordingMeasures, filtered: RecordingMeasures | None) -> str:
    """Return the length of each limb over time as SVG: one strip a limb, with its median at the right."""
    shown = worst_limbs(measures)
    several = len(measures.animals) > 1
    rows = []
    for place in shown:
        limb = measures.limbs[place]
        of = f"{_short(limb.individual)}\n" if several else ""
        label = f"{of}{_short(limb.ends[0], 14)} – {_short(limb.ends[1], 14)}"  # noqa: RUF001  # joins the two ends
        said = f"{limb.median:.0f} px\n{limb.low:.0f} to {limb.high:.0f}" if np.isfinite(limb.median) else "never seen"
        rows.append((label, said))
    bands = [_row(measures.limb_length, place) for place in shown]
    # A filter leaves body parts and individuals as they are, so that a limb is the same one in both.
    same = filtered is not None and filtered.limb_length.mean.shape == measures.limb_length.mean.shape
    means = [filtered.limb_length.mean[place] for place in shown] if filtered is not None and same else None
    return _strips(measures, rows, bands, means, filtered, top=lambda band: 1.15 * _high(band, 99.8))


def speed_chart(measures: RecordingMeasures, filtered: RecordingMeasures | None, px_per_cm: float | None) -> str:
    """Return the speed of each animal over time as SVG, in cm/s where the scale is known, else in px/s."""
    scale, unit = (1 / px_per_cm, "cm/s") if px_per_cm else (1.0, "px/s")
    rows, bands = [], []
    for place, animal in enumerate(measures.animals[:MOST_ANIMALS]):
        band = _row(measures.speed, place, scale)
        known = band.mean[np.isfinite(band.mean)]
        said = f"median\n{np.median(known):.3g} {unit}" if len(known) else "unknown"
        rows.append((f"{_short(animal) or 'speed'} ({unit})", said))
        bands.append(band)
    means = None if filtered is None else [filtered.speed.mean[place] * scale for place in range(len(bands))]
    return _strips(measures, rows, bands, means, filtered, top=lambda band: 1.15 * _high(band, 99), height=0.95)


def draw_speed(axis: Axes, measures: RecordingMeasures, px_per_cm: float | None, style: Style) -> None:
    """Draw the mean speed of each animal over time."""
    scale, unit = (1 / px_per_cm, "cm/s") if px_per_cm else (1.0, "px/s")
    for place in range(len(measures.animals)):
        band = _row(measures.speed, place, scale)
        _draw_band(axis, measures, band, None, None, style, alpha=1 / max(1, len(measures.animals)))
        if len(measures.animals) == 1:
            axis.set_ylim(0, max(1.15 * _high(band, 99), 1e-6))
    axis.set_ylabel(f"speed ({unit})", fontsize=_FONT, color=style.ink)
    _dress(axis, style, measures, grid=True)


def _row(band: Band, place: int, scale: float = 1.0) -> Band:
    return Band(band.low[place] * scale, band.mean[place] * scale, band.high[place] * scale)


def _high(band: Band, percent: float) -> float:
    """Return what the highest values come to, but for few: one impossible value must not flatten all others."""
    known = band.high[np.isfinite(band.high)]
    means = band.mean[np.isfinite(band.mean)]
    if not len(known):
        return 1.0
    return float(max(min(np.percentile(known, percent), 6 * np.median(means) + 1e-9), np.max(means)))


def _strips(
    measures: RecordingMeasures,
    rows: Sequence[tuple[str, str]],
    bands: Sequence[Band],
    means: Sequence[np.ndarray] | None,
    filtered: RecordingMeasures | None,
    *,
    top: Callable[[Band], float],
    height: float = 0.46,
) -> str:
    figure, axes = _figure(height * len(rows) + 0.55, len(rows))
    for place, (axis, (label, said), band) in enumerate(zip(axes, rows, bands, strict=True)):
        _draw_band(axis, measures, band, None if means is None else means[place], filtered, PAGE)
        highest = max(top(band), 1e-6)
        axis.set_ylim(0, highest)
        axis.set_yticks([0, _round_down(highest)])
        axis.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=_FONT, color=PAGE.ink, labelpad=8)
        axis.annotate(said, (1.006, 0.5), xycoords="axes fraction", va="center", fontsize=_FONT - 1, color=PAGE.ink)
        beyond = np.flatnonzero(band.high > highest)
        axis.plot(
            measures.times[beyond], np.full(len(beyond), highest), "|", ms=5, mew=1.1, color="#d1242f", clip_on=False
        )
        _dress(axis, PAGE, measures, grid=False)
        if axis is not axes[-1]:
            axis.set_xticklabels([])
    return _svg(figure)


def _round_down(value: float) -> float:
    step = 10.0 ** np.floor(np.log10(value))
    return float(next(step * factor for factor in (5, 2, 1) if step * factor <= value))


def _draw_band(
    axis: Axes,
    measures: RecordingMeasures,
    band: Band,
    mean: np.ndarray | None,
    filtered: RecordingMeasures | None,
    style: Style,
    alpha: float = 1.0,
) -> None:
    axis.fill_between(measures.times, band.low, band.high, color=style.spread, lw=0.6, alpha=alpha)
    axis.plot(measures.times, band.mean, color=style.raw, lw=0.9)
    if mean is not None and filtered is not None:
        axis.plot(filtered.times, mean, color=style.filtered, lw=0.8, alpha=0.9)


def _dress(axis: Axes, style: Style, measures: RecordingMeasures, *, grid: bool) -> None:
    """Set ticks of time, and the colours."""
    begin, end = measures.first_time, measures.first_time + measures.width * len(measures.times)
    step = next((step for step in _STEPS if (end - begin) / step <= 8), _STEPS[-1])
    ticks = np.arange(np.ceil(begin / step), np.floor(end / step) + 1) * step
    axis.set_xlim(begin, end)
    axis.set_xticks(ticks, [clock(tick, step) for tick in ticks])
    axis.tick_params(labelsize=_FONT, colors=style.grid, labelcolor=style.ink, length=3)
    for side, spine in axis.spines.items():
        spine.set_visible(side in {"left", "bottom"})
        spine.set_color(style.grid)
    axis.set_facecolor("none")
    if grid:
        axis.grid(axis="y", color=style.grid, lw=0.5)


def _short(name: str, most: int = 22) -> str:
    # Matplotlib would read formulas between dollar signs.
    return (name if len(name) <= most else f"{name[: most - 1]}…").replace("$", r"\$")


def _figure(height: float, rows: int) -> tuple[Figure, list[Axes]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), facecolor="none")
    axes = list(np.atleast_1d(figure.subplots(rows, 1)))
    figure.subplots_adjust(
        left=0.165, right=0.925, top=1 - 0.08 / height, bottom=0.36 / height, hspace=0.28 if rows > 1 else 0
    )
    return figure, axes


def _svg(figure: Figure) -> str:
    """Return *figure* as an SVG element for a page: text as text, colours from the page's style sheet, no more digits than seen."""
    from matplotlib import rc_context

    stream = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "dlc_assets", "font.family": "sans-serif"}):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<rect[^>]*id="patch_1"[^>]*/>', "", text)
    text = re.sub(r' d="[^"]*"', lambda path: _fewer_signs(path[0]), text)
    for color, variable in PAGE_VARIABLES.items():
        text = text.replace(color, variable)
    return text


def _fewer_signs(path: str) -> str:
    """Return a path with one decimal, and without the letters that SVG takes as said: lines follow lines."""
    shorter = re.sub(r"(\d+\.\d)\d+", r"\1", path)
    return re.sub(r"\s*\n(?:L )?", " ", re.sub(r"(M [^\n]*)\n(?=M)", r"\1 ", shorter))
