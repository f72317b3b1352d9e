"""Labs to kill processes in: copies of a small demo lab with a trained network and many short sessions, and what their poses must be."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from fractions import Fraction
from pathlib import Path

from benchmarks.inference_lab import say
from benchmarks.openfield import command
from benchmarks.resume import columns_hash
from dlc_assets.demo.files import CAMERA, encode_video
from dlc_assets.demo.run import MODEL, DemoSize, write_demo_lab
from dlc_assets.demo.scene import Scene, SceneSettings
from dlc_assets.inference.pose_tables import pose_files
from dlc_assets.lab.files import write_text
from dlc_assets.lab.keys import pose_key
from dlc_assets.lab.lab import Lab, open_lab_folder
from dlc_assets.lab.layout import LabLayout
from dlc_assets.state.stored import stored_manifest
from dlc_assets.training.models import current_version

FRAMES = 40  # of each session's video
_RATE = Fraction(30)
_SIZE = DemoSize(seconds_per_session=1.0, labeled_frames=96, epochs=12)  # the least that learns something
_FIRST = date(2026, 5, 1)
_ZONE = timezone(timedelta(hours=2))
_SUBJECTS = ("m01", "m02")
_BATCH = "inference: {batch_size: 8}\n"  # chosen by speed, it would differ from run to run, and the poses in their last digits
_STAGES = "review: {auto: false}\n"  # recordings, poses, NWB files
# The demo's settings, and these labs': a broken video is taken as it is at once, and what dies again and again is tried again soon.
_AUTO = "analyze: {auto: true, settle_seconds: 1}"
_PATIENT = "analyze: {auto: true, settle_seconds: 0, retries: {times: 50, pause_seconds: 0.1}}"


def session_key(number: int) -> str:
    """Return the key of session *number*, from 0."""
    subject, day = _names(number)
    return f"sub-{subject}_ses-{day}"


def _names(number: int) -> tuple[str, str]:
    day = _FIRST + timedelta(days=number // len(_SUBJECTS))
    return _SUBJECTS[number % len(_SUBJECTS)], day.strftime("%Y%m%d")


def need_trained_lab(folder: Path) -> Path:
    """Return the demo lab in *folder* with its network trained; both are made where they are missing."""
    lab = write_demo_lab(folder, _SIZE, say)
    if current_version(lab.layout, MODEL) is None:
        command(lab.root, "train", MODEL)
    return lab.root


def copy_lab(trained: Path, folder: Path) -> Path:
    """Make in *folder* a lab with the network of the demo lab *trained*, no recording, nothing made from one, and no instance."""
    made = LabLayout(trained)
    left_out = {made.recordings, made.poses, made.nwb, made.catalog, made.work, made.dagster_home}
    left_out |= {trained / "recordings", trained / "truth"}

    def skipped(place: str, names: list[str]) -> list[str]:
        return [name for name in names if Path(place) / name in left_out]

    shutil.copytree(trained, folder, symlinks=True, ignore=skipped)
    (folder / "recordings").mkdir()
    settings = folder / "lab.yaml"
    text = settings.read_text(encoding="utf-8")
    assert _AUTO in text
    write_text(settings, text.replace(_AUTO, _PATIENT) + _BATCH + _STAGES)
    return folder


def record(lab: Path, videos: Path, number: int, *, broken: bool = False) -> str:
    """Put session *number* into the recordings of *lab*, as a camera would; return its key.

    Parameters
    ----------
    videos
        Where rendered videos are kept.
    broken
        Leave out the second half of the file, with what a player needs to open it.
    """
    subject, day = _names(number)
    folder = lab / "recordings" / subject / day
    folder.mkdir(parents=True)
    start = datetime.strptime(day, "%Y%m%d").replace(hour=10, tzinfo=_ZONE)
    write_text(folder / "session.yaml", f"start: {start.isoformat()}\ndescription: rendered\n")
    content = _video(videos, number).read_bytes()
    (folder / f"{CAMERA}.mp4").write_bytes(content[: len(content) // 2] if broken else content)
    return session_key(number)


def _video(videos: Path, number: int) -> Path:
    video = videos / f"{number:04d}-{FRAMES}.mp4"
    if not video.is_file():
        videos.mkdir(parents=True, exist_ok=True)
        scene = Scene(SceneSettings(FRAMES, _RATE, seed=1000 + number, subject_seed=number % len(_SUBJECTS)))
        encode_video(video, (picture for picture, _, _ in scene.frames()), _RATE)
    return video


@dataclass(frozen=True)
class Poses:
    """What a pose table holds: its data version, and the sha256 of the values in its columns."""

    data_version: str
    columns: str


def unbroken_poses(trained: Path, folder: Path, videos: Path, numbers: Sequence[int]) -> Mapping[str, Poses]:
    """Analyse the sessions *numbers* in a lab of their own in *folder*, with nothing killed; return their poses by session."""
    lab = copy_lab(trained, folder)
    keys = [record(lab, videos, number) for number in numbers]
    command(lab, "analyze")
    opened = open_lab_folder(lab)
    poses = {key: stored_poses(opened, key) for key in keys}
    missing = [key for key, found in poses.items() if found is None]
    if missing:
        raise RuntimeError(f"not analysed, though nothing was killed: {', '.join(missing)}")
    return {key: found for key, found in poses.items() if found is not None}


def stored_poses(lab: Lab, session: str) -> Poses | None:
    """Return the poses of *session* in the store, None where there are none."""
    manifest = stored_manifest(lab, "pose_table", pose_key(MODEL, session))
    if manifest is None:
        return None
    (file,) = pose_files(lab, manifest)
    return Poses(manifest.data_version, columns_hash(file.path))
