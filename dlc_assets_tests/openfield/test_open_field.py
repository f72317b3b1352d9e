"""The whole chain on real labels and a real video, through the product's commands, against networks that others trained."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.openfield import (
    MODEL,
    SESSION,
    Estimated,
    command,
    copy_start,
    distances,
    project_of,
    published,
    video_of,
    weights_of,
    write_lab,
)
from dlc_assets.api import OpenLab, open_lab
from dlc_assets.engine.chatter import chatter_logged
from dlc_assets.lab.files import read_json, sha256_file
from dlc_assets.nwb.validation import check_nwb
from dlc_assets.training.evaluation import ERRORS
from dlc_assets.training.models import ModelVersion, find_version
from dlc_assets.video.probe import probe_video

pytestmark = pytest.mark.slow

FRAMES = 20  # each is analyzed twice, at about 4 frames/s
LABELED = 116
# This chain gave 7 to 8 px; the same network untrained, 405 to 437; one point for all parts and frames, at best 18
NEAR = 15
ROUNDED = 0.006  # px: DeepLabCut's results have two decimals, ours three


@dataclass(frozen=True)
class Chain:
    """A lab in which everything was made from the labels and the start of the video, and what the commands said."""

    root: Path
    before: dict[Path, str]
    trained: dict[str, Any]
    analyzed: dict[str, Any]
    exported: dict[str, Any]

    @property
    def lab(self) -> OpenLab:
        return open_lab(self.root)

    @property
    def version(self) -> ModelVersion:
        return find_version(self.lab.lab.layout, MODEL)

    @property
    def video(self) -> Path:
        return self.root / "recordings" / "m3" / "v1" / "top.mp4"


def inputs(root: Path, data: Path) -> dict[Path, str]:
    """The hash of every file that the lab was given: its own but the store, the labeled project, the weights."""
    own = (path for path in root.rglob("*") if not path.is_relative_to(root / "store"))
    return {
        path: sha256_file(path) for path in (*own, *project_of(data).rglob("*"), weights_of(data)) if path.is_file()
    }


@pytest.fixture(scope="module")
def chain(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Chain:
    root = write_lab(tmp_path_factory.mktemp("openfield") / "lab", real_data, epochs=3, crop=192, frames=FRAMES)
    before = inputs(root, real_data)
    return Chain(root, before, command(root, "train", MODEL), command(root, "analyze"), command(root, "export"))


@pytest.fixture(scope="module")
def project(chain: Chain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DeepLabCut project made of what the store keeps: the version's dataset, and its snapshot and configuration."""
    layout = chain.lab.lab.layout
    folder = tmp_path_factory.mktemp("deeplabcut") / "project"
    shutil.copytree(layout.datasets(MODEL) / chain.version.card["dataset"] / "project", folder)
    train = next(folder.glob("dlc-models-pytorch/iteration-0/*/train"))
    shutil.copyfile(chain.version.snapshot, train / "snapshot-001.pt")
    shutil.copyfile(chain.version.pytorch_config, train / "pytorch_config.yaml")
    return folder


# ---- the recording


def test_the_shortened_video_shows_the_same_frames(chain: Chain, real_data: Path) -> None:
    shown = 0
    for ours, original in zip(pictures(chain.video), pictures(video_of(real_data)), strict=False):
        np.testing.assert_array_equal(ours, original)
        shown += 1
    assert FRAMES <= shown <= FRAMES + 16
    whole, piece = probe_video(video_of(real_data)), probe_video(chain.video)
    assert piece.frame_count == shown
    np.testing.assert_array_equal(piece.times, whole.times[:shown])


def pictures(video: Path) -> Iterator[np.ndarray]:
    """The frames as DeepLabCut sees them: decoded by OpenCV."""
    import cv2

    reader = cv2.VideoCapture(str(video))
    while (read := reader.read())[0]:
        yield read[1]


def test_a_copy_without_a_limit_is_the_whole_video(real_data: Path, tmp_path: Path) -> None:
    copy_start(video_of(real_data), tmp_path / "whole.mp4", None)
    assert sha256_file(tmp_path / "whole.mp4") == sha256_file(video_of(real_data))


# ---- the chain


def test_no_input_was_written(chain: Chain, real_data: Path) -> None:
    assert inputs(chain.root, real_data) == chain.before
    assert len(chain.before) > LABELED


def test_every_labeled_frame_was_found_and_used(chain: Chain) -> None:
    manifest = read_json(dataset(chain) / "manifest.json")
    (counts,) = manifest["details"]["counts"]
    assert counts == {
        "folder": "m4s1",
        "scorer": "Pranav",
        "found": LABELED,
        "used": LABELED,
        "dropped": 0,
        "reasons": "",
    }
    assert manifest["details"]["images"] == LABELED
    assert sum(manifest["details"]["sets"].values()) == LABELED


