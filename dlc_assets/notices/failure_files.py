"""Which failures are new: found by the failure files' names and times, so that a look costs no more for a large lab."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from dlc_assets.lab.files import content_hash
from dlc_assets.lab.layout import LabLayout
from dlc_assets.notices.causes import Causes, cause_of
from dlc_assets.state.failures import RecordedFailure, read_failure

_GONE_AT_ONCE = 1_000


class Seen(NamedTuple):
    """A failure file as it was read: its time and size, which failure it kept, and the run that made it."""

    mtime_ns: int
    size: int
    failure: str
    run_id: str


@dataclass
class Look:
    """What a look at the failure files found.

    `seen` is everything that is known now, by asset and file name; `new` are failures that were not known; `gone` are the names of
    files that vanished; `complete` says whether all that has changed was read.
    """

    seen: dict[str, Seen]
    new: list[RecordedFailure] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    complete: bool = True


def identity(failure: RecordedFailure) -> str:
    """Return what makes a failure the same one: asset, key and inputs; where those could not be read, the cause."""
    told_apart_by = failure.inputs or {"cause": cause_of(failure)}
    return content_hash([failure.asset, failure.key, told_apart_by])[:12]


def look_at_failures(
    layout: LabLayout, seen: dict[str, Seen], *, seconds: float, clock: Callable[[], float] = time.monotonic
) -> Look:
    """Read the failure files that are new or have changed since *seen*, for at most *seconds*; the rest is left to the next look."""
    ends = clock() + seconds
    look = Look({})
    there = dict(_files(layout.failures))
    for name, (path, status) in there.items():
        known = seen.get(name)
        if known is not None and (known.mtime_ns, known.size) == (status.st_mtime_ns, status.st_size):
            look.seen[name] = known
            continue
        if clock() >= ends:
            look.complete = False
            if known is not None:
                look.seen[name] = known
            continue
        failure = read_failure(Path(path))
        if failure is None:  # it vanished a moment ago; the next look finds it gone
            continue
        look.seen[name] = Seen(status.st_mtime_ns, status.st_size, identity(failure), failure.run_id)
        if known is None or known.failure != look.seen[name].failure:
            look.new.append(failure)
    gone = sorted(name for name in seen if name not in there)
    look.gone = gone[:_GONE_AT_ONCE]
    look.seen |= {
        name: seen[name] for name in gone[_GONE_AT_ONCE:]
    }  # for the next look: each costs whoever asks a file to read
    return look


def standing_failures(
    layout: LabLayout, *, most: int, seconds: float, clock: Callable[[], float] = time.monotonic
) -> Causes:
    """Return what fails now, by cause: the newest *most* failures that can be read in *seconds*; the others are only counted."""
    ends = clock() + seconds
    files = sorted(_files(layout.failures), key=lambda file: -file[1][1].st_mtime_ns)
    causes = Causes()
    for number, (_, (path, _)) in enumerate(files):
        if number >= most or clock() >= ends:
            causes.others += len(files) - number
            break
        failure = read_failure(Path(path))
        if failure is not None:
            causes.add(failure)
    return causes


def asset_and_key(name: str) -> tuple[str, str]:
    """Return the asset and key of a failure file by its name in `Look`."""
    asset, _, file = name.partition("/")
    key = file.removesuffix(".json")
    # A model's name has no underscore: the first two stand for the bar of model|session.
    return asset, key.replace("__", "|", 1) if asset == "pose_table" else key


def _files(folder: Path) -> Iterator[tuple[str, tuple[str, os.stat_result]]]:
    for asset in _entries(folder):
        if not asset.is_dir():
            continue
        for file in _entries(Path(asset.path)):
            if file.name.startswith(".") or not file.name.endswith(".json"):  # being written
                continue
            try:
                status = file.stat()
            except FileNotFoundError:  # it went right meanwhile
                continue
            yield f"{asset.name}/{file.name}", (file.path, status)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except FileNotFoundError:
        return []
