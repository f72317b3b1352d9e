"""Steps on this machine, each in a process of its own: Dagster's multiprocess executor."""

from __future__ import annotations

import dagster as dg
from dagster._core.execution.retries import RetryMode
from dagster._core.executor.multiprocess import MultiprocessExecutor

from dlc_assets.lab.lab import Lab


def executor(lab: Lab, init_context: dg.InitExecutorContext) -> dg.Executor:
    """Return the executor of a run that begins."""
    return MultiprocessExecutor(
        max_concurrent=most if isinstance(most := init_context.executor_config.get("max_concurrent"), int) else None,
        retries=RetryMode.ENABLED,
        tag_concurrency_limits=None,
        start_method="spawn",
        explicit_forkserver_preload=None,
    )
