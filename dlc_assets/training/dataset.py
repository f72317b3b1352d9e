"""Training datasets: a DeepLabCut project made in the store from the labels that one model uses."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dlc_assets.engine.net_types import ChosenNetwork, chosen_network
from dlc_assets.lab.errors import InputError, NotFoundError, SettingsError
from dlc_assets.lab.files import atomic_folder, content_hash, read_json, write_json, write_text
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.locks import hold
from dlc_assets.lab.manifest import NAME as MANIFEST
from dlc_assets.lab.manifest import Manifest, read_manifest
from dlc_assets.lab.specification import ModelSpecification
from dlc_assets.training.assignments import PlannedSplit, keep_split, planned_split, split_hash
from dlc_assets.training.frozen import ASSIGNMENT, FRAMES, HELD_OUT, PROJECT
from dlc_assets.training.imported_dataset import imported_dataset_inputs, make_imported_dataset
from dlc_assets.training.labels import LabelSet, hash_of_labels, image_hash, read_label_set
from dlc_assets.training.models import read_current
from dlc_assets.training.project import read_project
from dlc_assets.training.split import LEARNED_FROM, Split

_CURRENT = "current"


def label_set_of(lab: Lab, model: str) -> LabelSet:
    """Read the labeled frames that *model*'s specification chooses."""
    specification = lab.specification(model)
    project = read_project(lab.project_config(model))
    chosen = specification.label_set
    labels = read_label_set(project, videos=chosen.videos, scorers=chosen.scorers, frames=chosen.frames)
    return _with_all_bodyparts(labels, chosen_network_of(specification)) if specification.memory_replay else labels


def _with_all_bodyparts(labels: LabelSet, chosen: ChosenNetwork) -> LabelSet:
    """Return *labels* with all body parts of the SuperAnimal that is remembered: unlabeled those that the project does not have."""
    from dlc_assets.engine.workspace import check_bodyparts, superanimal_bodyparts

    check_bodyparts(chosen, labels.bodyparts)
    known = superanimal_bodyparts(str(chosen.superanimal))
    places = [known.index(name) for name in labels.bodyparts]

    def spread(xy: np.ndarray) -> np.ndarray:
        every = np.full((len(known), 2), np.nan)
        every[places] = xy
        every.flags.writeable = False
        return every

    images = tuple(replace(image, xy=spread(image.xy)) for image in labels.images)
    return replace(labels, bodyparts=tuple(known), images=images)


def chosen_network_of(specification: ModelSpecification) -> ChosenNetwork:
    """Return the network that *specification* means.

    Raises
    ------
    SettingsError
        It is unknown, cannot be trained here, or its settings do not go together.
    """
    return chosen_network(
        specification.net_type,
        detector=specification.detector,
        weights=specification.weights,
        weights_part=specification.weights_part,
        memory_replay=specification.memory_replay,
    )


def dataset_inputs(lab: Lab, model: str, labels: LabelSet | None = None) -> dict[str, str]:
    """Return the hashes that a training dataset of *model* is made from: of what the network learns from or is checked on.

    Benchmark frames are no part of it, so that a corrected benchmark label changes no model. A dataset that an earlier release made
    of the same frames has inputs of another form; these are returned then, so that it stays up to date. Labels that cannot be divided
    (yet) count as a whole: making the dataset says why.
    """
    if lab.specification(model).imported is not None:
        return imported_dataset_inputs(lab, model)
    labels = labels or label_set_of(lab, model)
    try:
        plan = _planned(lab, model, labels)
    except InputError:
        return _inputs(lab, model, labels, None)
    return _inputs(lab, model, labels, plan)


def labels_version(lab: Lab, model: str, labels: LabelSet) -> str:
    """Return the hash (hex) of the labels that *model* learns from or is checked on; of all, where they cannot be divided (yet)."""
    try:
        return dataset_inputs(lab, model, labels)["labels"]
    except SettingsError:  # of the network that the specification asks for
        return labels.content_hash


def _planned(lab: Lab, model: str, labels: LabelSet) -> PlannedSplit:
    existing = current_dataset(lab, model)
    same = existing is not None and existing.inputs.get("split") == split_hash(lab.specification(model).split)
    return planned_split(lab, model, labels, divided_before=same)


