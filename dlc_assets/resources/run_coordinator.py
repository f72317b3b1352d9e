"""In which order runs leave the queue: what a person asked for at the UI comes first, then what the sensors ask for, then backfills.

dagster.yaml names this class. See https://docs.dagster.io/deployment/execution/customizing-run-queue-priority.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import dagster as dg
from dagster._core.run_coordinator import QueuedRunCoordinator
from dagster._core.storage.tags import BACKFILL_ID_TAG, PRIORITY_TAG, SCHEDULE_NAME_TAG, SENSOR_NAME_TAG

if TYPE_CHECKING:
    from dagster._core.run_coordinator.base import SubmitRunContext

# A person's run has Dagster's own, 0. What comes in today is awaited sooner than an archive that is worked through.
OF_SENSORS, OF_BACKFILLS = -10, -20


class LabRunCoordinator(QueuedRunCoordinator):
    """Dagster's queue, in which runs that nobody waits for let the others pass; a priority that a run states itself stays."""

    def submit_run(self, context: SubmitRunContext) -> dg.DagsterRun:
        run = context.dagster_run
        priority = _priority(run)
        if priority is not None and PRIORITY_TAG not in run.tags:
            self._instance.add_run_tags(run.run_id, {PRIORITY_TAG: str(priority)})
        return super().submit_run(context)


def _priority(run: dg.DagsterRun) -> int | None:
    if BACKFILL_ID_TAG in run.tags:
        return OF_BACKFILLS
    return OF_SENSORS if {SENSOR_NAME_TAG, SCHEDULE_NAME_TAG} & run.tags.keys() else None
