"""Points that move as no animal does: jumps, two that change places, and points that stay while the animal goes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np

from dlc_assets.lab.check_settings import Jumps, Stuck, Swaps
from dlc_assets.review.checked_poses import CheckedPoses, Points, at_once, runs
from dlc_assets.review.checks.seen import Seen
from dlc_assets.review.findings import Moment

# s: a jump and the way back within so short a time are one event, as are frames that swap to and fro.
_ONE_EVENT = 0.2
# s: a point is looked for again after so long; what moved meanwhile may have gone anywhere.
_LOOKED_FOR = 0.2
_LEAST_JUMP = 0.3  # body lengths; less is jitter at high frame rates
_LEAST_SWAP = 0.1  # body lengths between two points that can be told apart
_STILL_PX = 1.0
_AHEAD = 64  # frames that are looked at together
_SIDES = (("left", "right"), ("Left", "Right"), ("LEFT", "RIGHT"), ("L", "R"), ("l", "r"))


def steps_of(points: Points, times: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the frame to which each step between points that count leads, one after the other, its length (px) and time (s)."""
    frames = np.flatnonzero(points.sure)
    before, after = frames[:-1], frames[1:]
    lasts = times[after] - times[before]
    near = lasts <= _LOOKED_FOR + 1e-9
    # At low frame rates neighbours are farther apart than that, and are compared all the same.
    near |= after == before + 1
    before, after, lasts = before[near], after[near], lasts[near]
    length = np.hypot(points.x[after] - points.x[before], points.y[after] - points.y[before])
    return after, length, lasts


def jumps(poses: CheckedPoses, settings: Jumps, swaps: Swaps) -> Seen:
    """Return how often (a minute) the body part that jumps most does: it moves faster than the limit, and by more than jitter.

    Steps that two points take by changing places are not counted: they are swaps.
    """
    if not poses.seconds:
        return Seen()
    rates: dict[str, float] = {}
    moments: list[Moment] = []
    for individual in poses.individuals:
        size = poses.size(individual)
        if not size:
            continue
        swapped = _swapped_frames(poses, individual, swaps)
        top = _top_speed(settings, size, poses.setup.px_per_cm)
        for points in poses.all_points(individual):
            after, length, lasts = steps_of(points, poses.times)
            limit = np.maximum(top * lasts, _LEAST_JUMP * size)
            fast = length > limit
            if (own := swapped.get(points.bodypart)) is not None:
                fast &= ~own[after]
            groups = at_once(after[fast], poses.times, _ONE_EVENT)
            rates[points.name] = round(60 * len(groups) / poses.seconds, 3)
            excess = np.zeros(len(poses.times), dtype=np.float32)
            excess[after[fast]] = (length / limit)[fast]
            speed = np.zeros(len(poses.times), dtype=np.float32)
            speed[after[fast]] = (length / np.maximum(lasts, 1e-9))[fast]
            for first, last in groups:
                here = slice(first, last + 1)
                what = f"{points.name} moves at {_speed_words(poses, individual, float(speed[here].max()))}"
                begin = max(0, int(first) - 1)
                moments.append(
                    poses.moment(begin, last, individual, (points.bodypart,), what, badness=excess[here].max())
                )
    if not rates:
        return Seen()
    worst = max(rates, key=lambda name: rates[name])
    return Seen(rates[worst], worst, sorted(moments, key=lambda moment: -moment.badness), rates)


def _top_speed(settings: Jumps, size: float, px_per_cm: float | None) -> float:
    """Return the fastest that a body part of an animal of *size* px can be, px/s."""
    if settings.max_cm_per_s is not None and px_per_cm is not None:
        return settings.max_cm_per_s * px_per_cm
    return settings.max_speed * size


def _speed_words(poses: CheckedPoses, individual: str, speed: float) -> str:
    if poses.setup.px_per_cm is not None:
        return f"{speed:.0f} px/s, {speed / poses.setup.px_per_cm:.0f} cm/s"
    lengths = f", {speed / poses.size(individual):.0f} body lengths/s" if poses.measured(individual) else ""
    return f"{speed:.0f} px/s{lengths}"


