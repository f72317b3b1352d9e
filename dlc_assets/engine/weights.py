"""The weights that training starts from, made into one file beforehand, so that training itself downloads nothing."""

from __future__ import annotations

import contextlib
import copy
import http.client
import logging
import pickle
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from dlc_assets.engine.chatter import chatter_logged
from dlc_assets.lab.errors import EnvironmentProblem, InputError, SettingsError, did_you_mean
from dlc_assets.lab.files import atomic_path

_log = logging.getLogger(__name__)

_Kind = Literal["imagenet", "random", "file"]

_HUB_PATIENCE = 5.0  # s; the hub's own client tries again for minutes before it gives up
_WRAPPERS = ("model", "state_dict")  # DeepLabCut's snapshots and common checkpoints keep their tensors under these
_PREFIXES = ("", "backbone.", "backbone.model.")  # a snapshot; a DeepLabCut backbone; a plain timm network
_COUNTER = "num_batches_tracked"  # kept by batch norm, no weight: older files lack it, and nothing is lost without it


@dataclass(frozen=True)
class WeightsSource:
    """Where the first weights come from: ImageNet (a model hub or its local cache), random numbers, or a file."""

    kind: _Kind
    path: Path | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(_Kind):
            raise SettingsError(
                f'weights: training cannot start from "{self.kind}".{did_you_mean(self.kind, get_args(_Kind))}'
                " Say imagenet, random, model:<name>[@version] or file:<path>."
            )
        if (self.kind == "file") != (self.path is not None):
            raise SettingsError(f'weights: a path belongs to "file:<path>" and to nothing else, got {self.kind}.')


@dataclass(frozen=True)
class WeightsReport:
    """What was written and where each of its tensors comes from.

    Attributes
    ----------
    file
        A snapshot as DeepLabCut loads it, without optimizer and epoch.
    loaded, missing
        Tensors of the network that were found, and those that start from random numbers.
    mismatched
        Those of `missing` that the file has in another shape: name -> (shape in the file, shape in the network).
    unused
        Tensors of the file that the network does not have.
    """

    file: Path
    source: WeightsSource
    seed: int
    loaded: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    mismatched: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    unused: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """One sentence for a log."""
        origin = f"file {self.source.path}" if self.source.kind == "file" else self.source.kind
        said = f"Weights ({origin}): {len(self.loaded)} tensors loaded, {len(self.missing)} start from random numbers"
        if self.mismatched:
            said += f", {len(self.mismatched)} of them because their shape differs"
        return f"{said}; {len(self.unused)} in the file are of no use here." if self.unused else f"{said}."


def initial_weights(
    pytorch_config: Mapping[str, Any], weights: WeightsSource, destination: Path, *, seed: int | None = None
) -> WeightsReport:
    """Write the weights that training starts from to *destination*.

    Parameters
    ----------
    pytorch_config
        With every override applied (`network_training.configured`); it is not changed.
    seed
        For all that starts from random numbers; by default the configuration's own.

    Raises
    ------
    InputError
        The file cannot be read, or nothing in it fits the network.
    SettingsError
        There are no ImageNet weights for this backbone.
    EnvironmentProblem
        ImageNet weights are neither in the local cache nor can the hub be reached; said within seconds.
    """
    if seed is None:
        seed = int(pytorch_config["train_settings"]["seed"])
    if weights.kind == "imagenet":
        model, report = _imagenet(pytorch_config["model"], weights, destination, seed)
    elif weights.kind == "random":
        model = _built(pytorch_config["model"], seed)
        report = WeightsReport(destination, weights, seed, missing=_names(model))
    else:
        model, report = _from_file(pytorch_config["model"], weights, destination, seed)
    _save(model, destination)
    _log.info("%s", report.summary)
    return report


def _built(model_config: Mapping[str, Any], seed: int, *, pretrained: bool = False) -> Any:
    with chatter_logged():
        import torch
        from deeplabcut.pose_estimation_pytorch.models.model import PoseModel

        with torch.random.fork_rng(devices=[]):  # the caller's random numbers stay as they were
            torch.manual_seed(seed)
            # DeepLabCut writes `pretrained` into what it is given
            return PoseModel.build(copy.deepcopy(dict(model_config)), pretrained_backbone=pretrained)


def _names(model: Any) -> tuple[str, ...]:
    return tuple(name for name in model.state_dict() if not name.endswith(_COUNTER))


def _save(model: Any, destination: Path) -> None:
    import torch

    with atomic_path(destination) as partial:
        torch.save({"model": model.state_dict()}, partial)


# ---- a file


def _from_file(
    model_config: Mapping[str, Any], weights: WeightsSource, destination: Path, seed: int
) -> tuple[Any, WeightsReport]:
    assert weights.path is not None
    found = _read_tensors(weights.path)
    model = _built(model_config, seed)
    state = model.state_dict()
    mismatched: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {}
    fitting: dict[str, Any] = {}
    unused: list[str] = []
    for key, tensor in found.items():
        name = next((prefix + key for prefix in _PREFIXES if prefix + key in state), None)
        if name is None:
            unused.append(key)
        elif tensor.shape != state[name].shape:
            mismatched[name] = (tuple(tensor.shape), tuple(state[name].shape))
        else:
            fitting[name] = tensor
    loaded = tuple(name for name in _names(model) if name in fitting)
    if not loaded:
        raise InputError(
            f"Nothing in {weights.path} fits the network: {len(mismatched)} tensors have other shapes,"
            f" {len(unused)} other names (it has {_some(found)}; the network has {_some(state)})."
            " Was it made for another backbone?"
        )
    model.load_state_dict(fitting, strict=False)
    missing = tuple(name for name in _names(model) if name not in fitting)
    return model, WeightsReport(destination, weights, seed, loaded, missing, mismatched, tuple(unused))


