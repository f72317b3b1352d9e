"""DeepLabCut's own inference runner: for networks and pictures that the fast path does not take, and for single images."""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from dlc_assets.engine.chatter import chatter_logged
from dlc_assets.engine.detectors import backbones_not_downloaded, flips_not_warned_of
from dlc_assets.engine.workspace import read_pytorch_config
from dlc_assets.lab.errors import InputError
from dlc_assets.lab.settings import DynamicCropping

# Batches that one call of the runner takes: each call starts a thread of its own.
_BATCHES_A_CALL = 32
# Detectors see whole frames, enlarged by some: more at once need much memory and gain little.
_DETECTOR_BATCH = 4
_SAID = 600  # characters of an error; PyTorch lists each of hundreds of layers that do not fit


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
    detector
        The snapshot of the detector of a top-down network.

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
        detector: Path | None = None,
    ) -> None:
        self._config_file, self._snapshot, self._device = pytorch_config, snapshot, device
        self._individuals, self._dynamic, self.batch_size = individuals, dynamic, batch_size
        self._detector_snapshot = detector
        self._config = read_pytorch_config(pytorch_config)
        self._bodyparts = len(self._config["metadata"]["bodyparts"])
        self._runner: Any = self._loaded()
        self._detector: Any = self._loaded_detector()
        self.precision = "autocast" if self._runner.inference_cfg.autocast.enabled else "float32"

    @property
    def model(self) -> Any:
        """The `PoseModel` with its weights."""
        return self._runner.model

    def forget(self) -> None:
        """Begin another recording: dynamic cropping looks at the whole picture again, not where the animal of the last one was."""
        if self._dynamic is not None and self._runner is not None:
            self._runner.dynamic = self._cropper()

    def _cropper(self) -> Any:
        """Return DeepLabCut's dynamic cropper, which has seen nothing yet; None where it is off."""
        if self._dynamic is None:
            return None
        from deeplabcut.pose_estimation_pytorch.runners.dynamic_cropping import DynamicCropper

        return DynamicCropper(self._dynamic.threshold, self._dynamic.margin)

    @property
    def group(self) -> int:
        """Pictures that one batch given to `run` should have."""
        return self.batch_size * _BATCHES_A_CALL

    def run(self, batches: Iterable[np.ndarray | Sequence[np.ndarray]]) -> Iterator[np.ndarray]:
        """Give the poses (n, individuals, bodyparts, 3) float32 of batches of n pictures (height, width, 3) uint8."""
        for batch in batches:
            yield self.poses(batch)

    def poses(self, pictures: Iterable[np.ndarray], batch_size: int | None = None) -> np.ndarray:
        """Return the poses (n, individuals, bodyparts, 3) float32 of *pictures*, which may differ in size in batches of one.

        Where nothing was found, x and y are NaN and the likelihood is 0.
        """
        size = batch_size or self.batch_size
        if self._detector_snapshot is None:
            return self._estimated(pictures, size)
        remaining, found = iter(pictures), []
        while group := list(islice(remaining, size * _BATCHES_A_CALL)):
            found.append(self._top_down(group, size))
        return np.concatenate(found)

    def _top_down(self, pictures: list[np.ndarray], batch_size: int) -> np.ndarray:
        boxes = self._boxes(pictures, batch_size)
        seen = [index for index, found in enumerate(boxes) if len(found["bboxes"])]
        poses = np.full((len(pictures), self._individuals, self._bodyparts, 3), np.nan, dtype=np.float32)
        poses[..., 2] = 0
        # Only pictures in which the detector found something: DeepLabCut's runner loses the others when they come last.
        if seen:
            poses[seen] = self._estimated(((pictures[index], boxes[index]) for index in seen), batch_size)
        return poses

    def _boxes(self, pictures: list[np.ndarray], batch_size: int) -> list[dict[str, Any]]:
        if self._detector is None:
            self._detector = self._loaded_detector()
        detector, self._detector = self._detector, None
        detector.batch_size = min(batch_size, _DETECTOR_BATCH)
        with chatter_logged():
            boxes: list[dict[str, Any]] = detector.inference(pictures)
        if len(boxes) != len(pictures):
            raise RuntimeError(f"DeepLabCut's detector looked at {len(boxes)} of {len(pictures)} pictures.")
        self._detector = detector
        return boxes

    def _estimated(self, pictures: Iterable[Any], batch_size: int) -> np.ndarray:
        if self._runner is None:
            self._runner = self._loaded()
        runner, self._runner = self._runner, None  # after an error its queue still holds pictures of the broken run
        runner.batch_size = batch_size
        poses, given = _Poses(), _Counted(pictures)
        with chatter_logged():
            runner.inference(given, shelf_writer=poses)
        if len(poses.frames) != given.count:
            raise RuntimeError(f"DeepLabCut gave poses for {len(poses.frames)} of {given.count} pictures.")
        self._runner = runner
        found = np.stack(poses.frames)
        missing = ~(found[..., 2] >= 0)  # DeepLabCut says -1 of what it did not find
        found[missing] = (np.nan, np.nan, 0)
        return found

    def _loaded(self) -> Any:
        with chatter_logged():
            from deeplabcut.pose_estimation_pytorch.apis.utils import get_pose_inference_runner

            dynamic = self._cropper()
            with self._saying_what_does_not_fit("network", self._snapshot):
                return get_pose_inference_runner(
                    model_config=self._config_file,
                    snapshot_path=self._snapshot,
                    batch_size=self.batch_size,
                    device=self._device,
                    max_individuals=self._individuals,
                    dynamic=dynamic,
                )

    def _loaded_detector(self) -> Any:
        if self._detector_snapshot is None:
            return None
        with chatter_logged():
            from deeplabcut.pose_estimation_pytorch.apis.utils import get_detector_inference_runner

            with self._saying_what_does_not_fit("detector", self._detector_snapshot), backbones_not_downloaded():
                return get_detector_inference_runner(
                    model_config=self._config_file,
                    snapshot_path=self._detector_snapshot,
                    batch_size=self.batch_size,
                    device=self._device,
                    max_individuals=self._individuals,
                )

    @contextlib.contextmanager
    def _saying_what_does_not_fit(self, what: str, snapshot: Path) -> Iterator[None]:
        try:
            with flips_not_warned_of(self._config):
                yield
        except (RuntimeError, KeyError, OSError, EOFError, ValueError, pickle.UnpicklingError) as err:
            said = str(err).strip()
            raise InputError(
                f"The {what} of {self._config_file} cannot be loaded with the weights of {snapshot}: "
                f"{said[:_SAID]}{' ...' if len(said) > _SAID else ''}"
            ) from err


class _Counted:
    """An iterator that knows how many it has given."""

    def __init__(self, pictures: Iterable[Any]) -> None:
        self._pictures = pictures
        self.count = 0

    def __iter__(self) -> Iterator[Any]:
        for picture in self._pictures:
            self.count += 1
            yield picture
