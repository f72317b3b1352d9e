"""Files beside a session's videos as its manifest keeps them, and what tells a changed one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dlc_assets.lab.files import sha256_file
from dlc_assets.lab.lab import Lab
from dlc_assets.recordings.info import StoredFile


def portable(lab: Lab, path: Path) -> str:
    """Return *path* as it is stored: relative to the lab folder where it lies in it, so that a lab can be moved."""
    return (path.relative_to(lab.root) if path.is_relative_to(lab.root) else path).as_posix()


def stored_file(lab: Lab, path: Path) -> StoredFile:
    """Return what is kept of the file at *path*: where it is, how large, when it was changed, and its sha256."""
    status = path.stat()
    return StoredFile(
        path=portable(lab, path), size=status.st_size, mtime_ns=status.st_mtime_ns, sha256=sha256_file(path)
    )


def file_stamp(lab: Lab, path: Path) -> list[Any]:
    """Return path, size and change time of a file; of one that is not there the path alone."""
    try:
        status = path.stat()
    except OSError:
        return [portable(lab, path)]
    return [portable(lab, path), status.st_size, status.st_mtime_ns]
