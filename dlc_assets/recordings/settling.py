"""Telling a finished video from one that a camera still writes: size and time of change unchanged for a while."""

from __future__ import annotations

import time

from dlc_assets.lab.files import read_json, write_json
from dlc_assets.lab.lab import Lab
from dlc_assets.recordings.discovery import Discovery


def unchanged_for(discovery: Discovery, seconds: float, *, now: float | None = None) -> list[str]:
    """Return the keys of the sessions whose files all say that they last changed at least *seconds* ago.

    A time far in the future is a camera's wrong clock, not a file in the making.
    """
    now = time.time() if now is None else now
    return [
        key
        for key, session in discovery.sessions.items()
        if all(abs(now - file.mtime_ns / 1e9) >= seconds for file in session.files)
    ]


def settled_sessions(lab: Lab, discovery: Discovery, *, now: float | None = None) -> list[str]:
    """Return the keys of the sessions none of whose files has changed for `analyze.settle_seconds`.

    A file counts as unchanged since the later of its own time of change and the moment its size was first seen: a copied file can carry an
    old time while it still grows. What was seen is kept in the store's work folder.
    """
    now = time.time() if now is None else now
    try:
        seen: dict[str, float] = read_json(lab.layout.discovery_file)
    except (FileNotFoundError, ValueError):
        seen = {}
    needed = lab.settings.analyze.settle_seconds
    still: dict[str, float] = {}
    settled = []
    for key, session in discovery.sessions.items():
        ages = []
        for file in session.files:
            first_seen = seen.get(file.stamp, now)
            changed = file.mtime_ns / 1e9
            # A time in the future is a wrong clock and says nothing.
            ages.append(now - (max(first_seen, changed) if changed <= now else first_seen))
            still[file.stamp] = first_seen
        if min(ages) >= needed:
            settled.append(key)
    if still != seen:
        write_json(lab.layout.discovery_file, still)
    return settled
