"""The fast path in parts: reading heatmaps as DeepLabCut does, which networks are taken, and what happens when memory runs out."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest

from dlc_assets.engine.fast_path import HeatmapDecoding, filled_up, why_not, why_not_shape
from dlc_assets.engine.openvino_network import openvino_takes
from dlc_assets.engine.torch_network import TorchNetwork
from dlc_assets.lab.errors import EnvironmentProblem

pytestmark = pytest.mark.slow  # imports torch, and the first test DeepLabCut

CONFIG: dict[str, Any] = {
    "method": "bu",
    "metadata": {"bodyparts": ["a", "b"], "individuals": ["animal"], "unique_bodyparts": []},
    "model": {"heads": {"bodypart": {"type": "HeatmapHead", "predictor": {"type": "HeatmapPredictor"}}}},
    "data": {
        "colormode": "RGB",
        "inference": {"normalize_images": True, "auto_padding": None, "resize": None, "hist_eq": False},
    },
    "inference": {"autocast": {"enabled": False}, "compile": {"enabled": False}},
}


@pytest.mark.parametrize("apply_sigmoid", [False, True])
@pytest.mark.parametrize("clip_scores", [False, True])
@pytest.mark.parametrize("location_refinement", [False, True])
def test_heatmaps_are_read_as_deeplabcut_reads_them(
    apply_sigmoid: bool, clip_scores: bool, location_refinement: bool
) -> None:
    import torch
    from deeplabcut.pose_estimation_pytorch.models.predictors.single_predictor import HeatmapPredictor

    torch.manual_seed(0)
    heatmaps, locrefs = torch.randn(3, 4, 9, 11) * 2, torch.randn(3, 8, 9, 11)
    predictor = HeatmapPredictor(apply_sigmoid, clip_scores, location_refinement, locref_std=7.2801)
    theirs = predictor(8.0, {"heatmap": heatmaps, "locref": locrefs})["poses"][:, 0]
    decoding = HeatmapDecoding(8.0, apply_sigmoid, clip_scores, 7.2801 if location_refinement else None)
    torch.testing.assert_close(decoding.poses(heatmaps, locrefs), theirs, rtol=0, atol=1e-5)


def changed(path: str, value: Any) -> dict[str, Any]:
    config = copy.deepcopy(CONFIG)
    *parents, last = path.split(".")
    place = config
    for name in parents:
        place = place[name]
    place[last] = value
    return config


def test_the_default_preparation_of_a_single_animal_network_is_taken() -> None:
    assert why_not(CONFIG) == ""
    assert why_not_shape(CONFIG, (480, 641)) == ""


@pytest.mark.parametrize(
    ("path", "value", "why"),
    [
        ("method", "td", "the network is top-down"),
        ("metadata.individuals", ["a", "b"], "several animals"),
        ("metadata.unique_bodyparts", ["corner"], "unique body parts"),
        ("model.heads.identity", {}, "heads bodypart, identity"),
        ("model.heads.bodypart.predictor.type", "PartAffinityFieldPredictor", "not read from single heatmaps"),
        ("data.colormode", "BGR", "pictures are BGR"),
        ("data.inference.normalize_images", False, "not normalized"),
        ("data.inference.resize", {"width": 320, "height": 240}, "prepared with resize"),
        ("data.inference.auto_padding", {"min_width": 640}, "auto_padding of its own kind"),
        ("inference.autocast.enabled", True, "inference.autocast"),
        ("inference.compile.enabled", True, "inference.compile"),
    ],
)
def test_anything_else_goes_through_deeplabcut_and_says_why(path: str, value: Any, why: str) -> None:
    assert why in why_not(changed(path, value))


def test_pictures_that_must_be_filled_up_at_random_go_through_deeplabcut() -> None:
    config = changed("data.inference.auto_padding", {"pad_width_divisor": 32, "pad_height_divisor": 32})
    assert why_not(config) == ""
    assert why_not_shape(config, (480, 640)) == ""
    assert "a width that 32 divides" in why_not_shape(config, (480, 650))


def test_networks_on_which_openvino_dies_are_kept_from_it() -> None:
    import torch

    def network(norm: Any) -> Any:
        return torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), norm, torch.nn.ReLU())

    assert openvino_takes(network(torch.nn.BatchNorm2d(8)))
    assert not openvino_takes(network(torch.nn.GroupNorm(4, 8)))


def test_a_batch_is_filled_up_with_its_last_picture() -> None:
    batch = np.arange(2 * 3 * 4 * 3, dtype=np.uint8).reshape(2, 3, 4, 3)
    whole = filled_up(batch, 4)
    assert whole.shape[0] == 4
    np.testing.assert_array_equal(whole[2:], batch[[1, 1]])
    assert filled_up(batch, 2) is batch


def small_memory(most: int) -> Any:
    """A network whose device takes at most so many pictures at once, and whose heatmaps follow the pictures' brightness."""
    import torch

    class Network(torch.nn.Module):
        def forward(self, pictures: Any) -> dict[str, dict[str, Any]]:
            if len(pictures) > most:
                raise torch.OutOfMemoryError("CUDA out of memory")
            heatmap = pictures.mean(dim=1, keepdim=True)
            return {"bodypart": {"heatmap": heatmap, "locref": torch.zeros(len(pictures), 2, *pictures.shape[2:])}}

    return Network()


def test_when_memory_runs_out_the_batch_is_halved_and_no_picture_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    decoding = HeatmapDecoding(1.0, False, False, None)
    pictures = np.zeros((13, 5, 7, 3), np.uint8)
    for number in range(13):
        pictures[number, number % 5, number % 7] = 255
    network = TorchNetwork(small_memory(2), decoding, "cpu", "float32")
    network.prepare((5, 7), 8)
    found = np.concatenate(list(network.run(pictures[start : start + 8] for start in (0, 8))))
    expected = [(number % 7 + 0.5, number % 5 + 0.5) for number in range(13)]
    np.testing.assert_array_equal(found[:, 0, :2], expected)
    assert network.batch_size == 2
    assert "out of memory" in caplog.text.lower()


def test_one_picture_that_does_not_fit_is_an_error_that_says_what_to_do() -> None:
    network = TorchNetwork(small_memory(0), HeatmapDecoding(1.0, False, False, None), "cpu", "float32")
    network.prepare((5, 7), 2)
    with pytest.raises(EnvironmentProblem, match="7x5 px alone does not fit into the memory of cpu"):
        list(network.run([np.zeros((2, 5, 7, 3), np.uint8)]))
