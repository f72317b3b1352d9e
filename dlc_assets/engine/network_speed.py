"""How fast a network is on this machine, and how large: measured, not looked up."""

from __future__ import annotations

import pickle
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dlc_assets.engine.estimator import Estimator
from dlc_assets.lab.errors import InputError

_SECONDS = 2.0
_STRETCHES = 5
_MOST_BATCHES = 2000
_PICTURES_A_CALL = 8  # each call of DeepLabCut's own runner starts threads, which single pictures would mostly wait for
# Tensors of a snapshot that are counted or averaged in training, and not learned.
_NOT_LEARNED = ("running_mean", "running_var", "num_batches_tracked")


def measured_speed(estimator: Estimator, pictures: Sequence[np.ndarray], seconds: float = _SECONDS) -> dict[str, Any]:
    """Return how many pictures a second *estimator* does, measured for about *seconds* after a first batch that is not counted.

    The fastest stretch counts, so that what else the machine does meanwhile changes little.

    Parameters
    ----------
    pictures
        (height, width, 3) uint8, all of one size; they are shown over and over.

    Returns
    -------
    dict
        ``frames_per_second`` (network and what belongs to it, without decoding), ``device``, ``device_name``, ``path``, ``backend``,
        ``batch_size``, ``width`` and ``height`` (px).
    """
    height, width = pictures[0].shape[:2]
    stream = estimator.for_pictures((height, width))
    size = max(stream.batch_size, min(stream.group, _PICTURES_A_CALL))
    batch = np.stack([pictures[at % len(pictures)] for at in range(size)])
    begun: float | None = None

    def batches() -> Iterator[np.ndarray]:
        for number in range(_MOST_BATCHES):
            if number > 2 and begun is not None and time.perf_counter() - begun > seconds:
                return
            yield batch

    moments: list[tuple[float, int]] = []
    for poses in stream.run(batches()):
        moments.append((time.perf_counter(), len(poses)))
        begun = moments[0][0]
    said = stream.description
    return {
        "frames_per_second": round(_fastest(moments, seconds / _STRETCHES), 2),
        "device": estimator.description["device"],
        "device_name": estimator.description["device_name"],
        **{name: said[name] for name in ("path", "backend", "batch_size")},
        "width": width,
        "height": height,
    }


def _fastest(moments: Sequence[tuple[float, int]], least: float) -> float:
    """Return the highest rate over stretches of at least *least* s (or the whole); *moments* are when how many pictures were done."""
    best, start, done = 0.0, moments[0][0], 0
    for number, (moment, count) in enumerate(moments[1:], start=2):
        done += count
        if moment - start >= least or (number == len(moments) and not best):
            best = max(best, done / max(moment - start, 1e-9))
            start, done = moment, 0
    return best


def parameter_count(snapshots: Sequence[Path]) -> int:
    """Return how many numbers were learned, over the networks of *snapshots* (a detector's and a pose network's, say).

    Raises
    ------
    InputError
        A file is no snapshot of DeepLabCut's.
    """
    import torch

    total = 0
    for path in snapshots:
        try:
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except (RuntimeError, OSError, EOFError, ValueError, pickle.UnpicklingError) as error:
            raise InputError(f"{path} is no DeepLabCut snapshot: {error}") from error
        if not isinstance(content, dict) or "model" not in content:
            raise InputError(f"{path} is no DeepLabCut snapshot: expected a network under the key model.")
        total += sum(
            tensor.numel()
            for name, tensor in content["model"].items()
            if not name.endswith(_NOT_LEARNED) and tensor.is_floating_point()
        )
    return total


def read_pictures(paths: Sequence[Path]) -> list[np.ndarray]:
    """Return the images at *paths* as the networks take them, (height, width, 3) uint8 RGB."""
    from PIL import Image

    pictures = []
    for path in paths:
        with Image.open(path) as image:
            pictures.append(np.asarray(image.convert("RGB")))
    return pictures
