"""What the pictures of a report are drawn from, measured in one pass over a pose table: memory does not grow with its length.

Over time, values are gathered in equal stretches (bins), each with its lowest, mean and highest value, so that a jump of one frame is
still seen in a picture of an hour. Positions are drawn from evenly spaced frames.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dlc_assets.poses.schema import PoseMetadata
from dlc_assets.poses.table_file import PoseTableFile, RowGroup

BINS = 480
PATH_FRAMES = 4_000  # evenly spaced frames of the paths; more cannot be told apart in a picture of that size
_OCCUPANCY_CELLS = 72  # along the longer side of the picture
_GAP = 5.0  # of the usual interval; a speed over a longer one says nothing
UNIQUE = "single"  # the individual of a multi-animal project's unique body parts, which is no animal

Name = tuple[str, str]


@dataclass(frozen=True)
class Band:
    """Lowest, mean and highest value in each bin, each (rows, bins) float32; NaN where there is none."""

    low: np.ndarray
    mean: np.ndarray
    high: np.ndarray


@dataclass(frozen=True)
class Limb:
    """Two body parts of one individual that are joined, with the median, the 5th and the 95th percentile of their distance (px)."""

    individual: str
    ends: tuple[str, str]
    median: float
    low: float
    high: float


@dataclass(frozen=True)
class Paths:
    """Positions in evenly spaced frames: x, y (tracks, frames) float32 px, NaN where nothing is to be trusted; *times* (frames,) s."""

    times: np.ndarray
    x: np.ndarray
    y: np.ndarray


@dataclass(frozen=True)
class RecordingMeasures:
    """What is drawn of one recording's poses.

    Attributes
    ----------
    names
        (individual, body part) of each track.
    animals
        The individuals whose speed and place are measured.
    times
        (bins,) float64, s on the session's clock: the middle of each bin; *width* is the length of one, s.
    likelihood
        (tracks, bins) float32: the mean likelihood.
    usable
        (tracks,) share of frames in which the position can be trusted.
    limbs, limb_length
        The joined body parts, and the band of their distances, px.
    stated_skeleton
        Whether the limbs are the project's skeleton; else they are the shortest lines that join its body parts.
    speed
        The band of each animal's speed, px/s.
    occupancy
        (rows, columns) float64, s spent in each cell of the picture, all animals together; *cell* is a cell's side, px.
    """

    frames: int
    first_time: float
    last_time: float
    names: tuple[Name, ...]
    animals: tuple[str, ...]
    times: np.ndarray
    width: float
    likelihood: np.ndarray
    usable: np.ndarray
    limbs: tuple[Limb, ...]
    limb_length: Band
    stated_skeleton: bool
    speed: Band
    occupancy: np.ndarray
    cell: float
    paths: Paths


def measure(path: Path, size: tuple[int, int], pcutoff: float, *, filtered: bool = False) -> RecordingMeasures:
    """Measure the pose table at *path*, of a picture of *size* (width, height) px.

    Parameters
    ----------
    pcutoff
        Positions with a smaller likelihood are not used, unless the table is *filtered*: there, whatever is left is used.

    Raises
    ------
    NotFoundError, InputError
        The file is missing, or no pose table.
    """
    file = PoseTableFile.open(path)
    times = file.times()
    names = tuple(dict.fromkeys((group.individual, group.bodypart) for group in file.row_groups))
    sample = _sample(file, pcutoff, filtered)
    limbs, stated = _limbs(names, file.metadata, sample)
    animals = _animals(names)
    bins = _Bins(times)
    likelihood = _Gathered(len(names), bins.count)
    lengths, speeds = _Gathered(len(limbs), bins.count), _Gathered(len(animals), bins.count)
    usable = np.zeros(len(names), np.int64)
    cell = max(1.0, max(size) / _OCCUPANCY_CELLS)
    places = np.zeros((int(np.ceil(size[1] / cell)), int(np.ceil(size[0] / cell))))
    interval = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    before: tuple[float, np.ndarray, np.ndarray] | None = None
    start = 0
    for values in _chunks(file, names):
        stop = start + values.shape[2]
        of = times[start:stop]
        where = bins.of(of)
        x, y, sure = values[:, 0].copy(), values[:, 1].copy(), _usable(values, pcutoff, filtered)
        x[~sure], y[~sure] = np.nan, np.nan
        usable += np.count_nonzero(sure, axis=1)
        likelihood.add(values[:, 2], where)
        for row, limb in enumerate(limbs):
            one, other = (names.index((limb.individual, part)) for part in limb.ends)
            lengths.add(np.hypot(x[one] - x[other], y[one] - y[other])[None], where, row)
        for row, animal in enumerate(animals):
            tracks = [place for place, (individual, _) in enumerate(names) if individual == animal]
            speeds.add(_speed(of, x[tracks], y[tracks], before, tracks, interval)[None], where, row)
            _count(places, _middle(x[tracks]), _middle(y[tracks]), cell)
        before = (float(of[-1]), x[:, -1].copy(), y[:, -1].copy())
        start = stop
    return RecordingMeasures(
        frames=len(times),
        first_time=float(times[0]),
        last_time=float(times[-1]),
        names=names,
        animals=animals,
        times=bins.middles,
        width=bins.width,
        likelihood=likelihood.band().mean,
        usable=usable / len(times),
        limbs=limbs,
        limb_length=lengths.band(),
        stated_skeleton=stated,
        speed=speeds.band(),
        occupancy=places * interval,
        cell=cell,
        paths=sample,
    )


def _animals(names: Sequence[Name]) -> tuple[str, ...]:
    individuals = tuple(dict.fromkeys(individual for individual, _ in names))
    return tuple(name for name in individuals if name != UNIQUE) or individuals


def _chunks(file: PoseTableFile, names: Sequence[Name]) -> Iterator[np.ndarray]:
    """Yield (tracks, 3, frames) float32 of x, y, likelihood, for a row group's frames at a time."""
    groups: dict[int, list[RowGroup]] = {}
    for group in file.row_groups:
        groups.setdefault(group.first_frame, []).append(group)
    for first in sorted(groups):
        found, values = file.values(groups[first])
        yield values[[found.index(name) for name in names]]


