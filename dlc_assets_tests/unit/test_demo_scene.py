"""The demo lab: its pictures show what its truth says, and its files are those of a lab."""

from __future__ import annotations

from datetime import timedelta
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from dlc_assets.demo.files import DemoRecording, write_demo_project, write_demo_recordings
from dlc_assets.demo.scene import BODYPARTS, SKELETON, Scene, SceneSettings, draw_spot
from dlc_assets.video.frames import read_frames
from dlc_assets.video.probe import probe_video


def settings(frames: int = 12, seed: int = 3, subject_seed: int = 0, **size: int) -> SceneSettings:
    return SceneSettings(frames=frames, fps=Fraction(2), seed=seed, subject_seed=subject_seed, **size)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lab")


@pytest.fixture(scope="module")
def recordings(lab: Path) -> list[DemoRecording]:
    return write_demo_recordings(lab, seconds_per_session=1.0)


@pytest.fixture(scope="module")
def project(lab: Path) -> Path:
    return write_demo_project(lab, labeled_frames=26)


@pytest.mark.parametrize(("x", "y"), [(10.0, 12.0), (10.3, 12.0), (9.5, 11.75), (14.99, 8.01)])
@pytest.mark.parametrize("radius", [1.15, 2.6, 5.0])
def test_a_spot_lies_where_its_coordinates_say(x: float, y: float, radius: float) -> None:
    picture = np.zeros((24, 28, 3), dtype=np.float32)
    draw_spot(picture, x, y, radius, np.full(3, 100.0, dtype=np.float32))
    rows, columns = np.mgrid[0:24, 0:28]
    weight = picture[..., 0] / picture[..., 0].sum()
    assert (columns * weight).sum() == pytest.approx(x, abs=0.06)
    assert (rows * weight).sum() == pytest.approx(y, abs=0.06)
    assert picture[..., 0].sum() / 100 == pytest.approx(np.pi * radius**2, rel=0.1)


def test_the_left_ear_of_the_picture_lies_where_the_truth_says() -> None:
    scene = Scene(settings(frames=40, subject_seed=1))
    ear = np.array([232, 176, 164])
    offsets = []
    for picture, points, visible in scene.frames():
        x, y = points[BODYPARTS.index("leftear")]
        column, row = round(x), round(y)
        if not visible.all():
            continue
        near = picture[row - 6 : row + 7, column - 6 : column + 7].astype(float)
        rows, columns = np.mgrid[row - 6 : row + 7, column - 6 : column + 7]
        weight = np.clip(1 - np.abs(near - ear).max(axis=2) / 60, 0, 1)
        offsets.append([(columns * weight).sum() / weight.sum() - x, (rows * weight).sum() / weight.sum() - y])
    assert len(offsets) > 15
    assert np.abs(np.median(offsets, axis=0)).max() < 0.25


def test_left_and_right_are_the_animals_own() -> None:
    for _, points, _ in Scene(settings(frames=20)).frames():
        snout, left, right, _, _ = points
        middle = (left + right) / 2
        ahead, aside = snout - middle, left - right
        assert ahead[0] * aside[1] - ahead[1] * aside[0] < 0  # y points down: the left ear is counter-clockwise


def test_equal_settings_give_equal_frames_and_other_seeds_others() -> None:
    def first(**changed: int) -> np.ndarray:
        return next(Scene(settings(**changed)).frames())[0]

    np.testing.assert_array_equal(first(), first())
    assert (first() != first(seed=4)).mean() > 0.5
    assert (first() != first(subject_seed=1)).mean() > 0.5


def test_the_animal_moves_turns_bends_and_is_partly_hidden() -> None:
    scene = Scene(SceneSettings(frames=600, fps=Fraction(10), seed=1, subject_seed=0))
    postures = scene.postures()
    places = np.array([[p.x, p.y] for p in postures])
    assert (places.std(axis=0) > 15).all()
    assert (places.min(axis=0) > 40).all()
    assert (places.max(axis=0) < [216, 152]).all()
    headings = np.array([p.heading for p in postures])
    assert np.histogram(headings % (2 * np.pi), bins=4, range=(0, 2 * np.pi))[0].min() > 30
    assert np.ptp([p.bend for p in postures]) > 0.02
    speeds = np.hypot(*np.diff(places, axis=0).T) * 10
    assert np.quantile(speeds, 0.05) < 8
    assert np.quantile(speeds, 0.9) > 40
    hidden = np.array([~scene._visible(scene._points(*scene._spine(p))) for p in postures])
    assert (hidden.mean(axis=0) > 0.01).all()
    assert (hidden.mean(axis=0) < 0.4).all()


