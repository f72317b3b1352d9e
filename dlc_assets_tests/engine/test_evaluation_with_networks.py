"""Evaluation against DeepLabCut itself: its mAP and mean errors, and what a real network's evaluation holds."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dlc_assets.engine.network_speed import _fastest
from dlc_assets.lab.lab import Lab, open_lab_folder
from dlc_assets.training.evaluation import evaluate_model, read_estimates, read_summary, scored_frames
from dlc_assets.training.models import ModelVersion, find_version
from dlc_assets.training.scores import ALL, errors_of_frames, oks_precision_and_recall, summarize
from dlc_assets_tests.conftest import FinishedDemo

PARTS = ("snout", "leftear", "rightear", "tailbase")


@pytest.mark.slow
def test_errors_and_average_precision_are_those_of_deeplabcut() -> None:
    """Labels and estimates of all kinds: frames without labels, body parts not found, whole animals not found."""
    from deeplabcut.core.metrics import compute_metrics

    generator = np.random.default_rng(0)
    compared = 0
    for case in range(40):
        count = int(generator.integers(2, 30))
        labels = generator.uniform(0, 200, (count, len(PARTS), 2))
        labels[generator.random((count, len(PARTS))) < 0.3] = np.nan
        off = generator.normal(0, (1, 10, 40)[case % 3], labels.shape)
        likelihood = generator.random((count, len(PARTS), 1))
        estimated = np.concatenate([np.nan_to_num(labels, nan=50.0) + off, likelihood], axis=2)
        if case % 2:
            estimated[generator.random((count, len(PARTS))) < 0.1] = np.nan
        if case % 5 == 0:
            estimated[generator.random(count) < 0.2] = np.nan
        names = [str(number) for number in range(count)]
        visible = np.where(np.isnan(labels).any(axis=2), 0.0, 2.0)[..., None]
        theirs = compute_metrics(
            {
                name: np.concatenate([xy, seen], axis=1)[None]
                for name, xy, seen in zip(names, labels, visible, strict=True)
            },
            {name: pose[None] for name, pose in zip(names, estimated, strict=True)},
            single_animal=True,
            pcutoff=0.6,
        )
        ours = oks_precision_and_recall(labels, estimated)
        assert ours == pytest.approx((theirs["mAP"], theirs["mAR"])), case
        frames: list[dict[str, Any]] = [
            {"set": "benchmark", "folder": "f", "image": name, "xy": xy} for name, xy in zip(names, labels, strict=True)
        ]
        total = summarize(errors_of_frames(frames, PARTS, estimated), 0.6).iloc[0]
        assert (total["rmse"], total["rmse_pcutoff"]) == pytest.approx((theirs["rmse"], theirs["rmse_pcutoff"])), case
        compared += 1
    assert compared == 40


def test_a_busy_moment_of_the_machine_does_not_make_a_network_look_slow() -> None:
    """Four pictures every 0.01 s, but for half a second in the middle in which the machine does something else."""
    moments = [(0.01 * number + (0.5 if number > 50 else 0.0), 4) for number in range(101)]
    assert _fastest(moments, 0.4) == pytest.approx(400.0)
    assert pytest.approx(_fastest(moments, 10.0), rel=0.01) == 400 / 1.5, "over all it was slower"


@pytest.fixture(scope="module")
def evaluated(finished_demo: FinishedDemo, tmp_path_factory: pytest.TempPathFactory) -> tuple[Lab, ModelVersion]:
    """A copy of the demo's lab, of whose evaluation part was lost: the model's card, and what was said of two frames."""
    root = tmp_path_factory.mktemp("evaluated") / "lab"
    shutil.copytree(finished_demo.lab, root, symlinks=True)
    lab = open_lab_folder(root)
    return lab, find_version(lab.layout, "walker")


@pytest.mark.slow
def test_a_real_networks_evaluation_holds_what_it_said_and_how_fast_and_large_it_is(
    evaluated: tuple[Lab, ModelVersion],
) -> None:
    lab, version = evaluated
    estimates = read_estimates(lab, version)
    frames = scored_frames(lab, version)
    assert set(estimates) == {frame.key for frame in frames}
    assert all(estimate.known.all() for estimate in estimates.values())
    summary = read_summary(lab, version)
    total = summary[(summary["bodypart"] == ALL) & (summary["set"] == "benchmark")].iloc[0]
    assert total["rmse_low"] < total["rmse"] < total["rmse_high"]
    assert 0 < total["pck_05"] < total["pck_10"] < total["pck_20"] <= 1
    assert 0 < total["map"] <= 100
    card = (version.folder / "card.md").read_text()
    assert f"{total['rmse']:.2f}" in card


@pytest.mark.slow
def test_a_frame_of_which_nothing_is_known_is_run_and_says_the_same_again(evaluated: tuple[Lab, ModelVersion]) -> None:
    lab, version = evaluated
    file = lab.layout.evaluation(version.model, version.version) / "estimates.parquet"
    before = read_estimates(lab, version)
    table = pd.read_parquet(file)
    lost = sorted(before)[:2]
    table[~table[["folder", "image"]].apply(tuple, axis=1).isin(lost)].to_parquet(file)
    lines: list[str] = []
    manifest = evaluate_model(lab, version, run_id="", log=lines.append)
    assert any("on 2 labeled frames" in line for line in lines)
    after = read_estimates(lab, version)
    assert set(after) == set(before)
    for key in lost:
        np.testing.assert_allclose(after[key].pose, before[key].pose, atol=1e-3)
    speed = manifest.details["speed"]
    assert speed["frames_per_second"] > 1
    assert (speed["width"], speed["height"]) == (256, 192)
    # resnet10t has 4.9 million, and the heads of five body parts come on top.
    assert 4.9e6 < manifest.details["parameters"] < 5.1e6
