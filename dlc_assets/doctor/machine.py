"""The machine: GPUs and the torch that is to use them, memory, disks, clocks, and whether videos can be decoded."""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from dlc_assets.doctor.findings import Finding, Level
from dlc_assets.lab.compute import lease
from dlc_assets.lab.gpus import driver_gpus, seen_gpus
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.locks import is_held

_GIB = 2**30
_LITTLE_MEMORY, _LITTLE_DISK, _NO_DISK, _LITTLE_TEMP = 8 * _GIB, 20 * _GIB, 2 * _GIB, 2 * _GIB
_CLOCK_SECONDS = 2.0


def gpus(lab: Lab) -> Iterator[Finding]:
    """Say which GPUs the driver names, which the lab saw before, and which are leased now."""
    stated, found, seen = lab.settings.gpus, driver_gpus(), seen_gpus(lab.layout)
    if found.problem:
        yield Finding(
            "GPUs",
            "error",
            found.problem,
            "Restart the machine, or install NVIDIA's driver again; `gpus: none` works on the CPU.",
        )
        return
    names = [f"{gpu.index}: {gpu.model or 'GPU'}, {gpu.free_mb} of {gpu.total_mb} MiB free" for gpu in found.gpus]
    held = [gpu.index for gpu in found.gpus if is_held(lease(lab.layout, gpu.index))]
    leased = f"; leased now: {', '.join(held)}" if held else ""
    known = seen.names if seen is not None else ()
    if len(known) > len(found.gpus) and stated != "none":
        yield Finding(
            "GPUs",
            "error" if not found.gpus else "warn",
            f"{'; '.join(names) or 'none'}. The lab has seen {', '.join(known)} here (on {seen.on if seen else ''})",
            "Check the driver (nvidia-smi). If they are gone for good: dlc-assets doctor --forget-gpus",
        )
    elif not found.gpus and stated == "required":
        yield Finding(
            "GPUs", "error", "none, and lab.yaml says `gpus: required`", "Check the driver, or say `gpus: auto`."
        )
    elif not isinstance(stated, str):
        missing = [name for name in stated if all(name not in {gpu.index, gpu.uuid} for gpu in found.gpus)]
        todo = f"Correct `gpus` in lab.yaml: it names {', '.join(missing)}." if missing else ""
        yield Finding("GPUs", "error" if missing else "ok", ("; ".join(names) or "none") + leased, todo)
    else:
        yield Finding("GPUs", "ok", ("; ".join(names) or "none: networks run on the CPU") + leased)


def torch_build() -> Iterator[Finding]:
    """Say whether the torch that is installed can use what the machine has."""
    import torch

    built, present = torch.version.cuda, driver_gpus().gpus
    name = f"torch {torch.__version__}"
    if present and built is None:
        yield Finding(
            "torch",
            "error",
            f"{name} is built for the CPU alone, and the machine has {len(present)} GPU(s)",
            "Install a CUDA build of the same version: see https://pytorch.org/get-started",
        )
    elif present and not torch.cuda.is_available():
        yield Finding(
            "torch",
            "error",
            f"{name} (CUDA {built}) cannot use the GPU: the driver is too old for it, or not loaded",
            "Update NVIDIA's driver, or install the build of torch that fits it.",
        )
    elif present:
        old = [
            torch.cuda.get_device_name(number)
            for number in range(torch.cuda.device_count())
            if not _is_built_for(torch.cuda.get_device_capability(number), torch.cuda.get_arch_list())
        ]
        todo = "Install a build of torch that still knows this card, or name other GPUs in `gpus`." if old else ""
        yield Finding(
            "torch",
            "error" if old else "ok",
            f"{name} (CUDA {built})" + (f" does not know {', '.join(old)}" if old else ""),
            todo,
        )
    else:
        yield Finding("torch", "ok", f"{name} on the CPU, {torch.get_num_threads()} threads")


def _is_built_for(capability: tuple[int, int], known: list[str]) -> bool:
    """Say whether a build for the architectures *known* (``sm_80``) runs on a card of *capability*: within one major number."""
    major, minor = capability
    numbers = [(int(name[3:-1]), int(name[-1])) for name in known if name.startswith("sm_") and name[3:].isdecimal()]
    return not numbers or any(of == major and small <= minor for of, small in numbers)


def memory() -> Iterator[Finding]:
    """Say how much memory the machine has."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    text = f"{total / _GIB:.0f} GiB"
    if total < _LITTLE_MEMORY:
        yield Finding("memory", "warn", text, "Train with a small batch_size; one analysis needs about 2 GiB.")
    else:
        yield Finding("memory", "ok", text)


def disks(lab: Lab) -> Iterator[Finding]:
    """Say how much room there is for the store, and for temporary files."""
    place = lab.layout.store if lab.layout.store.is_dir() else lab.root
    free = shutil.disk_usage(place).free
    found = f"{free / _GIB:.0f} GiB free at {place}"
    level: Level = "error" if free < _NO_DISK else "warn" if free < _LITTLE_DISK else "ok"
    todo = "Make room: a training keeps snapshots of 20 to 200 MB, an hour of video needs about 20 MB of poses."
    yield Finding("disk", level, found, "" if level == "ok" else todo)
    temporary = Path(tempfile.gettempdir())
    free = shutil.disk_usage(temporary).free
    if free < _LITTLE_TEMP:
        yield Finding(
            "disk", "warn", f"{free / _GIB:.1f} GiB free at {temporary}", "Make room, or set TMPDIR to another folder."
        )


def clocks(lab: Lab) -> Iterator[Finding]:
    """Compare the clock of the disk with this machine's: settling and leases go by both."""
    lab.layout.work.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=lab.layout.work, prefix=".clock-") as file:
        before = time.time()
        file.write(b"x")
        file.flush()
        os.utime(file.name)
        ahead = Path(file.name).stat().st_mtime - before
    if abs(ahead) > _CLOCK_SECONDS:
        yield Finding(
            "clocks",
            "warn",
            f"the disk of the store is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} this machine",
            "Let both follow a time server (chrony or systemd-timesyncd).",
        )
    else:
        yield Finding("clocks", "ok", "the store's disk and this machine agree")


def decoding() -> Iterator[Finding]:
    """Write and decode a few frames with PyAV: no other program is needed for videos."""
    import av
    import numpy as np

    with tempfile.TemporaryDirectory(prefix="dlc-assets-doctor-") as folder:
        path = Path(folder) / "frames.mp4"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            for number in range(5):
                picture = np.full((48, 64, 3), number * 40, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())
        with av.open(str(path)) as container:
            decoded = sum(1 for _ in container.decode(video=0))
    if decoded != 5:
        yield Finding("videos", "error", f"PyAV {av.__version__} decoded {decoded} of 5 frames", "Install av again.")
    else:
        openvino = (
            ""
            if importlib.util.find_spec("openvino")
            else "; openvino, which is faster on Intel processors, is not installed"
        )
        yield Finding("videos", "ok", f"PyAV {av.__version__} writes and decodes H.264{openvino}")
