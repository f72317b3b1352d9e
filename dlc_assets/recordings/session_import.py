"""Taking a table of session metadata into the lab's sessions.csv: compared row by row, and written whole or not at all."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from dlc_assets.lab.errors import DlcAssetsError, SettingsError, did_you_mean
from dlc_assets.lab.files import write_text
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.locks import hold
from dlc_assets.lab.sessions_table import (
    FIXED_COLUMNS,
    SESSION,
    SessionRow,
    SessionsTable,
    parse_sessions_table,
    read_sessions_table,
)
from dlc_assets.recordings.found import FoundSession
from dlc_assets.recordings.info import read_session_info

What = Literal["new", "same", "added to", "differs", "replaced", "wrong"]
Cells = dict[str, str]


@dataclass(frozen=True)
class RowReport:
    """What becomes of one row: its number in the file, the session, what it does to the lab's table, and sentences about it."""

    row: int
    session: str
    what: What
    says: tuple[str, ...] = ()


@dataclass(frozen=True)
class SessionImport:
    """What an import does.

    Attributes
    ----------
    target
        The lab's sessions.csv.
    rows
        One report a row of the file, in order.
    problems
        What is wrong in the file; nothing can be imported while there is anything.
    differences
        A sentence for each value that the lab's table has and the file has otherwise.
    not_found
        Sessions whose videos were not found yet; their rows are kept.
    content
        The lab's table as it will be, None where it stays as it is.
    """

    target: Path
    rows: tuple[RowReport, ...]
    problems: tuple[str, ...] = ()
    differences: tuple[str, ...] = ()
    not_found: tuple[str, ...] = ()
    content: str | None = field(default=None, repr=False)


def plan_import(lab: Lab, file: Path, found: Mapping[str, FoundSession], *, replace: bool = False) -> SessionImport:
    """Compare the table *file* with the lab's own, and say what an import does.

    Parameters
    ----------
    found
        The sessions whose videos are there, by key.
    replace
        Whether values of the file take the place of others that the lab's table has.

    Raises
    ------
    SettingsError
        The file is no table of sessions, or the lab's own table is wrong.
    """
    table = parse_sessions_table(file)
    target = lab.layout.sessions_table
    known = _known(lab, found, file)
    keys = {row.row: _resolved(row, found) for row in table.rows}
    problems = [f"{file}: {problem}" for problem in table.problems]
    problems += _same_session(file, table, keys)
    wrong = {problem.row for problem in table.problems}
    merged: dict[str, Cells] = {key: _cells(key, row, found) for key, row in known.items()}
    reports: list[RowReport] = []
    differences: list[str] = []
    for row in table.rows:
        key = keys[row.row]
        if row.row in wrong or key is None:
            said = tuple(str(problem) for problem in table.problems if problem.row == row.row)
            reports.append(RowReport(row.row, key or row.session, "wrong", said))
            continue
        before = known.get(key)
        differing = _differing(row, before)
        differences += [f"row {row.row}, {key}: {words}" for words in differing.values()]
        taken = {name: text for name, text in row.cells.items() if replace or name not in differing}
        added = [name for name in row.cells if before is None or name not in before.cells]
        what: What = "new" if before is None else "added to" if added else "same"
        if differing:
            what = "replaced" if replace else "differs"
        merged[key] = merged.get(key, {}) | _cells(key, row, found, taken)
        says = [*differing.values(), *_notes(lab, key, row, found)]
        reports.append(RowReport(row.row, key, what, tuple(says)))
    not_found = tuple(key for key in keys.values() if key is not None and key not in found)
    content = None
    changed = any(report.what in {"new", "added to", "replaced"} for report in reports)
    if not problems and (replace or not differences) and changed:
        content = table_text(_columns(read_sessions_table(target), table), merged.values())
    return SessionImport(target, tuple(reports), tuple(problems), tuple(differences), not_found, content)


def import_sessions(
    lab: Lab, file: Path, found: Mapping[str, FoundSession], *, replace: bool = False, dry_run: bool = False
) -> SessionImport:
    """Plan an import (see `plan_import`) and, unless it is a *dry_run* or must not be, write it. One at a time."""
    with hold(lab.layout.lock("sessions_table", "sessions.csv"), "importing session metadata"):
        plan = plan_import(lab, file, found, replace=replace)
        if plan.content is not None and not dry_run:
            write_text(plan.target, plan.content)
    return plan


def write_template(lab: Lab, file: Path, found: Mapping[str, FoundSession]) -> None:
    """Write `template_text` to *file*, a new one.

    Raises
    ------
    SettingsError
        There is such a file: what a person filled in is not overwritten.
    """
    if file.exists():
        raise SettingsError(f"{file} is there already: expected the name of a new file for the template. Name another.")
    write_text(file, template_text(lab, found))


def _known(lab: Lab, found: Mapping[str, FoundSession], file: Path) -> dict[str, SessionRow]:
    """Return the rows of the lab's own table by session key."""
    target = lab.layout.sessions_table
    table = read_sessions_table(target)
    if table is None or (file.exists() and target.samefile(file)):
        return {} if table is None else {key: row for row in table.rows if (key := _resolved(row, found)) is not None}
    if table.broken:
        raise SettingsError(f"{table.broken} Mend it, or move it away, before more is imported.")
    keys = {row.row: _resolved(row, found) for row in table.rows}
    problems = [f"{target}: {problem}" for problem in table.problems] + _same_session(target, table, keys)
    if problems:
        raise SettingsError("the lab's table is wrong; mend it before more is imported:\n  " + "\n  ".join(problems))
    return {key: row for row in table.rows if (key := keys[row.row]) is not None}


