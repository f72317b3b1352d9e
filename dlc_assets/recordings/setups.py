"""What belongs to a recording's rig: its setup on the session's day, with what session.yaml states in its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dlc_assets.lab.errors import SettingsError
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.regions import Region
from dlc_assets.lab.settings import Setup
from dlc_assets.recordings.info import RecordingInfo, SessionInfo


@dataclass(frozen=True)
class RecordingSetup:
    """The rig of one recording, px of the full upright frame.

    Attributes
    ----------
    px_per_cm
        None where it is not known.
    regions
        By name; empty where there are none.
    arena
        Where the animal can be, None where it is not stated.
    reference
        What shows where the camera stood: a picture's path relative to the lab folder, or a session's key; None where nothing does.
    """

    px_per_cm: float | None = None
    regions: Mapping[str, Region] = field(default_factory=dict)
    arena: Region | None = None
    reference: str | None = None


def setup_of(lab: Lab, session: SessionInfo, recording: RecordingInfo) -> RecordingSetup:
    """Return the rig of *recording*.

    Raises
    ------
    SettingsError
        The setup depends on a day that is not known, and session.yaml does not state everything itself.
    """
    period = _period(lab, session, recording) or Setup()
    scale = recording.scale or period.scale
    return RecordingSetup(
        px_per_cm=None if scale is None else scale.px_per_cm,
        regions=period.regions if recording.regions is None else recording.regions,
        arena=recording.arena or period.arena,
        reference=period.reference,
    )


def _period(lab: Lab, session: SessionInfo, recording: RecordingInfo) -> Setup | None:
    found = setup_period(lab, session, recording)
    return None if found is None else found[0]


def setup_period(lab: Lab, session: SessionInfo, recording: RecordingInfo) -> tuple[Setup, str] | None:
    """Return the setup of the recording's device on the session's day and where lab.yaml states it, None where there is none.

    Raises
    ------
    SettingsError
        It depends on a day that is not known.
    """
    where = f"{lab.layout.settings_file}: setups.{recording.device}"
    periods = lab.settings.setups.get(recording.device, ())
    if session.day is None and not all(period.covers(None) for period in periods):
        raise SettingsError(
            f"{where}: it depends on the day, and that of {session.session} is not known. State the session's start in "
            f"session.yaml, or recordings.{recording.recording}.crop there."
        )
    for number, period in enumerate(periods):
        if period.covers(session.day):
            return period, f"{where}.{number}"
    return None
