"""Tables of poses and labels in csv files, as DeepLabCut and Lightning Pose write them: three or four header lines, then one a frame."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dlc_assets.lab.errors import InputError

LEVELS = ("scorer", "individuals", "bodyparts", "coords")
_CHUNK_LINES = 100_000
_LISTED = 3
_TAIL_BYTES = 1 << 16
_NUMBER = re.compile(r"[-+]?\d+(\.0*)?")
_NOT_A_NUMBER = {"", "nan", "na", "n/a", "null", "none", "<na>", "-nan", "#n/a"}


@dataclass(frozen=True)
class CsvHead:
    """The header of a csv table: *levels* and *columns* (one name by level), *header* lines, and *index* columns before the values."""

    levels: tuple[str, ...]
    columns: tuple[tuple[str, ...], ...]
    header: int
    index: int
    problems: tuple[str, ...]


def csv_head(path: Path) -> CsvHead:
    """Read the header of the csv table at *path*.

    Raises
    ------
    InputError
        A line of the header is missing that cannot be done without (bodyparts, coords), or the lines differ in length.
    """
    problems: list[str] = []
    lines: dict[str, list[str]] = {}
    number = 0
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            for number, cells in enumerate(csv.reader(file), start=1):
                level = cells[0].strip().casefold() if cells else ""
                if level not in LEVELS:
                    break
                if level in lines:
                    raise InputError(f'{path}, line {number}: the header line "{level}" comes twice.')
                lines[level] = [cell.strip() for cell in cells]
            else:
                number += 1
    except csv.Error as error:
        raise InputError(
            f"{path}, line {number + 1}: expected a csv table of poses, but it cannot be read: {error}"
        ) from None
    header = len(lines)
    for level in ("bodyparts", "coords"):
        if level not in lines:
            found = ", ".join(lines) or "none of them"
            raise InputError(
                f'{path}: the header line "{level}" is missing. Expected the lines scorer, (individuals,) bodyparts, coords at the '
                f"top, found {found} before line {header + 1}. Put the line back, or export the table again."
            )
    if "scorer" not in lines:
        problems.append('line 1: the header line "scorer" is missing; the table does not say which network it is of')
    width = len(lines["coords"])
    scorers = lines.get("scorer", [])
    if 1 < len(scorers) < width:
        place = list(lines).index("scorer") + 1
        problems.append(
            f'line {place}: the header line "scorer" has {len(scorers)} cells, and "coords" has {width}: the last scorer is taken for all '
            "that follow"
        )
        scorers += [scorers[-1]] * (width - len(scorers))
    for place, (level, cells) in enumerate(lines.items(), start=1):
        if len(cells) != width:
            raise InputError(
                f'{path}, line {place}: the header line "{level}" has {len(cells)} cells, and "coords" has {width}. Export the table '
                "again; columns cannot be told apart."
            )
    index = next((place for place, cell in enumerate(lines["coords"]) if place and cell), width)
    levels = tuple(level for level in LEVELS if level in lines)
    columns = tuple(zip(*(lines[level][index:] for level in levels), strict=True))
    return CsvHead(levels, columns, header, index, tuple(problems))


def csv_span(path: Path, head: CsvHead) -> int | None:
    """Return how many frames the csv table spans by the numbers of its first and last line, without reading those between.

    None where its lines are not numbered (labels are by image).
    """
    with path.open("rb") as file:
        for _ in range(head.header):
            file.readline()
        first = file.readline()
        end = file.seek(0, 2)
        file.seek(max(0, end - _TAIL_BYTES))
        tail = file.read().rstrip().rsplit(b"\n", 1)[-1]
    cells = [line.split(b",", 1)[0].strip().decode("latin-1") for line in (first, tail)]
    if not first.strip():
        return 0
    numbers = [_NUMBER.fullmatch(cell) for cell in cells]
    if head.index != 1 or None in numbers:
        return None
    return int(float(cells[1])) - int(float(cells[0])) + 1


@dataclass(frozen=True)
class CsvBody:
    """The lines of a csv table: *index* as written, *values* (columns, rows) float32, *lines* (rows,) the line in the file of each."""

    index: list[str]
    values: np.ndarray
    lines: np.ndarray
    problems: tuple[str, ...]


def csv_body(path: Path, head: CsvHead) -> CsvBody:
    """Read the lines below the header. What is no number becomes NaN, and is said with its line.

    Raises
    ------
    InputError
        A line has more cells than the header.
    """
    import pandas as pd

    width = head.index + len(head.columns)
    problems: list[str] = []
    wrong: list[str] = []
    wrongs = 0
    index: list[str] = []
    blocks: list[np.ndarray] = []
    lines: list[np.ndarray] = []
    unnumbered: list[int] = []
    suspects: list[int] = []
    first_line = head.header + 1
    try:
        chunks = pd.read_csv(
            path,
            header=None,
            names=list(range(width)),
            skiprows=head.header,
            dtype=dict.fromkeys(range(head.index), str),
            keep_default_na=True,
            skip_blank_lines=False,
            index_col=False,
            float_precision="round_trip",
            chunksize=_CHUNK_LINES,
            encoding="utf-8-sig",
            encoding_errors="replace",
            on_bad_lines="error",
            low_memory=False,
        )
        for chunk in chunks:
            numbers = first_line + np.arange(len(chunk))
            first_line += len(chunk)
            names = (
                chunk.iloc[:, : head.index].fillna("").agg("/".join, axis=1) if head.index > 1 else chunk[0].fillna("")
            )
            values = np.empty((len(head.columns), len(chunk)), dtype=np.float32)
            for place in range(len(head.columns)):
                column = chunk[head.index + place]
                if column.dtype == object:
                    coerced = pd.to_numeric(column, errors="coerce")
                    for row in np.flatnonzero(coerced.isna() & column.notna()):
                        if str(column.iloc[row]).strip().casefold() in _NOT_A_NUMBER:
                            continue
                        wrongs += 1
                        if len(wrong) < _LISTED:
                            what = " ".join(head.columns[place][1:]) if len(head.levels) > 1 else str(place)
                            wrong.append(f'line {numbers[row]}, {what}: "{column.iloc[row]}"')
                    column = coerced
                values[place] = column.to_numpy(dtype=np.float32)
            if len(head.columns):
                suspects += list(numbers[np.isnan(values[-1])])
            named = (names.str.strip() != "").to_numpy()
            unnumbered += list(numbers[~named])
            index += [str(name).strip() for name in names[named]]
            blocks.append(values[:, named])
            lines.append(numbers[named])
    except pd.errors.EmptyDataError:
        pass
    except (pd.errors.ParserError, UnicodeError, csv.Error) as error:
        raise InputError(f"{path}: expected {width} cells a line, as in the header: {error}") from None
    if wrongs:
        problems.append(f"{wrongs} cell(s) hold no number and became empty: {'; '.join(wrong)}{_more(wrongs, wrong)}")
    short = _short_lines(path, set(suspects), width)
    if short:
        listed = [f"line {number} has {cells} of {width}" for number, cells in short[:_LISTED]]
        problems.append(
            f"{len(short)} line(s) have fewer cells than the header: {'; '.join(listed)}{_more(len(short), listed)}"
        )
    if unnumbered:
        listed = [str(number) for number in unnumbered[:_LISTED]]
        problems.append(
            f"{len(unnumbered)} line(s) have no frame number and were left out: line {', '.join(listed)}{_more(len(unnumbered), listed)}"
        )
    values = np.concatenate(blocks, axis=1) if blocks else np.empty((len(head.columns), 0), dtype=np.float32)
    return CsvBody(index, values, np.concatenate(lines) if lines else np.empty(0, dtype=np.int64), tuple(problems))


def _short_lines(path: Path, numbers: set[int], width: int) -> list[tuple[int, int]]:
    """Return those of the lines *numbers* that have fewer than *width* cells, with how many they have; blank ones apart."""
    found = []
    if numbers:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            for number, line in enumerate(file, start=1):
                if number in numbers and line.strip() and line.count(",") + 1 < width:
                    found.append((number, line.count(",") + 1))
    return found


def _more(count: int, listed: list[str]) -> str:
    return f" and {count - len(listed)} more" if count > len(listed) else ""
