"""What a quality report came to, kept as ``findings.json`` beside its page: what the overview and the catalog read."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlc_assets.lab.files import write_text
from dlc_assets.lab.layout import LabLayout
from dlc_assets.review.findings import Finding, Moment
from dlc_assets.review.report.verdict import LEVELS, Level, Verdict

NAME = "findings.json"
_FORMAT = 1


@dataclass(frozen=True)
class QualityRecord:
    """One report.

    Parameters
    ----------
    day
        The session's day as ISO 8601 text, or its start where that is known; empty where neither is.
    poses
        Data version of the pose table that was judged.
    made
        When, ISO 8601.
    """

    session: str
    model: str
    version: str
    day: str
    poses: str
    made: str
    verdict: Verdict
    findings: tuple[Finding, ...]

    def write(self, path: Path) -> None:
        """Write to *path* in one step, without spaces: a lab has tens of thousands, and all are read for the overview."""
        stated = {
            "format": _FORMAT,
            "session": self.session,
            "model": self.model,
            "version": self.version,
            "day": self.day,
            "poses": self.poses,
            "made": self.made,
            "verdict": {"level": self.verdict.level, "sentence": self.verdict.sentence},
            "findings": [_stated(finding) for finding in self.findings],
        }
        write_text(path, json.dumps(_finite(stated), separators=(",", ":"), ensure_ascii=False, allow_nan=False) + "\n")


def read_record(path: Path, *, moments: bool = True) -> QualityRecord | None:
    """Read the record at *path*; None where there is none that can be read, as of a report that is to be made again.

    Without *moments* and details, which are most of it, for those who read very many.
    """
    try:
        stated = json.loads(path.read_bytes())
        if stated["format"] != _FORMAT or stated["verdict"]["level"] not in LEVELS:
            return None
        level: Level = stated["verdict"]["level"]
        return QualityRecord(
            **{name: str(stated[name]) for name in ("session", "model", "version", "day", "poses", "made")},
            verdict=Verdict(level, str(stated["verdict"]["sentence"])),
            findings=tuple(_finding(row, moments) for row in stated["findings"]),
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def stored_records(layout: LabLayout) -> Iterator[QualityRecord]:
    """Give the record of every report in the store, of every version, one after another, without moments and details."""
    for path in layout.quality_files(NAME):
        record = read_record(path, moments=False)
        if record is not None:
            yield record


def newest_records(records: Iterable[QualityRecord]) -> list[QualityRecord]:
    """Return the newest record of each session and model: reports of older versions stay in the store."""
    newest: dict[tuple[str, str], QualityRecord] = {}
    for record in records:
        key = (record.session, record.model)
        if key not in newest or (record.made, record.version) > (newest[key].made, newest[key].version):
            newest[key] = record
    return list(newest.values())


def _stated(finding: Finding) -> dict[str, Any]:
    return {
        "check": finding.check,
        "passed": bool(finding.passed),
        "severity": finding.severity,
        "sentence": finding.sentence,
        "value": finding.value,
        "limit": finding.limit,
        "moments": [{**vars(moment), "bodyparts": list(moment.bodyparts)} for moment in finding.moments],
        "details": finding.details,
    }


def _finding(stated: dict[str, Any], moments: bool) -> Finding:
    if not moments:
        return Finding(**{**stated, "moments": (), "details": {}})
    places = tuple(Moment(**{**row, "bodyparts": tuple(row["bodyparts"])}) for row in stated["moments"])
    return Finding(**{**stated, "moments": places})


def _finite(obj: Any) -> Any:
    """Return *obj* with null in the place of numbers that JSON has no word for, and numpy's numbers as Python's."""
    if isinstance(obj, dict):
        return {str(key): _finite(value) for key, value in obj.items()}
    if isinstance(obj, list | tuple):
        return [_finite(value) for value in obj]
    if hasattr(obj, "tolist"):  # numpy
        return _finite(obj.tolist())
    return None if isinstance(obj, float) and not math.isfinite(obj) else obj
