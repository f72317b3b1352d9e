"""Whether a pose table has every frame of its recording, at its time."""

from __future__ import annotations

import numpy as np

from dlc_assets.lab.lab import Lab
from dlc_assets.recordings.info import read_times
from dlc_assets.review.checked_poses import CheckedPoses
from dlc_assets.review.checks.seen import Seen


def frames_match(lab: Lab, session: str, poses: CheckedPoses) -> Seen:
    """Say where the table, the video and the recording's times differ in number, or the times in value."""
    recording = poses.recording
    in_files = sum(file.frame_count for file in recording.files) or recording.frame_count
    counts = {"poses": len(poses.times), "recording": recording.frame_count, "video files": in_files}
    if len(set(counts.values())) > 1 or poses.table.first_frame != 0:
        listed = ", ".join(f"{count} of the {what}" for what, count in counts.items())
        said = (
            f"{recording.recording}: expected equal numbers of frames from frame 0 on, found {listed} (poses from frame "
            f"{poses.table.first_frame} on)"
        )
        return Seen(1.0, recording.recording, (), dict(counts), failed=True, sentence=said)
    try:
        stored = read_times(lab.layout, session, recording.recording)
    except FileNotFoundError:
        return Seen(0.0, recording.recording, (), dict(counts), failed=True, sentence="its times are not in the store")
    if len(stored) != len(poses.times):
        said = f"{recording.recording}: {len(poses.times)} poses, but {len(stored)} times in the store"
        return Seen(1.0, recording.recording, (), dict(counts), failed=True, sentence=said)
    different = np.flatnonzero(stored != poses.times)
    if len(different):
        first, last = int(different[0]), int(different[-1])
        said = (
            f"{recording.recording}: {len(different)} of {len(stored)} frames have another time than the recording now, from frame "
            f"{first} on. Its times were corrected since: analyze the session again"
        )
        moments = [poses.moment(first, last, "", (), "frames at other times", badness=len(different))]
        return Seen(
            len(different) / len(stored), recording.recording, moments, dict(counts), failed=True, sentence=said
        )
    return Seen(0.0, recording.recording, (), dict(counts), failed=False)
