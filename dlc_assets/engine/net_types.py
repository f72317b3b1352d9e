"""The networks that DeepLabCut 3.0.2 offers: which of them learn from single-animal projects, with which detectors and SuperAnimals.

This table is the one place that says so. Nothing here imports DeepLabCut; a test compares the table with what DeepLabCut lists.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from dlc_assets.lab.errors import SettingsError, did_you_mean

Method = Literal["bottom-up", "top-down", "conditional"]

DEFAULT_DETECTOR = "ssdlite"  # DeepLabCut's own
TOP_DOWN = "top_down_"

_NEEDS_CONDITIONS = (
    "it is a conditional top-down network: it corrects the poses that another bottom-up model gives for the same picture (its"
    " conditions), and a model specification names one network only"
)


@dataclass(frozen=True)
class NetType:
    """One net_type.

    Attributes
    ----------
    name
        As DeepLabCut's ``create_training_dataset`` takes it.
    method
        ``bottom-up`` (from the whole picture), ``top-down`` (a detector finds the animal first), ``conditional``.
    what
        A few words for people.
    fewest_bodyparts
        How many body parts it needs.
    refused
        Why it cannot be trained here; empty where it can.
    """

    name: str
    method: Method
    what: str
    fewest_bodyparts: int = 1
    refused: str = ""

    @property
    def needs_detector(self) -> bool:
        """Whether a detector belongs to it."""
        return self.method == "top-down"

    @property
    def network(self) -> str:
        """The network without the method that its name may begin with: ``resnet_50`` of ``top_down_resnet_50``."""
        return self.name.removeprefix(TOP_DOWN)


def _backbones() -> list[NetType]:
    known = {
        "resnet_50": "ResNet-50",
        "resnet_101": "ResNet-101",
        "hrnet_w18": "HRNet-W18",
        "hrnet_w32": "HRNet-W32",
        "hrnet_w48": "HRNet-W48",
        "cspnext_s": "CSPNeXt, small",
        "cspnext_m": "CSPNeXt, medium",
        "cspnext_x": "CSPNeXt, extra large",
    }
    bottom_up = [NetType(name, "bottom-up", f"{what} and heatmaps") for name, what in known.items()]
    top_down = [
        NetType(f"{TOP_DOWN}{name}", "top-down", f"{what} and heatmaps, in the box of a detector")
        for name, what in known.items()
    ]
    return bottom_up + top_down


_PAF = "ResNet-50 at several scales, heatmaps and part affinity fields (stride {}); needs two body parts"

NET_TYPES: Mapping[str, NetType] = {
    net.name: net
    for net in (
        *_backbones(),
        *(NetType(f"dekr_w{width}", "bottom-up", f"DEKR on HRNet-W{width}") for width in (18, 32, 48)),
        *(
            NetType(f"dlcrnet_stride{stride}_ms5", "bottom-up", _PAF.format(stride), fewest_bodyparts=2)
            for stride in (16, 32)
        ),
        *(
            NetType(f"rtmpose_{size}", "top-down", f"RTMPose on CSPNeXt, {word}, in the box of a detector")
            for size, word in (("s", "small"), ("m", "medium"), ("x", "extra large"))
        ),
        NetType("animaltokenpose_base", "top-down", "TokenPose on HRNet-W32, in the box of a detector"),
        *(
            NetType(name, "conditional", "conditional top-down", refused=_NEEDS_CONDITIONS)
            for name in (
                "ctd_coam_w32",
                "ctd_coam_w48",
                "ctd_coam_w48_human",
                "ctd_prenet_hrnet_w32",
                "ctd_prenet_hrnet_w48",
                "ctd_prenet_rtmpose_s",
                "ctd_prenet_rtmpose_m",
                "ctd_prenet_rtmpose_x",
                "ctd_prenet_rtmpose_x_human",
            )
        ),
    )
}

DETECTORS: Mapping[str, str] = {
    "ssdlite": "SSDLite on MobileNetV3: small and fast",
    "fasterrcnn_mobilenet_v3_large_fpn": "Faster R-CNN on MobileNetV3",
    "fasterrcnn_resnet50_fpn_v2": "Faster R-CNN on ResNet-50: the largest",
}


@dataclass(frozen=True)
class SuperAnimal:
    """A dataset of DeepLabCut's model zoo.

    Attributes
    ----------
    networks, detectors
        Those that the zoo has weights of.
    licence
        One sentence for a model card, by what the source says.
    refused
        Why training cannot start from it; empty where it can.
    """

    networks: tuple[str, ...]
    detectors: tuple[str, ...]
    licence: str
    refused: str = ""

    def net_types(self) -> list[str]:
        """Return the net_types that training can start in."""
        return [net.name for net in NET_TYPES.values() if net.network in self.networks and not net.refused]


_ACADEMIC = "modified MIT licence for academic, non-commercial purposes, by the model card of DeepLabCut's SuperAnimal-{} on the model hub"
_NOT_STATED = "not known: the model card of DeepLabCut's SuperAnimal-{} on the model hub states none"

SUPERANIMALS: Mapping[str, SuperAnimal] = {
    "superanimal_topviewmouse": SuperAnimal(
        ("hrnet_w32", "resnet_50"),
        ("fasterrcnn_mobilenet_v3_large_fpn", "fasterrcnn_resnet50_fpn_v2"),
        _ACADEMIC.format("TopViewMouse"),
    ),
    "superanimal_quadruped": SuperAnimal(
        ("hrnet_w32", "resnet_50", "rtmpose_s"),
        ("fasterrcnn_mobilenet_v3_large_fpn", "fasterrcnn_resnet50_fpn_v2", "ssdlite"),
        _ACADEMIC.format("Quadruped"),
    ),
    "superanimal_bird": SuperAnimal(
        ("resnet_50",), ("fasterrcnn_mobilenet_v3_large_fpn", "ssdlite"), _NOT_STATED.format("Bird")
    ),
    "superanimal_humanbody": SuperAnimal(
        ("rtmpose_x",),
        (),
        _NOT_STATED.format("HumanBody"),
        refused="DeepLabCut can use it as it is, but cannot start a training from it",
    ),
}


@dataclass(frozen=True)
class ChosenNetwork:
    """What a model specification chooses: the network, its detector, and how much of a SuperAnimal it begins with.

    Attributes
    ----------
    detector
        None for networks that need none.
    superanimal
        The dataset, None where the weights come from elsewhere.
    with_heads
        Whether the SuperAnimal's heads are taken over; then its architecture is, too.
    memory_replay
        Whether the network goes on predicting all body parts of the SuperAnimal.
    """

    net: NetType
    detector: str | None = None
    superanimal: str | None = None
    with_heads: bool = False
    memory_replay: bool = False

    def decisive(self) -> dict[str, Any]:
        """Return what a training dataset depends on beside the net_type; empty for what there was before detectors and SuperAnimals."""
        said: dict[str, Any] = {"detector": self.detector} if self.detector else {}
        if self.with_heads:
            said["superanimal"] = self.superanimal
            said["memory_replay"] = self.memory_replay
        return said


def known_net_types() -> list[str]:
    """Return the net_types that can be trained."""
    return [net.name for net in NET_TYPES.values() if not net.refused]


def chosen_network(
    net_type: str,
    *,
    detector: str | None = None,
    weights: str = "random",
    weights_part: str = "all",
    memory_replay: bool = False,
    bodyparts: Sequence[str] | None = None,
) -> ChosenNetwork:
    """Return the network that these settings of a model specification mean.

    Parameters
    ----------
    weights, weights_part, memory_replay
        As in the specification; only SuperAnimals are of interest.
    bodyparts
        Of the project; None leaves out what depends on them.

    Raises
    ------
    SettingsError
        Something is unknown, cannot be trained here, or does not go together; says which, and what does.
    """
    net = _known_net(net_type)
    if bodyparts is not None and len(bodyparts) < net.fewest_bodyparts:
        raise SettingsError(
            f'net_type "{net_type}" needs {net.fewest_bodyparts} body parts (it learns what joins them), the project has'
            f" {len(bodyparts)}. Take a net_type such as {net_type.split('_')[0].replace('dlcrnet', 'resnet')}_50."
        )
    _check_detector(net, detector)
    if not weights.startswith("superanimal_"):
        return ChosenNetwork(net, (detector or DEFAULT_DETECTOR) if net.needs_detector else None)
    return _of_superanimal(net, detector, weights, weights_part, memory_replay, bodyparts)


def _known_net(net_type: str) -> NetType:
    net = NET_TYPES.get(net_type)
    if net is None:
        known = known_net_types()
        raise SettingsError(
            f'net_type "{net_type}" is no net of DeepLabCut.{did_you_mean(net_type, NET_TYPES)} Known: {", ".join(known)}.'
        )
    if net.refused:
        raise SettingsError(
            f'net_type "{net_type}" cannot be trained here: {net.refused}. Take one of: {", ".join(known_net_types())}.'
        )
    return net


def _check_detector(net: NetType, detector: str | None) -> None:
    if detector is None:
        return
    if detector not in DETECTORS:
        raise SettingsError(
            f'detector "{detector}" is no detector of DeepLabCut.{did_you_mean(detector, DETECTORS)}'
            f" Known: {', '.join(DETECTORS)}."
        )
    if not net.needs_detector:
        twin = f"{TOP_DOWN}{net.name}"
        instead = f", or take net_type {twin}" if twin in NET_TYPES else ""
        raise SettingsError(
            f'detector: net_type "{net.name}" is a bottom-up network, which finds the animal without one. Leave `detector`'
            f" out{instead}."
        )


def _of_superanimal(
    net: NetType,
    detector: str | None,
    weights: str,
    weights_part: str,
    memory_replay: bool,
    bodyparts: Sequence[str] | None,
) -> ChosenNetwork:
    superanimal = SUPERANIMALS.get(weights)
    usable = [name for name, each in SUPERANIMALS.items() if not each.refused]
    if superanimal is None:
        raise SettingsError(
            f'weights: DeepLabCut has no "{weights}".{did_you_mean(weights, SUPERANIMALS)} Known: {", ".join(usable)}.'
        )
    if superanimal.refused:
        raise SettingsError(f"weights: {weights}: {superanimal.refused}. Others: {', '.join(usable)}.")
    if net.name not in superanimal.net_types():
        raise SettingsError(
            f'weights: {weights} has no weights of net_type "{net.name}". It has them for:'
            f" {', '.join(superanimal.net_types())}."
        )
    if net.needs_detector:
        detector = detector or (
            DEFAULT_DETECTOR if DEFAULT_DETECTOR in superanimal.detectors else superanimal.detectors[0]
        )
        if detector not in superanimal.detectors:
            raise SettingsError(
                f'detector: {weights} has no weights of detector "{detector}". It has them for:'
                f" {', '.join(superanimal.detectors)}."
            )
    with_heads = weights_part == "all"
    if memory_replay and not net.needs_detector:
        raise SettingsError(
            f'memory_replay: DeepLabCut does it with top-down networks only, and net_type "{net.name}" is bottom-up. Take one'
            f" of: {', '.join(name for name in superanimal.net_types() if NET_TYPES[name].needs_detector)}."
        )
    return ChosenNetwork(net, detector, weights, with_heads, memory_replay)


def licence_of_weights(weights: str) -> str:
    """Return one sentence about the licence of the starting weights that a model specification names, as far as their source says."""
    kind, _, name = weights.partition(":")
    if kind in SUPERANIMALS:
        return SUPERANIMALS[kind].licence
    if kind == "imagenet":
        return (
            "trained on ImageNet, which was released for non-commercial research only; timm, which gives the weights, says to"
            " assume that this holds for them, too"
        )
    if kind == "random":
        return "none needed: training began from random numbers"
    if kind == "model":
        return f"that of the starting weights of {name}: see its own card"
    return "not known"
