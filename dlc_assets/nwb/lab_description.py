"""What the lab's files say of a session, its subject and its cameras, as an NWB file states it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from dlc_assets.lab.errors import InputError
from dlc_assets.lab.files import content_hash
from dlc_assets.lab.keys import label_for_archive
from dlc_assets.lab.lab import Lab
from dlc_assets.nwb.description import DeviceDescription, SessionDescription, SubjectDescription
from dlc_assets.nwb.overrides import overridden, stated_start
from dlc_assets.recordings.info import RecordingInfo, SessionInfo


def described_session(lab: Lab, session: SessionInfo, overrides: Mapping[str, Any]) -> SessionDescription:
    """Return what the lab's files say of *session*, with *overrides* in its place (see `overrides.overridden`)."""
    start = stated_start(overrides) or session.start
    if start is None:
        raise InputError(
            f"{session.session}: NWB needs the session's start time, and neither its session.yaml nor its videos state one. "
            "Write session.yaml beside the videos with a line such as: start: 2026-05-01T10:12:00+02:00"
        )
    settings = lab.settings
    subject = None
    if session.subject is not None:
        subject = described_subject(lab, session.subject_source_name or session.subject)
    described = SessionDescription(
        identifier=session.session,
        session_id=session.session_label,
        start=start,
        description=session.description or f"Video recordings of session {session.session_source_name}.",
        experimenters=_experimenters(lab, session),
        institution=settings.institution or None,
        lab=settings.name,
        keywords=settings.nwb.keywords or ("pose estimation", "behavior", "DeepLabCut"),
        experiment_description=settings.nwb.experiment_description or None,
        subject=subject,
    )
    return overridden(described, overrides)


def described_subject(lab: Lab, name: str) -> SubjectDescription:
    """Return what lab.yaml says of the subject *name*."""
    stated = lab.settings.subject(name)
    return SubjectDescription(
        subject_id=label_for_archive(name, "subject"),
        species=stated.species,
        sex=stated.sex,
        date_of_birth=stated.date_of_birth,
        age=stated.age,
        description=stated.description,
        strain=stated.strain,
        genotype=stated.genotype,
        weight=stated.weight,
    )


def described_device(lab: Lab, recording: RecordingInfo) -> DeviceDescription:
    """Return what lab.yaml says of the camera of *recording*."""
    stated = lab.settings.devices.get(recording.device)
    return DeviceDescription(
        name=recording.device,
        description=(stated and stated.description) or None,
        manufacturer=(stated and stated.manufacturer) or None,
        model=(stated and stated.model) or None,
    )


def description_hashes(lab: Lab, session: SessionInfo) -> dict[str, str]:
    """Return the hashes of what the lab's files say that is written into the session's NWB file."""
    settings = lab.settings
    names = [session.subject_source_name]
    if session.identity is not None:
        names += sorted(session.identity.individuals.values())
    subjects = [settings.subject(name).model_dump(mode="json", exclude={"tags"}) for name in names]
    devices = {recording.device: described_device(lab, recording) for recording in session.recordings}
    return {
        "lab": content_hash(
            [settings.name, settings.institution, _experimenters(lab, session), settings.nwb.model_dump()]
        ),
        "subject": content_hash(subjects if len(subjects) > 1 else subjects[0]),
        "devices": content_hash({name: asdict(device) for name, device in devices.items()}),
    }


def _experimenters(lab: Lab, session: SessionInfo) -> tuple[str, ...]:
    return tuple(session.experimenters) or lab.settings.experimenters
