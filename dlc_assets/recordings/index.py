"""What the recording roots held when they were last looked at, and the sessions made of it, kept so that a look reads only what changed.

A look goes through all folders below the roots, computes a digest of each one's entries, and touches only what belongs to folders whose
digest is another one than last time. The looks that it takes to see every folder once are a *round*. What vanished is known when a
round is done, and so is whether a session is whole. All of it can be made anew from the disks at any time: it is a cache.
"""

from __future__ import annotations

import json
import math
import os
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from dlc_assets.lab.errors import BusyError, DlcAssetsError
from dlc_assets.lab.files import content_hash, saying_when_full
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.locks import hold
from dlc_assets.lab.settings import composed
from dlc_assets.recordings.assembly import SHARED_METADATA, assemble
from dlc_assets.recordings.found import VIDEO_SUFFIXES, FoundSession, KnownFile
from dlc_assets.recordings.index_file import connect, is_damage, throw_away, transaction
from dlc_assets.recordings.listing import Entry, Listing, list_folder
from dlc_assets.recordings.placing import (
    Covering,
    Placed,
    Root,
    covering,
    ignoring,
    is_below,
    place_file,
    roots_of,
    shown,
    why_not_text,
)
from dlc_assets.recordings.settling import waiting_of

_FOLDERS_AT_ONCE = 256
_KEYS_AT_ONCE = 400
_ENTRIES_AT_ONCE = 4_000  # read, and not yet written
_WRITE_EVERY = 0.5  # s
_FOR_SETTLING = 0.25  # of a look's time is kept for files that must be opened
_MOST_LINKS = 8  # to folders, one behind the other
_UNFINISHED_ROUND = "the look through the recording folders is not done yet"
_FILE_COLUMNS = (
    "f.folder, d.path, d.real, f.name, f.size, f.mtime_ns, f.first_seen, f.arrived, f.real, f.place, f.session, f.subject, "
    "f.session_name, f.camera, f.recording, f.part, f.done, f.ending"
)


@dataclass(frozen=True)
class Look:
    """What one look did: whether every folder has been seen in this round, what was gone through, and what a person should know."""

    round_done: bool
    folders: int
    files: int
    changed_sessions: int
    warnings: tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class _Folder:
    """A folder as the index keeps it; `links` are symbolic links to folders on the way to it, `real` its path without them."""

    id: int
    path: str
    real: str
    links: int
    digest: bytes | None
    problem: str


