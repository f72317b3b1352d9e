"""Figures of evaluations and comparisons, for the UI and for model cards: white background, so that they read in light and dark."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dlc_assets.training.comparison import ALIKE, BEST, WORSE
from dlc_assets.training.scores import SETS

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from dlc_assets.training.labels import FrameKey

WORST_FRAMES = 9
_COLORS = {"train": "tab:gray", "validation": "tab:orange", "benchmark": "tab:blue"}
_VERDICTS = {BEST: "tab:blue", ALIKE: "cornflowerblue", WORSE: "tab:orange"}
_HUMAN = "black"
_LEAST_CROP = 48  # px: less shows nothing of what is around
_MOST_VERSIONS = 40
_MOST_INCHES = 12.0  # a wider figure is made so small by the UI that nobody can read it


def new_figure(width: float, height: float, *, rows: int = 1, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """Return a figure of *width* by *height* inches with a grid of axes, by rows."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    return figure, [figure.add_subplot(rows, columns, at + 1) for at in range(rows * columns)]


def as_png(figure: Figure, dpi: int = 80) -> bytes:
    """Return *figure* as a PNG."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=dpi, bbox_inches="tight", facecolor="white")
    return stream.getvalue()


def as_jpeg(figure: Figure, dpi: int = 80) -> bytes:
    """Return *figure* as a JPEG: for photographs, which are many times larger as PNG."""
    stream = io.BytesIO()
    figure.savefig(stream, format="jpeg", dpi=dpi, bbox_inches="tight", facecolor="white", pil_kwargs={"quality": 85})
    return stream.getvalue()


def error_by_bodypart(errors: pd.DataFrame, human: pd.DataFrame | None = None) -> Figure:
    """Draw box plots of the error (px) by body part, a panel for each set; *human* distances beside them where two people labeled."""
    present = [name for name in SETS if (errors["set"] == name).any()]
    bodyparts = list(dict.fromkeys(errors["bodypart"]))
    panels = [(name, errors[errors["set"] == name]) for name in present]
    if human is not None and len(human):
        panels.append(("two people", human.rename(columns={"distance": "error"})))
    wide = 1.4 + 0.28 * len(bodyparts)
    columns = max(1, min(len(panels), int(_MOST_INCHES / wide)))
    rows = -(-len(panels) // columns)
    figure, axes = new_figure(1.2 + wide * columns, 3.0 * rows, rows=rows, columns=columns)
    for axis in axes[len(panels) :]:
        axis.axis("off")
    top = 0.0
    for axis, (name, table) in zip(axes, panels, strict=False):
        values = [table["error"][table["bodypart"] == part].dropna().to_numpy() for part in bodyparts]
        drawn = axis.boxplot(values, showfliers=False, medianprops={"color": _COLORS.get(name, _HUMAN), "linewidth": 2})
        top = max([top, *(float(cap.get_ydata()[0]) for cap in drawn["caps"] if len(cap.get_ydata()))])
        axis.set_xticks(range(1, len(bodyparts) + 1), bodyparts, rotation=45, ha="right", fontsize=7)
        axis.set_title(f"{name} ({len(table)} labels)", fontsize=8)
        axis.grid(axis="y", alpha=0.3)
    for axis in axes:
        axis.set_ylim(0, 1.05 * top or 1.0)
    axes[0].set_ylabel("error (px)" if present else "distance (px)")
    return figure


def error_histogram(errors: pd.DataFrame, pcutoff: float) -> Figure:
    """Draw how many labels of the scoring set are how far off (px), those above and below the p-cutoff apart."""
    name = _scoring(errors)
    of_set = errors[(errors["set"] == name) & errors["error"].notna()]
    figure, (axis,) = new_figure(5.2, 2.8)
    sure = of_set["likelihood"].to_numpy() >= pcutoff
    values = of_set["error"].to_numpy()
    end = float(np.quantile(values, 0.98)) if len(values) else 1.0
    beyond = int((values > end).sum())
    axis.hist(
        [values[sure], values[~sure]],
        bins=np.linspace(0, max(end, 1e-6), 31).tolist(),
        stacked=True,
        color=["tab:blue", "lightsteelblue"],
        label=[f"likelihood {pcutoff:g} or more", "below"],
    )
    axis.set(xlabel="error (px)", ylabel="labels")
    axis.set_title(
        f"{name}: {len(values)} labels" + (f", {beyond} beyond {end:.0f} px not shown" if beyond else ""), fontsize=8
    )
    axis.legend(fontsize=7)
    return figure


def pck_curve(errors: pd.DataFrame, human: pd.DataFrame | None = None) -> Figure:
    """Draw the share of labels with an estimate within each distance (px), by set; the same of two people's labels, where there are."""
    figure, (axis,) = new_figure(5.2, 2.8)
    present = [name for name in SETS if (errors["set"] == name).any()]
    known = errors["error"].dropna()
    end = float(np.quantile(known, 0.97)) if len(known) else 1.0
    distances = np.linspace(0, max(end, 1e-6), 200)
    for name in present:
        values = errors["error"][errors["set"] == name].to_numpy()
        axis.plot(distances, _shares(values, distances), color=_COLORS[name], label=f"{name} ({len(values)} labels)")
    if human is not None and len(human):
        values = human["distance"].to_numpy()
        axis.plot(
            distances, _shares(values, distances), color=_HUMAN, ls="--", label=f"two people ({len(values)} labels)"
        )
    axis.set(xlabel="distance (px)", ylabel="share of labels within it", ylim=(0, 1.02), xlim=(0, None))
    axis.grid(alpha=0.3)
    axis.legend(fontsize=7, loc="lower right")
    return figure


