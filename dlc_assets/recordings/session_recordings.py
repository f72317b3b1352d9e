"""Probing the recordings of one session: sizes, exact rates, counted frames, per-frame times and hashes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from datetime import date, datetime
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np

from dlc_assets.lab.errors import DlcAssetsError, InputError
from dlc_assets.lab.files import atomic_path, content_hash, sha256_file
from dlc_assets.lab.keys import label_for_archive, split_session_key
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.manifest import NAME, Manifest
from dlc_assets.lab.progress import LoggedProgress
from dlc_assets.lab.session_metadata import RecordingMetadata, SessionMetadata
from dlc_assets.recordings.discovery import FoundRecording, FoundSession
from dlc_assets.recordings.info import RecordedFile, RecordingInfo, SessionInfo, write_times
from dlc_assets.video.probe import ProbedVideo, probe_video

_DAY_IN_NAME = re.compile(r"(?<!\d)(20\d{2})[-_]?(0[1-9]|1[0-2])[-_]?(0[1-9]|[12]\d|3[01])(?!\d)")
_LAST_PART = 9_999  # a larger number in the place of {part} is a time of day or a date
# The average rate of a short part, or of one with irregular times, is not exactly the others'.
_SAME_RATE = 0.02
_CLOCK = "recording's offset plus the container's presentation times"


def session_inputs(lab: Lab, found: FoundSession) -> dict[str, str]:
    """Return the hashes that say whether a session must be probed again; files are told by path, size and change time.

    Paths are those in the lab, so that a lab that was moved is not behind.
    """
    return {
        "videos": content_hash(
            {
                name: [[_portable(lab, file.path), file.size, file.mtime_ns] for file in recording.files]
                for name, recording in sorted(found.recordings.items())
            }
        ),
        "session metadata": "" if found.metadata_file is None else sha256_file(found.metadata_file),
        "refused": content_hash(found.refused),
        "time zone": lab.settings.timezone,
    }


def day_of(found: FoundSession, lab: Lab) -> date:
    """Return the day of a session that may not be probed yet: stated start, date in its name, or age of its oldest file."""
    try:
        start = found.metadata().start
    except DlcAssetsError:
        start = None
    return (
        (start.date() if start else None)
        or _day_in_name(found.session)
        or datetime.fromtimestamp(min(file.mtime_ns for file in found.files) / 1e9, lab.settings.zone).date()
    )


def _day_in_name(name: str) -> date | None:
    match = _DAY_IN_NAME.search(name)
    try:
        return date(int(match[1]), int(match[2]), int(match[3])) if match else None
    except ValueError:
        return None  # 20260231 is no day


def record_session(lab: Lab, found: FoundSession, *, run_id: str, log: Callable[[str], None]) -> Manifest:
    """Probe every recording of *found* and store what was learned; a recording that cannot be read is named, not fatal.

    Raises
    ------
    InputError
        No recording of the session can be read.
    EnvironmentProblem
        The disk of the store is full; what was stored of the session before is as it was.
    """
    inputs = session_inputs(lab, found)
    metadata = found.metadata()
    recordings: list[RecordingInfo] = []
    failed: dict[str, str] = {}
    created: list[datetime] = []
    times_of: dict[str, np.ndarray] = {}
    for name, recording in sorted(found.recordings.items()):
        refusal = found.refused.get("*") or found.refused.get(name)
        if refusal is not None:
            failed[name] = refusal
            continue
        try:
            info, times, made = _probe_recording(
                lab, recording, metadata.recordings.get(name, RecordingMetadata()), log
            )
        except (DlcAssetsError, OSError) as error:
            failed[name] = str(error)
            log(f"{found.key}, {name}: {error}")
            continue
        recordings.append(info)
        times_of[name] = times
        created += made
    if not recordings:
        raise InputError(f"{found.key}: no recording can be used. " + " ".join(failed.values()))
    session = _session_info(lab, found, metadata, recordings, failed, created)
    manifest = Manifest(
        asset="session_recordings",
        key=found.key,
        inputs=inputs,
        data_version=content_hash(
            session.model_dump(mode="json", exclude={"failed"}) | {"recordings": _hashes(recordings)}
        ),
        details=session.model_dump(mode="json"),
        problems=[
            *found.problems,
            *(f"{n}: {m}" for n, m in failed.items() if m not in found.problems),
            *_unused(found, metadata),
        ],
        run_id=run_id,
    )
    manifest.problems += [f"{info.recording}: {problem}" for info in recordings for problem in info.problems]
    manifest.problems += _overlaps(recordings)
    _store(lab, manifest, recordings, times_of)
    _forget_times_of_others(lab, found.key, {info.recording for info in recordings})
    return manifest


def _store(lab: Lab, manifest: Manifest, recordings: list[RecordingInfo], times_of: Mapping[str, np.ndarray]) -> None:
    """Write the times and the manifest beside their places, then move in all of them, the manifest last."""
    folder = lab.layout.session_recordings(manifest.key)
    with ExitStack() as written:
        manifest_file = written.enter_context(atomic_path(folder / NAME))  # left last, and so moved in last
        manifest.write(manifest_file)
        for info in recordings:
            times_file = written.enter_context(atomic_path(lab.layout.recording_times(manifest.key, info.recording)))
            write_times(times_file, times_of[info.recording], [file.frame_count for file in info.files])


def _hashes(recordings: list[RecordingInfo]) -> dict[str, str]:
    return {info.recording: info.content_hash for info in recordings}


def _overlaps(recordings: list[RecordingInfo]) -> list[str]:
    """Say which recordings of one device lie at the same time, which no camera can do: their offsets are not stated."""
    problems = []
    for first, second in pairwise(sorted(recordings, key=lambda info: (info.device, info.time_start))):
        if first.device == second.device and second.time_start < first.time_start + first.duration:
            problems.append(
                f"{first.recording} and {second.recording} are both of {first.device} and overlap in time: state in session.yaml "
                "when each began, as recordings.<recording>.offset (s from the session's start)."
            )
    return problems


def _unused(found: FoundSession, metadata: SessionMetadata) -> list[str]:
    return [
        f'{found.metadata_file}: recordings.{name}: there is no recording "{name}" in this session (it has '
        f"{', '.join(sorted(found.recordings))})."
        for name in metadata.recordings
        if name not in found.recordings
    ]


def _forget_times_of_others(lab: Lab, session: str, known: set[str]) -> None:
    for path in lab.layout.session_recordings(session).glob("*.times.parquet"):
        if path.name.removesuffix(".times.parquet") not in known:
            path.unlink()


def _probe_recording(
    lab: Lab, recording: FoundRecording, metadata: RecordingMetadata, log: Callable[[str], None]
) -> tuple[RecordingInfo, np.ndarray, list[datetime]]:
    probed: list[ProbedVideo] = []
    files: list[RecordedFile] = []
    for file in recording.files:
        video = probe_video(file.path, on_progress=LoggedProgress(log, f"probing {file.path.name}", "frames"))
        _check_one_size(video)
        probed.append(video)
        files.append(
            RecordedFile(
                path=_portable(lab, file.path),
                size=file.size,
                mtime_ns=file.mtime_ns,
                sha256=sha256_file(file.path),
                frame_count=video.frame_count,
            )
        )
    _check_parts_fit(recording, probed)
    first = probed[0]
    times = _times_of_parts(probed) + metadata.offset
    headers = [video.header_frame_count for video in probed]
    device = metadata.device or recording.camera
    info = RecordingInfo(
        recording=recording.name,
        camera=recording.camera,
        device=device,
        files=files,
        width=first.width,
        height=first.height,
        codec=first.codec,
        pixel_format=first.pixel_format,
        rotation=first.rotation,
        rate=str(first.rate),
        regular=_regular(probed, times),
        frame_count=len(times),
        header_frame_count=None if None in headers else sum(count for count in headers if count is not None),
        duration=float(sum(video.duration for video in probed)),
        time_start=float(times[0]),
        clock=_CLOCK,
        content_hash=content_hash(
            {
                "videos": [file.sha256 for file in files],
                "times": hashlib.sha256(np.ascontiguousarray(times, dtype="<f8").tobytes()).hexdigest(),
                "device": device,
            }
        ),
        crop=metadata.crop,
        problems=[
            *_skipped_parts(recording),
            *(f"{video.path.name}: {problem}" for video in probed for problem in video.problems),
        ],
    )
    return info, times, [video.creation_time for video in probed if video.creation_time is not None]


def _portable(lab: Lab, path: Path) -> str:
    return (path.relative_to(lab.root) if path.is_relative_to(lab.root) else path).as_posix()


def _check_one_size(video: ProbedVideo) -> None:
    if video.resized is not None:
        frame, width, height = video.resized
        raise InputError(
            f"{video.path}: the picture changes its size at frame {frame}, from {video.width}x{video.height} px to "
            f"{width}x{height} px. Coordinates would change their meaning there, so the recording cannot be analysed: split the "
            "video at this frame, or encode it again in one size."
        )


def _check_parts_fit(recording: FoundRecording, probed: list[ProbedVideo]) -> None:
    first = probed[0]
    for video in probed[1:]:
        # Times of irregular parts are the files' own, frame by frame; their average rates need not agree.
        alike = not (video.regular and first.regular) or abs(video.rate / first.rate - 1) <= _SAME_RATE
        if _picture_words(video) != _picture_words(first) or not alike:
            here, there = (
                (_picture_words(video), _picture_words(first))
                if alike
                else (f"frame rate {video.rate}", f"frame rate {first.rate}")
            )
            raise InputError(
                f"{recording.name}: its parts do not fit together: {video.path} has {here}, {first.path} has {there}. "
                "Parts are one recording split in files; separate recordings take {recording} or {trial} in the template."
            )


def _picture_words(video: ProbedVideo) -> str:
    """Say what must be the same in all parts for a coordinate to mean the same place: upright size, and rotation."""
    turned = f", turned by {video.rotation} degrees" if video.rotation else ""
    return f"pictures of {video.width}x{video.height} px{turned}"


def _skipped_parts(recording: FoundRecording) -> list[str]:
    """Say which numbers are missing among the parts: the times go on as if nothing were, so a person must look."""
    numbers = {int(part) for part in recording.parts if part.isdecimal()}
    if len(numbers) < len(recording.parts) or max(numbers) > _LAST_PART:
        return []
    missing = sorted(set(range(min(1, *numbers), max(numbers) + 1)) - numbers)
    if not missing:
        return []
    listed = ", ".join(map(str, missing[:5])) + (", ..." if len(missing) > 5 else "")
    return [f"Parts {listed} are not there ({len(numbers)} are); the times go on as if nothing were missing."]


def _times_of_parts(probed: list[ProbedVideo]) -> np.ndarray:
    """Return times (all frames,) in s: each part begins one frame interval after the last frame of the one before."""
    times: list[np.ndarray] = []
    start = 0.0
    for video in probed:
        times.append(video.times + start)
        start = float(times[-1][-1] + 1 / video.rate)
    return np.concatenate(times)


def _regular(probed: list[ProbedVideo], times: np.ndarray) -> bool:
    if not all(video.regular for video in probed):
        return False
    exact = times[0] + np.arange(len(times)) * float(1 / Fraction(probed[0].rate))
    return bool(np.max(np.abs(times - exact)) < 0.5 / float(probed[0].rate))


def _session_info(
    lab: Lab,
    found: FoundSession,
    metadata: SessionMetadata,
    recordings: list[RecordingInfo],
    failed: dict[str, str],
    created: list[datetime],
) -> SessionInfo:
    start, source = None, "unknown: state it in session.yaml as start"
    if metadata.start is not None:
        start, source = lab.settings.complete(metadata.start), "session.yaml"
    elif created:
        start, source = min(created).astimezone(lab.settings.zone), "video container's creation time"
    subject_source = found.subject if found.subject is not None else metadata.subject
    return SessionInfo(
        session=found.key,
        session_label=split_session_key(found.key)[1],
        session_source_name=found.session,
        subject=None if subject_source is None else label_for_archive(subject_source, "subject"),
        subject_source_name=subject_source,
        start=start,
        start_source=source,
        day=start.date() if start is not None else _day_in_name(found.session),
        description=metadata.description,
        experimenters=list(metadata.experimenters or ()),
        tags=dict(metadata.tags),
        recordings=recordings,
        failed=failed,
    )
