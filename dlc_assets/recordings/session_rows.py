"""Sessions in the index: what their files make of them, whether that has changed, and what they wait for."""

from __future__ import annotations

import hashlib
import math
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence

from dlc_assets.lab.errors import DlcAssetsError
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.sessions_table import read_sessions_table
from dlc_assets.recordings.assembly import assemble
from dlc_assets.recordings.extended_nwb import extended_file
from dlc_assets.recordings.found import FoundSession, KnownFile
from dlc_assets.recordings.known_files import KnownFiles
from dlc_assets.recordings.path_times import time_files
from dlc_assets.recordings.settling import waiting_of

_AT_ONCE = 400  # keys; SQLite takes 32,766 values in a statement, and memory should stay small
_NEVER = 1e300  # unix time, s; what only a change of files can end
_UNFINISHED_ROUND = "the look through the recording folders is not done yet"


class SessionRows:
    """The table `session`, and the sessions that it stands for; *dated*: whether the days of sessions are worked out, too."""

    def __init__(self, connection: sqlite3.Connection, lab: Lab, files: KnownFiles, *, dated: bool) -> None:
        self._connection = connection
        self._lab = lab
        self._files = files
        self._dated = dated

    # --- reading ----------------------------------------------------------------------------------

    def assembled(self, keys: Sequence[str]) -> Iterator[FoundSession]:
        """Yield those of the sessions *keys* (some hundreds at most) whose files are there."""
        yield from (found for found, _ in self._assembled(keys))

    def _assembled(self, keys: Sequence[str]) -> Iterator[tuple[FoundSession, list[KnownFile]]]:
        around = _Neighbours(self._connection, self._files, keys)
        table = read_sessions_table(self._lab.layout.sessions_table)
        for key, files in self._files.of_sessions(keys).items():
            if files:
                found = assemble(key, files, self._lab.settings.recordings, around)
                found.row = None if table is None else table.row_of(key)
                yield found, files

    def keys(self, where: str = "gone = 0") -> Iterator[list[str]]:
        """Yield the keys of the sessions for which *where* holds, some hundreds at a time, in the order in which they were found.

        The table may be changed meanwhile.
        """
        after = -1
        while True:
            rows = self._connection.execute(
                f"SELECT number, key FROM session WHERE {where} AND number > ? ORDER BY number LIMIT {_AT_ONCE}",
                (after,),
            ).fetchall()
            if not rows:
                return
            after = rows[-1][0]
            yield [key for _, key in rows]

    def with_twins(self, keys: Iterable[str]) -> list[str]:
        """Return *keys* and those that differ from one of them in case only, sorted."""
        found = set(keys)
        for some in chunks(sorted({key.casefold() for key in found})):
            rows = self._connection.execute(f"SELECT key FROM session WHERE folded IN ({_marks(some)})", some)
            found |= {key for (key,) in rows}
        return sorted(found)

    # --- after a change of files ------------------------------------------------------------------

    def refresh(self, keys: Iterable[str], current_round: int) -> set[str]:
        """Bring the rows of *keys*, and of their twins, up to their files; return the keys of those that are others now."""
        keys = set(keys)
        for some in chunks(self.with_twins(keys)):
            self._note_which_are_there(some)
        changed: set[str] = set()
        for some in chunks(self.with_twins(keys)):  # again: two new ones may be twins
            known = {
                key: (stamp, troubled)
                for key, stamp, troubled in self._connection.execute(
                    f"SELECT key, stamp, troubled FROM session WHERE key IN ({_marks(some)})", some
                )
            }
            for found, files in self._assembled(some):
                if self._update(found, files, *known.pop(found.key), current_round):
                    changed.add(found.key)
            for key, (stamp, _) in known.items():
                if stamp:
                    self._set_gone(key)
                    changed.add(key)
        return changed

    def _note_which_are_there(self, keys: Sequence[str]) -> None:
        """Add the sessions that are new; say of those known which are gone: of two that differ in case one that is there counts."""
        there = self._files.sessions_there(keys)
        rows = self._connection.execute(f"SELECT key, gone FROM session WHERE key IN ({_marks(keys)})", keys)
        known = dict(rows.fetchall())
        self._connection.executemany(
            "UPDATE session SET gone = ? WHERE key = ?",
            [(int(key not in there), key) for key, gone in known.items() if bool(gone) == (key in there)],
        )
        (last,) = self._connection.execute("SELECT COALESCE(MAX(number), 0) FROM session").fetchone()
        self._connection.executemany(
            "INSERT INTO session VALUES (?, ?, '', NULL, 0, '', 0, ?, 0, 0, 0, 0)",
            [
                (key, number, key.casefold())
                for number, key in enumerate((key for key in keys if key in there and key not in known), start=last + 1)
            ],
        )

    def _set_gone(self, key: str) -> None:
        self._connection.execute(
            "UPDATE session SET settled = 0, stamp = '', waiting = 'its videos are gone', troubled = 0 WHERE key = ?",
            (key,),
        )
        self._connection.execute("DELETE FROM named WHERE session = ?", (key,))

    def _update(
        self, found: FoundSession, files: Sequence[KnownFile], known: str, troubled: int, current_round: int
    ) -> bool:
        """Bring the row of *found* up to date; say whether it is another session than the *known* stamp stands for."""
        if troubled != bool(found.problems):
            self._connection.execute(
                "UPDATE session SET troubled = ? WHERE key = ?", (int(bool(found.problems)), found.key)
            )
        named = _named_files(self._lab, found)
        stamp = self._stamp(found, named)
        if stamp == known:
            # Its done file may have come, which changes nothing but how long it is waited for.
            self._connection.execute("UPDATE session SET again = 0 WHERE key = ? AND settled = 0", (found.key,))
            return False
        newest = max(min(file.mtime_ns / 1e9, file.first_seen) for file in files)
        self._connection.execute(
            "UPDATE session SET stamp = ?, day = ?, settled = 0, waiting = ?, again = 0, newest = ?, round = ? WHERE key = ?",
            (stamp, self._day(found), _UNFINISHED_ROUND, newest, current_round, found.key),
        )
        if known:
            self._connection.execute("DELETE FROM named WHERE session = ?", (found.key,))
        self._connection.executemany(
            "INSERT OR REPLACE INTO named(folder, name, session, stamp) VALUES (?, ?, ?, ?)",
            [(*os.path.split(path), found.key, words) for path, words in named.items()],
        )
        return True

    def _stamp(self, found: FoundSession, named: Mapping[str, str]) -> str:
        """Return the hash of all that `session_inputs` depends on, from sizes and times of change alone.

        Paths are those in the lab, as there: a lab that was moved is the same.
        """
        inside = f"{self._lab.root}/"
        metadata = str(found.metadata_file or "")
        parts = [
            [
                (name, [(str(file.path).removeprefix(inside), file.size, file.mtime_ns) for file in recording.files])
                for name, recording in sorted(found.recordings.items())
            ],
            (metadata.removeprefix(inside), _stat_words(metadata) if metadata else ""),
            sorted((path.removeprefix(inside), words) for path, words in named.items()),
            sorted(found.refused.items()),
            self._lab.settings.timezone,
            # only where there is one: else the stamps are those of before there were such tables
            *([] if found.row is None else [found.row.fingerprint]),
        ]
        return hashlib.blake2b(repr(parts).encode(), digest_size=16).hexdigest()

    def _day(self, found: FoundSession) -> str | None:
        if not self._dated:
            return None
        from dlc_assets.recordings.session_recordings import day_of  # which needs this package's discovery

        return day_of(found, self._lab).isoformat()

    # --- with time --------------------------------------------------------------------------------

    def to_be_settled(self, now: float, last_round: int) -> Iterator[dict[str, list[KnownFile]]]:
        """Yield the files of the sessions that may have settled by *now* (unix time, s), some hundreds at a time, the newest first.

        Only those that have been whole since *last_round* was done: what else belongs to others may not be found yet.
        """
        after = (math.inf, "")
        while True:
            rows = self._connection.execute(
                "SELECT key, newest FROM session WHERE settled = 0 AND gone = 0 AND again <= ? AND round <= ? "
                f"AND (newest, key) < (?, ?) ORDER BY newest DESC, key DESC LIMIT {_AT_ONCE}",
                (now, last_round, *after),
            ).fetchall()
            if not rows:
                return
            after = (rows[-1][1], rows[-1][0])
            yield self._files.of_sessions([key for key, _ in rows])

    def write_waiting(self, keys: Iterable[str], now: float) -> None:
        """Write of the sessions *keys* whether they have settled by *now* (unix time, s), or what they wait for."""
        rows = []
        for key, files in self._files.of_sessions(list(keys)).items():
            if files:
                waiting = waiting_of(files, self._lab.settings, now)
                rows.append((int(not waiting.words), waiting.words, min(waiting.again, _NEVER), key))
        self._connection.executemany("UPDATE session SET settled = ?, waiting = ?, again = ? WHERE key = ?", rows)


