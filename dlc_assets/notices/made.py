"""How much was made in a period: counted by the times of the manifests, which are written last and stay."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dlc_assets.lab.layout import LabLayout
from dlc_assets.lab.manifest import NAME

ASSETS = ("session_recordings", "pose_table", "nwb_file", "trained_model")


@dataclass
class Made:
    """Products that were made in a period, by asset; where not all could be looked at in time, at least so many."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(ASSETS, 0))
    complete: bool = True


def made_since(layout: LabLayout, since: float, *, seconds: float, clock: Callable[[], float] = time.monotonic) -> Made:
    """Count what was made after *since* (unix time), in at most *seconds*."""
    ends = clock() + seconds
    made = Made()
    for asset, entry in _places(layout):
        if clock() >= ends:
            made.complete = False
            break
        try:
            if entry.stat().st_mtime <= since:  # nothing was moved into the folder since: no need to look inside
                continue
            made.counts[asset] += not entry.is_dir() or (Path(entry.path) / NAME).stat().st_mtime > since
        except OSError:  # a product that is not finished, or was moved to the trash a moment ago
            continue
    return made


def _places(layout: LabLayout) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield the folder of each product that there is, or its manifest where that lies with those of others."""
    for asset, folder, depth in (
        ("trained_model", layout.models, 2),
        ("nwb_file", layout.nwb_manifests, 1),
        ("session_recordings", layout.recordings, 1),
        ("pose_table", layout.poses, 3),
    ):
        for entry in _below(folder, depth):
            yield asset, entry


def _below(folder: Path, depth: int) -> Iterator[os.DirEntry[str]]:
    """Yield what lies *depth* levels below *folder*, hidden things left out."""
    try:
        with os.scandir(folder) as listing:
            entries = [entry for entry in listing if not entry.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        if depth == 1:
            yield entry
        else:
            yield from _below(Path(entry.path), depth - 1)
