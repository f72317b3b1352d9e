"""A lab of three short sessions and one labeled project, and stand-ins for what only a network can make.

Nothing here trains or estimates: versions and poses are written as the work layer would leave them, so that the tests of what
depends on what, and when, take milliseconds.
"""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from dlc_assets.demo.files import encode_video
from dlc_assets.inference.pose_tables import pose_inputs
from dlc_assets.lab.keys import pose_key
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.manifest import Manifest
from dlc_assets.poses.schema import PoseMetadata, Track
from dlc_assets.poses.table_file import write_pose_table
from dlc_assets.recordings.discovery import discover
from dlc_assets.recordings.info import need_session_info, read_times
from dlc_assets.recordings.session_recordings import record_session
from dlc_assets.training.models import ModelVersion, set_current

FIRST, SECOND, THIRD = SESSIONS = ("sub-m01_ses-20260501", "sub-m01_ses-20260502", "sub-m02_ses-20260501")
BODYPARTS = ["snout", "tailbase"]
VERSION = "0123456789ab"
LAB = """\
name: Test lab
timezone: Europe/Zurich
recordings: [{root: recordings, template: "{subject}/{session}/{camera}.mp4"}]
devices: {top: {description: above}, side: {}}
subjects: {m01: {species: Mus musculus, sex: F, date_of_birth: 2026-02-01}, m02: {species: Mus musculus}}
release: [{devices: [top], model: walker}]
analyze: {auto: true, settle_seconds: 30}
review: {auto: false}
"""
_LONG_AGO = 1_780_000_000


def video_of(session: str, camera: str = "top") -> str:
    """Return where the video of a session lies in the lab."""
    subject, day = session.removeprefix("sub-").split("_ses-")
    return f"recordings/{subject}/{day}/{camera}.mp4"


def film(path: Path, frames: int = 12, *, first: int = 0) -> Path:
    """Write a video that was finished long ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = (np.full((48, 64, 3), (first + number) * 3 % 256, np.uint8) for number in range(frames))
    encode_video(path, pictures, Fraction(25))
    os.utime(path, (_LONG_AGO, _LONG_AGO))
    return path


def write_small_lab(root: Path) -> None:
    """Write the lab: three sessions of one camera, a project of two labeled videos, models `walker` and `day2-walker`."""
    for number, session in enumerate(SESSIONS):
        video = film(root / video_of(session), first=12 * number)
        start = f"{'2026-05-02' if session == SECOND else '2026-05-01'}T10:00:00"
        (video.parent / "session.yaml").write_text(f"start: {start}\ndescription: open field\n")
    _write_project(root / "projects" / "walking")
    (root / "models").mkdir()
    (root / "models" / "walker.yaml").write_text("project: walking\n")
    (root / "models" / "day2-walker.yaml").write_text("project: walking\nlabel_set: {videos: [day2]}\n")
    (root / "lab.yaml").write_text(LAB)


def _write_project(project: Path) -> None:
    for number, folder in enumerate(("day1", "day2")):
        labeled = project / "labeled-data" / folder
        labeled.mkdir(parents=True)
        rows = []
        for at in range(6):
            Image.new("RGB", (64, 48), (number * 90, at * 40, 30)).save(labeled / f"img{at}.png")
            rows.append(f"labeled-data/{folder}/img{at}.png,{10 + at},20,{30 + at},25")
        (labeled / "CollectedData_Ann.csv").write_text(
            "scorer,Ann,Ann,Ann,Ann\nbodyparts,snout,snout,tailbase,tailbase\ncoords,x,y,x,y\n" + "\n".join(rows) + "\n"
        )
    config = {
        "Task": "walking",
        "scorer": "Ann",
        "date": "Jan1",
        "bodyparts": BODYPARTS,
        "skeleton": [],
        "pcutoff": 0.6,
    }
    (project / "config.yaml").write_text(yaml.safe_dump(config))


def relabel(project: Path, folder: str) -> None:
    """Move one label of one frame that models learn from, as a person would in the labeling tool."""
    labels = project / "labeled-data" / folder / "CollectedData_Ann.csv"
    text = labels.read_text()
    assert "/img5.png,15,20" in text
    labels.write_text(text.replace("/img5.png,15,20", "/img5.png,16,21"))


def record(lab: Lab, *sessions: str) -> None:
    """Probe *sessions* as `session_recordings` does."""
    found = discover(lab).sessions
    for session in sessions:
        record_session(lab, found[session], run_id="", log=lambda _: None)


def as_if_trained(lab: Lab, model: str = "walker", version: str = VERSION) -> ModelVersion:
    """Store a version of *model* without a network in it."""
    trained = ModelVersion(model, version, lab.layout.version(model, version))
    trained.folder.mkdir(parents=True)
    card: dict[str, Any] = {
        "project": "walking",
        "bodyparts": BODYPARTS,
        "skeleton": [],
        "individuals": [],
        "pcutoff": 0.6,
        "net_type": "resnet_50",
        "scorer": f"{model}_{version}",
        "dataset": "d1",
        "label_hash": "l1",
        "epoch": 1,
        "training": {},
        "specification": {},
        "training_seconds": 1.0,
    }
    Manifest(asset="trained_model", key=model, inputs={}, data_version=version, details=card).write(trained.folder)
    set_current(lab.layout, trained)
    return trained


def as_if_analysed(lab: Lab, *sessions: str, model: str = "walker", version: str = VERSION) -> None:
    """Store poses of *sessions*, all body parts at one place."""
    for session in sessions:
        info, _ = need_session_info(lab.layout, session)
        times = read_times(lab.layout, session, "top")
        tracks = [
            Track("", part, *(np.full(len(times), value, np.float32) for value in (20, 10, 0.9))) for part in BODYPARTS
        ]
        path = lab.layout.pose_file(model, version, session, "top")
        metadata = PoseMetadata(
            model=model, version=version, session=session, recording="top", frame_count=len(times), bodyparts=BODYPARTS
        )
        write_pose_table(path, tracks, times, metadata)
        row = {
            "recording": "top",
            "device": "top",
            "frames": len(times),
            "rows": len(times) * len(BODYPARTS),
            "seconds": 1.0,
            "data_version": f"poses of {session}",
            "mean_likelihood": dict.fromkeys(BODYPARTS, 0.9),
            "share_below_pcutoff": dict.fromkeys(BODYPARTS, 0.0),
        }
        Manifest(
            asset="pose_table",
            key=pose_key(model, session),
            inputs=pose_inputs(lab, model, info),
            data_version=f"poses of {session}",
            details={
                "model": model,
                "version": version,
                "session": session,
                "bodyparts": BODYPARTS,
                "pcutoff": 0.6,
                "inference": {},
                "recordings": [row],
                "frames": row["frames"],
                "rows": row["rows"],
            },
        ).write(path.parent)
