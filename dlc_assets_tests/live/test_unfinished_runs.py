"""Commands and the daemon at the same time; and what is killed in the middle never blocks what comes next."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from dlc_assets.demo.run import MODEL
from dlc_assets.executors import PROCESS_TAG
from dlc_assets.lab.keys import pose_key
from dlc_assets.lab.locks import is_held
from dlc_assets.lab.manifest import Manifest
from dlc_assets.state.stored import stored_manifest
from dlc_assets_tests.live.conftest import DROPPED, BusyLab
from dlc_assets_tests.live.server import analysing, descendants, is_alive, wait_until

pytestmark = pytest.mark.slow

KEY = pose_key(MODEL, DROPPED)
_UNFINISHED = {"QUEUED", "NOT_STARTED", "STARTING", "STARTED", "CANCELING"}
_BOUND = 240  # s: some thirty on two idle cores


@pytest.fixture(scope="module")
def quiet_lab(busy_lab: BusyLab) -> BusyLab:
    """The busy lab once all that was asked of it is done."""
    server = busy_lab.server
    wait_until("the backfill has ended", lambda: server.backfill(busy_lab.backfill)["status"] != "REQUESTED", 600)
    wait_until("the new session is exported", lambda: DROPPED in server.materialized("nwb_file"), 600)
    _wait_for_rest(busy_lab)
    return busy_lab


def _wait_for_rest(busy: BusyLab) -> None:
    def at_rest() -> bool:
        return not any(run["status"] in _UNFINISHED for run in busy.server.runs())

    wait_until("no run is under way", at_rest, _BOUND)


def _poses(busy: BusyLab) -> Manifest:
    manifest = stored_manifest(busy.lab, "pose_table", KEY)
    assert manifest is not None
    return manifest


def _newest_run(busy: BusyLab, **tags: str) -> dict[str, Any]:
    return busy.server.runs(**tags)[0]


def _slots(busy: BusyLab) -> int:
    answer = busy.server.ask("{ instance { concurrencyLimits { concurrencyKey activeSlotCount pendingStepCount } } }")
    return sum(pool["activeSlotCount"] + pool["pendingStepCount"] for pool in answer["instance"]["concurrencyLimits"])


def test_a_command_works_beside_the_daemon_and_stops_when_it_is_cancelled_in_the_ui(
    quiet_lab: BusyLab, tmp_path: Path
) -> None:
    log = tmp_path / "analyze.log"
    before = _poses(quiet_lab)
    with analysing(quiet_lab.server.lab, DROPPED, log) as process:
        run = _newest_run(quiet_lab, dlc_assets__asked_by="command")
        assert run["status"] == "STARTED"
        # So short an analysis could end before it is cancelled: its processes stand still until the command knows.
        steps = descendants(process.pid)
        for pid in steps:
            os.kill(pid, signal.SIGSTOP)
        quiet_lab.server.terminate(run["runId"])
        wait_until("the command knows that it is cancelled", lambda: "was cancelled in the UI" in log.read_text(), 30)
        for pid in steps:
            os.kill(pid, signal.SIGCONT)
        assert process.wait(60) != 0
    assert "cancelled" in log.read_text()
    wait_until("the run is cancelled", lambda: quiet_lab.server.run(run["runId"])["status"] == "CANCELED", 30)
    assert _slots(quiet_lab) == 0
    assert _poses(quiet_lab) == before, "a cancelled analysis left the finished table alone"


def test_after_a_kill_the_daemon_goes_on(quiet_lab: BusyLab, tmp_path: Path) -> None:
    server = quiet_lab.server
    with analysing(quiet_lab.server.lab, DROPPED, tmp_path / "killed.log") as process:
        killed = _newest_run(quiet_lab, dlc_assets__asked_by="command")
        os.kill(process.pid, signal.SIGKILL)
        process.wait(10)
        asked = server.launch("analyze", KEY, {"ops": {"pose_table": {"config": {"recompute": True}}}})
        wait_until("the dead run is marked", lambda: server.run(killed["runId"])["status"] == "FAILURE", 60)
        wait_until("the run that was asked for in the UI", lambda: server.run(asked)["status"] == "SUCCESS", _BOUND)
    assert _poses(quiet_lab).run_id == asked


def test_a_killed_run_of_the_daemon_is_tried_again_and_blocks_nothing(quiet_lab: BusyLab) -> None:
    server = quiet_lab.server
    first = server.launch("analyze", KEY, {"ops": {"pose_table": {"config": {"recompute": True}}}})
    lock = quiet_lab.lab.layout.lock("pose_table", KEY)
    wait_until("its step is analysing", lambda: is_held(lock), _BOUND, every=0.05)
    (worker,) = (int(run["tags"][PROCESS_TAG]) for run in server.runs() if run["runId"] == first)
    steps = descendants(worker)
    os.kill(worker, signal.SIGKILL)
    wait_until("the steps of the killed run have ended by themselves", lambda: not any(map(is_alive, steps)), 15)
    wait_until("the dead run is marked", lambda: server.run(first)["status"] == "FAILURE", 60)
    again = wait_until("it is tried again", lambda: server.runs(dagster__parent_run_id=first), 60)[0]["runId"]
    wait_until("the second try succeeds", lambda: server.run(again)["status"] == "SUCCESS", _BOUND)
    assert _poses(quiet_lab).run_id == again
    _wait_for_rest(quiet_lab)
    assert _slots(quiet_lab) == 0
