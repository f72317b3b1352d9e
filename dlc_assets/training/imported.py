"""Model versions of networks that were trained elsewhere: taken as they are, or known by their results alone."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from importlib.metadata import version as installed
from pathlib import Path
from typing import Any

import yaml

from dlc_assets.adoption.network_folders import (
    NetworkFolder,
    SnapshotFile,
    chosen_snapshot,
    network_folder,
    read_pose_cfg,
)
from dlc_assets.engine.detectors import DETECTOR
from dlc_assets.engine.workspace import portable_config, read_pytorch_config
from dlc_assets.lab.errors import InputError
from dlc_assets.lab.files import atomic_folder, content_hash, sha256_file, sha256_unchanged_file
from dlc_assets.lab.imported_network import ImportedNetwork
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.locks import hold
from dlc_assets.lab.manifest import Manifest, read_manifest
from dlc_assets.training.dataset import need_dataset
from dlc_assets.training.imported_dataset import network_bodyparts, why_not_known, why_without_labels
from dlc_assets.training.models import (
    LEARNING_STATS,
    PYTORCH_CONFIG,
    SNAPSHOT,
    ModelVersion,
    current_version,
    set_current,
    version_of,
)
from dlc_assets.training.project import DlcProject, read_project

_DEFAULT_PCUTOFF = 0.6  # DeepLabCut's own
_VERSION_DIGITS = 12
_TENSORFLOW = (
    "it was trained with TensorFlow, whose networks DeepLabCut 3 does not run here. Its poses can be imported; to analyse new "
    "videos, train a network from the same labels (a specification without `import`)."
)
_RESULTS_ONLY = (
    "only results of it are left. They can be imported; to analyse new videos, import the trained network, or train one from "
    "labels."
)
_SEVERAL_ANIMALS = "it looks for several animals, which are not told apart over time here. Analyse with DeepLabCut and import its results."


def import_inputs(lab: Lab, model: str) -> dict[str, str]:
    """Return the hashes that the current version of an imported *model* should have been made from.

    Raises
    ------
    NotFoundError
        The network, or the dataset that says what it has seen, is not there.
    """
    imported = _block(lab, model)
    inputs = {
        "training dataset": need_dataset(lab, model).data_version,
        "import": _block_hash(imported),
    }
    if imported.results_only:
        return inputs
    network, snapshot, detector = _files(lab, model, imported)
    files = [network.configuration, *([] if imported.engine == "tensorflow" else [snapshot.path])]
    files += [detector.path] if detector is not None else []
    return {**inputs, "network": content_hash([snapshot.name, *(sha256_unchanged_file(file) for file in files)])}


def _block_hash(imported: ImportedNetwork) -> str:
    return content_hash(imported.model_dump(mode="json", exclude={"trained_on"}))  # that is part of the dataset


def is_what_is_imported(lab: Lab, version: ModelVersion) -> bool:
    """Say whether *version* was imported, and by the block that its specification has now."""
    imported = lab.specification(version.model).imported
    return imported is not None and version.manifest.inputs.get("import") == _block_hash(imported)


def import_model(lab: Lab, model: str, *, run_id: str, log: Callable[[str], None]) -> tuple[ModelVersion, bool]:
    """Make the network that the specification of *model* imports its current version, without training anything.

    Returns
    -------
    tuple
        The version, and whether it was imported now (False: it is there already).

    Raises
    ------
    NotFoundError
        The project, the network or its snapshot is not there.
    InputError
        A file is damaged, holds more than tensors, or does not fit the others or the project's body parts.
    """
    with hold(lab.layout.lock("train", model), f"importing {model}", log=log):
        imported = _block(lab, model)
        wanted = Manifest(
            asset="trained_model", key=model, inputs=import_inputs(lab, model), data_version="", run_id=run_id
        )
        existing = current_version(lab.layout, model)
        if existing is not None and existing.manifest.input_hash == wanted.input_hash:
            log(f"{existing} is imported already; it is used as it is")
            return existing, False
        wanted.details = _common(lab, model)
        if imported.results_only:
            found = _register(lab, wanted, _results_only(imported))
        elif imported.engine == "tensorflow":
            found = _register(lab, wanted, _tensorflow(lab, model, imported))
        else:
            found = _take(lab, wanted, imported, log)
        set_current(lab.layout, found)
        log(f"{found} is imported" + ("" if found.runnable else f"; it does not run here: {found.why_not_runnable}"))
        return found, True


def _block(lab: Lab, model: str) -> ImportedNetwork:
    imported = lab.specification(model).imported
    if imported is None:
        raise InputError(
            f"{lab.layout.specification(model)} has no `import` block: its model is trained, not imported."
        )
    return imported


def _files(lab: Lab, model: str, imported: ImportedNetwork) -> tuple[NetworkFolder, SnapshotFile, SnapshotFile | None]:
    where = str(lab.layout.specification(model))
    network = network_folder(read_project(lab.project_config(model)), imported, where)
    snapshot = chosen_snapshot(network, imported.snapshot, where)
    if imported.engine == "tensorflow" or not _is_top_down(network.configuration):
        return network, snapshot, None
    return network, snapshot, chosen_snapshot(network, imported.detector_snapshot, where, detector=True)


def _is_top_down(pytorch_config: Path) -> bool:
    return str(read_pytorch_config(pytorch_config).get("method", "bu")).lower() == "td"


def _common(lab: Lab, model: str) -> dict[str, Any]:
    """Return what every imported version's card says, trained networks' keys among them."""
    specification = lab.specification(model)
    dataset = need_dataset(lab, model)
    project = read_project(lab.project_config(model)) if specification.project else None
    return {
        "project": project.task if project is not None else "",
        "project_name": specification.project,
        "skeleton": [list(edge) for edge in project.skeleton] if project is not None else [],
        "pcutoff": project.pcutoff if project is not None else _DEFAULT_PCUTOFF,
        "scorers": dataset.details["scorers"],
        "dataset": dataset.details["folder"],
        "label_hash": dataset.inputs["labels"],
        "training_frames_unknown": why_not_known(dataset),
        "without_labels": why_without_labels(dataset),
        "training": {},
        "training_seconds": None,
        "weights": "trained elsewhere",
        "weights_report": {},
        "specification": specification.model_dump(mode="json", by_alias=True),
        "software": {},
    }


# --- a network that runs here ---------------------------------------------------------------------


def _take(lab: Lab, manifest: Manifest, imported: ImportedNetwork, log: Callable[[str], None]) -> ModelVersion:
    from dlc_assets.engine.imported_snapshot import check_it_can_be_built, network_facts

    model = manifest.key
    network, snapshot, detector = _files(lab, model, imported)
    work = lab.layout.training_work(model, manifest.input_hash)
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    try:
        # Copies are looked at, stored and hashed: the project may change meanwhile.
        files = {SNAPSHOT: snapshot.path, **({DETECTOR: detector.path} if detector is not None else {})}
        for name, source in files.items():
            log(f"copying {source}")
            shutil.copyfile(source, work / name)
        config = work / PYTORCH_CONFIG
        plain = portable_config(read_pytorch_config(network.configuration))
        config.write_text(yaml.safe_dump(plain, sort_keys=True), encoding="utf-8")
        stored_detector = work / DETECTOR if detector is not None else None
        facts = network_facts(config, work / SNAPSHOT, stored_detector)
        _check_bodyparts(facts.bodyparts, read_project(lab.project_config(model)), network)
        log(f"building the network ({facts.net_type}), as an analysis will")
        try:
            check_it_can_be_built(config, work / SNAPSHOT, stored_detector)
        except InputError as error:
            raise InputError(
                f"{network.configuration} and {snapshot.path.name} beside it do not make a network: {error} Was the shuffle made "
                "again after it was trained? State the snapshot and shuffle that belong together."
            ) from error
        several = len(facts.individuals) > 1 or bool(facts.unique_bodyparts)
        name = version_of(work / SNAPSHOT, config, stored_detector)
        manifest.data_version = name
        manifest.details |= {
            "net_type": facts.net_type,
            "bodyparts": list(facts.bodyparts),
            "individuals": list(facts.individuals) if several else [],
            "epoch": facts.epoch if facts.epoch is not None else snapshot.number,
            "last_epoch": network.snapshots[-1].number,
            "sha256": sha256_file(work / SNAPSHOT),
            "detector": None
            if detector is None or stored_detector is None
            else {"name": facts.detector, "epoch": detector.number, "sha256": sha256_file(stored_detector)},
            "scorer": f"{model}_{name}",
            "software": {"deeplabcut": installed("deeplabcut"), "torch": installed("torch")},
            "imported": _origin(network, snapshot, detector),
            **({"not_runnable": _SEVERAL_ANIMALS} if several else {}),
        }
        stats = network.folder / LEARNING_STATS
        if stats.is_file():
            shutil.copyfile(stats, work / LEARNING_STATS)
        return _store(lab, manifest, [*files, PYTORCH_CONFIG, *([LEARNING_STATS] if stats.is_file() else [])], work)
    finally:
        shutil.rmtree(work.parent, ignore_errors=True)


def _check_bodyparts(bodyparts: tuple[str, ...], project: DlcProject, network: NetworkFolder) -> None:
    known = {*project.bodyparts, *project.unique_bodyparts}
    strange = [name for name in bodyparts if name not in known]
    if strange:
        raise InputError(
            f"{network.configuration}: the network knows the body parts {', '.join(strange)}, and {project.config_path} has no such: "
            f"its body parts are {', '.join(project.bodyparts)}. Was a body part renamed since? Import it from a copy of the project "
            "with the old names, and say in lab.yaml's body_parts which names mean the same (`synonyms`)."
        )


def _origin(network: NetworkFolder, snapshot: SnapshotFile, detector: SnapshotFile | None) -> dict[str, Any]:
    return {
        "engine": network.engine,
        "iteration": network.iteration,
        "trainset_percent": network.percent,
        "shuffle": network.shuffle,
        "snapshot": snapshot.name,
        **({"detector_snapshot": detector.name} if detector is not None else {}),
        "folder": str(network.folder),
    }


def _store(lab: Lab, manifest: Manifest, names: list[str], work: Path) -> ModelVersion:
    stored = ModelVersion(manifest.key, manifest.data_version, lab.layout.version(manifest.key, manifest.data_version))
    if read_manifest(stored.folder) is not None:
        manifest.write(stored.folder)  # the same network: its card says what it answers to now
        return stored
    with atomic_folder(stored.folder) as partial:
        for name in names:
            shutil.copyfile(work / name, partial / name)
        manifest.write(partial)
    return stored


# --- networks of which there are results ----------------------------------------------------------


def _results_only(imported: ImportedNetwork) -> dict[str, Any]:
    return {
        "net_type": "unknown",
        "bodyparts": list(imported.bodyparts),
        "individuals": list(imported.individuals),
        "scorer": imported.scorer,
        "epoch": None,
        "not_runnable": _RESULTS_ONLY,
        "imported": {"engine": imported.engine, "results_only": True, "scorer": imported.scorer},
    }


def _tensorflow(lab: Lab, model: str, imported: ImportedNetwork) -> dict[str, Any]:
    network, snapshot, _ = _files(lab, model, imported)
    project = read_project(lab.project_config(model))
    config = read_pose_cfg(network.configuration)
    # The weights lie beside the index, in a file of hundreds of MB; they are named by their hash, and never loaded.
    hashes = {path.name: sha256_unchanged_file(path) for path in sorted(network.folder.glob(f"{snapshot.name}.*"))}
    return {
        "net_type": str(config.get("net_type") or "unknown"),
        "bodyparts": list(network_bodyparts(lab, model, project)),
        "individuals": list(project.individuals),
        "scorer": f"{network.engine} {snapshot.name}",
        "epoch": None,
        "not_runnable": _TENSORFLOW,
        "imported": {**_origin(network, snapshot, None), "sha256": hashes},
    }


def _register(lab: Lab, manifest: Manifest, facts: dict[str, Any]) -> ModelVersion:
    """Store a version that is a card alone; its name is the hash of what tells it from others."""
    identity = {name: facts[name] for name in ("net_type", "bodyparts", "individuals", "scorer")}
    origin = {name: value for name, value in facts["imported"].items() if name != "folder"}
    manifest.details |= facts
    manifest.data_version = content_hash([identity, origin])[:_VERSION_DIGITS]
    return _store(lab, manifest, [], Path())
