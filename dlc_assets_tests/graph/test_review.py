"""What is made of poses by itself, as the sensors see it: asked for in one run, waited for by NWB files, and held back by nothing else."""

from __future__ import annotations

import pytest

from dlc_assets.state.lab_state import lab_state
from dlc_assets_tests.graph.conftest import Graph
from dlc_assets_tests.graph.small_lab import FIRST, SECOND, as_if_analysed, as_if_trained, record

BOTH = {
    "dagster/asset_partition_range_start": f"walker|{FIRST}",
    "dagster/asset_partition_range_end": f"walker|{SECOND}",
}


@pytest.fixture
def analysed(small: Graph) -> Graph:
    """The small lab with two sessions analysed, that wants all that there is made of poses."""
    settings = small.root / "lab.yaml"
    settings.write_text(settings.read_text().replace("review: {auto: false}", "review: {auto: true}"))
    as_if_trained(small.lab)
    record(small.lab, FIRST, SECOND)
    as_if_analysed(small.lab, FIRST, SECOND)
    small.tick("recordings")
    return small


def states(graph: Graph, key: str) -> dict[str, str]:
    return {product.asset: product.state for product in lab_state(graph.lab).products if product.key.endswith(key)}


def test_sessions_are_reviewed_in_one_run_and_exported_once_their_poses_are_filtered(analysed: Graph) -> None:
    assert analysed.asked("export") == []
    assert states(analysed, FIRST)["nwb_file"] == "waiting"
    (asked,) = analysed.asked("review")
    assert asked == ("review", BOTH)
    assert analysed.run("review", [f"walker|{FIRST}", f"walker|{SECOND}"]).success
    made = ("filtered_pose_table", "kinematics", "quality_report")
    for asset in made:
        assert analysed.materialized(asset) == {f"walker|{FIRST}", f"walker|{SECOND}"}
    assert {states(analysed, FIRST)[asset] for asset in made} == {"up to date"}
    assert analysed.asked("review") == []
    assert [tags for _, tags in analysed.asked("export")] != []


def test_other_filters_put_behind_what_was_made_with_them_and_no_pose(analysed: Graph) -> None:
    assert analysed.run("review", f"walker|{FIRST}").success
    settings = analysed.root / "lab.yaml"
    settings.write_text(settings.read_text() + "filters: [{step: confidence, below: 0.2}]\n")
    now = states(analysed, FIRST)
    assert now["pose_table"] == "up to date"
    assert (now["filtered_pose_table"], now["kinematics"]) == ("behind", "behind")
    assert analysed.run("review", f"walker|{FIRST}").success
    assert states(analysed, FIRST)["kinematics"] == "up to date"


def test_a_lab_without_filters_measures_and_judges_the_poses_as_they_are(analysed: Graph) -> None:
    settings = analysed.root / "lab.yaml"
    settings.write_text(settings.read_text() + "filters: none\n")
    assert analysed.asked("review") == [("review", BOTH)]
    assert analysed.run("review", f"walker|{FIRST}").success
    now = states(analysed, FIRST)
    assert "filtered_pose_table" not in now
    assert (now["kinematics"], now["quality_report"]) == ("up to date", "up to date")


def test_what_cannot_be_filtered_is_judged_all_the_same(analysed: Graph) -> None:
    table = next(analysed.lab.layout.poses.glob(f"*/*/session={FIRST}/*.parquet"))
    table.write_bytes(b"damaged")
    result = analysed.run("review", [f"walker|{FIRST}", f"walker|{SECOND}"])
    assert not result.success
    assert analysed.materialized("filtered_pose_table") == {f"walker|{SECOND}"}
    assert analysed.materialized("kinematics") == {f"walker|{SECOND}"}
    now = states(analysed, FIRST)
    assert (now["filtered_pose_table"], now["kinematics"]) == ("failed", "missing")
    assert "damaged" not in states(analysed, SECOND).values()


def test_a_lab_that_wants_nothing_made_by_itself_is_left_alone(analysed: Graph) -> None:
    settings = analysed.root / "lab.yaml"
    settings.write_text(settings.read_text().replace("review: {auto: true}", "review: {auto: false}"))
    assert analysed.asked("review") == []
    assert set(states(analysed, FIRST)) == {"session_recordings", "pose_table", "nwb_file"}
    assert len(analysed.asked("export")) > 0
