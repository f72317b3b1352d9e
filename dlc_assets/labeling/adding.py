"""Putting a batch of frames into the lab's project, where labeling tools open it: files are added, and none that is there is touched.

Frames of a video that the project has labels of go into that video's folder, as DeepLabCut puts them: in another folder they would
count as another video, and a model could be scored on a video that it learned from. All others get a folder of their own. config.yaml
is not touched: neither its iteration, which DeepLabCut advances once the frames are corrected, nor its list of videos.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import Any

from dlc_assets.lab.errors import EnvironmentProblem, InputError
from dlc_assets.lab.files import atomic_folder, atomic_path, sha256_file
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.locks import hold
from dlc_assets.lab.manifest import Manifest
from dlc_assets.labeling.appearance import images_below
from dlc_assets.labeling.batch import batch_folder
from dlc_assets.labeling.dlc_folder import LABELED_DATA, MACHINE, MACHINE_CSV, of_folder, read_labels, write_labels
from dlc_assets.training.labels import image_hash
from dlc_assets.training.project import read_project


@dataclass
class Added:
    """What was done with the folders of a batch.

    Attributes
    ----------
    labeled_data
        The project's folder of labels.
    added
        Folder of the project and how many pictures were put there.
    already
        Folder of the project that has pictures of the batch already, and how many; nothing was put there.
    problems
        Sentences about folders that could not be put there.
    notes
        Sentences about what a person has to do for the labels to count.
    """

    labeled_data: Path
    added: dict[str, int] = field(default_factory=dict)
    already: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def add_to_project(lab: Lab, manifest: Manifest) -> Added:
    """Copy the folders of the batch of *manifest* into the labeled-data of its model's project.

    What is there already, under whatever name, is left as it is and not copied again.

    Raises
    ------
    InputError
        The project has no labeled-data, or the batch is damaged.
    EnvironmentProblem
        The project cannot be written, or the disk is full; folders that were finished before stay.
    """
    project = read_project(lab.project_config(manifest.key))
    labeled_data = project.root / LABELED_DATA
    if not labeled_data.is_dir():
        raise InputError(
            f"{labeled_data} does not exist: frames are added to the project's labels, which lie there. Bring it back."
        )
    batch = batch_folder(lab, manifest)
    with hold(lab.layout.lock("adding_frames", manifest.key), f"adding frames to {labeled_data}"):
        done = Added(labeled_data)
        there = _contents(labeled_data)
        for folder in manifest.details["folders"]:
            rows = [row for row in manifest.details["frames"] if row["folder"] == folder["folder"]]
            _check(batch, rows)
            holding = [there[row["sha256"]] for row in rows if row["sha256"] in there]
            if holding:
                done.already[holding[0]] = len(holding)
                continue
            try:
                done.added[_add(batch / LABELED_DATA / folder["folder"], labeled_data, folder, manifest)] = len(rows)
            except InputError as error:
                done.problems.append(str(error))
            except OSError as error:
                raise EnvironmentProblem(_not_written(labeled_data, batch, error)) from error
        done.notes = _notes(lab, manifest.key, done)
    return done


def _contents(labeled_data: Path) -> dict[str, str]:
    """Return the folder of each picture that the project has, by the picture's sha256 (hex)."""
    return {image_hash(path): path.parent.name for path in images_below(labeled_data)}


def _check(batch: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Raise an InputError where a picture of the batch is not as it was written."""
    for row in rows:
        path = batch / LABELED_DATA / row["folder"] / row["image"]
        if not path.is_file() or sha256_file(path) != row["sha256"]:
            raise InputError(
                f"{path} {'has changed' if path.is_file() else 'is missing'}: remove {batch} and choose the frames again."
            )


def _add(source: Path, labeled_data: Path, folder: dict[str, Any], manifest: Manifest) -> str:
    """Put one folder of a batch into the project; return its name there."""
    pictures = [path for path in sorted(source.iterdir()) if path.suffix not in {".h5", ".csv"}]
    labels = [path for path in sorted(source.iterdir()) if path.suffix == ".h5"]
    beside = labeled_data / folder["folder"]
    if folder["beside_labels"] and beside.is_dir():
        _add_beside(pictures, labels, beside, manifest.details["batch"])
        return beside.name
    name = _free(folder["folder"], labeled_data)
    with atomic_folder(labeled_data / name) as partial:
        for path in pictures:
            shutil.copyfile(path, partial / path.name)
        for path in labels:
            csv = MACHINE_CSV if _is_by_machine(path) else f"{path.stem}.csv"
            write_labels(of_folder(read_labels(path), name), partial / path.name, partial / csv)
    return name


def _add_beside(pictures: Sequence[Path], labels: Sequence[Path], folder: Path, batch: str) -> None:
    """Put pictures and machine labels into a folder that has labels: the machine labels last, so that they are of whole pictures."""
    for path in pictures:
        if (folder / path.name).exists():
            raise InputError(
                f"{folder / path.name} is there already, and shows something else than the frame of that number in the video: nothing "
                f"was put into {folder.name}. Rename it, with its label, or label the frames where they are: {path.parent}."
            )
    if by_people := [path for path in labels if not _is_by_machine(path)]:
        raise InputError(
            f"{by_people[0]} holds labels that were made in the store, and {folder} has labels of its own: copy the pictures, and merge "
            "the labels in napari-deeplabcut."
        )
    for path in pictures:
        with atomic_path(folder / path.name) as partial:
            shutil.copyfile(path, partial)
    for path in labels:
        name = f"{path.stem}-{batch}.h5" if (folder / path.name).exists() else path.name
        with atomic_path(folder / name) as partial:
            # Without a csv: the folder may have one that is of other frames.
            write_labels(of_folder(read_labels(path), folder.name), partial)


def _is_by_machine(labels: Path) -> bool:
    return labels.name.startswith(MACHINE)


def _free(name: str, labeled_data: Path) -> str:
    """Return *name*, or with a number after it where the project got a folder of that name meanwhile."""
    taken = {path.name.casefold() for path in labeled_data.iterdir()}
    number, free = 1, name
    while free.casefold() in taken:
        number += 1
        free = f"{name}_{number}"
    return free


def _notes(lab: Lab, model: str, done: Added) -> list[str]:
    said = []
    chosen = lab.specification(model).label_set
    folders = [*done.added, *done.already]
    listed = (
        folders
        if chosen.videos == "all"
        else {part for video in chosen.videos for part in (video, PureWindowsPath(video).stem)}
    )
    if missing := [name for name in folders if name not in listed]:
        said.append(
            f"{lab.layout.specification(model)} lists its videos: add {', '.join(missing)} to label_set.videos, or these labels "
            "are not used."
        )
    return said


def _not_written(labeled_data: Path, batch: Path, error: OSError) -> str:
    reason = error.strerror or str(error)
    writable = "" if os.access(labeled_data, os.W_OK) else " You may not write there."
    return (
        f"Frames could not be added to {labeled_data}: {reason}.{writable} Ask whoever owns the project to copy the folders of "
        f"{batch / LABELED_DATA} into it, or label them where they are."
    )
