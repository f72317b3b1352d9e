"""Building the catalog's tables from the lab's files and the store's manifests as they are now."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlc_assets.catalog.schema import EVALUATION_COLUMN, TABLES, TAG_PREFIX, catalog_table
from dlc_assets.inference.frozen_poses import frozen_manifest, is_kept_elsewhere
from dlc_assets.inference.pose_tables import wanted_recordings, wanted_version
from dlc_assets.inference.releases import rule_for
from dlc_assets.lab.cohorts import cohorts
from dlc_assets.lab.errors import DlcAssetsError, SettingsError
from dlc_assets.lab.files import atomic_path, content_hash
from dlc_assets.lab.keys import label_for_archive, pose_key, split_pose_key, split_session_key
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.manifest import Manifest, read_manifest
from dlc_assets.lab.specification import ModelSpecification
from dlc_assets.recordings.discovery import FoundRecording, FoundSession
from dlc_assets.recordings.index import RecordingIndex
from dlc_assets.recordings.info import RecordingInfo, SessionInfo, read_session_info
from dlc_assets.review.quality_record import newest_records, stored_records
from dlc_assets.state.behind import Product
from dlc_assets.state.lab_state import LabState, lab_state
from dlc_assets.training.dataset import labels_version
from dlc_assets.training.evaluation import SUMMARY
from dlc_assets.training.labels import LabelSet, read_label_set
from dlc_assets.training.models import (
    ModelVersion,
    current_version,
    evaluation_manifest,
    find_version,
    trained_models,
    versions,
)
from dlc_assets.training.project import DlcProject, read_project
from dlc_assets.training.scores import ALL, SETS, SUMMARY_COLUMNS

if TYPE_CHECKING:
    import pyarrow as pa

Row = dict[str, Any]
_PARAM_SET_DIGITS = 12
_OLDER = "older version"


def catalog_tables(
    lab: Lab, state: LabState | None = None, *, names: Iterable[str] | None = None
) -> dict[str, pa.Table]:
    """Return the catalog's tables by name, rows in the order of their keys.

    What cannot be read (one session, one specification, one project) is a row that says so; the rest is there.

    Parameters
    ----------
    state
        The lab's state where it is known already; worked out where a table needs it otherwise.
    names
        Which tables; None for all.
    """
    sources = _Sources(lab, state)
    chosen = TABLES if names is None else [catalog_table(name) for name in dict.fromkeys(names)]
    return {table.name: table.arrow(list(_ROWS[table.name](sources))) for table in chosen}


def write_catalog(lab: Lab, *, run_id: str) -> Manifest:
    """Write every table to ``store/catalog/<table>.parquet`` and the manifest beside them (the caller holds the lock)."""
    import pyarrow.parquet as pq

    tables = catalog_tables(lab)
    for name, table in tables.items():
        with atomic_path(lab.layout.catalog_table(name)) as partial:
            pq.write_table(table, partial, compression="zstd")
    for path in lab.layout.catalog.glob("[!.]*.parquet"):
        if path.stem not in tables:
            path.unlink()  # a table that an earlier release had
    manifest = Manifest(
        asset="catalog",
        key="",
        inputs={},
        data_version=content_hash({name: _content(table) for name, table in tables.items()}),
        details={"rows": {name: table.num_rows for name, table in tables.items()}},
        run_id=run_id,
    )
    manifest.write(lab.layout.catalog)
    return manifest


def _content(table: pa.Table) -> dict[str, Any]:
    return {"columns": table.schema.names, "rows": [list(row.values()) for row in table.to_pylist()]}


class _Sources:
    """What several tables are made from; each is read when a table needs it, and once."""

    def __init__(self, lab: Lab, state: LabState | None) -> None:
        self.lab = lab
        self._state = state

    @cached_property
    def state(self) -> LabState:
        return self._state if self._state is not None else lab_state(self.lab)

    @cached_property
    def products(self) -> dict[tuple[str, str], Product]:
        return {(product.asset, product.key): product for product in self.state.products}

    @cached_property
    def found(self) -> dict[str, FoundSession]:
        with RecordingIndex.opened(self.lab, kept=self.lab.layout.index_file.exists()) as index:
            index.look()
            return {session.key: session for session in index.sessions()}

    @cached_property
    def sessions(self) -> list[_Session]:
        return [
            _Session.read(self.lab, product, self.found.get(product.key))
            for product in sorted(self.state.of("session_recordings"), key=lambda product: product.key)
        ]

    @cached_property
    def specifications(self) -> dict[str, ModelSpecification]:
        return self.lab.specifications()[0]

    @cached_property
    def model_names(self) -> list[str]:
        return sorted({*self.lab.model_names(), *trained_models(self.lab.layout)})

    @cached_property
    def versions(self) -> list[ModelVersion]:
        return [version for model in trained_models(self.lab.layout) for version in versions(self.lab.layout, model)]

    @cached_property
    def current(self) -> dict[str, str]:
        found = {model: current_version(self.lab.layout, model) for model in self.model_names}
        return {model: version.version for model, version in found.items() if version is not None}

    @cached_property
    def projects(self) -> dict[str, DlcProject | DlcAssetsError]:
        """The project of each specification that can be read, or what is wrong with the project."""
        return {model: _or_error(self._project, model) for model in self.specifications}

    def _project(self, model: str) -> DlcProject:
        return read_project(self.lab.project_config(model))


class _Session:
    """One session from both sides: its videos as they lie there, and what was stored when they were probed."""

    def __init__(
        self, product: Product, found: FoundSession | None, known: tuple[SessionInfo, Manifest] | None, why: str
    ) -> None:
        self.key = product.key
        self.product = product
        self.found = found
        self.info = known[0] if known else None
        self.manifest = known[1] if known else None
        self.state = "failed" if why else product.state
        self.why = why or product.why

    @classmethod
    def read(cls, lab: Lab, product: Product, found: FoundSession | None) -> _Session:
        known = read_session_info(lab.layout, product.key)
        if known is None and product.made is not None:  # the record is of another release, or was edited
            folder = lab.layout.session_recordings(product.key)
            return cls(product, found, None, f"{folder}: its record cannot be read; probe the session again.")
        return cls(product, found, known, "")

    @property
    def subject_source_name(self) -> str | None:
        if self.info is not None:
            return self.info.subject_source_name
        return self.found.subject if self.found is not None else None

    @property
    def subject(self) -> str | None:
        return self.info.subject if self.info is not None else split_session_key(self.key)[0]

    @property
    def probed(self) -> list[RecordingInfo]:
        return self.info.recordings if self.info is not None else []

    @property
    def failed(self) -> dict[str, str]:
        return self.info.failed if self.info is not None else {}

    @property
    def found_recordings(self) -> dict[str, FoundRecording]:
        return self.found.recordings if self.found is not None else {}


def _or_error(read: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return read(*arguments)
    except DlcAssetsError as error:
        return error


def _portable(lab: Lab, path: Path) -> str:
    return (path.relative_to(lab.root) if path.is_relative_to(lab.root) else path).as_posix()


def _json(value: Any) -> str | None:
    return None if value is None else json.dumps(value, sort_keys=True, ensure_ascii=False)


def _tags(tags: Mapping[str, Any]) -> Row:
    return {f"{TAG_PREFIX}{name}": value for name, value in tags.items()}


# --- who, when, what was recorded -----------------------------------------------------------------


def _subjects(sources: _Sources) -> Iterator[Row]:
    declared = {_subject_label(name): name for name in sources.lab.settings.subjects}
    named = {s.subject: s.subject_source_name or s.subject for s in sources.sessions if s.subject is not None}
    counts = Counter(session.subject for session in sources.sessions)
    for label in sorted({*declared, *named}):
        name = declared.get(label) or named[label]
        subject = sources.lab.settings.subject(name)
        yield {
            "subject": label,
            "source_name": name,
            "declared": name in sources.lab.settings.subjects,
            **subject.model_dump(exclude={"tags"}),
            "sessions": counts[label],
            **_tags(subject.tags),
        }


def _subject_label(name: str) -> str:
    try:
        return label_for_archive(name, "subject")
    except SettingsError:
        return name  # no session can bear this name, but lab.yaml declares it


def _devices(sources: _Sources) -> Iterator[Row]:
    declared = sources.lab.settings.devices
    counts = Counter(recording.device for session in sources.sessions for recording in session.probed)
    for name in sorted({*declared, *counts}):
        stated = declared.get(name)
        yield {
            "device": name,
            "declared": stated is not None,
            **(stated.model_dump() if stated is not None else {}),
            "recordings": counts[name],
        }


def _sessions(sources: _Sources) -> Iterator[Row]:
    for session in sources.sessions:
        info = session.info
        yield {
            "session": session.key,
            "subject": session.subject,
            "session_label": split_session_key(session.key)[1],
            "recordings": len(session.probed) if info is not None else len(session.found_recordings),
            "failed_recordings": len(session.failed),
            "state": session.state,
            "why": session.why,
            "problems": session.manifest.problems
            if session.manifest
            else session.found.problems
            if session.found
            else [],
            "probed": session.manifest.made if session.manifest else None,
            **(_recorded_session(sources.lab, info) if info is not None else _found_session(session)),
        }


def _recorded_session(lab: Lab, info: SessionInfo) -> Row:
    born = lab.settings.subject(info.subject_source_name).date_of_birth
    day = info.start.date() if info.start is not None else info.day
    return {
        "source_name": info.session_source_name,
        "start": info.start,
        "start_source": info.start_source,
        "day": day,
        "age_days": (day - born).days if born is not None and day is not None else None,
        "description": info.description,
        "experimenters": info.experimenters or list(lab.settings.experimenters),
        **_tags(info.tags),
    }


def _found_session(session: _Session) -> Row:
    return {"source_name": session.found.session if session.found is not None else None}


def _recordings(sources: _Sources) -> Iterator[Row]:
    for session in sources.sessions:
        rows = [_probed_recording(session, recording) for recording in session.probed]
        rows += [
            {"session": session.key, "recording": name, "state": "failed", "why": why, **_found_camera(session, name)}
            for name, why in session.failed.items()
        ]
        known = {row["recording"] for row in rows}
        rows += [
            {
                "session": session.key,
                "recording": name,
                "state": "missing",
                "why": session.why or "not probed yet",
                **_found_camera(session, name),
            }
            for name in session.found_recordings
            if name not in known
        ]
        yield from sorted(rows, key=lambda row: row["recording"])


def _found_camera(session: _Session, name: str) -> Row:
    found = session.found_recordings.get(name)
    return {} if found is None else {"camera": found.camera, "files": len(found.parts)}


def _probed_recording(session: _Session, recording: RecordingInfo) -> Row:
    assert session.info is not None
    start = session.info.start
    gone = recording.recording not in session.found_recordings
    stored = recording.model_dump(exclude={"files", "crop", "scale", "regions", "arena", "about", "times_files"})
    return {
        **stored,
        "session": session.key,
        "state": "gone" if gone else "probed",
        "why": "its videos are no longer there" if gone else "",
        "start": None if start is None else start + timedelta(seconds=recording.time_start),
        "fps": float(recording.fraction),
        "files": len(recording.files),
    }


def _recording_files(sources: _Sources) -> Iterator[Row]:
    for session in sources.sessions:
        probed = {recording.recording for recording in session.probed}
        for recording in session.probed:
            first = 0
            for part, file in enumerate(recording.files):
                yield {
                    "session": session.key,
                    "recording": recording.recording,
                    "part": part,
                    **file.model_dump(exclude={"mtime_ns"}),
                    "first_frame": first,
                }
                first += file.frame_count
        for name, found in sorted(session.found_recordings.items()):
            if name not in probed:
                for part, file_found in enumerate(found.files):
                    path = _portable(sources.lab, file_found.path)
                    yield {
                        "session": session.key,
                        "recording": name,
                        "part": part,
                        "path": path,
                        "size": file_found.size,
                    }


# --- labels and models ----------------------------------------------------------------------------


def _body_parts(sources: _Sources) -> Iterator[Row]:
    declared = sources.lab.settings.body_parts
    models: dict[str, set[str]] = defaultdict(set)
    for model, project in sources.projects.items():
        for name in project.bodyparts if isinstance(project, DlcProject) else ():
            models[name].add(model)
    for version in sources.versions:
        for name in version.card.get("bodyparts", ()):
            models[name].add(version.model)
    names = sources.lab.settings.body_part_names
    for name in sorted({*declared, *names.lab_names, *models}):
        canonical = names.lab_name(name)
        yield {
            "body_part": name,
            "canonical": canonical,
            "description": declared[canonical].description if canonical in declared else None,
            "declared": canonical in declared,
            "models": sorted(models[name]),
        }


def _label_sets(sources: _Sources) -> Iterator[Row]:
    for model, specification in sorted(sources.specifications.items()):
        common = {"model": model, "project": specification.project}
        labels = _or_error(_read_labels, sources, model)
        if isinstance(labels, DlcAssetsError):
            yield {**common, "problem": str(labels)}
            continue
        label_hash = _or_error(labels_version, sources.lab, model, labels)
        if isinstance(label_hash, DlcAssetsError):
            yield {**common, "problem": str(label_hash)}
            continue
        for count in labels.counts:
            yield {
                **common,
                "folder": count.folder,
                "scorer": count.scorer or None,
                "found": count.found,
                "used": count.used,
                "dropped": sum(count.dropped.values()),
                "reasons": "; ".join(f"{number} {reason}" for reason, number in sorted(count.dropped.items())),
                "notes": "; ".join([*count.warnings, *count.notes]),
                "label_hash": label_hash,
            }


def _read_labels(sources: _Sources, model: str) -> LabelSet:
    project = sources.projects[model]
    if isinstance(project, DlcAssetsError):
        raise project
    chosen = sources.specifications[model].label_set
    return read_label_set(project, videos=chosen.videos, scorers=chosen.scorers, frames=chosen.frames)


def _parameters(specification: Mapping[str, Any], training: Mapping[str, Any]) -> Row:
    split = specification["split"]
    return {
        "net_type": specification["net_type"],
        "weights": specification["weights"],
        **{name: training[name] for name in ("epochs", "batch_size", "save_epochs", "seed")},
        "split_by": split["by"],
        **{name: split[name] for name in SETS},
        "split_seed": split["seed"],
        "pytorch_config": _json(specification["pytorch_config"]),
    }


def _stated_parameters(specification: ModelSpecification) -> Row | None:
    if specification.imported is not None:
        return None  # nothing is trained
    stated = specification.model_dump(mode="json")
    return _parameters(stated, stated["training"])


def _used_parameters(version: ModelVersion) -> Row | None:
    """Return what *version* was trained with, None where its card does not say (it was not trained here)."""
    if version.card.get("imported"):
        return None
    try:
        return _parameters(version.card["specification"], version.card["training"])
    except (KeyError, TypeError):
        return None


def _param_set(parameters: Row | None) -> str | None:
    return None if parameters is None else content_hash(parameters)[:_PARAM_SET_DIGITS]


def _training_param_sets(sources: _Sources) -> Iterator[Row]:
    sets: dict[str, Row] = {}

    def add(parameters: Row | None, column: str, name: str) -> None:
        key = _param_set(parameters)
        if key is not None and parameters is not None:
            row = sets.setdefault(key, {"param_set": key, **parameters, "models": [], "versions": []})
            row[column].append(name)

    for model, specification in sorted(sources.specifications.items()):
        add(_stated_parameters(specification), "models", model)
    for version in sources.versions:
        add(_used_parameters(version), "versions", str(version))
    yield from (sets[key] for key in sorted(sets))


def _training_tasks(sources: _Sources) -> Iterator[Row]:
    for model in sources.model_names:
        products = [
            sources.products.get((asset, model)) for asset in ("training_dataset", "trained_model", "model_evaluation")
        ]
        dataset, trained, evaluated = products
        task = trained or dataset  # a specification that cannot be read has its dataset's state only
        specification = sources.specifications.get(model)
        yield {
            "model": model,
            "dataset_state": dataset.state if dataset else None,
            "state": task.state if task else None,
            "evaluation_state": evaluated.state if evaluated else None,
            "why": next((product.why for product in products if product is not None and product.why), ""),
            "current_version": sources.current.get(model),
            **(_task_settings(sources, model, specification) if specification is not None else {}),
        }


def _task_settings(sources: _Sources, model: str, specification: ModelSpecification) -> Row:
    chosen = specification.label_set
    project = sources.projects[model]
    return {
        "description": specification.description,
        "project": specification.project,
        "config_path": _portable(sources.lab, project.config_path) if isinstance(project, DlcProject) else None,
        "videos": [chosen.videos] if isinstance(chosen.videos, str) else list(chosen.videos),
        "scorers": None if chosen.scorers is None else list(chosen.scorers),
        "param_set": _param_set(_stated_parameters(specification)),
    }


def _model_trainings(sources: _Sources) -> Iterator[Row]:
    for version in sources.versions:
        card = version.card
        yield {
            "model": version.model,
            "version": version.version,
            "param_set": _param_set(_used_parameters(version)),
            "trained": version.manifest.made,
            **{name: card.get(name) for name in ("dataset", "label_hash", "training_seconds", "epoch")},
            "epochs": (card.get("training") or {}).get("epochs"),
            "custom": version.manifest.custom,
            "weights_report": _json(card.get("weights_report")),
            "software": _json(card.get("software")),
            "run_id": version.manifest.run_id,
        }


def _models(sources: _Sources) -> Iterator[Row]:
    released = _released(sources.lab)
    specified = set(sources.lab.model_names())
    for version in sources.versions:
        card = version.card
        specification = sources.specifications.get(version.model)
        stated = specification.description if specification is not None else None
        yield {
            "model": version.model,
            "version": version.version,
            "current": sources.current.get(version.model) == version.version,
            "released": str(version) in released,
            "specified": version.model in specified,
            "imported": bool(card.get("imported")),
            "runnable": version.runnable,
            "description": stated if stated is not None else (card.get("specification") or {}).get("description"),
            "task": card.get("project"),
            **{name: card.get(name) for name in ("scorer", "net_type", "individuals", "pcutoff")},
            "body_parts": card.get("bodyparts"),
            "skeleton": _json(card.get("skeleton")),
            "param_set": _param_set(_used_parameters(version)),
            "trained": version.manifest.made,
            "path": _portable(sources.lab, version.folder),
        }


def _released(lab: Lab) -> set[str]:
    found = [_or_error(find_version, lab.layout, rule.model) for rule in lab.settings.release]
    return {str(version) for version in found if isinstance(version, ModelVersion)}


def _evaluations(sources: _Sources) -> Iterator[Row]:
    for version in sources.versions:
        manifest = evaluation_manifest(version, sources.lab.layout)
        if manifest is None:
            continue
        for row in _errors(sources.lab, version, manifest):
            yield {
                "model": version.model,
                "version": version.version,
                "set": row["set"],
                "scoring": row["set"] == manifest.details.get("scoring_set"),
                "body_part": row["bodypart"],
                **{EVALUATION_COLUMN.get(name, name): row.get(name) for name, _, _ in SUMMARY_COLUMNS},
                "pcutoff": manifest.details.get("pcutoff"),
                "epoch": version.card.get("epoch"),
                "dataset": version.card.get("dataset"),
                "evaluated": manifest.made,
            }


def _errors(lab: Lab, version: ModelVersion, manifest: Manifest) -> list[Row]:
    """Return an evaluation's summary; the manifest's totals where the summary's file cannot be read."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.read_table(lab.layout.evaluation(version.model, version.version) / SUMMARY).to_pylist()
    except (OSError, pa.ArrowException):
        totals = {name: manifest.details.get(name) for name in SETS}
        return [{"set": name, "bodypart": ALL, **total} for name, total in totals.items() if total]


