"""Whether a camera has moved since its setup's reference picture: the still background of a recording, registered to it."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from dlc_assets.lab.errors import DlcAssetsError, InputError, NotFoundError
from dlc_assets.lab.files import sha256_unchanged_file
from dlc_assets.lab.lab import Lab
from dlc_assets.recordings.info import RecordingInfo, SessionInfo, need_session_info, read_session_info
from dlc_assets.recordings.setups import setup_of
from dlc_assets.video.frames import read_frames

_SPREAD = 15  # frames of a background: their median has no animal in it that does not sit still for half the time
_SEARCHED = 3_000  # frames from the start on among which they lie: decoding to the end of a long video takes minutes
_FEWEST_POINTS = 12  # that must agree on one shift and rotation; fewer agree by chance
_TOLERANCE_PX = 1.5
_SMOOTHED = 5  # px, of the pictures whose likeness is refined


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
    dx, dy, rotation = found
    shift = float(np.hypot(dx, dy))
    moved = shift > allowed.max_shift or abs(rotation) > allowed.max_rotation
    said = f"{recording.recording}: the camera stands {shift:.1f} px and {abs(rotation):.2f} degrees from where it stood in {reference}"
    return CameraShift(dx, dy, rotation, moved, said)


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


def register(before: np.ndarray, now: np.ndarray) -> tuple[float, float, float] | None:
    """Return the shift of the center (px, x and y) and the rotation (degrees) that lead from *before* to *now*, gray pictures of one size.

    Corners of *before* are followed into *now*, from first guesses of where they went, and back; shift and rotation are what most
    of them agree on, refined over the whole picture. None where too few do: a blank wall, another scene, darkness.
    """
    one, other = _evened(before), _evened(now)
    corners = _corners(one)
    if len(corners) < _FEWEST_POINTS:
        return None
    found = [_followed(one, other, corners, guess) for guess in _guesses(one, other, corners)]
    agreed = max((result for result in found if result is not None), key=lambda result: result[1], default=None)
    if agreed is None:
        return None
    turn = _refined(one, other, agreed[0])
    center = np.array([(one.shape[1] - 1) / 2, (one.shape[0] - 1) / 2, 1.0])
    dx, dy = turn @ center - center[:2]
    return float(dx), float(dy), float(np.degrees(np.arctan2(turn[1, 0], turn[0, 0])))


def _corners(picture: np.ndarray) -> np.ndarray:
    """Return where there is something to hold on to, (points, 2) float32 px."""
    import cv2

    apart = max(5, min(picture.shape) // 60)
    found = cv2.goodFeaturesToTrack(picture, maxCorners=400, qualityLevel=0.02, minDistance=apart)
    return np.empty((0, 2), dtype=np.float32) if found is None else found.reshape(-1, 2)


def _evened(picture: np.ndarray) -> np.ndarray:
    """Return *picture* with its contrast evened out: light changes from day to day."""
    import cv2

    evened: np.ndarray = cv2.createCLAHE(clipLimit=2.0, tileGridSize=(8, 8)).apply(picture)
    return cv2.GaussianBlur(evened, (3, 3), 0)


def _guesses(one: np.ndarray, other: np.ndarray, corners: np.ndarray) -> Iterator[np.ndarray]:
    """Yield where *corners* may have gone: nowhere, with the picture as a whole, and as details that look alike say."""
    import cv2

    yield corners
    window = cv2.createHanningWindow((one.shape[1], one.shape[0]), cv2.CV_64F)
    shift, _ = cv2.phaseCorrelate(one.astype(np.float64), other.astype(np.float64), window)
    yield corners + np.array(shift, dtype=np.float32)
    detector = cv2.SIFT_create(nfeatures=2000)  # type: ignore[attr-defined]  # its stubs lag behind
    (points, own), (others, theirs) = (detector.detectAndCompute(picture, None) for picture in (one, other))
    if own is None or theirs is None:
        return
    matches = cv2.BFMatcher(cv2.NORM_L2, crossCheck=True).match(own, theirs)
    if len(matches) < _FEWEST_POINTS:
        return
    source = np.array([points[match.queryIdx].pt for match in matches], dtype=np.float32)
    target = np.array([others[match.trainIdx].pt for match in matches], dtype=np.float32)
    matrix, _ = cv2.estimateAffinePartial2D(source, target, method=cv2.RANSAC, ransacReprojThreshold=3.0)
    if matrix is not None:
        yield (corners @ matrix[:, :2].T + matrix[:, 2]).astype(np.float32)


def _followed(
    one: np.ndarray, other: np.ndarray, corners: np.ndarray, guess: np.ndarray
) -> tuple[np.ndarray, int] | None:
    """Return the rotation and shift, (2, 3), that most corners agree on, and how many do; None where that may be by chance."""
    import cv2

    options: dict[str, Any] = {
        "winSize": (21, 21),
        "maxLevel": 3,
        "criteria": (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 50, 0.001),
        "flags": cv2.OPTFLOW_USE_INITIAL_FLOW,
    }
    there, ok, _ = cv2.calcOpticalFlowPyrLK(one, other, corners, guess.copy(), **options)
    back, returned, _ = cv2.calcOpticalFlowPyrLK(other, one, there, corners.copy(), **options)
    good = (ok & returned).ravel().astype(bool) & (np.hypot(*(back - corners).T) < 0.5)
    if good.sum() < _FEWEST_POINTS:
        return None
    matrix, agreeing = cv2.estimateAffinePartial2D(
        corners[good],
        there[good],
        method=cv2.RANSAC,
        ransacReprojThreshold=_TOLERANCE_PX,
        maxIters=5000,
        confidence=0.999,
    )
    count = 0 if agreeing is None else int(agreeing.sum())
    if matrix is None or count < max(_FEWEST_POINTS, len(corners) // 4):
        return None
    if (
        not 0.9 < np.hypot(matrix[0, 0], matrix[1, 0]) < 1.1
    ):  # a camera that was turned or shifted sees things as large as before
        return None
    inliers = agreeing.ravel().astype(bool)
    return _rigid(corners[good][inliers], there[good][inliers]), count


def _rigid(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return the rotation and shift, (2, 3), that lead *source* to *target* (points, 2) with the least squared error (Kabsch)."""
    middle, aim = source.mean(axis=0), target.mean(axis=0)
    u, _, vt = np.linalg.svd((source - middle).T @ (target - aim))
    turn = vt.T @ np.diag([1.0, np.sign(np.linalg.det(vt.T @ u.T))]) @ u.T
    return np.column_stack([turn, aim - turn @ middle])


def _refined(one: np.ndarray, other: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """Return *turn* as the whole picture has it; as it is where the pictures do not settle on anything near it."""
    import cv2

    criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 100, 1e-6)
    try:
        _, refined = cv2.findTransformECC(
            one, other, turn.astype(np.float32), cv2.MOTION_EUCLIDEAN, criteria, None, _SMOOTHED
        )
    except cv2.error:  # it did not converge
        return turn
    near = np.abs(refined - turn)
    return refined.astype(np.float64) if near[:, 2].max() < 4 and near[:, :2].max() < 0.02 else turn
