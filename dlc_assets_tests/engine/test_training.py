"""Training that is broken off, stops early or runs out of memory: a small network, really trained."""

from __future__ import annotations

import math
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from dlc_assets.engine import training_watch
from dlc_assets.engine.network_training import BatchStats, EpochStats, TrainedNetwork, configured, train_network
from dlc_assets.engine.training_checkpoint import checkpoint_files, read_checkpoint
from dlc_assets.engine.weights import WeightsSource, initial_detector_weights, initial_weights
from dlc_assets.engine.workspace import ProjectContent, make_training_dataset, pytorch_config_file
from dlc_assets.lab.errors import EnvironmentProblem
from dlc_assets.lab.files import sha256_file
from dlc_assets_tests.engine.test_engine import BODYPARTS, picture

pytestmark = pytest.mark.slow

EPOCHS = 6
TINY = {
    "model.backbone.model_name": "test_resnet",
    "data.train.crop_sampling.width": 64,
    "data.train.crop_sampling.height": 64,
    "runner.eval_interval": 1,
}


@pytest.fixture(autouse=True)
def checkpoint_after_each_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    """These epochs are so short that writing a checkpoint after each is not worth its time: here it is."""
    monkeypatch.setattr(training_watch, "_SHARE", math.inf)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Networks this small gain nothing from a second core, and lose much where it is busy."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Killed(BaseException):
    """What ends a training that nobody expected to end."""


