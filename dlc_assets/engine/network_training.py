"""Training one network with DeepLabCut's own `train_network`, its settings checked before the first epoch."""

from __future__ import annotations

import contextlib
import copy
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from dlc_assets.engine.chatter import chatter_logged
from dlc_assets.engine.detectors import backbones_not_downloaded, flips_not_warned_of
from dlc_assets.engine.memory_replay import MemoryReplay, remembering
from dlc_assets.engine.training_checkpoint import Stage
from dlc_assets.engine.training_watch import BatchStats, EpochStats, Fed, TrainingWatch
from dlc_assets.engine.workspace import pytorch_config_file, read_pytorch_config
from dlc_assets.lab.errors import EnvironmentProblem, InputError, SettingsError, did_you_mean

_log = logging.getLogger(__name__)

_DETECTOR_PREFIX = "snapshot-detector"
_CHANNELS = "model.backbone_output_channels"

# What torch says of full memory where it does not raise an error of its own kind for it.
_NO_MEMORY = re.compile(
    r"out of memory|can't allocate memory|not enough memory|CUBLAS_STATUS_ALLOC_FAILED", re.IGNORECASE
)

# Entries with a place of their own: stated twice, one of the two would be a lie in every record of the training.
_SAID_ELSEWHERE = {
    "train_settings.epochs": "`training: {epochs: ...}`",
    "train_settings.batch_size": "`training: {batch_size: ...}`",
    "train_settings.seed": "`training: {seed: ...}`",
    "runner.snapshots.save_epochs": "`training: {save_epochs: ...}`",
    "runner.snapshots.max_snapshots": "`training: {max_snapshots: ...}`",
    "train_settings.weight_init": "`weights`",
    "resume_training_from": "`weights`",
    "detector.train_settings.epochs": "`training: {detector_epochs: ...}`",
    "detector.train_settings.batch_size": "`training: {detector_batch_size: ...}`",
    "detector.train_settings.weight_init": "`weights`",
    "detector.resume_training_from": "`weights`",
    "detector.model.type": "`detector`",
    "detector.model.variant": "`detector`",
    "net_type": "`net_type`",
    "method": "`net_type`",
    "device": "`gpus` in lab.yaml",
    "metadata": "the project's body parts",
}


@dataclass(frozen=True)
class TrainedNetwork:
    """What a training left behind.

    Attributes
    ----------
    snapshot
        The best network by DeepLabCut's own choice (validation mAP unless `runner.key_metric` says otherwise).
    last_snapshot
        That of the last epoch; the same file when the last epoch was the best.
    epoch
        The one that `snapshot` comes from.
    other_snapshots
        Those of other epochs that are kept, by epoch: the newest, `max_snapshots` with the best one.
    pytorch_config
        As trained, and its file `pytorch_config_file`.
    learning_stats
        DeepLabCut's learning_stats.csv.
    seconds
        What training took, that of processes that were broken off included.
    last_epoch
        How many epochs were trained.
    stopped_early
        Whether that is fewer than asked for because `patience` was over.
    resumed_at, detector_resumed_at
        The epochs after which training (of the network, and before it of the detector) went on in a new process.
    detector
        The snapshot of a top-down network's detector: the best by its validation, where that can be measured (DeepLabCut needs
        pycocotools for it), else the last; None for other networks.
    detector_epoch
        The epoch that `detector` comes from.
    """

    snapshot: Path
    last_snapshot: Path
    epoch: int
    pytorch_config: dict[str, Any]
    pytorch_config_file: Path
    learning_stats: Path
    seconds: float
    other_snapshots: Mapping[int, Path] = field(default_factory=dict)
    last_epoch: int | None = None
    stopped_early: bool = False
    resumed_at: tuple[int, ...] = ()
    detector_resumed_at: tuple[int, ...] = ()
    detector: Path | None = None
    detector_epoch: int | None = None


