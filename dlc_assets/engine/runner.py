"""DeepLabCut's own inference runner: for networks and pictures that the fast path does not take, and for single images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dlc_assets.engine.chatter import chatter_logged
from dlc_assets.lab.errors import InputError
from dlc_assets.lab.settings import DynamicCropping

# Batches that one call of the runner takes: each call starts a thread of its own.
_BATCHES_A_CALL = 32


class _Poses:
    """Takes poses from DeepLabCut's runner as they come, in the place of its shelf writer, and lets go of all else."""

    def __init__(self) -> None:
        self.frames: list[np.ndarray] = []

    def add_prediction(self, bodyparts: np.ndarray, **_: Any) -> None:
        self.frames.append(np.asarray(bodyparts[..., :3], dtype=np.float32))


class RunnerNetwork:
    """A network behind DeepLabCut's runner; the same use as `fast_path.Network`, but for several individuals, too.

    Attributes
    ----------
    batch_size
        Pictures that the network sees at once.

    Parameters
    ----------
    individuals
        How many animals the network looks for at most.

    Raises
    ------
    InputError
        The configuration or snapshot cannot be read or do not belong together.
    """

    backend = "deeplabcut"

    def __init__(
        self,
        pytorch_config: Path,
        snapshot: Path,
        *,
        device: str,
        individuals: int,
        batch_size: int = 1,
        dynamic: DynamicCropping | None = None,
    ) -> None:
        self._config_file, self._snapshot, self._device = pytorch_config, snapshot, device
        self._individuals, self._dynamic, self.batch_size = individuals, dynamic, batch_size
        self._runner: Any = self._loaded()
        self.precision = "autocast" if self._runner.inference_cfg.autocast.enabled else "float32"

    @property
    def model(self) -> Any:
        """The `PoseModel` with its weights."""
        return self._runner.model

    @property
    def group(self) -> int:
        """Pictures that one batch given to `run` should have."""
        return self.batch_size * _BATCHES_A_CALL

    def run(self, batches: Iterable[np.ndarray | Sequence[np.ndarray]]) -> Iterator[np.ndarray]:
        """Give the poses (n, individuals, bodyparts, 3) float32 of batches of n pictures (height, width, 3) uint8."""
        for batch in batches:
            yield self.poses(batch)

    def poses(self, pictures: Iterable[np.ndarray], batch_size: int | None = None) -> np.ndarray:
        """Return the poses (n, individuals, bodyparts, 3) float32 of *pictures*, which may differ in size in batches of one."""
        if self._runner is None:
            self._runner = self._loaded()
        runner, self._runner = self._runner, None  # after an error its queue still holds pictures of the broken run
        runner.batch_size = batch_size or self.batch_size
        poses, given = _Poses(), _Counted(pictures)
        with chatter_logged():
            runner.inference(given, shelf_writer=poses)
        if len(poses.frames) != given.count:
            raise RuntimeError(f"DeepLabCut gave poses for {len(poses.frames)} of {given.count} pictures.")
        self._runner = runner
        return np.stack(poses.frames)

    def _loaded(self) -> Any:
        with chatter_logged():
            from deeplabcut.pose_estimation_pytorch.apis.utils import get_pose_inference_runner
            from deeplabcut.pose_estimation_pytorch.runners.dynamic_cropping import DynamicCropper

            dynamic = DynamicCropper(self._dynamic.threshold, self._dynamic.margin) if self._dynamic else None
            try:
                return get_pose_inference_runner(
                    model_config=self._config_file,
                    snapshot_path=self._snapshot,
                    batch_size=self.batch_size,
                    device=self._device,
                    max_individuals=self._individuals,
                    dynamic=dynamic,
                )
            except (RuntimeError, KeyError, OSError, EOFError, ValueError) as err:
                raise InputError(
                    f"The network of {self._config_file} cannot be loaded with the weights of {self._snapshot}: {err}"
                ) from err


class _Counted:
    """An iterator that knows how many it has given."""

    def __init__(self, pictures: Iterable[np.ndarray]) -> None:
        self._pictures = pictures
        self.count = 0

    def __iter__(self) -> Iterator[np.ndarray]:
        for picture in self._pictures:
            self.count += 1
            yield picture
