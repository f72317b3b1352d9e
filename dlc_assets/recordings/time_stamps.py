"""Reading time stamps that lie beside a video, and giving each of its frames one: as given, or repaired as the lab says."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from dlc_assets.lab.errors import InputError, did_you_mean
from dlc_assets.lab.time_settings import Timestamps

_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# s; a frame so far from its session's start shows a wrong clock or unit, not a long recording.
_FARTHEST = 366 * 86_400.0
_LISTED = 5
_NO_FRAME = -(2**62)  # what stands for an unreadable number of a frame is no frame's, and no two are alike
_INTEGER = re.compile(r"[-+]?[0-9]+")


@dataclass
class TimeStamps:
    """The rows of one file of time stamps.

    Attributes
    ----------
    path
        The file.
    values
        (rows,) int64, float64 or Decimal (as objects, where a text is no integer): as they stand in the file, in its unit.
    ids
        (rows,) int64: the number of each row's frame; None where no such column is stated.
    row
        Names a row by its index, as a person finds it in the file.
    bad
        What stands in rows without a time or frame number, by index: said only where such a row is needed.
    """

    path: Path
    values: np.ndarray
    ids: np.ndarray | None
    row: Callable[[int], str]
    bad: dict[int, str] = field(default_factory=dict)


# --- reading --------------------------------------------------------------------------------------


def read_time_stamps(path: Path, settings: Timestamps, stated_in: str) -> TimeStamps:
    """Read the time stamps at *path*.

    Raises
    ------
    InputError
        The file is not there, cannot be read, or has no such column.
    """
    try:
        return _read_npy(path, settings) if path.suffix.lower() == ".npy" else _read_csv(path, settings)
    except FileNotFoundError:
        raise InputError(
            f"{path}: there is no such file of time stamps, which {stated_in} names. Put it there, correct the name, or "
            "write `timestamps: none` for this recording into session.yaml: its times then are those of the video."
        ) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: these time stamps cannot be read ({error}). Write the file again.") from None


def _read_npy(path: Path, settings: Timestamps) -> TimeStamps:
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise InputError(
            f"{path}: is no NumPy array of numbers ({error}). Save it with numpy.save as int64 or float64."
        ) from None
    if not isinstance(array, np.ndarray):
        raise InputError(f"{path}: is an archive of arrays. Save the one array with numpy.save.")

    def column(which: int | str | None, key: str) -> np.ndarray:
        if array.dtype.names is not None:
            names: Sequence[str] = array.dtype.names
            return array[names[_place(path, which, key, len(names), names)]].ravel()
        if array.ndim > 2 or array.ndim == 0:
            raise InputError(f"{path}: expected an array of one or two dimensions, got the shape {array.shape}.")
        if array.ndim == 1:
            _place(path, which, key, 1, None)
            return array
        return array[:, _place(path, which, key, array.shape[1], None)]

    values = column(settings.column, "column")
    if values.dtype.kind not in "iuf":
        raise InputError(f"{path}: expected numbers, got {values.dtype}. Save the time stamps as int64 or float64.")
    if values.dtype.kind == "u" and len(values) and int(values.max()) > np.iinfo(np.int64).max:
        raise InputError(f"{path}: {values.max()} is too large for a time stamp. Save the time stamps as int64.")
    values = values.astype(np.float64 if values.dtype.kind == "f" else np.int64)
    bad = {int(index): str(values[index]) for index in np.flatnonzero(~np.isfinite(values))}
    ids = None
    if settings.frame_column is not None:
        numbers = column(settings.frame_column, "frame_column")
        whole = numbers.dtype.kind in "iu" or (numbers.dtype.kind == "f" and bool((numbers % 1 == 0).all()))
        if not whole:
            raise InputError(f"{path}: frame_column {settings.frame_column}: expected whole numbers of frames.")
        ids = numbers.astype(np.int64)
    return TimeStamps(path, values, ids, lambda index: f"row {index} (the first is 0)", bad)


def _read_csv(path: Path, settings: Timestamps) -> TimeStamps:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        beginning = stream.readline()
        stream.seek(0)
        delimiter = next((sign for sign in "\t;" if sign in beginning), ",")
        reader = csv.reader(stream, delimiter=delimiter, skipinitialspace=True)
        rows: list[list[str]] = []
        lines: list[int] = []
        for cells in reader:
            rows.append([cell.strip() for cell in cells])
            lines.append(reader.line_num)
    while rows and not any(rows[-1]):  # a file may end in empty lines
        rows.pop()
    if not rows:
        raise InputError(f"{path}: holds no time stamps. Expected a line for each frame.")
    head = rows[0]
    named = isinstance(settings.column, str) or isinstance(settings.frame_column, str)
    place = _place(path, settings.column, "column", len(head), head)
    has_header = named or _number(_cell(head, place)) is None
    frame_place = (
        None if settings.frame_column is None else _place(path, settings.frame_column, "frame_column", len(head), head)
    )
    skipped = int(has_header)
    bad: dict[int, str] = {}
    numbers: list[int | Decimal] = []
    ids: list[int] = []
    for index, cells in enumerate(islice(rows, skipped, None)):
        number = _number(_cell(cells, place))
        if number is None:
            bad[index] = _shown(_cell(cells, place))
        elif any(cells[len(head) :]):  # a decimal comma, say, would give another number
            bad[index] = f"{len(cells)} cells where the first line has {len(head)}"
        numbers.append(0 if number is None else number)
        if frame_place is not None:
            text = _cell(cells, frame_place)
            if not _INTEGER.fullmatch(text):
                bad[index] = f"{_shown(text)} as the frame's number"
            ids.append(int(text) if _INTEGER.fullmatch(text) else _NO_FRAME - index)
    return TimeStamps(
        path,
        _as_array(numbers),
        None if frame_place is None else np.array(ids, dtype=np.int64),
        lambda index: f"line {lines[index + skipped]}",
        bad,
    )


def _place(path: Path, which: int | str | None, key: str, count: int, names: Sequence[str] | None) -> int:
    """Return the place of the column that *which* names by its name or number."""
    if which is None:
        if count != 1:
            listed = f": {', '.join(names)}" if names is not None else ""
            raise InputError(f"{path}: has {count} columns{listed}. State which holds the times, as column.")
        return 0
    if isinstance(which, int):
        if which >= count:
            raise InputError(f"{path}: {key} {which} is not there: it has {count}, numbered from 0.")
        return which
    if names is None or which not in names:
        listed = f" It has: {', '.join(names)}." if names is not None else " Its columns have no names; give a number."
        raise InputError(f'{path}: there is no column "{which}" ({key}).{did_you_mean(which, names or ())}{listed}')
    return list(names).index(which)


def _cell(cells: Sequence[str], place: int) -> str:
    return cells[place] if place < len(cells) else ""


def _shown(text: str) -> str:
    return "nothing" if text == "" else f'"{text[:40]}"'


def _number(text: str) -> int | Decimal | None:
    """Return a cell's exact number, None where it is none; NaN and infinity are none."""
    if _INTEGER.fullmatch(text):
        return int(text)
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