def _usable(values: np.ndarray, pcutoff: float, filtered: bool) -> np.ndarray:
    known = np.isfinite(values[:, 0]) & np.isfinite(values[:, 1])
    return known if filtered else known & (values[:, 2] >= pcutoff)


def _sample(file: PoseTableFile, pcutoff: float, filtered: bool) -> Paths:
    times, tracks = file.thinned(PATH_FRAMES)
    values = np.stack([np.stack([track.x, track.y, track.likelihood]) for track in tracks])
    sure = _usable(values, pcutoff, filtered)
    return Paths(times, np.where(sure, values[:, 0], np.nan), np.where(sure, values[:, 1], np.nan))


def _limbs(names: Sequence[Name], metadata: PoseMetadata, sample: Paths) -> tuple[tuple[Limb, ...], bool]:
    """Return the limbs of every individual, and whether the project's skeleton states them."""
    limbs = []
    stated = [(pair[0], pair[1]) for pair in metadata.skeleton if len(pair) == 2 and pair[0] != pair[1]]
    for individual in _animals(names):
        own = {part: place for place, (animal, part) in enumerate(names) if animal == individual}
        pairs = [pair for pair in dict.fromkeys(stated) if pair[0] in own and pair[1] in own]
        if not stated:
            pairs = _shortest_lines(own, sample)
        for one, other in pairs:
            a, b = own[one], own[other]
            lengths = np.hypot(sample.x[a] - sample.x[b], sample.y[a] - sample.y[b])
            lengths = lengths[np.isfinite(lengths)]
            low, median, high = np.percentile(lengths, [5, 50, 95]) if len(lengths) else (np.nan,) * 3
            limbs.append(Limb(individual, (one, other), float(median), float(low), float(high)))
    return tuple(limbs), bool(stated)


def _shortest_lines(own: dict[str, int], sample: Paths) -> list[tuple[str, str]]:
    """Return the pairs of body parts that join all of them with the least length (a minimum spanning tree of median distances)."""
    parts = list(own)
    distance = {}
    for place, one in enumerate(parts):
        for other in parts[place + 1 :]:
            a, b = own[one], own[other]
            lengths = np.hypot(sample.x[a] - sample.x[b], sample.y[a] - sample.y[b])
            if np.isfinite(lengths).any():
                distance[one, other] = float(np.nanmedian(lengths))
    joined = {part: {part} for part in parts}
    pairs = []
    for one, other in sorted(distance, key=lambda pair: distance[pair]):
        if joined[one] is not joined[other]:
            pairs.append((one, other))
            together = joined[one] | joined[other]
            for part in together:
                joined[part] = together
    return pairs


