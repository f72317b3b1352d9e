"""Which versions of which packages are installed, and where they differ from those that made poses."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

from dlc_assets import __version__

PACKAGES = (
    "deeplabcut",
    "torch",
    "torchvision",
    "timm",
    "numpy",
    "av",
    "openvino",
    "pyarrow",
    "opencv-python-headless",
)
"""What decoding, networks and pose tables depend on."""


def installed() -> dict[str, str]:
    """Return the version of each of `PACKAGES` that is installed, and of dlc-assets."""
    found = {"dlc-assets": __version__}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def this_platform() -> dict[str, str]:
    """Return what of this machine numbers may depend on: system, processor, Python."""
    return {
        "system": platform.system(),
        "release": platform.release(),
        "machine": platform.machine(),
        "python": platform.python_version(),
    }


def differences(then: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Return a sentence for each package of *then* that *now* has in another version, or not at all."""
    return [
        f"{name} {then[name]} then, {now.get(name, 'not installed')} here"
        for name in sorted(then)
        if plain(now.get(name, "")) != plain(then[name])
    ]


def plain(number: str) -> str:
    """Return a version without what was built into it: ``2.15.0`` for ``2.15.0+cu132``."""
    return number.partition("+")[0]


def requirement(then: Mapping[str, str]) -> str:
    """Return what to install to have the DeepLabCut and the PyTorch of *then*: ``deeplabcut==3.0.2 torch==2.15.0``."""
    return " ".join(f"{name}=={plain(then[name])}" for name in ("deeplabcut", "torch") if then.get(name))
