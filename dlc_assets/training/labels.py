"""Reading a project's labels with an account of every row: DeepLabCut skips what it cannot match."""

from __future__ import annotations

import csv
import fnmatch
import functools
import io
import math
import pickle
import re
import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dlc_assets.lab.errors import InputError, NotFoundError, SettingsError, did_you_mean
from dlc_assets.lab.files import content_hash, sha256_file
from dlc_assets.lab.specification import FrameRule
from dlc_assets.training.project import DlcProject

if TYPE_CHECKING:
    import pandas as pd

_HEADER = ("scorer", "individuals", "bodyparts", "coords")
_EMPTY_CELLS = {"", "na", "nan", "none", "null"}
_SAME_PX = 1e-3  # h5 and csv of one table agree to this
_EXAMPLES_PER_REASON = 3
_MULTI_ANIMAL = "labels of several animals per frame (multi-animal projects) are not supported yet"

_NOT_ONLY, _LEFT_OUT = "not in label_set.frames.only", "in label_set.frames.leave_out"
_LABELED_BY = "labeled by "
_ALL_FRAMES = FrameRule()

FrameKey = tuple[str, str]
"""Folder under labeled-data and file name: what DeepLabCut knows a labeled frame by."""

_IN_MEMORY = "labels in memory.h5"  # HDF5 wants a name, of no file that exists
_hdf5 = threading.Lock()  # PyTables is not thread-safe, and a code location answers from several threads


@dataclass(frozen=True, eq=False)
class LabeledImage:
    """One labeled frame.

    Attributes
    ----------
    folder
        Name of the folder under labeled-data: the video's stem.
    name
        The image's file name.
    path
        Where the image lies.
    scorer
        Who labeled it.
    xy
        Body parts x 2, float64, px in the image; NaN where not labeled. Read-only.
    """

    folder: str
    name: str
    path: Path
    scorer: str
    xy: np.ndarray

    @property
    def key(self) -> FrameKey:
        """The folder and the name."""
        return self.folder, self.name


@dataclass
class FolderCount:
    """The account of one label file: `found` is always `used` plus all `dropped`.

    Attributes
    ----------
    folder, scorer
        Which label file; `scorer` is empty for a folder without one.
    found, used
        Rows of the file, and those that became labeled images.
    dropped
        Reason to number of rows.
    chosen
        The reasons among those that are no fault of the labels: the model specification leaves the frame out (`label_set.frames`),
        or another person's labels of it are used.
    examples
        The first few dropped rows of each reason.
    notes
        What people should know though no row was dropped for it.
    warnings
        What people should mend though no row was dropped for it.
    """

    folder: str
    scorer: str
    found: int = 0
    used: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    chosen: set[str] = field(default_factory=set)
    examples: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def drop(self, reason: str, row: str, *, chosen: bool = False) -> None:
        """Count one dropped row; *chosen* says that this is no fault of the labels."""
        if chosen:
            self.chosen.add(reason)
        self.dropped[reason] = self.dropped.get(reason, 0) + 1
        if self.dropped[reason] <= _EXAMPLES_PER_REASON:
            self.examples.append(f"{row}: {reason}")

    def sentence(self) -> str:
        """Return the account in words."""
        parts = [f"{self.found} found, {self.used} used"]
        parts += [f"{number} dropped ({reason})" for reason, number in sorted(self.dropped.items())]
        who = f"{self.folder} by {self.scorer}" if self.scorer else self.folder
        said = [f"{who}: {', '.join(parts)}"] if self.scorer else [f"{who}:"]
        return " ".join([said[0], *(f"({note})" for note in (*self.warnings, *self.notes))])


@dataclass(frozen=True, eq=False)
class LabelSet:
    """The labeled frames of a project chosen for a model, sorted by folder and natural order of name."""

    project: DlcProject
    bodyparts: tuple[str, ...]
    images: tuple[LabeledImage, ...]
    counts: tuple[FolderCount, ...]

    @property
    def content_hash(self) -> str:
        """The `hash_of_labels` of all images."""
        return hash_of_labels(self.bodyparts, self.images)

    def to_frame(self) -> pd.DataFrame:
        """Return folder, name, scorer, bodypart, x, y: a row per image and body part, NaN if not labeled."""
        import pandas as pd

        parts = len(self.bodyparts)
        xy = np.concatenate([image.xy for image in self.images]) if self.images else np.empty((0, 2))
        return pd.DataFrame(
            {
                "folder": [image.folder for image in self.images for _ in range(parts)],
                "name": [image.name for image in self.images for _ in range(parts)],
                "scorer": [image.scorer for image in self.images for _ in range(parts)],
                "bodypart": list(self.bodyparts) * len(self.images),
                "x": xy[:, 0],
                "y": xy[:, 1],
            }
        )


