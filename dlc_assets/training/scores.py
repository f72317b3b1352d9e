"""What is said of estimates beside labels: distances, how many are near enough, and DeepLabCut's mAP.

Everything here is arithmetic on tables and arrays; which frames are scored is `evaluation`'s matter.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dlc_assets.training.bootstrap import mean_interval, units_of

if TYPE_CHECKING:
    import pandas as pd

ALL = "(all)"
SETS = ("train", "validation", "benchmark")
# A label counts as found if the estimate is no farther from it than this; 5 px is what a careful person is off by in a video of
# ordinary size.
PCK_PX = 5.0
# ... or than this share of the animal's size.
PCK_SHARES = {"pck_05": 0.05, "pck_10": 0.1, "pck_20": 0.2}
PCK_5PX = "pck_5px"

# DeepLabCut's own constants of mAP and mAR, which are those of COCO but for one sigma for all body parts.
_OKS_SIGMA = 0.1
_OKS_THRESHOLDS = np.linspace(0.5, 0.95, 10)
_RECALLS = np.linspace(0.0, 1.0, 101)

# Columns of the summary beside `set` and `bodypart`: name, type, description.
SUMMARY_COLUMNS = (
    ("n", "int64", "labels compared"),
    ("rmse", "float64", "mean Euclidean distance in px (what DeepLabCut's evaluation calls RMSE)"),
    ("rmse_low", "float64", "lower end of its 95 % interval (bootstrap over videos)"),
    ("rmse_high", "float64", "upper end of its 95 % interval"),
    ("median_error", "float64", "median distance in px"),
    ("n_pcutoff", "int64", "labels whose estimate reaches the project's p-cutoff"),
    ("rmse_pcutoff", "float64", "the same as rmse over those"),
    ("n_missed", "int64", "labels for which the network gave no position"),
    (PCK_5PX, "float64", f"share of labels with an estimate within {PCK_PX:g} px"),
    ("pck_05", "float64", "share within 0.05 of the animal's size: the diagonal of the box around the frame's labels"),
    ("pck_10", "float64", "share within 0.1 of the animal's size"),
    ("pck_20", "float64", "share within 0.2 of the animal's size"),
    ("map", "float64", "mean average precision (OKS) in percent, as DeepLabCut computes it; over all body parts only"),
    ("mar", "float64", "mean average recall (OKS) in percent"),
)


def errors_of_frames(
    frames: Sequence[Mapping[str, Any]], bodyparts: Sequence[str], estimated: np.ndarray
) -> pd.DataFrame:
    """Return one row per labeled body part of a frame.

    Parameters
    ----------
    frames
        Each with ``set``, ``folder``, ``image`` and ``xy``: (body parts, 2) px, NaN (or None) where not labeled.
    estimated
        (frames, body parts, 3): x, y in px, likelihood; NaN where the network found nothing.

    Returns
    -------
    pandas.DataFrame
        set, folder, image, bodypart; x, y (label, px), x_estimated, y_estimated (px), likelihood, error (px), NaN where the
        network gave no position.
    """
    import pandas as pd

    labels = np.array([frame["xy"] for frame in frames], dtype=float).reshape(len(frames), len(bodyparts), 2)
    placed = ~np.isnan(labels).any(axis=2)
    label, pose = labels[placed], estimated[placed].astype(float)
    frame_index, part_index = (indices.tolist() for indices in np.nonzero(placed))
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


def summarize(
    errors: pd.DataFrame, pcutoff: float, average_precision: Mapping[str, tuple[float, float] | None] | None = None
) -> pd.DataFrame:
    """Return the columns of `SUMMARY_COLUMNS` by set and body part, and over all body parts, as ``(all)``.

    Parameters
    ----------
    errors
        As of `errors_of_frames`.
    pcutoff
        Likelihood from which on an estimate counts as sure.
    average_precision
        (mAP, mAR) in percent by set, where they are known.

    Notes
    -----
    ``rmse`` is what DeepLabCut's evaluation calls so: the mean Euclidean distance. A label for which the network gave no position
    has no distance, and counts as not near enough.
    """
    import pandas as pd

    rows = []
    for set_name in SETS:
        of_set = errors[errors["set"] == set_name]
        if of_set.empty:
            continue
        sizes = animal_sizes(of_set)
        known = (average_precision or {}).get(set_name) or (None, None)
        for bodypart in [ALL, *dict.fromkeys(errors["bodypart"])]:
            chosen = of_set["bodypart"].to_numpy() == bodypart if bodypart != ALL else np.full(len(of_set), True)
            precision = known if bodypart == ALL else (None, None)
            rows.append({"set": set_name, "bodypart": bodypart, **_row(of_set[chosen], sizes[chosen], pcutoff)})
            rows[-1].update(map=precision[0], mar=precision[1])
    columns = ["set", "bodypart", *(name for name, _, _ in SUMMARY_COLUMNS)]
    table = pd.DataFrame(rows, columns=columns)
    floats = [name for name, kind, _ in SUMMARY_COLUMNS if kind == "float64"]
    return table.astype(dict.fromkeys(floats, "float64"))


def _row(chosen: pd.DataFrame, sizes: np.ndarray, pcutoff: float) -> dict[str, Any]:
    error = chosen["error"].to_numpy()
    sure = chosen["likelihood"].to_numpy() >= pcutoff
    frames = list(zip(chosen["folder"], chosen["image"], strict=True))
    interval = mean_interval(error, units_of(frames)) if frames else None
    return {
        "n": len(chosen),
        "rmse": chosen["error"].mean(),
        "rmse_low": max(interval.low, 0.0) if interval else None,
        "rmse_high": interval.high if interval else None,
        "median_error": chosen["error"].median(),
        "n_pcutoff": int(sure.sum()),
        "rmse_pcutoff": chosen["error"][sure].mean(),
        "n_missed": int(np.isnan(error).sum()),
        PCK_5PX: near_enough(error, PCK_PX),
        **{name: near_enough(error, share * sizes) for name, share in PCK_SHARES.items()},
    }


def near_enough(error: np.ndarray, limit: float | np.ndarray) -> float | None:
    """Return the share of *error* (px; NaN: no position, and so not near) within *limit* (px; NaN: not counted)."""
    counted = ~np.isnan(np.broadcast_to(limit, error.shape))
    if not counted.any():
        return None
    with np.errstate(invalid="ignore"):
        return float(np.mean((error <= limit)[counted]))


def animal_sizes(errors: pd.DataFrame) -> np.ndarray:
    """Return the animal's size (px) for each row: the diagonal of the box around all labels of its frame; NaN where that is a point."""
    by_frame = errors.groupby(["set", "folder", "image"], sort=False)
    sides = [by_frame[axis].transform("max") - by_frame[axis].transform("min") for axis in ("x", "y")]
    diagonal = np.hypot(*(side.to_numpy(dtype=float) for side in sides))
    return np.where(diagonal > 0, diagonal, np.nan)


