"""Where the steps of runs are executed: the block `executor` of lab.yaml."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from dlc_assets.lab.celery_settings import CelerySettings
from dlc_assets.lab.kubernetes_settings import KubernetesSettings
from dlc_assets.lab.slurm_settings import SlurmSettings
from dlc_assets.lab.yaml_settings import StrictSettings

ExecutorKind = Literal["local", "celery", "slurm", "kubernetes"]


class ExecutorSettings(StrictSettings):
    """Where steps are executed; a kind alone (``executor: kubernetes``) has the defaults of its block."""

    kind: ExecutorKind = Field(
        "local",
        description="this machine, or what sends steps to others; a run's configuration can name another kind",
    )
    celery: CelerySettings = CelerySettings()
    slurm: SlurmSettings = SlurmSettings()
    kubernetes: KubernetesSettings = KubernetesSettings()

    @property
    def gpus_elsewhere(self) -> int | None:
        """GPUs of the machines that steps are sent to; None where steps stay on this one."""
        elsewhere = {"celery": self.celery.gpus, "slurm": self.slurm.gpus, "kubernetes": self.kubernetes.gpus}
        return elsewhere.get(self.kind)

    @model_validator(mode="before")
    @classmethod
    def _a_word_is_a_kind(cls, value: Any) -> Any:
        return {"kind": value} if isinstance(value, str) else value
