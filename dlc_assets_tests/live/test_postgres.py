"""The whole chain on a lab whose Dagster instance is PostgreSQL."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import sqlalchemy

from dlc_assets.demo.run import MODEL
from dlc_assets.jobs import REVIEWED
from dlc_assets_tests.live.conftest import ARCHIVE, POSTGRES, without_outputs_of_sessions
from dlc_assets_tests.live.server import LabServer, command

pytestmark = pytest.mark.slow

_JOBS = ["analyze", "export_nwb", "record", "review", "train"]


def test_the_chain_runs_and_is_recorded_in_postgresql(postgres: dict[str, str], lab_copy: Path, tmp_path: Path) -> None:
    without_outputs_of_sessions(lab_copy)
    shutil.rmtree(lab_copy / "store" / "dagster")
    for session in ("m01/20260502", "m02/20260501"):  # one session is chain enough
        shutil.rmtree(lab_copy / "recordings" / session)
    key = ARCHIVE[0]

    for words in (("train", MODEL), ("scan",), ("analyze", key), ("review",), ("export",)):
        done = command(lab_copy, *words, environment=postgres)
        assert done["exit"] == 0, (words, done["log"])
        assert [run["status"] for run in done["runs"]] == ["SUCCESS"], (words, done["log"])
    status = command(lab_copy, "status", environment=postgres)
    assert {asset: states for asset, states in status["counts"].items() if set(states) != {"up to date"}} == {}

    engine = sqlalchemy.create_engine(postgres[POSTGRES])
    with engine.connect() as connection:
        runs = connection.exec_driver_sql("select pipeline_name, status from runs order by pipeline_name").all()
        materialized = connection.exec_driver_sql(
            "select distinct asset_key, partition from event_logs "
            "where dagster_event_type = 'ASSET_MATERIALIZATION' and run_id != '' order by 1, 2"
        ).all()
    engine.dispose()
    assert [tuple(row) for row in runs] == [(job, "SUCCESS") for job in _JOBS]
    assert [tuple(row) for row in materialized] == sorted(
        [(f'["{asset}"]', MODEL) for asset in ("training_dataset", "trained_model", "model_evaluation")]
        + [(f'["{asset}"]', key) for asset in ("session_recordings", "nwb_file")]
        + [(f'["{asset}"]', f"{MODEL}|{key}") for asset in ("pose_table", *REVIEWED)]
    )
    assert not (lab_copy / "store" / "dagster").exists(), "the embedded instance was set up, too"

    with LabServer(lab_copy, tmp_path / "dev.log", postgres) as server:
        assert set(server.sensors().values()) == {"RUNNING"}
        assert set(server.materialized("nwb_file")) == {key}
