"""When the store is looked through for what crashed processes left half written: after a failed run, and not so often that it is felt."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import dagster as dg

from dlc_assets.lab.layout import LabLayout
from dlc_assets.lab.leftovers import remove_leftovers

_MOST_SECONDS = 20.0  # of a tick
_SHARE = 0.01  # of the time, at most, is spent with looking


@dataclass
class LookedThrough:
    """When the store was looked through last (unix time), and how long that took, in s."""

    at: float = 0.0
    seconds: float = 0.0

    @classmethod
    def from_cursor(cls, cursor: str | None) -> LookedThrough:
        return cls(**json.loads(cursor or "{}"))

    def to_cursor(self) -> str:
        return json.dumps(asdict(self))

    def is_due(self, instance: dg.DagsterInstance, now: float) -> bool:
        """Say whether a run has ended badly since, and the last look is long enough ago for what it cost."""
        if now - self.at < self.seconds / _SHARE:
            return False
        since = datetime.fromtimestamp(self.at, UTC)
        ended = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
        return bool(instance.get_run_records(dg.RunsFilter(statuses=ended, updated_after=since), limit=1))

    def look(self, layout: LabLayout, log: Callable[[str], None]) -> None:
        """Look through the store, a store that takes longer than a tick in part; the rest is done when `dlc-assets dev` starts."""
        begun = time.time()
        if not remove_leftovers(layout, log, seconds=_MOST_SECONDS):
            log(
                "the store is too large to be looked through in a tick; the rest follows at the next start of `dlc-assets dev`"
            )
        self.at, self.seconds = begun, time.time() - begun
