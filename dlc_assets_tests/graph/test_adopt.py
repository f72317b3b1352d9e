"""A lab's old results are taken over by one command: every table equal to its file, warned of as it deserves, and made again by nobody."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest
from typer.testing import CliRunner

from dlc_assets.adoption.result_files import read_result
from dlc_assets.adoption.survey import FoundResult, survey
from dlc_assets.cli import app
from dlc_assets.demo.files import encode_video
from dlc_assets.lab.lab import Lab, open_lab_folder
from dlc_assets.lab.yaml_settings import read_yaml
from dlc_assets.poses.table_file import read_tracks
from dlc_assets.resources.instance import open_instance
from dlc_assets.state.lab_state import lab_state
from dlc_assets.training.models import find_version
from dlc_assets_tests.conftest import hash_inputs, use_lab

pytestmark = pytest.mark.slow

FOLDERS = (
    "openfield-reference-poses",
    "tracking-tables",
    "ibl-paw-left",
    "trimouse-results",
    "sleap-flies",
    "mirror-mouse",
)
SESSION = "sub-m01_ses-1"
LAB = """\
# the lab's own comment
name: Old lab
recordings: [{root: recordings, template: "{subject}/{session}/{recording}.mp4", camera: top}]
analyze: {settle_seconds: 0, since: 2020-01-01}
"""


def film(path: Path, frames: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    encode_video(path, (np.full((16, 16, 3), number % 250, np.uint8) for number in range(frames)), Fraction(25), None)


def adopt(*arguments: str | Path) -> dict[str, Any]:
    done = CliRunner().invoke(app, ["adopt", *map(str, arguments), "--json"])
    assert done.exit_code == 0, done.output
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture
def old(tmp_path: Path, real_data: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Lab, list[str], list[FoundResult]]:
    """A lab with a video for each of the real results, as long as these, and the answers that say which is whose."""
    root = tmp_path / "lab"
    roots = [real_data / folder for folder in FOLDERS]
    found = survey(real_data / "openfield" / "config.yaml", roots, log=lambda _: None).results
    answers = ["results:"]
    for number, result in enumerate(found):
        assert result.header.rows is not None
        film(root / "recordings/m01/1" / f"v{number}.mp4", result.header.rows)
        answers.append(f'  "{result.shown}": {{recording: {SESSION}/top_v{number}, crop: none}}')
    (root / "lab.yaml").write_text(LAB)
    (root / "answers.yaml").write_text("\n".join([*answers, 'models: {"(none)": {name: sleap-flies}}']) + "\n")
    use_lab(root, monkeypatch)
    arguments = [str(real_data / "openfield" / "config.yaml"), "--answers", str(root / "answers.yaml")]
    for folder in roots:
        arguments += ["--results", str(folder)]
    return open_lab_folder(root), arguments, found


def test_the_real_results_become_pose_tables_equal_to_the_files(
    old: tuple[Lab, list[str], list[FoundResult]], real_data: Path
) -> None:
    lab, arguments, results = old
    before = hash_inputs(lab.root)
    looked = adopt(*arguments, "--dry-run")
    assert looked["states"] == {"matched": len(results)}
    assert hash_inputs(lab.root) == before
    assert not lab.layout.store.exists(), "a dry run writes nothing"

    done = adopt(*arguments)
    assert done["problems"] == []
    assert len(done["models"]) == len({result.header.scorer for result in results}) > 5
    rows = {row["file"]: row for row in done["files"]}
    for result in results:
        _check_equal(lab, result, rows[result.shown])
    _check_warnings(done["warnings"])
    no_results = [row["file"] for row in done["files"] if row["state"] == "no result"]
    assert str(real_data / "mirror-mouse" / "CollectedData.csv") in no_results

    # lab.yaml names the project; all else in it is as it was.
    assert (lab.root / "lab.yaml").read_text().startswith(LAB)
    assert read_yaml(lab.root / "lab.yaml")["projects"] == {"openfield": (real_data / "openfield").resolve().as_posix()}
    again = adopt(*arguments)
    assert (again["imported"], again["pose_tables"], again["problems"]) == ([], [], [])
    assert len(again["unchanged"]) == len(done["pose_tables"])

    counts = lab_state(open_lab_folder(lab.root)).counts()
    assert counts["pose_table"] == {"up to date": len(done["pose_tables"])}
    with open_instance(open_lab_folder(lab.root)) as instance:
        known = instance.get_materialized_partitions(dg.AssetKey("pose_table"))
    assert known == {f"{row['model']}|{row['session']}" for row in done["pose_tables"]}


def _check_equal(lab: Lab, result: FoundResult, row: dict[str, Any]) -> None:
    table = read_result(result.path)
    version = find_version(lab.layout, row["model"])
    recording = row["recording"].rpartition("/")[2]
    stored = {
        (track.individual, track.bodypart): track
        for track in read_tracks(lab.layout.pose_file(version.model, version.version, SESSION, recording))[1]
    }
    assert len(stored) == len(table.tracks)
    for track in table.tracks:
        ours = stored[track.individual, track.bodypart]
        for name in ("x", "y", "likelihood"):
            assert np.array_equal(getattr(ours, name)[table.frames], getattr(track, name), equal_nan=True), result.shown


def _check_warnings(warnings: list[str]) -> None:
    def told(file: str, *words: str) -> bool:
        return any(file in warning and all(word in warning for word in words) for warning in warnings)

    assert told("trimouse_assemblies.pickle", "not told apart over time")
    assert told("testDLC_csv_table_madlc.csv", "numbered through")
    assert told("testDLC_csv_table_madlc.csv", "x = 0, y = 0", "line 5")
    assert told("centered_pair_standard.analysis.h5", "outside 0 to 1", "row 10")
    assert told("m3v1mp4DLC_resnet50", "px"), "the pictures of these videos are smaller than the coordinates need"
    assert not any("crop unknown" in warning for warning in warnings), "the answers state it"


def test_networks_that_run_become_models_with_results_or_without(lab_copy: Path, tmp_path: Path) -> None:
    from dlc_assets_tests.graph.test_imported_network import elsewhere

    elsewhere(lab_copy)
    (lab_copy / "models" / "old.yaml").unlink()
    config = lab_copy / "projects" / "elsewhere" / "config.yaml"
    (tmp_path / "none").mkdir()
    done = adopt(config, "--results", tmp_path / "none")
    (name,) = done["models"]
    walker = find_version(open_lab_folder(lab_copy).layout, "walker")
    assert done["models"] == {name: f"{name}@{walker.version}"}
    assert find_version(open_lab_folder(lab_copy).layout, name).runnable
    assert "projects" not in read_yaml(lab_copy / "lab.yaml"), "it lies among the lab's projects"
    assert adopt(config, "--results", tmp_path / "none")["imported"] == []
