"""Reading what other programs estimated: DeepLabCut's tables of every release, SLEAP's analysis files, Lightning Pose's csv files.

What a file is, its content says, not its name. Nothing in it is run (`adoption.h5_tables`), nothing in it is changed: what looks wrong is
kept and said, with the row.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dlc_assets.adoption.assembly_files import ASSEMBLIES, NOT_TRACKED, read_assemblies
from dlc_assets.adoption.csv_tables import LEVELS, csv_body, csv_head, csv_span
from dlc_assets.adoption.h5_tables import H5Table, h5_keys, h5_table
from dlc_assets.adoption.result_problems import content_problems, gaps
from dlc_assets.adoption.sleap_tables import is_sleap, sleap_head, sleap_values
from dlc_assets.lab.errors import InputError, NotFoundError
from dlc_assets.poses.schema import Track

Kind = Literal["dlc-h5", "dlc-csv", "sleap", "lightning-pose", "dlc-assemblies"]

HOLDOUT = ".HOLDOUT"
_HDF5 = b"\x89HDF\r\n\x1a\n"
_KEYS = ("df_with_missing", "tracks")  # DeepLabCut's names of its tables, where a file holds several
_COORDS = ("x", "y", "likelihood")
_MANGLED = re.compile(r"\.\d+$")  # what pandas appends to a column that it takes for another's twin
_LIGHTNING_POSE = re.compile(r".*_tracker(_.*)?")
_IMAGE = re.compile(r"\D*(\d+)\.\w+")
_LISTED = 3


@dataclass(frozen=True)
class ResultHeader:
    """What a result file says of itself, read in milliseconds.

    Parameters
    ----------
    kind
        Which program's table it is.
    scorer
        The network's name as the table has it; empty where it has none.
    individuals
        In the table's order; ``("",)`` for a single animal.
    bodyparts
        In the table's order.
    rows
        Frames that it spans; of a csv table by the numbers of its first and last line; None where these are no numbers.
    filtered
        Whether it is the outcome of DeepLabCut's filterpredictions.
    labels
        Whether its rows are labelled images rather than frames.
    video
        The video that it says it is of (SLEAP alone), else empty.
    problems
        What the header tells of what is wrong.
    """

    path: Path
    kind: Kind
    scorer: str
    individuals: tuple[str, ...]
    bodyparts: tuple[str, ...]
    rows: int | None
    filtered: bool
    labels: bool
    video: str = ""
    problems: tuple[str, ...] = ()


@dataclass(frozen=True)
class ResultTable:
    """The poses of a result file.

    Parameters
    ----------
    frames
        Shape (rows,), int64, strictly rising: the frame of each row, as the file numbers them.
    tracks
        One for each individual and body part that the table has, in its order, as long as *frames*: float32, px as the file has them.
    images
        Of a table of labels, the image of each row; None otherwise.
    problems
        A sentence for everything that the person should know, by row.
    """

    path: Path
    kind: Kind
    scorer: str
    individuals: list[str]
    bodyparts: list[str]
    frames: np.ndarray
    tracks: list[Track]
    filtered: bool
    images: list[str] | None = None
    problems: list[str] = field(default_factory=list)


def file_name(path: Path) -> str:
    """Return the name of the file at *path*, without folders that an archive made on Windows may have put into it."""
    return path.name.replace("\\", "/").rsplit("/", 1)[-1]


def plain_name(path: Path) -> str:
    """Return the file's name without `HOLDOUT` marks, suffix and ``_filtered``: what DeepLabCut called the video and network."""
    stem = re.sub(re.escape(HOLDOUT), "", file_name(path), flags=re.IGNORECASE)
    stem = re.sub(r"\.(h5|hdf5|csv)$", "", stem, flags=re.IGNORECASE)
    return stem.removesuffix("_filtered")


def is_filtered(path: Path) -> bool:
    """Say whether DeepLabCut's filterpredictions made the file, by its name."""
    stem = re.sub(r"\.(h5|hdf5|csv)|" + re.escape(HOLDOUT), "", file_name(path), flags=re.IGNORECASE)
    return stem.endswith("_filtered")