class _Neighbours:
    """What is around the sessions *keys*, by the index; see `assembly.Surroundings`. For a moment: nothing may change meanwhile."""

    def __init__(self, connection: sqlite3.Connection, files: KnownFiles, keys: Sequence[str]) -> None:
        self._connection = connection
        self._files = files
        self._metadata: dict[int, dict[str, str]] = {}
        self._sessions: dict[int, tuple[int, list[str]]] = {}
        folded = [key.casefold() for key in keys]
        rows = connection.execute(
            f"SELECT folded, MIN(key) FROM session WHERE folded IN ({_marks(folded)}) AND gone = 0 "
            "GROUP BY folded HAVING COUNT(*) > 1",
            folded,
        )
        self._twins = dict(rows.fetchall())

    def metadata_files(self, folder: int) -> Mapping[str, str]:
        if folder not in self._metadata:
            rows = self._connection.execute("SELECT session, name FROM metadata WHERE folder = ?", (folder,))
            self._metadata[folder] = dict(rows.fetchall())
        return self._metadata[folder]

    def sessions_of(self, folder: int) -> tuple[int, list[str]]:
        if folder not in self._sessions:
            where = "FROM file WHERE folder = ? AND session IS NOT NULL"
            (count,) = self._connection.execute(f"SELECT COUNT(DISTINCT session) {where}", (folder,)).fetchone()
            some = self._connection.execute(f"SELECT DISTINCT session {where} ORDER BY session LIMIT 3", (folder,))
            self._sessions[folder] = (count, [key for (key,) in some.fetchall()])
        return self._sessions[folder]

    def twin(self, key: str) -> tuple[str, str] | None:
        other = self._twins.get(key.casefold(), key) if self._twins else key
        if other == key:
            return None
        files = self._files.of_sessions([other])[other]
        return other, str(min(files, key=lambda file: file.order).path)


def chunks(keys: Sequence[str]) -> Iterator[list[str]]:
    """Yield *keys* in pieces that fit a statement."""
    for start in range(0, len(keys), _AT_ONCE):
        yield list(keys[start : start + _AT_ONCE])


def _marks(values: Sequence[str]) -> str:
    return ", ".join("?" * len(values))


def _named_files(lab: Lab, found: FoundSession) -> dict[str, str]:
    """Return the files that session.yaml or lab.yaml name, of time stamps and to be extended, with what tells a changed one."""
    try:
        files = time_files(lab, found)
    except DlcAssetsError:
        return {}  # probing it fails with the reason
    extended = extended_file(found)
    paths = [os.path.normpath(file) for file in (*files, *([extended] if extended is not None else []))]
    return {path: _stat_words(path) for path in paths}


def _stat_words(path: str) -> str:
    try:
        status = os.stat(path)  # noqa: PTH116  (over every session of a lab: a Path is slow)
    except OSError:
        return ""
    return f"{status.st_size}|{status.st_mtime_ns}"
