"""Writes a described session as an NWB file, and reads back from one how its poses were made."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time
from fractions import Fraction
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from dlc_assets.lab.errors import InputError, NotFoundError, did_you_mean
from dlc_assets.lab.files import atomic_path
from dlc_assets.nwb.description import (
    DeviceDescription,
    RecordingPoses,
    SessionDescription,
    SubjectDescription,
    TrackLike,
    nwb_content_hash,
    nwb_relative_path,
)
from dlc_assets.nwb.video_files import external_file, place_videos, remove_unused_videos, video_object_id

if TYPE_CHECKING:
    import pynwb

Videos = Literal["copy", "link", "leave_out"]

REFERENCE_FRAME = (
    "(0, 0) is the center of the top left pixel of the full, upright video frame; x points right, y points down."
)
# About 1 MiB of float32 positions a chunk: a viewer that shows a minute does not load an hour.
_CHUNK_FRAMES = 131_072
# A stated rate may replace times that container rounding moves by less than this part of a frame.
_RATE_TOLERANCE_FRAMES = 0.05
# Without a stated rate, times count as regular if a rate reproduces them to a microsecond.
_REGULAR_TOLERANCE_S = 1e-6


def write_session_nwb(
    path: Path, session: SessionDescription, recordings: Sequence[RecordingPoses], *, videos: Videos = "link"
) -> None:
    """Write the poses of a session's recordings to *path* in one step, with the videos in a folder beside it.

    One recording becomes ``processing/behavior/PoseEstimation`` (the name that movement opens by default),
    several become ``PoseEstimation_<recording>`` each. An existing file is replaced.

    Parameters
    ----------
    path
        Ends in what `nwb_relative_path` gives for the session.
    videos
        ``link`` (symbolic; a copy where that is impossible), ``copy``, or ``leave_out``.

    Raises
    ------
    InputError
        Poses, times and video frames differ in number; a name, path or video is wrong. Nothing is written.
    """
    _check_path(path, session, with_video=videos != "leave_out")
    _check_recordings(recordings, with_video=videos != "leave_out")
    sources = {} if videos == "leave_out" else _video_sources(path, session, recordings)
    nwbfile = _build(path, session, recordings, with_video=videos != "leave_out")
    with atomic_path(path) as partial:
        _write(partial, nwbfile)
        if videos != "leave_out":
            place_videos(path, sources, videos)
    remove_unused_videos(path, sources)


def read_provenance(path: Path) -> dict[str, Any]:
    """Return how a file's poses were made.

    Keys: ``content_hash`` (`nwb_content_hash` of what was written) and ``recordings``: for each recording its
    ``provenance`` as it was given, ``pose_estimation`` (its container's name in ``processing/behavior``) and
    ``videos`` (the original file names). It is kept as JSON in ``/general/data_collection``, NWB's place for
    notes about data collection and analysis.

    Raises
    ------
    NotFoundError
        No such file.
    InputError
        The file was not written by `write_session_nwb`.
    """
    import h5py

    if not path.is_file():
        raise NotFoundError(f"no NWB file at {path}: export the session first.")
    with h5py.File(path, "r") as file:
        text = file["general/data_collection"].asstr()[()] if "general/data_collection" in file else ""
    try:
        provenance: dict[str, Any] = json.loads(text)["dlc_assets"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path}: expected provenance in /general/data_collection, found none; another program wrote it."
        ) from error
    return provenance


def pose_estimation_name(recording: str, *, alone: bool) -> str:
    """Return the container name of a recording's poses (movement's ``pose_estimation_key``)."""
    return "PoseEstimation" if alone else f"PoseEstimation_{_object_name(recording)}"


# Checks: everything that can be wrong is found before a byte is written.


def _check_path(path: Path, session: SessionDescription, *, with_video: bool) -> None:
    subject_id = session.subject.subject_id if session.subject else None
    expected = nwb_relative_path(subject_id, session.session_id, with_video=with_video)
    if path.parts[-len(expected.parts) :] != expected.parts:
        raise InputError(
            f'{path} is not the place of session "{session.session_id}" of subject "{subject_id}": '
            f"its path must end in {expected}."
        )


def _check_recordings(recordings: Sequence[RecordingPoses], *, with_video: bool) -> None:
    if not recordings:
        raise InputError("a session's NWB file needs the poses of at least one recording; none came.")
    _check_distinct("recordings", [recording.recording for recording in recordings])
    for recording in recordings:
        _check_tracks(recording)
        _check_lengths(recording)
        _check_times(recording)
        if with_video:
            _check_videos(recording)


def _check_distinct(what: str, names: Sequence[str]) -> None:
    used: dict[str, str] = {}
    for name in names:
        other = used.setdefault(_object_name(name), name)
        if names.count(name) > 1 or other != name:
            raise InputError(f'{what} "{other}" and "{name}" would have the same name in the NWB file; rename one.')


def _check_tracks(recording: RecordingPoses) -> None:
    if not recording.tracks:
        raise InputError(f'recording "{recording.recording}" has no body part with poses.')
    individuals = sorted({track.individual for track in recording.tracks})
    if len(individuals) > 1:
        raise InputError(
            f'recording "{recording.recording}" has poses of {len(individuals)} individuals '
            f"({', '.join(individuals)}); an NWB file describes one subject. Pass the tracks of one."
        )
    bodyparts = [track.bodypart for track in recording.tracks]
    _check_distinct(f'recording "{recording.recording}": body parts', bodyparts)
    for name in (name for edge in recording.skeleton for name in edge):
        if name not in bodyparts:
            raise InputError(
                f'recording "{recording.recording}": the skeleton names "{name}", which is no body part of '
                f"the poses ({', '.join(bodyparts)}).{did_you_mean(name, bodyparts)}"
            )


def _check_lengths(recording: RecordingPoses) -> None:
    video_frames = sum(recording.part_frame_counts)
    for track in recording.tracks:
        lengths = {len(track.x), len(track.y), len(track.likelihood)}
        if lengths == {len(recording.times)} == {video_frames}:
            continue
        poses = " / ".join(str(length) for length in sorted(lengths))
        raise InputError(
            f'recording "{recording.recording}", body part "{track.bodypart}": expected equal numbers, but there '
            f"are {poses} poses, {len(recording.times)} times and {video_frames} video frames. "
            "Record and analyze it again."
        )
    if video_frames == 0:
        raise InputError(f'recording "{recording.recording}" has no frames.')


def _check_times(recording: RecordingPoses) -> None:
    times = np.asarray(recording.times, dtype=np.float64)
    if not np.isfinite(times).all():
        frame = int(np.flatnonzero(~np.isfinite(times))[0])
        raise InputError(f'recording "{recording.recording}": the time of frame {frame} is {times[frame]}.')
    backwards = np.flatnonzero(np.diff(times) <= 0)
    if backwards.size:
        frame = int(backwards[0]) + 1
        raise InputError(
            f'recording "{recording.recording}": times must increase, but frame {frame} is at {times[frame]} '
            f"s after {times[frame - 1]} s. Correct its timestamps file."
        )


def _check_videos(recording: RecordingPoses) -> None:
    if len(recording.video_files) != len(recording.part_frame_counts):
        raise InputError(
            f'recording "{recording.recording}" has {len(recording.video_files)} video files but '
            f"{len(recording.part_frame_counts)} frame counts; expected one each, in the same order."
        )
    for video in recording.video_files:
        if not video.is_file():
            raise InputError(
                f'recording "{recording.recording}": no video at {video}. Bring it back or leave videos out.'
            )


# Building the file in memory. Everything below works on checked input.


@dataclass(frozen=True)
class _Timing:
    """Keyword arguments that give a time series its times: a rate, timestamps, or a series that has them."""

    arguments: dict[str, Any]

    def shared_with(self, series: Any) -> _Timing:
        return _Timing({"timestamps": series}) if "timestamps" in self.arguments else self


def _timing(times: npt.NDArray[np.float64], stated_rate: Fraction | None) -> _Timing:
    times = np.asarray(times, dtype=np.float64)
    start = float(times[0])
    if stated_rate is not None:
        rate = float(stated_rate)
        if _reproduces(times, rate, _RATE_TOLERANCE_FRAMES / rate):
            return _Timing({"starting_time": start, "rate": rate})
    if len(times) > 2:
        rate = (len(times) - 1) / float(times[-1] - start)
        if _reproduces(times, rate, _REGULAR_TOLERANCE_S):
            return _Timing({"starting_time": start, "rate": rate})
    return _Timing({"timestamps": _compressed(times)})


def _reproduces(times: npt.NDArray[np.float64], rate: float, tolerance_s: float) -> bool:
    return bool(np.abs(times - (times[0] + np.arange(len(times)) / rate)).max() <= tolerance_s)


def _build(
    path: Path, session: SessionDescription, recordings: Sequence[RecordingPoses], *, with_video: bool
) -> pynwb.NWBFile:
    from ndx_pose import Skeletons

    nwbfile = _nwb_file(session, recordings)
    behavior = nwbfile.create_processing_module("behavior", "Poses of the subject, estimated from video.")
    skeletons = Skeletons(name="Skeletons")
    behavior.add(skeletons)
    for recording in recordings:
        device = _add_device(nwbfile, recording.device)
        pose_timing = _timing(recording.times, recording.rate)
        video = None
        if with_video:
            parts = _add_videos(path, nwbfile, session, recording, device)
            if len(parts) == 1:
                video = parts[0]
                pose_timing = pose_timing.shared_with(video)
        skeleton = _add_skeleton(skeletons, recording, nwbfile.subject)
        name = pose_estimation_name(recording.recording, alone=len(recordings) == 1)
        behavior.add(_pose_estimation(name, recording, pose_timing, skeleton, device, video))
    return nwbfile


def _nwb_file(session: SessionDescription, recordings: Sequence[RecordingPoses]) -> pynwb.NWBFile:
    import pynwb

    return pynwb.NWBFile(
        session_description=session.description,
        identifier=session.identifier,
        session_start_time=session.start,
        session_id=session.session_id,
        experimenter=list(session.experimenters) or None,
        institution=session.institution or None,
        lab=session.lab or None,
        keywords=list(session.keywords) or None,
        experiment_description=session.experiment_description or None,
        data_collection=_provenance_json(session, recordings),
        was_generated_by=_software(recordings),
        subject=_subject(session.subject, session.start) if session.subject else None,
    )


def _subject(subject: SubjectDescription, start: datetime) -> Any:
    from pynwb.file import Subject

    born = subject.date_of_birth
    return Subject(
        subject_id=subject.subject_id,
        species=subject.species or None,
        sex=subject.sex,
        age=subject.age_at(start),
        date_of_birth=datetime.combine(born, time(), tzinfo=start.tzinfo) if born else None,
        description=subject.description or None,
        strain=subject.strain or None,
        genotype=subject.genotype or None,
        weight=subject.weight or None,
    )


def _provenance_json(session: SessionDescription, recordings: Sequence[RecordingPoses]) -> str:
    alone = len(recordings) == 1
    by_recording = {
        recording.recording: {
            "pose_estimation": pose_estimation_name(recording.recording, alone=alone),
            "videos": [video.name for video in recording.video_files],
            "provenance": recording.provenance,
        }
        for recording in recordings
    }
    provenance = {"content_hash": nwb_content_hash(session, recordings), "recordings": by_recording}
    return json.dumps({"dlc_assets": provenance}, sort_keys=True, ensure_ascii=False, default=str)


def _software(recordings: Sequence[RecordingPoses]) -> list[list[str]]:
    """Return (software, version) pairs; `source_software` says the same, this is where NWB viewers look."""
    pairs = {(r.source_software, r.software_version) for r in recordings if r.software_version}
    try:
        pairs.add(("dlc-assets", version("dlc-assets")))
    except PackageNotFoundError:  # run from a checkout that is not installed
        pairs.add(("dlc-assets", "unreleased"))
    return [list(pair) for pair in sorted(pairs)]


def _add_device(nwbfile: pynwb.NWBFile, described: DeviceDescription) -> Any:
    name = _object_name(described.name)
    model = _add_device_model(nwbfile, described) if described.manufacturer else None
    description = described.description or f"Camera {described.name}."
    if described.model and model is None:
        description += f" Model: {described.model}."
    if name not in nwbfile.devices:
        return nwbfile.create_device(name=name, description=description, model=model)
    device = nwbfile.devices[name]
    if (device.description, device.model) != (description, model):
        raise InputError(
            f'two recordings describe device "{described.name}" differently; describe it once in lab.yaml.'
        )
    return device


def _add_device_model(nwbfile: pynwb.NWBFile, described: DeviceDescription) -> Any:
    title = f"{described.manufacturer} {described.model or 'camera'}"
    name = _object_name(title)
    if name in nwbfile.device_models:
        return nwbfile.device_models[name]
    return nwbfile.create_device_model(
        name=name,
        manufacturer=described.manufacturer,
        model_number=described.model or None,
        description=f"Camera, {title}.",
    )


def _part_slices(recording: RecordingPoses) -> list[slice]:
    ends = np.cumsum(recording.part_frame_counts).tolist()
    return [slice(end - count, end) for end, count in zip(ends, recording.part_frame_counts, strict=True)]


def _add_videos(
    path: Path, nwbfile: pynwb.NWBFile, session: SessionDescription, recording: RecordingPoses, device: Any
) -> list[Any]:
    """Add one ImageSeries a file: several files in one could not express a gap between them."""
    from pynwb.image import ImageSeries

    several = len(recording.video_files) > 1
    added = []
    for part, (video, frames) in enumerate(zip(recording.video_files, _part_slices(recording), strict=True), start=1):
        timing = _timing(recording.times[frames], recording.rate).arguments
        if "rate" in timing:  # an empty external series cannot tell its length
            timing = {**timing, "num_samples": frames.stop - frames.start}
        object_id = video_object_id(session.identifier, recording.recording, part)
        # Made in two steps because only __new__ takes an object id; it names the video's file.
        series = ImageSeries.__new__(ImageSeries, object_id=object_id)
        series.__init__(
            name=f"Video_{_object_name(recording.recording)}" + (f"_part{part}" if several else ""),
            description=f'Video recording "{recording.recording}", file {video.name}.',
            format="external",
            external_file=[str(external_file(path, object_id, video))],
            starting_frame=[0],
            dimension=[recording.width, recording.height],
            device=device,
            **timing,
        )
        nwbfile.add_acquisition(series)
        added.append(series)
    return added


def _add_skeleton(skeletons: Any, recording: RecordingPoses, subject: Any) -> Any:
    """Add the recording's skeleton, or return the one of an earlier recording if it is the same."""
    from ndx_pose import Skeleton

    nodes = [_object_name(track.bodypart) for track in recording.tracks]
    edges = [[nodes.index(_object_name(name)) for name in edge] for edge in recording.skeleton]
    for present in skeletons.skeletons.values():
        present_edges = [] if present.edges is None else np.asarray(present.edges).tolist()
        if list(present.nodes) == nodes and present_edges == edges:
            return present
    skeleton = Skeleton(
        name=f"Skeleton_{_object_name(recording.recording)}",
        nodes=nodes,
        edges=np.array(edges, dtype=np.uint8) if edges else None,
        subject=subject,
    )
    skeletons.add_skeletons(skeleton)
    return skeleton


