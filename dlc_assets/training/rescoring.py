"""Scoring versions anew after labels were corrected or benchmark frames were added."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dlc_assets.lab.errors import DlcAssetsError
from dlc_assets.lab.lab import Lab
from dlc_assets.training.card import write_card
from dlc_assets.training.comparison import chosen_versions
from dlc_assets.training.evaluation import evaluate_model, to_be_scored
from dlc_assets.training.models import ModelVersion, current_version, evaluation_manifest


def behind_labels(lab: Lab, chosen: Sequence[ModelVersion]) -> tuple[list[ModelVersion], list[str]]:
    """Return those of *chosen* whose evaluation is missing or behind the labels, and a sentence for each that cannot be told."""
    behind, problems = [], []
    for version in chosen:
        if not version.can_be_scored:
            continue
        try:
            if to_be_scored(lab, version):
                behind.append(version)
        except DlcAssetsError as error:
            problems.append(_problem(version, error))
    return behind, problems


def rescore(lab: Lab, chosen: Sequence[ModelVersion], *, run_id: str, log: Callable[[str], None]) -> list[str]:
    """Evaluate those of *chosen* whose evaluation is missing or behind the labels; return a sentence for each that failed.

    A network is run only for frames of which it is not known what it says.
    """
    behind, problems = behind_labels(lab, chosen)
    for version in behind:
        try:
            evaluate_model(lab, version, run_id=run_id, log=log)
            write_card(lab, version)
        except DlcAssetsError as error:
            problems.append(_problem(version, error))
    return problems


def _problem(version: ModelVersion, error: DlcAssetsError) -> str:
    return f"{version} could not be scored on the labels as they are now: {error}"


def rescore_older_versions(lab: Lab, *, run_id: str, log: Callable[[str], None]) -> list[str]:
    """Do `rescore` for each version that was evaluated once and is not current: `model_evaluation` does it for the current ones."""
    older = [
        version
        for version in chosen_versions(lab, ())
        if evaluation_manifest(version, lab.layout) is not None
        and version != current_version(lab.layout, version.model)
    ]
    return rescore(lab, older, run_id=run_id, log=log)
