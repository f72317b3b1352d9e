"""Models that are trained again by themselves: only those that ask for it, once nobody is at their labels, and each time once."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from dlc_assets.lab.files import write_text
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.manifest import Manifest
from dlc_assets.state.failures import record_failure
from dlc_assets.training.dataset import dataset_inputs
from dlc_assets.training.train import training_inputs
from dlc_assets_tests.graph.conftest import Graph
from dlc_assets_tests.graph.small_lab import as_if_trained
from dlc_assets_tests.graph.test_sensors import end_run, start_run

WALKER = [("train", {"dagster/partition": "walker"})]
QUIET = 3600.0


def labels_of(graph: Graph) -> list[Path]:
    return sorted((graph.root / "projects" / "walking").glob("labeled-data/*/CollectedData_*"))


def relabel(graph: Graph, folder: str, by: int = 1) -> None:
    """Move the snout of every frame of a folder, so that the change touches whichever frames the network learns from."""
    (path,) = (path for path in labels_of(graph) if path.parent.name == folder)
    *header, frames = path.read_text().rpartition("coords,x,y,x,y\n")
    moved = []
    for line in frames.splitlines():
        image, x, *rest = line.split(",")
        moved.append(",".join((image, str(int(x) + by), *rest)))
    path.write_text("".join(header) + "\n".join(moved) + "\n")


def let_time_pass(graph: Graph, seconds: float = QUIET + 60) -> None:
    """Make everything that was saved or seen of labels older."""
    for path in labels_of(graph):
        saved = path.stat().st_mtime - seconds
        os.utime(path, (saved, saved))
    if "auto_train" in graph.cursors:
        cursor = json.loads(graph.cursors["auto_train"])
        seen = {model: (labels, at - seconds) for model, (labels, at) in json.loads(cursor["seen"]).items()}
        graph.cursors["auto_train"] = json.dumps({**cursor, "seen": json.dumps(seen)})


def trained_from_present_labels(graph: Graph, model: str) -> None:
    version = as_if_trained(graph.lab, model)
    card = version.manifest
    card.details["label_hash"] = dataset_inputs(graph.lab, model)["labels"]
    card.write(version.folder)


def as_if_dataset_made(lab: Lab, model: str) -> None:
    """Store a training dataset without a project in it, made from the labels as they are."""
    manifest = Manifest(
        asset="training_dataset",
        key=model,
        inputs=dataset_inputs(lab, model),
        data_version="d2",
        details={"folder": "d2"},
    )
    folder = lab.layout.datasets(model) / "d2"
    folder.mkdir(parents=True)
    manifest.write(folder)
    write_text(lab.layout.datasets(model) / "current", "d2\n")


def ask_for_it(graph: Graph, model: str) -> None:
    specification = graph.root / "models" / f"{model}.yaml"
    specification.write_text(specification.read_text() + "auto_train: true\n")


@pytest.fixture
def trained(small: Graph) -> Graph:
    """The small lab, both models trained from its labels as they are; `walker` is to be trained again by itself."""
    for model in ("walker", "day2-walker"):
        trained_from_present_labels(small, model)
    ask_for_it(small, "walker")
    return small


@pytest.fixture
def relabeled(trained: Graph) -> Graph:
    """A label was moved, was seen to have moved, and nothing has happened for more than an hour since."""
    relabel(trained, "day2")
    assert trained.asked("auto_train") == []
    let_time_pass(trained)
    return trained


def test_changed_labels_train_the_model_that_asks_for_it_and_no_other(relabeled: Graph) -> None:
    assert relabeled.asked("auto_train") == WALKER


def test_unchanged_labels_train_nothing(trained: Graph) -> None:
    assert trained.asked("auto_train") == []
    let_time_pass(trained)
    assert trained.asked("auto_train") == []
    relabel(trained, "day2")
    assert trained.asked("auto_train") == []
    relabel(trained, "day2", by=-1)  # undone
    let_time_pass(trained)
    assert trained.asked("auto_train") == []


def test_a_person_who_is_labeling_is_not_disturbed(trained: Graph) -> None:
    relabel(trained, "day2")
    data = trained.tick("auto_train")
    assert not data.run_requests
    assert "walker: labels changed; it is trained once they are quiet for another 1 h 0 min" in str(data.skip_message)
    let_time_pass(trained)
    os.utime(labels_of(trained)[0])  # saved again, as it was
    assert trained.asked("auto_train") == []
    let_time_pass(trained)
    relabel(trained, "day1")
    for path in labels_of(trained):
        os.utime(path, (1, 1))  # copied from elsewhere with its old time
    assert trained.asked("auto_train") == [], "these labels were never seen before"
    let_time_pass(trained)
    assert trained.asked("auto_train") == WALKER


def test_how_long_labels_must_be_quiet_is_a_setting(trained: Graph) -> None:
    settings = trained.root / "lab.yaml"
    settings.write_text(settings.read_text() + "auto_train: {quiet_seconds: 0}\n")
    relabel(trained, "day2")
    time.sleep(0.01)
    assert trained.asked("auto_train") == WALKER


def test_one_training_is_under_way_at_a_time(relabeled: Graph) -> None:
    by_hand = start_run(relabeled, "train", {"dagster/partition": "walker"})
    assert relabeled.asked("auto_train") == []
    end_run(relabeled, by_hand)
    assert relabeled.asked("auto_train") == WALKER
    start_run(relabeled, "train", {"dagster/partition": "walker"})
    assert relabeled.asked("auto_train") == []


def test_once_it_is_trained_nothing_more_is_asked_for(relabeled: Graph) -> None:
    assert relabeled.asked("auto_train") == WALKER
    card = as_if_trained(relabeled.lab, "walker", "ba9876543210").manifest
    card.details["label_hash"] = dataset_inputs(relabeled.lab, "walker")["labels"]
    card.write(relabeled.lab.layout.version("walker", "ba9876543210"))
    assert relabeled.asked("auto_train") == []


@pytest.mark.parametrize("asset", ["training_dataset", "trained_model"])
def test_a_failure_is_not_tried_again_before_the_labels_change(relabeled: Graph, asset: str) -> None:
    lab = relabeled.lab
    as_if_dataset_made(lab, "walker")
    inputs = {"training_dataset": dataset_inputs, "trained_model": training_inputs}[asset](lab, "walker")
    if asset == "training_dataset":
        (lab.layout.datasets("walker") / "current").unlink()
    record_failure(lab.layout, asset, "walker", "out of memory", inputs=inputs, run_id="r")
    data = relabeled.tick("auto_train")
    assert not data.run_requests
    assert f"{asset} failed, and is not tried again before its inputs change: out of memory" in str(data.skip_message)
    relabel(relabeled, "day1")
    assert relabeled.asked("auto_train") == []
    let_time_pass(relabeled)
    assert relabeled.asked("auto_train") == WALKER


def test_what_a_person_cancelled_is_not_begun_again(relabeled: Graph) -> None:
    assert relabeled.asked("auto_train") == WALKER
    run = start_run(relabeled, "train", {"dagster/partition": "walker"})
    relabeled.instance.report_run_canceling(run)
    relabeled.instance.report_run_canceled(run)
    data = relabeled.tick("auto_train")
    assert not data.run_requests
    assert f"run {run.run_id} was cancelled; go on with `dlc-assets train walker`" in str(data.skip_message)
    settings = relabeled.root / "lab.yaml"
    settings.write_text(settings.read_text() + "auto_train: {quiet_seconds: 0}\n")
    assert relabeled.asked("auto_train") == []
    time.sleep(1.1)  # the instance may keep whole seconds
    relabel(relabeled, "day1")
    assert relabeled.asked("auto_train") == WALKER, "a label that was changed after it is another matter"


def test_a_model_that_was_never_trained_waits_for_a_person(small: Graph) -> None:
    ask_for_it(small, "walker")
    let_time_pass(small)
    data = small.tick("auto_train")
    assert not data.run_requests
    assert "was never trained: train it once with `dlc-assets train walker`" in str(data.skip_message)


def test_labels_that_cannot_be_read_are_said_and_the_others_go_on(relabeled: Graph) -> None:
    ask_for_it(relabeled, "day2-walker")
    relabeled.tick("auto_train")
    let_time_pass(relabeled)
    day1 = next(path for path in labels_of(relabeled) if path.parent.name == "day1")
    day1.write_text(day1.read_text().replace("tailbase", "tailbse"))
    os.utime(day1, (1, 1))
    data = relabeled.tick("auto_train")
    assert [request.tags["dagster/partition"] for request in data.run_requests or []] == ["day2-walker"]
