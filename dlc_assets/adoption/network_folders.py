"""Where a DeepLabCut project keeps its trained networks: one folder for each iteration, split and shuffle, of either engine.

PyTorch: ``dlc-models-pytorch/iteration-0/<Task><date>-trainset95shuffle1/train/``; TensorFlow: ``dlc-models/`` and the same below.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from dlc_assets.lab.errors import InputError, NotFoundError
from dlc_assets.lab.imported_network import ImportedNetwork
from dlc_assets.training.project import DlcProject

Engine = Literal["pytorch", "tensorflow"]

MODEL_FOLDERS: dict[Engine, str] = {"pytorch": "dlc-models-pytorch", "tensorflow": "dlc-models"}
CONFIGURATION: dict[Engine, str] = {"pytorch": "pytorch_config.yaml", "tensorflow": "pose_cfg.yaml"}
_ITERATION = re.compile(r"iteration-(\d+)")
_SHUFFLE = re.compile(r"(?P<task>.+)-trainset(?P<percent>\d+)shuffle(?P<shuffle>\d+)")
_SNAPSHOT: dict[Engine, re.Pattern[str]] = {
    "pytorch": re.compile(r"snapshot(?P<detector>-detector)?(?P<best>-best)?-(?P<number>\d+)\.pt"),
    # TensorFlow writes three files of one name; the index is the one without which the others are of no use.
    "tensorflow": re.compile(r"snapshot(?P<detector>-detector)?(?P<best>-best)?-(?P<number>\d+)\.index"),
}


@dataclass(frozen=True)
class SnapshotFile:
    """One snapshot of a network: of epoch *number* (PyTorch) or iteration *number* (TensorFlow)."""

    path: Path
    number: int
    best: bool

    @property
    def name(self) -> str:
        """The name that DeepLabCut knows it by, without suffix."""
        return self.path.stem


@dataclass(frozen=True)
class NetworkFolder:
    """What one shuffle was trained to.

    Parameters
    ----------
    percent
        The training fraction as the folder's name has it.
    folder
        The ``train`` folder.
    snapshots, detector_snapshots
        By number; `best` ones among them.
    """

    engine: Engine
    iteration: int
    percent: int
    shuffle: int
    folder: Path
    snapshots: tuple[SnapshotFile, ...]
    detector_snapshots: tuple[SnapshotFile, ...] = ()

    @property
    def configuration(self) -> Path:
        """``pytorch_config.yaml`` or ``pose_cfg.yaml``; it may be missing."""
        return self.folder / CONFIGURATION[self.engine]

    def __str__(self) -> str:
        return f"iteration {self.iteration}, trainset {self.percent} %, shuffle {self.shuffle} ({self.engine})"


def network_folders(project: Path) -> list[NetworkFolder]:
    """Return every shuffle of *project* (its folder) that was prepared for training, whether it has snapshots or not."""
    found = []
    for engine, name in MODEL_FOLDERS.items():
        for folder in sorted((project / name).glob("iteration-*/*/train")):
            iteration = _ITERATION.fullmatch(folder.parent.parent.name)
            shuffle = _SHUFFLE.fullmatch(folder.parent.name)
            if iteration is None or shuffle is None or not folder.is_dir():
                continue
            found.append(
                NetworkFolder(
                    engine=engine,
                    iteration=int(iteration[1]),
                    percent=int(shuffle["percent"]),
                    shuffle=int(shuffle["shuffle"]),
                    folder=folder,
                    snapshots=_snapshots(folder, engine, detector=False),
                    detector_snapshots=_snapshots(folder, engine, detector=True),
                )
            )
    return sorted(found, key=lambda found: (found.engine, found.iteration, found.shuffle, found.percent))


def _snapshots(folder: Path, engine: Engine, *, detector: bool) -> tuple[SnapshotFile, ...]:
    named = ((path, _SNAPSHOT[engine].fullmatch(path.name)) for path in folder.iterdir())
    snapshots = (
        SnapshotFile(path, int(name["number"]), name["best"] is not None)
        for path, name in named
        if name is not None and (name["detector"] is not None) == detector
    )
    return tuple(sorted(snapshots, key=lambda snapshot: (snapshot.number, snapshot.best)))


def network_folder(project: DlcProject, stated: ImportedNetwork, where: str) -> NetworkFolder:
    """Return the shuffle of *project* that *stated* means; *where* names the specification in errors.

    Raises
    ------
    NotFoundError
        There is none, or its configuration is gone.
    InputError
        Several fit: there are several training fractions.
    """
    known = network_folders(project.root)
    iteration = project.iteration if stated.iteration is None else stated.iteration
    fitting = [
        network
        for network in known
        if (network.engine, network.iteration, network.shuffle) == (stated.engine, iteration, stated.shuffle)
        and (stated.trainset_fraction is None or network.percent in _percents(stated.trainset_fraction))
    ]
    listed = "; ".join(map(str, known)) or f"none (no {' or '.join(MODEL_FOLDERS.values())} below {project.root})"
    fraction = "" if stated.trainset_fraction is None else f", trainset_fraction {stated.trainset_fraction:g}"
    asked = f"iteration {iteration}, shuffle {stated.shuffle}{fraction}, trained with {stated.engine}"
    if not fitting:
        raise NotFoundError(
            f"{where}: import: {project.root} has no network of {asked}. Networks there: {listed}. Correct the block, or copy the "
            "project's folder with its models."
        )
    if len(fitting) > 1:
        fractions = ", ".join(f"0.{network.percent:02d}" for network in fitting)
        raise InputError(
            f"{where}: import: {project.root} has {len(fitting)} networks of {asked}: state trainset_fraction ({fractions})."
        )
    network = fitting[0]
    if not network.configuration.is_file():
        raise NotFoundError(
            f"{where}: import: {network.configuration} is missing: without it nobody knows what the network is. Restore it, or state "
            "`results_only: true` with the scorer and body parts of its results."
        )
    return network


def read_pose_cfg(path: Path) -> dict[str, Any]:
    """Read the ``pose_cfg.yaml`` of a TensorFlow network; raises InputError where it is none."""
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(
            f"{path} cannot be read: {error}. Expected the pose_cfg.yaml that DeepLabCut wrote for the network."
        ) from error
    if not isinstance(config, dict):
        raise InputError(f"{path} holds no settings: expected the pose_cfg.yaml that DeepLabCut wrote for the network.")
    return config


def _percents(fraction: float) -> set[int]:
    return {int(100 * fraction), round(100 * fraction)}  # DeepLabCut cuts off, and 100 * 0.29 is 28.999...


def chosen_snapshot(network: NetworkFolder, which: str | int, where: str, *, detector: bool = False) -> SnapshotFile:
    """Return the snapshot of *network* that *which* means: best, last, a number, or a file name.

    ``best`` is the one that DeepLabCut marked as best; a network without such a mark (TensorFlow, early releases) has its last one.

    Raises
    ------
    NotFoundError
        There is no such snapshot.
    """
    snapshots = network.detector_snapshots if detector else network.snapshots
    of = "detector snapshot" if detector else "snapshot"
    if not snapshots:
        raise NotFoundError(
            f"{where}: import: {network.folder} holds no {of}: this shuffle was never trained, or its snapshots were deleted or moved. "
            "Restore them, or state `results_only: true` with the scorer and body parts of its results."
        )
    found = _named(snapshots, str(which))
    if found is None:
        listed = ", ".join(snapshot.name for snapshot in snapshots)
        raise NotFoundError(
            f'{where}: import: {network.folder} has no {of} "{which}". Expected best, last, a number or a name of: {listed}.'
        )
    return found


def _named(snapshots: Sequence[SnapshotFile], which: str) -> SnapshotFile | None:
    best = [snapshot for snapshot in snapshots if snapshot.best]
    if which == "best":
        return best[-1] if best else snapshots[-1]
    if which == "last":
        return snapshots[-1]
    for snapshot in snapshots:
        if which in {snapshot.name, snapshot.path.name} or (which.isdecimal() and int(which) == snapshot.number):
            return snapshot
    return None
