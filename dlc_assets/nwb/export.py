"""From what the lab declared and the store holds to the NWB file of one session."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dlc_assets.inference.frozen_poses import frozen_files, frozen_manifest
from dlc_assets.inference.pose_tables import pose_files, pose_manifest
from dlc_assets.inference.releases import Releases, releases_of
from dlc_assets.lab.cohorts import Cohort
from dlc_assets.lab.errors import InputError, NotFoundError, did_you_mean
from dlc_assets.lab.files import content_hash
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.locks import hold
from dlc_assets.lab.manifest import Manifest, read_manifest
from dlc_assets.lab.settings import Device, Subject
from dlc_assets.nwb.description import (
    LAYOUT_VERSION,
    DeviceDescription,
    RecordingPoses,
    SessionDescription,
    SubjectDescription,
    missing_metadata,
    nwb_relative_path,
)
from dlc_assets.nwb.session_file import write_session_nwb
from dlc_assets.nwb.validation import check_nwb
from dlc_assets.nwb.video_files import remove_unused_videos
from dlc_assets.poses.selection import PoseFile
from dlc_assets.poses.table_file import read_pose_metadata, read_tracks
from dlc_assets.recordings.info import RecordingInfo, SessionInfo, need_session_info

_CONFIDENCE = "Height of the network's score map at the body part, 0 to 1 (sigmoid of the heatmap head)."


def released_poses(lab: Lab, session: SessionInfo, releases: Releases | None = None) -> dict[str, Manifest]:
    """Return the manifest of the pose table of each model that is released for *session* and has analysed it."""
    found = {}
    releases = releases or releases_of(lab, session)
    for model in releases.versions:
        manifest = pose_manifest(lab, model, session, releases)
        if manifest is not None:
            found[model] = manifest
    return found


def frozen_poses(lab: Lab, cohort: Cohort, session_key: str) -> dict[str, Manifest]:
    """Return the manifest of the pose table of each model that *cohort* has of a session.

    Raises
    ------
    NotFoundError
        The session is not in the cohort, or its poses are not there any more.
    """
    pinned = cohort.sessions.get(session_key)
    if pinned is None:
        raise NotFoundError(
            f'the session {session_key} is not in the cohort "{cohort.name}".{did_you_mean(session_key, cohort.sessions)} '
            f"`dlc-assets cohorts {cohort.name}` lists its sessions."
        )
    found = {}
    for model, version in pinned.items():
        manifest = frozen_manifest(lab, cohort, session_key, model)
        if manifest is None:
            raise NotFoundError(
                f'the poses of {session_key} by {model}@{version} that the cohort "{cohort.name}" was frozen with are not there: '
                "restore them from a backup."
            )
        found[model] = manifest
    return found


def nwb_inputs(
    lab: Lab, session_key: str, releases: Releases | None = None, *, cohort: Cohort | None = None
) -> dict[str, str]:
    """Return the hashes that the NWB file of a session is made from: with its released poses, or with those of *cohort*.

    The places of the videos are among them: the file's links lead there, and a video's content says nothing of where it lies.
    """
    session, recorded = need_session_info(lab.layout, session_key)
    settings = lab.settings
    poses = released_poses(lab, session, releases) if cohort is None else frozen_poses(lab, cohort, session_key)
    return {
        "layout": str(LAYOUT_VERSION),
        "session": recorded.data_version,
        "poses": content_hash({model: manifest.data_version for model, manifest in poses.items()}),
        "videos": content_hash([[file.path for file in recording.files] for recording in session.recordings]),
        "lab": content_hash(
            [settings.name, settings.institution, _experimenters(lab, session), settings.nwb.model_dump()]
        ),
        "subject": content_hash(_subject_settings(lab, session).model_dump(exclude={"tags"})),
        "devices": content_hash(
            {recording.device: _device_settings(lab, recording).model_dump() for recording in session.recordings}
        ),
    }


def nwb_path(lab: Lab, session: SessionInfo, *, with_video: bool, cohort: Cohort | None = None) -> Path:
    """Return where the NWB file of *session* lies; those of a cohort lie together, named as an archive names them."""
    folder = lab.layout.nwb if cohort is None else lab.layout.cohort_nwb(cohort.name)
    return folder / nwb_relative_path(session.subject, session.session_label, with_video=with_video)


def nwb_manifest(lab: Lab, session_key: str, cohort: Cohort | None = None) -> Manifest | None:
    """Return the manifest of a session's NWB file (of *cohort*, or with the released poses), None when there is no file."""
    manifest = read_manifest(_manifest_file(lab, session_key, cohort))
    return manifest if manifest is not None and (lab.layout.nwb / manifest.details["path"]).is_file() else None


