"""Poses from a trained network: loaded once on one device, used for every video and image of a run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dlc_assets.engine.detectors import DETECTOR
from dlc_assets.engine.fast_path import HeatmapDecoding, Network, Shape, why_not, why_not_shape
from dlc_assets.engine.network_training import resolved_device
from dlc_assets.engine.openvino_network import OpenVinoNetwork, has_openvino, openvino_takes
from dlc_assets.engine.runner import RunnerNetwork
from dlc_assets.engine.torch_network import TorchNetwork
from dlc_assets.engine.workspace import read_pytorch_config
from dlc_assets.lab.errors import InputError, SettingsError
from dlc_assets.lab.settings import DynamicCropping
from dlc_assets.video.decode import Crop, decode_video

Precision = Literal["float32", "bfloat16", "float16"]
# DeepLabCut's runner gains from batches on a GPU; on a CPU single frames measured fastest.
_RUNNER_BATCH_GPU, _RUNNER_BATCH_CPU = 16, 1


class Estimator:
    """One network on one device.

    Parameters
    ----------
    device
        ``cpu``, ``cuda``, ``cuda:1``; None takes the GPU where there is one.
    batch_size
        Pictures at once; None: the fastest on this device.
    precision
        Of the network's inside. DeepLabCut's own runner, which takes what the fast path does not, always has the float32 of
        DeepLabCut.
    dynamic
        Dynamic cropping, which only DeepLabCut's runner does, and with bottom-up networks only.
    detector
        The snapshot of the detector of a top-down network; by default ``detector.pt`` beside *pytorch_config*.

    Attributes
    ----------
    bodyparts, individuals, unique_bodyparts
        Names, in the order of the poses' axes.
    why_not_fast
        Why the fast path does not take this network, empty where it does.
    resumable
        Whether a frame's poses depend on that frame alone, so that a broken analysis can go on in the middle.
    description
        What the numbers depend on: ``deeplabcut_version``, ``torch_version``, ``device``, ``device_name``.

    Raises
    ------
    InputError
        The configuration or a snapshot cannot be read or do not belong together, or the network needs another one's poses.
    SettingsError
        Dynamic cropping is asked for with a top-down network.
    EnvironmentProblem
        A GPU was asked for that this process does not see.
    """

    def __init__(
        self,
        pytorch_config: Path,
        snapshot: Path,
        *,
        device: str | None = None,
        batch_size: int | None = None,
        precision: Precision = "float32",
        dynamic: DynamicCropping | None = None,
        detector: Path | None = None,
    ) -> None:
        self._config = read_pytorch_config(pytorch_config)
        method = str(self._config.get("method", "bu")).lower()
        if method not in ("bu", "td"):
            raise InputError(
                f'{pytorch_config}: expected a bottom-up or a top-down network (method "bu" or "td"), got method "{method}",'
                " which needs the poses of another network."
            )
        if dynamic is not None and method == "td":
            raise SettingsError(
                "Dynamic cropping is for bottom-up networks; this one is top-down, and its detector finds the animal in each"
                " frame anyway. Leave dynamic cropping out."
            )
        if not snapshot.is_file():
            raise InputError(f"There is no snapshot {snapshot}.")
        detector = (detector or pytorch_config.with_name(DETECTOR)) if method == "td" else None
        if detector is not None and not detector.is_file():
            raise InputError(f"There is no snapshot {detector} of the detector, which this top-down network needs.")
        metadata = self._config["metadata"]
        self.bodyparts: tuple[str, ...] = tuple(metadata["bodyparts"])
        self.individuals: tuple[str, ...] = tuple(metadata["individuals"])
        self.unique_bodyparts: tuple[str, ...] = tuple(metadata.get("unique_bodyparts") or ())
        self._device, self._batch_size, self._precision = resolved_device(device), batch_size, precision
        on_gpu = self._device.startswith("cuda")
        self._runner = RunnerNetwork(
            pytorch_config,
            snapshot,
            device=self._device,
            individuals=len(self.individuals),
            batch_size=1 if dynamic else batch_size or (_RUNNER_BATCH_GPU if on_gpu else _RUNNER_BATCH_CPU),
            dynamic=dynamic,
            detector=detector,
        )
        self.why_not_fast = "dynamic cropping is on" if dynamic else why_not(self._config)
        self.resumable = dynamic is None
        self._fast: Network | None = None
        self.description: dict[str, Any] = self._described()

    def for_pictures(self, shape: Shape, batch_size: int | None = None) -> PoseStream:
        """Return what estimates pictures of *shape* (height, width in px), ready to start.

        *batch_size* is what an earlier stream over the same recording chose, to go on with the same numbers.
        """
        why = self.why_not_fast or why_not_shape(self._config, shape)
        if why:
            self._runner.forget()
            return PoseStream(self._runner, "deeplabcut", why)
        if self._fast is None:
            self._fast = self._fast_network()
        self._fast.prepare(shape, batch_size or self._batch_size)
        return PoseStream(self._fast, "fast", "")

    def estimate_video(
        self,
        video: Path,
        *,
        crop: Crop | None = None,
        on_frames: Callable[[int], None] | None = None,
        frames: int | None = None,
    ) -> np.ndarray:
        """Return the poses in every frame of *video*, turned upright as OpenCV does, all at once in memory.

        Parameters
        ----------
        crop
            The part of the frame that the network sees.
        on_frames
            Called with the number of frames done so far; an exception that it raises ends the work and comes out here.
        frames
            How many frames there are, if that was counted; else the container's word is taken where it has one.

        Returns
        -------
        numpy.ndarray
            (frames, individuals, body parts, 3) float32: x and y in px of the full frame, likelihood; NaN where nothing
            was found.

        Raises
        ------
        InputError
            *video* does not open, or gives fewer (or more) frames than it should.
        SettingsError
            *crop* lies outside the frame.
        """
        found: list[np.ndarray] = []
        done = 0
        for poses in self.estimate_pictures(decode_video(video, crop=crop)):
            found.append(poses)
            done += len(poses)
            if on_frames is not None:
                on_frames(done)
        _check_frame_count(video, done, frames)
        whole = np.concatenate(found)
        if crop is not None:
            whole[..., :2] += np.array((crop[0], crop[2]), dtype=np.float32)
        return whole

    def estimate_pictures(self, pictures: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Give the poses (n, individuals, body parts, 3) of *pictures* of one size, in batches, as they come."""
        remaining = iter(pictures)
        first = next(remaining, None)
        if first is None:
            return
        stream = self.for_pictures((first.shape[0], first.shape[1]))
        yield from stream.run(stream.batches(chain([first], remaining)))

    def estimate_images(self, images: Sequence[Path]) -> np.ndarray:
        """Return the poses in *images*, one by one (they may differ in size), in the shape of `estimate_video`.

        DeepLabCut's runner does it, in float32: these poses judge a network.

        Raises
        ------
        InputError
            One of them cannot be read.
        """
        if not images:
            return np.empty((0, len(self.individuals), len(self.bodyparts), 3), dtype=np.float32)
        return self._runner.poses(_read_images(images), batch_size=1)

    def _fast_network(self) -> Network:
        import copy

        model = copy.deepcopy(self._runner.model)
        decoding = HeatmapDecoding.of(model)
        if self._device == "cpu" and has_openvino() and openvino_takes(model):
            return OpenVinoNetwork(model, decoding, self._precision)
        return TorchNetwork(model, decoding, self._device, self._precision)

    def _described(self) -> dict[str, Any]:
        import deeplabcut
        import torch

        return {
            "deeplabcut_version": str(deeplabcut.__version__),
            "torch_version": str(torch.__version__),
            "device": self._device,
            "device_name": torch.cuda.get_device_name(self._device) if self._device.startswith("cuda") else "cpu",
        }


