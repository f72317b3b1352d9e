"""The NWB file that session.yaml names to be extended (`nwb.extend`): of another instrument, to which the session's poses are added."""

from __future__ import annotations

import os
from pathlib import Path

from dlc_assets.lab.errors import DlcAssetsError, InputError
from dlc_assets.lab.lab import Lab
from dlc_assets.recordings.found import FoundSession
from dlc_assets.recordings.info import StoredFile
from dlc_assets.recordings.stored_files import stored_file


def extended_file(found: FoundSession) -> Path | None:
    """Return the NWB file that the session's session.yaml names, there or not; None where it names none or cannot be read."""
    if found.metadata_file is None:
        return None
    try:
        named = found.metadata().nwb.extend
    except DlcAssetsError:
        return None  # probing the session fails with the reason
    return None if named is None else Path(os.path.normpath(found.metadata_file.parent / named))


def stored_extended(lab: Lab, found: FoundSession) -> StoredFile | None:
    """Return the file to extend as it is now, None where session.yaml names none.

    Raises
    ------
    InputError
        There is no such file, or it is none that can be an NWB file.
    """
    path = extended_file(found)
    if path is None:
        return None
    where = f"{found.metadata_file}: nwb.extend"
    if path.suffix != ".nwb":
        raise InputError(f"{where}: {path}: expected an NWB file, whose name ends in .nwb.")
    if not path.is_file():
        raise InputError(
            f"{where}: there is no file {path}. Expected an NWB file that is there, by its path relative to session.yaml, or an "
            "absolute one. Correct the path or leave the key out: the session then gets a file of its own."
        )
    try:
        return stored_file(lab, path)
    except OSError as error:
        raise InputError(f"{where}: {path} cannot be read: {error.strerror or error}.") from None
