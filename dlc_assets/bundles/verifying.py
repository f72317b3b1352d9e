"""Verifying a bundle: its poses estimated again from the video with the settings that it states, and compared."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from dlc_assets.bundles.agreement import Agreement, compare_again
from dlc_assets.bundles.content import Bundle, BundledPoses
from dlc_assets.bundles.matching import match_videos
from dlc_assets.bundles.reading import read_bundle, unpack
from dlc_assets.bundles.software import differences, installed, plain, requirement
from dlc_assets.bundles.tolerance import TIMES_S, Tolerance
from dlc_assets.inference.chunks import PoseChunks
from dlc_assets.inference.pose_tables import Estimators
from dlc_assets.inference.streaming import VideoPart, stream_poses
from dlc_assets.lab.compute import gpus_present, leased_device
from dlc_assets.lab.errors import EnvironmentProblem, InputError, SettingsError
from dlc_assets.lab.layout import LabLayout
from dlc_assets.lab.progress import LoggedProgress
from dlc_assets.poses.table_file import PoseTableFile
from dlc_assets.recordings.parts import times_of_parts
from dlc_assets.training.models import ModelVersion, version_of
from dlc_assets.video.decode import decode_video
from dlc_assets.video.probe import ProbedVideo, probe_video

if TYPE_CHECKING:
    from dlc_assets.engine.estimator import Estimator, PoseStream, Precision

Log = Callable[[str], None]


@dataclass
class Verified:
    """The poses of one recording, made again.

    Attributes
    ----------
    inference
        What estimated them here: ``device``, ``precision``, ``path``, ``backend`` and versions.
    frames_found
        Frames that the videos have here; None: not counted, as only the first were asked for.
    largest_time
        The largest difference of a frame's time in s; None: the times were not computed again.
    differs
        What is not as the bundle says, in sentences; empty: the poses were reproduced.
    notes
        What a person should know of it.
    """

    poses: BundledPoses
    videos: list[Path]
    tolerance: Tolerance
    inference: dict[str, Any]
    agreement: Agreement
    frames_found: int | None
    largest_time: float | None
    differs: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass
class Verification:
    """What verifying a bundle found.

    Attributes
    ----------
    software
        Packages of which another version is installed here than made the poses, in sentences.
    not_verified
        Recordings of the bundle whose videos were not given.
    frames
        Only so many frames of a recording were looked at; None: all of each.
    """

    bundle: Bundle
    verified: list[Verified]
    software: list[str]
    not_verified: list[str]
    frames: int | None

    @property
    def reproduced(self) -> bool:
        return not any(verified.differs for verified in self.verified)


def verify_bundle(
    path: Path,
    videos: Sequence[Path],
    *,
    recording: str | None = None,
    frames: int | None = None,
    device: str | None = None,
    log: Log,
) -> Verification:
    """Estimate the poses of the bundle at *path* again from *videos*, and compare. No lab is needed.

    Parameters
    ----------
    recording
        Only this one.
    frames
        Only the first frames, for a quick look; None: all.
    device
        ``cpu`` or ``gpu``; None: what made the poses, where this machine has it.

    Raises
    ------
    InputError
        The bundle is damaged or of a later release, or a video is not one that its poses were made from.
    EnvironmentProblem
        The DeepLabCut that is installed is none, or cannot load or run the network; or a GPU is asked for and there is none.
    NotFoundError, SettingsError
        There is no such file or recording, or a setting is wrong.
    """
    bundle = read_bundle(path)
    with tempfile.TemporaryDirectory(prefix="dlc-assets-verify-") as scratch:
        unpacked = Path(scratch) / "bundle"
        unpack(path, bundle, unpacked)
        log(f"{path}: its {len(bundle.members)} members are as they were written")
        chosen = match_videos(bundle, videos, recording, log)
        verified, loaded = [], dict[str, Estimators]()
        for number, (poses, files) in enumerate(chosen):
            wanted = _device(poses, device)
            layout = LabLayout(Path(scratch))  # for the lease of a GPU, which is this command's alone
            with leased_device(layout, f"verifying {path.name}", log, wanted=wanted) as leased:
                work = Path(scratch) / f"poses-{number}"
                verified.append(_Again(poses, files, unpacked, work, leased, loaded, log).verified(frames))
    now = installed()
    names = {poses.recording for poses, _ in chosen}
    return Verification(
        bundle,
        verified,
        list(dict.fromkeys(said for poses, _ in chosen for said in _software(bundle, poses, now))),
        [name for name in bundle.recordings() if name not in names],
        frames if any(one.frames_found is None for one in verified) else None,
    )


def _device(poses: BundledPoses, asked: str | None) -> str:
    if asked is not None:
        return asked
    made_on_gpu = str(poses.inference.get("device", "cpu")).startswith("cuda")
    return "gpu" if made_on_gpu and gpus_present() else "cpu"


def _software(bundle: Bundle, poses: BundledPoses, now: Mapping[str, str]) -> list[str]:
    """Say which packages differ; of what the poses themselves do not state, from those where the bundle was written."""
    return differences({**bundle.software, **{name: plain(v) for name, v in poses.software.items()}}, now)


class _Again:
    """One recording's poses, to be estimated again.

    Parameters
    ----------
    unpacked
        Where the bundle's members lie.
    work
        Where poses are kept on their way.
    device
        As `leased_device` gives it.
    loaded
        Networks by device, which recordings of one model share.
    """

    def __init__(
        self,
        poses: BundledPoses,
        videos: list[Path],
        unpacked: Path,
        work: Path,
        device: str,
        loaded: dict[str, Estimators],
        log: Log,
    ) -> None:
        self._poses, self._videos, self._work, self._log = poses, videos, work, log
        self._device, self._loaded_before = device, loaded
        self._table = unpacked / poses.table
        self._version = ModelVersion(poses.model, poses.version, unpacked / poses.network)
        self._differs: list[str] = []
        self._notes: list[str] = []

    def verified(self, frames: int | None) -> Verified:
        poses = self._poses
        self._check_network()
        quick = frames is not None and frames < poses.frames
        probed = [] if quick else self._probed()
        estimator, stream = self._loaded()
        chunks = self._estimated(estimator, stream, probed, frames if quick else None)
        inference = {**estimator.description, **stream.description}
        tolerance = poses.tolerances.between(poses.inference, inference)
        compared = min(chunks.frames, poses.frames)
        agreement = compare_again(self._table, estimator.bodyparts, chunks.blocks, compared, tolerance, poses.pcutoff)
        largest_time = self._times(probed)
        self._differs += agreement.differs(tolerance)
        self._notes += agreement.notes(tolerance)
        self._compare_settings(inference)
        if quick:
            self._notes.append(
                f"only the first {compared} of {poses.frames} frames were looked at; the number of frames and their times were not checked"
            )
        found = None if quick else sum(video.frame_count for video in probed)
        return Verified(
            poses, self._videos, tolerance, inference, agreement, found, largest_time, self._differs, self._notes
        )

    def _check_network(self) -> None:
        version = self._version
        found = version_of(version.snapshot, version.pytorch_config, version.detector)
        if found != version.version:
            raise InputError(
                f"the network in the bundle is not {version}: its weights and configuration make it {version.model}@{found}. The bundle "
                "was changed after it was written: get it again from whoever wrote it."
            )

    def _probed(self) -> list[ProbedVideo]:
        probed = []
        for path in self._videos:
            progress = LoggedProgress(self._log, f"counting {path.name}", "frames")
            probed.append(probe_video(path, on_progress=progress))
        found = sum(video.frame_count for video in probed)
        if found != self._poses.frames:
            self._differs.append(
                f"{_count(found, 'frame')} can be decoded here, and the table has {self._poses.frames}: another version of the decoder "
                "(PyAV) reads this video otherwise"
            )
        return probed

    def _loaded(self) -> tuple[Estimator, PoseStream]:
        poses, crop = self._poses, self._poses.crop
        picture = next(decode_video(self._videos[0], crop=crop), None)
        if picture is None:
            raise InputError(f"{self._videos[0]}: not one frame of this video decodes here.")
        self._log(f"{poses}: loading the network")
        with _saying_what_is_needed(poses, "load"):
            estimator = self._estimators().of(self._version, poses.snapshot, self._precision())
            return estimator, estimator.for_pictures((picture.shape[0], picture.shape[1]), self._batch_size())

    def _estimators(self) -> Estimators:
        """Return the networks of this device; with dynamic cropping new ones, which remember no animal of another video."""
        if self._poses.dynamic_cropping is not None:
            return Estimators(self._device, dynamic=self._poses.dynamic_cropping)
        return self._loaded_before.setdefault(self._device, Estimators(self._device))

    def _precision(self) -> Precision:
        """Return the precision of the poses if this machine computes in it, else float32."""
        then = self._poses.inference.get("precision")
        if then not in {"bfloat16", "float16"}:
            return "float32"
        from dlc_assets.engine.estimator import reduced_precision

        if reduced_precision("cpu" if self._device == "cpu" else "cuda") == then:
            return cast("Precision", then)
        self._notes.append(f"the poses were made in {then}, which this machine is not made for: float32 was taken")
        return "float32"

    def _batch_size(self) -> int | None:
        """Return the batch size of the poses on the same kind of device; None: the device's own."""
        on_gpu = str(self._poses.inference.get("device", "cpu")).startswith("cuda")
        size = self._poses.inference.get("batch_size")
        return int(size) if size and on_gpu == (self._device != "cpu") else None

    def _estimated(
        self, estimator: Estimator, stream: PoseStream, probed: Sequence[ProbedVideo], frames: int | None
    ) -> PoseChunks:
        poses = self._poses
        chunks = PoseChunks(self._work, {}, len(estimator.bodyparts))
        chunks.keep({})
        total = frames if frames is not None else sum(video.frame_count for video in probed)
        progress = LoggedProgress(self._log, f"estimating {poses.recording} again", "frames", every=5.0)
        with _saying_what_is_needed(poses, "run"):
            stream_poses(
                stream,
                self._parts(probed),
                chunks,
                crop=poses.crop,
                on_frames=lambda done: progress(done, total),
                frames=frames,
            )
        return chunks

    def _parts(self, probed: Sequence[ProbedVideo]) -> list[VideoPart]:
        """Return the files with their frames as counted here, or, where only a first look is taken, as the bundle counts them."""
        if probed:
            return [VideoPart(video.path, video.frame_count) for video in probed]
        counted = [video.frames for video in self._poses.videos]
        if len(counted) == 1:
            counted = [self._poses.frames]
        known = [
            probe_video(path).frame_count if n is None else n for path, n in zip(self._videos, counted, strict=True)
        ]
        return [VideoPart(path, n) for path, n in zip(self._videos, known, strict=True)]

    def _times(self, probed: Sequence[ProbedVideo]) -> float | None:
        """Return the largest difference of the times to those of the table; None where they were not computed again."""
        if not probed:
            return None
        if not self._poses.times_from_video:
            self._notes.append(
                f"the times of the frames cannot be computed again from the video: they are {self._poses.clock or 'of unknown origin'}"
            )
            return None
        stored, found = PoseTableFile.open(self._table).times(), times_of_parts(probed)
        common = min(len(stored), len(found))
        largest = float(np.abs((stored[:common] - stored[0]) - (found[:common] - found[0])).max())
        if not largest <= TIMES_S:
            self._differs.append(
                f"the times of the frames differ by up to {largest:.6g} s from the video's own; at most {TIMES_S:g} s is expected"
            )
        return largest

    def _compare_settings(self, here: Mapping[str, Any]) -> None:
        """Note what was computed otherwise than then, though with the same settings."""
        then = self._poses.inference
        changed = [
            f"{name} {then[name]} then, {here.get(name, 'none')} here"
            for name in ("device_name", "path", "backend", "precision")
            if then.get(name) and then[name] != here.get(name)
        ]
        if changed:
            self._notes.append(f"computed otherwise: {'; '.join(changed)}")


