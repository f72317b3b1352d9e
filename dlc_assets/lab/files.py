"""Writing files so that no reader ever sees half of one, and naming content by its hash."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

_BLOCK = 1 << 22


def _beside(final: Path) -> Path:
    """Return a hidden name beside *final*: same folder (so that a rename is atomic), same suffix."""
    return final.with_name(f".{final.stem}.{secrets.token_hex(4)}.partial{final.suffix}")


@contextmanager
def atomic_path(final: Path) -> Iterator[Path]:
    """Give a path beside *final* to write to; it takes *final*'s place on success and vanishes on failure."""
    final.parent.mkdir(parents=True, exist_ok=True)
    partial = _beside(final)
    try:
        yield partial
        if not partial.is_symlink():  # a link's target is the lab's own
            mode = "r+b" if os.name == "nt" else "rb"  # Windows flushes only what is open for writing
            with partial.open(mode) as written:
                os.fsync(written.fileno())
        partial.replace(final)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def atomic_folder(final: Path) -> Iterator[Path]:
    """Give an empty folder beside *final* to fill; it becomes *final* on success and vanishes on failure.

    Raises
    ------
    FileExistsError
        *final* exists already: finished folders are never changed.
    """
    if final.exists():
        raise FileExistsError(f"{final} exists already; finished folders are never changed.")
    final.parent.mkdir(parents=True, exist_ok=True)
    partial = _beside(final)
    partial.mkdir()
    try:
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