@dataclass(frozen=True)
class _LabelFile:
    """The table of one scorer in one folder; DeepLabCut keeps it as h5 with a csv beside."""

    scorer: str
    h5: Path | None
    csv: Path | None

    @property
    def path(self) -> Path:
        path = self.h5 or self.csv
        assert path is not None
        return path


@dataclass(frozen=True)
class _Table:
    """Rows of a label file: the image's path as written (POSIX separators), and coordinates in px.

    `xy` is rows x body parts of the file x 2, float64.
    """

    bodyparts: tuple[str, ...]
    rows: tuple[str, ...]
    xy: np.ndarray
    notes: tuple[str, ...]


def read_label_set(
    project: DlcProject,
    *,
    videos: Literal["all"] | Sequence[str] = "all",
    scorers: Sequence[str] | None = None,
    frames: FrameRule = _ALL_FRAMES,
    copies: Mapping[FrameKey, Path] = MappingProxyType({}),
    may_be_empty: bool = False,
) -> LabelSet:
    """Read the labels under a project's labeled-data.

    Parameters
    ----------
    project
        Of one animal per frame.
    videos
        Names of folders under labeled-data, or of the video files they come from; "all" for every folder.
    scorers
        In order of preference: a frame labeled by several is taken from the first. Without it, the project's
        own scorer and then every other, alphabetically.
    frames
        Which frames of these videos: patterns against ``folder/image``, and every n-th of each folder in natural order.
    copies
        Images to take where the project's own are missing.
    may_be_empty
        Return a label set without images where none remains, rather than raise.

    Raises
    ------
    InputError
        The project is multi-animal, a label file cannot be read or has a body part that config.yaml lacks, or
        no labeled frame remains.
    NotFoundError
        A video or a scorer that was asked for does not exist.

    Notes
    -----
    A label file's scorer is the one in its name, as in DeepLabCut's csv conversion. pandas keeps Python
    objects in h5 files as pickles; only plain values, numpy arrays and pandas lists are accepted.
    """
    if project.multianimal:
        raise InputError(f"{project.config_path}: {_MULTI_ANIMAL}; use a project with multianimalproject: false.")
    folders = _folders(project)
    files = {folder: _label_files(folder) for folder in folders}
    chosen = _chosen(project, folders, videos)
    order = _scorer_order(project, {file.scorer for found in files.values() for file in found}, scorers)
    images: list[LabeledImage] = []
    counts: list[FolderCount] = []
    for folder in chosen:
        new_images, new_counts = _read_folder(project, folder, files[folder], order, frames, copies)
        images += new_images
        counts += new_counts
    if not images and not may_be_empty:
        raise InputError(_nothing_used(project, counts))
    images.sort(key=lambda image: (image.folder, natural_key(image.name)))
    return LabelSet(project, project.bodyparts, tuple(images), tuple(counts))


def read_all_scorers(project: DlcProject, folders: Sequence[str]) -> tuple[list[LabeledImage], list[str]]:
    """Read what every scorer labeled in those of *folders* that several people labeled.

    Returns
    -------
    tuple
        The labeled images, one a frame and scorer, sorted by folder, natural order of name, and scorer; and a sentence for each
        label file that cannot be read.
    """
    images: list[LabeledImage] = []
    problems: list[str] = []
    for folder in _folders(project):
        files = _label_files(folder) if folder.name in folders else []
        for file in files if len(files) > 1 else ():
            taken: dict[str, LabeledImage] = {}
            try:
                _read_file(project, folder, file, taken, _ALL_FRAMES, {})
            except InputError as error:
                problems.append(str(error))
            images += taken.values()
    return sorted(images, key=lambda image: (image.folder, natural_key(image.name), image.scorer)), problems