def oks_precision_and_recall(labels: np.ndarray, estimated: np.ndarray) -> tuple[float, float] | None:
    """Return DeepLabCut's mAP and mAR (percent) for frames with one animal, None where no frame has two labels.

    Parameters
    ----------
    labels
        (frames, body parts, 2) px; NaN where not labeled.
    estimated
        (frames, body parts, 3): x, y in px, likelihood; NaN where nothing was found.

    Notes
    -----
    As `deeplabcut.core.metrics.compute_metrics` does it, with its constants: object keypoint similarity by the area of the box around
    a frame's labels, sigma 0.1, thresholds from 0.5 to 0.95. A frame with fewer than two labels has no animal, so that whatever is
    found in it counts as a false alarm.
    """
    labeled = ~np.isnan(labels).any(axis=2)
    given = ~np.isnan(estimated).any(axis=2) & (estimated[..., 2] >= 0)
    animals, found = labeled.sum(axis=1) > 1, given.sum(axis=1) > 1
    if not animals.any():
        return None
    if not found.any():
        return 0.0, 0.0
    similarity = np.zeros(len(labels))
    scores = np.full(len(labels), -np.inf)
    for at in np.flatnonzero(found):
        scores[at] = estimated[at, given[at], 2].mean()
        if animals[at]:
            similarity[at] = _similarity(
                labels[at, labeled[at]], estimated[at, labeled[at], :2], given[at, labeled[at]]
            )
    order = np.argsort(-scores[found], kind="mergesort")
    ordered = similarity[found][order]
    precisions, recalls = zip(
        *(_precision_and_recall(ordered >= threshold, int(animals.sum())) for threshold in _OKS_THRESHOLDS), strict=True
    )
    return 100 * float(np.mean(precisions)), 100 * float(np.mean(recalls))


def _similarity(label: np.ndarray, pose: np.ndarray, given: np.ndarray) -> float:
    area = float(np.prod(np.ptp(label, axis=0) + np.spacing(1)))
    if np.isclose(area, 0):
        return 0.0
    squared = np.where(given, np.sum((pose - label) ** 2, axis=1), np.inf)
    return float(np.mean(np.exp(-squared / (2 * area * (2 * _OKS_SIGMA) ** 2))))


def _precision_and_recall(right: np.ndarray, animals: int) -> tuple[float, float]:
    """Return mean precision over the recall levels and the recall reached; *right* says of each find, surest first, if it was."""
    true = np.cumsum(right)
    precision = true / (np.arange(len(right)) + 1 + np.spacing(1))
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    recall = true / animals
    at = np.searchsorted(recall, _RECALLS, side="left")
    levels = np.where(at < len(precision), precision[np.minimum(at, len(precision) - 1)], 0.0)
    return float(levels.mean()), float(recall[-1])


def scoring_set(summary: pd.DataFrame) -> str:
    """Return the set that a model is judged by: benchmark where there is one, else validation."""
    return "benchmark" if (summary["set"] == "benchmark").any() else "validation"


def total_of_set(summary: pd.DataFrame, set_name: str) -> dict[str, Any] | None:
    """Return the row over all body parts of a set as plain numbers (None for what is not known), None where there is no such set."""
    chosen = summary[(summary["set"] == set_name) & (summary["bodypart"] == ALL)]
    if chosen.empty:
        return None
    row = chosen.iloc[0].drop(["set", "bodypart"]).to_dict()
    return {
        name: None if row[name] is None or row[name] != row[name] else _plain(row[name], kind)
        for name, kind, _ in SUMMARY_COLUMNS
    }


def _plain(value: Any, kind: str) -> int | float:
    return int(value) if kind == "int64" else round(float(value), 3)
