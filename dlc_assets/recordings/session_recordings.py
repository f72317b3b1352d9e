"""Probing the recordings of one session: sizes, exact rates, counted frames, per-frame times and hashes."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import numpy as np

from dlc_assets.lab.errors import DlcAssetsError, InputError
from dlc_assets.lab.files import atomic_path, content_hash, sha256_file
from dlc_assets.lab.keys import label_for_archive, split_session_key
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.manifest import NAME, Manifest
from dlc_assets.lab.progress import LoggedProgress
from dlc_assets.lab.session_metadata import RecordingMetadata, SessionMetadata
from dlc_assets.recordings.cameras import disagreements, overlaps
from dlc_assets.recordings.extended_nwb import extended_file, stored_extended
from dlc_assets.recordings.found import FoundRecording, FoundSession
from dlc_assets.recordings.hashing import hashed_meanwhile
from dlc_assets.recordings.info import RecordedFile, RecordingInfo, SessionInfo, StoredFile, write_times
from dlc_assets.recordings.parts import (
    PicturesDiffer,
    check_one_size,
    check_parts_fit,
    gaps_between_parts,
    regular_over_parts,
    skipped_parts,
    times_of_parts,
)
from dlc_assets.recordings.path_times import (
    StatedTimes,
    earliest_start,
    earliest_stated,
    starts_in_names,
    stated_times,
    time_inputs,
)
from dlc_assets.recordings.stored_files import file_stamp, portable, stored_file
from dlc_assets.recordings.time_stamps import TimeStamps, first_moment, read_time_stamps, times_of_frames
from dlc_assets.video.findings import About, Finding
from dlc_assets.video.probe import ProbedVideo, probe_video, timing_of

_DAY_IN_NAME = re.compile(r"(?<!\d)(20\d{2})[-_]?(0[1-9]|1[0-2])[-_]?(0[1-9]|[12]\d|3[01])(?!\d)")
CONTAINER_CLOCK = "recording's offset plus the container's presentation times"
_START_UNKNOWN = "unknown: state it in session.yaml as start"


def session_inputs(lab: Lab, found: FoundSession) -> dict[str, str]:
    """Return the hashes that say whether a session must be probed again; files are told by path, size and change time.

    Of sessions.csv, that counts which it says of this session and session.yaml does not.

    Paths are those in the lab, so that a lab that was moved is not behind. What times come from beside the videos, and a file to
    extend, is among them only where something is: else the hashes are those of releases that did not know of it, and nothing is
    probed again.

    Raises
    ------
    SettingsError
        The session's row of sessions.csv is wrong, or the table cannot be read: until it is mended, nothing is made of the session.
    """
    beneath = _beneath(found)
    times = time_inputs(lab, found)
    extended = extended_file(found)
    return {
        "videos": content_hash(
            {
                name: [[portable(lab, file.path), file.size, file.mtime_ns] for file in recording.files]
                for name, recording in sorted(found.recordings.items())
            }
        ),
        "session metadata": "" if found.metadata_file is None else sha256_file(found.metadata_file),
        **({"sessions.csv": content_hash(beneath)} if beneath else {}),
        "refused": content_hash(found.refused),
        "time zone": lab.settings.timezone,
        **({"times": content_hash(times)} if times else {}),
        **({"NWB file to extend": content_hash(file_stamp(lab, extended))} if extended is not None else {}),
    }


def _beneath(found: FoundSession) -> dict[str, Any]:
    """Return what sessions.csv says of the session that counts."""
    if found.row is None:
        return {}
    try:
        stated = found.sidecar()
    except DlcAssetsError:
        stated = SessionMetadata()  # probing it fails with the reason
    return found.beneath(stated).model_dump(mode="json", exclude_unset=True)


def day_of(found: FoundSession, lab: Lab) -> date:
    """Return the day of a session that may not be probed yet: stated start, date in its names, or age of its oldest file."""
    try:
        start = found.metadata().start
    except DlcAssetsError:
        start = None
    start = start or earliest_start(lab, found)
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
    failed: dict[str, str] = {}
    failed_about: dict[str, About] = {}

    def set_aside(name: str, error: Exception) -> None:
        failed[name] = str(error)
        if isinstance(error, PicturesDiffer):
            failed_about[name] = "size"
        log(f"{found.key}, {name}: {error}")

    probed: dict[str, _Probed] = {}
    for name, recording in sorted(found.recordings.items()):
        refusal = found.refused.get("*") or found.refused.get(name)
        if refusal is not None:
            failed[name] = refusal
            continue
        stated = metadata.recordings.get(name, RecordingMetadata())
        try:
            probed[name] = _probe_recording(lab, recording, stated_times(lab, found, name, stated), log)
        except (DlcAssetsError, OSError) as error:
            set_aside(name, error)
    named = earliest_stated(lab, found)  # of all, so that a damaged video does not move the others' times
    earliest = None if named is None else lab.settings.complete(named)
    start, source = _start(lab, found, metadata, earliest, probed.values())
    stated_start = metadata.start or named
    recordings: list[RecordingInfo] = []
    times_of: dict[str, np.ndarray] = {}
    for name, one in probed.items():
        stated = metadata.recordings.get(name, RecordingMetadata())
        try:
            info, times = _recording_info(lab, one, stated, start, earliest)
        except DlcAssetsError as error:
            set_aside(name, error)
            continue
        recordings.append(info)
        times_of[name] = times
    if not recordings:
        raise InputError(f"{found.key}: no recording can be used. " + " ".join(failed.values()))
    subject = found.subject if found.subject is not None else metadata.subject
    extended, extended_problem = _extended(lab, found)
    session = SessionInfo(
        session=found.key,
        session_label=split_session_key(found.key)[1],
        session_source_name=found.session,
        subject=None if subject is None else label_for_archive(subject, "subject"),
        subject_source_name=subject,
        start=start,
        start_source=source,
        day=start.date() if start is not None else _day_in_name(found.session),
        description=metadata.description,
        experimenters=list(metadata.experimenters or ()),
        tags=dict(metadata.tags),
        recordings=recordings,
        failed=failed,
        failed_about=failed_about,
        cameras=[*overlaps(recordings), *disagreements(recordings)],
        start_without_zone=stated_start is not None and stated_start.tzinfo is None,
        consent=metadata.consent,
        identity=metadata.identity,
        extend_nwb=extended,
        extend_nwb_problem=extended_problem,
    )
    manifest = Manifest(
        asset="session_recordings",
        key=found.key,
        inputs=inputs,
        data_version=content_hash(
            session.content | {"recordings": {info.recording: info.content_hash for info in recordings}}
        ),
        details=session.model_dump(mode="json"),
        problems=[
            *found.problems,
            *(f"{n}: {m}" for n, m in failed.items() if m not in found.problems),
            *_unused(found, metadata),
            *(f"{info.recording}: {problem}" for info in recordings for problem in info.problems),
            *session.cameras,
        ],
        run_id=run_id,
    )
    _store(lab, manifest, recordings, times_of)
    _forget_times_of_others(lab, found.key, set(times_of))
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


def _unused(found: FoundSession, metadata: SessionMetadata) -> list[str]:
    return [
        f'{_stated_in(found, name)}: recordings.{name}: there is no recording "{name}" in this session (it has '
        f"{', '.join(sorted(found.recordings))})."
        for name in metadata.recordings
        if name not in found.recordings
    ]


def _stated_in(found: FoundSession, recording: str) -> str:
    """Say where something is stated of *recording*."""
    if found.row is None or recording in found.sidecar().recordings:
        return str(found.metadata_file)
    return found.row.name


def _forget_times_of_others(lab: Lab, session: str, known: set[str]) -> None:
    for path in lab.layout.session_recordings(session).glob("*.times.parquet"):
        if path.name.removesuffix(".times.parquet") not in known:
            path.unlink()


@dataclass(frozen=True)
class _Probed:
    """One recording as its files are, before its session's start is known; `starts` are its files', as their names say."""

    recording: FoundRecording
    videos: tuple[ProbedVideo, ...]
    files: tuple[RecordedFile, ...]
    starts: tuple[datetime | None, ...]
    stated: StatedTimes | None
    stamps: tuple[TimeStamps, ...]
    times_files: tuple[StoredFile, ...]


def _probe_recording(
    lab: Lab, recording: FoundRecording, stated: StatedTimes | None, log: Callable[[str], None]
) -> _Probed:
    # Time stamps are read first: a wrong file is said before hours of video are decoded.
    stamps = () if stated is None else [read_time_stamps(p, stated.settings, stated.stated_in) for p in stated.files]
    times_files = () if stated is None else [stored_file(lab, path) for path in stated.files]
    videos: list[ProbedVideo] = []
    files: list[RecordedFile] = []
    for file in recording.files:
        with hashed_meanwhile(file.path) as sha256:
            video = probe_video(file.path, on_progress=LoggedProgress(log, f"probing {file.path.name}", "frames"))
            check_one_size(video)
            files.append(
                RecordedFile(
                    path=portable(lab, file.path),
                    size=file.size,
                    mtime_ns=file.mtime_ns,
                    sha256=sha256(),
                    frame_count=video.frame_count,
                )
            )
        videos.append(video)
    check_parts_fit(recording, videos)
    starts = starts_in_names(lab, recording)
    return _Probed(recording, tuple(videos), tuple(files), tuple(starts), stated, tuple(stamps), tuple(times_files))


def _extended(lab: Lab, found: FoundSession) -> tuple[StoredFile | None, str]:
    """Return the NWB file that session.yaml wants extended, or why it cannot be: the videos are of use without it."""
    try:
        return stored_extended(lab, found), ""
    except InputError as error:
        return None, str(error)


def _start(
    lab: Lab, found: FoundSession, metadata: SessionMetadata, named: datetime | None, probed: Iterable[_Probed]
) -> tuple[datetime | None, str]:
    """Return when the session began, in the lab's time zone where a machine said so, and who says so."""
    if metadata.start is not None:
        stated_in = "session.yaml" if found.sidecar().start is not None else "sessions.csv"
        return lab.settings.complete(metadata.start), stated_in
    if named is not None:
        return named.astimezone(lab.settings.zone), "file name"
    probed = list(probed)
    stamped = [
        moment
        for one in probed
        if one.stated is not None and one.stated.settings.clock == "unix"
        if (moment := first_moment(one.stamps[0], one.stated.settings)) is not None
    ]
    created = [video.creation_time for one in probed for video in one.videos if video.creation_time is not None]
    for moments, source in (
        (stamped, "first time stamp of a file beside the video"),
        (created, "video container's creation time"),
    ):
        if moments:
            return min(moments).astimezone(lab.settings.zone), source
    return None, _START_UNKNOWN


