"""The frames of a stretch of a video as the planes that video encoders take: brightness, and the two colors at half the size.

Most videos are stored like this, so that a frame is copied and never converted; what is turned, of odd size or stored otherwise
goes through a conversion. Colors stay those of the original.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from dlc_assets.lab.errors import InputError
from dlc_assets.video.decode import Crop, readable_frames, upright_rgb
from dlc_assets.video.probe import open_video

_WORTH_SEEKING = 250  # frames; nearer ones are reached by decoding on
_ASTRAY = 0.25  # of a frame's interval
_COLORS = ("colorspace", "color_primaries", "color_trc")


@dataclass(frozen=True)
class PictureShape:
    """Which part of the upright frame is shown, and how large.

    Attributes
    ----------
    crop
        x0, x1, y0, y1 in px of the full upright frame; its sides are even where they are not scaled.
    width, height
        px of the picture, even.
    """

    crop: Crop
    width: int
    height: int

    @classmethod
    def of(cls, crop: Crop, width: int | None = None) -> PictureShape:
        """Return *crop* at *width* px (None: as it is; an odd last column or row is left out, since H.264 takes none)."""
        x0, x1, y0, y1 = crop
        if width is None or width == x1 - x0:
            x1, y1 = x1 - (x1 - x0) % 2, y1 - (y1 - y0) % 2
            return cls((x0, x1, y0, y1), x1 - x0, y1 - y0)
        height = max(2, 2 * round((y1 - y0) * width / (x1 - x0) / 2))
        return cls(crop, width, height)

    @property
    def scale(self) -> tuple[float, float]:
        """How many px of the picture one px of the frame is, across and down (which differ by the rounding to even sides)."""
        x0, x1, y0, y1 = self.crop
        return self.width / (x1 - x0), self.height / (y1 - y0)

    def shown(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return where positions of the full upright frame are in the picture: px, the center of the first pixel is 0."""
        across, down = self.scale
        return (x - self.crop[0] + 0.5) * across - 0.5, (y - self.crop[2] + 0.5) * down - 0.5


def color_tags(path: Path) -> dict[str, int]:
    """Return how the video at *path* says that its colors are meant: FFmpeg's numbers by name, as `H264Writer` takes them."""
    with open_video(path) as (container, stream):
        frame = next(readable_frames(container, stream), None)
    return {} if frame is None else {name: int(getattr(frame, name)) for name in _COLORS}


def planes_of_stretch(
    path: Path, first: int, last: int, shape: PictureShape, *, size: tuple[int, int], rate: Fraction | None = None
) -> Iterator[np.ndarray]:
    """Give the frames *first* up to, not including, *last* of the video at *path*.

    Parameters
    ----------
    size
        Width and height of the full upright frame, px, as it was probed.
    rate
        Frames per second of a video whose frames are known to come steadily: a far first frame is then sought. None: all before it
        are decoded.

    Yields
    ------
    numpy.ndarray
        (height * 3 / 2, width) uint8, C-contiguous, one's own to write into: brightness, then the two colors.

    Raises
    ------
    InputError
        The video does not open, its pictures are of another size than *size*, or it ends before *last*.
    """
    reached = first
    for number, frame in _numbered(path, first, rate):
        upright = (frame.height, frame.width) if frame.rotation % 180 else (frame.width, frame.height)
        if upright != size:
            raise InputError(
                f"{path}: frame {number} is of {upright[0]}x{upright[1]} px, where {size[0]}x{size[1]} px were probed. "
                "Materialize session_recordings for this session again, then this."
            )
        yield _planes(frame, shape)
        reached = number + 1
        if reached == last:
            return
    raise InputError(
        f"{path} had at least {last} frames when it was probed, but only {reached} were decoded now. Is the disk well? "
        "Materialize session_recordings for this session again, then this."
    )


def _planes(frame: Any, shape: PictureShape) -> np.ndarray:
    stored = (0, frame.width, 0, frame.height)
    if frame.rotation % 360 == 0 and shape.crop == stored:
        return np.ascontiguousarray(_as_yuv(frame, shape).to_ndarray())
    x0, x1, y0, y1 = shape.crop
    part = np.ascontiguousarray(upright_rgb(frame)[y0:y1, x0:x1])
    return np.ascontiguousarray(_as_yuv(av.VideoFrame.from_ndarray(part, format="rgb24"), shape).to_ndarray())


def _as_yuv(frame: Any, shape: PictureShape) -> Any:
    """Return *frame* as yuv420p of the shape's size, in the range of values that players take for granted."""
    limited = frame.color_range != av.video.reformatter.ColorRange.JPEG
    same = (frame.width, frame.height) == (shape.width, shape.height)
    if same and limited and frame.format.name == "yuv420p":
        return frame
    smaller = shape.width < frame.width
    return frame.reformat(
        width=shape.width,
        height=shape.height,
        format="yuv420p",
        dst_color_range="MPEG",
        interpolation="BILINEAR" if same else "AREA" if smaller else "BICUBIC",
    )


def _numbered(path: Path, first: int, rate: Fraction | None) -> Iterator[tuple[int, Any]]:
    """Give the decoded frames from number *first* on, with their numbers."""
    if rate is not None and first >= _WORTH_SEEKING:
        sought = _sought(path, first, rate)
        beginning = next(sought, None)
        if beginning is not None:
            yield first, beginning
            yield from enumerate(sought, start=first + 1)
            return
    with open_video(path) as (container, stream):
        for number, frame in enumerate(readable_frames(container, stream)):
            if number >= first:
                yield number, frame


def _sought(path: Path, first: int, rate: Fraction) -> Iterator[Any]:
    """Give the frames from number *first* on, found by their times; none where that one cannot be reached so, or not whole.

    Raises
    ------
    InputError
        A frame does not come at its time: which numbers those after it have is not certain.
    """
    with open_video(path) as (container, stream):
        beginning = next(readable_frames(container, stream), None)
        if beginning is None or beginning.pts is None:
            return
        ticks = 1 / (rate * Fraction(stream.time_base or Fraction(1, 1000)))  # a frame's
        container.seek(beginning.pts + int(first * ticks), stream=stream, backward=True)
        expected = first
        for count, frame in enumerate(readable_frames(container, stream)):
            if frame.pts is None or (count == 0 and frame.is_corrupt):
                return  # what follows a patched picture is built on it
            number = float((frame.pts - beginning.pts) / ticks)
            if expected == first and number < first - _ASTRAY:
                continue
            if abs(number - expected) > _ASTRAY:
                if expected == first:
                    return
                raise InputError(
                    f"{path}: frame {expected} was expected {expected / float(rate):.3f} s after the first, and one came at "
                    f"{number / float(rate):.3f} s, though the video was probed as steady. Materialize session_recordings for this "
                    "session again, then this."
                )
            yield frame
            expected += 1
