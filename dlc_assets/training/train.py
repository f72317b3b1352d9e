"""Training one model: from its dataset and starting weights to a new immutable version in the store."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlc_assets.engine.detectors import DETECTOR, DETECTOR_STATS
from dlc_assets.engine.workspace import portable_config
from dlc_assets.lab.errors import SettingsError
from dlc_assets.lab.files import (
    atomic_folder,
    atomic_path,
    content_hash,
    read_json,
    sha256_file,
    sha256_unchanged_file,
    write_json,
)
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.locks import hold
from dlc_assets.lab.manifest import Manifest, read_manifest
from dlc_assets.lab.specification import ModelSpecification
from dlc_assets.training.dataset import chosen_network_of, need_dataset
from dlc_assets.training.frozen import PROJECT
from dlc_assets.training.imported import import_inputs
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
from dlc_assets.training.training_progress import TrainingProgress

if TYPE_CHECKING:
    from dlc_assets.engine.memory_replay import MemoryReplay
    from dlc_assets.engine.network_training import TrainedNetwork

_BEGUN = "begun.json"  # written last: a work folder without it was never ready to be trained in
_INITIAL_WEIGHTS = "initial_weights.pt"
_DETECTOR_WEIGHTS = "initial_detector_weights.pt"


def training_inputs(lab: Lab, model: str) -> dict[str, str]:
    """Return the hashes that the current version of *model* should have been trained from, or imported from."""
    specification = lab.specification(model)
    if specification.imported is not None:
        return import_inputs(lab, model)
    return {
        "training dataset": need_dataset(lab, model).data_version,
        "weights": _weights_hash(lab, specification),
        "training": content_hash(specification.training.decisive()),
        "pytorch_config": content_hash(specification.pytorch_config),
    }


def _weights_hash(lab: Lab, specification: ModelSpecification) -> str:
    part = ", backbone only" if _backbone_only(specification) else ""
    return f"{_whole_weights_hash(lab, specification)}{part}"


def _backbone_only(specification: ModelSpecification) -> bool:
    return specification.weights_part == "backbone" and specification.weights not in {"imagenet", "random"}


def _whole_weights_hash(lab: Lab, specification: ModelSpecification) -> str:
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
        A run's own training settings (epochs, batch_size, save_epochs, seed, patience); they make the result "custom".
    recompute
        Train even though the current version was trained from the same inputs, and from the first epoch on. Otherwise a training of
        the same inputs that was broken off goes on from its last checkpoint.

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
        trained = _train(lab, specification, wanted, log, afresh=recompute)
        set_current(lab.layout, trained)
        return trained, True


def _train(
    lab: Lab, specification: ModelSpecification, manifest: Manifest, log: Callable[[str], None], *, afresh: bool
) -> ModelVersion:
    from dlc_assets.engine.network_training import train_network

    dataset = need_dataset(lab, manifest.key)
    work = lab.layout.training_work(manifest.key, manifest.input_hash)
    project = work / PROJECT
    made_project = lab.layout.datasets(manifest.key) / dataset.details["folder"] / PROJECT
    settings = {**specification.training.model_dump(), **manifest.overrides}
    if not afresh and (work / _BEGUN).is_file():
        _restore_configuration(made_project, project)
    else:
        _prepare(lab, specification, settings, work, made_project)
    weights = read_json(work / _BEGUN)["weights"]
    log(weights["summary"])
    progress = TrainingProgress(log, manifest.key)
    trained = train_network(
        project,
        weights_file=work / _INITIAL_WEIGHTS,
        detector_weights_file=work / _DETECTOR_WEIGHTS if (work / _DETECTOR_WEIGHTS).is_file() else None,
        detector_epochs=settings["detector_epochs"],
        detector_batch_size=settings["detector_batch_size"],
        replay=_memory_replay(specification, dataset),
        epochs=settings["epochs"],
        batch_size=settings["batch_size"],
        save_epochs=settings["save_epochs"],
        max_snapshots=settings["max_snapshots"],
        patience=settings["patience"],
        seed=settings["seed"],
        pytorch_config=specification.pytorch_config,
        device=None,
        on_epoch=progress.on_epoch,
        on_batch=progress.on_batch,
        resume=True,
        log=lambda sentence: log(f"{manifest.key}: {sentence}"),
    )
    manifest.details = {
        **{key: dataset.details[key] for key in ("project", "bodyparts", "skeleton", "pcutoff", "net_type", "scorers")},
        "individuals": [],
        "project_name": dataset.details.get("project_name", specification.project),
        "dataset": dataset.details["folder"],
        "label_hash": dataset.inputs["labels"],
        "epoch": trained.epoch,
        "last_epoch": trained.last_epoch,
        "stopped_early": trained.stopped_early,
        "resumed_at": list(trained.resumed_at),
        **({"detector_resumed_at": list(at)} if (at := trained.detector_resumed_at) else {}),
        "sha256": sha256_file(trained.snapshot),
        "detector": _detector_card(trained, dataset.details.get("detector")),
        "training": settings,
        "weights": specification.weights,
        "weights_report": weights["report"],
        "specification": specification.model_dump(mode="json"),
        "training_seconds": round(trained.seconds, 1),
        "software": {name: version(name) for name in ("deeplabcut", "torch", "timm")},
    }
    # Training ends now; the manifest was begun before it.
    manifest.made = datetime.now(UTC).isoformat(timespec="seconds")
    stored = _store(lab, manifest, trained)
    shutil.rmtree(work.parent, ignore_errors=True)  # with what was broken off for labels or settings of before
    return stored


def _prepare(
    lab: Lab, specification: ModelSpecification, settings: Mapping[str, Any], work: Path, made_project: Path
) -> None:
    """Make *work* the place of a training that has not begun: the dataset's project, and the weights to begin with."""
    from dlc_assets.engine.network_training import configured
    from dlc_assets.engine.weights import initial_detector_weights, initial_weights
    from dlc_assets.engine.workspace import pytorch_config_file, read_pytorch_config

    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    project = work / PROJECT
    shutil.copytree(made_project, project)
    config = configured(read_pytorch_config(pytorch_config_file(project)), specification.pytorch_config)
    source = _source(lab, specification)
    start = initial_weights(
        config, source, work / _INITIAL_WEIGHTS, seed=settings["seed"], memory_replay=specification.memory_replay
    )
    detector = initial_detector_weights(config, source, work / _DETECTOR_WEIGHTS, seed=settings["seed"])
    report = {
        "loaded": len(start.loaded),
        "from random numbers": len(start.missing),
        "not found in the file": list(start.missing) if start.loaded else [],
        "unused": list(start.unused),
    }
    if detector is not None:
        report["detector"] = detector.summary
    summary = f"{start.summary} {detector.summary}" if detector is not None else start.summary
    write_json(work / _BEGUN, {"weights": {"summary": summary, "report": report}})


