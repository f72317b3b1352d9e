"""The recordings of one session compared: cameras that should have run at the same time, and those that cannot have."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, pairwise

from dlc_assets.lab.keys import label_for_archive
from dlc_assets.recordings.info import RecordingInfo

# Cameras are started by hand, or stop one frame apart; clocks of free-running cameras differ by a few hundredths of a percent.
_SAME_DURATION = 1e-3
_FRAMES_APART = 1.01  # of the slower camera: one frame, and what rounding of times adds
_TOGETHER = 0.5  # of the shorter one: what overlaps less was not meant to be simultaneous


def overlaps(recordings: Sequence[RecordingInfo]) -> list[str]:
    """Say which recordings of one device lie at the same time, which no camera can do: their offsets are not stated."""
    return [
        f"{first.recording} and {second.recording} are both of {first.device} and overlap in time: state in session.yaml "
        "when each began, as recordings.<recording>.offset (s from the session's start)."
        for first, second in _overlapping(recordings)
    ]


def disagreements(recordings: Sequence[RecordingInfo]) -> list[str]:
    """Say which recordings that cameras made at the same time are not equally long, with the numbers of each."""
    unplaced = {info.recording for pair in _overlapping(recordings) for info in pair}
    problems = []
    for one, other in combinations(sorted(recordings, key=lambda info: (-info.duration, info.recording)), 2):
        if one.device == other.device or not _simultaneous(one, other, unplaced):
            continue
        apart = one.duration - other.duration
        frame = _FRAMES_APART * float(1 / min(one.fraction, other.fraction))
        if apart > max(frame, _SAME_DURATION * one.duration):
            problems.append(
                f"{one.recording} and {other.recording} ran at the same time, but {other.recording} is {apart:.3f} s shorter: "
                f"{_words(one)}; {_words(other)}. Did a camera stop early, or drop frames?"
            )
    return problems


def _overlapping(recordings: Sequence[RecordingInfo]) -> list[tuple[RecordingInfo, RecordingInfo]]:
    return [
        (first, second)
        for first, second in pairwise(sorted(recordings, key=lambda info: (info.device, info.time_start)))
        if first.device == second.device and second.time_start < first.time_start + first.duration
    ]


def _simultaneous(one: RecordingInfo, other: RecordingInfo, unplaced: set[str]) -> bool:
    """Say whether two cameras' recordings belong together: by their time, where that is known, and by trial or recording otherwise."""
    if (one.recording in unplaced or other.recording in unplaced) and _trial(one) != _trial(other):
        return False
    first = max(one.time_start, other.time_start)
    last = min(one.time_start + one.duration, other.time_start + other.duration)
    return last - first >= _TOGETHER * min(one.duration, other.duration)


def _trial(info: RecordingInfo) -> str:
    """Return what a recording's name says beyond its camera."""
    return info.recording.removeprefix(label_for_archive(info.camera, "recording"))


def _words(info: RecordingInfo) -> str:
    return (
        f"{info.recording} has {info.frame_count} frames in {info.duration:.3f} s from {info.time_start:.3f} s on, at "
        f"{float(info.fraction):.4g}/s"
    )
