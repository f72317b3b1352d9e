"""What a lab already has, looked at and not touched: a project's labels and networks, and every result file below some folders."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from dlc_assets.adoption.network_folders import NetworkFolder, network_folders
from dlc_assets.adoption.result_files import ResultHeader, file_name, junk, plain_name, result_header
from dlc_assets.lab.errors import DlcAssetsError, NotFoundError
from dlc_assets.lab.progress import LoggedProgress
from dlc_assets.training.labels import FolderCount, read_label_set
from dlc_assets.training.project import DlcProject, read_project

_RESULTS = (".h5", ".hdf5", ".csv", "_assemblies.pickle")
_HOLDOUT = ".holdout"
# What DeepLabCut writes beside its results, named like them: no poses.
_OF_DEEPLABCUT = ("-results.csv", "_keypoint-results.csv", "-keypoint-results.csv", "_skeleton.csv", "_skeleton.h5")
_PART_OF_PROJECT = ("labeled-data", "training-datasets", "dlc-models", "dlc-models-pytorch")


@dataclass(frozen=True)
class FoundResult:
    """One result file, as its header says.

    Parameters
    ----------
    root
        The folder that was looked through.
    """

    root: Path
    header: ResultHeader

    @property
    def path(self) -> Path:
        return self.header.path

    @property
    def shown(self) -> str:
        """The path below the folder that was looked through, with ``/``."""
        return self.path.relative_to(self.root).as_posix()


@dataclass(frozen=True)
class LeftOut:
    """A file that is no result, or whose twin is taken, and why."""

    path: Path
    why: str
    problem: bool = False


@dataclass
class Survey:
    """What was found.

    Attributes
    ----------
    name
        The project's folder name.
    label_counts
        The account of each label file; ``label_problem`` where the labels cannot be read as a whole.
    videos
        Of the videos that config.yaml lists, by their path there: where each lies, None where it is not found.
    results
        Every table of poses, in order of path.
    left_out
        Every other file that is named like a result.
    problems
        What else a person should know.
    """

    project: DlcProject
    name: str
    networks: list[NetworkFolder]
    label_counts: tuple[FolderCount, ...] = ()
    label_problem: str = ""
    videos: dict[str, Path | None] = field(default_factory=dict)
    results: list[FoundResult] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def survey(config: Path, roots: Sequence[Path], *, log: Callable[[str], None]) -> Survey:
    """Look at the project of *config* and at all files below *roots*; nothing is written, and nothing in them is run.

    Raises
    ------
    InputError
        config.yaml cannot be read.
    NotFoundError
        One of *roots* is no folder.
    """
    project = read_project(config)
    for root in roots:
        if not root.is_dir():
            raise NotFoundError(f"--results {root}: there is no such folder.")
    found = Survey(project, project.root.resolve().name, network_folders(project.root))
    try:
        found.label_counts = read_label_set(project, may_be_empty=True).counts
    except DlcAssetsError as error:
        found.label_problem = str(error)
    found.videos = dict(_videos(project))
    _look_for_results(found, roots, log)
    return found


def _videos(project: DlcProject) -> Iterator[tuple[str, Path | None]]:
    config = yaml.safe_load(project.config_path.read_bytes())
    stated = config.get("video_sets") if isinstance(config, dict) else None
    for name in stated if isinstance(stated, dict) else ():
        text = str(name)
        place = project.root / text  # an absolute path stays one
        here = project.root / "videos" / text.replace("\\", "/").rsplit("/", 1)[-1]
        yield text, next((path for path in (place, here) if path.is_file()), None)


# --- result files ---------------------------------------------------------------------------------


def _look_for_results(found: Survey, roots: Sequence[Path], log: Callable[[str], None]) -> None:
    files = sorted({path.resolve(): (root, path) for root in roots for path in _named_like_results(root)}.values())
    progress = LoggedProgress(log, "looking at result files", "files")
    taken: dict[tuple[Path, str, bool], FoundResult] = {}
    for number, (root, path) in enumerate(sorted(files, key=lambda entry: (entry[1].parent, _rank(entry[1]))), start=1):
        progress(number, len(files))
        if why := _no_result(path):
            found.left_out.append(LeftOut(path, why))
            continue
        try:
            header = result_header(path)
        except DlcAssetsError as error:
            found.left_out.append(LeftOut(path, str(error), problem=True))
            continue
        if header.labels:
            found.left_out.append(LeftOut(path, "it holds labels or results of single images, not of a video"))
            continue
        key = (path.parent, plain_name(path), header.filtered)
        twin = taken.get(key)
        if twin is not None and twin.header.bodyparts == header.bodyparts:
            found.left_out.append(LeftOut(path, f"it doubles {file_name(twin.path)}, which is taken"))
            continue
        taken[key] = FoundResult(root, header)
        found.results.append(taken[key])
    found.results.sort(key=lambda result: str(result.path))


def _named_like_results(root: Path) -> Iterator[Path]:
    for folder, below, names in os.walk(root):
        below[:] = sorted(name for name in below if not _is_of_a_project(folder, name))
        for name in sorted(names):
            plain = name.casefold().replace(_HOLDOUT, "")
            if plain.endswith(_RESULTS):
                yield Path(folder, name)


def _is_of_a_project(folder: str, name: str) -> bool:
    """Say whether *name* is a folder in which a DeepLabCut project keeps labels and networks, not results of videos."""
    return name in _PART_OF_PROJECT and Path(folder, "config.yaml").is_file()


def _rank(path: Path) -> tuple[str, int]:
    """Sort an h5 before the csv of the same name, and both before what tracking began with."""
    suffix = path.name.casefold().replace(_HOLDOUT, "").rsplit(".", 1)[-1]
    return plain_name(path), ("h5", "hdf5", "csv").index(suffix) if suffix in {"h5", "hdf5", "csv"} else 3


def _no_result(path: Path) -> str:
    if why := junk(path):
        return why
    name = file_name(path).casefold()
    if name.endswith(_OF_DEEPLABCUT) or name.startswith("learning_stats"):
        return "DeepLabCut writes it beside results; it holds no poses"
    if name.startswith("collecteddata_"):
        return "it holds labels, not results"
    if name.startswith("machinelabels"):
        return "it holds labels that a network proposed, not results"
    return ""
