"""What the log says while a network is trained: never nothing for long, and with the right time left."""

from __future__ import annotations

import pytest

from dlc_assets.engine.training_watch import BatchStats, EpochStats
from dlc_assets.training.training_progress import TrainingProgress

EPOCHS = 10


class Training:
    """A training whose epochs of 4 batches take as long as it is told."""

    def __init__(self) -> None:
        self.now = 0.0
        self.said: list[str] = []
        self.progress = TrainingProgress(self.said.append, "walker", clock=lambda: self.now)

    def epoch(self, number: int, seconds: float, *, rmse: float | None = None) -> None:
        self.progress.on_batch(BatchStats(number, EPOCHS, 0, 4, float("nan"), validating=False))
        for batch in range(1, 5):
            self.now += seconds / 4
            self.progress.on_batch(BatchStats(number, EPOCHS, batch, 4, 0.25, validating=False))
        validation = {} if rmse is None else {"rmse": rmse}
        self.progress.on_epoch(EpochStats(number, EPOCHS, 0.5, validation, seconds))


@pytest.fixture
def training() -> Training:
    return Training()


def test_short_epochs_are_said_now_and_then(training: Training) -> None:
    for number in range(1, EPOCHS + 1):
        training.epoch(number, 2.0, rmse=3.25 if number % 2 == 0 else None)
    assert len(training.said) == 4
    assert training.said[-1].startswith("training walker: 10 of 10 epochs, ")
    assert training.said[-1].endswith(", loss 0.5, validation error 3.25 px")


def test_within_a_long_epoch_its_batches_are_said(training: Training) -> None:
    training.epoch(1, 160.0)
    assert training.said == [
        f"training walker: {done} of 10 epochs, 0.00625 epochs/s, {left} left, epoch 1: batch {batch} of 4, loss 0.25"
        for batch, done, left in (
            (1, 0.25, "26 min 0 s"),
            (2, 0.5, "25 min 20 s"),
            (3, 0.75, "24 min 40 s"),
            (4, 1, "24 min 0 s"),
        )
    ]


def test_a_long_validation_is_said_as_such(training: Training) -> None:
    training.epoch(1, 4.0)
    training.now += 100.0
    training.progress.on_batch(BatchStats(1, EPOCHS, 7, 30, float("nan"), validating=True))
    assert training.said[-1].endswith("validating epoch 1: frame 7 of 30")
    training.progress.on_batch(BatchStats(10, EPOCHS, 7, 30, float("nan"), validating=True))
    training.now += 100.0
    training.progress.on_batch(BatchStats(10, EPOCHS, 8, 30, float("nan"), validating=True))
    assert "9.99 of 10 epochs" in training.said[-1], "the last epoch is not over before its validation is"


def test_the_time_left_counts_what_this_process_trained(training: Training) -> None:
    """Four epochs are left of ten, and one takes 20 s: that five were done before makes none faster."""
    training.epoch(6, 20.0)
    assert ", 1 min 20 s left, " in training.said[-1]


def test_the_detector_of_a_top_down_network_is_said_by_name(training: Training) -> None:
    training.progress.on_epoch(EpochStats(1, 2, 0.5, {}, 1.0, stage="detector"))
    training.now += 10.0
    training.progress.on_epoch(EpochStats(2, 2, 0.5, {"mAP": 50.0}, 1.0, stage="detector"))
    training.epoch(1, 10.0)
    assert training.said[0].startswith("training walker (detector): 2 of 2 epochs")
    assert training.said[-1].startswith("training walker: 1 of 10 epochs")
