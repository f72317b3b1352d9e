"""Reading the kinematics of many sessions into one table, no more of each than was asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dlc_assets.derived.filtered_poses import frozen_filter_inputs
from dlc_assets.derived.kinematics import ASSET, filters_input, kinematics_inputs
from dlc_assets.derived.kinematics_schema import KinematicsMetadata, base_columns
from dlc_assets.derived.product import derived_manifest
from dlc_assets.inference.frozen_poses import frozen_manifest
from dlc_assets.lab.cohorts import Cohort
from dlc_assets.lab.errors import DlcAssetsError, InputError, NotFoundError, did_you_mean
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.manifest import Manifest
from dlc_assets.poses.selection import PoseFile
from dlc_assets.poses.table_file import require_known
from dlc_assets.recordings.info import need_session_info

if TYPE_CHECKING:
    import pyarrow as pa

_LISTED = 10
_SHOWN = 20  # measures that a message names
_BASE = [name for name, *_ in base_columns()]


@dataclass
class Found:
    """The kinematics of several pose tables: those that are there, and of each that is not, its session and why."""

    manifests: list[Manifest] = field(default_factory=list)
    absent: dict[str, str] = field(default_factory=dict)


def find_kinematics(lab: Lab, poses: Sequence[Manifest]) -> Found:
    """Return the kinematics that were made from *poses* (manifests of pose tables)."""
    found = Found()
    for table in poses:
        details = table.details
        manifest = derived_manifest(lab, ASSET, details["model"], details["version"], details["session"])
        named = f"{details['session']} by {details['model']}@{details['version']}"
        if manifest is None:
            found.absent[named] = "never made"
        elif manifest.inputs.get("poses") != table.data_version:
            found.absent[named] = "made from other poses than are there now"
        else:
            found.manifests.append(manifest)
    return found


def cohort_kinematics(lab: Lab, cohort: Cohort, poses: Sequence[PoseFile]) -> list[Manifest]:
    """Return the kinematics of *poses*, the frozen pose tables of *cohort*: made from these very poses, filtered as then.

    Raises
    ------
    NotFoundError
        One is not made, or was made from other poses or with other filters.
    """
    found, wrong = [], []
    for session, model in dict.fromkeys((file.session, file.model) for file in poses):
        version = cohort.sessions[session][model]
        frozen = frozen_manifest(lab, cohort, session, model)
        assert frozen is not None  # its files are those of this manifest
        manifest = derived_manifest(lab, ASSET, model, version, session)
        named = f"{session} by {model}@{version}"
        if manifest is None:
            wrong.append(f"{named}: never made")
        elif manifest.inputs.get("poses") != frozen.data_version:
            wrong.append(f"{named}: made from other poses than the frozen ones")
        elif manifest.details["source"] == "filtered" and manifest.inputs["source"] != (
            f"filtered {filters_input(frozen_filter_inputs(lab, cohort, session, model))}"
        ):
            wrong.append(f"{named}: made from poses that were filtered otherwise than the cohort's")
        else:
            found.append(manifest)
    if wrong:
        raise NotFoundError(
            f'{len(wrong)} of the pose tables of the cohort "{cohort.name}" have no kinematics that are its own: {_some(wrong)}. '
            "Materialize filtered_pose_table and kinematics for them (each a partition model|session) with the setting `version` as "
            "named here and, in lab.yaml, the filters that the cohort was frozen with (`dlc-assets sql` shows them in cohorts). Where "
            "its poses were replaced since, freeze its sessions again under another name."
        )
    return found


def refuse_mixtures(manifests: Sequence[Manifest]) -> None:
    """Raise where kinematics were measured in different ways: of raw and of filtered poses, by other filters, or with other settings."""
    ways: dict[tuple[Any, ...], list[Manifest]] = {}
    for manifest in manifests:
        details = manifest.details
        way = manifest.inputs["kinematics"], details["source"], details["filters_hash"]
        ways.setdefault(way, []).append(manifest)
    if len(ways) > 1:
        listed = "; ".join(
            f"{_some([of.details['session'] for of in alike])} {_way(alike[0])}" for alike in ways.values()
        )
        raise DlcAssetsError(
            f"the selection mixes kinematics that were made in different ways: {listed}. `dlc-assets review` makes again what is behind; "
            "sessions= chooses those that were made alike."
        )


def _way(manifest: Manifest) -> str:
    details = manifest.details
    stated = {key: value for key, value in details["settings"].items() if key != "from" and value}
    settings = ", ".join(f"{key}: {value}" for key, value in stated.items()) or "no settings of their own"
    filters = f", filters {details['filters_hash'][:8]}" if details["filters_hash"] else ""
    return f"from {details['source']} poses ({settings}{filters})"


def behind_lab(lab: Lab, manifests: Sequence[Manifest], poses: Sequence[Manifest]) -> list[str]:
    """Return the sessions whose kinematics were made with other settings, filters or rigs than the lab's files state now."""
    of = {(table.details["session"], table.details["model"], table.details["version"]): table for table in poses}
    behind = []
    for manifest in manifests:
        details = manifest.details
        table = of[details["session"], details["model"], details["version"]]
        try:
            info, _ = need_session_info(lab.layout, details["session"])
            now = kinematics_inputs(lab, info, table)
        except DlcAssetsError:  # a rig that nobody knows: the session's own state says so
            continue
        if manifest.custom or manifest.inputs != now:
            behind.append(details["session"])
    return behind


def kinematics_files(lab: Lab, manifest: Manifest) -> list[PoseFile]:
    """Return the files of the kinematics of *manifest*, one a recording."""
    details = manifest.details
    model, version, session = (details[name] for name in ("model", "version", "session"))
    folder = lab.layout.derived_folder(ASSET, model, version, session)
    return [
        PoseFile(folder / f"{row['recording']}.parquet", model, version, session, row["recording"])
        for row in details["recordings"]
    ]


