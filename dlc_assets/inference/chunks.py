"""Poses of one recording on their way: written in chunks as they come, so that a killed analysis goes on from the last one."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from dlc_assets.lab.files import atomic_path, read_json, write_json

_SETTINGS = "settings.json"


class PoseChunks:
    """The finished chunks of one recording below *folder*, each a file that is whole or not there.

    Parameters
    ----------
    settings
        What every chunk must have been made with; chunks made with anything else are removed.
    free
        Names among *settings* that may differ: those of the chunks that are there count (`settings`).
    tracks
        How many (individual, body part) there are.

    Attributes
    ----------
    frames
        Frames that are there, from the first one on without a gap.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], tracks: int, *, free: frozenset[str] = frozenset()):
        self._folder, self._tracks = folder, tracks
        self.settings: dict[str, Any] = dict(settings)
        self._ends: list[int] = []
        self._read: tuple[int, np.ndarray] | None = None
        self._resume(free)

    @property
    def frames(self) -> int:
        return self._ends[-1] if self._ends else 0

    def keep(self, settings: Mapping[str, Any]) -> None:
        """Record *settings* as what the chunks are made with, before the first is."""
        self.settings = dict(settings)
        write_json(self._folder / _SETTINGS, self.settings)

    def append(self, poses: np.ndarray) -> None:
        """Add the poses (n, tracks, 3) of the next n frames; they are on the disk when this returns."""
        if poses.shape[1:] != (self._tracks, 3):
            raise ValueError(f"expected poses of {self._tracks} tracks, got the shape {poses.shape}")
        with atomic_path(self._file(self.frames)) as partial:
            np.save(partial, np.ascontiguousarray(poses, dtype=np.float32), allow_pickle=False)
        self._ends.append(self.frames + len(poses))

    def blocks(self, first: int, last: int) -> np.ndarray:
        """Return the poses (last - first, tracks, 3) float32 of frames *first* up to, not including, *last*."""
        found = []
        start = 0
        for number, end in enumerate(self._ends):
            if start < last and end > first:
                found.append(self._chunk(number, start)[max(0, first - start) : last - start])
            start = end
        return np.concatenate(found)

    def remove(self) -> None:
        """Delete the chunks."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._ends = []

    def _file(self, first: int) -> Path:
        return self._folder / f"{first:012d}.npy"

    def _chunk(self, number: int, start: int) -> np.ndarray:
        if self._read is None or self._read[0] != number:
            self._read = (number, np.load(self._file(start), allow_pickle=False))
        return self._read[1]

    def _resume(self, free: frozenset[str]) -> None:
        """Count what an earlier attempt left, and remove what does not fit."""
        try:
            kept = read_json(self._folder / _SETTINGS)
        except (FileNotFoundError, ValueError):
            kept = None
        same = isinstance(kept, dict) and all(
            kept.get(name) == self.settings.get(name) for name in {*kept, *self.settings} - free
        )
        if not same:
            self.remove()
            return
        self.settings = kept
        files = {int(path.stem): path for path in self._folder.glob("*.npy") if path.stem.isdecimal()}
        while (path := files.pop(self.frames, None)) is not None:
            poses = _whole(path, self._tracks)
            if poses is None:
                break
            self._ends.append(self.frames + len(poses))
        for path in files.values():
            path.unlink()


def _whole(path: Path, tracks: int) -> np.ndarray | None:
    """Return the chunk at *path*, None where a disk that was full or went off left something else there."""
    try:
        poses = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError):
        return None
    return poses if poses.ndim == 3 and poses.shape[1:] == (tracks, 3) and len(poses) else None
