"""What processes were writing when they were killed: hidden files and folders beside the final ones, that nobody reads."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from dlc_assets.lab.files import writer_here
from dlc_assets.lab.layout import LabLayout
from dlc_assets.lab.processes import is_alive


def remove_leftovers(layout: LabLayout, log: Callable[[str], None], *, seconds: float | None = None) -> bool:
    """Remove from the store what processes of this host were writing when they died; what living ones write stays.

    Parameters
    ----------
    seconds
        How long to look at most; None: to the end.

    Returns
    -------
    bool
        Whether the whole store was looked through.
    """
    deadline = None if seconds is None else time.monotonic() + seconds
    removed = 0
    try:
        for unfinished in _by_folder(layout):
            if deadline is not None and time.monotonic() > deadline:
                return False
            for path in unfinished:
                writer = writer_here(path)
                if writer is None or is_alive(writer):
                    continue
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
                removed += 1
        return True
    finally:
        if removed:
            log(f"{removed} unfinished files of processes that died were removed")


def unfinished_files(layout: LabLayout) -> list[Path]:
    """Return each file or folder of the store that a process of this host is writing, or was when it died."""
    return [path for unfinished in _by_folder(layout) for path in unfinished]


def _by_folder(layout: LabLayout) -> Iterator[list[Path]]:
    """Give what is unfinished in each folder of the store, but for what Dagster writes and what was thrown away."""
    folders = [layout.store]
    while folders:
        unfinished = []
        with suppress(FileNotFoundError, NotADirectoryError), os.scandir(folders.pop()) as entries:  # just removed
            for entry in entries:
                path = Path(entry.path)
                if ".partial" in entry.name and writer_here(path) is not None:
                    unfinished.append(path)
                elif path not in {layout.dagster_home, layout.trash} and entry.is_dir(follow_symlinks=False):
                    folders.append(path)
        yield unfinished
