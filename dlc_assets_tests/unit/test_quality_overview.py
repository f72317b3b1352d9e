"""The overview of all quality reports: newest first, what is missing said, small however many sessions there are."""

from __future__ import annotations

import csv
import io
import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dlc_assets.api import open_lab
from dlc_assets.catalog.sql import query
from dlc_assets.lab.lab import Lab
from dlc_assets.review.overview.build import write_overview
from dlc_assets.review.overview.page import html_of
from dlc_assets.review.overview.picture import MOST_ROWS, heat_map, rows_drawn
from dlc_assets.review.overview.table import Cell, Overview, Row
from dlc_assets.review.report.verdict import verdict_of
from dlc_assets_tests.unit.judged_lab import add_record, finding
from dlc_assets_tests.unit.released_lab import write_lab
from dlc_assets_tests.unit.test_quality_report import Outline

OLD, NEW, BAD = "sub-m01_ses-20260501", "sub-m01_ses-20260601", "sub-m02_ses-20260515"


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """A lab with three reports: an old good one, a new one to look at, and one not to be used in between."""
    lab = write_lab(tmp_path / "lab", 'name: "Smith <lab>"\n')
    add_record(lab, OLD, "2026-05-01T10:00+02:00", finding("jumps"), finding("swaps"))
    add_record(lab, NEW, "2026-06-01", finding("jumps", False, says="</script><b>jumps</b>"), finding("swaps"))
    add_record(lab, BAD, "2026-05-15", finding("frames_match", False, "error", says="20 frames are missing."))
    return lab


def _data(lab: Lab) -> dict[str, Any]:
    html = lab.layout.quality_overview.read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def test_sessions_come_newest_first_with_what_each_check_says(lab: Lab) -> None:
    overview = write_overview(lab).overview
    assert [row.session for row in overview.rows] == [NEW, BAD, OLD]
    assert overview.sentence() == "3 sessions and models: 1 good, 1 to look at, 1 not to be used."
    assert [row.session for row in overview.to_look_at()] == [BAD, NEW]
    assert overview.rows[0].cells == {"jumps": Cell("warn", 0.25), "swaps": Cell("pass", 0.25)}
    assert set(overview.checks) == {"jumps", "swaps", "frames_match"}


def test_the_page_is_whole_and_needs_nothing_and_its_links_are_relative(lab: Lab) -> None:
    write_overview(lab)
    html = lab.layout.quality_overview.read_text(encoding="utf-8")
    outline = Outline(html)
    assert outline.open == []
    assert outline.sources == ["overview.csv"] * 2
    assert "http" not in html
    assert "Smith &lt;lab&gt;" in html
    data = _data(lab)
    assert data["rows"][0][5].endswith("</script><b>jumps</b>.")  # it did not end the script
    model, version, session = data["models"][data["rows"][0][0]], *data["rows"][0][1:3]
    page = lab.layout.quality_overview.parent / f"model={model}" / f"version={version}" / f"session={session}"
    assert page == lab.layout.derived_folder("quality_report", model, version, session)
    assert data["report"] == "report.html"


def test_sessions_with_poses_and_no_report_are_there_and_counted(lab: Lab) -> None:
    lab.layout.pose_folder("walker", "0123456789ab", "sub-m09_ses-1").mkdir(parents=True)
    lab.layout.pose_folder("walker", "0123456789ab", OLD).mkdir(parents=True)
    overview = write_overview(lab).overview
    assert overview.counts[""] == 1
    assert overview.rows[0].session == "sub-m09_ses-1"
    assert "1 without a report" in overview.sentence()
    assert _data(lab)["rows"][0][4] == -1


