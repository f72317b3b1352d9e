"""The poses of single frames, read without the rest of the table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from dlc_assets.poses.table_file import PoseTableFile, RowGroup
from dlc_assets.review.report.measures import Name


def points_at(path: Path, names: Sequence[Name], frames: Iterable[int]) -> dict[int, np.ndarray]:
    """Return the poses of *frames* in the table at *path*: (tracks, 3) float32 of x, y, likelihood, in the order of *names*.

    A track that the table lacks is NaN, and a frame beyond it is left out.

    Raises
    ------
    NotFoundError, InputError
        The file is missing, or no pose table.
    """
    file = PoseTableFile.open(path)
    groups: dict[int, list[RowGroup]] = {}
    for group in file.row_groups:
        groups.setdefault(group.first_frame, []).append(group)
    firsts = sorted(groups)
    wanted: dict[int, list[int]] = {}
    for frame in sorted(set(frames)):
        if frame >= firsts[0]:
            wanted.setdefault(max(first for first in firsts if first <= frame), []).append(frame)
    found = {}
    for first, here in wanted.items():
        tracks, values = file.values(groups[first])
        order = [tracks.index(name) if name in tracks else -1 for name in names]
        for frame in here:
            if frame - first < values.shape[2]:
                of = np.array(
                    [values[place, :, frame - first] if place >= 0 else np.full(3, np.nan) for place in order]
                )
                found[frame] = of.astype(np.float32)
    return found
