"""Ending the runs whose process is dead and freeing what they hold, so that nothing waits for ever behind them.

A run holds a file lock while its process lives (`executors.LabExecutor`), and a command takes it before its run exists. Only
runs whose lock is free, on the host that they ran on, are ended: a run of another machine is never touched from here.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable

import dagster as dg

from dlc_assets.executors import HOST_TAG
from dlc_assets.lab.layout import LabLayout
from dlc_assets.lab.locks import is_held

_ALIVE = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
# A run gives up its lock a moment before its last event is stored, and makes the lock's file a moment before it holds it.
_GRACE_SECONDS = 2.0
_MESSAGE = "The process of this run died (killed, or the machine went down). What it had finished is kept; run it again to go on."


def end_dead_runs(instance: dg.DagsterInstance, layout: LabLayout, log: Callable[[str], None]) -> list[str]:
    """End every run of this host whose process is dead, free its pool slots, and return the run ids."""
    ended = []
    alive = instance.get_runs(dg.RunsFilter(statuses=_ALIVE, tags={HOST_TAG: socket.gethostname()}))
    suspects = [run for run in alive if _lock_is_free(layout, run.run_id)]
    if suspects:
        time.sleep(_GRACE_SECONDS)
    for run in suspects:
        if not _lock_is_free(layout, run.run_id):
            continue
        fresh = instance.get_run_by_id(run.run_id)
        if fresh is None or fresh.is_finished:
            continue  # it ended between the listing and the look at its lock
        instance.report_run_failed(fresh, _MESSAGE)
        ended.append(run.run_id)
        log(f"run {run.run_id} ({run.job_name}): its process is dead; it is marked failed and its slots are free")
    _free_slots(instance)
    return ended


def _lock_is_free(layout: LabLayout, run_id: str) -> bool:
    lock = layout.lock("run", run_id)
    return lock.exists() and not is_held(lock)


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
