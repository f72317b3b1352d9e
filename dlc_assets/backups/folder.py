"""The folder of a lab's backups: each file once, under the name of its content, and a list of files for each backup.

A backup is whole when its list is there, which is written last. What a backup that died has copied is found again by the next one.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from dlc_assets.lab.errors import InputError, NotFoundError, did_you_mean
from dlc_assets.lab.files import read_json, saying_when_full, write_json
from dlc_assets.lab.progress import LoggedProgress

_MARK, _FORMAT = "dlc_assets_backup.json", 1
_BLOCK = 1 << 20


@dataclass(frozen=True)
class KeptFile:
    """One file of a backup: the hash and size of its content, and what it looked like in the lab."""

    sha256: str
    size: int
    stamp: str


@dataclass
class Listed:
    """What one backup holds, by path in a restored lab."""

    at: str
    root: str
    files: dict[str, KeptFile] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


class BackupFolder:
    """A folder of backups, and whose they are."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def owner(self) -> str | None:
        """Return the id of the lab whose backups are here; None where the folder is new or empty.

        Raises
        ------
        InputError
            The folder holds something else, or backups in a format of a later release.
        """
        mark = self.place / _MARK
        if not mark.is_file():
            if self.place.is_dir() and any(self.place.iterdir()):
                raise InputError(
                    f"{self.place} is no folder of backups (it has no {_MARK}), and it is not empty. Name another."
                )
            if self.place.exists() and not self.place.is_dir():
                raise InputError(f"{self.place} is a file: name a folder.")
            return None
        try:
            stated = read_json(mark)
            known = stated["format"] == _FORMAT
            lab = str(stated["lab"])
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{mark} is damaged ({error}): expected the format and the lab of these backups."
            ) from None
        if not known:
            raise InputError(
                f"{mark}: format {stated['format']} was written by another release; this one reads {_FORMAT}."
            )
        return lab

    def claim(self, lab: str) -> None:
        """Make this the folder of a lab's backups."""
        write_json(self.place / _MARK, {"format": _FORMAT, "lab": lab})

    def remove_unfinished(self) -> None:
        """Remove what a backup that died was writing; only one is made at a time."""
        for path in (self.place / "files").glob(".*.partial"):
            path.unlink(missing_ok=True)

    def names(self) -> list[str]:
        """Return the names of the whole backups, oldest first: when they were made, in UTC."""
        return sorted(path.stem for path in (self.place / "backups").glob("[!.]*.json"))

    def read(self, name: str | None = None) -> Listed:
        """Read the list of a backup, by default the newest.

        Raises
        ------
        NotFoundError
            There is none of that name, or none at all.
        InputError
            The list is damaged, or names a path outside the lab.
        """
        known = self.names()
        if not known:
            raise NotFoundError(
                f"{self.place} holds no whole backup. Is it the folder that `dlc-assets backup` was given?"
            )
        if name is not None and name not in known:
            raise NotFoundError(
                f"{self.place} holds no backup {name}.{did_you_mean(name, known)} The newest: {', '.join(known[-5:])}."
            )
        path = self._list(name or known[-1])
        try:
            stated = read_json(path)
            files = {str(key): KeptFile(**value) for key, value in stated.pop("files").items()}
            listed = Listed(files=files, **stated)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            older = ", ".join(known[:-1][-3:]) or "none"
            raise InputError(f"{path} is damaged ({error}). Other backups here: {older}; name one with --at.") from None
        for each in (*listed.files, *listed.links):
            if PurePosixPath(each).is_absolute() or ".." in PurePosixPath(each).parts:
                raise InputError(
                    f"{path} names {each}, which lies outside a lab: nobody but a person has written that."
                )
        return listed

    def write(self, name: str, listed: Listed) -> None:
        """Write the list of a backup, which makes it whole."""
        write_json(self._list(name), asdict(listed))

    def has(self, kept: KeptFile) -> bool:
        path = self.object(kept.sha256)
        return path.is_file() and path.stat().st_size == kept.size

    def object(self, sha256: str) -> Path:
        return self.place / "files" / sha256[:2] / sha256

    def keep(self, write: Callable[[Path], None], stamp: str) -> tuple[KeptFile, bool]:
        """Keep what *write* writes to the path that it is given; say whether it is new here. What is new is read back from the disk.

        Raises
        ------
        InputError
            What is read back is not what was written: the disk of the backup is not to be trusted.
        """
        incoming = self.place / "files" / f".{secrets.token_hex(8)}.partial"
        try:
            with saying_when_full(incoming):
                incoming.parent.mkdir(parents=True, exist_ok=True)
                write(incoming)
                sha256, size = hashed(incoming)
                kept = KeptFile(sha256, size, stamp)
                final = self.object(sha256)
                new = not self.has(kept)
                if new:
                    with incoming.open("rb+") as written:
                        os.fsync(written.fileno())
                        _forget(written.fileno())
                    final.parent.mkdir(parents=True, exist_ok=True)
                    incoming.replace(final)
        finally:
            incoming.unlink(missing_ok=True)
        if new and (problem := self.problem(kept)):
            final.unlink(missing_ok=True)
            raise InputError(
                f"{problem}, right after it was written: is the disk of {self.place} failing? It was removed again."
            )
        return kept, new

    def problem(self, kept: KeptFile) -> str:
        """Read a file of a backup; return what is wrong with it, empty where it is what it was."""
        path = self.object(kept.sha256)
        try:
            found, size = hashed(path)
        except FileNotFoundError:
            return f"{path} is missing"
        except OSError as error:
            return f"{path} cannot be read ({error.strerror or error})"
        return (
            "" if found == kept.sha256 else f"{path} is damaged: {size} bytes of another content, {kept.size} were kept"
        )

    def prune(self, keep: int) -> int:
        """Remove all backups but the newest *keep*, and files that none of these needs; return how many backups went."""
        old = self.names()[:-keep]
        if not old:
            return 0
        needed = {kept.sha256 for name in self.names()[-keep:] for kept in self.read(name).files.values()}
        for name in old:
            self._list(name).unlink()
        for path in self._objects():
            if path.name not in needed:
                path.unlink()
        return len(old)

    def _objects(self) -> Iterator[Path]:
        return (self.place / "files").glob("[0-9a-f][0-9a-f]/[0-9a-f]*")

    def _list(self, name: str) -> Path:
        return self.place / "backups" / f"{name}.json"


def hashed(path: Path) -> tuple[str, int]:
    """Return sha256 and size of a file's bytes."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
            size += len(block)
    return digest.hexdigest(), size


def _forget(descriptor: int) -> None:
    """Ask the system to drop what it holds of the file in memory, so that reading it back reads the disk."""
    forget: Any = getattr(os, "posix_fadvise", None)
    if forget is not None:
        forget(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


class BytesProgress:
    """Says how many of so many bytes are done."""

    def __init__(self, log: Callable[[str], None], what: str, total: int) -> None:
        self._progress = LoggedProgress(log, what, "MB")
        self._total, self._done = _megabytes(total), 0

    def add(self, size: int) -> None:
        self._done += size
        if (done := _megabytes(self._done)) < self._total:
            self._progress(done, self._total)

    def end(self) -> None:
        if self._total:
            self._progress(self._total, self._total)


def _megabytes(size: int) -> float:
    return round(size / 1e6, 1)
