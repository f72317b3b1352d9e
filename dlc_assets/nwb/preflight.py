"""What a session's NWB file needs, looked at before any long work: all that is wrong is said at once, each with file and key."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from dlc_assets.lab.errors import InputError
from dlc_assets.lab.lab import Lab
from dlc_assets.nwb.description import SessionDescription
from dlc_assets.recordings.info import SessionInfo, StoredFile
from dlc_assets.recordings.start_zone import assumed_zone


def check_exportable(
    lab: Lab, session: SessionInfo, *, with_video: bool, stated: Mapping[str, Any] = MappingProxyType({})
) -> None:
    """Refuse *session* if its NWB file would be wrong, or one that archives do not take, for a reason that a person must mend.

    Parameters
    ----------
    with_video
        Whether the videos go with the file: then they must be as they were when they were probed.
    stated
        What the export states itself in the place of the lab's files (`overrides.overridden`).

    Raises
    ------
    InputError
        All that is wrong, a line each.
    """
    wrong = [
        *(_start(lab, session) if "start" not in stated else ()),
        *_subjects(lab, session, stated.get("subject") or {}),
        *(_videos(lab, session) if with_video else ()),
        *_extended(lab, session),
    ]
    if wrong:
        raise InputError(
            wrong[0]
            if len(wrong) == 1
            else f"{session.session} cannot be exported:\n  - " + "\n  - ".join(dict.fromkeys(wrong))
        )


def _start(lab: Lab, session: SessionInfo) -> Iterator[str]:
    if session.start is None:
        yield (
            f"{session.session}: NWB needs the session's start time, and neither its session.yaml nor its videos state one. "
            "Write session.yaml beside the videos with a line such as: start: 2026-05-01T10:12:00+02:00"
        )
    zone = assumed_zone(lab, session)
    if zone is not None:
        yield zone


def _subjects(lab: Lab, session: SessionInfo, stated: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with the animals of a session: the one that it is of, and those that session.yaml's identity names."""
    of_tracks = session.identity.individuals.values() if session.identity is not None else ()
    names = [] if session.subject_source_name is None else [session.subject_source_name]
    lab_yaml = lab.layout.settings_file
    for name in dict.fromkeys([*names, *of_tracks]):
        subject = lab.settings.subject(name)
        if subject.species is None and "species" not in stated:
            yield (
                f'{session.session}: {lab_yaml} does not say of which species the subject "{name}" is, and DANDI requires it. Write '
                f"subjects.{name}.species there, or subject_defaults.species where all subjects of the lab are of one, such as: "
                "subject_defaults: {species: Mus musculus}"
            )
        born = subject.date_of_birth
        if born is not None and session.start is not None and session.start.date() < born:
            yield (
                f'{session.session}: {lab_yaml}: subjects.{name}.date_of_birth: the subject "{name}" was born on {born}, after '
                f"its session started ({session.start.isoformat()}). Correct it, or start in session.yaml."
            )


def _videos(lab: Lab, session: SessionInfo) -> Iterator[str]:
    for recording in session.recordings:
        for file in recording.files:
            changed = _changed(lab, file)
            if changed is not None:
                yield (
                    f"{session.session}, {recording.recording}: {changed}. Run `dlc-assets scan`, which probes it again where it is "
                    "now, or bring back the file as it was."
                )


def _extended(lab: Lab, session: SessionInfo) -> Iterator[str]:
    if session.extend_nwb_problem:
        yield session.extend_nwb_problem
    if session.extend_nwb is not None:
        changed = _changed(lab, session.extend_nwb)
        if changed is not None:
            yield (
                f"{session.session}: nwb.extend in session.yaml: {changed}. Correct the path, or run `dlc-assets scan` so that it "
                "is looked at again."
            )


def _changed(lab: Lab, file: StoredFile) -> str | None:
    """Return how a file is other than when its session was probed, None where it is the same."""
    path = file.resolve(lab.root)
    try:
        status = path.stat()
    except OSError as error:
        return f"{path} is not where it was when the session was probed ({error.strerror or error})"
    if status.st_size != file.size:
        return f"{path} had {file.size} bytes when the session was probed and has {status.st_size} now"
    if status.st_mtime_ns != file.mtime_ns:
        return f"{path} was written again since the session was probed"
    return None


def check_place(path: Path, session: SessionDescription, extends: Path | None = None) -> None:
    """Raise an InputError where *path*, the place of the NWB file of *session*, holds that of another session or subject.

    *extends* is the file that it extends: its identifier is then the file's own.
    """
    if not path.exists():
        return
    instead = "Move that file elsewhere or delete it, then export again"
    try:
        there = _whose(path)
        identifier = session.identifier if extends is None else _whose(extends)[2]
    except OSError as error:
        raise InputError(
            f"{path}, where the NWB file of {session.identifier} belongs, is there and cannot be read as one ({error}). {instead}."
        ) from error
    expected = (session.subject.subject_id if session.subject is not None else None, session.session_id, identifier)
    wrong = [
        f"{what} is {_shown(found)} (expected {_shown(wanted)})"
        for what, found, wanted in zip(("subject_id", "session_id", "identifier"), there, expected, strict=True)
        if found != wanted
    ]
    if wrong:
        raise InputError(
            f"{path}, where the NWB file of {session.identifier} belongs, is that of another: its {' and its '.join(wrong)}. It is not "
            f"written over. {instead}; if it is this session's under a wrong name, correct the names in the recordings' paths."
        )


def _whose(path: Path) -> tuple[str | None, str | None, str | None]:
    """Return subject_id, session_id and identifier of an NWB file."""
    import h5py

    with h5py.File(path, "r") as file:
        names = ("general/subject/subject_id", "general/session_id", "identifier")
        subject, label, identifier = (_text(file, name) for name in names)
        return subject, label, identifier


def _text(file: object, name: str) -> str | None:
    value = file[name][()] if name in file else None  # type: ignore[operator,index]  # an h5py.File
    return value.decode() if isinstance(value, bytes) else None if value is None else str(value)


def _shown(name: str | None) -> str:
    return "missing" if name is None else f'"{name}"'