def _recording_info(
    lab: Lab, probed: _Probed, metadata: RecordingMetadata, start: datetime | None, earliest: datetime | None
) -> tuple[RecordingInfo, np.ndarray]:
    """Return what is stored of a recording, and its times; *start* is the session's, *earliest* that of its first recording by name."""
    recording, videos, first = probed.recording, probed.videos, probed.videos[0]
    began = probed.starts[0]
    after = 0.0 if began is None or earliest is None else (began - earliest).total_seconds()
    offset = after if metadata.offset is None else metadata.offset
    findings = [Finding("times", problem) for problem in skipped_parts(recording)]
    repaired: tuple[str, ...] = ()
    if probed.stated is None:
        times, rate = times_of_parts(videos) + offset, first.rate
        regular, duration, clock = (
            regular_over_parts(videos, times),
            float(sum(v.duration for v in videos)),
            CONTAINER_CLOCK,
        )
        findings += [Finding("times", problem) for problem in gaps_between_parts(videos, probed.starts)]
        findings += _of_files(videos, {"decoding", "times", "size", "other"})
    else:
        settings = probed.stated.settings
        if settings.clock != "device":
            offset = metadata.offset or 0.0  # these clocks tell by themselves when the recording began
        counts = [video.frame_count for video in videos]
        counts = [sum(counts)] if len(probed.stamps) == 1 else counts
        times, repaired = times_of_frames(probed.stamps, counts, settings, start, offset)
        rate, regular, timing = timing_of(times, first.rate) if len(times) > 1 else (first.rate, True, [])
        duration = float(times[-1] - times[0] + 1 / rate)
        clock = _clock_of(probed.stated, offset)
        findings += [*(Finding("times", sentence) for sentence in repaired), *timing]
        findings += _of_files(videos, {"decoding", "size", "other"})  # the containers' times are not used
    headers = [video.header_frame_count for video in videos]
    device = metadata.device or recording.camera
    info = RecordingInfo(
        recording=recording.name,
        camera=recording.camera,
        device=device,
        files=list(probed.files),
        width=first.width,
        height=first.height,
        codec=first.codec,
        pixel_format=first.pixel_format,
        rotation=first.rotation,
        rate=str(rate),
        regular=regular,
        frame_count=len(times),
        header_frame_count=None if None in headers else sum(count for count in headers if count is not None),
        duration=duration,
        time_start=float(times[0]),
        clock=clock,
        content_hash=content_hash(
            {
                "videos": [file.sha256 for file in probed.files],
                "times": hashlib.sha256(np.ascontiguousarray(times, dtype="<f8").tobytes()).hexdigest(),
                "device": device,
            }
        ),
        crop=metadata.crop,
        scale=metadata.scale,
        regions=metadata.regions,
        arena=metadata.arena,
        problems=[finding.says for finding in findings],
        about=[finding.about for finding in findings],
        times_files=list(probed.times_files),
        times_repaired=list(repaired),
    )
    return info, times


def _of_files(videos: Sequence[ProbedVideo], kinds: set[About]) -> list[Finding]:
    return [
        Finding(finding.about, f"{video.path.name}: {finding.says}")
        for video in videos
        for finding in video.findings
        if finding.about in kinds
    ]


def _clock_of(stated: StatedTimes, offset: float) -> str:
    """Say where times come from: it is written into every pose table and NWB file."""
    files = stated.files[0].name + (f" and {len(stated.files) - 1} more" if len(stated.files) > 1 else "")
    column = "" if stated.settings.column is None else f", column {stated.settings.column}"
    zero = {
        "session": "as they are, on the session's clock",
        "unix": "since 1970, less the session's start",
        "device": "counted from the first frame",
    }[stated.settings.clock]
    plus = f", plus the recording's offset of {offset:g} s" if offset else ""
    return f"time stamps of {files}{column} (in {stated.settings.unit}), {zero}{plus}"
