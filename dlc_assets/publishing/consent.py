"""Whether videos of a session may leave the lab: those of people only where they consented."""

from __future__ import annotations

from dlc_assets.recordings.info import SessionInfo

_HUMAN = ("homo sapiens", "http://purl.obolibrary.org/obo/ncbitaxon_9606")


def videos_may_leave(session: SessionInfo, species: str | None) -> str | None:
    """Return why the videos of *session* must not be published, None where they may be."""
    if (species or "").strip().casefold() not in _HUMAN:
        return None
    if getattr(session, "consent", None):
        return None
    return (
        f"{session.session} shows a person (Homo sapiens), and no consent to publishing its videos is stated: they stay in the lab. "
        "State the consent, or set `videos: false` under dandi in lab.yaml; the NWB file is then published without them."
    )
