"""The asset `filtered_pose_table` in runs: what it reports, and that one session's failure leaves the others."""

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

KEYS = ("sub-m01_ses-1", "sub-m02_ses-1")


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """Two sessions of four frames, of which the first is analysed."""
    lab = write_lab(tmp_path / "lab", LAB + "filters: [{step: confidence, below: 0.6}, {step: median, window: 0.3}]\n")
    for number, key in enumerate(KEYS, start=1):
        add_session(lab, key, date(2026, 11, number))
    add_poses(lab, add_version(lab), KEYS[0])
    return lab


def _run(lab: Lab, key: str) -> dg.ExecuteInProcessResult:
    defs = build_defs(resources={"lab": LabResource(path=str(lab.root))}, executor=dg.in_process_executor)
    with dg.DagsterInstance.ephemeral() as instance:
        instance.add_dynamic_partitions(MODEL, ["walker"])
        instance.add_dynamic_partitions(SESSION, list(KEYS))
        partition = dg.MultiPartitionKey({"model": "walker", "session": key})
        return defs.resolve_job_def("review").execute_in_process(
            partition_key=partition,
            instance=instance,
            asset_selection=[dg.AssetKey("filtered_pose_table")],
            raise_on_error=False,
        )


def test_a_run_reports_the_table_its_check_and_what_was_done(lab: Lab) -> None:
    result = _run(lab, KEYS[0])
    assert result.success
    check, *_ = result.get_asset_check_evaluations()  # of the run itself, then of the check
    assert (check.check_name, check.passed, check.partition) == ("filters_applied", False, f"walker|{KEYS[0]}")
    assert "2 stretches with 8 points of snout, tailbase are shorter than the window" in (check.description or "")
    (made,) = result.asset_materializations_for_node("review_poses")
    assert made.partition == f"walker|{KEYS[0]}"
    assert made.metadata["dagster/partition_row_count"].value == 8
    assert made.tags is not None
    assert made.tags["dagster/data_version"]
    assert made.metadata["filters"].value == "1. confidence below 0.6\n2. median over 0.3 s"
    first = made.metadata["points by body part"].records[0].data  # type: ignore[union-attr]
    assert first == {
        "recording": "top",
        "body part": "snout",
        "before": 1.0,
        "1. confidence: removed": 0.0,
        "2. median: moved": 0.0,
        "after": 1.0,
    }


def test_a_session_without_poses_fails_with_the_reason(lab: Lab) -> None:
    result = _run(lab, KEYS[1])
    assert not result.success
    (failed,) = result.filter_events(lambda event: event.is_step_failure)
    assert "has no poses by walker" in str(failed.step_failure_data.user_failure_data)
