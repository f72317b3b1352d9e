"""Looking at a network that somebody else trained before it is trusted: read without running anything of it, then built."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dlc_assets.engine.chatter import chatter_logged
from dlc_assets.engine.detectors import detector_of
from dlc_assets.engine.workspace import read_pytorch_config
from dlc_assets.lab.errors import InputError


@dataclass(frozen=True)
class NetworkFacts:
    """What the files of a trained network say.

    Attributes
    ----------
    epoch
        Of the snapshot, None where it does not say.
    method
        ``bu`` (bottom-up), ``td`` (top-down) or ``ctd``.
    """

    net_type: str
    detector: str | None
    method: str
    bodyparts: tuple[str, ...]
    individuals: tuple[str, ...]
    unique_bodyparts: tuple[str, ...]
    epoch: int | None


def network_facts(pytorch_config: Path, snapshot: Path, detector: Path | None) -> NetworkFacts:
    """Read what a network is from its configuration and snapshots (``torch.load(weights_only=True)``: nothing in them is run).

    Raises
    ------
    InputError
        The configuration is not DeepLabCut's, or a snapshot is no snapshot or holds more than tensors and plain values.
    """
    config = read_pytorch_config(pytorch_config)
    metadata = config.get("metadata") or {}
    if not metadata.get("bodyparts"):
        raise InputError(
            f"{pytorch_config}: expected metadata.bodyparts, as DeepLabCut 3 writes them, and there are none. Is it the "
            "pytorch_config.yaml of a trained network?"
        )
    content = _plain_content(snapshot)
    if detector is not None:
        _plain_content(detector)
    epoch = (content.get("metadata") or {}).get("epoch") if isinstance(content.get("metadata"), dict) else None
    return NetworkFacts(
        net_type=str(config.get("net_type") or "unknown"),
        detector=detector_of(config) if detector is not None else None,
        method=str(config.get("method", "bu")).lower(),
        bodyparts=tuple(map(str, metadata["bodyparts"])),
        individuals=tuple(map(str, metadata.get("individuals") or ())),
        unique_bodyparts=tuple(map(str, metadata.get("unique_bodyparts") or ())),
        epoch=int(epoch) if epoch is not None else None,
    )


def _plain_content(snapshot: Path) -> dict[str, Any]:
    with chatter_logged():
        # registers the numpy scalars that older snapshots carry among their metrics
        import deeplabcut.pose_estimation_pytorch.runners.base  # noqa: F401  # loaded for its effect
        import torch
    try:
        content = torch.load(snapshot, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, OSError, EOFError, ValueError, KeyError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(
            f"{snapshot} is not loaded: {reason}. Expected a snapshot of DeepLabCut 3 that holds tensors and plain values alone; a file "
            "that holds more could run a program. Save it again with the DeepLabCut that trained it, or train the network here."
        ) from error
    if not isinstance(content, dict) or "model" not in content:
        raise InputError(f"{snapshot} is no DeepLabCut snapshot: expected a network under the key model.")
    return content


def check_it_can_be_built(pytorch_config: Path, snapshot: Path, detector: Path | None) -> None:
    """Build the network and load its weights, as an analysis will.

    Raises
    ------
    InputError
        They do not belong together, or the installed DeepLabCut does not know the network.
    """
    from dlc_assets.engine.estimator import Estimator

    try:
        Estimator(pytorch_config, snapshot, device="cpu", detector=detector)
    except (
        TypeError,
        AttributeError,
        ImportError,
    ) as error:  # how DeepLabCut meets a configuration that is not its own
        raise InputError(
            f"{pytorch_config}: the installed DeepLabCut cannot build this network ({type(error).__name__}: {error}). Was it trained with "
            "another release of DeepLabCut, or with a network that is not DeepLabCut's own?"
        ) from error
