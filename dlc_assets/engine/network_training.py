"""Training one network with DeepLabCut's own `train_network`, its settings checked before the first epoch."""

from __future__ import annotations

import contextlib
import copy
import csv
import logging
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from dlc_assets.engine.chatter import chatter_logged
from dlc_assets.engine.workspace import pytorch_config_file, read_pytorch_config
from dlc_assets.lab.errors import EnvironmentProblem, InputError, SettingsError, did_you_mean

_log = logging.getLogger(__name__)

_CHANNELS = "model.backbone_output_channels"

# Entries with a place of their own: stated twice, one of the two would be a lie in every record of the training.
_SAID_ELSEWHERE = {
    "train_settings.epochs": "`training: {epochs: ...}`",
    "train_settings.batch_size": "`training: {batch_size: ...}`",
    "train_settings.seed": "`training: {seed: ...}`",
    "runner.snapshots.save_epochs": "`training: {save_epochs: ...}`",
    "runner.snapshots.max_snapshots": "`training: {max_snapshots: ...}`",
    "train_settings.weight_init": "`weights`",
    "resume_training_from": "`weights`",
    "net_type": "`net_type`",
    "method": "`net_type`",
    "device": "`gpus` in lab.yaml",
    "metadata": "the project's body parts",
}


@dataclass(frozen=True)
class EpochStats:
    """One finished epoch.

    Attributes
    ----------
    epoch, epochs
        This one (from 1), and how many there will be.
    validation
        DeepLabCut's metrics on the validation frames (``rmse`` in px, ``rmse_pcutoff``, ``mAP``, ``mAR`` in %) and
        ``loss``; empty after an epoch that was not validated.
    seconds
        What this epoch took.
    """

    epoch: int
    epochs: int
    train_loss: float
    validation: dict[str, float]
    seconds: float


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
    """

    snapshot: Path
    last_snapshot: Path
    epoch: int
    pytorch_config: dict[str, Any]
    pytorch_config_file: Path
    learning_stats: Path
    seconds: float
    other_snapshots: Mapping[int, Path] = field(default_factory=dict)


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
) -> TrainedNetwork:
    """Train the network of a project that `workspace.make_training_dataset` made, in place, from the first epoch.

    Snapshots of an earlier attempt in the same project are removed first: DeepLabCut would count them among the new.

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

    Raises
    ------
    SettingsError, InputError, EnvironmentProblem
        Before training starts.
    """
    config_file = pytorch_config_file(project_root)
    written = read_pytorch_config(config_file)
    changes = _all_changes(written, pytorch_config)
    changes.setdefault("runner.eval_interval", _eval_interval(epochs, written["runner"]["eval_interval"]))
    _applied(_complete(written), changes)  # says what is wrong before anything is changed
    if weights_file is not None and not weights_file.is_file():
        raise InputError(f"There is no file {weights_file} to start training from.")
    device = resolved_device(device)
    if device == "cpu":
        changes.setdefault("train_settings.dataloader_workers", 0)  # they would take the cores that the network needs
    changes["train_settings.seed"] = seed
    changes["runner.snapshots.max_snapshots"] = max_snapshots  # DeepLabCut's own limit leaves the best one out
    _remove_leftovers(config_file.parent)

    watch = _EpochWatch(config_file.with_name("learning_stats.csv"), on_epoch)
    begun = time.monotonic()
    with chatter_logged():
        from deeplabcut.pose_estimation_pytorch.apis import training

        with _own_logging(training, watch):
            training.train_network(
                project_root / "config.yaml",
                shuffle=1,
                device=device,
                snapshot_path=weights_file,
                batch_size=batch_size,
                epochs=epochs,
                save_epochs=save_epochs,
                pytorch_cfg_updates=changes,
            )
    return _trained(config_file, time.monotonic() - begun, max_snapshots)


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


def _trained(config_file: Path, seconds: float, max_snapshots: int) -> TrainedNetwork:
    from deeplabcut.pose_estimation_pytorch.data.snapshots import list_snapshots

    config = read_pytorch_config(config_file)
    prefix = config["runner"].get("snapshot_prefix") or "snapshot"
    by_choice = list_snapshots(config_file.parent, prefix, best_in_last=True)
    by_epoch = list_snapshots(config_file.parent, prefix, best_in_last=False)
    others = {found.epochs: found.path for found in by_epoch if found.path != by_choice[-1].path}
    return TrainedNetwork(
        snapshot=by_choice[-1].path,
        last_snapshot=by_epoch[-1].path,
        epoch=by_choice[-1].epochs,
        pytorch_config=config,
        pytorch_config_file=config_file,
        learning_stats=config_file.with_name("learning_stats.csv"),
        seconds=seconds,
        other_snapshots=dict(sorted(others.items())[max(0, len(others) + 1 - max_snapshots) :]),
    )


def _remove_leftovers(train_folder: Path) -> None:
    for pattern in ("snapshot-*.pt", "learning_stats.csv", "train.txt"):
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
    changes = dict(overrides)
    if any(path == "model.backbone" or path.startswith("model.backbone.") for path in overrides):
        changed = _applied(complete, overrides, check=False)
        for path, value in _fitting_channels(changed, complete["model"]["backbone_output_channels"]).items():
            if not any(path == said or path.startswith(f"{said}.") for said in overrides):
                changes[path] = value
    return changes


def _complete(pytorch_config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the configuration with every entry that DeepLabCut knows, also those that its file leaves out."""
    with chatter_logged():
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
        return _complete(config)
    except pydantic.ValidationError as err:
        wrong = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in err.errors())
        raise SettingsError(f"pytorch_config: DeepLabCut refuses these values: {wrong}.") from err


