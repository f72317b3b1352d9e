"""A lab whose Dagster instance has years behind it: tens of thousands of sessions and their runs, told to the instance, never made.

There are no videos and no poses. The instance holds what the runs of `session_recordings`, `pose_table`, `nwb_file` and of the models
would have left in it: partitions, runs with range tags, planned and done materializations with metadata of the real size
(pictures included), check evaluations, failures, a run under way. Dagster's own interface stores one event in three
transactions, which would take an hour; `EventWriter` stores many in one, row by row the same.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
from dagster._core.events import (
    AssetMaterializationPlannedData,
    DagsterEvent,
    DagsterEventType,
    StepMaterializationData,
)
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage
from dagster._core.storage.event_log.sqlite import SqliteEventLogStorage
from dagster._core.utils import make_new_run_id
from dagster._serdes import serialize_value

from benchmarks.poses import wandering_poses
from dlc_assets.assets import previews
from dlc_assets.assets.reporting import newest_events
from dlc_assets.checks.outcomes import CHECKS
from dlc_assets.definitions import defs
from dlc_assets.demo.files import encode_video
from dlc_assets.demo.scene import Scene, SceneSettings
from dlc_assets.lab.files import read_json, write_json, write_text
from dlc_assets.lab.keys import pose_key, session_key
from dlc_assets.lab.lab import Lab, open_lab_folder
from dlc_assets.partitions import MODEL, SESSION, KeyRange, add_keys
from dlc_assets.poses.schema import Track
from dlc_assets.resources.instance import open_instance

# Of the sessions, what share each model analysed; those after the fifth as the fifth.
_ANALYSED = (0.6, 0.4, 0.25, 0.12, 0.05)
_EXPORTED = 0.5
_SUBJECTS = 100
_PER_RUN = {"record": 100, "analyze": 50, "export_nwb": 25}  # as the assets' backfill policies
_FAILING_RUNS, _FIRST_FAILING = 20, 4  # in every so many runs over ranges one has a key that fails, from this run on
_WARNING_SESSIONS = 9  # of every so many keys, one check does not pass
_FLUSH = 400  # events in one transaction: some 25 MB with their pictures
_FRAMES, _RATE = 54_000, 30.0
_PICTURE = (640, 480)  # px
_BODYPARTS = [f"bodypart{number}" for number in range(1, 13)]

_LAB = """\
# What the benchmark of the UI looks at: an instance full of events, and no video. Safe to remove.
name: Benchmark of the UI
recordings:
  - {root: recordings, template: "{subject}/{session}/{camera}.mp4"}
