"""The benchmark of the UI: its lab is told to the instance as runs tell it, and its questions are answered."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import sqlalchemy
from dagster._core.events.log import EventLogEntry
from dagster._core.storage.event_log.sql_event_log import SqlEventLogStorage

from benchmarks import ui
from benchmarks.ui_lab import EventWriter, Filled, fill, model_names, session_keys, write_lab
from dlc_assets.lab.keys import pose_key
from dlc_assets.lab.lab import Lab
from dlc_assets.resources.instance import open_instance

# What differs between two instances that were told the same: the time of telling.
_WHEN = {"create_timestamp"}


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return write_lab(tmp_path / "lab", 2)


def test_the_lab_has_the_mix_that_its_description_promises(lab: Lab) -> None:
    with ui.environment():
        filled = fill(lab, 120, 2)
        with open_instance(lab) as instance:
            assert instance.get_dynamic_partitions("session") == session_keys(120)
            assert len(instance.get_materialized_partitions(dg.AssetKey("session_recordings"))) == 120
            by_model = Counter(
                key.split("|")[0] for key in instance.get_materialized_partitions(dg.AssetKey("pose_table"))
            )
            assert by_model == {"model-1": 72 - 1, "model-2": 48 // 2}  # one failed; the last run is at half
            statuses = Counter(run.status for run in instance.get_runs())
        assert statuses[dg.DagsterRunStatus.FAILURE] == 1
        assert statuses[dg.DagsterRunStatus.STARTED] == 1
        assert filled.runs == sum(statuses.values())
        assert fill(lab, 120, 2) == filled  # known: nothing is told twice
        with pytest.raises(RuntimeError, match="holds 120 sessions and 2 models, asked for were 121 and 2"):
            fill(lab, 121, 2)


def test_events_stored_many_at_a_time_are_those_that_dagster_stores_one_by_one(lab: Lab, tmp_path: Path) -> None:
    with ui.environment(), open_instance(lab) as instance:
        run = instance.create_run_for_job(_job(), run_id="4a4b7d3e-0d0c-4a0e-9d2a-1c1b7f1f0a01")
        events = [event for session in session_keys(3) for event in _events(run, pose_key("model-1", session))]
        (tmp_path / "one").mkdir()
        (tmp_path / "many").mkdir()
        one, many = (_new_storage(tmp_path / name, instance) for name in ("one", "many"))
        for event in events:
            one.store_event(event)
        writer = EventWriter(many)
        for event in events:
            writer.add(event)
        writer.flush()
        assert writer.stored == len(events)
        tables = ("event_logs", "asset_keys", "asset_event_tags", "asset_check_executions")
        for table in tables:
            rows = _rows(one, table)
            assert rows, table
            assert rows == _rows(many, table), table
        assert [e.event_log_entry for e in one.get_records_for_run(run.run_id).records] == [
            e.event_log_entry for e in many.get_records_for_run(run.run_id).records
        ]


def _job() -> dg.JobDefinition:
    @dg.op
    def nothing() -> None: ...

    @dg.job
    def analyze() -> None:
        nothing()

    return analyze


def _events(run: dg.DagsterRun, key: str) -> list[EventLogEntry]:
    from dagster._core.events import AssetMaterializationPlannedData, DagsterEvent, StepMaterializationData

    asset = dg.AssetKey("pose_table")

    def of(kind: dg.DagsterEventType, data: Any) -> EventLogEntry:
        event = DagsterEvent(
            event_type_value=kind.value, job_name="analyze", step_key="nothing", event_specific_data=data
        )
        return EventLogEntry(None, "debug", "", run.run_id, 1_700_000_000.5, "nothing", "analyze", event)

    return [
        of(dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED, AssetMaterializationPlannedData(asset, partition=key)),
        of(
            dg.DagsterEventType.ASSET_CHECK_EVALUATION,
            dg.AssetCheckEvaluation(
                asset_key=asset, check_name="body_parts_found", passed=False, metadata={}, partition=key
            ),
        ),
        of(
            dg.DagsterEventType.ASSET_MATERIALIZATION,
            StepMaterializationData(
                dg.AssetMaterialization(
                    asset, partition=key, tags={"dagster/data_version": "1", "dagster/code_version": "1"}
                )
            ),
        ),
        of(dg.DagsterEventType.RUN_SUCCESS, None),
    ]


def _new_storage(folder: Path, instance: dg.DagsterInstance) -> SqlEventLogStorage:
    from dagster._core.storage.event_log import SqliteEventLogStorage

    storage = SqliteEventLogStorage(str(folder))
    storage.register_instance(instance)
    return storage


def _rows(storage: SqlEventLogStorage, table: str) -> list[dict[str, Any]]:
    with storage.index_connection() as connection:
        rows = connection.execute(sqlalchemy.text(f"select * from {table} order by id")).mappings().all()
    return [{name: value for name, value in row.items() if name not in _WHEN} for row in rows]


def test_a_question_that_the_ui_could_not_answer_is_an_error_and_no_time() -> None:
    with pytest.raises(RuntimeError, match="runs: expected data"):
        ui._need_answer("runs", {"data": {"runsFeedOrError": None}})
    with pytest.raises(RuntimeError, match="runs: expected data"):
        ui._need_answer("runs", {"errors": [{"message": "no such field"}]})


def test_the_questions_are_about_what_the_lab_holds() -> None:
    sessions, models = session_keys(10), model_names(2)
    asked = {question.name: question.variables for question in ui.questions(sessions, models)}
    assert asked["pose_table, one partition"]["partition"] == pose_key("model-1", sessions[2])
    assert Filled(1, 1, 1, 1, 0.0).models == 1


@pytest.mark.slow
def test_the_benchmark_runs_and_prints_one_json_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Starts a web server."""
    line = [
        "--sessions",
        "30",
        "--models",
        "2",
        "--rounds",
        "1",
        "--no-pages",
        "--lab",
        str(tmp_path / "lab"),
        "--json",
    ]
    status = ui.main(line)
    measured = json.loads(capsys.readouterr().out)
    assert status == (0 if measured["ok"] else 1)
    assert measured["memory_mb"]["webserver"] > 50
    for name, of in measured["questions"].items():
        assert 0 < of["median"] <= of["slowest"], name
        assert of["bytes"] > 30, name
    assert measured["questions"]["launchpad of analyze"]["bytes"] > 60 * 20  # a name for each model and session
    assert set(measured["targets"]) == {*measured["questions"], "first answer of all", "memory_mb"}
