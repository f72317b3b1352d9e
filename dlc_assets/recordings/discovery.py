"""Finding the recordings below the lab's roots: all of them, or those of some sessions."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from dlc_assets.lab.lab import Lab
from dlc_assets.recordings.found import VIDEO_SUFFIXES, FoundFile, FoundRecording, FoundSession
from dlc_assets.recordings.index import RecordingIndex

__all__ = [
    "VIDEO_SUFFIXES",
    "Discovery",
    "FoundFile",
    "FoundRecording",
    "FoundSession",
    "discover",
    "find_sessions",
]

# An index that was brought up to date longer ago, s, is brought up to date before it is believed about where a session's files are.
_FRESH = 120.0


@dataclass
class Discovery:
    """All that was found: sessions by key, files that fit no template, and problems that belong to no session."""

    sessions: dict[str, FoundSession] = field(default_factory=dict)
    unmatched: list[Path] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    @property
    def all_problems(self) -> list[str]:
        return [
            *self.problems,
            *(problem for session in self.sessions.values() for problem in session.problems),
        ]


def discover(lab: Lab) -> Discovery:
    """Look through the lab's recording roots, and keep nothing. No file is opened; one bad file never stops the rest."""
    with RecordingIndex.in_memory(lab) as index:
        index.look(settle=False)
        return Discovery(
            {session.key: session for session in index.sessions()},
            index.unmatched(),
            index.ignored(),
            index.problems(of_sessions=False),
        )


def find_sessions(lab: Lab, keys: Iterable[str]) -> dict[str, FoundSession]:
    """Return those of *keys* that are there, as `discover` would: the index says in which folders to look, and those are looked at.

    Without an index, or where its folders are not as it knows them, all roots are looked through. What came within the last minutes into a
    folder that had nothing of a session may be missing; the next look at the index finds it, and then the session is behind.
    """
    keys = list(dict.fromkeys(keys))
    found = _by_index(lab, keys) if keys and lab.layout.index_file.is_file() else None
    if found is None:
        sessions = discover(lab).sessions if keys else {}
        found = {key: sessions[key] for key in keys if key in sessions}
    return found


def _by_index(lab: Lab, keys: list[str]) -> dict[str, FoundSession] | None:
    """Return the sessions *keys* by the lab's index, or None where it does not know all of them, or not well enough."""
    with RecordingIndex.opened(lab) as index:
        at = index.looked_at()
        if (at is None or not 0 <= time.time() - at < _FRESH) and not index.look(settle=False).round_done:
            return None
        return index.looked_at_again(keys)