def _shares(values: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """Return the share of all *values* (a NaN is never within) that is no larger than each of *distances*."""
    ordered = np.sort(values[~np.isnan(values)])
    return np.searchsorted(ordered, distances, side="right") / max(len(values), 1)


def worst_frames(errors: pd.DataFrame, paths: Mapping[FrameKey, Path], count: int = WORST_FRAMES) -> Figure:
    """Draw the frames of the scoring set with the largest errors: cut out around the animal, labels as rings, estimates as crosses.

    Parameters
    ----------
    errors
        As of `scores.errors_of_frames`.
    paths
        Where the picture of each frame lies, by (folder, image).
    """
    name = _scoring(errors)
    of_set = errors[(errors["set"] == name) & errors["error"].notna()]
    largest = of_set.groupby(["folder", "image"], sort=True)["error"].max().sort_values(ascending=False, kind="stable")
    chosen = [key for key in largest.index if key in paths][:count]
    columns = min(3, max(len(chosen), 1))
    rows = -(-max(len(chosen), 1) // columns)
    figure, axes = new_figure(2.9 * columns + 1.3, 2.9 * rows, rows=rows, columns=columns)
    bodyparts = list(dict.fromkeys(errors["bodypart"]))
    colors = dict(zip(bodyparts, _part_colors(len(bodyparts)), strict=True))
    for axis in axes:
        axis.axis("off")
    for axis, key in zip(axes, chosen, strict=False):
        labels = of_set[(of_set["folder"] == key[0]) & (of_set["image"] == key[1])]
        _draw_frame(axis, paths[key], labels, colors)
        axis.set_title(f"{key[0]}\n{key[1]}: {largest[key]:.1f} px", fontsize=7)
    handles = [_handle("o", "black", "label"), _handle("x", "black", "estimate")]
    handles += [_handle("s", colors[part], part) for part in bodyparts]
    figure.legend(handles=handles, loc="outside right upper", fontsize=7, frameon=False)
    return figure


def _draw_frame(axis: Axes, path: Path, labels: pd.DataFrame, colors: Mapping[str, Any]) -> None:
    from PIL import Image

    with Image.open(path) as image:
        picture = np.asarray(image.convert("RGB"))
    left, top, right, bottom = _crop(labels, picture.shape[1], picture.shape[0])
    axis.imshow(picture[top:bottom, left:right], extent=(left - 0.5, right - 0.5, bottom - 0.5, top - 0.5))
    axis.set(xlim=(left - 0.5, right - 0.5), ylim=(bottom - 0.5, top - 0.5))
    columns = [labels[name].to_list() for name in ("bodypart", "x", "y", "x_estimated", "y_estimated")]
    for part, x, y, x_estimated, y_estimated in zip(*columns, strict=True):
        axis.plot([x, x_estimated], [y, y_estimated], "-", lw=0.8, color="white")
        axis.plot(x, y, "o", ms=7, mfc="none", mew=1.6, color=colors[part])
        axis.plot(x_estimated, y_estimated, "x", ms=6, mew=1.6, color=colors[part])


def _crop(labels: pd.DataFrame, width: int, height: int) -> tuple[int, int, int, int]:
    """Return left, top, right, bottom (px) of a square around labels and estimates, within the picture."""
    x = np.concatenate([labels["x"], labels["x_estimated"]])
    y = np.concatenate([labels["y"], labels["y_estimated"]])
    side = max(1.3 * max(np.ptp(x), np.ptp(y)), _LEAST_CROP)
    centre = (x.min() + x.max()) / 2, (y.min() + y.max()) / 2
    left, top = (max(0, int(at - side / 2)) for at in centre)
    right, bottom = min(width, int(centre[0] + side / 2) + 1), min(height, int(centre[1] + side / 2) + 1)
    if right - left < 2 or bottom - top < 2:  # all of it lies outside the picture
        return 0, 0, width, height
    return left, top, right, bottom


def _handle(marker: str, color: Any, label: str) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], ls="none", marker=marker, color=color, mfc="none" if marker == "o" else color, label=label)


