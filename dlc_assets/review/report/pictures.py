"""The report's pictures on decoded frames: where the animal went and stayed, and single moments with the poses drawn in."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dlc_assets.lab.regions import CircleRegion, Point, corners_of
from dlc_assets.review.report.measures import Name, Paths, RecordingMeasures
from dlc_assets.review.report.style import track_colors

if TYPE_CHECKING:
    from PIL.Image import Image

Outline = tuple[Point, ...] | CircleRegion

WITHOUT_FRAME = (58, 61, 66)  # the ground of a picture whose video is gone
_FINER = 3  # moments are drawn so many times larger and made smaller again: smooth lines
_MARGIN = 0.45  # of the animal's size, around it
_SMALLEST = 80  # px of the video; less shows nothing of the surroundings
_DIMMED = 0.5


@dataclass(frozen=True)
class PosedFrame:
    """One frame and what was estimated in it.

    Attributes
    ----------
    frame
        (height, width, 3) uint8 RGB; None where the video cannot be read.
    size
        width, height, px.
    points
        x, y, likelihood of each track, (tracks, 3); NaN where nothing was found.
    filtered
        x, y of each track in the filtered table, (tracks, 2); None where there is none.
    """

    frame: np.ndarray | None
    size: tuple[int, int]
    points: np.ndarray
    filtered: np.ndarray | None


@dataclass(frozen=True)
class Drawing:
    """How the tracks of a pose table are drawn: a colour for each, lines between pairs of them, and the p-cutoff."""

    names: tuple[Name, ...]
    colors: tuple[str, ...]
    lines: tuple[tuple[int, int], ...]
    pcutoff: float

    @classmethod
    def of(cls, names: Sequence[Name], skeleton: Sequence[Sequence[str]], pcutoff: float) -> Drawing:
        """Return how to draw the tracks *names*, with lines between the pairs of body parts of *skeleton*."""
        place = {name: number for number, name in enumerate(names)}
        animals = dict.fromkeys(individual for individual, _ in names)
        pairs = [((animal, pair[0]), (animal, pair[1])) for animal in animals for pair in skeleton if len(pair) == 2]
        lines = tuple((place[one], place[other]) for one, other in pairs if one in place and other in place)
        return cls(tuple(names), tuple(track_colors(names)), lines, pcutoff)


def as_jpeg(picture: Image | np.ndarray, quality: int = 80) -> bytes:
    """Return *picture* as JPEG."""
    from PIL import Image

    image = Image.fromarray(picture) if isinstance(picture, np.ndarray) else picture
    stream = io.BytesIO()
    image.save(stream, format="jpeg", quality=quality, optimize=True)
    return stream.getvalue()


def paths_picture(
    ground: np.ndarray | None,
    size: tuple[int, int],
    paths: Paths,
    drawing: Drawing,
    outlines: Sequence[Outline],
    width: int,
) -> np.ndarray:
    """Return where each body part went, drawn over a frame, as (height, *width*, 3) uint8.

    Parameters
    ----------
    ground
        A frame of the video, (height, width, 3) uint8; None where there is none.
    size
        Of the frame: width, height, px.
    outlines
        Regions of the rig.
    """
    figure, axis = _canvas(ground, size, width)
    thin, alpha = (1.2, 0.9) if len(paths.times) < 1000 else (0.9, 0.75)
    for x, y, color in zip(paths.x, paths.y, drawing.colors, strict=True):
        axis.plot(x, y, color=color, lw=thin, alpha=alpha, solid_joinstyle="round")
        alone = np.isfinite(x) & ~np.isfinite(np.roll(x, 1)) & ~np.isfinite(np.roll(x, -1)) | (len(x) == 1)
        axis.plot(x[alone], y[alone], ".", color=color, ms=3, mew=0)
    _outlined(axis, outlines)
    return _pixels(figure)


def occupancy_picture(
    ground: np.ndarray | None,
    size: tuple[int, int],
    measures: RecordingMeasures,
    outlines: Sequence[Outline],
    width: int,
) -> np.ndarray:
    """Return where the animals' middles stayed how long, drawn over a frame, as (height, *width*, 3) uint8."""
    from matplotlib.colors import PowerNorm

    figure, axis = _canvas(ground, size, width)
    seconds = measures.occupancy
    if seconds.max() > 0:
        rows, columns = seconds.shape
        axis.imshow(
            np.ma.masked_equal(seconds, 0),
            extent=(-0.5, columns * measures.cell - 0.5, rows * measures.cell - 0.5, -0.5),
            cmap="inferno",
            norm=PowerNorm(0.4, vmin=0, vmax=float(np.percentile(seconds[seconds > 0], 99.5))),
            alpha=0.82,
            interpolation="nearest",
        )
    axis.set(xlim=(-0.5, size[0] - 0.5), ylim=(size[1] - 0.5, -0.5))
    _outlined(axis, outlines)
    return _pixels(figure)


def _canvas(ground: np.ndarray | None, size: tuple[int, int], width: int) -> tuple[Any, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width / 100, width * size[1] / size[0] / 100), dpi=100)
    axis = figure.add_axes((0, 0, 1, 1))
    axis.axis("off")
    extent = (-0.5, size[0] - 0.5, size[1] - 0.5, -0.5)
    shown = _dimmed(ground) if ground is not None else np.full((2, 2, 3), WITHOUT_FRAME, np.uint8)
    axis.imshow(shown, extent=extent, aspect="auto", interpolation="antialiased")
    axis.set(xlim=extent[:2], ylim=extent[2:], autoscale_on=False)
    return figure, axis


