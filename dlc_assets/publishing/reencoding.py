"""Videos that browsers play: H.264 in mp4, with every frame, its size and its time as before, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

from dlc_assets.lab.errors import InputError
from dlc_assets.lab.files import atomic_path
from dlc_assets.video.probe import decoded_frames, open_video

_PLAYED = {"yuv420p", "yuvj420p"}  # H.264 in other pixel formats plays in few browsers
_QUALITY = "17"  # x264's crf: no difference to be seen
_LEAST_TICKS = 10_000  # a second, as the muxer itself has it
_INSTEAD = "Set `reencode: none` under dandi in lab.yaml to publish the video as it is, or `videos: false` to leave videos out."


def is_playable(video: Path) -> bool:
    """Say whether *video* is H.264 in an mp4 file, as browsers play it."""
    if video.suffix.lower() != ".mp4":
        return False
    with open_video(video) as (container, stream):
        context = stream.codec_context
        return "mp4" in container.format.name and context.name == "h264" and context.pix_fmt in _PLAYED


def encode_h264(video: Path, copy: Path, log: Callable[[str], None]) -> None:
    """Write *video* as H.264 in mp4 to *copy*, without sound, and make sure that no frame, size or time differs.

    Raises
    ------
    InputError
        It cannot be done exactly: an odd width or height, a turned picture, frames without a time or of several sizes, damage,
        or times that mp4 cannot hold. Nothing is left at *copy*.
    """
    log(f"encoding {video} as H.264")
    with atomic_path(copy) as partial:
        frames = _encode(video, partial)
        written = _frames(partial)
        if written != frames:
            raise InputError(
                f"{video} cannot be encoded as H.264 exactly: {len(frames)} frames went in and {len(written)} came out, or their times "
                "or sizes differ. " + _INSTEAD
            )


_Frame = tuple[Fraction, int, int]
"""Its time in s, width and height in px."""


def _encode(video: Path, copy: Path) -> list[_Frame]:
    """Write the copy and return what each frame of the original is."""
    import av

    frames: list[_Frame] = []
    with open_video(video) as (container, stream):
        width, height = stream.codec_context.width, stream.codec_context.height
        if width % 2 or height % 2:
            raise InputError(
                f"{video} is {width}x{height} px: H.264 that browsers play has even sides only. " + _INSTEAD
            )
        base = stream.time_base
        ticks = base.denominator
        while ticks < _LEAST_TICKS:
            ticks *= 2
        # A video's start is kept in the movie's own ticks, which are 1 ms unless stated.
        options = {"movie_timescale": str(ticks), "video_track_timescale": str(ticks), "movflags": "+faststart"}
        with av.open(str(copy), "w", format="mp4", options=options) as output:
            written = output.add_stream("libx264", rate=stream.average_rate or 25, options={"crf": _QUALITY, "bf": "0"})
            written.width, written.height, written.pix_fmt = width, height, "yuv420p"
            written.codec_context.time_base = base
            written.time_base = base
            try:
                for frame in decoded_frames(container, stream):
                    _check(video, frame, len(frames), (width, height))
                    frames.append((frame.pts * frame.time_base, width, height))
                    picture = frame.reformat(format="yuv420p")
                    picture.pts, picture.time_base = frame.pts, frame.time_base
                    picture.pict_type = av.video.frame.PictureType.NONE  # the encoder's to choose
                    output.mux(written.encode(picture))
                output.mux(written.encode(None))
            except av.FFmpegError as error:
                raise InputError(
                    f"{video} cannot be encoded as H.264 exactly: after {len(frames)} frames, {error}. " + _INSTEAD
                ) from error
    return frames


def _check(video: Path, frame: Any, number: int, size: tuple[int, int]) -> None:
    if frame.pts is None:
        raise InputError(f"{video}: frame {number} has no time of its own, which a copy could keep. " + _INSTEAD)
    if frame.rotation:
        raise InputError(f"{video} is turned by its container, which H.264 copies would not keep. " + _INSTEAD)
    if (frame.width, frame.height) != size:
        raise InputError(f"{video}: frame {number} is of another size than the first. " + _INSTEAD)


def _frames(video: Path) -> list[_Frame]:
    with open_video(video) as (container, stream):
        return [(frame.pts * frame.time_base, frame.width, frame.height) for frame in decoded_frames(container, stream)]
