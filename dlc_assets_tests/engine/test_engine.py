"""One small network, really trained, from labels to poses."""

from __future__ import annotations

import contextlib
import io
import logging
import pickle
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from dlc_assets.engine.chatter import chatter_logged
from dlc_assets.engine.estimator import Estimator
from dlc_assets.engine.network_training import EpochStats, TrainedNetwork, _eval_interval, configured, train_network
from dlc_assets.engine.weights import WeightsReport, WeightsSource, initial_weights
from dlc_assets.engine.workspace import (
    ProjectContent,
    known_net_types,
    make_training_dataset,
)
from dlc_assets.lab.errors import EnvironmentProblem, InputError, SettingsError
from dlc_assets.lab.settings import DynamicCropping

pytestmark = pytest.mark.slow

WIDTH, HEIGHT, FRAMES = 148, 96, 7
BODYPARTS = ("snout", "left ear", "tail")
SMALL = {
    "model.backbone.model_name": "resnet18",
    "data.train.crop_sampling.width": 96,
    "data.train.crop_sampling.height": 96,
}
VALIDATION = (1, 4)


def picture(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A textured image (height, width, 3) uint8 with a blob at each body part, and their positions (3, 2) in px."""
    random = np.random.default_rng(seed)
    image = np.kron(random.integers(60, 120, (HEIGHT // 4, WIDTH // 4, 3)), np.ones((4, 4, 1)))
    positions = random.uniform((15, 15), (WIDTH - 15, HEIGHT - 15), (len(BODYPARTS), 2))
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    for part, (px, py) in enumerate(positions):
        image[..., part] += 150 * np.exp(-((x - px) ** 2 + (y - py) ** 2) / 40)
    return image.clip(0, 255).astype(np.uint8), positions


@pytest.fixture(scope="module")
def content(tmp_path_factory: pytest.TempPathFactory) -> ProjectContent:
    """Eight labeled images of two videos, named so that no order of theirs is the alphabetical one."""
    folder, images = tmp_path_factory.mktemp("images"), []
    for index in range(8):
        image, positions = picture(index)
        source = folder / f"{index}.png"
        Image.fromarray(image).save(source)
        if index == 2:
            positions[1] = np.nan
        images.append((("b.day 2", "a")[index % 2], f"img{(index * 5) % 8}.png", source, positions))
    return ProjectContent(
        task="toy",
        scorer="Ann",
        date="2026-01-01",
        bodyparts=BODYPARTS,
        skeleton=(("snout", "tail"),),
        pcutoff=0.6,
        images=images,
        train=[7, 0, 2, 3, 5, 6],
        validation=VALIDATION,
    )


@dataclass(frozen=True)
class Trained:
    project: Path
    made: dict[str, Any]
    weights: WeightsReport
    network: TrainedNetwork
    epochs: list[EpochStats]
    printed: str
    handlers_kept: bool


@pytest.fixture(scope="module")
def trained(content: ProjectContent, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A project made in one place, moved to another, and trained there for two epochs from random weights."""
    base, epochs, printed = tmp_path_factory.mktemp("project"), [], io.StringIO()
    made_in, project = base / "partial", base / "final"
    made_in.mkdir()
    root = logging.getLogger()
    before = (root.level, list(root.handlers))
    with contextlib.redirect_stdout(printed):
        made = make_training_dataset(made_in, content, net_type="resnet_50")
        made_in.rename(project)
        config = configured(made["pytorch_config"], SMALL)
        weights = initial_weights(config, WeightsSource("random"), base / "init.pt", seed=3)
        network = train_network(
            project,
            weights_file=weights.file,
            epochs=2,
            batch_size=2,
            save_epochs=5,
            seed=3,
            pytorch_config=SMALL,
            device="cpu",
            on_epoch=epochs.append,
        )
    kept = (root.level, list(root.handlers)) == before
    return Trained(project, made, weights, network, epochs, printed.getvalue(), kept)


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


@pytest.fixture(scope="module")
def estimator(trained: Trained) -> Estimator:
    return Estimator(trained.network.pytorch_config_file, trained.network.snapshot, device="cpu")


def analyzed(trained: Trained, video: Path, folder: Path, cropping: list[int] | None, **settings: Any) -> np.ndarray:
    """The poses that DeepLabCut's own analysis writes: (frames, 1, body parts, 3)."""
    folder.mkdir()
    with chatter_logged():
        import deeplabcut

        deeplabcut.analyze_videos(
            trained.project / "config.yaml",
            [str(video)],
            destfolder=folder,
            cropping=cropping,
            batch_size=1,
            device="cpu",
            **settings,
        )
    table = pd.read_hdf(next(folder.glob("*.h5")))
    return table.to_numpy().reshape(len(table), 1, len(BODYPARTS), 3)


# ---- the project


def test_every_image_is_in_the_half_it_was_meant_for(trained: Trained, content: ProjectContent) -> None:
    datasets = trained.project / "training-datasets" / "iteration-0" / "UnaugmentedDataSet_toy2026-01-01"
    rows = pd.read_hdf(datasets / "CollectedData_Ann.h5")
    _, train, test, fraction = pickle.loads(next(datasets.glob("Documentation_data-*.pickle")).read_bytes())
    for indices, asked in ((train, content.train), (test, content.validation)):
        assert set(rows.index[indices]) == {("labeled-data", *content.images[i][:2]) for i in asked}
    assert fraction == 0.75
    assert (trained.made["image_count"], trained.made["train"], trained.made["validation"]) == (8, 6, 2)


def test_labels_are_kept_to_the_last_digit(trained: Trained, content: ProjectContent) -> None:
    for folder, name, source, positions in content.images:
        labels = pd.read_hdf(trained.project / "labeled-data" / folder / "CollectedData_Ann.h5")
        row = labels.loc[("labeled-data", folder, name)].to_numpy().reshape(-1, 2)
        np.testing.assert_array_equal(row, positions)
        copied = trained.project / "labeled-data" / folder / name
        assert copied.read_bytes() == source.read_bytes()
        assert not copied.is_symlink()


def test_the_configuration_of_a_network_does_not_say_where_it_lies(trained: Trained) -> None:
    text = trained.network.pytorch_config_file.read_text()
    assert str(trained.project) not in text
    assert "partial" not in text
    assert trained.network.pytorch_config["metadata"]["bodyparts"] == list(BODYPARTS)


def test_a_project_is_the_same_when_it_is_made_again(trained: Trained, content: ProjectContent, tmp_path: Path) -> None:
    again = make_training_dataset(tmp_path, content, net_type="resnet_50")
    assert again == trained.made


def test_an_unknown_net_is_named_with_its_neighbour(content: ProjectContent, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r'"resnet50" is no net.*Did you mean "resnet_50".*hrnet_w32'):
        make_training_dataset(tmp_path, content, net_type="resnet50")
    assert list(tmp_path.iterdir()) == []


def test_known_nets_are_nets_of_deeplabcut() -> None:
    from deeplabcut.pose_estimation_pytorch import available_models

    assert {"resnet_50", "hrnet_w32", "cspnext_s", "rtmpose_s"} <= set(known_net_types()) <= set(available_models())


def test_an_image_that_deeplabcut_leaves_out_is_named(
    content: ProjectContent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import deeplabcut

    create = deeplabcut.create_training_dataset

    def forgetful(*args: Any, **kwargs: Any) -> Any:
        kwargs["trainIndices"] = [kwargs["trainIndices"][0][:-1]]
        return create(*args, **kwargs)

    monkeypatch.setattr(deeplabcut, "create_training_dataset", forgetful)
    with pytest.raises(InputError, match=r"train images as asked. Missing: b.day 2/img6.png; not asked for: none"):
        make_training_dataset(tmp_path, content, net_type="resnet_50")


def test_a_torn_image_is_named(content: ProjectContent, tmp_path: Path) -> None:
    torn = tmp_path / "torn.png"
    torn.write_bytes(content.images[0][2].read_bytes()[:2000])
    folder, name, _, positions = content.images[0]
    project = tmp_path / "project"
    project.mkdir()
    with pytest.raises(InputError, match=r"torn\.png cannot be read"):
        make_training_dataset(
            project,
            replace(content, images=[(folder, name, torn, positions), *content.images[1:]]),
            net_type="resnet_50",
        )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"validation": []}, "at least one training and one validation image, got 6 and 0"),
        ({"validation": [7]}, r"image may occur once.*a/img3\.png"),
        ({"bodyparts": ("snout", "snout", "tail")}, "body part may occur once.*snout"),
        ({"bodyparts": ("snout", "tail")}, r"shape \(2, 2\).*\(3, 2\)"),
        ({"scorer": "Ann/Bob"}, 'scorer whose name can name a file, got "Ann/Bob"'),
    ],
)
def test_content_that_cannot_become_a_project_is_refused(
    content: ProjectContent, tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError, match=said):
        make_training_dataset(tmp_path, replace(content, **change), net_type="resnet_50")