class RecordingIndex:
    """What the recording roots held when they were last looked at, and the sessions made of it; an SQLite file (`layout.index_file`).

    Statements on `connection` are transactions of their own unless ``BEGIN`` says otherwise. `look` replaces the connection where it
    finds the file damaged.
    """

    def __init__(self, lab: Lab, path: Path | None, *, dated: bool = True) -> None:
        self.lab = lab
        self.connection, notice = connect(path)
        self._path = path
        self._dated = dated
        self._roots = roots_of(lab)
        self._templates = lab.settings.recordings
        self._store = str(lab.layout.store)
        self._warnings: dict[str, None] = {notice: None} if notice else {}
        self._vanished: dict[str, str] = {}  # path of a root that does not answer -> the sentence that says so
        self._changed: set[str] = set()
        self._check_settings()

    @classmethod
    @contextmanager
    def opened(cls, lab: Lab, *, kept: bool = True) -> Iterator[RecordingIndex]:
        """Open the lab's index; with *kept* False, an empty one in memory that leaves nothing behind."""
        with saying_when_full(lab.layout.index_file):
            index = cls(lab, lab.layout.index_file if kept else None)
        try:
            yield index
        finally:
            index.connection.close()

    @classmethod
    @contextmanager
    def in_memory(cls, lab: Lab) -> Iterator[RecordingIndex]:
        """Give an empty index in memory that reads no metadata file: its sessions have no day."""
        index = cls(lab, None, dated=False)
        try:
            yield index
        finally:
            index.connection.close()

    # --- looking ----------------------------------------------------------------------------------

    def look(self, *, seconds: float | None = None, now: float | None = None, settle: bool = True) -> Look:
        """Go through the roots, or through the next part of them where *seconds* run out; a round that was begun is gone on with.

        Parameters
        ----------
        seconds
            How long the look may take; None: as long as it takes. One folder at least is read, and one file opened.
        now
            The unix time, s.
        settle
            Whether to look which sessions have settled since, too (which may open files).

        Raises
        ------
        EnvironmentProblem
            The disk of the store is full.
        """
        started = time.monotonic()
        now = time.time() if now is None else now
        try:
            with self._alone(seconds), self._saying_when_full():
                try:
                    return self._look(started, seconds, now, settle)
                except sqlite3.DatabaseError as error:
                    if self._path is None or not is_damage(error):
                        raise
                    self._begin_anew(f"{self._path} is damaged ({error}): it is made anew, and nothing is lost.")
                    return self._look(started, seconds, now, settle)
        except BusyError as error:
            return Look(False, 0, 0, 0, (str(error),), time.monotonic() - started)

    def _alone(self, seconds: float | None) -> Any:
        if self._path is None:
            return nullcontext()
        return hold(self.lab.layout.lock("recordings", "look"), "looking for recordings", timeout=seconds)

    def _saying_when_full(self) -> Any:
        return nullcontext() if self._path is None else saying_when_full(self._path)

    def _begin_anew(self, notice: str) -> None:
        assert self._path is not None
        self.connection.close()
        throw_away(self._path)
        self.connection, _ = connect(self._path)
        self._warnings[notice] = None
        self._check_settings()

    def _look(self, started: float, seconds: float | None, now: float, settle: bool) -> Look:
        self._changed = set()
        self._begin_round()
        self._check_roots()
        share = 1 - _FOR_SETTLING if settle else 1
        folders, files, done = self._walk(math.inf if seconds is None else started + seconds * share, now)
        if done:
            self._end_round(now)
        if settle:
            self._settle(math.inf if seconds is None else started + seconds, now)
        self._set("vanished", json.dumps(list(self._vanished.values())))
        warnings = [*self._warnings, *self._vanished.values(), *self._folder_problems()]
        self._warnings = {}
        return Look(done, folders, files, len(self._changed), tuple(warnings), time.monotonic() - started)

    def _walk(self, until: float, now: float) -> tuple[int, int, bool]:
        """Read the folders that this round has not seen, until *until* (monotonic, s): their number, their entries', and if all are."""
        folders = files = 0
        batch = _Batch(self, now)
        after = ""
        while True:
            chunk = self._unseen(after)
            if not chunk:
                batch.write()
                if not after:
                    return folders, files, True
                after = ""  # folders that were found on the way, and lie before where they were found
                continue
            for folder in chunk:
                if folders and time.monotonic() >= until:
                    batch.write()
                    return folders, files, False
                folders += 1
                files += batch.read(folder)
                after = folder.path

    def _unseen(self, after: str) -> list[_Folder]:
        rows = self.connection.execute(
            "SELECT id, path, real, links, digest, problem FROM folder LEFT JOIN seen ON seen.folder = folder.id "
            f"WHERE seen.folder IS NULL AND path > ? ORDER BY path LIMIT {_FOLDERS_AT_ONCE}",
            (after,),
        )
        return [_Folder(*row) for row in rows]

    def _begin_round(self) -> None:
        """Begin a round unless one is under way, and see that each root is among the folders."""
        if self._get("round", 0) == self._get("done", 0):
            with self._transaction():
                self.connection.execute("DELETE FROM seen")
                self._set("round", self._get("round", 0) + 1)
        for root in self._roots:
            self._add_folder(root.path, None, root.real, 0)

    def _add_folder(self, path: str, parent: int | None, real: str, links: int) -> None:
        """Add a folder that is to be read, or say of one that is there where it is found."""
        self.connection.execute(
            "INSERT INTO folder(path, parent, real, links) VALUES (?, ?, ?, ?) ON CONFLICT(path) DO UPDATE SET "
            "parent = COALESCE(excluded.parent, parent) WHERE parent IS NOT COALESCE(excluded.parent, parent)",
            (path, parent, real, links),
        )

    def _check_roots(self) -> None:
        """Learn which roots do not answer. Where one does not, nothing of what is known below it changes."""
        self._vanished = {}
        for root in self._roots:
            if root.path not in self._vanished and (why := self._why_vanished(root)):
                self._vanished[root.path] = why

    def _why_vanished(self, root: Root) -> str:
        try:
            with os.scandir(root.path) as entries:
                if any(not entry.name.startswith(".") for entry in entries):
                    return ""
        except (FileNotFoundError, NotADirectoryError):
            return f"{root.path}: this recording root of lab.yaml is not there (an unmounted disk?); its sessions stay as they are."
        except OSError as error:
            return f"{root.path}: this recording root of lab.yaml does not answer ({error.strerror}); its sessions stay as they are."
        if self._has_videos_below(root.path):
            return (
                f"{root.path}: this recording root of lab.yaml has become empty (an unmounted disk?); its sessions stay as they "
                "are. If its videos are gone for good, take it out of lab.yaml."
            )
        return ""

    def _has_videos_below(self, path: str) -> bool:
        inside = path.rstrip("/")
        found = self.connection.execute(
            "SELECT 1 FROM folder JOIN file ON file.folder = folder.id "
            "WHERE (path = ? OR (path > ? AND path < ?)) AND file.session IS NOT NULL LIMIT 1",
            (path, f"{inside}/", f"{inside}0"),  # "0" follows "/"
        )
        return found.fetchone() is not None

    def _is_under_vanished(self, path: str) -> bool:
        return any(is_below(path, root) for root in self._vanished)

    def _end_round(self, now: float) -> None:
        """Forget the folders that this round missed, unless their root does not answer, and say that the round is done."""
        self._check_roots()
        missing = [
            (folder, path)
            for folder, path in self.connection.execute(
                "SELECT id, path FROM seen JOIN folder ON folder.id = seen.folder WHERE missing = 1 ORDER BY path"
            )
            if not self._is_under_vanished(path)
        ]
        remaining = iter([folder for folder, _ in missing])
        while some := list(islice(remaining, _FOLDERS_AT_ONCE)):
            with self._transaction():
                for folder in some:
                    self._forget_folder(folder)
        while some := [key for (key,) in self.connection.execute(f"SELECT session FROM bereft LIMIT {_KEYS_AT_ONCE}")]:
            with self._transaction():
                self._refresh(some, now)
                self.connection.executemany("DELETE FROM bereft WHERE session = ?", ((key,) for key in some))
        with self._transaction():
            self.connection.execute("DELETE FROM seen")
            self.connection.executemany(
                "INSERT OR IGNORE INTO root(path) VALUES (?)",
                [(root.path,) for root in self._roots if root.path not in self._vanished],
            )
            self._set("done", self._get("round", 0))
            self._set("done_at", now)

    def _forget_folder(self, folder: int) -> None:
        """Take a folder and its files out; the sessions that they belonged to are seen to when the round is done."""
        keys = {
            key for (key,) in self.connection.execute("SELECT session FROM file WHERE folder = ?", (folder,)) if key
        }
        if self._aliased():
            keys |= self._sharing_files(self._files("f.folder = ?", (folder,)))
        self.connection.executemany("INSERT OR IGNORE INTO bereft(session) VALUES (?)", ((key,) for key in keys))
        for table in ("file", "metadata", "refused"):
            self.connection.execute(f"DELETE FROM {table} WHERE folder = ?", (folder,))
        self.connection.execute("DELETE FROM folder WHERE id = ?", (folder,))
        self.connection.execute("DELETE FROM seen WHERE folder = ?", (folder,))

    def looked_at_again(self, keys: Sequence[str]) -> dict[str, FoundSession] | None:
        """Return the sessions *keys* as they are now, from a fresh look at the folders that are known to have to do with them.

        None where this cannot be told from those alone: a session is not known or has gone, a folder is not there or cannot be read,
        or files are found by several paths.
        """
        if self._aliased():
            return None
        folders: dict[int, _Folder] = {}
        for some in _chunks(sorted(self._with_twins(set(keys)))):
            rows = self.connection.execute(
                "SELECT DISTINCT d.id, d.path, d.real, d.links FROM file AS f JOIN folder AS d ON d.id = f.folder "
                f"WHERE f.session IN ({', '.join('?' * len(some))})",
                some,
            )
            folders.update((row[0], _Folder(*row, None, "")) for row in rows)
        with RecordingIndex.in_memory(self.lab) as fresh:
            for folder in folders.values():
                try:
                    listing = list_folder(folder.path)
                except OSError:
                    return None
                fresh._add_read(folder, listing)
            fresh._refresh(keys, 0.0)
            found = {session.key: session for session in fresh.sessions(keys)}
        return found if len(found) == len(keys) else None

    def _add_read(self, folder: _Folder, listing: Listing) -> None:
        self._add_folder(folder.path, None, folder.real, folder.links)
        (number,) = self.connection.execute("SELECT id FROM folder WHERE path = ?", (folder.path,)).fetchone()
        self._refresh(self._apply(replace(folder, id=number), listing, 0.0), 0.0)

    # --- reading one folder -----------------------------------------------------------------------

    def _apply(self, folder: _Folder, listing: Listing, now: float) -> set[str]:
        """Bring what is kept of *folder* up to *listing*; return the keys of the sessions that this may concern."""
        covers = [cover for cover in covering(self._roots, folder.path) if cover.root.allows(folder.real)]
        entries, reasons = self._usable(folder, listing, covers)
        self._update_subfolders(folder, [entry for entry in entries if entry.kind == "folder"], covers, reasons)
        files = [entry for entry in entries if entry.kind == "file"]
        before = self._sessions_of(folder.id)
        touched, ignored = self._update_files(folder, files, covers, reasons, now)
        touched |= self._update_metadata(folder, files, before)
        touched |= self._named_and_changed(folder.path, listing)
        self.connection.execute("DELETE FROM refused WHERE folder = ?", (folder.id,))
        self.connection.executemany(
            "INSERT INTO refused(folder, name, reason) VALUES (?, ?, ?)",
            ((folder.id, name, reason) for name, reason in reasons.items()),
        )
        self.connection.execute(
            "UPDATE folder SET digest = ?, problem = '', ignored = ? WHERE id = ?",
            (listing.digest, json.dumps(ignored), folder.id),
        )
        self._warnings.update(dict.fromkeys(reasons.values()))
        return touched

    def _usable(
        self, folder: _Folder, listing: Listing, covers: Sequence[Covering]
    ) -> tuple[list[Entry], dict[str, str]]:
        """Return the entries that can be taken, and the reasons against others that a person would expect to be."""
        usable: list[Entry] = []
        reasons: dict[str, str] = {}
        for entry in listing.entries():
            counts = entry.kind == "folder" or _is_video(entry.name)
            place = f"{folder.path}/{entry.name}"
            if why := why_not_text(entry.name):
                if counts:
                    reasons[shown(entry.name)] = f"{shown(place)}: {why}."
            elif entry.kind == "lost":
                if counts and not any(ignoring(list(covers), entry.name)):
                    reasons[entry.name] = (
                        f"{shown(place)}: this video cannot be looked at ({os.strerror(entry.size)}); is it a link to nowhere?"
                    )
            elif entry.link and not self._may_follow(place, covers):
                if counts:
                    reasons[entry.name] = (
                        f"{shown(place)}: this link leads out of the recording root (to {shown(os.path.realpath(place))}), so "
                        "it is not followed. If it should be, state `follow_links: true` in that entry of lab.yaml's recordings."
                    )
            else:
                usable.append(entry)
        return usable, reasons

    def _may_follow(self, link: str, covers: Sequence[Covering]) -> bool:
        real = os.path.realpath(link)
        return any(cover.root.allows(real) for cover in covers)

    def _update_subfolders(
        self, folder: _Folder, entries: Sequence[Entry], covers: Sequence[Covering], reasons: dict[str, str]
    ) -> None:
        known = {
            path: (child, real)
            for child, path, real in self.connection.execute(
                "SELECT id, path, real FROM folder WHERE parent = ?", (folder.id,)
            )
        }
        for entry in entries:
            path = f"{folder.path.rstrip('/')}/{entry.name}"
            if path == self._store or not covers:
                continue
            real, links = f"{folder.real.rstrip('/')}/{entry.name}", folder.links
            if entry.link:
                real, links = os.path.realpath(path), links + 1
                if links > _MOST_LINKS or self._leads_back(folder, real):
                    continue
            child = known.pop(path, None)
            if child is not None and child[1] != real:
                self._forget_tree(child[0])  # a link that leads elsewhere now
                child = None
            if child is None:
                self._add_folder(path, folder.id, real, links)
        for child_id, _ in known.values():
            self._mark_missing(child_id)

    def _leads_back(self, folder: _Folder, real: str) -> bool:
        """Say whether a link in *folder* to *real* would show what the way to it has passed already."""
        at: int | None = folder.id
        while at is not None:
            passed, at = self.connection.execute("SELECT real, parent FROM folder WHERE id = ?", (at,)).fetchone()
            if is_below(passed, real):
                return True
        return False

    def _tree(self, folder: int) -> list[int]:
        rows = self.connection.execute(
            "WITH RECURSIVE below(id) AS (VALUES (?) UNION SELECT folder.id FROM folder JOIN below ON folder.parent = below.id) "
            "SELECT id FROM below",
            (folder,),
        )
        return [child for (child,) in rows]

    def _mark_missing(self, folder: int) -> None:
        rows = ((child,) for child in self._tree(folder))
        self.connection.executemany("INSERT OR REPLACE INTO seen(folder, missing) VALUES (?, 1)", rows)

    def _forget_tree(self, folder: int) -> None:
        for child in self._tree(folder):
            self._forget_folder(child)

    def _update_files(
        self,
        folder: _Folder,
        entries: Sequence[Entry],
        covers: list[Covering],
        reasons: dict[str, str],
        now: float,
    ) -> tuple[set[str], dict[str, int]]:
        """Bring the files of *folder* up to date; return the keys of sessions concerned, and how many videos each template ignores."""
        known = {
            row[0]: row
            for row in self.connection.execute(
                "SELECT name, size, mtime_ns, first_seen, arrived, real, session, done, ending FROM file WHERE folder = ?",
                (folder.id,),
            )
        }
        names = {entry.name for entry in entries}
        archive = not self._were_looked_through(covers)
        ignored: Counter[str] = Counter()
        touched: set[str] = set()
        changed: list[str] = []
        rows: list[tuple[Any, ...]] = []
        for entry in entries:
            if not _is_video(entry.name):
                continue
            ignoring_it = [root.template.template for root in ignoring(covers, entry.name)]
            ignored.update(ignoring_it)
            real = os.path.realpath(f"{folder.path}/{entry.name}") if entry.link else None
            allowed = [cover for cover in covers if real is None or cover.root.allows(real)]
            try:
                placed = place_file(allowed, entry.name)
            except DlcAssetsError as error:
                reasons[entry.name] = f"{shown(f'{folder.path}/{entry.name}')}: {error}"
                continue
            if placed is None and ignoring_it:
                continue
            done = _is_done(entry.name, names)
            old = known.pop(entry.name, None)
            same = old is not None and old[1:3] == (entry.size, entry.mtime_ns)
            key = None if placed is None else placed.session_key
            if old is not None and same and folder.digest is not None and old[5:8] == (real, key, done):
                continue
            first_seen = old[3] if old is not None and same else now
            arrived = old[4] if old is not None and same else min(entry.mtime_ns / 1e9, now) if archive else now
            ending = old[8] if old is not None and same else None
            rows.append(_file_row(folder.id, entry, first_seen, arrived, real, placed, done, ending))
            changed.append(entry.name)
            touched |= {one for one in (key, old[6] if old is not None else None) if one is not None}
        aliased = self._aliased() or any(row[6] is not None for row in rows)
        if aliased:
            touched |= self._sharing_files(self._files_named(folder.id, [*changed, *known]))
        touched |= {row[6] for row in known.values() if row[6] is not None}
        self.connection.executemany(
            "DELETE FROM file WHERE folder = ? AND name = ?", ((folder.id, name) for name in known)
        )
        self.connection.executemany(f"INSERT OR REPLACE INTO file VALUES ({', '.join('?' * 16)})", rows)
        if aliased:
            touched |= self._sharing_files(self._files_named(folder.id, changed))
        return touched, dict(ignored)

    def _were_looked_through(self, covers: Sequence[Covering]) -> bool:
        known = {path for (path,) in self.connection.execute("SELECT path FROM root")}
        return any(cover.root.path in known for cover in covers)

    def _update_metadata(self, folder: _Folder, entries: Sequence[Entry], before: int) -> set[str]:
        known = {
            row[0]: row[1:]
            for row in self.connection.execute(
                "SELECT session, name, size, mtime_ns FROM metadata WHERE folder = ?", (folder.id,)
            )
        }
        there: dict[str, tuple[str, int, int]] = {}
        for entry in entries:
            key = _metadata_of(entry.name)
            if key is not None:
                there.setdefault(key, (entry.name, entry.size, entry.mtime_ns))
        touched = {key for key in {*known, *there} if known.get(key) != there.get(key)}
        self.connection.executemany(
            "DELETE FROM metadata WHERE folder = ? AND session = ?", ((folder.id, key) for key in touched - set(there))
        )
        self.connection.executemany(
            "INSERT OR REPLACE INTO metadata(folder, session, name, size, mtime_ns) VALUES (?, ?, ?, ?, ?)",
            ((folder.id, key, *there[key]) for key in touched & set(there)),
        )
        after = self._sessions_of(folder.id)
        # Whose a session.yaml is depends on whether its folder is one session's.
        if "" in touched or ("" in there and (before <= 1) != (after <= 1)):
            rows = self.connection.execute(
                "SELECT DISTINCT session FROM file WHERE folder = ? AND session IS NOT NULL", (folder.id,)
            )
            touched |= {key for (key,) in rows}
        return touched - {""}

    def _sessions_of(self, folder: int) -> int:
        """Return how many sessions have videos in *folder*: 0, 1 or 2 for more."""
        rows = self.connection.execute(
            "SELECT DISTINCT session FROM file WHERE folder = ? AND session IS NOT NULL LIMIT 2", (folder,)
        )
        return len(rows.fetchall())

    def _named_and_changed(self, folder: str, listing: Listing) -> set[str]:
        """Return the sessions whose metadata names a file of *folder* that is another one now."""
        named = self.connection.execute("SELECT name, session, stamp FROM named WHERE folder = ?", (folder,)).fetchall()
        if not named:
            return set()
        stamps = {entry.name: f"{entry.size}|{entry.mtime_ns}" for entry in listing.entries() if entry.kind == "file"}
        return {session for name, session, stamp in named if stamps.get(name, "") != stamp}

    # --- one file by several paths ----------------------------------------------------------------

    def _aliased(self) -> bool:
        """Say whether one file may be found by several paths: by links, or by roots that are links to one another."""
        if any(
            is_below(one.real, other.real) and not is_below(one.path, other.path)
            for one in self._roots
            for other in self._roots
        ):
            return True
        linked = self.connection.execute(
            "SELECT EXISTS (SELECT 1 FROM folder WHERE links > 0) OR EXISTS (SELECT 1 FROM file WHERE real IS NOT NULL)"
        )
        return bool(linked.fetchone()[0])

    def _paths_to(self, identity: str) -> list[KnownFile]:
        """Return the ways to the file *identity* that are somebody's, the best first: its own path, then by template and name."""
        folder, name = os.path.split(identity)
        files = [
            *self._files("d.real = ? AND f.name = ? AND f.real IS NULL AND f.session IS NOT NULL", (folder, name)),
            *self._files("f.real = ? AND f.session IS NOT NULL", (identity,)),
        ]
        return sorted(files, key=lambda file: (str(file.path) != identity, file.order))

    def _sharing_files(self, files: Iterable[KnownFile]) -> set[str]:
        """Return the keys of all sessions that have one of *files* by some path."""
        return {other.session_key for file in files for other in self._paths_to(file.identity)}

    def _is_shadowed(self, file: KnownFile) -> bool:
        """Say whether *file* is taken by a better path already."""
        return self._paths_to(file.identity)[0].path != file.path

    # --- sessions ---------------------------------------------------------------------------------

    def _files(self, where: str, values: Sequence[Any]) -> list[KnownFile]:
        rows = self.connection.execute(
            f"SELECT {_FILE_COLUMNS} FROM file AS f JOIN folder AS d ON d.id = f.folder WHERE {where}", values
        )
        return [KnownFile(*row) for row in rows]

    def _files_named(self, folder: int, names: Iterable[str]) -> list[KnownFile]:
        return [file for name in names for file in self._files("f.folder = ? AND f.name = ?", (folder, name))]

    def _files_of(self, keys: Sequence[str]) -> dict[str, list[KnownFile]]:
        """Return the files of each of *keys* (at most some hundreds), those left out that have a better path."""
        marks = ", ".join("?" * len(keys))
        found: dict[str, list[KnownFile]] = {key: [] for key in keys}
        aliased = self._aliased()
        for file in self._files(f"f.session IN ({marks})", keys):
            if not aliased or not self._is_shadowed(file):
                found[file.session_key].append(file)
        return found

    def _refresh(self, keys: Iterable[str], now: float) -> None:
        """Work out the rows of the sessions *keys*, and of those that differ from them in case only."""
        for some in _chunks(sorted(self._with_twins(set(keys)))):
            files = self._files_of(some)
            known = {
                row[0]: row
                for row in self.connection.execute(
                    f"SELECT key, number, stamp, day, settled, gone FROM session WHERE key IN ({', '.join('?' * len(some))})",
                    some,
                )
            }
            number = self.connection.execute("SELECT COALESCE(MAX(number), 0) FROM session").fetchone()[0]
            for key in some:  # first, which are there: it decides between two that differ in case
                if key not in known and files[key]:
                    number += 1
                    self._add_session(key, number)
                elif key in known and bool(known[key][5]) != (not files[key]):
                    self.connection.execute("UPDATE session SET gone = ? WHERE key = ?", (int(not files[key]), key))
        for some in _chunks(sorted(self._with_twins(set(keys)))):
            files = self._files_of(some)
            around = _Around(self)
            for key in some:
                if files[key]:
                    self._update_session(assemble(key, files[key], self._templates, around), files[key], now)
                else:
                    self._set_gone(key)

    def _with_twins(self, keys: set[str]) -> set[str]:
        folded = sorted({key.casefold() for key in keys})
        for some in _chunks(folded):
            rows = self.connection.execute(
                f"SELECT key FROM session WHERE folded IN ({', '.join('?' * len(some))})", some
            )
            keys = keys | {key for (key,) in rows}
        return keys

    def _add_session(self, key: str, number: int) -> None:
        self.connection.execute(
            "INSERT INTO session VALUES (?, ?, '', NULL, 0, '', 0, ?, 0, 0, 0, 0)", (key, number, key.casefold())
        )

    def _set_gone(self, key: str) -> None:
        changed = self.connection.execute(
            "UPDATE session SET gone = 1, settled = 0, stamp = '', waiting = ?, troubled = 0 WHERE key = ? AND stamp <> ''",
            ("its videos are gone", key),
        )
        self.connection.execute("DELETE FROM named WHERE session = ?", (key,))
        if changed.rowcount:
            self._changed.add(key)

    def _update_session(self, found: FoundSession, files: Sequence[KnownFile], now: float) -> None:
        named = _named_files(found)
        stamp = self._stamp(found, named)
        known, troubled = self.connection.execute(
            "SELECT stamp, troubled FROM session WHERE key = ?", (found.key,)
        ).fetchone()
        if troubled != bool(found.problems):
            self.connection.execute(
                "UPDATE session SET troubled = ? WHERE key = ?", (int(bool(found.problems)), found.key)
            )
        if stamp == known:
            # Its done file may have come, which changes nothing but how long it is waited for.
            self.connection.execute("UPDATE session SET again = 0 WHERE key = ? AND settled = 0", (found.key,))
            return
        self._changed.add(found.key)
        newest = max(min(file.mtime_ns / 1e9, file.first_seen) for file in files)
        self.connection.execute(
            "UPDATE session SET stamp = ?, day = ?, settled = 0, waiting = ?, gone = 0, again = 0, newest = ?, round = ? WHERE key = ?",
            (stamp, self._day(found), _UNFINISHED_ROUND, newest, self._get("round", 0), found.key),
        )
        self.connection.execute("DELETE FROM named WHERE session = ?", (found.key,))
        self.connection.executemany(
            "INSERT OR REPLACE INTO named(folder, name, session, stamp) VALUES (?, ?, ?, ?)",
            ((*os.path.split(path), found.key, stamp) for path, stamp in named.items()),
        )

    def _stamp(self, found: FoundSession, named: Mapping[str, str]) -> str:
        """Return the hash of all that `session_inputs` depends on, from sizes and times of change alone.

        Paths are those in the lab, as there: a lab that was moved is the same.
        """
        inside = f"{self.lab.root}/"
        metadata = "" if found.metadata_file is None else _stat_words(str(found.metadata_file))
        return content_hash(
            [
                {
                    name: [[str(file.path).removeprefix(inside), file.size, file.mtime_ns] for file in recording.files]
                    for name, recording in found.recordings.items()
                },
                [str(found.metadata_file or "").removeprefix(inside), metadata],
                [[path.removeprefix(inside), stamp] for path, stamp in sorted(named.items())],
                found.refused,
                self.lab.settings.timezone,
            ]
        )[:32]

    def _day(self, found: FoundSession) -> str | None:
        if not self._dated:
            return None
        from dlc_assets.recordings.session_recordings import day_of  # which needs this package's discovery

        try:
            return day_of(found, self.lab).isoformat()
        except (OverflowError, ValueError, OSError):
            return None  # a file's time that no calendar has

    # --- settling ---------------------------------------------------------------------------------

    def _settle(self, until: float, now: float) -> None:
        """Look which sessions have settled, the newest first; open files until *until* (monotonic, s), one at least."""
        opened: dict[Path, str] = {}
        after = (math.inf, "")
        while True:
            rows = self.connection.execute(
                "SELECT key, newest FROM session WHERE settled = 0 AND gone = 0 AND again <= ? AND round <= ? "
                f"AND (newest, key) < (?, ?) ORDER BY newest DESC, key DESC LIMIT {_KEYS_AT_ONCE}",
                (now, self._get("done", 0), *after),
            ).fetchall()
            if not rows:
                return
            after = (rows[-1][1], rows[-1][0])
            keys = [key for key, _ in rows]
            for files in self._files_of(keys).values():
                for file in waiting_of(files, self.lab.settings, now).unopened if files else ():
                    if not opened or time.monotonic() < until:
                        self._open(file, opened)
            self._write_waiting(keys, now)

    def _open(self, file: KnownFile, opened: dict[Path, str]) -> None:
        from dlc_assets.video.ending import end_is_readable  # opening is rare

        opened[file.path] = end_is_readable(file.path)
        self.connection.execute(
            "UPDATE file SET ending = ? WHERE folder = ? AND name = ? AND size = ? AND mtime_ns = ?",
            (opened[file.path], file.folder, file.name, file.size, file.mtime_ns),
        )

    def _write_waiting(self, keys: Sequence[str], now: float) -> None:
        with self._transaction():
            for key, files in self._files_of(keys).items():
                if files:
                    waiting = waiting_of(files, self.lab.settings, now)
                    again = waiting.again if math.isfinite(waiting.again) else 1e300
                    self.connection.execute(
                        "UPDATE session SET settled = ?, waiting = ?, again = ? WHERE key = ?",
                        (int(not waiting.words), waiting.words, again, key),
                    )

    # --- what is known ----------------------------------------------------------------------------

    def session(self, key: str) -> FoundSession | None:
        """Return the session *key*, or None where none of its videos is there."""
        return next(self.sessions([key]), None)

    def sessions(self, keys: Iterable[str] | None = None) -> Iterator[FoundSession]:
        """Yield the sessions whose videos are there, or those of *keys*, in the order in which they were first found."""
        for some in self._keys(keys):
            around = _Around(self)
            for key, files in self._files_of(some).items():
                if files:
                    yield assemble(key, files, self._templates, around)

    def _keys(self, keys: Iterable[str] | None, where: str = "gone = 0") -> Iterator[list[str]]:
        if keys is not None:
            yield from _chunks(list(keys))
            return
        after = -1
        while True:
            rows = self.connection.execute(
                f"SELECT number, key FROM session WHERE {where} AND number > ? ORDER BY number LIMIT {_KEYS_AT_ONCE}",
                (after,),
            ).fetchall()
            if not rows:
                return
            after = rows[-1][0]
            yield [key for _, key in rows]

    def settled(self) -> Iterator[str]:
        """Yield the keys of the sessions that have settled, in the order in which they were first found."""
        for some in self._keys(None, "gone = 0 AND settled = 1"):
            yield from some

    def problems(self, *, of_sessions: bool = True) -> list[str]:
        """Return a sentence for each thing that is wrong with what was found; without those of sessions if asked."""
        found = [*json.loads(self._get("vanished", "[]")), *self._folder_problems()]
        found += [
            reason
            for (reason,) in self.connection.execute(
                "SELECT reason FROM refused JOIN folder ON folder.id = refused.folder ORDER BY path, name"
            )
        ]
        if of_sessions:
            for some in self._keys(None, "gone = 0 AND troubled = 1"):
                found += [problem for session in self.sessions(some) for problem in session.problems]
        return found

    def _folder_problems(self) -> list[str]:
        rows = self.connection.execute("SELECT problem FROM folder WHERE problem <> '' ORDER BY path")
        return [problem for (problem,) in rows]

    def unmatched(self, limit: int | None = None) -> list[Path]:
        """Return videos that fit no template (of one file by several paths, if none fits), sorted, at most *limit*."""
        rows = self.connection.execute(
            "SELECT folder.path, file.name, folder.real, file.real FROM folder JOIN file ON file.folder = folder.id "
            "WHERE file.session IS NULL ORDER BY folder.path, file.name"
        )
        aliased = self._aliased()
        found: list[Path] = []
        identities: set[str] = set()
        for folder, name, folder_real, real in rows:
            if limit is not None and len(found) >= limit:
                break
            identity = real or f"{folder_real.rstrip('/')}/{name}"
            if aliased and (identity in identities or self._paths_to(identity)):
                continue
            identities |= {identity} if aliased else set()
            found.append(Path(folder, name))
        return sorted(found)

    def ignored(self) -> Counter[str]:
        """Return how many videos each template ignores."""
        counted: Counter[str] = Counter()
        for (by_template,) in self.connection.execute("SELECT ignored FROM folder WHERE ignored <> '{}'"):
            counted.update(json.loads(by_template))
        return counted

    def counts(self) -> dict[str, int]:
        """Return the numbers of sessions (there, settled, waiting, gone), of folders, of videos, and of videos that fit no template."""
        settled, waiting, gone = self.connection.execute(
            "SELECT COALESCE(SUM(settled AND NOT gone), 0), COALESCE(SUM(NOT settled AND NOT gone), 0), COALESCE(SUM(gone), 0) "
            "FROM session"
        ).fetchone()
        videos, unmatched = self.connection.execute("SELECT COUNT(*), COUNT(*) - COUNT(session) FROM file").fetchone()
        (folders,) = self.connection.execute("SELECT COUNT(*) FROM folder").fetchone()
        return {
            "sessions": settled + waiting,
            "settled": settled,
            "waiting": waiting,
            "gone": gone,
            "folders": folders,
            "videos": videos,
            "unmatched": unmatched,
        }

    def looked_at(self) -> float | None:
        """Return when a round was done last (unix time, s); None where none was since lab.yaml says what it says of recordings."""
        return self._get("done_at", None)

    # --- the file ---------------------------------------------------------------------------------

    def _check_settings(self) -> None:
        """Have everything read again where lab.yaml says other things of recordings than when it was read."""
        places = content_hash(
            [
                self.lab.settings.timezone,
                *(
                    [root.path, root.real, root.template.model_dump(mode="json", exclude={"finished"})]
                    for root in self._roots
                ),
            ]
        )
        waits = content_hash(
            [
                [root.template.finished for root in self._roots],
                self.lab.settings.expect,
                self.lab.settings.expect_timeout,
                self.lab.settings.analyze.settle_seconds,
            ]
        )
        if self._get("places", "") == places and self._get("waits", "") == waits:
            return
        with self._transaction():
            if self._get("places", "") != places:
                self._read_again()
                self._set("places", places)
            self.connection.execute("UPDATE session SET again = 0 WHERE settled = 0")
            self._set("waits", waits)

    def _read_again(self) -> None:
        """Forget the folders that no root reaches any more, and have the others read again in a new round."""
        for folder, path in self.connection.execute("SELECT id, path FROM folder").fetchall():
            if not covering(self._roots, path):
                self._forget_folder(folder)
        self.connection.execute("UPDATE folder SET digest = NULL")
        self.connection.execute("DELETE FROM seen")
        self.connection.execute("DELETE FROM about WHERE name = 'done_at'")
        self._set("done", self._get("round", 0))

    def _get(self, name: str, default: Any) -> Any:
        row = self.connection.execute("SELECT value FROM about WHERE name = ?", (name,)).fetchone()
        return default if row is None else row[0]

    def _set(self, name: str, value: Any) -> None:
        self.connection.execute(
            "INSERT INTO about(name, value) VALUES (?, ?) ON CONFLICT(name) DO UPDATE SET value = excluded.value "
            "WHERE value IS NOT excluded.value",
            (name, value),
        )

    def _transaction(self) -> AbstractContextManager[None]:
        return transaction(self.connection)


