"""Small pictures and tables for the UI: Dagster shows images inside Markdown, so each is a PNG of a few dozen kilobytes."""

from __future__ import annotations

import base64
import functools
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

import dagster as dg
import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from dlc_assets.derived.filter_figures import Span
    from dlc_assets.derived.kinematics_figures import Shown
    from dlc_assets.lab.regions import Region
    from dlc_assets.poses.schema import Track

_MAX_ROWS = 50
_MAX_PICTURES = 8  # recordings of one session that are drawn; metadata is no place for megabytes
TRAJECTORY_POINTS = 4000  # frames of `trajectories`; more cannot be told apart in a picture of this size
# Of drawings, which the instance keeps one of for each partition: a quarter of the bytes of a PNG in full colour, and no eye sees it.
_PALETTE = 64


P = ParamSpec("P")


def _never_in_the_way(draw: Callable[P, dg.MarkdownMetadataValue]) -> Callable[P, dg.MarkdownMetadataValue]:
    """Say in the picture's place what went wrong with it: the product is made and stored, a picture of it must not undo that."""

    @functools.wraps(draw)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> dg.MarkdownMetadataValue:
        try:
            return draw(*args, **kwargs)
        except Exception as error:  # noqa: BLE001  # whatever a drawing library makes of odd data
            return dg.MetadataValue.md(f"No picture could be drawn ({type(error).__name__}: {error}).")

    return guarded


def picture(figure: Figure, alt: str, *, colors: int | None = None) -> dg.MarkdownMetadataValue:
    """Return *figure* as Markdown with the PNG inside: in full color, or in so many *colors*, which is enough for lines."""
    stream = io.BytesIO()
    # On white in any theme: what is drawn on it is dark.
    figure.savefig(stream, format="png", dpi=80, bbox_inches="tight", facecolor="white")
    if colors is not None:
        stream = _in_few_colors(stream, colors)
    return dg.MetadataValue.md(f"![{alt}](data:image/png;base64,{base64.b64encode(stream.getvalue()).decode()})")


def _in_few_colors(png: io.BytesIO, colors: int) -> io.BytesIO:
    from PIL import Image

    reduced = io.BytesIO()
    with Image.open(png) as drawn:
        few = drawn.convert("RGB").quantize(colors, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE)
    few.save(reduced, format="png", optimize=True)
    return reduced


