"""The one definition of the kinematics table: which columns there are, what they are called, and what its file says of itself.

Columns depend on the model's body parts, the lab's settings and the recording's rig, each by one rule of `RULES`; a name always has
the same type and unit, so that tables of different recordings fit together by name.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Self

from dlc_assets.lab.errors import InputError, SettingsError
from dlc_assets.lab.kinematics_settings import KinematicsSettings, column_word
from dlc_assets.poses.schema import COLUMNS as POSE_COLUMNS
from dlc_assets.poses.schema import METADATA_KEY

if TYPE_CHECKING:
    import pyarrow as pa

SCHEMA_VERSION = 1
UNIQUE = "single"  # DeepLabCut's name for the body parts of a multi-animal project that belong to no animal
_BASE = ("recording", "frame", "time", "individual")


@dataclass(frozen=True)
class Rule:
    """How the columns of one measure are called: *template* with ``<bodypart>``, ``<from>``, ``<to>``, ``<region>`` in the place of names.

    *lengths* are measured in px, and in cm beside it where the recording's scale is known.
    """

    template: str
    arrow: str
    unit: str
    description: str
    lengths: bool = False
    per: Literal["individual", "axis", "bodypart", "pair", "region", "bodypart and region"] = "individual"

    @property
    def in_cm(self) -> Rule:
        """The same in cm."""
        return dataclasses.replace(
            self, template=re.sub(r"_px(?=_|$)", "_cm", self.template), unit=self.unit.replace("px", "cm")
        )


RULES: tuple[Rule, ...] = (
    Rule("centroid_x_px", "float32", "px", "Horizontal position of the centroid, the mean of its body parts.", True),
    Rule("centroid_y_px", "float32", "px", "Vertical position of the centroid, downward.", True),
    Rule("speed_px_s", "float32", "px/s", "Speed of the centroid.", True),
    Rule("acceleration_px_s2", "float32", "px/s2", "Magnitude of the centroid's acceleration.", True),
    Rule(
        "heading_deg",
        "float32",
        "degrees",
        "Direction in which the centroid moves: 0 to the right, 90 down, 180 to the left, -90 up, as the picture is seen.",
    ),
    Rule("path_length_px", "float64", "px", "Way of the centroid up to this frame.", True),
    Rule(
        "body_axis_deg",
        "float32",
        "degrees",
        "Direction from the first to the second body part of body_axis, counted as the heading.",
        per="axis",
    ),
    Rule("<bodypart>_speed_px_s", "float32", "px/s", "Speed of the body part.", True, "bodypart"),
    Rule(
        "<bodypart>_acceleration_px_s2",
        "float32",
        "px/s2",
        "Magnitude of the body part's acceleration.",
        True,
        "bodypart",
    ),
    Rule("distance_<from>_<to>_px", "float32", "px", "Distance between the two body parts.", True, "pair"),
    Rule(
        "in_<region>", "bool", "", "Whether the centroid lies in the region or on its border.", per="region"
    ),
    Rule(
        "time_in_<region>_s",
        "float64",
        "s",
        "Time that the centroid was in the region up to and with this frame.",
        per="region",
    ),
    Rule(
        "centroid_distance_to_<region>_px",
        "float32",
        "px",
        "Distance of the centroid to the region's border: negative inside.",
        True,
        "region",
    ),
    Rule(
        "<bodypart>_distance_to_<region>_px",
        "float32",
        "px",
        "Distance of the body part to the region's border: negative inside.",
        True,
        "bodypart and region",
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Measure:
    """One column of a table; *px* is the column that it is in cm of. *bodypart* and *region* say whose it is, where it is someone's."""

    name: str
    arrow: str
    unit: str
    description: str
    px: str | None = None
    bodypart: str | None = None
    region: str | None = None


@dataclass(frozen=True)
class Plan:
    """What decides which columns a table has: *bodyparts* are those with columns of their own."""

    bodyparts: tuple[str, ...]
    body_axis: tuple[str, str] | None = None
    distances: tuple[tuple[str, str], ...] = ()
    regions: tuple[str, ...] = ()
    in_cm: bool = False

    def measures(self) -> tuple[Measure, ...]:
        """Return the table's columns after those that it shares with a pose table.

        Raises
        ------
        SettingsError
            Two of them would have one name.
        """
        found: dict[str, tuple[str, Measure]] = {}
        for rule in RULES:
            for measure in self._of(rule):
                where = ", ".join(filter(None, (rule.template, measure.bodypart, measure.region)))
                # DuckDB takes names that differ only in case for one.
                other = found.setdefault(measure.name.casefold(), (where, measure))
                if other[1] is not measure:
                    raise SettingsError(
                        f'two measures would be called "{measure.name}": that of {other[0]} and that of {where}. Rename the '
                        "region in lab.yaml (or session.yaml), or leave one of the body parts out of kinematics."
                    )
        return tuple(measure for _, measure in found.values())

    def _of(self, rule: Rule) -> Iterator[Measure]:
        for names in self._names(rule):
            shown = {
                "<bodypart>": names.get("bodypart"),
                "<region>": names.get("region"),
                "<from>": names.get("from"),
                "<to>": names.get("to"),
            }
            whose = {key: names.get(key) for key in ("bodypart", "region")}
            px = _filled(rule.template, shown)
            yield Measure(px, rule.arrow, rule.unit, rule.description, **whose)
            if rule.lengths and self.in_cm:
                cm = rule.in_cm
                yield Measure(_filled(cm.template, shown), cm.arrow, cm.unit, cm.description, px, **whose)

    def _names(self, rule: Rule) -> Iterator[dict[str, str]]:
        if rule.per == "individual" or (rule.per == "axis" and self.body_axis is not None):
            yield {}
        elif rule.per == "bodypart":
            yield from ({"bodypart": name} for name in self.bodyparts)
        elif rule.per == "pair":
            yield from ({"from": one, "to": other} for one, other in self.distances)
        elif rule.per == "region":
            yield from ({"region": name} for name in self.regions)
        elif rule.per == "bodypart and region":
            yield from ({"bodypart": part, "region": name} for name in self.regions for part in self.bodyparts)