def hash_of_labels(bodyparts: Sequence[str], images: Iterable[LabeledImage]) -> str:
    """Return the sha256 (hex) over body parts, and each image's names, scorer, coordinates and file content."""
    return content_hash({"bodyparts": bodyparts, "images": [_content(image) for image in images]})


def natural_key(name: str) -> tuple[Any, ...]:
    """Return a sort key that puts img2 before img10."""
    pieces = re.split(r"([0-9]+)", name)
    return tuple(int(piece) if at % 2 else piece for at, piece in enumerate(pieces)), name


# --- which folders, files and scorers -------------------------------------------------------------


def _folders(project: DlcProject) -> list[Path]:
    root = project.root / "labeled-data"
    if not root.is_dir():
        raise InputError(
            f"{root} does not exist: a DeepLabCut project keeps its labels there, a folder per video. "
            "Copy the project with its labeled-data folder."
        )
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.name.startswith("."))


def _label_files(folder: Path) -> list[_LabelFile]:
    by_scorer: dict[str, dict[str, Path]] = {}
    for path in sorted(folder.glob("CollectedData_*")):
        if path.suffix in {".h5", ".csv"} and path.is_file():
            by_scorer.setdefault(path.stem.removeprefix("CollectedData_"), {})[path.suffix] = path
    return [_LabelFile(scorer, found.get(".h5"), found.get(".csv")) for scorer, found in by_scorer.items()]


def _chosen(project: DlcProject, folders: Sequence[Path], videos: str | Sequence[str]) -> list[Path]:
    if videos == "all":
        return list(folders)
    if not videos:
        raise SettingsError('The videos of a label set should be "all" or names of folders, but the list is empty.')
    by_name = {folder.name: folder for folder in folders}
    wanted = {_folder_name(video, by_name, project) for video in ([videos] if isinstance(videos, str) else videos)}
    return [folder for folder in folders if folder.name in wanted]


def _folder_name(video: str, by_name: Mapping[str, Path], project: DlcProject) -> str:
    file_name = PureWindowsPath(video).name  # takes both kinds of separator
    stem = PureWindowsPath(file_name).stem
    for name in (video, file_name, stem):
        if name in by_name:
            return name
    raise NotFoundError(
        f'"{video}" has no folder in {project.root / "labeled-data"}, which has: {_listed(by_name)}.'
        f"{did_you_mean(stem, by_name)}"
    )


def _scorer_order(project: DlcProject, existing: set[str], scorers: Sequence[str] | None) -> list[str]:
    if not scorers:
        return sorted(existing, key=lambda scorer: (scorer != project.scorer, scorer))
    for scorer in scorers:
        if scorer not in existing:
            raise NotFoundError(
                f'No label file of scorer "{scorer}" (CollectedData_{scorer}.h5 or .csv) lies in '
                f"{project.root / 'labeled-data'}, which has scorers: {_listed(existing)}."
                f"{did_you_mean(scorer, existing)}"
            )
    return list(dict.fromkeys(scorers))


# --- one folder -----------------------------------------------------------------------------------


def _read_folder(
    project: DlcProject,
    folder: Path,
    files: Sequence[_LabelFile],
    order: Sequence[str],
    frames: FrameRule,
    copies: Mapping[FrameKey, Path],
) -> tuple[list[LabeledImage], list[FolderCount]]:
    if not files:
        return [], [_unlabeled_folder(folder)]
    by_scorer = {file.scorer: file for file in files}
    taken: dict[str, LabeledImage] = {}
    counts: list[FolderCount] = []
    for scorer in order:
        if scorer in by_scorer:
            counts.append(_read_file(project, folder, by_scorer[scorer], taken, frames, copies))
    for scorer in sorted(set(by_scorer) - set(order)):
        left = f"{by_scorer[scorer].path.name} not read: its scorer is not among those asked for"
        counts.append(FolderCount(folder.name, scorer, notes=[left]))
    _keep_every(taken, frames.every, {count.scorer: count for count in counts})
    if (odd := _odd_sizes(taken.values())) and counts:
        counts[0].warnings.append(odd)
    return list(taken.values()), counts


