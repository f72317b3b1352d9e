"""What a model version must show before it is released: that it is evaluated and whole, and what lab.yaml asks for."""

from __future__ import annotations

from typing import Any

from dlc_assets.lab.errors import DlcAssetsError
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.manifest import read_manifest
from dlc_assets.training.evaluation import evaluation_inputs
from dlc_assets.training.imported_dataset import trained_frames
from dlc_assets.training.models import ModelVersion, damage_of, evaluation_manifest


def unmet_requirements(lab: Lab, version: ModelVersion) -> list[str]:
    """Return a sentence for each thing that speaks against releasing *version*; an empty list when nothing does."""
    asked = lab.settings.release_requirements
    return [
        *_damages(version),
        *_evaluation_problems(lab, version),
        *_error_problems(asked.max_error, evaluation_figures(lab, version)),
        *_label_problems(asked.min_labels, training_frames(lab, version)),
    ]


def evaluation_figures(lab: Lab, version: ModelVersion) -> dict[str, Any] | None:
    """Return the errors (px) that *version* is judged by, with ``set`` and ``pcutoff``; None when it is not evaluated."""
    manifest = evaluation_manifest(version, lab.layout)
    if manifest is None:
        return None
    scored = manifest.details["scoring_set"]
    return {"set": scored, "pcutoff": manifest.details["pcutoff"], **(manifest.details.get(scored) or {})}


def training_frames(lab: Lab, version: ModelVersion) -> int | None:
    """Return the number of labeled frames that *version* was trained on, None where nothing says it."""
    dataset = version.card.get("dataset")
    manifest = read_manifest(lab.layout.datasets(version.model) / dataset) if dataset else None
    return None if manifest is None else trained_frames(manifest)


def _damages(version: ModelVersion) -> list[str]:
    damage = damage_of(version, thorough=True)
    if not damage:
        return []
    return [f"{version} is damaged: {damage}. Restore {version.folder} from a backup, or train again."]


def _evaluation_problems(lab: Lab, version: ModelVersion) -> list[str]:
    if not version.can_be_scored:
        return [f"{version} is not judged here: {version.why_not_scored}"]
    manifest = evaluation_manifest(version, lab.layout)
    if manifest is None:
        return [f"{version} is not evaluated: materialize model_evaluation for {version.model}."]
    if version.model not in lab.model_names():
        return []  # its specification is gone, and with it the project whose labels could have changed
    try:
        now = evaluation_inputs(lab, version)
    except DlcAssetsError as error:
        return [f"{version}: whether its evaluation is up to date cannot be said: {error}"]
    changed = [name for name in sorted({*now, *manifest.inputs}) if now.get(name) != manifest.inputs.get(name)]
    if not changed:
        return []
    return [
        f"the evaluation of {version} is behind ({', '.join(changed)} changed): materialize model_evaluation for {version.model}."
    ]


def _error_problems(most: float | None, figures: dict[str, Any] | None) -> list[str]:
    if most is None or figures is None:
        return []
    error = figures.get("rmse_pcutoff")
    if error is None:
        return [f"no estimate on its {figures['set']} frames reaches the p-cutoff of {figures['pcutoff']:g}."]
    if error <= most:
        return []
    return [
        f"its mean error above the p-cutoff on {figures['set']} frames is {error:.4g} px, and lab.yaml asks for at most {most:g} px "
        "(release_requirements: max_error)."
    ]


def _label_problems(least: int | None, frames: int | None) -> list[str]:
    if least is None or (frames is not None and frames >= least):
        return []
    has = (
        f"it was trained on {frames} labeled frames"
        if frames is not None
        else "nothing says on how many labeled frames it was trained"
    )
    return [f"{has}, and lab.yaml asks for at least {least} (release_requirements: min_labels)."]
