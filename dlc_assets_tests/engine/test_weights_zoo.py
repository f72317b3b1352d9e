"""Starting from a SuperAnimal, from another network's backbone, and the detector's first weights, with and without a model hub."""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from dlc_assets.engine.chatter import chatter_logged
from dlc_assets.engine.detectors import built_detector, coco_file
from dlc_assets.engine.estimator import Estimator
from dlc_assets.engine.memory_replay import MemoryReplay
from dlc_assets.engine.network_training import configured, train_network
from dlc_assets.engine.weights import WeightsReport, WeightsSource, initial_detector_weights, initial_weights
from dlc_assets.engine.workspace import ProjectContent, make_training_dataset, superanimal_bodyparts
from dlc_assets.lab.errors import EnvironmentProblem, InputError
from dlc_assets_tests.engine.test_engine import picture
from dlc_assets_tests.engine.test_net_types import loss_of_a_step

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

BODYPARTS = ("tail_base", "nose", "neck")  # in another order than the SuperAnimal's
MOUSE, QUADRUPED = "superanimal_topviewmouse", "superanimal_quadruped"
QUADRUPED_PARTS = ("tail_base", "nose", "neck_base")
MOUSE_NETWORK = "hrnet_w32"


def tensors(file: Path) -> dict[str, Any]:
    import torch

    content: dict[str, Any] = torch.load(file, weights_only=True)["model"]
    return content


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """DeepLabCut's folder of SuperAnimals, in a place of the test's, with no hub to be reached."""
    from deeplabcut.pose_estimation_pytorch.modelzoo import utils
    from huggingface_hub import constants

    folder = tmp_path_factory.mktemp("zoo")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(utils, "get_snapshot_folder_path", lambda: folder)
        patch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        yield folder


def put_superanimal(zoo: Path, superanimal: str, network: str, detector: str | None = None) -> None:
    """Put a SuperAnimal's architecture with random weights where a lab would put the downloaded file."""
    import torch
    from deeplabcut.pose_estimation_pytorch.config.pose import PoseConfig
    from deeplabcut.pose_estimation_pytorch.models.model import PoseModel

    with chatter_logged():
        torch.manual_seed(5)
        config = PoseConfig.build_for_superanimal_inference(
            superanimal, model_name=network, detector_name=detector, max_individuals=1
        )
        model = PoseModel.build(config.model.to_dict())
        for parameter in model.heads.parameters():
            torch.nn.init.normal_(parameter)  # so that every body part has numbers of its own
        torch.save({"model": model.state_dict()}, zoo / f"{superanimal}_{network}.pt")
        if detector is not None:
            found = built_detector(config.detector.model.to_dict(), 6)
            torch.save({"model": found.state_dict()}, zoo / f"{superanimal}_{detector}.pt")


@pytest.fixture(scope="module")
def mouse(zoo: Path) -> Path:
    put_superanimal(zoo, MOUSE, MOUSE_NETWORK)
    return zoo / f"{MOUSE}_{MOUSE_NETWORK}.pt"


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str, Path, np.ndarray]]:
    folder, random, found = tmp_path_factory.mktemp("images"), np.random.default_rng(1), []
    for index in range(4):
        source = folder / f"{index}.png"
        Image.fromarray(random.integers(0, 255, (96, 96, 3), dtype=np.uint8)).save(source)
        found.append(("video", source.name, source, random.uniform(20, 76, (3, 2))))
    return found


def configuration(images: list[Any], project: Path, bodyparts: tuple[str, ...] = BODYPARTS, **choice: Any) -> Any:
    """The pytorch_config of a training dataset made with these settings of a model specification."""
    content = ProjectContent("toy", "Ann", "2026-01-01", bodyparts, (), 0.6, images, train=[0, 1], validation=[2, 3])
    project.mkdir()
    with warnings.catch_warnings(), chatter_logged():
        warnings.simplefilter("ignore")
        return configured(make_training_dataset(project, content, **choice)["pytorch_config"], {})