def _keep_every(taken: dict[str, LabeledImage], every: int, counts: Mapping[str, FolderCount]) -> None:
    """Leave every n-th of a folder's frames in *taken*, and say so in the account of who labeled the others."""
    for at, name in enumerate(sorted(taken, key=natural_key)):
        if at % every:
            image = taken.pop(name)
            counts[image.scorer].used -= 1
            reason = f"not the first of {every} (label_set.frames.every)"
            counts[image.scorer].drop(reason, f"{image.folder}/{name}", chosen=True)


def _odd_sizes(images: Iterable[LabeledImage]) -> str:
    """Return a sentence if the images of one folder are not all of one size, as frames of one video are."""
    sizes: dict[tuple[int, int], list[str]] = {}
    for image in images:
        size = image_size(image.path)
        if size is not None:
            sizes.setdefault(size, []).append(image.name)
    if len(sizes) < 2:
        return ""
    ranked = sorted(sizes.items(), key=lambda entry: -len(entry[1]))
    said = ", ".join(
        f"{len(names)} of {width}x{height} px (such as {names[0]})" for (width, height), names in ranked[:3]
    )
    return f"images of different sizes in one video: {said}"


def _unlabeled_folder(folder: Path) -> FolderCount:
    if folder.name.endswith("_labeled"):
        note = "skipped: pictures that DeepLabCut drew to check labels"
    elif any(folder.glob("CollectedData.*")):
        note = "no labels: CollectedData without a scorer; name it CollectedData_<scorer>.h5 or .csv"
    else:
        note = "no labels: no CollectedData_<scorer>.h5 or .csv"
    return FolderCount(folder.name, "", notes=[note])


def _read_file(
    project: DlcProject,
    folder: Path,
    file: _LabelFile,
    taken: dict[str, LabeledImage],
    frames: FrameRule,
    copies: Mapping[FrameKey, Path],
) -> FolderCount:
    """Add the file's usable rows to *taken* (by image name) and return the account."""
    table = _read_h5(file.h5, file.scorer) if file.h5 else _read_csv(file.path, file.scorer)
    xy, half = _in_project_order(table, project, file.path)
    count = FolderCount(folder.name, file.scorer, found=len(table.rows), notes=list(table.notes))
    if half:
        count.warnings.append(f"{half} body parts with only one of x and y are taken as not labeled")
    outside: list[str] = []
    for row, points in zip(table.rows, xy, strict=True):
        row_folder, name = _split_row(row, folder.name)
        path = folder / name
        if not path.is_file():
            path = copies.get((folder.name, name), path)
        if row_folder == folder.name and (unwanted := _unwanted(f"{folder.name}/{name}", frames)):
            count.drop(unwanted, row, chosen=True)
            continue
        reason = _why_not(row_folder, folder.name, path, points, taken.get(name), file.scorer)
        if reason:
            count.drop(reason, row, chosen=reason.startswith(_LABELED_BY))
            continue
        points.setflags(write=False)
        taken[name] = LabeledImage(folder.name, name, path, file.scorer, points)
        count.used += 1
        outside += _outside(project.bodyparts, points, path)
    if outside:
        more = f" and {len(outside) - _EXAMPLES_PER_REASON} more" if len(outside) > _EXAMPLES_PER_REASON else ""
        count.warnings.append(
            f"labels on or outside the image's border, which DeepLabCut does not learn from: "
            f"{', '.join(outside[:_EXAMPLES_PER_REASON])}{more}"
        )
    if file.h5 and file.csv:
        count.warnings += _disagreement(table, xy, project, file)
    return count


def _split_row(row: str, default_folder: str) -> tuple[str, str]:
    """Return (folder, image name) of a row's path: a bare name, a relative path or another computer's."""
    pieces = [piece for piece in row.split("/") if piece]
    if len(pieces) < 2:
        return default_folder, pieces[0] if pieces else ""
    return pieces[-2], pieces[-1]


def _why_not(
    row_folder: str, folder: str, path: Path, points: np.ndarray, earlier: LabeledImage | None, scorer: str
) -> str:
    """Return the reason to drop a row, or an empty string."""
    if row_folder != folder:
        return "row names another folder"
    if not path.is_file():
        return "image missing"
    if np.isnan(points).all():
        return "no body part labeled"
    if earlier is not None:
        return "duplicate row" if earlier.scorer == scorer else f"{_LABELED_BY}{earlier.scorer} already"
    if image_size(path) is None:
        return "image cannot be read"
    return ""


