"""Following DeepLabCut's training from inside its loop: progress, snapshots that survive a kill, an early stop, an interrupt.

DeepLabCut trains as it always does. Its runner gets another keeper of snapshots and three of its methods are wrapped, so that each
batch and each epoch passes by here.
"""

from __future__ import annotations

import contextlib
import math
import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, ModuleType
from typing import Any

from dlc_assets.engine.training_checkpoint import (
    Checkpoint,
    Stage,
    checkpoint_files,
    random_state,
    read_checkpoint,
    remove_checkpoints,
    set_random_state,
    write_checkpoint,
)
from dlc_assets.lab.files import atomic_path, sha256_file

# A checkpoint is written after each epoch, unless that would take more than this share of the time; then at least so often (s).
_SHARE = 0.05
_AT_LEAST_EVERY = 120.0

_STATS: Mapping[Stage, str] = {"detector": "learning_stats_detector.csv", "pose": "learning_stats.csv"}


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
    stage
        ``pose``, or ``detector`` while that of a top-down network is trained.
    """

    epoch: int
    epochs: int
    train_loss: float
    validation: dict[str, float]
    seconds: float
    stage: Stage = "pose"


@dataclass(frozen=True)
class BatchStats:
    """How far an epoch is: `batch` of `batches` are done, 0 when it begins; the loss of the last (NaN where there is none)."""

    epoch: int
    epochs: int
    batch: int
    batches: int
    loss: float
    validating: bool
    stage: Stage = "pose"


@dataclass(frozen=True)
class StageResult:
    """How a stage ended: the epochs done, the best of them (None where none was validated), and what happened on the way."""

    epoch: int
    best_epoch: int | None
    stopped_early: bool
    resumed_at: tuple[int, ...]
    seconds: float


@dataclass
class Fed:
    """What the network was given last (`height` and `width` in px): for whoever must say why it did not fit into memory."""

    stage: Stage = "pose"
    epoch: int = 1
    validating: bool = False
    pictures: int = 1
    height: int = 0
    width: int = 0

    @property
    def sides(self) -> dict[str, int]:
        """Width and height by name."""
        return {"width": self.width, "height": self.height}


class TrainingWatch:
    """What `network_training.train_network` wants to know of a training, and how it should go.

    Parameters
    ----------
    folder
        Where DeepLabCut puts its snapshots.
    resume
        Go on from the checkpoint that an earlier process left in *folder*; else whatever it left is removed.
    patience
        Stop once the validation has not become better for so many epochs; None never stops.
    log
        Gets a sentence about where training goes on, and why it stopped.

    Attributes
    ----------
    results
        How each stage ended.
    fed
        What the network was given last.
    """

    def __init__(
        self,
        folder: Path,
        *,
        resume: bool,
        patience: int | None,
        on_epoch: Callable[[EpochStats], None],
        on_batch: Callable[[BatchStats], None],
        log: Callable[[str], None],
    ) -> None:
        self.folder, self.patience = folder, patience
        self.on_epoch, self.on_batch, self.log = on_epoch, on_batch, log
        self.results: dict[Stage, StageResult] = {}
        self.fed = Fed()
        self._interrupt: tuple[Callable[[int, FrameType | None], Any], int] | None = None
        if not resume:
            remove_checkpoints(folder)

    @contextlib.contextmanager
    def following(self, training: ModuleType) -> Iterator[None]:
        """Follow every training that DeepLabCut's module *training* begins inside."""
        original = training.build_training_runner

        def build(*args: Any, **settings: Any) -> Any:
            stage: Stage = "detector" if settings["task"] == training.Task.DETECT else "pose"
            checkpoint = read_checkpoint(self.folder, stage, self.log)
            _set_stats(self.folder / _STATS[stage], checkpoint)
            runner = original(*args, **settings)
            _FollowedStage(self, stage, runner, checkpoint).attach()
            return runner

        training.build_training_runner = build  # type: ignore[attr-defined]  # a module's own function
        try:
            with self._insisting():
                yield
        finally:
            training.build_training_runner = original  # type: ignore[attr-defined]

    def heed(self) -> None:
        """Raise again what a signal's handler raised, if that was lost: Python drops it where a callback from C is under way."""
        if self._interrupt is not None:
            handler, signal_number = self._interrupt
            self._interrupt = None
            handler(signal_number, None)

    @contextlib.contextmanager
    def _insisting(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

        def remembering(number: int, frame: FrameType | None) -> None:
            handler = before[signal.Signals(number)]
            assert callable(handler)
            self._interrupt = (handler, number)
            handler(number, frame)

        replaced = [number for number, handler in before.items() if callable(handler)]
        for number in replaced:
            signal.signal(number, remembering)
        try:
            yield
        finally:
            for number in replaced:
                signal.signal(number, before[number])


class _Stop(Exception):
    """Ends DeepLabCut's loop over epochs: what was trained is kept."""


class _FollowedStage:
    """One network in training; stands in for the runner's `TorchSnapshotManager`, whose rules it keeps.

    Those are: the best network is ``snapshot-best-NNN.pt``; every `save_epochs` and at the end there is a ``snapshot-NNN.pt``; the
    newest `max_snapshots` of these stay. Other than DeepLabCut's, files appear whole, and those that the last checkpoints name stay
    until there are newer ones.
    """

    def __init__(self, watch: TrainingWatch, stage: Stage, runner: Any, checkpoint: Checkpoint | None) -> None:
        self._watch, self._stage, self._runner, self._checkpoint = watch, stage, runner, checkpoint
        self._rules = runner.snapshot_manager
        self._folder = Path(self._rules.model_folder)
        self._name = re.compile(rf"{re.escape(self._rules.snapshot_prefix)}(-best)?-(\d+)\.pt")
        self._epoch, self._epochs = checkpoint.epoch if checkpoint else 0, 0
        self._best_epoch = checkpoint.best_epoch if checkpoint else None
        self._best_metric = checkpoint.best_metric if checkpoint else None
        self._resumed_at = checkpoint.resumed_at if checkpoint else ()
        self._seconds_before = checkpoint.seconds if checkpoint else 0.0
        self._hashes: dict[str, str] = dict(checkpoint.snapshots) if checkpoint else {}
        self._live = set(self._hashes)
        self._earlier: set[str] = set()
        self._stopped = bool(checkpoint and checkpoint.stopped_early)
        self._begun = self._epoch_begun = self._saved = time.monotonic()
        self._cost = 0.0
        self._batch = self._batches = 0

    def attach(self) -> None:
        """Make the runner pass its batches and epochs by here."""
        runner, fit, epoch, step = self._runner, self._runner.fit, self._runner._epoch, self._runner.step
        self._remove_all_but(self._live)

        def followed_fit(train_loader: Any, valid_loader: Any, epochs: int, display_iters: int) -> None:
            self._epochs = epochs
            if self._checkpoint is not None:
                self._go_on(self._checkpoint)
            if self._checkpoint is None or not self._checkpoint.finished:
                self._begun = self._epoch_begun = self._saved = time.monotonic()
                with contextlib.suppress(_Stop):
                    fit(train_loader, valid_loader, epochs - runner.starting_epoch, display_iters)
            self._watch.results[self._stage] = StageResult(
                self._epoch, self._best_epoch, self._stopped, self._resumed_at, self._seconds()
            )

        def followed_epoch(loader: Any, mode: str = "train", display_iters: int = 500) -> Any:
            if mode == "train" and self._stopped:
                raise _Stop
            self._batch, self._batches = 0, len(loader)
            self._report_batch(mode, math.nan)
            return epoch(loader, mode=mode, display_iters=display_iters)

        def followed_step(batch: Any, mode: str = "train") -> Any:
            fed = self._watch.fed
            fed.stage, fed.epoch, fed.validating = self._stage, runner.current_epoch, mode != "train"
            fed.pictures, _, fed.height, fed.width = batch["image"].shape
            self._watch.heed()
            losses = step(batch, mode)
            self._watch.heed()
            self._batch += 1
            self._report_batch(mode, float(losses.get("total_loss", math.nan)))
            return losses

        runner.snapshot_manager = self
        runner.fit, runner._epoch, runner.step = followed_fit, followed_epoch, followed_step

    def _report_batch(self, mode: str, loss: float) -> None:
        epoch, validating = self._runner.current_epoch, mode != "train"
        self._watch.on_batch(BatchStats(epoch, self._epochs, self._batch, self._batches, loss, validating, self._stage))

    def _go_on(self, checkpoint: Checkpoint) -> None:
        runner, state = self._runner, checkpoint.state
        runner.model.load_state_dict(state["model"])
        runner.optimizer.load_state_dict(state["optimizer"])
        if runner.scheduler is not None and state["scheduler"] is not None:
            runner.scheduler.load_state_dict(state["scheduler"])
        runner._metadata = dict(state["metadata"])
        runner.starting_epoch = runner.current_epoch = checkpoint.epoch
        set_random_state(checkpoint.random)
        what = "the detector's training" if self._stage == "detector" else "training"
        if checkpoint.finished:
            self._watch.log(f"{what} was finished already, after epoch {checkpoint.epoch} of {checkpoint.epochs}")
            self._tidy()
            return
        self._resumed_at = (*self._resumed_at, checkpoint.epoch)
        self._watch.log(
            f"{what} goes on after epoch {checkpoint.epoch} of {checkpoint.epochs}, where it was broken off"
        )

    def update(self, epoch: int, state_dict: Mapping[str, Any], last: bool = False) -> None:
        """Keep what an epoch has trained, as DeepLabCut's runner asks after each."""
        self._epoch, metadata = epoch, state_dict["metadata"]
        validated = epoch % self._runner.eval_interval == 0
        metric = metadata["metrics"].get(f"metrics/{self._rules.key_metric}")
        better = validated and self._is_better(metric)
        # Without pycocotools DeepLabCut does not measure a detector: there is no better or worse to wait for.
        stopping = validated and metric is not None and not better and not last and self._out_of_patience(epoch)
        if better:
            previous, self._best_epoch = self._best_epoch, epoch
            self._save(epoch, state_dict, best=True)
            if previous is not None:
                self._demote(previous)
        elif last or stopping or epoch % self._rules.save_epochs == 0:
            self._save(epoch, state_dict, best=False)
        self._leave_out_old_ones()
        if stopping:
            self._stopped = True
            self._watch.log(
                f"training stops after epoch {epoch} of {self._epochs}: the validation has not become better since epoch "
                f"{self._best_epoch or 0}, and training.patience is {self._watch.patience}"
            )
        if last or stopping or self._is_due():
            self._keep(epoch, state_dict)
        self._tidy()
        now = time.monotonic()
        seconds, self._epoch_begun = now - self._epoch_begun, now
        self._watch.on_epoch(
            EpochStats(
                epoch,
                self._epochs,
                float(metadata["losses"].get("train.total_loss", math.nan)),
                _validation(metadata) if validated else {},
                seconds,
                self._stage,
            )
        )

    # ---- what is best, and when it is enough

    def _is_better(self, value: Any) -> bool:
        if value is None or math.isnan(value):
            return False
        best = self._best_metric
        if best is not None and not (value > best if self._rules.key_metric_asc else value < best):
            return False
        self._best_metric = float(value)
        return True

    def _out_of_patience(self, epoch: int) -> bool:
        return self._watch.patience is not None and epoch - (self._best_epoch or 0) >= self._watch.patience

    # ---- files

    def _save(self, epoch: int, state_dict: Mapping[str, Any], *, best: bool) -> None:
        import torch

        name = self._rules.snapshot_path(epoch, best=best).name
        content = {
            key: value for key, value in state_dict.items() if self._rules.save_optimizer_state or key != "optimizer"
        }
        # Into a stream: given a path, torch.save writes the file's name into the file, whose hash would then hold the partial's.
        with atomic_path(self._folder / name) as partial, partial.open("wb") as stream:
            torch.save(content, stream)
        self._hashes.pop(name, None)
        self._live = {other for other in self._live if not best or not self._is_best(other)} | {name}

    def _demote(self, epoch: int) -> None:
        """Keep the network that was the best as an ordinary snapshot, if its epoch has one."""
        best, regular = (self._rules.snapshot_path(epoch, best=which) for which in (True, False))
        if epoch % self._rules.save_epochs or not best.is_file():
            return
        regular.unlink(missing_ok=True)
        try:
            os.link(best, regular)
        except OSError:  # a file system without links
            shutil.copyfile(best, regular)
        self._hashes.pop(regular.name, None)
        self._live.add(regular.name)

    def _leave_out_old_ones(self) -> None:
        regular = sorted((name for name in self._live if not self._is_best(name)), key=self._epoch_of)
        self._live -= set(regular[: -self._rules.max_snapshots])

    def _is_best(self, name: str) -> bool:
        found = self._name.fullmatch(name)
        return found is not None and found[1] is not None

    def _epoch_of(self, name: str) -> int:
        found = self._name.fullmatch(name)
        assert found is not None
        return int(found[2])

    def _is_due(self) -> bool:
        return time.monotonic() - self._saved >= min(self._cost / _SHARE, _AT_LEAST_EVERY)

    def _keep(self, epoch: int, state_dict: Mapping[str, Any]) -> None:
        begun = time.monotonic()
        hashes = {name: self._hashes.get(name) or sha256_file(self._folder / name) for name in sorted(self._live)}
        stats = self._folder / _STATS[self._stage]
        checkpoint = Checkpoint(
            epoch=epoch,
            epochs=self._epochs,
            best_epoch=self._best_epoch,
            best_metric=self._best_metric,
            stopped_early=self._stopped,
            resumed_at=self._resumed_at,
            seconds=self._seconds(),
            learning_stats=stats.read_bytes().decode() if stats.is_file() else "",
            snapshots=hashes,
            state={
                "model": state_dict["model"],
                "optimizer": state_dict["optimizer"],
                "scheduler": state_dict.get("scheduler"),
                "metadata": _plain_metadata(state_dict["metadata"]),
            },
            random=random_state(),
        )
        write_checkpoint(self._folder, self._stage, checkpoint)
        # Of a training that is over nothing but its result is wanted.
        before = self._checkpoint
        self._earlier = set() if before is None or checkpoint.finished else set(before.snapshots)
        self._hashes, self._checkpoint = hashes, checkpoint
        if checkpoint.finished:
            checkpoint_files(self._folder, self._stage)[1].unlink(missing_ok=True)
        self._saved = time.monotonic()
        self._cost = self._saved - begun

    def _tidy(self) -> None:
        named = set(self._checkpoint.snapshots) if self._checkpoint is not None else set()
        self._remove_all_but(self._live | named | self._earlier)

    def _remove_all_but(self, wanted: set[str]) -> None:
        for path in self._folder.iterdir():
            if self._name.fullmatch(path.name) and path.name not in wanted:
                path.unlink()

    def _seconds(self) -> float:
        return self._seconds_before + time.monotonic() - self._begun


def _set_stats(path: Path, checkpoint: Checkpoint | None) -> None:
    """Make the learning curve end where training goes on: DeepLabCut goes on with the file that it finds."""
    if checkpoint is None or not checkpoint.learning_stats:
        path.unlink(missing_ok=True)
    else:
        with atomic_path(path) as partial:
            partial.write_bytes(checkpoint.learning_stats.encode())  # its line ends as DeepLabCut writes them


def _validation(metadata: Mapping[str, Any]) -> dict[str, float]:
    found = {key.removeprefix("metrics/test."): float(value) for key, value in metadata["metrics"].items()}
    loss = float(metadata["losses"].get("eval.total_loss", math.nan))
    return found if math.isnan(loss) else {**found, "loss": loss}


def _plain_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the runner's metadata with numbers that can be read back without trusting the file."""
    plain: dict[str, Any] = {"epoch": int(metadata["epoch"])}
    for block in ("metrics", "losses"):
        plain[block] = {key: float(value) for key, value in metadata[block].items()}
    return plain
