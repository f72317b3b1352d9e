"""Runs whose process died before it held anything, and what crashed processes left half written."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time

import dagster as dg
import pytest
from dagster._core.events import EngineEventData
from dagster._core.utils import make_new_run_id

from dlc_assets.executors import HOST_TAG
from dlc_assets.lab.files import atomic_path
from dlc_assets.resources import janitor
from dlc_assets.resources.janitor import end_dead_runs
from dlc_assets_tests.graph.conftest import Graph
from dlc_assets_tests.graph.small_lab import FIRST


@pytest.fixture(autouse=True)
def without_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(janitor, "_GRACE_SECONDS", 0.0)


@pytest.fixture
def dead_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def launched(graph: Graph, pid: int | None, *, seconds_ago: float = 0.0) -> dg.DagsterRun:
    """Put a run in the instance that the daemon has launched and whose process has said nothing but *pid* (None: not even that)."""
    run = graph.instance.create_run_for_job(
        graph.defs.resolve_job_def("record"),
        run_id=make_new_run_id(),
        status=dg.DagsterRunStatus.STARTING,
        tags={"dagster/partition": FIRST, HOST_TAG: socket.gethostname()},
    )
    _launch(graph, run, time.time() - seconds_ago)
    if pid is not None:
        graph.instance.report_engine_event("Started process for run.", run, EngineEventData.in_process(pid))
    return run


def _launch(graph: Graph, run: dg.DagsterRun, at: float) -> None:
    asked = dg.DagsterEvent(dg.DagsterEventType.RUN_STARTING.value, job_name=run.job_name)
    graph.instance.handle_new_event(
        dg.EventLogEntry(
            error_info=None,
            level=20,
            user_message="",
            run_id=run.run_id,
            timestamp=at,
            job_name=run.job_name,
            dagster_event=asked,
        )
    )


def test_a_run_whose_process_died_while_it_was_loading_is_ended(small: Graph, dead_process: int) -> None:
    dead, loading = launched(small, dead_process), launched(small, os.getpid())
    just_asked_for, never_begun = launched(small, None), launched(small, None, seconds_ago=120)
    ended = end_dead_runs(small.instance, small.lab.layout, print)
    assert sorted(ended) == sorted([dead.run_id, never_begun.run_id])
    assert {run.run_id for run in small.instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTING]))} == {
        loading.run_id,
        just_asked_for.run_id,
    }


def test_a_run_that_is_launched_again_is_not_taken_for_its_dead_first_process(small: Graph, dead_process: int) -> None:
    again = launched(small, dead_process)
    _launch(small, again, time.time() + 1)  # later than what its first process said
    assert end_dead_runs(small.instance, small.lab.layout, print) == []


def test_after_a_failed_run_what_was_being_written_is_removed(small: Graph, dead_process: int) -> None:
    final = small.lab.layout.store / "recordings" / "times.parquet"
    with atomic_path(final) as partial:
        left = partial.with_name(partial.name.replace(f"{os.getpid():06x}", f"{dead_process:06x}"))
        left.write_bytes(b"half")
        partial.write_bytes(b"whole")
    small.tick("janitor")
    assert left.exists(), "no run has failed, so that nobody looks"
    launched(small, dead_process)
    small.tick("janitor")
    assert not left.exists()
    assert final.read_bytes() == b"whole"
