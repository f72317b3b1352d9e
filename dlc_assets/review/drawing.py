"""Drawing poses onto the planes of a video frame: points, skeleton, trails and a caption, each onto the few pixels that it covers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dlc_assets.video.planes import PictureShape

Ink = tuple[int, int, int]
"""A color as video has it: brightness 16 to 235, and the two colors 16 to 240."""

_SHIFT = 4  # binary digits behind the point of positions
_FARTHEST = 16_000.0  # px; what lies farther out is not drawn: OpenCV counts in 32 bits
_LEVELS = 5  # of a trail's fading
_TRAIL_POINTS = 48  # of one trail; more cannot be told apart
_TRAIL_ALPHA = 0.85  # of its newest part
_DARK, _BRIGHT, _GREY = 16, 235, 128


def ink(red: float, green: float, blue: float) -> Ink:
    """Return a color, its parts from 0 to 1, as BT.601 has it."""
    return (
        round(16 + 65.5 * red + 128.6 * green + 25.0 * blue),
        round(128 - 37.8 * red - 74.2 * green + 112.0 * blue),
        round(128 + 112.0 * red - 93.8 * green - 18.2 * blue),
    )


def distinct_inks(count: int) -> list[Ink]:
    """Return *count* colors that differ as much as they can, in the order in which plots have them."""
    from matplotlib import colormaps

    return [ink(*colormaps["turbo"]((index + 0.5) / max(count, 1))[:3]) for index in range(count)]


@dataclass(frozen=True)
class Look:
    """What is drawn of each track, and how.

    Attributes
    ----------
    inks
        The color of each track.
    edges
        Pairs of tracks that a line joins.
    radius
        Of a point, px of the picture.
    pcutoff
        Points of a lower likelihood are not sure. One without a likelihood is.
    hollow
        Whether points that are not sure are drawn as rings; else they are left out. Lines and trails join sure points only.
    trail
        s before a frame whose path is drawn.
    caption
        Whether the frame's number and time are written into a corner.
    """

    inks: Sequence[Ink]
    edges: Sequence[tuple[int, int]] = ()
    radius: float = 4.0
    pcutoff: float = 0.0
    hollow: bool = False
    trail: float = 0.0
    caption: bool = False


@dataclass
class PoseStretch:
    """Poses of consecutive frames, where they are in the picture.

    Attributes
    ----------
    first
        Number of the first frame.
    times
        (frames,) float64, s.
    x, y
        (tracks, frames) float64, px of the picture; NaN where there is none.
    sure
        (tracks, frames) bool: there is a position, and its likelihood reaches the p-cutoff.
    """

    first: int
    times: np.ndarray
    x: np.ndarray
    y: np.ndarray
    sure: np.ndarray
    known: np.ndarray = field(init=False)
    fixed: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        with np.errstate(invalid="ignore"):
            self.known = (np.abs(self.x) < _FARTHEST) & (np.abs(self.y) < _FARTHEST)
        self.sure = self.sure & self.known
        places = np.where(self.known, np.stack([self.x, self.y]), 0.0)
        self.fixed = np.round(places * (1 << _SHIFT)).astype(np.int32)  # (2, tracks, frames)

    @classmethod
    def of(cls, first: int, times: np.ndarray, values: np.ndarray, shape: PictureShape, look: Look) -> PoseStretch:
        """Place *values*, (tracks, 3, frames) float32: x and y in px of the full upright frame, and the likelihood."""
        x, y = shape.shown(values[:, 0].astype(np.float64), values[:, 1].astype(np.float64))
        sure = np.isfinite(x) & np.isfinite(y) & ~(values[:, 2] < look.pcutoff)
        return cls(first, times, x, y, sure)


class FrameDrawer:
    """Draws the poses of a stretch of frames, one frame after the other."""

    def __init__(self, look: Look) -> None:
        import cv2

        self._cv2, self._look = cv2, look
        self._radius = max(1, round(look.radius * (1 << _SHIFT)))
        self._rim = self._radius + (1 << _SHIFT)
        self._line = 2 if look.radius >= 2.5 else 1  # px
        self._edge_inks = [_between(look.inks[one], look.inks[other]) for one, other in look.edges]

    def draw(self, planes: np.ndarray, stretch: PoseStretch, index: int) -> None:
        """Draw the poses of frame *index* of *stretch* onto *planes*, (height * 3 / 2, width) uint8, in place."""
        canvas = _Canvas(self._cv2, planes)
        if self._look.trail > 0:
            self._trails(canvas, stretch, index)
        x, y = stretch.fixed[:, :, index].tolist()
        sure, known = stretch.sure[:, index].tolist(), stretch.known[:, index].tolist()
        for (one, other), color in zip(self._look.edges, self._edge_inks, strict=True):
            if sure[one] and sure[other]:
                canvas.line(x[one], y[one], x[other], y[other], color, self._line)
        for track, color in enumerate(self._look.inks):
            if sure[track]:
                canvas.disk(x[track], y[track], self._radius, self._rim, color)
            elif self._look.hollow and known[track]:
                canvas.ring(x[track], y[track], self._radius, color)
        if self._look.caption:
            canvas.caption(f"frame {stretch.first + index}   {stretch.times[index]:.3f} s")

    def _trails(self, canvas: _Canvas, stretch: PoseStretch, index: int) -> None:
        times = stretch.times
        begin = int(np.searchsorted(times, times[index] - self._look.trail, side="left"))
        if begin >= index:
            return
        # Thinned to the same frames whichever frame is drawn, so that a trail does not tremble.
        step = -(-(index + 1 - begin) // _TRAIL_POINTS)
        number = stretch.first + begin
        chosen = np.append(np.arange(begin + -number % step, index, step), index)
        age = (times[index] - times[chosen[1:]]) / self._look.trail
        level = np.minimum((age * _LEVELS).astype(int), _LEVELS - 1)  # of each piece, by its newer end
        sure = stretch.sure[:, chosen]
        if not sure.any():
            return
        joined = sure[:, 1:] & sure[:, :-1]
        places = stretch.fixed[:, :, chosen]
        layers = []
        for of in range(_LEVELS - 1, -1, -1):  # the newest is drawn last, over the older ones
            lines = [
                (_runs(places[:, track].T, joined[track] & (level == of)), color)
                for track, color in enumerate(self._look.inks)
            ]
            layers.append((_TRAIL_ALPHA * (_LEVELS - of) / _LEVELS, [line for line in lines if line[0]]))
        canvas.layers(layers, places[:, sure], self._line)


def _runs(places: np.ndarray, joined: np.ndarray) -> list[np.ndarray]:
    """Return the lines, each (points, 2), that the pieces between neighbours of *places* (n, 2) make up which *joined* (n - 1) chooses."""
    pieces = np.flatnonzero(joined)
    if not len(pieces):
        return []
    return [places[run[0] : run[-1] + 2] for run in np.split(pieces, np.flatnonzero(np.diff(pieces) > 1) + 1)]


def _between(one: Ink, other: Ink) -> Ink:
    y, u, v = ((a + b) // 2 for a, b in zip(one, other, strict=True))
    return y, u, v


class _Canvas:
    """One picture; positions are in px times ``1 << _SHIFT``, from the center of the first pixel."""

    def __init__(self, cv2: Any, planes: np.ndarray) -> None:
        self._cv2 = cv2
        rows, width = planes.shape
        self.height, self.width = rows * 2 // 3, width
        colors = planes[self.height :].reshape(2, self.height // 2, width // 2)
        self.brightness, self.colors = planes[: self.height], (colors[0], colors[1])

    def disk(self, x: int, y: int, radius: int, rim: int, color: Ink) -> None:
        """Fill a circle, with a dark rim that shows it on a bright ground."""
        circle, smooth = self._cv2.circle, self._cv2.LINE_AA
        circle(self.brightness, (x, y), rim, _DARK, -1, smooth, _SHIFT)
        circle(self.brightness, (x, y), radius, color[0], -1, smooth, _SHIFT)
        at, half = (_halved(x), _halved(y)), max(1, radius // 2)
        circle(self.colors[0], at, half, color[1], -1, smooth, _SHIFT)
        circle(self.colors[1], at, half, color[2], -1, smooth, _SHIFT)

    def ring(self, x: int, y: int, radius: int, color: Ink) -> None:
        circle, smooth = self._cv2.circle, self._cv2.LINE_AA
        circle(self.brightness, (x, y), radius, color[0], 1, smooth, _SHIFT)
        at, half = (_halved(x), _halved(y)), max(1, radius // 2)
        circle(self.colors[0], at, half, color[1], 1, smooth, _SHIFT)
        circle(self.colors[1], at, half, color[2], 1, smooth, _SHIFT)

    def line(self, x0: int, y0: int, x1: int, y1: int, color: Ink, thickness: int) -> None:
        line, smooth = self._cv2.line, self._cv2.LINE_AA
        line(self.brightness, (x0, y0), (x1, y1), color[0], thickness, smooth, _SHIFT)
        one, other = (_halved(x0), _halved(y0)), (_halved(x1), _halved(y1))
        line(self.colors[0], one, other, color[1], 1, smooth, _SHIFT)
        line(self.colors[1], one, other, color[2], 1, smooth, _SHIFT)

    def layers(
        self, layers: Sequence[tuple[float, Sequence[tuple[list[np.ndarray], Ink]]]], around: np.ndarray, thickness: int
    ) -> None:
        """Draw layers of lines, one over the other, each as opaque as it says (0 to 1); *around*, (2, n), are all their points."""
        box = self._box(around, thickness + 2)
        if box is None:
            return
        x0, x1, y0, y1 = box
        planes = [(self.brightness[y0:y1, x0:x1], False)]
        planes += [(plane[y0 // 2 : y1 // 2, x0 // 2 : x1 // 2], True) for plane in self.colors]
        corner = np.array([x0 << _SHIFT, y0 << _SHIFT], np.int32)
        for opacity, lines in layers:
            if not lines:
                continue
            for which, (plane, halved) in enumerate(planes):
                over = plane.copy()
                for runs, color in lines:
                    local = [_halved(run - corner) if halved else run - corner for run in runs]
                    width = 1 if halved else thickness
                    self._cv2.polylines(over, local, False, color[which], width, self._cv2.LINE_AA, _SHIFT)
                self._cv2.addWeighted(over, opacity, plane, 1 - opacity, 0, dst=plane)

    def _box(self, places: np.ndarray, margin: int) -> tuple[int, int, int, int] | None:
        """Return the part of the picture around *places*, (2, n): x0, x1, y0, y1, all even; None where it is empty."""
        low, high = places.min(axis=1) >> _SHIFT, places.max(axis=1) >> _SHIFT
        x0, y0 = (max(0, int(value) - margin) & ~1 for value in low)
        x1, y1 = (
            min(size, (int(value) + margin + 2) & ~1)
            for value, size in zip(high, (self.width, self.height), strict=True)
        )
        return (x0, x1, y0, y1) if x0 < x1 and y0 < y1 else None

    def caption(self, text: str) -> None:
        """Write *text* into the lower left corner, on a darker ground."""
        cv2, font = self._cv2, self._cv2.FONT_HERSHEY_SIMPLEX
        size = min(0.9, max(0.35, self.height / 1200))
        (width, height), base = cv2.getTextSize(text, font, size, 1)
        box_width, box_height = min(self.width, (width + 9) & ~1), min(self.height, (height + base + 5) & ~1)
        ground = self.brightness[-box_height:, :box_width]
        ground >>= 2
        ground += _DARK
        for plane in self.colors:
            plane[-(box_height // 2) :, : box_width // 2] = _GREY
        cv2.putText(ground, text, (4, box_height - base), font, size, _BRIGHT, 1, cv2.LINE_AA)


def _halved(value: Any) -> Any:
    """Return a position on the brightness (or an array of them) as one on the colors, whose pixels lie between two of it."""
    return (value >> 1) - (1 << _SHIFT >> 2)
