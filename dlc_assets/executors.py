"""How the steps of a run are executed, and what a step that needs a GPU asks of its executor.

See https://docs.dagster.io/guides/operate/run-executors.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import Any

import dagster as dg
from dagster._core.definitions.executor_definition import multiple_process_executor_requirements
from dagster._core.events import DagsterEvent
from dagster._core.execution.context.system import PlanOrchestrationContext
from dagster._core.execution.plan.plan import ExecutionPlan
from dagster._core.execution.retries import RetryMode
from dagster._core.executor.multiprocess import MultiprocessExecutor

from dlc_assets.lab.lab import open_lab_folder
from dlc_assets.lab.locks import held_by_this_process, hold
from dlc_assets.lab.processes import end_with_parent

GPU_POOL = "gpu"
# A run whose code server dies has so long to end its steps and to say so to the instance.
_GRACE_SECONDS = 20.0
HOST_TAG, PROCESS_TAG = "dlc_assets/host", "dlc_assets/process"


def gpu_op_tags() -> dict[str, Any]:
    """Return the op tags of a step that needs a GPU, for every executor that reads tags."""
    return {"dlc_assets/compute": "gpu"}


class LabExecutor(MultiprocessExecutor):
    """Dagster's multiprocess executor, holding a file lock while the run lives.

    The lock is what tells the janitor a dead run from a living one: the operating system frees it when this process dies.
    """

    def execute(self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan) -> Iterator[DagsterEvent]:
        end_with_parent(grace_seconds=_GRACE_SECONDS)
        run_id = plan_context.run_id
        lock = open_lab_folder().layout.lock("run", run_id)
        if held_by_this_process(lock):  # a command took it before the run existed
            yield from super().execute(plan_context, execution_plan)
            return
        with hold(lock, f"run {run_id}"):
            plan_context.instance.add_run_tags(run_id, holder_tags())
            yield from super().execute(plan_context, execution_plan)


def holder_tags() -> dict[str, str]:
    """Return the run tags that name this process as the one a run lives in."""
    return {HOST_TAG: socket.gethostname(), PROCESS_TAG: str(os.getpid())}


@dg.executor(
    name="lab",
    config_schema={
        "max_concurrent": dg.Field(
            dg.Noneable(int), default_value=None, is_required=False, description="steps at once; default: one a core"
        )
    },
    requirements=multiple_process_executor_requirements(),
)
def lab_executor(init_context: dg.InitExecutorContext) -> LabExecutor:
    """Each step in a process of its own; the run holds its lock."""
    return LabExecutor(
        max_concurrent=most if isinstance(most := init_context.executor_config.get("max_concurrent"), int) else None,
        retries=RetryMode.ENABLED,
        tag_concurrency_limits=None,
        start_method="spawn",
        explicit_forkserver_preload=None,
    )
