"""The lab's folder: whether its files can be read and its store written, and whether databases and locks are safe where it lies."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

from dlc_assets.doctor.findings import Finding
from dlc_assets.lab.errors import BusyError, EnvironmentProblem
from dlc_assets.lab.file_systems import network_file_system
from dlc_assets.lab.files import atomic_path
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.locks import hold

_TRY_TO_HOLD = """
import sys
from pathlib import Path
from dlc_assets.lab.errors import BusyError
from dlc_assets.lab.locks import hold
try:
    with hold(Path(sys.argv[1]), "doctor", timeout=0):
        print("held")
except BusyError:
    print("busy")
"""


def lab_files(lab: Lab) -> Iterator[Finding]:
    """Say whether lab.yaml, the model specifications and the recordings' roots can be read."""
    settings = lab.settings
    good, bad = lab.specifications()
    for why in bad.values():
        yield Finding("lab", "error", why)
    for entry, root in zip(settings.recordings, lab.recording_roots(), strict=True):
        if not root.is_dir():
            yield Finding(
                "lab",
                "error",
                f"there is no folder {root} (recordings: root {entry.root})",
                "Mount it, or correct the path.",
            )
    yield Finding("lab", "ok", f"{lab.layout.settings_file} and {len(good)} model specifications can be read")


def store(lab: Lab) -> Iterator[Finding]:
    """Write a file into the store, as every result is written, and take it away again."""
    path = lab.layout.work / f".doctor-{uuid.uuid4().hex}"
    try:
        with atomic_path(path) as partial:
            partial.write_bytes(b"x" * 4096)
        path.unlink()
    except (OSError, EnvironmentProblem) as error:
        yield Finding(
            "store", "error", f"{lab.layout.store} cannot be written: {error}", "Correct its owner and rights."
        )
        return
    yield Finding("store", "ok", f"{lab.layout.store} can be written")


def unsafe_database(home: Path) -> str:
    """Return why an SQLite database in *home* is not safe, empty where it is."""
    kind = network_file_system(home)
    if not kind:
        return ""
    return (
        f"{home} lies on a network file system ({kind}), on which SQLite databases are damaged sooner or later. Keep the instance on a "
        "disk of this machine (DAGSTER_HOME), or use PostgreSQL (docs/how-to/postgresql.md)."
    )


def locks(lab: Lab) -> Iterator[Finding]:
    """Let two processes ask for one lock: only one may get it. On a network file system, machines cannot be told apart so."""
    lock = lab.layout.lock("doctor", "two processes")
    kind = network_file_system(lab.layout.store)
    try:
        with hold(lock, "doctor", timeout=10):
            asked = [sys.executable, "-c", _TRY_TO_HOLD, str(lock)]
            said = subprocess.run(asked, capture_output=True, text=True, check=False, timeout=60)
    except BusyError as error:
        yield Finding("locks", "warn", str(error))
        return
    if said.stdout.strip() != "busy":
        reason = said.stdout.strip() or said.stderr.strip()[-200:]
        yield Finding(
            "locks",
            "error",
            f"two processes could hold one lock in {lab.layout.locks} ({reason})",
            "Keep the store on a disk whose file system has locks.",
        )
    elif kind and lab.settings.executor.kind == "kubernetes":
        yield Finding(
            "locks",
            "warn",
            f"the store lies on a network file system ({kind}); whether its locks hold between nodes cannot be seen from one of them",
            "Try it as docs/how-to/kubernetes.md says (Storage).",
        )
    elif kind:
        yield Finding(
            "locks",
            "error",
            f"the store lies on a network file system ({kind}): its locks may not hold between machines, and two could write one result",
            "Keep the store on a disk of this machine, and let one machine alone work on it.",
        )
    else:
        yield Finding("locks", "ok", "two processes exclude each other")
