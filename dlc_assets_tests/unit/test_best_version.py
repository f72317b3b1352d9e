"""`release --best`: the version with the smallest error where all can be ranked, noise called noise, and else a refusal."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from dlc_assets.cli import app
from dlc_assets.lab.errors import InputError, NotFoundError
from dlc_assets.training.best_version import best_version
from dlc_assets_tests.unit.scored_lab import Network, ScoredLab, empty_lab, off_by

VIDEOS = {f"day{number}": 5 for number in range(1, 9)}
HELD_OUT = ("day5", "day6", "day7", "day8")
LEARNED = {"day1": range(5), "day2": range(5)}


@pytest.fixture
def scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ScoredLab:
    """A project of eight videos, the last four set aside."""
    lab = empty_lab(tmp_path, monkeypatch)
    lab.project("walking", VIDEOS)
    lab.freeze("walking", *HELD_OUT)
    return lab


def wavering(seed: int) -> Network:
    """Return a network that is off by about 10 px: in some videos more, in some less."""
    generator = np.random.default_rng(seed)
    of_video = {folder: abs(10 + 2 * generator.standard_normal()) for folder in sorted(VIDEOS)}
    return lambda folder, image, xy: off_by(of_video[folder])(folder, image, xy)


def test_an_older_version_is_the_best_where_it_has_the_smallest_error(scored: ScoredLab) -> None:
    old = scored.train("walker", "walking", LEARNED, off_by(1.0), version="aaaaaaaaaaaa")
    new = scored.train("walker", "walking", LEARNED, off_by(2.0), version="bbbbbbbbbbbb")
    other = scored.train("runner", "walking", LEARNED, off_by(0.5))
    scored.evaluate(old, new, other)
    of_model = best_version(scored.lab, "walker")
    assert (of_model.version, of_model.compared, of_model.alike) == (old, (str(old), str(new)), ())
    assert of_model.sentence().startswith(
        f"{old} has the smallest mean error of 2 versions: 1 px on 20 frames of 4 videos"
    )
    assert best_version(scored.lab, None).version == other


def test_a_choice_within_noise_is_said_to_be_one(scored: ScoredLab) -> None:
    versions = [scored.train(f"m{seed}", "walking", LEARNED, wavering(seed)) for seed in range(2)]
    scored.evaluate(*versions)
    best = best_version(scored.lab, None)
    (other,) = {*versions} - {best.version}
    assert best.alike == (str(other),)
    assert f"The difference is within noise for {other}" in best.sentence()


def test_what_cannot_be_ranked_is_not_chosen_from(scored: ScoredLab) -> None:
    scored.project("rearing", {"day1": 5, "day2": 5})
    scored.freeze("rearing", "day2")
    walker = scored.train("walker", "walking", LEARNED, off_by(1.0))
    rearer = scored.train("rearer", "rearing", {"day1": range(5)}, off_by(1.0))
    scored.evaluate(walker, rearer)
    with pytest.raises(InputError, match=r"none is the best:\n  .*different projects"):
        best_version(scored.lab, None)
    assert best_version(scored.lab, "rearer").version == rearer
    assert best_version(scored.lab, "rearer").sentence() == f"{rearer} is the only version there is."
    result = CliRunner().invoke(app, ["release", "--best", "--lab", str(scored.lab.root)])
    assert result.exit_code == 1
    assert "MODEL@VERSION" in result.stderr


def test_the_choice_among_no_models_is_none(scored: ScoredLab) -> None:
    with pytest.raises(NotFoundError, match="no model is trained yet"):
        best_version(scored.lab, None)
    with pytest.raises(NotFoundError, match='"walker" has no trained version'):
        best_version(scored.lab, "walker")


def test_the_command_says_how_it_chose(scored: ScoredLab) -> None:
    old = scored.train("walker", "walking", LEARNED, off_by(1.0), version="aaaaaaaaaaaa")
    new = scored.train("walker", "walking", LEARNED, off_by(2.0), version="bbbbbbbbbbbb")
    scored.evaluate(old, new)
    result = CliRunner().invoke(
        app, ["release", "walker", "--best", "--dry-run", "--json", "--lab", str(scored.lab.root)]
    )
    answer = json.loads(result.stdout)
    assert answer["version"] == old.version
    assert answer["best"]["compared"] == [str(old), str(new)]
    assert answer["best"]["error"] == 1.0
