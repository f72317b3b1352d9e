"""One recording of a pose table, opened for its report: the table, its video, its rig, and what is measured of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from dlc_assets.lab.errors import DlcAssetsError
from dlc_assets.lab.lab import Lab
from dlc_assets.poses.schema import PoseMetadata
from dlc_assets.poses.table_file import read_pose_metadata, read_thinned_tracks
from dlc_assets.recordings.info import RecordingInfo, SessionInfo
from dlc_assets.recordings.setups import RecordingSetup, setup_of
from dlc_assets.review.report.measures import RecordingMeasures, measure
from dlc_assets.review.report.pictures import Drawing, Outline
from dlc_assets.review.report.style import colored_by

_MISSING_PCUTOFF = 0.6  # DeepLabCut's own, for tables that state none


@dataclass(frozen=True)
class OpenedRecording:
    """One recording with all that is drawn of it.

    Attributes
    ----------
    info
        None where the session has no such recording any more.
    path, filtered_path
        The pose table, and the filtered one where there is one.
    size
        Of the picture: width, height, px.
    """

    info: RecordingInfo | None
    name: str
    path: Path
    filtered_path: Path | None
    metadata: PoseMetadata
    size: tuple[int, int]
    setup: RecordingSetup
    pcutoff: float

    @cached_property
    def measures(self) -> RecordingMeasures:
        return measure(self.path, self.size, self.pcutoff)

    @cached_property
    def filtered(self) -> RecordingMeasures | None:
        return (
            None if self.filtered_path is None else measure(self.filtered_path, self.size, self.pcutoff, filtered=True)
        )

    @cached_property
    def drawing(self) -> Drawing:
        return Drawing.of(self.measures.names, self.metadata.skeleton, self.pcutoff)

    @property
    def legend(self) -> list[tuple[str, str]]:
        """What is drawn in which colour."""
        named = dict(zip(colored_by(self.measures.names), self.drawing.colors, strict=True))
        return [(name or "animal", color) for name, color in named.items()]

    @property
    def outlines(self) -> list[Outline]:
        """The arena and the regions of the rig."""
        return [region for region in (self.setup.arena, *self.setup.regions.values()) if region is not None]


def open_recording(
    lab: Lab,
    session: SessionInfo,
    name: str,
    path: Path,
    filtered: Path | None,
    details: Mapping[str, Any],
    notes: list[str],
) -> OpenedRecording:
    """Open the pose table at *path* of the recording *name*; what cannot be known of it is told to *notes*.

    Raises
    ------
    NotFoundError, InputError
        The file is missing, or no pose table.
    """
    metadata = read_pose_metadata(path)
    info = next((one for one in session.recordings if one.recording == name), None)
    setup = RecordingSetup()
    if info is None:
        notes.append(f"{name}: without pictures of the video: the session has no such recording any more.")
        size = _extent(path)
    else:
        size = (info.width, info.height)
        try:
            setup = setup_of(lab, session, info)
        except DlcAssetsError as error:
            notes.append(f"{name}: without scale and regions: {error}")
    stated = metadata.pcutoff if metadata.pcutoff is not None else details.get("pcutoff")
    pcutoff = float(stated) if isinstance(stated, int | float) else _MISSING_PCUTOFF
    return OpenedRecording(info, name, path, filtered, metadata, size, setup, pcutoff)


def _extent(path: Path) -> tuple[int, int]:
    """Return a picture's size that holds what was found, for a recording of which nobody knows its own."""
    _, tracks = read_thinned_tracks(path, 1000)
    spans = []
    for values in (np.concatenate([track.x for track in tracks]), np.concatenate([track.y for track in tracks])):
        known = values[np.isfinite(values)]
        spans.append(int(np.ceil(np.percentile(known, 99.9))) + 20 if len(known) else 100)
    return max(spans[0], 20), max(spans[1], 20)
