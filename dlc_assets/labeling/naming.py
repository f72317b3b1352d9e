"""What the folders of chosen frames are called: as DeepLabCut would, unless that name is, or may become, another video's."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable

from dlc_assets.labeling.videos import VideoFile


def shared_stems(videos: Iterable[VideoFile]) -> set[str]:
    """Return the names (without ending, lower case) that several video files have: every session may have a ``top.mp4``."""
    counted = Counter(video.stem.casefold() for video in videos)
    return {stem for stem, number in counted.items() if number > 1}


def folder_name(video: VideoFile, shared: Collection[str], taken: Collection[str]) -> str:
    """Return a name for the folder of *video* that none of *taken* has, upper and lower case being alike.

    It is the file's name; together with those of its session and animal where it is *shared* or *taken*, in an order by which the
    platform finds out later which video the labels are of; with a number after it where even that is taken.
    """
    used = {name.casefold() for name in taken}
    session = video.source.session
    of_session = f"{session.session_source_name}_{video.stem}"
    of_subject = f"{session.subject_source_name}_{of_session}" if session.subject_source_name else of_session
    names = [of_subject] if video.stem.casefold() in shared else [video.stem, of_subject]
    for name in names:
        if name.casefold() not in used:
            return name
    number = 2
    while f"{of_subject}_{number}".casefold() in used:
        number += 1
    return f"{of_subject}_{number}"
