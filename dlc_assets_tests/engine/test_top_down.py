"""A top-down network and its detector, really trained, and what they find: as DeepLabCut's own analysis does."""

from __future__ import annotations

import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from dlc_assets.engine.chatter import chatter_logged
from dlc_assets.engine.estimator import Estimator
from dlc_assets.engine.network_training import EpochStats, TrainedNetwork, configured, train_network
from dlc_assets.engine.weights import WeightsSource, initial_detector_weights, initial_weights
from dlc_assets.engine.workspace import ProjectContent, make_training_dataset
from dlc_assets.lab.errors import InputError, SettingsError
from dlc_assets.lab.lab import open_lab_folder
from dlc_assets.lab.settings import DynamicCropping
from dlc_assets.training.benchmark import seen_frames
from dlc_assets.training.dataset import make_dataset
from dlc_assets.training.imported import import_model
from dlc_assets.training.models import current_version, damage_of
from dlc_assets_tests.engine.test_engine import BODYPARTS, HEIGHT, WIDTH, picture

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

FRAMES = 5
SMALL = {
    "model.backbone.model_name": "resnet18",
    **{f"data.{use}.top_down_crop.{side}": 64 for use in ("train", "inference") for side in ("width", "height")},
}


@dataclass(frozen=True)
class Trained:
    project: Path
    network: TrainedNetwork
    epochs: list[EpochStats]
    images: list[Path]
    estimator: Estimator


