"""sessions.csv: metadata of many sessions in one table, one row a session, beneath what their own session.yaml say."""

from __future__ import annotations

import codecs
import csv
import hashlib
import io
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from dlc_assets.lab.errors import SettingsError, did_you_mean
from dlc_assets.lab.files import content_hash
from dlc_assets.lab.keys import SESSION_KEY, label_for_archive, session_key
from dlc_assets.lab.session_metadata import SessionMetadata
from dlc_assets.lab.settings import composed

SESSION = "session"
EVERY = "*"  # in the place of a session's key
FIXED_COLUMNS = (
    SESSION,
    "subject",
    "start",
    "description",
    "experimenters",
    "consent.videos",
    "consent.by",
    "consent.date",
)
OF_RECORDING = ("device", "offset", "scale.px_per_cm")
_FORMS = (*FIXED_COLUMNS, "tags.<name>", *(f"recordings.<recording>.{name}" for name in OF_RECORDING))
_SEPARATORS = (",", ";", "\t")
_START = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?( ?(Z|[+-]\d\d:?\d\d))?")
_INTEGER, _FLOAT = re.compile(r"[-+]?(0|[1-9]\d*)"), re.compile(r"[-+]?\d+\.\d+([eE][-+]?\d+)?")
_BOOLEANS = {"true": True, "yes": True, "false": False, "no": False}
_HEADER_ROW = 1
_YEAR_FIRST = (
    "expected 2026-05-01T10:12:00, year first: of other orders it cannot be told which is the day and which the month"
)
_DAY_AND_TIME = "expected a day and a time as 2026-05-01T10:12:00, with an offset such as +02:00, or without one in the lab's time zone"


@dataclass(frozen=True)
class CellProblem:
    """What is wrong in a table: the row as spreadsheets number it (the header is row 1), the column, what was expected and what came."""

    row: int
    column: str
    expected: str
    got: str
    hint: str = ""

    def __str__(self) -> str:
        column = f", column {self.column}" if self.column else ""
        return f"row {self.row}{column}: {self.expected}, got {self.got!r}.{self.hint}"


@dataclass(frozen=True)
class SessionRow:
    """What the table says of one session.

    Attributes
    ----------
    where
        The file's path.
    row
        As spreadsheets number it.
    session
        The cell that names the session.
    keys
        The session keys that it may be meant by: a key by itself, or what subject and session make with and without the subject.
    cells
        The text of each cell that is filled, by column, without `session`.
    values
        What the cells mean, by column; those that have a problem are left out.
    problems
        What is wrong with it.
    """

    where: str
    row: int
    session: str
    keys: tuple[str, ...]
    cells: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    problems: tuple[CellProblem, ...] = ()
    broken: str = ""

    @property
    def error(self) -> str:
        """A sentence that says what is wrong with it; empty where nothing is."""
        return self.broken or (f"{self.where}: " + " ".join(map(str, self.problems)) if self.problems else "")

    @property
    def name(self) -> str:
        """The file and the row in words."""
        return f"{self.where}, row {self.row}"

    @cached_property
    def fingerprint(self) -> str:
        """A short hash of all that it says."""
        said = repr([self.keys, sorted(self.cells.items()), self.error])
        return hashlib.blake2b(said.encode(), digest_size=8).hexdigest()

    def overridden_by(self, stated: SessionMetadata) -> list[str]:
        """Return the columns of which *stated*, the session's session.yaml, says something else itself."""
        return [name for name, value in self.values.items() if _states(stated, name) and _value(stated, name) != value]

    def beneath(self, stated: SessionMetadata, *, subject_known: bool = False) -> SessionMetadata:
        """Return what the row says that *stated*, the session's session.yaml, does not say itself.

        The subject is left out where it is known from the paths of the videos: it names the session then, and says nothing more.

        Raises
        ------
        SettingsError
            Something is wrong with the row.
        """
        if self.error:
            raise SettingsError(self.error)
        known = {"subject"} if subject_known else set()
        return _metadata(
            {name: value for name, value in self.values.items() if name not in known and not _states(stated, name)}
        )


