"""A real SIGKILL in the middle of a recording: the next analysis goes on after the last chunk, with the very same poses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dlc_assets.demo.run import MODEL
from dlc_assets.inference.pose_tables import Estimators, estimate_session, pose_files
from dlc_assets.lab.keys import pose_key
from dlc_assets.lab.lab import open_lab_folder
from dlc_assets.poses.table_file import read_pose_metadata
from dlc_assets.state.stored import stored_manifest
from dlc_assets_tests.live.server import wait_until

pytestmark = pytest.mark.slow

SESSION = "sub-m01_ses-20260501"
CHUNK = 16
# An analysis in a process of its own, with small chunks, and slow enough to be killed in its middle.
SLOW_ANALYSIS = f"""
import sys, time
from dlc_assets.inference import pose_tables, streaming
from dlc_assets.lab.lab import open_lab_folder

streaming._CHUNK_FRAMES = {CHUNK}
at_full_speed = streaming._batches

def slowly(*arguments):
    for batch in at_full_speed(*arguments):
        time.sleep(0.05 * len(batch))
        yield batch

streaming._batches = slowly
pose_tables.estimate_session(
    open_lab_folder(sys.argv[1]), "{MODEL}", "{SESSION}", pose_tables.Estimators("cpu"),
    overrides={{}}, recompute=True, run_id="killed", log=print,
)
"""


def test_a_killed_analysis_goes_on_after_its_last_chunk_with_the_same_poses(lab_copy: Path, tmp_path: Path) -> None:
    lab = open_lab_folder(lab_copy)
    unbroken = stored_manifest(lab, "pose_table", pose_key(MODEL, SESSION))
    assert unbroken is not None
    work = lab.layout.pose_work(MODEL, unbroken.details["version"], SESSION)
    with (tmp_path / "killed.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", SLOW_ANALYSIS, str(lab_copy)], stdout=log, stderr=subprocess.STDOUT
        )
        try:
            wait_until("there are three chunks", lambda: len(list(work.glob("*/[!.]*.npy"))) >= 3, 300, every=0.02)
        finally:
            process.kill()
            process.wait(10)
    (table,) = pose_files(lab, unbroken)
    assert read_pose_metadata(table.path).data_version == unbroken.details["recordings"][0]["data_version"]
    chunks = sorted(work.glob("*/[!.]*.npy"))
    (lab.layout.pose_folder(MODEL, unbroken.details["version"], SESSION) / "manifest.json").unlink()

    said: list[str] = []
    manifest, estimated = estimate_session(
        lab, MODEL, SESSION, Estimators("cpu"), overrides={}, recompute=False, run_id="next", log=said.append
    )
    assert estimated
    (row,) = manifest.details["recordings"]
    assert row["resumed_after"] == CHUNK * len(chunks) < row["frames"]
    assert any(f"going on after frame {CHUNK * len(chunks)}" in sentence for sentence in said)
    assert manifest.data_version == unbroken.data_version
    assert not work.exists(), "finished work leaves no chunks"
