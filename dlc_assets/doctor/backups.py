"""The last backup: when it was, where, and whether all that belongs into it was in it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from dlc_assets.doctor.findings import Finding
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.records import read_records

_DAYS = 7


def last_backup(lab: Lab) -> Iterator[Finding]:
    """Warn where labels and models are in one place only."""
    made = read_records(lab.layout, "backups")
    if not made:
        yield Finding(
            "last backup",
            "warn",
            "`dlc-assets backup` was never used: labels, models and records are in one place only",
            "dlc-assets backup DIR, with a folder on another disk; or have your institute copy the lab, and ignore this",
        )
        return
    last = made[-1]
    days = (datetime.now(UTC) - datetime.fromisoformat(last["at"])).total_seconds() / 86400
    found = f"{last['at']}, {last['files']} files in {last['folder']}"
    if last["problems"]:
        yield Finding(
            "last backup",
            "warn",
            f"{found}; {last['problems']} are missing in it",
            "Make it again, and read what it says.",
        )
    elif days > _DAYS:
        yield Finding("last backup", "warn", f"{days:.0f} days ago: {found}", f"dlc-assets backup {last['folder']}")
    else:
        yield Finding("last backup", "ok", found)
