"""The files that the index keeps, by session or by path, each taken once though links lead to it by several paths."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

from dlc_assets.recordings.found import KnownFile
from dlc_assets.recordings.placing import Root, is_below

_COLUMNS = (
    "f.folder, d.path, d.real, d.links, f.name, f.size, f.mtime_ns, f.first_seen, f.arrived, f.real, f.place, f.session, f.subject, "
    "f.session_name, f.camera, f.recording, f.part, f.done, f.ending"
)


class KnownFiles:
    """Questions about the tables `file` and `folder`."""

    def __init__(self, connection: sqlite3.Connection, roots: Sequence[Root]) -> None:
        self._connection = connection
        self._roots_overlap = any(
            is_below(one.real, other.real) and not is_below(one.path, other.path) for one in roots for other in roots
        )

    def aliased(self) -> bool:
        """Say whether one file may be found by several paths: by links, or by roots that are links to one another."""
        linked = self._connection.execute(
            "SELECT EXISTS (SELECT 1 FROM folder WHERE links > 0) OR EXISTS (SELECT 1 FROM file WHERE real IS NOT NULL)"
        )
        return self._roots_overlap or bool(linked.fetchone()[0])

    def paths_to(self, identity: str) -> list[KnownFile]:
        """Return the ways to the file *identity* that are somebody's, the best first: its own path, then by links passed."""
        folder, name = os.path.split(identity)
        files = [
            *self._where("d.real = ? AND f.name = ? AND f.real IS NULL AND f.session IS NOT NULL", (folder, name)),
            *self._where("f.real = ? AND f.session IS NOT NULL", (identity,)),
        ]
        return sorted(files, key=lambda file: (str(file.path) != identity, file.links, file.order))

    def sessions_sharing(self, folder: int, names: Iterable[str] | None = None) -> set[str]:
        """Return the keys of all sessions that have, by some path, one of the files of *folder* (those called *names*)."""
        if names is None:
            files = self._where("f.folder = ?", (folder,))
        else:
            files = [file for name in names for file in self._where("f.folder = ? AND f.name = ?", (folder, name))]
        return {other.session_key for file in files for other in self.paths_to(file.identity)}

    def of_sessions(self, keys: Sequence[str]) -> dict[str, list[KnownFile]]:
        """Return the files of each of *keys* (some hundreds at most), those left out that have a better path."""
        found: dict[str, list[KnownFile]] = {key: [] for key in keys}
        aliased = self.aliased()
        for file in self._where(f"f.session IN ({', '.join('?' * len(keys))})", keys):
            if not aliased or self.paths_to(file.identity)[0].path == file.path:
                found[file.session_key].append(file)
        return found

    def sessions_there(self, keys: Sequence[str]) -> set[str]:
        """Return those of *keys* (some hundreds at most) that have files."""
        if self.aliased():
            return {key for key, files in self.of_sessions(keys).items() if files}
        rows = self._connection.execute(
            f"SELECT DISTINCT session FROM file WHERE session IN ({', '.join('?' * len(keys))})", keys
        )
        return {key for (key,) in rows}

    def _where(self, condition: str, values: Sequence[Any]) -> list[KnownFile]:
        rows = self._connection.execute(
            f"SELECT {_COLUMNS} FROM file AS f JOIN folder AS d ON d.id = f.folder WHERE {condition}", values
        )
        return [KnownFile(*row) for row in rows]
