"""Telling a finished video from one that a camera still writes, and a whole session from one whose cameras are not all there yet."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from dlc_assets.lab.settings import LabSettings, RecordingTemplate
from dlc_assets.recordings.found import KnownFile
from dlc_assets.recordings.placing import shown

if TYPE_CHECKING:
    from dlc_assets.recordings.discovery import Discovery

# A file that does not end as its kind does, and has been left alone for so much longer, will not become better by waiting.
_MUCH_LONGER = 10  # times `analyze.settle_seconds`
_AT_LEAST = 600.0  # s


@dataclass(frozen=True)
class Waiting:
    """What a session waits for, in words (``""``: nothing), when it is worth looking again (unix time, s), and files to open.

    `again` is infinite where only a change of its files can end the waiting.
    """

    words: str
    again: float = math.inf
    unopened: tuple[KnownFile, ...] = ()


def signal_of(template: RecordingTemplate, done: bool) -> bool | None:
    """Return whether a file is whole by the signals of its template; None where only quiet tells. *done*: its done file is there."""
    if "renamed" in template.finished or ("done_file" in template.finished and done):
        return True
    return None if "quiet" in template.finished else False


def unchanged_for(discovery: Discovery, seconds: float, *, now: float | None = None) -> list[str]:
    """Return the keys of the sessions whose files are finished: by the lab's own signals, or unchanged for *seconds* by their own time.

    A time far in the future is a camera's wrong clock, not a file in the making.
    """
    now = time.time() if now is None else now
    return [
        key
        for key, session in discovery.sessions.items()
        if all(
            abs(now - file.mtime_ns / 1e9) >= seconds if file.finished is None else file.finished
            for file in session.files
        )
    ]


def waiting_of(files: Sequence[KnownFile], settings: LabSettings, now: float) -> Waiting:
    """Say what the session made of *files* waits for at *now* (unix time, s).

    A file counts as unchanged since the later of its own time of change and the moment it was first seen as it is: a copied file can
    carry an old time while it still grows.
    """
    waits = [(file, _file_waits(file, settings, now)) for file in files]
    held_up = [(file, waiting) for file, waiting in waits if waiting is not None]
    unopened = tuple(file for file, waiting in held_up if not waiting.words)
    in_words = [waiting for _, waiting in held_up if waiting.words]
    if in_words:
        more = len(in_words) - 1
        words = in_words[0].words + (f" (and {more} more files)" if more > 1 else " (and 1 more file)" if more else "")
        # Files that can be opened are, although others are not finished: what is found is kept.
        return Waiting(words, now if unopened else min(waiting.again for waiting in in_words), unopened)
    if unopened:
        name = shown(unopened[0].name)
        return Waiting(f"{name} has not changed for a while; its end is to be looked at", now, unopened)
    return _cameras_waited_for(files, settings, now)


def _file_waits(file: KnownFile, settings: LabSettings, now: float) -> Waiting | None:
    """Return what one file waits for: None if it is finished, no words if it must be opened."""
    template = settings.recordings[file.place]
    signal = signal_of(template, file.done)
    zone, name = settings.zone, shown(file.name)
    if signal is True:
        return None
    if signal is False:
        # The words stay as they are for as long as it takes: they need the day.
        return Waiting(f"{name} waits for {name}.done since {_clock(file.first_seen, None, zone)}")
    seconds = settings.analyze.settle_seconds
    changed = file.mtime_ns / 1e9
    # A time in the future is a wrong clock and says nothing.
    since = max(file.first_seen, changed) if changed <= now else file.first_seen
    if now - since < seconds:
        return Waiting(
            f"{name} changed, or was first seen, at {_clock(since, now, zone, seconds=True)}; it counts once it has not "
            f"changed for {seconds:g} s",
            since + seconds,
        )
    give_up = since + max(_MUCH_LONGER * seconds, _AT_LEAST)
    if not seconds or file.ending == "" or now >= give_up:
        return None
    if file.ending is None:
        return Waiting("")
    return Waiting(
        f"{name} has not changed since {_clock(since, now, zone)}, but {file.ending}; it is waited for until "
        f"{_clock(give_up, now, zone)}",
        give_up,
    )


def _cameras_waited_for(files: Sequence[KnownFile], settings: LabSettings, now: float) -> Waiting:
    there = {file.camera for file in files}
    absent = [camera for camera in settings.expect if camera not in there]
    until = max(file.arrived for file in files) + settings.expect_timeout
    if not absent or now >= until:
        return Waiting("")
    which = f"camera {absent[0]}" if len(absent) == 1 else f"cameras {', '.join(absent)}"
    return Waiting(f"waits for {which} until {_clock(until, now, settings.zone)}", until)


def _clock(at: float, now: float | None, zone: ZoneInfo, *, seconds: bool = False) -> str:
    """Return the time of day of *at*, with the day where it is not that of *now*."""
    time_of_day = "%H:%M:%S" if seconds else "%H:%M"
    try:
        moment = datetime.fromtimestamp(at, zone)
    except (OverflowError, ValueError, OSError):
        return "a time that no calendar has"
    today = now is not None and moment.date() == datetime.fromtimestamp(now, zone).date()
    return moment.strftime(time_of_day if today else f"%Y-%m-%d {time_of_day}")
