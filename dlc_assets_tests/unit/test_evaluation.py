"""Evaluation on paper: what each number means, which frames count, and what a corrected label costs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dlc_assets.lab.errors import NotFoundError
from dlc_assets.training.bootstrap import Units, mean_interval, units_of
from dlc_assets.training.evaluation import (
    ERRORS,
    ESTIMATES,
    SUMMARY,
    evaluation_inputs,
    read_summary,
    scored_frames,
    to_be_scored,
)
from dlc_assets.training.models import ModelVersion
from dlc_assets.training.scores import ALL, errors_of_frames, oks_precision_and_recall, summarize
from dlc_assets_tests.unit.scored_lab import PARTS, ScoredLab, empty_lab, off_by, true_xy

NAN = float("nan")


@pytest.fixture
def scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ScoredLab:
    """A project of three videos, the third set aside, and a model that learned from the first two and is 3 px off."""
    lab = empty_lab(tmp_path, monkeypatch)
    lab.project("walking", {"day1": 4, "day2": 4, "day3": 4})
    lab.freeze("walking", "day3")
    lab.train("walker", "walking", {"day1": range(4), "day2": range(4)}, off_by(3.0))
    return lab


def walker(scored: ScoredLab) -> ModelVersion:
    name = next(iter(scored.networks))
    model, _, version = name.partition("@")
    return ModelVersion(model, version, scored.lab.layout.version(model, version))


def errors_of(scored: ScoredLab, version: ModelVersion) -> pd.DataFrame:
    return pd.read_parquet(scored.lab.layout.evaluation(version.model, version.version) / ERRORS)


# --- numbers with known answers -------------------------------------------------------------------


def _frame(xy: list[list[float]], folder: str = "a", image: str = "1", name: str = "benchmark") -> dict[str, Any]:
    return {"set": name, "folder": folder, "image": image, "xy": xy}


def test_each_number_of_the_summary_is_what_it_says() -> None:
    # A frame whose labels span 30 by 40 px, so that the animal is 50 px large; in the second only one part is labeled.
    frames = [_frame([[0, 0], [30, 40]]), _frame([[10, 10], [NAN, NAN]], image="2")]
    estimated = np.array([[[3, 4, 0.9], [30, 46, 0.5]], [[10, 10, 0.7], [99, 99, 0.9]]])
    errors = errors_of_frames(frames, PARTS, estimated)
    assert errors["error"].tolist() == [5.0, 6.0, 0.0]
    total = summarize(errors, 0.6, {"benchmark": (80.0, 90.0)}).iloc[0]
    assert (total["set"], total["bodypart"], total["n"], total["n_missed"]) == ("benchmark", ALL, 3, 0)
    assert total["rmse"] == pytest.approx(11 / 3)
    assert total["median_error"] == 5.0
    assert (total["n_pcutoff"], total["rmse_pcutoff"]) == (2, 2.5)
    assert total["pck_5px"] == pytest.approx(2 / 3)
    # Of the frame with a size: 5 and 6 px of 50 px. The other has no size and does not count.
    assert (total["pck_05"], total["pck_10"], total["pck_20"]) == (0.0, 0.5, 1.0)
    assert (total["map"], total["mar"]) == (80.0, 90.0)


def test_a_label_without_an_estimate_counts_as_missed_and_not_as_near() -> None:
    estimated = np.array([[[3.0, 4.0, 0.9], [NAN, NAN, 0.0]]])
    table = summarize(errors_of_frames([_frame([[0, 0], [30, 40]])], PARTS, estimated), 0.6)
    total = table[table["bodypart"] == ALL].iloc[0]
    assert (total["n"], total["n_missed"], total["rmse"], total["pck_5px"], total["pck_20"]) == (2, 1, 5.0, 0.5, 0.5)
    tailbase = table[table["bodypart"] == "tailbase"].iloc[0]
    assert (tailbase["n"], tailbase["n_missed"], tailbase["pck_5px"]) == (1, 1, 0.0)
    assert np.isnan(tailbase["rmse"])


def test_average_precision_is_full_where_all_is_right_and_falls_with_false_alarms() -> None:
    labels = np.array([[[0.0, 0.0], [30.0, 40.0]], [[5.0, 5.0], [35.0, 45.0]]])
    right = np.concatenate([labels, np.full((2, 2, 1), 0.9)], axis=2)
    assert oks_precision_and_recall(labels, right) == pytest.approx((100.0, 100.0))
    far = right.copy()
    far[1, :, 0] += 500
    # The wrong one is the surer one: at every threshold one of two finds is right, half of the animals are found.
    far[1, :, 2] = 0.95
    precision, recall = oks_precision_and_recall(labels, far) or (NAN, NAN)
    assert recall == pytest.approx(50.0)
    assert precision == pytest.approx(100 * 51 / 101 * 0.5)  # recall levels 0 to 0.5 of 101
    nothing = np.full_like(right, NAN)
    assert oks_precision_and_recall(labels, nothing) == (0.0, 0.0)
    assert oks_precision_and_recall(np.full_like(labels, NAN), right) is None


# --- intervals ------------------------------------------------------------------------------------


def test_intervals_hold_the_true_mean_about_95_times_in_100() -> None:
    """Videos differ far more than frames do: drawing single frames would hold it in half of the cases only."""
    generator = np.random.default_rng(5)
    for videos in (3, 10, 40):
        hits = 0
        for _ in range(300):
            of_frame = np.repeat(np.arange(videos), generator.integers(4, 12, videos))
            video_means = generator.gamma(4, 1, videos)
            values = generator.exponential(1, (len(of_frame), 3)) * video_means[of_frame][:, None]
            interval = mean_interval(values, Units("videos", of_frame, videos))
            assert interval is not None
            hits += interval.low <= 4.0 <= interval.high
        assert 0.90 <= hits / 300 <= 0.99, videos


def test_the_same_values_give_the_same_interval_and_nan_does_not_count() -> None:
    units = units_of([("a", "1"), ("b", "1"), ("c", "1")])
    values = np.array([[1.0, NAN], [2.0, 3.0], [NAN, 6.0]])
    first = mean_interval(values, units)
    assert first == mean_interval(values.copy(), units)
    assert first is not None
    assert first.low < 3.0 < first.high
    assert mean_interval(np.array([[1.0], [NAN], [NAN]]), units) is None, "one video says nothing of others"


def test_one_video_is_cut_in_blocks_of_neighbouring_frames() -> None:
    units = units_of([("a", f"img{at}.png") for at in (10, 9, 1, 2, 3, 4, 5, 6, 7, 8)])
    assert units.kind == "blocks"
    by_number = dict(zip((10, 9, 1, 2, 3, 4, 5, 6, 7, 8), units.of_frame.tolist(), strict=True))
    ordered = [by_number[number] for number in range(1, 11)]
    assert ordered == sorted(ordered), "img2 comes before img10"
    assert len(set(ordered)) == units.count == 4
    assert units_of([("a", "1"), ("a", "1"), ("b", "1")]).kind == "videos"


# --- which frames, and corrected labels -----------------------------------------------------------


def test_a_version_is_scored_on_its_own_frames_and_on_benchmark_frames_that_it_has_not_seen(scored: ScoredLab) -> None:
    version = walker(scored)
    (manifest,) = scored.evaluate(version)
    sets = errors_of(scored, version).groupby("set")["folder"].unique()
    assert {name: set(folders) for name, folders in sets.items()} == {
        "train": {"day1", "day2"},
        "validation": {"day1", "day2"},
        "benchmark": {"day3"},
    }
    assert manifest.details["scoring_set"] == "benchmark"
    assert manifest.details["benchmark"]["rmse"] == 3.0
    assert manifest.details["parameters"] == 1_000_000
    assert manifest.details["speed"]["frames_per_second"] == 50.0
    saw_all = scored.train("cheat", "walking", {"day1": range(4), "day3": range(3)}, off_by(0.0))
    scored.evaluate(saw_all)
    benchmark = errors_of(scored, saw_all).query("set == 'benchmark'")
    assert set(benchmark["image"]) == {"img003.png"}, "three of the four were in its training"


def test_what_the_model_that_it_started_from_has_seen_is_not_scored(scored: ScoredLab) -> None:
    parent = scored.train("parent", "walking", {"day3": range(4)}, off_by(1.0))
    child = scored.train("child", "walking", {"day1": range(4)}, off_by(1.0))
    child.manifest.model_copy(update={"inputs": {"weights": f"model:{parent}"}}).write(child.folder)
    child = ModelVersion(child.model, child.version, child.folder)
    (manifest,) = scored.evaluate(child)
    assert manifest.details["benchmark"] is None
    assert manifest.details["scoring_set"] == "validation"


def test_a_corrected_benchmark_label_rescores_every_model_without_running_a_network(scored: ScoredLab) -> None:
    versions = [walker(scored), scored.train("runner", "walking", {"day1": range(4)}, off_by(1.0))]
    scored.evaluate(*versions)
    assert not any(to_be_scored(scored.lab, version) for version in versions)
    asked = len(scored.asked)
    corrected = {f"img{at:03}.png": true_xy(at) for at in range(4)}
    corrected["img001.png"] = corrected["img001.png"] + [3.0, 4.0]
    scored.label("walking", "day3", corrected)
    assert all(to_be_scored(scored.lab, version) for version in versions)
    changed = evaluation_inputs(scored.lab, versions[0])
    manifests = scored.evaluate(*versions)
    assert len(scored.asked) == asked
    assert manifests[0].inputs == changed
    assert not any(to_be_scored(scored.lab, version) for version in versions)
    # 3 px off where nothing changed; of the corrected frame now (3, 4) - (3, 0), and (3, 4) - (1, 0).
    means = [manifest.details["benchmark"]["rmse"] for manifest in manifests]
    assert means == pytest.approx([(3 * 3 + 4.0) / 4, (3 * 1 + np.hypot(2, 4)) / 4], abs=1e-3)
    assert manifests[0].details["speed"]["frames_per_second"] == 50.0, "what was measured is kept"
    train = errors_of(scored, versions[0]).query("set == 'train'")
    assert (train["error"] == 3.0).all()


def test_of_new_benchmark_frames_only_those_are_run(scored: ScoredLab) -> None:
    version = walker(scored)
    scored.evaluate(version)
    asked = len(scored.asked)
    source = scored.image("walking", "day3", "img003.png")
    source.with_name("img004.png").write_bytes(scored.image("walking", "day1", "img000.png").read_bytes() + b"\0")
    scored.label("walking", "day3", {f"img{at:03}.png": true_xy(at) for at in range(5)})
    (manifest,) = scored.evaluate(version)
    assert scored.asked[asked:] == [(str(version), "day3", "img004.png")]
    assert manifest.details["benchmark"]["n"] == 10


def test_everything_is_run_again_on_request(scored: ScoredLab) -> None:
    version = walker(scored)
    scored.evaluate(version)
    before = len(scored.asked)
    scored.evaluate(version, recompute=True)
    assert len(scored.asked) == 2 * before == 2 * len(scored_frames(scored.lab, version))


def test_an_evaluation_of_an_earlier_release_stays_up_to_date_and_can_be_scored_anew(scored: ScoredLab) -> None:
    """It kept the errors of labeled body parts, and no estimates; its dataset holds the benchmark frames itself."""
    version = walker(scored)
    (manifest,) = scored.evaluate(version)
    place = scored.lab.layout.evaluation(version.model, version.version)
    (place / ESTIMATES).unlink()
    kept = ["set", "bodypart", "n", "rmse", "median_error", "n_pcutoff", "rmse_pcutoff"]
    pd.read_parquet(place / SUMMARY)[kept].to_parquet(place / SUMMARY)
    frames = [frame for frame in scored_frames(scored.lab, version) if frame.set == "benchmark"]
    folder = scored.lab.layout.datasets("walker") / version.card["dataset"]
    file = folder / "frames.json"
    own = pd.read_json(file).to_dict("records")
    own += [
        {"folder": f.folder, "image": f.image, "scorer": "Ann", "set": "benchmark", "xy": f.xy.tolist()} for f in frames
    ]
    file.write_text(pd.DataFrame(own).to_json(orient="records"))
    old = {"model": version.version, "dataset": version.card["dataset"]}
    assert evaluation_inputs(scored.lab, version) == old, "the benchmark labels are those of its dataset"
    assert read_summary(scored.lab, version)["pck_5px"].isna().all()

    asked = len(scored.asked)
    scored.label("walking", "day3", {f"img{at:03}.png": true_xy(at) + np.array([1.0, 0.0]) for at in range(4)})
    assert set(evaluation_inputs(scored.lab, version)) == {"model", "dataset", "benchmark"}
    (manifest,) = scored.evaluate(version)
    assert len(scored.asked) == asked
    assert manifest.details["benchmark"]["rmse"] == 2.0
    assert manifest.details["benchmark"]["map"] is not None, "every body part of every frame is labeled here"


def test_people_who_labeled_the_same_frames_are_the_yardstick(scored: ScoredLab) -> None:
    version = walker(scored)
    assert scored.evaluate(version)[0].details["human_error"] is None
    scored.label(
        "walking",
        "day1",
        {"img000.png": true_xy(0) + np.array([0.0, 2.0]), "img001.png": true_xy(1) + np.array([0.0, 4.0])},
        scorer="Ben",
    )
    details = scored.evaluate(version)[0].details
    assert (details["human_error"], details["human_error_median"], details["human_error_labels"]) == (3.0, 3.0, 4)


def test_a_version_whose_dataset_is_gone_says_so(scored: ScoredLab) -> None:
    version = walker(scored)
    folder = scored.lab.layout.datasets("walker") / version.card["dataset"]
    folder.rename(folder.with_name("elsewhere"))
    with pytest.raises(NotFoundError, match="training dataset is no longer in the store"):
        scored.evaluate(version)
