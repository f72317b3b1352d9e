"""Which recording of a bundle a video is: told by its content, never by its name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from dlc_assets.bundles.content import Bundle, BundledPoses, BundledVideo
from dlc_assets.lab.errors import InputError, NotFoundError, SettingsError, did_you_mean
from dlc_assets.lab.files import sha256_file, size_words


def match_videos(
    bundle: Bundle, videos: Sequence[Path], recording: str | None, log: Callable[[str], None]
) -> list[tuple[BundledPoses, list[Path]]]:
    """Return the poses of *bundle* that were made from *videos*, each with its files in order.

    Parameters
    ----------
    recording
        Only this one; None: each whose videos are given.

    Raises
    ------
    NotFoundError
        There is no such file, or no such recording.
    InputError
        A file is none of the videos that the poses were made from, or a recording's other files are not given.
    SettingsError
        No video is given, or one of another recording than *recording*.
    """
    known = bundle.recordings()
    if recording is not None and recording not in known:
        raise NotFoundError(
            f'the bundle of {bundle.session} has no recording "{recording}".{did_you_mean(recording, known)} It has: '
            f"{', '.join(known)}."
        )
    if not videos:
        raise SettingsError(f"which video? Give --video with {_names(bundle.poses[0].videos)}.")
    by_hash = _hashed(bundle, videos, log)
    of = [poses for poses in bundle.poses if any(video.sha256 in by_hash for video in poses.videos)]
    chosen = [poses for poses in of if recording in {None, poses.recording}]
    used = {video.sha256 for poses in chosen for video in poses.videos}
    for sha256, path in by_hash.items():
        if sha256 not in used:
            its = next(poses.recording for poses in of if sha256 in {video.sha256 for video in poses.videos})
            raise SettingsError(f'{path} is a video of the recording "{its}", not of "{recording}".')
    return [(poses, _in_order(poses, by_hash)) for poses in chosen]


def _hashed(bundle: Bundle, videos: Sequence[Path], log: Callable[[str], None]) -> dict[str, Path]:
    """Return *videos* by their sha256; each is one that the bundle names."""
    named = {video.sha256: video for poses in bundle.poses for video in poses.videos}
    by_hash = {}
    for path in videos:
        if not path.is_file():
            raise NotFoundError(f"there is no video {path}.")
        log(f"hashing {path} ({size_words(path.stat().st_size)})")
        sha256 = sha256_file(path)
        if sha256 not in named:
            listed = "\n  ".join(f"{video.name}: sha256 {video.sha256}{_sized(video)}" for video in named.values())
            raise InputError(
                f"{path} is not a video that these poses were made from: its sha256 is {sha256} ({path.stat().st_size} bytes), and the "
                f"bundle of {bundle.session} names\n  {listed}\nA video that was encoded, cut or repaired again is another video: give "
                "the original file."
            )
        by_hash[sha256] = path
    return by_hash


def _sized(video: BundledVideo) -> str:
    return "" if video.size is None else f" ({video.size} bytes)"


def _in_order(poses: BundledPoses, by_hash: dict[str, Path]) -> list[Path]:
    missing = [video for video in poses.videos if video.sha256 not in by_hash]
    if missing:
        raise InputError(
            f'the recording "{poses.recording}" is in {len(poses.videos)} files, and {_names(missing)} is not given: name all of them, '
            "each with --video."
        )
    return [by_hash[video.sha256] for video in poses.videos]


def _names(videos: Sequence[BundledVideo]) -> str:
    return ", ".join(dict.fromkeys(video.name for video in videos))