@pytest.fixture(scope="module")
def trained(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    base, images = tmp_path_factory.mktemp("top-down"), []
    epochs: list[EpochStats] = []
    for index in range(4):
        image, positions = picture(index)
        source = base / f"{index}.png"
        Image.fromarray(image).save(source)
        images.append(("video", source.name, source, positions))
    content = ProjectContent("toy", "Ann", "2026-01-01", BODYPARTS, (), 0.6, images, train=[0, 1, 2], validation=[3])
    project = base / "project"
    project.mkdir()
    with chatter_logged(), warnings.catch_warnings():
        warnings.filterwarnings("error", message="Be careful")  # of flipped pictures, which are right for a detector
        made = make_training_dataset(project, content, net_type="top_down_resnet_50")
        config = configured(made["pytorch_config"], SMALL)
        weights = initial_weights(config, WeightsSource("random"), base / "init.pt", seed=3)
        detector = initial_detector_weights(config, WeightsSource("random"), base / "detector.pt", seed=3)
        assert detector is not None
        network = train_network(
            project,
            weights_file=weights.file,
            detector_weights_file=detector.file,
            epochs=1,
            batch_size=2,
            detector_epochs=2,
            detector_batch_size=3,
            save_epochs=1,
            seed=3,
            pytorch_config=SMALL,
            device="cpu",
            on_epoch=epochs.append,
        )
        estimator = Estimator(network.pytorch_config_file, network.snapshot, device="cpu", detector=network.detector)
    return Trained(project, network, epochs, [image[2] for image in images], estimator)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "toy.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for index in range(FRAMES):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(50 + index)[0], format="rgb24")))
        container.mux(stream.encode())
    return path


def test_the_detector_is_trained_first_and_both_are_there(trained: Trained) -> None:
    assert [(each.stage, each.epoch, each.epochs) for each in trained.epochs] == [
        ("detector", 1, 2),
        ("detector", 2, 2),
        ("pose", 1, 1),
    ]
    assert all(np.isfinite(each.train_loss) for each in trained.epochs)
    assert trained.network.detector is not None
    assert trained.network.detector.name.startswith("snapshot-detector-")
    assert trained.network.detector_epoch in (1, 2)
    assert trained.network.snapshot.name == "snapshot-best-001.pt"
    assert trained.network.detector not in trained.network.other_snapshots.values()


def test_poses_are_those_of_deeplabcuts_own_analysis(trained: Trained, video: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings(), chatter_logged():
        warnings.simplefilter("ignore")
        import deeplabcut

        deeplabcut.analyze_videos(
            trained.project / "config.yaml", [str(video)], destfolder=tmp_path, batch_size=1, device="cpu"
        )
    table = pd.read_hdf(next(tmp_path.glob("*.h5")))
    theirs = table.to_numpy().reshape(FRAMES, 1, len(BODYPARTS), 3)
    ours = trained.estimator.estimate_video(video)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-3)
    assert "top-down" in trained.estimator.why_not_fast
    assert trained.estimator.resumable


def test_imported_with_its_detector_it_finds_the_same(trained: Trained, tmp_path: Path) -> None:
    root = tmp_path / "lab"
    shutil.copytree(trained.project, root / "projects" / "toy")
    (root / "models").mkdir()
    (root / "lab.yaml").write_text(
        "name: Toy lab\nrecordings: [{root: recordings, template: '{subject}/{session}/{camera}.mp4'}]\n"
    )
    (root / "models" / "td.yaml").write_text("project: toy\nimport: {}\n")
    lab = open_lab_folder(root)
    make_dataset(lab, "td", run_id="", log=lambda _: None)
    version, _ = import_model(lab, "td", run_id="", log=lambda _: None)
    assert version.detector is not None
    assert version.card["detector"]["epoch"] == trained.network.detector_epoch
    assert damage_of(version, thorough=True) == ""
    again = Estimator(version.pytorch_config, version.snapshot_file(None), device="cpu", detector=version.detector)
    np.testing.assert_array_equal(
        again.estimate_images(trained.images), trained.estimator.estimate_images(trained.images)
    )
    assert {image for _, image in seen_frames(lab, version)} == {f"{number}.png" for number in range(4)}
    # Another network's detector is refused before anything is stored.
    (train,) = (root / "projects/toy/dlc-models-pytorch").glob("iteration-0/*/train")
    (detector,) = train.glob("snapshot-detector-best-*.pt")
    shutil.copyfile(train / trained.network.snapshot.name, detector)
    with pytest.raises(InputError, match="do not make a network"):
        import_model(lab, "td", run_id="", log=lambda _: None)
    assert current_version(lab.layout, "td") == version


def test_a_crop_is_added_back_and_groups_do_not_change_poses(
    trained: Trained, video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained.estimator.estimate_video(video, crop=(20, 140, 0, 90))
    monkeypatch.setattr("dlc_assets.engine.runner._BATCHES_A_CALL", 2)
    np.testing.assert_array_equal(trained.estimator.estimate_video(video, crop=(20, 140, 0, 90)), whole)


def test_where_the_detector_finds_nothing_there_is_no_pose(trained: Trained, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = trained.estimator._runner
    boxes_of = type(runner)._boxes
    everywhere = trained.estimator.estimate_images(trained.images)

    def blind(self: Any, pictures: list[np.ndarray], batch_size: int) -> list[dict[str, Any]]:
        found = boxes_of(self, pictures, batch_size)
        for index in (0, 3):  # the last one, too, which DeepLabCut's runner would lose
            found[index] = {"bboxes": np.zeros((0, 4)), "bbox_scores": np.zeros(0)}
        return found

    monkeypatch.setattr(type(runner), "_boxes", blind)
    poses = trained.estimator.estimate_images(trained.images)
    assert np.isnan(poses[[0, 3], ..., :2]).all()
    assert (poses[[0, 3], ..., 2] == 0).all()
    np.testing.assert_array_equal(poses[[1, 2]], everywhere[[1, 2]])


def test_a_detector_that_is_missing_or_of_another_network_is_named(trained: Trained, tmp_path: Path) -> None:
    config, snapshot = trained.network.pytorch_config_file, trained.network.snapshot
    with pytest.raises(
        InputError, match=r"no snapshot .*detector\.pt of the detector, which this top-down network needs"
    ):
        Estimator(config, snapshot, device="cpu")
    with pytest.raises(InputError, match=r"The detector of .* cannot be loaded with the weights"):
        Estimator(config, snapshot, device="cpu", detector=snapshot)
    with pytest.raises(SettingsError, match="Dynamic cropping is for bottom-up networks"):
        Estimator(config, snapshot, device="cpu", dynamic=DynamicCropping(), detector=trained.network.detector)
