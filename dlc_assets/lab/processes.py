"""Processes of this host: whether one lives, and that none outlives the one that started it.

What is computed unseen holds a GPU, and nobody can stop it. A parent that is killed says nothing to its children; so each of them
waits, in a thread, for something that the operating system closes when the parent dies, however it dies.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing import connection, parent_process
from pathlib import Path

EXIT_STATUS = 70  # of a process that ended because its parent had
_PR_SET_PDEATHSIG = 1  # of Linux's prctl
_watching = threading.Lock()


def is_alive(pid: int) -> bool:
    """Say whether the process *pid* of this host runs; one that has ended and that nobody has waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        if Path("/proc/self").exists():
            return False
    try:  # not Linux
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def end_with_parent(*, grace_seconds: float = 0.0) -> None:
    """End this process when the one that started it with `multiprocessing` dies; do nothing in any other process.

    Parameters
    ----------
    grace_seconds
        With 0, the end comes at once. Else the process is interrupted, as with Ctrl-C, and has so long to end by itself.
    """
    parent = parent_process()
    if parent is None or not _watching.acquire(blocking=False):
        return  # started in another way, or watched already
    if grace_seconds == 0 and sys.platform == "linux":
        _let_the_kernel_kill(parent.pid)
    _end_after(lambda: connection.wait([parent.sentinel]), grace_seconds)


def end_with_input(*, grace_seconds: float) -> None:
    """End this process when its standard input does, which is a pipe that its parent holds.

    With 0, the end comes at once. Else it and those that it started with `multiprocessing` are interrupted, as with Ctrl-C, and have
    *grace_seconds* to end by themselves.
    """

    def wait() -> None:
        while os.read(sys.stdin.fileno(), 1024):
            continue  # nobody writes to it; what comes nevertheless means nothing

    _end_after(wait, grace_seconds)


def _end_after(wait: Callable[[], object], grace_seconds: float) -> None:
    # What a script's `&` starts ignores SIGINT, and so does all that it starts: nothing would end in order.
    ignored = signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if grace_seconds and ignored and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)

    def watch() -> None:
        wait()
        if grace_seconds:
            for child in multiprocessing.active_children():
                if child.pid is not None:
                    os.kill(child.pid, signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(grace_seconds)
        os._exit(EXIT_STATUS)

    threading.Thread(target=watch, name="end-with-parent", daemon=True).start()


def _let_the_kernel_kill(parent: int | None) -> None:
    """Make Linux kill this process with its parent: a thread must wait where C code holds the interpreter's lock, the kernel not."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it died before the kernel was asked
        os._exit(EXIT_STATUS)
