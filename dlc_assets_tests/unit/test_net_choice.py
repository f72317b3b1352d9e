"""Which networks, detectors and SuperAnimals go together, and what is said of those that do not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from dlc_assets.engine.net_types import DETECTORS, NET_TYPES, SUPERANIMALS, chosen_network, licence_of_weights
from dlc_assets.lab.errors import SettingsError

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "model-specification.md"


def test_the_reference_lists_every_network_detector_and_superanimal() -> None:
    page = PAGE.read_text(encoding="utf-8")
    supported, _, refused = page.partition("## Net types")[2].partition("Not supported")
    for name, net in NET_TYPES.items():
        assert f"`{name}`" in (refused if net.refused else supported)
        assert net.refused == "" or f"`{name}`" not in supported
    assert all(f"| `{name}` |" in refused for name in DETECTORS)
    for name, superanimal in SUPERANIMALS.items():
        row = next((line for line in refused.splitlines() if line.startswith("|") and f"`{name}`" in line), "")
        assert (row == "") == bool(superanimal.refused)
        said = re.findall(r"`([^`]+)`", row)
        assert superanimal.refused or said == [name, *superanimal.net_types(), *superanimal.detectors]


@pytest.mark.parametrize("net_type", [name for name, net in NET_TYPES.items() if net.refused])
def test_a_conditional_network_is_refused_with_the_reason(net_type: str) -> None:
    with pytest.raises(
        SettingsError, match=rf'"{net_type}" cannot be trained here: .*conditions.*Take one of: resnet_50'
    ):
        chosen_network(net_type)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"net_type": "resnet50"}, r'"resnet50" is no net.*Did you mean "resnet_50".*Known: resnet_50.*rtmpose_x'),
        (
            {"net_type": "resnet_50", "detector": "ssdlite"},
            r"without one. Leave `detector` out, or .*top_down_resnet_50",
        ),
        ({"net_type": "dekr_w18", "detector": "ssdlite"}, r"bottom-up network.*Leave `detector` out\."),
        ({"net_type": "rtmpose_s", "detector": "ssd"}, r'no detector of DeepLabCut.*Did you mean "ssdlite"'),
        ({"net_type": "resnet_50", "weights": "superanimal_mouse"}, r'no "superanimal_mouse".*Known: superanimal_top'),
        ({"net_type": "rtmpose_x", "weights": "superanimal_humanbody"}, r"cannot start a training from it"),
        (
            {"net_type": "hrnet_w18", "weights": "superanimal_quadruped"},
            r"no weights of net_type.*hrnet_w32.*rtmpose_s",
        ),
        (
            {"net_type": "top_down_resnet_50", "weights": "superanimal_topviewmouse", "detector": "ssdlite"},
            r'no weights of detector "ssdlite".*fasterrcnn',
        ),
        (
            {"net_type": "resnet_50", "weights": "superanimal_quadruped", "memory_replay": True},
            r"top-down networks only.*top_down_resnet_50",
        ),
        ({"net_type": "dlcrnet_stride16_ms5", "bodyparts": ["snout"]}, r"needs 2 body parts.*has 1"),
    ],
)
def test_what_does_not_go_together_is_refused_before_anything_is_spent(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        chosen_network(**settings)


def test_what_a_dataset_depends_on_does_not_change_for_networks_of_before() -> None:
    assert chosen_network("resnet_50", weights="imagenet").decisive() == {}
    assert chosen_network("resnet_50", weights="superanimal_bird", weights_part="backbone").decisive() == {}
    assert chosen_network("top_down_resnet_50").decisive() == {"detector": "ssdlite"}


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        ("superanimal_topviewmouse", "non-commercial.*TopViewMouse"),
        ("superanimal_bird", "not known.*Bird"),
        ("imagenet", "ImageNet.*non-commercial"),
        ("random", "none needed"),
        ("model:openfield@1a2b", "openfield@1a2b.*own card"),
        ("file:/weights.pt", "^not known$"),
    ],
)
def test_the_licence_of_weights_is_what_their_source_says(weights: str, said: str) -> None:
    assert re.search(said, licence_of_weights(weights))
