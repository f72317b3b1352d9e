"""The steps that filter one track: pure functions of its points and their times. None of them reaches across a gap in time.

movement and scipy do the numbers where time stamps are steady. Their windows count frames, so that stretches between gaps are laid
side by side with enough between them that no window holds frames of two; where the rate varies, windows go by the times themselves.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from dlc_assets.derived.region_geometry import signed_distance
from dlc_assets.derived.time_stretches import ROUNDING, Stretch, time_stretches
from dlc_assets.lab.regions import Region

if TYPE_CHECKING:
    import xarray as xr

_BLOCK = 1 << 20  # numbers that are worked on at once, of windows or of geometry
_TOLERANCE = 1e-9  # of a speed that is just allowed


@dataclass(frozen=True)
class Clock:
    """The times of a recording's frames ((frames,), float64, s), and what windows need of them; one serves all tracks."""

    times: np.ndarray

    @cached_property
    def stretches(self) -> list[Stretch]:
        """Where there is no gap in time."""
        return time_stretches(self.times)

    @cached_property
    def stretch_of(self) -> np.ndarray:
        """(frames,), intp: the number of each frame's stretch."""
        return np.repeat(np.arange(len(self.stretches)), [stretch.frames for stretch in self.stretches])

    @cached_property
    def intervals(self) -> np.ndarray:
        """(stretches,), float64, s: the usual time from one frame to the next."""
        return np.array([stretch.interval for stretch in self.stretches])


@dataclass(frozen=True)
class Left:
    """What a step left as it was, as its window did not fit there: so many points in so many places."""

    points: int = 0
    places: int = 0

    def __add__(self, other: Left) -> Left:
        return Left(self.points + other.points, self.places + other.places)


@dataclass(frozen=True)
class Smoothed:
    """Points after a window went over them, and those that it left out: stretches that are shorter than it, and all frames of
    stretches where it holds no frame but the one itself (for a polynomial: no more frames than its order)."""

    xy: np.ndarray
    short: Left = field(default_factory=Left)
    narrow: Left = field(default_factory=Left)


def present(xy: np.ndarray) -> np.ndarray:
    """Say of each frame of *xy* (frames, 2) whether there is a point: (frames,) bool."""
    return ~(np.isnan(xy[:, 0]) | np.isnan(xy[:, 1]))


def mask_confidence(xy: np.ndarray, likelihood: np.ndarray, below: float) -> np.ndarray:
    """Return *xy* (frames, 2) without the points whose *likelihood* (frames,) is below *below*, or unknown."""
    from movement.filtering import filter_by_confidence

    return filter_by_confidence(_data(xy), _data(likelihood), threshold=below).to_numpy()


def remove_jumps(clock: Clock, xy: np.ndarray, px_per_s: float) -> np.ndarray:
    """Return *xy* without the points that the body part could not have reached, at *px_per_s*, from the last one that is kept.

    The longest sequence of points that can follow each other is kept; from it the rule goes forward and backward, so that a
    wrong point at the beginning takes no right ones with it. Where the body part really is elsewhere, points count again as soon as
    it could have got there. No two successive points that are left are faster apart than *px_per_s*, by their own times.
    """
    at = np.flatnonzero(present(xy))
    if len(at) < 2:
        return xy
    times, points = clock.times[at], xy[at]
    follows = _reachable(points[:-1], points[1:], np.diff(times), px_per_s)
    if follows.all():
        return xy
    starts = np.concatenate([[0], np.flatnonzero(~follows) + 1])
    stops = np.concatenate([starts[1:], [len(at)]])
    longest = int(np.argmax(stops - starts))
    kept = np.zeros(len(at), dtype=bool)
    kept[starts[longest] : stops[longest]] = True
    _keep_reachable(times, points, px_per_s, kept, int(stops[longest]) - 1, starts, stops)
    # Backward: the same on the sequence turned around.
    count = len(at)
    turned_starts, turned_stops = (count - stops)[::-1], (count - starts)[::-1]
    first = count - 1 - int(starts[longest])
    _keep_reachable(-times[::-1], points[::-1], px_per_s, kept[::-1], first, turned_starts, turned_stops)
    cleaned = xy.copy()
    cleaned[at[~kept]] = np.nan
    return cleaned


def _reachable(one: np.ndarray, others: np.ndarray, seconds: np.ndarray, px_per_s: float) -> np.ndarray:
    distance = np.hypot(*(others - one).T)
    return distance <= px_per_s * seconds * (1 + _TOLERANCE)


def _keep_reachable(
    times: np.ndarray,
    points: np.ndarray,
    px_per_s: float,
    kept: np.ndarray,
    last: int,
    starts: np.ndarray,
    stops: np.ndarray,
) -> None:
    """Mark in *kept* what can be reached after the point *last*, the last one that is kept.

    *starts* and *stops* bound the sequences whose points follow each other: once one point of such is reached, all after it are.
    """
    step = 64
    at = last + 1
    while at < len(times):
        until = min(at + step, len(times))
        reached = _reachable(points[last], points[at:until], times[at:until] - times[last], px_per_s)
        found = int(np.argmax(reached))
        if not reached[found]:
            at, step = until, min(2 * step, _BLOCK)
            continue
        first = at + found
        stop = int(stops[np.searchsorted(starts, first, side="right") - 1])
        kept[first:stop] = True
        last, at, step = stop - 1, stop, 64