@dataclass(frozen=True)
class SessionsTable:
    """A table of sessions, with all that is wrong in it; `broken` says why it cannot be read at all."""

    where: str
    columns: tuple[str, ...] = ()
    rows: tuple[SessionRow, ...] = ()
    problems: tuple[CellProblem, ...] = ()
    broken: str = ""

    @cached_property
    def by_key(self) -> dict[str, list[SessionRow]]:
        """The rows that a session key may be meant by."""
        found: dict[str, list[SessionRow]] = defaultdict(list)
        for row in self.rows:
            for key in row.keys:
                found[key].append(row)
        return dict(found)

    @cached_property
    def fingerprints(self) -> dict[str, str]:
        """A hash of what the table says, by session key; of a table that cannot be read under `EVERY`, as it may concern any session."""
        if self.broken:
            return {EVERY: self.broken}
        return {key: " ".join(row.fingerprint for row in rows) for key, rows in self.by_key.items()}

    @cached_property
    def version(self) -> str:
        """A hash of all that it says."""
        return content_hash(self.fingerprints)[:16]

    def row_of(self, key: str) -> SessionRow | None:
        """Return the row of the session *key*, None where there is none; one that says what is wrong where that cannot be told."""
        if self.broken:
            return SessionRow(self.where, 0, key, (key,), broken=self.broken)
        rows = self.by_key.get(key, [])
        exact = [row for row in rows if row.keys[0] == key]
        rows = exact or rows
        if len(rows) > 1:
            listed = " and ".join(str(row.row) for row in rows)
            broken = f"{self.where}: the rows {listed} are all of {key}. Keep one."
            return SessionRow(self.where, rows[0].row, key, (key,), broken=broken)
        return rows[0] if rows else None


def read_sessions_table(path: Path) -> SessionsTable | None:
    """Return the table at *path*, None where there is none; read once as long as the file does not change."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        return SessionsTable(str(path), broken=f"{path} cannot be read: {error.strerror or error}.")
    return _read(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=4)
def _read(path: Path, _size: int, _mtime_ns: int) -> SessionsTable:
    try:
        return parse_sessions_table(path)
    except SettingsError as error:
        return SessionsTable(str(path), broken=str(error))


def parse_sessions_table(path: Path) -> SessionsTable:
    """Read the table at *path*: UTF-8, with ``,``, ``;`` or tabs between the cells.

    Raises
    ------
    SettingsError
        It cannot be read as a table with a column `session` at all. What is wrong with single cells is in the table's `problems`.
    """
    numbered = _records(path)
    number, header = next(numbered, (0, []))
    columns = [composed(name.strip()) for name in header]
    if SESSION not in columns:
        got = ", ".join(name for name in columns if name) or "nothing"
        raise SettingsError(
            f"{path}: expected a first row that names the columns, one of them {SESSION}, got {got[:200]}."
            " `dlc-assets import-sessions FILE --template` writes such a table."
        )
    of_header = tuple(_header_problems(columns, number))
    rows = [
        _row(str(path), number, columns, cells, of_header) for number, cells in numbered if any(map(str.strip, cells))
    ]
    problems = [*of_header, *(p for row in rows for p in row.problems if p.row != _HEADER_ROW), *_duplicates(rows)]
    return SessionsTable(str(path), tuple(columns), tuple(rows), tuple(sorted(problems, key=lambda p: p.row)))


def _records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Return an iterator of (number as spreadsheets have it, cells)."""
    text = _text(path)
    lines = text.splitlines()
    first = lines[0] if lines else ""
    said = re.fullmatch(r'"?sep=(.)"?', first.strip())  # which Excel writes, reads and does not show
    if said:
        separator, text = said[1], text.partition("\n")[2]
    else:
        separator = max(_SEPARATORS, key=lambda sign: _heads(first, sign))
    return iter(_numbered(path, text, separator))


def _numbered(path: Path, text: str, separator: str) -> list[tuple[int, list[str]]]:
    try:
        return list(enumerate(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True), start=1))
    except csv.Error as error:
        raise SettingsError(
            f"{path} is not a table of comma-separated values: {error}. Save it as CSV (UTF-8)."
        ) from None