def test_a_hub_that_cannot_be_reached_is_said_within_seconds_with_the_file_and_its_place(
    zoo: Path, images: list[Any], tmp_path: Path
) -> None:
    config = configuration(images, tmp_path / "project", net_type="resnet_50", weights=MOUSE)
    begun = time.monotonic()
    with pytest.raises(EnvironmentProblem) as error:
        initial_weights(config, WeightsSource("superanimal", superanimal=MOUSE), tmp_path / "init.pt", seed=1)
    assert time.monotonic() - begun < 8
    said = str(error.value)
    assert (
        "the file superanimal_topviewmouse_resnet_50.pt of mwmathis/DeepLabCutModelZoo-SuperAnimal-TopViewMouse" in said
    )
    assert f"at {zoo / 'superanimal_topviewmouse_resnet_50.pt'} " in said
    assert "127.0.0.1:9 cannot be reached" in said
    assert not (tmp_path / "init.pt").exists()


def test_the_heads_of_a_superanimal_are_taken_over_body_part_by_body_part(
    mouse: Path, images: list[Any], tmp_path: Path
) -> None:
    config = configuration(images, tmp_path / "project", net_type=MOUSE_NETWORK, weights=MOUSE)
    assert config["method"] == "bu"
    assert config["train_settings"].get("weight_init") is None, "it would name a path of this machine"
    report = initial_weights(config, WeightsSource("superanimal", superanimal=MOUSE), tmp_path / "init.pt", seed=1)
    assert report.missing == ()
    assert f"Weights ({MOUSE}): {len(report.loaded)} tensors loaded, 0 start" in report.summary
    theirs, ours = tensors(mouse), tensors(report.file)
    known = superanimal_bodyparts(MOUSE)
    rows = [known.index(name) for name in BODYPARTS]
    bias = "heads.bodypart.heatmap_head.deconv_layers.0.bias"
    assert (ours[bias] == theirs[bias][rows]).all()
    assert ours[bias].shape == (3,)
    backbone = [name for name in theirs if name.startswith("backbone.")]
    assert all((ours[name] == theirs[name]).all() for name in backbone)


def test_the_backbone_of_a_superanimal_goes_into_a_network_of_other_body_parts(
    mouse: Path, images: list[Any], tmp_path: Path
) -> None:
    choice = {"net_type": "top_down_hrnet_w32", "weights": MOUSE, "weights_part": "backbone"}
    config = configuration(images, tmp_path / "project", ("wing", "bill", "claw"), **choice)
    source = WeightsSource("superanimal", superanimal=MOUSE, backbone_only=True)
    report = initial_weights(config, source, tmp_path / "init.pt", seed=1)
    assert report.loaded
    assert all(name.startswith("backbone.") for name in report.loaded)
    assert all(name.startswith("heads.") for name in report.missing)
    assert f"({MOUSE}, backbone only)" in report.summary
    name = next(name for name in report.loaded if name.endswith("conv1.weight"))
    assert (tensors(report.file)[name] == tensors(mouse)[name]).all()


def test_a_top_down_superanimal_brings_its_detector_and_learns(zoo: Path, images: list[Any], tmp_path: Path) -> None:
    put_superanimal(zoo, QUADRUPED, "rtmpose_s", "ssdlite")
    project = tmp_path / "project"
    config = configuration(images, project, QUADRUPED_PARTS, net_type="rtmpose_s", weights=QUADRUPED)
    assert (config["method"], config["detector"]["model"]["type"]) == ("td", "SSDLite")
    source = WeightsSource("superanimal", superanimal=QUADRUPED)
    report = initial_weights(config, source, tmp_path / "init.pt", seed=1)
    known = superanimal_bodyparts(QUADRUPED)
    name = "heads.bodypart.final_layer.bias"
    theirs = tensors(zoo / f"{QUADRUPED}_rtmpose_s.pt")[name]
    assert (tensors(report.file)[name] == theirs[[known.index(part) for part in QUADRUPED_PARTS]]).all()
    detector = initial_detector_weights(config, source, tmp_path / "detector.pt", seed=1)
    assert isinstance(detector, WeightsReport)
    assert detector.missing == ()
    found, put = tensors(detector.file), tensors(zoo / f"{QUADRUPED}_ssdlite.pt")
    assert all((found[name] == put[name]).all() for name in put)
    with warnings.catch_warnings(), chatter_logged():
        warnings.simplefilter("ignore")
        loss, changed = loss_of_a_step(project, config)
    assert np.isfinite(loss)
    assert changed


