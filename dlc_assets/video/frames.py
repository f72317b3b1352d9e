"""Single pictures out of a video recording, upright and in colour, for previews and for checks by eye."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dlc_assets.lab.errors import InputError
from dlc_assets.video.decode import readable_frames, upright_rgb
from dlc_assets.video.probe import ProbedVideo, open_video, probe_video

_WORTH_SEEKING = 120  # frames; nearer ones are reached faster by decoding on


def read_frames(path: Path, indices: Sequence[int], *, probed: ProbedVideo | None = None) -> dict[int, np.ndarray]:
    """Return frames of the video at *path* by their index, as (height, width, 3) uint8 RGB, upright.

    With *probed*, whose times say where each frame is, far frames are sought; without, all before are decoded.

    Raises
    ------
    InputError
        The video does not open, or an index is negative or beyond its last frame.
    """
    wanted = sorted(set(indices))
    if wanted and wanted[0] < 0:
        raise InputError(f"{path}: frame {wanted[0]} was asked for; frames count from 0.")
    found: dict[int, np.ndarray] = {}
    if probed is not None and probed.stored_times:
        found = _sought(path, wanted, probed)
    missing = [index for index in wanted if index not in found]
    if missing:
        found |= _decoded(path, missing)
    beyond = [index for index in missing if index not in found]
    if beyond:
        raise InputError(
            f"{path}: frame {beyond[0]} was asked for, but the video ends before it. "
            "Probe the video for its true length."
        )
    return {index: found[index] for index in wanted}


def frame_strip(path: Path, count: int = 5, height: int = 120, *, probed: ProbedVideo | None = None) -> np.ndarray:
    """Return *count* frames spread over the video side by side, as (height, total width, 3) uint8 RGB."""
    from PIL import Image

    video = probed or probe_video(path)
    middles = (np.arange(count) + 0.5) / count * video.frame_count
    indices = sorted({int(middle) for middle in middles})
    pictures = read_frames(path, indices, probed=video)
    width = max(1, round(height * video.width / video.height))
    small = [
        np.asarray(Image.fromarray(pictures[index]).resize((width, height), Image.Resampling.LANCZOS))
        for index in indices
    ]
    return np.concatenate(small, axis=1)


def _decoded(path: Path, wanted: Sequence[int]) -> dict[int, np.ndarray]:
    """Decode from the start up to the last wanted frame."""
    found = {}
    with open_video(path) as (container, stream):
        for index, frame in enumerate(readable_frames(container, stream)):
            if index in wanted:
                found[index] = upright_rgb(frame)
            if index >= wanted[-1]:
                break
    return found


def _sought(path: Path, wanted: Sequence[int], probed: ProbedVideo) -> dict[int, np.ndarray]:
    """Seek to each wanted frame; what is not met at its exact time is left out."""
    found: dict[int, np.ndarray] = {}
    with open_video(path) as (container, stream):
        tick = float(stream.time_base or 1e-3)
        frames, at = readable_frames(container, stream), -1
        for index in wanted:
            if index >= probed.frame_count:
                break
            target = (probed.start_pts + float(probed.times[index])) / tick
            if index - at > _WORTH_SEEKING:
                container.seek(int(target), stream=stream, backward=True)
                frames = readable_frames(container, stream)
            at = index
            reached = next((f for f in frames if f.pts is not None and f.pts > target - 0.5), None)
            if reached is not None and reached.pts < target + 0.5:
                found[index] = upright_rgb(reached)
    return found
