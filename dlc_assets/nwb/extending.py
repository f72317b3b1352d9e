"""Whether the poses of a session can be added to an NWB file that another program wrote, and what such a file is called."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from dlc_assets.lab.errors import InputError
from dlc_assets.nwb.description import MODALITIES, SessionDescription, nwb_relative_path

if TYPE_CHECKING:
    import pynwb

SCRATCH = "dlc_assets"
_SAME_START = timedelta(milliseconds=1)
_DRIVE_OR_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


def check_extendable(source: Path, session: SessionDescription) -> None:
    """Raise an InputError, which names both values, unless *source* is of the subject, session and start that *session* states.

    A file that names no session may be extended; the session's name is then added.
    """
    import h5py

    if not h5py.is_hdf5(source):
        raise InputError(f"{source}: expected an NWB file in HDF5 (nwb.extend in session.yaml names it).")
    where = f"{source} (nwb.extend in session.yaml)"
    if links := list(_links_out(source)):
        raise InputError(
            f"{where} takes {links[0]} from another file by a link, which a copy elsewhere would not find. Export it first to a file "
            "that holds everything (pynwb: NWBHDF5IO.export)."
        )
    with _read(source) as nwbfile:
        found = {
            "subject": nwbfile.subject.subject_id if nwbfile.subject is not None else None,
            "session": nwbfile.session_id,
        }
        wanted = {
            "subject": session.subject.subject_id if session.subject is not None else None,
            "session": session.session_id,
        }
        for what, value in found.items():
            if value != wanted[what] and not (what == "session" and not value):
                raise InputError(
                    f'{where} is of {what} "{value}", the videos are of {what} "{wanted[what]}". Name the file of this session, or '
                    "correct the names."
                )
        start = nwbfile.timestamps_reference_time
        if abs(start - session.start) > _SAME_START:
            raise InputError(
                f"{where}: its times count from {start.isoformat()}, those of the videos from {session.start.isoformat()}. If both are of "
                f"one clock, write start: {start.isoformat()} into session.yaml; the recordings' offsets then follow from it."
            )


def path_of_extended(source: Path, session: SessionDescription, *, with_video: bool) -> PurePosixPath:
    """Return where the extended file lies in a dandiset: its name says what else is in it, as ``..._behavior+ecephys+image.nwb``."""
    with _read(source) as nwbfile:
        others = modalities_of(nwbfile)
    subject_id = session.subject.subject_id if session.subject is not None else None
    return nwb_relative_path(subject_id, session.session_id, with_video=with_video, others=others)


def modalities_of(nwbfile: pynwb.NWBFile) -> set[str]:
    """Return what a file holds, of `MODALITIES`, by the modules of pynwb that its objects come from."""
    modules = {type(held).__module__ for held in nwbfile.objects.values()}
    found = {module.partition(".")[2] for module in modules if module.startswith("pynwb.")}
    return found & set(MODALITIES)


def external_videos_of(source: Path) -> dict[PurePosixPath, Path]:
    """Return the files beside *source* that it refers to by a relative path: path -> file; they must lie beside the copy likewise."""
    found: dict[PurePosixPath, Path] = {}
    with _read(source) as nwbfile:
        for held in nwbfile.objects.values():
            for name in getattr(held, "external_file", None) or ():
                text = str(name).replace("\\", "/")
                relative = PurePosixPath(text)
                if relative.is_absolute() or ".." in relative.parts or _DRIVE_OR_SCHEME.match(text):
                    continue  # leads to the same place from wherever the file lies, or cannot lie beside it
                file = source.parent / relative
                if file.is_file():
                    found[relative] = file
    return found


def state_session_id(path: Path, session_id: str) -> None:
    """Write the session's name into the file at *path* if it has none: its own file name says it, and must agree with its content."""
    import h5py

    with h5py.File(path, "r+") as file:
        if "session_id" not in file["general"]:
            file["general"].create_dataset("session_id", data=session_id, dtype=h5py.string_dtype())


@contextmanager
def _read(source: Path) -> Iterator[pynwb.NWBFile]:
    """Give *source* as pynwb reads it, for as long as the block lasts."""
    from pynwb import NWBHDF5IO

    with ExitStack() as stack:
        try:
            nwbfile = stack.enter_context(NWBHDF5IO(source, "r")).read()
        except Exception as error:  # whatever pynwb makes of a file that it cannot read
            raise InputError(
                f"{source} (nwb.extend in session.yaml) cannot be read as NWB: {type(error).__name__}: {error}"
            ) from error
        yield nwbfile


def _links_out(source: Path) -> Iterator[str]:
    import h5py

    def walk(group: Any, name: str) -> Iterator[str]:
        for key in group:
            link = group.get(key, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                yield f"{name}/{key}"
            elif isinstance(link, h5py.HardLink) and isinstance(group.get(key), h5py.Group):
                yield from walk(group[key], f"{name}/{key}")

    with h5py.File(source, "r") as file:
        yield from walk(file, "")
