"""The model card: what a person reads before using a version."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from dlc_assets.lab.errors import NotFoundError
from dlc_assets.lab.files import sha256_file
from dlc_assets.training import evaluation_figures as figures
from dlc_assets.training.card import card_text, write_card
from dlc_assets.training.models import ModelVersion
from dlc_assets.training.scores import errors_of_frames
from dlc_assets_tests.unit.scored_lab import ScoredLab, empty_lab, off_by, true_xy


@pytest.fixture
def scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ScoredLab:
    """A project of videos whose names tell camera and subject, one of them set aside."""
    lab = empty_lab(tmp_path, monkeypatch)
    lab.project("walking", {"m01_day1_top": 4, "m01_day2_top": 4, "m02_day3_side": 4})
    lab.freeze("walking", "m02_day3_side")
    return lab


def trained(scored: ScoredLab) -> ModelVersion:
    return scored.train("walker", "walking", {"m01_day1_top": range(4), "m01_day2_top": range(4)}, off_by(3.0))


def test_a_card_says_what_for_how_good_from_what_and_under_which_licence(scored: ScoredLab) -> None:
    version = trained(scored)
    scored.label("walking", "m01_day1_top", {"img000.png": true_xy(0) + np.array([0.0, 2.0])}, scorer="Ben")
    scored.evaluate(version)
    path = write_card(scored.lab, version)
    assert path == version.folder / "card.md"
    text = path.read_text()
    headings = [line for line in text.splitlines() if line.startswith("#")]
    assert headings == [
        f"# {version}",
        "## Intended use and limits",
        "## Errors",
        "## Examples",
        "## Data",
        "## Training",
        "## Files",
    ]
    for said in (
        "a mouse from above",
        "Labeled videos: 3 (m01_day1_top, m01_day2_top, m02_day3_side), pictures of 64x48 px.",
        "Cameras, by the videos' names: top.",
        "Subjects, by the videos' names: m01 (Mus musculus).",
        "Fewer than 20 labels: snout (8), tailbase (8).",
        "Judged by: benchmark.",
        "| benchmark | 8 | 3.00 | 3.00 to 3.00 | 3.00 | 3.00 | 100% |",
        "2.00 px apart on average (2 labels)",
        "1.0 million parameters",
        "50 frames/s at 64x48 px on cpu",
        "Labels by: Ann.",
        "Hash of the label set: `l1`.",
        "Whole videos were kept together.",
        "Starting weights: `random`",
        "Licence: none needed",
        "Seed: 42. Kept snapshot: epoch 40 of 50",
        "Software: deeplabcut 3.0.2.",
        "description: a mouse from above",
        sha256_file(version.snapshot),
        sha256_file(version.pytorch_config),
    ):
        assert said in text, said


def test_the_examples_lie_beside_and_the_text_for_the_ui_has_no_broken_link(scored: ScoredLab) -> None:
    version = trained(scored)
    scored.evaluate(version)
    path = write_card(scored.lab, version)
    name = path.read_text().partition("![")[2].partition("](")[2].partition(")")[0]
    with Image.open(path.with_name(name)) as picture:
        assert picture.format == "JPEG"
        assert min(picture.size) > 200
    assert "![" not in card_text(path)
    assert "## Data" in card_text(path)


def test_a_card_without_benchmark_frames_says_that_its_error_is_too_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored = empty_lab(tmp_path, monkeypatch)
    scored.project("walking", {"day1": 4})
    version = scored.train("walker", "walking", {"day1": range(4)}, off_by(1.0))
    scored.evaluate(version)
    text = write_card(scored.lab, version).read_text()
    assert "There are no benchmark frames. The validation frames chose the snapshot" in text
    assert "Judged by: validation." in text
    assert "no human error to compare with" in text


def test_a_version_that_is_not_evaluated_gets_no_card(scored: ScoredLab) -> None:
    with pytest.raises(NotFoundError, match="is not evaluated yet"):
        write_card(scored.lab, trained(scored))


def test_every_figure_can_be_drawn_of_odd_data(tmp_path: Path) -> None:
    """One set, one label, no label, nothing found, an estimate far outside: a figure must never end a run."""
    image = tmp_path / "a.png"
    Image.new("RGB", (20, 10)).save(image)
    nan = float("nan")
    cases = [
        ([[[1.0, 2.0], [nan, nan]]], [[[1.0, 2.0, 0.9], [nan, nan, 0.0]]]),
        ([[[1.0, 2.0], [3.0, 4.0]]], [[[nan, nan, 0.0], [nan, nan, 0.0]]]),
        ([[[1.0, 2.0], [3.0, 4.0]]], [[[900.0, 900.0, 0.1], [-500.0, 4.0, 0.9]]]),
        ([[[500.0, 500.0], [505.0, 500.0]]], [[[500.0, 500.0, 0.1], [500.0, 500.0, 0.9]]]),
    ]
    for xy, said in cases:
        frame = {"set": "benchmark", "folder": "f", "image": "a", "xy": xy[0]}
        errors = errors_of_frames([frame], ("snout", "tailbase"), np.array(said))
        human = pd.DataFrame({"bodypart": ["snout"], "distance": [1.5]})
        for people in (None, human):
            assert figures.as_png(figures.error_by_bodypart(errors, people))
            assert figures.as_png(figures.pck_curve(errors, people))
        assert figures.as_png(figures.error_histogram(errors, 0.6))
        assert figures.as_jpeg(figures.worst_frames(errors, {("f", "a"): image}))
