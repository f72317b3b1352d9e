"""The environment of `benchmarks.nwb`'s peer: neuroconv needs other versions than this project, so that it gets one of its own.

pip makes it once, from the index that pip is set up for; it is kept in the user's cache.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

# Newer ones of the last three cannot be imported by the first.
PINS = ("neuroconv[deeplabcut]==0.10.2", "hdmf-zarr==0.11.3", "zarr==2.18.7", "numcodecs<0.16")

_LOG_END = 1500
_STAMP = ".ready"  # written when all of it is there


class PeerMissingError(Exception):
    """The peer could not be installed; the message has the end of what pip said."""


def peer_python() -> Path:
    """Return the Python of the peer's environment, which is made first if it is not there.

    Raises
    ------
    PeerMissingError
        It cannot be made: most often, no package index is reachable.
    """
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(cache) / "dlc_assets" / "nwb-peer"
    python, stamp = folder / "bin" / "python", folder / _STAMP
    wanted = "\n".join((sys.version.split()[0], *PINS))
    if not stamp.is_file() or stamp.read_text(encoding="utf-8") != wanted:
        stamp.unlink(missing_ok=True)
        _run(sys.executable, "-m", "venv", "--clear", str(folder))
        _run(str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PINS)
        _run(str(python), "-c", "import neuroconv.datainterfaces, ndx_pose, tables")
        stamp.write_text(wanted, encoding="utf-8")
    return python


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        raise PeerMissingError(f"{' '.join(command)}: {error}") from error
    if done.returncode:
        raise PeerMissingError(
            f"{' '.join(command)} failed; is a package index reachable? The end of what it said:\n"
            f"{(done.stdout + done.stderr)[-_LOG_END:]}"
        )
