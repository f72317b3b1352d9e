"""The overview as rows: one a session and model, with what each check says of its newest report."""

from __future__ import annotations

import csv
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from dlc_assets.lab.files import atomic_path
from dlc_assets.lab.layout import LabLayout
from dlc_assets.review.findings import Finding
from dlc_assets.review.quality_record import QualityRecord
from dlc_assets.review.report.verdict import LEVELS, Verdict

PASS, WARN, ERROR, NONE = "pass", "warn", "error", ""


@dataclass(frozen=True)
class Cell:
    """What one check says: `PASS`, `WARN` or `ERROR`, and its value; `NONE` where it was not made."""

    state: str = NONE
    value: float | None = None


@dataclass(frozen=True)
class Row:
    """One session by one model; *verdict* is None where there are poses and no report."""

    session: str
    model: str
    version: str
    day: str
    made: str
    verdict: Verdict | None
    cells: dict[str, Cell]


@dataclass(frozen=True)
class Overview:
    """All rows, newest sessions first, and the checks in order."""

    rows: tuple[Row, ...]
    checks: tuple[str, ...]

    @cached_property
    def counts(self) -> dict[str, int]:
        """How many rows have which verdict; those without a report under ``""``."""
        found = Counter("" if row.verdict is None else row.verdict.level for row in self.rows)
        return {level: found[level] for level in (*LEVELS, "")}

    def sentence(self) -> str:
        """Return what there is, in words."""
        if not self.rows:
            return "No poses were judged yet."
        counts = self.counts
        said = [
            f"{counts['good']:,} good" if counts["good"] else "",
            f"{counts['look']:,} to look at" if counts["look"] else "",
            f"{counts['unusable']:,} not to be used" if counts["unusable"] else "",
            f"{counts['']:,} without a report" if counts[""] else "",
        ]
        total = f"{len(self.rows):,} sessions and models" if len(self.rows) > 1 else "1 session"
        return f"{total}: {', '.join(part for part in said if part)}."

    def to_look_at(self) -> list[Row]:
        """Return the rows that are worth a look, the worst first, then the newest."""
        doubtful = [row for row in self.rows if row.verdict is not None and row.verdict.level != "good"]
        return sorted(doubtful, key=lambda row: -LEVELS.index(row.verdict.level) if row.verdict else 0)


def overview_of(records: Iterable[QualityRecord], pose_keys: Iterable[tuple[str, str, str]]) -> Overview:
    """Return the overview of *records*, the newest of each session and model, and of poses without a report.

    Parameters
    ----------
    pose_keys
        Model, version and session of the pose tables that there are.
    """
    checks: dict[str, None] = {}
    rows = []
    known = set()
    for record in records:
        checks.update(dict.fromkeys(finding.check for finding in record.findings))
        known.add((record.model, record.session))
        cells = {finding.check: _cell(finding) for finding in record.findings}
        rows.append(Row(record.session, record.model, record.version, record.day, record.made, record.verdict, cells))
    missing = {(model, session): version for model, version, session in pose_keys if (model, session) not in known}
    rows += [Row(session, model, version, "", "", None, {}) for (model, session), version in missing.items()]
    rows.sort(key=lambda row: (row.session, row.model))
    rows.sort(key=lambda row: _newest(row), reverse=True)
    return Overview(tuple(rows), tuple(checks))


def _newest(row: Row) -> tuple[bool, str]:
    # Without a report nobody looked at when the session was: such rows come first, as they may be the newest.
    return row.verdict is None, row.day[:10]


def _cell(finding: Finding) -> Cell:
    return Cell(PASS if finding.passed else ERROR if finding.severity == "error" else WARN, finding.value)


def pose_keys(layout: LabLayout) -> Iterator[tuple[str, str, str]]:
    """Give model, version and session of every pose table in the store, by the names of folders alone."""
    for version in sorted(layout.poses.glob("model=*/version=*")):
        model = version.parent.name.removeprefix("model=")
        for entry in os.scandir(version):
            if entry.name.startswith("session="):
                yield model, version.name.removeprefix("version="), entry.name.removeprefix("session=")


def write_csv(path: Path, overview: Overview) -> None:
    """Write every row as CSV, with a column for the state of each check and one for its value."""
    with atomic_path(path) as partial, partial.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        head = ["session", "model", "version", "day", "made", "verdict", "sentence"]
        writer.writerow([*head, *(name for check in overview.checks for name in (check, f"{check} value"))])
        for row in overview.rows:
            cells = [row.cells.get(check, Cell()) for check in overview.checks]
            verdict = ("no report", "") if row.verdict is None else (row.verdict.level, row.verdict.sentence)
            values = [
                value for cell in cells for value in (cell.state, "" if cell.value is None else f"{cell.value:g}")
            ]
            writer.writerow(
                [_text(cell) for cell in (row.session, row.model, row.version, row.day, row.made, *verdict)] + values
            )


def _text(value: str) -> str:
    # A spreadsheet takes what begins so for a formula.
    return f"'{value}" if value.startswith(("=", "+", "-", "@")) else value
