"""Reading one folder: its entries, and a digest that tells whether any of them has changed since it was read last."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

_LATEST = 2**63 - 1  # ns; a later time, in the year 2262, is nonsense, and no database takes it


class Entry(NamedTuple):
    """One entry of a folder.

    `size` (bytes) and `mtime_ns` are those of what a link leads to; `size` is an error's number where `kind` is ``lost``: the entry is
    there and cannot be looked at. `link` is empty but for symbolic links, of which it tells one target from another.
    """

    name: str
    kind: Literal["file", "folder", "lost"]
    size: int
    mtime_ns: int
    link: str


@dataclass(frozen=True)
class Listing:
    """The entries of a folder that are not hidden, sorted by name, and their digest."""

    raw: list[tuple[str, str, int, int, str]]
    digest: bytes

    def entries(self) -> Iterator[Entry]:
        """Yield the entries."""
        return map(Entry._make, self.raw)


def list_folder(path: str) -> Listing:
    """Read the folder at *path*.

    Raises
    ------
    OSError
        The folder is not there, is none, or cannot be read.
    """
    # Plain tuples, and one hash over all of them: this runs over every file of a lab in each look.
    entries: list[tuple[str, str, int, int, str]] = []
    with os.scandir(path) as found:
        for entry in found:
            name = entry.name
            if name[0] == ".":
                continue
            try:
                if entry.is_symlink():
                    entries.append(_link(entry))
                elif entry.is_dir(follow_symlinks=False):
                    entries.append((name, "folder", 0, 0, ""))
                else:
                    status = entry.stat(follow_symlinks=False)
                    entries.append((name, "file", status.st_size, min(status.st_mtime_ns, _LATEST), ""))
            except FileNotFoundError:
                continue  # it vanished between listing and looking: it is not there
            except OSError as error:
                entries.append((name, "lost", error.errno or 0, 0, ""))
    entries.sort()
    # repr, and not the text itself, because names that are not valid text cannot be encoded.
    digest = hashlib.blake2b(repr(entries).encode(), digest_size=16).digest()
    return Listing(entries, digest)


def _link(entry: os.DirEntry[str]) -> tuple[str, str, int, int, str]:
    target = os.readlink(entry.path)  # noqa: PTH115 (the text of the link, as written)
    try:
        status = entry.stat()
    except OSError as error:  # also where it leads nowhere, or in a circle
        return (entry.name, "lost", error.errno or 0, 0, target)
    link = f"{target}|{status.st_dev}|{status.st_ino}"
    if entry.is_dir():
        return (entry.name, "folder", 0, 0, link)
    return (entry.name, "file", status.st_size, min(status.st_mtime_ns, _LATEST), link)