def _filled(template: str, names: dict[str, str | None]) -> str:
    for place, name in names.items():
        if name is not None:
            template = template.replace(place, column_word(name))
    return template


def plan_of(settings: KinematicsSettings, bodyparts: Sequence[str], regions: Sequence[str], *, in_cm: bool) -> Plan:
    """Return which columns a table of *bodyparts* has; names of *settings* that are not among them are left out."""
    known = set(bodyparts)
    axis = settings.body_axis if settings.body_axis is not None and set(settings.body_axis) <= known else None
    return Plan(
        tuple(name for name in bodyparts if settings.bodyparts is None or name in settings.bodyparts),
        axis,
        tuple(pair for pair in settings.distances if set(pair) <= known),
        tuple(regions),
        in_cm,
    )


def base_columns() -> list[tuple[str, str, str, bool, str]]:
    """Return name, type, unit, whether it is a dictionary, and description of the columns shared with the pose table."""
    of = {column.name: column for column in POSE_COLUMNS}
    return [(of[n].name, of[n].arrow, of[n].unit, of[n].encoded, of[n].description) for n in _BASE]


def arrow_schema(measures: Sequence[Measure]) -> pa.Schema:
    """Return the Arrow schema of a table with these measures; units and descriptions lie in the fields."""
    import pyarrow as pa

    def described(unit: str, description: str) -> dict[str, str]:
        return {"unit": unit, "description": description}

    base = [
        pa.field(
            name,
            pa.dictionary(pa.int32(), pa.type_for_alias(arrow)) if encoded else pa.type_for_alias(arrow),
            nullable=False,
            metadata=described(unit, description),
        )
        for name, arrow, unit, encoded, description in base_columns()
    ]
    return pa.schema(
        [
            *base,
            *(
                pa.field(m.name, pa.type_for_alias(m.arrow), metadata=described(m.unit, m.description))
                for m in measures
            ),
        ]
    )


@dataclass(frozen=True, kw_only=True)
class KinematicsMetadata:
    """What a kinematics file says of itself, kept as JSON under the pose table's `METADATA_KEY`.

    Parameters
    ----------
    model, version, session, recording, device
        As in the pose table.
    source
        ``filtered`` or ``raw``: the poses that were measured; of raw ones without points below *pcutoff*.
    settings
        lab.yaml's `kinematics` as they were.
    px_per_cm
        The recording's scale; None where none is stated.
    regions
        In words, by name.
    camera
        How the camera stood to its reference, in words; None without one.
    withheld
        Why measures in cm and of regions are null, in words; None where they are not.
    known
        By individual and column, the share of frames in which it is known.
    data_version
        Hash of the content.
    """

    schema_version: int = SCHEMA_VERSION
    model: str
    version: str
    session: str
    recording: str
    device: str | None = None
    frame_count: int
    rate: str | None = None
    clock: str = ""
    source: str
    pcutoff: float | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    px_per_cm: float | None = None
    regions: dict[str, str] = field(default_factory=dict)
    camera: str | None = None
    withheld: str | None = None
    known: dict[str, dict[str, float]] = field(default_factory=dict)
    poses: str = ""
    data_version: str = ""

    def to_json(self) -> str:
        """Return the metadata as JSON with sorted keys."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_file(cls, schema: pa.Schema, where: str) -> Self:
        """Read what the Arrow *schema* of a file says.

        Raises
        ------
        InputError
            The file is no kinematics table, or one of a later release.
        """
        text = (schema.metadata or {}).get(METADATA_KEY)
        stated = json.loads(text) if text is not None else {}
        if "source" not in stated:
            raise InputError(f"{where}: expected a kinematics table, but this Parquet file says nothing of being one.")
        if stated.get("schema_version", SCHEMA_VERSION) > SCHEMA_VERSION:
            raise InputError(
                f"{where}: the table has schema version {stated['schema_version']}; this release reads up to {SCHEMA_VERSION}. "
                "Update dlc-assets to read it."
            )
        known = {name.name for name in dataclasses.fields(cls)}
        return cls(**{key: value for key, value in stated.items() if key in known})
