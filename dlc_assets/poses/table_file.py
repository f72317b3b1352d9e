"""Writing and reading one pose table: a Parquet file whose row groups each hold one body part of one animal.

A row group's statistics then name its body part, so that one body part is read without touching the others.
pyarrow's own ``filters=`` comes to the same rows over ten times slower.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from dlc_assets.lab.errors import InputError, NotFoundError, did_you_mean
from dlc_assets.lab.files import atomic_path, content_hash
from dlc_assets.poses.schema import COLUMNS, METADATA_KEY, PoseMetadata, Track, arrow_schema

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

ROW_GROUP_FRAMES = 131_072  # 0.5 MiB a float32 column: long enough to compress well, short enough to skip to

BLOCK_BYTES = 1 << 22  # of poses that are asked for at once
IN_MEMORY_BYTES = 1 << 24  # of poses that are turned around in memory; more of them take a file of their own

Blocks = Callable[[int, int], np.ndarray]
"""Poses of the frames *first* up to, not including, *last*, counted from the recording's first frame: shape
(last - first, tracks, 3), float32, x and y in px and the likelihood, NaN where nothing was found."""

_VALUES = ("x", "y", "likelihood")
_GROUPS_A_CALL = 2  # row groups that are decoded together: each call costs, and so does memory that was never touched
_FLOAT = np.dtype("<f4")


@dataclass(frozen=True)
class PoseSummary:
    """What was written.

    Parameters
    ----------
    data_version
        Hash of the content, see `pose_content_hash`.
    rows
        Rows of the table.
    mean_likelihood
        By track, in the order in which they were given, over the frames that have one; NaN where none has.
    share_below_pcutoff
        By track, the share of frames whose likelihood does not reach the p-cutoff (or is missing); NaN without a p-cutoff.
    """

    data_version: str
    rows: int
    mean_likelihood: tuple[float, ...]
    share_below_pcutoff: tuple[float, ...]


def write_poses(
    path: Path,
    names: Sequence[tuple[str, str]],
    blocks: Blocks,
    times: np.ndarray,
    metadata: PoseMetadata,
    *,
    first_frame: int = 0,
) -> PoseSummary:
    """Write the pose table at *path* in one step, from poses that need not fit into memory.

    Poses come frame by frame and lie body part by body part in the file: they are turned around in a nameless file beside it,
    of 12 bytes a frame and track. Each is asked for once. Memory does not grow with the number of frames, but for *times*.

    Parameters
    ----------
    names
        (individual, body part) of each track, in the order of *blocks*. Rows are ordered by individual and body part as given,
        then by frame.
    blocks
        Gives the poses; see `Blocks`. A NaN becomes a null.
    times
        Shape (frames,), float64, s on the session's clock; finite.
    metadata
        Is stored with the `data_version` of the content and the `layout` of the file, whatever it states.
    first_frame
        Number of the first frame, for a file that holds a later part of a recording.

    Raises
    ------
    InputError
        A track comes twice, a time is not finite, *blocks* gives another shape, or tracks and *metadata* contradict.
    EnvironmentProblem
        The disk is full.
    """
    import pyarrow.parquet as pq

    times = np.asarray(times, dtype=np.float64)
    _check(names, times, metadata, first_frame)
    ordered = _in_row_order(names)
    with atomic_path(path) as partial, _ByTrack(len(names), len(times), partial.parent) as poses:
        poses.fill(blocks, first_frame, _where(metadata))
        version = _data_version(names, times, poses.hashes())
        layout = {
            "tracks": [list(names[track]) for track in ordered],
            "first_frame": first_frame,
            "row_group_frames": ROW_GROUP_FRAMES,
        }
        stated = replace(metadata, data_version=version, layout=layout)
        schema = arrow_schema().with_metadata({METADATA_KEY: stated.to_json().encode()})
        counts = [_Likelihoods(metadata.pcutoff) for _ in names]
        with pq.ParquetWriter(
            partial,
            schema,
            compression={column.name: _compression(column.name) for column in COLUMNS},
            use_dictionary=[column.name for column in COLUMNS if column.encoded],
            use_byte_stream_split=[column.name for column in COLUMNS if column.arrow.startswith("float")],
            column_encoding={"frame": "DELTA_BINARY_PACKED"},
        ) as writer:
            for track in ordered:
                for start in range(0, len(times), ROW_GROUP_FRAMES):
                    values = poses.read(track, start, min(start + ROW_GROUP_FRAMES, len(times)))
                    counts[track].add(values[2])
                    of = times[start : start + ROW_GROUP_FRAMES]
                    row_group = _row_group(names[track], values, of, metadata.recording, first_frame + start, schema)
                    writer.write_table(row_group, row_group_size=ROW_GROUP_FRAMES)
    return PoseSummary(
        version,
        len(names) * len(times),
        tuple(count.mean for count in counts),
        tuple(count.share_below for count in counts),
    )


def write_pose_table(
    path: Path, tracks: Sequence[Track], times: np.ndarray, metadata: PoseMetadata, *, first_frame: int = 0
) -> PoseSummary:
    """Write *tracks*, each as long as *times*, with `write_poses`.

    Raises
    ------
    InputError
        As `write_poses`, and where lengths differ.
    """
    names = [(track.individual, track.bodypart) for track in tracks]
    _check_lengths(tracks, np.shape(times), metadata)

    def blocks(first: int, last: int) -> np.ndarray:
        return _stacked(tracks, first - first_frame, last - first_frame)

    return write_poses(path, names, blocks, times, metadata, first_frame=first_frame)


def read_pose_metadata(path: Path) -> PoseMetadata:
    """Return what the pose table at *path* says of itself; reads the file's footer only.

    Raises
    ------
    NotFoundError
        There is no file.
    InputError
        The file is not a pose table.
    """
    return _metadata_of(path, _footer(path))


def read_pose_table(
    path: Path,
    *,
    bodyparts: Iterable[str] | str | None = None,
    individuals: Iterable[str] | str | None = None,
) -> pa.Table:
    """Return the rows of the pose table at *path*, in the file's order; None stands for all.

    Raises
    ------
    NotFoundError
        There is no file, or it has no such body part or individual.
    InputError
        The file is not a pose table.
    """
    table_file = PoseTableFile.open(path)
    return table_file.read(table_file.choose(bodyparts, individuals))


def read_tracks(
    path: Path,
    *,
    bodyparts: Iterable[str] | str | None = None,
    individuals: Iterable[str] | str | None = None,
) -> tuple[np.ndarray, list[Track]]:
    """Return times ((frames,), float64, s) and tracks of the table at *path*; errors as `read_pose_table`."""
    table_file = PoseTableFile.open(path)
    tracks = table_file.tracks(table_file.choose(bodyparts, individuals))
    return table_file.times(), tracks


def read_thinned_tracks(path: Path, most: int) -> tuple[np.ndarray, list[Track]]:
    """Return times and tracks of evenly spaced frames of the table at *path*, the first one among them; errors as `read_pose_metadata`.

    Memory does not grow with the length of the recording: row groups are read one after the other.

    Parameters
    ----------
    most
        Frames to return at most.

    Returns
    -------
    tuple
        As of `read_tracks`, for every n-th frame.
    """
    return PoseTableFile.open(path).thinned(most)


def pose_content_hash(tracks: Sequence[Track], times: np.ndarray) -> str:
    """Return the data version of a table of *tracks* and *times*: the sha256 (hex) of the values that it holds.

    It is made of one sha256 for the times and one for each track's x, y and likelihood, with the names, as JSON. It does not depend on
    how Parquet encodes the values or on how they were cut into blocks, nor on the bit pattern of a NaN or the sign of a zero.
    """
    digests = [
        [_Digest(_FLOAT).add(np.asarray(getattr(track, column))).hexdigest() for column in _VALUES] for track in tracks
    ]
    return _data_version([(track.individual, track.bodypart) for track in tracks], times, digests)


@dataclass(frozen=True)
class RowGroup:
    """Where one stretch of one track lies in the file, by the row group's statistics."""

    number: int
    individual: str
    bodypart: str
    first_frame: int


