"""The NVIDIA GPUs of this machine: which there are, as its driver says, and which the lab has seen here before."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from dlc_assets.lab.files import read_json, write_json
from dlc_assets.lab.layout import LabLayout

_SECONDS = 30.0  # nvidia-smi hangs where a driver is half gone
_QUERY = ("index", "uuid", "name", "memory.free", "memory.total")


@dataclass(frozen=True)
class Gpu:
    """One GPU.

    Parameters
    ----------
    index
        As `CUDA_VISIBLE_DEVICES` names it: a number or a UUID.
    free_mb, total_mb
        MiB of memory; None where nobody asked the driver.
    """

    index: str
    uuid: str = ""
    model: str = ""
    free_mb: int | None = None
    total_mb: int | None = None


@dataclass(frozen=True)
class GpuProbe:
    """What a look at the machine found.

    Parameters
    ----------
    problem
        Why the driver does not answer, empty where it does or where there is none.
    assigned
        Whether a scheduler, or a person, has chosen what this process may use: by `CUDA_VISIBLE_DEVICES`, or in a pod of Kubernetes.
    """

    gpus: tuple[Gpu, ...] = ()
    problem: str = ""
    assigned: bool = False


def probe_gpus() -> GpuProbe:
    """Look which GPUs this process may use, without importing torch."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        names = [name.strip() for name in visible.split(",")]
        return GpuProbe(tuple(Gpu(name) for name in names if name not in {"", "-1"}), assigned=True)
    found = driver_gpus()
    return replace(found, assigned=True) if os.environ.get("KUBERNETES_SERVICE_HOST") else found


def driver_gpus() -> GpuProbe:
    """Return what the driver says, whatever this process may use."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return GpuProbe()
    try:
        listed = subprocess.run(
            [program, f"--query-gpu={','.join(_QUERY)}", "--format=csv,noheader,nounits"],
            capture_output=True,
            text=True,
            check=False,
            timeout=_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return GpuProbe(problem=f"nvidia-smi does not answer within {_SECONDS:.0f} s")
    except OSError as error:
        return GpuProbe(problem=f"nvidia-smi cannot be started: {error}")
    if listed.returncode != 0:
        said = (listed.stdout.strip() or listed.stderr.strip() or "no reason given").splitlines()[0]
        return GpuProbe(problem=f"nvidia-smi fails (status {listed.returncode}): {said}")
    return GpuProbe(tuple(_gpu(line) for line in listed.stdout.splitlines() if line.strip()))


def _gpu(line: str) -> Gpu:
    cells = [cell.strip() for cell in line.split(",")] + [""] * len(_QUERY)
    index, uuid, model, free, total = cells[: len(_QUERY)]
    return Gpu(index, uuid, model, _number(free), _number(total))


def _number(text: str) -> int | None:
    return int(text) if text.isdecimal() else None  # "[N/A]" of some cards


# --- what the lab has seen on this machine --------------------------------------------------------


@dataclass(frozen=True)
class SeenGpus:
    """The most GPUs that the lab has seen on this machine, and the day when it last saw them all."""

    names: tuple[str, ...]
    on: str


def seen_gpus(layout: LabLayout) -> SeenGpus | None:
    """Return what was seen on this machine before, None where it was never looked at."""
    record = _record(layout)
    return None if record is None else SeenGpus(tuple(record["gpus"]), str(record["on"]))


def remember_gpus(layout: LabLayout, gpus: tuple[Gpu, ...]) -> bool:
    """Keep what is seen now; fewer than before do not make the lab forget the others. Return whether this is the first look."""
    before = seen_gpus(layout)
    names = [f"{gpu.model or 'GPU'} {gpu.index}" for gpu in gpus]
    today = datetime.now(UTC).date().isoformat()
    if before is None or len(names) > len(before.names) or (len(names) == len(before.names) and before.on != today):
        write_json(layout.machine(socket.gethostname()), {"gpus": names, "on": today})
    return before is None


def forget_gpus(layout: LabLayout) -> bool:
    """Forget which GPUs this machine had; return whether any were known."""
    known = seen_gpus(layout)
    layout.machine(socket.gethostname()).unlink(missing_ok=True)
    return known is not None and bool(known.names)


def _record(layout: LabLayout) -> dict[str, Any] | None:
    try:
        record = read_json(layout.machine(socket.gethostname()))
        return record if isinstance(record, dict) and isinstance(record.get("gpus"), list) and "on" in record else None
    except (FileNotFoundError, ValueError):
        return None
