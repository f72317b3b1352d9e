"""Making a lab again from a backup: in a folder that does not exist yet, each file proven to be what it was."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from dlc_assets.backups.folder import BackupFolder, BytesProgress, Listed, hashed
from dlc_assets.lab.errors import SettingsError
from dlc_assets.lab.files import atomic_folder


@dataclass
class RestoredLab:
    """What a restore did.

    Attributes
    ----------
    problems
        Files of the backup that are damaged or missing, and are not in the lab.
    """

    listed: Listed
    files: int = 0
    problems: list[str] = field(default_factory=list)


def restore_lab(folder: BackupFolder, root: Path, *, at: str | None, log: Callable[[str], None]) -> RestoredLab:
    """Make the lab at *root* from a backup, by default the newest; what is damaged is left out and named.

    Raises
    ------
    SettingsError
        *root* is there already and not empty.
    NotFoundError, InputError
        There is no such backup, or its list is damaged.
    """
    root = root.expanduser().resolve()
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise SettingsError(
            f"{root} is not empty: a lab is restored into a new folder, so that nothing there is lost. Name another."
        )
    folder.owner()
    listed = folder.read(at)
    restored = RestoredLab(listed)
    progress = BytesProgress(log, "restore", sum(kept.size for kept in listed.files.values()))
    if root.is_dir():
        root.rmdir()
    with atomic_folder(root) as partial:
        for name, kept in listed.files.items():
            path = partial / name
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                shutil.copyfile(folder.object(kept.sha256), path)
                whole = hashed(path)[0] == kept.sha256
            except OSError:
                whole = False
            if whole:
                restored.files += 1
            else:
                path.unlink(missing_ok=True)
                restored.problems.append(f"{name}: {folder.problem(kept) or 'it could not be read whole; try again'}")
            progress.add(kept.size)
        progress.end()
        for name, target in listed.links.items():
            link = partial / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(target)
    return restored
