"""The report in one picture, for the UI: what is said, where the animal went, likelihood and speed over time, the worst moments."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dlc_assets.lab.files import atomic_path
from dlc_assets.review.report.charts import draw_likelihoods, draw_speed, worst_tracks
from dlc_assets.review.report.measures import RecordingMeasures
from dlc_assets.review.report.style import PAPER
from dlc_assets.review.report.verdict import WORDS, Verdict

MOST_MOMENTS = 4
_TONES = {"good": "#1a7f37", "look": "#b35900", "unusable": "#cf222e"}
_DPI = 90
_COLORS = (
    224,
    96,
    40,
)  # of a palette: a third of the bytes of full colour, and the instance keeps one for each partition
_MOST_BYTES = 180_000
_TRACKS = 16
_NAMED = 8


def write_summary(
    path: Path,
    *,
    title: str,
    verdict: Verdict,
    recording: str,
    measures: RecordingMeasures,
    pcutoff: float,
    px_per_cm: float | None,
    where: np.ndarray,
    legend: Sequence[tuple[str, str]],
    moments: Sequence[tuple[str, np.ndarray]],
) -> None:
    """Write the summary of a report as a PNG.

    Parameters
    ----------
    recording
        The one that is drawn, by name; it is said where there are several.
    where
        (height, width, 3) uint8: the paths over the first frame.
    legend
        What is drawn in which colour (#rrggbb).
    moments
        What the worst moments are, and a picture (height, width, 3) uint8 of each.
    """
    from matplotlib.figure import Figure
    from matplotlib.gridspec import GridSpec
    from matplotlib.lines import Line2D

    shown = moments[:MOST_MOMENTS]
    tall = 6.95 if shown else 4.65
    figure = Figure(figsize=(10.6, tall), dpi=_DPI, facecolor="white")
    grid = GridSpec(
        3 if shown else 2,
        2,
        figure=figure,
        width_ratios=(1, 1.32),
        height_ratios=(1.65, 1, 1.75) if shown else (1.65, 1),
        left=0.02,
        right=0.985,
        top=1 - 1.2 / tall,
        bottom=(0.1 if shown else 0.45) / tall,
        wspace=0.3,
        hspace=0.42,
    )
    figure.text(0.02, 1 - 0.2 / tall, _plain(title), fontsize=10, color="#59636e", va="center")
    word = WORDS[verdict.level]
    rest = verdict.sentence.removeprefix(f"{word}:").strip()
    said = textwrap.fill(textwrap.shorten(f"{rest[:1].upper()}{rest[1:]}", 230, placeholder=" ..."), 125)
    figure.text(0.02, 1 - 0.34 / tall, word, fontsize=14, weight="bold", color=_TONES[verdict.level], va="top")
    figure.text(0.02, 1 - 0.61 / tall, _plain(said), fontsize=10.5, color=PAPER.ink, va="top", linespacing=1.25)
    place = figure.add_subplot(grid[:2, 0])
    place.imshow(where, interpolation="antialiased")
    place.axis("off")
    place.set_anchor("NW")
    handles = [Line2D([], [], color=color, lw=3, label=_plain(name)) for name, color in legend[:_NAMED]]
    place.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0, 0),
        ncols=4,
        fontsize=7.5,
        frameon=False,
        labelcolor=PAPER.ink,
        handlelength=1,
        columnspacing=1.1,
        borderaxespad=0.3,
        borderpad=0,
    )
    place.set_title(_plain(recording), fontsize=8.5, color=PAPER.ink, loc="left", pad=3)
    likely = figure.add_subplot(grid[0, 1])
    draw_likelihoods(likely, measures, pcutoff, worst_tracks(measures, _TRACKS), PAPER, shares=False)
    likely.set_title(
        f"likelihood over time: red is below the p-cutoff ({pcutoff:g})",
        fontsize=8.5,
        color=PAPER.ink,
        loc="left",
        pad=3,
    )
    draw_speed(figure.add_subplot(grid[1, 1]), measures, px_per_cm, PAPER)
    if shown:
        strip = grid[2, :].subgridspec(1, MOST_MOMENTS, wspace=0.06)
        for number, (what, picture) in enumerate(shown):
            axis = figure.add_subplot(strip[0, number])
            axis.imshow(picture, interpolation="antialiased")
            axis.axis("off")
            axis.set_anchor("NW")
            words = textwrap.fill(textwrap.shorten(what, 70, placeholder=" ..."), 38)
            axis.set_title(_plain(words), fontsize=8, color=PAPER.ink, loc="left", pad=3)
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    with atomic_path(path) as partial:
        partial.write_bytes(_in_a_palette(stream))


def _plain(text: str) -> str:
    return text.replace("$", r"\$")  # Matplotlib would read formulas between dollar signs


def _in_a_palette(png: io.BytesIO) -> bytes:
    from PIL import Image

    with Image.open(png) as drawn:
        picture = drawn.convert("RGB")
    content = b""
    for colors in _COLORS:
        reduced = io.BytesIO()
        few = picture.quantize(colors, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        few.save(reduced, format="png", optimize=True)
        content = reduced.getvalue()
        if len(content) <= _MOST_BYTES:
            break
    return content
