"""Writing and reading one pose table: a Parquet file whose row groups each hold one body part of one animal.

A row group's statistics then name its body part, so that one body part is read without touching the others.
pyarrow's own ``filters=`` comes to the same rows over ten times slower.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dlc_assets.lab.errors import InputError, NotFoundError, did_you_mean
from dlc_assets.lab.files import atomic_path
from dlc_assets.poses.schema import COLUMNS, METADATA_KEY, PoseMetadata, Track, arrow_schema

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

ROW_GROUP_FRAMES = 131_072  # 0.5 MiB a float32 column: long enough to compress well, short enough to skip to

_VALUES = ("x", "y", "likelihood")


def write_pose_table(
    path: Path, tracks: Sequence[Track], times: np.ndarray, metadata: PoseMetadata, *, first_frame: int = 0
) -> None:
    """Write *tracks* to *path* in one step.

    Rows are ordered by individual and body part as given, then by frame. A NaN becomes a null.

    Parameters
    ----------
    tracks
        One per (individual, body part), each as long as *times*.
    times
        Shape (frames,), float64, s on the session's clock; finite.
    first_frame
        Number of the first frame, for a file that holds a later part of a recording.

    Raises
    ------
    InputError
        Lengths differ, a track comes twice, a time is not finite, or tracks and *metadata* contradict.
    """
    import pyarrow.parquet as pq

    times = np.asarray(times, dtype=np.float64)
    ordered = _in_row_order(tracks)
    _check(ordered, times, metadata, first_frame)
    schema = arrow_schema().with_metadata({METADATA_KEY: metadata.to_json().encode()})
    with (
        atomic_path(path) as partial,
        pq.ParquetWriter(
            partial,
            schema,
            compression="zstd",
            use_dictionary=[column.name for column in COLUMNS if column.encoded],
            use_byte_stream_split=[column.name for column in COLUMNS if column.arrow.startswith("float")],
            column_encoding={"frame": "DELTA_BINARY_PACKED"},
        ) as writer,
    ):
        for row_group in _row_groups(ordered, times, metadata.recording, first_frame, schema):
            writer.write_table(row_group, row_group_size=ROW_GROUP_FRAMES)


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


def pose_content_hash(tracks: Sequence[Track], times: np.ndarray) -> str:
    """Return the sha256 (hex) of the values that a table of *tracks* and *times* holds.

    It does not depend on how Parquet encodes them, nor on the bit pattern of a NaN or the sign of a zero.
    """
    digest = hashlib.sha256()

    def add(values: np.ndarray, dtype: str) -> None:
        plain = np.asarray(values).astype(dtype) + 0.0  # turns -0.0 into 0.0
        plain[np.isnan(plain)] = np.nan
        digest.update(plain.astype(dtype).tobytes())

    digest.update(json.dumps([len(times)]).encode())
    add(times, "<f8")
    for track in _in_row_order(tracks):
        digest.update(json.dumps([track.individual, track.bodypart, len(track.x)]).encode())
        for values in (track.x, track.y, track.likelihood):
            add(values, "<f4")
    return digest.hexdigest()


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
        return cls(path, footer, _metadata_of(path, footer), tuple(_indexed(path, footer)))

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
        with pq.ParquetFile(self.path, metadata=self.footer) as parquet:
            return parquet.read_row_groups([group.number for group in row_groups], columns=columns)

    def times(self) -> np.ndarray:
        """Return the frames' times, shape (frames,), float64, s on the session's clock."""
        first = self.row_groups[0]
        return self.read(self.matching([first.bodypart], [first.individual]), ["time"])["time"].to_numpy()

    def tracks(self, row_groups: Sequence[RowGroup]) -> list[Track]:
        """Return the tracks that *row_groups* make up."""
        groups_of: dict[tuple[str, str], list[RowGroup]] = {}
        for group in row_groups:
            groups_of.setdefault((group.individual, group.bodypart), []).append(group)
        rows = self.read([group for groups in groups_of.values() for group in groups], _VALUES)
        x, y, likelihood = (_floats(rows, name).reshape(len(groups_of), -1) for name in _VALUES)
        return [Track(*names, x[place], y[place], likelihood[place]) for place, names in enumerate(groups_of)]


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


def _in_row_order(tracks: Sequence[Track]) -> list[Track]:
    rank = {name: place for place, name in enumerate(dict.fromkeys(track.individual for track in tracks))}
    return sorted(tracks, key=lambda track: rank[track.individual])


def _check(tracks: Sequence[Track], times: np.ndarray, metadata: PoseMetadata, first_frame: int) -> None:
    where = f"session {metadata.session}, recording {metadata.recording}"
    if times.ndim != 1 or not len(times) or not tracks:
        raise InputError(
            f"{where}: expected at least one track and one frame time, got {len(tracks)} tracks and times of "
            f"shape {times.shape}."
        )
    if not np.isfinite(times).all():
        bad = int(np.flatnonzero(~np.isfinite(times))[0])
        raise InputError(f"{where}: the time of frame {first_frame + bad} is {times[bad]}; every frame needs a time.")
    if first_frame < 0 or first_frame + len(times) > metadata.frame_count:
        raise InputError(
            f"{where}: frames {first_frame} to {first_frame + len(times) - 1} do not fit into a recording of "
            f"{metadata.frame_count} frames."
        )
    seen = set()
    for track in tracks:
        name = f'body part "{track.bodypart}" of individual "{track.individual}"'
        if (track.individual, track.bodypart) in seen:
            raise InputError(f"{where}: {name} comes twice; expected one track each.")
        seen.add((track.individual, track.bodypart))
        if metadata.bodyparts and track.bodypart not in metadata.bodyparts:
            raise InputError(f"{where}: {name} is not among the model's body parts {quoted(metadata.bodyparts)}.")
        for column in _VALUES:
            shape = np.shape(getattr(track, column))
            if shape != times.shape:
                raise InputError(f"{where}: {name} has {column} of shape {shape}; there are {len(times)} frame times.")


def _row_groups(
    tracks: Sequence[Track], times: np.ndarray, recording: str, first_frame: int, schema: pa.Schema
) -> Iterator[pa.Table]:
    import pyarrow as pa

    for track in tracks:
        for start in range(0, len(times), ROW_GROUP_FRAMES):
            part = slice(start, start + ROW_GROUP_FRAMES)
            rows = len(times[part])
            values: dict[str, Any] = {
                "recording": _repeated(recording, rows),
                "frame": pa.array(np.arange(rows, dtype=np.int32) + np.int32(first_frame + start)),
                "time": pa.array(times[part]),
                "individual": _repeated(track.individual, rows),
                "bodypart": _repeated(track.bodypart, rows),
                "x": _nullable(track.x[part]),
                "y": _nullable(track.y[part]),
                "likelihood": _nullable(track.likelihood[part]),
            }
            yield pa.table([values[name] for name in schema.names], schema=schema)


def _repeated(name: str, rows: int) -> pa.DictionaryArray:
    import pyarrow as pa

    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, dtype=np.int32)), pa.array([name]))


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


def _indexed(path: Path, footer: pq.FileMetaData) -> Iterator[RowGroup]:
    place = {footer.schema.column(number).path: number for number in range(footer.num_columns)}
    missing = [column.name for column in COLUMNS if column.name not in place]
    if missing:
        raise InputError(f"{path}: the pose table lacks the columns {quoted(missing)}.")
    for number in range(footer.num_row_groups):
        group = footer.row_group(number)
        individual, bodypart = (
            _only_value(path, number, group.column(place[name])) for name in ("individual", "bodypart")
        )
        yield RowGroup(number, individual, bodypart, group.column(place["frame"]).statistics.min)


def _only_value(path: Path, number: int, chunk: pq.ColumnChunkMetaData) -> str:
    statistics = chunk.statistics
    if statistics is None or not statistics.has_min_max or statistics.min != statistics.max:
        raise InputError(
            f"{path}: row group {number} does not hold one {chunk.path_in_schema} alone, as a pose table's "
            "must; another program has rewritten the file. Estimate the poses again, or restore the file."
        )
    return statistics.min