def _figure(width: float, height: float, *, columns: int = 1) -> tuple[Figure, list[Any]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, [figure.add_subplot(1, columns, index + 1) for index in range(columns)]


def table(rows: Sequence[Mapping[Any, Any]]) -> dg.TableMetadataValue | dg.TextMetadataValue:
    """Return *rows* as a table of the UI (its first rows where there are very many), or "none"."""
    shown = [{str(key): _cell(value) for key, value in row.items()} for row in rows[:_MAX_ROWS]]
    return dg.MetadataValue.table([dg.TableRecord(row) for row in shown]) if shown else dg.MetadataValue.text("none")


def _cell(value: Any) -> str | int | float | bool:
    if isinstance(value, float):
        return round(value, 4)
    return value if isinstance(value, str | int | bool) else ("" if value is None else str(value))


def column_schema(columns: Sequence[tuple[str, str, str]]) -> dg.TableSchema:
    """Return the UI's column schema of (name, type, description)."""
    return dg.TableSchema([dg.TableColumn(name, type, description) for name, type, description in columns])


@_never_in_the_way
def labels_picture(images: Sequence[tuple[Path, np.ndarray]], bodyparts: Sequence[str]) -> dg.MarkdownMetadataValue:
    """Return up to four labeled frames with their labels, xy (body parts, 2) px, drawn in."""
    from PIL import Image

    chosen = [images[index] for index in np.linspace(0, len(images) - 1, min(4, len(images))).astype(int)]
    figure, axes = _figure(3.2 * len(chosen), 2.8, columns=len(chosen))
    colors = _colors(len(bodyparts))
    for axis, (path, xy) in zip(axes, chosen, strict=True):
        with Image.open(path) as image:
            axis.imshow(np.asarray(image.convert("RGB")))
        for index, name in enumerate(bodyparts):
            axis.plot(*xy[index], "o", ms=5, mfc="none", mew=1.5, color=colors[index], label=name)
        axis.set_title(path.parent.name, fontsize=7)
        axis.axis("off")
    axes[0].legend(fontsize=6, loc="lower left")
    return picture(figure, "labeled frames")


@_never_in_the_way
def learning_curve(file: Path) -> dg.MarkdownMetadataValue:
    """Return loss and validation error over epochs from DeepLabCut's learning_stats.csv."""
    import pandas as pd

    stats = pd.read_csv(file)
    figure, (loss, error) = _figure(8, 2.8, columns=2)
    epochs = stats["step"] if "step" in stats else np.arange(1, len(stats) + 1)
    for column, name in (("losses/train.total_loss", "training"), ("losses/eval.total_loss", "validation")):
        if column in stats and stats[column].notna().any():
            known = stats[column].notna()
            loss.plot(epochs[known], stats[column][known], marker=".", label=name)
    loss.set(xlabel="epoch", ylabel="loss")
    loss.legend(fontsize=7)
    for column in ("metrics/test.rmse", "metrics/test.rmse_pcutoff"):
        if column in stats and stats[column].notna().any():
            known = stats[column].notna()
            error.plot(epochs[known], stats[column][known], marker=".", label=column.removeprefix("metrics/test."))
    error.set(xlabel="epoch", ylabel="validation error (px)")
    if error.lines:
        error.legend(fontsize=7)
    return picture(figure, "learning curve")


def strips(videos: Mapping[str, tuple[Path, int]], *, count: int = 5, height: int = 120) -> dg.MarkdownMetadataValue:
    """Return *count* frames, *height* px high, of one video of each recording, (path, its frames), below the recording's name."""
    shown = [
        f"**{name}**\n\n{_strip(*video, count, height).value}" for name, video in list(videos.items())[:_MAX_PICTURES]
    ]
    return dg.MetadataValue.md("\n\n".join([*shown, *_left_out(videos)]))


def _left_out(recordings: Mapping[str, Any]) -> list[str]:
    names = list(recordings)[_MAX_PICTURES:]
    return [f"Not shown: {', '.join(names)}."] if names else []


@_never_in_the_way
def _strip(video: Path, frames: int, count: int, height: int) -> dg.MarkdownMetadataValue:
    from PIL import Image

    from dlc_assets.video.frames import frame_strip

    pictures = frame_strip(video, count, height, frames=frames)
    stream = io.BytesIO()
    Image.fromarray(pictures).save(stream, format="JPEG", quality=80)
    encoded = base64.b64encode(stream.getvalue()).decode()
    return dg.MetadataValue.md(f"![frames](data:image/jpeg;base64,{encoded})")


@_never_in_the_way
def interval_histogram(times: Mapping[str, np.ndarray]) -> dg.MarkdownMetadataValue:
    """Return the histogram of frame intervals (ms) of each recording's times, (frames,) s: one below the other, on one scale."""
    from matplotlib.figure import Figure

    intervals = {name: np.diff(seconds) * 1000 for name, seconds in times.items() if len(seconds) > 1}
    shown = dict(list(intervals.items())[:_MAX_PICTURES])
    if not shown:
        return dg.MetadataValue.md("No recording has two frames.")
    every = np.concatenate(list(shown.values()))
    # Equal intervals still make a bar; the bars are as wide for all, so that cameras can be compared.
    edges = np.linspace(every.min() - 0.5, every.max() + 0.5, 61)
    figure = Figure(figsize=(6, 0.8 + 1.3 * len(shown)), layout="constrained")
    axes = np.atleast_1d(figure.subplots(len(shown), 1, sharex=True))
    for axis, (name, milliseconds) in zip(axes, shown.items(), strict=True):
        axis.hist(milliseconds, bins=edges, log=True)
        axis.set_ylim(bottom=0.7)  # a single interval, such as one gap, is still a bar
        longest = f"{milliseconds.min():.4g} to {milliseconds.max():.4g} ms, median {np.median(milliseconds):.4g} ms"
        axis.set_title(f"{name}: {longest}", fontsize=8, loc="left")
        axis.set_ylabel("frames", fontsize=8)
    axes[-1].set_xlabel("interval to the next frame (ms)", fontsize=8)
    return picture(figure, "frame intervals", colors=_PALETTE)


@_never_in_the_way
def trajectories(
    tracks: Sequence[Track], times: np.ndarray, width: int, height: int, pcutoff: float
) -> dg.MarkdownMetadataValue:
    """Return where each body part went (above *pcutoff*) and the likelihoods over time, in `TRAJECTORY_POINTS` frames or fewer.

    A long recording is best read as such (`poses.table_file.read_thinned_tracks`), rather than thinned here.
    """
    figure, (where, likely) = _figure(9, 3.2, columns=2)
    step = -(-len(times) // TRAJECTORY_POINTS)
    colors = _colors(len(tracks))
    for track, color in zip(tracks, colors, strict=True):
        sure = track.likelihood >= pcutoff
        x, y = np.where(sure, track.x, np.nan)[::step], np.where(sure, track.y, np.nan)[::step]
        where.plot(x, y, lw=0.7, color=color, label=track.bodypart)
        likely.plot(times[::step], track.likelihood[::step], lw=0.6, color=color)
    where.set(xlim=(0, width), ylim=(height, 0), aspect="equal", xlabel="x (px)", ylabel="y (px)")
    where.legend(fontsize=6, loc="upper right")
    likely.axhline(pcutoff, color="black", lw=0.6, ls="--")
    likely.set(ylim=(0, 1.02), xlabel="time (s)", ylabel="likelihood")
    return picture(figure, "trajectories and likelihoods", colors=_PALETTE)


@_never_in_the_way
def filter_spans(spans: Sequence[Span], *, left_out: Sequence[str] = ()) -> dg.MarkdownMetadataValue:
    """Return each track before and after filters where these changed it most; *left_out* are tracks that are not shown."""
    from dlc_assets.derived.filter_figures import spans_figure

    drawn = picture(spans_figure(spans), "before and after the filters", colors=_PALETTE)
    return dg.MetadataValue.md(
        "\n\n".join([drawn.value or "", *([f"Not shown: {', '.join(left_out)}."] if left_out else [])])
    )


@_never_in_the_way
def filter_trajectories(
    before: Sequence[Track], after: Sequence[Track], width: int, height: int
) -> dg.MarkdownMetadataValue:
    """Return where each body part went, before and after filters, in a frame of *width* by *height* px."""
    from dlc_assets.derived.filter_figures import trajectories_figure

    return picture(trajectories_figure(before, after, width, height), "trajectories", colors=_PALETTE)


@_never_in_the_way
def kinematics_picture(
    shown: Sequence[Shown],
    regions: Mapping[str, Region],
    width: int,
    height: int,
    *,
    px_per_cm: float | None,
    title: str,
) -> dg.MarkdownMetadataValue:
    """Return the centroid's speed over time, its way with the regions, and the time spent, in a frame of *width* by *height* px."""
    from dlc_assets.derived.kinematics_figures import kinematics_figure

    figure = kinematics_figure(shown, regions, width, height, px_per_cm=px_per_cm, title=title)
    return picture(figure, "speed, way and time spent", colors=_PALETTE)


def _colors(count: int) -> list[Any]:
    from matplotlib import colormaps

    return [colormaps["turbo"]((index + 0.5) / max(count, 1)) for index in range(count)]
