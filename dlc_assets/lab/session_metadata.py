"""session.yaml: what is known of one session beyond its videos."""

from __future__ import annotations

from datetime import date, datetime
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from dlc_assets.lab.errors import SettingsError
from dlc_assets.lab.keys import label_for_archive
from dlc_assets.lab.regions import Region
from dlc_assets.lab.settings import CropSettings, Name, Names, Regions, Scale, Tags, none_is_off
from dlc_assets.lab.time_settings import Timestamps
from dlc_assets.lab.yaml_settings import StrictSettings, read_settings


class RecordingMetadata(StrictSettings):
    """One recording of the session: its camera, when it and its frames were on the session's clock, and which part of it a network sees."""

    device: Name | None = None
    offset: float | None = Field(None, description="seconds from the session's start to the recording's first frame")
    crop: CropSettings | None = Field(None, description="in the place of the setup's; none means the whole frame")
    scale: Scale | None = Field(None, description="in the place of the setup's, as are regions and arena")
    regions: Regions | None = None
    arena: Region | None = None
    timestamps: Annotated[Timestamps | None, BeforeValidator(none_is_off)] = Field(
        None, description="in the place of lab.yaml's; none means the video's own times"
    )

    @property
    def states_timestamps(self) -> bool:
        """Whether it says where the times stand, be it in the video itself."""
        return "timestamps" in self.model_fields_set


class Consent(StrictSettings):
    """What the recorded person agreed to; without it, videos and pictures of people stay in the lab."""

    videos: Annotated[bool, Field(strict=True, description="whether videos and pictures of frames may leave the lab")]
    by: Name | None = Field(None, description="who states it")
    day: Annotated[date | None, Field(alias="date")] = None

    @model_validator(mode="before")
    @classmethod
    def _says_of_what(cls, value: Any) -> Any:
        if not isinstance(value, dict | Consent):
            raise ValueError(
                'expected what is agreed to, and who states it: {videos: true, by: "Last, First", date: 2026-05-01}'
            )
        return value


class Identity(StrictSettings):
    """How it is known which of the tracked individuals is which animal."""

    how: Literal["marked", "verified"] = Field(
        description="marked: the animals bear marks that the network tells apart; verified: a person looked through the tracks"
    )
    by: Name | None = Field(None, description="who states it")
    day: Annotated[date | None, Field(alias="date")] = None
    individuals: dict[Name, Name] = Field(
        default_factory=dict, description="track's name: subject's name in lab.yaml; default: the same names"
    )

    @field_validator("individuals")
    @classmethod
    def _each_is_another_subject(cls, individuals: dict[str, str]) -> dict[str, str]:
        of: dict[str, str] = {}
        for track, subject in individuals.items():
            _check_subject(subject)
            other = of.setdefault(subject, track)
            if other != track:
                raise ValueError(f'expected a subject for one track only: "{other}" and "{track}" are both {subject}')
        return individuals

    def subject_of(self, track: str) -> str:
        """Return the name, in lab.yaml, of the subject that the individual *track* is."""
        return self.individuals.get(track, track)


class SessionNwb(StrictSettings):
    """What the session's NWB file is made of beside its poses."""

    extend: Name | None = Field(None, description="an existing NWB file; relative to session.yaml, or absolute")


class SessionMetadata(StrictSettings):
    """The whole of session.yaml."""

    start: datetime | None = None
    description: str = ""
    subject: Name | None = Field(None, description="the subject, where the recording template has none")
    experimenters: Names | None = None
    tags: Tags = Field(default_factory=dict)
    recordings: dict[Name, RecordingMetadata] = Field(default_factory=dict)
    consent: Consent | None = None
    identity: Identity | None = None
    nwb: SessionNwb = SessionNwb()

    @field_validator("start", mode="before")
    @classmethod
    def _day_is_not_a_time(cls, value: Any) -> Any:
        if isinstance(value, date) and not isinstance(value, datetime):
            raise ValueError("expected a day and a time, such as 2026-05-01T10:12:00+02:00")
        return value

    @field_validator("subject")
    @classmethod
    def _subject_is_a_name(cls, value: str | None) -> str | None:
        if value is not None:
            _check_subject(value)
        return value


def _check_subject(name: str) -> None:
    try:
        label_for_archive(name, "subject")
    except SettingsError as error:
        raise ValueError(str(error).removesuffix(".")) from None


def read_session_metadata(path: Path) -> SessionMetadata:
    """Read the session.yaml at *path* (once as long as it does not change: sensors ask for all of a lab's every half minute)."""
    try:
        status = path.stat()
    except OSError:
        return read_settings(path, SessionMetadata)  # which says what is wrong
    return _read(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=1_000)
def _read(path: Path, _size: int, _mtime_ns: int) -> SessionMetadata:
    return read_settings(path, SessionMetadata)