def labeled(folder: Path) -> ProjectContent:
    """Six labeled images in *folder*."""
    images = []
    for index in range(6):
        image, positions = picture(index)
        source = folder / f"{index}.png"
        Image.fromarray(image).save(source)
        images.append(("day1", source.name, source, positions))
    return ProjectContent(
        task="toy",
        scorer="Ann",
        date="2026-01-01",
        bodyparts=BODYPARTS,
        skeleton=(),
        pcutoff=0.6,
        images=images,
        train=[0, 1, 2, 3],
        validation=(4, 5),
    )


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a project of six images, ready to be trained, and the weights to begin with."""
    folder = tmp_path_factory.mktemp("prepared")
    (folder / "project").mkdir()
    made = make_training_dataset(folder / "project", labeled(folder), net_type="resnet_50")
    initial_weights(configured(made["pytorch_config"], TINY), WeightsSource("random"), folder / "init.pt", seed=3)
    return folder


def train(folder: Path, **settings: Any) -> TrainedNetwork:
    """Train the network of *folder*, a copy of `prepared`."""
    chosen: dict[str, Any] = {
        "weights_file": folder / "init.pt",
        "epochs": EPOCHS,
        "batch_size": 2,
        "save_epochs": 2,
        "seed": 3,
        "pytorch_config": TINY,
        "device": "cpu",
        "on_epoch": lambda _: None,
        "resume": True,
    }
    return train_network(folder / "project", **{**chosen, **settings})


def copied(prepared: Path, folder: Path) -> Path:
    shutil.copytree(prepared, folder)
    return folder


def train_folder(folder: Path) -> Path:
    return pytorch_config_file(folder / "project").parent


def snapshots(folder: Path) -> dict[str, str]:
    return {path.name: sha256_file(path) for path in train_folder(folder).glob("snapshot*.pt")}


@pytest.fixture(scope="module")
def unbroken(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainedNetwork, list[EpochStats]]:
    """The same training without any accident."""
    folder = copied(prepared, tmp_path_factory.mktemp("unbroken") / "work")
    epochs: list[EpochStats] = []
    return folder, train(folder, on_epoch=epochs.append), epochs


def after_epoch(number: int, *, stage: str = "pose") -> dict[str, Callable[..., None]]:
    def kill(stats: EpochStats) -> None:
        if stats.epoch == number and stats.stage == stage:
            raise Killed

    return {"on_epoch": kill}


def within_epoch(number: int, *, validating: bool = False) -> dict[str, Callable[..., None]]:
    def kill(stats: BatchStats) -> None:
        if stats.epoch == number and stats.validating == validating:
            raise Killed

    return {"on_batch": kill}


@pytest.mark.parametrize(
    ("accidents", "resumed_at"),
    [
        ([after_epoch(2)], (2,)),
        ([within_epoch(5), within_epoch(5, validating=True), after_epoch(5)], (4, 5)),
        ([within_epoch(1)], ()),
    ],
    ids=["after an epoch", "three times", "in the first epoch"],
)
def test_a_broken_training_ends_as_the_unbroken_one_to_the_last_bit(
    prepared: Path,
    unbroken: tuple[Path, TrainedNetwork, list[EpochStats]],
    tmp_path: Path,
    accidents: list[dict[str, Any]],
    resumed_at: tuple[int, ...],
) -> None:
    reference, expected, _ = unbroken
    folder = copied(prepared, tmp_path / "work")
    for accident in accidents:
        with pytest.raises(Killed):
            train(folder, **accident)
    epochs: list[EpochStats] = []
    said: list[str] = []
    network = train(folder, on_epoch=epochs.append, log=said.append)
    assert network.resumed_at == resumed_at
    assert (network.epoch, network.last_epoch, network.stopped_early) == (expected.epoch, EPOCHS, False)
    done = resumed_at[-1] if resumed_at else 0
    assert [stats.epoch for stats in epochs] == list(range(done + 1, EPOCHS + 1))
    assert said == ([f"training goes on after epoch {done} of {EPOCHS}, where it was broken off"] if done else [])
    assert snapshots(folder) == snapshots(reference)
    assert network.learning_stats.read_bytes() == expected.learning_stats.read_bytes()
    assert network.pytorch_config == expected.pytorch_config
    assert (not done) or network.seconds > 0


def test_the_best_snapshot_survives_when_nothing_later_is_better(prepared: Path, tmp_path: Path) -> None:
    """Without learning, no later epoch beats the first: DeepLabCut alone would call the first one after resuming the best."""
    still = {"pytorch_config": {**TINY, "runner.optimizer.params.lr": 0.0, "model.backbone.freeze_bn_stats": True}}
    folder = copied(prepared, tmp_path / "work")
    with pytest.raises(Killed):
        train(folder, **still, **after_epoch(3))
    before = {name: sha256 for name, sha256 in snapshots(folder).items() if "best" in name}
    assert list(before) == ["snapshot-best-001.pt"]
    network = train(folder, **still)
    assert network.epoch == 1
    assert {name: sha256 for name, sha256 in snapshots(folder).items() if "best" in name} == before


def test_a_torn_checkpoint_is_seen_and_the_one_before_it_is_used(
    prepared: Path, unbroken: tuple[Path, TrainedNetwork, list[EpochStats]], tmp_path: Path
) -> None:
    folder = copied(prepared, tmp_path / "work")
    with pytest.raises(Killed):
        train(folder, **after_epoch(4))
    newest, before = checkpoint_files(train_folder(folder), "pose")
    newest.write_bytes(newest.read_bytes()[: newest.stat().st_size // 2])
    said: list[str] = []
    network = train(folder, log=said.append)
    assert said[0].startswith(f"{newest.name} cannot be used (it is damaged")
    assert network.resumed_at == (3,)
    assert snapshots(folder) == snapshots(unbroken[0])

    for path in (newest, before):
        path.write_bytes(b"torn")
    assert train(folder, log=said.append).resumed_at == (), "without any checkpoint it begins anew"
    assert snapshots(folder) == snapshots(unbroken[0])


def test_a_checkpoint_whose_snapshot_is_damaged_is_not_used(prepared: Path, tmp_path: Path) -> None:
    folder = copied(prepared, tmp_path / "work")
    with pytest.raises(Killed):
        train(folder, **after_epoch(2))
    best = next(train_folder(folder).glob("snapshot-best-*.pt"))
    content = bytearray(best.read_bytes())
    content[len(content) // 2] ^= 1
    best.write_bytes(content)
    said: list[str] = []
    assert read_checkpoint(train_folder(folder), "pose", said.append) is None or best.name in said[0]
    assert f"its snapshot {best.name} is damaged" in said[0]


def test_what_was_finished_is_not_trained_again(prepared: Path, tmp_path: Path) -> None:
    folder = copied(prepared, tmp_path / "work")
    first = train(folder, epochs=2)
    kept = snapshots(folder)
    epochs: list[EpochStats] = []
    again = train(folder, epochs=2, on_epoch=epochs.append)
    assert epochs == []
    assert (again.epoch, again.last_epoch, snapshots(folder)) == (first.epoch, 2, kept)
    afresh = train(folder, epochs=2, resume=False, on_epoch=epochs.append)
    assert [stats.epoch for stats in epochs] == [1, 2]
    assert afresh.resumed_at == ()


def test_only_what_the_rules_ask_for_is_left_at_the_end(
    unbroken: tuple[Path, TrainedNetwork, list[EpochStats]],
) -> None:
    folder, network, epochs = unbroken
    regular = {f"snapshot-{epoch:03}.pt" for epoch in (2, 4, 6) if epoch != network.epoch}
    assert set(snapshots(folder)) == {f"snapshot-best-{network.epoch:03}.pt", *regular}
    scores = [stats.validation["mAP"] for stats in epochs]
    assert network.epoch == 1 + int(np.argmax(scores)), "the first of the best"
    import torch

    assert "optimizer" not in torch.load(network.snapshot, weights_only=True)
    stats = pd.read_csv(network.learning_stats)
    assert stats["step"].tolist() == list(range(1, EPOCHS + 1))


def test_patience_ends_a_training_that_gets_no_better(prepared: Path, tmp_path: Path) -> None:
    folder = copied(prepared, tmp_path / "work")
    still = {
        **TINY,
        "runner.optimizer.params.lr": 0.0,
        "model.backbone.freeze_bn_stats": True,
        "runner.eval_interval": 2,
    }
    said: list[str] = []
    settings: dict[str, Any] = {
        "epochs": 40,
        "patience": 3,
        "save_epochs": 25,
        "pytorch_config": still,
        "log": said.append,
    }
    network = train(folder, **settings)
    assert (network.epoch, network.last_epoch, network.stopped_early) == (2, 6, True)
    assert said == [
        "training stops after epoch 6 of 40: the validation has not become better since epoch 2, and training.patience is 3"
    ]
    assert set(snapshots(folder)) == {"snapshot-best-002.pt", "snapshot-006.pt"}
    assert train(folder, **settings).last_epoch == 6, "it stays stopped"


def test_each_batch_is_reported(prepared: Path, tmp_path: Path) -> None:
    batches: list[BatchStats] = []
    train(copied(prepared, tmp_path / "work"), epochs=1, on_batch=batches.append)
    trained = [(b.epoch, b.batch, b.batches) for b in batches if not b.validating]
    assert trained == [(1, 0, 2), (1, 1, 2), (1, 2, 2)]
    assert [(b.batch, b.batches) for b in batches if b.validating] == [(0, 2), (1, 2), (2, 2)]
    assert all(np.isfinite(b.loss) == (b.batch > 0) for b in batches)


# ---- two stages

TOP_DOWN = {
    "model.backbone.model_name": "test_resnet",
    **{f"data.{use}.top_down_crop.{side}": 64 for use in ("train", "inference") for side in ("width", "height")},
    "runner.eval_interval": 1,
    "detector.runner.eval_interval": 1,
}


def test_a_detector_is_gone_on_with_and_a_finished_one_is_not_trained_again(tmp_path: Path) -> None:
    prepared = tmp_path / "prepared"
    (prepared / "project").mkdir(parents=True)
    content = labeled(prepared)
    made = make_training_dataset(prepared / "project", content, net_type="top_down_resnet_50", detector="ssdlite")
    config = configured(made["pytorch_config"], TOP_DOWN)
    initial_weights(config, WeightsSource("random"), prepared / "init.pt", seed=3)
    initial_detector_weights(config, WeightsSource("random"), prepared / "detector.pt", seed=3)
    settings: dict[str, Any] = {
        "pytorch_config": TOP_DOWN,
        "epochs": 2,
        "detector_weights_file": prepared / "detector.pt",
        "detector_epochs": 2,
        "detector_batch_size": 2,
    }
    reference, folder = copied(prepared, tmp_path / "unbroken"), copied(prepared, tmp_path / "work")
    expected = train(reference, **settings)
    for accident in (after_epoch(1, stage="detector"), after_epoch(1)):
        with pytest.raises(Killed):
            train(folder, **settings, **accident)
    epochs: list[EpochStats] = []
    network = train(folder, **settings, on_epoch=epochs.append)
    assert [(stats.stage, stats.epoch) for stats in epochs] == [("pose", 2)]
    assert (network.detector_resumed_at, network.resumed_at) == ((1,), (1,))
    assert (network.epoch, network.detector_epoch) == (expected.epoch, expected.detector_epoch)
    assert snapshots(folder) == snapshots(reference)


# ---- memory


def out_of_memory_in(monkeypatch: pytest.MonkeyPatch, error: Exception, *, training: bool = True) -> None:
    """Let the network's last layer raise *error*, in training or in validation."""
    import torch

    original = torch.nn.ConvTranspose2d.forward

    def forward(layer: Any, inputs: Any) -> Any:
        if layer.training is training:
            raise error
        return original(layer, inputs)

    monkeypatch.setattr(torch.nn.ConvTranspose2d, "forward", forward)


