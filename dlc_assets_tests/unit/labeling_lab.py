"""A lab whose videos show a square that walks about, with poses of it that a test can spoil, and a project with a few labels."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from dlc_assets.demo.files import encode_video
from dlc_assets.lab.keys import pose_key
from dlc_assets.lab.lab import Lab, open_lab_folder
from dlc_assets.lab.manifest import Manifest
from dlc_assets.poses.schema import PoseMetadata, Track
from dlc_assets.poses.table_file import write_pose_table
from dlc_assets.recordings.info import need_session_info, read_times
from dlc_assets.training.models import ModelVersion, set_current
from dlc_assets_tests.conftest import use_lab
from dlc_assets_tests.graph.small_lab import record

FRAMES, RATE, WIDTH, HEIGHT = 200, 20, 160, 120
PARTS = ("snout", "leftear", "rightear", "tailbase")
FIRST, SECOND = "sub-m01_ses-day1", "sub-m02_ses-day1"
PCUTOFF = 0.6
_LONG_AGO = 1_780_000_000
_LAB = """\
name: Test lab
timezone: Europe/Zurich
recordings: [{root: recordings, template: "{subject}/{session}/{camera}.mp4"}]
devices: {top: {}}
subjects: {m01: {}, m02: {}}
"""


def place(frame: int) -> np.ndarray:
    """Return the square's middle (2,) in px: it walks round and round, and comes to no place twice in the same way."""
    return np.array([80 + (30 + 0.15 * frame) * np.cos(frame / 9), 60 + (20 + 0.1 * frame) * np.sin(frame / 9)]).round()


def picture(frame: int, floor: int = 60) -> np.ndarray:
    """Return (height, width, 3) uint8: the square on the floor."""
    shown = np.full((HEIGHT, WIDTH, 3), floor, np.uint8)
    x, y = place(frame).astype(int)
    shown[y - 9 : y + 10, x - 14 : x + 15] = 220
    return shown


def true_poses(frames: int = FRAMES) -> dict[str, np.ndarray]:
    """Return by body part (3, frames) float32: x, y, likelihood."""
    middle = np.array([place(frame) for frame in range(frames)])
    offset = {"snout": (14, 0), "leftear": (8, -9), "rightear": (8, 9), "tailbase": (-14, 0)}
    return {part: np.vstack([(middle + offset[part]).T, np.full(frames, 0.98)]).astype(np.float32) for part in PARTS}


def write_table(path: Path, poses: dict[str, np.ndarray], *, times: np.ndarray | None = None, **stated: str) -> None:
    """Write poses of one animal as a pose table."""
    frames = next(iter(poses.values())).shape[1]
    names = {"model": "walker", "version": "0123456789ab", "session": FIRST, "recording": "top", **stated}
    metadata = PoseMetadata(
        **names, frame_count=frames, bodyparts=list(poses), pcutoff=PCUTOFF, scorer=f"DLC_{names['model']}"
    )
    write_pose_table(
        path,
        [Track("", part, *values) for part, values in poses.items()],
        np.arange(frames) / RATE if times is None else times,
        metadata,
    )