def _as_array(numbers: list[int | Decimal]) -> np.ndarray:
    if all(isinstance(number, int) and abs(number) < 2**62 for number in numbers):
        return np.array(numbers, dtype=np.int64)
    exact = np.empty(len(numbers), dtype=object)
    exact[:] = [Decimal(number) for number in numbers]
    return exact


# --- giving frames their times --------------------------------------------------------------------


def first_moment(stamps: TimeStamps, settings: Timestamps) -> datetime | None:
    """Return when the first time stamp of a ``unix`` clock was; None where it is no time."""
    if not len(stamps.values) or 0 in stamps.bad:
        return None
    seconds = Decimal(str(stamps.values[0])) / _PER_SECOND[settings.unit]
    try:
        return _EPOCH + timedelta(microseconds=int(seconds * 10**6))
    except OverflowError:
        return None


def times_of_frames(
    parts: Sequence[TimeStamps],
    frame_counts: Sequence[int],
    settings: Timestamps,
    start: datetime | None,
    offset: float,
) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the times of all frames of a recording, (frames,) float64 in s on its session's clock, and what was repaired, in sentences.

    Parameters
    ----------
    parts
        One for all frames, or one for each video file.
    frame_counts
        Frames of the videos that each of *parts* is for.
    start
        The session's start, which a ``unix`` clock needs.
    offset
        s, added to all times.

    Raises
    ------
    InputError
        Time stamps and frames do not go together, times do not increase, or cannot be times on this clock.
    """
    repaired: list[str] = []
    chosen: list[np.ndarray] = []
    for stamps, frames in zip(parts, frame_counts, strict=True):
        rows, sentence = _rows_of_frames(stamps, frames, settings)
        repaired += [sentence] if sentence else []
        chosen.append(rows)
    zero = _zero(parts[0], chosen[0], settings, start)
    pieces = []
    for stamps, rows in zip(parts, chosen, strict=True):
        known = np.flatnonzero(rows >= 0)
        seconds = _seconds(stamps.values[rows[known]], zero, settings.unit)
        _check_increasing(stamps, rows[known], seconds)
        pieces.append(np.interp(np.arange(len(rows)), known, seconds) if len(known) < len(rows) else seconds)
    times = np.concatenate(pieces)
    for number in range(1, len(pieces)):
        if pieces[number][0] <= pieces[number - 1][-1]:
            raise InputError(
                f"{parts[number].path}: begins at {pieces[number][0]:g} s, before the end of {parts[number - 1].path} "
                f"({pieces[number - 1][-1]:g} s). The parts of a recording need one clock."
            )
    times = times + offset if offset else times
    _check_near(parts[0].path, times, settings)
    return times, tuple(repaired)


def _rows_of_frames(stamps: TimeStamps, frames: int, settings: Timestamps) -> tuple[np.ndarray, str]:
    """Return the row of each frame (-1: none), and what was repaired to get there."""
    count = len(stamps.values)
    numbers = "" if stamps.ids is None else f", by their number in {settings.frame_column}"
    first = settings.first_frame_id
    wanted = first + np.arange(frames)
    if settings.on_mismatch != "by_frame_id":
        _check_readable(stamps, np.arange(min(count, frames)))
    fits = stamps.ids is None or bool((stamps.ids[:frames] == wanted[:count]).all())
    if count == frames and fits:
        _check_readable(stamps, np.arange(frames))
        return np.arange(frames), ""
    both = f"{stamps.path} has {count} time stamps, the video {frames} frames"
    if settings.on_mismatch == "by_frame_id" and stamps.ids is not None:
        return _by_number(stamps, wanted, both, numbers)
    if settings.on_mismatch == "truncate_tail" and count > frames and fits:
        return np.arange(frames), f"{both}: the last {count - frames} time stamps were left out."
    if not fits:
        assert stamps.ids is not None
        row = int(np.flatnonzero(stamps.ids[:frames] != wanted[:count])[0])
        both += f", and {stamps.row(row)} is for frame {stamps.ids[row]} where {wanted[row]} was expected"
    advice = (
        "truncate_tail leaves out surplus time stamps at the end, but cannot make up those that are missing"
        if settings.on_mismatch == "truncate_tail"
        else "If it is known which are right, say so as on_mismatch: by_frame_id (with frame_column) or truncate_tail"
    )
    raise InputError(f"{both}. {advice}. Else correct the file.")


def _check_readable(stamps: TimeStamps, rows: np.ndarray) -> None:
    needed = sorted(stamps.bad.keys() & set(rows.tolist())) if stamps.bad else []
    if needed:
        more = f" (and {len(needed) - 1} more such rows)" if len(needed) > 1 else ""
        raise InputError(
            f"{stamps.path}, {stamps.row(needed[0])}: expected a number, got {stamps.bad[needed[0]]}{more}. Correct the file."
        )


def _by_number(stamps: TimeStamps, wanted: np.ndarray, both: str, numbers: str) -> tuple[np.ndarray, str]:
    assert stamps.ids is not None
    order = np.argsort(stamps.ids, kind="stable")
    ordered = stamps.ids[order]
    twice = np.flatnonzero(np.diff(ordered) == 0)
    if len(twice):
        raise InputError(
            f"{stamps.path}: frame {ordered[twice[0]]} stands twice, on {stamps.row(int(order[twice[0]]))} and "
            f"{stamps.row(int(order[twice[0] + 1]))}. Correct the file."
        )
    at = np.searchsorted(ordered, wanted).clip(max=max(len(ordered) - 1, 0))
    there = ordered[at] == wanted if len(ordered) else np.zeros(len(wanted), dtype=bool)
    rows = np.where(there, order[at] if len(ordered) else 0, -1)
    _check_readable(stamps, rows)
    missing = np.flatnonzero(~there)
    if len(missing) and (missing[0] == 0 or missing[-1] == len(wanted) - 1):
        raise InputError(
            f"{both}{numbers}: the video's {'first' if missing[0] == 0 else 'last'} frame (number "
            f"{wanted[0] if missing[0] == 0 else wanted[-1]}) has none, and only times between others can be derived. Is "
            "first_frame_id right?"
        )
    surplus = len(stamps.ids) - int(there.sum())
    said = [f"{surplus} time stamps are of frames that the video lacks and were left out"] if surplus else []
    if len(missing):
        listed = ", ".join(map(str, missing[:_LISTED])) + (", ..." if len(missing) > _LISTED else "")
        said.append(f"{len(missing)} frames have none, and theirs lie evenly between their neighbours': {listed}")
    return rows, f"{both}; they were put together{numbers}{': ' if said else ''}{'; '.join(said)}."


def _zero(stamps: TimeStamps, rows: np.ndarray, settings: Timestamps, start: datetime | None) -> Any:
    """Return what time stamp is 0 s, exactly, as a Decimal in the file's unit."""
    if settings.clock == "session":
        return Decimal(0)
    if settings.clock == "device":
        return Decimal(str(stamps.values[rows[0]]))
    if start is None:
        raise InputError(f"{stamps.path}: a unix clock needs the session's start. State it in session.yaml as start.")
    microseconds = (start - _EPOCH) // timedelta(microseconds=1)
    return Decimal(microseconds) * _PER_SECOND[settings.unit] / 10**6


