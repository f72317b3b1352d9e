"""Records are kept line by line, whoever writes at the same time and wherever a crash cuts a line."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dlc_assets.lab.errors import EnvironmentProblem
from dlc_assets.lab.layout import LabLayout
from dlc_assets.lab.records import append_record, read_records


@pytest.fixture
def layout(tmp_path: Path) -> LabLayout:
    return LabLayout(tmp_path)


def names(layout: LabLayout) -> list[str]:
    return [row["name"] for row in read_records(layout, "cohorts")]


def test_records_come_back_in_their_order_with_who_and_when(layout: LabLayout) -> None:
    assert read_records(layout, "cohorts") == []
    written = [append_record(layout, "cohorts", {"name": name, "reason": "ü, “quoted”\nand a line"}) for name in "ab"]
    assert read_records(layout, "cohorts") == written
    assert {"at", "by", "host"} < written[0].keys()
    assert read_records(layout, "releases") == []


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_a_line_that_a_crash_cut_short_is_passed_over_and_the_next_has_its_own(layout: LabLayout, cut: int) -> None:
    append_record(layout, "cohorts", {"name": "kept"})
    append_record(layout, "cohorts", {"name": "cut"})
    path = layout.records_file("cohorts")
    path.write_bytes(path.read_bytes()[: -1 - cut])
    assert names(layout) == ["kept"]
    append_record(layout, "cohorts", {"name": "next"})
    assert names(layout) == ["kept", "next"]


def test_a_line_without_its_end_alone_counts_as_it_is_whole(layout: LabLayout) -> None:
    append_record(layout, "cohorts", {"name": "first"})
    path = layout.records_file("cohorts")
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    append_record(layout, "cohorts", {"name": "second"})
    assert names(layout) == ["first", "second"]


def test_a_file_that_somebody_damaged_is_an_error_with_its_line(layout: LabLayout) -> None:
    for name in "abc":
        append_record(layout, "cohorts", {"name": name})
    path = layout.records_file("cohorts")
    path.write_text(path.read_text().replace('"name": "b"', '"name" "b"'))
    with pytest.raises(EnvironmentProblem, match=r"cohorts\.jsonl, line 2: not a record"):
        read_records(layout, "cohorts")
    path.write_text(json.dumps(["no object"]) + "\n")
    with pytest.raises(EnvironmentProblem, match="line 1: expected a JSON object"):
        read_records(layout, "cohorts")


def test_many_who_write_at_once_lose_nothing(layout: LabLayout) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: append_record(layout, "cohorts", {"name": str(number)}), range(40)))
    assert sorted(names(layout), key=int) == [str(number) for number in range(40)]