def _unwanted(frame: str, frames: FrameRule) -> str:
    """Return why the model specification does not want a frame (``folder/image``), or an empty string."""
    if frames.only and not any(fnmatch.fnmatchcase(frame, pattern) for pattern in frames.only):
        return _NOT_ONLY
    return _LEFT_OUT if any(fnmatch.fnmatchcase(frame, pattern) for pattern in frames.leave_out) else ""


def _outside(bodyparts: Sequence[str], points: np.ndarray, path: Path) -> list[str]:
    """Return the labels that DeepLabCut takes as not visible, without a word: it wants 0 < x < width and 0 < y < height."""
    size = image_size(path)
    if size is None:
        return []
    beyond = ((points <= 0) | (points >= np.array(size))).any(axis=1)  # comparisons with NaN are False
    return [
        f"{path.name} {bodyparts[at]} at ({points[at, 0]:.6g}, {points[at, 1]:.6g})"
        for at in np.flatnonzero(beyond).tolist()
    ]


def _disagreement(table: _Table, xy: np.ndarray, project: DlcProject, file: _LabelFile) -> list[str]:
    """Return a note if the csv beside an h5 says something else."""
    assert file.csv is not None
    try:
        other = _read_csv(file.csv, file.scorer)
        other_xy, _ = _in_project_order(other, project, file.csv)
    except InputError as err:
        return [f"{file.csv.name} could not be compared with the h5, which was used: {err}"]
    theirs = dict(zip(other.rows, other_xy, strict=True))
    ours = dict(zip(table.rows, xy, strict=True))
    lone = len(ours.keys() ^ theirs.keys())
    differ = sum(
        not np.allclose(ours[row], theirs[row], rtol=0, atol=_SAME_PX, equal_nan=True)
        for row in ours.keys() & theirs.keys()
    )
    if not lone and not differ:
        return []
    return [
        f"h5 and csv disagree ({differ} images with other numbers, {lone} in one of them only): "
        "the h5 was used, as DeepLabCut does"
    ]


# --- tables ---------------------------------------------------------------------------------------


def _read_h5(path: Path, scorer: str) -> _Table:
    import pandas as pd

    content = path.read_bytes()  # read once: what is checked is what is used, and no lock is left on a share
    try:
        _refuse_foreign_objects(content, path)
        with (
            _hdf5,
            pd.HDFStore(
                _IN_MEMORY,
                mode="r",
                driver="H5FD_CORE",
                driver_core_image=content,
                driver_core_backing_store=0,
            ) as store,
        ):
            keys = store.keys()
            frame = store.get(keys[0]) if len(keys) == 1 else None
    except InputError:
        raise
    except Exception as err:
        why = (str(err).strip() or type(err).__name__).splitlines()[-1]  # HDF5 gives a back trace
        raise InputError(
            f"{path} cannot be read as DeepLabCut's label table ({why}). "
            "Save the labels again, or remove the file to use the csv beside it."
        ) from err
    if not isinstance(frame, pd.DataFrame):
        raise InputError(f"{path} should hold one table of labels, but holds {len(keys)} ({_listed(keys)}).")
    return _table_of_frame(frame, path, scorer)


def _table_of_frame(frame: pd.DataFrame, path: Path, scorer: str) -> _Table:
    if frame.columns.nlevels not in (3, 4):
        raise InputError(
            f"{path}: label columns should have the levels scorer, bodyparts, coords, "
            f"but have {frame.columns.nlevels} level(s)."
        )
    levels = _HEADER if frame.columns.nlevels == 4 else ("scorer", "bodyparts", "coords")
    rows = ["/".join(map(str, entry)) if isinstance(entry, tuple) else str(entry) for entry in frame.index.tolist()]
    try:
        values = frame.to_numpy(dtype=np.float64)
    except (TypeError, ValueError) as err:
        raise InputError(f"{path}: coordinates should be numbers in px: {err}") from err
    return _table(path, scorer, levels, [tuple(map(str, column)) for column in frame.columns], rows, values)