def interpolate(clock: Clock, xy: np.ndarray, max_gap: float) -> np.ndarray:
    """Return *xy* with straight lines, by the frames' own times, where points are missing for at most *max_gap* s.

    The time counts from the last point before to the first one after, both in one stretch: what lies at the beginning, at the
    end or beside a gap in time is not made up. (movement's own function counts frames, and takes them as equally far apart.)
    """
    at = np.flatnonzero(present(xy))
    before, after = at[:-1], at[1:]
    of = clock.stretch_of
    allowed = max_gap + ROUNDING * np.nan_to_num(clock.intervals[of[before]])
    short = (after - before > 1) & (of[before] == of[after]) & (clock.times[after] - clock.times[before] <= allowed)
    if not short.any():
        return xy
    change = np.zeros(len(xy) + 1, dtype=np.int8)
    change[before[short] + 1] += 1
    change[after[short]] -= 1
    fill = np.cumsum(change[:-1]) > 0
    filled = xy.copy()
    for column in range(2):
        filled[fill, column] = np.interp(clock.times[fill], clock.times[at], xy[at, column])
    return filled


def median(clock: Clock, xy: np.ndarray, window: float) -> Smoothed:
    """Return the median of the points within half of *window* (s) of each point; missing points stay missing.

    At the ends of a stretch its points are mirrored. Stretches shorter than the window are left as they are.
    """
    there = present(xy)
    smoothed = xy.copy()
    short, narrow = Left(), Left()
    steady: dict[int, list[Stretch]] = {}
    for stretch in clock.stretches:
        points = int(np.count_nonzero(there[stretch.start : stretch.stop]))
        half = stretch.half(window)
        if not points:
            continue
        if half == 0:
            narrow += Left(points, 1)
        elif _too_short(clock, stretch, half, window):
            short += Left(points, 1)
        elif stretch.steady:
            steady.setdefault(half, []).append(stretch)
        else:
            frames = np.arange(stretch.start, stretch.stop)[there[stretch.start : stretch.stop]]
            smoothed[frames] = _median_by_time(clock.times, xy, frames, window, stretch)
    for half, stretches in steady.items():
        _median_by_frames(xy, smoothed, half, stretches)
    smoothed[~there] = np.nan
    return Smoothed(smoothed, short, narrow)


def _too_short(clock: Clock, stretch: Stretch, half: int, window: float) -> bool:
    if stretch.steady:
        return stretch.frames < 2 * half + 1
    return bool(clock.times[stretch.stop - 1] - clock.times[stretch.start] < window - ROUNDING * stretch.interval)


def _median_by_frames(xy: np.ndarray, smoothed: np.ndarray, half: int, stretches: Sequence[Stretch]) -> None:
    import xarray as xr
    from movement.filtering import rolling_filter

    # Each stretch with its own mirror image on both sides: no window around one of its frames reaches another stretch.
    pieces, places, at = [], [], 0
    for stretch in stretches:
        pieces += [
            np.arange(stretch.start + half, stretch.start, -1),
            np.arange(stretch.start, stretch.stop),
            np.arange(stretch.stop - 2, stretch.stop - 2 - half, -1),
        ]
        places.append(np.arange(at + half, at + half + stretch.frames))
        at += stretch.frames + 2 * half
    with xr.set_options(use_numbagg=False):  # which first compiles itself, for longer than all this takes
        rolled = rolling_filter(
            _data(xy[np.concatenate(pieces)]), window=2 * half + 1, statistic="median", min_periods=1
        ).to_numpy()
    frames = np.concatenate([np.arange(stretch.start, stretch.stop) for stretch in stretches])
    smoothed[frames] = rolled[np.concatenate(places)]


def _median_by_time(
    times: np.ndarray, xy: np.ndarray, frames: np.ndarray, window: float, stretch: Stretch
) -> np.ndarray:
    reach = window / 2 + ROUNDING * stretch.interval
    first = np.maximum(np.searchsorted(times, times[frames] - reach, side="left"), stretch.start)
    last = np.minimum(np.searchsorted(times, times[frames] + reach, side="right"), stretch.stop)
    found = np.empty((len(frames), 2))
    for block, held, within in _windows(first, last):
        values = np.where(within[..., None], xy[held], np.nan)
        found[block] = np.nanmedian(values, axis=1)
    return found


