"""The Dagster instance: its database, its configuration, the daemon, the sensors, and runs in progress."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import yaml
from dagster._core.remote_origin import RemoteInstigatorOrigin
from dagster._core.scheduler.instigation import InstigatorStatus

from dlc_assets.doctor.findings import Finding
from dlc_assets.doctor.places import unsafe_database
from dlc_assets.lab.errors import EnvironmentProblem
from dlc_assets.lab.lab import Lab
from dlc_assets.resources.instance import dagster_home, shipped_file

_ALIVE_SECONDS = 120.0
# What of dagster.yaml decides whether work goes on by itself and is found again after a crash.
_MATTERS = (
    ("run_monitoring", "enabled"),
    ("run_monitoring", "free_slots_after_run_end_seconds"),
    ("concurrency", "pools", "granularity"),
    ("run_launcher", "class"),
    ("run_coordinator", "class"),
    ("run_retries", "enabled"),
    ("run_retries", "retry_on_asset_or_op_failure"),
)


def database(lab: Lab, instance: dg.DagsterInstance) -> Iterator[Finding]:
    """Say which database the instance has, and whether it answers and is safe where it lies."""
    home, sqlite = dagster_home(lab), _is_sqlite(instance)
    began = time.perf_counter()
    instance.get_runs(limit=1)
    milliseconds = 1000 * (time.perf_counter() - began)
    kind = "SQLite" if sqlite else type(instance.event_log_storage).__name__.removesuffix("EventLogStorage")
    if sqlite and (why := unsafe_database(home)):
        yield Finding("database", "error", why)
    else:
        yield Finding("database", "ok", f"{kind}, answers in {milliseconds:.0f} ms; instance {home}")


def refuse_unsafe_database(lab: Lab, instance: dg.DagsterInstance) -> None:
    """Raise an EnvironmentProblem where the instance's database would be damaged sooner or later."""
    if _is_sqlite(instance) and (why := unsafe_database(dagster_home(lab))):
        raise EnvironmentProblem(why)


def _is_sqlite(instance: dg.DagsterInstance) -> bool:
    return "Sqlite" in type(instance.event_log_storage).__name__


def configuration(lab: Lab) -> Iterator[Finding]:
    """Compare the instance's dagster.yaml with the one that ships: a lab keeps its copy through updates."""
    home = dagster_home(lab)
    own, shipped = _read(home / "dagster.yaml"), _read(shipped_file("dagster.yaml"))
    for keys in _MATTERS:
        ours, theirs = _at(own, keys), _at(shipped, keys)
        if ours != theirs:
            yield Finding(
                "dagster.yaml",
                "warn",
                f"{home / 'dagster.yaml'}: {'.'.join(keys)} is {ours!r}, and {theirs!r} in this release",
                "Take the shipped value over, unless you changed it on purpose.",
            )
    yield Finding("dagster.yaml", "ok", f"{home / 'dagster.yaml'} was read")


def _read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8")) or {}


def _at(content: Any, keys: tuple[str, ...]) -> Any:
    for key in keys:
        content = content.get(key) if isinstance(content, dict) else None
    return content


def daemon(instance: dg.DagsterInstance) -> Iterator[Finding]:
    """Say whether Dagster's daemon runs: without it no sensor looks for new videos."""
    beats = instance.get_daemon_heartbeats()
    newest = max((beat.timestamp for beat in beats.values()), default=None)
    errors = [f"{name}: {beat.errors[0].message.strip()}" for name, beat in beats.items() if beat.errors]
    if newest is None or time.time() - newest > _ALIVE_SECONDS:
        since = "never ran here" if newest is None else f"was last heard of {(time.time() - newest) / 60:.0f} min ago"
        yield Finding(
            "daemon", "warn", f"the daemon {since}: new videos are not looked for", "Start it: dlc-assets dev"
        )
    elif errors:
        yield Finding("daemon", "warn", errors[0][:300], "See the lines that `dlc-assets dev` prints.")
    else:
        yield Finding("daemon", "ok", "the daemon runs")


def sensors(instance: dg.DagsterInstance) -> Iterator[Finding]:
    """Name the sensors that a person has switched off in the UI."""
    stopped = [
        _name(state.origin)
        for state in instance.all_instigator_state()
        if state.status is InstigatorStatus.STOPPED and isinstance(state.origin, RemoteInstigatorOrigin)
    ]
    if stopped:
        todo = "Switch them on in the UI (Automation), if that is not meant."
        yield Finding("sensors", "warn", f"switched off: {', '.join(sorted(stopped))}", todo)
    else:
        yield Finding("sensors", "ok", "none is switched off")


def _name(origin: RemoteInstigatorOrigin) -> str:
    return origin.instigator_name


def runs(instance: dg.DagsterInstance) -> Iterator[Finding]:
    """Say how many runs there are in progress and in the queue."""
    started = instance.get_runs_count(
        dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING])
    )
    queued = instance.get_runs_count(dg.RunsFilter(statuses=[dg.DagsterRunStatus.QUEUED]))
    yield Finding("runs", "ok", f"{started} in progress, {queued} in the queue")
