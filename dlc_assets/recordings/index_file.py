"""The SQLite file of the recording index: its tables, and opening it, anew where it is damaged or of another version."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SCHEMA_VERSION = 1
_BUSY = 60.0  # s to wait for another process that writes
_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)

# `folder.digest` is NULL until the folder is read (again); `seen` holds the folders of the round in progress.
# `file.session` is NULL of videos that fit no template. `metadata.session` is '' for session.yaml, else the key in `<key>.yaml`.
# `named` are the files that a session's metadata names (times), with their size and time of change; `refused` is what is never taken;
# `bereft` are sessions that lost files and are looked at when the round is done.
TABLES = """
CREATE TABLE IF NOT EXISTS about(name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS root(path TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS folder(
    id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE, parent INTEGER, real TEXT NOT NULL, links INTEGER NOT NULL,
    digest BLOB, problem TEXT NOT NULL DEFAULT '', ignored TEXT NOT NULL DEFAULT '{}');
CREATE INDEX IF NOT EXISTS folder_parent ON folder(parent);
CREATE INDEX IF NOT EXISTS folder_real ON folder(real);
CREATE INDEX IF NOT EXISTS folder_links ON folder(links) WHERE links > 0;
CREATE TABLE IF NOT EXISTS seen(folder INTEGER PRIMARY KEY, missing INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS file(
    folder INTEGER NOT NULL, name TEXT NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, first_seen REAL NOT NULL,
    arrived REAL NOT NULL, real TEXT, place INTEGER, session TEXT, subject TEXT, session_name TEXT, camera TEXT, recording TEXT,
    part TEXT, done INTEGER NOT NULL, ending TEXT, PRIMARY KEY(folder, name)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS file_session ON file(session) WHERE session IS NOT NULL;
CREATE INDEX IF NOT EXISTS file_unmatched ON file(folder) WHERE session IS NULL;
CREATE INDEX IF NOT EXISTS file_real ON file(real) WHERE real IS NOT NULL;
CREATE TABLE IF NOT EXISTS metadata(
    folder INTEGER NOT NULL, session TEXT NOT NULL, name TEXT NOT NULL, size INTEGER NOT NULL, mtime_ns INTEGER NOT NULL,
    PRIMARY KEY(folder, session)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS named(
    folder TEXT NOT NULL, name TEXT NOT NULL, session TEXT NOT NULL, stamp TEXT NOT NULL, PRIMARY KEY(folder, name, session)
    ) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS named_session ON named(session);
CREATE TABLE IF NOT EXISTS refused(folder INTEGER NOT NULL, name TEXT NOT NULL, reason TEXT NOT NULL, PRIMARY KEY(folder, name))
    WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS bereft(session TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS session(
    key TEXT PRIMARY KEY, number INTEGER NOT NULL UNIQUE, stamp TEXT NOT NULL, day TEXT, settled INTEGER NOT NULL,
    waiting TEXT NOT NULL, gone INTEGER NOT NULL, folded TEXT NOT NULL, again REAL NOT NULL, newest REAL NOT NULL,
    round INTEGER NOT NULL, troubled INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS session_folded ON session(folded);
CREATE INDEX IF NOT EXISTS session_unsettled ON session(newest, key, again, round) WHERE settled = 0 AND gone = 0;
CREATE INDEX IF NOT EXISTS session_troubled ON session(key) WHERE troubled = 1;
"""


def is_damage(error: sqlite3.DatabaseError) -> bool:
    """Tell a file that is no whole database from one that is locked, full or misused."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGED


def connect(path: Path | None) -> tuple[sqlite3.Connection, str]:
    """Open the index at *path*, or one in memory, with its tables; say in a sentence if what was there had to be thrown away.

    Statements are their own transactions unless ``BEGIN`` says otherwise.
    """
    if path is None:
        return _with_tables(sqlite3.connect(":memory:", isolation_level=None)), ""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        connection = _opened(path)
        if _version(connection) in {0, SCHEMA_VERSION}:
            return _with_tables(connection), ""
        connection.close()
        why = "was written by another version"
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        why = f"is damaged ({error})"
    throw_away(path)
    return _with_tables(_opened(path)), made_anew(path, why)


def made_anew(path: Path, why: str) -> str:
    """Return the sentence that says that the index at *path* is thrown away."""
    return f"{path} {why}: it is made anew from the recording folders; no recording or result is lost."


def throw_away(path: Path) -> None:
    """Remove the index at *path*. A process that has it open goes on with what it has."""
    for file in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
        file.unlink(missing_ok=True)


def _opened(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        # A power cut may cost the last commits, never the file: the folders are read again.
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute("PRAGMA cache_size = -16000")
        _version(connection)
    except sqlite3.DatabaseError:
        connection.close()
        raise
    return connection


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _with_tables(connection: sqlite3.Connection) -> sqlite3.Connection:
    if _version(connection) != SCHEMA_VERSION:
        connection.executescript(f"BEGIN IMMEDIATE; {TABLES} PRAGMA user_version = {SCHEMA_VERSION}; COMMIT;")
    return connection


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Make the statements within all happen or none, and wait at the disk once."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