def side_pairs(bodyparts: Sequence[str]) -> list[tuple[str, str]]:
    """Return the pairs of body parts whose names differ in left and right alone: ``leftear`` and ``rightear``, ``paw_L`` and ``paw_R``."""
    found: list[tuple[str, str]] = []
    known = set(bodyparts)
    for name in bodyparts:
        for left, right in _SIDES:
            # A single letter is a side only where it stands apart: "paw_L" and "LPaw", not the l of "tail".
            pattern = left
            if left == "L":
                pattern = r"(?<![A-Za-z])L(?![a-z])|(?<=[a-z0-9])L(?![A-Za-z])"
            elif left == "l":
                pattern = r"(?<![A-Za-z])l(?![A-Za-z])"
            for place in re.finditer(pattern, name):
                other = name[: place.start()] + right + name[place.end() :]
                if other in known and other != name and (name, other) not in found:
                    found.append((name, other))
    return found


def swaps(poses: CheckedPoses, settings: Swaps) -> Seen:
    """Return how often (a minute) the pair that does most changes places: exchanging the two would shorten both ways clearly."""
    if not poses.seconds:
        return Seen()
    rates: dict[str, float] = {}
    moments: list[Moment] = []
    for individual in poses.individuals:
        for one, other in _pairs(poses, individual, settings):
            name = " and ".join([one.name, other.bodypart])
            found, gain = _exchanges(one, other, poses, _LEAST_SWAP * poses.size(individual))
            rates[name], events = _events(poses, found)
            for first, last in events:
                what = f"{name} change places"
                badness = gain[first : last + 1].max()
                begin = max(0, int(first) - 1)
                moments.append(
                    poses.moment(begin, last, individual, (one.bodypart, other.bodypart), what, badness=badness)
                )
    for a, b in combinations(poses.individuals, 2):
        (ax, ay, _), (bx, by, _) = poses.center(a), poses.center(b)
        one = Points(a, "", ax, ay, np.isfinite(ax))
        other = Points(b, "", bx, by, np.isfinite(bx))
        found, gain = _exchanges(one, other, poses, _LEAST_SWAP * max(poses.size(a), poses.size(b)))
        name = f"{a} and {b}"
        rates[name], events = _events(poses, found)
        parts = tuple(dict.fromkeys(part for who, part in poses.names if who in {a, b}))
        for first, last in events:
            badness = gain[first : last + 1].max()
            begin = max(0, int(first) - 1)
            moments.append(poses.moment(begin, last, a, parts, f"{name} change places", badness=badness))
    if not rates:
        return Seen()
    worst = max(rates, key=lambda name: rates[name])
    return Seen(rates[worst], worst, sorted(moments, key=lambda moment: -moment.badness), rates)


def _events(poses: CheckedPoses, frames: np.ndarray) -> tuple[float, np.ndarray]:
    groups = at_once(frames, poses.times, _ONE_EVENT)
    return round(60 * len(groups) / poses.seconds, 3), groups


def _pairs(poses: CheckedPoses, individual: str, settings: Swaps) -> Iterator[tuple[Points, Points]]:
    own = [bodypart for who, bodypart in poses.names if who == individual]
    pairs = side_pairs(own) if settings.pairs == "auto" else settings.pairs
    for one, other in pairs:
        if one in own and other in own:
            yield poses.points(individual, one), poses.points(individual, other)


