"""One pose table's file measured into a kinematics file; in memory are never more than a few columns of it."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from dlc_assets.derived import motion
from dlc_assets.derived.filter_steps import Clock, present
from dlc_assets.derived.filtering import track_name
from dlc_assets.derived.kinematics_schema import (
    UNIQUE,
    KinematicsMetadata,
    Measure,
    Plan,
    arrow_schema,
    plan_of,
)
from dlc_assets.derived.region_geometry import signed_distance
from dlc_assets.lab.files import content_hash
from dlc_assets.lab.kinematics_settings import KinematicsSettings, column_word
from dlc_assets.lab.regions import Region, region_words
from dlc_assets.poses.schema import METADATA_KEY
from dlc_assets.poses.table_file import ROW_GROUP_FRAMES, PoseTableFile, TrackStream

if TYPE_CHECKING:
    import pyarrow as pa

CENTROID_SHARE = 0.5  # of its body parts that must be known: few of them lie elsewhere than the middle of all


@dataclass(frozen=True)
class MeasuredRig:
    """What measures need of a recording's rig: its scale and regions, px of the full upright frame.

    *camera* says how the camera stood, *withheld* why nothing can be said in cm and of regions; None where that is not known or not so.
    """

    px_per_cm: float | None = None
    regions: Mapping[str, Region] = field(default_factory=dict)
    camera: str | None = None
    withheld: str | None = None

    @property
    def words(self) -> dict[str, Any]:
        """Scale and regions in one form, for hashes."""
        return {
            "px_per_cm": self.px_per_cm,
            "regions": {name: region_words(region) for name, region in self.regions.items()},
        }


@dataclass(frozen=True)
class MeasuredFile:
    """What became of one recording: *summaries* are one of each individual with a centroid, see `Measuring.summary`."""

    metadata: KinematicsMetadata
    rows: int
    columns: list[str]
    summaries: list[dict[str, Any]]
    problems: list[str]


def measure_file(
    source: Path, target: Path, settings: KinematicsSettings, rig: MeasuredRig, *, filtered: bool
) -> MeasuredFile:
    """Write at *target* the measures of the pose table at *source*: a row for each frame and individual.

    The same poses, settings and rig give the same file, byte for byte.

    Parameters
    ----------
    settings
        Names that the table does not have are left out.
    filtered
        Whether these are filtered poses; of others, points below the model's p-cutoff are taken for missing.

    Raises
    ------
    NotFoundError, InputError
        *source* is not there, or is no pose table.
    SettingsError
        Two measures would have one name.
    EnvironmentProblem
        The disk is full.
    """
    table = PoseTableFile.open(source)
    plan = plan_of(settings, table.bodyparts, list(rig.regions), in_cm=rig.px_per_cm is not None)
    measures = plan.measures()
    measuring = Measuring(table, settings, plan, rig, filtered)
    of_poses = table.metadata
    with _Columns(measures, measuring.frames, target.parent) as columns:
        summaries: list[dict[str, Any]] = []
        for individual in table.individuals:
            columns.begin(individual)
            for name, values in measuring.columns(individual):
                columns.put(name, values)
            if not measuring.is_unique(individual):
                summaries.append(measuring.summary(individual))
        rows = measuring.frames * len(table.individuals)
        metadata = KinematicsMetadata(
            model=of_poses.model,
            version=of_poses.version,
            session=of_poses.session,
            recording=of_poses.recording,
            device=of_poses.device,
            frame_count=of_poses.frame_count,
            rate=of_poses.rate,
            clock=of_poses.clock,
            source="filtered" if filtered else "raw",
            pcutoff=None if filtered else of_poses.pcutoff,
            settings=settings.model_dump(mode="json", by_alias=True),
            px_per_cm=rig.px_per_cm,
            regions=rig.words["regions"],
            camera=rig.camera,
            withheld=rig.withheld,
            known=columns.known(),
            poses=of_poses.data_version,
        )
        metadata = replace(
            metadata,
            data_version=content_hash(
                {
                    "columns": columns.hashes(),
                    "times": hashlib.sha256(measuring.clock.times.tobytes()).hexdigest(),
                    **rig.words,
                    "withheld": rig.withheld,
                }
            ),
        )
        _write(target, measures, metadata, measuring, columns)
    problems = [*measuring.problems(), *([rig.withheld] if rig.withheld else [])]
    names = [field.name for field in arrow_schema(measures)]
    return MeasuredFile(metadata, rows, names, summaries, problems)


@dataclass
class Measuring:
    """The measures of one recording, individual after individual."""

    table: PoseTableFile
    settings: KinematicsSettings
    plan: Plan
    rig: MeasuredRig
    filtered: bool

    def __post_init__(self) -> None:
        self._streams = {(stream.individual, stream.bodypart): stream for stream in self.table.streams()}
        self._seen: dict[tuple[str, str], bool] = {}
        self._summary: dict[str, dict[str, Any]] = {}

    @cached_property
    def clock(self) -> Clock:
        return Clock(self.table.times())

    @property
    def frames(self) -> int:
        return len(self.clock.times)

    @cached_property
    def _durations(self) -> np.ndarray:
        fps = self.table.metadata.fps
        return motion.durations(self.clock, None if fps is None else 1 / fps)

    def is_unique(self, individual: str) -> bool:
        """Say whether *individual* stands for body parts that belong to no animal."""
        return individual == UNIQUE and len(self.table.individuals) > 1

    def columns(self, individual: str) -> Iterator[tuple[str, np.ndarray]]:
        """Yield name and values ((frames,), NaN where unknown) of each measure of *individual* that is not in cm."""
        parts = [part for of, part in self._streams if of == individual]
        centroid = None if self.is_unique(individual) else _Centroid(self, individual, parts)
        for part in parts:
            xy = self.points(individual, part)
            moving = motion.velocity(self.clock, xy)
            accelerated = motion.velocity(self.clock, moving)
            if centroid is not None:
                centroid.add(part, xy, moving, accelerated)
            if part not in self.plan.bodyparts:
                continue
            word = column_word(part)
            yield f"{word}_speed_px_s", motion.magnitude(moving)
            yield f"{word}_acceleration_px_s2", motion.magnitude(accelerated)
            for region in self._regions():
                distance = signed_distance(self.rig.regions[region], xy[:, 0], xy[:, 1])
                yield f"{word}_distance_to_{column_word(region)}_px", distance
        if centroid is None:
            return
        yield from self._of_the_centroid(individual, centroid)
        if self.plan.body_axis is not None:
            first, second = (self.points(individual, part) for part in self.plan.body_axis)
            yield "body_axis_deg", motion.direction(second - first)
        for one, other in self.plan.distances:
            between = self.points(individual, other) - self.points(individual, one)
            yield f"distance_{column_word(one)}_{column_word(other)}_px", motion.magnitude(between)

    def summary(self, individual: str) -> dict[str, Any]:
        """Return what there is to say of *individual* in a few numbers, after its `columns` were asked for.

        ``known`` is the share of frames whose centroid is known, path length and speeds are the centroid's (None where nothing is
        known), ``regions`` is by name ``{"seconds", "share", "entries"}``: of the time in which the centroid is known.
        """
        return self._summary[individual]

    def problems(self) -> list[str]:
        """Say in sentences what a person should know, after all columns were asked for."""
        said = []
        if not self.filtered and self.table.metadata.pcutoff is None:
            said.append("the model states no p-cutoff, so that points count however unsure the network was of them.")
        never = [name for name, seen in self._seen.items() if not seen]
        if never and len(never) == len(self._streams):
            said.append("no body part has a point in any frame: nothing can be measured.")
        elif never:
            said.append(f"{', '.join(track_name(*name) for name in never)}: no point in any frame.")
        without = [summary["individual"] for summary in self._summary.values() if not summary["known"]]
        if without and len(never) < len(self._streams):
            named = f"the centroid of {', '.join(without)}" if any(without) else "the centroid"
            said.append(f"{named} is known in no frame: fewer than half of its body parts have a point.")
        return said

    def _regions(self) -> list[str]:
        return [] if self.rig.withheld else list(self.rig.regions)

    def points(self, individual: str, part: str) -> np.ndarray:
        """Return (frames, 2) float64, NaN where there is no point; of a part that is not the individual's, that of no animal's."""
        name = (individual, part) if (individual, part) in self._streams else (UNIQUE, part)
        stream = self._streams.get(name)
        if stream is None:
            return np.full((self.frames, 2), np.nan)
        xy = _read(stream, None if self.filtered else self.table.metadata.pcutoff)
        self._seen[name] = bool(present(xy).any())
        return xy

    def _of_the_centroid(self, individual: str, centroid: _Centroid) -> Iterator[tuple[str, np.ndarray]]:
        xy, moving, accelerated, length = centroid.measured(self.clock)
        known, speed = present(xy), motion.magnitude(moving)
        yield "centroid_x_px", xy[:, 0]
        yield "centroid_y_px", xy[:, 1]
        yield "speed_px_s", speed
        yield "acceleration_px_s2", motion.magnitude(accelerated)
        yield "heading_deg", motion.direction(moving)
        yield "path_length_px", length
        moved = speed[~np.isnan(speed)]
        seconds = float(self._durations[known].sum())
        in_px = {
            "path_length_px": float(length[known][-1]) if known.any() else None,
            "mean_speed_px_s": float(moved.mean()) if len(moved) else None,
            "median_speed_px_s": float(np.median(moved)) if len(moved) else None,
        }
        summary: dict[str, Any] = {
            "individual": individual,
            "known": round(float(known.mean()), 6),
            "seconds_known": round(seconds, 6),
            **{name: _rounded(value) for name, value in in_px.items()},
            **{name.replace("_px", "_cm"): self._cm(value) for name, value in in_px.items()},
            "regions": {},
        }
        for region in self._regions():
            distance = signed_distance(self.rig.regions[region], xy[:, 0], xy[:, 1])
            inside = distance <= 0
            word = column_word(region)
            yield f"centroid_distance_to_{word}_px", distance
            yield f"in_{word}", np.where(known, inside, np.nan)
            spent = np.cumsum(np.where(inside, self._durations, 0.0))
            yield f"time_in_{word}_s", np.where(known, spent, np.nan)
            summary["regions"][region] = {
                "seconds": round(float(spent[-1]), 6) if known.any() else None,
                "share": round(float(spent[-1]) / seconds, 6) if seconds else None,
                "entries": motion.entries(inside[known]),
            }
        self._summary[individual] = summary

    def _cm(self, px: float | None) -> float | None:
        scale = self.rig.px_per_cm
        return None if px is None or scale is None or self.rig.withheld else _rounded(px / scale)


class _Centroid:
    """The centroid of one individual: the mean of its body parts' positions.

    Its velocity, acceleration and steps are the means of its body parts': the same as the centroid's own where every body part is
    known, while a body part that comes or goes would make the centroid jump though nothing moved.
    """

    def __init__(self, measuring: Measuring, individual: str, parts: list[str]) -> None:
        chosen = measuring.settings.centroid
        self._parts = [part for part in parts if chosen is None or part in chosen]
        self._needed = CENTROID_SHARE * len(self._parts)
        position = motion.Mean(measuring.frames)
        for part in self._parts:
            position.add(measuring.points(individual, part))
        self._xy = position.of_at_least(self._needed)
        self._at = np.flatnonzero(present(self._xy))
        self._moving, self._accelerated = motion.Mean(measuring.frames), motion.Mean(measuring.frames)
        self._steps = motion.Mean(max(len(self._at) - 1, 0))

    def add(self, part: str, xy: np.ndarray, moving: np.ndarray, accelerated: np.ndarray) -> None:
        """Take in a body part: where it is, its velocity and its acceleration, (frames, 2) each."""
        if part not in self._parts:
            return
        self._moving.add(moving)
        self._accelerated.add(accelerated)
        if len(self._at):
            self._steps.add(np.diff(xy[self._at], axis=0))

    def measured(self, clock: Clock) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Return positions, velocities and accelerations, (frames, 2) each, and the length of the way, (frames,)."""
        unknown = ~present(self._xy)
        moving, accelerated = (mean.of_at_least(self._needed) for mean in (self._moving, self._accelerated))
        moving[unknown] = accelerated[unknown] = np.nan
        steps = self._steps.of_at_least(1)
        without = ~present(steps)  # no body part is known at both of its ends
        steps[without] = np.diff(self._xy[self._at], axis=0)[without]
        return self._xy, moving, accelerated, motion.path_length(clock, self._xy, steps)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def _read(stream: TrackStream, pcutoff: float | None) -> np.ndarray:
    x, y, likelihood = np.concatenate(list(stream.blocks()), axis=1)
    xy = np.stack([x, y], axis=1).astype(np.float64)
    if (
        pcutoff is not None and not np.isnan(likelihood).all()
    ):  # imported poses, of which nobody knows how sure they are
        xy[~(likelihood >= pcutoff)] = np.nan
    xy[~present(xy)] = np.nan
    return xy


