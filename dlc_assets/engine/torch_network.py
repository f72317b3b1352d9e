"""A DeepLabCut network run by PyTorch: pictures go to the device as they are, poses come back, batches overlap."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from dlc_assets.engine.fast_path import MEAN, STD, HeatmapDecoding, Shape, filled_up
from dlc_assets.lab.errors import EnvironmentProblem

_log = logging.getLogger(__name__)

_LARGEST_BATCH = 128
_WORTH_DOUBLING = 1.05  # a larger batch must be so much faster
_TRIALS = 3
_IN_FLIGHT = 2


class TorchNetwork:
    """A network in channels-last order on one device; see `fast_path.Network`.

    On a GPU the backbone runs in *precision* under autocast and the heads in float32: they cost little, and rounded heatmaps
    would have ties where the animal is.
    """

    backend = "torch"

    def __init__(self, model: Any, decoding: HeatmapDecoding, device: str, precision: str) -> None:
        import torch

        self._device = torch.device(device)
        self._model = model.to(self._device).eval().to(memory_format=torch.channels_last)
        self._decoding, self.precision = decoding, precision
        self._dtype = getattr(torch, precision)
        self._mean = torch.as_tensor(MEAN, device=self._device).view(1, 3, 1, 1)
        self._inverse_std = (1 / torch.as_tensor(STD, device=self._device)).view(1, 3, 1, 1)
        self.batch_size = 1

    def prepare(self, shape: Shape, batch_size: int | None) -> None:
        """Take *batch_size*, or on a GPU the fastest that fits into its memory; on a CPU single pictures measured fastest."""
        if batch_size is not None or self._device.type != "cuda":
            self.batch_size = batch_size or 1
            return
        self.batch_size = self._fastest(shape)

    def run(self, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Give the poses of *batches*; on a GPU two are under way at a time."""
        import torch

        started: deque[tuple[Any, int, Any, np.ndarray]] = deque()
        with torch.inference_mode():
            for batch in batches:
                started.append(self._start(batch))
                if self._device.type != "cuda" or len(started) > _IN_FLIGHT:
                    yield self._finish(*started.popleft())
            while started:
                yield self._finish(*started.popleft())

    def _start(self, batch: np.ndarray) -> tuple[Any, int, Any, np.ndarray]:
        """Set the device to work on *batch*; poses are None where its memory does not suffice."""
        import torch

        if len(batch) > self.batch_size:  # made ready before memory ran out
            return None, len(batch), None, batch
        whole = torch.from_numpy(filled_up(batch, self.batch_size))
        try:
            if self._device.type != "cuda":
                return self._poses(whole), len(batch), None, batch
            poses = self._poses(whole.pin_memory().to(self._device, non_blocking=True))
            answer = torch.empty(poses.shape, dtype=poses.dtype, pin_memory=True)
            answer.copy_(poses, non_blocking=True)
        except torch.OutOfMemoryError:
            return None, len(batch), None, batch
        done = torch.cuda.Event()
        done.record()
        return answer, len(batch), done, batch

    def _finish(self, poses: Any, count: int, done: Any, batch: np.ndarray) -> np.ndarray:
        if poses is None:
            return self._in_parts(batch)
        if done is not None:
            done.synchronize()
        return np.array(poses[:count].numpy())

    def _in_parts(self, batch: np.ndarray) -> np.ndarray:
        """Do a batch that does not fit into the device's memory in smaller ones, which later batches then keep to."""
        import torch

        if len(batch) <= self.batch_size:
            if self.batch_size == 1:
                raise EnvironmentProblem(
                    f"one picture of {batch.shape[2]}x{batch.shape[1]} px alone does not fit into the memory of "
                    f"{self._device}: end what else uses it, crop the videos, or work on the CPU."
                )
            torch.cuda.empty_cache()
            self.batch_size //= 2
            _log.warning("out of memory: going on with batches of %d", self.batch_size)
        parts = [batch[start : start + self.batch_size] for start in range(0, len(batch), self.batch_size)]
        return np.concatenate([self._finish(*self._start(part)) for part in parts])

    def _poses(self, pictures: Any) -> Any:
        import torch

        # (n, height, width, 3) seen as (n, 3, height, width) is channels-last already
        prepared = (pictures.permute(0, 3, 1, 2).float() - self._mean) * self._inverse_std
        if self._dtype is torch.float32:
            outputs = self._model(prepared)["bodypart"]
        else:
            with torch.autocast(self._device.type, dtype=self._dtype):
                features = self._model.backbone(prepared)
                if self._model.neck:
                    features = self._model.neck(features)
            outputs = self._model.heads["bodypart"](features.float())
        return self._decoding.poses(outputs["heatmap"], outputs.get("locref"))

    def _fastest(self, shape: Shape) -> int:
        """Return the batch size from which on larger ones are no faster, or do not fit."""
        import torch

        best, best_rate, size = 1, 0.0, 4
        generator = np.random.default_rng(0)
        while size <= _LARGEST_BATCH:
            batch = generator.integers(0, 256, (size, *shape, 3), dtype=np.uint8)
            try:
                with torch.inference_mode():
                    on_device = torch.from_numpy(batch).to(self._device)
                    self._poses(on_device)
                    torch.cuda.synchronize(self._device)
                    begun = time.perf_counter()
                    for _ in range(_TRIALS):
                        self._poses(on_device)
                    torch.cuda.synchronize(self._device)
            except torch.OutOfMemoryError:
                torch.cuda.empty_cache()
                break
            rate = _TRIALS * size / (time.perf_counter() - begun)
            if rate < best_rate * _WORTH_DOUBLING:
                break
            best, best_rate, size = size, rate, size * 2
        return best