class PoseStream:
    """A network ready for pictures of one size.

    Attributes
    ----------
    path, why
        ``fast``, or ``deeplabcut`` (its own runner) and why.
    """

    def __init__(self, network: Network | RunnerNetwork, path: str, why: str) -> None:
        self._network, self.path, self.why = network, path, why

    @property
    def batch_size(self) -> int:
        """Pictures that the network sees at once; may shrink where a GPU's memory runs out."""
        return self._network.batch_size

    @property
    def group(self) -> int:
        """Pictures that a batch given to `run` should have."""
        return self._network.group if isinstance(self._network, RunnerNetwork) else self._network.batch_size

    @property
    def description(self) -> dict[str, Any]:
        """What the numbers depend on: ``path``, ``why``, ``backend``, ``precision``, ``batch_size``."""
        network = self._network
        said = {"path": self.path, "backend": network.backend, "precision": network.precision}
        return {**said, **({"why": self.why} if self.why else {}), "batch_size": network.batch_size}

    def batches(self, pictures: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Give *pictures* in batches (n, height, width, 3) of `group`, the last one maybe smaller."""
        remaining = iter(pictures)
        while batch := list(islice(remaining, self.group)):
            yield np.stack(batch)

    def run(self, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Give the poses (n, individuals, body parts, 3) float32 of batches (n, height, width, 3) uint8, in their order."""
        for poses in self._network.run(batches):
            yield poses if poses.ndim == 4 else poses[:, None]


def reduced_precision(device: str) -> Precision | None:
    """Return the reduced precision that is fast on *device* (``cpu`` or a CUDA device), None where none is."""
    import torch

    if device != "cpu":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    return "bfloat16" if torch.cpu.get_capabilities().get("avx512_bf16") else None


def _check_frame_count(video: Path, decoded: int, counted: int | None) -> None:
    if counted is not None and decoded != counted:
        raise InputError(f"{video} has {counted} frames, but {decoded} were decoded. Copy or encode it again.")
    stated = 0 if counted is not None else _stated_frames(video, decoded)
    if decoded < stated or decoded == 0:
        raise InputError(
            f"{video} should have {max(stated, 1)} frames, but decoding ended after {decoded}: it is damaged."
            " Copy or encode it again."
        )


def _stated_frames(video: Path, decoded: int) -> int:
    """Return how many frames the container lists to be shown; 0 where it keeps no list (Matroska, WebM)."""
    import av

    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        if stream.frames <= decoded:
            return int(stream.frames)
        # An edit list may hide frames, and AVI counts empty ones: ask again, packet by packet.
        return sum(1 for packet in container.demux(stream) if packet.size and not packet.is_discard)


def _read_images(images: Sequence[Path]) -> Iterator[np.ndarray]:
    """Read images as DeepLabCut does: RGB, 8 bit."""
    import cv2
    from deeplabcut.pose_estimation_pytorch.data.image import load_image

    for path in images:
        try:
            yield load_image(path)
        except cv2.error as err:  # OpenCV reads what it cannot read as nothing at all, and fails on that
            raise InputError(f"The image {path} cannot be read: is it there, and is it an image?") from err