def test_a_file_of_another_network_in_the_place_of_a_superanimal_is_named(
    mouse: Path, zoo: Path, images: list[Any], tmp_path: Path
) -> None:
    wrong = zoo / f"{MOUSE}_resnet_50.pt"
    wrong.write_bytes(mouse.read_bytes())
    try:
        config = configuration(images, tmp_path / "project", net_type="resnet_50", weights=MOUSE)
        for backbone_only in (False, True):
            source = WeightsSource("superanimal", superanimal=MOUSE, backbone_only=backbone_only)
            with pytest.raises(InputError, match=r"topviewmouse_resnet_50\.pt"):
                initial_weights(config, source, tmp_path / "init.pt", seed=1)
        wrong.write_text("half a download")
        with pytest.raises(InputError, match=r"topviewmouse_resnet_50\.pt cannot be read as weights"):
            initial_weights(config, source, tmp_path / "init.pt", seed=1)
    finally:
        wrong.unlink()


def test_a_snapshot_of_another_network_is_refused_and_its_own_backbone_can_be_had_alone(
    images: list[Any], tmp_path: Path
) -> None:
    plain = configuration(images, tmp_path / "project", net_type="resnet_50")
    small = configured(plain, {"model.backbone.model_name": "resnet18"})
    large = configured(plain, {"model.backbone.model_name": "resnet50"})
    before = initial_weights(small, WeightsSource("random"), tmp_path / "before.pt", seed=1)
    with pytest.raises(
        InputError, match=r"before\.pt is of another network: \d+% of the backbone fits.* there, .* here"
    ):
        initial_weights(large, WeightsSource("file", before.file), tmp_path / "init.pt", seed=2)
    whole = initial_weights(small, WeightsSource("file", before.file), tmp_path / "whole.pt", seed=2)
    part = initial_weights(small, WeightsSource("file", before.file, backbone_only=True), tmp_path / "part.pt", seed=2)
    assert whole.missing == ()
    assert part.missing == tuple(name for name in whole.loaded if name.startswith("heads."))
    was, now = tensors(before.file), tensors(part.file)
    assert (was["backbone.model.conv1.weight"] == now["backbone.model.conv1.weight"]).all()
    head = "heads.bodypart.heatmap_head.deconv_layers.0.weight"
    assert not (was[head] == now[head]).all()


def test_a_detector_starts_from_coco_by_a_file_of_torchvision(
    images: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from torchvision.models import detection

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr("dlc_assets.engine.weights._why_unreachable", lambda url, seconds: "no route to host")
    config = configuration(images, tmp_path / "project", net_type="top_down_cspnext_s")
    path, url = coco_file("ssdlite")
    with pytest.raises(EnvironmentProblem) as error:
        initial_detector_weights(config, WeightsSource("imagenet"), tmp_path / "init.pt", seed=1)
    assert f"{url} cannot be had: no route to host" in str(error.value)
    assert f"at {path} " in str(error.value)
    path.parent.mkdir(parents=True)
    everything = detection.ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=91)
    torch.save(everything.state_dict(), path)
    report = initial_detector_weights(config, WeightsSource("imagenet"), tmp_path / "init.pt", seed=1)
    assert report is not None
    assert "detector, trained on COCO" in report.summary
    found = tensors(report.file)
    trunk = {f"model.{name}": value for name, value in everything.state_dict().items() if name.startswith("backbone.")}
    assert all((found[name] == value).all() for name, value in trunk.items())
    path.write_text("half a download")
    with pytest.raises(InputError, match=r"cannot be read as the detector's weights.*Delete it"):
        initial_detector_weights(config, WeightsSource("imagenet"), tmp_path / "init.pt", seed=1)


