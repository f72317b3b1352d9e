"""What is left when the killing is over: counted from the lab's files, its Dagster instance and the processes of this machine."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from benchmarks.chaos_lab import Poses, stored_poses
from benchmarks.lab_processes import leftovers
from dlc_assets.demo.run import MODEL
from dlc_assets.lab.keys import pose_key
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.leftovers import unfinished_files
from dlc_assets.lab.locks import is_held
from dlc_assets.recordings.discovery import discover
from dlc_assets.state.behind import session_products

UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@dataclass
class Audit:
    """What is wrong, each kind with its names; and how often sessions were estimated.

    Attributes
    ----------
    lost
        Sessions that are neither analysed and exported nor failed with a reason.
    wrong
        Sessions whose poses are not those of an unbroken analysis.
    unreported
        Products in the store that the instance does not know.
    repeated
        Sessions that were estimated from the first frame to the last more than once.
    """

    lost: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    unreported: list[str] = field(default_factory=list)
    repeated: dict[str, int] = field(default_factory=dict)
    slots: list[str] = field(default_factory=list)
    locks: list[str] = field(default_factory=list)
    runs: list[str] = field(default_factory=list)
    processes: list[str] = field(default_factory=list)
    partial_files: list[str] = field(default_factory=list)
    work_folders: list[str] = field(default_factory=list)


def audit_lab(lab: Lab, instance: dg.DagsterInstance, unbroken: Mapping[str, Poses], broken: str) -> Audit:
    """Look through *lab* and its *instance* once nothing runs in it any more.

    Parameters
    ----------
    unbroken
        The poses that each session must have.
    broken
        The session whose video cannot be read: it must say so.
    """
    found = Audit()
    discovery = discover(lab)
    for key in [*unbroken, broken]:
        products = list(session_products(lab, key, discovery.sessions.get(key)))
        failed = {product.asset: product.why for product in products if product.state == "failed"}
        if failed:
            found.failed[key] = "; ".join(failed.values())
        if key == broken:
            if "does not open" not in found.failed.get(key, ""):
                found.lost.append(key)
        elif [product.asset for product in products if product.state == "up to date"] != list(_ASSETS):
            states = ", ".join(f"{product.asset} {product.state}: {product.why}" for product in products)
            found.lost.append(f"{key} ({states})")
        elif stored_poses(lab, key) != unbroken[key]:
            found.wrong.append(key)
    _look_at_instance(found, instance, list(unbroken))
    _look_at_files(found, lab)
    found.processes = list(leftovers(lab.root))
    return found


_ASSETS = ("session_recordings", "pose_table", "nwb_file")


def _look_at_instance(found: Audit, instance: dg.DagsterInstance, sessions: list[str]) -> None:
    for asset in _ASSETS:
        known = instance.get_materialized_partitions(dg.AssetKey(asset))
        keys = [pose_key(MODEL, key) if asset == "pose_table" else key for key in sessions]
        found.unreported += [f"{asset} {key}" for key in keys if key not in known]
    estimated: Counter[str] = Counter()
    cursor, more = None, True
    while more:
        page = instance.fetch_materializations(dg.AssetKey("pose_table"), limit=1000, cursor=cursor)
        cursor, more = page.cursor, page.has_more
        for record in page.records:
            event = record.asset_materialization
            now = None if event is None else event.metadata.get("estimated now")
            if event is not None and now is not None and now.value:
                estimated[str(event.partition)] += 1
    found.repeated = {key: times for key, times in sorted(estimated.items()) if times > 1}
    found.runs = [f"{run.run_id} ({run.job_name}, {run.status.value})" for run in unfinished_runs(instance)]
    found.slots = taken_slots(instance)


def unfinished_runs(instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    """Return the runs that wait or are under way."""
    return list(instance.get_runs(dg.RunsFilter(statuses=UNFINISHED)))


def taken_slots(instance: dg.DagsterInstance) -> list[str]:
    """Return words for each slot of a pool that is taken or waited for."""
    storage = instance.event_log_storage
    taken = []
    for pool in storage.get_concurrency_keys():
        info = storage.get_concurrency_info(pool)
        taken += [f"{pool}: slot of run {slot.run_id}" for slot in info.claimed_slots]
        taken += [f"{pool}: run {step.run_id} waits" for step in info.pending_steps]
    return taken


def _look_at_files(found: Audit, lab: Lab) -> None:
    layout = lab.layout
    found.locks = [lock.relative_to(layout.locks).as_posix() for lock in layout.locks.rglob("*.lock") if is_held(lock)]
    found.partial_files = [path.relative_to(lab.root).as_posix() for path in unfinished_files(layout)]
    poses = layout.work / "poses"
    found.work_folders = [path.relative_to(lab.root).as_posix() for path in poses.glob("*/*/*") if any(path.iterdir())]


def counts(found: Audit) -> dict[str, Any]:
    """Return how many of each kind there are, and the names of the first few."""
    return {
        name: {"count": len(value), "first": dict(list(value.items())[:5]) if isinstance(value, dict) else value[:5]}
        for name, value in vars(found).items()
    }
