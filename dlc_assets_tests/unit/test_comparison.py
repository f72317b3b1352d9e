"""Comparing versions: on frames that none has seen, ranked only where that is fair, and noise called noise."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from dlc_assets.api import open_lab
from dlc_assets.catalog.schema import COMPARISON
from dlc_assets.cli import app
from dlc_assets.lab.errors import NotFoundError
from dlc_assets.training.comparison import (
    ALIKE,
    BEST,
    FRAMES_FILE,
    UNKNOWN,
    WORSE,
    Comparison,
    chosen_versions,
    compare_models,
    compare_versions,
)
from dlc_assets.training.evaluation_figures import as_png, comparison_figure
from dlc_assets.training.models import ModelVersion
from dlc_assets.training.rescoring import rescore, rescore_older_versions
from dlc_assets_tests.unit.scored_lab import Network, ScoredLab, empty_lab, off_by, true_xy

VIDEOS = {f"day{number}": 5 for number in range(1, 9)}
HELD_OUT = ("day5", "day6", "day7", "day8")


@pytest.fixture
def scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ScoredLab:
    """A project of eight videos, the last four set aside."""
    lab = empty_lab(tmp_path, monkeypatch)
    lab.project("walking", VIDEOS)
    lab.freeze("walking", *HELD_OUT)
    return lab


def compare(scored: ScoredLab, *references: str) -> Comparison:
    return compare_versions(scored.lab, chosen_versions(scored.lab, references), together=len(references) > 1)


def row_of(compared: Comparison, version: ModelVersion) -> dict[str, Any]:
    (row,) = [row for row in compared.rows if (row["model"], row["version"]) == (version.model, version.version)]
    return row


def wavering(pixels: float, seed: int, spread: float = 2.0) -> Network:
    """Return a network that is off by about so many px: in some videos more, in some less."""
    generator = np.random.default_rng(seed)
    of_video = {folder: pixels + spread * generator.standard_normal() for folder in sorted(VIDEOS)}
    return lambda folder, image, xy: off_by(abs(of_video[folder]))(folder, image, xy)


LEARNED = {"day1": range(5), "day2": range(5)}


# --- ranking --------------------------------------------------------------------------------------


def test_versions_are_ranked_by_their_error_on_frames_that_none_has_seen(scored: ScoredLab) -> None:
    good = scored.train("runner", "walking", LEARNED, off_by(1.0))
    old = scored.train("walker", "walking", LEARNED, off_by(4.0), version="aaaaaaaaaaaa")
    new = scored.train("walker", "walking", LEARNED | {"day5": [0]}, off_by(2.0), version="bbbbbbbbbbbb")
    scored.evaluate(good, old, new)
    compared = compare(scored)
    assert [(row["model"], row["rank"], row["rmse"], row["verdict"]) for row in compared.rows] == [
        ("runner", 1, 1.0, BEST),
        ("walker", 2, 2.0, WORSE),
        ("walker", 3, 4.0, WORSE),
    ]
    (group,) = compared.groups
    seen = ("day5", "img000.png")
    assert seen not in group.frames, "one of them has learned from it"
    assert len(group.frames) == 19
    assert {folder for folder, _ in group.frames} == set(HELD_OUT)
    assert (group.videos, group.drawn, group.bodyparts) == (4, "videos", ("snout", "tailbase"))
    assert compared.best == str(good)
    assert compared.refused == []
    row = row_of(compared, old)
    assert (row["frames"], row["videos"], row["labels"], row["difference"]) == (19, 4, 38, 3.0)
    assert row["difference_low"] == row["difference_high"] == 3.0, "it is worse by the same everywhere"
    assert (row["current"], row_of(compared, new)["current"]) == (False, True)
    assert (row["parameters"], row["frames_per_second"], row["device"]) == (1_000_000, 50.0, "cpu")


def test_a_difference_within_noise_is_said_to_be_so(scored: ScoredLab) -> None:
    versions = [scored.train(f"m{seed}", "walking", LEARNED, wavering(10.0, seed)) for seed in range(2)]
    versions.append(scored.train("bad", "walking", LEARNED, off_by(40.0)))
    scored.evaluate(*versions)
    compared = compare(scored)
    first, second, third = compared.rows
    assert [first["verdict"], second["verdict"], third["verdict"]] == [BEST, ALIKE, WORSE]
    assert second["difference"] > 0
    assert second["difference_low"] < 0 < second["difference_high"]
    assert second["note"].startswith("not distinguishable from the best")
    assert third["note"].startswith("worse: ")
    assert first["rmse_low"] < first["rmse"] < first["rmse_high"]


def test_labels_corrected_since_count_at_once_and_for_all(scored: ScoredLab) -> None:
    """Who is off by 4 px to the right is right once the labels say so."""
    versions = [
        scored.train("left", "walking", LEARNED, off_by(0.0)),
        scored.train("right", "walking", LEARNED, off_by(4.0)),
    ]
    scored.evaluate(*versions)
    before = compare(scored)
    assert before.best == str(versions[0])
    for folder in HELD_OUT:
        corrected = {f"img{at:03}.png": true_xy(at) + np.array([4.0, 0.0]) for at in range(5)}
        scored.label("walking", folder, corrected)
    asked = len(scored.asked)
    after = compare(scored)
    assert after.best == str(versions[1])
    assert row_of(after, versions[1])["rmse"] == 0.0
    assert after.groups[0].comparable != before.groups[0].comparable
    assert len(scored.asked) == asked


def test_only_body_parts_that_all_know_are_compared(scored: ScoredLab) -> None:
    both = scored.train("both", "walking", LEARNED, lambda f, i, xy: np.array([[*xy[0], 0.9], [*(xy[1] + 50.0), 0.9]]))
    one = scored.train("one", "walking", LEARNED, off_by(1.0), parts=("snout",))
    scored.evaluate(both, one)
    compared = compare(scored)
    (group,) = compared.groups
    assert group.bodyparts == ("snout",)
    assert compared.best == str(both), "where the other part is, the other was never asked"
    other = scored.train("other", "walking", LEARNED, off_by(1.0), parts=("elbow",))
    compared = compare_versions(scored.lab, [one, other])
    assert compared.groups[0].versions == (str(one),)
    assert "other" in compared.refused[-1]


def test_labels_without_a_position_are_left_out_for_all_and_counted(scored: ScoredLab) -> None:
    def shy(folder: str, image: str, xy: np.ndarray) -> np.ndarray:
        return np.full((len(xy), 3), np.nan) if folder == "day8" else off_by(1.0)(folder, image, xy)

    shy_one = scored.train("shy", "walking", LEARNED, shy)
    bold = scored.train("bold", "walking", LEARNED, lambda f, i, xy: off_by(100.0 if f == "day8" else 1.5)(f, i, xy))
    scored.evaluate(shy_one, bold)
    compared = compare(scored)
    assert (row_of(compared, shy_one)["missed"], row_of(compared, bold)["missed"]) == (10, 0)
    assert (row_of(compared, shy_one)["rmse"], row_of(compared, bold)["rmse"]) == (1.0, 1.5)
    assert row_of(compared, bold)["labels"] == 30
    assert "gave no position for 10 labels" in row_of(compared, shy_one)["note"]
    assert row_of(compared, shy_one)["pck_5px"] == 0.75


def test_in_one_video_blocks_of_frames_are_drawn_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored = empty_lab(tmp_path, monkeypatch)
    scored.project("walking", {"day1": 4, "day2": 16})
    scored.freeze("walking", "day2")
    versions = [
        scored.train(name, "walking", {"day1": range(4)}, off_by(off)) for name, off in (("a", 1.0), ("b", 2.0))
    ]
    scored.evaluate(*versions)
    compared = compare(scored)
    assert (compared.groups[0].drawn, compared.groups[0].videos) == ("blocks", 1)
    assert "one video says little of others" in compared.groups[0].sentence()
    assert compared.rows[1]["verdict"] == WORSE


def test_of_a_single_frame_nothing_can_be_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scored = empty_lab(tmp_path, monkeypatch)
    scored.project("walking", {"day1": 4, "day2": 1})
    scored.freeze("walking", "day2")
    versions = [
        scored.train(name, "walking", {"day1": range(4)}, off_by(off)) for name, off in (("a", 1.0), ("b", 2.0))
    ]
    scored.evaluate(*versions)
    second = compare(scored).rows[1]
    assert (second["verdict"], second["difference"], second["difference_low"]) == (UNKNOWN, 1.0, None)
    assert "the frames are too few" in second["note"]


# --- refusing -------------------------------------------------------------------------------------


def test_models_of_different_projects_are_not_ranked_against_each_other(scored: ScoredLab) -> None:
    scored.project("flying", {"bird1": 3, "bird2": 6})
    scored.freeze("flying", "bird2")
    versions = [
        scored.train("a", "walking", LEARNED, off_by(1.0)),
        scored.train("b", "walking", LEARNED, off_by(2.0)),
        scored.train("bird", "flying", {"bird1": range(3)}, off_by(0.1)),
    ]
    scored.evaluate(*versions)
    compared = compare(scored)
    assert [group.project for group in compared.groups] == ["walking", "flying"]
    assert row_of(compared, versions[2])["rank"] is None
    assert compared.best is None
    assert "are of different projects (walking, flying)" in compared.refused[0]
    together = compare(scored, "a", "bird")
    assert together.groups == []
    assert [row["rank"] for row in together.rows] == [None, None]
    assert "different projects" in together.refused[0]


def test_a_version_that_learned_from_all_benchmark_frames_is_not_ranked_and_takes_no_frames_from_others(
    scored: ScoredLab,
) -> None:
    everything = {folder: range(5) for folder in VIDEOS}
    cheat = scored.train("cheat", "walking", everything, off_by(0.0))
    honest = [scored.train(name, "walking", LEARNED, off_by(off)) for name, off in (("a", 1.0), ("b", 2.0))]
    scored.evaluate(cheat, *honest)
    compared = compare(scored)
    assert row_of(compared, cheat)["rank"] is None
    assert "has seen all benchmark frames" in row_of(compared, cheat)["note"]
    assert (len(compared.groups), len(compared.groups[0].frames)) == (1, 20)
    assert compared.best is None
    assert compare(scored, "cheat", "a").groups == []


def test_a_version_that_has_seen_most_stands_apart_unless_asked_for(scored: ScoredLab) -> None:
    most = LEARNED | {"day5": range(5), "day6": range(5), "day7": range(5)}
    greedy = scored.train("greedy", "walking", most, off_by(0.5))
    honest = [scored.train(name, "walking", LEARNED, off_by(off)) for name, off in (("a", 1.0), ("b", 2.0))]
    scored.evaluate(greedy, *honest)
    compared = compare(scored)
    assert [group.versions for group in compared.groups] == [(str(honest[0]), str(honest[1])), (str(greedy),)]
    assert "hardly any benchmark frame is unseen by all of them" in compared.refused[0]
    asked = compare(scored, "greedy", "a")
    assert asked.best == str(greedy)
    assert {folder for folder, _ in asked.groups[0].frames} == {"day8"}


def test_without_benchmark_frames_nothing_is_ranked_and_the_way_out_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored = empty_lab(tmp_path, monkeypatch)
    scored.project("walking", {"day1": 4})
    versions = [scored.train(name, "walking", {"day1": range(4)}, off_by(1.0)) for name in ("a", "b")]
    scored.evaluate(*versions)
    compared = compare(scored)
    assert compared.groups == []
    assert all("State split.benchmark above 0" in sentence for sentence in compared.refused)


def test_what_a_version_started_from_has_seen_counts_as_seen(scored: ScoredLab) -> None:
    first = scored.train("first", "walking", LEARNED | {"day5": range(5)}, off_by(1.0))
    second = scored.train("second", "walking", LEARNED, off_by(1.0))
    manifest = second.manifest.model_copy(update={"inputs": {"weights": f"model:{first}"}})
    manifest.write(second.folder)
    fresh = ModelVersion(second.model, second.version, second.folder)
    scored.evaluate(fresh)
    (group,) = compare_versions(scored.lab, [fresh]).groups
    assert "day5" not in {folder for folder, _ in group.frames}


def test_a_model_without_specification_is_compared_as_long_as_another_names_the_project(scored: ScoredLab) -> None:
    versions = [scored.train(name, "walking", LEARNED, off_by(off)) for name, off in (("a", 1.0), ("b", 2.0))]
    scored.evaluate(*versions)
    (scored.root / "models" / "a.yaml").unlink()
    assert compare(scored).best == str(versions[0])
    (scored.root / "models" / "b.yaml").unlink()
    compared = compare(scored)
    assert compared.groups == []
    assert all("the benchmark labels of walking cannot be read" in sentence for sentence in compared.refused)


def test_an_unknown_model_is_named_with_the_nearest(scored: ScoredLab) -> None:
    scored.train("walker", "walking", LEARNED, off_by(1.0))
    with pytest.raises(NotFoundError, match='Did you mean "walker"'):
        chosen_versions(scored.lab, ["wolker", "walker"])


# --- all versions of a lab ------------------------------------------------------------------------


def test_older_versions_are_scored_anew_and_those_never_run_on_new_frames_are_run(scored: ScoredLab) -> None:
    old = scored.train("walker", "walking", LEARNED, off_by(3.0), version="aaaaaaaaaaaa")
    new = scored.train("walker", "walking", LEARNED, off_by(2.0), version="bbbbbbbbbbbb")
    scored.evaluate(old, new)
    scored.label("walking", "day8", {"img000.png": true_xy(0) + 1.0})
    assert rescore_older_versions(scored.lab, run_id="", log=lambda _: None) == []
    assert [version for version, _, _ in scored.asked].count(str(old)) == 30
    kept = (old.folder / "evaluation" / "summary.parquet").stat().st_mtime_ns
    assert rescore_older_versions(scored.lab, run_id="", log=lambda _: None) == []
    assert (old.folder / "evaluation" / "summary.parquet").stat().st_mtime_ns == kept, "it is up to date now"
    never = scored.train("runner", "walking", LEARNED, off_by(1.0))
    assert "was never run on the benchmark frames" in row_of(compare(scored), never)["note"]
    assert rescore(scored.lab, [never], run_id="", log=lambda _: None) == []
    assert row_of(compare(scored), never)["rank"] == 1
    assert (never.folder / "card.md").is_file()


def test_the_table_and_its_frames_are_written_and_the_same_again(scored: ScoredLab) -> None:
    versions = [scored.train(name, "walking", LEARNED, wavering(5.0, at)) for at, name in enumerate("abc")]
    scored.evaluate(*versions)
    compared, path = compare_models(scored.lab)
    table = pq.read_table(path)
    assert table.schema.names == [column.name for column in COMPARISON.columns]
    assert table["rank"].to_pylist() == [1, 2, 3]
    frames = pq.read_table(path.with_name(FRAMES_FILE)).to_pylist()
    assert len(frames) == 20
    assert frames[0] == {
        "comparable": compared.groups[0].comparable,
        "project": "walking",
        "folder": "day5",
        "image": "img000.png",
    }
    again, _ = compare_models(scored.lab)
    assert again.data_version == compared.data_version
    turned = compare_versions(scored.lab, versions[::-1])
    assert turned.data_version == compared.data_version, "the order of asking does not matter"
    assert as_png(comparison_figure(compared.rows)).startswith(b"\x89PNG")
    assert as_png(comparison_figure([])).startswith(b"\x89PNG")


def test_fifty_versions_are_compared_within_seconds(scored: ScoredLab) -> None:
    versions = [scored.train(f"m{at:02}", "walking", LEARNED, wavering(8.0, at)) for at in range(50)]
    scored.remember(*versions)
    begun = time.perf_counter()
    compared = compare(scored)
    assert time.perf_counter() - begun < 5
    assert [row["rank"] for row in compared.rows] == list(range(1, 51))


def test_the_notebook_and_the_command_say_the_same(scored: ScoredLab) -> None:
    versions = [scored.train(name, "walking", LEARNED, off_by(off)) for name, off in (("a", 1.0), ("b", 2.0))]
    scored.evaluate(*versions)
    table = open_lab(scored.root).comparison(["a", "b"])
    assert table["rmse"].tolist() == [1.0, 2.0]
    done = CliRunner().invoke(app, ["compare-models", "a", "b", "--lab", str(scored.root), "--json"])
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert [row["rmse"] for row in answer["versions"]] == [1.0, 2.0]
    assert answer["best"] == str(versions[0])
    assert len(answer["groups"][0]["frames"]) == 20
    shown = CliRunner().invoke(app, ["compare-models", "--lab", str(scored.root)])
    assert shown.exit_code == 0
    assert "20 frames of 4 videos (day5, day6, day7, day8) of walking, that none of the 2 has seen" in shown.stdout


def test_the_command_fails_where_what_was_asked_for_cannot_be_ranked(scored: ScoredLab) -> None:
    scored.project("flying", {"bird1": 3, "bird2": 6})
    scored.freeze("flying", "bird2")
    scored.evaluate(
        scored.train("a", "walking", LEARNED, off_by(1.0)),
        scored.train("bird", "flying", {"bird1": range(3)}, off_by(0.1)),
    )
    done = CliRunner().invoke(app, ["compare-models", "a", "bird", "--lab", str(scored.root), "--json"])
    assert done.exit_code == 1
    answer = json.loads(done.stdout)
    assert not answer["ok"]
    assert "different projects" in answer["not_ranked"][0]
    unknown = CliRunner().invoke(app, ["compare-models", "q", "bird", "--lab", str(scored.root)])
    assert unknown.exit_code == 2


def test_a_version_that_cannot_be_scored_is_named_and_stops_no_other(scored: ScoredLab) -> None:
    lost = scored.train("lost", "walking", LEARNED, off_by(1.0))
    good = scored.train("good", "walking", LEARNED, off_by(1.0))
    folder = scored.lab.layout.datasets("lost") / lost.card["dataset"]
    folder.rename(folder.with_name("elsewhere"))
    (problem,) = rescore(scored.lab, [lost, good], run_id="", log=lambda _: None)
    assert problem.startswith(f"{lost} could not be scored")
    assert (good.folder / "card.md").is_file()
    assert "which frames it has seen is not known" in row_of(compare(scored), lost)["note"]
