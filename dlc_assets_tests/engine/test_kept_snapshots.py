"""Which of its snapshots DeepLabCut's training leaves, really trained for a few epochs."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from dlc_assets.engine.network_training import TrainedNetwork, configured, train_network
from dlc_assets.engine.weights import WeightsSource, initial_weights
from dlc_assets.engine.workspace import ProjectContent, make_training_dataset
from dlc_assets.lab.errors import SettingsError
from dlc_assets_tests.engine.test_engine import BODYPARTS, SMALL, picture

pytestmark = pytest.mark.slow
EPOCHS = 5


def trained(folder: Path, max_snapshots: int) -> TrainedNetwork:
    """Train a small network on four images, a snapshot each epoch."""
    images = []
    for index in range(4):
        image, positions = picture(index)
        source = folder / f"{index}.png"
        Image.fromarray(image).save(source)
        images.append(("day1", source.name, source, positions))
    content = ProjectContent(
        task="toy",
        scorer="Ann",
        date="2026-01-01",
        bodyparts=BODYPARTS,
        skeleton=(),
        pcutoff=0.6,
        images=images,
        train=[0, 1, 2],
        validation=(3,),
    )
    project = folder / "project"
    project.mkdir()
    made = make_training_dataset(project, content, net_type="resnet_50")
    config = configured(made["pytorch_config"], SMALL)
    weights = initial_weights(config, WeightsSource("random"), folder / "init.pt", seed=3)
    return train_network(
        project,
        weights_file=weights.file,
        epochs=EPOCHS,
        batch_size=2,
        save_epochs=1,
        seed=3,
        pytorch_config=SMALL,
        device="cpu",
        on_epoch=lambda _: None,
        max_snapshots=max_snapshots,
    )


def test_the_newest_are_kept_beside_the_best_and_deeplabcut_is_told_how_many(tmp_path: Path) -> None:
    network = trained(tmp_path, max_snapshots=3)
    assert network.pytorch_config["runner"]["snapshots"]["max_snapshots"] == 3
    epochs = [epoch for epoch in range(1, EPOCHS + 1) if epoch != network.epoch]
    assert list(network.other_snapshots) == epochs[-2:]
    assert all(path.is_file() for path in network.other_snapshots.values())
    assert network.snapshot not in network.other_snapshots.values()
    assert network.last_snapshot in {network.snapshot, *network.other_snapshots.values()}


def test_one_is_the_best_alone_and_the_number_is_said_in_one_place(tmp_path: Path) -> None:
    network = trained(tmp_path, max_snapshots=1)
    assert network.other_snapshots == {}
    with pytest.raises(SettingsError, match=r"runner\.snapshots\.max_snapshots is set by `training: \{max_snapshots"):
        configured(network.pytorch_config, {"runner.snapshots.max_snapshots": 2})
