"""Saying in the log how far a training is: after its epochs, and within one that takes long."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from dlc_assets.lab.progress import LoggedProgress

if TYPE_CHECKING:
    from dlc_assets.engine.training_watch import BatchStats, EpochStats

_EPOCHS_EVERY = 5.0  # s
_BATCHES_EVERY = 30.0  # s without a line from an epoch


class TrainingProgress:
    """Turns what the engine reports of *model*'s training into lines of a log, with rate and time left.

    The rate counts only what this process trained, so that it is right in a training that goes on from an earlier one.
    """

    def __init__(self, log: Callable[[str], None], model: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._log, self._model, self._clock = log, model, clock
        self._stages: dict[str, LoggedProgress] = {}
        self._said = clock()

    def on_epoch(self, stats: EpochStats) -> None:
        """Say that an epoch is over, with its loss and the error in its validation."""
        words = [f"loss {stats.train_loss:.4g}"]
        if "rmse" in stats.validation:
            words.append(f"validation error {stats.validation['rmse']:.3g} px")
        self._stage(stats.stage, stats.epoch)(stats.epoch, stats.epochs, ", ".join(words))

    def on_batch(self, stats: BatchStats) -> None:
        """Say how far an epoch is, if nothing was said for long."""
        progress = self._stage(stats.stage, stats.epoch)
        if stats.batch == 0 or self._clock() - self._said < _BATCHES_EVERY:
            return
        if stats.validating:
            done, words = float(stats.epoch), f"validating epoch {stats.epoch}: frame {stats.batch} of {stats.batches}"
        else:
            done = stats.epoch - 1 + stats.batch / stats.batches
            words = f"epoch {stats.epoch}: batch {stats.batch} of {stats.batches}, loss {stats.loss:.4g}"
        progress(min(round(done, 2), stats.epochs - 0.01), stats.epochs, words)

    def _stage(self, stage: str, epoch: int) -> LoggedProgress:
        if stage not in self._stages:
            what = f"training {self._model}" + (" (detector)" if stage == "detector" else "")
            self._stages[stage] = LoggedProgress(
                self._say, what, "epochs", every=_EPOCHS_EVERY, before=epoch - 1, clock=self._clock
            )
        return self._stages[stage]

    def _say(self, line: str) -> None:
        self._said = self._clock()
        self._log(line)