class _Batch:
    """Folders that were read and are not written yet: disks are waited for outside of transactions, which are whole or nothing."""

    def __init__(self, index: RecordingIndex, now: float) -> None:
        self._index = index
        self._now = now
        self._seen: list[tuple[int, int]] = []
        self._changed: list[tuple[_Folder, Listing]] = []
        self._problems: list[tuple[str, int]] = []
        self._entries = 0
        self._written = time.monotonic()

    def read(self, folder: _Folder) -> int:
        """Read *folder*, and return how many entries it has."""
        index, entries = self._index, 0
        if index._is_under_vanished(folder.path):
            self._seen.append((folder.id, 0))
            return 0
        try:
            listing = list_folder(folder.path)
        except (FileNotFoundError, NotADirectoryError):
            self._seen.append((folder.id, 1))
        except OSError as error:
            index._check_roots()
            if not index._is_under_vanished(folder.path):
                self._problems.append((_unreadable(folder.path, error), folder.id))
            self._seen.append((folder.id, 0))
        else:
            entries = len(listing.raw)
            self._seen.append((folder.id, 0))
            if not entries and any(root.path == folder.path for root in index._roots):
                index._check_roots()  # it may have been unmounted a moment ago
            changed = listing.digest != folder.digest or folder.problem
            if changed and not index._is_under_vanished(folder.path):
                self._changed.append((folder, listing))
                self._entries += entries
        if self._entries >= _ENTRIES_AT_ONCE or time.monotonic() - self._written > _WRITE_EVERY:
            self.write()
        return entries

    def write(self) -> None:
        """Write what was read, and bring the sessions that it concerns up to date, all or nothing."""
        index = self._index
        if self._seen:
            with index._transaction():
                index.connection.executemany("INSERT OR IGNORE INTO seen(folder, missing) VALUES (?, ?)", self._seen)
                index.connection.executemany("UPDATE folder SET problem = ? WHERE id = ?", self._problems)
                touched: set[str] = set()
                for folder, listing in self._changed:
                    touched |= index._apply(folder, listing, self._now)
                index._refresh(touched, self._now)
        self._seen, self._changed, self._problems, self._entries = [], [], [], 0
        self._written = time.monotonic()