def test_an_image_without_any_label_is_refused(content: ProjectContent, tmp_path: Path) -> None:
    folder, name, source, positions = content.images[0]
    images = [(folder, name, source, np.full_like(positions, np.nan)), *content.images[1:]]
    with pytest.raises(InputError, match=r"0\.png has no labeled body part"):
        make_training_dataset(tmp_path, replace(content, images=images), net_type="resnet_50")


# ---- training


def test_each_epoch_is_reported_and_the_last_is_validated(trained: Trained) -> None:
    assert [(each.epoch, each.epochs) for each in trained.epochs] == [(1, 2), (2, 2)]
    assert all(np.isfinite(each.train_loss) and each.seconds > 0 for each in trained.epochs)
    assert {"rmse", "mAP", "loss"} <= set(trained.epochs[-1].validation)
    stats = pd.read_csv(trained.network.learning_stats)
    assert stats["losses/train.total_loss"].to_numpy() == pytest.approx(
        [each.train_loss for each in trained.epochs], abs=1e-5
    )


def test_the_best_network_is_the_one_deeplabcut_chose(trained: Trained) -> None:
    assert trained.network.snapshot.name == f"snapshot-best-{trained.network.epoch:03}.pt"
    assert trained.network.snapshot.is_file()
    assert trained.network.last_snapshot.is_file()


