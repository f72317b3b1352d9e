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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from dlc_assets.engine.chatter import chatter_logged
from dlc_assets.engine.detectors import built_detector, coco_file, detector_of
from dlc_assets.engine.workspace import superanimal_bodyparts
from dlc_assets.lab.errors import EnvironmentProblem, InputError, SettingsError, did_you_mean
from dlc_assets.lab.files import atomic_path

_log = logging.getLogger(__name__)

_Kind = Literal["imagenet", "random", "file", "superanimal"]

_OF_DETECTOR = "Weights of the detector"
_HUB_PATIENCE = 5.0  # s; the hub's own client tries again for minutes before it gives up
_WRAPPERS = ("model", "state_dict")  # DeepLabCut's snapshots and common checkpoints keep their tensors under these
_BACKBONE = "backbone."
_PREFIXES = ("", _BACKBONE, f"{_BACKBONE}model.")  # a snapshot; a DeepLabCut backbone; a plain timm network
_DETECTOR_PREFIXES = ("", "model.")  # a snapshot; a plain torchvision detector
_LEAST_OF_A_BACKBONE = 0.5  # of its numbers; less is no accident of a few layers
_COUNTER = "num_batches_tracked"  # kept by batch norm, no weight: older files lack it, and nothing is lost without it


@dataclass(frozen=True)
class WeightsSource:
    """Where the first weights come from.

    Parameters
    ----------
    kind
        ImageNet (a model hub or its local cache; detectors: COCO, by torchvision), random numbers, a file, or a SuperAnimal of
        DeepLabCut's model zoo.
    path
        Of a file.
    superanimal
        The dataset, such as ``superanimal_topviewmouse``.
    backbone_only
        Of a file or SuperAnimal: leave its heads, which then start from random numbers.
    detector_path
        Of a file: that of the detector that belongs to it. Without one, detectors start from COCO.
    """

    kind: _Kind
    path: Path | None = None
    superanimal: str | None = None
    backbone_only: bool = False
    detector_path: Path | None = None

    def __post_init__(self) -> None:
        if self.kind not in get_args(_Kind):
            raise SettingsError(
                f'weights: training cannot start from "{self.kind}".{did_you_mean(self.kind, get_args(_Kind))}'
                " Say imagenet, random, superanimal_<dataset>, model:<name>[@version] or file:<path>."
            )
        if (self.kind == "file") != (self.path is not None):
            raise SettingsError(f'weights: a path belongs to "file:<path>" and to nothing else, got {self.kind}.')
        if (self.kind == "superanimal") != (self.superanimal is not None):
            raise SettingsError(
                f"weights: the name of a SuperAnimal belongs to one and to nothing else, got {self.kind}."
            )

    @property
    def words(self) -> str:
        """For a log: what it is."""
        said = {"file": f"file {self.path}", "superanimal": str(self.superanimal)}.get(self.kind, self.kind)
        return f"{said}, backbone only" if self.backbone_only else said