def _windows(first: np.ndarray, last: np.ndarray) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Yield windows from *first* up to, not including, *last*, block by block: the block, (windows, longest) frames, and which
    of these belong to the window (the others repeat its last)."""
    longest = int((last - first).max(initial=1))
    step = max(1, _BLOCK // longest)
    for start in range(0, len(first), step):
        block = slice(start, min(start + step, len(first)))
        held = first[block, None] + np.arange(longest)
        within = held < last[block, None]
        yield block, np.where(within, held, last[block, None] - 1), within


def savgol(clock: Clock, xy: np.ndarray, window: float, order: int) -> Smoothed:
    """Return *xy* smoothed with the polynomial of *order* that fits best to the points of each *window* (s): Savitzky-Golay.

    A window goes over points that follow each other without a missing one. At their ends, the polynomial of the first or
    last whole window counts, as with scipy's ``mode="interp"``. Sequences shorter than the window are left as they are.
    """
    there = present(xy)
    smoothed = xy.copy()
    short, narrow = Left(), Left()
    steady: dict[int, list[tuple[int, int]]] = {}
    for start, stop in _sequences(there, clock.stretch_of):
        stretch = clock.stretches[clock.stretch_of[start]]
        half = stretch.half(window)
        if 2 * half + 1 <= order + 1:  # as many numbers as points: the polynomial goes through all of them
            narrow += Left(stop - start, 1)
        elif stretch.steady:
            if stop - start < 2 * half + 1:
                short += Left(stop - start, 1)
            else:
                steady.setdefault(half, []).append((start, stop))
        elif clock.times[stop - 1] - clock.times[start] < window - ROUNDING * stretch.interval:
            short += Left(stop - start, 1)
        else:
            _polynomials_by_time(clock.times, xy, smoothed, start, stop, window, order)
    for half, sequences in steady.items():
        _polynomials_by_frames(xy, smoothed, half, order, sequences)
    return Smoothed(smoothed, short, narrow)


def _sequences(there: np.ndarray, stretch_of: np.ndarray) -> list[tuple[int, int]]:
    """Return first and last (left out) frame of each sequence of points without a missing one, within a stretch."""
    at = np.flatnonzero(there)
    if not len(at):
        return []
    breaks = np.flatnonzero((np.diff(at) > 1) | (np.diff(stretch_of[at]) > 0)) + 1
    return [(int(piece[0]), int(piece[-1]) + 1) for piece in np.split(at, breaks)]


def _polynomials_by_frames(
    xy: np.ndarray, smoothed: np.ndarray, half: int, order: int, sequences: Sequence[tuple[int, int]]
) -> None:
    from movement.filtering import savgol_filter
    from scipy.signal import savgol_coeffs

    width = 2 * half + 1
    # Missing points between the sequences make every window that would hold points of two a missing one.
    missing = np.full((half, 2), np.nan)
    laid_out = np.concatenate([piece for start, stop in sequences for piece in (missing, xy[start:stop])] + [missing])
    inner = savgol_filter(_data(laid_out), window=width, polyorder=order, mode="mirror").to_numpy()
    weights = np.stack([savgol_coeffs(width, order, pos=place, use="dot") for place in range(width)])
    at = half
    for start, stop in sequences:
        smoothed[start + half : stop - half] = inner[at + half : at + stop - start - half]
        smoothed[start : start + half] = weights[:half] @ xy[start : start + width]
        smoothed[stop - half : stop] = weights[-half:] @ xy[stop - width : stop]
        at += stop - start + half


def _polynomials_by_time(
    times: np.ndarray, xy: np.ndarray, smoothed: np.ndarray, start: int, stop: int, window: float, order: int
) -> None:
    here = times[start:stop]
    slack = (window - (here[-1] - here[0])) / 2  # a window that is as long as the sequence may be longer by rounding
    centre = (
        np.clip(here, here[0] + window / 2, here[-1] - window / 2) if slack < 0 else np.full(len(here), here.mean())
    )
    reach = window / 2 * (1 + _TOLERANCE) + max(slack, 0.0)
    first = np.searchsorted(here, centre - reach, side="left")
    last = np.searchsorted(here, centre + reach, side="right")
    for block, held, within in _windows(first, last):
        enough = within.sum(axis=1) > order + 1
        offset = (here[held] - here[block, None]) / window
        powers = np.where(within, 1.0, 0.0)[..., None] * offset[..., None] ** np.arange(order + 1)
        points = xy[start:stop][held]
        normal = np.einsum("wki,wkj->wij", powers, powers)
        wanted = np.einsum("wki,wkc->wic", powers, points)
        solved = np.linalg.solve(np.where(enough[:, None, None], normal, np.eye(order + 1)), wanted)
        chosen = np.arange(start, stop)[block][enough]
        smoothed[chosen] = solved[enough, 0]


def mask_outside(xy: np.ndarray, arena: Region, margin: float) -> np.ndarray:
    """Return *xy* without the points that lie more than *margin* px outside *arena*."""
    cleaned = xy.copy()
    for start in range(0, len(xy), _BLOCK // 8):
        block = cleaned[start : start + _BLOCK // 8]
        block[signed_distance(arena, block[:, 0], block[:, 1]) > margin] = np.nan
    return cleaned


def _data(values: np.ndarray) -> xr.DataArray:
    """Return (frames,) or (frames, 2) as movement takes it."""
    import xarray as xr

    return xr.DataArray(values, dims=("time", "space")[: values.ndim])
