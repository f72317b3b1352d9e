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
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from dlc_assets.lab.errors import BusyError
from dlc_assets.lab.files import content_hash, saying_when_full
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.locks import hold
from dlc_assets.lab.sessions_table import EVERY, read_sessions_table
from dlc_assets.recordings.folder_rows import FolderRow, FolderRows
from dlc_assets.recordings.found import FoundSession, KnownFile
from dlc_assets.recordings.index_file import connect, is_damage, made_anew, throw_away, transaction
from dlc_assets.recordings.known_files import KnownFiles
from dlc_assets.recordings.listing import Listing, list_folder
from dlc_assets.recordings.placing import Root, covering, is_below, roots_of, shown
from dlc_assets.recordings.session_rows import SessionRows, chunks
from dlc_assets.recordings.settling import waiting_of

_FOLDER_COLUMNS = "id, path, real, links, digest, problem"
_FOLDERS_AT_ONCE = 256
_ENTRIES_AT_ONCE = 4_000  # read, and not yet written
_WRITE_EVERY = 0.5  # s
_FOR_SETTLING = 0.25  # of a look's time is kept for files that must be opened


@dataclass(frozen=True)
class Look:
    """What one look did.

    Attributes
    ----------
    round_done
        Every folder has been seen; else the next look goes on with this round.
    folders, files
        How many folders were looked at, and entries in them.
    changed_sessions
        Sessions that are new, gone, or others than before.
    warnings
        Sentences that a person should read: of roots and folders that do not answer in each look, of what is refused once.
    seconds
        How long it took.
    """

    round_done: bool
    folders: int
    files: int
    changed_sessions: int
    warnings: tuple[str, ...]
    seconds: float


