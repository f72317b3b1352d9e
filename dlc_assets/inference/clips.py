"""Frames to compare two precisions on: short clips from several sessions, so that one unusual video does not decide."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice

import numpy as np

from dlc_assets.inference.crops import crop_of
from dlc_assets.lab.errors import DlcAssetsError
from dlc_assets.lab.lab import Lab
from dlc_assets.recordings.info import RecordingInfo, SessionInfo, read_session_info
from dlc_assets.video.decode import decode_video

_SESSIONS = 4
_FARTHEST = 3_000  # frame; all before it are decoded on the way


def clips_around(
    lab: Lab, session: SessionInfo, recording: RecordingInfo, frames: int, log: Callable[[str], None]
) -> list[list[np.ndarray]]:
    """Return clips with *frames* pictures in all: one of *recording*, and of other sessions by the same camera where there are any.

    A session whose video cannot be read, or whose crop does not fit, is left out.

    Returns
    -------
    list
        Clips of pictures (height, width, 3), uint8, RGB, cropped as they are analyzed.
    """
    chosen = [(session, recording), *_others(lab, session, recording)]
    each = -(-frames // len(chosen))
    clips = []
    for one, seen in chosen:
        try:
            clips.append(_clip(lab, one, seen, each))
        except (DlcAssetsError, OSError) as error:
            log(f"{one.session} is left out of the comparison of precisions: {error}")
    return [clip for clip in clips if clip]


def _others(lab: Lab, session: SessionInfo, recording: RecordingInfo) -> Iterator[tuple[SessionInfo, RecordingInfo]]:
    """Give recordings of other sessions by the same camera, spread over all that were probed."""
    names = sorted(path.parent.name for path in lab.layout.recordings.glob("session=*/manifest.json"))
    keys = [name.removeprefix("session=") for name in names if name != f"session={session.session}"]
    step = max(1, len(keys) // (_SESSIONS - 1))
    for key in keys[step // 2 :: step][: _SESSIONS - 1]:
        recorded = read_session_info(lab.layout, key)
        if recorded is None:
            continue
        same = next((r for r in recorded[0].recordings if r.device == recording.device), None)
        if same is not None:
            yield recorded[0], same


def _clip(lab: Lab, session: SessionInfo, recording: RecordingInfo, count: int) -> list[np.ndarray]:
    """Return *count* pictures from the middle of a recording's first file, or of its beginning where it is long."""
    file = recording.files[0]
    first = min(max(0, (file.frame_count - count) // 2), _FARTHEST)
    return list(islice(decode_video(file.resolve(lab.root), crop=crop_of(lab, session, recording), first=first), count))
