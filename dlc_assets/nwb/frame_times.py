"""When the frames of a recording were: read block by block, and said as a rate where a rate says it exactly."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from dlc_assets.lab.errors import InputError

# A rate stands for the times only if it gives each of them back as exactly as this.
TOLERANCE_S = 1e-9

Times = npt.NDArray[np.float64]


@dataclass(frozen=True)
class FrameTimes:
    """The times of a recording's frames, s on the session's clock, float64.

    Parameters
    ----------
    frame_count
        How many there are.
    blocks
        Yields them in order, in arrays of any length; can be called again.
    """

    frame_count: int
    blocks: Callable[[], Iterator[Times]]

    @classmethod
    def of(cls, times: npt.ArrayLike | FrameTimes) -> FrameTimes:
        """Return *times* themselves, or those of an array (frames,)."""
        if isinstance(times, FrameTimes):
            return times
        array = np.asarray(times, dtype=np.float64)
        return cls(len(array), lambda: iter((array,)))

    def between(self, first: int, last: int) -> Iterator[Times]:
        """Yield the times of the frames from *first* to the one before *last*."""
        at = 0
        for block in self.blocks():
            low, high = max(first - at, 0), min(last - at, len(block))
            if low < high:
                yield block[low:high]
            at += len(block)
            if at >= last:
                return


@dataclass(frozen=True)
class Timing:
    """When the frames from `first` to the one before `last` were: from `start` (s) on, at `rate` a second (None: no rate says it)."""

    first: int
    last: int
    start: float
    rate: float | None


@dataclass(frozen=True)
class TimingOfRecording:
    """How the times of a recording and of each of its parts are written, and the sha256 (hex) of all of them."""

    whole: Timing
    parts: tuple[Timing, ...]
    digest: str


def timing_of(
    times: FrameTimes, part_frame_counts: Sequence[int], stated_rate: Fraction | None, where: str
) -> TimingOfRecording:
    """Return how the times of a recording are best written: by a rate that gives them back within 1 ns, else one by one.

    Times so large that float64 does not tell nanoseconds apart (seconds since 1970) are given back to their last digit but one.

    Raises
    ------
    InputError
        A time is not a number, or not after the one before; *where* names the recording.
    """
    ends = [int(end) for end in np.cumsum(part_frame_counts)]
    spans = [(0, times.frame_count), *zip([0, *ends[:-1]], ends, strict=True)]
    firsts, lasts, digest = _first_pass(times, spans, where)
    candidates = [[float(stated_rate)] if stated_rate is not None else [] for _ in spans]
    for span, first, last, rates in zip(spans, firsts, lasts, candidates, strict=True):
        frames = span[1] - span[0]
        if frames > 2:  # of two times, any rate would be right
            rates.append((frames - 1) / (last - first))
    good = _exact(times, spans, firsts, candidates)
    timings = [Timing(*span, start=first, rate=rate) for span, first, rate in zip(spans, firsts, good, strict=True)]
    return TimingOfRecording(timings[0], tuple(timings[1:]), digest)


def _first_pass(
    times: FrameTimes, spans: Sequence[tuple[int, int]], where: str
) -> tuple[list[float], list[float], str]:
    """Return the first and the last time of each span, and the digest of all; say which time is wrong."""
    firsts, lasts = [0.0] * len(spans), [0.0] * len(spans)
    digest = hashlib.sha256()
    at, before = 0, -np.inf
    for block in times.blocks():
        _check(block, at, before, where)
        digest.update(np.ascontiguousarray(block, dtype="<f8").data)
        for number, (first, last) in enumerate(spans):
            if at <= first < at + len(block):
                firsts[number] = float(block[first - at])
            if at <= last - 1 < at + len(block):
                lasts[number] = float(block[last - 1 - at])
        at, before = at + len(block), float(block[-1]) if len(block) else before
    return firsts, lasts, digest.hexdigest()


def _check(block: Times, at: int, before: float, where: str) -> None:
    unknown = np.flatnonzero(~np.isfinite(block))
    if unknown.size:
        frame = int(unknown[0])
        raise InputError(f"{where}: the time of frame {at + frame} is {block[frame]}.")
    backwards = np.flatnonzero(np.diff(block, prepend=before) <= 0)
    if backwards.size:
        frame = int(backwards[0])
        earlier = block[frame - 1] if frame else before
        raise InputError(
            f"{where}: times must increase, but frame {at + frame} is at {block[frame]} s after {earlier} s. "
            "Correct its timestamps file."
        )


def _exact(
    times: FrameTimes, spans: Sequence[tuple[int, int]], firsts: Sequence[float], candidates: Sequence[Sequence[float]]
) -> list[float | None]:
    """Return for each span the first of its candidate rates that gives its times back, None where none does."""
    left = [list(rates) for rates in candidates]
    at = 0
    for block in times.blocks():
        tolerance = max(TOLERANCE_S, 2 * float(np.spacing(np.abs(block).max()))) if len(block) else TOLERANCE_S
        for number, (first, last) in enumerate(spans):
            low, high = max(first - at, 0), min(last - at, len(block))
            if low >= high or not left[number]:
                continue
            frames = np.arange(at + low - first, at + high - first)
            left[number] = [
                rate
                for rate in left[number]
                if np.abs(block[low:high] - (firsts[number] + frames / rate)).max() <= tolerance
            ]
        at += len(block)
    return [rates[0] if rates else None for rates in left]