class _Around:
    """What a session's neighbours are, by the index; see `assembly.Surroundings`. For a moment: nothing may change meanwhile."""

    def __init__(self, index: RecordingIndex) -> None:
        self._index = index
        self._metadata: dict[int, dict[str, str]] = {}
        self._sessions: dict[int, tuple[int, list[str]]] = {}

    def metadata_files(self, folder: int) -> Mapping[str, str]:
        if folder not in self._metadata:
            rows = self._index.connection.execute("SELECT session, name FROM metadata WHERE folder = ?", (folder,))
            self._metadata[folder] = dict(rows.fetchall())
        return self._metadata[folder]

    def sessions_of(self, folder: int) -> tuple[int, list[str]]:
        if folder not in self._sessions:
            where = "FROM file WHERE folder = ? AND session IS NOT NULL"
            connection = self._index.connection
            (count,) = connection.execute(f"SELECT COUNT(DISTINCT session) {where}", (folder,)).fetchone()
            some = connection.execute(f"SELECT DISTINCT session {where} ORDER BY session LIMIT 3", (folder,)).fetchall()
            self._sessions[folder] = (count, [key for (key,) in some])
        return self._sessions[folder]

    def twin(self, key: str) -> tuple[str, str] | None:
        index = self._index
        row = index.connection.execute(
            "SELECT MIN(key) FROM session WHERE folded = ? AND gone = 0", (key.casefold(),)
        ).fetchone()
        if row[0] is None or row[0] == key:
            return None
        files = index._files_of([row[0]])[row[0]]
        return row[0], str(min(files, key=lambda file: file.order).path)


