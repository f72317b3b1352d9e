"""Pose tables: the poses of one session's recordings by one model version, in Parquet."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dlc_assets.inference.chunks import PoseChunks
from dlc_assets.inference.clips import clips_around
from dlc_assets.inference.crops import crop_hashes, crop_of
from dlc_assets.inference.frozen_poses import replacing
from dlc_assets.inference.precision import proof_of
from dlc_assets.inference.releases import Releases, releases_of
from dlc_assets.inference.streaming import VideoPart, stream_poses
from dlc_assets.lab.errors import InputError, NotFoundError
from dlc_assets.lab.files import content_hash
from dlc_assets.lab.keys import pose_key
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.locks import hold
from dlc_assets.lab.manifest import Manifest, read_manifest
from dlc_assets.lab.progress import LoggedProgress
from dlc_assets.lab.settings import DynamicCropping
from dlc_assets.poses.schema import PoseMetadata
from dlc_assets.poses.selection import PoseFile
from dlc_assets.poses.table_file import write_poses
from dlc_assets.recordings.info import RecordingInfo, SessionInfo, need_session_info, read_times
from dlc_assets.training.models import ModelVersion, find_version

if TYPE_CHECKING:
    from dlc_assets.engine.estimator import Estimator, PoseStream, Precision

# What `_described` says. Tables that do not say the last of it may have begun where the animal of another recording was: they are behind.
_DYNAMIC = re.compile(r"threshold (\S+), margin (\d+) px(?:, each recording by itself)?")

_OF_ANY_POSES = frozenset({"model", "recordings"})  # the inputs that poses have however they were made


class Estimators:
    """The networks of one process: each is loaded once and serves every session of the run.

    Parameters
    ----------
    device
        ``cpu``, or a GPU that this process alone uses (`lab.compute.leased_device`).
    batch_size
        Pictures at once; ``auto``: the fastest on the device.
    precision
        ``float32``, or ``proven``: the reduced precision that is fast on the device, for versions that are proven.
    dynamic
        DeepLabCut's dynamic cropping.
    """

    def __init__(
        self,
        device: str,
        batch_size: int | Literal["auto"] = "auto",
        *,
        precision: Literal["float32", "proven"] = "float32",
        dynamic: DynamicCropping | None = None,
    ) -> None:
        self._device = "cpu" if device == "cpu" else "cuda"
        self._batch_size = None if batch_size == "auto" else batch_size
        self._wanted, self.dynamic = precision, dynamic
        self._loaded: dict[tuple[Path, str], Estimator] = {}

    def of(self, version: ModelVersion, snapshot: str | None = None, precision: Precision = "float32") -> Estimator:
        """Return the estimator of a snapshot of *version* (None: the best), loading it the first time."""
        from dlc_assets.engine.estimator import Estimator

        file = version.snapshot_file(snapshot)
        if (file, precision) not in self._loaded:
            self._loaded[file, precision] = Estimator(
                version.pytorch_config,
                file,
                device=self._device,
                batch_size=self._batch_size,
                precision=precision,
                dynamic=self.dynamic,
            )
        return self._loaded[file, precision]

    def chosen(
        self,
        lab: Lab,
        version: ModelVersion,
        snapshot: str | None,
        clips: Callable[[int], list[list[np.ndarray]]],
        log: Callable[[str], None],
    ) -> tuple[Estimator, str]:
        """Return the estimator in the precision that is right for *version*, and why that is not what was asked for, if so.

        *clips* gives so many frames of videos, for a proof that is not made yet.
        """
        exact = self.of(version, snapshot)
        if self._wanted == "float32":
            return exact, ""
        from dlc_assets.engine.estimator import reduced_precision

        reduced = reduced_precision(self._device)
        if reduced is None:
            return exact, "this processor is no faster in a reduced precision"
        if exact.why_not_fast:
            return exact, f"DeepLabCut's own runner is used: {exact.why_not_fast}"
        if snapshot not in {None, "best"}:
            return exact, "a precision is proven for the best snapshot only"
        proof = proof_of(lab, version, exact, self.of(version, snapshot, reduced), reduced, clips, log)
        if proof is None:
            return exact, f"{reduced} could not be compared with float32 yet: the animal was seen too rarely"
        return (self.of(version, snapshot, reduced), "") if proof.proven else (exact, proof.sentence())


def wanted_version(lab: Lab, model: str, session: SessionInfo, releases: Releases | None = None) -> ModelVersion:
    """Return the version of *model* that analyses *session*: the one its release rule pins, else the current one.

    Here and below, *releases* are the session's where they are known already: a large lab asks for thousands.
    """
    released = (releases or releases_of(lab, session)).versions.get(model)
    return released if released is not None else find_version(lab.layout, model)


def wanted_recordings(
    lab: Lab, model: str, session: SessionInfo, releases: Releases | None = None
) -> list[RecordingInfo]:
    """Return the recordings of *session* that *model* analyses: those released to it, else (asked for by hand) all."""
    names = (releases or releases_of(lab, session)).recordings.get(model)
    return [recording for recording in session.recordings if names is None or recording.recording in names]


def pose_inputs(lab: Lab, model: str, session: SessionInfo, releases: Releases | None = None) -> dict[str, str]:
    """Return the hashes that the pose table of (*model*, *session*) is made from."""
    releases = releases or releases_of(lab, session)
    version = wanted_version(lab, model, session, releases)
    recordings = wanted_recordings(lab, model, session, releases)
    if not version.runnable:  # nobody can make those that were not imported
        recordings = _imported_recordings(lab, version, session) or recordings
    return {
        "model": version.version,
        "recordings": content_hash({recording.recording: recording.content_hash for recording in recordings}),
        **crop_hashes(lab, session, recordings),
        **_described(lab.settings.inference.dynamic_cropping),
    }


def _imported_recordings(lab: Lab, version: ModelVersion, session: SessionInfo) -> list[RecordingInfo]:
    manifest = read_manifest(lab.layout.pose_folder(version.model, version.version, session.session))
    names = {row["recording"] for row in manifest.details["recordings"]} if manifest is not None else set()
    return [recording for recording in session.recordings if recording.recording in names]


def imported_from(manifest: Manifest) -> dict[str, Any] | None:
    """Return, by recording, the result files that the pose table of *manifest* was imported from; None where it was estimated here."""
    return manifest.details.get("imported")


def inputs_like(manifest: Manifest | None, inputs: dict[str, str]) -> dict[str, str]:
    """Return what the pose table of *manifest* should be made from now, where an estimation would be made from *inputs*.

    How networks are to see videos here (crops, dynamic cropping) says nothing of results that were imported: those stay as they are
    until the model or the videos change.
    """
    if manifest is None or imported_from(manifest) is None or inputs["model"] != manifest.inputs["model"]:
        return inputs
    how_made = {name: hashed for name, hashed in manifest.inputs.items() if name not in _OF_ANY_POSES}
    return {**{name: hashed for name, hashed in inputs.items() if name in _OF_ANY_POSES}, **how_made}


def _described(dynamic: DynamicCropping | None) -> dict[str, str]:
    """Return dynamic cropping as an input of pose tables, where it is on."""
    if dynamic is None:
        return {}
    return {
        "dynamic cropping": f"threshold {dynamic.threshold:g}, margin {dynamic.margin} px, each recording by itself"
    }


def dynamic_cropping_of(manifest: Manifest) -> DynamicCropping | None:
    """Return the dynamic cropping that the pose table of *manifest* was made with, None where it was off."""
    said = _DYNAMIC.fullmatch(manifest.details.get("inference", {}).get("dynamic cropping", ""))
    return None if said is None else DynamicCropping(threshold=float(said[1]), margin=int(said[2]))


def pose_manifest(lab: Lab, model: str, session: SessionInfo, releases: Releases | None = None) -> Manifest | None:
    """Return the manifest of the pose table that (*model*, *session*) means now, None when it was never made."""
    version = wanted_version(lab, model, session, releases)
    return read_manifest(lab.layout.pose_folder(model, version.version, session.session))


def pose_files(lab: Lab, manifest: Manifest) -> list[PoseFile]:
    """Return the pose table files that *manifest* names."""
    details = manifest.details
    return [
        PoseFile(
            path=lab.layout.pose_file(details["model"], details["version"], details["session"], recording["recording"]),
            model=details["model"],
            version=details["version"],
            session=details["session"],
            recording=recording["recording"],
        )
        for recording in details["recordings"]
    ]


def latest_pose_manifest(lab: Lab, model: str, session: str) -> Manifest | None:
    """Return the manifest of the newest pose table of (*model*, *session*), of whichever version."""
    found = [
        manifest
        for folder in lab.layout.poses.glob(f"model={model}/version=*/session={session}")
        if (manifest := read_manifest(folder)) is not None
    ]
    return max(found, key=lambda manifest: manifest.made, default=None)


def estimate_session(
    lab: Lab,
    model: str,
    session_key: str,
    estimators: Estimators,
    *,
    overrides: Mapping[str, Any],
    recompute: bool,
    run_id: str,
    log: Callable[[str], None],
) -> tuple[Manifest, bool]:
    """Make the pose table of (*model*, *session_key*): one Parquet file a recording, then the manifest.

    Parameters
    ----------
    overrides
        A run's own settings (``version``, ``recordings``, ``snapshot`` and what *estimators* were made with); but for the version
        they make the table "custom".
    recompute
        Estimate even though the stored table was made from the same inputs, from the first frame on. Without it, what a killed
        analysis left is gone on with.

    Returns
    -------
    tuple
        The manifest, and whether poses were estimated now (False: the table was there already).
    """
    with hold(
        lab.layout.lock("pose_table", pose_key(model, session_key)),
        f"poses of {session_key} by {model}",
        log=log,
    ):
        session, _ = need_session_info(lab.layout, session_key)
        version = _version(lab, model, session, overrides)
        recordings = _recordings(lab, model, session, overrides)
        manifest = Manifest(
            asset="pose_table",
            key=pose_key(model, session_key),
            # A version that was stated is one of the inputs: once it is released, its table is what it then would be.
            inputs={**pose_inputs(lab, model, session), "model": version.version},
            overrides={name: value for name, value in overrides.items() if name != "version"},
            data_version="",
            run_id=run_id,
        )
        folder = lab.layout.pose_folder(model, version.version, session_key)
        existing = read_manifest(folder)
        work = lab.layout.pose_work(version.model, version.version, session_key)
        if existing is not None and not recompute and _is_made_from(existing, manifest):
            imported = "" if imported_from(existing) is None else " (imported; --recompute estimates them here)"
            log(f"{session_key}: its poses by {version} are up to date{imported}")
            shutil.rmtree(work, ignore_errors=True)  # of an analysis that was killed once its table was in place
            return existing, False
        snapshot = overrides.get("snapshot")
        unchanged_parts(lab, session, recordings[0])  # says what has changed since it was probed
        estimator, why = estimators.chosen(
            lab, version, snapshot, lambda frames: clips_around(lab, session, recordings[0], frames, log), log
        )
        if recompute:
            shutil.rmtree(work, ignore_errors=True)
        rows = [
            _estimate_recording(lab, session, recording, version, estimator, manifest, work, log)
            for recording in recordings
        ]
        if existing is not None and overrides.get("recordings"):
            # Asked for some recordings only: the poses of the others stay.
            made, there = {row["recording"] for row in rows}, {r.recording for r in session.recordings}
            rows += [row for row in existing.details["recordings"] if row["recording"] in there - made]
        manifest.data_version = content_hash({row["recording"]: row["data_version"] for row in rows})
        manifest.details = {
            "model": model,
            "version": version.version,
            "session": session_key,
            "bodyparts": list(estimator.bodyparts),
            "inference": {
                **estimator.description,
                **rows[0]["inference"],
                **({"why this precision": why} if why else {}),
                **({"snapshot": snapshot} if snapshot else {}),
                **_described(estimators.dynamic),
            },
            "pcutoff": version.card["pcutoff"],
            "recordings": rows,
            "frames": sum(row["frames"] for row in rows),
            "rows": sum(row["rows"] for row in rows),
        }
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(lab, existing, manifest.data_version):
            for recording in recordings:  # together, now that all are whole: the manifest speaks of all of them
                name = recording.recording
                _staged(work, name).replace(lab.layout.pose_file(version.model, version.version, session_key, name))
            manifest.write(folder)
        shutil.rmtree(work, ignore_errors=True)
        for path in folder.glob("*.parquet"):
            if path.stem not in {row["recording"] for row in rows}:
                path.unlink()  # of a recording that is no longer this model's
        return manifest, True


def _is_made_from(existing: Manifest, manifest: Manifest) -> bool:
    """Say whether *existing* is made from what the new *manifest* states."""
    inputs = inputs_like(existing, manifest.inputs)
    return existing.input_hash == manifest.model_copy(update={"inputs": inputs}).input_hash


def _version(lab: Lab, model: str, session: SessionInfo, overrides: Mapping[str, Any]) -> ModelVersion:
    stated = overrides.get("version")
    return find_version(lab.layout, f"{model}@{stated}") if stated else wanted_version(lab, model, session)


def _recordings(lab: Lab, model: str, session: SessionInfo, overrides: Mapping[str, Any]) -> list[RecordingInfo]:
    stated = overrides.get("recordings")
    chosen = [session.recording(name) for name in stated] if stated else wanted_recordings(lab, model, session)
    if not chosen:
        raise NotFoundError(f"{session.session} has no recording for {model} to analyse.")
    return chosen


def _estimate_recording(
    lab: Lab,
    session: SessionInfo,
    recording: RecordingInfo,
    version: ModelVersion,
    estimator: Estimator,
    manifest: Manifest,
    work: Path,
    log: Callable[[str], None],
) -> dict[str, Any]:
    what = f"{session.session}, {recording.recording}"
    begun = datetime.now(UTC)
    parts = unchanged_parts(lab, session, recording)
    crop = crop_of(lab, session, recording)
    left, right, top, bottom = crop or (0, recording.width, 0, recording.height)
    names = [("", bodypart) for bodypart in estimator.bodyparts]
    stream, chunks = _resumed(estimator, (bottom - top, right - left), work / recording.recording, manifest, len(names))
    if chunks.frames:
        log(
            f"{what}: going on after frame {chunks.frames} of {recording.frame_count}, where an analysis was broken off"
        )
    resumed = chunks.frames
    progress = LoggedProgress(log, what, "frames", every=5.0, before=resumed)
    stages = stream_poses(
        stream, parts, chunks, crop=crop, on_frames=lambda done: progress(done, recording.frame_count)
    )
    inference = {
        **stream.description,
        "frames_per_second": round((chunks.frames - resumed) / stages.total, 2),
        "shares": stages.shares(),
    }
    times = read_times(lab.layout, session.session, recording.recording)
    metadata = PoseMetadata(
        model=version.model,
        version=version.version,
        session=session.session,
        recording=recording.recording,
        device=recording.device,
        video_files=[{"name": Path(file.path).name, "sha256": file.sha256} for file in recording.files],
        crop=None if crop is None else {"x": [left, right], "y": [top, bottom]},
        rate=recording.rate if recording.regular else None,
        frame_count=recording.frame_count,
        clock=recording.clock,
        time_start=recording.time_start,
        software={
            "deeplabcut": estimator.description["deeplabcut_version"],
            "torch": estimator.description["torch_version"],
        },
        inference={**estimator.description, **inference},
        created=begun.isoformat(timespec="seconds"),
        input_hash=manifest.input_hash,
        bodyparts=list(estimator.bodyparts),
        individuals=[],
        skeleton=[list(edge) for edge in version.card["skeleton"]],
        pcutoff=version.card["pcutoff"],
        scorer=version.card["scorer"],
    )
    summary = write_poses(_staged(work, recording.recording), names, chunks.blocks, times, metadata)
    return {
        "recording": recording.recording,
        "device": recording.device,
        "frames": chunks.frames,
        "rows": summary.rows,
        "seconds": round((datetime.now(UTC) - begun).total_seconds(), 1),
        "resumed_after": resumed,
        "stages": {name: round(value, 3) for name, value in asdict(stages).items()},
        "inference": inference,
        "data_version": summary.data_version,
        "mean_likelihood": _rounded(estimator.bodyparts, summary.mean_likelihood),
        "share_below_pcutoff": _rounded(estimator.bodyparts, summary.share_below_pcutoff),
    }


def _resumed(
    estimator: Estimator, shape: tuple[int, int], folder: Path, manifest: Manifest, tracks: int
) -> tuple[PoseStream, PoseChunks]:
    """Return what estimates pictures of *shape*, and the chunks that an earlier attempt with the same settings left."""
    stream = estimator.for_pictures(shape)
    settings = {"input_hash": manifest.input_hash, **estimator.description, **stream.description}
    chunks = PoseChunks(folder, settings, tracks, free=frozenset({"batch_size"}))
    if not estimator.resumable:
        chunks.remove()
    if chunks.frames:
        stream = estimator.for_pictures(shape, chunks.settings["batch_size"])
    chunks.keep({**settings, "batch_size": stream.batch_size})
    return stream, chunks


def _staged(work: Path, recording: str) -> Path:
    """Return where the finished table of a recording waits for those of the session's others."""
    return work / f"{recording}.parquet"


def _rounded(bodyparts: Sequence[str], values: Sequence[float]) -> dict[str, float]:
    return {bodypart: round(value, 4) for bodypart, value in zip(bodyparts, values, strict=True)}


def unchanged_parts(lab: Lab, session: SessionInfo, recording: RecordingInfo) -> list[VideoPart]:
    """Return the files of *recording*, unchanged since they were probed.

    Raises
    ------
    InputError
        One is gone, or has changed.
    """
    parts = []
    for file in recording.files:
        path = file.resolve(lab.root)
        _check_unchanged(session, path, file.size, file.mtime_ns)
        parts.append(VideoPart(path, file.frame_count))
    return parts


def _check_unchanged(session: SessionInfo, path: Path, size: int, mtime_ns: int) -> None:
    try:
        status = path.stat()
    except FileNotFoundError:
        raise InputError(
            f"{path}: this video of {session.session} is gone. Bring it back, or forget the session."
        ) from None
    if (status.st_size, status.st_mtime_ns) != (size, mtime_ns):
        raise InputError(
            f"{path} has changed since it was probed ({size} bytes then, {status.st_size} now): its times may be wrong. "
            f"Materialize session_recordings for {session.session} again, then this."
        )
