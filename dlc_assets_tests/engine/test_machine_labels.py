"""The folder of frames to label is the one that DeepLabCut's own extraction of outlier frames writes from the same poses."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from dlc_assets.demo.files import encode_video
from dlc_assets.labeling.dlc_folder import MACHINE_CSV, machine_file_name, machine_labels, picture_name, write_labels
from dlc_assets.poses.formats import tracks_to_dlc
from dlc_assets.poses.schema import Track
from dlc_assets.training.project import read_project
from dlc_assets.video.frames import read_frames

pytestmark = pytest.mark.slow

FRAMES, PICKED = 30, [4, 17, 23]
SCORER = "DLC_Resnet18_walkingJan1shuffle1"


def config_of(project: Path, multianimal: bool) -> dict[str, Any]:
    parts = ["nose", "tail base"]
    animals = {"multianimalbodyparts": parts, "individuals": ["a", "b"], "uniquebodyparts": [], "bodyparts": "MULTI!"}
    return {
        "scorer": "Ann",
        "project_path": str(project),
        "iteration": 3,
        "multianimalproject": multianimal,
        **(animals if multianimal else {"bodyparts": parts}),
        "pcutoff": 0.6,
        "start": 0,
        "stop": 1,
        "numframes2pick": len(PICKED),
        "cropping": False,
        "video_sets": {},
        "colormap": "viridis",
        "dotsize": 5,
        "alphavalue": 0.7,
    }


@pytest.mark.parametrize("multianimal", [False, True])
def test_the_same_poses_give_the_same_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, multianimal: bool) -> None:
    from deeplabcut.refine_training_dataset import outlier_frames
    from deeplabcut.utils import frameselectiontools

    random = np.random.default_rng(1)
    pictures = (
        np.kron(random.integers(0, 255, (12, 16, 3)), np.ones((8, 8, 1))).astype(np.uint8) for _ in range(FRAMES)
    )
    video = tmp_path / "top.mp4"
    encode_video(video, pictures, Fraction(25))
    config = config_of(tmp_path, multianimal)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    tracks = [
        Track(animal, part, *random.uniform(10, 90, (2, FRAMES)).astype(np.float32), np.full(FRAMES, 0.9, np.float32))
        for animal in (("a", "b") if multianimal else ("",))
        for part in ("nose", "tail base")
    ]
    monkeypatch.setattr(frameselectiontools, "UniformFramescv2", lambda *_: PICKED)
    monkeypatch.setattr(outlier_frames, "attempt_to_add_video", lambda **_: True)  # needs a whole project
    outlier_frames.ExtractFramesbasedonPreselection(
        range(FRAMES),
        "uniform",
        tracks_to_dlc(tracks, scorer=SCORER),
        str(video),
        config,
        str(tmp_path),
        savelabeled=False,
    )
    theirs = tmp_path / "labeled-data" / "top"
    names = [picture_name(frame, FRAMES) for frame in PICKED]
    machine = machine_file_name(3)
    assert sorted(path.name for path in theirs.iterdir()) == [*names, machine, MACHINE_CSV]
    poses = [
        {
            (track.individual, track.bodypart): np.array([track.x[at], track.y[at], track.likelihood[at]])
            for track in tracks
        }
        for at in PICKED
    ]
    ours = tmp_path / "ours"
    ours.mkdir()
    labels = machine_labels(read_project(tmp_path), "top", names, poses, scorer=SCORER, pcutoff=0.6)
    write_labels(labels, ours / machine, ours / MACHINE_CSV)
    expected = pd.read_hdf(theirs / machine, key="df_with_missing")
    written = pd.read_hdf(ours / machine, key="df_with_missing")
    assert isinstance(expected, pd.DataFrame)
    assert isinstance(written, pd.DataFrame)
    pd.testing.assert_frame_equal(written, expected.astype(np.float64))
    header = 4 if multianimal else 3
    assert (ours / MACHINE_CSV).read_text().splitlines()[:header] == (theirs / MACHINE_CSV).read_text().splitlines()[
        :header
    ]
    decoded = read_frames(video, PICKED)
    for name, frame in zip(names, PICKED, strict=True):
        with Image.open(theirs / name) as image:
            assert np.array_equal(np.asarray(image), decoded[frame])
