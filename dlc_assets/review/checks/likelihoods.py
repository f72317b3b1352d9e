"""Whether the network is as sure of a session as it was of the labeled frames that it was evaluated on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dlc_assets.lab.check_settings import Drift
from dlc_assets.lab.lab import Lab
from dlc_assets.review.checked_poses import CheckedPoses
from dlc_assets.review.checks.seen import Seen
from dlc_assets.training.evaluation import ERRORS, ESTIMATES
from dlc_assets.training.models import ModelVersion

_FEWEST = 10  # labeled frames that the network did not learn from; with fewer, those that it learned from count as well


@dataclass(frozen=True)
class Expected:
    """Of a body part, in the labeled frames: the share of estimates that reach the p-cutoff, and of how many."""

    share: float
    frames: int


def expected_shares(lab: Lab, version: ModelVersion, pcutoff: float) -> dict[str, Expected]:
    """Return how sure *version* was of each body part in the frames of its evaluation; nothing where it was not evaluated."""
    import pandas as pd

    folder = lab.layout.evaluation(version.model, version.version)
    try:
        estimates = pd.read_parquet(folder / ESTIMATES, columns=["folder", "image", "bodypart", "likelihood"])
        sets = pd.read_parquet(folder / ERRORS, columns=["set", "folder", "image"]).drop_duplicates()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    told = estimates.merge(sets, on=["folder", "image"], how="left")
    unseen = told[told["set"].isin(["validation", "benchmark"])]
    if unseen[["folder", "image"]].drop_duplicates().shape[0] >= _FEWEST:
        told = unseen
    return {
        str(bodypart): Expected(float((rows["likelihood"].fillna(0) >= pcutoff).mean()), len(rows))
        for bodypart, rows in told.groupby("bodypart", observed=True)
    }


def drift(poses: CheckedPoses, settings: Drift, expected: dict[str, Expected]) -> Seen:
    """Return by how much the share of points above the p-cutoff has dropped, of the body part where it has most.

    What chance allows with so few labeled frames (two standard errors) is taken off.
    """
    drops: dict[str, float] = {}
    for points in poses.all_points():
        before = expected.get(points.bodypart)
        if before is None:
            continue
        chance = 2 * float(np.sqrt(before.share * (1 - before.share) / before.frames))
        drops[points.name] = round(before.share - float(points.sure.mean()) - chance, 4)
    if not drops:
        return Seen(sentence="the model has no evaluation to compare with")
    name = max(drops, key=lambda key: drops[key])
    return Seen(drops[name], name, (), drops)