def _fitting_channels(config: Mapping[str, Any], channels_before: int) -> dict[str, Any]:
    """Return the changes that make the heads fit the backbone's output, which a small image shows."""
    channels = _backbone_channels(config["model"]["backbone"])
    changes: dict[str, Any] = {_CHANNELS: channels}
    for path in _paths(config["model"]["heads"], "model.heads."):
        if path.endswith(".channels"):
            value = _at(config, path)
            if isinstance(value, list) and value and value[0] == channels_before:
                changes[path] = [channels, *value[1:]]
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


class _EpochWatch(logging.Handler):
    """Calls *on_epoch* at each line in which DeepLabCut says that an epoch is over."""

    _over = re.compile(r"Epoch (\d+)/(\d+) \(lr=[^)]*\), train loss (\S+?)(,|$)")

    def __init__(self, learning_stats: Path, on_epoch: Callable[[EpochStats], None]) -> None:
        super().__init__(logging.INFO)
        self._learning_stats, self._on_epoch = learning_stats, on_epoch
        self._last = time.monotonic()

    def emit(self, record: logging.LogRecord) -> None:
        over = self._over.match(record.getMessage())
        if over is None:
            return
        now = time.monotonic()
        seconds, self._last = now - self._last, now
        epoch, epochs, loss = int(over[1]), int(over[2]), float(over[3])
        self._on_epoch(EpochStats(epoch, epochs, loss, self._validation(epoch), seconds))

    def _validation(self, epoch: int) -> dict[str, float]:
        with self._learning_stats.open(newline="") as stream:
            row = next((row for row in csv.DictReader(stream) if int(row["step"]) == epoch), {})
        found = {
            key.removeprefix("metrics/test."): value for key, value in row.items() if key.startswith("metrics/test.")
        }
        found["loss"] = row.get("losses/eval.total_loss", "")
        return {key: float(value) for key, value in found.items() if value}


@contextlib.contextmanager
def _own_logging(training: ModuleType, watch: logging.Handler) -> Iterator[None]:
    """Send DeepLabCut's training log to its train.txt and to *watch*, and leave the process' logging as it was.

    DeepLabCut would close every handler of the root logger at the start and leave it without any at the end.
    """
    root = logging.getLogger()
    level, ours = root.level, list(root.handlers)
    theirs: list[logging.Handler] = [watch]

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
    root.addHandler(watch)
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
