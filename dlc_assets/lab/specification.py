"""models/<model>.yaml: the specification of one model, from labels to training parameters."""

from __future__ import annotations

import re
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from dlc_assets.lab.imported_network import ImportedNetwork
from dlc_assets.lab.settings import Name, Names
from dlc_assets.lab.yaml_settings import StrictSettings

_WEIGHTS = re.compile(r"imagenet|random|superanimal_[a-z0-9_]+|model:[a-z0-9][a-z0-9-]*(@[0-9a-f]{4,12})?|file:.+")


# What says how a network is trained, and nothing of one that is trained already.
_OF_TRAINING = frozenset(
    {
        "auto_train",
        "detector",
        "memory_replay",
        "net_type",
        "parameters",
        "pytorch_config",
        "split",
        "training",
        "weights",
        "weights_part",
    }
)


class FrameRule(StrictSettings):
    """Which labeled frames of the chosen videos are used; patterns as of file names, against ``folder/image``."""

    only: Names = ()
    leave_out: Names = ()
    every: int = Field(1, ge=1, description="every n-th frame of each folder, after the patterns")


class LabelSetSettings(StrictSettings):
    """Which labeled frames of the project the model learns from."""

    videos: Literal["all"] | Names = "all"
    scorers: Names | None = Field(
        None, description="in order of preference; none means the project's scorer, then others"
    )
    frames: FrameRule = FrameRule()


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
    patience: int | None = Field(
        None, ge=1, description="stop once the validation has not become better for so many epochs"
    )
    detector_epochs: int = Field(100, ge=1, description="of the detector of a top-down network")
    detector_batch_size: int = Field(4, ge=1)

    def decisive(self) -> dict[str, Any]:
        """Return what decides the trained network: how many snapshots are kept does not.

        What is left at its default and came with a later release is left out, so that models trained before it stay up to date.
        """
        later = {"patience", "detector_epochs", "detector_batch_size"}
        as_ever = {name for name in later if getattr(self, name) == type(self).model_fields[name].default}
        return self.model_dump(exclude={"max_snapshots", *as_ever})


class ModelSpecification(StrictSettings):
    """The whole of models/<model>.yaml."""

    project: str = Field("", description="the DeepLabCut project; none is needed where only results are left")
    imported: ImportedNetwork | None = Field(
        None, alias="import", description="a network that was trained elsewhere, taken as it is"
    )
    description: str = ""
    label_set: LabelSetSettings = LabelSetSettings()
    split: SplitSettings = SplitSettings()
    parameters: Name | None = Field(
        None, description="a set of training parameters shared by name, from lab.yaml's `parameters`"
    )
    net_type: Name = "resnet_50"
    detector: Name | None = Field(None, description="of a top-down network: the network that finds the animals")
    weights: Name = "imagenet"
    weights_part: Literal["all", "backbone"] = Field(
        "all", description="of a model, file or SuperAnimal: all that fits, heads included, or the backbone alone"
    )
    memory_replay: bool = Field(
        False, description="with a SuperAnimal's heads: keep what it knew of body parts that are not labeled here"
    )
    training: TrainingSettings = TrainingSettings()
    pytorch_config: dict[str, Any] = Field(default_factory=dict)
    auto_train: bool = Field(False, description="train again by itself once changed labels have been quiet for a while")

    @field_validator("weights")
    @classmethod
    def _weights_are_known(cls, value: str) -> str:
        if not _WEIGHTS.fullmatch(value):
            raise ValueError("expected imagenet, random, superanimal_<dataset>, model:<name>[@version] or file:<path>")
        return value

    @model_validator(mode="after")
    def _has_a_project(self) -> ModelSpecification:
        if not self.project.strip() and (self.imported is None or not self.imported.results_only):
            raise ValueError(
                'the key "project" is missing: name the DeepLabCut project whose labels the model learns from'
            )
        return self

    @model_validator(mode="after")
    def _is_trained_or_imported(self) -> ModelSpecification:
        if self.imported is None:
            return self
        stated = sorted(self.model_fields_set & _OF_TRAINING)
        if stated:
            raise ValueError(f"with `import` nothing is trained: leave out {', '.join(stated)}")
        return self

    @model_validator(mode="after")
    def _replays_what_was_known(self) -> ModelSpecification:
        if self.memory_replay and (not self.weights.startswith("superanimal_") or self.weights_part != "all"):
            raise ValueError("memory_replay needs `weights: superanimal_<dataset>` and its heads (`weights_part: all`)")
        return self
