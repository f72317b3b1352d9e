"""A model of a lab whose training is broken off: when it goes on, when it begins anew, and what is stored in the end."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dlc_assets.engine import training_watch
from dlc_assets.engine.workspace import pytorch_config_file
from dlc_assets.lab.errors import InputError
from dlc_assets.lab.files import sha256_file
from dlc_assets.lab.lab import Lab, open_lab_folder
from dlc_assets.training import train
from dlc_assets.training.dataset import PROJECT, make_dataset
from dlc_assets.training.models import ModelVersion, versions
from dlc_assets_tests.graph.small_lab import write_small_lab

pytestmark = pytest.mark.slow

EPOCHS = 3
SPECIFICATION = f"""\
project: walking
split: {{by: frame, train: 0.5, validation: 0.25, benchmark: 0.25}}
weights: random
training: {{epochs: {EPOCHS}, batch_size: 3, save_epochs: 1, seed: 5}}
pytorch_config:
  model.backbone.model_name: test_resnet
  data.train.crop_sampling.width: 64
  data.train.crop_sampling.height: 64
  runner.eval_interval: 1
"""


class Killed(BaseException):
    """What ends a training that nobody expected to end."""


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Networks this small gain nothing from a second core, and lose much where it is busy."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lab with the training dataset of `walker`: to be copied only."""
    root = tmp_path_factory.mktemp("prepared") / "lab"
    write_small_lab(root)
    (root / "models" / "walker.yaml").write_text(SPECIFICATION)
    make_dataset(open_lab_folder(root), "walker", run_id="", log=lambda _: None)
    return root


@pytest.fixture
def lab(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """A copy of the prepared lab, in whose trainings there is a checkpoint after each epoch."""
    monkeypatch.setattr(training_watch, "_SHARE", math.inf)
    shutil.copytree(prepared, tmp_path / "lab")
    return open_lab_folder(tmp_path / "lab")


def trained(lab: Lab, *, recompute: bool = False, **overrides: Any) -> tuple[ModelVersion, list[str]]:
    """Train `walker`; return its version and what the log said of going on or beginning."""
    said: list[str] = []
    version, now = train.train_model(
        lab, "walker", overrides=overrides, recompute=recompute, run_id="r", log=said.append
    )
    assert now
    return version, [line for line in said if line.startswith("walker: ")]


def break_off(lab: Lab, monkeypatch: pytest.MonkeyPatch, after: int = 2, **overrides: Any) -> None:
    """Train `walker` until an epoch is over, and no further."""

    def kill(_: Any, stats: Any) -> None:
        if stats.epoch == after:
            raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(train.TrainingProgress, "on_epoch", kill)
        with pytest.raises(Killed):
            trained(lab, **overrides)


def under_way(lab: Lab) -> list[Path]:
    """Return the work folders of trainings."""
    return sorted((lab.layout.work / "training").glob("*/*"))


def test_a_broken_training_goes_on_and_is_the_same_version_as_an_unbroken_one(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    break_off(lab, monkeypatch)
    (work,) = under_way(lab)
    pytorch_config_file(work / PROJECT).write_text("method: b")  # DeepLabCut died while it wrote the file
    version, said = trained(lab)
    assert said == [f"walker: training goes on after epoch 2 of {EPOCHS}, where it was broken off"]
    assert version.card["resumed_at"] == [2]
    assert version.card["last_epoch"] == EPOCHS
    assert version.card["stopped_early"] is False
    assert version.card["training"]["seed"] == 5
    assert under_way(lab) == []

    unbroken, said = trained(lab, recompute=True)
    assert said == []
    assert unbroken.version == version.version
    assert unbroken.card["resumed_at"] == []


def test_recompute_begins_at_the_first_epoch(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    break_off(lab, monkeypatch)
    version, said = trained(lab, recompute=True)
    assert said == []
    assert version.card["resumed_at"] == []


@pytest.mark.parametrize("changed", ["labels", "settings"])
def test_other_labels_or_settings_begin_at_the_first_epoch(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, changed: str
) -> None:
    break_off(lab, monkeypatch)
    (before,) = under_way(lab)
    if changed == "labels":
        for labels in (lab.root / "projects" / "walking").glob("labeled-data/*/CollectedData_Ann.csv"):
            labels.write_text(labels.read_text().replace(",20,", ",21,"))
        make_dataset(lab, "walker", run_id="", log=lambda _: None)
    else:
        (lab.root / "models" / "walker.yaml").write_text(SPECIFICATION.replace("seed: 5", "seed: 6"))
    version, said = trained(lab)
    assert said == []
    assert version.card["resumed_at"] == []
    assert not before.exists(), "what was broken off for other labels or settings is of no use any more"


def test_a_work_folder_that_was_never_ready_is_made_again(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    break_off(lab, monkeypatch)
    (work,) = under_way(lab)
    (work / "begun.json").unlink()
    shutil.rmtree(work / PROJECT / "labeled-data")
    assert trained(lab)[0].card["resumed_at"] == []


def test_a_training_that_died_before_it_was_stored_is_stored_without_training(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: Any) -> ModelVersion:
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(train, "_store", die)
        with pytest.raises(Killed):
            trained(lab)
    assert versions(lab.layout, "walker") == []
    version, said = trained(lab)
    assert said == [f"walker: training was finished already, after epoch {EPOCHS} of {EPOCHS}"]
    assert version.card["last_epoch"] == EPOCHS


def test_all_snapshots_are_hashed_and_a_damaged_one_is_not_used(lab: Lab) -> None:
    version, _ = trained(lab)
    assert version.card["sha256"] == sha256_file(version.snapshot)
    assert {row["sha256"] for row in version.card["snapshots"]} == {
        sha256_file(version.folder / row["file"]) for row in version.card["snapshots"]
    }
    assert set(version.snapshots) == set(range(1, EPOCHS + 1))
    for which in ("best", next(row["epoch"] for row in version.card["snapshots"])):
        path = version.snapshot_file(which)
        content = bytearray(path.read_bytes())
        content[-100] ^= 1
        path.write_bytes(content)
        with pytest.raises(InputError, match=rf"{path.name} of {version} is damaged"):
            version.snapshot_file(which)


def test_patience_of_one_run_stops_early_and_makes_the_version_custom(lab: Lab) -> None:
    (lab.root / "models" / "walker.yaml").write_text(f"{SPECIFICATION}  runner.optimizer.params.lr: 0.0\n")
    version, said = trained(lab, epochs=20, patience=2)
    assert version.card["stopped_early"] is True
    assert version.card["last_epoch"] < 20
    assert "training.patience is 2" in said[-1]
    assert version.manifest.custom
    assert version.snapshot_file("last").is_file()
