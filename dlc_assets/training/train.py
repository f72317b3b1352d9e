"""Training one model: from its dataset and starting weights to a new immutable version in the store."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlc_assets.lab.errors import SettingsError
from dlc_assets.lab.files import atomic_folder, atomic_path, content_hash, sha256_file, sha256_unchanged_file
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.locks import hold
from dlc_assets.lab.manifest import Manifest, read_manifest
from dlc_assets.lab.progress import LoggedProgress
from dlc_assets.lab.specification import ModelSpecification
from dlc_assets.training.dataset import PROJECT, need_dataset
from dlc_assets.training.models import (
    LEARNING_STATS,
    PYTORCH_CONFIG,
    SNAPSHOT,
    SNAPSHOTS,
    ModelVersion,
    current_version,
    find_version,
    set_current,
    version_of,
)

if TYPE_CHECKING:
    from dlc_assets.engine.network_training import EpochStats, TrainedNetwork


def training_inputs(lab: Lab, model: str) -> dict[str, str]:
    """Return the hashes that the current version of *model* should have been trained from."""
    specification = lab.specification(model)
    return {
        "training dataset": need_dataset(lab, model).data_version,
        "weights": _weights_hash(lab, specification),
        "training": content_hash(specification.training.decisive()),
        "pytorch_config": content_hash(specification.pytorch_config),
    }


def _weights_hash(lab: Lab, specification: ModelSpecification) -> str:
    kind, _, name = specification.weights.partition(":")
    if kind == "model":
        return f"model:{find_version(lab.layout, name)}"
    if kind == "file":
        return f"file:{sha256_unchanged_file(_weights_file(lab, name))}"
    return kind


def _weights_file(lab: Lab, name: str) -> Path:
    path = lab.root / Path(name).expanduser()
    if not path.is_file():
        raise SettingsError(f"weights: file:{name}: there is no file {path}. Put it there, or correct the path.")
    return path


def train_model(
    lab: Lab,
    model: str,
    *,
    overrides: Mapping[str, Any],
    recompute: bool,
    run_id: str,
    log: Callable[[str], None],
) -> tuple[ModelVersion, bool]:
    """Train *model* and make the result its current version.

    Parameters
    ----------
    overrides
        A run's own training settings (epochs, batch_size, save_epochs, seed); they make the result "custom".
    recompute
        Train even though the current version was trained from the same inputs.

    Returns
    -------
    tuple
        The version, and whether it was trained now (False: somebody had done it already).
    """
    with hold(lab.layout.lock("train", model), f"training {model}", log=log):
        specification = lab.specification(model)
        wanted = Manifest(
            asset="trained_model",
            key=model,
            inputs=training_inputs(lab, model),
            overrides=dict(overrides),
            data_version="",
            run_id=run_id,
        )
        existing = current_version(lab.layout, model)
        if existing is not None and not recompute and existing.manifest.input_hash == wanted.input_hash:
            log(f"{existing} was trained from the same labels and settings already; it is used as it is")
            return existing, False
        trained = _train(lab, specification, wanted, log)
        set_current(lab.layout, trained)
        return trained, True


def _train(lab: Lab, specification: ModelSpecification, manifest: Manifest, log: Callable[[str], None]) -> ModelVersion:
    from dlc_assets.engine.network_training import configured, train_network
    from dlc_assets.engine.weights import initial_weights
    from dlc_assets.engine.workspace import pytorch_config_file, read_pytorch_config

    dataset = need_dataset(lab, manifest.key)
    work = lab.layout.training_work(manifest.key, manifest.input_hash)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    project = work / PROJECT
    shutil.copytree(lab.layout.datasets(manifest.key) / dataset.details["folder"] / PROJECT, project)
    settings = {**specification.training.model_dump(), **manifest.overrides}
    start = initial_weights(
        configured(read_pytorch_config(pytorch_config_file(project)), specification.pytorch_config),
        _source(lab, specification),
        work / "initial_weights.pt",
        seed=settings["seed"],
    )
    log(start.summary)
    progress = LoggedProgress(log, f"training {manifest.key}", "epochs", every=5.0)
    trained = train_network(
        project,
        weights_file=start.file,
        epochs=settings["epochs"],
        batch_size=settings["batch_size"],
        save_epochs=settings["save_epochs"],
        max_snapshots=settings["max_snapshots"],
        seed=settings["seed"],
        pytorch_config=specification.pytorch_config,
        device=None,
        on_epoch=lambda stats: progress(stats.epoch, stats.epochs, _epoch_words(stats)),
    )
    manifest.details = {
        **{key: dataset.details[key] for key in ("project", "bodyparts", "skeleton", "pcutoff", "net_type", "scorers")},
        "individuals": [],
        "dataset": dataset.details["folder"],
        "label_hash": dataset.inputs["labels"],
        "epoch": trained.epoch,
        "training": settings,
        "weights": specification.weights,
        "weights_report": {
            "loaded": len(start.loaded),
            "from random numbers": len(start.missing),
            "not found in the file": list(start.missing) if start.loaded else [],
            "unused": list(start.unused),
        },
        "specification": specification.model_dump(mode="json"),
        "training_seconds": round(trained.seconds, 1),
        "software": {name: version(name) for name in ("deeplabcut", "torch", "timm")},
    }
    # Training ends now; the manifest was begun before it.
    manifest.made = datetime.now(UTC).isoformat(timespec="seconds")
    stored = _store(lab, manifest, trained)
    shutil.rmtree(work, ignore_errors=True)
    return stored


def _epoch_words(stats: EpochStats) -> str:
    words = [f"loss {stats.train_loss:.4g}"]
    if "rmse" in stats.validation:
        words.append(f"validation error {stats.validation['rmse']:.3g} px")
    return ", ".join(words)


def _source(lab: Lab, specification: ModelSpecification) -> Any:
    from dlc_assets.engine.weights import WeightsSource

    kind, _, name = specification.weights.partition(":")
    if kind == "model":
        return WeightsSource("file", find_version(lab.layout, name).snapshot)
    if kind == "file":
        return WeightsSource("file", _weights_file(lab, name))
    return WeightsSource("imagenet" if kind == "imagenet" else "random")


def _store(lab: Lab, manifest: Manifest, trained: TrainedNetwork) -> ModelVersion:
    """Put a trained network in its version's folder; the same weights and configuration again are the same version."""
    import yaml

    config_file = trained.snapshot.with_name("version_config.yaml")
    config_file.write_text(yaml.safe_dump(_portable(trained.pytorch_config), sort_keys=True), encoding="utf-8")
    name = version_of(trained.snapshot, config_file)
    stored = ModelVersion(manifest.key, name, lab.layout.version(manifest.key, name))
    manifest.data_version = name
    manifest.details["scorer"] = f"{manifest.key}_{name}"
    earlier = read_manifest(stored.folder)
    if earlier is not None:
        # Other inputs gave the same network (a benchmark frame was relabeled, say): it stays, its card says what it answers to now.
        manifest.details["also_trained_from"] = [*earlier.details.get("also_trained_from", []), earlier.inputs]
        manifest.details["snapshots"] = earlier.details.get("snapshots") or _kept(stored.folder, trained)
        manifest.write(stored.folder)
        return stored
    with atomic_folder(stored.folder) as partial:
        shutil.copyfile(trained.snapshot, partial / SNAPSHOT)
        shutil.copyfile(config_file, partial / PYTORCH_CONFIG)
        shutil.copyfile(trained.learning_stats, partial / LEARNING_STATS)
        manifest.details["snapshots"] = _kept(partial, trained)
        manifest.write(partial)
    return stored


def _kept(folder: Path, trained: TrainedNetwork) -> list[dict[str, Any]]:
    """Copy the snapshots beside the best one into a version's *folder*; return what its card says of them."""
    rows = []
    for epoch, snapshot in trained.other_snapshots.items():
        file = f"{SNAPSHOTS}/snapshot-{epoch:03}.pt"
        with atomic_path(folder / file) as partial:
            shutil.copyfile(snapshot, partial)
        rows.append({"epoch": epoch, "file": file, "sha256": sha256_file(snapshot)})
    return rows


def _portable(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a pytorch_config without the paths of the machine that trained: they would change every version's hash."""
    metadata = {
        key: ("" if key in {"project_path", "pose_config_path"} else value)
        for key, value in dict(config.get("metadata") or {}).items()
    }
    return {**config, "metadata": metadata, "resume_training_from": None}