@dataclass(frozen=True)
class Read:
    """Rows of several files, with the columns session, model and version in front; *lacking* is by column the sessions without it."""

    table: pa.Table
    lacking: dict[str, list[str]]


def read_kinematics(
    files: Sequence[PoseFile],
    *,
    columns: Sequence[str] | None = None,
    individuals: Sequence[str] | None = None,
    where: str | None = None,
) -> Read:
    """Return the rows of *files*, by name of column: what one file has not is null there.

    Parameters
    ----------
    columns
        Measures; None takes all. recording, frame, time and individual come always.
    where
        A condition in SQL on any columns, such as ``snout_distance_to_center_px < 50``: other rows are left out.

    Raises
    ------
    NotFoundError
        No file has a column or individual of that name.
    InputError
        A file is no kinematics table, or *where* is no condition.
    """
    import pyarrow as pa

    schemas = {file: _schema(file) for file in files}
    known = dict.fromkeys(name for schema in schemas.values() for name in schema.names if name not in _BASE)
    chosen = list(known) if columns is None else [name for name in dict.fromkeys(columns) if name not in _BASE]
    for name in chosen:
        if name not in known:
            raise NotFoundError(_no_column(name, list(known)))
    lacking = {name: [file.session for file, schema in schemas.items() if name not in schema.names] for name in chosen}
    there = list(dict.fromkeys(name for file in files for name in _individuals(schemas[file])))
    require_known("individual", individuals, there, f"the {len(files)} selected recordings")
    tables = []
    for file, schema in schemas.items():
        rows = _rows(file, schema, chosen, where, schemas)
        if individuals is not None:
            import pyarrow.compute as pc

            rows = rows.filter(pc.is_in(rows["individual"], pa.array(individuals)))
        tables.append(_labelled(file, rows))
    table = pa.concat_tables(tables, promote_options="default").unify_dictionaries()
    return Read(
        table.select(["session", "model", "version", *_BASE, *chosen]),
        {name: dict_of for name, of in lacking.items() if (dict_of := list(dict.fromkeys(of)))},
    )


def _no_column(name: str, known: Sequence[str]) -> str:
    said = f'no selected recording has the measure "{name}".{did_you_mean(name, known)}'
    if "_cm" in name and name.replace("_cm", "_px") in known:
        said += " Measures in cm need the scale of the recording's setup: state setups.<camera>.scale in lab.yaml."
    more = f" and {len(known) - _SHOWN} more" if len(known) > _SHOWN else ""
    return f"{said} There is: {', '.join(known[:_SHOWN])}{more}."


def _schema(file: PoseFile) -> pa.Schema:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_schema(file.path)
    except FileNotFoundError:
        raise NotFoundError(f"There is no kinematics table at {file.path}: make it again.") from None
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"{file.path} cannot be read as Parquet ({error}): make it again.") from error


def _individuals(schema: pa.Schema) -> list[str]:
    return list(KinematicsMetadata.from_file(schema, "a selected file").known)


def _rows(
    file: PoseFile, schema: pa.Schema, chosen: Sequence[str], where: str | None, schemas: Mapping[PoseFile, pa.Schema]
) -> pa.Table:
    import pyarrow.parquet as pq

    if where is None:
        rows = pq.read_table(file.path, columns=[*_BASE, *(name for name in chosen if name in schema.names)])
        return rows.replace_schema_metadata(None)
    others = {of.name: str(of.type) for other in schemas.values() for of in other if of.name not in schema.names}
    return _rows_where(file, [*_BASE, *chosen], where, others).cast(
        _plain_schema([*_BASE, *chosen], [schema, *schemas.values()])
    )


def _plain_schema(names: Sequence[str], schemas: Sequence[pa.Schema]) -> pa.Schema:
    import pyarrow as pa

    fields = [next(schema.field(name) for schema in schemas if name in schema.names) for name in names]
    return pa.schema([pa.field(of.name, of.type, nullable=True) for of in fields])


def _rows_where(file: PoseFile, names: Sequence[str], where: str, others: Mapping[str, str]) -> pa.Table:
    """Return the rows for which *where* holds; *others* are columns, with their types, that other files have and this one has not."""
    import duckdb

    sql_types = {"float": "FLOAT", "double": "DOUBLE", "bool": "BOOLEAN"}
    missing = "".join(f', NULL::{sql_types[type_]} AS "{name}"' for name, type_ in others.items())
    shown = ", ".join(f'"{name}"' for name in names)
    source = f"(SELECT *{missing} FROM read_parquet(?))"
    # A condition sees the file and nothing else: no variables of whoever calls.
    with duckdb.connect(":memory:", config={"python_enable_replacements": "false"}) as connection:
        try:
            query = f"SELECT {shown} FROM {source} WHERE ({where}\n)"
            return connection.sql(query, params=[file.path.as_posix()]).to_arrow_table()
        except (duckdb.BinderException, duckdb.CatalogException) as error:
            raise NotFoundError(f"where={where!r}: {error}") from error
        except duckdb.Error as error:
            raise InputError(f"where={where!r}: expected a condition in SQL: {error}") from error


def _labelled(file: PoseFile, rows: pa.Table) -> pa.Table:
    import numpy as np
    import pyarrow as pa

    for place, name in enumerate(("session", "model", "version")):
        column = pa.DictionaryArray.from_arrays(
            pa.array(np.zeros(len(rows), dtype=np.int32)), pa.array([getattr(file, name)])
        )
        rows = rows.add_column(place, name, column)
    return rows


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")