def _read_csv(path: Path, scorer: str) -> _Table:
    try:
        text = path.read_text(encoding="utf-8-sig")
        lines = [line for line in csv.reader(io.StringIO(text, newline="")) if any(line)]
    except (OSError, ValueError, csv.Error) as err:
        raise InputError(f"{path} cannot be read as a table of labels: {err}") from err
    head = next((at for at, line in enumerate(lines) if line[0] not in _HEADER), len(lines))
    levels = tuple(line[0] for line in lines[:head])
    if levels not in (_HEADER, ("scorer", "bodyparts", "coords")):
        raise InputError(
            f"{path} should start with the lines scorer, bodyparts, coords, separated by commas, as "
            f"DeepLabCut writes them; it starts with {text[:60]!r}."
        )
    lead = next((at for at, cell in enumerate(lines[head - 1]) if at and cell), len(lines[head - 1]))
    columns = list(zip(*(line[lead:] for line in lines[:head]), strict=False))
    rows = ["/".join(cell for cell in line[:lead] if cell) for line in lines[head:]]
    values = np.full((len(rows), len(columns)), np.nan)
    for at, line in enumerate(lines[head:]):
        cells = line[lead:]
        if any(cells[len(columns) :]):
            raise InputError(f"{path}, row {rows[at]}: {len(cells)} values, but the header names {len(columns)}.")
        for column, cell in enumerate(cells[: len(columns)]):
            values[at, column] = _number(cell, path, rows[at])
    return _table(path, scorer, levels, columns, rows, values)


def _number(cell: str, path: Path, row: str) -> float:
    if cell.strip().lower() in _EMPTY_CELLS:
        return math.nan
    try:
        return float(cell)
    except ValueError as err:
        raise InputError(f'{path}, row {row}: a coordinate should be a number in px, but is "{cell}".') from err


def _table(
    path: Path,
    scorer: str,
    levels: Sequence[str],
    columns: Sequence[tuple[str, ...]],
    rows: Iterable[str],
    values: np.ndarray,
) -> _Table:
    """Sort a label file's columns into rows x body parts x 2; napari's likelihood columns are left out."""
    if "individuals" in levels:
        raise InputError(f"{path} has the column level individuals: {_MULTI_ANIMAL}.")
    at = {
        (column[1].strip(), column[2].strip()): index
        for index, column in enumerate(columns)
        if column[2].strip() != "likelihood"
    }
    parts = tuple(dict.fromkeys(part for part, _ in at))
    seen = Counter((column[1].strip(), column[2].strip()) for column in columns)
    wrong = {part for part in parts if {coord for of, coord in at if of == part} != {"x", "y"}}
    wrong |= {part for (part, _), times in seen.items() if times > 1}
    if wrong or not parts:
        raise InputError(
            f"{path}: each body part should have one column x and one column y"
            f"{f'; {_listed(wrong)} has not' if wrong else ', but the file has no body part'}."
        )
    xy = np.stack([values[:, [at[part, "x"], at[part, "y"]]] for part in parts], axis=1)
    posix_rows = tuple(row.replace("\\", "/") for row in rows)
    return _Table(parts, posix_rows, xy, _scorer_notes(path, scorer, {column[0].strip() for column in columns}))


def _scorer_notes(path: Path, scorer: str, stated: set[str]) -> tuple[str, ...]:
    if len(stated) > 1:
        raise InputError(f"{path}: one label file should have one scorer, but this one names {_listed(stated)}.")
    if stated == {scorer}:
        return ()
    return (f'{path.name} names "{_listed(stated)}" as its scorer inside; the file name counts',)


def _in_project_order(table: _Table, project: DlcProject, path: Path) -> tuple[np.ndarray, int]:
    """Return rows x the project's body parts x 2 (NaN where not labeled), and how many were half given."""
    for part in table.bodyparts:
        if part not in project.bodyparts:
            raise InputError(
                f'{path} labels the body part "{part}", which {project.config_path} does not list '
                f"({', '.join(project.bodyparts)}).{did_you_mean(part, project.bodyparts)} "
                "Add it to bodyparts in config.yaml, or rename or remove it in the label file."
            )
    xy = np.full((len(table.rows), len(project.bodyparts), 2), np.nan)
    for at, part in enumerate(table.bodyparts):
        xy[:, project.bodyparts.index(part)] = table.xy[:, at]
    given = np.isfinite(xy)
    half = given.any(axis=2) & ~given.all(axis=2)
    xy[~given.all(axis=2)] = np.nan
    return xy, int(half.sum())


