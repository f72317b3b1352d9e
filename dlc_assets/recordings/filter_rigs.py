"""What of a recording's rig the filters of its poses depend on: a scale for speeds in cm/s, the arena; nothing where no step asks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from pydantic import TypeAdapter

from dlc_assets.lab.filter_settings import Steps
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.regions import CircleRegion, Region, region_words
from dlc_assets.recordings.info import SessionInfo
from dlc_assets.recordings.setups import setup_of

_REGION: TypeAdapter[Any] = TypeAdapter(Region)


@dataclass(frozen=True)
class FilterRig:
    """The scale (px per cm) and the arena (px of the full upright frame) that steps are given; None: not stated, or not needed."""

    px_per_cm: float | None = None
    arena: Region | None = None

    @property
    def words(self) -> dict[str, Any]:
        """The rig in one form, for hashes."""
        return {
            "px_per_cm": self.px_per_cm,
            "arena": None if self.arena is None else region_words(self.arena),
        }

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` reads."""
        arena = self.arena
        return {
            "px_per_cm": self.px_per_cm,
            "arena": arena.model_dump(mode="json") if isinstance(arena, CircleRegion) else arena,
        }

    @classmethod
    def from_json(cls, stated: dict[str, Any]) -> FilterRig:
        """Read what `to_json` gave."""
        arena = stated["arena"]
        return cls(stated["px_per_cm"], None if arena is None else _REGION.validate_python(arena))


def filter_rigs(lab: Lab, session: SessionInfo, recordings: Iterable[str], steps: Steps) -> dict[str, FilterRig]:
    """Return what *steps* need of the rig of each of *recordings*, by name; a recording that is gone has none.

    Raises
    ------
    SettingsError
        A step needs it, the setup depends on the day, and that of the session is not known.
    """
    scale, arena = any(step.uses_scale for step in steps), any(step.step == "arena" for step in steps)
    known = {recording.recording: recording for recording in session.recordings}
    rigs = {}
    for name in recordings:
        if name not in known or not (scale or arena):
            rigs[name] = FilterRig()
            continue
        setup = setup_of(lab, session, known[name])
        rigs[name] = FilterRig(setup.px_per_cm if scale else None, setup.arena if arena else None)
    return rigs
