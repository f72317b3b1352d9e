"""Every net_type of DeepLabCut: built from a model specification and trained one step, or refused with the reason."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dlc_assets.engine.chatter import chatter_logged
from dlc_assets.engine.detectors import built_detector, detector_of
from dlc_assets.engine.estimator import Estimator
from dlc_assets.engine.net_types import (
    DETECTORS,
    NET_TYPES,
    SUPERANIMALS,
    known_net_types,
)
from dlc_assets.engine.network_training import configured
from dlc_assets.engine.weights import WeightsSource, initial_weights
from dlc_assets.engine.workspace import (
    ProjectContent,
    make_training_dataset,
    pytorch_config_file,
    superanimal_bodyparts,
)
from dlc_assets.lab.errors import SettingsError

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]

BODYPARTS = ("snout", "tail", "left ear")
SIDE = 96  # px
# Small pictures, as far as the heads allow: RTMPose's and TokenPose's are made for one size.
CROP = {f"data.train.crop_sampling.{side}": 64 for side in ("width", "height")}
TOP_DOWN_CROP = {f"data.train.top_down_crop.{side}": 64 for side in ("width", "height")}
SIZE_IS_FIXED = ("rtmpose", "animaltokenpose")


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> ProjectContent:
    folder, random, images = tmp_path_factory.mktemp("images"), np.random.default_rng(1), []
    for index in range(4):
        source = folder / f"{index}.png"
        Image.fromarray(random.integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)).save(source)
        images.append(("video", source.name, source, random.uniform(20, SIDE - 20, (len(BODYPARTS), 2))))
    return ProjectContent("toy", "Ann", "2026-01-01", BODYPARTS, (), 0.6, images, train=[0, 1], validation=[2, 3])


def first_batch(project: Path, config: Any, task: Any) -> Any:
    """The first two training pictures, as DeepLabCut prepares them for this network."""
    from deeplabcut.pose_estimation_pytorch.data import build_transforms
    from deeplabcut.pose_estimation_pytorch.data.dlcloader import DLCLoader
    from torch.utils.data import DataLoader

    loader = DLCLoader(project / "config.yaml", shuffle=1)
    loader.model_cfg = config
    dataset = loader.create_dataset(build_transforms(config.data.train), mode="train", task=task)
    return next(iter(DataLoader(dataset, batch_size=2)))


def loss_of_a_step(project: Path, pytorch_config: dict[str, Any]) -> tuple[float, bool]:
    """Train the network one step in DeepLabCut's own runner; return the loss, and whether the weights have changed."""
    import torch
    from deeplabcut.pose_estimation_pytorch.config.pose import PoseConfig
    from deeplabcut.pose_estimation_pytorch.models.model import PoseModel
    from deeplabcut.pose_estimation_pytorch.runners.train import build_training_runner
    from deeplabcut.pose_estimation_pytorch.task import Task

    config = PoseConfig.from_dict(pytorch_config)
    task = Task(config.method)
    model = PoseModel.build(dict(config.model.to_dict()), pretrained_backbone=False)
    runner = build_training_runner(config.runner, project, task, model, "cpu")
    before = [parameter.detach().clone() for parameter in model.heads.parameters()]
    model.train()
    loss = float(runner.step(first_batch(project, config, task), mode="train")["total_loss"])
    changed = any(not torch.equal(was, now) for was, now in zip(before, model.heads.parameters(), strict=True))
    return loss, changed


def test_the_table_is_what_deeplabcut_lists() -> None:
    from deeplabcut.pose_estimation_pytorch import available_detectors, available_models
    from deeplabcut.pose_estimation_pytorch.config.utils import is_model_cond_top_down, is_model_top_down

    assert sorted(NET_TYPES) == sorted(available_models())
    assert sorted(DETECTORS) == sorted(available_detectors())
    for name, net in NET_TYPES.items():
        assert net.needs_detector == is_model_top_down(name), name
        assert (net.method == "conditional") == is_model_cond_top_down(name) == bool(net.refused), name


def test_the_superanimals_are_what_the_zoo_has() -> None:
    import dlclibrary  # type: ignore[import-untyped]  # no stubs

    assert sorted(SUPERANIMALS) == sorted(dlclibrary.get_available_datasets())
    for name, superanimal in SUPERANIMALS.items():
        assert sorted(superanimal.networks) == sorted(dlclibrary.get_available_models(name))
        assert sorted(superanimal.detectors) == sorted(dlclibrary.get_available_detectors(name))
        assert superanimal_bodyparts(name)