def _pose_estimation(
    name: str, recording: RecordingPoses, timing: _Timing, skeleton: Any, device: Any, video: Any
) -> Any:
    from ndx_pose import PoseEstimation

    series: list[Any] = []
    for track in recording.tracks:
        series.append(_pose_series(track, recording, timing.shared_with(series[0]) if series else timing))
    return PoseEstimation(
        name=name,
        pose_estimation_series=series,
        description=_pose_description(recording),
        scorer=recording.scorer,
        source_software=recording.source_software,
        source_software_version=recording.software_version or None,
        skeleton=skeleton,
        device=device,
        source_video=video,
    )


def _pose_series(track: TrackLike, recording: RecordingPoses, timing: _Timing) -> Any:
    from ndx_pose import PoseEstimationSeries

    positions = np.stack([track.x, track.y], axis=1).astype(np.float32, copy=False)
    return PoseEstimationSeries(
        name=_object_name(track.bodypart),
        description=f"Position of {track.bodypart} in the video frame; NaN where it was not detected.",
        data=_compressed(positions),
        unit="pixels",
        reference_frame=REFERENCE_FRAME,
        confidence=_compressed(np.asarray(track.likelihood, dtype=np.float32)),
        confidence_definition=recording.confidence_definition or None,
        **timing.arguments,
    )


