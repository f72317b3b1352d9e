"""The index of recordings: what the lab's roots held when they were last looked at, and the sessions made of it, in one SQLite file.

A lab has a hundred thousand videos, and its sensor looks every half minute. A look lists every folder and compares a digest of its files'
names, sizes and times with the one of the last look; only folders that differ are read into the database, and only the sessions that have
files there are put together again. Each folder is stored in one transaction, so that a process that is killed loses a moment's work and
never leaves half a folder. A look may be given a time; the next one goes on in the same round.

The index is a cache: removed or damaged, it is made anew. What cannot be made anew is when a file was first seen; then it waits once more
until it has settled.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from dlc_assets.lab.errors import DlcAssetsError
from dlc_assets.lab.files import content_hash
from dlc_assets.lab.keys import label_for_archive, session_key
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.settings import RecordingTemplate
from dlc_assets.recordings.discovery import VIDEO_SUFFIXES, FoundFile, FoundRecording, FoundSession
from dlc_assets.recordings.session_recordings import day_of

_LAYOUT = 1
_COMMIT_SECONDS = 0.5
_BUSY_SECONDS = 60.0
_SIDECAR_SUFFIXES = frozenset({".yaml", ".yml", ".csv", ".tsv", ".txt", ".npy", ".json", ".done"})
_LISTED = 1_000

_TABLES = """
create table if not exists folder (
    id integer primary key, path text not null unique, root text not null, digest text not null, round integer not null
);
create table if not exists file (
    folder integer not null, name text not null, size integer not null, mtime_ns integer not null, first_seen real not null,
    finished integer not null, entry integer not null, kind text not null, session text, subject text, label text, camera text,
    recording text, part text, primary key (folder, name)
) without rowid;
create index if not exists file_of_session on file (session) where session is not null;
create index if not exists odd_file on file (kind) where kind <> 'recording';
create table if not exists sidecar (
    folder integer not null, name text not null, size integer not null, mtime_ns integer not null, primary key (folder, name)
) without rowid;
create table if not exists problem (folder integer not null, text text not null);
create table if not exists session (
    key text primary key, number integer not null, folded text not null, stamp text not null, day text, settled integer not null,
    waiting text not null, gone integer not null, problems text not null
);
create index if not exists session_folded on session (folded);
create index if not exists session_number on session (number);
create index if not exists session_open on session (key) where not settled and not gone;
create index if not exists session_with_problems on session (key) where problems <> '[]';
create table if not exists place (name text primary key, value text not null);
"""


@dataclass(frozen=True)
class Look:
    """What one look through the roots did.

    Attributes
    ----------
    round_done
        Every folder was looked at; False where the time ran out before.
    folders, files
        Folders and videos that were looked at now.
    changed_sessions
        Sessions that are new or whose files have changed.
    warnings
        A sentence for each root or folder that could not be looked at; its sessions stay as they are.
    seconds
        How long it took.
    """

    round_done: bool
    folders: int
    files: int
    changed_sessions: int
    warnings: tuple[str, ...]
    seconds: float


@dataclass
class _Walk:
    """One look under way."""

    round: int
    deadline: float | None
    now: float
    folders: int = 0
    files: int = 0
    changed: set[str] = field(default_factory=set)
    warnings: list[str] = field(default_factory=list)
    committed: float = field(default_factory=time.monotonic)
    links: set[str] = field(default_factory=set)

    @property
    def is_over(self) -> bool:
        return self.deadline is not None and time.monotonic() >= self.deadline


@dataclass(frozen=True)
class _Root:
    """A root folder, and the entries of lab.yaml that say what the paths below it mean, by their number."""

    path: Path
    entries: tuple[tuple[int, RecordingTemplate], ...]

    @property
    def follows_links(self) -> bool:
        return False


class RecordingIndex:
    """The index of a lab's recordings; see the module. Made by `opened`."""

    def __init__(self, lab: Lab, connection: sqlite3.Connection, warnings: Sequence[str]) -> None:
        self.connection = connection
        self._lab = lab
        self._warnings = list(warnings)
        self._roots = _roots_of(lab)
        connection.executescript(_TABLES)
        settings = content_hash([_LAYOUT, [entry.model_dump() for entry in lab.settings.recordings], lab.recording_roots()])
        if self._get("settings") != settings:
            connection.execute("update folder set digest = ''")  # every folder is read again; what was seen when is kept
            self._set("settings", settings)
            self._set("round_done", "1")
            connection.commit()

    @classmethod
    @contextmanager
    def opened(cls, lab: Lab, *, kept: bool = True) -> Iterator[RecordingIndex]:
        """Open the index of *lab*; one that is damaged, or of another layout, is thrown away.

        Parameters
        ----------
        kept
            In the store, for the next look. False: in memory; so it is also where the store cannot be written.
        """
        connection, warnings = _connection(lab, kept)
        with closing(connection):
            yield cls(lab, connection, warnings)

    def look(self, *, seconds: float | None = None, now: float | None = None) -> Look:
        """Look through the roots, for at most about *seconds*; the next look goes on where this one stopped."""
        began = time.monotonic()
        number = int(self._get("round") or 0) + (self._get("round_done") != "0")
        self._set("round", str(number))
        self._set("round_done", "0")
        walk = _Walk(number, None if seconds is None else began + seconds, time.time() if now is None else now)
        done = True
        for root in self._roots:
            if self._has_vanished(root, walk):
                self.connection.execute("update folder set round = ? where root = ?", (number, str(root.path)))
            elif not self._walk(root, root.path, walk):
                done = False
                break
        if done:
            self._forget_folders(walk)
            self._set("round_done", "1")
        self._commit(walk, at_once=True)
        self._settle(walk.now)
        self.connection.commit()
        return Look(
            done, walk.folders, walk.files, len(walk.changed), tuple([*self._warnings, *walk.warnings]), time.monotonic() - began
        )

    def look_at_folders_of(self, keys: Iterable[str], *, now: float | None = None) -> None:
        """Look again at the folders that hold the sessions *keys*, and at no other."""
        walk = _Walk(int(self._get("round") or 0), None, time.time() if now is None else now)
        for key in keys:
            rows = self.connection.execute(
                "select distinct d.path, d.root from file f join folder d on d.id = f.folder where f.session = ?", (key,)
            ).fetchall()
            for path, root_path in rows:
                root = next((root for root in self._roots if str(root.path) == root_path), None)
                if root is not None:
                    self._read_folder(root, Path(path), walk)
        self._commit(walk, at_once=True)

    def session(self, key: str) -> FoundSession | None:
        """Return the session *key* as its files were last seen, None when none of them is there."""
        rows = self._files_of(key)
        return _assemble(key, rows, self._sidecars(rows), self._other_spellings(key)) if rows else None

    def sessions(self, keys: Iterable[str] | None = None) -> Iterator[FoundSession]:
        """Yield the sessions *keys*, or all that are there in the order in which they were first found."""
        if keys is None:
            keys = [key for (key,) in self.connection.execute("select key from session where not gone order by number")]
        for key in keys:
            found = self.session(key)
            if found is not None:
                yield found

    def settled(self) -> list[str]:
        """Return the keys of the sessions whose files are finished and that wait for no camera, in the order first found."""
        rows = self.connection.execute("select key from session where settled and not gone order by number")
        return [key for (key,) in rows]

    def problems(self) -> list[str]:
        """Return a sentence for each file or session that cannot be used as it is."""
        texts = [text for (text,) in self.connection.execute("select text from problem order by folder, text")]
        rows = self.connection.execute(
            "select problems from session where problems <> '[]' and not gone order by key"
        )
        return [*texts, *(problem for (stored,) in rows for problem in json.loads(stored))]

    def loose_problems(self) -> list[str]:
        """Return a sentence for each file that belongs to no session and should not be there as it is."""
        return [text for (text,) in self.connection.execute("select text from problem order by folder, text")]

    def unmatched(self, most: int = _LISTED) -> list[Path]:
        """Return up to *most* videos that fit no template, sorted."""
        rows = self.connection.execute(
            "select d.path, f.name from file f join folder d on d.id = f.folder where f.kind = 'unmatched' "
            "order by d.path, f.name limit ?",
            (most,),
        )
        return [Path(path) / name for path, name in rows]

    def ignored(self) -> dict[str, int]:
        """Return how many videos are ignored, by the template that says so."""
        rows = self.connection.execute("select entry, count(*) from file where kind = 'ignored' group by entry")
        return {self._lab.settings.recordings[entry].template: count for entry, count in rows}

    # --- looking -----------------------------------------------------------------------------------

    def _has_vanished(self, root: _Root, walk: _Walk) -> bool:
        """Say whether *root* does not answer, or is empty though videos were below it: a share that is not mounted now."""
        try:
            with os.scandir(root.path) as entries:
                is_empty = next(iter(entries), None) is None
        except OSError as error:
            walk.warnings.append(
                f"{root.path}: this recording root of lab.yaml is not there (an unmounted disk? {error.strerror}); its sessions "
                "stay as they are."
            )
            return True
        if not is_empty:
            return False
        row = self.connection.execute(
            "select 1 from file f join folder d on d.id = f.folder where d.root = ? limit 1", (str(root.path),)
        ).fetchone()
        if row is not None:
            walk.warnings.append(
                f"{root.path}: this recording root of lab.yaml is empty, though videos were in it (a share that is not mounted?); "
                "its sessions stay as they are."
            )
        return row is not None

    def _walk(self, root: _Root, folder: Path, walk: _Walk) -> bool:
        """Read *folder* and what is below it; return False where the time ran out before the end."""
        waiting = [folder]
        while waiting:
            here = waiting.pop()
            below = self._read_folder(root, here, walk)
            waiting.extend(reversed(below))
            self._commit(walk)
            if walk.is_over and waiting:
                return False
        return True

    def _read_folder(self, root: _Root, folder: Path, walk: _Walk) -> list[Path]:
        """Bring what is stored of *folder* up to date; return the folders below it that are to be looked at."""
        try:
            text = str(folder)
            text.encode()
        except UnicodeEncodeError:
            walk.warnings.append(
                f"{_printable(folder)}: this folder's name is not valid text (UTF-8); what is in it is not seen. Rename it."
            )
            return []
        row = self.connection.execute("select id, digest, round from folder where path = ?", (text,)).fetchone()
        seen_already = row is not None and row[2] == walk.round and row[1] != "" and walk.deadline is not None
        try:
            listed = _list(folder, with_files=not seen_already)
        except OSError as error:
            walk.warnings.append(
                f"{_printable(folder)}: this folder cannot be read ({error.strerror}); its sessions stay as they are."
            )
            self._keep_below(folder, walk)
            return []
        below = [path for path in listed.folders if self._is_entered(root, path, walk)]
        if seen_already:
            return below
        walk.folders += 1
        files = [*listed.files, *(file for link in listed.links if (file := self._linked_file(root, link, walk)) is not None)]
        walk.files += sum(1 for name, _, _ in files if _is_video(name))
        digest = _digest(files)
        if row is None:
            self.connection.execute(
                "insert into folder (path, root, digest, round) values (?, ?, '', ?)", (text, str(root.path), walk.round)
            )
            (number,) = self.connection.execute("select id from folder where path = ?", (text,)).fetchone()
        else:
            number = row[0]
            if row[2] != walk.round:
                self.connection.execute("update folder set round = ? where id = ?", (walk.round, number))
        if row is None or row[1] != digest:
            self._store(number, folder, files, walk)
            self.connection.execute("update folder set digest = ? where id = ?", (digest, number))
        return below

    def _is_entered(self, root: _Root, path: Path, walk: _Walk) -> bool:
        if path == self._lab.layout.store:
            return False
        if not path.is_symlink():
            return True
        target = os.path.realpath(path)
        if target in walk.links or path.parent.resolve().is_relative_to(target):
            return False  # a link that leads back to itself
        walk.links.add(target)
        return self._may_follow(root, path, target, walk)

    def _linked_file(self, root: _Root, link: Path, walk: _Walk) -> tuple[str, int, int] | None:
        """Return name, size and time of the file that *link* leads to, if it may be followed."""
        try:
            status = link.stat()
        except OSError as error:
            if _is_video(link.name):
                walk.warnings.append(
                    f"{_printable(link)}: this video cannot be looked at ({error.strerror}); is it a link to nowhere?"
                )
            return None
        if _is_video(link.name) and not self._may_follow(root, link, os.path.realpath(link), walk):
            return None
        return link.name, status.st_size, status.st_mtime_ns

    def _may_follow(self, root: _Root, link: Path, target: str, walk: _Walk) -> bool:
        if root.follows_links or Path(target).is_relative_to(root.path.resolve()):
            return True
        walk.warnings.append(
            f"{_printable(link)}: this link leads out of the recording root {root.path}, to {target}, and is not followed. If that "
            "is meant, write `follow_links: true` into this entry of lab.yaml's recordings, or make the target a root of its own."
        )
        return False

    def _keep_below(self, folder: Path, walk: _Walk) -> None:
        prefix = f"{folder}{os.sep}"
        self.connection.execute(
            "update folder set round = ? where path = ? or substr(path, 1, ?) = ?",
            (walk.round, str(folder), len(prefix), prefix),
        )

    def _forget_folders(self, walk: _Walk) -> None:
        """Forget the folders that this round did not come by: they are gone, or no root leads to them any more."""
        rows = self.connection.execute("select id, path from folder where round <> ?", (walk.round,)).fetchall()
        for number, path in rows:
            self._store(number, Path(path), [], walk)
            self.connection.execute("delete from folder where id = ?", (number,))

    def _commit(self, walk: _Walk, *, at_once: bool = False) -> None:
        """Put together the sessions that have changed and make it all last, every half second."""
        if at_once or time.monotonic() - walk.committed > _COMMIT_SECONDS:
            self.connection.commit()
            walk.committed = time.monotonic()

    # --- storing -----------------------------------------------------------------------------------

    def _store(self, folder: int, path: Path, files: Sequence[tuple[str, int, int]], walk: _Walk) -> None:
        """Replace what is stored of one folder, and put together the sessions that it concerns."""
        database = self.connection
        known = {
            name: (size, mtime_ns, first_seen, finished)
            for name, size, mtime_ns, first_seen, finished in database.execute(
                "select name, size, mtime_ns, first_seen, finished from file where folder = ?", (folder,)
            )
        }
        concerned = self._sessions_in(folder)
        problems: list[str] = []
        rows = []
        for name, size, mtime_ns in files:
            if not _is_video(name):
                continue
            before = known.get(name)
            same = before is not None and before[:2] == (size, mtime_ns)
            seen, finished = (before[2], before[3]) if same and before is not None else (walk.now, 0)
            said = self._meaning(path, name, problems)
            if said is not None:
                rows.append((folder, name, size, mtime_ns, seen, finished, *said))
        database.execute("delete from file where folder = ?", (folder,))
        database.executemany("insert into file values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
        database.execute("delete from sidecar where folder = ?", (folder,))
        database.executemany(
            "insert into sidecar values (?, ?, ?, ?)",
            [(folder, *file) for file in files if os.path.splitext(file[0])[1].lower() in _SIDECAR_SUFFIXES],  # noqa: PTH122
        )
        database.execute("delete from problem where folder = ?", (folder,))
        database.executemany("insert into problem values (?, ?)", [(folder, text) for text in problems])
        for key in sorted(concerned | self._sessions_in(folder)):
            self._put_together(key, walk)

    def _meaning(self, folder: Path, name: str, problems: list[str]) -> tuple[int, str, str | None] | None:
        """Return what the templates say of one video: entry, kind, then session key and fields; None where its name is refused."""
        path = folder / name
        ignored: int | None = None
        for root in self._roots:
            if not path.is_relative_to(root.path):
                continue
            relative = path.relative_to(root.path).as_posix()
            for number, entry in root.entries:
                if entry.ignores(relative):
                    ignored = number
                    continue
                fields = entry.match(relative)
                if fields is None:
                    continue
                try:
                    name.encode()
                    key = session_key(fields.get("subject"), fields["session"])
                    pieces = [fields[piece] for piece in ("camera", "recording", "trial") if piece in fields]
                    recording = "_".join(label_for_archive(piece, "recording") for piece in pieces)
                except DlcAssetsError as error:
                    problems.append(f"{_printable(path)}: {error}")
                    return None
                except UnicodeEncodeError:
                    problems.append(f"{_printable(path)}: this name is not valid text (UTF-8). Rename the file.")
                    return None
                values = (key, fields.get("subject"), fields["session"], fields["camera"], recording, fields.get("part", ""))
                return (number, "recording", *values)
        try:
            name.encode()
        except UnicodeEncodeError:
            problems.append(f"{_printable(path)}: this name is not valid text (UTF-8). Rename the file.")
            return None
        nothing = (None,) * 6
        return (-1, "unmatched", *nothing) if ignored is None else (ignored, "ignored", *nothing)

    def _sessions_in(self, folder: int) -> set[str]:
        rows = self.connection.execute("select distinct session from file where folder = ? and session is not null", (folder,))
        return {key for (key,) in rows}

    def _put_together(self, key: str, walk: _Walk) -> None:
        """Store what the session *key* is made of now, and those whose keys differ from it in case only."""
        folded = key.casefold()
        others = [
            other
            for (other,) in self.connection.execute(
                "select key from session where folded = ? and key <> ? and not gone", (folded, key)
            )
        ]
        self._restamp(key, folded, walk)
        for other in others:
            self._restamp(other, folded, walk)

    def _restamp(self, key: str, folded: str, walk: _Walk) -> None:
        database = self.connection
        row = database.execute("select stamp, gone from session where key = ?", (key,)).fetchone()
        found = self.session(key)
        if found is None:
            if row is not None and not row[1]:
                database.execute("update session set gone = 1, settled = 0, waiting = '', problems = '[]' where key = ?", (key,))
                walk.changed.add(key)
            return
        stamp = _stamp(found)
        if row is not None and row[0] == stamp and not row[1]:
            return
        walk.changed.add(key)
        day = day_of(found, self._lab).isoformat()
        problems = json.dumps(found.problems, ensure_ascii=False)
        if row is None:
            (number,) = database.execute("select coalesce(max(number), 0) + 1 from session").fetchone()
            database.execute(
                "insert into session values (?, ?, ?, ?, ?, 0, '', 0, ?)", (key, number, folded, stamp, day, problems)
            )
        else:
            database.execute(
                "update session set stamp = ?, day = ?, settled = 0, waiting = '', gone = 0, problems = ? where key = ?",
                (stamp, day, problems, key),
            )

    def _files_of(self, key: str) -> list[FileRow]:
        rows = self.connection.execute(
            "select f.folder, d.path, f.name, f.size, f.mtime_ns, f.entry, f.subject, f.label, f.camera, f.recording, f.part "
            "from file f join folder d on d.id = f.folder where f.session = ? order by f.entry, d.path, f.name",
            (key,),
        )
        return [FileRow(*row) for row in rows]

    def _sidecars(self, rows: Sequence[FileRow]) -> Callable[[int], Sidecars]:
        def of(folder: int) -> Sidecars:
            files = self.connection.execute("select name, size, mtime_ns from sidecar where folder = ?", (folder,)).fetchall()
            return Sidecars(sorted(files), frozenset(self._sessions_in(folder)))

        return of

    def _other_spellings(self, key: str) -> list[str]:
        """Return the keys before *key* that differ from it in upper and lower case only."""
        rows = self.connection.execute(
            "select key from session where folded = ? and key < ? and not gone order by key", (key.casefold(), key)
        )
        return [other for (other,) in rows]

    def _settle(self, now: float) -> None:
        needed = self._lab.settings.analyze.settle_seconds
        rows = self.connection.execute(
            "select s.key, min(:now - max(f.first_seen, case when f.mtime_ns / 1e9 <= :now then f.mtime_ns / 1e9 else 0 end)) "
            "from session s join file f on f.session = s.key where not s.settled and not s.gone group by s.key", {"now": now}
        ).fetchall()
        for key, quiet in rows:
            if quiet >= needed:
                self.connection.execute("update session set settled = 1, waiting = '' where key = ?", (key,))
            else:
                self.connection.execute("update session set waiting = ? where key = ?", (f"a file of it changed less than {needed:g} s ago", key))

    def _get(self, name: str) -> str | None:
        row = self.connection.execute("select value from place where name = ?", (name,)).fetchone()
        return row[0] if row is not None else None

    def _set(self, name: str, value: str) -> None:
        self.connection.execute("insert or replace into place values (?, ?)", (name, value))


@dataclass
class _Listed:
    folders: list[Path] = field(default_factory=list)
    files: list[tuple[str, int, int]] = field(default_factory=list)
    links: list[Path] = field(default_factory=list)


@dataclass
class FileRow:
    folder: int
    path: str
    name: str
    size: int
    mtime_ns: int
    entry: int
    subject: str | None
    label: str
    camera: str
    recording: str
    part: str


@dataclass
class Sidecars:
    files: list[tuple[str, int, int]]
    sessions: frozenset[str]


def _assemble(key, rows, sidecars, others):
    first = rows[0]
    session = FoundSession(key, first.subject, first.label)
    for row in rows:
        file = FoundFile(Path(row.path) / row.name, row.size, row.mtime_ns)
        if (row.subject, row.label) != (session.subject, session.session):
            message = (
                f'{file.path}: its session "{row.label}" of subject "{row.subject}" and session '
                f'"{session.session}" of subject "{session.subject}" ({session.files[0].path}) both become {key}. '
                "Rename one of them."
            )
            session.problems.append(message)
            session.refused["*"] = message
            continue
        recording = session.recordings.setdefault(row.recording, FoundRecording(row.recording, row.camera))
        other = recording.parts.get(row.part)
        if other is None:
            recording.parts[row.part] = file
        else:
            which = f", part {row.part}" if row.part else ""
            message = (
                f"{key}: two files make the same recording ({row.recording}{which}): {other.path} and {file.path}. "
                "Move or rename one of them, or ignore it in lab.yaml."
            )
            session.problems.append(message)
            session.refused[row.recording] = message
    folders = {row.folder: row.path for row in rows}
    own, shared = [], []
    for folder, path in folders.items():
        cars = sidecars(folder)
        names = {name for name, _, _ in cars.files}
        if f"{key}.yaml" in names: own.append((Path(path) / f"{key}.yaml", cars))
        if "session.yaml" in names: shared.append((Path(path) / "session.yaml", cars))
    candidates = own or shared
    if len(candidates) > 1:
        session.problems.append(f"{key}: several metadata files: {', '.join(str(c) for c, _ in candidates)}. Keep one.")
    elif candidates and candidates[0][0].name == "session.yaml" and len(candidates[0][1].sessions) > 1:
        session.problems.append(
            f"{candidates[0][0]}: the sessions {', '.join(sorted(candidates[0][1].sessions))} share this "
            f"folder, so it cannot be told whose it is. Name it {key}.yaml."
        )
    elif candidates:
        session.metadata_file = candidates[0][0]
    for other in others:
        message = f"{other} and {key} differ in upper and lower case only: rename one of them."
        session.problems.append(message)
        session.refused["*"] = message
    return session


def _stamp(found):
    meta = found.metadata_file and found.metadata_file.stat()
    return content_hash([[f.stamp for f in found.files], str(found.metadata_file), meta and [meta.st_size, meta.st_mtime_ns], found.refused, found.problems])[:16]


def _list(folder, *, with_files):
    out = _Listed()
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda e: e.name):
            if entry.name.startswith("."):
                continue
            if entry.is_symlink():
                (out.folders if entry.is_dir() else out.links).append(Path(entry.path))
            elif entry.is_dir():
                out.folders.append(Path(entry.path))
            elif with_files:
                st = entry.stat()
                out.files.append((entry.name, st.st_size, st.st_mtime_ns))
    return out


def _digest(files):
    return hashlib.blake2b(repr(sorted(files)).encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()


def _is_video(name):
    return os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES


def _printable(path):
    return str(path).encode("utf-8", "replace").decode()


def _roots_of(lab):
    by = {}
    for number, (entry, root) in enumerate(zip(lab.settings.recordings, lab.recording_roots(), strict=True)):
        by.setdefault(root, []).append((number, entry))
    return [_Root(path, tuple(entries)) for path, entries in by.items()]


def _connection(lab, kept):
    if kept:
        lab.layout.work.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(lab.layout.index_file, timeout=_BUSY_SECONDS)
        connection.execute("pragma journal_mode = wal")
        connection.execute("pragma synchronous = normal")
        return connection, []
    return sqlite3.connect(":memory:"), []