# --- objects inside h5 files ----------------------------------------------------------------------


class _ForeignObject(Exception):
    """A pickle asks for a class or function that no table of labels needs."""


class _PlainUnpickler(pickle.Unpickler):
    _ALLOWED = frozenset(
        [(f"numpy.{core}.multiarray", name) for core in ("core", "_core") for name in ("_reconstruct", "scalar")]
        + [(f"numpy.{core}.numeric", "_frombuffer") for core in ("core", "_core")]
        + [("numpy", "dtype"), ("numpy", "ndarray"), ("_codecs", "encode")]
        + [("pandas.core.indexes.frozen", "FrozenList"), ("pandas.core.base", "FrozenList")]
    )

    def find_class(self, module_name: str, global_name: str) -> Any:
        if (module_name, global_name) not in self._ALLOWED:
            raise _ForeignObject(f"{module_name}.{global_name}")
        return super().find_class(module_name, global_name)


def _refuse_foreign_objects(content: bytes, path: Path) -> None:
    """Raise if PyTables, which unpickles attributes and object columns, would run the file's code."""
    import h5py

    def look(_: str, node: Any) -> None:
        for value in node.attrs.values():
            if isinstance(value, bytes | str):
                _check_pickle(value.encode("latin1", "ignore") if isinstance(value, str) else bytes(value))
        if isinstance(node, h5py.Dataset) and h5py.check_vlen_dtype(node.dtype) == np.uint8:
            for value in node[()]:
                _check_pickle(np.asarray(value, dtype=np.uint8).tobytes())

    try:
        with h5py.File(io.BytesIO(content), "r") as file:
            look("/", file)
            file.visititems(look)
    except _ForeignObject as err:
        raise InputError(
            f"{path} holds a Python object ({err}) that a table of labels does not need; opening it could "
            "run foreign code. Save the labels again with DeepLabCut, or remove the file to use the csv "
            "beside it."
        ) from err


def _check_pickle(value: bytes) -> None:
    try:
        _PlainUnpickler(io.BytesIO(value), encoding="latin1").load()
    except _ForeignObject:
        raise
    except Exception:  # noqa: BLE001 - most texts are no pickles, and fail in every way there is
        return


# --- images ---------------------------------------------------------------------------------------


def image_size(path: Path) -> tuple[int, int] | None:
    """Return (width, height) in px from the image's header, or None if it is not an image."""
    return _image_size(path, *_signature(path))


@functools.lru_cache(maxsize=200_000)
def _image_size(path: Path, _size: int, _mtime_ns: int) -> tuple[int, int] | None:
    from PIL import Image

    try:
        with Image.open(path) as image:
            return image.width, image.height
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):  # SyntaxError: PIL's broken PNG
        return None


def _content(image: LabeledImage) -> list[Any]:
    xy = [None if math.isnan(value) else value for value in image.xy.ravel().tolist()]
    return [image.folder, image.name, image.scorer, xy, image_hash(image.path)]


def image_hash(path: Path) -> str:
    """Return the sha256 (hex) of an image file, computed once as long as its size and time of change stay."""
    return _image_hash(path, *_signature(path))


@functools.lru_cache(maxsize=200_000)
def _image_hash(path: Path, _size: int, _mtime_ns: int) -> str:
    return sha256_file(path)


def _signature(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


# --- words ----------------------------------------------------------------------------------------


def _nothing_used(project: DlcProject, counts: Sequence[FolderCount]) -> str:
    account = "; ".join(count.sentence() for count in counts) or "it has no folders"
    examples = [example for count in counts for example in count.examples][:_EXAMPLES_PER_REASON]
    return (
        f"No labeled frame can be used in {project.root / 'labeled-data'}: {account}."
        f"{f' For example {examples[0]}.' if examples else ''} "
        "Label frames, or choose other videos or scorers."
    )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