def _speed(
    times: np.ndarray,
    x: np.ndarray,
    y: np.ndarray,
    before: tuple[float, np.ndarray, np.ndarray] | None,
    tracks: list[int],
    interval: float,
) -> np.ndarray:
    """Return (frames,) px/s: how far the body parts of an animal that are there in this frame and the one before moved on average."""
    if before is None:
        before = (np.nan, np.full(max(tracks) + 1, np.nan), np.full(max(tracks) + 1, np.nan))
    steps = np.diff(times, prepend=before[0])
    dx = np.diff(x, axis=1, prepend=before[1][tracks][:, None])
    dy = np.diff(y, axis=1, prepend=before[2][tracks][:, None])
    with np.errstate(invalid="ignore", divide="ignore"):
        speed = np.hypot(_middle(dx), _middle(dy)) / steps
    return np.where((steps > 0) & (steps <= _GAP * interval), speed, np.nan)


def _middle(values: np.ndarray) -> np.ndarray:
    """Return the mean over tracks of (tracks, frames), NaN in frames without any."""
    known = np.isfinite(values)
    count = known.sum(axis=0)
    total = np.where(known, values, 0).sum(axis=0, dtype=np.float64)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _count(places: np.ndarray, x: np.ndarray, y: np.ndarray, cell: float) -> None:
    with np.errstate(invalid="ignore"):
        inside = (x >= 0) & (y >= 0) & (x < places.shape[1] * cell) & (y < places.shape[0] * cell)
    columns, rows = (x[inside] / cell).astype(np.int64), (y[inside] / cell).astype(np.int64)
    found = np.bincount(rows * places.shape[1] + columns, minlength=places.size)
    places += found.reshape(places.shape)


class _Bins:
    """Equal stretches of time; of a short recording so few that none is empty between two frames."""

    def __init__(self, times: np.ndarray) -> None:
        self.count = max(1, min(BINS, len(times) // 2))
        self._first = float(times[0])
        span = float(times[-1] - times[0])
        self.width = span / self.count if span > 0 else 1.0
        self.middles = self._first + (np.arange(self.count) + 0.5) * self.width

    def of(self, times: np.ndarray) -> np.ndarray:
        """Return the bin of each time, never falling."""
        where = ((times - self._first) / self.width).astype(np.int64)
        return np.maximum.accumulate(np.clip(where, 0, self.count - 1))


class _Gathered:
    """Lowest, total and highest of values that come piece by piece, by row and bin."""

    def __init__(self, rows: int, bins: int) -> None:
        self._low = np.full((rows, bins), np.inf)
        self._high = np.full((rows, bins), -np.inf)
        self._total = np.zeros((rows, bins))
        self._known = np.zeros((rows, bins), np.int64)

    def add(self, values: np.ndarray, where: np.ndarray, row: int = 0) -> None:
        """Add (rows, frames) *values*, the first of them to *row*; *where* (frames,) are their bins, never falling."""
        starts = np.flatnonzero(np.diff(where, prepend=-1))
        bins, rows = where[starts], slice(row, row + len(values))
        known = np.isfinite(values)
        low = np.minimum.reduceat(np.where(known, values, np.inf), starts, axis=1)
        high = np.maximum.reduceat(np.where(known, values, -np.inf), starts, axis=1)
        self._low[rows, bins] = np.minimum(self._low[rows, bins], low)
        self._high[rows, bins] = np.maximum(self._high[rows, bins], high)
        self._total[rows, bins] += np.add.reduceat(np.where(known, values, 0), starts, axis=1, dtype=np.float64)
        self._known[rows, bins] += np.add.reduceat(known, starts, axis=1, dtype=np.int64)

    def band(self) -> Band:
        there = self._known > 0
        columns = (self._low, self._total / np.maximum(self._known, 1), self._high)
        return Band(*(np.where(there, values, np.nan).astype(np.float32) for values in columns))
