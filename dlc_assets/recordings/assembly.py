"""Putting the files of one session together: recordings, their parts, the session's metadata file, and what is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from dlc_assets.lab.settings import RecordingTemplate
from dlc_assets.recordings.found import FoundFile, FoundRecording, FoundSession, KnownFile
from dlc_assets.recordings.placing import shown
from dlc_assets.recordings.settling import signal_of

SHARED_METADATA = "session.yaml"
_LISTED = 3


class Surroundings(Protocol):
    """What must be known of a session's neighbours."""

    def metadata_files(self, folder: int) -> Mapping[str, str]:
        """Return the metadata files of a folder: session key (``""`` for session.yaml) -> name."""

    def sessions_of(self, folder: int) -> tuple[int, list[str]]:
        """Return how many sessions have videos in a folder, and the first few of them in order."""

    def twin(self, key: str) -> tuple[str, str] | None:
        """Return the session that differs from *key* in upper and lower case only and has the name, and a file of it."""


def assemble(
    key: str, files: Sequence[KnownFile], templates: Sequence[RecordingTemplate], around: Surroundings
) -> FoundSession:
    """Return the session *key* made of *files* (at least one)."""
    files = sorted(files, key=lambda file: file.order)
    first = files[0]
    session = FoundSession(key, first.subject, first.session)
    for file in files:
        if (file.subject, file.session) != (first.subject, first.session):
            _refuse(
                session,
                "*",
                f'{shown(file.path)}: its session "{shown(file.session)}" of subject "{shown(file.subject or "")}" and session '
                f'"{shown(first.session)}" of subject "{shown(first.subject or "")}" ({shown(first.path)}) both become {key}. '
                "Rename one of them.",
            )
            continue
        _add(session, file, templates[file.place])
    _refuse_recordings_of_one_name(session)
    twin = around.twin(key)
    if twin is not None:
        other, other_path = twin
        _refuse(
            session,
            "*",
            f"{key} and {other} differ in upper and lower case only: rename one of them ({shown(first.path)} or {shown(other_path)}).",
        )
    _find_metadata(session, files, around)
    return session


def _refuse(session: FoundSession, what: str, message: str) -> None:
    session.problems.append(message)
    session.refused[what] = message


def _add(session: FoundSession, file: KnownFile, template: RecordingTemplate) -> None:
    recording = session.recordings.setdefault(file.recording, FoundRecording(file.recording, file.camera))
    found = FoundFile(file.path, file.size, file.mtime_ns, signal_of(template, file.done))
    other = recording.parts.setdefault(file.part, found)
    if other is not found:
        which = f", part {shown(file.part)}" if file.part else ""
        _refuse(
            session,
            file.recording,
            f"{session.key}: two files make the same recording ({file.recording}{which}): {shown(other.path)} and "
            f"{shown(found.path)}. Move or rename one of them, or ignore it in lab.yaml.",
        )


def _refuse_recordings_of_one_name(session: FoundSession) -> None:
    """Two names that differ in case only are one file on Windows and macOS: say so."""
    by_folded: dict[str, FoundRecording] = {}
    for name in sorted(session.recordings):
        recording = session.recordings[name]
        other = by_folded.setdefault(name.casefold(), recording)
        if other is not recording:
            _refuse(
                session,
                name,
                f"{session.key}: the recordings {other.name} and {name} differ in upper and lower case only: rename one of "
                f"{shown(other.files[0].path)} and {shown(recording.files[0].path)}.",
            )


def _find_metadata(session: FoundSession, files: Sequence[KnownFile], around: Surroundings) -> None:
    """Give the session its sidecar: ``<session key>.yaml`` beside its videos, else a session.yaml of a folder of its own."""
    folders = sorted({(file.folder_path, file.folder) for file in files})
    own, shared = [], []
    for folder_path, folder in folders:
        there = around.metadata_files(folder)
        own += [(folder, Path(folder_path, there[session.key]))] if session.key in there else []
        shared += [(folder, Path(folder_path, there[""]))] if "" in there else []
    candidates = own or shared
    if not candidates:
        return
    if len(candidates) > 1:
        listed = ", ".join(str(path) for _, path in candidates)
        session.problems.append(f"{session.key}: several metadata files: {listed}. Keep one.")
        return
    folder, path = candidates[0]
    count, some = around.sessions_of(folder) if not own else (1, [])
    if count > 1:
        more = f" and {count - _LISTED} more" if count > _LISTED else ""
        session.problems.append(
            f"{path}: the sessions {', '.join(some[:_LISTED])}{more} share this folder, so it cannot be told whose it is. "
            f"Name it {session.key}.yaml."
        )
        return
    session.metadata_file = path
