"""The block `import` of a model specification: a network that was trained elsewhere, or of which only results are left."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from dlc_assets.lab.settings import Name, Names
from dlc_assets.lab.yaml_settings import StrictSettings


class ImportedNetwork(StrictSettings):
    """Which trained network a model is, instead of training one."""

    engine: Literal["pytorch", "tensorflow"] = Field(
        "pytorch",
        description="what trained it: DeepLabCut 3 with PyTorch, or TensorFlow, whose networks do not run here",
    )
    iteration: int | None = Field(None, ge=0, description="of the project; default: the one in its config.yaml")
    trainset_fraction: float | None = Field(
        None, gt=0, lt=1, description="share of the frames that it was trained on; needed where a shuffle has several"
    )
    shuffle: int = Field(1, ge=0)
    snapshot: str | int = Field("best", description="best, last, the number of an epoch (or iteration), or a file name")
    detector_snapshot: str | int = Field("best", description="of a top-down network: the same of its detector")
    trained_on: str | Names | None = Field(
        None,
        description="the frames that it was trained on, as folder/image, or a text file of the project that lists them; default: what "
        "DeepLabCut's Documentation_data pickle says",
    )
    results_only: bool = Field(False, description="only results of it are left: it gives imported poses an origin")
    scorer: Name | None = Field(None, description="results only: the scorer in its result files")
    bodyparts: Names = Field((), description="results only: its body parts")
    individuals: Names = Field((), description="results only: the animals of a multi-animal network")

    @property
    def runnable(self) -> bool:
        """Whether the network can be run here."""
        return self.engine == "pytorch" and not self.results_only

    @model_validator(mode="after")
    def _is_of_one_kind(self) -> ImportedNetwork:
        if self.results_only and not (self.scorer and self.bodyparts):
            raise ValueError(
                "results_only needs the `scorer` and the `bodyparts` that its result files name; nothing else tells them"
            )
        if not self.results_only and (self.scorer or self.bodyparts or self.individuals):
            raise ValueError(
                "scorer, bodyparts and individuals go with `results_only: true` alone; of a network that is there, its files tell them"
            )
        return self