def configured(pytorch_config: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return *pytorch_config* with dotted *overrides* applied, and channels that fit the backbone.

    Raises
    ------
    SettingsError
        A path that does not exist, a value that DeepLabCut refuses, or a backbone that cannot be built.
    """
    return _applied(_complete(pytorch_config), _all_changes(pytorch_config, overrides))


def train_network(
    project_root: Path,
    *,
    weights_file: Path | None,
    epochs: int,
    batch_size: int,
    save_epochs: int,
    seed: int,
    pytorch_config: Mapping[str, Any],
    device: str | None,
    on_epoch: Callable[[EpochStats], None],
    max_snapshots: int = 5,
    patience: int | None = None,
    resume: bool = False,
    on_batch: Callable[[BatchStats], None] = lambda _: None,
    log: Callable[[str], None] = _log.info,
    detector_weights_file: Path | None = None,
    detector_epochs: int = 1,
    detector_batch_size: int = 1,
    replay: MemoryReplay | None = None,
) -> TrainedNetwork:
    """Train the network of a project that `workspace.make_training_dataset` made, in place.

    Training that is broken off, however that happens, leaves a checkpoint of the last epochs. Snapshots of an earlier attempt that is
    not gone on from are removed first: DeepLabCut would count them among the new.

    Parameters
    ----------
    weights_file
        From `weights.initial_weights`; with None DeepLabCut asks the model hub for ImageNet weights.
    pytorch_config
        Dotted overrides of pytorch_config.yaml, as for `configured`.
    device
        ``cpu``, ``cuda``, ``cuda:1``; None takes the GPU where there is one.
    on_epoch
        Called after each epoch; an exception that it raises ends the training and comes out of here.
    max_snapshots
        How many snapshots are kept, the best among them.
    patience
        Stop at a validation when none was better for so many epochs; None trains to the end.
    resume
        Go on from the checkpoint that an earlier attempt with the same arguments left in this project; without one, begin.
    on_batch
        Called after each batch, as `on_epoch`.
    log
        Gets a sentence where training goes on or stops early.
    detector_weights_file, detector_epochs, detector_batch_size
        For the detector of a top-down network, which is trained first; from `weights.initial_detector_weights`. Others ignore them.
    replay
        What the network should remember of the SuperAnimal that it starts from.

    Raises
    ------
    SettingsError, InputError, EnvironmentProblem
        Before training starts.
    EnvironmentProblem
        The memory, or the disk, is full.
    """
    config_file = pytorch_config_file(project_root)
    written = read_pytorch_config(config_file)
    changes = _all_changes(written, pytorch_config)
    changes.setdefault("runner.eval_interval", _eval_interval(epochs, written["runner"]["eval_interval"]))
    _applied(_complete(written), changes)  # says what is wrong before anything is changed
    for file in (weights_file, detector_weights_file):
        if file is not None and not file.is_file():
            raise InputError(f"There is no file {file} to start training from.")
    device = resolved_device(device)
    if device == "cpu":
        changes.setdefault("train_settings.dataloader_workers", 0)  # they would take the cores that the network needs
    changes["train_settings.seed"] = seed
    changes["runner.snapshots.max_snapshots"] = max_snapshots  # DeepLabCut's own limit leaves the best one out
    if written.get("detector"):
        interval = _eval_interval(detector_epochs, written["detector"]["runner"]["eval_interval"])
        changes.setdefault("detector.runner.eval_interval", interval)
        if device == "cpu":
            changes.setdefault("detector.train_settings.dataloader_workers", 0)
        changes["detector.runner.snapshots.max_snapshots"] = 1
    if not resume:
        _remove_leftovers(config_file.parent)

    watch = TrainingWatch(
        config_file.parent, resume=resume, patience=patience, on_epoch=on_epoch, on_batch=on_batch, log=log
    )
    with chatter_logged():
        from deeplabcut.pose_estimation_pytorch.apis import training

        with (
            _own_logging(training),
            watch.following(training),
            backbones_not_downloaded(),
            flips_not_warned_of(written),
            remembering(config_file, replay),
            _saying_when_memory_is_full(watch.fed, {"pose": batch_size, "detector": detector_batch_size}, written),
        ):
            training.train_network(
                project_root / "config.yaml",
                shuffle=1,
                device=device,
                snapshot_path=weights_file,
                batch_size=batch_size,
                epochs=epochs,
                save_epochs=save_epochs,
                detector_path=detector_weights_file,
                detector_batch_size=detector_batch_size,
                detector_epochs=detector_epochs,
                detector_save_epochs=save_epochs,
                pytorch_cfg_updates=changes,
            )
    return _trained(config_file, watch, max_snapshots)


def resolved_device(device: str | None) -> str:
    """Return the torch device to use: *device*, or else the GPU where there is one, or else ``cpu``.

    Raises
    ------
    EnvironmentProblem
        A GPU was asked for that this process does not see.
    """
    import torch

    if device is None:
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device.startswith("cuda"):
        seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if int(device.partition(":")[2] or 0) >= seen:
            raise EnvironmentProblem(
                f"Device {device} was asked for, but this process sees {seen} GPUs. Check the driver (nvidia-smi) and"
                " CUDA_VISIBLE_DEVICES, or work on the CPU."
            )
    return device


def _trained(config_file: Path, watch: TrainingWatch, max_snapshots: int) -> TrainedNetwork:
    from deeplabcut.pose_estimation_pytorch.data.snapshots import list_snapshots

    config = _without_starting_point(read_pytorch_config(config_file))
    prefix = config["runner"].get("snapshot_prefix") or "snapshot"
    by_choice = list_snapshots(config_file.parent, prefix, best_in_last=True)
    by_epoch = list_snapshots(config_file.parent, prefix, best_in_last=False)
    others = {found.epochs: found.path for found in by_epoch if found.path != by_choice[-1].path}
    ended = watch.results["pose"]
    detectors = list_snapshots(config_file.parent, _DETECTOR_PREFIX) if config.get("detector") else []
    return TrainedNetwork(
        snapshot=by_choice[-1].path,
        last_snapshot=by_epoch[-1].path,
        epoch=by_choice[-1].epochs,
        pytorch_config=config,
        pytorch_config_file=config_file,
        learning_stats=config_file.with_name("learning_stats.csv"),
        seconds=sum(stage.seconds for stage in watch.results.values()),
        other_snapshots=dict(sorted(others.items())[max(0, len(others) + 1 - max_snapshots) :]),
        last_epoch=ended.epoch,
        stopped_early=ended.stopped_early,
        resumed_at=ended.resumed_at,
        detector_resumed_at=watch.results["detector"].resumed_at if "detector" in watch.results else (),
        detector=detectors[-1].path if detectors else None,
        detector_epoch=detectors[-1].epochs if detectors else None,
    )


def _without_starting_point(config: dict[str, Any]) -> dict[str, Any]:
    """Return the configuration without the files of this machine that memory replay began with."""
    for part in (config, config.get("detector") or {}):
        if part.get("train_settings", {}).get("weight_init"):
            part["train_settings"]["weight_init"] = None
    return config


def _remove_leftovers(train_folder: Path) -> None:
    for pattern in ("snapshot-*.pt", "learning_stats*.csv", "train.txt"):
        for leftover in train_folder.glob(pattern):
            leftover.unlink()


def _eval_interval(epochs: int, ceiling: int) -> int:
    """Return the longest interval up to *ceiling* after which the last epoch too is validated.

    DeepLabCut validates every n-th epoch only, and without a validation there is no best network.
    """
    return next(interval for interval in range(min(ceiling, epochs), 0, -1) if epochs % interval == 0)


# ---- overrides


def _all_changes(pytorch_config: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return *overrides*, checked, and what follows from them."""
    complete = _complete(pytorch_config)
    known = set(_paths(complete))
    for path in overrides:
        _check_path(path, known)
    changes = {path: _as_number(path, value, _at(complete, path)) for path, value in overrides.items()}
    if any(path == "model.backbone" or path.startswith("model.backbone.") for path in overrides):
        changed = _applied(complete, changes, check=False)
        for path, value in _fitting_channels(changed, complete["model"]["backbone_output_channels"]).items():
            if not any(path == said or path.startswith(f"{said}.") for said in overrides):
                changes[path] = value
    return changes


def _complete(pytorch_config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration with every entry that DeepLabCut knows, also those that its file leaves out."""
    with chatter_logged(), flips_not_warned_of(pytorch_config):
        from deeplabcut.pose_estimation_pytorch.config.pose import PoseConfig

        return dict(PoseConfig.from_dict(copy.deepcopy(dict(pytorch_config))).to_dict(normalize=True))


def _paths(node: Mapping[str, Any], above: str = "") -> Iterator[str]:
    for key, value in node.items():
        path = f"{above}{key}"
        yield path
        if isinstance(value, Mapping):
            yield from _paths(value, f"{path}.")


def _check_path(path: str, known: set[str]) -> None:
    elsewhere = next((key for key in _SAID_ELSEWHERE if path == key or path.startswith(f"{key}.")), None)
    if elsewhere is not None:
        raise SettingsError(f"pytorch_config: {path} is set by {_SAID_ELSEWHERE[elsewhere]}; say it there.")
    if path not in known:
        raise SettingsError(
            f'pytorch_config: there is no entry "{path}" in DeepLabCut\'s pytorch_config.yaml of this net.'
            f"{did_you_mean(path, known)}"
        )


def _applied(complete: Mapping[str, Any], changes: Mapping[str, Any], *, check: bool = True) -> dict[str, Any]:
    config = copy.deepcopy(dict(complete))
    for path, value in changes.items():
        *above, last = path.split(".")
        node = config
        for key in above:
            node = node[key]
        node[last] = copy.deepcopy(value)
    if not check:
        return config
    import pydantic

    try:
        complete = _complete(config)
    except pydantic.ValidationError as err:
        wrong = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in err.errors())
        raise SettingsError(f"pytorch_config: DeepLabCut refuses these values: {wrong}.") from err
    _check_crops(complete)
    return complete


def _as_number(path: str, value: Any, before: Any) -> Any:
    """Return *value* as a number where there was one: YAML takes 1e-4, without a point, for a text."""
    if not isinstance(value, str) or isinstance(before, bool) or not isinstance(before, int | float):
        return value
    try:
        return float(value)
    except ValueError:
        raise SettingsError(f'pytorch_config: {path} is a number ({before}), got "{value}".') from None


def _check_crops(config: Mapping[str, Any]) -> None:
    for name, head in config["model"]["heads"].items():
        made_for = head.get("input_size")
        for use in ("train", "inference") if made_for else ():
            crop = config["data"][use].get("top_down_crop") or {}
            size = [crop.get("width", 256), crop.get("height", 256)]
            if size != list(made_for):
                raise SettingsError(
                    f"pytorch_config: data.{use}.top_down_crop is {size[0]} x {size[1]} px, but the head {name} of this net is made"
                    f" for pictures of {made_for[0]} x {made_for[1]} px. Leave the crop as it is, or take a net with heatmaps"
                    " (top_down_...)."
                )


def _fitting_channels(config: Mapping[str, Any], channels_before: int) -> dict[str, Any]:
    """Return the changes that make the heads fit the backbone's output, which a small image shows."""
    channels = _backbone_channels(config["model"]["backbone"])
    changes: dict[str, Any] = {_CHANNELS: channels}
    for path in _paths(config["model"]["heads"], "model.heads."):
        if path.endswith(".channels"):
            value = _at(config, path)
            if isinstance(value, list) and value and value[0] == channels_before:
                changes[path] = [channels, *value[1:]]
        elif path.endswith(".in_channels") and _at(config, path) == channels_before:
            changes[path] = channels
    return changes


def _at(config: Mapping[str, Any], path: str) -> Any:
    node: Any = config
    for key in path.split("."):
        node = node[key]
    return node


def _backbone_channels(backbone: Mapping[str, Any]) -> int:
    with chatter_logged():
        import timm
        import torch
        from deeplabcut.pose_estimation_pytorch.models.backbones import BACKBONES

    name = str(backbone.get("model_name"))
    if backbone.get("type") in ("ResNet", "HRNet") and not timm.is_model(name):
        raise SettingsError(
            f'pytorch_config: model.backbone.model_name "{name}" is no network of timm.'
            f"{did_you_mean(name, timm.list_models())}"
        )
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            network = BACKBONES.build({**backbone, "pretrained": False})
            network.eval()  # gives nothing back, unlike torch's own
            return int(network(torch.zeros(1, 3, 64, 64)).shape[1])
    except Exception as err:  # whatever a network of timm raises that DeepLabCut's backbone class cannot carry
        raise SettingsError(
            f'pytorch_config: DeepLabCut cannot use "{name}" as a backbone of type {backbone.get("type")}: {err}'
        ) from err


# ---- following the training


@contextlib.contextmanager
def _saying_when_memory_is_full(
    fed: Fed, batch_sizes: Mapping[Stage, int], config: Mapping[str, Any]
) -> Iterator[None]:
    import torch

    try:
        yield
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if not isinstance(error, torch.OutOfMemoryError) and not _NO_MEMORY.search(str(error)):
            raise
        raise EnvironmentProblem(_memory_words(fed, batch_sizes[fed.stage], config, error)) from error


def _memory_words(fed: Fed, used: int, config: Mapping[str, Any], error: Exception) -> str:
    said = str(error).partition("\n")[0].rstrip(".")
    size = f"{fed.width} x {fed.height} px"
    if fed.validating:
        return (
            f"Out of memory in the validation of epoch {fed.epoch}, which shows whole frames one by one, here {size} ({said}). A smaller "
            "batch does not help there: use a GPU with more free memory (nvidia-smi says who takes it), or a smaller net_type. What "
            "was trained so far is kept: run this again to go on."
        )
    key = "detector_batch_size" if fed.stage == "detector" else "batch_size"
    begun = f"Out of memory in epoch {fed.epoch} of training with {key} {used} and pictures of {size} ({said})."
    if used > 1:
        return (
            f"{begun} Try half of it: `training: {{{key}: {used // 2}}}` in the model specification. nvidia-smi says who else takes "
            "memory of the GPU."
        )
    smaller = ", ".join(f"{path}: {length}" for path, length in _half_the_size(fed, config).items())
    return (
        f"{begun} There is no smaller batch. Try smaller pictures: `pytorch_config: {{{smaller}}}` in the model specification; or a "
        "smaller network, or a GPU with more free memory."
    )


def _half_the_size(fed: Fed, config: Mapping[str, Any]) -> dict[str, int]:
    """Return the entries of pytorch_config.yaml that make the training's pictures half as large."""
    if fed.stage == "detector":
        return {"detector.data.train.collate.max_short_side": min(fed.width, fed.height) // 2}
    block = "top_down_crop" if config["data"]["train"].get("top_down_crop") else "crop_sampling"
    return {f"data.train.{block}.{side}": length // 2 for side, length in fed.sides.items()}


@contextlib.contextmanager
def _own_logging(training: ModuleType) -> Iterator[None]:
    """Send DeepLabCut's training log to its train.txt, and leave the process' logging as it was.

    DeepLabCut would close every handler of the root logger at the start and leave it without any at the end.
    """
    root = logging.getLogger()
    level, ours = root.level, list(root.handlers)
    theirs: list[logging.Handler] = []

    def to_file(path: Path) -> None:
        handler = logging.FileHandler(path, mode="a")
        handler.setFormatter(logging.Formatter("%(asctime)-15s %(message)s", "%Y-%m-%d %H:%M:%S"))
        theirs.append(handler)
        root.addHandler(handler)

    def loud_enough(record: logging.LogRecord) -> bool:
        chatter = record.name == "root" or record.name.startswith("deeplabcut")
        return record.levelno >= level or not chatter

    originals = training.setup_file_logging, training.destroy_file_logging
    training.setup_file_logging, training.destroy_file_logging = to_file, lambda: None  # type: ignore[attr-defined]  # a module's own functions
    for handler in ours:
        handler.addFilter(loud_enough)
    root.setLevel(min(level, logging.INFO) or logging.INFO)  # its epochs are said at INFO
    try:
        yield
    finally:
        training.setup_file_logging, training.destroy_file_logging = originals  # type: ignore[attr-defined]  # a module's own functions
        root.setLevel(level)
        for handler in theirs:
            root.removeHandler(handler)
            handler.close()
        for handler in ours:
            handler.removeFilter(loud_enough)
