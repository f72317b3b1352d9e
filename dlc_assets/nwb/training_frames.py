"""The labeled frames that a model learned from and that come from a session's own videos, found by what they show."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dlc_assets.lab.files import read_json
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.manifest import read_manifest
from dlc_assets.nwb.description import LabeledFrame
from dlc_assets.recordings.info import RecordingInfo, SessionInfo
from dlc_assets.training.dataset import image_of_frame
from dlc_assets.training.frozen import FRAMES
from dlc_assets.training.labeled_videos import frame_number, may_be_of, shows_the_same
from dlc_assets.training.models import ModelVersion
from dlc_assets.video.frames import read_frames


def training_frames(
    lab: Lab, session: SessionInfo, recording: RecordingInfo, version: ModelVersion
) -> list[LabeledFrame]:
    """Return the frames of *recording* that *version* was trained on (its set ``train``), with their labels.

    A picture of the training dataset is one of this recording's where DeepLabCut's folder for it bears the video's name, alone or with the
    session's, and the frame of that number in the video shows the same; a name alone proves nothing, as every session may have a
    ``top.mp4``.
    """
    dataset = lab.layout.dataset(version.model, version.card.get("dataset") or "")
    if read_manifest(dataset) is None or not (dataset / FRAMES).is_file():
        return []  # of an imported network nobody may know what it was trained on
    found: list[LabeledFrame] = []
    first = 0
    for file in recording.files:
        of_file = [
            frame
            for frame in read_json(dataset / FRAMES)
            if frame["set"] == "train" and may_be_of(frame["folder"], file, session)
        ]
        found += _of_video(file.resolve(lab.root), of_file, dataset, first, file.frame_count, version.card["bodyparts"])
        first += file.frame_count
    return found


def _of_video(
    video: Path, frames: Sequence[dict[str, Any]], dataset: Path, first: int, frame_count: int, bodyparts: Sequence[str]
) -> Iterator[LabeledFrame]:
    numbered: dict[int, list[dict[str, Any]]] = {}
    for frame in frames:
        number = frame_number(frame["image"])
        if number is not None and number < frame_count:
            numbered.setdefault(number, []).append(frame)
    pictures = read_frames(video, sorted(numbered)) if numbered else {}
    for number in sorted(numbered):
        for frame in numbered[number]:
            if not shows_the_same(image_of_frame(dataset, frame), pictures[number]):
                continue
            xy = np.array(
                [[np.nan if value is None else value for value in point] for point in frame["xy"]], dtype=np.float64
            )
            yield LabeledFrame(frame=first + number, annotator=frame["scorer"], bodyparts=tuple(bodyparts), xy=xy)
            break
