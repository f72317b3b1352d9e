"""The labeled frames that a model learned from and that come from a session's own videos, found by what they show."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dlc_assets.lab.files import read_json
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.manifest import read_manifest
from dlc_assets.nwb.description import LabeledFrame
from dlc_assets.recordings.info import RecordedFile, RecordingInfo, SessionInfo
from dlc_assets.training.dataset import image_of_frame
from dlc_assets.training.frozen import FRAMES
from dlc_assets.training.models import ModelVersion
from dlc_assets.video.frames import read_frames

# DeepLabCut names a frame's picture by the frame's number in its video.
_NUMBER = re.compile(r"(\d+)\.\w+$")
# Two decoders, or a picture kept as JPEG, differ by little everywhere; another frame differs by much somewhere.
_SAME_MEAN = 4.0
_SAME_NEARLY_ALL, _NEARLY_ALL = 24.0, 99.9


def training_frames(
    lab: Lab, session: SessionInfo, recording: RecordingInfo, version: ModelVersion
) -> list[LabeledFrame]:
    """Return the frames of *recording* that *version* was trained on (its set ``train``), with their labels.

    A picture of the training dataset is one of this recording's where DeepLabCut's folder for it bears the video's name, alone or with the
    session's, and the frame of that number in the video shows the same; a name alone proves nothing, as every session may have a
    ``top.mp4``.
    """
    dataset = lab.layout.dataset(version.model, version.card.get("dataset") or "")
    if read_manifest(dataset) is None:
        return []
    found: list[LabeledFrame] = []
    first = 0
    for file in recording.files:
        of_file = [
            frame
            for frame in read_json(dataset / FRAMES)
            if frame["set"] == "train" and _may_be_of(frame["folder"], file, session)
        ]
        found += _of_video(file.resolve(lab.root), of_file, dataset, first, file.frame_count, version.card["bodyparts"])
        first += file.frame_count
    return found


def _may_be_of(folder: str, file: RecordedFile, session: SessionInfo) -> bool:
    stem = Path(file.path).stem
    return folder == stem or (stem in folder and session.session_source_name in folder)


def _of_video(
    video: Path, frames: Sequence[dict[str, Any]], dataset: Path, first: int, frame_count: int, bodyparts: Sequence[str]
) -> Iterator[LabeledFrame]:
    numbered: dict[int, list[dict[str, Any]]] = {}
    for frame in frames:
        name = _NUMBER.search(frame["image"])
        if name is not None and int(name[1]) < frame_count:
            numbered.setdefault(int(name[1]), []).append(frame)
    pictures = read_frames(video, sorted(numbered)) if numbered else {}
    for number in sorted(numbered):
        for frame in numbered[number]:
            if not _shows_the_same(image_of_frame(dataset, frame), pictures[number]):
                continue
            xy = np.array(
                [[np.nan if value is None else value for value in point] for point in frame["xy"]], dtype=np.float64
            )
            yield LabeledFrame(frame=first + number, annotator=frame["scorer"], bodyparts=tuple(bodyparts), xy=xy)
            break


def _shows_the_same(image: Path, picture: npt.NDArray[np.uint8]) -> bool:
    from PIL import Image

    with Image.open(image) as opened:
        stored = np.asarray(opened.convert("RGB"), dtype=np.int16)
    if stored.shape != picture.shape:
        return False
    apart = np.abs(stored - picture.astype(np.int16)).max(axis=2)
    return bool(apart.mean() <= _SAME_MEAN and np.percentile(apart, _NEARLY_ALL) <= _SAME_NEARLY_ALL)
