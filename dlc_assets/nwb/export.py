"""From what the lab declared and the store holds to the NWB file of one session."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from dlc_assets.inference.releases import Releases
from dlc_assets.lab.cohorts import Cohort
from dlc_assets.lab.errors import InputError, SettingsError, did_you_mean
from dlc_assets.lab.files import content_hash
from dlc_assets.lab.keys import label_for_archive
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.locks import hold
from dlc_assets.lab.manifest import Manifest, read_manifest
from dlc_assets.nwb.consent import may_leave
from dlc_assets.nwb.contents import Videos
from dlc_assets.nwb.description import (
    LAYOUT_VERSION,
    RecordingPoses,
    SessionDescription,
    missing_metadata,
    nwb_relative_path,
)
from dlc_assets.nwb.extending import path_of_extended
from dlc_assets.nwb.lab_description import described_session, described_subject, description_hashes
from dlc_assets.nwb.labeled_videos import labeled_video_hashes
from dlc_assets.nwb.names import UNIQUE
from dlc_assets.nwb.preflight import check_exportable, check_place
from dlc_assets.nwb.readback import readback_findings
from dlc_assets.nwb.session_file import extend_session_nwb, write_session_nwb
from dlc_assets.nwb.session_poses import (
    chosen_poses,
    filtered_hashes,
    frozen_poses,
    recordings_to_write,
    released_poses,
)
from dlc_assets.nwb.validation import check_nwb
from dlc_assets.nwb.video_files import remove_unused_videos
from dlc_assets.recordings.info import SessionInfo, need_session_info


def nwb_inputs(
    lab: Lab, session_key: str, releases: Releases | None = None, *, cohort: Cohort | None = None
) -> dict[str, str]:
    """Return the hashes that the NWB file of a session is made from: with its released poses, or with those of *cohort*.

    The places of the videos are among them: the file's links lead there, and a video's content says nothing of where it lies.
    """
    session, recorded = need_session_info(lab.layout, session_key)
    poses = released_poses(lab, session, releases) if cohort is None else frozen_poses(lab, cohort, session_key)
    return {
        "layout": str(LAYOUT_VERSION),
        "session": recorded.data_version,
        "poses": content_hash({model: manifest.data_version for model, manifest in poses.items()}),
        **(filtered_hashes(lab, poses) if cohort is None else {}),
        **labeled_video_hashes(lab, poses),
        "videos": content_hash([[file.path for file in recording.files] for recording in session.recordings]),
        **description_hashes(lab, session),
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
        existing = nwb_manifest(lab, session_key, cohort)
        same = existing is not None and not recompute and existing.input_hash == manifest.input_hash
        stated = overrides.get("session") or {}
        if not same:
            check_exportable(lab, session, with_video=_videos(lab, overrides) != "leave_out", stated=stated)
        chosen = chosen_poses(lab, session, cohort, overrides.get("models"))
        tables = chosen.tables
        if existing is not None and same and existing.details.get("tables", tables) == tables:
            log(f"{session_key}: its NWB file is up to date")
            return existing, False
        described = described_session(lab, session, stated)
        recordings = recordings_to_write(lab, session, chosen, run_id)
        told_apart = _told_apart(session, recordings)
        videos, kept_back = _videos_that_may_go(lab, session, described, told_apart, overrides)
        planned = _planned_files(lab, session, described, recordings, told_apart, videos, cohort)
        former = nwb_files(lab, existing) if existing is not None else []
        for file in planned:
            if file.path not in former:
                check_place(file.path, file.session, file.extends)
        findings = [finding for file in planned for finding in _written(file, videos, log)]
        paths = [file.path for file in planned]
        for gone in set(former) - set(paths):  # the same session under its former name
            gone.unlink(missing_ok=True)
            remove_unused_videos(gone, ())
        manifest.data_version = content_hash(
            {"inputs": manifest.inputs, "overrides": manifest.overrides, "tables": tables}
        )
        files = [path.relative_to(lab.layout.nwb).as_posix() for path in paths]
        manifest.details = {
            "path": files[0],
            "files": files,
            "bytes": sum(path.stat().st_size for path in paths),
            "videos": videos,
            "recordings": sorted({recording.recording for recording in recordings}),
            "models": {model: found.details["version"] for model, found in chosen.manifests.items()},
            "tables": tables,
            **({"cohort": cohort.name} if cohort is not None else {}),
            "findings": findings,
        }
        manifest.problems = [*_missing(planned), *kept_back, *_left_out(session, recordings, cohort), *chosen.left_out]
        manifest_file = _manifest_file(lab, session_key, cohort)
        manifest_file.parent.mkdir(parents=True, exist_ok=True)
        manifest.write(manifest_file)
        return manifest, True


def _written(file: PlannedFile, videos: Videos, log: Callable[[str], None]) -> list[str]:
    """Write *file*, and return what is wrong with it, a line each."""
    log(f"{file.session.identifier}: writing {file.path.name}")
    if file.extends is None:
        write_session_nwb(file.path, file.session, file.recordings, videos=videos)
    else:
        extend_session_nwb(file.path, file.extends, file.session, file.recordings, videos=videos, log=log)
    found = [*check_nwb(file.path), *readback_findings(file.path, file.recordings)]
    return [f"{one.severity}: {one.message} ({one.location})" for one in found]


def _missing(planned: Sequence[PlannedFile]) -> list[str]:
    """Say what archives will ask for; of a file that is extended, it is its own author's to say."""
    asked = [what for file in planned if file.extends is None for what in missing_metadata(file.session)]
    return [f"archives will ask for {what}" for what in dict.fromkeys(asked)]