def no_memory() -> Exception:
    import torch

    return torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore")


def test_without_memory_for_a_batch_the_message_says_which_batch_to_try(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out_of_memory_in(monkeypatch, no_memory())
    with pytest.raises(EnvironmentProblem) as caught:
        train(copied(prepared, tmp_path / "work"), batch_size=4)
    said = str(caught.value)
    assert "in epoch 1 of training with batch_size 4 and pictures of 64 x 64 px" in said
    assert "CUDA out of memory. Tried to allocate 2.00 GiB)" in said
    assert "`training: {batch_size: 2}`" in said


def test_without_memory_for_one_picture_the_message_says_which_crop_to_try(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out_of_memory_in(monkeypatch, RuntimeError("CUDA error: out of memory"))
    crops = "`pytorch_config: {data.train.crop_sampling.width: 32, data.train.crop_sampling.height: 32}`"
    with pytest.raises(EnvironmentProblem) as caught:
        train(copied(prepared, tmp_path / "work"), batch_size=1)
    assert crops in str(caught.value)


def test_without_memory_in_a_validation_no_smaller_batch_is_proposed(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out_of_memory_in(monkeypatch, no_memory(), training=False)
    with pytest.raises(EnvironmentProblem, match=r"validation of epoch 1.*148 x 96 px.*smaller net_type"):
        train(copied(prepared, tmp_path / "work"))


def test_another_runtime_error_is_left_as_it_is(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out_of_memory_in(monkeypatch, RuntimeError("shapes do not fit"))
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        train(copied(prepared, tmp_path / "work"))


# ---- signals


# A process of its own: a signal that Python drops in the middle of native code is nothing to share with other tests.
INTERRUPTED = """
import signal, sys
from pathlib import Path
from dlc_assets_tests.engine.test_training import train

class Deaf:
    def __del__(self):
        signal.raise_signal(signal.SIGINT)

def interrupt_within_a_destructor(stats):
    batches.append(stats)
    if len(batches) == 1:
        Deaf()

handler, batches = signal.getsignal(signal.SIGINT), []
try:
    train(Path(sys.argv[1]), on_batch=interrupt_within_a_destructor)
except KeyboardInterrupt:
    print("interrupted after", len(batches), signal.getsignal(signal.SIGINT) is handler)
"""


def test_an_interrupt_that_python_dropped_is_raised_at_the_next_batch(prepared: Path, tmp_path: Path) -> None:
    folder = copied(prepared, tmp_path / "work")
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(folder)], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.stdout.splitlines()[-1:] == ["interrupted after 1 True"], done.stderr
    assert "KeyboardInterrupt" in done.stderr, "Python said that it dropped the first one"
    assert done.returncode == 0
