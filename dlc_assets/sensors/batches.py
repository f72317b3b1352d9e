"""From products that are behind to run requests: batched by range, each asked for once, and never for ever.

A product that failed is not asked for again until its inputs change (state/failures keeps why). One whose run vanished without either
success or failure (a crash) is asked for again, at most `ATTEMPTS` times for the same inputs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import dagster as dg

from dlc_assets.lab.files import content_hash
from dlc_assets.partitions import SESSION, KeyRange, keys_of_run
from dlc_assets.resources.run_launcher import ASKED_BY_TAG
from dlc_assets.state.behind import Product

ATTEMPTS = 3
UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@dataclass
class Requested:
    """What a sensor asked for and is not done yet: by key, the hash of the inputs and how often; `serial` counts the ticks that asked."""

    attempts: dict[str, tuple[str, int]] = field(default_factory=dict)
    serial: int = 0
    given_up: list[str] = field(default_factory=list)

    @classmethod
    def from_cursor(cls, cursor: str | None) -> Requested:
        stored = json.loads(cursor or "{}")
        attempts = {key: (hash, times) for key, (hash, times) in stored.get("attempts", {}).items()}
        return cls(attempts, stored.get("serial", 0))

    def to_cursor(self) -> str:
        return json.dumps({"serial": self.serial, "attempts": self.attempts}, separators=(",", ":"))

    def choose(self, products: Iterable[Product], in_flight: set[str]) -> list[Product]:
        """Return the products to ask for now, count them as asked for, and forget those that are done."""
        chosen = []
        self.given_up = []
        remembered: dict[str, tuple[str, int]] = {}
        for product in products:
            inputs = _hash(product)
            before, times = self.attempts.get(product.key, ("", 0))
            times = times if before == inputs else 0
            if product.key not in in_flight:
                if times < ATTEMPTS:
                    chosen.append(product)
                    times += 1
                else:
                    self.given_up.append(
                        f"{product.asset} {product.key}: asked for {ATTEMPTS} times, and each run vanished without a result "
                        "(cancelled, or its process died). It is left alone until its inputs change; start it by hand."
                    )
            if times:
                remembered[product.key] = (inputs, times)
        self.attempts = remembered
        self.serial += bool(chosen)
        return chosen

    def run_key(self, products: Sequence[Product]) -> str:
        """Return the run key of a batch.

        The same tick evaluated again (the daemon died before it kept the cursor) asks for the same run; a later tick never does,
        though it may ask for the same keys from the same inputs: their outputs can have been removed.
        """
        return content_hash([self.serial, *(product.key for product in products)])[:24]


def _hash(product: Product) -> str:
    return content_hash(product.inputs)[:12]


def in_flight(instance: dg.DagsterInstance, job_names: Sequence[str]) -> set[str]:
    """Return the partition keys that unfinished runs of these jobs (or of the UI's own, `__ASSET_JOB`) are making."""
    names = {*job_names, "__ASSET_JOB"}
    runs = [run for run in instance.get_runs(dg.RunsFilter(statuses=UNFINISHED)) if run.job_name in names]
    known = instance.get_dynamic_partitions(SESSION) if runs else []
    return {key for run in runs for key in keys_of_run(run, known)}


def request(
    job_name: str, ranges: Sequence[KeyRange], by_key: Mapping[str, Product], requested: Requested
) -> list[dg.RunRequest]:
    """Return one run request a range."""
    return [
        dg.RunRequest(
            run_key=requested.run_key([by_key[key] for key in keys.keys]),
            job_name=job_name,
            tags={**keys.tags, ASKED_BY_TAG: "sensor"},
        )
        for keys in ranges
    ]