def comparison_figure(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw the mean error (px) of each version with its interval, a panel for each group; dashed: two people's labels."""
    ranked = [row for row in rows if row["rmse"] is not None]
    shown = ranked[:_MOST_VERSIONS]
    groups = list(dict.fromkeys(row["comparable"] for row in shown))
    heights = [0.5 + 0.26 * sum(row["comparable"] == group for row in shown) for group in groups] or [0.8]
    figure, _ = new_figure(7.0, sum(heights) + 0.6 * len(heights), rows=0)
    grid = figure.add_gridspec(len(heights), 1, height_ratios=heights)
    axes = [figure.add_subplot(grid[at]) for at in range(len(heights))]
    if not groups:
        axes[0].axis("off")
        axes[0].text(0, 0.5, "no version has frames to be compared on", fontsize=9)
    for axis, group in zip(axes, groups, strict=False):
        members = [row for row in shown if row["comparable"] == group]
        for place, row in enumerate(members):
            color = _VERDICTS.get(row["verdict"], "tab:gray")
            if row["rmse_low"] is not None:
                axis.plot([row["rmse_low"], row["rmse_high"]], [place, place], "-", color=color, lw=1.5)
            axis.plot(row["rmse"], place, "o", color=color)
        if members[0]["human_error"] is not None:
            axis.axvline(members[0]["human_error"], color=_HUMAN, ls="--", lw=0.9)
        names = [f"{row['model']}@{row['version'][:8]}{' (current)' if row['current'] else ''}" for row in members]
        axis.set_yticks(range(len(members)), names, fontsize=7)
        axis.set_ylim(len(members) - 0.4, -0.6)
        axis.set_xlim(0, None)
        axis.set_title(
            f"{members[0]['project']}: {members[0]['frames']} frames of {members[0]['videos']} {_videos(members[0]['videos'])}",
            fontsize=8,
        )
        axis.set_xlabel("mean error (px), 95 % interval", fontsize=7)
        axis.tick_params(axis="x", labelsize=7)
        axis.grid(axis="x", alpha=0.3)
    verdicts = [verdict for verdict in dict.fromkeys(row["verdict"] for row in shown) if verdict]
    handles = [_handle("s", _VERDICTS.get(verdict, "tab:gray"), verdict) for verdict in verdicts]
    if any(row["human_error"] is not None for row in shown):
        handles.append(_handle("|", _HUMAN, "two people's labels"))
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=7, frameon=False)
    if len(ranked) > len(shown):
        figure.suptitle(f"the first {len(shown)} of {len(ranked)} versions", fontsize=8)
    return figure


def _scoring(errors: pd.DataFrame) -> str:
    return next((name for name in reversed(SETS) if (errors["set"] == name).any()), "benchmark")


def _part_colors(count: int) -> list[Any]:
    from matplotlib import colormaps

    return [colormaps["turbo"]((at + 0.5) / max(count, 1)) for at in range(count)]


def _videos(number: int) -> str:
    return "video" if number == 1 else "videos"