def _is_video(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in VIDEO_SUFFIXES  # noqa: PTH122  (over every file of a lab: a Path is slow)


def _is_done(name: str, names: set[str]) -> int:
    return int(f"{name}.done" in names or f"{os.path.splitext(name)[0]}.done" in names)  # noqa: PTH122  (as above)


def _metadata_of(name: str) -> str | None:
    """Return the session key whose metadata file *name* would be, ``""`` if it is its folder's, None if it is none."""
    if name == SHARED_METADATA:
        return ""
    if name.endswith(".yaml") and name.startswith(("sub-", "ses-")):
        return composed(name.removesuffix(".yaml"))
    return None


def _file_row(
    folder: int,
    entry: Entry,
    first_seen: float,
    arrived: float,
    real: str | None,
    placed: Placed | None,
    done: int,
    ending: str | None,
) -> tuple[Any, ...]:
    whose: tuple[Any, ...] = (None,) * 7
    if placed is not None:
        whose = (
            placed.place,
            placed.session_key,
            placed.subject,
            placed.session,
            placed.camera,
            placed.recording,
            placed.part,
        )
    return (folder, entry.name, entry.size, entry.mtime_ns, first_seen, arrived, real, *whose, done, ending)


def _named_files(found: FoundSession) -> dict[str, str]:
    """Return the files that a session's metadata names (times of frames), with what tells a changed one."""
    if found.metadata_file is None:
        return {}
    try:
        recordings = found.metadata().recordings.values()
    except DlcAssetsError:
        return {}  # it is probed, and fails with the reason
    stated = [getattr(getattr(recording, "timestamps", None), "file", None) for recording in recordings]
    paths = [os.path.normpath(found.metadata_file.parent / file) for file in stated if file]
    return {path: _stat_words(path) for path in paths}


def _stat_words(path: str) -> str:
    try:
        status = os.stat(path)  # noqa: PTH116  (over every session of a lab: a Path is slow)
    except OSError:
        return ""
    return f"{status.st_size}|{status.st_mtime_ns}"


def _unreadable(path: str, error: OSError) -> str:
    return (
        f"{shown(path)}: this folder cannot be read ({error.strerror}); new videos in it are not seen, and what is known of "
        "it stays as it is."
    )


def _chunks(keys: Sequence[str]) -> Iterator[list[str]]:
    for start in range(0, len(keys), _KEYS_AT_ONCE):
        yield list(keys[start : start + _KEYS_AT_ONCE])
