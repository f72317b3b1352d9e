"""What the report says in words beside its pictures: facts, notes on what is drawn, and how everything was made."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dlc_assets import __version__
from dlc_assets.lab.manifest import Manifest
from dlc_assets.poses.table_file import read_pose_metadata
from dlc_assets.recordings.info import SessionInfo
from dlc_assets.review.report.measures import RecordingMeasures
from dlc_assets.review.report.moments import Place
from dlc_assets.review.report.opened import OpenedRecording
from dlc_assets.review.report.page import Fact


def recording_said(recording: OpenedRecording) -> str:
    """Return how long, how fast and how large a recording is."""
    measures = recording.measures
    seconds = measures.last_time - measures.first_time
    rate = recording.metadata.fps
    said = f"{measures.frames:,} frames" if measures.frames != 1 else "1 frame"
    said += f", {_duration(seconds)}"
    said += f", {rate:.4g} frames per second" if rate else ", frames at uneven intervals"
    return f"{said}, {recording.size[0]}x{recording.size[1]} px."


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def every_words(measures: RecordingMeasures) -> str:
    """Return of which frames the paths are."""
    step = -(-measures.frames // len(measures.paths.times))
    return "every frame" if step == 1 else f"one frame in {step}"


def stayed_said(measures: RecordingMeasures) -> str:
    """Return what the picture of the places shows."""
    total = float(measures.occupancy.sum())
    who = "the middle of the animal" if len(measures.animals) == 1 else "the middles of the animals"
    return (
        f"Where {who} stayed, brighter for longer, {_duration(total)} in all."
        if total
        else f"Where {who} stayed is not known."
    )


def day_of(session: SessionInfo) -> str:
    """Return the session's start, else its day, as ISO 8601; empty where neither is known."""
    if session.start is not None:
        return session.start.isoformat(timespec="minutes")
    return "" if session.day is None else session.day.isoformat()


def facts_of(session: SessionInfo, recordings: Sequence[OpenedRecording], count: int) -> list[Fact]:
    """Return what the head of the page says; *count* recordings are there, *recordings* are drawn."""
    measured = [recording.measures for recording in recordings]
    frames = sum(one.frames for one in measured)
    seconds = sum(one.last_time - one.first_time for one in measured)
    usable = np.concatenate([one.usable for one in measured])
    animals = len(dict.fromkeys(animal for one in measured for animal in one.animals))
    parts = len(dict.fromkeys(part for one in measured for _, part in one.names))
    facts = [
        Fact("subject", session.subject_source_name or "not stated"),
        Fact("start", day_of(session).replace("T", " ") or "not known"),
        Fact("recordings", f"{count}" if count == len(recordings) else f"{count}, {len(recordings)} drawn"),
        Fact("frames", f"{frames:,}"),
        Fact("duration", _duration(seconds)),
        Fact("body parts", f"{parts}" if animals == 1 else f"{parts}, {animals} animals"),
        Fact("reach the p-cutoff", f"{float(usable.mean()):.1%}"),
    ]
    scales = {recording.setup.px_per_cm for recording in recordings}
    if scales != {None}:
        facts.append(Fact("scale", ", ".join("not stated" if one is None else f"{one:g} px/cm" for one in scales)))
    return facts


def moments_said(places: Sequence[Place], failed: bool, filtered: bool) -> str:
    """Return what the moments are, and how they are drawn."""
    if not places:
        return "The checks name no moment to look at."
    said = (
        "Before, at and after each. Rings mark the body parts that the moment is about; full points reach the p-cutoff, "
        "hollow ones do not."
    )
    if filtered:
        said += " White crosses: after filtering."
    return said if failed else f"No check failed; these are the worst that were found. {said}"


def provenance_of(poses: Manifest, recordings: Sequence[OpenedRecording], made: str) -> list[Fact]:
    """Return from what and how poses and report were made."""
    details = poses.details
    inference = details.get("inference") or {}
    rows = [
        Fact("model", f"{details['model']}@{details['version']}"),
        Fact("poses estimated", f"{poses.made} ({recordings[0].metadata.origin})"),
        Fact("poses, content", poses.data_version),
    ]
    how = [str(inference[key]) for key in ("device_name", "precision", "path") if inference.get(key)]
    if how:
        rows.append(Fact("estimated with", ", ".join(how)))
    if poses.overrides:
        rows.append(
            Fact("the run's own settings", ", ".join(f"{key}: {value}" for key, value in poses.overrides.items()))
        )
    software = recordings[0].metadata.software
    if software:
        rows.append(Fact("software", ", ".join(f"{name} {version}" for name, version in sorted(software.items()))))
    rows.append(Fact("p-cutoff", ", ".join(dict.fromkeys(f"{one.pcutoff:g}" for one in recordings))))
    for recording in recordings:
        if recording.info is not None:
            files = ", ".join(f"{file.path} ({file.sha256[:12]})" for file in recording.info.files)
            rows.append(Fact(f"video of {recording.name}", files or "none"))
        rows.append(Fact(f"times of {recording.name}", recording.metadata.clock or "not stated"))
        rows.append(Fact(f"filters of {recording.name}", _filters(recording)))
    return [*rows, Fact("report made", f"{made}, dlc_assets {__version__}")]


def _filters(recording: OpenedRecording) -> str:
    if recording.filtered_path is None:
        return "none; the poses are as the network gave them"
    steps = getattr(read_pose_metadata(recording.filtered_path), "filters", None) or []
    said = []
    for step in steps:
        name = step.get("step") or step.get("name") or "step"
        others = {
            key: value for key, value in step.items() if key not in {"step", "name", "tracks"} and value is not None
        }
        said.append(
            f"{name} ({', '.join(f'{key}: {_short(value)}' for key, value in others.items())})" if others else name
        )
    return "; ".join(map(str, said)) or "filtered; the steps are not stated"


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
