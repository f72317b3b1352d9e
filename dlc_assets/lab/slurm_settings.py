"""What the jobs of steps ask of a Slurm cluster: the block `executor.slurm` of lab.yaml."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from dlc_assets.lab.yaml_settings import StrictSettings

# As sbatch takes them: 90, 90:00, 12:00:00, 2-0, 2-12:00:00.
TimeLimit = Annotated[str, StringConstraints(pattern=r"^(\d+|\d+:\d\d|\d+:\d\d:\d\d|\d+-\d+(:\d\d){0,2})$")]
Memory = Annotated[str, StringConstraints(pattern=r"^[1-9]\d*[KMGT]?$")]
Option = Annotated[str, StringConstraints(pattern=r"^--[a-z][a-z0-9-]*(=.*)?$")]


class StepJob(StrictSettings):
    """What the job of one step asks for; what is not stated is the cluster's default."""

    partition: str | None = Field(None, description="partition of the cluster; default: the cluster's")
    time: TimeLimit | None = Field(
        None, description="time limit, such as `12:00:00` or `2-0`; default: the partition's"
    )
    cpus: int = Field(1, ge=1, description="cores")
    memory: Memory | None = Field(None, description="memory, such as `16G`; default: the partition's")
    options: tuple[Option, ...] = Field(
        (), description="other options of sbatch, such as `--account=vision` or `--qos=long`"
    )

    def sbatch_options(self) -> list[str]:
        """Return the options of sbatch that ask for this."""
        asked = [f"--cpus-per-task={self.cpus}"]
        if self.partition is not None:
            asked.append(f"--partition={self.partition}")
        if self.time is not None:
            asked.append(f"--time={self.time}")
        if self.memory is not None:
            asked.append(f"--mem={self.memory}")
        return [*asked, *self.options]


class GpuStepJob(StepJob):
    """What the job of a step on a GPU asks for."""

    cpus: int = Field(4, ge=1, description="cores")
    gres: str | None = Field(
        "gpu:1",
        description="the generic resource that is one GPU, such as `gpu:a100:1`; null where the partition has none",
    )

    def sbatch_options(self) -> list[str]:
        return [*super().sbatch_options(), *([] if self.gres is None else [f"--gres={self.gres}"])]


class SlurmSettings(StrictSettings):
    """How steps become jobs of a Slurm cluster that shares the lab's folder."""

    gpus: int = Field(
        1, ge=1, description="GPUs of the cluster that this lab may use at once: the limit of the pool `gpu`"
    )
    python: str | None = Field(
        None, description="Python on the nodes that has dlc_assets; default: the one that executes the run"
    )
    gpu: GpuStepJob = Field(default_factory=GpuStepJob, description="steps on a GPU: training, evaluation, poses")
    cpu: StepJob = Field(default_factory=StepJob, description="all other steps")