def _left_out(session: SessionInfo, recordings: Sequence[RecordingPoses], cohort: Cohort | None) -> list[str]:
    covered = {recording.recording for recording in recordings}
    poses = "released poses" if cohort is None else "poses in the cohort"
    return [
        *(
            f"{recording.recording} has no {poses} and is not in the file"
            for recording in session.recordings
            if recording.recording not in covered
        ),
        *(f"{name} could not be read: {why}" for name, why in session.failed.items()),
    ]


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
    told_apart: Mapping[str, str],
    videos: Videos,
    cohort: Cohort | None,
) -> list[PlannedFile]:
    folder = lab.layout.nwb if cohort is None else lab.layout.cohort_nwb(cohort.name)
    with_video = videos != "leave_out"
    if session.extend_nwb is not None:
        source = session.extend_nwb.resolve(lab.root)
        if told_apart:
            raise InputError(
                f"{session.session}: session.yaml states both an identity, which gives each animal its own file, and nwb.extend, which "
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
            subject=described_subject(lab, subject_name),
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
        session.yaml says it of an individual that there is not.
    """
    animals = dict.fromkeys(
        name for recording in recordings for name in recording.individuals if name not in {"", UNIQUE}
    )
    if session.identity is None or not animals:
        return {}
    stated = {name: session.identity.subject_of(name) for name in animals}
    for name in session.identity.individuals:
        if name not in animals:
            raise SettingsError(
                f'{session.session}: identity in session.yaml names the individual "{name}", which the poses do not have.'
                f"{did_you_mean(name, animals)} They have: {', '.join(animals)}."
            )
    return stated


def _of_individual(recording: RecordingPoses, individual: str) -> RecordingPoses:
    """Return the poses of *individual*, and of the body parts that belong to no animal."""
    tracks = [track for track in recording.tracks if track.individual in {individual, UNIQUE}]
    known = {track.bodypart for track in tracks}
    skeleton = tuple(edge for edge in recording.skeleton if set(edge) <= known)
    return replace(recording, tracks=tracks, skeleton=skeleton, identified=individual)


def _videos_that_may_go(
    lab: Lab,
    session: SessionInfo,
    described: SessionDescription,
    told_apart: Mapping[str, str],
    overrides: Mapping[str, Any],
) -> tuple[Videos, list[str]]:
    """Return where the videos of the session's files go, and why they are kept back if they are."""
    videos = _videos(lab, overrides)
    species = [described.subject.species if described.subject is not None else None]
    species += [lab.settings.subject(name).species for name in told_apart.values()]
    why = next((why for one in species if (why := may_leave(session, one)) is not None), None)
    if why is None or videos == "leave_out":
        return videos, []
    return "leave_out", [f"videos are left out: {why}"]


def _videos(lab: Lab, overrides: Mapping[str, Any]) -> Videos:
    stated: Videos | None = overrides.get("videos")
    return stated or lab.settings.nwb.videos
