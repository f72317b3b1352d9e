"""Stretches of a recording without a gap in time: windows and interpolation stay within one."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

GAP = 1.5  # usual intervals; a longer one is a gap, as it is when a recording is probed
STEADY = 0.2  # share of the usual interval that intervals of a steady stretch differ from it at most
ROUNDING = 0.25  # share of an interval that times may be rounded by; never as much as a frame
_AROUND = 31  # intervals whose median is the usual one there: a rate may change within a recording


@dataclass(frozen=True)
class Stretch:
    """Frames from *start* up to, not including, *stop* that follow each other without a gap.

    *interval* is the usual time from one to the next, s (that of the recording for a single frame, NaN where nobody knows it);
    *steady* says whether all intervals are about that long.
    """

    start: int
    stop: int
    interval: float
    steady: bool

    @property
    def frames(self) -> int:
        """How many frames it has."""
        return self.stop - self.start

    def half(self, window: float) -> int:
        """Return how many frames on each side of one lie within half of *window* (s) of it, in a steady stretch."""
        if not self.interval > 0:  # a single frame, of which nobody knows the rate
            return 1
        return int(window / 2 / self.interval + ROUNDING)


def time_stretches(times: np.ndarray) -> list[Stretch]:
    """Return the stretches of *times* ((frames,), float64, s), in order; together they hold every frame.

    A gap is an interval of more than `GAP` times the usual one around it, or one that does not lead forward in time.
    """
    from scipy.ndimage import median_filter

    times = np.asarray(times, dtype=np.float64)
    intervals = np.diff(times)
    if not len(intervals):
        return [Stretch(0, len(times), np.nan, True)] if len(times) else []
    overall = float(np.median(intervals))
    # Mirrored at the ends: repeated, an interval that comes first or last would be the usual one there, however long it is.
    usual = median_filter(intervals, size=_AROUND, mode="mirror") if len(intervals) > _AROUND else overall
    breaks = np.flatnonzero((intervals > GAP * usual) | (intervals <= 0)) + 1
    edges = [0, *breaks.tolist(), len(times)]
    stretches = []
    for start, stop in pairwise(edges):
        within = intervals[start : stop - 1]
        if not len(within):
            stretches.append(Stretch(start, stop, overall, True))
            continue
        interval = float(np.median(within))
        steady = bool(np.abs(within - interval).max() <= STEADY * interval)
        stretches.append(Stretch(start, stop, interval, steady))
    return stretches