@dataclass(frozen=True)
class PoseTableFile:
    """A pose table's footer, from which rows are read by row group; holds no file open."""

    path: Path
    footer: pq.FileMetaData
    metadata: PoseMetadata
    row_groups: tuple[RowGroup, ...]

    @classmethod
    def open(cls, path: Path) -> PoseTableFile:
        """Read the footer of the pose table at *path*; errors as `read_pose_metadata`."""
        footer = _footer(path)
        metadata = _metadata_of(path, footer)
        row_groups = _laid_out(footer, metadata) or tuple(_indexed(path, footer))
        return cls(path, footer, metadata, row_groups)

    @property
    def bodyparts(self) -> list[str]:
        """Body parts in the file's order."""
        return list(dict.fromkeys(group.bodypart for group in self.row_groups))

    @property
    def individuals(self) -> list[str]:
        """Individuals in the file's order."""
        return list(dict.fromkeys(group.individual for group in self.row_groups))

    @property
    def first_frame(self) -> int:
        """Number of the first frame in this file."""
        return min(group.first_frame for group in self.row_groups)

    def choose(
        self, bodyparts: Iterable[str] | str | None = None, individuals: Iterable[str] | str | None = None
    ) -> list[RowGroup]:
        """Return the row groups of the named body parts and individuals; None stands for all.

        Raises
        ------
        NotFoundError
            The file has no such body part or individual, or no such body part of such an individual.
        """
        parts, animals = as_names(bodyparts), as_names(individuals)
        require_known("body part", parts, self.bodyparts, str(self.path))
        require_known("individual", animals, self.individuals, str(self.path))
        chosen = self.matching(parts, animals)
        if not chosen:
            raise NotFoundError(
                f"{self.path}: none of the individuals {quoted(animals or self.individuals)} has any of the "
                f"body parts {quoted(parts or self.bodyparts)}."
            )
        return chosen

    def matching(self, bodyparts: Sequence[str] | None, individuals: Sequence[str] | None) -> list[RowGroup]:
        """Return the row groups of those of the body parts and individuals that the file has; maybe none."""
        return [
            group
            for group in self.row_groups
            if (bodyparts is None or group.bodypart in bodyparts)
            and (individuals is None or group.individual in individuals)
        ]

    def read(self, row_groups: Sequence[RowGroup], columns: Sequence[str] | None = None) -> pa.Table:
        """Return the rows of *row_groups* as an Arrow table, with all columns or those of *columns*."""
        import pyarrow.parquet as pq

        # not memory-mapped: no faster, and a store on a network share would turn a lost connection into a crash
        self._check(row_groups)
        with pq.ParquetFile(self.path, metadata=self.footer) as parquet:
            return parquet.read_row_groups([group.number for group in row_groups], columns=columns)

    def times(self) -> np.ndarray:
        """Return the frames' times, shape (frames,), float64, s on the session's clock."""
        first = self.row_groups[0]
        return self.read(self.matching([first.bodypart], [first.individual]), ["time"])["time"].to_numpy()

    def time_blocks(self) -> Iterator[np.ndarray]:
        """Yield the frames' times row group by row group, float64, s on the session's clock."""
        first = self.row_groups[0]
        for group in self.matching([first.bodypart], [first.individual]):
            yield self.read([group], ["time"])["time"].to_numpy()

    def streams(self) -> list[TrackStream]:
        """Return every track, to be read row group by row group."""
        groups_of: dict[tuple[str, str], list[RowGroup]] = {}
        for group in self.row_groups:
            groups_of.setdefault((group.individual, group.bodypart), []).append(group)
        return [TrackStream(self, *name, tuple(groups)) for name, groups in groups_of.items()]

    def values(self, row_groups: Sequence[RowGroup]) -> tuple[list[tuple[str, str]], np.ndarray]:
        """Return (individual, body part) of the tracks that *row_groups* make up, and their values.

        Returns
        -------
        tuple
            The names, and (tracks, 3, frames) float32: x, y, likelihood; NaN for a null.
        """
        import pyarrow as pa

        groups_of: dict[tuple[str, str], list[RowGroup]] = {}
        for group in row_groups:
            groups_of.setdefault((group.individual, group.bodypart), []).append(group)
        frames = sum(self._rows(group) for group in next(iter(groups_of.values())))
        values = np.empty((len(groups_of), len(_VALUES), frames), dtype=np.float32)
        places: list[list[tuple[RowGroup, np.ndarray]]] = []
        for track, groups in zip(values, groups_of.values(), strict=True):
            start = 0
            for number, group in enumerate(groups):
                if number % _GROUPS_A_CALL == 0:
                    places.append([])
                places[-1].append((group, track[:, start : start + self._rows(group)]))
                start += self._rows(group)
        self._check(row_groups)
        # each processor takes whole row groups: better shared than column by column in one call of pyarrow's
        workers = min(pa.cpu_count(), len(places))
        if workers < 2:
            self._fill(places)
            return list(groups_of), values
        with ThreadPoolExecutor(workers - 1) as pool:
            others = [pool.submit(self._fill, places[first::workers]) for first in range(1, workers)]
            self._fill(places[::workers])
            for done in others:
                done.result()
        return list(groups_of), values

    def _fill(self, places: Sequence[Sequence[tuple[RowGroup, np.ndarray]]]) -> None:
        """Read row groups, those of one call together, each into its own place (3, rows)."""
        import pyarrow.parquet as pq

        with pq.ParquetFile(self.path, metadata=self.footer) as parquet:
            for together in places:
                numbers = [group.number for group, _ in together]
                rows = parquet.read_row_groups(numbers, columns=_VALUES, use_threads=False)
                for column, name in enumerate(_VALUES):
                    start = 0
                    for _, place in together:
                        place[column] = rows[name].slice(start, place.shape[1]).to_numpy()
                        start += place.shape[1]

    def _check(self, row_groups: Sequence[RowGroup]) -> None:
        """Raise an InputError where the file's statistics say another thing of a row group than its stated layout."""
        columns = _columns(self.footer)
        for group in row_groups:
            found = _statistics(self.path, self.footer.row_group(group.number), group.number, columns)
            if found != group:
                raise InputError(
                    f"{self.path}: row group {group.number} holds {_named(found.individual, found.bodypart)} from frame "
                    f"{found.first_frame} on, where the file says that it holds {_named(group.individual, group.bodypart)} from "
                    f"frame {group.first_frame} on; another program has rewritten the file. Estimate the poses again, or restore it."
                )

    def tracks(self, row_groups: Sequence[RowGroup]) -> list[Track]:
        """Return the tracks that *row_groups* make up."""
        return [Track(*name, *values) for name, values in zip(*self.values(row_groups), strict=True)]

    def names(self) -> list[tuple[str, str]]:
        """Return (individual, body part) of every track, in the file's order."""
        return list(dict.fromkeys((group.individual, group.bodypart) for group in self.row_groups))

    def stretch(self, name: tuple[str, str], first: int, last: int) -> tuple[np.ndarray, Track]:
        """Return times and points of the track called *name* from the file's frame *first* up to, not including, *last*, counted from 0.

        No more than the row groups in which these frames lie is read.
        """
        times, values, start = [], [], 0
        for group in self.matching([name[1]], [name[0]]):
            stop = start + self._rows(group)
            if start < last and stop > first:
                rows = self.read([group], [*_VALUES, "time"])
                kept = slice(max(first - start, 0), last - start)
                times.append(rows["time"].to_numpy()[kept])
                values.append(np.stack([_floats(rows, column)[kept] for column in _VALUES]))
            start = stop
        if not values:
            return np.empty(0), Track(*name, *np.empty((3, 0), dtype=np.float32))
        return np.concatenate(times), Track(*name, *np.concatenate(values, axis=1))

    def thinned(self, most: int) -> tuple[np.ndarray, list[Track]]:
        """Return times and tracks of at most *most* evenly spaced frames; see `read_thinned_tracks`."""
        import pyarrow.parquet as pq

        names = self.names()
        frames = sum(self._rows(group) for group in self.row_groups) // len(names)
        step = -(-frames // most)
        times: list[np.ndarray] = []
        values: dict[tuple[str, str], list[np.ndarray]] = {name: [] for name in names}
        with pq.ParquetFile(self.path, metadata=self.footer) as parquet:
            for group in self.row_groups:
                of = group.individual, group.bodypart
                columns = [*_VALUES, "time"] if of == names[0] else _VALUES
                rows = parquet.read_row_group(group.number, columns=columns)
                kept = slice(-(group.first_frame - self.first_frame) % step, None, step)
                values[of].append(np.stack([_floats(rows, name)[kept] for name in _VALUES]))
                if "time" in columns:
                    times.append(rows["time"].to_numpy()[kept].copy())
        return np.concatenate(times), [Track(*name, *np.concatenate(values[name], axis=1)) for name in names]

    def _rows(self, group: RowGroup) -> int:
        return int(self.footer.row_group(group.number).num_rows)


@dataclass(frozen=True)
class TrackStream:
    """One track of a pose table's file, of which no more than a row group is in memory."""

    file: PoseTableFile
    individual: str
    bodypart: str
    row_groups: tuple[RowGroup, ...]

    @property
    def frame_count(self) -> int:
        """How many frames the track has."""
        return sum(int(self.file.footer.row_group(group.number).num_rows) for group in self.row_groups)

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield the values in the order of frames: (3, rows) float32 of x, y, likelihood; NaN for a null."""
        for group in self.row_groups:
            yield self.file.values([group])[1][0]


def as_names(names: Iterable[str] | str | None) -> tuple[str, ...] | None:
    """Return *names* as a tuple, one name by itself as a tuple of it, and None as None."""
    if names is None:
        return None
    return (names,) if isinstance(names, str) else tuple(names)


def require_known(what: str, wanted: Sequence[str] | None, known: Sequence[str], where: str) -> None:
    """Raise a NotFoundError that names the first of *wanted* that is not *known*, and all that are."""
    for name in wanted or ():
        if name not in known:
            raise NotFoundError(
                f'{where}: there is no {what} "{name}".{did_you_mean(name, known)} There is: {quoted(known)}.'
            )


def quoted(names: Iterable[str]) -> str:
    """Return names for a message; an empty one stays visible."""
    return ", ".join(f'"{name}"' for name in names)


class _ByTrack(AbstractContextManager["_ByTrack"]):
    """Poses that come frame by frame and are read track by track: 12 bytes for each frame of each track, in memory or, where
    that is too much, in a file without a name, which ends with the process."""

    def __init__(self, tracks: int, frames: int, folder: Path) -> None:
        self._tracks, self._frames = tracks, frames
        size = tracks * frames * len(_VALUES) * _FLOAT.itemsize
        self._file: IO[bytes] = io.BytesIO() if size <= IN_MEMORY_BYTES else tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        self._digests = [[_Digest(_FLOAT) for _ in _VALUES] for _ in range(tracks)]

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def fill(self, blocks: Blocks, first_frame: int, where: str) -> None:
        """Ask *blocks* for every frame once, in order."""
        step = max(1, BLOCK_BYTES // (self._tracks * len(_VALUES) * _FLOAT.itemsize))
        for start in range(0, self._frames, step):
            stop = min(start + step, self._frames)
            block = np.asarray(blocks(first_frame + start, first_frame + stop))
            if block.shape != (stop - start, self._tracks, len(_VALUES)):
                raise InputError(
                    f"{where}: expected poses of shape {(stop - start, self._tracks, len(_VALUES))} (frames, tracks, values) for "
                    f"the frames {first_frame + start} to {first_frame + stop - 1}, got {block.shape}."
                )
            turned = np.ascontiguousarray(block.transpose(1, 2, 0), dtype=_FLOAT)
            for track, columns in enumerate(turned):
                for column, values in enumerate(columns):
                    self._seek(track, column, start)
                    self._file.write(memoryview(values))
                    self._digests[track][column].add(values)

    def hashes(self) -> list[list[str]]:
        """Return the hashes of each track's values, by column."""
        return [[digest.hexdigest() for digest in of_track] for of_track in self._digests]

    def read(self, track: int, start: int, stop: int) -> np.ndarray:
        """Return (3, stop - start) float32: the values of *track* in the frames *start* up to, not including, *stop*."""
        values = np.empty((len(_VALUES), stop - start), dtype=_FLOAT)
        for column, row in enumerate(values):
            self._seek(track, column, start)
            row[:] = np.frombuffer(self._file.read(row.nbytes), dtype=_FLOAT)
        return values

    def _seek(self, track: int, column: int, frame: int) -> None:
        self._file.seek(((track * len(_VALUES) + column) * self._frames + frame) * _FLOAT.itemsize)


class _Digest:
    """The sha256 of numbers that come piece by piece; every NaN is one NaN, and -0.0 is 0.0."""

    def __init__(self, dtype: np.dtype[Any]) -> None:
        self._dtype, self._digest = dtype, hashlib.sha256()

    def add(self, values: np.ndarray) -> _Digest:
        plain = values.astype(self._dtype) + self._dtype.type(0)  # turns -0.0 into 0.0
        plain[np.isnan(plain)] = np.nan
        self._digest.update(memoryview(plain))
        return self

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


class _Likelihoods:
    """Mean and share below the p-cutoff of one track's likelihoods, which come a row group at a time."""

    def __init__(self, pcutoff: float | None) -> None:
        self._pcutoff = pcutoff
        self._total, self._known, self._below, self._frames = 0.0, 0, 0, 0

    def add(self, likelihood: np.ndarray) -> None:
        self._total += float(np.nansum(likelihood, dtype=np.float64))
        self._known += int(np.count_nonzero(~np.isnan(likelihood)))
        self._frames += len(likelihood)
        if self._pcutoff is not None:
            self._below += int(np.count_nonzero(~(likelihood >= self._pcutoff)))

    @property
    def mean(self) -> float:
        return self._total / self._known if self._known else np.nan

    @property
    def share_below(self) -> float:
        return np.nan if self._pcutoff is None else self._below / self._frames


def _data_version(names: Sequence[tuple[str, str]], times: np.ndarray, digests: Sequence[Sequence[str]]) -> str:
    of_times = _Digest(np.dtype("<f8"))
    for start in range(0, len(times), ROW_GROUP_FRAMES):
        of_times.add(times[start : start + ROW_GROUP_FRAMES])
    return content_hash(
        {
            "frames": len(times),
            "times": of_times.hexdigest(),
            "tracks": [[*names[track], *digests[track]] for track in _in_row_order(names)],
        }
    )


def _in_row_order(names: Sequence[tuple[str, str]]) -> list[int]:
    """Return the places of *names*, those of one individual together."""
    rank = {individual: place for place, individual in enumerate(dict.fromkeys(individual for individual, _ in names))}
    return sorted(range(len(names)), key=lambda track: rank[names[track][0]])


def _where(metadata: PoseMetadata) -> str:
    return f"session {metadata.session}, recording {metadata.recording}"


def _check(names: Sequence[tuple[str, str]], times: np.ndarray, metadata: PoseMetadata, first_frame: int) -> None:
    where = _where(metadata)
    if times.ndim != 1 or not len(times) or not names:
        raise InputError(
            f"{where}: expected at least one track and one frame time, got {len(names)} tracks and times of "
            f"shape {times.shape}."
        )
    if not (np.isfinite(times.min()) and np.isfinite(times.max())):  # a NaN among them is both
        bad = int(np.flatnonzero(~np.isfinite(times))[0])
        raise InputError(f"{where}: the time of frame {first_frame + bad} is {times[bad]}; every frame needs a time.")
    if first_frame < 0 or first_frame + len(times) > metadata.frame_count:
        raise InputError(
            f"{where}: frames {first_frame} to {first_frame + len(times) - 1} do not fit into a recording of "
            f"{metadata.frame_count} frames."
        )
    seen = set()
    for individual, bodypart in names:
        if (individual, bodypart) in seen:
            raise InputError(f"{where}: {_named(individual, bodypart)} comes twice; expected one track each.")
        seen.add((individual, bodypart))
        if metadata.bodyparts and bodypart not in metadata.bodyparts:
            raise InputError(
                f"{where}: {_named(individual, bodypart)} is not among the model's body parts {quoted(metadata.bodyparts)}."
            )


def _named(individual: str, bodypart: str) -> str:
    return f'body part "{bodypart}" of individual "{individual}"'


def _check_lengths(tracks: Sequence[Track], shape: tuple[int, ...], metadata: PoseMetadata) -> None:
    for track in tracks:
        for column in _VALUES:
            found = np.shape(getattr(track, column))
            if found != shape:
                raise InputError(
                    f"{_where(metadata)}: {_named(track.individual, track.bodypart)} has {column} of shape {found}; there are "
                    f"{shape[0] if shape else 0} frame times."
                )


def _stacked(tracks: Sequence[Track], first: int, last: int) -> np.ndarray:
    block = np.empty((last - first, len(tracks), len(_VALUES)), dtype=np.float32)
    for place, track in enumerate(tracks):
        for column, name in enumerate(_VALUES):
            block[:, place, column] = getattr(track, name)[first:last]
    return block


def _row_group(
    name: tuple[str, str], values: np.ndarray, times: np.ndarray, recording: str, first_frame: int, schema: pa.Schema
) -> pa.Table:
    import pyarrow as pa

    rows = len(times)
    columns: dict[str, Any] = {
        "recording": _repeated(recording, rows),
        "frame": pa.array(np.arange(rows, dtype=np.int32) + np.int32(first_frame)),
        "time": pa.array(times),
        "individual": _repeated(name[0], rows),
        "bodypart": _repeated(name[1], rows),
        **{column: _nullable(of_column) for column, of_column in zip(_VALUES, values, strict=True)},
    }
    return pa.table([columns[column] for column in schema.names], schema=schema)


def _repeated(name: str, rows: int) -> pa.DictionaryArray:
    import pyarrow as pa

    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, dtype=np.int32)), pa.array([name]))


