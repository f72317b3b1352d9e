"""What evaluations need of a project's benchmark frames: their labels as they are now, who has seen them, and how far people differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations, groupby
from pathlib import Path, PureWindowsPath
from typing import TYPE_CHECKING, Any

import numpy as np

from dlc_assets.lab.errors import NotFoundError
from dlc_assets.lab.files import content_hash
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.manifest import Manifest, read_manifest
from dlc_assets.training.division import Frozen
from dlc_assets.training.frozen import (
    FRAMES,
    FrozenFrames,
    LabProject,
    frames_in,
    frozen_frames,
    project_of,
    sets_of_dataset,
)
from dlc_assets.training.imported_dataset import gone_frames, why_not_known
from dlc_assets.training.labels import FrameKey, LabeledImage, LabelSet, image_hash, read_all_scorers, read_label_set
from dlc_assets.training.models import ModelVersion, find_version
from dlc_assets.training.project import read_project
from dlc_assets.training.split import BENCHMARK, LEARNED_FROM

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class BenchmarkFrame:
    """One benchmark frame with its labels as they are now.

    Attributes
    ----------
    folder, image
        Its name in the project.
    path
        The copy in the store, or the project's own image where there is no copy yet.
    xy
        (body parts, 2) float64, px; NaN where not labeled.
    """

    folder: str
    image: str
    path: Path
    xy: np.ndarray


def benchmark_frames(lab: Lab, model: str, bodyparts: Sequence[str]) -> list[BenchmarkFrame]:
    """Return the benchmark frames of the project that *model* names, with the labels as they are now.

    They are those of the whole project, whatever videos *model* learns from, labeled by the scorers that *model* prefers; frames of
    a benchmark video that were labeled since are among them. Left out are frames without a label of *bodyparts*, and those whose
    image was replaced since it was set aside.

    Parameters
    ----------
    bodyparts
        The order of `xy`; what the project does not have is NaN.

    Raises
    ------
    InputError
        A label file cannot be read.
    """
    project = project_of(lab, model)
    frozen = frozen_frames(lab, project)
    if frozen is None:
        return []
    labels = _labels(lab, model, project, frozen)
    known = frozen.seen_in(project, labels.images, frames_in(LEARNED_FROM, lab, project, labels.images))
    chosen = [image for image in labels.images if known.set_of(image.key) == BENCHMARK]
    frames = (
        BenchmarkFrame(
            *image.key, _copy(lab, frozen, known, image), _of_bodyparts(image.xy, labels.bodyparts, bodyparts)
        )
        for image in chosen
    )
    return [frame for frame in frames if not np.isnan(frame.xy).all()]


def benchmark_hash(lab: Lab, model: str, bodyparts: Sequence[str]) -> str:
    """Return a hash (hex) that changes when a benchmark label of *bodyparts* is corrected, or frames are added or lost."""
    return content_hash(
        [
            [frame.folder, frame.image, image_hash(frame.path), _plain(frame.xy)]
            for frame in benchmark_frames(lab, model, bodyparts)
        ]
    )


def seen_frames(lab: Lab, version: ModelVersion) -> set[FrameKey]:
    """Return folder and image of the frames that *version*, or a model of the lab that it started from, had in train or validation.

    Models of other projects that it started from do not count: they saw other frames.

    Raises
    ------
    NotFoundError
        A training dataset, or a version that it started from, is no longer in the store, so that nobody knows.
    """
    seen: set[FrameKey] = set()
    place: str | None = None
    todo, done = [version], set()
    while todo:
        current = todo.pop()
        if str(current) in done:
            continue
        done.add(str(current))
        folder, manifest = _dataset_of(lab, current)
        place = place or _place(manifest)
        if _place(manifest) == place:
            seen |= {key for key, name in sets_of_dataset(folder).items() if name in LEARNED_FROM}
            seen |= gone_frames(manifest)
        kind, _, parent = current.manifest.inputs.get("weights", "").partition(":")
        if kind == "model":
            todo.append(find_version(lab.layout, parent.partition(",")[0]))  # "model:name@version, backbone only"
    return seen


def human_errors(lab: Lab, model: str, bodyparts: Sequence[str]) -> pd.DataFrame:
    """Return how far people differ, on all frames of the project of *model* that several of them labeled.

    Returns
    -------
    pandas.DataFrame
        folder, image, bodypart, scorer_a, scorer_b (alphabetical), distance (float64, px): a row for each two people that placed the
        body part. ``attrs["problems"]`` has a sentence for each label file that cannot be read.
    """
    import pandas as pd

    project = read_project(lab.project_config(model))
    folder = project.root / "labeled-data"
    folders = [path.name for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
    images, problems = read_all_scorers(project, folders)
    rows = [
        (*key, part, a.scorer, b.scorer, float(np.hypot(*(a.xy[at] - b.xy[at]))))
        for key, group in groupby(images, key=lambda image: image.key)
        for a, b in combinations(group, 2)
        for at, part in enumerate(project.bodyparts)
        if part in bodyparts and not np.isnan(a.xy[at] - b.xy[at]).any()
    ]
    table = pd.DataFrame(rows, columns=["folder", "image", "bodypart", "scorer_a", "scorer_b", "distance"])
    table["distance"] = table["distance"].astype(float)
    table.attrs["problems"] = problems
    return table


# --- labels as they are now -----------------------------------------------------------------------


def _labels(lab: Lab, model: str, project: LabProject, frozen: FrozenFrames) -> LabelSet:
    """Read the labels of the folders with benchmark frames; of all folders where a person may have renamed some."""
    folders = sorted({folder for folder, _ in frozen.frames})
    there = [folder for folder in folders if project.has_folder(folder)]
    renamed = any(not project.image(key).is_file() for key in frozen.frames)
    copies = {key: lab.layout.benchmark_image(frozen.name, *key) for key in frozen.frames}
    return read_label_set(
        read_project(lab.project_config(model)),
        videos="all" if renamed else there,
        scorers=lab.specification(model).label_set.scorers,
        copies=copies,
        may_be_empty=True,
    )


def _copy(lab: Lab, frozen: FrozenFrames, known: Frozen, image: LabeledImage) -> Path:
    copy = lab.layout.benchmark_image(frozen.name, *known.renamed.recorded_as(image.key))
    return copy if copy.is_file() else image.path


def _of_bodyparts(xy: np.ndarray, have: Sequence[str], wanted: Sequence[str]) -> np.ndarray:
    chosen = np.full((len(wanted), 2), np.nan)
    for at, part in enumerate(wanted):
        if part in have:
            chosen[at] = xy[have.index(part)]
    return chosen


def _plain(xy: np.ndarray) -> list[Any]:
    return [None if np.isnan(value) else value for value in xy.ravel().tolist()]


# --- what a version was trained from --------------------------------------------------------------


def _dataset_of(lab: Lab, version: ModelVersion) -> tuple[Path, Manifest]:
    folder = lab.layout.datasets(version.model) / str(version.card.get("dataset", ""))
    manifest = read_manifest(folder)
    if unknown := why_not_known(manifest):
        raise NotFoundError(f"{version}: {unknown}")
    if manifest is None or not (folder / FRAMES).is_file():
        raise NotFoundError(
            f"the training dataset {folder} of {version} is no longer there, so which frames it has seen is not known. Restore it from "
            "a backup, or train the model again."
        )
    return folder, manifest


def _place(manifest: Manifest) -> str:
    """Return what tells a dataset's project from others: its folder's name, which stays when a lab moves."""
    return PureWindowsPath(str(manifest.details.get("config_path", ""))).parent.name
