"""What crashes cost: processes of a lab are killed while a batch of sessions goes through, and in the end nothing may be missing.

A lab with many short sessions runs under `dlc-assets dev`. At moments that are chosen by a seed and by how much is done, SIGKILL ends the
daemon, the code server, the process of a run, a step, `dlc-assets dev` itself, or all of them at once; PostgreSQL is broken off and started
again in the middle. What does not start again by itself is started again, as a person or systemd would. Some sessions come in meanwhile;
one video is broken. Afterwards everything is counted (`chaos_audit`), and the poses are compared with an analysis in which nothing
was killed.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal
from unittest.mock import patch

import dagster as dg
from dagster._utils import find_free_port
from sqlalchemy.exc import SQLAlchemyError

from benchmarks.chaos_audit import Audit, audit_lab, counts, taken_slots, unfinished_runs
from benchmarks.chaos_lab import Poses, copy_lab, need_trained_lab, record, unbroken_poses
from benchmarks.inference_lab import say
from benchmarks.lab_processes import LabProcess, kill, lab_processes, start_dev
from benchmarks.postgres import Postgres, own_postgres
from benchmarks.report import command_line, finish, machine, result, target
from dlc_assets.lab.errors import DlcAssetsError
from dlc_assets.lab.lab import open_lab_folder
from dlc_assets.recordings.discovery import discover
from dlc_assets.resources.instance import open_instance
from dlc_assets.state.behind import session_products

Storage = Literal["sqlite", "postgres"]
Kind = Literal["daemon", "code server", "run worker", "step", "dev", "tree", "postgres"]

# Runs and steps have most to lose.
_KINDS: tuple[tuple[Kind, int], ...] = (
    ("step", 5),
    ("run worker", 5),
    ("code server", 3),
    ("daemon", 3),
    ("tree", 3),
    ("dev", 1),
)
_TICK_SECONDS = "3"
_LOOK_SECONDS = 0.5
_DOWN_SECONDS = 2.0  # before what is dead is started again
_MOST_DELAY = 4.0  # s, from the progress that a kill waits for to the kill
_PATIENCE = 25.0  # s, for a process of the kind to come up, or for progress, before the next best is killed
_PRODUCTS = 3  # of a session: recordings, poses, NWB file
_LEAVING_SECONDS = 60.0
_LATE = 0.3  # share of the sessions that come in while others are analysed


@dataclass
class Kill:
    """What is killed when: once *at* of all products are made, and *delay* s later; and what then came of it."""

    kind: Kind
    at: float
    delay: float
    choice: float
    done: str = ""


def plan_kills(seed: int, kills: int, storage: Storage) -> list[Kill]:
    """Return what is killed when, the same for the same seed; on PostgreSQL, the kill in the middle is the database's."""
    chance = random.Random(seed)
    kinds, weights = zip(*_KINDS, strict=True)
    plan = [
        Kill(kind, at, chance.uniform(0, _MOST_DELAY), chance.random())
        for at, kind in zip(
            sorted(chance.uniform(0, 0.95) for _ in range(kills)),
            chance.choices(kinds, weights, k=kills),
            strict=True,
        )
    ]
    if storage == "postgres" and plan:
        plan[len(plan) // 2].kind = "postgres"
    return plan


@dataclass
class Outcome:
    """One storage's part of the benchmark."""

    audit: Audit
    kills: list[Kill]
    restarts: int
    seconds: float
    at_rest: bool
    estimates: int = field(default=0)


class _Disturbance:
    """A lab under `dlc-assets dev`, and what is done to it."""

    def __init__(self, lab: Path, videos: Path, log: Path, postgres: Postgres | None, late: Sequence[int]) -> None:
        self._lab, self._videos, self._log, self._postgres = lab, videos, log, postgres
        self._late = list(late)
        self._late_at = [(index + 1) / (len(late) + 1) * 0.6 for index in range(len(late))]
        self._port = find_free_port()
        self._dev: subprocess.Popen[bytes] | None = None
        self._down_since: float | None = None
        self.restarts = -1  # the first start is none

    def keep_up(self) -> None:
        """Start what is needed and dead, a while after its death."""
        if self._dev is not None and self._dev.poll() is None:
            return
        if self._down_since is None:
            self._down_since = time.monotonic()
        if self._dev is None or time.monotonic() - self._down_since >= _DOWN_SECONDS:
            self._dev = start_dev(self._lab, self._log, self._port, {"DLC_ASSETS_TICK_SECONDS": _TICK_SECONDS})
            self._down_since = None
            self.restarts += 1

    def stop(self) -> None:
        """End the lab's processes as Ctrl-C does."""
        if self._dev is None:
            return
        self._dev.terminate()
        try:
            self._dev.wait(_LEAVING_SECONDS)
        except subprocess.TimeoutExpired:
            say("dlc-assets dev does not stop")
        # What it left is left for the audit to see; a moment, since a process may be just about to end.
        deadline = time.monotonic() + 5
        while lab_processes(self._lab) and time.monotonic() < deadline:
            time.sleep(_LOOK_SECONDS)

    def end(self) -> None:
        """Kill whatever there still is."""
        while left := lab_processes(self._lab):
            kill(left)
            time.sleep(0.1)

    def record_late(self, done: float) -> None:
        """Let the sessions come in that are due when the share *done* of all products is made."""
        while self._late and done >= self._late_at[0]:
            self._late_at.pop(0)
            record(self._lab, self._videos, self._late.pop(0))

    def victims(self, planned: Kill) -> list[LabProcess]:
        """Return whom *planned* ends: all, or one of its kind; none, where none of it lives."""
        living = lab_processes(self._lab)
        if planned.kind == "tree":
            return living
        of_kind = [process for process in living if process.role == planned.kind]
        return [of_kind[int(planned.choice * len(of_kind))]] if of_kind else []

    def strike(self, planned: Kill, victims: list[LabProcess]) -> None:
        """Kill, or break the database off."""
        if planned.kind == "postgres":
            assert self._postgres is not None
            self._postgres.break_off()
            time.sleep(_DOWN_SECONDS)
            self._postgres.start_again()
        kill(victims)

    @property
    def complete(self) -> bool:
        return not self._late


def disturb(
    trained: Path,
    folder: Path,
    videos: Path,
    *,
    sessions: int,
    kills: Sequence[Kill],
    unbroken: Mapping[str, Poses],
    postgres: Postgres | None,
    limit_seconds: float,
) -> Outcome:
    """Run *sessions* sessions, the last of them broken, through a lab in *folder* while *kills* happen; return what is left.

    Parameters
    ----------
    trained
        A demo lab with its network.
    unbroken
        The poses that the sessions must have in the end.
    postgres
        The Dagster instance; None: SQLite in the lab.
    limit_seconds
        When it is over, at rest or not.
    """
    lab = copy_lab(trained, folder)
    broken_number = sessions - 1
    late = range(int((1 - _LATE) * broken_number), broken_number)
    for number in range(late.start):
        record(lab, videos, number)
    broken = record(lab, videos, broken_number, broken=True)
    environment = {**(postgres.environment if postgres else {"DAGSTER_HOME": str(lab / "store" / "dagster")})}
    with patch.dict(os.environ, {**environment, "DLC_ASSETS_LAB": str(lab)}):
        disturbance = _Disturbance(lab, videos, folder.with_suffix(".log"), postgres, list(late))
        begun = time.monotonic()
        try:
            at_rest = _until_at_rest(disturbance, lab, list(unbroken), kills, begun + limit_seconds)
            seconds = time.monotonic() - begun
            disturbance.stop()
            opened = open_lab_folder(lab)
            with open_instance(opened) as instance:
                found = audit_lab(opened, instance, unbroken, broken)
        finally:
            disturbance.end()
    return Outcome(found, list(kills), disturbance.restarts, seconds, at_rest)


def _until_at_rest(
    disturbance: _Disturbance, lab: Path, sessions: Sequence[str], kills: Sequence[Kill], deadline: float
) -> bool:
    """Kill by plan until all is done and nothing is under way; return whether it came to that before the *deadline*."""
    waiting = list(kills)
    due_since: float | None = None
    done, changed = -1.0, time.monotonic()
    while time.monotonic() < deadline:
        disturbance.keep_up()
        now_done = _share_done(lab, sessions)
        if now_done is not None and now_done != done:
            done, changed = now_done, time.monotonic()
        disturbance.record_late(done)
        now = time.monotonic()
        if waiting:
            # What was killed may need long to come back: then the next kill need not wait for progress.
            due = done >= waiting[0].at or (len(waiting) < len(kills) and now - changed > 2 * _PATIENCE)
            due_since = (due_since or now) if due else None
            if due_since is not None and now >= due_since + waiting[0].delay:
                victims = disturbance.victims(waiting[0])
                late = now > due_since + waiting[0].delay + _PATIENCE
                if victims or waiting[0].kind == "postgres" or late:
                    planned = waiting.pop(0)
                    if not victims and planned.kind != "postgres":
                        victims = disturbance.victims(Kill("tree", 0, 0, 0))
                        planned.done = f"no {planned.kind} came up: "
                    disturbance.strike(planned, victims)
                    planned.done += ", ".join(process.role for process in victims) or "broken off, started again"
                    say(f"{done:4.0%} done; {planned.kind}: {planned.done}")
                    due_since = None
                    continue
        elif done == 1 and disturbance.complete and _nothing_runs():
            return True
        time.sleep(_LOOK_SECONDS)
    return False


def _share_done(lab: Path, sessions: Sequence[str]) -> float | None:
    """Return the share of the products of *sessions* that are made, None while that cannot be read."""
    try:
        opened = open_lab_folder(lab)
        found = discover(opened).sessions
        made = sum(
            product.state == "up to date"
            for key in sessions
            for product in session_products(opened, key, found.get(key))
        )
    except (DlcAssetsError, OSError):  # a file was replaced between its listing and its reading
        return None
    return made / (_PRODUCTS * len(sessions))


def _nothing_runs() -> bool:
    try:
        with dg.DagsterInstance.get() as instance:
            return not unfinished_runs(instance) and not taken_slots(instance)
    except SQLAlchemyError:  # the database is being started again
        return False


def run(
    folder: Path, *, sessions: int, kills: int, seed: int, storages: Sequence[Storage], limit_seconds: float
) -> dict[str, Any]:
    """Do it on each storage and count."""
    on = machine()
    trained = need_trained_lab(folder / "lab")
    videos = folder / "videos"
    facts: dict[str, Any] = {"sessions": sessions, "kills": kills, "seed": seed, "storages": {}}
    targets: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory(prefix="dlc-assets-chaos-", dir=folder) as place:
        say("the same sessions, with nothing killed")
        unbroken = unbroken_poses(trained, Path(place) / "unbroken", videos, range(sessions - 1))
        for storage in storages:
            say(f"{sessions} sessions, {kills} kills, {storage}")
            plan = plan_kills(seed, kills, storage)
            with _instance(storage) as postgres:
                outcome = disturb(
                    trained,
                    Path(place) / storage,
                    videos,
                    sessions=sessions,
                    kills=plan,
                    unbroken=unbroken,
                    postgres=postgres,
                    limit_seconds=limit_seconds,
                )
            facts["storages"][storage] = {
                "seconds": round(outcome.seconds, 1),
                "at_rest": outcome.at_rest,
                "restarts": outcome.restarts,
                "kills": [asdict(each) for each in outcome.kills],
                "found": counts(outcome.audit),
            }
            targets |= {f"{storage}_{name}": each for name, each in targets_of(outcome).items()}
    return result("chaos", facts, targets, on=on)


def targets_of(outcome: Outcome) -> dict[str, dict[str, Any]]:
    """Return what must be 0 in the end; and of repeated work, no more than a session a kill."""
    nothing = ("lost", "wrong", "unreported", "slots", "locks", "runs", "processes", "partial_files", "work_folders")
    found = vars(outcome.audit)
    again = sum(times - 1 for times in outcome.audit.repeated.values())
    return {
        **{name: target(len(found[name]), 0) for name in nothing},
        "repeated_sessions": target(again, len(outcome.kills)),
        "at_rest": target(int(outcome.at_rest), 1, "at least"),
    }


@contextmanager
def _instance(storage: Storage) -> Iterator[Postgres | None]:
    with ExitStack() as stack:
        yield stack.enter_context(own_postgres()) if storage == "postgres" else None


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark, print it, and return 0 if every target is met, else 1."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("ended by SIGTERM"))  # what was started is ended, too
    parser = command_line("chaos", __doc__)
    parser.add_argument("--sessions", type=int, default=50)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1, help="of what is killed when")
    parser.add_argument("--storage", choices=["sqlite", "postgres", "both"], default="both")
    parser.add_argument("--minutes", type=float, default=40.0, help="at most, a storage (default: %(default)s)")
    parser.add_argument(
        "--lab",
        type=Path,
        default=_default_folder(),
        help="folder of the trained network and the rendered videos, made where it is not there and kept (default: %(default)s)",
    )
    asked = parser.parse_args(arguments)
    if asked.sessions < 2:
        parser.error("--sessions: expected at least 2, one of which is broken")
    measured = run(
        asked.lab.absolute(),
        sessions=asked.sessions,
        kills=asked.kills,
        seed=asked.seed,
        storages=_storages(asked),
        limit_seconds=60 * asked.minutes,
    )
    return finish(measured, _lines(measured), as_json=asked.json)


def _storages(asked: argparse.Namespace) -> list[Storage]:
    return ["sqlite", "postgres"] if asked.storage == "both" else [asked.storage]


def _default_folder() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "dlc_assets" / "chaos"


def _lines(measured: dict[str, Any]) -> list[str]:
    lines = []
    for storage, facts in measured["storages"].items():
        lines.append(
            f"{measured['sessions']} sessions on {storage}: {measured['kills']} kills, {facts['restarts']} restarts by hand, "
            f"{facts['seconds']:.0f} s"
        )
        lines += [
            f"  {name}: {found['count']} {found['first'] or ''}".rstrip()
            for name, found in facts["found"].items()
            if found["count"]
        ]
    return lines


if __name__ == "__main__":
    sys.exit(main())