def _seconds(values: np.ndarray, zero: Decimal, unit: str) -> np.ndarray:
    """Return (values - zero) in s as float64, subtracted exactly where the values are exact."""
    per_second = _PER_SECOND[unit]
    if values.dtype == np.int64 and zero == zero.to_integral_value() and abs(zero) < 2**62:
        return (values - np.int64(int(zero))) / per_second
    if values.dtype == np.float64:
        return (values - float(zero) if zero else values) / per_second
    return np.array([float((Decimal(int(v)) if isinstance(v, np.int64) else v) - zero) / per_second for v in values])


def _check_increasing(stamps: TimeStamps, rows: np.ndarray, seconds: np.ndarray) -> None:
    back = np.flatnonzero(np.diff(seconds) <= 0)
    if len(back):
        before, here = int(rows[back[0]]), int(rows[back[0] + 1])
        more = f" ({len(back) - 1} more rows do not)" if len(back) > 1 else ""
        raise InputError(
            f"{stamps.path}, {stamps.row(here)}: {stamps.values[here]} does not come after {stamps.values[before]} on "
            f"{stamps.row(before)}{more}. Times of frames must increase: correct the file."
        )


def _check_near(path: Path, times: np.ndarray, settings: Timestamps) -> None:
    farthest = float(times[np.argmax(np.abs(times))])
    if abs(farthest) > _FARTHEST:
        raise InputError(
            f"{path}: read in {settings.unit} on the clock `{settings.clock}`, a frame would lie {farthest:.6g} s from the session's "
            "start, over a year. State the unit and clock that it has: session (0 is the session's start), unix (since 1970), or "
            "device (counted from the first frame)."
        )
