"""Quality reports in the graph: what the UI shows of one, and the overview that is written with the catalog."""

from __future__ import annotations

import json
from pathlib import Path

import dagster as dg
import pytest

from dlc_assets.review import pose_checks
from dlc_assets_tests.graph.conftest import Graph, rows_of
from dlc_assets_tests.graph.small_lab import FIRST, SECOND, THIRD, as_if_analysed, as_if_trained, record
from dlc_assets_tests.unit.judged_lab import finding, moment


@pytest.fixture
def judged(small: Graph, monkeypatch: pytest.MonkeyPatch) -> Graph:
    """The small lab analysed; its checks find a jump in the second session and nothing in the first."""
    jump = finding("jumps", False, "warn", moment(5, 6, "snout jumps by 20 px"), says="snout jumps once.")
    monkeypatch.setattr(
        pose_checks,
        "check_poses",
        lambda lab, poses: [jump if poses.details["session"] == SECOND else finding("jumps"), finding("swaps")],
    )
    as_if_trained(small.lab)
    record(small.lab, FIRST, SECOND)
    as_if_analysed(small.lab, FIRST, SECOND)
    for key in (FIRST, SECOND):
        small.report_poses("walker", key, f"poses of {key}")
    return small


def test_a_report_is_shown_with_its_verdict_its_picture_its_page_and_its_moments(judged: Graph) -> None:
    assert judged.run("review", f"walker|{SECOND}", only=["quality_report"]).success
    shown = judged.materialization("quality_report", f"walker|{SECOND}").metadata
    assert shown["verdict"].value == "Look at it: 1 of 2 checks fails. snout jumps once."
    assert str(shown["summary"].value).startswith("![summary of the report](data:image/png;base64,")
    assert Path(str(shown["page"].value)).read_text(encoding="utf-8").startswith("<!doctype html>")
    assert [row["verdict"] for row in rows_of(shown["checks"])] == ["look", "pass"]
    (place,) = rows_of(shown["worst moments"])
    assert (place["time"], place["what"]) == ("0:00.2", "snout jumps by 20 px")
    size = sum(len(json.dumps(dg.serialize_value(value))) for value in shown.values())
    assert size < 300_000


def test_a_range_makes_the_reports_that_can_be_made_and_names_the_other(judged: Graph) -> None:
    result = judged.run("review", [f"walker|{FIRST}", f"walker|{THIRD}"], only=["quality_report"])
    assert not result.success
    assert judged.materialized("quality_report") == {f"walker|{FIRST}", f"walker|{SECOND}"}


def test_the_overview_is_written_with_the_catalog(judged: Graph) -> None:
    for key in (FIRST, SECOND):
        assert judged.run("review", f"walker|{key}", only=["quality_report"]).success
    result = judged.run("write_catalog")
    assert result.success
    shown = judged.materialization("quality_overview").metadata
    assert shown["sessions"].value == "2 sessions and models: 1 good, 1 to look at."
    assert [row["session"] for row in rows_of(shown["to look at, the worst first"])] == [SECOND]
    assert str(shown["sessions by check"].value).startswith("![sessions by check](data:image/png;base64,")
    assert judged.lab.layout.quality_overview.is_file()
    assert judged.lab.layout.catalog_table("findings").is_file()
