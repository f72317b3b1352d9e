"""Releases and cohorts over the graph: what the sensors ask for after a release, and that frozen poses outlive a new analysis."""

from __future__ import annotations

import json
import shutil
from datetime import date
from pathlib import Path

import dagster as dg
import h5py
import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from dlc_assets import open_lab
from dlc_assets.cli import app
from dlc_assets.inference.freezing import freeze
from dlc_assets.inference.releasing import carry_out, plan_release
from dlc_assets.state.lab_state import lab_state
from dlc_assets.training.models import current_version
from dlc_assets_tests.graph.conftest import Graph
from dlc_assets_tests.graph.small_lab import FIRST, SECOND, SESSIONS, THIRD, as_if_analysed, as_if_trained, film, record

NEWER = "ba9876543210"


@pytest.fixture
def trained_again(small: Graph) -> Graph:
    """Three sessions analysed by the released version of walker, and a newer version that is not released."""
    record(small.lab, *SESSIONS)
    first = as_if_trained(small.lab)
    settings = small.root / "lab.yaml"
    settings.write_text(settings.read_text().replace("model: walker}", f"model: {first}}}"))
    as_if_analysed(small.lab, *SESSIONS)
    as_if_trained(small.lab, version=NEWER)
    return small


def release(graph: Graph, on_release: str, today: date = date(2026, 11, 24)) -> None:
    newer = current_version(graph.lab.layout, "walker")
    assert newer is not None
    plan = plan_release(graph.lab, newer, on_release=on_release, today=today)
    carry_out(graph.lab, plan, reason="", force=True)  # the stand-ins have no network to evaluate


def states(graph: Graph) -> dict[str, str]:
    return {product.key: product.state for product in lab_state(graph.lab).of("pose_table")}


def test_a_release_for_new_sessions_leaves_past_poses_up_to_date(trained_again: Graph) -> None:
    release(trained_again, "new_sessions")
    assert states(trained_again) == {f"walker|{key}": "up to date" for key in SESSIONS}
    trained_again.tick("recordings")
    assert trained_again.asked("analysis") == []


def test_a_release_for_all_makes_the_sensor_ask_for_past_sessions_again(trained_again: Graph) -> None:
    release(trained_again, "all")
    assert states(trained_again) == {f"walker|{key}": "behind" for key in SESSIONS}
    trained_again.tick("recordings")
    ((job, tags),) = trained_again.asked("analysis")
    assert job == "analyze"
    assert tags == {
        "dagster/asset_partition_range_start": f"walker|{FIRST}",
        "dagster/asset_partition_range_end": f"walker|{THIRD}",
    }


def test_only_sessions_from_the_day_of_the_release_on_take_the_new_version(trained_again: Graph) -> None:
    release(trained_again, "new_sessions", today=date(2026, 5, 3))
    film(trained_again.root / "recordings/m01/20260504/top.mp4")
    (trained_again.root / "recordings/m01/20260504/session.yaml").write_text("start: 2026-05-04T10:00:00\n")
    record(trained_again.lab, "sub-m01_ses-20260504")
    products = {product.key: product for product in lab_state(trained_again.lab).of("pose_table")}
    new = products.pop("walker|sub-m01_ses-20260504")
    assert (new.state, new.inputs["model"]) == ("missing", NEWER)
    assert {product.state for product in products.values()} == {"up to date"}


def test_the_check_of_release_rules_goes_on_passing(trained_again: Graph) -> None:
    release(trained_again, "new_sessions")
    trained_again.run("write_catalog")
    result = trained_again.run("write_catalog")
    outcome = {check: evaluation.passed for (check, _), evaluation in trained_again.checks(result).items()}
    assert outcome["release_rules_valid"] is True


