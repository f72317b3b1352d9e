"""The video files that chosen frames lie in: whether they are as they were probed, their pictures, and which labels are of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dlc_assets.lab.errors import InputError
from dlc_assets.lab.lab import Lab
from dlc_assets.labeling.sources import RecordingPoses
from dlc_assets.recordings.info import RecordedFile
from dlc_assets.training.labeled_videos import frame_number, may_be_of, shows_the_same
from dlc_assets.training.labels import natural_key
from dlc_assets.video.frames import each_frame

_PROOFS = 3  # pictures of a folder that are compared with the video


@dataclass(frozen=True, eq=False)
class VideoFile:
    """One file of a recording.

    Attributes
    ----------
    number
        Its place among the recording's files.
    first
        Number of its first frame, counted over all files of the recording.
    """

    source: RecordingPoses
    file: RecordedFile
    number: int
    first: int

    @property
    def stem(self) -> str:
        """The file's name without its ending: what DeepLabCut calls the folder of its labels."""
        return Path(self.file.path).stem

    def __str__(self) -> str:
        return f"{self.source}, {Path(self.file.path).name}"


def files_of(source: RecordingPoses) -> list[VideoFile]:
    """Return the files of a recording in order."""
    found = []
    first = 0
    for number, file in enumerate(source.recording.files):
        found.append(VideoFile(source, file, number, first))
        first += file.frame_count
    return found


def check_video(lab: Lab, video: VideoFile) -> None:
    """Raise an InputError where a video is gone, or is another one than when its poses were made."""
    path = video.file.resolve(lab.root)
    try:
        status = path.stat()
    except OSError as error:
        raise InputError(f"{video}: the video {path} is gone ({error.strerror}). Bring it back.") from error
    if (status.st_size, status.st_mtime_ns) != (video.file.size, video.file.mtime_ns):
        raise InputError(
            f"{video}: the video {path} has changed since it was probed. Materialize session_recordings for "
            f"{video.source.session.session} again, then its poses."
        )


def can_be_read(lab: Lab, video: VideoFile) -> bool:
    """Say whether `check_video` finds nothing wrong."""
    try:
        check_video(lab, video)
    except InputError:
        return False
    return True


def pictures_of(lab: Lab, video: VideoFile, frames: Sequence[int]) -> Iterator[tuple[int, np.ndarray]]:
    """Give *frames*, counted from the file's first one, with their pictures, (height, width, 3) uint8 RGB, upright, whatever the crop.

    Raises
    ------
    InputError
        The video does not open, or ends before one of them.
    """
    rate, count = video.source.recording.video_rate, video.file.frame_count
    yield from each_frame(video.file.resolve(lab.root), frames, rate=rate, frame_count=count)


def folder_of_labels(lab: Lab, video: VideoFile, labeled_data: Path) -> str | None:
    """Return the folder of a project's labeled-data whose pictures are frames of this very video, None where there is none.

    Folders that bear the video's name are looked at; some of their pictures are compared with the frames of those numbers.
    """
    folders = sorted(path for path in labeled_data.iterdir() if path.is_dir()) if labeled_data.is_dir() else []
    for folder in folders:
        if not may_be_of(folder.name, video.file, video.source.session):
            continue
        images = {
            number: path
            for path in sorted(folder.glob("*.png"), key=lambda path: natural_key(path.name))
            if (number := frame_number(path.name)) is not None and number < video.file.frame_count
        }
        numbers = sorted(images)
        looked_at = sorted(
            {numbers[at] for at in np.linspace(0, len(numbers) - 1, _PROOFS).astype(int)} if numbers else []
        )
        for number, picture in pictures_of(lab, video, looked_at):
            try:
                if shows_the_same(images[number], picture):
                    return folder.name
            except (OSError, SyntaxError, ValueError):  # a picture that cannot be read proves nothing
                continue
    return None
