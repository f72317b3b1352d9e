"""The detectors of top-down networks: building them without a download, and the files that torchvision would download."""

from __future__ import annotations

import contextlib
import copy
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dlc_assets.engine.chatter import chatter_logged

DETECTOR = "detector.pt"  # beside the snapshot of a top-down network
DETECTOR_STATS = "learning_stats_detector.csv"

FLIP_WARNING = "Be careful! Do not train pose models with horizontal flips"

# torchvision's enumeration of the weights that DeepLabCut takes for each detector, trained on COCO.
_COCO = {
    "ssdlite": "SSDLite320_MobileNet_V3_Large_Weights",
    "fasterrcnn_mobilenet_v3_large_fpn": "FasterRCNN_MobileNet_V3_Large_FPN_Weights",
    "fasterrcnn_resnet50_fpn_v2": "FasterRCNN_ResNet50_FPN_V2_Weights",
}


def detector_of(pytorch_config: Mapping[str, Any]) -> str | None:
    """Return the name of the detector in a pytorch_config, None where it has none."""
    detector = pytorch_config.get("detector")
    if not detector:
        return None
    return "ssdlite" if detector["model"]["type"] == "SSDLite" else str(detector["model"]["variant"])


def built_detector(detector_model: Mapping[str, Any], seed: int, *, pretrained: bool = False) -> Any:
    """Return DeepLabCut's detector with random weights, or (*pretrained*) with those of COCO from torchvision's cache.

    Parameters
    ----------
    detector_model
        ``detector.model`` of a pytorch_config; it is not changed.
    """
    with chatter_logged():
        import torch
        from deeplabcut.pose_estimation_pytorch.models.detectors import DETECTORS

        with backbones_not_downloaded(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            config = {key: value for key, value in copy.deepcopy(dict(detector_model)).items() if value is not None}
            return DETECTORS.build(config, pretrained=pretrained)


def coco_file(detector: str) -> tuple[Path, str]:
    """Return where torchvision keeps the COCO weights of a detector on this machine, and the address it has them from."""
    import torch
    import torchvision.models.detection as detection

    url = str(getattr(detection, _COCO[detector]).COCO_V1.url)
    return Path(torch.hub.get_dir()) / "checkpoints" / url.rpartition("/")[2], url


@contextlib.contextmanager
def backbones_not_downloaded() -> Iterator[None]:
    """Let torchvision build Faster R-CNN without downloading ImageNet weights for its backbone.

    It does so by default, also where the weights of the whole detector are loaded right after. Its layers stay those of a pretrained
    backbone, so that snapshots fit.
    """
    from torchvision.models.detection import faster_rcnn

    originals = {name: getattr(faster_rcnn, name) for name in ("resnet50", "mobilenet_v3_large")}

    def without_weights(build: Any) -> Any:
        return lambda *, weights=None, **settings: build(weights=None, **settings)

    for name, build in originals.items():
        setattr(faster_rcnn, name, without_weights(build))
    try:
        yield
    finally:
        for name, build in originals.items():
            setattr(faster_rcnn, name, build)


@contextlib.contextmanager
def flips_not_warned_of(pytorch_config: Mapping[str, Any]) -> Iterator[None]:
    """Leave out DeepLabCut's warning of flipped pictures, which are right for a detector: it sees no left and right body parts."""
    with warnings.catch_warnings():
        if pytorch_config.get("detector") and not (pytorch_config["data"].get("train") or {}).get("hflip"):
            warnings.filterwarnings("ignore", message=FLIP_WARNING)
        yield