def test_of_several_versions_the_newest_report_counts(lab: Lab) -> None:
    add_record(
        lab, OLD, "2026-05-01", finding("jumps", False), version="ffffffffffff", made="2026-07-01T00:00:00+00:00"
    )
    add_record(
        lab, OLD, "2026-05-01", finding("jumps", False), version="eeeeeeeeeeee", made="2025-07-01T00:00:00+00:00"
    )
    overview = write_overview(lab).overview
    assert [row.version for row in overview.rows if row.session == OLD] == ["ffffffffffff"]


def test_a_record_that_cannot_be_read_is_left_out(lab: Lab) -> None:
    folder = lab.layout.derived_folder("quality_report", "walker", "0123456789ab", OLD)
    (folder / "findings.json").write_text("{")
    assert OLD not in {row.session for row in write_overview(lab).overview.rows}


def test_a_lab_without_reports_has_an_overview_that_says_so(tmp_path: Path) -> None:
    lab = write_lab(tmp_path / "lab", "name: new\n")
    overview = write_overview(lab).overview
    assert overview.sentence() == "No poses were judged yet."
    assert Image.open(io.BytesIO(heat_map(overview))).width > 100
    assert _data(lab)["rows"] == []


def test_the_same_reports_make_the_same_data_version(lab: Lab) -> None:
    assert write_overview(lab).data_version == write_overview(lab).data_version


def test_the_table_has_every_row_and_no_formula(lab: Lab) -> None:
    add_record(lab, "sub-m03_ses-1", "2026-01-01", finding("jumps", False), model="walker2")
    overview = write_overview(lab).overview
    with lab.layout.quality_overview_table.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["session"] for row in rows] == [row.session for row in overview.rows]
    assert (rows[0]["jumps"], rows[0]["jumps value"], rows[0]["frames_match"]) == ("warn", "0.25", "")


def _many(count: int) -> Overview:
    verdicts = (verdict_of([finding("jumps")]), verdict_of([finding("jumps", False, says="word " * 40)]))
    checks = tuple(f"check_{n}" for n in range(12))
    rows = tuple(
        Row(
            session=f"sub-m{n % 300:03}_ses-{n:08}",
            model="walker",
            version="0123456789ab",
            day="2026-05-01T10:00+02:00",
            made="",
            verdict=verdicts[n % 7 == 0],
            cells=dict.fromkeys(checks, Cell("pass", 0.12345)),
        )
        for n in range(count)
    )
    return Overview(rows, checks)


def test_twenty_thousand_sessions_are_a_page_that_can_be_opened() -> None:
    html = html_of(_many(4_000), lab="Large lab", made="today", table="overview.csv")
    assert 5 * len(html) < 10_000_000


def test_of_more_sessions_than_a_page_holds_those_worth_a_look_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dlc_assets.review.overview.page.MOST_ROWS", 20)
    html = html_of(_many(100), lab="Large lab", made="today", table="overview.csv")
    assert "80 older good ones are not in this table" in html
    assert unescape(html).count("sub-m098_ses") == 1  # the last of those worth a look


def test_the_picture_draws_what_is_worth_a_look_first_and_counts_the_rest() -> None:
    overview = _many(1_000)
    drawn = rows_drawn(overview)
    assert len(drawn) == MOST_ROWS
    assert all(row.verdict is not None and row.verdict.level == "look" for row in drawn)
    assert len(heat_map(overview)) < 100_000


def test_findings_can_be_asked_for_in_sql_and_python(lab: Lab) -> None:
    add_record(
        lab, OLD, "2026-05-01", finding("jumps", False), version="ffffffffffff", made="2026-07-01T00:00:00+00:00"
    )
    failed = query(lab, "select session, check_name, verdict, newest from findings where not passed order by all")
    assert failed.rows == [
        (OLD, "jumps", "look", True),
        (NEW, "jumps", "look", True),
        (BAD, "frames_match", "unusable", True),
    ]
    frame = open_lab(lab.root).findings()
    assert len(frame) == 6
    assert frame["newest"].sum() == 4
    assert frame["limit_value"].tolist() == [0.5] * 6