def _inputs(lab: Lab, model: str, labels: LabelSet, plan: PlannedSplit | None) -> dict[str, str]:
    specification = lab.specification(model)
    network = chosen_network_of(specification).decisive()
    inputs = {
        "labels": labels.content_hash if plan is None else hash_of_labels(labels.bodyparts, plan.learned_from),
        ASSIGNMENT: "none" if plan is None else content_hash(plan.assignment),
        "project": content_hash(
            [
                labels.project.task,
                labels.project.date,
                labels.bodyparts,
                labels.project.skeleton,
                labels.project.pcutoff,
            ]
        ),
        "split": split_hash(specification.split),
        "net_type": specification.net_type,
        **({"network": content_hash(network)} if network else {}),
    }
    existing = current_dataset(lab, model)
    if existing is None or existing.inputs == inputs:
        return inputs
    of_before = {name: value for name, value in inputs.items() if name != ASSIGNMENT}
    if existing.inputs == {**of_before, "labels": labels.content_hash}:
        return dict(existing.inputs)
    old = (read_manifest(path) for path in lab.layout.datasets(model).glob(f"*/{MANIFEST}"))
    same = (
        manifest.inputs
        for manifest in (existing, *old)
        if manifest is not None and ASSIGNMENT not in manifest.inputs and _in_this_form(lab, manifest) == inputs
    )
    return dict(next(same, inputs))


def _in_this_form(lab: Lab, old: Manifest) -> dict[str, str]:
    """Return the inputs of a dataset of an earlier release in the form of this one, from what it holds itself."""
    folder = lab.layout.datasets(old.key) / old.details["folder"]
    try:
        frames = [frame for frame in read_json(folder / FRAMES) if frame["set"] in LEARNED_FROM]
        content = [
            [
                *(frame[name] for name in ("folder", "image", "scorer")),
                [value for point in frame["xy"] for value in point],
                image_hash(image_of_frame(folder, frame)),
            ]
            for frame in frames
        ]
    except FileNotFoundError:
        return {}
    return {
        **old.inputs,
        "labels": content_hash({"bodyparts": old.details["bodyparts"], "images": content}),
        ASSIGNMENT: content_hash([[frame["folder"], frame["image"], frame["set"]] for frame in frames]),
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
    """Make the training dataset of *model* and make it the current one; one that exists with the same inputs is used.

    Which frame is in which set is recorded first: from then on no frame moves, whatever is labeled later.
    """
    specification = lab.specification(model)
    if specification.imported is not None:
        return make_imported_dataset(lab, model, specification.imported, run_id=run_id, log=log)
    chosen_network_of(specification)  # says what is wrong with it before labels are read and divided
    labels = label_set_of(lab, model)
    with hold(
        lab.layout.lock("dividing", "frames"), "dividing labeled frames", log=log
    ):  # two models at once: one after the other
        plan = _planned(lab, model, labels)
        set_aside = keep_split(lab, plan)
    if set_aside:
        log(
            f"{set_aside} benchmark frames were set aside: from now on no model of the project {plan.project.name} learns from them"
        )
    manifest = Manifest(
        asset="training_dataset",
        key=model,
        inputs=_inputs(lab, model, labels, plan),
        data_version="",
        run_id=run_id,
    )
    folder = lab.layout.dataset(model, manifest.input_hash)
    existing = read_manifest(folder)
    if existing is None:
        log(f"{len(labels.images)} labeled frames. {plan.split.note}")
        existing = _build(lab, plan, specification, manifest)
    else:
        log("the training dataset with these labels, split and network exists already; it is used as it is")
    write_text(lab.layout.datasets(model) / _CURRENT, folder.name + "\n")
    return existing


def _build(lab: Lab, plan: PlannedSplit, specification: ModelSpecification, manifest: Manifest) -> Manifest:
    from dlc_assets.engine.workspace import ProjectContent, make_training_dataset

    labels, split = plan.labels, plan.split
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
        made = make_training_dataset(
            project,
            content,
            net_type=specification.net_type,
            detector=specification.detector,
            weights=specification.weights,
            weights_part=specification.weights_part,
            memory_replay=specification.memory_replay,
        )
        _copy_held_out(labels, split, partial / HELD_OUT)
        write_json(partial / FRAMES, _frames(labels, split))
        manifest.data_version = content_hash(manifest.inputs)
        manifest.details = {
            "project": labels.project.task,
            "project_name": plan.project.name,
            "config_path": str(labels.project.config_path),
            "folder": folder.name,
            "net_type": specification.net_type,
            "detector": chosen_network_of(specification).detector,
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
        manifest.problems = [*dropped_labels(labels), *label_warnings(labels), *plan.problems]
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
    """Return a sentence for each folder and scorer of which frames were dropped by a fault of the labels."""
    sentences = []
    for count in labels.counts:
        reasons = {reason: number for reason, number in sorted(count.dropped.items()) if reason not in count.chosen}
        if reasons:
            said = "; ".join(f"{number} {reason}" for reason, number in reasons.items())
            example = next((text for text in count.examples if text.rpartition(": ")[2] in reasons), "")
            sentences.append(
                f"{count.folder} ({count.scorer}): {sum(reasons.values())} of {count.found} labeled frames not used: {said}"
                + (f" (such as {example.rpartition(': ')[0]})" if example else "")
            )
    return sentences


def label_warnings(labels: LabelSet) -> list[str]:
    """Return a sentence for each folder and scorer whose labels are used, and yet not as they should be."""
    return [f"{count.folder} ({count.scorer}): {warning}" for count in labels.counts for warning in count.warnings]
