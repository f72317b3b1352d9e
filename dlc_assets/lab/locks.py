"""Who holds what: file locks that the operating system frees when their holder dies, however it dies."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from dlc_assets.lab.errors import BusyError
from dlc_assets.lab.files import saying_when_full

_POLL = 0.5
_held_here: set[Path] = set()


def _holder_file(lock: Path) -> Path:
    return lock.with_suffix(".holder.json")


def _describe_holder(lock: Path) -> str:
    try:
        holder = json.loads(_holder_file(lock).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "another process"
    return f"process {holder.get('pid')} on {holder.get('host')} ({holder.get('purpose')}, since {holder.get('since')})"


@contextmanager
def hold(
    lock: Path,
    purpose: str,
    *,
    log: Callable[[str], None] | None = None,
    timeout: float | None = None,
) -> Iterator[None]:
    """Hold the file lock *lock*, waiting (asleep, interruptibly) for whoever has it.

    Parameters
    ----------
    purpose
        Words for whoever waits: what the holder is doing.
    log
        Gets one line when there is a wait.
    timeout
        Seconds to wait before `BusyError`; None waits for ever.
    """
    with saying_when_full(lock):
        lock.parent.mkdir(parents=True, exist_ok=True)
        lock.touch()
    file_lock = FileLock(lock)
    deadline = None if timeout is None else time.monotonic() + timeout
    said = False
    while True:
        try:
            file_lock.acquire(timeout=0)
            break
        except Timeout:
            if deadline is not None and time.monotonic() >= deadline:
                raise BusyError(f"{purpose}: {_describe_holder(lock)} is at it. Try again when it is done.") from None
            if log is not None and not said:
                log(f"{purpose}: waiting for {_describe_holder(lock)}")
                said = True
            time.sleep(_POLL)
    try:
        holder = {
            "pid": os.getpid(),
            "host": socket.gethostname(),
            "purpose": purpose,
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        with saying_when_full(_holder_file(lock)):
            _holder_file(lock).write_text(json.dumps(holder), encoding="utf-8")
        _held_here.add(lock)
        yield
    finally:
        _held_here.discard(lock)
        file_lock.release()


def held_by_this_process(lock: Path) -> bool:
    """Say whether this very process holds *lock* (a second `hold` in it would wait for itself)."""
    return lock in _held_here


def is_held(lock: Path) -> bool:
    """Say whether a living process holds *lock*."""
    if not lock.exists():
        return False
    probe = FileLock(lock)
    try:
        probe.acquire(timeout=0)
    except Timeout:
        return True
    probe.release()
    return False