class _Columns(AbstractContextManager["_Columns"]):
    """Measures that come column by column and are written a stretch of frames at a time, in a file without a name until then.

    A column that is not put is unknown in every frame; those in cm are those in px by the scale, made when they are written.
    """

    def __init__(self, measures: tuple[Measure, ...], frames: int, folder: Path) -> None:
        self._types = {m.name: np.dtype("<f8" if m.arrow == "float64" else "<f4") for m in measures if m.px is None}
        self._frames = frames
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        self._places: dict[tuple[str, str], int] = {}
        self._known: dict[str, dict[str, float]] = {}
        self._hashes: dict[str, dict[str, str]] = {}
        self._individual = ""

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def begin(self, individual: str) -> None:
        """Take the columns that come from here on for those of *individual*."""
        self._individual = individual
        self._known[individual] = dict.fromkeys(self._types, 0.0)
        self._hashes[individual] = {}

    def put(self, name: str, values: np.ndarray) -> None:
        """Keep a column, (frames,)."""
        plain = values.astype(self._types[name]) + self._types[name].type(0)  # turns -0.0 into 0.0
        unknown = np.isnan(plain)
        plain[unknown] = np.nan
        self._places[self._individual, name] = self._file.seek(0, 2)
        self._file.write(memoryview(plain))
        self._known[self._individual][name] = round(1 - float(unknown.mean()), 6)
        self._hashes[self._individual][name] = hashlib.sha256(memoryview(plain)).hexdigest()

    def read(self, individual: str, name: str, start: int, stop: int) -> np.ndarray | None:
        """Return a column's values in the frames *start* up to, not including, *stop*; None of one that was not put."""
        place = self._places.get((individual, name))
        if place is None:
            return None
        size = self._types[name].itemsize
        self._file.seek(place + start * size)
        return np.frombuffer(self._file.read((stop - start) * size), dtype=self._types[name])

    def known(self) -> dict[str, dict[str, float]]:
        """Return the share of frames in which each column is known, by individual."""
        return self._known

    def hashes(self) -> dict[str, dict[str, str]]:
        """Return the hash of each column's values, by individual."""
        return self._hashes


