"""Whether a camera has moved since its setup's reference picture: the still background of a recording, registered to it."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np

from dlc_assets.lab.errors import DlcAssetsError, InputError, NotFoundError
from dlc_assets.lab.files import sha256_unchanged_file
from dlc_assets.lab.lab import Lab
from dlc_assets.recordings.info import RecordingInfo, SessionInfo, need_session_info, read_session_info
from dlc_assets.recordings.setups import setup_of
from dlc_assets.review.registration import register
from dlc_assets.video.frames import read_frames

_SPREAD = 15  # frames of a background: their median has no animal in it that does not sit still for half the time
_SEARCHED = 3_000  # frames from the start on among which they lie: decoding to the end of a long video takes minutes


@dataclass(frozen=True)
class CameraShift:
    """How the picture of a recording lies to its setup's reference.

    Attributes
    ----------
    dx, dy
        px: where the center of the reference's picture is now, less where it was. NaN where the pictures could not be registered.
    rotation
        Degrees, clockwise as the picture is seen (y points down). NaN likewise.
    moved
        Whether that is more than `checks.camera_moved` allows, or could not be found out.
    sentence
        What there is to say, in words.
    """

    dx: float
    dy: float
    rotation: float
    moved: bool
    sentence: str

    @property
    def shift(self) -> float:
        """px."""
        return float(np.hypot(self.dx, self.dy))

    @property
    def known(self) -> bool:
        """Whether the pictures could be registered."""
        return bool(np.isfinite(self.shift))


def camera_shift(lab: Lab, session: SessionInfo, recording: RecordingInfo) -> CameraShift | None:
    """Return how the camera of *recording* stands to its setup's reference; None where the setup names none.

    A reference or a video that cannot be read, and a background without anything to hold on to, are said; a camera that nobody can
    vouch for counts as moved, so that nothing is given in cm by mistake.

    Raises
    ------
    SettingsError
        As `setup_of`.
    """
    reference = setup_of(lab, session, recording).reference
    if reference is None:
        return None
    allowed = lab.settings.checks.camera_moved
    try:
        before = _reference_picture(lab, reference, recording)
        now = background(lab, recording)
    except (DlcAssetsError, OSError) as error:
        return _unknown(f"{recording.recording}: whether the camera moved is not known: {error}")
    if before.shape != now.shape:
        sizes = " and ".join(f"{picture.shape[1]}x{picture.shape[0]}" for picture in (before, now))
        return _unknown(
            f"{recording.recording}: the reference {reference} and the video are of different sizes ({sizes} px)"
        )
    found = register(before, now)
    if found is None:
        return _unknown(
            f"{recording.recording}: the background could not be registered to {reference}: too little in it that stays the same. "
            "Look at both, and name another reference if the scene was changed"
        )
    shift = float(np.hypot(found.dx, found.dy))
    moved = shift > allowed.max_shift or abs(found.rotation) > allowed.max_rotation
    turned = f"{abs(found.rotation):.2f} degrees"
    said = f"{recording.recording}: the camera stands {shift:.1f} px and {turned} from where it stood in {reference}"
    return CameraShift(found.dx, found.dy, found.rotation, moved, said)


def _unknown(sentence: str) -> CameraShift:
    return CameraShift(float("nan"), float("nan"), float("nan"), True, sentence)


def camera_hashes(lab: Lab, session: SessionInfo, recording: RecordingInfo) -> dict[str, str]:
    """Return what `camera_shift` depends on beside the video, as inputs of what is made with it; nothing without a reference."""
    reference = setup_of(lab, session, recording).reference
    if reference is None:
        return {}
    allowed = lab.settings.checks.camera_moved
    path = lab.root / reference
    content = sha256_unchanged_file(path)[:12] if path.is_file() else _content_of_session(lab, reference, recording)
    return {
        f"reference of {recording.recording}": f"{content}, {allowed.max_shift:g} px, {allowed.max_rotation:g} degrees"
    }


def _content_of_session(lab: Lab, reference: str, recording: RecordingInfo) -> str:
    try:
        return hashlib.sha256(_same_camera(lab, reference, recording).content_hash.encode()).hexdigest()[:12]
    except DlcAssetsError:
        return "not there"


def _reference_picture(lab: Lab, reference: str, recording: RecordingInfo) -> np.ndarray:
    path = lab.root / reference
    if path.is_file():
        from PIL import Image, UnidentifiedImageError

        try:
            with Image.open(path) as picture:
                return np.asarray(picture.convert("L"))
        except (UnidentifiedImageError, OSError) as error:
            raise InputError(f"{path}: expected a picture (setups.{recording.device}.reference): {error}") from None
    if read_session_info(lab.layout, reference) is None:
        raise NotFoundError(
            f"there is no picture {path}, and no session {reference} (setups.{recording.device}.reference in lab.yaml)"
        )
    return background(lab, _same_camera(lab, reference, recording))


def _same_camera(lab: Lab, reference: str, recording: RecordingInfo) -> RecordingInfo:
    session, _ = need_session_info(lab.layout, reference)
    for other in session.recordings:
        if other.device == recording.device:
            return other
    raise NotFoundError(
        f"{reference}, which setups.{recording.device}.reference names, has no recording by that camera"
    )


_backgrounds: OrderedDict[str, np.ndarray] = (
    OrderedDict()
)  # by content of the recording; a session's products ask for one often


def background(lab: Lab, recording: RecordingInfo) -> np.ndarray:
    """Return what stays of *recording*'s picture: the median of frames spread over it, (height, width) uint8, gray.

    Raises
    ------
    InputError
        The video cannot be read.
    """
    key = f"{lab.root} {recording.content_hash}"
    if key not in _backgrounds:
        file = recording.files[0]
        frames = file.frame_count
        rate = recording.video_rate
        until = frames if rate is not None else min(frames, _SEARCHED)
        wanted = sorted({int(at) for at in (np.arange(_SPREAD) + 0.5) / _SPREAD * until})
        path = file.resolve(lab.root)
        if not path.is_file():
            raise InputError(f"the video {path} is not there")
        pictures = read_frames(path, wanted, rate=rate)
        _backgrounds[key] = np.median(np.stack([_gray(picture) for picture in pictures.values()]), axis=0).astype(
            np.uint8
        )
        while len(_backgrounds) > 8:
            _backgrounds.popitem(last=False)
    _backgrounds.move_to_end(key)
    return _backgrounds[key]


def _gray(picture: np.ndarray) -> np.ndarray:
    import cv2

    gray: np.ndarray = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    return gray
