"""From what the lab declared and the store holds to the NWB file of one session."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath
from typing import Any

from dlc_assets.inference.frozen_poses import frozen_files, frozen_manifest
from dlc_assets.inference.pose_tables import latest_pose_manifest, pose_files, pose_manifest
from dlc_assets.inference.releases import Releases, releases_of
from dlc_assets.lab.cohorts import Cohort
from dlc_assets.lab.errors import DlcAssetsError, InputError, NotFoundError, SettingsError, did_you_mean
from dlc_assets.lab.files import content_hash
from dlc_assets.lab.keys import label_for_archive
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.locks import hold
from dlc_assets.lab.manifest import Manifest, read_manifest
from dlc_assets.lab.settings import Device, Subject
from dlc_assets.nwb.confidence import confidence_definition
from dlc_assets.nwb.consent import may_leave
from dlc_assets.nwb.contents import Videos
from dlc_assets.nwb.description import (
    LAYOUT_VERSION,
    DeviceDescription,
    RecordingPoses,
    SessionDescription,
    SubjectDescription,
    missing_metadata,
    nwb_relative_path,
)
from dlc_assets.nwb.extending import path_of_extended
from dlc_assets.nwb.frame_times import FrameTimes
from dlc_assets.nwb.names import UNIQUE
from dlc_assets.nwb.overrides import overridden
from dlc_assets.nwb.readback import readback_findings
from dlc_assets.nwb.session_file import extend_session_nwb, write_session_nwb
from dlc_assets.nwb.validation import check_nwb
from dlc_assets.nwb.video_files import remove_unused_videos
from dlc_assets.poses.schema import PoseMetadata
from dlc_assets.poses.selection import PoseFile
from dlc_assets.poses.table_file import PoseTableFile
from dlc_assets.recordings.info import RecordingInfo, SessionInfo, need_session_info
from dlc_assets.training.models import ModelVersion, find_version

# What had a hand in the file, by the names of the distributions.
_PACKAGES = ("dlc-assets", "deeplabcut", "torch", "numpy", "pyarrow", "pynwb", "hdmf", "ndx-pose", "h5py")


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


def nwb_manifest(lab: Lab, session_key: str, cohort: Cohort | None = None) -> Manifest | None:
    """Return the manifest of a session's NWB files (of *cohort*, or with the released poses), None when one is not there."""
    manifest = read_manifest(_manifest_file(lab, session_key, cohort))
    return manifest if manifest is not None and all(file.is_file() for file in nwb_files(lab, manifest)) else None


