"""A command that was killed in the middle never blocks the next one, with no daemon there to clean up."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import dagster as dg
import pytest

from dlc_assets.demo.run import MODEL
from dlc_assets.executors import GPU_POOL
from dlc_assets.lab.keys import pose_key
from dlc_assets.lab.lab import open_lab_folder
from dlc_assets.lab.locks import is_held
from dlc_assets.resources.instance import open_instance
from dlc_assets.state.stored import stored_manifest
from dlc_assets_tests.live.conftest import ARCHIVE
from dlc_assets_tests.live.server import analysing, command, descendants, is_alive, wait_until

pytestmark = pytest.mark.slow


def test_after_a_kill_the_next_command_goes_on(lab_copy: Path, tmp_path: Path) -> None:
    lab, session = open_lab_folder(lab_copy), ARCHIVE[0]
    with analysing(lab_copy, session, tmp_path / "killed.log") as process:
        with open_instance(lab) as instance:
            (killed,) = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
            assert _slots(instance) == 1
        steps = descendants(process.pid)
        assert steps, "the step runs in a process of its own"
        os.kill(process.pid, signal.SIGKILL)  # it alone: nothing tells its children
        process.wait(10)
        wait_until("the killed command's steps have ended by themselves", lambda: not any(map(is_alive, steps)), 15)
        done = command(lab_copy, "analyze", session, "--recompute", timeout=240)
    assert done["exit"] == 0, done["log"]
    assert f"run {killed.run_id} (analyze): its process is dead" in done["log"]
    (again,) = (run["run_id"] for run in done["runs"])
    with open_instance(lab) as instance:
        ended = instance.get_run_by_id(killed.run_id)
        assert ended is not None
        assert ended.status is dg.DagsterRunStatus.FAILURE
        assert _slots(instance) == 0
    poses = stored_manifest(lab, "pose_table", pose_key(MODEL, session))
    assert poses is not None
    assert poses.run_id == again
    assert not is_held(lab.layout.lock("pose_table", poses.key))


def _slots(instance: dg.DagsterInstance) -> int:
    return len(instance.event_log_storage.get_concurrency_info(GPU_POOL).claimed_slots)
