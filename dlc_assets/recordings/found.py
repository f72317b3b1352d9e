"""What was found of recordings: files, the recordings that they make, and the sessions that those belong to."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from dlc_assets.lab.keys import natural
from dlc_assets.lab.session_metadata import SessionMetadata, read_session_metadata
from dlc_assets.lab.sessions_table import SessionRow, merged

VIDEO_SUFFIXES = frozenset(
    {".mp4", ".avi", ".mov", ".mkv", ".m4v", ".mpg", ".mpeg", ".webm", ".wmv", ".mjpeg", ".mjpg"}
)


@dataclass(frozen=True)
class FoundFile:
    """One video file as the file system shows it.

    `finished` is what the lab's own signals (`recordings[].finished`) say of it: True that it is whole, False that it is not
    yet, None that only time can tell.
    """

    path: Path
    size: int
    mtime_ns: int
    finished: bool | None = None

    @property
    def stamp(self) -> str:
        """What tells a changed file from the same one, without reading it."""
        return f"{self.path}|{self.size}|{self.mtime_ns}"


@dataclass(frozen=True)
class KnownFile:
    """One video file as the index keeps it: where it is, whose it is, and since when it is as it is.

    `first_seen` and `arrived` are unix times in s. `arrived` is when it came: of what was there when its root was first looked through,
    its own time of change. `ending` is what was found of the container's end: None where nobody looked, ``""`` where it is
    there, else a reason. `real` is the path of the file that a link leads to, else None.
    """

    folder: int
    folder_path: str
    folder_real: str
    folder_links: int
    name: str
    size: int
    mtime_ns: int
    first_seen: float
    arrived: float
    real: str | None
    place: int
    session_key: str
    subject: str | None
    session: str
    camera: str
    recording: str
    part: str
    done: bool
    ending: str | None

    @property
    def path(self) -> Path:
        return Path(self.folder_path, self.name)

    @property
    def identity(self) -> str:
        """The path of the file itself, without links."""
        return self.real or f"{self.folder_real.rstrip('/')}/{self.name}"

    @property
    def links(self) -> int:
        """How many symbolic links are passed on the way to it."""
        return self.folder_links + (self.real is not None)

    @property
    def order(self) -> tuple[int, list[str]]:
        """What files are sorted by: the template's place in lab.yaml, then folder by folder."""
        return self.place, f"{self.folder_path}/{self.name}".split("/")


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
    """The recordings that belong to one session, what is wrong with them, and where more is stated of it; `row` is that of sessions.csv."""

    key: str
    subject: str | None
    session: str
    recordings: dict[str, FoundRecording] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    metadata_file: Path | None = None
    row: SessionRow | None = None

    @property
    def files(self) -> list[FoundFile]:
        return [file for recording in self.recordings.values() for file in recording.files]

    def metadata(self) -> SessionMetadata:
        """Read what is stated of the session: in its session.yaml, and beneath that in sessions.csv; empty where nothing is.

        Raises
        ------
        SettingsError
            The session's session.yaml, or its row of sessions.csv, is wrong.
        """
        stated = self.sidecar()
        return merged(stated, self.beneath(stated))

    def beneath(self, stated: SessionMetadata) -> SessionMetadata:
        """Return what sessions.csv says of the session beyond *stated*, its session.yaml; errors as `SessionRow.beneath`."""
        return (
            SessionMetadata() if self.row is None else self.row.beneath(stated, subject_known=self.subject is not None)
        )

    def sidecar(self) -> SessionMetadata:
        """Read the session's session.yaml alone; an empty one where there is none."""
        return SessionMetadata() if self.metadata_file is None else read_session_metadata(self.metadata_file)
