"""models/<model>.yaml: the specification of one model, from labels to training parameters."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from dlc_assets.lab.settings import Name, Names
from dlc_assets.lab.yaml_settings import StrictSettings

_WEIGHTS = re.compile(r"imagenet|random|model:[a-z0-9][a-z0-9-]*(@[0-9a-f]{4,12})?|file:.+")


class LabelSetSettings(StrictSettings):
    """Which labeled frames of the project the model learns from."""

    videos: Literal["all"] | Names = "all"
    scorers: Names | None = Field(
        None, description="in order of preference; none means the project's scorer, then others"
    )


class SplitSettings(StrictSettings):
    """Which share of the frames trains, chooses the best snapshot (validation), and only scores (benchmark)."""

    by: Literal["video", "frame"] = "video"
    train: float = Field(0.8, gt=0, lt=1)
    validation: float = Field(0.1, gt=0, lt=1)
    benchmark: float = Field(0.1, ge=0, lt=1)
    seed: int = 1

    @model_validator(mode="after")
    def _sums_to_one(self) -> SplitSettings:
        total = self.train + self.validation + self.benchmark
        if abs(total - 1) > 1e-6:
            raise ValueError(f"train, validation and benchmark must sum to 1, they sum to {total:g}")
        return self


class TrainingSettings(StrictSettings):
    """How long and with what the network is trained."""

    epochs: int = Field(200, ge=1)
    batch_size: int = Field(8, ge=1)
    save_epochs: int = Field(25, ge=1)
    seed: int = 42
    max_snapshots: int = Field(5, ge=1, description="how many snapshots are kept, the best among them")

    def decisive(self) -> dict[str, Any]:
        """Return what decides the trained network: how many snapshots are kept does not."""
        return self.model_dump(exclude={"max_snapshots"})


class ModelSpecification(StrictSettings):
    """The whole of models/<model>.yaml."""

    project: Name
    description: str = ""
    label_set: LabelSetSettings = LabelSetSettings()
    split: SplitSettings = SplitSettings()
    net_type: Name = "resnet_50"
    weights: Name = "imagenet"
    training: TrainingSettings = TrainingSettings()
    pytorch_config: dict[str, Any] = Field(default_factory=dict)

    @field_validator("weights")
    @classmethod
    def _weights_are_known(cls, value: str) -> str:
        if not _WEIGHTS.fullmatch(value):
            raise ValueError("expected imagenet, random, model:<name>[@version] or file:<path>")
        return value