def test_a_detector_goes_on_from_that_of_another_model(images: list[Any], tmp_path: Path) -> None:
    config = configuration(images, tmp_path / "project", net_type="top_down_cspnext_s")
    before = initial_detector_weights(config, WeightsSource("random"), tmp_path / "before.pt", seed=1)
    assert before is not None
    source = WeightsSource("file", tmp_path / "pose.pt", detector_path=before.file)
    report = initial_detector_weights(config, source, tmp_path / "init.pt", seed=2)
    assert report is not None
    assert report.missing == ()
    was, now = tensors(before.file), tensors(report.file)
    assert all((was[name] == now[name]).all() for name in was)


def test_memory_replay_learns_from_the_superanimals_own_estimates(zoo: Path, tmp_path: Path) -> None:
    """Body parts that nobody labeled are learned from what the SuperAnimal says of the training frames; labels stay labels."""
    put_superanimal(zoo, QUADRUPED, "rtmpose_s", "ssdlite")
    known = tuple(superanimal_bodyparts(QUADRUPED))
    labeled = ("nose", "tail_base", "neck_base")
    places = [known.index(name) for name in labeled]
    spread = []
    for index in range(4):
        image, positions = picture(index)
        source = tmp_path / f"{index}.png"
        Image.fromarray(image).save(source)
        xy = np.full((len(known), 2), np.nan)
        xy[places] = positions
        spread.append(("video", source.name, source, xy))
    project = tmp_path / "project"
    choice = {"net_type": "rtmpose_s", "weights": QUADRUPED, "memory_replay": True}
    config = configuration(spread, project, known, **choice)
    weights = WeightsSource("superanimal", superanimal=QUADRUPED)
    start = initial_weights(config, weights, tmp_path / "init.pt", seed=1, memory_replay=True)
    detector = initial_detector_weights(config, weights, tmp_path / "detector.pt", seed=1)
    assert detector is not None
    pose_file, detector_file = (zoo / f"{QUADRUPED}_{name}.pt" for name in ("rtmpose_s", "ssdlite"))
    network = train_network(
        project,
        weights_file=start.file,
        detector_weights_file=detector.file,
        epochs=1,
        batch_size=2,
        save_epochs=1,
        seed=1,
        pytorch_config={},
        device="cpu",
        on_epoch=lambda _: None,
        replay=MemoryReplay(QUADRUPED, pose_file, detector_file, known, labeled),
    )
    annotations = network.pytorch_config_file.parent / "memory_replay" / "annotations" / "memory_replay_train.json"
    taught = [np.reshape(each["keypoints"], (-1, 3)) for each in json.loads(annotations.read_text())["annotations"]]
    assert len(taught) == 2
    for keypoints in taught:
        shown = next(xy for _, _, _, xy in spread if np.allclose(xy[places], keypoints[places, :2]))
        assert np.isnan(np.delete(shown, places, axis=0)).all()
        others = np.delete(keypoints, places, axis=0)
        assert (others[:, 2] == 2).any(), "estimates of the SuperAnimal that are sure enough count as labels"
        assert (others[others[:, 2] == 2][:, :2] > 0).all()
    assert str(zoo) not in yaml.safe_dump(network.pytorch_config)
    poses = Estimator(
        network.pytorch_config_file, network.snapshot, device="cpu", detector=network.detector
    ).estimate_images([spread[0][2]])
    assert poses.shape == (1, 1, len(known), 3)
