"""How points move: pure functions of positions ((frames, 2), float64, px, NaN where there is no point) and a recording's clock.

Derivatives are movement's central differences by the frames' own times. None of them reaches across a gap in time: at the ends of a
stretch they are the difference to the one neighbour there is. A point that is missing makes its neighbours' unknown.
"""

from __future__ import annotations

import numpy as np

from dlc_assets.derived.filter_steps import Clock, present

_STILL = 1e-8  # px/s; less is rounding, which would have a direction


def velocity(clock: Clock, xy: np.ndarray) -> np.ndarray:
    """Return the velocity at each point, (frames, 2), float64, px/s; NaN where the point or a neighbour is missing."""
    if len(xy) < 2:
        return np.full(xy.shape, np.nan)
    import xarray as xr
    from movement.kinematics import compute_velocity

    data = xr.DataArray(xy, dims=("time", "space"), coords={"time": clock.times, "space": ["x", "y"]})
    with np.errstate(divide="ignore", invalid="ignore"):  # at the ends of stretches, where times may stand still
        found: np.ndarray = compute_velocity(data).to_numpy()
    if len(clock.stretches) > 1:
        _difference_at_the_ends(clock, xy, found)
    found[np.abs(found) < _STILL] = 0.0
    found[~present(xy)] = np.nan
    return found


def _difference_at_the_ends(clock: Clock, xy: np.ndarray, found: np.ndarray) -> None:
    edges = np.array([(stretch.start, stretch.stop - 1) for stretch in clock.stretches])
    alone = edges[:, 0] == edges[:, 1]
    found[edges[alone, 0]] = np.nan
    first, last = edges[~alone].T
    for one, other, place in ((first, first + 1, first), (last - 1, last, last)):
        found[place] = (xy[other] - xy[one]) / (clock.times[other] - clock.times[one])[:, None]


def magnitude(vectors: np.ndarray) -> np.ndarray:
    """Return the length of each of *vectors*, (frames,), float64."""
    return np.hypot(vectors[:, 0], vectors[:, 1])


def direction(vectors: np.ndarray) -> np.ndarray:
    """Return where each of *vectors* points, (frames,), float64, degrees in (-180, 180]; NaN where it has no length.

    0 is along x (to the right), 90 along y, which points down: clockwise as the picture is seen.
    """
    angle = np.degrees(np.arctan2(vectors[:, 1], vectors[:, 0]))
    angle[angle == -180.0] = 180.0
    angle[magnitude(vectors) == 0] = np.nan
    return angle


def path_length(clock: Clock, xy: np.ndarray, steps: np.ndarray | None = None) -> np.ndarray:
    """Return the length of the way up to each point, (frames,), float64, px; NaN where there is none.

    Where points are missing, the way is the straight line from the last point before to the first one after; what happened in a gap
    in time is not counted. *steps*, (points - 1, 2), lead from each point that is there to the next one, where that is not their
    difference.
    """
    at = np.flatnonzero(present(xy))
    length = np.full(len(xy), np.nan)
    if len(at):
        lengths = magnitude(np.diff(xy[at], axis=0) if steps is None else steps)
        of = clock.stretch_of[at]
        lengths[of[1:] != of[:-1]] = 0.0
        length[at] = np.concatenate([[0.0], np.cumsum(lengths)])
    return length


class Mean:
    """The mean of vectors of several body parts, (frames, 2), each as far as it is known."""

    def __init__(self, frames: int) -> None:
        self._total, self._count = np.zeros((frames, 2)), np.zeros(frames, dtype=np.int32)

    def add(self, vectors: np.ndarray) -> None:
        """Take in those of one body part, NaN where unknown."""
        there = present(vectors)
        np.add(self._total, vectors, out=self._total, where=there[:, None])
        self._count += there

    def of_at_least(self, count: float) -> np.ndarray:
        """Return the mean where it is of at least so many (and of one), NaN elsewhere."""
        known = self._count >= max(count, 1)
        return np.where(known[:, None], self._total / np.maximum(self._count, 1)[:, None], np.nan)


def durations(clock: Clock, interval: float | None) -> np.ndarray:
    """Return how long each frame lasts, (frames,), float64, s: to the next one, at the end of a stretch as long as is usual there.

    *interval* (s) is for a recording of a single frame, of which times say nothing.
    """
    usual = np.nan_to_num(clock.intervals, nan=interval or 0.0)
    lasts = usual[clock.stretch_of]
    within = clock.stretch_of[1:] == clock.stretch_of[:-1]
    lasts[:-1][within] = np.diff(clock.times)[within]
    return lasts


def entries(inside: np.ndarray) -> int:
    """Return how often (frames,) *inside* goes from False to True; beginning inside is no entry."""
    return int(np.count_nonzero(~inside[:-1] & inside[1:]))
