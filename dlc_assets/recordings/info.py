"""What is known of a session's recordings once they were probed: the record that everything downstream reads."""

from __future__ import annotations

from datetime import date, datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dlc_assets.lab.errors import NotFoundError, did_you_mean
from dlc_assets.lab.files import atomic_path
from dlc_assets.lab.layout import LabLayout
from dlc_assets.lab.manifest import Manifest, read_manifest
from dlc_assets.lab.regions import Region
from dlc_assets.lab.session_metadata import Consent, Identity
from dlc_assets.lab.settings import CropSettings, Scale
from dlc_assets.video.findings import About


class StoredFile(BaseModel):
    """A file that a session was probed with, as it was then: a video, of time stamps, or an NWB file to extend."""

    model_config = ConfigDict(extra="forbid")

    path: str = Field(description="relative to the lab folder where it lies in it, else absolute")
    size: int
    mtime_ns: int
    sha256: str

    def resolve(self, root: Path) -> Path:
        """Return where the file lies for the lab at *root*."""
        return root / self.path


class RecordedFile(StoredFile):
    """One video file of a recording."""

    frame_count: int


class RecordingInfo(BaseModel):
    """One recording: what DataJoint's Element DeepLabCut keeps as VideoRecording and RecordingInfo, with exact times."""

    model_config = ConfigDict(extra="forbid")

    recording: str
    camera: str
    device: str
    files: list[RecordedFile]
    width: int
    height: int
    codec: str
    pixel_format: str
    rotation: int
    rate: str = Field(description="exact frames per second as a fraction, such as 30000/1001")
    regular: bool
    frame_count: int
    header_frame_count: int | None
    duration: float
    time_start: float = Field(description="seconds on the session's clock of the first frame")
    clock: str
    content_hash: str
    crop: CropSettings | None = Field(None, description="as session.yaml states it; None: the setup's counts")
    problems: list[str] = Field(default_factory=list)
    # What releases before did not store has a default, so that an update does not probe an archive again.
    about: list[About] = Field(
        default_factory=list, description="what each of problems is about; empty: not told apart"
    )
    times_files: list[StoredFile] = Field(default_factory=list, description="empty: the times are the videos' own")
    times_repaired: list[str] = Field(default_factory=list, description="what on_mismatch did, in sentences")
    scale: Scale | None = Field(None, description="as session.yaml states it, as are regions and arena")
    regions: dict[str, Region] | None = None
    arena: Region | None = None

    def problems_about(self, *about: About) -> list[str]:
        """Return the problems that are about one of *about*."""
        return [problem for problem, kind in zip(self.problems, self.about, strict=False) if kind in about]

    @property
    def video_rate(self) -> Fraction | None:
        """Frames per second on the video's own clock, by which its frames can be sought; None where they are not known to be steady."""
        return self.fraction if self.regular and not self.problems and not self.times_files else None

    @property
    def fraction(self) -> Fraction:
        return Fraction(self.rate)


class SessionInfo(BaseModel):
    """One session: who, when, and its recordings; `failed` says why a recording could not be read."""

    model_config = ConfigDict(extra="forbid")

    session: str
    session_label: str
    session_source_name: str
    subject: str | None
    subject_source_name: str | None
    start: datetime | None
    start_source: str
    day: date | None
    description: str
    experimenters: list[str] = Field(description="as session.yaml states them; empty where lab.yaml's count")
    tags: dict[str, Any]
    recordings: list[RecordingInfo]
    failed: dict[str, str] = Field(default_factory=dict)
    failed_about: dict[str, About] = Field(
        default_factory=dict, description="what is wrong with a failed recording, if known"
    )
    cameras: list[str] = Field(
        default_factory=list, description="where the session's cameras do not agree, in sentences"
    )

    start_without_zone: bool = Field(False, description="whether the lab's time zone completed the stated start")
    consent: Consent | None = None
    identity: Identity | None = None
    extend_nwb: StoredFile | None = Field(None, description="the NWB file that the session's poses are added to")
    extend_nwb_problem: str = Field("", description="why the file that session.yaml names cannot be extended")

    @property
    def content(self) -> dict[str, Any]:
        """What makes two recordings of one session the same, but for the recordings themselves.

        What releases before did not know is in it only where it is stated, so that theirs stays the same.
        """
        told = {"recordings", "failed", "failed_about", "cameras", "start_without_zone", "extend_nwb_problem"}
        stated: dict[str, Any] = {"consent": self.consent, "identity": self.identity}
        if self.extend_nwb is not None:
            stated["extend_nwb"] = {"path": self.extend_nwb.path, "sha256": self.extend_nwb.sha256}
        return self.model_dump(mode="json", exclude={*told, "consent", "identity", "extend_nwb"}) | {
            key: value.model_dump(mode="json") if isinstance(value, BaseModel) else value
            for key, value in stated.items()
            if value is not None
        }

    def recording(self, name: str) -> RecordingInfo:
        """Return the recording called *name*."""
        for recording in self.recordings:
            if recording.recording == name:
                return recording
        if name in self.failed:
            raise NotFoundError(f'{self.session} has no recording "{name}" that can be used: {self.failed[name]}')
        known = [recording.recording for recording in self.recordings]
        raise NotFoundError(
            f'{self.session} has no recording "{name}".{did_you_mean(name, known)} It has: {", ".join(known) or "none"}.'
        )


def read_session_info(layout: LabLayout, session: str) -> tuple[SessionInfo, Manifest] | None:
    """Return what `session_recordings` stored for *session*, or None when it was not recorded yet."""
    manifest = read_manifest(layout.session_recordings(session))
    if manifest is None:
        return None
    try:
        return SessionInfo.model_validate(manifest.details), manifest
    except ValidationError:
        return None  # written by another release: as good as not probed, and probed again


def need_session_info(layout: LabLayout, session: str) -> tuple[SessionInfo, Manifest]:
    """Return what `session_recordings` stored for *session*, or say that it must be made first."""
    known = read_session_info(layout, session)
    if known is None:
        raise NotFoundError(
            f"the recordings of {session} are not probed yet: materialize session_recordings for it, or run "
            "`dlc-assets scan` (which lists the sessions that exist)."
        )
    return known


def write_times(path: Path, times: np.ndarray, frames_of_parts: list[int]) -> None:
    """Write the times of a recording's frames: frame int32, part int16, time float64 (s on the session's clock)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table(
        {
            "frame": pa.array(np.arange(len(times), dtype=np.int32)),
            "part": pa.array(np.repeat(np.arange(len(frames_of_parts), dtype=np.int16), frames_of_parts)),
            "time": pa.array(times, type=pa.float64()),
        }
    )
    with atomic_path(path) as partial:
        pq.write_table(table, partial, compression="zstd", use_byte_stream_split=["time"], use_dictionary=False)


def read_times(layout: LabLayout, session: str, recording: str) -> np.ndarray:
    """Return the times (frames,) float64 of *recording*'s frames in s on the session's clock."""
    import pyarrow.parquet as pq

    return pq.read_table(layout.recording_times(session, recording), columns=["time"])["time"].to_numpy()
