"""How much the poses of one recording differ between two pose tables, body part by body part.

Tables are read a stretch of one body part at a time, so that memory does not grow with the length of the recording.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dlc_assets.lab.errors import InputError
from dlc_assets.poses.table_file import PoseTableFile, RowGroup, quoted

if TYPE_CHECKING:
    import pyarrow.parquet as pq

MOVED_PX = 10.0
LARGEST = 6  # frames of a recording that are picked for a look
_STRETCHES = 96  # of a recording, of each of which the frame that changed most is remembered
_APART = 12  # picked frames lie at least so small a share of the recording apart

# Bins of distances: each a hundredth wider than the one before, from below what a float32 coordinate resolves to beyond any frame.
_EDGES = np.concatenate([[0.0], np.geomspace(1e-4, 1e6, 2320)])


class Distances:
    """Distances in px, of which quantiles are wanted and that need not fit into memory: counted in bins 1 % wide."""

    def __init__(self) -> None:
        self._counts = np.zeros(len(_EDGES), dtype=np.int64)
        self._sums = np.zeros(len(_EDGES), dtype=np.float64)

    def add(self, distances: np.ndarray) -> None:
        """Count *distances*, shape (n,), finite, px."""
        bins = np.searchsorted(_EDGES, distances, side="right") - 1
        self._counts += np.bincount(bins, minlength=len(_EDGES))
        self._sums += np.bincount(bins, weights=distances, minlength=len(_EDGES))

    def merge(self, other: Distances) -> None:
        self._counts += other._counts
        self._sums += other._sums

    def __len__(self) -> int:
        return int(self._counts.sum())

    def quantile(self, share: float) -> float:
        """Return the distance (px) that *share* of all do not exceed, within 1 %; NaN where there is none.

        It is the mean of the distances in the bin, so that equal ones come out as they are.
        """
        if not len(self):
            return np.nan
        rank = min(int(share * len(self)), len(self) - 1)
        place = int(np.searchsorted(np.cumsum(self._counts), rank, side="right"))
        return float(self._sums[place] / self._counts[place])


@dataclass
class Change:
    """How the poses of one body part, or of several together, differ between an old and a new table.

    Attributes
    ----------
    positions
        Frames that are in both tables, times body parts.
    likely
        Positions that are there and reach the p-cutoff in both tables: distances are measured on these.
    moved
        Of them, those farther apart than asked for.
    gained, lost
        Positions that are likely in the new table only, or in the old one only.
    """

    positions: int = 0
    likely: int = 0
    moved: int = 0
    gained: int = 0
    lost: int = 0
    distances: Distances = field(default_factory=Distances)

    def count(self, was: np.ndarray, is_now: np.ndarray, distances: np.ndarray, moved_px: float) -> None:
        """Add positions that were or are likely (bool), *distances* px apart where they were and are; each of shape (n,)."""
        both = was & is_now
        self.positions += len(both)
        self.likely += int(both.sum())
        self.moved += int((distances[both] > moved_px).sum())
        self.gained += int((is_now & ~was).sum())
        self.lost += int((was & ~is_now).sum())
        self.distances.add(distances[both])

    def merge(self, other: Change) -> None:
        for name in ("positions", "likely", "moved", "gained", "lost"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.distances.merge(other.distances)

    @property
    def changed(self) -> float:
        """Share of positions that moved far, appeared or vanished: what recordings are ranked by."""
        return _share(self.moved + self.gained + self.lost, self.positions)

    def row(self) -> dict[str, float]:
        """Return the figures of the change.

        Returns
        -------
        dict
            ``changed``, ``likely``, ``gained``, ``lost`` as shares of all positions; ``moved`` as a share of those likely in both;
            ``median``, ``p95`` of the distance in px; ``positions``, their number. NaN where there is nothing to tell it from.
        """
        return {
            "changed": self.changed,
            "median": self.distances.quantile(0.5),
            "p95": self.distances.quantile(0.95),
            "moved": _share(self.moved, self.likely),
            "gained": _share(self.gained, self.positions),
            "lost": _share(self.lost, self.positions),
            "likely": _share(self.likely, self.positions),
            "positions": self.positions,
        }


def _share(part: int, whole: int) -> float:
    return part / whole if whole else np.nan


@dataclass(frozen=True)
class Look:
    """A frame worth looking at: its number, and the largest distance of a body part in it (px; 0: none is likely in both)."""

    frame: int
    distance: float


@dataclass
class TableChange:
    """How two pose tables of one recording differ.

    Attributes
    ----------
    bodyparts
        By body part, over all individuals.
    frames
        Frames that both tables have.
    only_old_frames, only_new_frames
        Frames that one of them has alone.
    only_old_tracks, only_new_tracks
        (individual, body part) that one of them has alone; they are not compared.
    looks
        Frames that changed most, far apart in time; the largest change first.
    """

    bodyparts: dict[str, Change]
    frames: int
    only_old_frames: int
    only_new_frames: int
    only_old_tracks: list[tuple[str, str]]
    only_new_tracks: list[tuple[str, str]]
    looks: list[Look]

    def total(self) -> Change:
        """Return the change of all body parts together."""
        return merged(self.bodyparts.values())


def merged(changes: Iterable[Change]) -> Change:
    """Return several changes as one."""
    total = Change()
    for change in changes:
        total.merge(change)
    return total


def compare_tables(
    old: Path, new: Path, *, moved_px: float = MOVED_PX, on_frames: Callable[[int], None] = lambda _: None
) -> TableChange:
    """Compare the pose tables *old* and *new* of one recording.

    A position is likely where it has coordinates and its likelihood reaches the p-cutoff of its own table (of a table without
    p-cutoff, or a position without likelihood, coordinates are enough).

    Parameters
    ----------
    moved_px
        Distance in px beyond which a position counts as moved.
    on_frames
        Called with the number of frames done so far.

    Raises
    ------
    InputError
        One of the files is no pose table, or they have no body part of the same individual or no frame in common.
    NotFoundError
        One of the files is not there.
    """
    import pyarrow.parquet as pq

    one, other = PoseTableFile.open(old), PoseTableFile.open(new)
    tracks = _tracks_of(one), _tracks_of(other)
    common = [track for track in tracks[0] if track in tracks[1]]
    if not common:
        raise InputError(
            f"{old} and {new} have no body part in common, so they cannot be compared: "
            f"{_track_names(tracks[0])} and {_track_names(tracks[1])}."
        )
    spans = _span(one), _span(other)
    first, last = max(span[0] for span in spans), min(span[1] for span in spans)
    if first >= last:
        raise InputError(
            f"{old} and {new} have no frame in common: the one has frames {spans[0][0]} to {spans[0][1] - 1}, the other "
            f"{spans[1][0]} to {spans[1][1] - 1}."
        )
    changes = {bodypart: Change() for _, bodypart in common}
    looks = _Looks(first, last)
    with (
        pq.ParquetFile(old, metadata=one.footer) as old_parquet,
        pq.ParquetFile(new, metadata=other.footer) as new_parquet,
    ):
        for start, stop in _stretches(one, other, first, last):
            stretch = _Stretch(start, np.zeros(stop - start), np.zeros(stop - start))
            for track in common:
                before = _values(one, old_parquet, tracks[0][track], start, stop)
                after = _values(other, new_parquet, tracks[1][track], start, stop)
                likely = is_likely(before, one.metadata.pcutoff), is_likely(after, other.metadata.pcutoff)
                distances = np.hypot(*(after[:2] - before[:2]).astype(np.float64))
                changes[track[1]].count(*likely, distances, moved_px)
                stretch.count(*likely, distances, moved_px)
            looks.add(stretch)
            on_frames(stop - first)
    return TableChange(
        bodyparts=changes,
        frames=last - first,
        only_old_frames=spans[0][1] - spans[0][0] - (last - first),
        only_new_frames=spans[1][1] - spans[1][0] - (last - first),
        only_old_tracks=[track for track in tracks[0] if track not in tracks[1]],
        only_new_tracks=[track for track in tracks[1] if track not in tracks[0]],
        looks=looks.largest(LARGEST),
    )


def positions_in(path: Path, frames: Sequence[int]) -> dict[tuple[str, str], np.ndarray]:
    """Return x, y and likelihood in a few *frames* of the pose table at *path*, by (individual, body part).

    Returns
    -------
    dict
        (frames, 3) float32 in the order of *frames*; NaN where nothing was found. Errors as `compare_tables`.
    """
    import pyarrow.parquet as pq

    table = PoseTableFile.open(path)
    found: dict[tuple[str, str], np.ndarray] = {}
    with pq.ParquetFile(path, metadata=table.footer) as parquet:
        for track, groups in _tracks_of(table).items():
            found[track] = np.full((len(frames), 3), np.nan, dtype=np.float32)
            for group in groups:
                stop = group.first_frame + _rows(table, group)
                wanted = [place for place, frame in enumerate(frames) if group.first_frame <= frame < stop]
                if wanted:
                    values = _values(table, parquet, [group], group.first_frame, stop)
                    for place in wanted:
                        found[track][place] = values[:, frames[place] - group.first_frame]
    return found


def is_likely(values: np.ndarray, pcutoff: float | None) -> np.ndarray:
    """Say of positions (3, n) x, y, likelihood which are there and reach *pcutoff*; see `compare_tables`."""
    there = np.isfinite(values[0]) & np.isfinite(values[1])
    if pcutoff is None:
        return there
    return there & (np.isnan(values[2]) | (values[2] >= pcutoff))


@dataclass
class _Stretch:
    """Some consecutive frames: for each how much its pose changed (`scores`), and the largest distance in it (px)."""

    start: int
    scores: np.ndarray
    farthest: np.ndarray

    def count(self, was: np.ndarray, is_now: np.ndarray, distances: np.ndarray, moved_px: float) -> None:
        """Add a track; arguments as of `Change.count`."""
        apart = np.where(was & is_now, distances, 0)
        np.maximum(self.farthest, apart, out=self.farthest)
        # One that came or went counts as one that moved as far as matters; of frames with such, the one with most is worth a look.
        either = was ^ is_now
        np.maximum(self.scores, np.where(either, moved_px, apart), out=self.scores)
        self.scores += np.where(either, 1e-3 * moved_px, 0)


class _Looks:
    """Picks the frames that changed most, far apart in time, of which only one a stretch of the recording is remembered."""

    def __init__(self, first: int, last: int) -> None:
        self._first, self._frames = first, last - first
        self._best: dict[int, tuple[float, Look]] = {}

    def add(self, stretch: _Stretch) -> None:
        numbers = np.arange(len(stretch.scores), dtype=np.int64) + stretch.start - self._first
        parts = numbers * _STRETCHES // self._frames
        for part in np.unique(parts):
            of_part = slice(*np.searchsorted(parts, [part, part + 1]))
            place = int(of_part.start + np.argmax(stretch.scores[of_part]))
            score = float(stretch.scores[place])
            if score > self._best.get(int(part), (0.0, None))[0]:
                self._best[int(part)] = (score, Look(stretch.start + place, float(stretch.farthest[place])))

    def largest(self, most: int) -> list[Look]:
        apart = max(1, self._frames // _APART)
        chosen: list[Look] = []
        for _, look in sorted(self._best.values(), key=lambda scored: (-scored[0], scored[1].frame)):
            if len(chosen) < most and all(abs(look.frame - other.frame) >= apart for other in chosen):
                chosen.append(look)
        return chosen


def _tracks_of(table: PoseTableFile) -> dict[tuple[str, str], list[RowGroup]]:
    """Return the row groups of each (individual, body part), by frame."""
    found: dict[tuple[str, str], list[RowGroup]] = {}
    for group in sorted(table.row_groups, key=lambda group: group.first_frame):
        found.setdefault((group.individual, group.bodypart), []).append(group)
    order = dict.fromkeys((group.individual, group.bodypart) for group in table.row_groups)
    return {track: found[track] for track in order}


def _track_names(tracks: Iterable[tuple[str, str]]) -> str:
    return quoted(" of ".join(filter(None, (bodypart, animal))) for animal, bodypart in tracks)


def _rows(table: PoseTableFile, group: RowGroup) -> int:
    return int(table.footer.row_group(group.number).num_rows)


def _span(table: PoseTableFile) -> tuple[int, int]:
    """Return the first frame, and the one after the last."""
    return table.first_frame, max(group.first_frame + _rows(table, group) for group in table.row_groups)


def _stretches(old: PoseTableFile, new: PoseTableFile, first: int, last: int) -> Iterator[tuple[int, int]]:
    """Give the frames *first* to *last* in pieces that no row group of either table begins within."""
    starts = {group.first_frame for table in (old, new) for group in table.row_groups}
    cuts = [first, *sorted(start for start in starts if first < start < last), last]
    yield from pairwise(cuts)


def _values(
    table: PoseTableFile, parquet: pq.ParquetFile, groups: Sequence[RowGroup], start: int, stop: int
) -> np.ndarray:
    """Return (3, frames) float32: x, y, likelihood of a track from *start* to *stop*, which lie in one of its row groups."""
    for group in groups:
        if group.first_frame <= start and stop <= group.first_frame + _rows(table, group):
            rows = parquet.read_row_group(group.number, columns=["x", "y", "likelihood"])
            columns = [np.asarray(rows[name].to_numpy(), dtype=np.float32) for name in ("x", "y", "likelihood")]
            return np.stack(columns)[:, start - group.first_frame : stop - group.first_frame]
    raise InputError(
        f"{table.path}: the frames {start} to {stop - 1} of {_track_names([(groups[0].individual, groups[0].bodypart)])} are "
        "missing, as other body parts have them; another program has rewritten the file. Estimate the poses again."
    )
