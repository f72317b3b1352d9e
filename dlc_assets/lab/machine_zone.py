"""The time zone that this machine is set to, by its name; which Python's own libraries know only as an offset."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from zoneinfo import available_timezones

_LOCALTIME = Path("/etc/localtime")  # on Linux and macOS a link into the time zone database
_TIMEZONE = Path("/etc/timezone")  # the name itself, on Debian
# What a machine says that nobody told where it is.
_NO_PLACE = {"UTC", "UCT", "GMT", "Universal", "Zulu", "Greenwich"}


def machine_zone() -> str | None:
    """Return the name of the machine's time zone, such as ``Europe/Zurich``.

    None where it cannot be told, and for UTC: that is how machines come, and no place where a lab is.
    """
    known = available_timezones()
    zone = next((name for name in _stated() if name in known), None)
    return None if zone is None or zone.removeprefix("Etc/") in _NO_PLACE else zone


def _stated() -> list[str]:
    found = [os.environ.get("TZ", "").removeprefix(":")]
    with contextlib.suppress(OSError, UnicodeDecodeError):  # most systems have none
        found.append(_TIMEZONE.read_text(encoding="utf-8").strip())
    if _LOCALTIME.is_symlink():
        found.append(str(_LOCALTIME.resolve()).partition("zoneinfo/")[2])
    return found