# --- poses ----------------------------------------------------------------------------------------


def _pose_estimations(sources: _Sources) -> Iterator[Row]:
    stored: dict[str, dict[str, Manifest]] = defaultdict(dict)
    for path in sources.lab.layout.poses.glob("model=*/version=*/session=*/manifest.json"):
        model, version, session_key = (folder.partition("=")[2] for folder in path.parts[-4:-1])
        manifest = read_manifest(path)
        if manifest is not None:
            stored[pose_key(model, session_key)][version] = manifest
    sessions = {session.key: session for session in sources.sessions}
    keys = {*stored, *(product.key for product in sources.state.of("pose_table"))}
    for key in sorted(keys):
        session = sessions.get(split_pose_key(key)[1])
        yield from sorted(_task_rows(sources, key, session, stored[key]), key=_pose_order)


def _pose_order(row: Row) -> tuple[str, str, str, str]:
    return row["model"], row["session"], row["recording"] or "", row["version"] or ""


def _task_rows(sources: _Sources, key: str, session: _Session | None, stored: Mapping[str, Manifest]) -> Iterator[Row]:
    """Yield the rows of one pose-estimation task, a (model, session): what is stored, and what should be and is not."""
    lab, (model, session_key) = sources.lab, split_pose_key(key)
    product = sources.products.get(("pose_table", key)) or _unexpected(key, session)
    info = session.info if session is not None else None
    wanted = None if info is None else _or_error(wanted_version, lab, model, info)
    version = wanted.version if isinstance(wanted, ModelVersion) else None
    counting = _counting(product, version, stored)
    state = {"state": product.state, "why": product.why, "wanted": product.wanted}
    older = {"state": _OLDER, "why": f"{model}@{version} is meant now" if version else "", "wanted": False}
    there: set[str] = set()
    for stored_version, manifest in stored.items():
        for recording in manifest.details.get("recordings", ()):
            row = _stored_row(lab, model, stored_version, session_key, manifest, recording)
            if stored_version == counting:
                there.add(row["recording"])
            yield {**row, **(state if stored_version == counting else older)}
    if product.state in {"up to date", "custom", "gone"}:
        return
    missing = _missing_recordings(lab, model, info, product, there)
    if not missing and counting is None:
        yield {"model": model, "session": session_key, "version": version, **state}
    for found in missing:
        task = {"model": model, "session": session_key, "version": version}
        yield {**task, "recording": found.recording, "device": found.device, **state}


