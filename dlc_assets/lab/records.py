"""The lab's decisions, kept for ever: one append-only file of JSON lines a kind, in the store's records folder.

What is written here cannot be worked out again from anything else: which frames were set aside for scoring, what was released
and why, which sessions a cohort holds, what was deleted, which backups were made.
"""

from __future__ import annotations

import getpass
import json
import os
import socket
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from dlc_assets.lab.errors import EnvironmentProblem
from dlc_assets.lab.files import saying_when_full
from dlc_assets.lab.layout import LabLayout
from dlc_assets.lab.locks import hold

Kind = Literal["benchmark_frames", "splits", "releases", "cohorts", "deletions", "adoptions", "backups"]


def append_record(layout: LabLayout, kind: Kind, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Append *entry* (plain JSON values) to the records of *kind*, with ``at`` (UTC), ``by`` and ``host``; return what was written.

    The line is on the disk when this returns. A line that a crash cut short is left as it is; the next one starts on a line of
    its own.
    """
    path = layout.records_file(kind)
    row = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "by": _user(),
        "host": socket.gethostname(),
        **entry,
    }
    line = json.dumps(row, ensure_ascii=False, sort_keys=True, allow_nan=False) + "\n"
    with hold(layout.lock("records", kind), f"recording {kind}"), saying_when_full(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a+b") as stream:
            if stream.tell() and not _ends_a_line(stream):
                line = "\n" + line
            stream.write(line.encode())
            stream.flush()
            os.fsync(stream.fileno())
    return row


def read_records(layout: LabLayout, kind: Kind) -> list[dict[str, Any]]:
    """Return the records of *kind*, oldest first.

    Raises
    ------
    EnvironmentProblem
        A line in the middle cannot be read: somebody edited the file, or the disk lost part of it.
    """
    path = layout.records_file(kind)
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            if number == len(lines):  # no line end: a crash cut it short, and nobody was told that it was kept
                continue
            if not line.rstrip().endswith(b"}"):
                continue  # the same, with later records after it
            raise EnvironmentProblem(
                f"{path}, line {number}: not a record (expected one JSON object a line). Restore the file from a backup, or mend the line."
            ) from None
        if not isinstance(row, dict):
            raise EnvironmentProblem(f"{path}, line {number}: expected a JSON object, got {line[:60]!r}.")
        rows.append(row)
    return rows


def _ends_a_line(stream: Any) -> bool:
    stream.seek(-1, os.SEEK_END)
    return bool(stream.read(1) == b"\n")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        return str(os.getuid()) if hasattr(os, "getuid") else ""
