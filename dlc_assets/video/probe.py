"""Probing a video recording: every frame is decoded once, so that count and times are facts, not a header's claim.

Frames are counted as OpenCV's ``VideoCapture.read`` gives them, because DeepLabCut reads videos that way: the
first video stream, upright, up to the first packet that cannot be decoded (OpenCV stops there even where later
packets are whole). Row i of a pose table is therefore frame i here.

OpenCV scales every picture to the size that it read when it opened the file. Where pictures are not all of that size, its
coordinates and those of the pictures differ, so that is told: in `ProbedVideo.resized`, or as a problem.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from dlc_assets.lab.errors import InputError
from dlc_assets.lab.progress import Progress
from dlc_assets.video.findings import About, Finding

_PROGRESS_EVERY = 100
_LARGEST_HEADER_COUNT = 2**31 - 1  # a year at 60 frames/s; beyond it a header is noise
_GRID_SPREAD = 1.1  # ticks: rounding moves a time by half a tick either way, and the fitted rate is not perfect
_TIMING_FLOOR = 2e-4  # s; a spread that no camera clock or pose cares about
_STAMP_TICK = Fraction(1, 1_000_000)  # s; finer than any camera's clock keeps its rate
_GAPS_LISTED = 3
_VARYING = 0.1  # of the usual interval; below it, jitter of a camera's clock
_DEEPEST_REORDERING = 16  # frames that H.264 may hold back, and so the farthest that a time can be astray
_OLDEST_CREATION_YEAR = 1971  # the epochs 1904 and 1970 mean "not set"


@dataclass(frozen=True)
class ProbedVideo:
    """One video file as it decodes.

    Attributes
    ----------
    path, size
        The file and its size in bytes.
    codec, pixel_format
        As FFmpeg names them, e.g. ``h264`` and ``yuv420p``.
    width, height
        Size in px of the upright picture (after the container's rotation).
    rotation
        Degrees clockwise that the container asks players to turn the stored picture: 0, 90, 180 or 270.
    rate
        Frames per second as an exact fraction; of an irregular video the container's average.
    frame_count
        Frames that decode, counted.
    header_frame_count
        Frames that the container claims; None where it claims nothing, or nonsense.
    times
        (frame_count,) float64, s: presentation times relative to the first frame, strictly increasing.
    start_pts
        Presentation time of the first frame in s, on the container's clock.
    regular
        Every frame lies within half a tick of the container's clock (or 0.1 ms) of a grid of 1/`rate`.
    duration
        s: the last time and one frame interval.
    creation_time
        The container's ``creation_time`` in UTC, None where it has none.
    findings
        Each thing that a person should know before trusting the video; `problems` are their sentences.
    stored_times
        Whether each frame has the time that the container gives it; False where some were derived or reordered.
    resized
        (frame, width, height): the first frame whose upright picture has another size than frame 0, and that size in px;
        None where all have one size.
    """

    path: Path
    size: int
    codec: str
    pixel_format: str
    width: int
    height: int
    rotation: int
    rate: Fraction
    frame_count: int
    header_frame_count: int | None
    times: np.ndarray
    start_pts: float
    regular: bool
    duration: float
    creation_time: datetime | None
    findings: tuple[Finding, ...]
    stored_times: bool = True
    resized: tuple[int, int, int] | None = None

    @property
    def problems(self) -> tuple[str, ...]:
        return tuple(finding.says for finding in self.findings)


@dataclass
class _Decoded:
    """What one pass over a stream found."""

    ticks: list[int | None] = field(default_factory=list)
    packets: int = 0
    first: Any = None
    stopped: str = ""
    damaged: list[int] = field(default_factory=list)
    resized: tuple[int, int, int] | None = None  # frame, and the width and height from there on


def probe_video(path: Path, *, on_progress: Progress | None = None) -> ProbedVideo:
    """Decode the video at *path* to its end and return what it holds.

    Raises
    ------
    InputError
        The file is missing, does not open, has no video stream, or none of its frames decodes.
    """
    with open_video(path) as (container, stream):
        header, header_problems = _header_frame_count(stream)
        header_size = (stream.codec_context.width, stream.codec_context.height) if stream.codec_context else (0, 0)
        decoded = _decode(container, stream, header, on_progress)
        if decoded.first is None:
            raise InputError(
                f"{path}: not one frame of this video decodes{decoded.stopped}. Expected at least one frame. "
                "Copy the file again from the recording computer or leave it out of the session."
            )
        tick = Fraction(stream.time_base or Fraction(1, 1000))
        offered = [Fraction(r) for r in (stream.average_rate, stream.guessed_rate, stream.base_rate) if r]
        ticks, problems = _completed_ticks(decoded.ticks, tick, offered)
        rate, regular = _rate(ticks, tick, offered)
        times = (ticks - ticks[0]) * float(tick)
        gaps = _gaps(times)
        rotation, rotation_problems = _rotation(decoded.first)
        width, height = _upright((decoded.first.width, decoded.first.height), rotation)
        return ProbedVideo(
            path=path,
            size=path.stat().st_size,
            codec=stream.codec_context.name,
            pixel_format=decoded.first.format.name,
            width=width,
            height=height,
            rotation=rotation,
            rate=rate,
            frame_count=len(ticks),
            header_frame_count=header,
            times=times,
            start_pts=float(ticks[0] * float(tick)),
            regular=regular and not len(gaps),
            duration=float(times[-1]) + float(1 / rate),
            creation_time=_creation_time(container, stream),
            findings=(
                *_findings("decoding", header_problems),
                *_findings("decoding", _count_problems(decoded, header)),
                *_findings("times", problems),
                *_findings("times", _interval_problems(times, gaps, regular, float(tick))),
                *_findings("other", rotation_problems),
                *_findings("size", _size_problems(decoded, header_size)),
                *_findings("decoding", _damage_problems(decoded)),
                *_findings("other", _picture_problems(container, stream)),
            ),
            stored_times=not problems,
            resized=None if decoded.resized is None else (decoded.resized[0], *_upright(decoded.resized[1:], rotation)),
        )


def timing_of(times: np.ndarray, rate: Fraction) -> tuple[Fraction, bool, list[Finding]]:
    """Judge times that do not come from a video's container.

    Parameters
    ----------
    times
        (frames,) float64, s, strictly increasing.
    rate
        Frames per second that the container states: kept where it explains all of *times*.

    Returns
    -------
    tuple
        Frames per second, the average where they are irregular; whether all frames lie on its grid; gaps, and a rate that varies.
    """
    ticks = (times - times[0]) / float(_STAMP_TICK)
    found, regular = _rate(ticks, _STAMP_TICK, [rate])
    if not regular:
        average = (len(times) - 1) / Fraction(float(times[-1] - times[0]))
        found = average.limit_denominator(1_000_000)
    gaps = _gaps(times)
    problems = _interval_problems(times, gaps, regular, float(_STAMP_TICK))
    return found, regular and not len(gaps), _findings("times", problems)


@contextmanager
def open_video(path: Path) -> Iterator[tuple[Any, Any]]:
    """Open *path* for decoding and give PyAV's container and the stream that OpenCV would read (the first).

    Raises
    ------
    InputError
        The file is missing, does not open as a video, or has no video stream.
    """
    try:
        # Names and comments in a file may be in any encoding, or damaged; they are no reason to refuse its pictures.
        container = av.open(str(path), metadata_errors="replace")
    except FileNotFoundError as error:
        raise InputError(
            f"{path}: no such video file. Check the recording root in lab.yaml and that the disk is mounted."
        ) from error
    except (av.FFmpegError, OSError) as error:
        raise InputError(
            f"{path}: does not open as a video ({_reason(error)}; {_size_words(path)}). The recording may have "
            "been cut off or copied in part: copy it again, repair it with ffmpeg, or leave it out of the session."
        ) from error
    with container:
        if not container.streams.video:
            kinds = ", ".join(sorted({stream.type for stream in container.streams})) or "none"
            raise InputError(
                f"{path}: has no video stream (streams found: {kinds}). Expected a video file; "
                "if this is no recording, name it under ignore in lab.yaml's recordings."
            )
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        yield container, stream


def decoded_frames(container: Any, stream: Any, on_packet: Callable[[Any], None] | None = None) -> Iterator[Any]:
    """Give the frames of *stream* that OpenCV reads, in order of presentation.

    Raises
    ------
    av.FFmpegError
        After the last of them, where the video is damaged.
    """
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except StopIteration:
            return
        except av.FFmpegError:
            yield from stream.decode(None)  # the file cannot be read on, but the decoder still holds whole frames
            raise
        if on_packet is not None:
            on_packet(packet)
        yield from packet.decode()


def _decode(container: Any, stream: Any, header: int | None, on_progress: Progress | None) -> _Decoded:
    """Count and time every frame up to the first packet that cannot be decoded; no picture is converted."""
    found = _Decoded()

    def count(packet: Any) -> None:
        found.packets += bool(packet.size) and not packet.is_discard

    try:
        for frame in decoded_frames(container, stream, count):
            _take(found, frame)
            if on_progress is not None and len(found.ticks) % _PROGRESS_EVERY == 0:
                on_progress(len(found.ticks), header)
    except av.FFmpegError as error:
        found.stopped = f" ({_reason(error)})"
    if on_progress is not None:
        on_progress(len(found.ticks), len(found.ticks))
    return found


def _take(found: _Decoded, frame: Any) -> None:
    index = len(found.ticks)
    if found.first is None:
        found.first = frame
    elif found.resized is None and (frame.width, frame.height) != (found.first.width, found.first.height):
        found.resized = (index, frame.width, frame.height)
    if frame.is_corrupt:
        found.damaged.append(index)
    found.ticks.append(frame.pts)


def _completed_ticks(pts: list[int | None], tick: Fraction, offered: list[Fraction]) -> tuple[np.ndarray, list[str]]:
    """Return (frames,) float64 strictly increasing ticks; what is missing or out of order is derived."""
    ticks = np.array([np.nan if value is None else value for value in pts], dtype=np.float64)
    missing = np.isnan(ticks)
    if _merely_shuffled(ticks):
        return np.sort(ticks), [
            "The container gives the presentation times in coded order, as AVI does; they were sorted."
        ]
    before = np.fmax.accumulate(np.concatenate([[-np.inf], ticks[:-1]]))
    backward = ~missing & ~(ticks > before)
    problems = []
    if missing.any():
        problems.append(f"{_frames(missing)} no presentation time; it was derived from the neighbours and the rate.")
    if backward.any():
        problems.append(
            f"{_frames(backward)} a presentation time that does not come after the frame before; "
            "it was derived from the neighbours and the rate."
        )
    known = np.flatnonzero(~missing & ~backward)
    if len(known) < len(ticks):
        ticks = _filled(ticks, known, float(1 / (offered[0] * tick)) if offered else None)
    return ticks, problems


def _merely_shuffled(ticks: np.ndarray) -> bool:
    """Tell whether the times are all there and only in another order: AVI numbers frames as they were coded.

    Decoders give frames in the order of presentation, so the sorted times are theirs.
    """
    order = np.argsort(ticks, kind="stable")
    farthest = np.abs(order - np.arange(len(ticks))).max()
    return bool(0 < farthest <= _DEEPEST_REORDERING and (np.diff(ticks[order]) > 0).all())


def _filled(ticks: np.ndarray, known: np.ndarray, interval: float | None) -> np.ndarray:
    """Interpolate between the *known* frames, and go on by *interval* (ticks) outside them."""
    if interval is None:
        steps = np.diff(ticks[known]) / np.diff(known)
        interval = float(np.median(steps)) if len(steps) else 1.0
    index = np.arange(len(ticks))
    if len(known) == 0:
        return index * interval
    filled = np.interp(index, known, ticks[known])
    filled += np.minimum(index - known[0], 0) * interval + np.maximum(index - known[-1], 0) * interval
    return filled


def _rate(ticks: np.ndarray, tick: Fraction, offered: list[Fraction]) -> tuple[Fraction, bool]:
    """Return the rate in 1/s and whether every frame lies on its grid.

    The first rate that explains all times is taken: what the container offers, then what the times give.
    Times are rounded to ticks, so intervals of a regular 30/s video in ms are 33 and 34; the grid tells.
    """
    if len(ticks) < 2:
        return (offered[0] if offered else Fraction(1)), True
    span = Fraction(float(ticks[-1] - ticks[0])) * tick
    measured = (len(ticks) - 1) / span
    for rate in (*offered, *_likely_rates(ticks, tick, measured)):
        if rate > 0 and _on_grid(ticks, tick, rate):
            return rate, True
    if offered and 0.5 < offered[0] / measured < 2:
        return offered[0], False
    return measured.limit_denominator(1_000_000), False


def _likely_rates(ticks: np.ndarray, tick: Fraction, measured: Fraction) -> list[Fraction]:
    """Return rates near *measured*: itself if all intervals are equal, those of cameras, a line through all times."""
    intervals = np.diff(ticks)
    exact = [measured] if np.ptp(intervals) == 0 else []
    cameras = [Fraction(round(measured)), Fraction(round(measured * 1001 / 1000) * 1000, 1001)]
    index = np.arange(len(ticks)) - (len(ticks) - 1) / 2
    slope = float(index @ (ticks - ticks.mean()) / (index @ index))
    fitted = 1 / (Fraction(slope) * tick)
    return [*exact, *cameras, fitted.limit_denominator(1001), fitted.limit_denominator(1_000_000)]


def _on_grid(ticks: np.ndarray, tick: Fraction, rate: Fraction) -> bool:
    residual = ticks - np.arange(len(ticks)) * float(1 / (rate * tick))
    spread = float(residual.max() - residual.min())
    return spread <= max(_GRID_SPREAD, _TIMING_FLOOR / float(tick))


def _gaps(times: np.ndarray) -> np.ndarray:
    """Return the frames after which comes more than one and a half usual intervals."""
    intervals = np.diff(times)
    return np.flatnonzero(intervals > 1.5 * np.median(intervals)) if len(intervals) else np.empty(0, dtype=np.intp)


def _interval_problems(times: np.ndarray, gaps: np.ndarray, regular: bool, tick: float) -> list[str]:
    """Name the gaps (the camera or the disk dropped frames), and a rate that varies by more than the rounding to ticks (s)."""
    intervals = np.diff(times)
    if not len(intervals):
        return []
    problems = []
    usual = float(np.median(intervals))
    if len(gaps):
        listed = ", ".join(f"{intervals[g] * 1000:.0f} ms after frame {g}" for g in gaps[:_GAPS_LISTED])
        more = f" and {len(gaps) - _GAPS_LISTED} more" if len(gaps) > _GAPS_LISTED else ""
        lost = int(np.round(intervals[gaps] / usual - 1).sum())
        problems.append(
            f"{_counted(len(gaps), 'gap')} in time where {usual * 1000:.1f} ms is usual: {listed}{more}; "
            f"about {_counted(lost, 'frame')} missing. The times keep the gaps."
        )
    others = np.delete(intervals, gaps)
    if not regular and np.ptp(others) - tick > _VARYING * usual:
        problems.append(
            f"The frame rate varies: {others.min() * 1000:.1f} to {others.max() * 1000:.1f} ms from frame to frame, "
            f"{usual * 1000:.1f} ms as a rule. The times are those of the file, frame by frame."
        )
    return problems


def _count_problems(decoded: _Decoded, header: int | None) -> list[str]:
    count = len(decoded.ticks)
    of = f" of the {header} frames that the header states" if header is not None else " frames"
    if decoded.stopped:
        return [
            f"Decoding stops after {count}{of}; frame {count} is the first bad one{decoded.stopped}. OpenCV, and with it "
            "DeepLabCut, stops there too. Copy the file again, or re-encode it with ffmpeg to get at the frames after it."
        ]
    if header is not None and header > count:
        return [
            f"{count} frames decode, fewer than the {header} that the header states; frame {count} is the first one missing. "
            "The file may have been cut off: copy it again."
        ]
    if header is not None and header < count:
        return [f"{count} frames decode, more than the {header} that the header states."]
    if header is None and decoded.packets > count:
        return [
            f"{count} frames decode from {decoded.packets} packets of video; frame {count} is the first one missing."
        ]
    return []


def _size_problems(decoded: _Decoded, header: tuple[int, int]) -> list[str]:
    """Name sizes other than that which OpenCV gives all pictures, the header's."""
    first = (decoded.first.width, decoded.first.height)
    problems = []
    if decoded.resized is not None:
        index, *size = decoded.resized
        problems.append(
            f"The picture changes its size at frame {index}, from {_px(first)} to {_px(size)}: coordinates would change their "
            "meaning there (OpenCV, and with it DeepLabCut, squeezes all pictures into one size)."
        )
    if all(header) and header != first:
        problems.append(
            f"The pictures are of {_px(first)}, the header states {_px(header)}. OpenCV, and with it DeepLabCut, squeezes them "
            "into the header's size; here they stay as they are, and so do coordinates."
        )
    return problems


def _px(size: Sequence[int]) -> str:
    return f"{size[0]}x{size[1]} px"


def _findings(about: About, sentences: Sequence[str]) -> list[Finding]:
    return [Finding(about, sentence) for sentence in sentences]


def _damage_problems(decoded: _Decoded) -> list[str]:
    if not decoded.damaged:
        return []
    damaged = np.zeros(len(decoded.ticks), dtype=bool)
    damaged[decoded.damaged] = True
    return [f"{_frames(damaged)} damaged data; the decoder patched the picture."]


def _picture_problems(container: Any, stream: Any) -> list[str]:
    problems = []
    aspect = stream.sample_aspect_ratio
    if aspect and aspect != 1:
        problems.append(f"Pixels are not square ({aspect}); coordinates are in stored pixels, as in DeepLabCut.")
    if len(container.streams.video) > 1:
        problems.append(f"{len(container.streams.video)} video streams; the first is used, as by OpenCV.")
    return problems


def _rotation(frame: Any) -> tuple[int, list[str]]:
    """Return clockwise degrees to turn the stored picture upright (PyAV counts counter-clockwise)."""
    clockwise = -frame.rotation % 360
    if clockwise % 90:
        return 0, [f"The container asks for a rotation by {clockwise} degrees; OpenCV ignores it, and so is it here."]
    return clockwise, []


def _upright(size: tuple[int, int], rotation: int) -> tuple[int, int]:
    return (size[1], size[0]) if rotation in (90, 270) else size


def _header_frame_count(stream: Any) -> tuple[int | None, list[str]]:
    """Return what the container states, its own count (mp4, avi) or the tag that mkvmerge writes, and what is wrong with it."""
    stated = str(stream.frames or "")
    if not stated:
        tags = (str(value) for key, value in stream.metadata.items() if re.match(r"NUMBER_OF_FRAMES", key))
        stated = next(tags, "")
    if not re.fullmatch(r"-?[0-9]+", stated) or stated.strip("-0") == "":
        return None, []  # nothing stated
    if 0 < int(stated) <= _LARGEST_HEADER_COUNT:
        return int(stated), []
    return None, [f"The header states {stated} frames, which cannot be; those that decode were counted."]


def _creation_time(container: Any, stream: Any) -> datetime | None:
    text = container.metadata.get("creation_time") or stream.metadata.get("creation_time")
    if not text:
        return None
    try:
        stated = datetime.fromisoformat(text)
    except ValueError:
        return None  # a tag in a vendor's own words is no time that can be trusted
    stated = stated.replace(tzinfo=UTC) if stated.tzinfo is None else stated.astimezone(UTC)
    return stated if stated.year >= _OLDEST_CREATION_YEAR else None


def _frames(which: np.ndarray) -> str:
    index = np.flatnonzero(which)
    if len(index) == 1:
        return f"Frame {index[0]} has"
    return f"{len(index)} of {len(which)} frames (the first is frame {index[0]}) have"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or type(error).__name__


def _size_words(path: Path) -> str:
    return f"{path.stat().st_size} bytes" if path.is_file() else "not a file"
