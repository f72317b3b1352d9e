"""How the steps of a run are executed, and what a step that needs a GPU asks of its executor.

See https://docs.dagster.io/guides/operate/run-executors.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from importlib import import_module
from typing import Any, get_args

import dagster as dg
from dagster._core.definitions.executor_definition import multiple_process_executor_requirements
from dagster._core.events import DagsterEvent
from dagster._core.execution.context.system import PlanOrchestrationContext
from dagster._core.execution.plan.plan import ExecutionPlan
from dagster._core.execution.retries import RetryMode
from dagster._core.execution.step_dependency_config import StepDependencyConfig

from dlc_assets.lab.executor_settings import ExecutorKind
from dlc_assets.lab.kubernetes_settings import GpuStepPod
from dlc_assets.lab.lab import Lab, open_lab_folder
from dlc_assets.lab.locks import held_by_this_process, hold
from dlc_assets.lab.processes import end_with_parent

GPU_POOL = "gpu"
# A run whose code server dies has so long to end its steps and to say so to the instance.
_GRACE_SECONDS = 20.0
HOST_TAG, PROCESS_TAG = "dlc_assets/host", "dlc_assets/process"
COMPUTE_TAG = "dlc_assets/compute"


def gpu_op_tags() -> dict[str, Any]:
    """Return the op tags of a step that needs a GPU, for every executor that reads tags.

    They are fixed when the graph is defined. What a lab says otherwise comes with its executor, where a run begins.
    """
    return {COMPUTE_TAG: "gpu", "dagster-k8s/config": GpuStepPod().k8s_config()}


class LabExecutor(dg.Executor):
    """An executor of any kind that holds a lock while the run lives.

    The lock is what tells the janitor a dead run from a living one: it is free again when this process dies.
    """

    def __init__(self, lab: Lab, kind: dg.Executor) -> None:
        self._lab = lab
        self.kind = kind

    @property
    def retries(self) -> RetryMode:
        return self.kind.retries

    @property
    def step_dependency_config(self) -> StepDependencyConfig:
        return self.kind.step_dependency_config

    def execute(self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan) -> Iterator[DagsterEvent]:
        """Execute the steps of the run, in a process that ends with the one that started it."""
        end_with_parent(grace_seconds=_GRACE_SECONDS)
        run_id = plan_context.run_id
        lock = self._lab.layout.lock("run", run_id)
        if held_by_this_process(lock):  # a command took it before the run existed
            yield from self.kind.execute(plan_context, execution_plan)
            return
        with hold(lock, f"run {run_id}"):
            plan_context.instance.add_run_tags(run_id, holder_tags())
            yield from self.kind.execute(plan_context, execution_plan)


def holder_tags() -> dict[str, str]:
    """Return the run tags that name this process as the one a run lives in."""
    return {HOST_TAG: socket.gethostname(), PROCESS_TAG: str(os.getpid())}


@dg.executor(
    name="lab",
    config_schema={
        "kind": dg.Field(
            dg.Noneable(dg.Enum("ExecutorKind", [dg.EnumValue(kind) for kind in get_args(ExecutorKind)])),
            default_value=None,
            is_required=False,
            description="where the steps are executed; default: what lab.yaml says",
        ),
        "max_concurrent": dg.Field(
            dg.Noneable(int),
            default_value=None,
            is_required=False,
            description="steps of this run at once; default: one a core of this machine, or as many as the others take",
        ),
    },
    requirements=multiple_process_executor_requirements(),
)
def lab_executor(init_context: dg.InitExecutorContext) -> LabExecutor:
    """Each step in a process of its own, on this machine or on others; the run holds its lock."""
    lab = open_lab_folder()
    kind = init_context.executor_config.get("kind") or lab.settings.executor.kind
    # Dagster's packages for the other kinds are optional, and slow to import.
    module = import_module(f"dlc_assets.executor_kinds.{kind}")
    return LabExecutor(lab, module.executor(lab, init_context))
