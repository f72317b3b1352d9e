"""Folders in the index: what a fresh listing of one changes in its files, its metadata files and the folders below it."""

from __future__ import annotations

import json
import os
import sqlite3
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dlc_assets.lab.errors import DlcAssetsError
from dlc_assets.lab.settings import composed
from dlc_assets.recordings.assembly import SHARED_METADATA
from dlc_assets.recordings.found import VIDEO_SUFFIXES
from dlc_assets.recordings.known_files import KnownFiles
from dlc_assets.recordings.listing import Entry, Listing
from dlc_assets.recordings.placing import (
    Covering,
    Placed,
    Root,
    covering,
    ignoring,
    is_below,
    place_file,
    shown,
    why_not_text,
)

_MOST_LINKS = 8  # to folders, one behind the other


@dataclass(frozen=True)
class FolderRow:
    """A folder as the index keeps it.

    `real` is its path without links, `links` how many links to folders are passed on the way to it; `digest` is None until it is read
    (again).
    """

    id: int
    path: str
    real: str
    links: int
    digest: bytes | None
    problem: str


class FolderRows:
    """Changes of the tables `folder`, `file`, `metadata` and `refused`.

    An index that is not *kept* sees every file for the first time, so that this moment says nothing: a file's own time stands for it.
    """

    def __init__(
        self, connection: sqlite3.Connection, roots: Sequence[Root], store: str, files: KnownFiles, *, kept: bool = True
    ) -> None:
        self._kept = kept
        self._connection = connection
        self._roots = list(roots)
        self._store = store
        self._files = files

    # --- folders ----------------------------------------------------------------------------------

    def add(self, path: str, parent: int | None, real: str, links: int) -> None:
        """Add a folder that is to be read, or say of one that is there below which it lies."""
        self._connection.execute(
            "INSERT INTO folder(path, parent, real, links) VALUES (?, ?, ?, ?) ON CONFLICT(path) DO UPDATE SET "
            "parent = COALESCE(excluded.parent, parent) WHERE parent IS NOT COALESCE(excluded.parent, parent)",
            (path, parent, real, links),
        )

    def forget(self, folder: int) -> None:
        """Take a folder and its files out; the sessions that they belonged to are seen to when the round is done."""
        rows = self._connection.execute("SELECT session FROM file WHERE folder = ?", (folder,))
        keys = {key for (key,) in rows if key is not None}
        if self._files.aliased():
            keys |= self._files.sessions_sharing(folder)
        self._connection.executemany("INSERT OR IGNORE INTO bereft(session) VALUES (?)", ((key,) for key in keys))
        for table in ("file", "metadata", "refused"):
            self._connection.execute(f"DELETE FROM {table} WHERE folder = ?", (folder,))
        self._connection.execute("DELETE FROM folder WHERE id = ?", (folder,))
        self._connection.execute("DELETE FROM seen WHERE folder = ?", (folder,))

    def _forget_tree(self, folder: int) -> None:
        for below in self._tree(folder):
            self.forget(below)

    def _mark_missing(self, folder: int) -> None:
        rows = ((below,) for below in self._tree(folder))
        self._connection.executemany("INSERT OR REPLACE INTO seen(folder, missing) VALUES (?, 1)", rows)

    def _tree(self, folder: int) -> list[int]:
        rows = self._connection.execute(
            "WITH RECURSIVE below(id) AS (VALUES (?) UNION SELECT folder.id FROM folder JOIN below ON folder.parent = below.id) "
            "SELECT id FROM below",
            (folder,),
        )
        return [below for (below,) in rows]

    # --- one listing ------------------------------------------------------------------------------

    def update(self, folder: FolderRow, listing: Listing, now: float) -> tuple[set[str], list[str]]:
        """Bring what is kept of *folder* up to *listing*, read at *now* (unix time, s).

        Returns
        -------
        The keys of the sessions that this may concern, and a sentence for each entry that is refused.
        """
        covers = [cover for cover in covering(self._roots, folder.path) if cover.root.allows(folder.real)]
        entries, reasons = _usable(folder, listing, covers)
        self._update_subfolders(folder, [entry for entry in entries if entry.kind == "folder"], covers)
        files = [entry for entry in entries if entry.kind == "file"]
        before = self._some_sessions_in(folder.id)
        touched, ignored = self._update_files(folder, files, covers, reasons, now)
        touched |= self._update_metadata(folder, files, before)
        touched |= self._named_and_changed(folder.path, listing)
        self._connection.execute("DELETE FROM refused WHERE folder = ?", (folder.id,))
        self._connection.executemany(
            "INSERT INTO refused(folder, name, reason) VALUES (?, ?, ?)",
            ((folder.id, name, reason) for name, reason in reasons.items()),
        )
        self._connection.execute(
            "UPDATE folder SET digest = ?, problem = '', ignored = ? WHERE id = ?",
            (listing.digest, json.dumps(ignored), folder.id),
        )
        return touched, list(reasons.values())

    def _update_subfolders(self, folder: FolderRow, entries: Sequence[Entry], covers: Sequence[Covering]) -> None:
        rows = self._connection.execute("SELECT path, id, real FROM folder WHERE parent = ?", (folder.id,))
        known = {path: (number, real) for path, number, real in rows}
        for entry in entries if covers else ():
            path = f"{folder.path.rstrip('/')}/{entry.name}"
            real, links = f"{folder.real.rstrip('/')}/{entry.name}", folder.links
            if entry.link:
                real, links = os.path.realpath(path), links + 1
            if path == self._store or (entry.link and (links > _MOST_LINKS or self._leads_back(folder, real))):
                continue
            number, real_before = known.pop(path, (None, real))
            if number is not None and real_before != real:
                self._forget_tree(number)  # a link that leads elsewhere now
                number = None
            if number is None:
                self.add(path, folder.id, real, links)
        for number, _ in known.values():
            self._mark_missing(number)

    def _leads_back(self, folder: FolderRow, real: str) -> bool:
        """Say whether a link in *folder* to *real* would show what was passed on the way to it."""
        at: int | None = folder.id
        while at is not None:
            passed, at = self._connection.execute("SELECT real, parent FROM folder WHERE id = ?", (at,)).fetchone()
            if is_below(passed, real):
                return True
        return False

    def _update_files(
        self,
        folder: FolderRow,
        entries: Sequence[Entry],
        covers: list[Covering],
        reasons: dict[str, str],
        now: float,
    ) -> tuple[set[str], dict[str, int]]:
        """Return the keys of the sessions concerned, and how many videos each template ignores; add to *reasons* what is refused."""
        known = {
            row[0]: row
            for row in self._connection.execute(
                "SELECT name, size, mtime_ns, first_seen, arrived, real, session, done, ending FROM file WHERE folder = ?",
                (folder.id,),
            )
        }
        names = {entry.name for entry in entries}
        archive = not self._were_looked_through(covers)
        ignored: Counter[str] = Counter()
        touched: set[str] = set()
        rows: list[tuple[Any, ...]] = []
        for entry in entries:
            if not _is_video(entry.name):
                continue
            ignoring_it = [root.template.template for root in ignoring(covers, entry.name)]
            ignored.update(ignoring_it)
            real = os.path.realpath(f"{folder.path}/{entry.name}") if entry.link else None
            allowed = covers if real is None else [cover for cover in covers if cover.root.allows(real)]
            try:
                placed = place_file(allowed, entry.name)
            except DlcAssetsError as error:
                reasons[entry.name] = f"{shown(f'{folder.path}/{entry.name}')}: {error}"
                continue
            if placed is None and ignoring_it:
                continue
            done = _is_done(entry.name, names)
            old = known.pop(entry.name, None)
            key = None if placed is None else placed.session_key
            own_time = min(entry.mtime_ns / 1e9, now)
            first_seen, arrived, ending = now if self._kept else own_time, own_time if archive else now, None
            if old is not None and old[1:3] == (entry.size, entry.mtime_ns):
                if folder.digest is not None and old[5:8] == (real, key, done):
                    continue
                first_seen, arrived, ending = old[3], old[4], old[8]
            rows.append(_file_row(folder.id, entry, first_seen, arrived, real, placed, done, ending))
            touched |= {one for one in (key, old and old[6]) if one is not None}
        touched |= {row[6] for row in known.values() if row[6] is not None}
        aliased = self._files.aliased() or any(row[6] is not None for row in rows)
        changed = [row[1] for row in rows]
        if aliased:
            touched |= self._files.sessions_sharing(folder.id, [*changed, *known])
        self._connection.executemany(
            "DELETE FROM file WHERE folder = ? AND name = ?", ((folder.id, name) for name in known)
        )
        self._connection.executemany(f"INSERT OR REPLACE INTO file VALUES ({', '.join('?' * 16)})", rows)
        if aliased:
            touched |= self._files.sessions_sharing(folder.id, changed)
        return touched, dict(ignored)

    def _were_looked_through(self, covers: Sequence[Covering]) -> bool:
        known = {path for (path,) in self._connection.execute("SELECT path FROM root")}
        return any(cover.root.path in known for cover in covers)

    def _update_metadata(self, folder: FolderRow, entries: Sequence[Entry], before: int) -> set[str]:
        """Return the keys of the sessions whose metadata file is another one; *before*: `_some_sessions_in` as it was."""
        rows = self._connection.execute(
            "SELECT session, name, size, mtime_ns FROM metadata WHERE folder = ?", (folder.id,)
        )
        known = {row[0]: row[1:] for row in rows}
        there: dict[str, tuple[str, int, int]] = {}
        for entry in entries:
            key = _metadata_of(entry.name)
            if key is not None:
                there.setdefault(key, (entry.name, entry.size, entry.mtime_ns))
        touched = {key for key in {*known, *there} if known.get(key) != there.get(key)}
        self._connection.executemany(
            "DELETE FROM metadata WHERE folder = ? AND session = ?", ((folder.id, key) for key in touched - set(there))
        )
        self._connection.executemany(
            "INSERT OR REPLACE INTO metadata(folder, session, name, size, mtime_ns) VALUES (?, ?, ?, ?, ?)",
            ((folder.id, key, *there[key]) for key in touched & set(there)),
        )
        # Whose a session.yaml is depends on whether its folder is one session's.
        another_owner = "" in there and (before <= 1) != (self._some_sessions_in(folder.id) <= 1)
        if "" in touched or another_owner:
            in_folder = self._connection.execute(
                "SELECT DISTINCT session FROM file WHERE folder = ? AND session IS NOT NULL", (folder.id,)
            )
            touched |= {key for (key,) in in_folder}
        return touched - {""}

    def _some_sessions_in(self, folder: int) -> int:
        """Return how many sessions have videos in *folder*, at most 2."""
        rows = self._connection.execute(
            "SELECT DISTINCT session FROM file WHERE folder = ? AND session IS NOT NULL LIMIT 2", (folder,)
        )
        return len(rows.fetchall())

    def _named_and_changed(self, folder: str, listing: Listing) -> set[str]:
        """Return the sessions whose metadata names a file of *folder* that is another one now."""
        named = self._connection.execute(
            "SELECT name, session, stamp FROM named WHERE folder = ?", (folder,)
        ).fetchall()
        if not named:
            return set()
        stamps = {entry.name: f"{entry.size}|{entry.mtime_ns}" for entry in listing.entries() if entry.kind == "file"}
        return {session for name, session, stamp in named if stamps.get(name, "") != stamp}


