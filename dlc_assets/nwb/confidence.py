"""What a likelihood is, by the head of the network that gave it: readers of an NWB file are told, and not all networks mean the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_PEAK = {
    "HeatmapPredictor": "Value of the network's score map of the body part at its peak",
    "PartAffinityFieldPredictor": "Value of the network's score map of the body part at the peak that was assigned to the animal",
    "DEKRPredictor": "Value of the network's score map of the body part where the animal's own regression puts it",
}


def confidence_definition(pytorch_config: Mapping[str, Any]) -> str | None:
    """Return the definition of the likelihoods of a network by DeepLabCut's *pytorch_config*; None where it has no known head.

    Score maps pass a sigmoid, or are trained towards 0 and 1 and clipped to that range, as the predictor's own settings say.
    """
    heads = (pytorch_config.get("model") or {}).get("heads") or {}
    predictor = (heads.get("bodypart") or {}).get("predictor") or {}
    kind = predictor.get("type")
    if kind is None:
        return None
    if kind not in _PEAK:
        return f"Score of the body part as DeepLabCut's {kind} gives it; higher is surer."
    if predictor.get("apply_sigmoid", True):
        return f"{_PEAK[kind]}, after a sigmoid: 0 to 1."
    if predictor.get("clip_scores", False):
        return f"{_PEAK[kind]}, clipped to 0 to 1."
    return f"{_PEAK[kind]}, as the network gives it: neither passed through a sigmoid nor clipped."