def junk(path: Path) -> str:
    """Return why *path* is no result file though it is named like one; empty where it may be one."""
    if "__MACOSX" in re.split(r"[/\\]", str(path)):
        return "it lies in __MACOSX, where macOS keeps the attributes of files in an archive, not their content"
    if file_name(path).startswith("._"):
        return "its name begins with ._, as macOS calls the attributes of a file, not its content"
    return ""


def result_header(path: Path) -> ResultHeader:
    """Read what the result file at *path* is, and of whom, without its poses.

    Raises
    ------
    NotFoundError
        There is no file.
    InputError
        It is no table of poses, or one that cannot be read.
    """
    if _is_assemblies(path):
        table = _assemblies(path)
        rows = int(table.frames[-1]) + 1 if len(table.frames) else 0
        names = tuple(table.individuals), tuple(table.bodyparts)
        return ResultHeader(path, table.kind, table.scorer, *names, rows, False, False, problems=tuple(table.problems))
    if _is_hdf5(path):
        with _opened(path) as file:
            if is_sleap(file):
                head = sleap_head(file, path)
                return ResultHeader(
                    path,
                    "sleap",
                    "",
                    head.individuals,
                    head.bodyparts,
                    head.frames,
                    False,
                    False,
                    head.video,
                    head.problems,
                )
            held = _dlc_table(file, path)
            columns = _columns(path, held.levels, held.columns)
            return _header(path, "dlc-h5", columns, held.rows, held.images)
    head_of_csv = csv_head(path)
    columns = _columns(path, head_of_csv.levels, head_of_csv.columns)
    span = csv_span(path, head_of_csv)
    columns.problems[:0] = head_of_csv.problems
    return _header(path, _csv_kind(columns.scorer), columns, span, span is None)


def read_result(path: Path) -> ResultTable:
    """Read the poses of the result file at *path*.

    Parameters
    ----------
    path
        A table of DeepLabCut (h5 or csv), an analysis file of SLEAP, or a csv table of Lightning Pose. Nothing in it is run.

    Returns
    -------
    ResultTable
        Equal to the file's values in float32. A likelihood that the table lacks is NaN.

    Raises
    ------
    NotFoundError
        There is no file.
    InputError
        It is no table of poses; columns or frames cannot be told apart; or it holds pickles.
    """
    if _is_assemblies(path):
        return _assemblies(path)
    if _is_hdf5(path):
        with _opened(path) as file:
            if is_sleap(file):
                return _sleap(path, file)
            table = _dlc_table(file, path)
            columns = _columns(path, table.levels, table.columns)
            index, values = table.index(), table.values()
        return _result(path, "dlc-h5", columns, index, values, None)
    head = csv_head(path)
    columns = _columns(path, head.levels, head.columns)
    body = csv_body(path, head)
    columns.problems[:0] = [*head.problems, *body.problems]
    return _result(path, _csv_kind(columns.scorer), columns, _csv_index(body.index), body.values, body.lines)


def images_of(path: Path) -> list[str] | None:
    """Return the images that the rows of the table of labels at *path* are of, in its order; None of a table of results.

    Raises
    ------
    InputError, NotFoundError
        As `read_result`.
    """
    if _is_hdf5(path):
        with _opened(path) as file:
            index = None if is_sleap(file) else _dlc_table(file, path).index()
    else:
        index = _csv_index(csv_body(path, csv_head(path)).index)
    return index if isinstance(index, list) else None


@dataclass
class _Columns:
    """What the columns of a table are: for each individual and body part, the places of x, y and (-1: none) the likelihood."""

    scorer: str
    places: dict[tuple[str, str], tuple[int, int, int]]
    problems: list[str]

    @property
    def individuals(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(individual for individual, _ in self.places))

    @property
    def bodyparts(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(bodypart for _, bodypart in self.places))


