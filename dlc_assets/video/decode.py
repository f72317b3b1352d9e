"""Every frame of a video, one after another, upright and in colour: what a network sees.

The pictures equal those that OpenCV, and with it DeepLabCut, reads from the same file, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np

from dlc_assets.lab.errors import InputError, SettingsError
from dlc_assets.video.probe import decoded_frames, open_video

Crop = tuple[int, int, int, int]
"""x0, x1, y0, y1 in px of the full upright frame; x1 and y1 are the first column and row left out."""


def decode_video(path: Path, *, crop: Crop | None = None, first: int = 0) -> Iterator[np.ndarray]:
    """Give the frames of the video at *path* from frame *first* on, up to the first one that cannot be decoded.

    Frames before *first* are decoded too (their number is certain then), but not turned into pictures.

    Parameters
    ----------
    crop
        The part of the upright frame to give.

    Yields
    ------
    numpy.ndarray
        (height, width, 3) uint8 RGB, C-contiguous.

    Raises
    ------
    InputError
        The video does not open, or the picture changes its size in the middle: its coordinates would change meaning.
    SettingsError
        *crop* does not lie in the frame.
    """
    size: tuple[int, int] | None = None
    with open_video(path) as (container, stream):
        for number, frame in enumerate(readable_frames(container, stream)):
            if size is None:
                size = (frame.width, frame.height)
            elif size != (frame.width, frame.height):
                raise InputError(
                    f"{path}: the picture is {size[0]}x{size[1]} px up to frame {number - 1} and {frame.width}x"
                    f"{frame.height} px from there on; coordinates would change their meaning in the middle. "
                    "Split the video there, or encode it again in one size."
                )
            if number < first:
                continue
            picture = upright_rgb(frame)
            if crop is not None:
                check_crop(path, crop, picture.shape[1], picture.shape[0])
                picture = np.ascontiguousarray(picture[crop[2] : crop[3], crop[0] : crop[1]])
            yield picture


def check_crop(video: Path, crop: Crop, width: int, height: int) -> None:
    """Raise a SettingsError where *crop* does not lie in a frame of *width* x *height* px."""
    x0, x1, y0, y1 = crop
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise SettingsError(
            f"The crop x: [{x0}, {x1}], y: [{y0}, {y1}] does not lie in the frame of {video}, which is {width} px wide"
            f" and {height} px high. Correct it in the setup of this camera, or in session.yaml."
        )


def upright_rgb(frame: Any) -> np.ndarray:
    """Return a decoded PyAV frame as (height, width, 3) uint8 RGB, turned as the container asks."""
    picture = frame.to_ndarray(format="rgb24")
    turns, rest = divmod(frame.rotation % 360, 90)  # counter-clockwise, as numpy's
    return picture if rest else np.ascontiguousarray(np.rot90(picture, turns))


def readable_frames(container: Any, stream: Any) -> Iterator[Any]:
    """Give the decoded frames of *stream* up to where a damaged video cannot be read on."""
    try:
        yield from decoded_frames(container, stream)
    except av.FFmpegError:
        return  # the probe says how far a damaged video goes
