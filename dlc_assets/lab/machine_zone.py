"""The time zone that this machine is set to, by its name; which Python's own libraries know only as an offset."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from zoneinfo import available_timezones

_LOCALTIME = Path("/etc/localtime")  # on Linux and macOS a link into the time zone database
_TIMEZONE = Path("/etc/timezone")  # the name itself, on Debian


def machine_zone() -> str | None:
    """Return the name of the machine's time zone, such as ``Europe/Zurich``; None where it cannot be told."""
    known = available_timezones()
    return next((name for name in _stated() if name in known), None)


def _stated() -> list[str]:
    found = [os.environ.get("TZ", "").removeprefix(":")]
    with suppress(OSError, UnicodeDecodeError):  # most systems have none
        found.append(_TIMEZONE.read_text(encoding="utf-8").strip())
    if _LOCALTIME.is_symlink():
        found.append(str(_LOCALTIME.resolve()).partition("zoneinfo/")[2])
    return found