@pytest.mark.parametrize("net_type", known_net_types())
def test_a_network_is_built_and_trained_one_step(content: ProjectContent, tmp_path: Path, net_type: str) -> None:
    with warnings.catch_warnings(), chatter_logged():
        warnings.simplefilter("ignore")
        made = make_training_dataset(tmp_path, content, net_type=net_type)
        top_down = NET_TYPES[net_type].needs_detector
        crop = {} if net_type.startswith(SIZE_IS_FIXED) else TOP_DOWN_CROP if top_down else CROP
        loss, changed = loss_of_a_step(tmp_path, configured(made["pytorch_config"], crop))
    assert np.isfinite(loss)
    assert changed
    assert detector_of(made["pytorch_config"]) == ("ssdlite" if top_down else None)


@pytest.mark.parametrize("name", DETECTORS)
def test_a_detector_is_built_without_a_download_and_trained_one_step(
    content: ProjectContent, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from deeplabcut.pose_estimation_pytorch.config.pose import PoseConfig
    from deeplabcut.pose_estimation_pytorch.task import Task

    def no_network(*_: Any, **__: Any) -> None:
        raise AssertionError("torchvision wanted to download")

    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    with warnings.catch_warnings(), chatter_logged():
        warnings.simplefilter("ignore")
        made = make_training_dataset(tmp_path, content, net_type="top_down_cspnext_s", detector=name)
        config = PoseConfig.from_dict(made["pytorch_config"])
        detector = built_detector(made["pytorch_config"]["detector"]["model"], 1)
        if name != "ssdlite":
            detector.model.transform.min_size = (SIDE,)  # torchvision would enlarge the picture to 800 px
            detector.model.roi_heads.fg_bg_sampler.batch_size_per_image = 16  # and learn from 512 boxes
        batch = first_batch(tmp_path, config, Task.DETECT)
        detector.train()
        losses, _ = detector(batch["image"], detector.get_target(batch["annotations"]))
        sum(losses.values()).backward()
    assert detector_of(made["pytorch_config"]) == name
    assert np.isfinite([loss.item() for loss in losses.values()]).all()
    assert any(parameter.grad is not None and parameter.grad.any() for parameter in detector.parameters())


@pytest.mark.parametrize(
    ("net_type", "why"), [("dekr_w18", "DEKRHead"), ("dlcrnet_stride16_ms5", "PartAffinityFieldPredictor")]
)
def test_a_network_made_for_several_animals_gives_the_poses_of_one(
    content: ProjectContent, tmp_path: Path, net_type: str, why: str
) -> None:
    with chatter_logged():
        made = make_training_dataset(tmp_path, content, net_type=net_type)
    start = initial_weights(made["pytorch_config"], WeightsSource("random"), tmp_path / "init.pt", seed=1)
    estimator = Estimator(pytorch_config_file(tmp_path), start.file, device="cpu")
    poses = estimator.estimate_images([source for _, _, source, _ in content.images])
    assert poses.shape == (4, 1, len(BODYPARTS), 3)
    found = poses[..., 2] > 0
    assert np.isfinite(poses[found]).all()
    assert (np.isnan(poses[..., 0]) <= (poses[..., 2] == 0)).all(), "what was not found has likelihood 0"
    assert why in estimator.why_not_fast


def test_body_parts_that_a_superanimal_does_not_know_are_named(content: ProjectContent, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r'snout; tail.*left ear Did you mean "left_ear".*weights_part: backbone'):
        make_training_dataset(tmp_path, content, net_type="resnet_50", weights="superanimal_topviewmouse")
    assert list(tmp_path.iterdir()) == []


def test_a_backbone_alone_asks_for_no_body_parts(content: ProjectContent, tmp_path: Path) -> None:
    with chatter_logged():
        make_training_dataset(
            tmp_path, content, net_type="resnet_50", weights="superanimal_topviewmouse", weights_part="backbone"
        )
    assert pytorch_config_file(tmp_path).is_file()


def test_settings_that_a_head_cannot_take_are_refused_before_training(content: ProjectContent, tmp_path: Path) -> None:
    made = make_training_dataset(tmp_path, content, net_type="rtmpose_x")["pytorch_config"]
    assert made["data"]["train"]["top_down_crop"]["width"] == 384, "the size that its head is made for"
    with pytest.raises(SettingsError, match=r"top_down_crop is 256 x 384 px, but the head bodypart .* 384 x 384 px"):
        configured(made, {"data.train.top_down_crop.width": 256})
    assert configured(made, {"runner.optimizer.params.lr": "1e-4"})["runner"]["optimizer"]["params"]["lr"] == 1e-4
    with pytest.raises(SettingsError, match=r'lr is a number \(0.001\), got "fast"'):
        configured(made, {"runner.optimizer.params.lr": "fast"})
