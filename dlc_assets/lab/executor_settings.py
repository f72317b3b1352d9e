"""Where the steps of runs are executed: the block `executor` of lab.yaml."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from dlc_assets.lab.kubernetes_settings import KubernetesSettings
from dlc_assets.lab.yaml_settings import StrictSettings

ExecutorKind = Literal["local", "kubernetes"]


class ExecutorSettings(StrictSettings):
    """Where steps are executed; a kind alone (``executor: kubernetes``) has the defaults of its block."""

    kind: ExecutorKind = Field(
        "local",
        description="this machine, or what sends steps to others; a run's configuration can name another kind",
    )
    kubernetes: KubernetesSettings = KubernetesSettings()

    @model_validator(mode="before")
    @classmethod
    def _a_word_is_a_kind(cls, value: Any) -> Any:
        return {"kind": value} if isinstance(value, str) else value