@dataclass(frozen=True)
class WeightsReport:
    """What was written and where each of its tensors comes from.

    Attributes
    ----------
    file
        A snapshot as DeepLabCut loads it, without optimizer and epoch.
    what
        For a log: the weights of the network or of its detector.
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
    what: str = "Weights"
    loaded: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    mismatched: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    unused: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """One sentence for a log."""
        said = f"{self.what} ({self.source.words}): {len(self.loaded)} tensors loaded, {len(self.missing)} start from random numbers"
        if self.mismatched:
            said += f", {len(self.mismatched)} of them because their shape differs"
        return f"{said}; {len(self.unused)} in the file are of no use here." if self.unused else f"{said}."


def initial_weights(
    pytorch_config: Mapping[str, Any],
    weights: WeightsSource,
    destination: Path,
    *,
    seed: int | None = None,
    memory_replay: bool = False,
) -> WeightsReport:
    """Write the weights that training starts from to *destination*.

    Parameters
    ----------
    pytorch_config
        With every override applied (`network_training.configured`); it is not changed.
    seed
        For all that starts from random numbers; by default the configuration's own.
    memory_replay
        The network predicts every body part of the SuperAnimal, not those of the project alone.

    Raises
    ------
    InputError
        The file cannot be read, or nothing in it fits the network.
    SettingsError
        There are no ImageNet weights for this backbone.
    EnvironmentProblem
        The weights are neither in the local cache nor can the hub be reached; said within seconds.
    """
    if seed is None:
        seed = int(pytorch_config["train_settings"]["seed"])
    if weights.kind == "imagenet":
        model, report = _imagenet(pytorch_config["model"], weights, destination, seed)
    elif weights.kind == "random":
        model = _built(pytorch_config["model"], seed)
        report = WeightsReport(destination, weights, seed, missing=_names(model))
    elif weights.kind == "superanimal" and not weights.backbone_only:
        model, report = _with_heads(pytorch_config, weights, destination, seed, memory_replay)
    else:
        model, report = _from_file(pytorch_config, weights, destination, seed)
    _save(model, destination)
    _log.info("%s", report.summary)
    return report


def initial_detector_weights(
    pytorch_config: Mapping[str, Any], weights: WeightsSource, destination: Path, *, seed: int
) -> WeightsReport | None:
    """Write the weights that the detector of a top-down network starts from to *destination*; None for other networks.

    They are of the same source as the network's: random numbers, the SuperAnimal's detector, the detector of a model of the lab. Else
    they are torchvision's, trained on COCO, from its cache or its server.

    Raises
    ------
    InputError, EnvironmentProblem
        As `initial_weights`.
    """
    name = detector_of(pytorch_config)
    if name is None:
        return None
    described = pytorch_config["detector"]["model"]
    if weights.kind == "random":
        model = built_detector(described, seed)
        report = WeightsReport(destination, weights, seed, _OF_DETECTOR, missing=_names(model))
    elif weights.kind == "superanimal" or weights.detector_path is not None:
        path = weights.detector_path or superanimal_file(str(weights.superanimal), name)
        model = built_detector(described, seed)
        source = WeightsSource("file", path) if weights.detector_path else weights
        report = _filled(
            model, _read_tensors(path), path, _DETECTOR_PREFIXES, WeightsReport(destination, source, seed, _OF_DETECTOR)
        )
    else:
        model = _coco(name, described, seed)
        report = WeightsReport(
            destination, WeightsSource("imagenet"), seed, f"{_OF_DETECTOR}, trained on COCO", loaded=_names(model)
        )
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
    pytorch_config: Mapping[str, Any], weights: WeightsSource, destination: Path, seed: int
) -> tuple[Any, WeightsReport]:
    path = weights.path or superanimal_file(str(weights.superanimal), str(pytorch_config["net_type"]))
    model = _built(pytorch_config["model"], seed)
    report = _filled(model, _read_tensors(path), path, _PREFIXES, WeightsReport(destination, weights, seed))
    _check_same_backbone(model, path, report)
    return model, report


def _filled(
    model: Any, found: Mapping[str, Any], path: Path, prefixes: Sequence[str], report: WeightsReport
) -> WeightsReport:
    """Give *model* every tensor of a file that fits by name and shape; with ``backbone_only`` those of its backbone."""
    state = model.state_dict()
    wanted = {name: value for name, value in state.items() if _is_wanted(name, report.source)}
    mismatched: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {}
    fitting: dict[str, Any] = {}
    unused: list[str] = []
    for key, tensor in found.items():
        name = next((prefix + key for prefix in prefixes if prefix + key in wanted), None)
        if name is None:
            unused.append(key)
        elif tensor.shape != state[name].shape:
            mismatched[name] = (tuple(tensor.shape), tuple(state[name].shape))
        else:
            fitting[name] = tensor
    loaded = tuple(name for name in _names(model) if name in fitting)
    if not loaded:
        raise InputError(
            f"Nothing in {path} fits the network: {len(mismatched)} tensors have other shapes,"
            f" {len(unused)} other names (it has {_some(found)}; the network has {_some(wanted)})."
            " Was it made for another backbone?"
        )
    model.load_state_dict(fitting, strict=False)
    missing = tuple(name for name in _names(model) if name not in fitting)
    return replace(report, loaded=loaded, missing=missing, mismatched=mismatched, unused=tuple(unused))


def _check_same_backbone(model: Any, path: Path, report: WeightsReport) -> None:
    """Refuse a file of another network, of which no more than a few layers happen to fit."""
    sizes = {name: value.numel() for name, value in model.state_dict().items() if name.startswith(_BACKBONE)}
    share = sum(sizes.get(name, 0) for name in report.loaded) / sum(sizes.values())
    others = {name: shapes for name, shapes in report.mismatched.items() if name in sizes}
    if share >= _LEAST_OF_A_BACKBONE or (share > 0 and not others):
        return
    example = next((f", such as {name}: {theirs} there, {ours} here" for name, (theirs, ours) in others.items()), "")
    raise InputError(
        f"{path} is of another network: {share:.0%} of the backbone fits, {len(others)} of its tensors have other shapes{example}."
        " Take a file of the same net_type (and the same backbone in `pytorch_config`), or other `weights`."
    )


def _is_wanted(name: str, source: WeightsSource) -> bool:
    return not source.backbone_only or name.startswith(_BACKBONE)


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


# ---- SuperAnimals


def superanimal_file(superanimal: str, network: str) -> Path:
    """Return the file with the weights of a SuperAnimal's network or detector; DeepLabCut downloads it where it is not there yet.

    Raises
    ------
    EnvironmentProblem
        It is not there, and the hub cannot be reached: says which file to put where.
    """
    with chatter_logged():
        from deeplabcut.pose_estimation_pytorch.modelzoo import utils

    path: Path = utils.get_super_animal_snapshot_path(superanimal, network, download=False)
    if path.is_file():
        return path
    why = why_no_hub()
    if why is None:
        try:
            with chatter_logged():
                utils.download_super_animal_snapshot(superanimal, network)
            return path
        except (OSError, RuntimeError, ValueError) as err:  # the hub's client has errors of all these kinds
            why = f"the download failed: {err}"
    raise EnvironmentProblem(
        f"The weights of {superanimal} for {network} are not on this machine, and {why}. Put the file {_zoo_file(superanimal, network)}"
        f" at {path} (a copy from a machine that has it), or connect this machine once, or change `weights` in the model specification."
    )


def _zoo_file(superanimal: str, network: str) -> str:
    from dlclibrary.dlcmodelzoo import modelzoo_download  # type: ignore[import-untyped]  # no stubs

    owner, repository, *_, name = str(modelzoo_download._load_model_names()[f"{superanimal}_{network}"]).split("/")
    return f"{name} of {owner}/{repository} on the model hub"


def _with_heads(
    pytorch_config: Mapping[str, Any], weights: WeightsSource, destination: Path, seed: int, memory_replay: bool
) -> tuple[Any, WeightsReport]:
    """Let DeepLabCut take over a SuperAnimal with its heads, whose body parts it picks by the names of the project's."""
    path = superanimal_file(str(weights.superanimal), str(pytorch_config["net_type"]))
    _read_tensors(path)  # says what is wrong with a file that is no weights
    known = superanimal_bodyparts(str(weights.superanimal))
    bodyparts = list(pytorch_config["metadata"]["bodyparts"])
    with chatter_logged():
        import numpy as np
        import torch
        from deeplabcut.core.weight_init import WeightInitialization
        from deeplabcut.pose_estimation_pytorch.models.model import PoseModel

        start = WeightInitialization(
            snapshot_path=path,
            dataset=weights.superanimal,
            with_decoder=True,
            memory_replay=memory_replay,
            conversion_array=np.array([known.index(name) for name in bodyparts]),
            bodyparts=bodyparts,
        )
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                model = PoseModel.build(copy.deepcopy(dict(pytorch_config["model"])), weight_init=start)
        except (RuntimeError, KeyError, IndexError) as err:
            raise InputError(
                f"The weights in {path} do not fit {weights.superanimal}'s {pytorch_config['net_type']}: {err}. Was the file made"
                " for another network, or does `pytorch_config` change this one?"
            ) from err
    return model, WeightsReport(destination, weights, seed, loaded=_names(model))