def _exchanges(one: Points, other: Points, poses: CheckedPoses, apart: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the frames at which *one* and *other* have changed places since they were last seen, and by how many px it shows."""
    both = np.flatnonzero(one.sure & other.sure)
    before, after = both[:-1], both[1:]
    near = (poses.times[after] - poses.times[before] <= _LOOKED_FOR + 1e-9) | (after == before + 1)
    before, after = before[near], after[near]

    def distance(a: Points, at: np.ndarray, b: Points, then: np.ndarray) -> np.ndarray:
        return np.hypot(a.x[at] - b.x[then], a.y[at] - b.y[then])

    kept = distance(one, before, one, after) + distance(other, before, other, after)
    crossed = distance(one, before, other, after) + distance(other, before, one, after)
    between = np.minimum(distance(one, before, other, before), distance(one, after, other, after))
    swapped = (crossed < 0.5 * kept) & (between > max(apart, 2.0))
    gain = np.zeros(len(poses.times), dtype=np.float32)
    gain[after] = np.where(swapped, kept - crossed, 0)
    return after[swapped], gain


def _swapped_frames(poses: CheckedPoses, individual: str, settings: Swaps) -> dict[str, np.ndarray]:
    """Return, of each body part of a pair, (frames,) bool: whether it comes to this frame by changing places."""
    found: dict[str, np.ndarray] = {}
    for one, other in _pairs(poses, individual, settings):
        frames, _ = _exchanges(one, other, poses, _LEAST_SWAP * poses.size(individual))
        for points in (one, other):
            marked = found.setdefault(points.bodypart, np.zeros(len(poses.times), dtype=bool))
            marked[frames] = True
    return found


def stuck(poses: CheckedPoses, settings: Stuck) -> Seen:
    """Return the longest time (s) that a body part stays within 1 px while the others of its animal move by a body length."""
    longest: dict[str, float] = {}
    moments: list[Moment] = []
    for individual in poses.individuals:
        size = poses.size(individual)
        if not size or not poses.measured(individual):  # one of two paws that rests while the other moves is no fault
            continue
        for points in poses.all_points(individual):
            found = _left_behind(poses, points, size, settings.longest)
            longest[points.name] = max((lasts for _, _, lasts in found), default=0.0)
            moments += [
                poses.moment(
                    first,
                    last,
                    individual,
                    (points.bodypart,),
                    f"{points.name} stays in its place for {lasts:.3g} s while the animal moves away",
                    badness=lasts / settings.longest,
                )
                for first, last, lasts in found
            ]
    if not longest:
        return Seen()
    worst = max(longest, key=lambda name: longest[name])
    return Seen(longest[worst], worst, sorted(moments, key=lambda moment: -moment.badness), longest)


def _left_behind(poses: CheckedPoses, points: Points, size: float, least: float) -> list[tuple[int, int, float]]:
    """Return (first frame, last frame, s) of each time that *points* stay where they are and the rest of the animal does not."""
    x, y, count = poses.center(points.individual)
    others = count - points.sure
    with np.errstate(invalid="ignore", divide="ignore"):
        rest_x = (x * count - np.where(points.sure, points.x, 0)) / np.where(others > 0, others, np.nan)
        rest_y = (y * count - np.where(points.sure, points.y, 0)) / np.where(others > 0, others, np.nan)
    still = np.zeros(len(points.x), dtype=bool)
    step = np.hypot(np.diff(points.x), np.diff(points.y))
    with np.errstate(invalid="ignore"):
        still[1:] = points.sure[1:] & points.sure[:-1] & (step <= _STILL_PX)
    found = []
    quiet = runs(still, poses.times, 1.5 * poses.interval)
    quiet[:, 0] = np.maximum(quiet[:, 0] - 1, 0)
    for begin, last in quiet[poses.times[quiet[:, 1]] - poses.times[quiet[:, 0]] >= least]:
        if _reach(rest_x, rest_y, begin, last) <= size:  # an animal that sleeps
            continue
        for start, stop in _within_a_pixel(points, begin, last):
            lasts = float(poses.times[stop] - poses.times[start])
            if lasts >= least and _reach(rest_x, rest_y, start, stop) > size:
                found.append((start, stop, round(lasts, 3)))
    return found


def _reach(x: np.ndarray, y: np.ndarray, first: int, last: int) -> float:
    """Return the diagonal (px) of the box around the known points of the frames *first* to *last*; 0 where there are none."""
    here = np.stack([x[first : last + 1], y[first : last + 1]])
    here = here[:, np.isfinite(here).all(axis=0)]
    return float(np.hypot(*np.ptp(here, axis=1))) if here.shape[1] else 0.0


def _within_a_pixel(points: Points, first: int, last: int) -> Iterator[tuple[int, int]]:
    """Yield first and last frame of the stretches of *first* to *last* whose points lie within 1 px of each other in x and in y."""
    x, y = points.x[first : last + 1].astype(np.float64), points.y[first : last + 1].astype(np.float64)
    start, ahead = 0, _AHEAD
    while start < len(x) - 1:
        here = slice(start, start + ahead)
        spread = np.maximum(
            np.maximum.accumulate(x[here]) - np.minimum.accumulate(x[here]),
            np.maximum.accumulate(y[here]) - np.minimum.accumulate(y[here]),
        )
        beyond = np.flatnonzero(spread > _STILL_PX)
        if not len(beyond) and start + ahead < len(x):
            ahead *= 2  # it stays in its place for longer than was looked ahead
            continue
        stop = start + int(beyond[0]) - 1 if len(beyond) else len(x) - 1
        yield first + start, first + stop
        start, ahead = max(stop, start + 1), _AHEAD