def _compression(column: str) -> str:
    # Most bytes of a coordinate are noise that nothing compresses: zstd saves 2 % more, and takes twice as long to read.
    return "lz4" if column in _VALUES else "zstd"


def _nullable(values: np.ndarray) -> pa.Array:
    import pyarrow as pa

    return pa.array(np.asarray(values, dtype=np.float32), type=pa.float32(), from_pandas=True)


def _floats(rows: pa.Table, column: str) -> np.ndarray:
    # float32 again though every value be null, where pyarrow would choose for itself
    return np.asarray(rows[column].to_numpy(), dtype=np.float32)


def _footer(path: Path) -> pq.FileMetaData:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.exists():
        raise NotFoundError(f"There is no pose table at {path}.")
    try:
        return pq.read_metadata(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(
            f"{path}: expected a pose table (a Parquet file), but it cannot be read as one: {error}"
        ) from error


def _metadata_of(path: Path, footer: pq.FileMetaData) -> PoseMetadata:
    stated = (footer.metadata or {}).get(METADATA_KEY)
    if stated is None:
        raise InputError(
            f"{path}: expected a pose table, but this Parquet file has no metadata under "
            f"{METADATA_KEY.decode()!r}; another program wrote it."
        )
    try:
        return PoseMetadata.from_json(stated)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _laid_out(footer: pq.FileMetaData, metadata: PoseMetadata) -> tuple[RowGroup, ...]:
    """Return the row groups by the stated layout, without asking the statistics of each; empty where there is none that fits."""
    layout = metadata.layout
    if not layout or not layout["tracks"] or footer.num_row_groups % len(layout["tracks"]):
        return ()
    each = footer.num_row_groups // len(layout["tracks"])
    return tuple(
        RowGroup(
            track * each + number, individual, bodypart, layout["first_frame"] + number * layout["row_group_frames"]
        )
        for track, (individual, bodypart) in enumerate(layout["tracks"])
        for number in range(each)
    )


def _indexed(path: Path, footer: pq.FileMetaData) -> Iterator[RowGroup]:
    columns = _columns(footer)
    missing = [column.name for column in COLUMNS if column.name not in columns]
    if missing:
        raise InputError(f"{path}: the pose table lacks the columns {quoted(missing)}.")
    for number in range(footer.num_row_groups):
        yield _statistics(path, footer.row_group(number), number, columns)


def _columns(footer: pq.FileMetaData) -> dict[str, int]:
    return {footer.schema.column(number).path: number for number in range(footer.num_columns)}


def _statistics(path: Path, group: pq.RowGroupMetaData, number: int, columns: Mapping[str, int]) -> RowGroup:
    """Return what a row group's statistics say that it holds."""
    individual, bodypart = (
        _only_value(path, number, group.column(columns[name])) for name in ("individual", "bodypart")
    )
    return RowGroup(number, individual, bodypart, group.column(columns["frame"]).statistics.min)


def _only_value(path: Path, number: int, chunk: pq.ColumnChunkMetaData) -> str:
    statistics = chunk.statistics
    if statistics is None or not statistics.has_min_max or statistics.min != statistics.max:
        raise InputError(
            f"{path}: row group {number} does not hold one {chunk.path_in_schema} alone, as a pose table's "
            "must; another program has rewritten the file. Estimate the poses again, or restore the file."
        )
    return statistics.min