def _is_hdf5(path: Path) -> bool:
    why = junk(path)
    if why:
        raise InputError(f"{path} is not read: {why}. Leave it out.")
    try:
        with path.open("rb") as file:
            begin = file.read(len(_HDF5))
    except FileNotFoundError:
        raise NotFoundError(f"There is no result file at {path}.") from None
    except IsADirectoryError:
        raise InputError(f"{path}: expected a result file, got a folder.") from None
    if begin == _HDF5:
        return True
    suffix = Path(re.sub(re.escape(HOLDOUT), "", file_name(path), flags=re.IGNORECASE)).suffix.casefold()
    if suffix in {".h5", ".hdf5"}:
        what = "is empty" if not begin else "begins with other bytes: it is damaged, or was not copied whole"
        raise InputError(f"{path}: expected an HDF5 file, but it {what}.")
    if suffix != ".csv" or b"\0" in begin:
        hint = (
            " Of DeepLabCut's pickles, assemblies alone hold poses by animal; import the h5 that tracking made."
            if suffix == ".pickle"
            else ""
        )
        raise InputError(f"{path}: expected a table of poses, an HDF5 file or a csv, got neither.{hint}")
    return False


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open the HDF5 file at *path* for reading; what h5py cannot read of it is an InputError."""
    import h5py

    try:
        with h5py.File(path, "r") as file:
            yield file
    except (KeyError, IndexError, AttributeError, TypeError, ValueError, OSError, RuntimeError) as error:
        raise InputError(
            f"{path}: expected an HDF5 file with a table of poses, but it is damaged or was not copied whole: {error}"
        ) from None


def _dlc_table(file: Any, path: Path) -> H5Table:
    keys = h5_keys(file)
    if not keys:
        held = ", ".join(file) or "nothing"
        raise InputError(f"{path}: expected a table of poses of DeepLabCut or SLEAP, but this HDF5 file holds {held}.")
    known = [key for key in _KEYS if key in keys]
    if len(keys) > 1 and not known:
        raise InputError(
            f"{path}: expected one table of poses, got {len(keys)}: {', '.join(keys)}. Keep one in the file."
        )
    return h5_table(file, (known or keys)[0], path)


def _columns(path: Path, levels: Sequence[str], columns: Sequence[tuple[str, ...]]) -> _Columns:
    """Return what *columns* are; raises InputError where they cannot be told apart."""
    named = [level.strip().casefold() for level in levels]
    if not any(named) and len(named) in {3, 4}:  # a program in between has dropped the names
        named = [level for level in LEVELS if len(named) == 4 or level != "individuals"]
    for level in ("bodyparts", "coords"):
        if level not in named:
            raise InputError(
                f'{path}: the columns have no level "{level}": expected scorer, (individuals,) bodyparts, coords, got '
                f"{', '.join(map(repr, levels)) or 'none'}. This is no table of poses, or a header line is missing."
            )
    problems: list[str] = []
    of_level = {level: [column[place].strip() for column in columns] for place, level in enumerate(named)}
    scorer = _scorer(path, of_level.get("scorer", []), problems)
    individuals = of_level.get("individuals", [""] * len(columns))
    places: dict[tuple[str, str], dict[str, int]] = {}
    others: list[str] = []
    for place, (individual, bodypart, coord) in enumerate(
        zip(individuals, of_level["bodyparts"], of_level["coords"], strict=True)
    ):
        if not bodypart or not coord:
            raise InputError(
                f"{path}: column {place + 1} of the values has no name ({bodypart or '?'}, {coord or '?'})."
            )
        if coord not in _COORDS:
            others.append(coord)
            continue
        of_track = places.setdefault((individual, bodypart), {})
        if coord in of_track:
            who = f"{individual}, {bodypart}" if individual else bodypart
            hint = (
                ""
                if "individuals" in named
                else ' If there are several animals, the header line "individuals" is missing.'
            )
            raise InputError(
                f"{path}: the column {who}, {coord} comes twice (columns {of_track[coord] + 1} and {place + 1}).{hint}"
            )
        of_track[coord] = place
    if others:
        problems.append(f"columns of other coordinates were not taken: {', '.join(dict.fromkeys(others))}")
    made: dict[tuple[str, str], tuple[int, int, int]] = {}
    for (individual, bodypart), of_track in places.items():
        if not {"x", "y"} <= of_track.keys():
            who = f"{individual}, {bodypart}" if individual else bodypart
            raise InputError(f"{path}: expected x and y of {who}, got {', '.join(of_track)} alone.")
        made[individual, bodypart] = of_track["x"], of_track["y"], of_track.get("likelihood", -1)
    if not made:
        raise InputError(f"{path}: the table has no columns of poses.")
    without = [bodypart for (_, bodypart), of_track in made.items() if of_track[2] < 0]
    if without:
        which = (
            "the table has no likelihood"
            if len(without) == len(made)
            else f"no likelihood of {', '.join(dict.fromkeys(without))}"
        )
        problems.append(f"{which}: it is empty in the poses, and a p-cutoff has nothing to go by")
    if "individuals" in named and "" in {individual for individual, _ in made} and len({i for i, _ in made}) > 1:
        raise InputError(f"{path}: an individual has no name, though others have one.")
    return _Columns(scorer, made, problems)


def _scorer(path: Path, stated: Sequence[str], problems: list[str]) -> str:
    names = list(dict.fromkeys(stated))
    if len(names) > 1:
        plain = {names[0], *(_MANGLED.sub("", name) for name in names[1:])}
        if len(plain) > 1:
            listed = ", ".join(repr(name) for name in names[:_LISTED])
            raise InputError(
                f"{path}: expected the poses of one network, got {len(names)} scorers: {listed}. Split the table by scorer."
            )
        problems.append(
            f'the scorer is numbered through, as pandas does with equal names: "{names[0]}" to "{names[-1]}" are read as one'
        )
    if names and not names[0]:
        problems.append("the scorer is empty: the table does not say which network it is of")
    return names[0] if names else ""


def _header(path: Path, kind: Kind, columns: _Columns, rows: int | None, labels: bool) -> ResultHeader:
    problems = [*columns.problems, *_of_name(path)]
    return ResultHeader(
        path,
        kind,
        columns.scorer,
        columns.individuals,
        columns.bodyparts,
        rows,
        is_filtered(path),
        labels,
        problems=tuple(problems),
    )


def _of_name(path: Path) -> list[str]:
    if HOLDOUT.casefold() in file_name(path).casefold():
        return [f"the file is marked {HOLDOUT}: somebody put it aside, so that it was not used"]
    return []


def _csv_kind(scorer: str) -> Kind:
    return "lightning-pose" if _LIGHTNING_POSE.fullmatch(scorer) else "dlc-csv"


def _csv_index(index: list[str]) -> np.ndarray | list[str]:
    """Return frame numbers where every line has one, else the names as they are."""
    try:
        return np.array(index, dtype=np.float64) if index else np.empty(0)
    except ValueError:
        return index


def _result(
    path: Path,
    kind: Kind,
    columns: _Columns,
    index: np.ndarray | list[str],
    values: np.ndarray,
    lines: np.ndarray | None,
) -> ResultTable:
    word, where = ("row", np.arange(1, len(index) + 1)) if lines is None else ("line", lines)

    def row(number: int) -> str:
        return f"{word} {where[number]}"

    problems = [*columns.problems, *_of_name(path)]
    images = None
    if isinstance(index, list):
        images = [name.replace("\\", "/") for name in index]
        frames = _frames_of_images(path, images, index, row, problems)
    else:
        frames = _frame_numbers(path, index, row)
    order = np.argsort(frames, kind="stable")
    twice = np.flatnonzero(np.diff(frames[order]) == 0)
    if len(twice):
        one, other = order[twice[0]], order[twice[0] + 1]
        raise InputError(
            f"{path}: frame {frames[one]} comes twice, in {row(int(one))} and {row(int(other))} ({len(twice)} such frames). Results of "
            "several videos, or of two analyses, may have been put together: split them."
        )
    unordered = np.flatnonzero(np.diff(frames) < 0)
    if len(unordered):
        at = int(unordered[0])
        problems.append(
            f"{row(at + 1)}: frame {frames[at + 1]} comes after frame {frames[at]}; the rows were put in the order of frames"
        )
        frames, values = frames[order], values[:, order]
        where = where[order]
        images = None if images is None else [images[place] for place in order]
    if images is None:
        problems += gaps(frames)
    tracks = []
    for (individual, bodypart), (x, y, likelihood) in columns.places.items():
        score = np.full(len(frames), np.nan, dtype=np.float32) if likelihood < 0 else values[likelihood]
        tracks.append(Track(individual, bodypart, values[x], values[y], score))
    problems += content_problems(tracks, frames, row)
    return ResultTable(
        path,
        kind,
        columns.scorer,
        list(columns.individuals),
        list(columns.bodyparts),
        frames,
        tracks,
        is_filtered(path),
        images,
        problems,
    )


def _sleap(path: Path, file: Any) -> ResultTable:
    head = sleap_head(file, path)
    values = sleap_values(file, head)
    frames = np.arange(head.frames, dtype=np.int64)
    tracks = [
        Track(individual, bodypart, *values[track, node])
        for track, individual in enumerate(head.individuals)
        for node, bodypart in enumerate(head.bodyparts)
    ]
    problems = [*head.problems, *_of_name(path)]
    if all(np.isnan(track.likelihood).all() for track in tracks):
        problems.append("the file has no point scores: the likelihood is empty, and a p-cutoff has nothing to go by")
    problems += content_problems(tracks, frames, lambda number: f"row {number + 1}")
    return ResultTable(
        path,
        "sleap",
        "",
        list(head.individuals),
        list(head.bodyparts),
        frames,
        tracks,
        is_filtered(path),
        None,
        problems,
    )


def _is_assemblies(path: Path) -> bool:
    return file_name(path).endswith(ASSEMBLIES) and not junk(path) and path.is_file()


def _assemblies(path: Path) -> ResultTable:
    held = read_assemblies(path)
    individuals = [f"animal{number + 1}" for number in range(len(held.values))]
    tracks = [
        Track(individual, bodypart, *held.values[animal, part])
        for animal, individual in enumerate(individuals)
        for part, bodypart in enumerate(held.bodyparts)
    ]
    tracks += [Track("single", bodypart, *held.unique[part]) for part, bodypart in enumerate(held.unique_bodyparts)]
    problems = [NOT_TRACKED.format(first="animal1")] if len(individuals) > 1 else []
    problems += [*_of_name(path), *gaps(held.frames)]
    problems += content_problems(tracks, held.frames, lambda number: f"row {number + 1}")
    if held.unique_bodyparts:
        individuals.append("single")
    bodyparts = [*held.bodyparts, *held.unique_bodyparts]
    return ResultTable(
        path, "dlc-assemblies", held.scorer, individuals, bodyparts, held.frames, tracks, False, None, problems
    )


def _frame_numbers(path: Path, index: np.ndarray, row: Callable[[int], str]) -> np.ndarray:
    wrong = np.flatnonzero(~np.isfinite(index) | (index < 0) | (index != np.floor(index))) if index.dtype.kind == "f" else (
        np.flatnonzero(index < 0) if index.dtype.kind == "i" else np.empty(0, dtype=np.int64)
    )  # fmt: skip
    if len(wrong):
        raise InputError(
            f"{path}, {row(int(wrong[0]))}: expected a frame number from 0 as its index, got {index[wrong[0]]} ({len(wrong)} such rows)."
        )
    return index.astype(np.int64)


def _frames_of_images(
    path: Path, images: list[str], stated: list[str], row: Callable[[int], str], problems: list[str]
) -> np.ndarray:
    """Return the frames that the images' names number; the rows' own numbers where they do not."""
    problems.append(
        f"the rows are labelled images ({images[0]} ...), not the frames of one video: this is a table of labels, not of results"
        if images
        else "the table is empty"
    )
    backslashes = sum("\\" in name for name in stated)
    if backslashes:
        first = next(place for place, name in enumerate(stated) if "\\" in name)
        problems.append(
            f"{backslashes} image(s) have paths with backslashes, as Windows writes them, from {row(first)} on: read as /"
        )
    numbered = [_IMAGE.fullmatch(name.rsplit("/", 1)[-1]) for name in images]
    folders = {name.rsplit("/", 1)[0] if "/" in name else "" for name in images}
    if len(folders) > 1:
        problems.append(f"the images lie in {len(folders)} folders, those of as many videos: rows are numbered from 0")
        return np.arange(len(images), dtype=np.int64)
    if not all(numbered):
        at = next(place for place, found in enumerate(numbered) if found is None)
        problems.append(f"{row(at)}: the image {images[at]} does not say which frame it is; rows are numbered from 0")
        return np.arange(len(images), dtype=np.int64)
    return np.array([int(found[1]) for found in numbered if found is not None], dtype=np.int64)
