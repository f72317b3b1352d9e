"""Ending the runs whose process is dead and freeing what they hold, so that nothing waits for ever behind them.

A run holds a file lock while its process lives (`executors.LabExecutor`), and a command takes it before its run exists. Only
runs whose lock is free, on the host that they ran on, are ended: a run of another machine is never touched from here. A run of the
daemon whose process has no lock yet, since it is still loading, is known by the process that it has reported.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

import dagster as dg

from dlc_assets.executors import HOST_TAG
from dlc_assets.lab.layout import LabLayout
from dlc_assets.lab.locks import is_held
from dlc_assets.lab.processes import is_alive

_ALIVE = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
# A run gives up its lock a moment before its last event is stored, and makes the lock's file a moment before it holds it.
_GRACE_SECONDS = 2.0
# From when the daemon asks for a process until the process reports itself: the code server starts it at once, or is dead.
_STARTING_SECONDS = 60.0
_MESSAGE = "The process of this run died (killed, or the machine went down). What it had finished is kept; run it again to go on."


def end_dead_runs(instance: dg.DagsterInstance, layout: LabLayout, log: Callable[[str], None]) -> list[str]:
    """End every run of this host whose process is dead, free its pool slots, and return the run ids."""
    ended = []
    alive = instance.get_runs(dg.RunsFilter(statuses=_ALIVE, tags={HOST_TAG: socket.gethostname()}))
    suspects = [run for run in alive if _is_dead(instance, layout, run.run_id)]
    if suspects:
        time.sleep(_GRACE_SECONDS)
    for run in suspects:
        if not _is_dead(instance, layout, run.run_id):
            continue
        fresh = instance.get_run_by_id(run.run_id)
        if fresh is None or fresh.status not in _ALIVE:
            continue  # it ended, or went back into the queue, between the listing and the look at its lock
        instance.report_run_failed(fresh, _MESSAGE)
        ended.append(run.run_id)
        log(f"run {run.run_id} ({run.job_name}): its process is dead; it is marked failed and its slots are free")
    _free_slots(instance)
    return ended


def _is_dead(instance: dg.DagsterInstance, layout: LabLayout, run_id: str) -> bool:
    lock = layout.lock("run", run_id)
    if lock.exists():
        return not is_held(lock)
    # A command's run has its lock before it exists, so this one was launched by the daemon.
    asked = _newest(instance, run_id, dg.DagsterEventType.RUN_STARTING)
    if asked is None:
        return False
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT):
        event = entry.dagster_event
        pid = None if event is None else event.engine_event_data.metadata.get("pid")
        if pid is not None and entry.timestamp >= asked:
            return not is_alive(int(str(pid.value)))
    return time.time() - asked > _STARTING_SECONDS


def _newest(instance: dg.DagsterInstance, run_id: str, kind: dg.DagsterEventType) -> float | None:
    """Return the unix time of the run's newest event of a *kind*."""
    return max((entry.timestamp for entry in instance.all_logs(run_id, of_type=kind)), default=None)


def _free_slots(instance: dg.DagsterInstance) -> None:
    """Free the pool slots of all runs that are over, those ended above and those that Dagster itself marked failed."""
    storage = instance.event_log_storage
    if not storage.supports_global_concurrency_limits:
        return
    for pool in storage.get_concurrency_keys():
        info = storage.get_concurrency_info(pool)
        for run_id in {*info.active_run_ids, *info.assigned_run_ids, *info.pending_run_ids}:
            run = instance.get_run_by_id(run_id)
            if run is None or run.is_finished:
                storage.free_concurrency_slots_for_run(run_id)
