"""What kind of file system a path lies on: databases and locks of several machines are not safe on a network's."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

# fmt: off
_NETWORK = frozenset({
    "9p", "afp", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "fuse.ceph", "fuse.davfs2",
    "fuse.glusterfs", "fuse.juicefs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs", "glusterfs", "gpfs", "lustre",
    "ncpfs", "nfs", "nfs4", "orangefs", "panfs", "smb3", "smbfs", "vboxsf", "virtiofs",
})
# fmt: on
_MOUNTS = Path("/proc/self/mounts")


def network_file_system(path: Path) -> str:
    """Return the kind of network file system that *path* lies on (``nfs4``), empty where it lies on this machine's own disks.

    Where the system does not list its mounts (other than Linux), nothing is known, and nothing is returned.
    """
    try:
        lines = _MOUNTS.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    kind = kind_of(path.resolve(), lines)
    return kind if kind in _NETWORK else ""


def kind_of(path: Path, mounts: Iterable[str]) -> str:
    """Return the kind of the file system that *path* lies on by *mounts*, lines as in ``/proc/mounts``; empty where none fits."""
    found, longest = "", -1
    for line in mounts:
        cells = line.split(" ")
        if len(cells) < 3:
            continue
        place = Path(_plain(cells[1]))
        # A later mount at the same place hides the earlier one.
        if path.is_relative_to(place) and len(place.parts) >= longest:
            found, longest = cells[2], len(place.parts)
    return found


def _plain(text: str) -> str:
    """Return a path of ``/proc/mounts`` without its escapes (a space is written ``\\\\040``)."""
    return text.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
