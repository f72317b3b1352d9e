"""Which GPU a step gets: a file-locked lease that sets `CUDA_VISIBLE_DEVICES`, freed however its holder dies."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache

from dlc_assets.lab.errors import BusyError, EnvironmentProblem, SettingsError
from dlc_assets.lab.layout import LabLayout
from dlc_assets.lab.locks import hold

_POLL = 1.0


@cache
def gpus_present() -> tuple[str, ...]:
    """Return the NVIDIA GPUs that this process may use, as `CUDA_VISIBLE_DEVICES` names them (without importing torch)."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return tuple(name.strip() for name in visible.split(",") if name.strip() not in {"", "-1"})
    if shutil.which("nvidia-smi") is None:
        return ()
    listed = subprocess.run(
        ["nvidia-smi", "--query-gpu=index", "--format=csv,noheader"],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    return tuple(line.strip() for line in listed.stdout.splitlines() if line.strip()) if listed.returncode == 0 else ()


@contextmanager
def leased_device(
    layout: LabLayout,
    purpose: str,
    log: Callable[[str], None],
    *,
    wanted: str | None = None,
) -> Iterator[str]:
    """Hold one GPU for this process, waiting asleep while all are taken; yields its name, or ``cpu`` where there is none.

    Raises
    ------
    SettingsError
        *wanted* is neither ``cpu`` nor ``gpu`` (None: a GPU where there is one).
    EnvironmentProblem
        A GPU is *wanted*, and there is none.
    """
    if wanted not in {None, "cpu", "gpu"}:
        raise SettingsError(f'device: expected cpu or gpu, got "{wanted}".')
    names = () if wanted == "cpu" else gpus_present()
    if not names and wanted == "gpu":
        raise EnvironmentProblem(
            "a GPU was asked for, but this process sees none. Check the driver (nvidia-smi) and CUDA_VISIBLE_DEVICES, or work "
            "on the CPU."
        )
    if not names:
        yield "cpu"
        return
    with ExitStack() as held:
        said = False
        while True:
            for name in names:
                try:
                    held.enter_context(hold(layout.lock("gpu", name), purpose, timeout=0))
                except BusyError:
                    continue
                before = os.environ.get("CUDA_VISIBLE_DEVICES")
                os.environ["CUDA_VISIBLE_DEVICES"] = name
                try:
                    yield name
                finally:
                    if before is None:
                        del os.environ["CUDA_VISIBLE_DEVICES"]
                    else:
                        os.environ["CUDA_VISIBLE_DEVICES"] = before
                return
            if not said:
                log(f"{purpose}: waiting for one of the GPUs {', '.join(names)}")
                said = True
            time.sleep(_POLL)
