"""Two trainings of one project at the same time, one cancelled through its run and one killed: both go on where they were."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest

from dlc_assets.engine.training_checkpoint import checkpoint_files
from dlc_assets.lab.lab import Lab, open_lab_folder
from dlc_assets.lab.locks import is_held
from dlc_assets.resources.instance import open_instance
from dlc_assets.training.dataset import make_dataset
from dlc_assets.training.models import ModelVersion
from dlc_assets.training.train import train_model
from dlc_assets_tests.conftest import environment_without_lab, hash_inputs
from dlc_assets_tests.graph.small_lab import write_small_lab
from dlc_assets_tests.live.server import descendants, end_group, is_alive, start_command, wait_until

pytestmark = pytest.mark.slow

EPOCHS = 6
SPECIFICATION = f"""\
project: walking
split: {{by: frame, train: 0.5, validation: 0.25, benchmark: 0.25}}
weights: random
training: {{epochs: {EPOCHS}, batch_size: 2, save_epochs: 3, seed: SEED}}
pytorch_config:
  model.backbone.model_name: test_resnet
  data.train.crop_sampling.width: 64
  data.train.crop_sampling.height: 64
  runner.eval_interval: 2
  train_settings.dataloader_workers: WORKERS
"""
# Read by each process of these tests that is to be broken off: an epoch of this network takes a moment, here it takes seconds.
SLOWLY = """
import time
from dlc_assets.engine import training_watch

at_full_speed = training_watch.TrainingWatch.heed

def slowly(watch):
    time.sleep(0.3)
    at_full_speed(watch)

training_watch.TrainingWatch.heed = slowly
"""
TRAIN = """
import sys
from dlc_assets.lab.lab import open_lab_folder
from dlc_assets.training.train import train_model

train_model(open_lab_folder(sys.argv[1]), "second", overrides={}, recompute=False, run_id="killed", log=print)
"""


@dataclass(frozen=True)
class BrokenOff:
    """A lab after the accidents: what it had before, and how they went."""

    lab: Lab
    inputs_before: dict[str, str]
    cancelled_after: float
    status: dg.DagsterRunStatus
    left_alive: list[int]
    checkpoints: dict[str, bytes]


@pytest.fixture(scope="module")
def broken_off(tmp_path_factory: pytest.TempPathFactory) -> BrokenOff:
    """Both trainings, broken off once each has a checkpoint, in the middle of an epoch."""
    place = tmp_path_factory.mktemp("broken-off")
    root = place / "lab"
    write_small_lab(root)
    for number, (model, workers) in enumerate((("walker", 1), ("second", 0))):
        text = SPECIFICATION.replace("SEED", str(number)).replace("WORKERS", str(workers))
        (root / "models" / f"{model}.yaml").write_text(text)
    (root / "models" / "day2-walker.yaml").unlink()
    inputs = hash_inputs(root)
    lab = open_lab_folder(root)
    for model in ("walker", "second"):
        make_dataset(lab, model, run_id="", log=lambda _: None)

    (place / "sitecustomize.py").write_text(SLOWLY)
    slow = {"PYTHONPATH": str(place)}
    command = start_command(root, "train", "walker", log=place / "walker.log", environment=slow)
    training = lab.layout.work / "training"
    wait_until("the command's step prepares its training", (training / "walker").is_dir, 120, every=0.05)
    with (place / "second.log").open("w") as log:
        script = subprocess.Popen(
            [sys.executable, "-c", TRAIN, str(root)],
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**environment_without_lab(), **slow},
        )
    try:

        def both_have_one() -> bool:
            for process, name in ((command, "walker"), (script, "second")):
                assert process.poll() is None, f"{name} ended:\n{(place / f'{name}.log').read_text()[-4000:]}"
            return {path.parents[6].name for path in _checkpoints(lab)} == {"walker", "second"}

        wait_until("both trainings have a checkpoint", both_have_one, 240, every=0.05)
        script.kill()
        script.wait(10)
        processes = descendants(command.pid)
        with open_instance(lab) as instance:
            (run,) = instance.get_runs(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
            asked = time.monotonic()
            assert instance.run_launcher.terminate(run.run_id)
            command.wait(60)
            seconds = time.monotonic() - asked
            ended = instance.get_run_by_id(run.run_id)
    finally:
        script.kill()
        end_group(command)
    assert ended is not None
    kept = {path.parents[6].name: path.read_bytes() for path in _checkpoints(lab)}
    return BrokenOff(lab, inputs, seconds, ended.status, [pid for pid in processes if is_alive(pid)], kept)


def _checkpoints(lab: Lab) -> list[Path]:
    name = checkpoint_files(Path(), "pose")[0].name
    return sorted((lab.layout.work / "training").rglob(name))


@pytest.fixture(scope="module")
def finished(broken_off: BrokenOff) -> dict[str, tuple[ModelVersion, list[str]]]:
    """Both models after another training of each: their versions, and what was said."""
    made = {}
    for model in ("walker", "second"):
        said: list[str] = []
        version, trained = train_model(
            broken_off.lab, model, overrides={}, recompute=False, run_id="next", log=said.append
        )
        assert trained
        made[model] = (version, said)
    return made


def test_cancelling_ends_the_training_within_seconds_with_all_its_processes(broken_off: BrokenOff) -> None:
    print(f"cancelled after {broken_off.cancelled_after:.1f} s")
    assert broken_off.cancelled_after < 15
    assert broken_off.status is dg.DagsterRunStatus.CANCELED
    assert broken_off.left_alive == []
    assert not is_held(broken_off.lab.layout.lock("train", "walker"))


def test_both_keep_their_checkpoints(broken_off: BrokenOff) -> None:
    assert set(broken_off.checkpoints) == {"walker", "second"}


@pytest.mark.parametrize("model", ["walker", "second"])
def test_the_next_training_goes_on_and_ends_at_the_last_epoch(
    finished: dict[str, tuple[ModelVersion, list[str]]], model: str
) -> None:
    import pandas as pd

    version, said = finished[model]
    (done,) = version.card["resumed_at"]
    assert 1 <= done < EPOCHS
    assert f"{model}: training goes on after epoch {done} of {EPOCHS}, where it was broken off" in said
    assert version.card["last_epoch"] == EPOCHS
    assert version.card["training"]["seed"] == ("walker", "second").index(model)
    assert pd.read_csv(version.learning_stats)["step"].tolist() == list(range(1, EPOCHS + 1))
    assert version.snapshot_file("last").is_file()


def test_two_trainings_of_a_project_disturb_neither_each_other_nor_the_project(
    broken_off: BrokenOff, finished: dict[str, tuple[ModelVersion, list[str]]]
) -> None:
    """Trained alone, from the first epoch to the last in one go, each network comes out the same, to the last bit."""
    assert hash_inputs(broken_off.lab.root) == broken_off.inputs_before
    alone, _ = train_model(broken_off.lab, "second", overrides={}, recompute=True, run_id="", log=lambda _: None)
    assert alone.version == finished["second"][0].version
    assert finished["walker"][0].version != alone.version
    assert _checkpoints(broken_off.lab) == []
