"""The one definition of a pose table: its columns, what one track is, and what its file says of itself."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from dlc_assets.lab.errors import InputError

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA_VERSION = 1
METADATA_KEY = b"dlc_assets"


@dataclass(frozen=True)
class Column:
    """One column of the pose table.

    *arrow* is pyarrow's name of the type of the values, *sql* is DuckDB's; *encoded* columns are kept as a
    dictionary (few names, repeated over many rows); only *nullable* columns may hold nulls.
    """

    name: str
    arrow: str
    sql: str
    unit: str
    description: str
    encoded: bool = False
    nullable: bool = False


COLUMNS: tuple[Column, ...] = (
    Column("recording", "string", "VARCHAR", "", "Video recording, a key within its session.", encoded=True),
    Column("frame", "int32", "INTEGER", "frame", "Frame number from 0, counted over all files of the recording."),
    Column("time", "float64", "DOUBLE", "s", "Time of the frame on the session's clock; gaps are kept."),
    Column(
        "individual",
        "string",
        "VARCHAR",
        "",
        'Animal: empty for a single animal; "single" for a multi-animal project\'s unique body parts.',
        encoded=True,
    ),
    Column("bodypart", "string", "VARCHAR", "", "Body part, as the model names it.", encoded=True),
    Column(
        "x",
        "float32",
        "FLOAT",
        "px",
        "Horizontal position in the full upright frame, origin top left; null where not detected.",
        nullable=True,
    ),
    Column(
        "y",
        "float32",
        "FLOAT",
        "px",
        "Vertical position in the full upright frame, origin top left, downward; null where not detected.",
        nullable=True,
    ),
    Column(
        "likelihood",
        "float32",
        "FLOAT",
        "",
        "The network's confidence, 0 to 1; null where it gave none.",
        nullable=True,
    ),
)


def arrow_schema() -> pa.Schema:
    """Return the table's Arrow schema, without file metadata; units and descriptions lie in the fields."""
    import pyarrow as pa

    def arrow_type(column: Column) -> pa.DataType:
        values = pa.type_for_alias(column.arrow)
        return pa.dictionary(pa.int32(), values) if column.encoded else values

    return pa.schema(
        [
            pa.field(
                column.name,
                arrow_type(column),
                nullable=column.nullable,
                metadata={"unit": column.unit, "description": column.description},
            )
            for column in COLUMNS
        ]
    )


@dataclass(frozen=True)
class Track:
    """One body part of one individual over a recording.

    Parameters
    ----------
    individual
        Name of the animal; ``""`` where the model knows one animal only.
    bodypart
        Name of the body part.
    x, y
        Shape (frames,), float32, px in the full upright frame; NaN where the body part was not detected.
    likelihood
        Shape (frames,), float32; NaN where the network gave none.
    """

    individual: str
    bodypart: str
    x: np.ndarray
    y: np.ndarray
    likelihood: np.ndarray

    @property
    def frame_count(self) -> int:
        """How many frames the track has."""
        return len(self.x)

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield all values at once: (3, frames) of x, y, likelihood. Tracks that are read bit by bit yield them likewise."""
        yield np.stack([self.x, self.y, self.likelihood])


@dataclass(frozen=True, kw_only=True)
class PoseMetadata:
    """What a pose table's file says of itself, kept as JSON under `METADATA_KEY`.

    Parameters
    ----------
    model, version
        The model's name and the version (content hash) that made the poses.
    session, recording, device
        Keys of the session and the recording, and the camera.
    video_files
        ``{"name", "sha256"}`` of each video file, in order.
    crop
        The part of the frame that the network saw, ``{"x": [from, to], "y": [from, to]}`` in px; None: all.
    units
        Unit of x and y.
    rate
        Frames per second as an exact fraction, ``"30000/1001"``; None where the rate varies.
    frame_count
        Frames in the whole recording.
    clock
        In words: where the times come from.
    time_start
        Time of frame 0 on the session's clock, s.
    software, inference
        Versions of the programs, and the settings they ran with.
    origin
        Where the poses come from, in words.
    created
        When, ISO 8601.
    input_hash, data_version
        Hash of everything the poses were made from, and of the poses (`pose_content_hash`).
    bodyparts, individuals, skeleton
        The model's body parts and individuals in order, and the pairs of body parts that a line joins.
    pcutoff
        The likelihood above which the model's makers trust a detection.
    scorer
        DeepLabCut's name for the network, the first level of its tables.
    layout
        Where each track lies in the file: ``{"tracks": [[individual, body part], ...], "first_frame", "row_group_frames"}``,
        stated by whoever writes the file; None in files of earlier releases.
    filters
        Of a filtered table, each step in order: its parameters and, under ``tracks``, the share of points that it changed of each
        track; None where nothing was filtered.
    """

    schema_version: int = SCHEMA_VERSION
    model: str
    version: str
    session: str
    recording: str
    device: str | None = None
    video_files: list[dict[str, str]] = field(default_factory=list)
    crop: dict[str, Any] | None = None
    units: str = "px"
    rate: str | None = None
    frame_count: int
    clock: str = ""
    time_start: float | None = None
    software: dict[str, Any] = field(default_factory=dict)
    inference: dict[str, Any] = field(default_factory=dict)
    origin: str = "estimated here"
    created: str = ""
    input_hash: str = ""
    data_version: str = ""
    bodyparts: list[str] = field(default_factory=list)
    individuals: list[str] = field(default_factory=list)
    skeleton: list[list[str]] = field(default_factory=list)
    pcutoff: float | None = None
    scorer: str | None = None
    layout: dict[str, Any] | None = None
    filters: list[dict[str, Any]] | None = None

    @property
    def fps(self) -> float | None:
        """Frames per second, rounded from the exact `rate`; None where the rate varies."""
        return None if self.rate is None else float(Fraction(self.rate))

    def to_json(self) -> str:
        """Return the metadata as JSON with sorted keys."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read what `to_json` wrote.

        Raises
        ------
        InputError
            The text is no JSON object, a field without a default is missing, or a later release wrote it.
        """
        try:
            stated = json.loads(text)
        except ValueError as error:
            raise InputError(f"Expected the metadata of a pose table as JSON, got {text[:80]!r}: {error}") from error
        if not isinstance(stated, dict):
            raise InputError(f"Expected the metadata of a pose table as a JSON object, got {type(stated).__name__}.")
        written = stated.get("schema_version", SCHEMA_VERSION)
        if written > SCHEMA_VERSION:
            raise InputError(
                f"The pose table has schema version {written}; this release reads up to {SCHEMA_VERSION}. "
                "Update dlc-assets to read it."
            )
        # A field that a later release adds without a new schema version says nothing that this one needs.
        known = {name.name for name in dataclasses.fields(cls)}
        missing = {"model", "version", "session", "recording", "frame_count"} - stated.keys()
        if missing:
            raise InputError(f"The metadata of the pose table lacks {', '.join(sorted(missing))}.")
        return cls(**{key: value for key, value in stated.items() if key in known})
