"""Finding video recordings below the lab's roots, and putting them together as sessions."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dlc_assets.lab.errors import DlcAssetsError
from dlc_assets.lab.keys import label_for_archive, natural, session_key
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.session_metadata import SessionMetadata, read_session_metadata

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".avi", ".mov", ".mkv", ".m4v", ".mpg", ".mpeg", ".webm", ".wmv", ".mjpeg", ".mjpg"}
)


@dataclass(frozen=True)
class FoundFile:
    """One video file as the file system shows it."""

    path: Path
    size: int
    mtime_ns: int

    @property
    def stamp(self) -> str:
        """What tells a changed file from the same one, without reading it."""
        return f"{self.path}|{self.size}|{self.mtime_ns}"


@dataclass
class FoundRecording:
    """One continuous video of one camera: one or more files in order."""

    name: str
    camera: str
    parts: dict[str, FoundFile] = field(default_factory=dict)

    @property
    def files(self) -> list[FoundFile]:
        return [self.parts[part] for part in sorted(self.parts, key=natural)]


@dataclass
class FoundSession:
    """The recordings that belong to one session, and what is wrong with them."""

    key: str
    subject: str | None
    session: str
    recordings: dict[str, FoundRecording] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    metadata_file: Path | None = None

    @property
    def files(self) -> list[FoundFile]:
        return [file for recording in self.recordings.values() for file in recording.files]

    def metadata(self) -> SessionMetadata:
        """Read the session's session.yaml; an empty one where there is none."""
        return SessionMetadata() if self.metadata_file is None else read_session_metadata(self.metadata_file)


@dataclass
class Discovery:
    """All that was found: sessions by key, files that fit no template, and problems that belong to no session."""

    sessions: dict[str, FoundSession] = field(default_factory=dict)
    unmatched: list[Path] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    @property
    def all_problems(self) -> list[str]:
        return [
            *self.problems,
            *(problem for session in self.sessions.values() for problem in session.problems),
        ]


def discover(lab: Lab) -> Discovery:
    """Look through the lab's recording roots. Nothing is opened but session.yaml files; one bad file never stops the rest."""
    found = Discovery()
    matched: set[Path] = set()
    for template, root in zip(lab.settings.recordings, lab.recording_roots(), strict=True):
        if not os.path.isdir(root):  # noqa: PTH112  (a Path's is_dir raises where a share does not answer)
            found.problems.append(
                f"{root}: this recording root of lab.yaml is not there (an unmounted disk?); its sessions stay as they are."
            )
            continue
        for file in _videos_below(root, lab.layout.store, found.problems):
            relative = file.path.relative_to(root).as_posix()
            if template.ignores(relative):
                found.ignored[template.template] += 1
                matched.add(file.path)
                continue
            fields = template.match(relative)
            if fields is None:
                found.unmatched.append(file.path)
                continue
            matched.add(file.path)
            _place(found, file, fields)
    found.unmatched = sorted(set(found.unmatched) - matched)
    _find_metadata(found)
    _refuse_key_collisions(found)
    return found


def _videos_below(root: Path, store: Path, problems: list[str]) -> Iterator[FoundFile]:
    """Yield the videos below *root*, through links to folders too, but not those of the platform's own *store*."""
    linked: set[str] = set()

    def is_entered(path: Path) -> bool:
        if path.name.startswith(".") or path == store:
            return False
        if not path.is_symlink():
            return True
        target = os.path.realpath(path)
        if target in linked or path.parent.resolve().is_relative_to(target):
            return False  # a link that leads back to itself
        linked.add(target)
        return True

    def say(error: OSError) -> None:
        problems.append(f"{error.filename}: this folder cannot be read ({error.strerror}); its videos are not seen.")

    for folder, subfolders, names in os.walk(root, onerror=say, followlinks=True):
        subfolders[:] = sorted(name for name in subfolders if is_entered(Path(folder, name)))
        for name in sorted(names):
            path = Path(folder) / name
            if name.startswith(".") or path.suffix.lower() not in VIDEO_SUFFIXES:
                continue
            try:
                status = path.stat()
            except OSError as error:
                if path.is_symlink() or not isinstance(error, FileNotFoundError):
                    problems.append(
                        f"{path}: this video cannot be looked at ({error.strerror}); is it a link to nowhere?"
                    )
                continue  # else it vanished between listing and looking: it is not there
            yield FoundFile(path, status.st_size, status.st_mtime_ns)


def _place(found: Discovery, file: FoundFile, fields: dict[str, str]) -> None:
    try:
        key = session_key(fields.get("subject"), fields["session"])
        pieces = [fields[name] for name in ("camera", "recording", "trial") if name in fields]
        recording_name = "_".join(label_for_archive(piece, "recording") for piece in pieces)
    except DlcAssetsError as error:
        found.problems.append(f"{file.path}: {error}")
        return
    session = found.sessions.setdefault(key, FoundSession(key, fields.get("subject"), fields["session"]))
    if (session.subject, session.session) != (fields.get("subject"), fields["session"]):
        message = (
            f'{file.path}: its session "{fields["session"]}" of subject "{fields.get("subject")}" and session '
            f'"{session.session}" of subject "{session.subject}" ({session.files[0].path}) both become {key}. '
            "Rename one of them."
        )
        session.problems.append(message)
        session.refused["*"] = message
        return
    recording = session.recordings.setdefault(recording_name, FoundRecording(recording_name, fields["camera"]))
    part = fields.get("part", "")
    other = recording.parts.get(part)
    if other is None:
        recording.parts[part] = file
    elif other.path != file.path:
        which = f", part {part}" if part else ""
        message = (
            f"{key}: two files make the same recording ({recording_name}{which}): {other.path} and {file.path}. "
            "Move or rename one of them, or ignore it in lab.yaml."
        )
        session.problems.append(message)
        session.refused[recording_name] = message


def _find_metadata(found: Discovery) -> None:
    """Give each session its sidecar: ``<session key>.yaml`` beside its videos, else a session.yaml of a folder of its own."""
    sessions_of_folder: dict[Path, set[str]] = {}
    for session in found.sessions.values():
        for file in session.files:
            sessions_of_folder.setdefault(file.path.parent, set()).add(session.key)
    for session in found.sessions.values():
        folders = sorted({file.path.parent for file in session.files})
        own = [folder / f"{session.key}.yaml" for folder in folders]
        shared = [folder / "session.yaml" for folder in folders]
        candidates = [path for path in own if path.is_file()] or [path for path in shared if path.is_file()]
        if len(candidates) > 1:
            session.problems.append(
                f"{session.key}: several metadata files: {', '.join(map(str, candidates))}. Keep one."
            )
        elif candidates and candidates[0].name == "session.yaml" and len(sessions_of_folder[candidates[0].parent]) > 1:
            session.problems.append(
                f"{candidates[0]}: the sessions {', '.join(sorted(sessions_of_folder[candidates[0].parent]))} share this "
                f"folder, so it cannot be told whose it is. Name it {session.key}.yaml."
            )
        elif candidates:
            session.metadata_file = candidates[0]


def _refuse_key_collisions(found: Discovery) -> None:
    """Two keys that differ in case only are one folder on Windows and macOS: say so."""
    by_folded: dict[str, str] = {}
    for key in sorted(found.sessions):
        other = by_folded.setdefault(key.casefold(), key)
        if other != key:
            message = f"{key} and {other} differ in upper and lower case only: rename one of them."
            found.sessions[key].problems.append(message)
            found.sessions[key].refused["*"] = message
