"""Pose tables: the poses of one session's recordings by one model version, in Parquet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dlc_assets.inference.releases import Releases, releases_of
from dlc_assets.lab.errors import InputError, NotFoundError
from dlc_assets.lab.files import content_hash
from dlc_assets.lab.keys import pose_key
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.locks import hold
from dlc_assets.lab.manifest import Manifest, read_manifest
from dlc_assets.lab.progress import LoggedProgress, Progress
from dlc_assets.poses.schema import PoseMetadata, Track
from dlc_assets.poses.selection import PoseFile
from dlc_assets.poses.table_file import pose_content_hash, write_pose_table
from dlc_assets.recordings.info import RecordingInfo, SessionInfo, need_session_info, read_times
from dlc_assets.training.models import ModelVersion, find_version

if TYPE_CHECKING:
    from dlc_assets.engine.estimator import Estimator

# DeepLabCut's runner gains from batches on a GPU; on a CPU single frames measured fastest.
_AUTO_BATCH_GPU, _AUTO_BATCH_CPU = 16, 1


class Estimators:
    """The networks of one process: each model version is loaded once and serves every session of the run."""

    def __init__(self, device: str, batch_size: int | Literal["auto"]) -> None:
        self._device = device
        self._auto = _AUTO_BATCH_CPU if device == "cpu" else _AUTO_BATCH_GPU
        self.batch_size = self._auto if batch_size == "auto" else batch_size
        self._loaded: dict[str, Estimator] = {}

    def of(self, version: ModelVersion) -> Estimator:
        """Return the estimator of *version*, loading it the first time."""
        from dlc_assets.engine.estimator import Estimator

        if str(version) not in self._loaded:
            self._loaded[str(version)] = Estimator(
                version.pytorch_config,
                version.snapshot,
                device="cpu" if self._device == "cpu" else "cuda",
                batch_size=self.batch_size,
            )
        return self._loaded[str(version)]


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
    recordings = wanted_recordings(lab, model, session, releases)
    return {
        "model": wanted_version(lab, model, session, releases).version,
        "recordings": content_hash({recording.recording: recording.content_hash for recording in recordings}),
    }


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
        A run's own settings (``version``, ``recordings``, ``batch_size``); they make the table "custom".
    recompute
        Estimate even though the stored table was made from the same inputs.

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
            inputs=pose_inputs(lab, model, session),
            overrides=dict(overrides),
            data_version="",
            run_id=run_id,
        )
        folder = lab.layout.pose_folder(model, version.version, session_key)
        existing = read_manifest(folder)
        if existing is not None and not recompute and existing.input_hash == manifest.input_hash:
            log(f"{session_key}: its poses by {version} are up to date")
            return existing, False
        estimator = estimators.of(version)
        rows = [
            _estimate_recording(lab, session, recording, version, estimator, manifest, log) for recording in recordings
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
            "inference": estimator.description,
            "pcutoff": version.card["pcutoff"],
            "recordings": rows,
            "frames": sum(row["frames"] for row in rows),
            "rows": sum(row["rows"] for row in rows),
        }
        manifest.write(folder)
        for path in folder.glob("*.parquet"):
            if path.stem not in {row["recording"] for row in rows}:
                path.unlink()  # of a recording that is no longer this model's
        return manifest, True


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
    log: Callable[[str], None],
) -> dict[str, Any]:
    progress = LoggedProgress(log, f"{session.session}, {recording.recording}", "frames")
    begun = datetime.now(UTC)
    parts: list[np.ndarray] = []
    for file in recording.files:
        path = file.resolve(lab.root)
        _check_unchanged(session, path, file.size, file.mtime_ns)
        done = sum(len(part) for part in parts)
        poses = estimator.estimate_video(
            path,
            frames=file.frame_count,
            on_frames=partial(_report, progress, done, recording.frame_count),
        )
        parts.append(poses)
    seconds = (datetime.now(UTC) - begun).total_seconds()
    poses = np.concatenate(parts)
    tracks = tracks_of(poses, estimator)
    times = read_times(lab.layout, session.session, recording.recording)
    data_version = pose_content_hash(tracks, times)
    path = lab.layout.pose_file(version.model, version.version, session.session, recording.recording)
    metadata = PoseMetadata(
        model=version.model,
        version=version.version,
        session=session.session,
        recording=recording.recording,
        device=recording.device,
        video_files=[{"name": Path(file.path).name, "sha256": file.sha256} for file in recording.files],
        rate=recording.rate if recording.regular else None,
        frame_count=recording.frame_count,
        clock=recording.clock,
        time_start=recording.time_start,
        software={
            "deeplabcut": estimator.description["deeplabcut_version"],
            "torch": estimator.description["torch_version"],
        },
        inference={**estimator.description, "frames_per_second": round(len(poses) / seconds, 2)},
        created=begun.isoformat(timespec="seconds"),
        input_hash=manifest.input_hash,
        data_version=data_version,
        bodyparts=list(estimator.bodyparts),
        individuals=[],
        skeleton=[list(edge) for edge in version.card["skeleton"]],
        pcutoff=version.card["pcutoff"],
        scorer=version.card["scorer"],
    )
    write_pose_table(path, tracks, times, metadata)
    likelihoods = {track.bodypart: round(float(np.nanmean(track.likelihood)), 4) for track in tracks}
    below = {track.bodypart: round(float(np.mean(~(track.likelihood >= metadata.pcutoff))), 4) for track in tracks}
    return {
        "recording": recording.recording,
        "device": recording.device,
        "frames": len(poses),
        "rows": len(poses) * len(tracks),
        "seconds": round(seconds, 1),
        "data_version": data_version,
        "mean_likelihood": likelihoods,
        "share_below_pcutoff": below,
    }


def _report(progress: Progress, done_before: int, total: int, count: int) -> None:
    progress(done_before + count, total)


def tracks_of(poses: np.ndarray, estimator: Estimator) -> list[Track]:
    """Return the tracks of a single-animal analysis, poses of shape (frames, 1, body parts, 3)."""
    return [
        Track("", bodypart, poses[:, 0, index, 0], poses[:, 0, index, 1], poses[:, 0, index, 2])
        for index, bodypart in enumerate(estimator.bodyparts)
    ]


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