class RecordingIndex:
    """What the recording roots held when they were last looked at, and the sessions made of it; an SQLite file (`layout.index_file`).

    Statements on `connection` are transactions of their own unless ``BEGIN`` says otherwise. Where `look` finds the file damaged, it puts
    another connection to an empty file in its place.
    """

    connection: sqlite3.Connection

    def __init__(self, lab: Lab, path: Path | None, *, dated: bool = True) -> None:
        self.lab = lab
        self._path = path
        self._dated = dated
        self._roots = roots_of(lab)
        self._warnings: dict[str, None] = {}
        self._vanished: dict[str, str] = {}  # path of a root that does not answer -> the sentence that says so
        self._changed: set[str] = set()
        try:
            self._connect()
        except sqlite3.DatabaseError as error:
            self._begin_anew(error)

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

    def _connect(self) -> None:
        self.connection, notice = connect(self._path)
        if notice:
            self._warnings[notice] = None
        self._files = KnownFiles(self.connection, self._roots)
        store = str(self.lab.layout.store)
        self._folders = FolderRows(self.connection, self._roots, store, self._files, kept=self._path is not None)
        self._sessions = SessionRows(self.connection, self.lab, self._files, dated=self._dated)
        self._check_settings()

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
            with self._alone(seconds):
                try:
                    return self._look(started, seconds, now, settle)
                except sqlite3.DatabaseError as error:
                    self._begin_anew(error)
                    return self._look(started, seconds, now, settle)
        except BusyError as error:
            return Look(False, 0, 0, 0, (str(error),), time.monotonic() - started)

    @contextmanager
    def _alone(self, seconds: float | None) -> Iterator[None]:
        """Hold the lock under which one process at a time goes through the roots."""
        if self._path is None:
            yield
            return
        lock = self.lab.layout.lock("recordings", "look")
        with hold(lock, "looking for recordings", timeout=seconds), saying_when_full(self._path):
            yield

    def _begin_anew(self, error: sqlite3.DatabaseError) -> None:
        """Put an empty file in the place of a damaged one; raise *error* where it says something else."""
        if self._path is None or not is_damage(error):
            raise error
        self.connection.close()
        throw_away(self._path)
        self._warnings[made_anew(self._path, f"is damaged ({error})")] = None
        self._connect()

    def _look(self, started: float, seconds: float | None, now: float, settle: bool) -> Look:
        self._changed = set()
        self._begin_round()
        self._check_roots()
        self._compare_table(math.inf if seconds is None else started + seconds)
        share = 1 - _FOR_SETTLING if settle else 1
        folders, files, done = self._walk(math.inf if seconds is None else started + seconds * share, now)
        if done:
            self._end_round(now)
        if settle:
            self._settle(math.inf if seconds is None else started + seconds, now)
        self._set("vanished", json.dumps(list(self._vanished.values())))
        warnings = [*self._vanished.values(), *self._folder_problems(), *self._warnings]
        self._warnings = {}
        return Look(done, folders, files, len(self._changed), tuple(warnings), time.monotonic() - started)

    def _begin_round(self) -> None:
        """Begin a round unless one is under way, and see that each root is among the folders."""
        with self._transaction():
            if self._get("round", 0) == self._get("done", 0):
                self.connection.execute("DELETE FROM seen")
                self._set("round", self._get("round", 0) + 1)
            for root in self._roots:
                self._folders.add(root.path, None, root.real, 0)

    def _compare_table(self, until: float) -> None:
        """Bring the sessions of which sessions.csv says other things than before up to date, until *until* (monotonic, s)."""
        path = self.lab.layout.sessions_table
        table = read_sessions_table(path)
        now, version = ({}, "") if table is None else (table.fingerprints, table.version)
        if self._get("table", "") == version:
            return
        known: dict[str, str] = json.loads(self._get("table_rows", "{}"))
        keys = {*now, *known}
        if EVERY in keys:
            keys = {key for some in self._sessions.keys("gone = 0") for key in some}
        wanted = {key: now.get(EVERY) or now.get(key, "") for key in keys}
        touched = sorted(key for key in keys if known.get(key, known.get(EVERY, "")) != wanted[key])
        done: list[str] = []
        for some in chunks(touched):
            if done and time.monotonic() >= until:
                break
            with self._transaction():
                self._changed |= self._sessions.refresh(some, self._get("round", 0))
            done += some
        complete = len(done) == len(touched)
        kept = now if complete else known | {key: wanted[key] for key in done}
        with self._transaction():
            self._set("table_rows", json.dumps(kept, ensure_ascii=False))
            if complete:
                self._set("table", version)

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
                after = ""  # for folders that lie before the one in which they were found
            for folder in chunk:
                if folders and time.monotonic() >= until:
                    batch.write()
                    return folders, files, False
                folders += 1
                files += batch.read(folder)
                after = folder.path

    def _unseen(self, after: str) -> list[FolderRow]:
        rows = self.connection.execute(
            f"SELECT {_FOLDER_COLUMNS} FROM folder LEFT JOIN seen ON seen.folder = folder.id "
            f"WHERE seen.folder IS NULL AND path > ? ORDER BY path LIMIT {_FOLDERS_AT_ONCE}",
            (after,),
        )
        return [FolderRow(*row) for row in rows]

    def _folder(self, path: str) -> FolderRow:
        return FolderRow(
            *self.connection.execute(f"SELECT {_FOLDER_COLUMNS} FROM folder WHERE path = ?", (path,)).fetchone()
        )

    def _end_round(self, now: float) -> None:
        """Forget the folders that this round missed, unless their root does not answer, and say that the round is done."""
        self._check_roots()
        missing = self.connection.execute(
            "SELECT id, path FROM seen JOIN folder ON folder.id = seen.folder WHERE missing = 1 ORDER BY path"
        ).fetchall()
        gone = iter([folder for folder, path in missing if not self._is_under_vanished(path)])
        while some := list(islice(gone, _FOLDERS_AT_ONCE)):
            with self._transaction():
                for folder in some:
                    self._folders.forget(folder)
        while bereft := self.connection.execute("SELECT session FROM bereft LIMIT 1000").fetchall():
            with self._transaction():
                self._changed |= self._sessions.refresh((key for (key,) in bereft), self._get("round", 0))
                self.connection.executemany("DELETE FROM bereft WHERE session = ?", bereft)
        with self._transaction():
            self.connection.execute("DELETE FROM seen")
            self.connection.executemany(
                "INSERT OR IGNORE INTO root(path) VALUES (?)",
                [(root.path,) for root in self._roots if root.path not in self._vanished],
            )
            self._set("done", self._get("round", 0))
            self._set("done_at", now)

    def _settle(self, until: float, now: float) -> None:
        """Look which sessions have settled, the newest first, until *until* (monotonic, s); one file may be opened in any case."""
        opened = 0
        for page, files_of in enumerate(self._sessions.to_be_settled(now, self._get("done", 0))):
            if page and time.monotonic() >= until:
                return
            for files in files_of.values():
                for file in waiting_of(files, self.lab.settings, now).unopened if files else ():
                    if not opened or time.monotonic() < until:
                        self._look_at_end(file)
                        opened += 1
            with self._transaction():
                self._sessions.write_waiting(files_of, now)

    def _look_at_end(self, file: KnownFile) -> None:
        from dlc_assets.video.ending import end_is_readable  # most looks open nothing

        self.connection.execute(
            "UPDATE file SET ending = ? WHERE folder = ? AND name = ? AND size = ? AND mtime_ns = ?",
            (end_is_readable(file.path), file.folder, file.name, file.size, file.mtime_ns),
        )

    # --- roots that do not answer -----------------------------------------------------------------

    def _check_roots(self) -> None:
        """Learn which roots do not answer. Where one does not, nothing of what is known below it changes."""
        self._vanished = {}
        for root in self._roots:
            if root.path not in self._vanished and (why := self._why_vanished(root)):
                self._vanished[root.path] = why

    def _why_vanished(self, root: Root) -> str:
        name = f"{shown(root.path)}: this recording root of lab.yaml"
        try:
            with os.scandir(root.path) as entries:
                if any(not entry.name.startswith(".") for entry in entries):
                    return ""
        except (FileNotFoundError, NotADirectoryError):
            return f"{name} is not there (an unmounted disk?); its sessions stay as they are."
        except OSError as error:
            return f"{name} does not answer ({error.strerror}); its sessions stay as they are."
        if self._has_videos_below(root.path):
            return (
                f"{name} has become empty (an unmounted disk?); its sessions stay as they are. If its videos are gone for good, take "
                "it out of lab.yaml."
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

    # --- a fresh look at some sessions ------------------------------------------------------------

    def looked_at(self) -> float | None:
        """Return when a round was done last (unix time, s); None where none was since lab.yaml says what it says of recordings."""
        return self._get("done_at", None)

    def looked_at_again(self, keys: Sequence[str]) -> dict[str, FoundSession] | None:
        """Return the sessions *keys* as they are now, from a fresh look at the folders that are known to have to do with them.

        None where this cannot be told from those alone: a session is not known or has gone, a folder is not there or cannot be read,
        or files are found by several paths.
        """
        if self._files.aliased():
            return None
        folders: set[tuple[str, str]] = set()
        for some in chunks(self._sessions.with_twins(keys)):
            folders |= {
                (file.folder_path, file.folder_real)
                for files in self._files.of_sessions(some).values()
                for file in files
            }
        with RecordingIndex.in_memory(self.lab) as fresh:
            for path, real in sorted(folders):
                try:
                    listing = list_folder(path)
                except OSError:
                    return None
                fresh._folders.add(path, None, real, 0)
                fresh._take([(fresh._folder(path), listing)], 0.0)
            found = {session.key: session for session in fresh.sessions(keys)}
        return found if len(found) == len(set(keys)) else None

    # --- what is known ----------------------------------------------------------------------------

    def session(self, key: str) -> FoundSession | None:
        """Return the session *key*, or None where none of its videos is there."""
        return next(self.sessions([key]), None)

    def sessions(self, keys: Iterable[str] | None = None) -> Iterator[FoundSession]:
        """Yield the sessions whose videos are there, or those of *keys*; all in the order in which they were first found."""
        for some in self._sessions.keys() if keys is None else chunks(list(keys)):
            yield from self._sessions.assembled(some)

    def settled(self) -> Iterator[str]:
        """Yield the keys of the sessions that have settled, in the order in which they were first found."""
        for some in self._sessions.keys("gone = 0 AND settled = 1"):
            yield from some

    def problems(self, *, of_sessions: bool = True) -> list[str]:
        """Return a sentence for each thing that is wrong with what was found; without those of sessions if asked."""
        found = [*json.loads(self._get("vanished", "[]")), *self._folder_problems()]
        refused = self.connection.execute(
            "SELECT reason FROM refused JOIN folder ON folder.id = refused.folder ORDER BY path, name"
        )
        found += [reason for (reason,) in refused]
        for some in self._sessions.keys("gone = 0 AND troubled = 1") if of_sessions else ():
            found += [problem for session in self._sessions.assembled(some) for problem in session.problems]
        return found

    def _folder_problems(self) -> list[str]:
        rows = self.connection.execute("SELECT problem FROM folder WHERE problem <> '' ORDER BY path")
        return [problem for (problem,) in rows]

    def unmatched(self, limit: int | None = None) -> list[Path]:
        """Return videos that fit no template (one path of each), sorted, at most *limit*."""
        rows = self.connection.execute(
            "SELECT folder.path, file.name, folder.real, file.real FROM folder JOIN file ON file.folder = folder.id "
            "WHERE file.session IS NULL ORDER BY folder.path, file.name"
        )
        aliased = self._files.aliased()
        found: list[Path] = []
        identities: set[str] = set()
        for folder, name, folder_real, real in rows:
            if limit is not None and len(found) >= limit:
                break
            identity = real or f"{folder_real.rstrip('/')}/{name}"
            if aliased and (identity in identities or self._files.paths_to(identity)):
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

    # --- the tables -------------------------------------------------------------------------------

    def _take(self, listings: Iterable[tuple[FolderRow, Listing]], now: float) -> None:
        """Bring folders up to what was read of them, and the sessions that this concerns. In a transaction: all or nothing."""
        touched: set[str] = set()
        for folder, listing in listings:
            keys, refusals = self._folders.update(folder, listing, now)
            touched |= keys
            self._warnings.update(dict.fromkeys(refusals))
        self._changed |= self._sessions.refresh(touched, self._get("round", 0))

    def _check_settings(self) -> None:
        """Have everything read again where lab.yaml says other things of recordings than when it was read."""
        settings = self.lab.settings
        described = [
            [root.path, root.real, root.template.model_dump(mode="json", exclude={"finished"})] for root in self._roots
        ]
        finished = [root.template.finished for root in self._roots]
        places = content_hash([settings.timezone, described])
        waits = content_hash([finished, settings.expect, settings.expect_timeout, settings.analyze.settle_seconds])
        if self._get("places", "") == places and self._get("waits", "") == waits:
            return
        with self._transaction():
            if self._get("places", "") != places:
                self._read_again()
            self.connection.execute("UPDATE session SET again = 0 WHERE settled = 0")
            self._set("places", places)
            self._set("waits", waits)

    def _read_again(self) -> None:
        """Forget the folders that no root reaches any more, and have the others read again in a new round."""
        for folder, path in self.connection.execute("SELECT id, path FROM folder").fetchall():
            if not covering(self._roots, path):
                self._folders.forget(folder)
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
        self._changed: list[tuple[FolderRow, Listing]] = []
        self._problems: list[tuple[str, int]] = []
        self._entries = 0
        self._written = time.monotonic()

    def read(self, folder: FolderRow) -> int:
        """Read *folder*, and return how many entries it has."""
        index, entries, missing = self._index, 0, 0
        if not index._is_under_vanished(folder.path):
            try:
                listing = list_folder(folder.path)
            except (FileNotFoundError, NotADirectoryError):
                missing = 1
            except OSError as error:
                self._say(folder, error)
            else:
                entries = len(listing.raw)
                self._compare(folder, listing)
        self._seen.append((folder.id, missing))
        if self._entries >= _ENTRIES_AT_ONCE or time.monotonic() - self._written > _WRITE_EVERY:
            self.write()
        return entries

    def _say(self, folder: FolderRow, error: OSError) -> None:
        """Note that *folder* cannot be read, unless its root does not answer as a whole."""
        self._index._check_roots()
        if not self._index._is_under_vanished(folder.path):
            words = (
                f"{shown(folder.path)}: this folder cannot be read ({error.strerror}); new videos in it are not seen, and what is "
                "known of it stays as it is."
            )
            self._problems.append((words, folder.id))

    def _compare(self, folder: FolderRow, listing: Listing) -> None:
        if listing.digest == folder.digest and not folder.problem:
            return
        if not listing.raw and any(root.path == folder.path for root in self._index._roots):
            self._index._check_roots()  # it may have been unmounted a moment ago
            if self._index._is_under_vanished(folder.path):
                return
        self._changed.append((folder, listing))
        self._entries += len(listing.raw)

    def write(self) -> None:
        """Write what was read."""
        index = self._index
        if self._seen:
            with index._transaction():
                index.connection.executemany("INSERT OR IGNORE INTO seen(folder, missing) VALUES (?, ?)", self._seen)
                index.connection.executemany("UPDATE folder SET problem = ? WHERE id = ?", self._problems)
                index._take(self._changed, self._now)
        self._seen, self._changed, self._problems, self._entries = [], [], [], 0
        self._written = time.monotonic()
