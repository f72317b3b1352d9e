"""The processes of one lab, found in /proc (so on Linux only), and what each of them is."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dlc_assets.lab.lab import LAB_VARIABLE
from dlc_assets.serving import CODE_SERVER, DAEMON, UI

Role = Literal["dev", "daemon", "code server", "UI", "run worker", "step", "other"]


@dataclass(frozen=True)
class LabProcess:
    """A living process of a lab."""

    pid: int
    parent: int
    role: Role


def lab_processes(lab: Path) -> list[LabProcess]:
    """Return the living processes that work for *lab*: those whose environment or command line names it."""
    found: dict[int, tuple[int, list[str]]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with suppress(
                FileNotFoundError, ProcessLookupError, PermissionError
            ):  # it has just ended, or is another user's
                state, parent = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                words = _strings(entry / "cmdline")
                if state != "Z" and (f"{LAB_VARIABLE}={lab}" in _strings(entry / "environ") or str(lab) in words):
                    found[int(entry.name)] = int(parent), words
    spawned = {pid for pid, (_, words) in found.items() if any("spawn_main" in word for word in words)}
    return [
        LabProcess(pid, parent, _role(words, pid in spawned, parent in spawned))
        for pid, (parent, words) in sorted(found.items())
    ]


def _strings(file: Path) -> list[str]:
    return [part.decode(errors="replace") for part in file.read_bytes().split(b"\0") if part]


def _role(words: list[str], spawned: bool, of_spawned: bool) -> Role:
    if spawned:
        return "step" if of_spawned else "run worker"
    if "dev" in words and "dlc_assets.cli" in words:
        return "dev"
    roles: tuple[tuple[str, Role], ...] = ((DAEMON, "daemon"), (CODE_SERVER, "code server"), (UI, "UI"))
    return next((role for module, role in roles if module in words), "other")


def kill(processes: list[LabProcess]) -> None:
    """End *processes* with SIGKILL, those that have not ended by themselves."""
    for process in processes:
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)


def start_dev(lab: Path, log: Path, port: int, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start `dlc-assets dev` on *lab* in a process group of its own, adding to *log*; it ends when this process does."""
    with log.open("ab") as stream:
        return subprocess.Popen(
            [
                sys.executable,
                "-m",
                "dlc_assets.service",
                "dlc_assets.cli",
                "dev",
                "--lab",
                str(lab),
                "--port",
                str(port),
            ],
            stdin=subprocess.PIPE,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            start_new_session=True,
        )


def leftovers(lab: Path) -> Iterator[str]:
    """Give words for each process of *lab*."""
    for process in lab_processes(lab):
        yield f"{process.role} (process {process.pid}, child of {process.parent})"
