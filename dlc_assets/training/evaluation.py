"""Evaluation: errors of one model version on the labeled frames of its dataset, by set and body part."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from dlc_assets.lab.files import atomic_path, content_hash, read_json
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.manifest import Manifest
from dlc_assets.training.dataset import FRAMES, image_of_frame
from dlc_assets.training.models import ModelVersion

if TYPE_CHECKING:
    import pandas as pd

ERRORS = "errors.parquet"
SUMMARY = "summary.parquet"
ALL = "(all)"
SETS = ("train", "validation", "benchmark")


def evaluation_inputs(version: ModelVersion) -> dict[str, str]:
    """Return the hashes that the evaluation of *version* is made from."""
    return {"model": version.version, "dataset": version.card["dataset"]}


def evaluate_model(lab: Lab, version: ModelVersion, *, run_id: str, log: Callable[[str], None]) -> Manifest:
    """Run *version* on every labeled frame of its dataset and store each error and their summary."""
    from dlc_assets.engine.estimator import Estimator

    folder = lab.layout.datasets(version.model) / version.card["dataset"]
    frames = [frame for frame in read_json(folder / FRAMES) if frame["set"] in SETS]
    images = [image_of_frame(folder, frame) for frame in frames]
    log(f"evaluating {version} on {len(images)} labeled frames")
    estimated = Estimator(version.pytorch_config, version.snapshot).estimate_images(images)
    errors = errors_of_frames(frames, version.card["bodyparts"], estimated[:, 0])
    summary = summarize(errors, version.card["pcutoff"])
    place = lab.layout.evaluation(version.model, version.version)
    place.mkdir(parents=True, exist_ok=True)
    for name, table in ((ERRORS, errors), (SUMMARY, summary)):
        with atomic_path(place / name) as partial:
            table.to_parquet(partial, index=False)
    scoring = scoring_set(summary)
    manifest = Manifest(
        asset="model_evaluation",
        key=version.model,
        inputs=evaluation_inputs(version),
        data_version=content_hash(summary.round(6).to_json(orient="records", double_precision=6)),
        details={
            "version": version.version,
            "pcutoff": version.card["pcutoff"],
            "scoring_set": scoring,
            **{name: _row(summary, name) for name in SETS},
        },
        run_id=run_id,
    )
    manifest.write(place)
    return manifest


def errors_of_frames(frames: list[dict[str, Any]], bodyparts: list[str], estimated: np.ndarray) -> pd.DataFrame:
    """Return one row per labeled body part of a frame.

    Parameters
    ----------
    estimated
        (frames, body parts, 3) float32: x, y in px, likelihood.

    Returns
    -------
    pandas.DataFrame
        set, folder, image, bodypart; x, y (label, px), x_estimated, y_estimated (px), likelihood, error (px).
    """
    import pandas as pd

    labels = np.array([frame["xy"] for frame in frames], dtype=float)
    frame_index, part_index = np.nonzero(~np.isnan(labels).any(axis=2))
    label, pose = labels[frame_index, part_index], estimated[frame_index, part_index].astype(float)
    return pd.DataFrame(
        {
            "set": [frames[i]["set"] for i in frame_index],
            "folder": [frames[i]["folder"] for i in frame_index],
            "image": [frames[i]["image"] for i in frame_index],
            "bodypart": [bodyparts[i] for i in part_index],
            "x": label[:, 0],
            "y": label[:, 1],
            "x_estimated": pose[:, 0],
            "y_estimated": pose[:, 1],
            "likelihood": pose[:, 2],
            "error": np.hypot(*(pose[:, :2] - label).T),
        }
    )


def summarize(errors: pd.DataFrame, pcutoff: float) -> pd.DataFrame:
    """Return errors by set and body part (and over all body parts, as ``(all)``), in px.

    ``rmse`` is what DeepLabCut's evaluation calls so: the mean Euclidean distance; ``rmse_pcutoff`` the same over estimates
    whose likelihood reaches *pcutoff*, ``n_pcutoff`` of ``n`` labels.
    """
    import pandas as pd

    rows = []
    for set_name in SETS:
        of_set = errors[errors["set"] == set_name]
        if of_set.empty:
            continue
        for bodypart in [ALL, *dict.fromkeys(errors["bodypart"])]:
            chosen = of_set if bodypart == ALL else of_set[of_set["bodypart"] == bodypart]
            sure = chosen[chosen["likelihood"] >= pcutoff]
            rows.append(
                {
                    "set": set_name,
                    "bodypart": bodypart,
                    "n": len(chosen),
                    "rmse": chosen["error"].mean(),
                    "median_error": chosen["error"].median(),
                    "n_pcutoff": len(sure),
                    "rmse_pcutoff": sure["error"].mean(),
                }
            )
    return pd.DataFrame(rows)


def scoring_set(summary: pd.DataFrame) -> str:
    """Return the set that a model is judged by: benchmark where there is one, else validation."""
    return "benchmark" if (summary["set"] == "benchmark").any() else "validation"


def _row(summary: pd.DataFrame, set_name: str) -> dict[str, Any] | None:
    chosen = summary[(summary["set"] == set_name) & (summary["bodypart"] == ALL)]
    if chosen.empty:
        return None
    row = chosen.iloc[0].drop(["set", "bodypart"]).to_dict()
    return {str(key): None if value != value else round(float(value), 3) for key, value in row.items()}
