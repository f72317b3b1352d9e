"""Training datasets: a DeepLabCut project made in the store from the labels that one model uses."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dlc_assets.lab.errors import NotFoundError
from dlc_assets.lab.files import atomic_folder, content_hash, write_json, write_text
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.manifest import Manifest, read_manifest
from dlc_assets.lab.specification import ModelSpecification
from dlc_assets.training.labels import LabelSet, read_label_set
from dlc_assets.training.models import read_current
from dlc_assets.training.project import read_project
from dlc_assets.training.split import Split, split_frames

PROJECT = "project"
FRAMES = "frames.json"
HELD_OUT = "held-out"  # benchmark frames lie here: DeepLabCut never sees them
_CURRENT = "current"


def label_set_of(lab: Lab, model: str) -> LabelSet:
    """Read the labeled frames that *model*'s specification chooses."""
    specification = lab.specification(model)
    project = read_project(lab.project_config(model))
    return read_label_set(project, videos=specification.label_set.videos, scorers=specification.label_set.scorers)


def dataset_inputs(lab: Lab, model: str, labels: LabelSet | None = None) -> dict[str, str]:
    """Return the hashes that a training dataset of *model* is made from."""
    specification = lab.specification(model)
    labels = labels or label_set_of(lab, model)
    return {
        "labels": labels.content_hash,
        "project": content_hash(
            [
                labels.project.task,
                labels.project.date,
                labels.bodyparts,
                labels.project.skeleton,
                labels.project.pcutoff,
            ]
        ),
        "split": content_hash(specification.split.model_dump()),
        "net_type": specification.net_type,
    }


def current_dataset(lab: Lab, model: str) -> Manifest | None:
    """Return the manifest of the dataset that was made last for *model*, None when there is none."""
    name = read_current(lab.layout.datasets(model) / _CURRENT)
    return None if name is None else read_manifest(lab.layout.datasets(model) / name)


def need_dataset(lab: Lab, model: str) -> Manifest:
    """Return the manifest of the dataset that was made last for *model*, or say that it must be made first."""
    manifest = current_dataset(lab, model)
    if manifest is None:
        raise NotFoundError(
            f"there is no training dataset of {model} yet: materialize training_dataset for it, or run "
            f"`dlc-assets train {model}`, which makes it first."
        )
    return manifest


def make_dataset(lab: Lab, model: str, *, run_id: str, log: Callable[[str], None]) -> Manifest:
    """Make the training dataset of *model* and make it the current one; one that exists with the same inputs is used."""
    specification = lab.specification(model)
    labels = label_set_of(lab, model)
    manifest = Manifest(
        asset="training_dataset",
        key=model,
        inputs=dataset_inputs(lab, model, labels),
        data_version="",
        run_id=run_id,
    )
    folder = lab.layout.dataset(model, manifest.input_hash)
    existing = read_manifest(folder)
    if existing is None:
        split = _split(labels, specification)
        log(f"{len(labels.images)} labeled frames. {split.note}")
        existing = _build(lab, labels, split, specification, manifest)
    else:
        log("the training dataset with these labels, split and network exists already; it is used as it is")
    write_text(lab.layout.datasets(model) / _CURRENT, folder.name + "\n")
    return existing


def _split(labels: LabelSet, specification: ModelSpecification) -> Split:
    shares = specification.split
    return split_frames(
        labels.images,
        by=shares.by,
        train=shares.train,
        validation=shares.validation,
        benchmark=shares.benchmark,
        seed=shares.seed,
    )


def _build(lab: Lab, labels: LabelSet, split: Split, specification: ModelSpecification, manifest: Manifest) -> Manifest:
    from dlc_assets.engine.workspace import ProjectContent, make_training_dataset

    content = ProjectContent(
        task=labels.project.task,
        scorer=labels.project.scorer,
        date=labels.project.date,
        bodyparts=labels.bodyparts,
        skeleton=labels.project.skeleton,
        pcutoff=labels.project.pcutoff,
        images=[(image.folder, image.name, image.path, image.xy) for image in labels.images],
        train=split.sets["train"],
        validation=split.sets["validation"],
    )
    folder = lab.layout.dataset(manifest.key, manifest.input_hash)
    with atomic_folder(folder) as partial:
        project = partial / PROJECT
        project.mkdir()
        made = make_training_dataset(project, content, net_type=specification.net_type)
        _copy_held_out(labels, split, partial / HELD_OUT)
        write_json(partial / FRAMES, _frames(labels, split))
        manifest.data_version = content_hash(manifest.inputs)
        manifest.details = {
            "project": labels.project.task,
            "config_path": str(labels.project.config_path),
            "folder": folder.name,
            "net_type": specification.net_type,
            "bodyparts": list(labels.bodyparts),
            "skeleton": [list(edge) for edge in labels.project.skeleton],
            "pcutoff": labels.project.pcutoff,
            "scorers": sorted({image.scorer for image in labels.images}),
            "images": len(labels.images),
            "sets": {name: len(indices) for name, indices in split.sets.items()},
            "split": {"how": split.how, "note": split.note},
            "labels_of_bodyparts": _labels_of_bodyparts(labels),
            "counts": label_counts(labels),
            "deeplabcut_version": made["deeplabcut_version"],
        }
        manifest.problems = dropped_labels(labels)
        manifest.write(partial)
    return manifest


def _copy_held_out(labels: LabelSet, split: Split, destination: Path) -> None:
    for index in split.sets["benchmark"]:
        image = labels.images[index]
        (destination / image.folder).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(image.path, destination / image.folder / image.name)


def image_of_frame(dataset: Path, frame: dict[str, Any]) -> Path:
    """Return where a frame's image lies in the dataset folder *dataset*."""
    above = dataset / HELD_OUT if frame["set"] == "benchmark" else dataset / PROJECT / "labeled-data"
    return above / frame["folder"] / frame["image"]


def _frames(labels: LabelSet, split: Split) -> list[dict[str, Any]]:
    """Return one entry a labeled frame: where its copy lies in the dataset's project, its set and its coordinates."""
    set_of = {index: name for name, indices in split.sets.items() for index in indices}
    return [
        {
            "folder": image.folder,
            "image": image.name,
            "scorer": image.scorer,
            "set": set_of[index],
            "xy": [[None if np.isnan(value) else value for value in point] for point in image.xy.tolist()],
        }
        for index, image in enumerate(labels.images)
    ]


def _labels_of_bodyparts(labels: LabelSet) -> dict[str, int]:
    placed = np.stack([~np.isnan(image.xy).any(axis=1) for image in labels.images])
    return dict(zip(labels.bodyparts, placed.sum(axis=0).tolist(), strict=True))


def label_counts(labels: LabelSet) -> list[dict[str, Any]]:
    """Return one row a (folder, scorer): labeled frames found, used, and dropped with the reasons."""
    return [
        {
            "folder": count.folder,
            "scorer": count.scorer,
            "found": count.found,
            "used": count.used,
            "dropped": sum(count.dropped.values()),
            "reasons": "; ".join(f"{number} {reason}" for reason, number in sorted(count.dropped.items())),
        }
        for count in labels.counts
    ]


def dropped_labels(labels: LabelSet) -> list[str]:
    """Return a sentence for each folder and scorer of which frames were dropped."""
    return [
        f"{row['folder']} ({row['scorer']}): {row['dropped']} of {row['found']} labeled frames not used: {row['reasons']}"
        for row in label_counts(labels)
        if row["dropped"]
    ]
