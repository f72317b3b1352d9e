"""Starts that state no time zone in a lab that states none either: UTC is assumed, and that is a guess."""

from __future__ import annotations

from dlc_assets.lab.lab import Lab
from dlc_assets.recordings.info import SessionInfo


def assumed_zone(lab: Lab, session: SessionInfo) -> str | None:
    """Return what to write where the zone of the session's start is assumed, None where the lab or the start states it."""
    if not session.start_without_zone or lab.settings.states_timezone or session.start is None:
        return None
    stated = "start in session.yaml" if session.start_source == "session.yaml" else "the start in the videos' names"
    local = session.start.replace(tzinfo=None).isoformat()
    return (
        f"{session.session}: {stated} is {local} without a time zone, and {lab.layout.settings_file} has no timezone: UTC is assumed. "
        f"Write timezone: Europe/Zurich (yours) into lab.yaml, or {_with_offset(session, local)}."
    )


def _with_offset(session: SessionInfo, local: str) -> str:
    if session.start_source == "session.yaml":
        return f"start: {local}+02:00 (its offset from UTC) into session.yaml"
    return "%z into the start_format of names that state their offset from UTC"
