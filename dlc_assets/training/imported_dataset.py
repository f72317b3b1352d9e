"""What a network that was trained elsewhere has seen: a training dataset without a project to train in.

It holds the frames that DeepLabCut (or a person) names, with their labels as they are now and copies of their pictures, in the form of
every training dataset: so that such a network is scored, compared and documented like those that are trained here.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dlc_assets.adoption.network_folders import network_folder, read_pose_cfg
from dlc_assets.adoption.training_facts import training_frames_of
from dlc_assets.engine.workspace import read_pytorch_config
from dlc_assets.lab.errors import DlcAssetsError, InputError
from dlc_assets.lab.files import atomic_folder, content_hash, write_json, write_text
from dlc_assets.lab.imported_network import ImportedNetwork
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.manifest import Manifest, read_manifest
from dlc_assets.training.frozen import ASSIGNMENT, FRAMES, PROJECT
from dlc_assets.training.labels import FrameKey, LabeledImage, LabelSet, hash_of_labels, read_label_set
from dlc_assets.training.project import DlcProject, read_project

UNKNOWN = "unknown"
GONE = "gone"  # in a manifest's details: frames that the network has seen and the project has no more
TRAINED_ON = "trained_on"  # in a manifest's details: how many frames trained the network, gone ones included
_LABELED_DATA = "labeled-data"
_LISTED = 3
_MOST_OF_A_FOLDER = 0.5


@dataclass(frozen=True)
class SeenFrames:
    """The frames that a network was trained and tested on, by the names that they had then.

    Parameters
    ----------
    train, held_out
        Folder and image. DeepLabCut chooses its best snapshot by those that it held out.
    source
        Who says so, in words.
    problems
        What is odd, in sentences.
    """

    train: tuple[FrameKey, ...]
    held_out: tuple[FrameKey, ...]
    source: str
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Now:
    """Those frames as they are now: *labels* of the ones that there still are, with their set; *gone* ones by their old names."""

    labels: LabelSet | None
    sets: dict[FrameKey, str]
    gone: tuple[FrameKey, ...]
    seen: SeenFrames | None
    problems: tuple[str, ...]

    @property
    def images(self) -> list[LabeledImage]:
        return [] if self.labels is None else [image for image in self.labels.images if image.key in self.sets]


def seen_frames_stated(lab: Lab, model: str) -> SeenFrames | None:
    """Return what is said of the frames that the imported network of *model* has seen; None where nobody says it.

    Raises
    ------
    InputError, NotFoundError
        `trained_on` or DeepLabCut's pickle is there and cannot be read, or there is no such network.
    """
    specification = lab.specification(model)
    imported = specification.imported
    assert imported is not None
    where = str(lab.layout.specification(model))
    if imported.trained_on is not None:
        folder = lab.project_config(model).parent if specification.project else lab.root
        return _stated(imported.trained_on, folder, where)
    if imported.results_only:
        return None
    project = read_project(lab.project_config(model))
    network = network_folder(project, imported, where)
    fraction = imported.trainset_fraction or network.percent / 100
    found = training_frames_of(project.root, network.iteration, fraction, network.shuffle)
    if found is None:
        return None
    return SeenFrames(
        tuple(_key(name, str(found.path)) for name in found.train),
        tuple(_key(name, str(found.path)) for name in found.test or ()),
        f"DeepLabCut's {found.path.name}",
        found.problems,
    )


def _stated(trained_on: str | Sequence[str], folder: Path, where: str) -> SeenFrames:
    if not isinstance(trained_on, str):
        return SeenFrames(tuple(_key(name, f"{where}: trained_on") for name in trained_on), (), "trained_on")
    file = folder / Path(trained_on).expanduser()
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{where}: trained_on: {file} cannot be read ({error}): expected a text file with a frame a line, as folder/image."
        ) from error
    lines = [line.split(",")[0].strip() for line in text.splitlines()]
    frames = tuple(_key(line, f"{file}, line {number}") for number, line in enumerate(lines, start=1) if line)
    if not frames:
        raise InputError(f"{file}: expected a frame a line, as folder/image, and the file has none.")
    return SeenFrames(frames, (), f"trained_on ({file.name})")


def _key(name: str, where: str) -> FrameKey:
    parts = name.replace("\\", "/").strip("/").split("/")
    if len(parts) < 2:
        raise InputError(f'{where}: "{name}" names no frame: expected folder/image, such as m01_top/img0034.png.')
    return parts[-2], parts[-1]


# --- what is left of them -------------------------------------------------------------------------


def _now(lab: Lab, model: str) -> _Now:
    seen = seen_frames_stated(lab, model)
    specification = lab.specification(model)
    problems = list(seen.problems) if seen is not None else []
    labels: LabelSet | None = None
    if specification.project:
        chosen = specification.label_set
        try:
            project = read_project(lab.project_config(model))
            labels = _of_bodyparts(
                read_label_set(project, videos=chosen.videos, scorers=chosen.scorers, frames=chosen.frames),
                network_bodyparts(lab, model, project),
            )
        except DlcAssetsError as error:
            problems.append(f"the labels of the project cannot be read, so that it is not scored on them: {error}")
    if seen is None:
        return _Now(labels, {}, (), None, tuple(problems))
    there = {image.key for image in labels.images} if labels is not None else set()
    named = {**dict.fromkeys(seen.held_out, "validation"), **dict.fromkeys(seen.train, "train")}
    renamed = _renamed(named, there, model)
    sets, gone = {}, []
    for (folder, image), name in named.items():
        key = (renamed.get(folder, folder), image)
        if key in there:
            sets[key] = name
        else:
            gone.append((folder, image))
    for old, new in renamed.items():
        frames = [key for key in named if key[0] == old]
        there_now = sum((new, image) in there for _, image in frames)
        shown = "all its frames" if there_now == len(frames) else f"{there_now} of the {len(frames)} frames"
        problems.append(f"{old} of the training is the folder {new} now: {shown} are there")
    if gone:
        problems.append(
            f"{len(gone)} of the {len(named)} frames that it was trained or tested on have no labels in the project any more: "
            f"{_some(gone)}"
        )
    return _Now(labels, sets, tuple(gone), seen, tuple(problems))


def network_bodyparts(lab: Lab, model: str, project: DlcProject) -> tuple[str, ...]:
    """Return the body parts that the imported network of *model* knows, in its order: the project may have got others since.

    Raises
    ------
    InputError, NotFoundError
        The network is not there, or its configuration cannot be read.
    """
    imported = lab.specification(model).imported
    assert imported is not None
    if imported.results_only:
        return imported.bodyparts
    network = network_folder(project, imported, str(lab.layout.specification(model)))
    if network.engine == "tensorflow":
        stated = read_pose_cfg(network.configuration).get("all_joints_names")
    else:
        stated = (read_pytorch_config(network.configuration).get("metadata") or {}).get("bodyparts")
    return tuple(map(str, stated or project.bodyparts))


def _of_bodyparts(labels: LabelSet, bodyparts: tuple[str, ...]) -> LabelSet:
    """Return *labels* with the body parts of a network, in its order; NaN for those that the project does not have."""
    if labels.bodyparts == bodyparts:
        return labels
    place = [labels.bodyparts.index(part) if part in labels.bodyparts else -1 for part in bodyparts]
    absent = np.full((1, 2), np.nan)  # what the place -1 means
    images = (replace(image, xy=np.concatenate([image.xy, absent])[place]) for image in labels.images)
    return replace(labels, bodyparts=bodyparts, images=tuple(images))


def _renamed(named: Collection[FrameKey], there: Collection[FrameKey], model: str) -> dict[str, str]:
    """Return folders that have another name now, old -> new: those of which one folder that the training did not know has the frames.

    A folder that has more than half of them counts where none has all: a frame may have been taken out since, and what the network has
    seen must not pass for new.

    Raises
    ------
    InputError
        Several folders could be it: frames that the network has seen could then pass for frames that it has not.
    """
    then, now = _by_folder(named), _by_folder(there)
    renamed = {}
    for folder, images in then.items():
        if folder in now:
            continue
        shares = {name: len(images & have) / len(images) for name, have in now.items() if name not in then}
        candidates = [name for name, share in shares.items() if share == 1] or [
            name for name, share in shares.items() if share > _MOST_OF_A_FOLDER
        ]
        if len(candidates) > 1:
            raise InputError(
                f"{model}: it was trained on frames of the folder {folder}, which is not there; their names fit "
                f"{', '.join(candidates)}. Rename the right one back, or state `trained_on` in the import block."
            )
        if candidates:
            renamed[folder] = candidates[0]
    return renamed


def _by_folder(keys: Iterable[FrameKey]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for folder, image in keys:
        found.setdefault(folder, set()).add(image)
    return found


def _some(keys: Sequence[FrameKey]) -> str:
    return ", ".join("/".join(key) for key in keys[:_LISTED]) + (" ..." if len(keys) > _LISTED else "")


# --- the dataset ----------------------------------------------------------------------------------


def imported_dataset_inputs(lab: Lab, model: str) -> dict[str, str]:
    """Return the hashes that the dataset of an imported network is made from: the frames that it has seen, and their labels."""
    return _inputs(_now(lab, model))


def _inputs(now: _Now) -> dict[str, str]:
    if now.seen is None:
        return {"labels": UNKNOWN, "training frames": UNKNOWN, ASSIGNMENT: UNKNOWN}
    return {
        "labels": hash_of_labels(now.labels.bodyparts, now.images) if now.labels is not None and now.images else "none",
        "training frames": content_hash([sorted(now.seen.train), sorted(now.seen.held_out)]),
        ASSIGNMENT: content_hash(sorted([*key, name] for key, name in now.sets.items())),
    }


def make_imported_dataset(
    lab: Lab, model: str, imported: ImportedNetwork, *, run_id: str, log: Callable[[str], None]
) -> Manifest:
    """Make the dataset of an imported network and make it the current one; one that exists with the same inputs is used."""
    now = _now(lab, model)
    manifest = Manifest(asset="training_dataset", key=model, inputs=_inputs(now), data_version="", run_id=run_id)
    folder = lab.layout.dataset(model, manifest.input_hash)
    existing = read_manifest(folder)
    if existing is None:
        existing = _build(lab, model, imported, now, manifest, folder)
    log(existing.details["split"]["note"])
    write_text(lab.layout.datasets(model) / "current", folder.name + "\n")
    return existing


def _build(lab: Lab, model: str, imported: ImportedNetwork, now: _Now, manifest: Manifest, folder: Path) -> Manifest:
    images = now.images
    sets = {name: sum(given == name for given in now.sets.values()) for name in ("train", "validation", "benchmark")}
    project = now.labels.project if now.labels is not None else None
    with atomic_folder(folder) as partial:
        for image in images:
            place = partial / PROJECT / _LABELED_DATA / image.folder
            place.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(image.path, place / image.name)
        if now.seen is not None:
            write_json(partial / FRAMES, [_frame(image, now.sets[image.key]) for image in images])
        manifest.data_version = content_hash(manifest.inputs)
        manifest.details = {
            "project": project.task if project is not None else "",
            "project_name": lab.specification(model).project,
            "config_path": str(project.config_path) if project is not None else "",
            "folder": folder.name,
            "imported": True,
            "net_type": "",
            "detector": None,
            "bodyparts": list(now.labels.bodyparts) if now.labels is not None else [],
            "skeleton": [list(edge) for edge in project.skeleton] if project is not None else [],
            "pcutoff": project.pcutoff if project is not None else None,
            "scorers": sorted({image.scorer for image in images}),
            "images": len(images),
            "sets": sets,
            TRAINED_ON: len(now.seen.train) if now.seen is not None else None,
            GONE: [list(key) for key in now.gone],
            "split": {"how": "imported", "note": _note(now, sets, imported)},
            "labels_of_bodyparts": _labels_of_bodyparts(now),
            "counts": [],
        }
        manifest.problems = list(now.problems)
        manifest.write(partial)
    return manifest


def _frame(image: LabeledImage, name: str) -> dict[str, Any]:
    return {
        "folder": image.folder,
        "image": image.name,
        "scorer": image.scorer,
        "set": name,
        "xy": [[None if np.isnan(value) else value for value in point] for point in image.xy.tolist()],
    }


def _labels_of_bodyparts(now: _Now) -> dict[str, int]:
    if now.labels is None or not now.images:
        return {}
    placed = np.stack([~np.isnan(image.xy).any(axis=1) for image in now.images])
    return dict(zip(now.labels.bodyparts, placed.sum(axis=0).tolist(), strict=True))


def _note(now: _Now, sets: dict[str, int], imported: ImportedNetwork) -> str:
    if now.seen is None:
        pickle = "" if imported.results_only else "DeepLabCut's Documentation_data pickle of this shuffle is gone; "
        return (
            f"Which frames the network was trained on is not known: {pickle}state `trained_on` in its import block. Until then it "
            "is neither scored nor ranked."
        )
    return (
        f"Trained elsewhere, by {now.seen.source}: {len(now.seen.train)} frames trained it, {len(now.seen.held_out)} were held out "
        f"(they are its validation frames). With labels in the project now: {sets['train']} and {sets['validation']}."
    )


def why_not_known(manifest: Manifest | None) -> str:
    """Return why nobody knows what the network of an imported dataset has seen; empty where it is known, or for other datasets."""
    if manifest is None or not manifest.details.get("imported") or manifest.inputs["training frames"] != UNKNOWN:
        return ""
    return str(manifest.details["split"]["note"])


def gone_frames(manifest: Manifest) -> set[FrameKey]:
    """Return the frames that an imported network has seen and that the project has no labels of any more."""
    return {(str(folder), str(image)) for folder, image in manifest.details.get(GONE, [])}


def why_without_labels(manifest: Manifest) -> str:
    """Return why an imported network has no labeled frames to be scored on; empty where it has, or nobody knows what it has seen."""
    if why_not_known(manifest) or sum(manifest.details["sets"].values()):
        return ""
    return (
        "None of the frames that it was trained or tested on has labels in the project: it is not scored. Copy the project's "
        "labeled-data folder, with its CollectedData files, and import it again."
    )


def trained_frames(manifest: Manifest) -> int | None:
    """Return how many frames trained the network of a dataset, those included that an imported one's project has lost; None: unknown."""
    return manifest.details[TRAINED_ON] if TRAINED_ON in manifest.details else int(manifest.details["sets"]["train"])