def _write(
    target: Path, measures: tuple[Measure, ...], metadata: KinematicsMetadata, measuring: Measuring, columns: _Columns
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = arrow_schema(measures).with_metadata({METADATA_KEY: metadata.to_json().encode()})
    floats = [field.name for field in schema if pa.types.is_floating(field.type)]
    times, first = measuring.clock.times, measuring.table.first_frame
    with pq.ParquetWriter(
        target,
        schema,
        compression={field.name: "lz4" if field.type == pa.float32() else "zstd" for field in schema},
        use_dictionary=["recording", "individual"],
        use_byte_stream_split=floats,
        column_encoding={"frame": "DELTA_BINARY_PACKED"},
    ) as writer:
        for individual in measuring.table.individuals:
            for start in range(0, len(times), ROW_GROUP_FRAMES):
                stop = min(start + ROW_GROUP_FRAMES, len(times))
                arrays: dict[str, Any] = {
                    "recording": _repeated(metadata.recording, stop - start),
                    "frame": pa.array(np.arange(first + start, first + stop, dtype=np.int32)),
                    "time": pa.array(times[start:stop]),
                    "individual": _repeated(individual, stop - start),
                }
                for measure in measures:
                    values = columns.read(individual, measure.px or measure.name, start, stop)
                    if measure.px is not None and values is not None:
                        assert metadata.px_per_cm is not None
                        values = None if metadata.withheld else values / metadata.px_per_cm
                    arrays[measure.name] = _array(values, schema.field(measure.name).type, stop - start)
                rows = pa.table([arrays[name] for name in schema.names], schema=schema)
                writer.write_table(rows, row_group_size=ROW_GROUP_FRAMES)


def _repeated(name: str, rows: int) -> pa.DictionaryArray:
    import pyarrow as pa

    return pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, dtype=np.int32)), pa.array([name]))


def _array(values: np.ndarray | None, type_: pa.DataType, rows: int) -> pa.Array:
    import pyarrow as pa

    if values is None:
        return pa.nulls(rows, type_)
    if pa.types.is_boolean(type_):
        return pa.array(values > 0, mask=np.isnan(values))
    return pa.array(values.astype(type_.to_pandas_dtype(), copy=False), type=type_, from_pandas=True)
