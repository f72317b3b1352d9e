"""Whether the videos of a session, and pictures of their frames, may leave the lab: those of people only with stated consent."""

from __future__ import annotations

from dlc_assets.lab.subject_terms import is_human
from dlc_assets.recordings.info import SessionInfo


def may_leave(session: SessionInfo, species: str | None) -> str | None:
    """Return why the videos and frame pictures of *session* may not leave the lab, None where they may.

    They may not where session.yaml says ``consent: {videos: false}``, whatever the *species*, nor where that is Homo sapiens
    (`LabSettings.subject` gives it) and session.yaml does not say ``consent: {videos: true}``. Poses are not concerned.
    """
    if session.consent is not None and session.consent.videos:
        return None
    if session.consent is not None:
        by = f" (stated by {session.consent.by})" if session.consent.by else ""
        return f"{session.session}: its session.yaml says consent: videos: false{by}: videos and pictures of frames stay in the lab."
    if is_human(species):
        return (
            f"{session.session} is of {species}, and its session.yaml states no consent: videos and pictures of frames stay in the "
            'lab. Where the person agreed, write consent: {videos: true, by: "Last, First", date: 2026-05-01} into session.yaml.'
        )
    return None
