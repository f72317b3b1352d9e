"""Hashing a video while it is decoded, so that a large file on a share is read while the decoder works on it, not once more after."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

_BLOCK = 1 << 22  # bytes; hashlib lets go of the interpreter's lock meanwhile


@contextmanager
def hashed_meanwhile(path: Path) -> Iterator[Callable[[], str]]:
    """Hash the file at *path* in a thread; what is given waits for the sha256 (hex). An error in the block ends the thread.

    Raises
    ------
    OSError
        From what is given: the file cannot be read.
    """
    stop = threading.Event()

    def work() -> str:
        digest = hashlib.sha256()
        with path.open("rb") as stream:
            while not stop.is_set() and (block := stream.read(_BLOCK)):
                digest.update(block)
        return digest.hexdigest()

    with ThreadPoolExecutor(1, thread_name_prefix="sha256") as pool:
        running = pool.submit(work)
        try:
            yield running.result
        finally:
            stop.set()
