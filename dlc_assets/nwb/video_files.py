"""The videos beside an NWB file: where they lie, under which names, and how they get there.

DANDI wants external videos in a folder named like the NWB file, each named for the object that refers to it.
"""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Literal

from dlc_assets.lab.files import atomic_path

_OURS = re.compile(r"[0-9a-f-]{36}_external_file_0\.\w+")


def video_object_id(identifier: str, recording: str, part: int) -> str:
    """Return the object id of a part's ImageSeries: the same at each writing, so that file names stay."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"nwb:{identifier}/{recording}/{part}"))


def external_file(nwb_path: Path, object_id: str, video: Path) -> PurePosixPath:
    """Return the video's path relative to the NWB file, as `dandi organize` would name it."""
    return PurePosixPath(nwb_path.stem) / f"{object_id}_external_file_0{video.suffix.lower()}"


def place_videos(nwb_path: Path, videos: Mapping[PurePosixPath, Path], how: Literal["copy", "link"]) -> None:
    """Put each of *videos* (path relative to the NWB file -> original) beside *nwb_path*.

    ``link`` makes a symbolic link, and copies where the file system has none. Not a hard link: that changes
    the original's link count and change time, needs one writable file system for both, and a change of mode
    or time through it is a change of the lab's own file.
    """
    for relative, original in videos.items():
        place = nwb_path.parent / relative
        if how == "copy" or not _link(place, original):
            _copy(place, original)


def remove_unused_videos(nwb_path: Path, used: Iterable[PurePosixPath]) -> None:
    """Remove the links and copies that an earlier writing placed and that the file no longer refers to."""
    folder = nwb_path.with_suffix("")
    if not folder.is_dir():
        return
    kept = {relative.name for relative in used}
    present = list(folder.iterdir())
    unused = [place for place in present if _OURS.fullmatch(place.name) and place.name not in kept]
    for place in unused:
        place.unlink()
    if len(unused) == len(present):
        folder.rmdir()


def _link(place: Path, original: Path) -> bool:
    target = _link_target(place, original)
    if place.is_symlink() and os.readlink(place) == target:  # noqa: PTH115 (the text of the link, as written)
        return True
    try:
        with atomic_path(place) as partial:
            partial.symlink_to(target)
    except (
        OSError,
        NotImplementedError,
    ):  # no right to, or none on this file system: a copy will do
        return False
    return True


def _link_target(place: Path, original: Path) -> str:
    """Return a relative target if both lie under one folder (a lab that moves as a whole keeps its links)."""
    source = original.resolve()
    folder = place.parent.resolve()
    try:
        shared = Path(os.path.commonpath([source, folder]))
    except ValueError:  # two drives
        return str(source)
    return str(source) if shared == Path(shared.anchor) else os.path.relpath(source, folder)


def _copy(place: Path, original: Path) -> None:
    if place.is_file() and not place.is_symlink():
        there, here = place.stat(), original.stat()
        if (there.st_size, there.st_mtime_ns) == (here.st_size, here.st_mtime_ns):
            return
    with atomic_path(place) as partial:
        shutil.copy2(original, partial)