def dataset(chain: Chain) -> Path:
    return chain.lab.lab.layout.datasets(MODEL) / chain.version.card["dataset"]


def test_one_labeled_video_is_split_in_blocks_and_that_is_said(chain: Chain) -> None:
    split = read_json(dataset(chain) / "manifest.json")["details"]["split"]
    assert split["how"] == "blocks"
    assert "1 video cannot be divided whole among train, validation and benchmark" in split["note"]
    frames = pd.DataFrame(read_json(dataset(chain) / "frames.json")).sort_values("image")
    blocks = [name for name, before in zip(frames["set"], frames["set"].shift(), strict=True) if name != before]
    assert sorted(blocks) == ["benchmark", "gap", "gap", "train", "validation"]


def test_what_the_weights_file_lacks_is_named(chain: Chain) -> None:
    report = chain.version.card["weights_report"]
    lost = {f"backbone.model.layer4.{block}.conv{conv}.weight" for block in (0, 1) for conv in (1, 2)}
    assert lost <= set(report["not found in the file"])
    backbone = {name for name in report["not found in the file"] if name.startswith("backbone.")}
    assert all(".layer4." in name for name in backbone)
    assert report["loaded"] + report["from random numbers"] > 100


def test_three_epochs_come_nearer_to_published_networks_than_no_training_could(chain: Chain, real_data: Path) -> None:
    ours = Estimated.of_table(chain.lab.poses(session=SESSION).to_dlc())
    for reference in published(real_data).values():
        apart, _ = distances(ours, reference)
        assert np.median(apart) < NEAR


def test_archives_and_inspectors_find_nothing_in_the_nwb_file(chain: Chain) -> None:
    (file,) = chain.exported["nwb_files"]
    assert file["findings"] == "valid"
    assert check_nwb(Path(file["file"])) == []


# ---- the same numbers as DeepLabCut


def test_the_stored_poses_are_those_of_deeplabcuts_own_analysis(chain: Chain, project: Path, tmp_path: Path) -> None:
    with chatter_logged():
        import deeplabcut

        deeplabcut.analyze_videos(
            project / "config.yaml", [str(chain.video)], destfolder=tmp_path, batch_size=1, device="cpu"
        )
    theirs = pd.DataFrame(pd.read_hdf(next(tmp_path.glob("*.h5"))))
    ours = chain.lab.poses(session=SESSION).to_dlc()
    assert set(ours.dtypes) == set(theirs.dtypes) == {np.dtype("float32")}
    found, expected = (poses.to_numpy().reshape(len(poses), -1, 3) for poses in (ours, theirs))
    np.testing.assert_allclose(found[..., 2], expected[..., 2], rtol=0, atol=1e-4)
    seen = expected[..., 2] > 0.1
    assert seen.mean() > 0.1
    np.testing.assert_allclose(found[seen], expected[seen], rtol=0, atol=0.01)
    assert list(ours.columns.droplevel("scorer")) == list(theirs.columns.droplevel("scorer"))
    assert list(ours.index) == list(theirs.index)


def test_the_evaluation_is_deeplabcuts_own(chain: Chain, project: Path) -> None:
    with chatter_logged():
        import deeplabcut

        deeplabcut.evaluate_network(project / "config.yaml", device="cpu", show_errors=False)
    results = project / "evaluation-results-pytorch"
    scores = pd.read_csv(next(results.glob("*/*/*-results.csv"))).iloc[0]
    for ours, theirs in (("train", "train"), ("validation", "test")):
        measured = chain.trained["evaluation"][ours]
        assert measured["rmse"] == pytest.approx(scores[f"{theirs} rmse"], abs=ROUNDED)
        sure = np.nan if measured["rmse_pcutoff"] is None else measured["rmse_pcutoff"]
        assert sure == pytest.approx(scores[f"{theirs} rmse_pcutoff"], abs=ROUNDED, nan_ok=True)

    estimates = pd.DataFrame(pd.read_hdf(next(results.glob("*/*/*.h5")))).droplevel(["scorer", "individuals"], axis=1)
    errors = pd.read_parquet(chain.lab.lab.layout.evaluation(MODEL, chain.version.version) / ERRORS)
    errors = errors[errors["set"] != "benchmark"]
    theirs_xy = [
        [estimates.loc[("labeled-data", row.folder, row.image), (row.bodypart, coord)] for coord in ("x", "y")]
        for row in errors.itertuples()
    ]
    np.testing.assert_allclose(errors[["x_estimated", "y_estimated"]], theirs_xy, rtol=0, atol=1e-3)
