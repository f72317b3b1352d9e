"""The errors that people see: each message says what was expected, what came, where, and what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class DlcAssetsError(Exception):
    """An error whose message is written for the person who runs the lab."""


class SettingsError(DlcAssetsError):
    """A file that the lab wrote (lab.yaml, a model specification, session.yaml, sessions.csv) is wrong."""


class InputError(DlcAssetsError):
    """A recording, a label file, an image or a DeepLabCut project is wrong."""


class NotFoundError(DlcAssetsError):
    """Something that was asked for by name does not exist."""


class EnvironmentProblem(DlcAssetsError):
    """The machine or the network lacks what the work needs (a model hub, a GPU, disk)."""


class BusyError(DlcAssetsError):
    """Somebody else holds what was asked for."""


def did_you_mean(wrong: str, known: Iterable[str]) -> str:
    """Return `` Did you mean "x"?`` for the nearest of *known*, or an empty string when none is near."""
    by_folded = {name.casefold(): name for name in known}
    near = difflib.get_close_matches(wrong.casefold(), by_folded, n=1, cutoff=0.6)
    return f' Did you mean "{by_folded[near[0]]}"?' if near else ""
