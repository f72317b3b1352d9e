"""A top-down model version is its network and its detector; what a SuperAnimal brings counts where it should."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlc_assets.engine.detectors import DETECTOR, DETECTOR_STATS
from dlc_assets.engine.network_training import TrainedNetwork
from dlc_assets.engine.workspace import superanimal_bodyparts
from dlc_assets.lab.errors import InputError, SettingsError
from dlc_assets.lab.files import sha256_file
from dlc_assets.lab.lab import Lab, open_lab_folder
from dlc_assets.lab.manifest import Manifest
from dlc_assets.lab.specification import ModelSpecification
from dlc_assets.training.dataset import _with_all_bodyparts, chosen_network_of
from dlc_assets.training.labels import LabeledImage, LabelSet
from dlc_assets.training.models import ModelVersion, damage_of, version_of
from dlc_assets.training.train import _detector_card, _store, _weights_hash


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    root = tmp_path / "lab"
    root.mkdir()
    (root / "lab.yaml").write_text("name: Test lab\n")
    return open_lab_folder(root)


def trained(folder: Path, detector: str | None) -> TrainedNetwork:
    folder.mkdir()
    (folder / "snapshot-best-010.pt").write_text("weights")
    for name in ("learning_stats.csv", DETECTOR_STATS):
        (folder / name).write_text("step\n")
    if detector is not None:
        (folder / "snapshot-detector-best-005.pt").write_text(detector)
    return TrainedNetwork(
        snapshot=folder / "snapshot-best-010.pt",
        last_snapshot=folder / "snapshot-best-010.pt",
        epoch=10,
        pytorch_config={"net_type": "resnet_50"},
        pytorch_config_file=folder / "pytorch_config.yaml",
        learning_stats=folder / "learning_stats.csv",
        seconds=1.0,
        detector=folder / "snapshot-detector-best-005.pt" if detector else None,
        detector_epoch=5 if detector else None,
    )


def stored(lab: Lab, network: TrainedNetwork) -> ModelVersion:
    details: dict[str, Any] = {"epoch": 10, "training": {"epochs": 10}, "sha256": sha256_file(network.snapshot)}
    details["detector"] = _detector_card(network, "ssdlite")
    return _store(
        lab, Manifest(asset="trained_model", key="walker", inputs={}, data_version="", details=details), network
    )


def test_the_version_of_a_top_down_model_covers_its_detector(lab: Lab, tmp_path: Path) -> None:
    one, other = (stored(lab, trained(tmp_path / name, name)) for name in ("one", "other"))
    assert one.version != other.version
    assert one.detector == one.folder / DETECTOR
    assert one.detector.read_text() == "one"
    assert (one.folder / DETECTOR_STATS).is_file()
    assert one.card["detector"] == {"name": "ssdlite", "epoch": 5, "sha256": sha256_file(one.detector)}
    assert damage_of(one, thorough=True) == ""


def test_a_version_without_a_detector_is_named_as_before(lab: Lab, tmp_path: Path) -> None:
    plain = stored(lab, trained(tmp_path / "plain", None))
    assert plain.version == version_of(plain.snapshot, plain.pytorch_config)
    assert plain.detector is None
    assert plain.card["detector"] is None
    assert not (plain.folder / DETECTOR).exists()


def test_a_damaged_detector_is_named_when_the_network_is_used(lab: Lab, tmp_path: Path) -> None:
    version = stored(lab, trained(tmp_path / "one", "one"))
    assert version.snapshot_file("best") == version.snapshot
    (version.folder / DETECTOR).write_text("two")
    with pytest.raises(InputError, match=r"detector\.pt of walker@.* is damaged"):
        version.snapshot_file("best")
    assert "hash differs" in damage_of(version, thorough=True)
    (version.folder / DETECTOR).unlink()
    assert damage_of(version) == "detector.pt is missing"


def test_what_a_specification_starts_from_counts_only_where_it_matters(lab: Lab) -> None:
    def words(**settings: Any) -> str:
        return _weights_hash(lab, ModelSpecification(project="p", **settings))

    assert words(weights="imagenet", weights_part="backbone") == words(weights="imagenet") == "imagenet"
    assert words(weights="superanimal_bird") == "superanimal_bird"
    assert words(weights="superanimal_bird", weights_part="backbone") == "superanimal_bird, backbone only"


def test_memory_replay_labels_all_body_parts_of_the_superanimal(tmp_path: Path) -> None:
    specification = ModelSpecification(
        project="p", net_type="rtmpose_s", weights="superanimal_quadruped", memory_replay=True
    )
    image = LabeledImage("video", "1.png", tmp_path / "1.png", "Ann", np.array([[1.0, 2.0], [3.0, 4.0]]))
    labels = LabelSet(project=None, bodyparts=("tail_base", "nose"), images=(image,), counts=())  # type: ignore[arg-type]  # unused
    spread = _with_all_bodyparts(labels, chosen_network_of(specification))
    known = superanimal_bodyparts("superanimal_quadruped")
    assert list(spread.bodyparts) == known
    xy = spread.images[0].xy
    assert xy[known.index("tail_base")].tolist() == [1.0, 2.0]
    assert xy[known.index("nose")].tolist() == [3.0, 4.0]
    assert np.isnan(xy).all(axis=1).sum() == len(known) - 2
    with pytest.raises(SettingsError, match="paw"):
        _with_all_bodyparts(replace(labels, bodyparts=("tail_base", "paw")), chosen_network_of(specification))