def nwb_files(lab: Lab, manifest: Manifest) -> list[Path]:
    """Return the NWB files of a session that *manifest* is of."""
    return [lab.layout.nwb / manifest.details["path"]]


def _manifest_file(lab: Lab, session_key: str, cohort: Cohort | None) -> Path:
    if cohort is None:
        return lab.layout.nwb_manifest(session_key)
    return lab.layout.cohort_nwb_manifest(cohort.name, session_key)


def export_session(
    lab: Lab,
    session_key: str,
    *,
    overrides: Mapping[str, Any],
    recompute: bool,
    run_id: str,
    log: Callable[[str], None],
    cohort: Cohort | None = None,
) -> tuple[Manifest, bool]:
    """Write the NWB file of a session with the released poses of every recording, or with those that *cohort* was frozen with.

    The file of a cohort lies beside those of its other sessions, and the session's released file stays as it is.

    Returns
    -------
    tuple
        The manifest, and whether the file was written now (False: it was up to date).

    Raises
    ------
    InputError, NotFoundError
        The session has no start time, no released poses, or is not in the cohort.
    """
    lock = session_key if cohort is None else f"{cohort.name}|{session_key}"
    with hold(lab.layout.lock("nwb_file", lock), f"NWB file of {session_key}", log=log):
        session, _ = need_session_info(lab.layout, session_key)
        manifest = Manifest(
            asset="nwb_file",
            key=session_key,
            inputs=nwb_inputs(lab, session_key, cohort=cohort),
            overrides=dict(overrides),
            data_version="",
            run_id=run_id,
        )
        existing = nwb_manifest(lab, session_key, cohort)
        if existing is not None and not recompute and existing.input_hash == manifest.input_hash:
            log(f"{session_key}: its NWB file is up to date")
            return existing, False
        videos = overrides.get("videos") or lab.settings.nwb.videos
        description = _session_description(lab, session)
        if cohort is None:
            poses = released_poses(lab, session)
            files = _released_files(lab, session, poses)
        else:
            poses = frozen_poses(lab, cohort, session_key)
            files = _frozen_files(lab, session, cohort)
        recordings = [_recording_poses(lab, session, file) for file in sorted(files, key=lambda file: file.recording)]
        path = nwb_path(lab, session, with_video=videos != "leave_out", cohort=cohort)
        write_session_nwb(path, description, recordings, videos=videos)
        if existing is not None and (lab.layout.nwb / existing.details["path"]) != path:
            former = lab.layout.nwb / existing.details["path"]  # the same session under its former name
            former.unlink()
            remove_unused_videos(former, ())
        covered = {recording.recording for recording in recordings}
        manifest.data_version = content_hash({"inputs": manifest.inputs, "overrides": manifest.overrides})
        manifest.details = {
            "path": path.relative_to(lab.layout.nwb).as_posix(),
            "bytes": path.stat().st_size,
            "videos": videos,
            "recordings": sorted(covered),
            "models": {model: found.details["version"] for model, found in poses.items()},
            **({"cohort": cohort.name} if cohort is not None else {}),
            "findings": [f"{found.severity}: {found.message} ({found.location})" for found in check_nwb(path)],
        }
        manifest.problems = [
            *(f"archives will ask for {what}" for what in missing_metadata(description)),
            *(
                f"{recording.recording} has no {'released poses' if cohort is None else 'poses in the cohort'} and is not in the file"
                for recording in session.recordings
                if recording.recording not in covered
            ),
            *(f"{name} could not be read: {why}" for name, why in session.failed.items()),
        ]
        manifest_file = _manifest_file(lab, session_key, cohort)
        manifest_file.parent.mkdir(parents=True, exist_ok=True)
        manifest.write(manifest_file)
        return manifest, True


