"""Through the graph, with DeepLabCut making the workspaces: no benchmark frame is in any of them, checked on the files' bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from PIL import Image

from dlc_assets.lab.files import read_json
from dlc_assets.lab.lab import open_lab_folder
from dlc_assets.lab.records import read_records
from dlc_assets.state.lab_state import lab_state
from dlc_assets.training.benchmark import benchmark_frames
from dlc_assets.training.dataset import current_dataset, make_dataset
from dlc_assets.training.frozen import FRAMES
from dlc_assets_tests.conftest import hash_inputs
from dlc_assets_tests.graph.conftest import Graph
from dlc_assets_tests.graph.small_lab import BODYPARTS

MODELS = {
    "walker": "",
    "other": "split: {by: frame, train: 0.6, validation: 0.2, benchmark: 0.2, seed: 3}\n",
    "all-in": "split: {train: 0.8, validation: 0.2, benchmark: 0}\nnet_type: hrnet_w18\n",
}


def label(project: Path, folder: str, numbers: range) -> None:
    """Label frames of a video, each image unlike every other."""
    place = project / "labeled-data" / folder
    place.mkdir(parents=True, exist_ok=True)
    for at in numbers:
        color = hashlib.sha256(f"{folder}{at}".encode()).digest()[:3]
        Image.new("RGB", (64, 48), (color[0], color[1], color[2])).save(place / f"img{at}.png")
    table = place / "CollectedData_Ann.csv"
    head = "scorer,Ann,Ann,Ann,Ann\nbodyparts,snout,snout,tailbase,tailbase\ncoords,x,y,x,y\n"
    rows = "".join(f"labeled-data/{folder}/img{at}.png,{10 + at % 40},20,{12 + at % 40},25\n" for at in numbers)
    table.write_text((table.read_text() if table.is_file() else head) + rows)


def workspaces(root: Path) -> dict[str, set[str]]:
    """Return the sha256 of every file in the DeepLabCut project of each dataset in the store, and of each training under way."""
    found = [*root.glob("store/datasets/*/*/project"), *root.glob("store/work/training/*/*/project")]
    return {
        project.relative_to(root).as_posix(): {
            hashlib.sha256(path.read_bytes()).hexdigest() for path in project.rglob("*") if path.is_file()
        }
        for project in found
    }


def benchmark_bytes(root: Path) -> set[str]:
    """Return the sha256 of each benchmark image, and of every image of a benchmark video as the lab has it."""
    rows = [frame for row in read_records(open_lab_folder(root).layout, "benchmark_frames") for frame in row["frames"]]
    videos = {frame["folder"] for frame in rows if frame["by"] == "video"}
    labeled = root / "projects" / "walking" / "labeled-data"
    pictures = [path for video in videos for path in (labeled / video).glob("*.png")]
    return {frame["sha256"] for frame in rows} | {hashlib.sha256(path.read_bytes()).hexdigest() for path in pictures}


def make(root: Path, model: str) -> dict[tuple[str, str], str]:
    """Make the dataset of *model* as a run does; return each frame's set."""
    lab = open_lab_folder(root)
    manifest = make_dataset(lab, model, run_id="", log=lambda _: None)
    frames = read_json(lab.layout.datasets(model) / manifest.details["folder"] / FRAMES)
    return {(frame["folder"], frame["image"]): frame["set"] for frame in frames}


@pytest.fixture
def labeled(small: Graph) -> Callable[[str, range], None]:
    """The small lab with ten labeled videos and three models; returns how to label more."""
    for model, specification in MODELS.items():
        (small.root / "models" / f"{model}.yaml").write_text("project: walking\n" + specification)
    project = small.root / "projects" / "walking"
    for number in range(3, 11):
        label(project, f"day{number}", range(6))
    return lambda folder, numbers: label(project, folder, numbers)


