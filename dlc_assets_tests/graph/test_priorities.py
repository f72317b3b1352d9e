"""The order in which Dagster's daemon takes runs out of the queue of a lab's instance, as the shipped dagster.yaml sets it up."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import dagster as dg
from dagster._core.run_coordinator.base import SubmitRunContext
from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import QueuedRunCoordinatorDaemon

from dlc_assets.launching import _origin
from dlc_assets.resources.instance import shipped_file
from dlc_assets.resources.run_coordinator import LabRunCoordinator


@dg.job
def nothing() -> None: ...


def test_a_click_comes_before_sensors_and_these_before_backfills(tmp_path: Path) -> None:
    shutil.copyfile(shipped_file("dagster.yaml"), tmp_path / "dagster.yaml")
    asked = [
        ("backfill", {"dagster/backfill": "abc"}),
        ("sensor", {"dagster/sensor_name": "new_recordings"}),
        ("urgent backfill", {"dagster/backfill": "def", "dagster/priority": "5"}),
        ("click", {}),
        ("second click", {}),
    ]
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        coordinator = instance.run_coordinator
        assert isinstance(coordinator, LabRunCoordinator)
        for name, tags in asked:
            run = instance.create_run_for_job(
                nothing,
                tags={**tags, "name": name},
                status=dg.DagsterRunStatus.NOT_STARTED,
                remote_job_origin=_origin("nothing"),
                job_code_origin=dg.reconstructable(nothing).get_python_origin(),
            )
            coordinator.submit_run(SubmitRunContext(run, None))  # type: ignore[arg-type]
        settings = instance.get_concurrency_config()
        queue = settings.run_queue_config
        assert queue is not None
        assert queue.max_concurrent_runs == 4
        assert queue.max_user_code_failure_retries == 20
        daemon = QueuedRunCoordinatorDaemon(interval_seconds=5)
        taken = daemon._get_runs_to_dequeue(instance, settings, fixed_iteration_time=time.time())
    assert [run.tags["name"] for run in taken] == ["urgent backfill", "click", "second click", "sensor"]
