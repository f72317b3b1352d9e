"""Each step in a pod of its own: Dagster's executor for Kubernetes, with what the lab says of its pods.

See https://docs.dagster.io/deployment/oss/deployment-options/kubernetes.
"""

from __future__ import annotations

from typing import Any

import dagster as dg
from dagster._core.executor.init import InitExecutorContext

from dlc_assets.executors import COMPUTE_TAG
from dlc_assets.lab.errors import EnvironmentProblem
from dlc_assets.lab.kubernetes_settings import KubernetesSettings
from dlc_assets.lab.lab import Lab
from dlc_assets.resources.postgres import require_postgres


def executor(lab: Lab, init_context: dg.InitExecutorContext) -> dg.Executor:
    """Return the executor of a run that begins.

    Raises
    ------
    EnvironmentProblem
        dagster-k8s is not installed, the instance is not on PostgreSQL, or the run was not launched in a cluster.
    """
    require_postgres(lab, init_context.instance, "executor: kubernetes")
    return pods(lab.settings.executor.kubernetes, init_context)


def pods(settings: KubernetesSettings, init_context: dg.InitExecutorContext) -> dg.Executor:
    """Return dagster-k8s's executor for the ops of the run's job."""
    try:
        from dagster_k8s import K8sRunLauncher, k8s_job_executor
    except ImportError as error:
        raise EnvironmentProblem(
            "executor: kubernetes needs the package dagster-k8s: pip install 'dlc_assets[kubernetes]'"
        ) from error
    launcher = init_context.instance.run_launcher
    if not isinstance(launcher, K8sRunLauncher):
        raise EnvironmentProblem(
            "executor: kubernetes needs a run that was launched in the cluster; this instance launches runs with "
            f"{type(launcher).__name__}, expected K8sRunLauncher. See docs/how-to/kubernetes.md, or say `executor: local`."
        )
    asked: dict[str, Any] = {
        "retries": {"enabled": {}},
        "per_step_k8s_config": {
            node.name: (settings.gpu if node.tags.get(COMPUTE_TAG) == "gpu" else settings.cpu).k8s_config()
            for node in init_context.job.get_definition().nodes
        },
    }
    if settings.image is not None:
        asked["job_image"] = settings.image
    if (most := init_context.executor_config.get("max_concurrent")) is not None:
        asked["max_concurrent"] = most
    configured = k8s_job_executor.apply_config_mapping({"config": asked})
    if not configured.success or configured.value is None:
        raise EnvironmentProblem(f"dagster-k8s does not take the settings of its executor: {configured.errors}")
    if k8s_job_executor.executor_creation_fn is None:
        raise EnvironmentProblem("this version of dagster-k8s has no executor to create; 0.29 is expected")
    return k8s_job_executor.executor_creation_fn(
        InitExecutorContext(
            job=init_context.job,
            executor_def=k8s_job_executor,
            executor_config=configured.value["config"],
            instance=init_context.instance,
        )
    )
