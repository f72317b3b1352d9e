"""The UI and the daemon on a lab: a video that comes in is analysed with no command; a backfill does what can be done."""

from __future__ import annotations

import pytest

from dlc_assets.demo.run import MODEL
from dlc_assets.lab.keys import pose_key
from dlc_assets.nwb.export import nwb_manifest
from dlc_assets.recordings.discovery import discover
from dlc_assets.recordings.info import read_session_info
from dlc_assets.state.behind import session_products
from dlc_assets.state.stored import stored_manifest
from dlc_assets_tests.live.conftest import ARCHIVE, BROKEN, DROPPED, BusyLab
from dlc_assets_tests.live.server import wait_until

pytestmark = pytest.mark.slow

_BOUND = 600  # s: some ninety on two idle cores, many more where others work, too
_ASSETS = {
    "catalog",
    "dandi_asset",
    "filtered_pose_table",
    "frames_to_label",
    "kinematics",
    "label_set",
    "labeled_video",
    "model_comparison",
    "model_evaluation",
    "nwb_file",
    "pose_table",
    "quality_overview",
    "quality_report",
    "session_recordings",
    "trained_model",
    "training_dataset",
}


def test_the_ui_answers_with_the_labs_graph_and_its_sensors_are_on(busy_lab: BusyLab) -> None:
    server = busy_lab.server
    assert server.server_info()["dagster_version"]
    nodes = server.ask("{ assetNodes { assetKey { path } groupName description kinds partitionKeys } }")["assetNodes"]
    by_name = {node["assetKey"]["path"][0]: node for node in nodes}
    assert set(by_name) == _ASSETS
    assert all(node["description"] and node["kinds"] and node["groupName"] for node in nodes)
    assert set(ARCHIVE) <= set(by_name["session_recordings"]["partitionKeys"])
    assert by_name["trained_model"]["partitionKeys"] == [MODEL]
    assert pose_key(MODEL, ARCHIVE[0]) in by_name["pose_table"]["partitionKeys"]
    assert server.sensors() == dict.fromkeys(
        (
            "recordings",
            "analysis",
            "review",
            "labeled_videos",
            "export",
            "models_and_labels",
            "auto_train",
            "evaluation",
            "catalog",
            "janitor",
            "notices",
        ),
        "RUNNING",
    )


def test_a_video_that_is_dropped_in_is_probed_analysed_and_exported_by_itself(busy_lab: BusyLab) -> None:
    lab, server = busy_lab.lab, busy_lab.server
    manifest = wait_until("the new session's NWB file", lambda: nwb_manifest(lab, DROPPED), _BOUND)
    assert (lab.layout.nwb / manifest.details["path"]).is_file()
    assert read_session_info(lab.layout, DROPPED) is not None
    poses = stored_manifest(lab, "pose_table", pose_key(MODEL, DROPPED))
    assert poses is not None
    assert poses.details["frames"] > 0
    assert manifest.details["models"] == {MODEL: poses.details["version"]}

    wait_until("its materialization", lambda: DROPPED in server.materialized("nwb_file"), 30)
    recorded = server.materialized("session_recordings")[DROPPED]
    estimated = server.materialized("pose_table")[pose_key(MODEL, DROPPED)]
    exported = server.materialized("nwb_file")[DROPPED]
    assert estimated["tags"]["dagster/data_version"] == poses.data_version
    assert exported["tags"]["dagster/data_version"] == manifest.data_version
    assert {"dagster/input_data_version/trained_model", "dagster/input_data_version/session_recordings"} <= set(
        estimated["tags"]
    )
    assert {"dagster/input_data_version/pose_table", "dagster/input_data_version/session_recordings"} <= set(
        exported["tags"]
    )
    assert {"trajectories", "dagster/partition_row_count"} <= set(estimated["metadata"])
    made = {event["run"] for event in (recorded, estimated, exported)}
    runs = {run["runId"]: run for run in server.runs(dlc_assets__asked_by="sensor")}
    assert made <= set(runs)
    of_session = [run["jobName"] for run in runs.values() if run["tags"].get("dagster/partition", "").endswith(DROPPED)]
    assert sorted(of_session) == ["analyze", "export_nwb", "record"], "each stage ran once"


def test_a_backfill_with_a_broken_video_makes_the_rest_and_says_which_failed(busy_lab: BusyLab) -> None:
    lab, server = busy_lab.lab, busy_lab.server

    def ended() -> str | None:
        status = str(server.backfill(busy_lab.backfill)["status"])
        return None if status in {"REQUESTED", "FAILING"} else status

    assert wait_until("the backfill has ended", ended, _BOUND) == "COMPLETED_FAILED"
    runs = server.backfill(busy_lab.backfill)["runs"]
    failed = [server.run(run["runId"]) for run in runs if run["status"] != "SUCCESS"]
    assert len(failed) == 1, "only the run that met the broken video failed"
    (message,) = failed[0]["failures"].values()
    assert "1 of 3 failed; the others are done" in message
    assert f"{BROKEN}: no recording can be used." in message
    assert "does not open as a video" in message

    good = {key for key in ARCHIVE if key != BROKEN}
    for key in good:
        assert read_session_info(lab.layout, key) is not None
        assert stored_manifest(lab, "pose_table", pose_key(MODEL, key)) is not None
        manifest = nwb_manifest(lab, key)
        assert manifest is not None
    assert nwb_manifest(lab, BROKEN) is None
    made = {
        "session_recordings": set(server.materialized("session_recordings")),
        "pose_table": {key.partition("|")[2] for key in server.materialized("pose_table")},
        "nwb_file": set(server.materialized("nwb_file")),
    }
    for asset, keys in made.items():
        assert keys - {DROPPED} == good, asset
    (product,) = session_products(lab, BROKEN, discover(lab).sessions[BROKEN])
    assert product.state == "failed"
    assert "does not open as a video" in product.why


def test_the_checks_of_a_backfill_name_their_sessions(busy_lab: BusyLab) -> None:
    server = busy_lab.server
    wait_until(
        "the backfill has ended", lambda: server.backfill(busy_lab.backfill)["status"] == "COMPLETED_FAILED", _BOUND
    )
    found = server.checks("session_recordings", "recordings_readable")
    assert {key: status for key, status in found.items() if key in ARCHIVE} == {
        key: "FAILED" if key == BROKEN else "SUCCEEDED" for key in ARCHIVE
    }
    assert server.checks("nwb_file", "nwb_valid")[ARCHIVE[0]] == "SUCCEEDED"