def _session_description(lab: Lab, session: SessionInfo) -> SessionDescription:
    if session.start is None:
        raise InputError(
            f"{session.session}: NWB needs the session's start time, and neither its session.yaml nor its videos state one. "
            "Write session.yaml beside the videos with a line such as: start: 2026-05-01T10:12:00+02:00"
        )
    settings = lab.settings
    return SessionDescription(
        identifier=session.session,
        session_id=session.session_label,
        start=session.start,
        description=session.description or f"Video recordings of session {session.session_source_name}.",
        experimenters=_experimenters(lab, session),
        institution=settings.institution or None,
        lab=settings.name,
        keywords=settings.nwb.keywords or ("pose estimation", "behavior", "DeepLabCut"),
        experiment_description=settings.nwb.experiment_description or None,
        subject=_subject_description(lab, session),
    )


def _experimenters(lab: Lab, session: SessionInfo) -> tuple[str, ...]:
    return tuple(session.experimenters) or lab.settings.experimenters


def _subject_settings(lab: Lab, session: SessionInfo) -> Subject:
    return lab.settings.subjects.get(session.subject_source_name or "", Subject())


def _subject_description(lab: Lab, session: SessionInfo) -> SubjectDescription | None:
    if session.subject is None:
        return None
    stated = _subject_settings(lab, session)
    return SubjectDescription(
        subject_id=session.subject,
        species=stated.species,
        sex=stated.sex,
        date_of_birth=stated.date_of_birth,
        description=stated.description,
        strain=stated.strain,
        genotype=stated.genotype,
    )


def _device_settings(lab: Lab, recording: RecordingInfo) -> Device:
    return lab.settings.devices.get(recording.device, Device())


def _released_files(lab: Lab, session: SessionInfo, poses: Mapping[str, Manifest]) -> list[PoseFile]:
    released = releases_of(lab, session).recordings  # a table that is behind may still hold what is another model's now
    files = [
        file
        for model, manifest in poses.items()
        for file in pose_files(lab, manifest)
        if file.recording in released.get(model, ())
    ]
    if not files:
        raise NotFoundError(
            f"{session.session} has no pose table of a released model: add a release rule to lab.yaml if none covers its "
            f"cameras, and run `dlc-assets analyze {session.session}`."
        )
    return files


def _frozen_files(lab: Lab, session: SessionInfo, cohort: Cohort) -> list[PoseFile]:
    files = [
        file for model in cohort.sessions[session.session] for file in frozen_files(lab, cohort, session.session, model)
    ]
    of_recording: dict[str, PoseFile] = {}
    for file in files:
        other = of_recording.setdefault(file.recording, file)
        if other is not file:
            raise InputError(
                f'{session.session}, {file.recording}: the cohort "{cohort.name}" has poses of it by {other.model}@{other.version} '
                f"and by {file.model}@{file.version}, and an NWB file takes one. Freeze a cohort with one model a camera."
            )
    return files


def _recording_poses(lab: Lab, session: SessionInfo, file: PoseFile) -> RecordingPoses:
    recording = session.recording(file.recording)
    metadata = read_pose_metadata(file.path)
    times, tracks = read_tracks(file.path)
    device = _device_settings(lab, recording)
    return RecordingPoses(
        recording=recording.recording,
        device=DeviceDescription(
            name=recording.device,
            description=device.description or None,
            manufacturer=device.manufacturer or None,
            model=device.model or None,
        ),
        video_files=tuple(part.resolve(lab.root) for part in recording.files),
        part_frame_counts=tuple(part.frame_count for part in recording.files),
        width=recording.width,
        height=recording.height,
        times=times,
        rate=recording.fraction if recording.regular else None,
        tracks=tracks,
        scorer=metadata.scorer or metadata.model,
        software_version=str(metadata.software.get("deeplabcut", "")) or None,
        skeleton=tuple((edge[0], edge[1]) for edge in metadata.skeleton),
        confidence_definition=_CONFIDENCE,
        crop=None if metadata.crop is None else (*metadata.crop["x"], *metadata.crop["y"]),
        provenance={
            "model": metadata.model,
            "version": metadata.version,
            "videos": metadata.video_files,
            "clock": metadata.clock,
            "software": metadata.software,
            "inference": metadata.inference,
            "pose_data_version": metadata.data_version,
        },
    )