def test_nothing_is_printed_and_logging_stays_as_it_was(trained: Trained) -> None:
    assert trained.printed == ""
    assert trained.handlers_kept
    assert "Epoch 2/2" in trained.network.learning_stats.with_name("train.txt").read_text()


def test_another_backbone_alone_makes_the_heads_fit(trained: Trained) -> None:
    config = trained.network.pytorch_config
    assert config["model"]["backbone"]["model_name"] == "resnet18"
    assert config["model"]["backbone_output_channels"] == 512
    head = config["model"]["heads"]["bodypart"]
    assert (head["heatmap_config"]["channels"], head["locref_config"]["channels"]) == ([512, 3], [512, 6])
    assert config == configured(trained.made["pytorch_config"], SMALL) | {
        key: config[key] for key in ("train_settings", "runner")
    }


def test_channels_stated_by_the_lab_are_left_alone(trained: Trained) -> None:
    mine = {
        "model.backbone.model_name": "resnet18",
        "model.heads.bodypart.heatmap_config": {"channels": [512, 64, 3], "kernel_size": [3, 3], "strides": [2, 2]},
    }
    head = configured(trained.made["pytorch_config"], mine)["model"]["heads"]["bodypart"]
    assert (head["heatmap_config"]["channels"], head["locref_config"]["channels"]) == ([512, 64, 3], [512, 6])


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"model.backbone.modelname": "resnet18"}, r'"model.backbone.modelname".*mean "model.backbone.model_name"'),
        ({"data.train.hflipp": True}, r'no entry "data.train.hflipp".*mean "data.train.hflip"'),
        ({"model.backbone.model_name": "resnet19"}, r'"resnet19" is no network of timm.*resnet1'),
        ({"model.backbone.model_name": "vit_tiny_patch16_224"}, "cannot use .*vit_tiny"),
        ({"runner.eval_interval": "often"}, r'runner.eval_interval is a number \(\d+\), got "often"'),
        ({"runner.eval_interval": [1]}, "runner.eval_interval.*integer"),
        ({"train_settings.epochs": 5}, "set by `training: {epochs"),
        ({"metadata.bodyparts": ["x"]}, "metadata.bodyparts is set by the project's body parts"),
    ],
)
def test_a_wrong_override_is_named_before_training(trained: Trained, overrides: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        train_network(
            trained.project,
            weights_file=None,
            epochs=1,
            batch_size=1,
            save_epochs=1,
            seed=1,
            pytorch_config=overrides,
            device="cpu",
            on_epoch=lambda _: None,
        )
    assert trained.network.snapshot.is_file()


@pytest.mark.parametrize(("epochs", "interval"), [(1, 1), (2, 2), (7, 7), (11, 1), (25, 5), (200, 10)])
def test_the_last_epoch_is_validated_whatever_their_number(epochs: int, interval: int) -> None:
    assert _eval_interval(epochs, 10) == interval
    assert epochs % interval == 0


def test_stopping_from_the_report_of_an_epoch_ends_the_training_and_one_epoch_gives_a_best_network(
    content: ProjectContent, trained: Trained, tmp_path: Path
) -> None:
    make_training_dataset(tmp_path, content, net_type="resnet_50")
    handlers = list(logging.getLogger().handlers)

    def run(epochs: int, on_epoch: Any) -> TrainedNetwork:
        return train_network(
            tmp_path,
            weights_file=trained.weights.file,
            epochs=epochs,
            batch_size=4,
            save_epochs=1,
            seed=1,
            pytorch_config=SMALL | {"runner.optimizer.params.lr": 0.0},
            device=None,
            on_epoch=on_epoch,
        )

    class Stopped(Exception):
        pass

    def stop(stats: EpochStats) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        run(50, stop)
    assert logging.getLogger().handlers == handlers
    network = run(1, lambda _: None)
    assert (network.epoch, network.snapshot) == (1, network.last_snapshot)
    assert len(list(network.snapshot.parent.glob("snapshot*"))) == 1, "the stopped attempt's snapshot is gone"
    begun, ended = tensors(trained.weights.file), tensors(network.snapshot)
    assert all((begun[name] == ended[name]).all() for name in begun if "weight" in name), "it began elsewhere"


def test_a_gpu_that_is_not_there_is_said_at_once(trained: Trained) -> None:
    with pytest.raises(EnvironmentProblem, match="cuda:63"):
        Estimator(trained.network.pytorch_config_file, trained.network.snapshot, device="cuda:63")


# ---- weights


def tensors(path: Path) -> dict[str, Any]:
    import torch

    return dict(torch.load(path, weights_only=True)["model"])


@pytest.fixture(scope="module")
def config(trained: Trained) -> dict[str, Any]:
    return configured(trained.made["pytorch_config"], SMALL)


@pytest.mark.parametrize(
    ("kind", "said"), [("imagnet", 'Did you mean "imagenet"'), ("superanimal_bird", "Say imagenet,")]
)
def test_weights_from_an_unknown_source_are_refused(kind: Any, said: str) -> None:
    with pytest.raises(SettingsError, match=f'cannot start from "{kind}".*{said}'):
        WeightsSource(kind)


def test_random_weights_depend_on_the_seed_alone(config: dict[str, Any], trained: Trained, tmp_path: Path) -> None:
    again = initial_weights(config, WeightsSource("random"), tmp_path / "again.pt", seed=3)
    other = initial_weights(config, WeightsSource("random"), tmp_path / "other.pt", seed=4)
    first, same, different = (tensors(each.file) for each in (trained.weights, again, other))
    assert all((first[name] == same[name]).all() for name in first)
    assert not (first["backbone.model.conv1.weight"] == different["backbone.model.conv1.weight"]).all()


def test_a_partial_trunk_is_loaded_by_name_and_shape_and_the_rest_is_reported(
    config: dict[str, Any], real_data: Path, tmp_path: Path
) -> None:
    trunk = real_data / "resnet18-trunk" / "resnet18_in1k_trunk_timm.pt"
    report = initial_weights(config, WeightsSource("file", trunk), tmp_path / "init.pt")
    assert "backbone.model.layer3.1.conv2.weight" in report.loaded
    lost = {f"backbone.model.layer4.{block}.conv{conv}.weight" for block in (0, 1) for conv in (1, 2)}
    assert lost <= set(report.missing)
    assert {"heads.bodypart.heatmap_head.deconv_layers.0.weight"} <= set(report.missing)
    assert not set(report.loaded) & set(report.missing)
    assert f"{len(report.loaded)} tensors loaded, {len(report.missing)} start from random numbers" in report.summary
    import torch

    source = torch.load(trunk, weights_only=True)
    name = next(key for key in source if key.endswith("layer1.0.conv1.weight"))
    assert (tensors(report.file)["backbone.model.layer1.0.conv1.weight"] == source[name]).all()


def test_a_snapshot_of_other_body_parts_gives_its_backbone(
    config: dict[str, Any], trained: Trained, tmp_path: Path
) -> None:
    import copy

    whole = initial_weights(config, WeightsSource("file", trained.network.snapshot), tmp_path / "whole.pt")
    assert whole.missing == ()
    two = copy.deepcopy(config)
    for head, channels in (("heatmap_config", 2), ("locref_config", 4)):
        two["model"]["heads"]["bodypart"][head]["channels"][-1] = channels
    part = initial_weights(two, WeightsSource("file", trained.network.snapshot), tmp_path / "part.pt")
    assert part.mismatched["heads.bodypart.heatmap_head.deconv_layers.0.weight"] == ((512, 3, 3, 3), (512, 2, 3, 3))
    assert "backbone.model.conv1.weight" in part.loaded


def test_a_file_in_which_nothing_fits_is_refused(config: dict[str, Any], tmp_path: Path) -> None:
    import torch

    foreign, text = tmp_path / "foreign.pt", tmp_path / "text.pt"
    torch.save({"encoder.weight": torch.zeros(3)}, foreign)
    text.write_text("no weights")
    with pytest.raises(InputError, match=r"Nothing in .*foreign\.pt fits the network.*encoder\.weight"):
        initial_weights(config, WeightsSource("file", foreign), tmp_path / "init.pt")
    with pytest.raises(InputError, match=r"text\.pt cannot be read as weights"):
        initial_weights(config, WeightsSource("file", text), tmp_path / "init.pt")
    with pytest.raises(InputError, match=r"no file .*absent\.pt"):
        initial_weights(config, WeightsSource("file", tmp_path / "absent.pt"), tmp_path / "init.pt")
    assert not (tmp_path / "init.pt").exists()


@pytest.fixture
def lonely_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A hub that cannot be reached and a cache of one's own, empty."""
    from huggingface_hub import constants

    cache = tmp_path / "cache"
    cache.mkdir()
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    return cache


def test_imagenet_weights_out_of_reach_are_said_within_seconds(
    config: dict[str, Any], lonely_hub: Path, tmp_path: Path
) -> None:
    begun = time.monotonic()
    with pytest.raises(EnvironmentProblem, match=r"timm/resnet18.*127\.0\.0\.1:9 cannot be reached.*cache.*`random`"):
        initial_weights(config, WeightsSource("imagenet"), tmp_path / "init.pt")
    assert time.monotonic() - begun < 10
    config = {**config, "model": {**config["model"], "backbone": {"type": "CSPNeXt", "model_name": "cspnext_s"}}}
    with pytest.raises(EnvironmentProblem, match=r"cspnext_s\.pt of DeepLabCut/.*pretrained_weights"):
        initial_weights(config, WeightsSource("imagenet"), tmp_path / "init.pt")


def test_imagenet_weights_in_the_cache_need_no_hub(config: dict[str, Any], lonely_hub: Path, tmp_path: Path) -> None:
    import timm
    from safetensors.torch import save_file

    network = timm.create_model("resnet18", pretrained=False)
    entry = lonely_hub / "models--timm--resnet18.a1_in1k"
    (entry / "refs").mkdir(parents=True)
    (entry / "refs" / "main").write_text("0" * 40)
    (entry / "snapshots" / ("0" * 40)).mkdir(parents=True)
    save_file(network.state_dict(), entry / "snapshots" / ("0" * 40) / "model.safetensors")
    report = initial_weights(config, WeightsSource("imagenet"), tmp_path / "init.pt")
    assert (tensors(report.file)["backbone.model.conv1.weight"] == network.conv1.weight).all()
    assert set(report.loaded) == {name for name in (*report.loaded, *report.missing) if name.startswith("backbone.")}


# ---- poses


def test_poses_are_those_of_deeplabcuts_own_analysis(
    trained: Trained, estimator: Estimator, video: Path, tmp_path: Path
) -> None:
    done: list[int] = []
    poses = estimator.estimate_video(video, on_frames=done.append, frames=FRAMES)
    theirs = analyzed(trained, video, tmp_path / "whole", None)
    assert poses.shape == (FRAMES, 1, len(BODYPARTS), 3)
    assert (poses.dtype, theirs.dtype) == (np.float32, np.float32)
    np.testing.assert_allclose(poses, theirs, rtol=0, atol=1e-3)
    assert done == list(range(1, FRAMES + 1))
    assert estimator.for_pictures((HEIGHT, WIDTH)).path == "fast"


def test_what_the_fast_path_does_not_take_goes_through_deeplabcuts_runner_with_the_very_same_numbers(
    trained: Trained, video: Path, tmp_path: Path
) -> None:
    estimator = Estimator(trained.network.pytorch_config_file, trained.network.snapshot, device="cpu")
    estimator.why_not_fast = "a test wants it so"
    np.testing.assert_array_equal(estimator.estimate_video(video), analyzed(trained, video, tmp_path / "runner", None))
    description = estimator.for_pictures((HEIGHT, WIDTH)).description
    assert (description["path"], description["why"]) == ("deeplabcut", "a test wants it so")


@pytest.mark.parametrize("backend", ["torch", "openvino"])
def test_every_backend_gives_the_same_poses_in_batches_of_any_size(
    trained: Trained, video: Path, monkeypatch: pytest.MonkeyPatch, backend: str
) -> None:
    monkeypatch.setattr("dlc_assets.engine.estimator.has_openvino", lambda: backend == "openvino")
    if backend == "openvino":
        pytest.importorskip("openvino")
    found = []
    for batch_size in (1, 3):
        estimator = Estimator(
            trained.network.pytorch_config_file, trained.network.snapshot, device="cpu", batch_size=batch_size
        )
        found.append(estimator.estimate_video(video))
        said = estimator.for_pictures((HEIGHT, WIDTH)).description
        assert (said["backend"], said["precision"], said["batch_size"]) == (backend, "float32", batch_size)
    np.testing.assert_allclose(found[0], found[1], rtol=0, atol=1e-3)


def test_dynamic_cropping_is_deeplabcuts_own(trained: Trained, video: Path, tmp_path: Path) -> None:
    estimator = Estimator(
        trained.network.pytorch_config_file,
        trained.network.snapshot,
        device="cpu",
        dynamic=DynamicCropping(threshold=0.001, margin=20),
    )
    theirs = analyzed(trained, video, tmp_path / "dynamic", None, dynamic=(True, 0.001, 20))
    np.testing.assert_array_equal(estimator.estimate_video(video), theirs)
    estimator.estimate_video(video, crop=(20, 120, 8, 90))  # another recording, of another size
    np.testing.assert_array_equal(estimator.estimate_video(video), theirs)  # begins where no animal was seen yet
    assert not estimator.resumable
    assert estimator.for_pictures((HEIGHT, WIDTH)).why == "dynamic cropping is on"


def test_cropped_poses_are_in_the_full_frame(
    trained: Trained, estimator: Estimator, video: Path, tmp_path: Path
) -> None:
    # DeepLabCut keeps a crop as fractions of the frame, and shifts some by a px: not this one.
    x0, x1 = (next(x for x in range(start, WIDTH) if int(WIDTH * (x / WIDTH)) == x) for start in (20, 120))
    poses = estimator.estimate_video(video, crop=(x0, x1, 8, 90))
    theirs = analyzed(trained, video, tmp_path / "cropped", [x0, x1, 8, 90])
    np.testing.assert_allclose(poses, theirs + np.array([x0, 8, 0], dtype=np.float32), rtol=0, atol=1e-3)


def test_a_crop_outside_the_frame_is_refused(estimator: Estimator, video: Path) -> None:
    with pytest.raises(SettingsError, match=r"x: \[0, 149\].*toy\.mp4, which is 148 px wide and 96 px high"):
        estimator.estimate_video(video, crop=(0, 149, 0, 96))


def test_an_interrupted_video_leaves_nothing_behind_for_the_next(estimator: Estimator, video: Path) -> None:
    def stop(done: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    whole = estimator.estimate_video(video)
    with pytest.raises(KeyboardInterrupt):
        estimator.estimate_video(video, on_frames=stop)
    np.testing.assert_array_equal(estimator.estimate_video(video), whole)


def test_images_may_differ_in_size_and_a_broken_one_is_named(
    estimator: Estimator, content: ProjectContent, tmp_path: Path
) -> None:
    small = tmp_path / "small.png"
    Image.fromarray(picture(0)[0][:64, :80]).save(small)
    sources = [content.images[0][2], small]
    poses = estimator.estimate_images(sources)
    assert poses.shape == (2, 1, len(BODYPARTS), 3)
    np.testing.assert_array_equal(poses[1:], estimator.estimate_images([small]))
    with pytest.raises(InputError, match=r"absent\.png cannot be read"):
        estimator.estimate_images([small, tmp_path / "absent.png"])


def test_damaged_videos_are_named(estimator: Estimator, video: Path, real_data: Path, tmp_path: Path) -> None:
    odd, corner = real_data / "odd-videos", (0, 32, 0, 32)
    with pytest.raises(InputError, match=r"corrupted\.mp4 should have 50 frames, but decoding ended after 28"):
        estimator.estimate_video(odd / "corrupted.mp4", crop=corner)
    with pytest.raises(InputError, match=r"chunk_out_of_range\.mp4: does not open"):
        estimator.estimate_video(odd / "chunk_out_of_range.mp4")
    with pytest.raises(InputError, match=r"absent\.mp4: no such video file"):
        estimator.estimate_video(tmp_path / "absent.mp4")
    with pytest.raises(InputError, match=r"toy\.mp4 has 9 frames, but 7 were decoded"):
        estimator.estimate_video(video, frames=9)


@pytest.mark.parametrize(("name", "frames"), [("no_duration.webm", 74), ("video_90.mov", 3), ("stub_mjpeg.avi", 3)])
def test_odd_but_whole_videos_are_estimated_to_the_end(
    estimator: Estimator, real_data: Path, name: str, frames: int
) -> None:
    assert len(estimator.estimate_video(real_data / "odd-videos" / name, crop=(0, 32, 0, 32))) == frames


def test_a_snapshot_of_another_network_is_refused(trained: Trained, tmp_path: Path) -> None:
    import torch

    other = tmp_path / "other.pt"
    torch.save({"model": {"x": torch.zeros(1)}}, other)
    with pytest.raises(InputError, match=r"cannot be loaded with the weights of .*other\.pt"):
        Estimator(trained.network.pytorch_config_file, other)


def test_an_estimator_says_what_its_numbers_depend_on(estimator: Estimator) -> None:
    assert (estimator.bodyparts, len(estimator.individuals), estimator.unique_bodyparts) == (BODYPARTS, 1, ())
    assert estimator.description["device"] == "cpu"
    assert estimator.description["deeplabcut_version"].startswith("3.")
