"""What one export states itself about its session, in the place of what the lab's files say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from datetime import date, datetime
from typing import Any

from dlc_assets.lab.errors import SettingsError, did_you_mean
from dlc_assets.nwb.description import SessionDescription, SubjectDescription

_SUBJECT_KEYS = tuple(one.name for one in fields(SubjectDescription))
_SESSION_KEYS = tuple(one.name for one in fields(SessionDescription) if one.name != "identifier")
_SEVERAL = ("experimenters", "keywords")


def overridden(session: SessionDescription, overrides: Mapping[str, Any]) -> SessionDescription:
    """Return *session* with *overrides*: fields of `SessionDescription` by name, and under ``subject`` those of `SubjectDescription`.

    Times and days may be text in ISO 8601.

    Raises
    ------
    SettingsError, InputError
        A field that there is not, or a value that does not fit it.
    """
    stated = dict(overrides)
    _check_known("session_overrides", stated, _SESSION_KEYS)
    if "subject" in stated:
        subject = dict(stated["subject"])
        _check_known("session_overrides: subject", subject, _SUBJECT_KEYS)
        if isinstance(subject.get("date_of_birth"), str):
            subject["date_of_birth"] = _parsed(date, subject["date_of_birth"], "subject.date_of_birth", "2026-02-01")
        if session.subject is not None:
            stated["subject"] = replace(session.subject, **subject)
        elif "subject_id" not in subject:
            raise SettingsError(
                f"session_overrides: {session.identifier} has no subject; expected subject_id among what is stated of it."
            )
        else:
            stated["subject"] = SubjectDescription(**{"species": None, **subject})
    if start := stated_start(stated):
        stated["start"] = start
    for name in _SEVERAL:
        if name in stated:
            stated[name] = (stated[name],) if isinstance(stated[name], str) else tuple(stated[name])
    return replace(session, **stated)


def stated_start(overrides: Mapping[str, Any]) -> datetime | None:
    """Return the session's start by *overrides*, None where they state none; errors as `overridden`."""
    start: str | datetime | None = overrides.get("start")
    return _parsed(datetime, start, "start", "2026-05-01T10:12:00+02:00") if isinstance(start, str) else start


def as_stated(overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return *overrides* as JSON holds them, times and days as text: so they are kept with what was made."""
    return {
        name: as_stated(value)
        if isinstance(value, Mapping)
        else value.isoformat()
        if isinstance(value, date)
        else list(value)
        if isinstance(value, tuple)
        else value
        for name, value in overrides.items()
    }


def _check_known(where: str, stated: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for name in stated:
        if name not in known:
            raise SettingsError(f'{where}: unknown "{name}".{did_you_mean(name, known)} Known: {", ".join(known)}.')


def _parsed(kind: Any, text: str, name: str, example: str) -> Any:
    try:
        return kind.fromisoformat(text)
    except ValueError:
        raise SettingsError(f'session_overrides: {name} is "{text}"; expected ISO 8601 such as {example}.') from None