def _usable(folder: FolderRow, listing: Listing, covers: list[Covering]) -> tuple[list[Entry], dict[str, str]]:
    """Return the entries that can be taken, and the reasons against others that a person would expect to be."""
    usable: list[Entry] = []
    reasons: dict[str, str] = {}
    for entry in listing.entries():
        expected = entry.kind == "folder" or (_is_video(entry.name) and not any(ignoring(covers, entry.name)))
        reason = _why_refused(f"{folder.path}/{entry.name}", entry, covers)
        if not reason:
            usable.append(entry)
        elif expected:
            reasons[shown(entry.name)] = reason
    return usable, reasons


def _why_refused(path: str, entry: Entry, covers: Sequence[Covering]) -> str:
    if why := why_not_text(entry.name):
        return f"{shown(path)}: {why}."
    if entry.kind == "lost":
        return f"{shown(path)}: this video cannot be looked at ({os.strerror(entry.size)}); is it a link to nowhere?"
    if entry.link:
        real = os.path.realpath(path)
        if why := why_not_text(real):
            return f"{shown(path)}: this link leads to {shown(real)}: {why}."
        if not any(cover.root.allows(real) for cover in covers):
            return (
                f"{shown(path)}: this link leads out of the recording root, to {shown(real)}, so it is not followed. If it should "
                "be, state `follow_links: true` in that entry of lab.yaml's recordings."
            )
    return ""


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
        names = (placed.subject, placed.session, placed.camera, placed.recording, placed.part)
        whose = (placed.place, placed.session_key, *names)
    return (folder, entry.name, entry.size, entry.mtime_ns, first_seen, arrived, real, *whose, done, ending)
