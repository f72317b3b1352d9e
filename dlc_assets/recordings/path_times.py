"""What the paths of a session's videos say of time: when a recording began, and which files of time stamps lie beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from dlc_assets.lab.errors import DlcAssetsError
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.session_metadata import RecordingMetadata
from dlc_assets.lab.settings import RecordingTemplate
from dlc_assets.lab.time_settings import Timestamps
from dlc_assets.recordings.found import FoundRecording, FoundSession
from dlc_assets.recordings.stored_files import file_stamp


@dataclass(frozen=True)
class StatedTimes:
    """Where the times of a recording's frames stand: in one file, or in one for each of its video files, in their order."""

    settings: Timestamps
    files: tuple[Path, ...]
    stated_in: str


def starts_in_names(lab: Lab, recording: FoundRecording) -> list[datetime | None]:
    """Return when each of the recording's files began as its path says, with a time zone; None where it says nothing."""
    return [None if start is None else lab.settings.complete(start) for start in _stated_in_names(lab, recording)]


def _stated_in_names(lab: Lab, recording: FoundRecording) -> list[datetime | None]:
    """As `starts_in_names`, but with a time zone only where the path states one."""
    starts = []
    for file in recording.files:
        template, relative = _template_of(lab, file.path)
        starts.append(None if template is None else template.start_of(relative))
    return starts


def earliest_start(lab: Lab, found: FoundSession) -> datetime | None:
    """Return the earliest start that the paths of the session's videos state, with a time zone, None where none does."""
    start = earliest_stated(lab, found)
    return None if start is None else lab.settings.complete(start)


def earliest_stated(lab: Lab, found: FoundSession) -> datetime | None:
    """As `earliest_start`, but with a time zone only where the path states one."""
    if not _say(lab, "start_format"):
        return None
    starts = [start for recording in found.recordings.values() for start in _stated_in_names(lab, recording)]
    return min((start for start in starts if start is not None), key=lab.settings.complete, default=None)


def stated_times(lab: Lab, found: FoundSession, name: str, metadata: RecordingMetadata) -> StatedTimes | None:
    """Return where the times of the recording *name* stand, as session.yaml says or else lab.yaml; None: in the videos."""
    videos = [file.path for file in found.recordings[name].files]
    if metadata.states_timestamps:
        if metadata.timestamps is None:
            return None
        assert found.metadata_file is not None
        where = f"recordings.{name}.timestamps of {found.metadata_file}"
        folders = [found.metadata_file.parent] * len(videos)
        settings = metadata.timestamps
    else:
        template, _ = _template_of(lab, videos[0])
        if template is None or template.timestamps is None:
            return None
        where = f"recordings.timestamps of {lab.layout.settings_file}"
        folders = [video.parent for video in videos]
        settings = template.timestamps
    if "{stem}" not in settings.file:
        return StatedTimes(settings, (folders[0] / settings.file,), where)
    files = (
        folder / settings.file.replace("{stem}", video.stem) for folder, video in zip(folders, videos, strict=True)
    )
    return StatedTimes(settings, tuple(files), where)


def time_inputs(lab: Lab, found: FoundSession) -> dict[str, Any]:
    """Return what the session's times come from beside its videos and session.yaml, by recording; empty where nothing is stated.

    Files are told by path, size and change time, as videos are; one that is not there by its path alone.
    """
    metadata = _recordings_metadata(found)
    if not (
        _say(lab, "timestamps") or _say(lab, "start_format") or any(r.states_timestamps for r in metadata.values())
    ):
        return {}
    inputs: dict[str, Any] = {}
    for name, recording in sorted(found.recordings.items()):
        stated = stated_times(lab, found, name, metadata.get(name, RecordingMetadata()))
        starts = [start and start.isoformat() for start in starts_in_names(lab, recording)]
        if stated is not None:
            inputs[name] = {
                "settings": stated.settings.model_dump(),
                "files": [file_stamp(lab, f) for f in stated.files],
            }
        if any(starts):
            inputs.setdefault(name, {})["starts"] = starts
    return inputs


def time_files(lab: Lab, found: FoundSession) -> list[Path]:
    """Return the files of time stamps that the session's recordings should have, there or not."""
    if found.metadata_file is None and not _say(lab, "timestamps"):
        return []
    metadata = _recordings_metadata(found)
    stated = (
        stated_times(lab, found, name, metadata.get(name, RecordingMetadata())) for name in sorted(found.recordings)
    )
    return [file for times in stated if times is not None for file in times.files]


def _recordings_metadata(found: FoundSession) -> Mapping[str, RecordingMetadata]:
    """Return what session.yaml says of each recording; nothing while it cannot be read: its hash tells when it is mended."""
    try:
        return found.metadata().recordings
    except DlcAssetsError:
        return {}


def _say(lab: Lab, key: str) -> bool:
    return any(getattr(template, key) is not None for template in lab.settings.recordings)


def _template_of(lab: Lab, path: Path) -> tuple[RecordingTemplate | None, str]:
    """Return the first entry of lab.yaml that takes *path* as a recording, and the path relative to its root."""
    for template, root in zip(lab.settings.recordings, lab.recording_roots(), strict=True):
        if path.is_relative_to(root):
            relative = path.relative_to(root).as_posix()
            if not template.ignores(relative) and template.match(relative) is not None:
                return template, relative
    return None, ""
