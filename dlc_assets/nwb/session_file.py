"""Writes a described session as an NWB file, new or beside what another file holds, and reads back how its poses were made."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime, time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlc_assets.lab.errors import InputError, NotFoundError
from dlc_assets.lab.files import atomic_path
from dlc_assets.lab.progress import LoggedProgress
from dlc_assets.nwb.contents import Added, Videos, add_poses
from dlc_assets.nwb.description import (
    RecordingPoses,
    SessionDescription,
    SubjectDescription,
    nwb_content_hash,
    nwb_relative_path,
)
from dlc_assets.nwb.extending import (
    SCRATCH,
    check_extendable,
    external_videos_of,
    path_of_extended,
    state_session_id,
)
from dlc_assets.nwb.input_checks import CheckedRecording, check_path, checked_recordings
from dlc_assets.nwb.video_files import place_videos, remove_unused_videos

if TYPE_CHECKING:
    import pynwb

_COPIED_AT_ONCE = 1 << 24


def write_session_nwb(
    path: Path, session: SessionDescription, recordings: Sequence[RecordingPoses], *, videos: Videos = "link"
) -> None:
    """Write the poses of a session's recordings to *path* in one step, with the videos in a folder beside it.

    Poses are read and written block by block: memory does not grow with the number of frames. What each container is called says
    `names.pose_estimation_names`. An existing file is replaced.

    Parameters
    ----------
    path
        Ends in what `nwb_relative_path` gives for the session.
    videos
        ``link`` (symbolic, beside the file; a copy where that is impossible), ``copy``, ``relative`` (the file refers to the videos
        where they are), or ``leave_out``.

    Raises
    ------
    InputError
        Poses, times and video frames differ in number; a name, path or video is wrong. Nothing is written.
    """
    subject_id = session.subject.subject_id if session.subject else None
    expected = nwb_relative_path(subject_id, session.session_id, with_video=videos != "leave_out")
    check_path(path, expected, f'session "{session.session_id}" of subject "{subject_id}"')
    checked = checked_recordings(recordings, with_video=videos != "leave_out")
    nwbfile = _nwb_file(session, recordings)
    added = add_poses(nwbfile, path, checked, videos=videos, identifier=session.identifier)
    nwbfile.data_collection = _provenance_json(session, checked, added)
    with atomic_path(path) as partial:
        _write(partial, nwbfile)
        _place(path, added, videos)
    remove_unused_videos(path, added.videos)


def extend_session_nwb(
    path: Path,
    source: Path,
    session: SessionDescription,
    recordings: Sequence[RecordingPoses],
    *,
    videos: Videos = "link",
    log: Callable[[str], None] = lambda _: None,
) -> None:
    """Write to *path* in one step a copy of the NWB file *source* with the poses added; *source* itself stays as it is.

    What is in *source* is not touched: its subject and description stay, and devices, videos and skeletons that it has are used.

    Parameters
    ----------
    path
        Ends in what `extending.path_of_extended` gives.

    Raises
    ------
    InputError
        As `write_session_nwb`; and *source* is no NWB file in HDF5, is of another subject, session or start, refers to files that
        a copy elsewhere would not find, or has poses under the names that are needed.
    """
    import ndx_pose  # noqa: F401  # before the file is opened: else it is written without the types of poses
    from pynwb import NWBHDF5IO

    check_extendable(source, session)
    check_path(path, path_of_extended(source, session, with_video=videos != "leave_out"), f"{source}, extended")
    checked = checked_recordings(recordings, with_video=videos != "leave_out")
    with atomic_path(path) as partial:
        _copy(source, partial, log)
        with NWBHDF5IO(partial, "r+") as io:
            nwbfile = io.read()
            added = add_poses(nwbfile, path, checked, videos=videos, identifier=session.identifier)
            nwbfile.add_scratch(
                _provenance_json(session, checked, added),
                name=SCRATCH,
                description="How the poses were made, as JSON, by dlc-assets.",
            )
            io.write(nwbfile)
        state_session_id(partial, session.session_id)
        _place(path, added, videos)
        place_videos(path, external_videos_of(source), "link")
    remove_unused_videos(path, added.videos)


def _copy(source: Path, target: Path, log: Callable[[str], None]) -> None:
    """Copy a file that may be of a hundred gigabytes, saying how far it is."""
    total = source.stat().st_size
    progress = LoggedProgress(log, f"copying {source.name}", "MB")
    done = 0
    with source.open("rb") as read, target.open("wb") as written:
        while block := read.read(_COPIED_AT_ONCE):
            written.write(block)
            done += len(block)
            progress(round(done / 1e6, 1), round(total / 1e6, 1))


def _place(path: Path, added: Added, videos: Videos) -> None:
    if videos in {"link", "copy"}:
        place_videos(path, added.videos, "copy" if videos == "copy" else "link")


def read_provenance(path: Path) -> dict[str, Any]:
    """Return how a file's poses were made.

    Keys: ``content_hash`` (`nwb_content_hash` of what was written) and ``recordings``: for each recording its
    ``videos`` (the original file names) and ``poses``, a list with, for each container in ``processing/behavior``, its name
    (``pose_estimation``), ``individual``, ``model``, of filtered poses ``filters``, and the ``provenance`` as it was given. It is kept
    as JSON in ``/general/data_collection``, NWB's place for notes about data collection and analysis; in a file that was extended, whose
    notes are its own, in ``/scratch/dlc_assets``.

    Raises
    ------
    NotFoundError
        No such file.
    InputError
        The file was not written by `write_session_nwb` or `extend_session_nwb`.
    """
    import h5py

    if not path.is_file():
        raise NotFoundError(f"no NWB file at {path}: export the session first.")
    with h5py.File(path, "r") as file:
        texts = [file[name].asstr()[()] for name in (f"scratch/{SCRATCH}", "general/data_collection") if name in file]
    for text in texts:
        try:
            provenance: dict[str, Any] = json.loads(text)["dlc_assets"]
        except (ValueError, KeyError, TypeError):
            continue  # notes of another program
        return provenance
    raise InputError(f"{path}: expected provenance in /general/data_collection, found none; another program wrote it.")


def _nwb_file(session: SessionDescription, recordings: Sequence[RecordingPoses]) -> pynwb.NWBFile:
    import pynwb

    return pynwb.NWBFile(
        session_description=session.description,
        identifier=session.identifier,
        session_start_time=session.start,
        session_id=session.session_id,
        experimenter=list(session.experimenters) or None,
        institution=session.institution or None,
        lab=session.lab or None,
        keywords=list(session.keywords) or None,
        experiment_description=session.experiment_description or None,
        was_generated_by=_software(recordings),
        subject=_subject(session.subject, session.start) if session.subject else None,
    )


def _subject(subject: SubjectDescription, start: datetime) -> Any:
    from pynwb.file import Subject

    born = subject.date_of_birth
    return Subject(
        subject_id=subject.subject_id,
        species=subject.species or None,
        sex=subject.sex,
        age=subject.age_at(start),
        date_of_birth=datetime.combine(born, time(), tzinfo=start.tzinfo) if born else None,
        description=subject.description or None,
        strain=subject.strain or None,
        genotype=subject.genotype or None,
        weight=subject.weight or None,
    )


def _provenance_json(session: SessionDescription, checked: Sequence[CheckedRecording], added: Added) -> str:
    by_recording: dict[str, Any] = {}
    for (place, individual), name in added.names.items():
        recording = checked[place].poses
        kept = by_recording.setdefault(
            recording.recording, {"videos": [video.name for video in recording.video_files], "poses": []}
        )
        kept["poses"].append(
            {
                "pose_estimation": name,
                "individual": individual,
                "model": recording.model,
                **({"filters": recording.filters} if recording.filters else {}),
                "provenance": recording.provenance,
            }
        )
    content = nwb_content_hash(session, [one.poses for one in checked])
    provenance = {"content_hash": content, "recordings": by_recording}
    return json.dumps({"dlc_assets": provenance}, sort_keys=True, ensure_ascii=False, default=str)


def _software(recordings: Sequence[RecordingPoses]) -> list[list[str]]:
    """Return (software, version) pairs; `source_software` says the same, this is where NWB viewers look."""
    pairs = {(r.source_software, r.software_version) for r in recordings if r.software_version}
    try:
        pairs.add(("dlc-assets", version("dlc-assets")))
    except PackageNotFoundError:  # run from a checkout that is not installed
        pairs.add(("dlc-assets", "unreleased"))
    return [list(pair) for pair in sorted(pairs)]


def _write(path: Path, nwbfile: pynwb.NWBFile) -> None:
    from pynwb import NWBHDF5IO

    with NWBHDF5IO(path, "w") as io:
        io.write(nwbfile)