def _resolved(row: SessionRow, found: Mapping[str, FoundSession]) -> str | None:
    """Return the session that *row* means: one that was found, else the likeliest."""
    return next((key for key in row.keys if key in found), row.keys[0] if row.keys else None)


def _same_session(file: Path, table: SessionsTable, keys: Mapping[int, str | None]) -> list[str]:
    """Say which rows mean the same session though they write it in different ways."""
    first: dict[str, int] = {}
    said = {problem.row for problem in table.problems if problem.column == SESSION}
    return [
        f"{file}: row {number}, column {SESSION}: expected each session once, got {key!r}, which row {other} means, too."
        for number, key in keys.items()
        if key is not None and (other := first.setdefault(key, number)) != number and number not in said
    ]


def _cells(
    key: str, row: SessionRow, found: Mapping[str, FoundSession], cells: Mapping[str, str] | None = None
) -> Cells:
    """Return *cells* (None: all of *row*) with the session: by its key where that is known, else as the row writes it."""
    return {SESSION: key if key in found else row.session, **(row.cells if cells is None else cells)}


def _differing(row: SessionRow, before: SessionRow | None) -> dict[str, str]:
    """Return, by column, what the lab's table has and *row* has otherwise."""
    if before is None:
        return {}
    return {
        name: f"{name} is {before.cells[name]!r} in the lab's table and {row.cells[name]!r} in the file."
        for name, value in row.values.items()
        if name in before.values and before.values[name] != value
    }


def _notes(lab: Lab, key: str, row: SessionRow, found: Mapping[str, FoundSession]) -> Iterable[str]:
    """Yield what a person should know of a row that is right."""
    session = found.get(key)
    if session is None:
        yield f"the session is not found yet; its row is kept.{did_you_mean(key, found)}"
    else:
        named = dict.fromkeys(name.split(".")[1] for name in row.values if name.startswith("recordings."))
        for name in named:
            if name not in session.recordings:
                yield (
                    f'there is no recording "{name}" in this session.{did_you_mean(name, session.recordings)} It has '
                    f"{', '.join(sorted(session.recordings))}."
                )
        yield from _overridden(session, row)
    subject, subjects = row.values.get("subject"), lab.settings.subjects
    if subject is not None and subjects and subject not in subjects:
        yield f'lab.yaml describes no subject "{subject}".{did_you_mean(subject, subjects)}'
    for name, value in row.values.items():
        devices = lab.settings.devices
        if name.endswith(".device") and devices and value not in devices:
            yield f'{name}: lab.yaml describes no device "{value}".{did_you_mean(value, devices)}'


def _overridden(session: FoundSession, row: SessionRow) -> Iterable[str]:
    try:
        stated = session.sidecar()
    except DlcAssetsError as error:
        yield str(error)
        return
    hidden = row.overridden_by(stated)
    if hidden:
        yield f"{session.metadata_file} states {', '.join(hidden)}, and wins."


# --- tables ---------------------------------------------------------------------------------------


def _columns(old: SessionsTable | None, new: SessionsTable) -> list[str]:
    """Return the lab's columns and then what the file has more."""
    before = old.columns if old is not None else ()
    return list(dict.fromkeys(name for name in (SESSION, *before, *new.columns) if name))


def table_text(columns: Sequence[str], rows: Iterable[Mapping[str, str]]) -> str:
    """Return a table of *rows*, cells by column; with the mark that Excel needs where it has more than ASCII."""
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(columns)
    for cells in rows:
        writer.writerow([cells.get(name, "") for name in columns])
    text = written.getvalue()
    return text if text.isascii() else "\ufeff" + text


def template_text(lab: Lab, found: Mapping[str, FoundSession]) -> str:
    """Return a table of every session that was found, filled with what is known of it by its files or by its probed videos."""
    rows = [{SESSION: key, **_known_cells(lab, found[key])} for key in sorted(found)]
    named = list(dict.fromkeys(name for cells in rows for name in cells))
    usual = [name for name in FIXED_COLUMNS if not name.startswith("consent.") or name in named]
    more = sorted(name for name in named if name not in FIXED_COLUMNS)
    return table_text([*usual, *more], rows)


def _known_cells(lab: Lab, session: FoundSession) -> Cells:
    try:
        stated = session.metadata()
    except DlcAssetsError:
        stated = None  # what is wrong with its files is said by `scan`; its row is there to be filled
    probed = read_session_info(lab.layout, session.key)
    subject = session.subject or (stated and stated.subject)
    start = (stated and stated.start) or (probed and probed[0].start)
    cells = {"subject": subject or "", "start": start.isoformat() if start else ""}
    if stated is not None:
        cells |= {"description": stated.description, "experimenters": "; ".join(stated.experimenters or ())}
        if stated.consent is not None:
            consent = stated.consent
            cells |= {"consent.videos": str(consent.videos).lower(), "consent.by": consent.by or ""}
            cells["consent.date"] = consent.day.isoformat() if consent.day else ""
        cells |= {f"tags.{name}": _tag_text(value) for name, value in stated.tags.items()}
        for name, recording in stated.recordings.items():
            of = {"device": recording.device, "offset": recording.offset}
            of["scale.px_per_cm"] = None if recording.scale is None else recording.scale.px_per_cm
            cells |= {f"recordings.{name}.{key}": f"{value}" for key, value in of.items() if value is not None}
    return {name: text for name, text in cells.items() if text}


def _tag_text(value: str | int | float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
