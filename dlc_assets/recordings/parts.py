"""One recording in several files: whether they fit together, where time or numbers are missing between them, and their times in one."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise

import numpy as np

from dlc_assets.lab.errors import InputError
from dlc_assets.recordings.found import FoundRecording
from dlc_assets.video.probe import ProbedVideo

_LAST_PART = 9_999  # a larger number in the place of {part} is a time of day or a date
# The average rate of a short part, or of one with irregular times, is not exactly the others'.
_SAME_RATE = 0.02
_NAMES_RESOLUTION = 1.0  # s; names state whole seconds, so two of them differ from the truth by less than this
_LISTED = 5


class PicturesDiffer(InputError):
    """The pictures of one recording are of more than one size."""


def check_one_size(video: ProbedVideo) -> None:
    """Refuse a video whose pictures change their size."""
    if video.resized is not None:
        frame, width, height = video.resized
        raise PicturesDiffer(
            f"{video.path}: the picture changes its size at frame {frame}, from {video.width}x{video.height} px to "
            f"{width}x{height} px. Coordinates would change their meaning there, so the recording cannot be analysed: split the "
            "video at this frame, or encode it again in one size."
        )


def check_parts_fit(recording: FoundRecording, probed: Sequence[ProbedVideo]) -> None:
    """Refuse parts that differ in picture size, rotation or frame rate."""
    first = probed[0]
    for video in probed[1:]:
        # Times of irregular parts are the files' own, frame by frame; their average rates need not agree.
        same_rate = not (video.regular and first.regular) or abs(video.rate / first.rate - 1) <= _SAME_RATE
        same_picture = _picture_words(video) == _picture_words(first)
        if same_picture and same_rate:
            continue
        here, there = (
            (_picture_words(video), _picture_words(first))
            if same_rate
            else (f"frame rate {video.rate}", f"frame rate {first.rate}")
        )
        kind = InputError if same_picture else PicturesDiffer
        raise kind(
            f"{recording.name}: its parts do not fit together: {video.path} has {here}, {first.path} has {there}. "
            "Parts are one recording split in files; separate recordings take {recording} or {trial} in the template."
        )


def _picture_words(video: ProbedVideo) -> str:
    """Say what must be the same in all parts for a coordinate to mean the same place: upright size, and rotation."""
    turned = f", turned by {video.rotation} degrees" if video.rotation else ""
    return f"pictures of {video.width}x{video.height} px{turned}"


def skipped_parts(recording: FoundRecording) -> list[str]:
    """Say which numbers are missing among the parts: the times go on as if nothing were, so a person must look."""
    numbers = {int(part) for part in recording.parts if part.isdecimal()}
    if len(numbers) < len(recording.parts) or max(numbers) > _LAST_PART:
        return []
    missing = sorted(set(range(min(1, *numbers), max(numbers) + 1)) - numbers)
    if not missing:
        return []
    listed = ", ".join(map(str, missing[:_LISTED])) + (", ..." if len(missing) > _LISTED else "")
    return [f"Parts {listed} are not there ({len(numbers)} are); the times go on as if nothing were missing."]


def gaps_between_parts(probed: Sequence[ProbedVideo], starts: Sequence[datetime | None]) -> list[str]:
    """Say between which files time is missing, by the starts that their names state, or by time stamps that run on from file to file."""
    problems = []
    for (video, start), (following, next_start) in pairwise(zip(probed, starts, strict=True)):
        interval = float(1 / video.rate)
        if start is not None and next_start is not None:
            missing = (next_start - start).total_seconds() - video.duration
            by, slack = "their names", _NAMES_RESOLUTION + interval
        elif following.start_pts >= video.start_pts + video.duration / 2:
            missing = following.start_pts - video.start_pts - video.duration
            by, slack = "their own time stamps", interval / 2
        else:
            continue  # each file counts from 0, as most do
        if abs(missing) > slack:
            what = f"lies a gap of {missing:.3f} s" if missing > 0 else f"lie {-missing:.3f} s twice"
            problems.append(
                f"Between {video.path.name} and {following.path.name} {what}, by {by}; the times go on as if nothing were "
                "missing. If the camera pauses between files, they are separate recordings: use {trial} in the template, or state "
                "timestamps."
            )
    return problems


def times_of_parts(probed: Sequence[ProbedVideo]) -> np.ndarray:
    """Return times (all frames,) in s: each part begins one frame interval after the last frame of the one before."""
    times: list[np.ndarray] = []
    start = 0.0
    for video in probed:
        times.append(video.times + start)
        start = float(times[-1][-1] + 1 / video.rate)
    return np.concatenate(times)


def regular_over_parts(probed: Sequence[ProbedVideo], times: np.ndarray) -> bool:
    """Say whether all frames lie on the grid of the first part's rate."""
    if not all(video.regular for video in probed):
        return False
    exact = times[0] + np.arange(len(times)) * float(1 / probed[0].rate)
    return bool(np.max(np.abs(times - exact)) < 0.5 / float(probed[0].rate))