def _some(names: Mapping[str, Any]) -> str:
    return ", ".join(list(names)[:3]) + (" ..." if len(names) > 3 else "")


def _read_tensors(path: Path) -> dict[str, Any]:
    """Read names and tensors without ever running code that the file might contain."""
    if not path.is_file():
        raise InputError(f"weights: there is no file {path}.")
    import torch

    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            content: Any = load_file(path)
        else:
            with chatter_logged():
                # registers the numpy scalars that older snapshots carry among their metrics
                import deeplabcut.pose_estimation_pytorch.runners.base  # noqa: F401  # loaded for its effect
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as err:
        reason = str(err).splitlines()[0] if str(err) else type(err).__name__
        raise InputError(
            f"{path} cannot be read as weights: {reason}. Expected a DeepLabCut snapshot (.pt), or a plain state dict"
            " of tensors (.pt, .pth, .safetensors)."
        ) from err
    for wrapper in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    items = content.items() if isinstance(content, Mapping) else ()
    tensors = {str(key): value for key, value in items if isinstance(value, torch.Tensor)}
    if not tensors:
        raise InputError(f"{path} holds no named tensors: expected a DeepLabCut snapshot or a plain state dict.")
    return tensors


# ---- ImageNet


def _imagenet(
    model_config: Mapping[str, Any], weights: WeightsSource, destination: Path, seed: int
) -> tuple[Any, WeightsReport]:
    try:
        with _hub_offline():
            model = _built(model_config, seed, pretrained=True)
    except OSError:  # not in the cache; the hub's own errors are OSErrors as well
        model = _downloaded(model_config, seed)
    except RuntimeError as err:  # timm's word for a backbone that nobody has trained
        raise SettingsError(f"weights: imagenet: {err}. Say `weights: random` or `weights: file:<path>`.") from err
    loaded = tuple(name for name in _names(model) if name.startswith("backbone."))
    missing = tuple(name for name in _names(model) if not name.startswith("backbone."))
    return model, WeightsReport(destination, weights, seed, loaded, missing)


def _downloaded(model_config: Mapping[str, Any], seed: int) -> Any:
    from huggingface_hub import constants

    if constants.is_offline_mode():
        raise _hub_problem(model_config, "HF_HUB_OFFLINE is set")
    why = _why_unreachable(constants.ENDPOINT, _HUB_PATIENCE)
    if why is not None:
        raise _hub_problem(model_config, f"{constants.ENDPOINT} cannot be reached: {why}")
    try:
        return _built(model_config, seed, pretrained=True)
    except OSError as err:
        raise _hub_problem(model_config, f"{constants.ENDPOINT} did not give them: {err}") from err


@contextlib.contextmanager
def _hub_offline() -> Iterator[None]:
    """Let the hub's client use its cache only: it asks for news of a cached file for minutes when nobody answers."""
    from huggingface_hub import constants

    before = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before


def _why_unreachable(url: str, seconds: float) -> str | None:
    """Return why *url* gives no answer, or None when it does; through a proxy where one is set, within *seconds*."""
    outcome: list[str | None] = []

    def ask() -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=seconds):
                outcome.append(None)
        except urllib.error.HTTPError:
            outcome.append(None)  # an answer, if not a kind one
        except (OSError, http.client.HTTPException) as err:
            reason = getattr(err, "reason", err)
            # Somebody is there; which certificates to trust is for the hub's own client to decide.
            outcome.append(None if isinstance(reason, ssl.SSLError) else str(reason))

    asking = threading.Thread(target=ask, daemon=True)  # looking up a name has no time limit of its own
    asking.start()
    asking.join(seconds)
    return outcome[0] if outcome else f"no answer within {seconds:g} s"


def _hub_problem(model_config: Mapping[str, Any], why: str) -> EnvironmentProblem:
    what, where = _hub_file(model_config["backbone"])
    return EnvironmentProblem(
        f"The ImageNet weights {what} are not on this machine, and {why}."
        f" Connect it once, or put them at {where} (a copy from a machine that has them), or change `weights` in the"
        " model specification to `random` or `file:<path>`."
    )


def _hub_file(backbone: Mapping[str, Any]) -> tuple[str, str]:
    """Return the hub's name of a backbone's weights, and the folder or file in which they are looked for first."""
    import timm.models
    from huggingface_hub import constants

    name = str(backbone.get("model_name"))
    if backbone.get("type") == "CSPNeXt":  # timm has networks of the same names, which are others
        from deeplabcut.pose_estimation_pytorch.models.backbones import base

        folder = backbone.get("backbone_weight_folder") or Path(base.__file__).parent / "pretrained_weights"
        return f"{name}.pt of DeepLabCut/DeepLabCut-Backbones", str(Path(folder) / f"{name}.pt")
    pretrained = timm.models.get_pretrained_cfg(name)
    hub_id = pretrained.hf_hub_id if pretrained is not None and pretrained.hf_hub_id else f"timm/{name}"
    return f"{hub_id} (for {name})", str(Path(constants.HF_HUB_CACHE) / f"models--{hub_id.replace('/', '--')}")
