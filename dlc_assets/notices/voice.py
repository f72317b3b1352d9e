"""In whose name people are told, and how: what of lab.yaml a notice needs, kept for the day on which lab.yaml cannot be read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from dlc_assets.lab.lab import Lab
from dlc_assets.lab.layout import LabLayout
from dlc_assets.lab.settings import Notify


@dataclass(frozen=True)
class Voice:
    """The lab's name, folder and time zone, and its `notify` block."""

    name: str
    layout: LabLayout
    timezone: str
    notify: Notify

    @classmethod
    def of(cls, lab: Lab) -> Voice:
        return cls(lab.settings.name, lab.layout, lab.settings.timezone, lab.settings.notify)

    def kept(self) -> dict[str, Any]:
        """Return the voice as JSON; secrets are in the environment, so there is none in it."""
        notify = self.notify.model_dump(mode="json", by_alias=True)
        return {"name": self.name, "timezone": self.timezone, "notify": notify}

    @classmethod
    def from_kept(cls, layout: LabLayout, kept: dict[str, Any]) -> Voice | None:
        """Return what `kept` gave, None where there is none that can be read."""
        try:
            return cls(kept["name"], layout, kept["timezone"], Notify.model_validate(_with_time(kept["notify"])))
        except (KeyError, TypeError, ValueError, ValidationError):
            return None

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.timezone)

    def when(self, at: float) -> str:
        """Return a unix time as the lab's clock shows it, such as ``2026-05-01 08:00``."""
        return datetime.fromtimestamp(at, self.zone).strftime("%Y-%m-%d %H:%M")


def _with_time(notify: dict[str, Any]) -> dict[str, Any]:
    return {**notify, "digest_at": notify["digest_at"][:5]}