def _heads(line: str, separator: str) -> int:
    """Say how well *separator* explains the header: whether it makes `session` a cell, and how many cells it makes."""
    cells = [cell.strip(' "') for cell in line.split(separator)]
    return len(cells) + 1_000 * (SESSION in cells)


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise SettingsError(f"{path} does not exist.") from None
    except OSError as error:
        raise SettingsError(f"{path} cannot be read: {error.strerror or error}.") from None
    data = data.removeprefix(codecs.BOM_UTF8)
    if data[:2] in {b"\xff\xfe", b"\xfe\xff"}:
        raise SettingsError(f'{path}: expected UTF-8 text, got UTF-16. Save it as "CSV UTF-8".')
    if data[:2] == b"PK":
        raise SettingsError(f'{path}: expected a table as text, got a spreadsheet file. Save it as "CSV UTF-8".')
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise SettingsError(
            f'{path}, line {line}: expected UTF-8 text, got the byte 0x{data[error.start]:02x}. Save it as "CSV UTF-8".'
        ) from None


def _header_problems(columns: Sequence[str], row: int) -> Iterable[CellProblem]:
    seen: set[str] = set()
    for name in columns:
        if name and name in seen:
            yield CellProblem(row, name, "expected each column once", name)
        seen.add(name)
        if name and _column_kind(name) is None:
            hint = did_you_mean(name, _FORMS) or f' A tag of your own would be "tags.{name}".'
            yield CellProblem(row, name, f"expected one of the columns {', '.join(_FORMS)}", name, hint)


def _column_kind(name: str) -> str | None:
    """Return which of the forms of columns *name* has, None where it has none."""
    if name in FIXED_COLUMNS:
        return name
    if re.fullmatch(r"tags\..+", name):
        return "tags"
    found = re.fullmatch(r"recordings\.([^.]+)\.(.+)", name)
    return found[2] if found and found[2] in OF_RECORDING else None


def _row(
    where: str, number: int, columns: Sequence[str], texts: Sequence[str], of_header: tuple[CellProblem, ...]
) -> SessionRow:
    problems: list[CellProblem] = []
    cells: dict[str, str] = {}
    values: dict[str, Any] = {}
    for place, text in enumerate(texts):
        text = composed(text.strip())
        name = columns[place] if place < len(columns) else ""
        if not text:
            continue
        if not name:
            expected = f"expected nothing in cell {place + 1}, which has no column name (a text with the separator in it needs quotes)"
            problems.append(CellProblem(number, "", expected, text))
            continue
        cells[name] = text
        kind = _column_kind(name)
        if kind is None or kind == SESSION:
            continue
        try:
            values[name] = _MEANING[kind](text)
        except (ValueError, SettingsError) as error:
            problems.append(CellProblem(number, name, str(error).removesuffix("."), text))
    if any(name.startswith("consent.") for name in cells) and "consent.videos" not in cells:
        problems.append(CellProblem(number, "consent.videos", "expected true or false, as consent is stated", ""))
    session = cells.pop(SESSION, "")
    keys: tuple[str, ...] = ()
    try:
        keys = _keys(session, values.get("subject"))
    except (ValueError, SettingsError) as error:
        problems.append(CellProblem(number, SESSION, str(error).removesuffix("."), session))
    return SessionRow(where, number, session, keys, cells, values, (*of_header, *problems))


def _keys(session: str, subject: str | None) -> tuple[str, ...]:
    """Return the keys that a row may be meant by, the likeliest first."""
    if not session:
        raise ValueError("expected the session's key, such as sub-m01_ses-20260501, or its name")
    is_key = SESSION_KEY.fullmatch(session)
    if is_key and is_key[1]:
        if subject is not None and is_key[1] != label_for_archive(subject, "subject"):
            raise ValueError(f'expected a session of the subject "{subject}", as the column subject says')
        return (session,)
    # What looks like a key without a subject may be a name as well: folders are called ses-1, too.
    names = [None] if subject is None else [subject, None]
    return tuple(dict.fromkeys([*([session] if is_key else []), *(session_key(name, session) for name in names)]))


def _duplicates(rows: Iterable[SessionRow]) -> Iterable[CellProblem]:
    first: dict[str, int] = {}
    for row in rows:
        if row.keys and (other := first.setdefault(row.keys[0], row.row)) != row.row:
            yield CellProblem(
                row.row, SESSION, f"expected each session once (it stands in row {other}, too)", row.keys[0]
            )


# --- what cells mean ------------------------------------------------------------------------------


