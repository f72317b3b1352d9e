"""The poses of one recording as the checks look at them: which points count, how large the animal is, when frames were."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from dlc_assets.poses.table_file import PoseTableFile
from dlc_assets.recordings.info import RecordingInfo
from dlc_assets.recordings.setups import RecordingSetup
from dlc_assets.review.findings import Moment

UNIQUE = "single"  # DeepLabCut's name for the body parts that belong to no animal
_KEPT_VALUES = 40_000_000  # numbers of tracks that are kept in memory; others are read again
_FEWEST_PARTS = 3
# Of the picture's shorter side. At 0.1, most of what five networks agreed on of a mouse's two paws in a close-up was faster than the
# animal could be; at 0.5, two in three of such moments are a network's own fault.
_LEAST_SIZE = 0.5
_GAP = 1.5  # median frame intervals; what is farther apart is not one after the other


@dataclass(frozen=True)
class Points:
    """One body part of one individual: x, y (frames,) float32 px, and whether each point counts, (frames,) bool.

    A point counts where it was detected and its likelihood reaches the p-cutoff; where no likelihood is known, where it was detected.
    """

    individual: str
    bodypart: str
    x: np.ndarray
    y: np.ndarray
    sure: np.ndarray

    @property
    def name(self) -> str:
        return f"{self.individual}: {self.bodypart}" if self.individual else self.bodypart


@dataclass
class CheckedPoses:
    """One recording's pose table with what the checks need beside it.

    Parameters
    ----------
    crop
        What the network saw, (left, right, top, bottom) px; None: all.
    pcutoff
        None where the model states none: every detected point then counts.
    """

    table: PoseTableFile
    recording: RecordingInfo
    setup: RecordingSetup
    crop: tuple[int, int, int, int] | None
    pcutoff: float | None
    _read: OrderedDict[tuple[str, str], Points] = field(default_factory=OrderedDict)

    @cached_property
    def times(self) -> np.ndarray:
        """(frames,) float64, s."""
        return self.table.times()

    @cached_property
    def interval(self) -> float:
        """The median time from one frame to the next, s; 0 with a single frame."""
        return float(np.median(np.diff(self.times))) if len(self.times) > 1 else 0.0

    @cached_property
    def seconds(self) -> float:
        """How long the frames last together, s: gaps do not count."""
        steps = np.diff(self.times)
        return float(steps[steps <= _GAP * self.interval].sum() + self.interval) if len(steps) else 0.0

    @cached_property
    def names(self) -> list[tuple[str, str]]:
        """(individual, body part) of every track."""
        return [(stream.individual, stream.bodypart) for stream in self.table.streams()]

    @property
    def individuals(self) -> list[str]:
        """The animals: not the body parts that belong to none."""
        return [name for name in dict.fromkeys(individual for individual, _ in self.names) if name != UNIQUE]

    def points(self, individual: str, bodypart: str) -> Points:
        """Return one track."""
        key = individual, bodypart
        if key not in self._read:
            groups = self.table.matching([bodypart], [individual])
            (track,) = self.table.tracks(groups)
            found = np.isfinite(track.x) & np.isfinite(track.y)
            if self.pcutoff is not None and np.isfinite(track.likelihood).any():
                found &= np.nan_to_num(track.likelihood, nan=-1.0) >= self.pcutoff
            self._read[key] = Points(individual, bodypart, track.x, track.y, found)
            while len(self._read) > 2 and 3 * len(self._read) * len(found) > _KEPT_VALUES:
                self._read.popitem(last=False)
        self._read.move_to_end(key)
        return self._read[key]

    def all_points(self, individual: str | None = None) -> Iterator[Points]:
        """Yield every track, or every track of *individual*."""
        for name in self.names:
            if individual is None or name[0] == individual:
                yield self.points(*name)

    @cached_property
    def _bodies(self) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray, float]]:
        """Of each animal: the mean of its points, x and y (frames,) float32, how many count (frames,), and its size in px."""
        found = {}
        for individual in self.individuals:
            frames = len(self.times)
            total = np.zeros((2, frames), dtype=np.float32)
            count = np.zeros(frames, dtype=np.int16)
            low, high = np.full((2, frames), np.inf, dtype=np.float32), np.full((2, frames), -np.inf, dtype=np.float32)
            for points in self.all_points(individual):
                where = points.sure
                count += where
                for axis, values in enumerate((points.x, points.y)):
                    total[axis][where] += values[where]
                    low[axis][where] = np.minimum(low[axis][where], values[where])
                    high[axis][where] = np.maximum(high[axis][where], values[where])
            several = count > 1
            size = float(np.median(np.hypot(*(high - low)[:, several]))) if several.any() else 0.0
            if not self.measured(individual):
                size = max(size, _LEAST_SIZE * min(self.recording.width, self.recording.height))
            with np.errstate(invalid="ignore"):
                x, y = total / np.where(count, count, np.nan).astype(np.float32)
            found[individual] = (x, y, count, size)
        return found

    def center(self, individual: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the mean of an animal's points, x and y (frames,) px, NaN where none counts, and how many count (frames,)."""
        x, y, count, _ = self._bodies[individual]
        return x, y, count

    def measured(self, individual: str) -> bool:
        """Say whether an animal has enough body parts for its size to be known from them: two paws are no measure of a mouse."""
        return sum(who == individual for who, _ in self.names) >= _FEWEST_PARTS

    def size(self, individual: str) -> float:
        """Return an animal's length, px: the median diagonal of the box around its points; 0 where it never has two.

        Of fewer than three body parts it is taken to be half of the picture's shorter side at least.
        """
        return self._bodies[individual][3] if individual in self._bodies else 0.0

    def moment(
        self, first: int, last: int, individual: str, bodyparts: tuple[str, ...], what: str, badness: float
    ) -> Moment:
        """Return the frames *first* to *last* as a place worth looking at."""
        at = self.table.first_frame
        return Moment(
            recording=self.recording.recording,
            first_frame=at + int(first),
            last_frame=at + int(last),
            time=float(self.times[first]),
            individual=individual,
            bodyparts=bodyparts,
            what=what,
            badness=float(badness),
        )


def runs(marked: np.ndarray, times: np.ndarray | None = None, longest_step: float = np.inf) -> np.ndarray:
    """Return the first and the last frame of each run of True in *marked*, (runs, 2): where *times* jump, a run ends."""
    marked = np.asarray(marked, dtype=bool)
    begins = marked & ~np.concatenate([[False], marked[:-1]])
    ends = marked & ~np.concatenate([marked[1:], [False]])
    if times is not None and len(times) > 1:
        apart = np.diff(times) > longest_step
        begins[1:] |= marked[1:] & apart
        ends[:-1] |= marked[:-1] & apart
    return np.stack([np.flatnonzero(begins), np.flatnonzero(ends)], axis=1)


def at_once(frames: np.ndarray, times: np.ndarray, within: float) -> np.ndarray:
    """Join *frames* (sorted) that lie *within* s of each other: first and last frame of each group, (groups, 2)."""
    if not len(frames):
        return np.empty((0, 2), dtype=np.int64)
    apart = np.flatnonzero(np.diff(times[frames]) > within)
    return np.stack(
        [frames[np.concatenate([[0], apart + 1])], frames[np.concatenate([apart, [len(frames) - 1]])]], axis=1
    )
