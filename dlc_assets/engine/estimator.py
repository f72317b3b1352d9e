"""Poses from a trained network: loaded once, used for every video and image, with DeepLabCut's own processing."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dlc_assets.engine.chatter import chatter_logged
from dlc_assets.engine.network_training import resolved_device
from dlc_assets.engine.workspace import read_pytorch_config
from dlc_assets.lab.errors import InputError, SettingsError

Crop = tuple[int, int, int, int]
"""x0, x1, y0, y1 in px of the full upright frame; x1 and y1 are the first column and row left out."""


class _Poses:
    """Takes poses from DeepLabCut's runner as they come, in the place of its shelf writer, and lets go of all else."""

    def __init__(self, on_frames: Callable[[int], None] | None) -> None:
        self._on_frames = on_frames
        self.frames: list[np.ndarray] = []

    def add_prediction(self, bodyparts: np.ndarray, **_: Any) -> None:
        self.frames.append(np.asarray(bodyparts[..., :3], dtype=np.float32))
        if self._on_frames is not None:
            self._on_frames(len(self.frames))


class Estimator:
    """One network on one device.

    Attributes
    ----------
    bodyparts, individuals, unique_bodyparts
        Names, in the order of the poses' axes.
    description
        What the numbers depend on: ``deeplabcut_version``, ``torch_version``, ``device``, ``device_name``, ``dtype``,
        ``batch_size``.

    Raises
    ------
    InputError
        The configuration or snapshot cannot be read or do not belong together, or the network is not a bottom-up one.
    EnvironmentProblem
        A GPU was asked for that this process does not see.
    """

    def __init__(self, pytorch_config: Path, snapshot: Path, *, device: str | None = None, batch_size: int = 1) -> None:
        self._config_file, self._snapshot = pytorch_config, snapshot
        self._config = read_pytorch_config(pytorch_config)
        method = str(self._config.get("method", "bu")).lower()
        if method != "bu":
            raise InputError(f'{pytorch_config}: expected a bottom-up network (method "bu"), got method "{method}".')
        if not snapshot.is_file():
            raise InputError(f"There is no snapshot {snapshot}.")
        metadata = self._config["metadata"]
        self.bodyparts: tuple[str, ...] = tuple(metadata["bodyparts"])
        self.individuals: tuple[str, ...] = tuple(metadata["individuals"])
        self.unique_bodyparts: tuple[str, ...] = tuple(metadata.get("unique_bodyparts") or ())
        self._device, self._batch_size = resolved_device(device), batch_size
        self._runner: Any = self._loaded()
        self.description: dict[str, Any] = self._described()

    def estimate_video(
        self,
        video: Path,
        *,
        crop: Crop | None = None,
        on_frames: Callable[[int], None] | None = None,
        frames: int | None = None,
    ) -> np.ndarray:
        """Return the poses in every frame of *video*, turned upright as OpenCV does.

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
        with chatter_logged():
            reader = _opened(video)
        try:
            corner = _set_crop(reader, video, crop)
            poses = self._run(_frames(reader, cropped=crop is not None), on_frames)
        finally:
            reader.close()
        _check_frame_count(video, len(poses), frames)
        if crop is not None:
            poses[..., :2] += np.asarray(corner, dtype=np.float32)
        return poses

    def estimate_images(self, images: Sequence[Path]) -> np.ndarray:
        """Return the poses in *images*, one by one (they may differ in size), in the shape of `estimate_video`.

        Raises
        ------
        InputError
            One of them cannot be read.
        """
        poses = self._run(_read_images(images), None, batch_size=1)
        if len(poses) != len(images):
            raise RuntimeError(f"DeepLabCut gave poses for {len(poses)} of {len(images)} images.")
        return poses

    def _run(
        self, pictures: Iterator[np.ndarray], on_frames: Callable[[int], None] | None, batch_size: int | None = None
    ) -> np.ndarray:
        if self._runner is None:
            self._runner = self._loaded()
        runner, self._runner = self._runner, None  # after an error its queue still holds frames of the broken run
        runner.batch_size = batch_size or self._batch_size
        poses, given = _Poses(on_frames), _Counted(pictures)
        with chatter_logged():
            runner.inference(given, shelf_writer=poses)
        if len(poses.frames) != given.count:
            raise RuntimeError(f"DeepLabCut gave poses for {len(poses.frames)} of {given.count} frames.")
        self._runner = runner
        if not poses.frames:
            return np.empty((0, len(self.individuals), len(self.bodyparts), 3), dtype=np.float32)
        return np.stack(poses.frames)

    def _loaded(self) -> Any:
        with chatter_logged():
            from deeplabcut.pose_estimation_pytorch.apis.utils import get_pose_inference_runner

            try:
                return get_pose_inference_runner(
                    model_config=self._config_file,
                    snapshot_path=self._snapshot,
                    batch_size=self._batch_size,
                    device=self._device,
                    max_individuals=len(self.individuals),
                )
            except (RuntimeError, KeyError, OSError, EOFError, ValueError) as err:
                raise InputError(
                    f"The network of {self._config_file} cannot be loaded with the weights of {self._snapshot}: {err}"
                ) from err

    def _described(self) -> dict[str, Any]:
        import deeplabcut
        import torch

        on_gpu = self._device.startswith("cuda")
        return {
            "deeplabcut_version": str(deeplabcut.__version__),
            "torch_version": str(torch.__version__),
            "device": self._device,
            "device_name": torch.cuda.get_device_name(self._device) if on_gpu else "cpu",
            "dtype": "autocast" if self._runner.inference_cfg.autocast.enabled else "float32",
            "batch_size": self._batch_size,
        }


class _Counted:
    """An iterator that knows how many it has given."""

    def __init__(self, pictures: Iterator[np.ndarray]) -> None:
        self._pictures = pictures
        self.count = 0

    def __iter__(self) -> Iterator[np.ndarray]:
        for picture in self._pictures:
            self.count += 1
            yield picture


def _opened(video: Path) -> Any:
    from deeplabcut.pose_estimation_pytorch.apis.videos import VideoIterator

    try:
        return VideoIterator(video)
    except (OSError, ValueError) as err:
        raise InputError(f"The video {video} does not open: {err} Is it complete? Copy or encode it again.") from err


def _frames(reader: Any, *, cropped: bool) -> Iterator[np.ndarray]:
    """Give frame after frame as `VideoIterator` does.

    Its own iteration seeks to the start at the end, which fails where the container states no number of frames.
    """
    while (frame := reader.read_frame(crop=cropped)) is not None:
        yield frame.copy()


def _set_crop(reader: Any, video: Path, crop: Crop | None) -> tuple[int, int]:
    """Set the crop and return the upper left corner that DeepLabCut makes of it.

    It keeps crops as fractions of the frame and cuts the product to an integer: of a frame 70 px wide, 47 becomes 46.
    """
    if crop is None:
        return 0, 0
    width, height = reader.dimensions
    x0, x1, y0, y1 = crop
    if not (0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height):
        raise SettingsError(
            f"The crop x: [{x0}, {x1}], y: [{y0}, {y1}] does not lie in the frame of {video}, which is {width} px wide"
            f" and {height} px high. Correct it in the setup of this camera, or in session.yaml."
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about rounding 1.0000000002 down
        reader.set_bbox(x0, x1, y0, y1)
    left, _, top, _ = reader.get_bbox()
    return left, top


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

    try:
        with av.open(str(video)) as container:
            stream = container.streams.video[0]
            if stream.frames <= decoded:
                return int(stream.frames)
            # An edit list may hide frames, and AVI counts empty ones: ask again, packet by packet.
            return sum(1 for packet in container.demux(stream) if packet.size and not packet.is_discard)
    except (av.FFmpegError, IndexError):
        return 0  # a container that OpenCV reads by itself


def _read_images(images: Sequence[Path]) -> Iterator[np.ndarray]:
    """Read images as DeepLabCut does: RGB, 8 bit."""
    import cv2
    from deeplabcut.pose_estimation_pytorch.data.image import load_image

    for path in images:
        try:
            yield load_image(path)
        except cv2.error as err:  # OpenCV reads what it cannot read as nothing at all, and fails on that
            raise InputError(f"The image {path} cannot be read: is it there, and is it an image?") from err