def _start(text: str) -> datetime:
    if not _START.fullmatch(text):
        raise ValueError(_YEAR_FIRST if re.match(r"\d{1,2}[./-]\d{1,2}[./-]\d", text) else _DAY_AND_TIME)
    try:
        return datetime.fromisoformat(text.replace(" +", "+").replace(" -", "-").replace(" Z", "Z"))
    except ValueError as error:
        raise ValueError(f"{_DAY_AND_TIME} ({error})") from None


def _day(text: str) -> date:
    if re.fullmatch(r"\d{4}-\d\d-\d\d", text):
        try:
            return date.fromisoformat(text)
        except ValueError as error:
            raise ValueError(f"expected a day as 2026-05-01 ({error})") from None
    raise ValueError("expected a day as 2026-05-01")


def _subject(text: str) -> str:
    label_for_archive(text, "subject")
    return text


def _experimenters(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(";"))
    if not all(names):
        raise ValueError("expected names with ; between them, such as Last, First; Other, Name")
    return names


def _yes_or_no(text: str) -> bool:
    if text.casefold() not in _BOOLEANS:
        raise ValueError("expected true or false")
    return _BOOLEANS[text.casefold()]


def _number(text: str) -> float:
    if not (_INTEGER.fullmatch(text) or _FLOAT.fullmatch(text)):
        raise ValueError("expected a number such as 12.5, with a decimal point")
    return float(text)


def _positive(text: str) -> float:
    number = _number(text)
    if not 0 < number < math.inf:
        raise ValueError("expected a number above 0")
    return number


def _tag(text: str) -> str | int | float | bool:
    """Read a tag as session.yaml would: true and false, whole numbers, decimals; everything else, 001 too, is text."""
    if text.casefold() in {"true", "false"}:
        return text.casefold() == "true"
    if _INTEGER.fullmatch(text):
        return int(text)
    return float(text) if _FLOAT.fullmatch(text) else text


_MEANING: dict[str, Callable[[str], Any]] = {
    "subject": _subject,
    "start": _start,
    "description": str,
    "experimenters": _experimenters,
    "consent.videos": _yes_or_no,
    "consent.by": str,
    "consent.date": _day,
    "tags": _tag,
    "device": str,
    "offset": _number,
    "scale.px_per_cm": _positive,
}


def _pieces(column: str) -> list[str]:
    """Return a column's name as the keys of session.yaml that it stands for."""
    if column.startswith("tags."):
        return ["tags", column.removeprefix("tags.")]
    return column.split(".")


def _metadata(values: Mapping[str, Any]) -> SessionMetadata:
    nested: dict[str, Any] = {}
    for column, value in values.items():
        *above, last = _pieces(column)
        here = nested
        for piece in above:
            here = here.setdefault(piece, {})
        here[last] = value
    return SessionMetadata.model_validate(nested)


def _states(stated: SessionMetadata, column: str) -> bool:
    """Say whether *stated* has the key of *column* itself. Consent is one statement: of the two, one counts whole."""
    first, *below = _pieces(column)
    if first == "tags":
        return below[0] in stated.tags
    if first == "recordings":
        recording = stated.recordings.get(below[0])
        return recording is not None and below[1] in recording.model_fields_set
    return first in stated.model_fields_set


def _value(stated: SessionMetadata, column: str) -> Any:
    """Return what *stated* says of what *column* holds, None where it says nothing."""
    here: Any = stated
    for piece in _pieces(column):
        here = here.get(piece) if isinstance(here, dict) else getattr(here, "day" if piece == "date" else piece, None)
    return here


def merged(stated: SessionMetadata, beneath: SessionMetadata) -> SessionMetadata:
    """Return *stated* completed by what is *beneath* it and which it does not state itself (`SessionRow.beneath`)."""
    update: dict[str, Any] = {name: getattr(beneath, name) for name in beneath.model_fields_set}
    if "tags" in update:
        update["tags"] = {**beneath.tags, **stated.tags}
    if "recordings" in update:
        recordings = dict(stated.recordings)
        for name, below in beneath.recordings.items():
            own = recordings.get(name)
            added = {key: getattr(below, key) for key in below.model_fields_set}
            recordings[name] = below if own is None else own.model_copy(update=added)
        update["recordings"] = recordings
    return stated.model_copy(update=update)
