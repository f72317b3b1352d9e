"""A lab of sessions, versions and poses as the store keeps them, written without videos or networks: for releases and cohorts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from dlc_assets.inference.pose_tables import pose_inputs
from dlc_assets.lab.keys import pose_key, split_session_key
from dlc_assets.lab.lab import Lab, open_lab_folder
from dlc_assets.lab.manifest import Manifest
from dlc_assets.poses.schema import PoseMetadata, Track
from dlc_assets.poses.table_file import write_pose_table
from dlc_assets.recordings.info import RecordingInfo, SessionInfo, read_session_info
from dlc_assets.training.models import ModelVersion, set_current, version_of

TODAY = date(2026, 11, 24)
PARTS = ["snout", "tailbase"]
LAB = """\
name: Smith lab   # ours
timezone: Europe/Zurich
devices: {top: {}, side: {}}
subjects:
  m01: {tags: {group: control}}
  m02: {tags: {group: treated}}
"""


def write_lab(root: Path, text: str = LAB) -> Lab:
    """Write a lab folder with nothing but *text* as its lab.yaml, and open it."""
    root.mkdir(parents=True, exist_ok=True)
    (root / "lab.yaml").write_text(text, newline="")
    return open_lab_folder(root)


def reopened(lab: Lab) -> Lab:
    """Return the lab with its files as they are now."""
    return open_lab_folder(lab.root)


def add_session(
    lab: Lab, key: str, day: date | None, cameras: Sequence[str] = ("top",), tags: Mapping[str, Any] | None = None
) -> None:
    """Store what probing a session would: *cameras* are its recordings and their devices."""
    subject, label = split_session_key(key)
    recordings = [
        RecordingInfo(
            recording=camera,
            camera=camera,
            device=camera,
            files=[],
            width=64,
            height=48,
            codec="h264",
            pixel_format="yuv420p",
            rotation=0,
            rate="25",
            regular=True,
            frame_count=4,
            header_frame_count=4,
            duration=0.16,
            time_start=0.0,
            clock="video",
            content_hash=f"{key} {camera}",
        )
        for camera in cameras
    ]
    info = SessionInfo(
        session=key,
        session_label=label,
        session_source_name=label,
        subject=subject,
        subject_source_name=subject,
        start=None,
        start_source="",
        day=day,
        description="",
        experimenters=[],
        tags=dict(tags or {}),
        recordings=recordings,
    )
    folder = lab.layout.session_recordings(key)
    folder.mkdir(parents=True)
    Manifest(
        asset="session_recordings", key=key, inputs={}, data_version=key, details=info.model_dump(mode="json")
    ).write(folder)


def add_version(
    lab: Lab, model: str = "walker", weights: bytes = b"first", *, error: float | None = 3.0, frames: int = 40
) -> ModelVersion:
    """Store a version of *model* with *weights*, evaluated with a mean *error* (None: not evaluated), and make it current."""
    folder = lab.layout.model(model) / "new"
    folder.mkdir(parents=True)
    (folder / "snapshot.pt").write_bytes(weights)
    (folder / "pytorch_config.yaml").write_text("net_type: resnet_50\n")
    name = version_of(folder / "snapshot.pt", folder / "pytorch_config.yaml")
    version = ModelVersion(model, name, folder.rename(lab.layout.version(model, name)))
    card = {"bodyparts": PARTS, "pcutoff": 0.6, "dataset": "d1", "epoch": 1, "training": {}, "specification": {}}
    Manifest(asset="trained_model", key=model, inputs={}, data_version=name, details=card).write(version.folder)
    set_current(lab.layout, version)
    dataset = lab.layout.datasets(model) / "d1"
    dataset.mkdir(parents=True, exist_ok=True)
    sets = {"train": frames, "validation": 5, "benchmark": 5}
    Manifest(asset="training_dataset", key=model, inputs={}, data_version="d1", details={"sets": sets}).write(dataset)
    if error is not None:
        scored = {"n": 10, "rmse": error + 1, "rmse_pcutoff": error, "median_error": error}
        details = {"scoring_set": "benchmark", "pcutoff": 0.6, "benchmark": scored, "version": name}
        place = lab.layout.evaluation(model, name)
        place.mkdir()
        Manifest(
            asset="model_evaluation",
            key=model,
            inputs={"model": name, "dataset": "d1"},
            data_version="",
            details=details,
        ).write(place)
    return version


def add_poses(lab: Lab, version: ModelVersion, *keys: str, cameras: Sequence[str] = ("top",), x: float = 20.0) -> None:
    """Store poses of sessions by *version*: every body part of every frame at *x*, 10 px."""
    for key in keys:
        known = read_session_info(lab.layout, key)
        assert known is not None
        rows = []
        for camera in cameras:
            times = np.arange(4) / 25
            tracks = [Track("", part, *(np.full(4, value, np.float32) for value in (x, 10, 0.9))) for part in PARTS]
            path = lab.layout.pose_file(version.model, version.version, key, camera)
            metadata = PoseMetadata(
                model=version.model,
                version=version.version,
                session=key,
                recording=camera,
                frame_count=4,
                bodyparts=PARTS,
            )
            summary = write_pose_table(path, tracks, times, metadata)
            rows.append({"recording": camera, "device": camera, "frames": 4, "rows": 8, "data_version": str(summary)})
        Manifest(
            asset="pose_table",
            key=pose_key(version.model, key),
            inputs={**pose_inputs(lab, version.model, known[0]), "model": version.version},
            data_version=f"{int(x):012x}",
            details={"model": version.model, "version": version.version, "session": key, "recordings": rows},
        ).write(lab.layout.pose_folder(version.model, version.version, key))