def _dimmed(frame: np.ndarray) -> np.ndarray:
    """Return a frame in grey and darker, so that colours on it are seen."""
    grey = frame.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    return np.repeat((grey * _DIMMED)[..., None], 3, axis=2).astype(np.uint8)


def _outlined(axis: Any, outlines: Sequence[Outline]) -> None:
    from matplotlib.patches import Circle, Polygon

    for region in outlines:
        style = {"fill": False, "edgecolor": "white", "linestyle": (0, (4, 3)), "linewidth": 0.9, "alpha": 0.85}
        if isinstance(region, CircleRegion):
            axis.add_patch(Circle(region.circle.center, region.circle.radius, **style))
        else:
            axis.add_patch(Polygon(corners_of(region), closed=True, **style))


def _pixels(figure: Any) -> np.ndarray:
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3])


def window_around(frames: Sequence[PosedFrame], tracks: Sequence[int], pcutoff: float) -> tuple[int, int, int, int]:
    """Return left, top, right, bottom (px) of the square part of the picture that shows *tracks* and likely others in all *frames*.

    The whole picture where nothing was found. A point far outside the picture does not make it smaller.
    """
    width, height = frames[0].size
    points = []
    for frame in frames:
        known = np.isfinite(frame.points[:, :2]).all(axis=1)
        chosen = known & (frame.points[:, 2] >= pcutoff)
        chosen[list(tracks)] = known[list(tracks)]
        points.append(frame.points[chosen, :2])
    every = np.concatenate(points)
    every = every[(every >= -0.1 * max(width, height)).all(axis=1) & (every <= (1.1 * width, 1.1 * height)).all(axis=1)]
    if not len(every):
        return 0, 0, width, height
    low, high = every.min(axis=0), every.max(axis=0)
    side = max(float((high - low).max()) * (1 + 2 * _MARGIN), _SMALLEST, 0.15 * max(width, height))
    corners = []
    for middle, whole in zip((low + high) / 2, (width, height), strict=True):
        length = min(round(side), whole)
        start = int(np.clip(round(float(middle) - length / 2), 0, whole - length))
        corners.append((start, start + length))
    (left, right), (top, bottom) = corners
    return left, top, right, bottom


def posed_picture(
    posed: PosedFrame, drawing: Drawing, window: tuple[int, int, int, int], height: int, marked: Sequence[int] = ()
) -> Image:
    """Return a part of a frame with the estimated points and skeleton drawn in, *height* px high.

    Points are full where they reach the p-cutoff and hollow below it; *marked* tracks have a ring around them; filtered positions
    are small white crosses.
    """
    from PIL import Image, ImageDraw

    left, top, right, bottom = window
    scale = _FINER * height / (bottom - top)
    size = (max(1, round((right - left) * scale)), _FINER * height)
    if posed.frame is None:
        picture = Image.new("RGB", size, WITHOUT_FRAME)
    else:
        cut = Image.fromarray(posed.frame[top:bottom, left:right])
        picture = cut.resize(size, Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(picture, "RGBA")
    at = (posed.points[:, :2] - (left, top) + 0.5) * scale
    known = np.asarray(np.isfinite(at).all(axis=1))
    sure = known & (posed.points[:, 2] >= drawing.pcutoff)
    unit = _FINER * max(1.0, height / 180)
    for one, other in drawing.lines:
        if sure[one] and sure[other]:
            ends = [*map(float, at[one]), *map(float, at[other])]
            draw.line(ends, fill=(0, 0, 0, 110), width=round(3.0 * unit))
            draw.line(ends, fill=(255, 255, 255, 215), width=round(1.4 * unit))
    for track in map(int, np.flatnonzero(known)):
        color = _rgb(drawing.colors[track])
        if sure[track]:
            _disc(draw, at[track], 3.9 * unit, fill=(*color, 255), outline=(0, 0, 0, 170), width=0.8 * unit)
        else:
            _disc(draw, at[track], 4.1 * unit, fill=None, outline=(0, 0, 0, 130), width=2.2 * unit)
            _disc(draw, at[track], 3.9 * unit, fill=None, outline=(*color, 255), width=1.4 * unit)
    for track in marked:
        if known[track]:
            _disc(draw, at[track], 8.5 * unit, fill=None, outline=(0, 0, 0, 140), width=3.0 * unit)
            _disc(draw, at[track], 8.0 * unit, fill=None, outline=(255, 70, 70, 255), width=1.7 * unit)
    if posed.filtered is not None:
        for x, y in (posed.filtered - (left, top) + 0.5) * scale:
            if np.isfinite(x) and np.isfinite(y):
                _cross(draw, float(x), float(y), 2.6 * unit, unit)
    return picture.resize((max(1, size[0] // _FINER), height), Image.Resampling.LANCZOS)


def _rgb(color: str) -> tuple[int, int, int]:
    return int(color[1:3], 16), int(color[3:5], 16), int(color[5:7], 16)


def _disc(draw: Any, at: np.ndarray, radius: float, *, fill: Any, outline: Any, width: float) -> None:
    x, y = float(at[0]), float(at[1])
    draw.ellipse(
        (x - radius, y - radius, x + radius, y + radius), fill=fill, outline=outline, width=max(1, round(width))
    )


def _cross(draw: Any, x: float, y: float, arm: float, unit: float) -> None:
    for ink, wide in (((0, 0, 0, 150), 2.0), ((255, 255, 255, 255), 0.9)):
        draw.line((x - arm, y, x + arm, y), fill=ink, width=max(1, round(wide * unit)))
        draw.line((x, y - arm, x, y + arm), fill=ink, width=max(1, round(wide * unit)))
