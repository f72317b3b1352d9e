"""What a bundle says of itself: its one definition, for whoever writes and whoever reads it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, Field

from dlc_assets.bundles.tolerance import Tolerances
from dlc_assets.lab.settings import DynamicCropping

LAYOUT = 1
"""Raised when a bundle of this release could be misread by the releases before."""

MANIFEST = "bundle.json"
README = "README.txt"
SESSION = "session.json"


class BundledMember(BaseModel):
    """One file of the bundle, by its name in it."""

    name: str
    size: int
    sha256: str


class BundledVideo(BaseModel):
    """One video file that poses were made from; it is not in the bundle."""

    name: str
    sha256: str
    size: int | None = Field(None, description="bytes; None: the lab does not know of this file any more")
    frames: int | None = Field(None, description="that decode, counted; None as with size")


class BundledPoses(BaseModel):
    """The poses of one recording by one model version, and what they were made with."""

    model: str
    version: str
    recording: str
    camera: str | None
    table: str = Field(description="the member with the pose table")
    network: str = Field(description="the folder of the members that make up the model version")
    snapshot: str | None = Field(None, description="last, or an epoch's number; None: the best")
    dynamic_cropping: DynamicCropping | None = None
    frames: int
    videos: list[BundledVideo] = Field(description="in order")
    crop: tuple[int, int, int, int] | None = Field(None, description="x0, x1, y0, y1 in px of the full upright frame")
    clock: str
    times_from_video: bool
    time_start: float | None = Field(None, description="of the first frame, s on the session's clock")
    pcutoff: float | None
    tolerances: Tolerances
    inference: dict[str, Any] = Field(description="what the numbers depend on, as the analysis noted it")
    software: dict[str, str] = Field(description="versions that made the poses")
    overrides: dict[str, Any] = Field(default_factory=dict, description="settings that the analysis' run stated itself")
    data_version: str
    created: str

    def __str__(self) -> str:
        return f"{self.recording} by {self.model}@{self.version}"


class Bundle(BaseModel):
    """The manifest of a bundle.

    `software` and `platform` are those of the machine that wrote the bundle; what made the poses stands with each of them.
    """

    layout: int = LAYOUT
    session: str
    made: str
    chosen_by: str
    chosen: dict[str, Any] = Field(default_factory=dict)
    software: dict[str, str]
    platform: dict[str, str]
    poses: list[BundledPoses]
    notes: list[str] = Field(default_factory=list)
    members: list[BundledMember] = Field(default_factory=list)

    def recordings(self) -> list[str]:
        """Return the names of the recordings, each once."""
        return list(dict.fromkeys(poses.recording for poses in self.poses))
