"""Which folder of labels comes from which video: told by names, and proven by what the pictures show."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dlc_assets.recordings.info import RecordedFile, SessionInfo

# DeepLabCut names a frame's picture by the frame's number in its video.
_NUMBER = re.compile(r"(\d+)\.\w+$")
# Two decoders, or a picture kept as JPEG, differ by little everywhere; another frame differs by much somewhere.
_SAME_MEAN = 4.0
_SAME_NEARLY_ALL, _NEARLY_ALL = 24.0, 99.9


def frame_number(image: str) -> int | None:
    """Return the number in an image's name, which is the frame's in its video; None where it has none."""
    found = _NUMBER.search(image)
    return None if found is None else int(found[1])


def may_be_of(folder: str, file: RecordedFile, session: SessionInfo) -> bool:
    """Say whether a folder of labels bears the name of a video *file*, alone or with its session's; a name alone proves nothing."""
    stem = Path(file.path).stem
    return folder == stem or (stem in folder and session.session_source_name in folder)


def shows_the_same(image: Path, picture: npt.NDArray[np.uint8]) -> bool:
    """Say whether a stored *image* shows the decoded *picture*, (height, width, 3) uint8 RGB."""
    from PIL import Image

    with Image.open(image) as opened:
        stored = np.asarray(opened.convert("RGB"), dtype=np.int16)
    if stored.shape != picture.shape:
        return False
    apart = np.abs(stored - picture.astype(np.int16)).max(axis=2)
    return bool(apart.mean() <= _SAME_MEAN and np.percentile(apart, _NEARLY_ALL) <= _SAME_NEARLY_ALL)