@pytest.mark.parametrize(("width", "height"), [(256, 192), (320, 256), (130, 98)])
def test_body_parts_stay_in_the_picture_whatever_its_size(width: int, height: int) -> None:
    for picture, points, visible in Scene(settings(frames=10, width=width, height=height)).frames():
        assert picture.shape == (height, width, 3)
        assert picture.dtype == np.uint8
        assert points.shape == (len(BODYPARTS), 2)
        assert visible.shape == (len(BODYPARTS),)
        assert (points >= 0).all()
        assert (points <= [width - 1, height - 1]).all()


def test_hidden_body_parts_are_under_the_roof_or_the_rail() -> None:
    scene = Scene(SceneSettings(frames=60, fps=Fraction(4), seed=1, subject_seed=0))
    for _, points, visible in scene.frames():
        for (x, y), seen in zip(np.round(points).astype(int), visible, strict=True):
            cover = scene._cover_alpha[y, x, 0]
            assert cover < 1 if seen else cover > 0


def test_recordings_are_videos_whose_every_frame_has_its_truth(recordings: list[DemoRecording], lab: Path) -> None:
    assert [(r.subject, r.session) for r in recordings] == [
        ("m01", "20260501"),
        ("m01", "20260502"),
        ("m02", "20260501"),
    ]
    for recording in recordings:
        video = probe_video(recording.video)
        assert recording.video == lab / "recordings" / recording.subject / recording.session / "top.mp4"
        assert (video.width, video.height, video.codec, video.problems) == (256, 192, "h264", ())
        assert (video.frame_count, video.rate, video.regular) == (recording.frame_count, recording.rate, True)
        assert video.creation_time == recording.start
        truth = pd.read_parquet(recording.truth)
        assert list(truth.columns) == ["frame", "bodypart", "x", "y", "visible"]
        assert [str(kind) for kind in truth.dtypes] == ["int32", "object", "float32", "float32", "bool"]
        assert len(truth) == recording.frame_count * len(BODYPARTS)
        assert lab / "recordings" not in recording.truth.parents
    assert Fraction(30000, 1001) in {recording.rate for recording in recordings}


def test_a_session_yaml_lies_beside_each_recording(recordings: list[DemoRecording]) -> None:
    for recording in recordings:
        stated = yaml.safe_load((recording.video.parent / "session.yaml").read_text())
        assert set(stated) == {"start", "description"}
        assert stated["start"] == recording.start
        assert stated["start"].utcoffset() == timedelta(hours=2)


def test_the_truth_fits_the_encoded_video(recordings: list[DemoRecording]) -> None:
    recording = recordings[0]
    truth = pd.read_parquet(recording.truth).set_index(["frame", "bodypart"])
    picture = read_frames(recording.video, [10])[10]
    body, wall = truth.loc[(10, "bodycenter")], picture[2, 2]
    fur = picture[round(float(body.y)), round(float(body.x))]
    assert bool(body.visible)
    assert fur.astype(int).sum() < wall.astype(int).sum()


def test_the_project_is_labeled_as_deeplabcut_leaves_it(project: Path) -> None:
    config = yaml.safe_load((project / "config.yaml").read_text())
    assert config["bodyparts"] == list(BODYPARTS)
    assert config["skeleton"] == [list(bone) for bone in SKELETON]
    folders = sorted((project / "labeled-data").iterdir())
    assert [folder.name for folder in folders] == sorted(Path(video).stem for video in config["video_sets"])
    labeled = 0
    for folder in folders:
        labels = pd.read_hdf(folder / "CollectedData_Demo.h5")
        text = pd.read_csv(folder / "CollectedData_Demo.csv", header=[0, 1, 2], index_col=[0, 1, 2])
        np.testing.assert_allclose(labels.to_numpy(), text.to_numpy())
        assert labels.columns.names == ["scorer", "bodyparts", "coords"]
        assert list(labels.columns.get_level_values("bodyparts").unique()) == list(BODYPARTS)
        for row in labels.index:
            assert Image.open(project.joinpath(*row)).size == (256, 192)
        assert len(labels) == len(list(folder.glob("*.png")))
        labeled += len(labels)
    assert labeled == 26


def test_hidden_body_parts_have_no_label(project: Path) -> None:
    tables = [pd.read_hdf(path) for path in (project / "labeled-data").glob("*/*.h5")]
    missing = np.isnan(np.concatenate([table.to_numpy() for table in tables]))
    assert 0.01 < missing.mean() < 0.4
    np.testing.assert_array_equal(missing[:, ::2], missing[:, 1::2])


def test_a_project_is_not_written_over(project: Path, lab: Path) -> None:
    with pytest.raises(FileExistsError):
        write_demo_project(lab, labeled_frames=4)
    assert project.is_dir()
