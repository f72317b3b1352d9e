"""The fast path: which networks it takes, and the two ends that it replaces, preparing pictures and reading heatmaps.

Both ends compute what DeepLabCut computes, in batches and on the network's device: its albumentations `Normalize` of single
pictures, and its `HeatmapPredictor`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

# ImageNet's, as in deeplabcut.pose_estimation_pytorch.data.transforms.
MEAN = np.array([0.485, 0.456, 0.406], dtype=np.float32) * 255
STD = np.array([0.229, 0.224, 0.225], dtype=np.float32) * 255

Shape = tuple[int, int]
"""Height and width of a picture in px."""


class Network(Protocol):
    """A network on its device, ready for batches of pictures of one size.

    Attributes
    ----------
    backend
        What computes: ``torch`` or ``openvino``.
    precision
        Of the network's inside: ``float32``, ``bfloat16`` or ``float16``. Poses are float32 always.
    batch_size
        Pictures in a batch; all batches have this shape (the last one is filled up), so that a picture's poses do not depend
        on how many come with it.
    """

    backend: str
    precision: str
    batch_size: int

    def prepare(self, shape: Shape, batch_size: int | None) -> None:
        """Get ready for pictures of *shape*; with *batch_size* None the network chooses."""

    def run(self, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Give the poses (n, bodyparts, 3) float32 of batches (n, height, width, 3) uint8, in their order.

        The next batches are asked for while the device still works on the ones before.
        """


@dataclass(frozen=True)
class HeatmapDecoding:
    """How heatmaps become poses: what DeepLabCut's `HeatmapPredictor` was set to."""

    stride: float
    apply_sigmoid: bool
    clip_scores: bool
    locref_std: float | None

    @classmethod
    def of(cls, model: Any) -> HeatmapDecoding:
        """Return how the poses of a `PoseModel` that the fast path takes are read."""
        predictor = model.heads["bodypart"].predictor
        return cls(
            stride=float(model.get_stride("bodypart")),
            apply_sigmoid=bool(predictor.apply_sigmoid),
            clip_scores=bool(predictor.clip_scores),
            locref_std=float(predictor.locref_std) if predictor.location_refinement else None,
        )

    def poses(self, heatmaps: Any, locrefs: Any) -> Any:
        """Return poses (n, bodyparts, 3) float32 from torch heatmaps (n, bodyparts, h, w) and locrefs (n, 2 * bodyparts, h, w).

        Runs on the tensors' device; x and y in px of the picture, likelihood.
        """
        import torch

        heatmaps = heatmaps.float()
        if self.apply_sigmoid:
            heatmaps = heatmaps.sigmoid()
        count, parts, _, width = heatmaps.shape
        flat = heatmaps.reshape(count, parts, -1)
        top = flat.argmax(dim=2, keepdim=True)
        scores = flat.gather(2, top).squeeze(2)
        top = top.squeeze(2)
        x = (top % width) * self.stride + 0.5 * self.stride
        y = torch.div(top, width, rounding_mode="floor") * self.stride + 0.5 * self.stride
        if self.locref_std is not None:
            offsets = locrefs.float().reshape(count, parts, 2, -1)
            chosen = offsets.gather(3, top[:, :, None, None].expand(-1, -1, 2, -1)).squeeze(3) * self.locref_std
            x, y = x + chosen[..., 0], y + chosen[..., 1]
        if self.clip_scores:
            scores = scores.clamp(0, 1)
        return torch.stack((x.float(), y.float(), scores), dim=-1)


def why_not(pytorch_config: Mapping[str, Any]) -> str:
    """Return why the fast path does not take a network, empty where it does (for `why_not_shape`, see there)."""
    metadata = pytorch_config["metadata"]
    heads = pytorch_config["model"]["heads"]
    if str(pytorch_config.get("method", "bu")).lower() == "td":
        return "the network is top-down: a detector finds the animal in each frame first"
    if len(metadata["individuals"]) > 1 or metadata.get("unique_bodyparts"):
        return "the project has several animals or unique body parts"
    if set(heads) != {"bodypart"}:
        return f"the network has the heads {', '.join(sorted(heads))}"
    head = heads["bodypart"]
    kinds = (head["type"], head["predictor"]["type"])
    if kinds != ("HeatmapHead", "HeatmapPredictor"):
        return f"its poses are not read from single heatmaps ({kinds[0]}, {kinds[1]})"
    if str(pytorch_config["data"].get("colormode", "RGB")) != "RGB":
        return f"its pictures are {pytorch_config['data']['colormode']}"
    preparation = {name: value for name, value in pytorch_config["data"]["inference"].items() if value}
    if preparation.pop("normalize_images", None) is not True:
        return "its pictures are not normalized as DeepLabCut does by default"
    padding = preparation.pop("auto_padding", None) or {}
    if set(padding) - {"pad_width_divisor", "pad_height_divisor"} or preparation:
        return f"its pictures are prepared with {', '.join(sorted(preparation)) or 'auto_padding of its own kind'}"
    settings = pytorch_config.get("inference") or {}
    for name in ("autocast", "compile"):
        if (settings.get(name) or {}).get("enabled"):
            return f"its configuration asks for inference.{name}"
    return ""


def why_not_shape(pytorch_config: Mapping[str, Any], shape: Shape) -> str:
    """Return why pictures of *shape* do not take the fast path of a network that does, empty where they do.

    HRNets see pictures filled up to multiples of 32 px, and DeepLabCut puts the picture at a random place in that.
    """
    padding = pytorch_config["data"]["inference"].get("auto_padding") or {}
    for size, name in zip(shape, ("height", "width"), strict=True):
        divisor = padding.get(f"pad_{name}_divisor") or 1
        if size % divisor:
            return f"its pictures must be filled up to a {name} that {divisor} divides"
    return ""


def filled_up(batch: np.ndarray, batch_size: int) -> np.ndarray:
    """Return *batch* with copies of its last picture appended up to *batch_size*."""
    missing = batch_size - len(batch)
    return batch if missing <= 0 else np.concatenate([batch, np.repeat(batch[-1:], missing, axis=0)])
