"""Runs that commands execute themselves: on the lab's instance, with the same jobs, locks and records as the daemon's runs."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import dagster as dg
from dagster._core.definitions.reconstruct import ReconstructableRepository
from dagster._core.events import RunFailureReason
from dagster._core.execution.api import execute_run
from dagster._core.remote_origin import ManagedGrpcPythonEnvCodeLocationOrigin, RemoteJobOrigin, RemoteRepositoryOrigin
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._core.utils import make_new_run_id

from dlc_assets.executors import GPU_POOL, holder_tags
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.locks import hold
from dlc_assets.resources.janitor import end_dead_runs
from dlc_assets.resources.run_launcher import ASKED_BY_TAG, COMMAND

_MODULE, _LOCATION, _REPOSITORY = "dlc_assets.definitions", "dlc_assets", "__repository__"
_WATCH_SECONDS = 1.0
_JANITOR_SECONDS = 30.0
_INSIST_SECONDS = 5.0
_QUIET_CONSOLE = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass(frozen=True)
class RunOutcome:
    """How a run ended: its id, its status in Dagster's words, and the messages of its failed steps."""

    run_id: str
    job: str
    status: str
    failures: tuple[str, ...]

    @property
    def success(self) -> bool:
        return self.status == dg.DagsterRunStatus.SUCCESS.value


def execute_here(
    lab: Lab,
    instance: dg.DagsterInstance,
    job_name: str,
    *,
    tags: Mapping[str, str],
    log: Callable[[str], None],
    ops: Mapping[str, Mapping[str, Any]] | None = None,
) -> RunOutcome:
    """Execute a run of *job_name* in this process (each step in a process of its own) and wait for its end.

    Parameters
    ----------
    tags
        Run tags, the partition's among them.
    log
        Gets each line that the steps log.
    ops
        Run configuration by asset, as typed in the launchpad.
    """
    end_dead_runs(instance, lab.layout, log)
    repository = ReconstructableRepository.for_module(_MODULE, "defs", working_directory=None)
    job = repository.get_reconstructable_job(job_name)
    if any(node.pool == GPU_POOL for node in job.get_definition().all_node_defs if isinstance(node, dg.OpDefinition)):
        _await_slot(lab, instance, log)
    run_id = make_new_run_id()
    with hold(lab.layout.lock("run", run_id), f"run {run_id}"):
        run = instance.create_run_for_job(
            job_def=job.get_definition(),
            run_id=run_id,
            run_config={**_QUIET_CONSOLE, **({"ops": {name: {"config": c} for name, c in ops.items()}} if ops else {})},
            # The person who gave the command is there to give it again.
            tags={**tags, **holder_tags(), ASKED_BY_TAG: COMMAND, "dagster/max_retries": "0"},
            remote_job_origin=_origin(job_name),
            job_code_origin=job.get_python_origin(),
        )
        with _watched(lab, instance, run_id, log):
            execute_run(job, run, instance, raise_on_error=False)
    ended = instance.get_run_by_id(run_id)
    status = ended.status.value if ended is not None else "deleted"
    if _was_stopped(instance, run_id, status):
        raise KeyboardInterrupt  # Dagster takes the signal for itself; the command's other runs must not follow
    return RunOutcome(run_id, job_name, status, tuple(_step_failures(instance, run_id)))


def _await_slot(lab: Lab, instance: dg.DagsterInstance, log: Callable[[str], None]) -> None:
    """Wait asleep while every slot of the GPU pool is taken: a run that waits for one itself keeps a core busy."""
    storage = instance.event_log_storage
    if not storage.supports_global_concurrency_limits:
        return
    looked, said = time.monotonic(), False
    while True:
        pool = storage.get_concurrency_info(GPU_POOL)
        if pool.limit is None or len(pool.claimed_slots) < pool.limit:
            return
        if not said:
            log(f'waiting for a slot of the pool "{GPU_POOL}": other runs have all {pool.limit}')
            said = True
        time.sleep(_WATCH_SECONDS)
        if time.monotonic() - looked > _JANITOR_SECONDS:
            end_dead_runs(instance, lab.layout, log)
            looked = time.monotonic()


def _was_stopped(instance: dg.DagsterInstance, run_id: str, status: str) -> bool:
    """Say whether the run was cancelled in the UI, or ended by a signal to this process (Ctrl-C)."""
    if status in {dg.DagsterRunStatus.CANCELING.value, dg.DagsterRunStatus.CANCELED.value}:
        return True
    for record in instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.RUN_FAILURE).records:
        event = record.event_log_entry.dagster_event
        if event is not None and event.job_failure_data.failure_reason is RunFailureReason.UNEXPECTED_TERMINATION:
            return True
    return False


def _origin(job_name: str) -> RemoteJobOrigin:
    """Return where the UI finds the job, so that it shows and can repeat runs of commands like its own."""
    target = LoadableTargetOrigin(executable_path=sys.executable, module_name=_MODULE)
    location = ManagedGrpcPythonEnvCodeLocationOrigin(loadable_target_origin=target, location_name=_LOCATION)
    return RemoteJobOrigin(RemoteRepositoryOrigin(location, _REPOSITORY), job_name)


@contextmanager
def _watched(lab: Lab, instance: dg.DagsterInstance, run_id: str, log: Callable[[str], None]) -> Iterator[None]:
    """Pass on what the run logs, interrupt this process when the run is cancelled in the UI, and end dead runs.

    Without a daemon nobody else frees the pool slot of a run that is killed while this one waits for it.
    """
    done = threading.Event()
    cursor: str | None = None

    def pass_on() -> None:
        nonlocal cursor
        while True:
            connection = instance.get_records_for_run(run_id, cursor=cursor, limit=500)
            cursor = connection.cursor
            for record in connection.records:
                entry = record.event_log_entry
                if not entry.is_dagster_event and entry.user_message:
                    log(entry.user_message)
            if not connection.has_more:
                return

    def watch() -> None:
        looked = time.monotonic()
        while not done.wait(_WATCH_SECONDS):
            pass_on()
            if time.monotonic() - looked > _JANITOR_SECONDS:
                end_dead_runs(instance, lab.layout, log)
                looked = time.monotonic()
            run = instance.get_run_by_id(run_id)
            if run is not None and run.status in {dg.DagsterRunStatus.CANCELING, dg.DagsterRunStatus.CANCELED}:
                log(f"run {run_id} was cancelled in the UI; stopping")
                # Again until it works: Python drops an interrupt that falls into a garbage collector's callback.
                while not done.is_set():
                    os.kill(os.getpid(), signal.SIGINT)
                    done.wait(_INSIST_SECONDS)
                return

    watcher = threading.Thread(target=watch, name=f"watch-{run_id}", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()
        pass_on()


def _step_failures(instance: dg.DagsterInstance, run_id: str) -> Iterator[str]:
    for record in instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.STEP_FAILURE).records:
        event = record.event_log_entry.dagster_event
        if event is None:
            continue
        data = event.step_failure_data
        if data.user_failure_data is not None and data.user_failure_data.description:
            yield data.user_failure_data.description
        elif data.error is not None:
            yield data.error.message.strip()
