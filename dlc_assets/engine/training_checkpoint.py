"""What a killed training goes on from: one file a stage, written whole, and checked before it is believed.

DeepLabCut's own snapshots are not enough for it: they hold no optimizer and no random numbers, begin a new count of what was best,
and are torn when the process dies while one is saved.
"""

from __future__ import annotations

import random
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dlc_assets.lab.files import atomic_path, sha256_file

Stage = Literal["detector", "pose"]

_FORMAT = 1
_EARLIER = "before"


@dataclass(frozen=True)
class Checkpoint:
    """A training at the end of one epoch.

    Attributes
    ----------
    epoch, epochs
        How many are done, and how many were asked for.
    best_epoch, best_metric
        The epoch with the best validation so far, None before there is one.
    stopped_early
        Training ended here because its patience was over.
    resumed_at
        The epochs after which this training went on in a new process.
    seconds
        That all its processes trained.
    learning_stats
        DeepLabCut's learning_stats.csv up to this epoch.
    snapshots
        The sha256 of each snapshot that belongs to it, by the name of its file.
    state
        ``model``, ``optimizer``, ``scheduler`` (None without one) and ``metadata``, as DeepLabCut's runner has them.
    random
        From `random_state`.
    """

    epoch: int
    epochs: int
    best_epoch: int | None
    best_metric: float | None
    stopped_early: bool
    resumed_at: tuple[int, ...]
    seconds: float
    learning_stats: str
    snapshots: Mapping[str, str]
    state: Mapping[str, Any]
    random: Mapping[str, Any]

    @property
    def finished(self) -> bool:
        """Whether nothing is left to train."""
        return self.stopped_early or self.epoch >= self.epochs


def checkpoint_files(folder: Path, stage: Stage) -> tuple[Path, Path]:
    """Return the two files of a stage in *folder*, that of the newest checkpoint first."""
    return folder / f"checkpoint-{stage}.pt", folder / f"checkpoint-{stage}-{_EARLIER}.pt"


def write_checkpoint(folder: Path, stage: Stage, checkpoint: Checkpoint) -> None:
    """Write *checkpoint* in one step; the one that was the newest is kept beside it.

    Raises
    ------
    EnvironmentProblem
        The disk is full; the earlier checkpoints are as they were.
    """
    import torch

    newest, before = checkpoint_files(folder, stage)
    with atomic_path(newest) as partial:
        with partial.open("wb") as stream:
            torch.save({"format": _FORMAT, **_plain(checkpoint)}, stream)
        if newest.is_file():
            newest.replace(before)


def read_checkpoint(folder: Path, stage: Stage, log: Callable[[str], None]) -> Checkpoint | None:
    """Return the newest checkpoint of *stage* that is whole, with all its snapshots; None when there is none.

    Of each one that is not, *log* gets a sentence.
    """
    for path in checkpoint_files(folder, stage):
        if not path.is_file():
            continue
        try:
            checkpoint = _read(path)
            _check_snapshots(folder, checkpoint.snapshots)
        except _NotUsable as why:
            log(f"{path.name} cannot be used ({why}); looking for the one before it")
            continue
        return checkpoint
    return None


def remove_checkpoints(folder: Path) -> None:
    """Remove the checkpoints of all stages in *folder*."""
    for path in folder.glob("checkpoint-*.pt"):
        path.unlink()


class _NotUsable(Exception):
    """Why a checkpoint cannot be gone on from."""


def _plain(checkpoint: Checkpoint) -> dict[str, Any]:
    return {**vars(checkpoint), "resumed_at": list(checkpoint.resumed_at), "snapshots": dict(checkpoint.snapshots)}


def _read(path: Path) -> Checkpoint:
    import torch

    try:
        with zipfile.ZipFile(path) as archive:
            torn = archive.testzip()
        if torn is not None:
            raise _NotUsable(f"its part {torn} is damaged")
        content = torch.load(path, map_location="cpu", weights_only=True)
    except _NotUsable:
        raise
    except Exception as error:  # whatever zipfile, pickle and torch make of bytes that are none of theirs
        raise _NotUsable(f"it is damaged: {error}") from error
    if not isinstance(content, dict) or content.pop("format", None) != _FORMAT:
        raise _NotUsable("another release of dlc_assets wrote it")
    return Checkpoint(**{**content, "resumed_at": tuple(content["resumed_at"])})


def _check_snapshots(folder: Path, snapshots: Mapping[str, str]) -> None:
    for name, sha256 in snapshots.items():
        path = folder / name
        if not path.is_file():
            raise _NotUsable(f"its snapshot {name} is not there")
        if sha256_file(path) != sha256:
            raise _NotUsable(f"its snapshot {name} is damaged")


# ---- random numbers


def random_state() -> dict[str, Any]:
    """Return the state of every source of random numbers that training draws from in this process."""
    import torch

    version, numbers, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    return {
        "python": [version, list(numbers), gauss],
        "numpy": [str(kind), torch.from_numpy(np.asarray(keys, dtype=np.int64)), position, has_gauss, cached],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_state(state: Mapping[str, Any]) -> None:
    """Go on with the random numbers of `random_state`; those of GPUs only where there are as many as then."""
    import torch

    version, numbers, gauss = state["python"]
    random.setstate((version, tuple(numbers), gauss))
    kind, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"])
    if torch.cuda.is_available() and torch.cuda.device_count() == len(state["cuda"]):
        torch.cuda.set_rng_state_all(state["cuda"])
