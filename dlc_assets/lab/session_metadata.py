"""session.yaml: what is known of one session beyond its videos."""

from __future__ import annotations

from datetime import date, datetime
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, field_validator

from dlc_assets.lab.errors import SettingsError
from dlc_assets.lab.keys import label_for_archive
from dlc_assets.lab.settings import CropSettings, Name, Names, Tags, none_is_off
from dlc_assets.lab.time_settings import Timestamps
from dlc_assets.lab.yaml_settings import StrictSettings, read_settings


class RecordingMetadata(StrictSettings):
    """One recording of the session: its camera, when it and its frames were on the session's clock, and which part of it a network sees."""

    device: Name | None = None
    offset: float | None = Field(None, description="seconds from the session's start to the recording's first frame")
    crop: CropSettings | None = Field(None, description="in the place of the setup's; none means the whole frame")
    timestamps: Annotated[Timestamps | None, BeforeValidator(none_is_off)] = Field(
        None, description="in the place of lab.yaml's; none means the video's own times"
    )

    @property
    def states_timestamps(self) -> bool:
        """Whether it says where the times stand, be it in the video itself."""
        return "timestamps" in self.model_fields_set


class SessionMetadata(StrictSettings):
    """The whole of session.yaml."""

    start: datetime | None = None
    description: str = ""
    subject: Name | None = Field(None, description="the subject, where the recording template has none")
    experimenters: Names | None = None
    tags: Tags = Field(default_factory=dict)
    recordings: dict[Name, RecordingMetadata] = Field(default_factory=dict)

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
            try:
                label_for_archive(value, "subject")
            except SettingsError as error:
                raise ValueError(str(error).removesuffix(".")) from None
        return value


def read_session_metadata(path: Path) -> SessionMetadata:
    """Read the session.yaml at *path* (once as long as it does not change: sensors ask for all of a lab's every half minute)."""
    try:
        status = path.stat()
    except OSError:
        return read_settings(path, SessionMetadata)  # which says what is wrong
    return _read(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=100_000)
def _read(path: Path, _size: int, _mtime_ns: int) -> SessionMetadata:
    return read_settings(path, SessionMetadata)