@contextmanager
def _saying_what_is_needed(poses: BundledPoses, step: str) -> Iterator[None]:
    """Turn whatever another DeepLabCut makes of this network into one error that says which is needed.

    *step* is ``load`` or ``run``; while it runs, what is wrong with a video is said by its own error.
    """
    try:
        yield
    except (EnvironmentProblem, SettingsError):
        raise
    except Exception as error:
        if step == "run" and isinstance(error, InputError | OSError):
            raise
        raise EnvironmentProblem(_cannot(poses, step, error)) from error


def _cannot(poses: BundledPoses, step: str, error: Exception) -> str:
    now, then = installed(), poses.software
    reason = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
    made = " and ".join(f"{_called(name)} {then[name]}" for name in ("deeplabcut", "torch") if then.get(name))
    head = f"the poses of {poses} were made with {made or 'versions that the bundle does not state'}"
    needed = requirement(then)
    if "deeplabcut" not in now:
        return f"{head}; DeepLabCut is not installed here. Install it: pip install {needed or 'deeplabcut'}"
    here = f"DeepLabCut {now['deeplabcut']} with torch {now.get('torch', 'not installed')} is installed here"
    same = all(plain(now.get(name, "")) == plain(then.get(name, "")) for name in ("deeplabcut", "torch"))
    advice = (
        "The versions are the same, so it is another package, or the bundle was changed after it was written."
        if same
        else f"Install what made them, in an environment of its own, and verify there: pip install {needed}"
        if needed
        else ""
    )
    return f"{head}; {here}, and cannot {step} this network: {reason}\n{advice}".rstrip()


def _called(package: str) -> str:
    return {"deeplabcut": "DeepLabCut"}.get(package, package)


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
