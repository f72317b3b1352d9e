"""What the assets that are made from pose tables share: their run configuration, and how a run makes one of them for a partition."""

from collections.abc import Callable
from typing import Any

import dagster as dg
from pydantic import Field

from dlc_assets.assets.reporting import Made, Stage
from dlc_assets.derived.product import DerivedKind
from dlc_assets.inference.pose_tables import pose_manifest
from dlc_assets.lab.errors import NotFoundError
from dlc_assets.lab.keys import split_pose_key
from dlc_assets.lab.lab import Lab
from dlc_assets.recordings.info import need_session_info

# Differs from its neighbours' so that a backfill never fuses them.
SESSIONS_PER_RUN = 40


class DerivedConfig(dg.Config):
    """Settings of one run; empty means the lab's files."""

    version: str | None = Field(
        None, description="version of the model; default: the released one, else the current one"
    )
    recompute: bool = Field(False, description="make it even though it is up to date")

    def overrides(self) -> dict[str, Any]:
        """Return what was stated."""
        return {name: value for name, value in self.model_dump(exclude={"recompute"}).items() if value is not None}


class ReviewConfig(DerivedConfig):
    """Settings of a run that makes all that is made of poses by itself."""

    kinematics_from: str | None = Field(
        None, description="filtered or raw: the poses that kinematics are of; default: lab.yaml's kinematics.from"
    )

    def overrides(self) -> dict[str, Any]:
        """Return what was stated for every product; where kinematics come from is of these alone."""
        return {name: value for name, value in super().overrides().items() if name != "kinematics_from"}


def derived_stage(lab: Lab, kind: DerivedKind, make: Callable[[str, str], Made]) -> Stage:
    """Return how a run makes products of *kind*; *make* makes that of a model and a session."""

    def inputs(key: str) -> dict[str, str]:
        model, session = split_pose_key(key)
        info, _ = need_session_info(lab.layout, session)
        poses = pose_manifest(lab, model, info)
        if poses is None:
            raise NotFoundError(f"{session} has no poses by {model}.")
        return kind.inputs(lab, info, poses)

    return Stage(kind.asset, lambda key: make(*split_pose_key(key)), inputs, retried=True, needs=kind.above(lab))
