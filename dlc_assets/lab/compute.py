"""Which GPU a step gets: a file-locked lease that sets `CUDA_VISIBLE_DEVICES`, freed however its holder dies."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from dlc_assets.lab.errors import BusyError, EnvironmentProblem, SettingsError
from dlc_assets.lab.gpu_settings import Gpus
from dlc_assets.lab.gpus import Gpu, GpuProbe, probe_gpus, remember_gpus, seen_gpus
from dlc_assets.lab.layout import LabLayout
from dlc_assets.lab.locks import hold

_ASKED_FOR = (
    "a GPU was asked for, but this process sees none. Check the driver (nvidia-smi) and CUDA_VISIBLE_DEVICES, or work on the "
    "CPU."
)
# A lease that is given back is taken within this time: short steps lose little, and a step of hours does not keep a core busy.
_POLL, _LONG_POLL, _LONG_WAIT = 0.05, 1.0, 60.0  # s


def gpus_present() -> tuple[str, ...]:
    """Return the NVIDIA GPUs that this process may use, as `CUDA_VISIBLE_DEVICES` names them (without importing torch)."""
    return tuple(gpu.index for gpu in probe_gpus().gpus)


def lease(layout: LabLayout, gpu: str) -> Path:
    """Return the lock of one GPU of this machine: machines that share a store do not share their GPUs."""
    return layout.lock("gpu", f"{socket.gethostname()} {gpu}")


def pool_limit(gpus: Gpus = "auto") -> int:
    """Return how many steps of the pool ``gpu`` this machine can work on at once: one a GPU, and one where there is none."""
    return max(1, len(_chosen(gpus, probe_gpus())))


@contextmanager
def leased_device(
    layout: LabLayout,
    purpose: str,
    log: Callable[[str], None],
    *,
    wanted: str | None = None,
    gpus: Gpus = "auto",
) -> Iterator[str]:
    """Hold one GPU for this process, waiting asleep while all are taken; yields its name, or ``cpu`` where there is none.

    The free GPU with most free memory is taken.

    Parameters
    ----------
    wanted
        ``cpu`` or ``gpu``; None: a GPU where there is one.
    gpus
        What lab.yaml says: ``auto``, ``required``, ``none``, or the GPUs that may be used.

    Raises
    ------
    SettingsError
        *wanted* is neither ``cpu`` nor ``gpu``.
    EnvironmentProblem
        A GPU is *wanted* or required and there is none; or this machine had GPUs, and has none now.
    """
    if wanted not in {None, "cpu", "gpu"}:
        raise SettingsError(f'device: expected cpu or gpu, got "{wanted}".')
    if wanted == "cpu":
        yield "cpu"
        return
    chosen = _devices(layout, log, wanted, gpus)
    if not chosen:
        yield "cpu"
        return
    by_memory = sorted(chosen, key=lambda gpu: -(gpu.free_mb or 0))
    with leased_slot(layout, [gpu.index for gpu in by_memory], purpose, log) as name:
        before = os.environ.get("CUDA_VISIBLE_DEVICES")
        os.environ["CUDA_VISIBLE_DEVICES"] = name
        try:
            yield name
        finally:
            if before is None:
                del os.environ["CUDA_VISIBLE_DEVICES"]
            else:
                os.environ["CUDA_VISIBLE_DEVICES"] = before


@contextmanager
def leased_slot(layout: LabLayout, names: Sequence[str], purpose: str, log: Callable[[str], None]) -> Iterator[str]:
    """Hold one of *names* on this machine, the first that is free, waiting asleep while all are taken."""
    with ExitStack() as held:
        began, said = time.monotonic(), False
        while True:
            for name in names:
                try:
                    held.enter_context(hold(lease(layout, name), purpose, timeout=0))
                except BusyError:
                    continue
                yield name
                return
            waited = time.monotonic() - began
            if not said:
                log(f"{purpose}: waiting for one of the GPUs {', '.join(names)}")
                said = True
            time.sleep(_POLL if waited < _LONG_WAIT else _LONG_POLL)


def _chosen(gpus: Gpus, probe: GpuProbe) -> tuple[Gpu, ...]:
    """Return the GPUs among those found that the lab's setting allows."""
    if gpus == "none":
        return ()
    if isinstance(gpus, str) or probe.assigned:
        return probe.gpus
    return tuple(gpu for gpu in probe.gpus if gpus and {gpu.index, gpu.uuid} & set(gpus))


def _devices(layout: LabLayout, log: Callable[[str], None], wanted: str | None, gpus: Gpus) -> tuple[Gpu, ...]:
    """Return the GPUs that may be leased; none where the work is to be done on the CPU."""
    if gpus == "none":
        if wanted == "gpu":
            raise EnvironmentProblem(
                "a GPU was asked for, but lab.yaml says `gpus: none`. Change it, or work on the CPU."
            )
        return ()
    probe = probe_gpus()
    chosen = _chosen(gpus, probe)
    if not isinstance(gpus, str) and not probe.assigned:
        missing = [name for name in gpus if all(name not in {gpu.index, gpu.uuid} for gpu in probe.gpus)]
        if missing:
            raise EnvironmentProblem(
                f"lab.yaml: gpus names {', '.join(missing)}, and this machine ({socket.gethostname()}) {_there(probe)}. Look at "
                "nvidia-smi, or correct the list."
            )
    if probe.assigned and not probe.problem:
        if not chosen and (wanted == "gpu" or gpus == "required"):
            raise EnvironmentProblem(_ASKED_FOR)
        return chosen
    if probe.problem:
        raise EnvironmentProblem(
            f"this machine ({socket.gethostname()}) has NVIDIA's driver, but {probe.problem}. Restart it, or install the driver again; "
            "or say `gpus: none` in lab.yaml to work on the CPU."
        )
    if not chosen:
        _check_that_none_is_right(layout, log, wanted, gpus, probe)
    elif (seen := seen_gpus(layout)) is not None and len(seen.names) > len(probe.gpus):
        log(
            f"Warning: this machine ({socket.gethostname()}) had {len(seen.names)} GPUs on {seen.on} ({', '.join(seen.names)}) and has "
            f"{len(probe.gpus)} now. If that is right: dlc-assets doctor --forget-gpus"
        )
    else:
        remember_gpus(layout, probe.gpus)
    return chosen


def _check_that_none_is_right(
    layout: LabLayout, log: Callable[[str], None], wanted: str | None, gpus: Gpus, probe: GpuProbe
) -> None:
    if wanted == "gpu":
        raise EnvironmentProblem(_ASKED_FOR)
    if gpus == "required":
        raise EnvironmentProblem(
            f"lab.yaml says `gpus: required`, and this machine ({socket.gethostname()}) {_there(probe)}. Check the driver (nvidia-smi), or "
            "say `gpus: auto`."
        )
    seen = seen_gpus(layout)
    if seen is not None and seen.names:
        raise EnvironmentProblem(
            f"this machine ({socket.gethostname()}) had {', '.join(seen.names)} on {seen.on}, and {_there(probe)} now: nothing is done on "
            "the CPU instead, which would take weeks. Check the driver (nvidia-smi; it is often gone after an update or a restart). If "
            "the machine has no GPU any more: dlc-assets doctor --forget-gpus, or `gpus: none` in lab.yaml."
        )
    if remember_gpus(layout, ()):
        log(
            f"Warning: no GPU was found on this machine ({socket.gethostname()}): networks run on the CPU. This is said once."
        )


def _there(probe: GpuProbe) -> str:
    if not probe.gpus:
        return "has none"
    return f"has {', '.join(gpu.index for gpu in probe.gpus)}"
