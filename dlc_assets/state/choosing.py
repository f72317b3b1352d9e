"""Choosing sessions: by key, by pattern, by tag of the session or its subject."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

from dlc_assets.lab.errors import NotFoundError, SettingsError, did_you_mean
from dlc_assets.lab.lab import Lab
from dlc_assets.recordings.info import SessionInfo, need_session_info
from dlc_assets.state.behind import recorded_sessions

_LISTED = 20


def sessions_matching(lab: Lab, patterns: Sequence[str] | None, tags: Sequence[str] = ()) -> list[str]:
    """Return the keys of the sessions that fit one of *patterns* (None: all), and every one of *tags*, sorted.

    Parameters
    ----------
    patterns
        Session keys, or patterns of them such as ``sub-m01_*``.
    tags
        ``name=value`` of the subject (lab.yaml) or of the session (session.yaml).

    Raises
    ------
    NotFoundError
        A pattern fits no session, or no session has the tags.
    SettingsError
        A tag is not written as ``name=value``.
    """
    known = recorded_sessions(lab)
    chosen = set(known) if patterns is None else set()
    for pattern in patterns or ():
        fitting = fnmatch.filter(known, pattern)
        if not fitting:
            listed = ", ".join(known[:_LISTED]) or "none"
            raise NotFoundError(
                f'no session that was probed fits "{pattern}".{did_you_mean(pattern, known)} Sessions: {listed}'
                f"{', ...' if len(known) > _LISTED else ''}."
            )
        chosen.update(fitting)
    wanted = [_tag(text) for text in tags]
    if wanted:
        chosen = {key for key in chosen if _has(lab, need_session_info(lab.layout, key)[0], wanted)}
        if not chosen:
            raise NotFoundError(_no_session_has(lab, known, wanted))
    if not chosen:
        raise NotFoundError("no session was probed yet: run `dlc-assets scan` first.")
    return sorted(chosen)


def tags_of(lab: Lab, session: SessionInfo) -> dict[str, str]:
    """Return the tags of a session and of its subject as texts; the session's own win."""
    subject = lab.settings.subject(session.subject_source_name)
    return {str(name): _text(value) for name, value in {**subject.tags, **session.tags}.items()}


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _tag(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise SettingsError(f'expected a tag as name=value, such as group=control; got "{text}".')
    return name.strip(), value.strip()


def _has(lab: Lab, session: SessionInfo, wanted: Sequence[tuple[str, str]]) -> bool:
    tags = tags_of(lab, session)
    return all(tags.get(name) == value for name, value in wanted)


def _no_session_has(lab: Lab, known: Sequence[str], wanted: Sequence[tuple[str, str]]) -> str:
    there: dict[str, set[str]] = {}
    for key in known:
        for name, value in tags_of(lab, need_session_info(lab.layout, key)[0]).items():
            there.setdefault(name, set()).add(value)
    asked = " and ".join(f"{name}={value}" for name, value in wanted)
    listed = ", ".join(f"{name}={value}" for name in sorted(there) for value in sorted(there[name])[:_LISTED])
    near = next((did_you_mean(name, there) for name, _ in wanted if name not in there), "")
    return f"no session has the tag {asked}.{near} Tags of sessions and their subjects: {listed or 'none'}."
