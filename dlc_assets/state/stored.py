"""What lies in the store, by asset and key: listed from folder names alone, so that a large store is listed quickly."""

from __future__ import annotations

from pathlib import Path

from dlc_assets.derived.kinds import KINDS
from dlc_assets.derived.product import latest_derived_manifest
from dlc_assets.inference.pose_tables import latest_pose_manifest
from dlc_assets.lab.keys import pose_key, split_pose_key
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.manifest import Manifest, read_manifest
from dlc_assets.labeling.batch import batch_folder, current_batch
from dlc_assets.nwb.export import nwb_manifest
from dlc_assets.publishing.publish import published_manifest
from dlc_assets.training.dataset import current_dataset
from dlc_assets.training.models import current_version, evaluation_manifest, trained_models

_DERIVED = frozenset(kind.asset for kind in KINDS)


def stored_keys(lab: Lab) -> dict[str, list[str]]:
    """Return the keys of all products in the store by asset, each asset after those that it is made from."""
    layout = lab.layout
    models = trained_models(layout)
    datasets = sorted(path.parent.name for path in layout.store.glob("datasets/*/current"))
    sessions = sorted(_after_equals(path.parent) for path in layout.recordings.glob("session=*/manifest.json"))
    return {
        "training_dataset": datasets,
        "trained_model": models,
        "model_evaluation": [model for model in models if stored_manifest(lab, "model_evaluation", model) is not None],
        "session_recordings": sessions,
        "pose_table": _pose_keys(layout.poses),
        **{kind.asset: _pose_keys(layout.derived(kind.asset)) for kind in KINDS},
        "frames_to_label": sorted(path.parent.name for path in layout.store.glob("to_label/*/current")),
        "nwb_file": sorted(path.stem for path in layout.nwb.glob(".manifests/*.json")),
        "dandi_asset": _published(lab),
    }


def _pose_keys(folder: Path) -> list[str]:
    """Return the keys of all that lies in *folder*, whose parts are named model, version and session."""
    return sorted(
        {
            pose_key(_after_equals(path.parents[2]), _after_equals(path.parent))
            for path in folder.glob("model=*/version=*/session=*/manifest.json")
        }
    )


def _published(lab: Lab) -> list[str]:
    """Return the sessions that are in the dandiset that lab.yaml names."""
    dandi = lab.settings.dandi
    if dandi is None:
        return []
    return sorted(path.stem for path in lab.layout.published(dandi.instance, dandi.dandiset).glob("[!.]*.json"))


def _after_equals(folder: Path) -> str:
    return folder.name.partition("=")[2]


def stored_manifest(lab: Lab, asset: str, key: str) -> Manifest | None:
    """Return the manifest of the product (*asset*, *key*) as the store has it, None when there is none."""
    if asset == "training_dataset":
        return current_dataset(lab, key)
    if asset in {"trained_model", "model_evaluation"}:
        version = current_version(lab.layout, key)
        if version is None:
            return None
        return version.manifest if asset == "trained_model" else evaluation_manifest(version, lab.layout)
    if asset == "session_recordings":
        return read_manifest(lab.layout.session_recordings(key))
    if asset == "pose_table":
        return latest_pose_manifest(lab, *split_pose_key(key))
    if asset in _DERIVED:
        return latest_derived_manifest(lab, asset, *split_pose_key(key))
    if asset == "frames_to_label":
        return current_batch(lab, key)
    if asset == "dandi_asset":
        return published_manifest(lab, key)
    return nwb_manifest(lab, key)


def place_of(lab: Lab, manifest: Manifest) -> Path:
    """Return where the product of *manifest* lies."""
    details, layout, key = manifest.details, lab.layout, manifest.key
    if manifest.asset == "training_dataset":
        return layout.datasets(key) / details["folder"]
    if manifest.asset in {"trained_model", "model_evaluation"}:
        version = current_version(layout, key)
        assert version is not None, f"{key} has a manifest and no current version"
        return version.folder if manifest.asset == "trained_model" else layout.evaluation(key, version.version)
    if manifest.asset == "session_recordings":
        return layout.session_recordings(key)
    if manifest.asset == "pose_table":
        return layout.pose_folder(details["model"], details["version"], details["session"])
    if manifest.asset in _DERIVED:
        return layout.derived_folder(manifest.asset, details["model"], details["version"], details["session"])
    if manifest.asset == "frames_to_label":
        return batch_folder(lab, manifest)
    if manifest.asset == "dandi_asset":
        return layout.published_manifest(details["instance"], details["dandiset"], key)
    return layout.nwb / details["path"]