def _unexpected(key: str, session: _Session | None) -> Product:
    """Return the state of poses that no task asks for: their session is gone, or must be probed again first."""
    if session is None or session.state == "gone":
        return Product("pose_table", key, "gone", "its session's videos are no longer there", wanted=False)
    return Product("pose_table", key, "behind", f"session_recordings {session.key} is {session.state}", wanted=False)


def _counting(product: Product, version: str | None, stored: Mapping[str, Manifest]) -> str | None:
    """Return the version of the stored table whose state *product* tells: the one meant now, else the newest."""
    if product.state == "waiting":
        return None
    if version in stored:
        return version
    return max(stored, key=lambda name: stored[name].made, default=None)


def _missing_recordings(
    lab: Lab, model: str, info: SessionInfo | None, product: Product, there: set[str]
) -> list[RecordingInfo]:
    if info is None:
        return []
    if product.state == "waiting":  # the rules name the recordings even while the version is not there
        rules = [(recording, rule_for(lab, info, recording)) for recording in info.recordings]
        chosen = [recording for recording, rule in rules if rule is not None and rule.model_name == model]
    else:
        chosen = wanted_recordings(lab, model, info)
    return [recording for recording in chosen if recording.recording not in there]


def _stored_row(
    lab: Lab, model: str, version: str, session: str, manifest: Manifest, recording: Mapping[str, Any]
) -> Row:
    stated = ("recording", "device", "frames", "rows", "seconds", "data_version")
    return {
        "model": model,
        "session": session,
        "version": version,
        **{name: recording.get(name) for name in stated},
        "mean_likelihood": _mean(recording.get("mean_likelihood")),
        "share_below_pcutoff": _mean(recording.get("share_below_pcutoff")),
        "pcutoff": manifest.details.get("pcutoff"),
        "estimated": manifest.made,
        "overrides": _json(manifest.overrides or None),
        "path": _portable(lab, lab.layout.pose_file(model, version, session, recording["recording"])),
        "run_id": manifest.run_id,
    }