def _restore_configuration(made_project: Path, project: Path) -> None:
    """Give a training that goes on the configuration it began with: DeepLabCut may have died while it wrote the file."""
    from dlc_assets.engine.workspace import pytorch_config_file

    made = pytorch_config_file(made_project)
    with atomic_path(project / made.relative_to(made_project)) as partial:
        shutil.copyfile(made, partial)


def _source(lab: Lab, specification: ModelSpecification) -> Any:
    from dlc_assets.engine.weights import WeightsSource

    kind, _, name = specification.weights.partition(":")
    backbone_only = _backbone_only(specification)
    if kind == "model":
        before = find_version(lab.layout, name)
        return WeightsSource(
            "file",
            before.snapshot_file("best"),
            backbone_only=backbone_only,
            detector_path=before.detector if _same_detector(before, specification) else None,
        )
    if kind == "file":
        return WeightsSource("file", _weights_file(lab, name), backbone_only=backbone_only)
    if kind.startswith("superanimal_"):
        return WeightsSource("superanimal", superanimal=kind, backbone_only=backbone_only)
    return WeightsSource("imagenet" if kind == "imagenet" else "random")


def _memory_replay(specification: ModelSpecification, dataset: Manifest) -> MemoryReplay | None:
    if not specification.memory_replay:
        return None
    from dlc_assets.engine.memory_replay import MemoryReplay
    from dlc_assets.engine.weights import superanimal_file

    chosen = chosen_network_of(specification)
    counts = dataset.details["labels_of_bodyparts"]
    return MemoryReplay(
        superanimal=specification.weights,
        snapshot=superanimal_file(specification.weights, chosen.net.network),
        detector=superanimal_file(specification.weights, str(chosen.detector)),
        bodyparts=dataset.details["bodyparts"],
        labeled=[name for name, count in counts.items() if count],
    )


def _same_detector(before: ModelVersion, specification: ModelSpecification) -> bool:
    return before.detector is not None and before.card["detector"]["name"] == chosen_network_of(specification).detector


def _store(lab: Lab, manifest: Manifest, trained: TrainedNetwork) -> ModelVersion:
    """Put a trained network in its version's folder; the same weights and configuration again are the same version."""
    import yaml

    config_file = trained.snapshot.with_name("version_config.yaml")
    config_file.write_text(yaml.safe_dump(portable_config(trained.pytorch_config), sort_keys=True), encoding="utf-8")
    name = version_of(trained.snapshot, config_file, trained.detector)
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
        if trained.detector is not None:
            shutil.copyfile(trained.detector, partial / DETECTOR)
            shutil.copyfile(trained.learning_stats.with_name(DETECTOR_STATS), partial / DETECTOR_STATS)
        shutil.copyfile(trained.learning_stats, partial / LEARNING_STATS)
        manifest.details["snapshots"] = _kept(partial, trained)
        manifest.write(partial)
    return stored


def _detector_card(trained: TrainedNetwork, name: str | None) -> dict[str, Any] | None:
    if trained.detector is None:
        return None
    return {"name": name, "epoch": trained.detector_epoch, "sha256": sha256_file(trained.detector)}


def _kept(folder: Path, trained: TrainedNetwork) -> list[dict[str, Any]]:
    """Copy the snapshots beside the best one into a version's *folder*; return what its card says of them."""
    rows = []
    for epoch, snapshot in trained.other_snapshots.items():
        file = f"{SNAPSHOTS}/snapshot-{epoch:03}.pt"
        with atomic_path(folder / file) as partial:
            shutil.copyfile(snapshot, partial)
        rows.append({"epoch": epoch, "file": file, "sha256": sha256_file(snapshot)})
    return rows
