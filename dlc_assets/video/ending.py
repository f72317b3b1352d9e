"""Looking whether a video's container has its end, without decoding: a file that is still written, or was copied in part, has not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_OPENING, _READING = 10.0, 10.0  # s; a share that takes longer is asked again another time
_NEAR_THE_END = 2.0  # s before the stated end
_MOST_PACKETS = 500  # read after the jump; enough to pass over interleaved sound
_COMPLETE = 0.9  # of the stated duration must lie before the last packet found; sound may go on a little longer


def end_is_readable(path: Path) -> str:
    """Return ``""`` if the video at *path* opens and has packets near its stated end, else why not, as the rest of a sentence.

    An mp4 or mov file gets its index (moov), and an avi file its size, when the recording is closed; an mkv file can be read before
    that, but states a duration only then. Containers without a duration (webm of some recorders, raw streams) are taken once one
    packet can be read.
    """
    import av  # slow to load, and most looks open nothing

    try:
        if why := _riff_not_whole(path):
            return why
        with av.open(str(path), metadata_errors="replace", timeout=(_OPENING, _READING)) as container:
            if not container.streams.video:
                return "it has no video stream"
            return _end_of(container, container.streams.video[0])
    except (av.FFmpegError, OSError) as error:
        return f"it does not open as a video ({getattr(error, 'strerror', None) or type(error).__name__})"


def _riff_not_whole(path: Path) -> str:
    """Return why an avi file is not closed: its first piece is longer than the file, or has no length yet; ``""`` for all others.

    FFmpeg passes over that: it looks how much is there, and takes this as the duration.
    """
    with path.open("rb") as file:
        head = file.read(12)
    if len(head) < 12 or head[:4] != b"RIFF":
        return ""
    stated, there = int.from_bytes(head[4:8], "little") + 8, path.stat().st_size
    if stated == 8:
        return "its header is not filled in"
    return f"it has {there} of the {stated} bytes that its header states" if stated > there else ""


def _end_of(container: Any, stream: Any) -> str:
    start, duration = _span(container, stream)
    if duration is not None and duration > 2 * _NEAR_THE_END:
        container.seek(int((start + duration - _NEAR_THE_END) / stream.time_base), stream=stream)
    last = None
    for count, packet in enumerate(container.demux(stream)):
        at = packet.dts if packet.pts is None else packet.pts
        if packet.size and at is not None:
            last = float(at * stream.time_base)
        elif packet.size and last is None:
            last = start
        if count >= _MOST_PACKETS:
            break
    if last is None:
        return "no picture can be read at its end"
    if duration is not None and last - start < _COMPLETE * duration - _NEAR_THE_END:
        return f"its pictures end at {last - start:.1f} s of the {duration:.1f} s that it states"
    return ""


def _span(container: Any, stream: Any) -> tuple[float, float | None]:
    """Return when the video begins, and how long it is, in s; None where the container does not say."""
    start = float(stream.start_time * stream.time_base) if stream.start_time is not None else 0.0
    if stream.duration:
        return start, float(stream.duration * stream.time_base)
    return start, container.duration / 1_000_000 if container.duration else None
