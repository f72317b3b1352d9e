"""What the pods of steps ask of a Kubernetes cluster: the block `executor.kubernetes` of lab.yaml."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from dlc_assets.lab.yaml_settings import StrictSettings

Quantity = Annotated[str, StringConstraints(pattern=r"^[1-9]\d*(\.\d+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?$")]
ResourceName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9.-]+/[A-Za-z0-9._-]+$")]


class Toleration(StrictSettings):
    """A taint of nodes that a step's pod accepts, as Kubernetes has it."""

    key: str = Field(description="key of the taint")
    operator: Literal["Exists", "Equal"] = Field("Exists", description="whether its value counts")
    value: str | None = Field(None, description="its value, with `Equal`")
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = Field(
        None, description="its effect; default: every effect"
    )


class StepPod(StrictSettings):
    """What the pod of one step asks for."""

    cpu: Quantity = Field("1", description="cores, such as 2 or 500m")
    memory: Quantity = Field("4Gi", description="memory; a step that takes more is ended by Kubernetes")
    node_selector: dict[str, str] = Field({}, description="labels of the nodes on which it may run")
    tolerations: tuple[Toleration, ...] = Field((), description="taints of nodes that it accepts")

    def k8s_config(self) -> dict[str, Any]:
        """Return Dagster's configuration of such a pod, as the op tag ``dagster-k8s/config`` and its executor take it."""
        pod: dict[str, Any] = {}
        if self.node_selector:
            pod["node_selector"] = dict(self.node_selector)
        if self.tolerations:
            pod["tolerations"] = [each.model_dump(exclude_none=True) for each in self.tolerations]
        config: dict[str, Any] = {
            "container_config": {
                "resources": {
                    "requests": {"cpu": self.cpu, "memory": self.memory},
                    "limits": {"memory": self.memory, **self._extended()},
                }
            },
            # What a lab says takes the place of what the tags of the graph and the code server's pod ask for; a deep merge would add
            # a second kind of GPU to the first.
            "merge_behavior": "SHALLOW",
        }
        return {**config, "pod_spec_config": pod} if pod else config

    def _extended(self) -> dict[str, str]:
        return {}


class GpuStepPod(StepPod):
    """What the pod of a step on a GPU asks for."""

    cpu: Quantity = Field("4", description="cores, such as 2 or 500m")
    memory: Quantity = Field("16Gi", description="memory; a step that takes more is ended by Kubernetes")
    resource: ResourceName = Field(
        "nvidia.com/gpu", description="the resource that a GPU is, such as `nvidia.com/mig-1g.10gb` for a part of one"
    )

    def _extended(self) -> dict[str, str]:
        return {self.resource: "1"}  # a step works on one device


class KubernetesSettings(StrictSettings):
    """How steps become pods; volumes, secrets and the image come from the code location, that is from Helm's values."""

    gpus: int = Field(
        1, ge=1, description="GPUs of the cluster that this lab may use at once: the limit of the pool `gpu`"
    )
    image: str | None = Field(None, description="image of the steps; default: that of the code location")
    gpu: GpuStepPod = Field(default_factory=GpuStepPod, description="steps on a GPU: training, evaluation, poses")
    cpu: StepPod = Field(default_factory=StepPod, description="all other steps")
