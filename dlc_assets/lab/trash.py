"""Taking things out of the store: moved to the trash by renaming, all of them or none, and for good only on request.

A removal first writes down in the trash what it is about to move; its record in the lab's records makes it final. What a process
that died in between had moved is put back by whoever comes next.
"""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from dlc_assets.lab.errors import EnvironmentProblem
from dlc_assets.lab.files import read_json, size_of, write_json
from dlc_assets.lab.layout import LabLayout
from dlc_assets.lab.locks import hold
from dlc_assets.lab.records import Kind, append_record, read_records

PLAN = "deletion.json"
_RECORDS: Kind = "deletions"


@dataclass(frozen=True)
class TrashEntry:
    """What one removal moved: below `folder`, each of `paths` lies where it lay in the store."""

    folder: Path
    name: str
    paths: tuple[str, ...]
    bytes: int


def move_to_trash(
    layout: LabLayout,
    what: str,
    name: str,
    paths: Sequence[Path],
    *,
    check: Callable[[], None],
    log: Callable[[str], None],
) -> TrashEntry:
    """Move *paths* of the store (those that are there) to the trash, and keep that in the records.

    Parameters
    ----------
    what, name
        What is removed, for the records: a kind such as ``version``, and its name.
    check
        Raises where something speaks against the removal. It is asked before and after the move: what came in between puts
        everything back.

    Raises
    ------
    EnvironmentProblem
        Part of the store lies on another disk than the trash, so that it cannot be moved in one step.
    """
    with hold(layout.lock("trash", "trash"), f"removing {name}", log=log):
        _put_back_unfinished(layout, log)
        check()
        there = [path for path in paths if path.exists()]
        size = sum(size_of(path) for path in there)
        relative = [path.relative_to(layout.store).as_posix() for path in there]
        folder = _new_entry(layout, name)
        try:
            write_json(folder / PLAN, {"what": what, "name": name, "paths": relative})
            for path, where in zip(there, relative, strict=True):
                _rename(path, folder / where)
            check()
            append_record(
                layout, _RECORDS, {"what": what, "name": name, "paths": relative, "bytes": size, "trash": folder.name}
            )
        except BaseException:
            _put_back(layout, folder, log)
            raise
        return TrashEntry(folder, name, tuple(relative), size)


def trash_entries(layout: LabLayout) -> list[TrashEntry]:
    """Return what lies in the trash, oldest first."""
    entries = []
    for folder in _folders(layout):
        plan = _plan(folder)
        entries.append(
            TrashEntry(folder, str(plan.get("name", folder.name)), tuple(plan.get("paths", ())), size_of(folder))
        )
    return entries


def empty_trash(layout: LabLayout, *, log: Callable[[str], None]) -> list[TrashEntry]:
    """Delete what lies in the trash for good, after recording it; return what there was."""
    with hold(layout.lock("trash", "trash"), "emptying the trash", log=log):
        _put_back_unfinished(layout, log)
        entries = trash_entries(layout)
        if entries:
            gone = {"trash": [entry.folder.name for entry in entries], "bytes": sum(entry.bytes for entry in entries)}
            append_record(layout, _RECORDS, {"what": "trash emptied", **gone})
        for entry in entries:
            shutil.rmtree(entry.folder)
            log(f"{entry.folder.name}: deleted for good")
        return entries


def _folders(layout: LabLayout) -> list[Path]:
    return sorted(path for path in layout.trash.glob("[!.]*") if path.is_dir())


def _plan(folder: Path) -> dict[str, list[str] | str]:
    try:
        plan = read_json(folder / PLAN)
    except (FileNotFoundError, ValueError):
        return {}  # somebody put the folder there by hand
    return plan if isinstance(plan, dict) else {}


def _new_entry(layout: LabLayout, name: str) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    number = 1
    while True:
        folder = layout.trash / (f"{stamp}-{name}" if number == 1 else f"{stamp}-{name}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return folder


def _rename(path: Path, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.rename(to)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        raise EnvironmentProblem(
            f"{path} lies on another disk than {to.parent}, so that it cannot be moved there in one step; nothing was changed. "
            "Put the trash on the same disk (store/trash may be a link), or delete it by hand."
        ) from error


def _put_back_unfinished(layout: LabLayout, log: Callable[[str], None]) -> None:
    """Put back what a removal that died in the middle had moved (its plan is there, its record is not)."""
    finished = {row.get("trash") for row in read_records(layout, _RECORDS) if isinstance(row.get("trash"), str)}
    for folder in _folders(layout):
        if folder.name in finished:
            continue
        if _plan(folder):
            log(f"the removal of {_plan(folder).get('name')} was broken off; what it had moved is put back")
            _put_back(layout, folder, log)
        elif not any(folder.iterdir()):
            folder.rmdir()


def _put_back(layout: LabLayout, folder: Path, log: Callable[[str], None]) -> None:
    """Move what lies in the entry *folder* back; what was made anew meanwhile stays, and the old one remains in the trash."""
    plan = _plan(folder)
    remaining = []
    for where in plan.get("paths", ()):
        path = layout.store / where
        if not (folder / where).exists():
            continue
        if path.exists():
            remaining.append(where)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        (folder / where).rename(path)
    if remaining:
        log(f"{', '.join(remaining)}: made anew meanwhile; the former one stays in {folder}")
        what, name = plan.get("what"), plan.get("name")
        size = sum(size_of(folder / where) for where in remaining)
        append_record(
            layout, _RECORDS, {"what": what, "name": name, "paths": remaining, "bytes": size, "trash": folder.name}
        )
        return
    shutil.rmtree(folder)
