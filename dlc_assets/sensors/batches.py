"""From products that are behind to run requests: batched by range, each asked for once, and no more than the queue takes.

What a sensor asked for is remembered until it is done, in the database beside the index of recordings: a hundred thousand keys are too
many for a cursor. The cursor holds the number of the last tick whose requests Dagster has kept. What a tick remembered that Dagster did
not keep (the daemon was killed in between) is forgotten at the next one, so that nothing is lost and nothing counts twice.

A product that failed is not asked for again until its inputs change, or until it is due to be tried again (`state.failures`). One whose
run vanished without a word of it (killed before its turn came) is asked for again, after a pause that doubles each time.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime

import dagster as dg

from dlc_assets.lab.files import content_hash
from dlc_assets.lab.lab import Lab
from dlc_assets.partitions import SESSION, KeyRange, keys_of_run
from dlc_assets.recordings.index_file import transaction
from dlc_assets.resources.run_launcher import ASKED_BY_TAG
from dlc_assets.state.behind import Product
from dlc_assets.state.failures import record_failure

SENSOR = "sensor"
_FIRST_PAUSE, _LONGEST_PAUSE = 60.0, 3600.0  # s, before what has vanished twice or more is asked for again
_WORTH_SAYING = 3  # times that a product's runs vanished
UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
_WAITING = [dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED]

_COMMANDS = {
    "record": "dlc-assets scan",
    "analyze": "dlc-assets analyze",
    "review": "dlc-assets review",
    "export_nwb": "dlc-assets export",
}

_TABLE = """
create table if not exists asked (
    sensor text not null, key text not null, identity text not null, times integer not null, at real not null, tick integer not null,
    before text, primary key (sensor, key)
)
"""


@dataclass
class Requested:
    """What one sensor has asked for and is not done yet, over all its ticks.

    Parameters
    ----------
    database
        Where it is kept, shared with the index of recordings.
    sensor
        The sensor's name.
    tick
        The number of its last tick that Dagster has kept (`from_cursor`).
    looked
        The unix time of that tick.
    """

    database: sqlite3.Connection
    sensor: str
    tick: int
    looked: float
    vanished: list[str] = field(default_factory=list)

    @classmethod
    def from_cursor(cls, database: sqlite3.Connection, sensor: str, cursor: str | None) -> Requested:
        """Return what *sensor* has asked for, forgetting what a tick that Dagster did not keep has remembered."""
        kept = json.loads(cursor or "{}")
        tick = int(kept.get("tick", 0))
        database.execute(_TABLE)
        lost = database.execute(
            "select key, before from asked where sensor = ? and tick > ?", (sensor, tick)
        ).fetchall()
        with transaction(database) if lost else nullcontext():
            for key, before in lost:
                if before is None:
                    database.execute("delete from asked where sensor = ? and key = ?", (sensor, key))
                else:
                    database.execute(
                        "update asked set identity = ?, times = ?, at = ?, tick = ?, before = null where sensor = ? and key = ?",
                        (*json.loads(before), sensor, key),
                    )
        return cls(database, sensor, tick, float(kept.get("looked", time.time())))

    def to_cursor(self, now: float) -> str:
        """Return the cursor to keep with the requests of this tick."""
        return json.dumps({"tick": self.tick, "looked": round(now, 3)})

    def keys(self) -> list[str]:
        """Return the keys that were asked for and were not done when this was last looked at."""
        return [key for (key,) in self.database.execute("select key from asked where sensor = ?", (self.sensor,))]

    def forget_all_but(self, behind: Iterable[str]) -> None:
        """Forget the keys that are not *behind* any more: they are done, or not wanted."""
        done = set(self.keys()).difference(behind)
        with transaction(self.database) if done else nullcontext():
            self.database.executemany(
                "delete from asked where sensor = ? and key = ?", [(self.sensor, key) for key in done]
            )

    def open(self, products: Iterable[Product], in_flight: set[str], now: float) -> list[Product]:
        """Return those of *products* that may be asked for now: not in flight, and not paused because their runs vanish."""
        self.vanished = []
        remembered = {
            key: (identity, times, at)
            for key, identity, times, at in self.database.execute(
                "select key, identity, times, at from asked where sensor = ?", (self.sensor,)
            )
        }
        chosen = []
        for product in products:
            if product.key in in_flight:
                continue
            identity, times, at = remembered.get(product.key, ("", 0, 0.0))
            times = times if identity == _identity(product) else 0
            pause = min(_FIRST_PAUSE * 2 ** (times - 2), _LONGEST_PAUSE) if times > 1 else 0.0
            if times >= _WORTH_SAYING:
                self.vanished.append(
                    f"{product.asset} {product.key}: asked for {times} times, and each run ended without a word of it (its process died, "
                    f"or it could not start). It is asked for again {pause:.0f} s after the last time; look at its runs."
                )
            if now - at >= pause:
                chosen.append(product)
        return chosen

    def ask(
        self, job: str, ranges: Sequence[KeyRange], by_key: Mapping[str, Product], now: float
    ) -> list[dg.RunRequest]:
        """Return one run request a range, and remember what was asked for."""
        if not ranges:
            return []
        self.tick += 1
        with transaction(self.database):
            for keys in ranges:
                for key in keys.keys:
                    self._remember(by_key[key], now)
        return [
            dg.RunRequest(
                # The same tick evaluated again (the daemon died before it kept the cursor) asks for the same run; a later one never
                # does, though it may ask for the same keys from the same inputs: their outputs can have been removed.
                run_key=content_hash([self.tick, *keys.keys])[:24],
                job_name=job,
                tags={**keys.tags, ASKED_BY_TAG: SENSOR},
            )
            for keys in ranges
        ]

    def _remember(self, product: Product, now: float) -> None:
        identity = _identity(product)
        row = self.database.execute(
            "select identity, times, at, tick from asked where sensor = ? and key = ?", (self.sensor, product.key)
        ).fetchone()
        times = row[1] + 1 if row is not None and row[0] == identity else 1
        self.database.execute(
            "insert or replace into asked values (?, ?, ?, ?, ?, ?, ?)",
            (self.sensor, product.key, identity, times, now, self.tick, None if row is None else json.dumps(row)),
        )


def _identity(product: Product) -> str:
    """Return what makes asking for a product a new beginning: other inputs, or a failure since."""
    return f"{product.identity} {product.retry_at or 0:.0f}"


def in_flight(instance: dg.DagsterInstance, job_names: Sequence[str]) -> set[str]:
    """Return the partition keys that unfinished runs of these jobs (or of the UI's own, `__ASSET_JOB`) are making."""
    names = {*job_names, "__ASSET_JOB"}
    runs = [run for run in instance.get_runs(dg.RunsFilter(statuses=UNFINISHED)) if run.job_name in names]
    known = instance.get_dynamic_partitions(SESSION) if runs else []
    return {key for run in runs for key in keys_of_run(run, known)}


def room_in_queue(instance: dg.DagsterInstance, lab: Lab) -> int:
    """Return how many more runs the sensors may ask for: no more than `analyze.queued_runs` of lab.yaml wait at a time."""
    waiting = instance.get_runs_count(dg.RunsFilter(statuses=_WAITING, tags={ASKED_BY_TAG: SENSOR}))
    return max(0, lab.settings.analyze.queued_runs - waiting)


def newest_first(ranges: Sequence[KeyRange], room: int) -> list[KeyRange]:
    """Return at most *room* of *ranges* (in the instance's order), those of the newest sessions: today's come before an archive."""
    return list(reversed(ranges))[:room]


def leave_cancelled(
    instance: dg.DagsterInstance, lab: Lab, job: str, find: Callable[[str], Product | None], since: float
) -> list[str]:
    """Record the products of runs that a person cancelled after *since* (unix time): they are not begun again behind their back.

    Parameters
    ----------
    find
        Gives the product of a key, with its inputs, where it is still to be made.

    Returns
    -------
    list
        The keys. Asked for by hand, or from other inputs, they are made as ever.
    """
    records = instance.get_run_records(
        dg.RunsFilter(
            job_name=job,
            statuses=[dg.DagsterRunStatus.CANCELED],
            tags={ASKED_BY_TAG: SENSOR},
            updated_after=datetime.fromtimestamp(since, UTC),
        )
    )
    known = instance.get_dynamic_partitions(SESSION) if records else []
    left = []
    for record in records:
        run_id = record.dagster_run.run_id
        for key in keys_of_run(record.dagster_run, known):
            product = find(key)
            if product is None:
                continue
            message = (
                f"Run {run_id} of it was cancelled. It is not started again by itself: run `{_COMMANDS[job]}`, or materialize it "
                "in the UI."
            )
            record_failure(lab.layout, product.asset, key, message, inputs=product.inputs, run_id=run_id)
            left.append(key)
    return left
