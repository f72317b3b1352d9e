"""Writing H.264 in mp4 that every browser plays, each frame at its own time.

Pictures come as the planes that the encoder takes (yuv420p), so that none is converted twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import numpy as np

from dlc_assets.lab.errors import EnvironmentProblem, InputError

TICK = Fraction(
    1, 90_000
)  # s; holds 24, 25, 30, 60, 250 and 30000/1001 frames/s exactly, and all other times to 6 microseconds
_ENCODER = "libx264"
# x264's fastest search with the three tools that make its files as small as those of "superfast", in half of that one's processor time;
# "veryfast" would save another third of the size for three times the time. A key frame at least every 60 frames: jumping is quick.
_OPTIONS = {"preset": "ultrafast", "crf": "22", "g": "60", "x264-params": "cabac=1:deblock=1:8x8dct=1"}
_LONGEST_FRAME = 2**31 - 1  # ticks, over six hours; mp4 keeps how long a frame is shown in 32 bits


def ticks_of(times: np.ndarray, speed: float = 1.0) -> np.ndarray:
    """Return when each frame is shown, (frames + 1,) int64 in `TICK`, from 0 on; the last is when the last frame ends.

    Parameters
    ----------
    times
        (frames,) float64, s, strictly increasing, of one frame or more. Gaps stay.
    speed
        How many seconds of *times* are shown in one.

    Raises
    ------
    InputError
        Two frames are so far apart that mp4 cannot say it.
    """
    seconds = (times - times[0]) / speed
    intervals = np.diff(seconds)
    last = float(np.median(intervals)) if len(intervals) else float(1 / 25)
    ticks = np.round(np.append(seconds, seconds[-1] + last) / float(TICK)).astype(np.int64)
    # Times closer than a tick, of a very fast playback, come one tick after the other.
    order = np.arange(len(ticks))
    ticks = np.maximum.accumulate(ticks - order) + order
    longest = int(np.diff(ticks).argmax())
    if ticks[longest + 1] - ticks[longest] > _LONGEST_FRAME:
        raise InputError(
            f"There are {intervals[longest] / 3600:.1f} h between two frames of the video ({times[longest]:.3f} s and "
            f"{times[longest + 1]:.3f} s); mp4 holds no gap longer than {_LONGEST_FRAME * float(TICK) / 3600:.1f} h. Choose a span "
            "on one side of it."
        )
    return ticks


class H264Writer:
    """Writes an mp4 file with its index at the front; to be used in a ``with``, whose end finishes the file.

    Parameters
    ----------
    width, height
        px, even.
    rate
        Frames per second, about: for the encoder's plans only.
    colors
        How the original says that its colors are meant (``colorspace``, ``color_primaries``, ``color_trc``: FFmpeg's numbers).

    Raises
    ------
    EnvironmentProblem
        This build of PyAV has no encoder for H.264.
    """

    def __init__(self, path: Path, width: int, height: int, rate: float, colors: Mapping[str, int]) -> None:
        if _ENCODER not in av.codecs_available:
            raise EnvironmentProblem(
                f"PyAV ({av.__version__}) has no {_ENCODER} here, which writes H.264. Install PyAV from its own wheels "
                "(`pip install --force-reinstall av`), or build it with x264."
            )
        options = {
            "movflags": "+faststart",
            "movie_timescale": str(TICK.denominator),
            "video_track_timescale": str(TICK.denominator),
        }
        self._container = av.open(str(path), "w", format="mp4", options=options)
        self._stream = self._container.add_stream(
            _ENCODER, rate=Fraction(max(rate, 0.01)).limit_denominator(1001), options=dict(_OPTIONS)
        )
        self._stream.width, self._stream.height, self._stream.pix_fmt = width, height, "yuv420p"
        self._stream.time_base = TICK
        context = self._stream.codec_context
        context.time_base = TICK
        context.color_range = av.video.reformatter.ColorRange.MPEG
        for name, value in colors.items():
            setattr(context, name, value)
        self._durations: dict[int, int] = {}  # of the frames that the encoder holds back

    def __enter__(self) -> Self:
        return self

    def write(self, planes: np.ndarray, begins: int, ends: int) -> None:
        """Add a frame that is shown from *begins* to *ends* (`TICK`); *planes*, (height * 3 / 2, width) uint8, is kept until written."""
        # PyAV takes the planes of other heights for shorter ones where it does not copy them: their colors would be shifted.
        uncopied = len(planes) * 2 // 3 % 4 == 0
        from_array = av.VideoFrame.from_numpy_buffer if uncopied else av.VideoFrame.from_ndarray
        frame = from_array(planes, format="yuv420p")
        frame.pts, frame.time_base = begins, TICK
        self._durations[begins] = ends - begins
        self._mux(self._stream.encode(frame))

    def _mux(self, packets: list[Any]) -> None:
        for packet in packets:
            packet.duration = self._durations.pop(packet.pts)
            self._container.mux(packet)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        try:
            if kind is None:
                self._mux(self._stream.encode(None))
                if self._durations:
                    raise EnvironmentProblem(
                        f"The encoder gave {len(self._durations)} frames too few; nothing of the video is kept."
                    )
        finally:
            self._container.close()
