"""Comparing models: every evaluated version side by side, ranked among those scored on the same labeled frames."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlc_assets.catalog.schema import COMPARISON
from dlc_assets.lab.files import atomic_path, content_hash
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.manifest import Manifest
from dlc_assets.training.evaluation import ERRORS
from dlc_assets.training.models import ModelVersion, current_version, evaluation_manifest, trained_models, versions

COMPARISON_FILE = "models.parquet"
_GROUP_DIGITS = 8


@dataclass(frozen=True)
class Comparison:
    """The comparison's rows (columns of `schema.COMPARISON`), the file they were written to, and the hash of them."""

    rows: list[dict[str, Any]]
    path: Path
    data_version: str


def compare_models(lab: Lab) -> Comparison:
    """Put every evaluated version of every model side by side, and write the table.

    Errors on different frames say nothing of which model is better: rows with the same ``comparable`` were scored on
    the same labels of the same frames, lie together and are ranked; the largest group comes first.
    """
    import pyarrow.parquet as pq

    rows = []
    for model in trained_models(lab.layout):
        current = current_version(lab.layout, model)
        for version in versions(lab.layout, model):
            manifest = evaluation_manifest(version, lab.layout)
            if manifest is not None:
                rows.append(_row(lab, version, manifest, current == version))
    rows = _ranked(rows)
    path = lab.layout.comparison / COMPARISON_FILE
    with atomic_path(path) as partial:
        pq.write_table(COMPARISON.arrow(rows), partial, compression="zstd")
    return Comparison(rows, path, content_hash(rows))


def _row(lab: Lab, version: ModelVersion, manifest: Manifest, current: bool) -> dict[str, Any]:
    card = version.card
    scored_on = str(manifest.details.get("scoring_set"))
    total = manifest.details.get(scored_on) or {}
    comparable, frames = _scored_labels(lab, version, scored_on)
    return {
        "comparable": comparable,
        "rank": None,
        "model": version.model,
        "version": version.version,
        "current": current,
        "scored_on": scored_on,
        "frames": frames,
        "labels": None if total.get("n") is None else int(total["n"]),
        **{name: total.get(name) for name in ("rmse", "rmse_pcutoff", "median_error")},
        "pcutoff": manifest.details.get("pcutoff"),
        "net_type": card.get("net_type"),
        "epochs": (card.get("training") or {}).get("epochs"),
        "custom": version.manifest.custom,
        "dataset": card.get("dataset"),
        "label_hash": card.get("label_hash"),
        "trained": version.manifest.made,
        "note": "",
    }


def _scored_labels(lab: Lab, version: ModelVersion, scored_on: str) -> tuple[str | None, int | None]:
    """Return the hash of the labels that *version* was scored on and the number of frames, None where there are none.

    The dataset's hash will not do: the same frames under another network make another dataset.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(
            lab.layout.evaluation(version.model, version.version) / ERRORS,
            columns=["folder", "image", "bodypart", "x", "y"],
            filters=[("set", "=", scored_on)],
        )
    except (OSError, pa.ArrowException):
        return None, None
    labels = sorted(tuple(row.values()) for row in table.to_pylist())
    if not labels:
        return None, None
    return content_hash(labels)[:_GROUP_DIGITS], len({(folder, image) for folder, image, *_ in labels})


def _ranked(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    sizes = Counter(row["comparable"] for row in rows)

    def order(row: dict[str, Any]) -> tuple[Any, ...]:
        group, error = row["comparable"], row["rmse"]
        unscored = group is None or error is None
        return (group is None, -sizes[group], group or "", unscored, error or 0.0, row["model"], row["version"])

    ranked = sorted(rows, key=order)
    places: Counter[str] = Counter()
    for row in ranked:
        group = row["comparable"]
        if group is not None and row["rmse"] is not None:
            places[group] += 1
            row["rank"] = places[group]
        row["note"] = _note(row, sizes[group], len(rows))
    return ranked


def _note(row: dict[str, Any], alike: int, all_rows: int) -> str:
    if row["rank"] is None:
        return "has no errors on held-out frames: cannot be ranked"
    others = all_rows - alike
    if alike == 1:
        return "the only one scored on these frames" + (": cannot be ranked against the others" if others else "")
    note = f"ranked among the {alike} scored on the same frames"
    return note + (f"; cannot be ranked against the {others} scored on other frames" if others else "")
