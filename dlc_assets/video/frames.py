"""Single pictures out of a video recording, upright and in colour, for previews and for checks by eye."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from dlc_assets.lab.errors import InputError
from dlc_assets.video.decode import readable_frames, upright_rgb
from dlc_assets.video.probe import ProbedVideo, open_video, probe_video

_STRIP_DECODED = 2_000  # frames; seconds of decoding, for a picture to look at
_WORTH_SEEKING = 120  # frames; nearer ones are reached faster by decoding on


def read_frames(
    path: Path,
    indices: Sequence[int],
    *,
    probed: ProbedVideo | None = None,
    rate: Fraction | None = None,
    frame_count: int | None = None,
) -> dict[int, np.ndarray]:
    """Return frames of the video at *path* by their index, as (height, width, 3) uint8 RGB, upright; see `each_frame`."""
    found = dict(each_frame(path, indices, probed=probed, rate=rate, frame_count=frame_count))
    return {index: found[index] for index in sorted(found)}


def each_frame(
    path: Path,
    indices: Sequence[int],
    *,
    probed: ProbedVideo | None = None,
    rate: Fraction | None = None,
    frame_count: int | None = None,
) -> Iterator[tuple[int, np.ndarray]]:
    """Give frames of the video at *path* one at a time with their index, as (height, width, 3) uint8 RGB, upright.

    With *probed*, whose times say where each frame is, with the *rate* of a video whose frames are known to come steadily, or with the
    *frame_count* that was found by decoding it, where it has as many packets, far frames are sought; else all before are decoded.
    They come in ascending order, but for those that are not met where they are sought: these come last.

    Raises
    ------
    InputError
        The video does not open, or an index is negative or beyond its last frame.
    """
    wanted = sorted(set(indices))
    if wanted and wanted[0] < 0:
        raise InputError(f"{path}: frame {wanted[0]} was asked for; frames count from 0.")
    missing = set(wanted)
    for index, picture in _where_sought(path, wanted, probed, rate, frame_count):
        missing.discard(index)
        yield index, picture
    for index, picture in _decoded(path, sorted(missing)) if missing else ():
        missing.discard(index)
        yield index, picture
    if missing:
        raise InputError(
            f"{path}: frame {min(missing)} was asked for, but the video ends before it. "
            "Probe the video for its true length."
        )


def _where_sought(
    path: Path,
    wanted: Sequence[int],
    probed: ProbedVideo | None,
    rate: Fraction | None,
    frame_count: int | None,
) -> Iterator[tuple[int, np.ndarray]]:
    """Give those of the *wanted* frames that are met by seeking, if what is known of the video allows it."""
    if probed is not None and probed.stored_times:
        yield from _sought(path, [index for index in wanted if index < probed.frame_count], _times_of(probed))
    elif not wanted or wanted[-1] <= _WORTH_SEEKING:
        return
    elif rate is not None:
        yield from _sought(path, wanted, _steady_times(path, rate), slack=0.25 / float(rate))
    elif frame_count is not None:
        times = _packet_times(path)
        if len(times) == frame_count:
            yield from _sought(path, [index for index in wanted if index < frame_count], times.__getitem__)


def frame_strip(path: Path, count: int = 5, height: int = 120, *, frames: int | None = None) -> np.ndarray:
    """Return up to *count* frames spread over the video side by side, as (height, total width, 3) uint8 RGB.

    They are sought by the length that the container states, so that a picture of a long video takes no second decoding of it all.
    Where that cannot be done, they are of the first `_STRIP_DECODED` of its *frames* (None: counted here).
    """
    from PIL import Image

    pictures = _spread(path, count)
    if not pictures:
        until = min(frames or probe_video(path).frame_count, _STRIP_DECODED)
        found = read_frames(path, sorted({int(middle) for middle in (np.arange(count) + 0.5) / count * until}))
        pictures = [found[index] for index in sorted(found)]
    width = max(1, round(height * pictures[0].shape[1] / pictures[0].shape[0]))
    small = [
        np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS)) for picture in pictures
    ]
    return np.concatenate(small, axis=1)


def _spread(path: Path, count: int) -> list[np.ndarray]:
    """Return frames about evenly spread; none where the container states no length, is damaged, or cannot be sought in."""
    found: dict[int, np.ndarray] = {}
    with open_video(path) as (container, stream):
        if not container.duration or not stream.average_rate:
            return []
        tick = float(stream.time_base or 1e-3)
        interval = float(1 / stream.average_rate)
        begin, span = (container.start_time or 0) / av.time_base, container.duration / av.time_base
        for middle in (np.arange(count) + 0.5) / count:
            target = begin + middle * span
            try:
                container.seek(int(target / tick), stream=stream, backward=True)
                frames = _whole_from_here(readable_frames(container, stream))
                frame = next((f for f in frames if f.pts is not None and f.pts * tick > target - interval), None)
            except av.FFmpegError:
                return []
            if frame is None:
                return []
            found[frame.pts] = upright_rgb(frame)
    return [found[pts] for pts in sorted(found)]


def _decoded(path: Path, wanted: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
    """Decode from the start up to the last wanted frame."""
    chosen = set(wanted)
    with open_video(path) as (container, stream):
        for index, frame in enumerate(readable_frames(container, stream)):
            if index in chosen:
                yield index, upright_rgb(frame)
            if index >= wanted[-1]:
                break


def _times_of(probed: ProbedVideo) -> Callable[[int], float]:
    return lambda index: probed.start_pts + float(probed.times[index])


def _steady_times(path: Path, rate: Fraction) -> Callable[[int], float]:
    with open_video(path) as (container, stream):
        first = next(readable_frames(container, stream), None)
        start = 0.0 if first is None or first.pts is None else first.pts * float(stream.time_base or 1e-3)
    return lambda index: start + float(index / rate)


def _packet_times(path: Path) -> list[float]:
    """Return the presentation times (s) of all packets in order, read without decoding them."""
    with open_video(path) as (container, stream):
        tick = float(stream.time_base or 1e-3)
        try:
            return sorted(packet.pts * tick for packet in container.demux(stream) if packet.pts is not None)
        except av.FFmpegError:
            return []  # a damaged file: its frames are counted by decoding


def _sought(
    path: Path, wanted: Sequence[int], time_of: Callable[[int], float], *, slack: float = 0.0
) -> Iterator[tuple[int, np.ndarray]]:
    """Seek to each wanted frame by its presentation time (s); what is not met there (within *slack* s, or a tick's half) is left out."""
    with open_video(path) as (container, stream):
        tick = float(stream.time_base or 1e-3)
        frames, at = readable_frames(container, stream), -1
        near = max(0.5, slack / tick)
        for index in wanted:
            target = time_of(index) / tick
            if index - at > _WORTH_SEEKING:
                container.seek(int(target), stream=stream, backward=True)
                frames = _whole_from_here(readable_frames(container, stream))
            at = index
            reached = next((f for f in frames if f.pts is not None and f.pts > target - near), None)
            if reached is not None and reached.pts < target + near:
                yield index, upright_rgb(reached)


def _whole_from_here(frames: Iterator[Any]) -> Iterator[Any]:
    """Give the frames after a seek; none where the first is patched: it needs pictures before it, and what follows is built on it.

    The key frames of some H.264 encoders are such, so that a player shows a grey or green picture for a while.
    """
    first = next(frames, None)
    if first is not None and not first.is_corrupt:
        yield first
        yield from frames