def test_a_cohort_is_exported_beside_the_released_files(trained_again: Graph) -> None:
    freeze(trained_again.lab, "paper", [FIRST, SECOND])
    assert trained_again.run("export_nwb", FIRST).success
    released = trained_again.lab.layout.nwb / "sub-m01/sub-m01_ses-20260501_behavior+image.nwb"
    before = released.read_bytes()
    release(trained_again, "all")
    assert export(trained_again, "paper").success
    folder = trained_again.lab.layout.cohort_nwb("paper")
    assert sorted(path.name for path in folder.glob("sub-m01/*.nwb")) == [
        "sub-m01_ses-20260501_behavior+image.nwb",
        "sub-m01_ses-20260502_behavior+image.nwb",
    ]
    assert released.read_bytes() == before
    files = {product.key for product in lab_state(trained_again.lab).of("nwb_file")}
    assert files == set(SESSIONS)  # a cohort's files are no products that could be behind
    assert export(trained_again, "").success, "there is one cohort only"
    assert not export(trained_again, "papr").success
    assert not export(trained_again, "paper", sessions=[THIRD]).success


def export(graph: Graph, cohort: str, sessions: list[str] | None = None):  # type: ignore[no-untyped-def]
    """Run the job as the launchpad does."""
    job = graph.defs.resolve_job_def("export_cohort")
    config = {"ops": {"write_cohort_nwb": {"config": {"cohort": cohort, "sessions": sessions or []}}}}
    return job.execute_in_process(instance=graph.instance, run_config=config, raise_on_error=False)


@pytest.mark.slow
def test_a_release_is_shown_on_the_page_of_its_model_and_makes_nothing_out_of_date(demo: Graph) -> None:
    before = demo.stale("pose_table", f"walker|{FIRST}")
    result = CliRunner().invoke(app, ["release", "walker", "--devices", "top", "--reason", "first", "--json"])
    assert json.loads(result.stdout)["released"] is True, result.stderr
    (observed,) = demo.instance.fetch_observations(
        dg.AssetRecordsFilter(dg.AssetKey("trained_model"), asset_partitions=["walker"]), limit=1
    ).records
    metadata = {name: value.value for name, value in observed.asset_observation.metadata.items()}  # type: ignore[union-attr]
    version = current_version(demo.lab.layout, "walker")
    assert str(metadata["released"]).startswith(f"rule 1: {{devices: [top], model: {version}, from: ")
    assert metadata["reason"] == "first"
    assert demo.stale("pose_table", f"walker|{FIRST}") == before
    assert lab_state(demo.lab).behind() == []


@pytest.mark.slow
def test_frozen_poses_outlive_a_new_analysis_with_the_same_network(demo: Graph) -> None:
    freeze(demo.lab, "paper", [FIRST, SECOND])
    read = open_lab(demo.root).poses
    before = read(cohort="paper").to_pandas()
    settings = demo.root / "lab.yaml"
    settings.write_text(settings.read_text() + "setups: {top: [{crop: {x: [0, 128], y: [0, 128]}}]}\n")
    assert demo.run("analyze", f"walker|{FIRST}").success
    now = read(session=FIRST).to_pandas()
    assert not np.array_equal(now["x"], before[before["session"] == FIRST]["x"], equal_nan=True)
    pd.testing.assert_frame_equal(read(cohort="paper").to_pandas(), before)

    result = CliRunner().invoke(app, ["export", "--cohort", "paper", FIRST, "--json"])
    (written,) = json.loads(result.stdout)["nwb_files"]
    assert Path(written["file"]).is_relative_to(demo.lab.layout.cohort_nwb("paper"))
    assert _snout(Path(written["file"])) == pytest.approx(_track(before, FIRST, "snout"), nan_ok=True)
    shutil.rmtree(demo.lab.layout.store / "kept_poses")
    result = CliRunner().invoke(app, ["export", "--cohort", "paper", FIRST, "--json"])
    assert result.exit_code == 2
    assert 'that the cohort "paper" was frozen with are not there' in json.loads(result.stdout)["error"]


def _track(table: pd.DataFrame, session: str, bodypart: str) -> np.ndarray:
    rows = table[(table["session"] == session) & (table["bodypart"] == bodypart)]
    return rows[["x", "y"]].to_numpy()


def _snout(path: Path) -> np.ndarray:
    """Return the positions of the snout in an NWB file, (frames, 2) px."""
    with h5py.File(path) as file:
        found: list[np.ndarray] = []

        def visit(name: str, item: object) -> None:
            if name.endswith("/data") and "PoseEstimation/snout" in name and isinstance(item, h5py.Dataset):
                found.append(item[:])

        file.visititems(visit)
    (positions,) = found
    return positions
