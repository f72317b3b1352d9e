"""Reduced precision, where it was proven harmless: the proof that a model version carries, how it is made and what it says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from dlc_assets.lab.files import read_json, write_json
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.locks import hold
from dlc_assets.training.dataset import FRAMES, image_of_frame
from dlc_assets.training.models import ModelVersion
from dlc_assets.training.scores import SETS

if TYPE_CHECKING:
    from dlc_assets.engine.estimator import Estimator

# What poses of reduced precision may differ from those of float32.
MOST_ERROR_SHARE = 0.01  # of the error on labeled frames
MOST_ERROR_PX = 0.1
MOST_BIAS_PX = 0.05  # of any body part, in x or y
MOST_JITTER_SHARE = 0.02  # of the mean way from frame to frame
MOST_JUMPS_SHARE = 0.01  # of the poses lie farther apart than `JUMP_PX`
JUMP_PX = 0.5
# How much must have been seen before anything is said.
CLIP_FRAMES = 300
_LEAST_POSES = 100
_MOST_LABELED = 200


class PrecisionProof(BaseModel):
    """How the poses of one model version in reduced precision compare with those in float32, on the same frames.

    Errors and biases in px; shares are relative to float32. `bias` is the largest mean difference of a body part, in x or y, over
    poses of which both are confident; `jumps` is the share of these poses that lie more than 0.5 px apart.
    """

    model_config = ConfigDict(extra="forbid")

    precision: str
    proven: bool
    labeled_frames: int
    error_float32: float
    error_reduced: float
    clip_frames: int
    clips: int = 1
    poses: int
    bias: float
    bias_bodypart: str
    jumps: float
    jitter_float32: float
    jitter_reduced: float
    made: str
    made_on: str

    @property
    def error_change(self) -> float:
        return abs(self.error_reduced - self.error_float32)

    @property
    def jitter_share(self) -> float:
        return abs(self.jitter_reduced / self.jitter_float32 - 1) if self.jitter_float32 else 0.0

    def sentence(self) -> str:
        """Return what the proof says, with its figures and limits."""
        return (
            f"{self.precision} {'is proven' if self.proven else 'is refused'}: the error on {self.labeled_frames} labeled frames "
            f"changes by {self.error_change:.3f} px of {self.error_float32:.2f} (at most {MOST_ERROR_PX} px and "
            f"{MOST_ERROR_SHARE:.0%}), {self.bias_bodypart} is biased by {self.bias:.3f} px (at most {MOST_BIAS_PX}), "
            f"{self.jumps:.2%} of the poses move by more than {JUMP_PX} px (at most {MOST_JUMPS_SHARE:.0%}), jitter "
            f"changes by {self.jitter_share:.2%} (at most {MOST_JITTER_SHARE:.0%})"
        )


def proof_file(version: ModelVersion, precision: str) -> Path:
    """Return where the proof of *version* for *precision* lies."""
    return version.folder / f"precision-{precision}.json"


def read_proof(version: ModelVersion, precision: str) -> PrecisionProof | None:
    """Return the proof of *version* for *precision*, None when it was not made."""
    try:
        return PrecisionProof.model_validate(read_json(proof_file(version, precision)))
    except (FileNotFoundError, ValueError, ValidationError):
        return None


def proof_of(
    lab: Lab,
    version: ModelVersion,
    exact: Estimator,
    reduced: Estimator,
    precision: str,
    clips: Callable[[int], list[list[np.ndarray]]],
    log: Callable[[str], None],
) -> PrecisionProof | None:
    """Return the proof of *version* for *precision*, making it if nobody has; it is kept with the version and holds everywhere.

    Parameters
    ----------
    clips
        Gives so many frames in all, as clips of frames that follow one another (see `clips_around`).

    Returns
    -------
    PrecisionProof or None
        None where the clips and the labeled frames show too little of the animal to say anything; nothing is kept then.
    """
    with hold(lab.layout.lock("precision", f"{version}-{precision}"), f"proving {precision} for {version}", log=log):
        kept = read_proof(version, precision)
        if kept is not None:
            return kept
        log(f"comparing {precision} with float32 for {version}, once")
        proof = _compared(lab, version, exact, reduced, precision, clips(CLIP_FRAMES))
        if proof is None:
            log(
                f"{precision} could not be compared with float32: the animal was seen too rarely; float32 is taken this time"
            )
            return None
        log(proof.sentence())
        write_json(proof_file(version, precision), proof.model_dump())
        return proof


def _compared(
    lab: Lab, version: ModelVersion, exact: Estimator, reduced: Estimator, precision: str, clips: list[list[np.ndarray]]
) -> PrecisionProof | None:
    pictures, labels = _labeled(lab, version)
    if not clips or not pictures:
        return None
    on_labels = [_poses(estimator, pictures) for estimator in (exact, reduced)]
    on_clips = [[_poses(estimator, clip) for clip in clips] for estimator in (exact, reduced)]
    errors = [np.hypot(*np.moveaxis(poses[..., :2] - labels, -1, 0)) for poses in on_labels]
    known = ~np.isnan(errors[0])
    pcutoff = float(version.card["pcutoff"])
    together = [np.concatenate([labeled, *clip]) for labeled, clip in zip(on_labels, on_clips, strict=True)]
    sure = (together[0][..., 2] >= pcutoff) & (together[1][..., 2] >= pcutoff)
    if sure.sum() < _LEAST_POSES or not known.any():
        return None
    difference = together[1] - together[0]
    bias, part = _largest_bias(difference, sure)
    jitters = _jitters(list(zip(*on_clips, strict=True)), pcutoff)
    proof = PrecisionProof(
        precision=precision,
        proven=False,
        labeled_frames=len(pictures),
        error_float32=float(errors[0][known].mean()),
        error_reduced=float(errors[1][known].mean()),
        clip_frames=sum(len(clip) for clip in clips),
        clips=len(clips),
        poses=int(sure.sum()),
        bias=bias,
        bias_bodypart=exact.bodyparts[part],
        jumps=float((np.hypot(*np.moveaxis(difference[..., :2], -1, 0))[sure] > JUMP_PX).mean()),
        jitter_float32=jitters[0],
        jitter_reduced=jitters[1],
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        made_on=str(exact.description["device_name"]),
    )
    holds = (
        proof.error_change <= MOST_ERROR_PX
        and proof.error_change <= MOST_ERROR_SHARE * proof.error_float32
        and proof.bias <= MOST_BIAS_PX
        and proof.jumps <= MOST_JUMPS_SHARE
        and proof.jitter_share <= MOST_JITTER_SHARE
    )
    return proof.model_copy(update={"proven": holds})


def _labeled(lab: Lab, version: ModelVersion) -> tuple[list[np.ndarray], np.ndarray]:
    """Return pictures of labeled frames of the commonest size, and their labels (frames, bodyparts, 2), NaN where there is none."""
    from PIL import Image

    folder = lab.layout.datasets(version.model) / version.card["dataset"]
    try:
        frames = [frame for frame in read_json(folder / FRAMES) if frame["set"] in SETS]
    except FileNotFoundError:
        return [], np.empty((0, 0, 2))
    by_size: dict[tuple[int, int], list[tuple[np.ndarray, Any]]] = {}
    for frame in frames[:: max(1, len(frames) // _MOST_LABELED)]:
        with Image.open(image_of_frame(folder, frame)) as image:
            picture = np.asarray(image.convert("RGB"))
        by_size.setdefault(picture.shape[:2], []).append((picture, frame["xy"]))
    commonest = max(by_size.values(), key=len, default=[])
    return [picture for picture, _ in commonest], np.array([xy for _, xy in commonest], dtype=float)


def _poses(estimator: Estimator, pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Return the poses (n, bodyparts, 3) of *pictures* of one size."""
    return np.concatenate(list(estimator.estimate_pictures(pictures)))[:, 0].astype(float)


def _largest_bias(difference: np.ndarray, sure: np.ndarray) -> tuple[float, int]:
    """Return the largest mean difference in px of a body part in x or y, and which body part's it is."""
    means = [
        float(np.abs(difference[sure[:, part], part, :2].mean(axis=0)).max()) if sure[:, part].any() else 0.0
        for part in range(difference.shape[1])
    ]
    return max(means), int(np.argmax(means))


def _jitters(clips: Sequence[tuple[np.ndarray, ...]], pcutoff: float) -> tuple[float, float]:
    """Return the mean way in px from frame to frame of each of two precisions, where both are sure in both frames.

    *clips* holds the poses of each clip in both.
    """
    ways: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for clip in clips:
        sure = np.logical_and.reduce([poses[..., 2] >= pcutoff for poses in clip])
        both = sure[1:] & sure[:-1]
        for of, poses in zip(ways, clip, strict=True):
            of.append(np.hypot(*np.moveaxis(np.diff(poses[..., :2], axis=0), -1, 0))[both])
    first, second = (np.concatenate(of) for of in ways)
    return (float(first.mean()), float(second.mean())) if len(first) else (0.0, 0.0)