def nwb_files(lab: Lab, manifest: Manifest) -> list[Path]:
    """Return the NWB files of a manifest: one, or one a subject where several animals were told apart."""
    paths = manifest.details.get("files") or [manifest.details["path"]]  # releases before wrote one, and named it so
    return [lab.layout.nwb / path for path in paths]


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

    Where session.yaml states which track is which animal, each animal has a file of its own. The file of a cohort lies beside those of
    its other sessions, and the session's released file stays as it is.

    Parameters
    ----------
    overrides
        What this export states itself: ``videos``; ``models`` (a list of ``name`` or ``name@version``, in the place of the released ones);
        ``session`` (see `overrides.overridden`).

    Returns
    -------
    tuple
        The manifest, and whether something was written now (False: it was up to date).

    Raises
    ------
    InputError, NotFoundError
        What is stated of the session is not enough or wrong, it has no such poses, or it is not in the cohort.
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
        chosen = _chosen_poses(lab, session, cohort, overrides.get("models"))
        tables = {model: found.data_version for model, found in chosen.manifests.items()}
        existing = nwb_manifest(lab, session_key, cohort)
        if (
            existing is not None
            and not recompute
            and existing.input_hash == manifest.input_hash
            and existing.details.get("tables", tables) == tables
        ):
            log(f"{session_key}: its NWB file is up to date")
            return existing, False
        described = described_session(lab, session, overrides.get("session") or {})
        videos, kept_back = _videos_that_may_go(lab, session, described, overrides)
        recordings = recordings_to_write(lab, session, chosen.files, run_id)
        planned = _planned_files(lab, session, described, recordings, videos, cohort)
        for file in planned:
            check_place(file)
        findings: list[str] = []
        for file in planned:
            log(f"{session_key}: writing {file.path.name}")
            if file.extends is None:
                write_session_nwb(file.path, file.session, file.recordings, videos=videos)
            else:
                extend_session_nwb(file.path, file.extends, file.session, file.recordings, videos=videos)
            found = [*check_nwb(file.path), *readback_findings(file.path, file.recordings)]
            findings += [f"{one.severity}: {one.message} ({one.location})" for one in found]
        paths = [file.path for file in planned]
        for former in nwb_files(lab, existing) if existing is not None else []:
            if former not in paths:  # the same session under its former name
                former.unlink(missing_ok=True)
                remove_unused_videos(former, ())
        covered = {recording.recording for recording in recordings}
        manifest.data_version = content_hash({"inputs": manifest.inputs, "overrides": manifest.overrides, "tables": tables})
        files = [path.relative_to(lab.layout.nwb).as_posix() for path in paths]
        manifest.details = {
            "path": files[0],
            "files": files,
            "bytes": sum(path.stat().st_size for path in paths),
            "videos": videos,
            "recordings": sorted(covered),
            "models": {model: found.details["version"] for model, found in chosen.manifests.items()},
            "tables": tables,
            **({"cohort": cohort.name} if cohort is not None else {}),
            "findings": findings,
        }
        manifest.problems = [
            *dict.fromkeys(
                f"archives will ask for {what}"
                for file in planned
                if file.extends is None
                for what in missing_metadata(file.session)
            ),
            *kept_back,
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


@dataclass(frozen=True)
class _Chosen:
    """The pose tables that go into a file: their manifests by model (with its version where a model has several), and their files."""

    manifests: Mapping[str, Manifest]
    files: Sequence[PoseFile]


def _chosen_poses(lab: Lab, session: SessionInfo, cohort: Cohort | None, models: Sequence[str] | None) -> _Chosen:
    if cohort is not None:
        return _Chosen(frozen_poses(lab, cohort, session.session), _frozen_files(lab, session, cohort))
    if not models:
        poses = released_poses(lab, session)
        return _Chosen(poses, _released_files(lab, session, poses))
    manifests: dict[str, Manifest] = {}
    for reference in models:
        name, _, pinned = reference.partition("@")
        version = find_version(lab.layout, reference)
        manifest = read_manifest(lab.layout.pose_folder(version.model, version.version, session.session))
        if manifest is None and not pinned:
            manifest = latest_pose_manifest(lab, name, session.session)
        if manifest is None:
            raise NotFoundError(
                f"{session.session} has no poses by {version}: run `dlc-assets analyze {session.session} --model {name}`."
            )
        manifests[f"{name}@{manifest.details['version']}"] = manifest
    files = [file for manifest in manifests.values() for file in pose_files(lab, manifest)]
    return _Chosen(manifests, files)


@dataclass(frozen=True)
class PlannedFile:
    """One NWB file that is to be written: where, about whom, with which poses, and the file that it extends."""

    path: Path
    session: SessionDescription
    recordings: Sequence[RecordingPoses]
    extends: Path | None = None


def _planned_files(
    lab: Lab,
    session: SessionInfo,
    described: SessionDescription,
    recordings: Sequence[RecordingPoses],
    videos: Videos,
    cohort: Cohort | None,
) -> list[PlannedFile]:
    folder = lab.layout.nwb if cohort is None else lab.layout.cohort_nwb(cohort.name)
    with_video = videos != "leave_out"
    told_apart = _told_apart(session, recordings)
    if session.extend_nwb is not None:
        source = session.extend_nwb.resolve(lab.root)
        if told_apart:
            raise InputError(
                f"{session.session}: session.yaml states both an identity, which gives each animal a file of its own, and nwb.extend, which "
                "names one file. State one of them."
            )
        path = folder / path_of_extended(source, described, with_video=with_video)
        return [PlannedFile(path, described, recordings, source)]
    if not told_apart:
        return [PlannedFile(folder / _place_in_dandiset(described, with_video=with_video), described, recordings)]
    planned = []
    for individual, subject_name in told_apart.items():
        own = [_of_individual(recording, individual) for recording in recordings if individual in recording.individuals]
        about = replace(
            described,
            identifier=f"{described.identifier}_{label_for_archive(subject_name, 'subject')}",
            subject=_subject_description(lab, subject_name),
        )
        planned.append(PlannedFile(folder / _place_in_dandiset(about, with_video=with_video), about, own))
    return planned


def _place_in_dandiset(described: SessionDescription, *, with_video: bool) -> PurePosixPath:
    subject_id = described.subject.subject_id if described.subject is not None else None
    return nwb_relative_path(subject_id, described.session_id, with_video=with_video)


def _told_apart(session: SessionInfo, recordings: Sequence[RecordingPoses]) -> dict[str, str]:
    """Return the subject of each individual, by its name in the poses; nothing where session.yaml does not say that they were told apart.

    Raises
    ------
    SettingsError
        session.yaml says it of an individual that there is not, or not of all.
    """
    animals = dict.fromkeys(
        name for recording in recordings for name in recording.individuals if name not in {"", UNIQUE}
    )
    if session.identity is None or not animals:
        return {}
    stated = session.identity.individuals or {name: name for name in animals}
    for name in stated:
        if name not in animals:
            raise SettingsError(
                f'{session.session}: identity in session.yaml names the individual "{name}", which the poses do not have.'
                f"{did_you_mean(name, animals)} They have: {', '.join(animals)}."
            )
    if unnamed := [name for name in animals if name not in stated]:
        raise SettingsError(
            f"{session.session}: identity in session.yaml does not say which subject {', '.join(unnamed)} is. Name it under individuals."
        )
    return stated


def _of_individual(recording: RecordingPoses, individual: str) -> RecordingPoses:
    """Return the poses of *individual*, and of the body parts that belong to no animal."""
    tracks = [track for track in recording.tracks if track.individual in {individual, UNIQUE}]
    known = {track.bodypart for track in tracks}
    skeleton = tuple(edge for edge in recording.skeleton if set(edge) <= known)
    return replace(recording, tracks=tracks, skeleton=skeleton, identified=individual)


def check_place(file: PlannedFile) -> None:
    """Raise an InputError where a file of another session or subject has the place of *file*."""
    import h5py

    if not file.path.is_file() or not h5py.is_hdf5(file.path):
        return
    expected = file.session.identifier
    with h5py.File(file.path if file.extends is None else file.extends, "r") as stored:
        names = ("identifier", "general/subject/subject_id", "general/session_id")
        identifier, *_ = _texts(stored, names)
    if file.extends is not None:
        expected = identifier
        with h5py.File(file.path, "r") as stored:
            identifier, *_ = _texts(stored, ("identifier",))
    if identifier != expected:
        raise InputError(
            f'{file.path} is there already, and is of "{identifier}", not of "{expected}". Two sessions would have the same place: give '
            "one of them another name, or move the file away."
        )


def _texts(stored: Any, names: Sequence[str]) -> list[str]:
    return [stored[name].asstr()[()] if name in stored else "" for name in names]


def described_session(lab: Lab, session: SessionInfo, overrides: Mapping[str, Any]) -> SessionDescription:
    """Return what the lab's files say of *session*, with *overrides* in its place (see `overrides.overridden`)."""
    if session.start is None and "start" not in overrides:
        raise InputError(
            f"{session.session}: NWB needs the session's start time, and neither its session.yaml nor its videos state one. "
            "Write session.yaml beside the videos with a line such as: start: 2026-05-01T10:12:00+02:00"
        )
    settings = lab.settings
    subject = None
    if session.subject is not None:
        subject = _subject_description(lab, session.subject_source_name or session.subject)
    described = SessionDescription(
        identifier=session.session,
        session_id=session.session_label,
        start=session.start or datetime.now(UTC),  # the overrides state it
        description=session.description or f"Video recordings of session {session.session_source_name}.",
        experimenters=_experimenters(lab, session),
        institution=settings.institution or None,
        lab=settings.name,
        keywords=settings.nwb.keywords or ("pose estimation", "behavior", "DeepLabCut"),
        experiment_description=settings.nwb.experiment_description or None,
        subject=subject,
    )
    return overridden(described, overrides)


def _videos_that_may_go(
    lab: Lab, session: SessionInfo, described: SessionDescription, overrides: Mapping[str, Any]
) -> tuple[Videos, list[str]]:
    """Return where the file's videos go, and why they are kept back if they are."""
    videos: Videos = overrides.get("videos") or lab.settings.nwb.videos
    why = may_leave(session, described.subject.species if described.subject is not None else None)
    if why is None or videos == "leave_out":
        return videos, []
    return "leave_out", [f"videos are left out: {why}"]


def _experimenters(lab: Lab, session: SessionInfo) -> tuple[str, ...]:
    return tuple(session.experimenters) or lab.settings.experimenters


def _subject_settings(lab: Lab, session: SessionInfo) -> Subject:
    return lab.settings.subjects.get(session.subject_source_name or "", Subject())


def _subject_description(lab: Lab, name: str) -> SubjectDescription:
    stated = lab.settings.subjects.get(name, Subject())
    return SubjectDescription(
        subject_id=label_for_archive(name, "subject"),
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
    return [
        file for model in cohort.sessions[session.session] for file in frozen_files(lab, cohort, session.session, model)
    ]


def recordings_to_write(
    lab: Lab, session: SessionInfo, files: Sequence[PoseFile], run_id: str
) -> list[RecordingPoses]:
    """Return the poses of *files* as they are written, in the order of the recordings; nothing of them is read yet."""
    versions: dict[str, set[str]] = {}
    for file in files:
        versions.setdefault(file.model, set()).add(file.version)
    return [
        _recording_poses(lab, session, file, run_id, several_versions=len(versions[file.model]) > 1)
        for file in sorted(files, key=lambda file: (file.recording, file.model, file.version))
    ]


def _recording_poses(
    lab: Lab, session: SessionInfo, file: PoseFile, run_id: str, *, several_versions: bool
) -> RecordingPoses:
    recording = session.recording(file.recording)
    table = PoseTableFile.open(file.path)
    metadata = table.metadata
    device = _device_settings(lab, recording)
    version = _version_of(lab, metadata)
    return RecordingPoses(
        recording=recording.recording,
        model=f"{metadata.model}-{metadata.version}" if several_versions else metadata.model,
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
        times=FrameTimes(metadata.frame_count, table.time_blocks),
        rate=recording.fraction if recording.regular else None,
        tracks=table.streams(),
        scorer=metadata.scorer or metadata.model,
        software_version=str(metadata.software.get("deeplabcut", "")) or None,
        skeleton=tuple((edge[0], edge[1]) for edge in metadata.skeleton),
        confidence_definition=None if version is None else confidence_definition(version.read_pytorch_config()),
        crop=None if metadata.crop is None else (*metadata.crop["x"], *metadata.crop["y"]),
        provenance={
            "model": metadata.model,
            "version": metadata.version,
            "snapshot_sha256": None if version is None else version.card.get("sha256"),
            "specification": None if version is None else version.card.get("specification"),
            "videos": metadata.video_files,
            "times": [{"name": Path(times.path).name, "sha256": times.sha256} for times in recording.times_files],
            "clock": metadata.clock,
            "crop": metadata.crop,
            "software": metadata.software,
            "packages": package_versions(),
            "inference": metadata.inference,
            "pose_data_version": metadata.data_version,
            "runs": {"export": run_id, "poses": pose_run(file.path)},
        },
    )


def _version_of(lab: Lab, metadata: PoseMetadata) -> ModelVersion | None:
    """Return the model version that made the poses, None where it is not there any more or never was."""
    try:
        return find_version(lab.layout, f"{metadata.model}@{metadata.version}")
    except DlcAssetsError:
        return None


def pose_run(pose_file: Path) -> str:
    """Return the Dagster run that made a pose table, empty where none is known."""
    manifest = read_manifest(pose_file.parent)
    return manifest.run_id if manifest is not None else ""


def package_versions() -> dict[str, str]:
    """Return the versions of the packages that write the file."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:  # run from a checkout that is not installed
            continue
    return found
