"""The asset `kinematics` in runs: after the filtered poses that it is made from, and what it reports."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import dagster as dg
import pytest

from dlc_assets.definitions import build_defs
from dlc_assets.lab.lab import Lab
from dlc_assets.partitions import MODEL, SESSION
from dlc_assets.resources.lab import LabResource
from dlc_assets_tests.unit.released_lab import LAB, add_poses, add_session, add_version, write_lab

KEY = "sub-m01_ses-1"
RIG = "setups: {top: [{scale: {px_per_cm: 2}, regions: {nest: [[0, 0], [30, 30]]}}]}\n"


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """A session of four frames in which nothing moves."""
    lab = write_lab(tmp_path / "lab", f"{LAB}{RIG}filters: [{{step: confidence, below: 0.6}}]\n")
    add_session(lab, KEY, date(2026, 11, 1))
    add_poses(lab, add_version(lab), KEY)
    return lab


def _run(lab: Lab, *assets: str, config: dict[str, str] | None = None) -> dg.ExecuteInProcessResult:
    defs = build_defs(resources={"lab": LabResource(path=str(lab.root))}, executor=dg.in_process_executor)
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(MODEL, ["walker"])
        instance.add_dynamic_partitions(SESSION, [KEY])
        return defs.resolve_job_def("review").execute_in_process(
            partition_key=dg.MultiPartitionKey({"model": "walker", "session": KEY}),
            instance=instance,
            asset_selection=[dg.AssetKey(asset) for asset in assets],
            run_config={"ops": {"review_poses": {"config": config or {}}}},
            raise_on_error=False,
        )


def test_a_run_filters_first_and_reports_what_was_measured(lab: Lab) -> None:
    result = _run(lab, "filtered_pose_table", "kinematics")
    assert result.success
    filtered, made = result.asset_materializations_for_node("review_poses")
    assert (filtered.asset_key.to_user_string(), made.asset_key.to_user_string()) == (
        "filtered_pose_table",
        "kinematics",
    )
    assert made.tags is not None
    assert filtered.tags is not None
    assert made.tags["dagster/input_data_version/filtered_pose_table"] == filtered.tags["dagster/data_version"]
    assert made.metadata["dagster/partition_row_count"].value == 4
    summary = made.metadata["summary"].records[0].data  # type: ignore[union-attr]
    assert summary == {
        "recording": "top",
        "individual": "",
        "share known": 1.0,
        "path length (cm)": 0.0,
        "mean speed (cm/s)": 0.0,
        "median speed (cm/s)": 0.0,
    }
    region = made.metadata["regions"].records[0].data  # type: ignore[union-attr]
    assert (region["region"], region["seconds"], region["entries"]) == ("nest", 0.16, 0)
    checks = [check for check in result.get_asset_check_evaluations() if check.check_name == "measures_known"]
    assert checks
    assert all(check.passed for check in checks)


def test_raw_poses_need_no_filtered_ones_and_filtered_ones_must_be_there(lab: Lab) -> None:
    result = _run(lab, "kinematics")
    assert not result.success
    (failed,) = result.filter_events(lambda event: event.is_step_failure)
    assert "its filtered_pose_table by walker@" in str(failed.step_failure_data.user_failure_data)
    result = _run(lab, "kinematics", config={"kinematics_from": "raw"})
    assert result.success
    (made,) = result.asset_materializations_for_node("review_poses")
    assert made.metadata["from"].value == "raw poses"
    assert made.metadata["custom"].value is True
