"""What can be wrong with poses that are to become an NWB file: all of it is found before a byte is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from dlc_assets.lab.errors import InputError, did_you_mean
from dlc_assets.nwb.description import RecordingPoses, TrackLike
from dlc_assets.nwb.frame_times import FrameTimes, TimingOfRecording, timing_of
from dlc_assets.nwb.names import object_name, pose_estimation_names


@dataclass(frozen=True)
class CheckedRecording:
    """A recording's poses that can be written, with what was learnt of them on the way.

    `undetected` are the tracks without any position, as (individual, body part).
    """

    poses: RecordingPoses
    times: FrameTimes
    timing: TimingOfRecording
    undetected: frozenset[tuple[str, str]]


def check_path(path: Path, expected: PurePosixPath, whose: str) -> None:
    """Raise an InputError unless *path* ends in *expected*, the place of the session that *whose* names."""
    if path.parts[-len(expected.parts) :] != expected.parts:
        raise InputError(f"{path} is not the place of {whose}: its path must end in {expected}.")


def checked_recordings(recordings: Sequence[RecordingPoses], *, with_video: bool) -> list[CheckedRecording]:
    """Return *recordings* once each fits itself and the others.

    Raises
    ------
    InputError
        Poses, times and video frames differ in number; times go back; names collide; a video is missing; two models' poses of one
        recording are not of the same frames.
    """
    if not recordings:
        raise InputError("a session's NWB file needs the poses of at least one recording; none came.")
    _check_names(recordings)
    checked: list[CheckedRecording] = []
    for recording in recordings:
        _check_tracks(recording)
        times = FrameTimes.of(recording.times)
        _check_lengths(recording, times)
        if with_video:
            _check_videos(recording)
        timing = timing_of(times, recording.part_frame_counts, recording.rate, recording.where)
        undetected = frozenset(
            (track.individual, track.bodypart) for track in recording.tracks if not _has_position(track)
        )
        checked.append(CheckedRecording(recording, times, timing, undetected))
    _check_models_agree(checked)
    return checked


def _check_names(recordings: Sequence[RecordingPoses]) -> None:
    of_recording = dict.fromkeys(recording.recording for recording in recordings)
    _check_distinct("recordings", list(of_recording))
    for name in of_recording:
        came = [(one.model, bool(one.filters)) for one in recordings if one.recording == name]
        if len(set(came)) < len(came):
            models = ", ".join(f"{model!r}{' (filtered)' * filtered}" for model, filtered in came)
            raise InputError(
                f'recording "{name}" came {len(came)} times, by the models {models}; expected once a model.'
            )
    used: dict[str, tuple[RecordingPoses, str]] = {}
    for key, name in pose_estimation_names(recordings).items():
        recording = recordings[key[0]]
        other = used.setdefault(name, (recording, key[1]))
        if other != (recording, key[1]):
            raise InputError(
                f'{other[0].where}, individual "{other[1]}", and {recording.where}, individual "{key[1]}", would both be '
                f'"{name}" in the NWB file; rename one.'
            )


def _check_distinct(what: str, names: Sequence[str]) -> None:
    used: dict[str, str] = {}
    for name in names:
        other = used.setdefault(object_name(name), name)
        if names.count(name) > 1 or other != name:
            raise InputError(f'{what} "{other}" and "{name}" would have the same name in the NWB file; rename one.')


def _check_tracks(recording: RecordingPoses) -> None:
    if not recording.tracks:
        raise InputError(f"{recording.where} has no body part with poses.")
    if recording.identified is not None and recording.identified not in recording.individuals:
        raise InputError(
            f'{recording.where} has no individual "{recording.identified}", which is to be the file\'s subject.'
            f"{did_you_mean(recording.identified, recording.individuals)} It has: {', '.join(recording.individuals)}."
        )
    for individual in recording.individuals:
        bodyparts = [track.bodypart for track in recording.of(individual)]
        _check_distinct(f"{recording.where}: body parts", bodyparts)
    known = list(dict.fromkeys(track.bodypart for track in recording.tracks))
    for name in (name for edge in recording.skeleton for name in edge):
        if name not in known:
            raise InputError(
                f'{recording.where}: the skeleton names "{name}", which is no body part of '
                f"the poses ({', '.join(known)}).{did_you_mean(name, known)}"
            )


def _check_lengths(recording: RecordingPoses, times: FrameTimes) -> None:
    video_frames = sum(recording.part_frame_counts)
    for track in recording.tracks:
        if track.frame_count == times.frame_count == video_frames:
            continue
        raise InputError(
            f'{recording.where}, body part "{track.bodypart}": expected equal numbers, but there '
            f"are {track.frame_count} poses, {times.frame_count} times and {video_frames} video frames. "
            "Record and analyze it again."
        )
    if video_frames == 0:
        raise InputError(f"{recording.where} has no frames.")


def _check_videos(recording: RecordingPoses) -> None:
    if len(recording.video_files) != len(recording.part_frame_counts):
        raise InputError(
            f"{recording.where} has {len(recording.video_files)} video files but "
            f"{len(recording.part_frame_counts)} frame counts; expected one each, in the same order."
        )
    for video in recording.video_files:
        if not video.is_file():
            raise InputError(f"{recording.where}: no video at {video}. Bring it back or leave videos out.")


def _has_position(track: TrackLike) -> bool:
    return any(not np.isnan(block[:2]).any(axis=0).all() for block in track.blocks())


def _check_models_agree(checked: Sequence[CheckedRecording]) -> None:
    """Refuse poses of one recording that were estimated from different files, or before and after its times were corrected."""
    first_of: dict[str, CheckedRecording] = {}
    for one in checked:
        first = first_of.setdefault(one.poses.recording, one)
        if (
            one.poses.video_files != first.poses.video_files
            or one.poses.part_frame_counts != first.poses.part_frame_counts
            or one.timing.digest != first.timing.digest
        ):
            raise InputError(
                f'recording "{one.poses.recording}": the poses of "{first.poses.model}" and of "{one.poses.model}" are not of the '
                "same frames at the same times. Analyze the session again with the one that is older."
            )
