"""Writing files so that no reader ever sees half of one, also where the disk is full, and naming content by its hash."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date, datetime
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from dlc_assets.lab.errors import DlcAssetsError, EnvironmentProblem

_BLOCK = 1 << 22
_FULL = {errno.ENOSPC, errno.EDQUOT}
# What `_beside` makes: the host, the process and chance tell apart who writes at the same time.
_PARTIAL = re.compile(r"\.(.+)\.([0-9a-f]{4})([0-9a-f]{6,})([0-9a-f]{4})\.partial(.*)")
_NOTHING_FREE = 1 << 16  # bytes; less cannot be had in one piece on every file system


def _beside(final: Path) -> Path:
    """Return a hidden name beside *final*: same folder (so that a rename is atomic), same suffix; it says who writes."""
    writer = f"{_this_host()}{os.getpid():06x}{secrets.token_hex(2)}"
    return final.with_name(f".{final.stem}.{writer}.partial{final.suffix}")


def writer_here(path: Path) -> int | None:
    """Return the process of this host that writes *path*, or did when it died; None where the name is no unfinished file's."""
    hidden = _PARTIAL.fullmatch(path.name)
    return int(hidden[3], 16) if hidden is not None and hidden[2] == _this_host() else None


@cache
def _this_host() -> str:
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:4]


@contextmanager
def saying_when_full(place: Path) -> Iterator[None]:
    """Turn whatever a full disk makes of writing to *place* into one error that says so.

    Raises
    ------
    EnvironmentProblem
        The disk, or the user's quota on it, is full.
    """
    try:
        yield
    except DlcAssetsError:
        raise
    except Exception as error:
        if not _is_for_want_of_space(error, place):
            raise
        raise EnvironmentProblem(
            f"No space is left to write {_meant(place)}: {_free_words(place)} on this disk ({error}). What was there before is as it was, "
            "and no part of the new file was kept. Free some space, then run this again: it goes on from what is finished."
        ) from error


def _is_for_want_of_space(error: BaseException, place: Path) -> bool:
    """Tell from the error, or from those behind it; some libraries (numpy, PyTorch) lose the number, so the disk is asked too."""
    behind: BaseException | None = error
    while behind is not None:
        if getattr(behind, "errno", None) in _FULL:
            return True
        behind = behind.__cause__ or behind.__context__
    free = _free(place)
    return free is not None and free < _NOTHING_FREE


def _meant(place: Path) -> Path:
    """Return the final name of a file that is written under a hidden one."""
    hidden = _PARTIAL.fullmatch(place.name)
    return place if hidden is None else _meant(place.with_name(hidden[1] + hidden[5]))


def _free(place: Path) -> int | None:
    """Return the bytes that are free where *place* lies, or would lie; None where the disk does not say."""
    folder = next((parent for parent in place.absolute().parents if parent.is_dir()), None)
    try:
        return None if folder is None else shutil.disk_usage(folder).free
    except OSError:
        return None


def _free_words(place: Path) -> str:
    free = _free(place)
    if free is None:
        return "nobody knows how much is free"
    return f"{free / 1e6:.1f} MB are free" + (" (is there a quota, or no room for more files?)" if free > 1e8 else "")


@contextmanager
def atomic_path(final: Path) -> Iterator[Path]:
    """Give a path beside *final* to write to; it takes *final*'s place on success and vanishes on failure.

    Raises
    ------
    EnvironmentProblem
        The disk is full.
    """
    partial = _beside(final)
    try:
        with saying_when_full(final):
            final.parent.mkdir(parents=True, exist_ok=True)
            yield partial
            if not partial.is_symlink():  # a link's target is the lab's own
                mode = "r+b" if os.name == "nt" else "rb"  # Windows flushes only what is open for writing
                with partial.open(mode) as written:
                    os.fsync(written.fileno())
            partial.replace(final)
    finally:
        partial.unlink(missing_ok=True)


def copy_to(file: Path, copy: Path) -> None:
    """Copy *file* to *copy* in one step, in the place of what was there.

    Raises
    ------
    EnvironmentProblem
        The disk is full.
    """
    with atomic_path(copy) as partial:
        shutil.copyfile(file, partial)


@contextmanager
def atomic_folder(final: Path) -> Iterator[Path]:
    """Give an empty folder beside *final* to fill; it becomes *final* on success and vanishes on failure.

    Raises
    ------
    FileExistsError
        *final* exists already: finished folders are never changed.
    EnvironmentProblem
        The disk is full.
    """
    if final.exists():
        raise FileExistsError(f"{final} exists already; finished folders are never changed.")
    partial = _beside(final)
    try:
        with saying_when_full(final):
            final.parent.mkdir(parents=True, exist_ok=True)
            partial.mkdir()
            yield partial
            partial.rename(final)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write *text* as UTF-8 to *path* in one step."""
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, obj: Any) -> None:
    """Write *obj* as JSON to *path* in one step."""
    write_text(path, json.dumps(_plain(obj), indent=2, sort_keys=True, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read the JSON file at *path*."""
    return json.loads(path.read_text(encoding="utf-8"))


def sha256_file(path: Path) -> str:
    """Return the sha256 (hex) of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256", _bufsize=_BLOCK).hexdigest()


def sha256_unchanged_file(path: Path) -> str:
    """Return `sha256_file`, computed once as long as the file's size and time of change stay: for large files asked for often."""
    status = path.stat()
    return _sha256_of(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=1_000)
def _sha256_of(path: Path, _size: int, _mtime_ns: int) -> str:
    return sha256_file(path)


def size_of(path: Path) -> int:
    """Return the bytes of the file at *path*, or of all files below it; 0 where there is nothing."""
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file() and not file.is_symlink())


def size_words(size: int) -> str:
    """Return ``512 bytes``, ``1.4 MB`` or ``98.0 MB``."""
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= unit:
            return f"{size / unit:.1f} {name}"
    return f"{size} bytes"


def content_hash(obj: Any) -> str:
    """Return the sha256 (hex) of *obj* as canonical JSON (sorted keys, no spaces, tuples as lists)."""
    canonical = json.dumps(_plain(obj), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _plain(obj: Any) -> Any:
    if isinstance(obj, Mapping):
        return {str(key): _plain(value) for key, value in obj.items()}
    if isinstance(obj, list | tuple):
        return [_plain(value) for value in obj]
    if isinstance(obj, set | frozenset):
        return sorted((_plain(value) for value in obj), key=str)
    if isinstance(obj, Path):
        return obj.as_posix()
    if isinstance(obj, datetime | date):
        return obj.isoformat()
    if isinstance(obj, str | int | float | bool) or obj is None:
        return obj
    if hasattr(obj, "item"):  # a numpy scalar
        return obj.item()
    return str(obj)  # Fraction and the like have an exact text