@dataclass
class LabelingLab:
    """The lab at `root`."""

    root: Path

    @property
    def lab(self) -> Lab:
        """The lab, opened anew."""
        return open_lab_folder(self.root)

    @property
    def labeled_data(self) -> Path:
        return self.root / "projects" / "walking" / "labeled-data"

    def video(self, session: str) -> Path:
        subject, day = session.removeprefix("sub-").split("_ses-")
        return self.root / "recordings" / subject / day / "top.mp4"

    def analyse(
        self,
        session: str,
        spoil: Callable[[dict[str, np.ndarray]], None] = lambda poses: None,
        *,
        model: str = "walker",
        version: str = "0123456789ab",
        made: str = "2026-05-01T10:00:00+00:00",
    ) -> None:
        """Store poses of *session*, the true ones but for what *spoil* does to them."""
        layout = self.lab.layout
        poses = true_poses()
        spoil(poses)
        path = layout.pose_file(model, version, session, "top")
        write_table(
            path, poses, times=read_times(layout, session, "top"), model=model, version=version, session=session
        )
        row = {"recording": "top", "frames": FRAMES, "data_version": f"{version} {made}"}
        Manifest(
            asset="pose_table",
            key=pose_key(model, session),
            inputs={"model": version, "recordings": need_session_info(layout, session)[1].data_version},
            data_version=f"{version} {made}",
            details={"model": model, "version": version, "session": session, "recordings": [row]},
            made=made,
        ).write(path.parent)

    def label(self, folder: str, numbers: list[int], shown: Callable[[int], np.ndarray], scorer: str = "Ann") -> None:
        """Write labeled pictures, as DeepLabCut's tools do."""
        labeled = self.labeled_data / folder
        labeled.mkdir(parents=True, exist_ok=True)
        poses = true_poses()
        rows = []
        for number in numbers:
            Image.fromarray(shown(number)).save(labeled / f"img{number:03}.png")
            rows.append([float(value) for part in PARTS for value in poses[part][:2, number]])
        columns = pd.MultiIndex.from_product([[scorer], PARTS, ["x", "y"]], names=["scorer", "bodyparts", "coords"])
        index = pd.MultiIndex.from_tuples([("labeled-data", folder, f"img{number:03}.png") for number in numbers])
        pd.DataFrame(rows, index=index, columns=columns).to_csv(labeled / f"CollectedData_{scorer}.csv")


def correct(folder: Path, scorer: str = "Ann") -> int:
    """Do what a person does in napari-deeplabcut: place what is missing, and save the machine labels as labels; return the rows."""
    (machine,) = folder.glob("machinelabels*.h5")
    table = pd.read_hdf(machine)
    assert isinstance(table, pd.DataFrame)
    labels = table.drop(columns="likelihood", level="coords").fillna(40.0)
    labels.columns = labels.columns.set_levels([scorer], level="scorer")
    labels.to_hdf(folder / f"CollectedData_{scorer}.h5", key="df_with_missing", mode="w")
    labels.to_csv(folder / f"CollectedData_{scorer}.csv")
    return len(labels)


def write_labeling_lab(root: Path) -> LabelingLab:
    """Write the lab: two sessions that are probed, a model that was trained on paper, and no poses yet."""
    lab = LabelingLab(root)
    root.mkdir()
    (root / "lab.yaml").write_text(_LAB)
    (root / "models").mkdir()
    (root / "models" / "walker.yaml").write_text("project: walking\n")
    for session, floor in ((FIRST, 60), (SECOND, 90)):
        video = lab.video(session)
        video.parent.mkdir(parents=True)
        encode_video(video, (picture(frame, floor) for frame in range(FRAMES)), Fraction(RATE))
        os.utime(video, (_LONG_AGO, _LONG_AGO))
    lab.label("elsewhere", [1, 2, 3, 4, 5, 6, 7, 8], lambda number: picture(number, floor=150))
    config = {
        "Task": "walking",
        "scorer": "Ann",
        "date": "Jan1",
        "bodyparts": list(PARTS),
        "skeleton": [],
        "pcutoff": PCUTOFF,
        "iteration": 2,
    }
    (lab.labeled_data.parent / "config.yaml").write_text(yaml.safe_dump(config))
    record(lab.lab, FIRST, SECOND)
    version = ModelVersion("walker", "0123456789ab", lab.lab.layout.version("walker", "0123456789ab"))
    version.folder.mkdir(parents=True)
    card = {"bodyparts": list(PARTS), "pcutoff": PCUTOFF, "skeleton": [], "dataset": "none"}
    Manifest(asset="trained_model", key="walker", inputs={}, data_version=version.version, details=card).write(
        version.folder
    )
    set_current(lab.lab.layout, version)
    return lab


def use(lab: LabelingLab, monkeypatch: pytest.MonkeyPatch) -> LabelingLab:
    """Make *lab* the one that commands find by themselves."""
    use_lab(lab.root, monkeypatch)
    return lab
