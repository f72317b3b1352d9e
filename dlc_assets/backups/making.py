"""Making a backup of a lab, while it works: what is new is copied and read back, and what was there before stays."""

from __future__ import annotations

import shutil
import sqlite3
import time
import uuid
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from dlc_assets.backups.content import LabContents, Source
from dlc_assets.backups.folder import BackupFolder, BytesProgress, KeptFile, Listed
from dlc_assets.backups.instance_settings import without_passwords
from dlc_assets.lab.errors import DlcAssetsError, SettingsError
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.locks import hold
from dlc_assets.lab.records import append_record, read_records

_TRIES = 3  # for a file that changes while it is copied


@dataclass
class MadeBackup:
    """What a backup did.

    Attributes
    ----------
    copied, copied_bytes
        Files whose content was new, and read back.
    problems
        What should be in the backup and is not.
    """

    name: str
    files: int = 0
    size: int = 0
    copied: int = 0
    copied_bytes: int = 0
    removed: int = 0
    notes: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def make_backup(
    lab: Lab,
    home: Path,
    place: Path,
    *,
    log: Callable[[str], None],
    poses: bool = False,
    verify: bool = False,
    keep: int | None = None,
) -> MadeBackup:
    """Back the lab up into *place*.

    Parameters
    ----------
    home
        The folder of its Dagster instance.
    poses
        Whether all pose tables go in; imported ones, and those of cohorts, always do.
    verify
        Read back every file of the backup, not only new ones.
    keep
        Remove all but so many of the newest backups afterwards; None keeps all.

    Raises
    ------
    SettingsError
        *place* lies in the lab, or holds the backups of another.
    InputError
        *place* holds something else, or does not give back what it was given.
    """
    place = place.expanduser().resolve()
    if place.is_relative_to(lab.root.resolve()):
        raise SettingsError(
            f"{place} lies in the lab: what takes the lab away would take its backup along. Name a folder on another disk."
        )
    with hold(lab.layout.lock("lab", "backup"), "a backup", log=log):
        folder = BackupFolder(place)
        lab_id = _own_id(lab)
        owner = folder.owner()
        if owner is None:
            folder.claim(lab_id)
        elif owner != lab_id:
            raise SettingsError(
                f"{place} holds the backups of another lab (or of the one that this was restored from): two in one folder would be taken "
                "for each other. Name a folder for this lab alone."
            )
        folder.remove_unfinished()
        return _make(lab, home, folder, lab_id, log=log, poses=poses, verify=verify, keep=keep)


def _own_id(lab: Lab) -> str:
    made = read_records(lab.layout, "backups")
    return str(made[0]["lab"]) if made else uuid.uuid4().hex


def _make(
    lab: Lab,
    home: Path,
    folder: BackupFolder,
    lab_id: str,
    *,
    log: Callable[[str], None],
    poses: bool,
    verify: bool,
    keep: int | None,
) -> MadeBackup:
    before = folder.read().files if folder.names() else {}
    contents = LabContents(lab, home, poses=poses).look()
    name = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
    made = MadeBackup(name, notes=contents.notes, problems=contents.problems)
    listed = Listed(name, str(lab.root), links=contents.links, notes=contents.notes)
    unchanged, changed = {}, []
    for path, source in contents.files.items():
        try:
            stamp = source.stamp()
        except FileNotFoundError:
            continue  # removed since the look
        was = before.get(path)
        if was is not None and was.stamp == stamp and folder.has(was):
            unchanged[path] = was
        else:
            changed.append(source)
    listed.files.update(unchanged)
    progress = BytesProgress(log, "backup", sum(_size(source) for source in changed))
    for source in changed:
        try:
            kept, new = _kept(folder, source)
        except FileNotFoundError:
            continue
        except (OSError, DlcAssetsError, sqlite3.Error) as error:
            made.problems.append(f"{source.path}: {error}")
            continue
        listed.files[source.name] = kept
        made.copied += new
        made.copied_bytes += kept.size if new else 0
        progress.add(kept.size)
    progress.end()
    if verify:
        made.problems += check_files(folder, unchanged, log)
    made.files, made.size = len(listed.files), sum(kept.size for kept in listed.files.values())
    folder.write(name, listed)
    append_record(
        lab.layout,
        "backups",
        {"lab": lab_id, "folder": str(folder.place), "name": name, "files": made.files, "problems": len(made.problems)},
    )
    if keep is not None:
        made.removed = folder.prune(keep)
    return made


def check_files(folder: BackupFolder, files: dict[str, KeptFile], log: Callable[[str], None]) -> list[str]:
    """Read back files of a backup; return what is wrong with them, with their path in the lab."""
    progress = BytesProgress(log, "reading back", sum(kept.size for kept in files.values()))
    problems = []
    for name, kept in files.items():
        if problem := folder.problem(kept):
            problems.append(f"{name}: {problem}")
        progress.add(kept.size)
    progress.end()
    return problems


def _size(source: Source) -> int:
    return source.path.stat().st_size if source.path.exists() else 0


def _kept(folder: BackupFolder, source: Source) -> tuple[KeptFile, bool]:
    """Keep one file as it was at one moment; one that is being written is copied again."""
    for attempt in range(_TRIES):
        stamp = source.stamp()
        kept = folder.keep(lambda to: _copy(source, to), stamp)
        # A database is copied as it was at one moment, whatever is written meanwhile.
        if source.kind == "database" or source.stamp() == stamp:
            return kept
        time.sleep(0.1 * (attempt + 1))
    raise SettingsError(
        "it changes all the time, so that no copy is whole. Make the backup again when nobody writes to it."
    )


def _copy(source: Source, to: Path) -> None:
    if source.kind == "instance settings":
        to.write_text(without_passwords(source.path)[0], encoding="utf-8")
    elif source.kind == "database":
        with (
            closing(sqlite3.connect(f"{source.path.absolute().as_uri()}?mode=ro", uri=True, timeout=60)) as theirs,
            closing(sqlite3.connect(to)) as ours,
        ):
            theirs.backup(ours)
    else:
        shutil.copyfile(source.path, to)
