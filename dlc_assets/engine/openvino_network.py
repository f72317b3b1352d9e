"""A DeepLabCut network run by OpenVINO: on the CPUs that were measured, the fastest there is (see benchmarks/RESULTS.md)."""

from __future__ import annotations

import functools
import importlib.util
import sys
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from dlc_assets.engine.fast_path import MEAN, STD, HeatmapDecoding, Shape, filled_up

_HINTS = {"float32": "f32", "bfloat16": "bf16"}


def has_openvino() -> bool:
    """Say whether the extra ``openvino`` is installed."""
    return importlib.util.find_spec("openvino") is not None


def load_openvino() -> Any:
    """Return the package, kept from reporting each use to its makers.

    A lab's machine calls nobody unasked. And the report forks a process from a thread, which can wait for ever for the locks that
    h5py and loguru hold around a fork.
    """
    # Without this package OpenVINO takes a stub that reports nothing.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    return openvino


def openvino_takes(model: Any) -> bool:
    """Say whether *model* is run by OpenVINO: not with group normalization, as DeepLabCut's ResNets have it.

    OpenVINO 2026.4.1 dies (a segmentation fault, in `compile_model`) on such a network for pictures of 160x128 px, and is no
    faster than PyTorch for larger ones.
    """
    import torch

    return not any(isinstance(module, torch.nn.GroupNorm) for module in model.modules())


class OpenVinoNetwork:
    """A network compiled for pictures of one size at a time; see `fast_path.Network`."""

    backend = "openvino"

    def __init__(self, model: Any, decoding: HeatmapDecoding, precision: str) -> None:
        self._model = _with_preparation(model)
        self._decoding, self.precision = decoding, precision
        self._compiled: dict[tuple[int, Shape], Any] = {}
        self._shape: Shape = (0, 0)
        self.batch_size = 1

    def prepare(self, shape: Shape, batch_size: int | None) -> None:
        """Compile for pictures of *shape*, once; single pictures measured fastest."""
        self.batch_size, self._shape = batch_size or 1, shape
        key = (self.batch_size, shape)
        if key not in self._compiled:
            self._compiled[key] = self._compile(*key)

    def run(self, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Give the poses of *batches*, as many at a time as the compiled network says are best."""
        import torch

        compiled = self._compiled[self.batch_size, self._shape]
        free = [compiled.create_infer_request() for _ in range(_requests(compiled))]
        started: deque[tuple[Any, int]] = deque()

        def finish() -> np.ndarray:
            request, count = started.popleft()
            request.wait()
            heatmaps, locrefs = (torch.from_numpy(request.get_output_tensor(i).data) for i in (0, 1))
            poses = self._decoding.poses(heatmaps, locrefs)[:count].numpy()
            free.append(request)
            return np.asarray(poses)

        for batch in batches:
            if not free:
                yield finish()
            request = free.pop()
            request.start_async({0: filled_up(batch, self.batch_size)})
            started.append((request, len(batch)))
        while started:
            yield finish()

    def _compile(self, batch_size: int, shape: Shape) -> Any:
        openvino = load_openvino()
        import torch

        pictures = torch.zeros((batch_size, *shape, 3), dtype=torch.uint8)
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # of torch, about how OpenVINO traces
            converted = openvino.convert_model(self._model, example_input=pictures)
        converted.reshape([batch_size, *shape, 3])
        # Said outright: without a hint, OpenVINO rounds to bfloat16 where the processor is faster with it.
        settings = {"INFERENCE_PRECISION_HINT": _HINTS[self.precision], "PERFORMANCE_HINT": "THROUGHPUT"}
        return _core().compile_model(converted, "CPU", settings)


@functools.cache
def _core() -> Any:
    """Return this process' one OpenVINO core, which is never given back.

    Where Python's faulthandler is on (pytest and notebooks turn it on), OpenVINO gives the thread that makes a core another stack for
    signals, and unmaps that stack with the core, in whatever thread this ends: the next signal would then end the process.
    """
    openvino = load_openvino()

    return openvino.Core()


def _requests(compiled: Any) -> int:
    return max(1, int(compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")))


def _with_preparation(model: Any) -> Any:
    """Return a module from pictures (n, height, width, 3) uint8 to heatmaps and locrefs."""
    import torch

    class Prepared(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model
            self.register_buffer("mean", torch.as_tensor(MEAN).view(1, 3, 1, 1))
            self.register_buffer("inverse_std", (1 / torch.as_tensor(STD)).view(1, 3, 1, 1))

        def forward(self, pictures: Any) -> tuple[Any, Any]:
            prepared = (pictures.permute(0, 3, 1, 2).float() - self.mean) * self.inverse_std
            outputs = self.model(prepared)["bodypart"]
            heatmaps = outputs["heatmap"]
            return heatmaps, outputs.get("locref", heatmaps)

    return Prepared().eval()