def _pose_description(recording: RecordingPoses) -> str:
    """Say in words what the poses are; how they were made in detail is in /general/data_collection."""
    names = ", ".join(video.name for video in recording.video_files)
    text = f'Positions of {len(recording.tracks)} body parts in every frame of recording "{recording.recording}"'
    text += f" ({names})." if names else "."
    if len(recording.part_frame_counts) > 1:
        counts = ", ".join(str(count) for count in recording.part_frame_counts)
        text += f" The recording is split in files of {counts} frames, in this order, one ImageSeries each."
    if recording.crop is not None:
        x1, x2, y1, y2 = recording.crop
        text += f" The network saw x {x1} to {x2}, y {y1} to {y2}; positions are in the full frame."
    return text


def _compressed(array: npt.NDArray[Any]) -> Any:
    from pynwb import H5DataIO

    chunks = (min(_CHUNK_FRAMES, array.shape[0]), *array.shape[1:])
    return H5DataIO(array, compression="gzip", shuffle=True, chunks=chunks)


def _object_name(text: str) -> str:
    """Return *text* as HDF5 and NWB can name an object: a slash is a path there, colons are unwanted."""
    return text.replace("/", "-").replace("\\", "-").replace(":", "-")


# Files.


def _video_sources(
    path: Path, session: SessionDescription, recordings: Sequence[RecordingPoses]
) -> dict[PurePosixPath, Path]:
    return {
        external_file(path, video_object_id(session.identifier, recording.recording, part), video): video
        for recording in recordings
        for part, video in enumerate(recording.video_files, start=1)
    }


def _write(path: Path, nwbfile: pynwb.NWBFile) -> None:
    from pynwb import NWBHDF5IO

    with NWBHDF5IO(path, "w") as io:
        io.write(nwbfile)