devices: {top: {description: not there}}
analyze: {auto: false}
"""
_SPECIFICATION = "project: not-there\nnet_type: resnet_50\n"


@dataclass(frozen=True)
class Filled:
    """What the instance was told: number of sessions and models, runs, events; seconds it took."""

    sessions: int
    models: int
    runs: int
    events: int
    seconds: float


@dataclass
class EventWriter:
    """Stores events in an SQL event log, many in a transaction; the rows are those that storing them one by one makes.

    A check is evaluated once by a run for each partition, and was not planned: so do the runs of these assets.

    Attributes
    ----------
    stored
        Number of events stored so far.
    """

    storage: SqlEventLogStorage
    stored: int = 0
    _waiting: list[EventLogEntry] = field(default_factory=list)

    def add(self, event: EventLogEntry) -> None:
        """Store *event*, now or with the next ones."""
        self._waiting.append(event)
        if len(self._waiting) >= _FLUSH:
            self.flush()

    def flush(self) -> None:
        """Store what waits."""
        events, self._waiting = self._waiting, []
        if not events:
            return
        if isinstance(
            self.storage, SqliteEventLogStorage
        ):  # which keeps a file for each run, beside the index over all
            self._store_by_run(events)
        statements = [self.storage.prepare_insert_event(event) for event in events]
        with self.storage.index_transaction() as connection:
            ids = [_new_id(connection.execute(statement)) for statement in statements]
            of_assets = [(e, i) for e, i in zip(events, ids, strict=True) if _kind(e) != "check" and _has_asset(e)]
            if of_assets:
                self.storage._store_asset_event_tags(connection, *zip(*of_assets, strict=True))
            # The table of assets keeps the newest of each kind only.
            newest = {(e.get_dagster_event().asset_key, _kind(e)): (e, i) for e, i in of_assets}
            for event, number in sorted(newest.values(), key=lambda each: each[1]):
                self.storage._store_asset_event(connection, event, number)
            rows = [self._check_row(e, i) for e, i in zip(events, ids, strict=True) if _kind(e) == "check"]
            if rows:
                connection.execute(AssetCheckExecutionsTable.insert(), rows)
        self.stored += len(events)

    def _store_by_run(self, events: Sequence[EventLogEntry]) -> None:
        by_run: dict[str, list[EventLogEntry]] = {}
        for event in events:
            by_run.setdefault(event.run_id, []).append(event)
        for run_id, of_run in by_run.items():
            with self.storage.run_connection(run_id) as connection:
                for event in of_run:
                    connection.execute(self.storage.prepare_insert_event(event))

    def _check_row(self, event: EventLogEntry, number: int) -> dict[str, Any]:
        evaluation = event.get_dagster_event().asset_check_evaluation_data
        status = AssetCheckExecutionRecordStatus
        return {
            "asset_key": evaluation.asset_key.to_string(),
            "check_name": evaluation.check_name,
            "partition": evaluation.partition,
            "run_id": event.run_id,
            "execution_status": (status.SUCCEEDED if evaluation.passed else status.FAILED).value,
            "evaluation_event": serialize_value(event),
            "evaluation_event_timestamp": datetime.fromtimestamp(event.timestamp, UTC).replace(tzinfo=None),
            "evaluation_event_storage_id": number,
        }


def _new_id(inserted: Any) -> int:
    return int(inserted.inserted_primary_key[0])


def _kind(event: EventLogEntry) -> str:
    kind = event.dagster_event_type
    return "check" if kind is DagsterEventType.ASSET_CHECK_EVALUATION else kind.value if kind else ""


def _has_asset(event: EventLogEntry) -> bool:
    return event.get_dagster_event().asset_key is not None


def session_keys(count: int) -> list[str]:
    """Return *count* session keys of `_SUBJECTS` subjects, in the order in which they were recorded."""
    first = date(2024, 1, 1)
    return [
        session_key(f"m{number % _SUBJECTS:03d}", (first + timedelta(days=number // _SUBJECTS)).strftime("%Y%m%d"))
        for number in range(count)
    ]


def model_names(count: int) -> list[str]:
    """Return *count* names of models."""
    return [f"model-{number + 1}" for number in range(count)]


def write_lab(folder: Path, models: int) -> Lab:
    """Write the settings and the model specifications of a lab without a video into *folder*."""
    (folder / "recordings").mkdir(parents=True, exist_ok=True)
    for name in model_names(models):
        write_text(folder / "models" / f"{name}.yaml", _SPECIFICATION)
    write_text(folder / "lab.yaml", _LAB)
    return open_lab_folder(folder)


def fill(lab: Lab, sessions: int, models: int) -> Filled:
    """Tell the lab's instance of *sessions* sessions and *models* models; where it was told before, nothing is done.

    Raises
    ------
    RuntimeError
        The instance was told of other numbers, or telling it was broken off.
    """
    with open_instance(lab) as instance:
        record = Path(instance.root_directory) / "filled.json"
        if record.is_file():
            known = Filled(**read_json(record))
            if (known.sessions, known.models) != (sessions, models):
                raise RuntimeError(
                    f"{lab.root} holds {known.sessions} sessions and {known.models} models, asked for were {sessions} and {models}: "
                    "name another --lab"
                )
            return known
        if instance.get_dynamic_partitions(SESSION):
            raise RuntimeError(f"{lab.root} was filled in part only: remove it, or name another --lab")
        begun = time.perf_counter()
        past = _Past(lab, instance, sessions, models)
        past.tell()
        filled = Filled(sessions, models, past.runs, past.writer.stored, round(time.perf_counter() - begun, 1))
        write_json(record, vars(filled))
        return filled


class _Past:
    """What happened in the lab, told to its instance in the order in which it happened."""

    def __init__(self, lab: Lab, instance: dg.DagsterInstance, sessions: int, models: int) -> None:
        self.lab, self.instance = lab, instance
        storage = instance.event_log_storage
        if not isinstance(storage, SqlEventLogStorage):
            raise TypeError(f"expected an event log in SQL, got {type(storage).__name__}")
        self.writer = EventWriter(storage)
        self.runs = 0
        self.sessions, self.models = session_keys(sessions), model_names(models)
        self._now = datetime.now(UTC).timestamp() - 86_400.0
        self._templates: dict[str, dg.DagsterRun] = {}
        self._newest: dict[str, str] = {}
        self._pointers: dict[dg.AssetKey, int] = {}
        self._metadata = _metadata(lab)
        self._lineage = {
            node.key.to_user_string(): [parent.to_user_string() for parent in node.parent_keys]
            for node in defs.resolve_asset_graph().asset_nodes
        }

    def tell(self) -> None:
        add_keys(self.instance, MODEL, self.models)
        add_keys(self.instance, SESSION, self.sessions)
        for model in self.models:
            self._observe_labels(model)
            self._run("train", ["training_dataset", "trained_model", "model_evaluation"], [model])
        self._in_ranges("record", "session_recordings", self.sessions)
        for number, model in enumerate(self.models):
            share = _ANALYSED[min(number, len(_ANALYSED) - 1)]
            keys = [pose_key(model, session) for session in self.sessions[: max(1, round(share * len(self.sessions)))]]
            self._in_ranges("analyze", "pose_table", keys, running=model == self.models[-1])
        self._in_ranges("export_nwb", "nwb_file", self.sessions[: round(_EXPORTED * len(self.sessions))])
        self._run("write_catalog", ["model_comparison", "catalog"], [])
        self.writer.flush()

    def _in_ranges(self, job: str, asset: str, keys: Sequence[str], *, running: bool = False) -> None:
        most = _PER_RUN[job]
        for start in range(0, len(keys), most):
            chunk = keys[start : start + most]
            failing = chunk[len(chunk) // 2] if len(chunk) > 1 and self.runs % _FAILING_RUNS == _FIRST_FAILING else None
            self._run(job, [asset], chunk, failing=failing, running=running and start + most >= len(keys))

    def _run(
        self, job: str, assets: Sequence[str], keys: Sequence[str], *, failing: str | None = None, running: bool = False
    ) -> None:
        """Tell of one run of *job* over *keys* (none: not partitioned), in which *failing* failed; one still *running* is half done."""
        run_id = make_new_run_id()
        self.runs += 1
        tags = KeyRange(tuple(keys)).tags if keys else {}
        begun = self._now
        template = self._template(job)
        status = dg.DagsterRunStatus.NOT_STARTED
        run = template._replace(run_id=run_id, status=status, tags={**template.tags, **tags})
        self.instance.run_storage.add_run(run)
        for asset in assets:
            for key in keys or (None,):
                planned = AssetMaterializationPlannedData(dg.AssetKey(asset), partition=key)
                self._event(run, DagsterEvent.build_asset_materialization_planned_event(job, asset, planned))
        self._status(run, DagsterEventType.RUN_START)
        made = keys[: len(keys) // 2] if running else keys
        for asset in assets:
            self.writer.flush()  # what the instance says is the newest must be in it
            self._pointers = newest_events(self.instance, map(dg.AssetKey, self._lineage[asset]))
            for number, key in enumerate(made or (None,)):
                if key is None or key != failing:
                    self._make(run, asset, key, number)
        if not running:
            self._status(run, DagsterEventType.RUN_FAILURE if failing else DagsterEventType.RUN_SUCCESS)
        self._now = max(self._now, begun + 1.0)

    def _make(self, run: dg.DagsterRun, asset: str, key: str | None, number: int) -> None:
        for name in CHECKS.get(asset, {}):
            passed = number % _WARNING_SESSIONS != 0
            evaluation = dg.AssetCheckEvaluation(
                asset_key=dg.AssetKey(asset),
                check_name=name,
                passed=passed,
                severity=dg.AssetCheckSeverity.WARN,
                description="nothing odd was found"
                if passed
                else "top: bodypart3 is below the p-cutoff in 57% of the frames.",
                metadata={} if passed else {"all": dg.MetadataValue.json(["top: bodypart3 is below the p-cutoff."])},
                partition=key,
            )
            self._event(
                run,
                DagsterEvent(
                    event_type_value=DagsterEventType.ASSET_CHECK_EVALUATION.value,
                    job_name=run.job_name,
                    step_key=asset,
                    event_specific_data=evaluation,
                ),
            )
        version = hashlib.sha256(f"{asset} {key}".encode()).hexdigest()
        tags = {
            "dagster/data_version": version,
            "dagster/data_version_is_user_provided": "true",
            "dagster/code_version": "1",
        }
        for parent in self._lineage[asset]:
            tags[f"dagster/input_data_version/{parent}"] = self._newest.get(parent, "INITIAL")
            tags[f"dagster/input_event_pointer/{parent}"] = str(self._pointers.get(dg.AssetKey(parent), "NULL"))
        self._newest[asset] = version
        materialization = dg.AssetMaterialization(
            dg.AssetKey(asset), partition=key, metadata=self._metadata[asset], tags=tags
        )
        self._event(
            run,
            DagsterEvent(
                event_type_value=DagsterEventType.ASSET_MATERIALIZATION.value,
                job_name=run.job_name,
                step_key=asset,
                event_specific_data=StepMaterializationData(materialization),
            ),
        )

    def _event(self, run: dg.DagsterRun, event: DagsterEvent) -> None:
        self._now += 0.02
        self.writer.add(
            EventLogEntry(
                error_info=None,
                level="debug",
                user_message="",
                run_id=run.run_id,
                timestamp=self._now,
                step_key=event.step_key,
                job_name=run.job_name,
                dagster_event=event,
            )
        )

    def _status(self, run: dg.DagsterRun, kind: DagsterEventType) -> None:
        event = DagsterEvent(event_type_value=kind.value, job_name=run.job_name)
        self._event(run, event)
        when = datetime.fromtimestamp(self._now, UTC)
        self.instance.run_storage.handle_run_event(run.run_id, event, when)

    def _template(self, job: str) -> dg.DagsterRun:
        """Return a run of *job* as Dagster makes it, with the snapshots that it is kept with."""
        if job not in self._templates:
            run = self.instance.create_run_for_job(defs.resolve_job_def(job), tags={"dlc_assets/asked_by": "sensor"})
            self.instance.delete_run(run.run_id)
            self._templates[job] = run
        return self._templates[job]

    def _observe_labels(self, model: str) -> None:
        self.instance.report_runless_asset_event(
            dg.AssetObservation(
                "label_set",
                partition=model,
                metadata={"frames": 400, "dropped frames": 0},
                tags={"dagster/data_version": hashlib.sha256(model.encode()).hexdigest()},
            )
        )


def _metadata(lab: Lab) -> dict[str, dict[str, Any]]:
    """Return metadata for each asset as its runs report it: the same entries and pictures, so that events have the real size."""
    width, height = _PICTURE
    poses = wandering_poses(previews.TRAJECTORY_POINTS, len(_BODYPARTS))
    times = np.arange(len(poses)) / _RATE
    tracks = [Track("", name, *poses[:, number].T) for number, name in enumerate(_BODYPARTS)]
    frames = _strip(width, height)
    trajectories = previews.trajectories(tracks, times, width, height, 0.6)
    uri = {"dagster/uri": dg.MetadataValue.path(str(lab.layout.store))}
    number_of = {name: round(0.02 * number, 2) for number, name in enumerate(_BODYPARTS)}
    rows = {"recording": "top", "device": "top", "frames": _FRAMES}
    # Four labeled frames, a picture of errors by body part: larger than a strip of small frames, and one an event of few.
    large = dg.MetadataValue.md(frames.value * 8)
    return {
        "session_recordings": {
            "recordings": previews.table(
                [
                    {
                        **rows,
                        "files": 1,
                        "frames by header": _FRAMES,
                        "rate": "30",
                        "regular": True,
                        "size": f"{width}x{height}",
                        "turned upright": "no",
                        "duration (s)": _FRAMES / _RATE,
                        "codec": "h264",
                    }
                ]
            ),
            "start": "2026-05-01T10:12:00+02:00",
            "dagster/partition_row_count": _FRAMES,
            "duration (s)": _FRAMES / _RATE,
            "frames": frames,
            "frame intervals": previews.interval_histogram({"top": times}),
            **uri,
        },
        "pose_table": {
            "model version": "da999a8196ac",
            "dagster/partition_row_count": _FRAMES * len(_BODYPARTS),
            "frames": _FRAMES,
            "frames per second": 96.4,
            "estimated now": True,
            "custom": False,
            "recordings": previews.table([{**rows, "rows": _FRAMES * len(_BODYPARTS), "seconds": 560.0}]),
            "share below p-cutoff": previews.table([{"recording": "top", **number_of}]),
            "mean likelihood": 0.93,
            "trajectories": trajectories,
            "path": "openvino",
            "precision": "float32",
            "batch size": 8,
            "inference": dg.MetadataValue.json({"path": "openvino", "batch_size": 8, "shares": {"network": 0.9}}),
            **uri,
        },
        "nwb_file": {
            "size (bytes)": 9_000_000,
            "recordings": "top",
            "models": dg.MetadataValue.json({"model-1": "da999a8196ac"}),
            "videos": "link",
            "written now": True,
            "custom": False,
            "findings": previews.table([]),
            **uri,
        },
        "training_dataset": {"dagster/row_count": 400, "labeled frames": large, **uri},
        "trained_model": {"version": "da999a8196ac", "epoch": 180, "learning curve": frames, **uri},
        "model_evaluation": {"error (px)": 2.4, "worst frames": large, **uri},
        "model_comparison": {"dagster/row_count": 5, "errors with their intervals": frames, **uri},
        "catalog": {"dagster/row_count": 200_000, **uri},
    }


def _strip(width: int, height: int) -> dg.MarkdownMetadataValue:
    scene = Scene(SceneSettings(frames=12, fps=Fraction(10), seed=1, subject_seed=1, width=width, height=height))
    folder = Path(tempfile.mkdtemp())
    try:
        video = folder / "top.mp4"
        encode_video(video, (picture for picture, _, _ in scene.frames()), Fraction(10))
        return previews.strips({"top": (video, 12)})
    finally:
        shutil.rmtree(folder)