# ---- ImageNet and COCO


def _coco(name: str, detector_model: Mapping[str, Any], seed: int) -> Any:
    path, url = coco_file(name)
    why = None if path.is_file() else _why_unreachable(url, _HUB_PATIENCE)
    if why is None:
        try:
            return built_detector(detector_model, seed, pretrained=True)
        except (OSError, RuntimeError, pickle.UnpicklingError) as err:
            if path.is_file():
                raise InputError(
                    f"{path} cannot be read as the detector's weights: {err}. Delete it, and try again."
                ) from err
            why = str(err)
    raise EnvironmentProblem(
        f"The weights that the detector {name} starts from (trained on COCO) are not on this machine, and {url} cannot be had: {why}."
        f" Put that file at {path} (a copy from a machine that has it), or connect this machine once, or change `weights` in the"
        " model specification to `random`."
    )


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
    loaded = tuple(name for name in _names(model) if name.startswith(_BACKBONE))
    missing = tuple(name for name in _names(model) if not name.startswith(_BACKBONE))
    return model, WeightsReport(destination, weights, seed, loaded=loaded, missing=missing)


def _downloaded(model_config: Mapping[str, Any], seed: int) -> Any:
    from huggingface_hub import constants

    why = why_no_hub()
    if why is not None:
        raise _hub_problem(model_config, why)
    try:
        return _built(model_config, seed, pretrained=True)
    except OSError as err:
        raise _hub_problem(model_config, f"{constants.ENDPOINT} did not give them: {err}") from err


def why_no_hub() -> str | None:
    """Return why nothing can be fetched from the model hub, None where it answers; within seconds."""
    from huggingface_hub import constants

    if constants.is_offline_mode():
        return "HF_HUB_OFFLINE is set"
    why = _why_unreachable(constants.ENDPOINT, _HUB_PATIENCE)
    return None if why is None else f"{constants.ENDPOINT} cannot be reached: {why}"


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
