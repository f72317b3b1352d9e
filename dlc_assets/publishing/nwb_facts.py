"""What must be known of an NWB file before it leaves the lab: whom it is about, and which videos it refers to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from dlc_assets.lab.errors import InputError


@dataclass(frozen=True)
class NwbFacts:
    """Subject, session and species as the file states them, and its external videos, relative to the file."""

    subject: str | None
    session: str | None
    species: str | None
    videos: tuple[PurePosixPath, ...]

    def path_problem(self, path: PurePosixPath) -> str | None:
        """Return what is wrong with *path* as the file's place in a dandiset, None where it says what the file says."""
        if self.subject is None:
            return f"{path} names no subject, and DANDI takes no file without one: put {{subject}} into the template of lab.yaml."
        folder, name = f"sub-{self.subject}", f"sub-{self.subject}_ses-{self.session}_"
        if len(path.parts) == 2 and path.parts[0] == folder and path.name.startswith(name):
            return None
        return f"{path} does not say what the file says of itself: expected {folder}/{name}*.nwb. Export the session again."


def read_nwb_facts(path: Path) -> NwbFacts:
    """Read the facts of the NWB file at *path*.

    Raises
    ------
    InputError
        It is no HDF5 file, or damaged.
    """
    import h5py

    videos: list[PurePosixPath] = []

    def look(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and name.rpartition("/")[2] == "external_file":
            videos.extend(PurePosixPath(place) for place in item.asstr()[:])

    try:
        with h5py.File(path, "r") as file:
            file.visititems(look)
            general = file["general"]
            return NwbFacts(
                subject=_text(general, "subject/subject_id"),
                session=_text(general, "session_id"),
                species=_text(general, "subject/species"),
                videos=tuple(dict.fromkeys(videos)),
            )
    except (OSError, KeyError) as error:
        raise InputError(f"{path} cannot be read as an NWB file ({error}): export the session again.") from error


def rename_videos(path: Path, names: Mapping[PurePosixPath, PurePosixPath]) -> None:
    """Write the new names of external videos into the NWB file at *path*, a copy that nobody reads yet."""
    import h5py

    places: list[str] = []

    def look(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and name.rpartition("/")[2] == "external_file":
            places.append(name)

    with h5py.File(path, "r+") as file:
        file.visititems(look)
        for place in places:
            dataset = file[place]
            dataset[:] = [str(names.get(PurePosixPath(old), old)) for old in dataset.asstr()[:]]


def _text(group: Any, name: str) -> str | None:
    return group[name].asstr()[()] if name in group else None