def _mean(of_bodyparts: Mapping[str, float | None] | None) -> float | None:
    """Return the mean over body parts, each of as many frames; NaN (a body part never found) does not count."""
    values = [value for value in (of_bodyparts or {}).values() if value is not None and value == value]
    return sum(values) / len(values) if values else None


def _cohorts(sources: _Sources) -> Iterator[Row]:
    for cohort in sorted(cohorts(sources.lab.layout), key=lambda cohort: cohort.name):
        for session, pinned in sorted(cohort.sessions.items()):
            for model, version in sorted(pinned.items()):
                manifest = frozen_manifest(sources.lab, cohort, session, model)
                yield {
                    "cohort": cohort.name,
                    "session": session,
                    "model": model,
                    "version": version,
                    "recordings": cohort.recordings.get(session, {}).get(model),
                    "frozen": cohort.made,
                    "by": cohort.by,
                    "reason": cohort.reason,
                    "data_version": cohort.poses.get(session, {}).get(model),
                    "there": manifest is not None,
                    "kept_elsewhere": is_kept_elsewhere(sources.lab, cohort, session, model),
                    "filters": json.dumps(steps) if (steps := cohort.filters.get("steps")) is not None else None,
                }


def _findings(sources: _Sources) -> Iterator[Row]:
    records = sorted(stored_records(sources.lab.layout), key=lambda one: (one.session, one.model, one.version))
    newest = {id(record) for record in newest_records(records)}
    for record in records:
        for finding in record.findings:
            yield {
                "session": record.session,
                "model": record.model,
                "version": record.version,
                "check_name": finding.check,
                "passed": finding.passed,
                "severity": finding.severity,
                "value": finding.value,
                "limit_value": finding.limit,
                "sentence": finding.sentence,
                "verdict": record.verdict.level,
                "newest": id(record) in newest,
                "judged": record.made,
            }


_ROWS: dict[str, Callable[[_Sources], Iterable[Row]]] = {
    "subjects": _subjects,
    "devices": _devices,
    "sessions": _sessions,
    "recordings": _recordings,
    "recording_files": _recording_files,
    "body_parts": _body_parts,
    "label_sets": _label_sets,
    "training_param_sets": _training_param_sets,
    "training_tasks": _training_tasks,
    "model_trainings": _model_trainings,
    "models": _models,
    "evaluations": _evaluations,
    "pose_estimations": _pose_estimations,
    "cohorts": _cohorts,
    "findings": _findings,
}