@pytest.mark.slow
def test_no_benchmark_frame_and_no_frame_of_a_benchmark_video_is_in_any_training_workspace(
    small: Graph, labeled: Callable[[str, range], None]
) -> None:
    inputs = hash_inputs(small.root)
    first = {model: make(small.root, model) for model in MODELS}
    assert hash_inputs(small.root) == inputs
    frozen = {key for key, name in first["walker"].items() if name == "benchmark"}
    (video,) = {folder for folder, _ in frozen}
    labeled(video, range(6, 9))
    labeled("day11", range(8))
    labeled("day12", range(8))
    second = {model: make(small.root, model) for model in MODELS}
    for model, frames in first.items():
        assert {key: second[model][key] for key in frames} == frames, "no frame has moved"
        assert {second[model][video, f"img{at}.png"] for at in range(6, 9)} == {"benchmark"}
    found = workspaces(small.root)
    assert len(found) == 6
    scoring = benchmark_bytes(small.root)
    assert len(scoring) >= 9
    for place, contents in found.items():
        assert not contents & scoring, place
        assert len(contents) > 40, "labels and images are there"
    copies = [path for path in (small.root / "store" / "benchmarks").rglob("*") if path.is_file()]
    assert {hashlib.sha256(path.read_bytes()).hexdigest() for path in copies} == scoring


@pytest.mark.slow
def test_two_models_that_are_made_at_once_agree_on_the_benchmark_frames(
    small: Graph, labeled: Callable[[str, range], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both divide before either has a dataset. DeepLabCut is no part of that, and cannot run twice in one process."""
    monkeypatch.setattr(
        "dlc_assets.engine.workspace.make_training_dataset",
        lambda *_, **__: {
            "deeplabcut_version": "",
            "image_count": 0,
            "train": 0,
            "validation": 0,
            "pytorch_config": {},
        },
    )
    with ThreadPoolExecutor() as pool:
        divided = dict(pool.map(lambda model: (model, make(small.root, model)), ("walker", "other")))
    rows = read_records(small.lab.layout, "benchmark_frames")
    frozen = {(frame["folder"], frame["image"]) for row in rows for frame in row["frames"]}
    assert frozen
    for frames in divided.values():
        assert {key for key, name in frames.items() if name == "benchmark"} == frozen


@pytest.mark.slow
def test_a_corrected_benchmark_label_marks_no_dataset_in_the_ui_and_a_warning_is_a_check(
    small: Graph, labeled: Callable[[str, range], None]
) -> None:
    small.tick("models_and_labels")
    result = small.run("train", "walker", only=["training_dataset"])
    assert result.success
    assert small.stale("training_dataset", "walker").name == "FRESH"
    frame = benchmark_frames(small.lab, "walker", BODYPARTS)[0]
    table = small.root / "projects/walking/labeled-data" / frame.folder / "CollectedData_Ann.csv"
    table.write_text(table.read_text().replace(f"/{frame.image},1", f"/{frame.image},2"))
    assert benchmark_frames(small.lab, "walker", BODYPARTS)[0].xy[0, 0] == frame.xy[0, 0] + 10
    small.tick("models_and_labels")
    assert small.stale("training_dataset", "walker").name == "FRESH"
    state: dict[str, Any] = {product.key: product.state for product in lab_state(small.lab).of("training_dataset")}
    assert state["walker"] == "up to date"

    learned = next(key for key, name in make(small.root, "walker").items() if name == "train")
    table = small.root / "projects/walking/labeled-data" / learned[0] / "CollectedData_Ann.csv"
    table.write_text(table.read_text().replace(f"/{learned[1]},1", f"/{learned[1]},-1"))
    small.tick("models_and_labels")
    assert small.stale("training_dataset", "walker").name == "STALE"
    result = small.run("train", "walker", only=["training_dataset"])
    check = small.checks(result)["labels_all_used", "walker"]
    assert not check.passed
    assert check.severity is dg.AssetCheckSeverity.WARN
    assert f"{learned[1]} snout at (-1" in str(check.description)
    manifest = current_dataset(small.lab, "walker")
    assert manifest is not None
    assert manifest.details["project_name"] == "walking"
