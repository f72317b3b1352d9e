"""Keys of sessions and models are made in one place, can be archived, and always fit file names."""

from __future__ import annotations

from pathlib import Path

import pytest

from dlc_assets.lab.errors import NotFoundError, SettingsError, did_you_mean
from dlc_assets.lab.keys import (
    check_model_key,
    label_for_archive,
    natural,
    pose_key,
    session_key,
    split_pose_key,
    split_session_key,
)
from dlc_assets.lab.layout import LabLayout
from dlc_assets.partitions import KeyRange, contiguous_ranges


@pytest.mark.parametrize(
    ("subject", "session", "key"),
    [
        ("m01", "20260501", "sub-m01_ses-20260501"),
        (None, "day1", "ses-day1"),
        ("mouse 1", "day_1 (a)", "sub-mouse-1_ses-day-1-a"),
        ("BL6+ko", "2026-05-01T10:12", "sub-BL6+ko_ses-2026-05-01T10-12"),
        (" m01 ", "a..b", "sub-m01_ses-a-b"),
        ("Mäuschen", "jour-é1", "sub-Mäuschen_ses-jour-é1"),
    ],
)
def test_a_session_key_has_only_what_archives_carry(subject: str | None, session: str, key: str) -> None:
    assert session_key(subject, session) == key


def test_a_session_key_can_be_taken_apart_again() -> None:
    assert split_session_key("sub-m01_ses-20260501") == ("m01", "20260501")
    assert split_session_key("ses-day1") == (None, "day1")


@pytest.mark.parametrize("wrong", ["m01", "sub-m01", "sub-m01_ses-", "sub-m01_ses-a_b", "walker|ses-a_b", ""])
def test_what_is_no_session_key_is_refused_with_the_form(wrong: str) -> None:
    with pytest.raises(SettingsError, match=r"is no session key: expected \"sub-<subject>_ses-<session>\""):
        split_session_key(wrong)


@pytest.mark.parametrize("name", ["a/b", "a\\b", "../m01"])
def test_a_subject_with_a_slash_is_refused_with_a_suggestion(name: str) -> None:
    with pytest.raises(SettingsError, match=r'the subject name ".*" has a slash.*Rename it, for example to "'):
        session_key(name, "day1")


@pytest.mark.parametrize("name", ["", "___", "..", "-"])
def test_a_name_without_letter_or_digit_is_refused(name: str) -> None:
    with pytest.raises(SettingsError, match="has no letter or digit"):
        label_for_archive(name, "session")


def test_the_same_name_typed_in_two_ways_is_one_session() -> None:
    composed, decomposed = "M\u00e4usle", "Ma\u0308usle"
    assert composed != decomposed
    assert session_key(composed, "day1") == session_key(decomposed, "day1")


@pytest.mark.parametrize("name", ["openfield", "openfield-resnet50", "2d"])
def test_a_models_name_is_lower_case_letters_digits_and_dashes(name: str) -> None:
    assert check_model_key(name) == name


@pytest.mark.parametrize("name", ["OpenField", "open_field", "-a", "a|b", "a b", "", "a@1", "open.field"])
def test_other_names_of_models_are_refused(name: str) -> None:
    with pytest.raises(SettingsError, match="cannot be a model's name"):
        check_model_key(name)


def test_a_pose_key_is_model_and_session() -> None:
    key = pose_key("openfield", "sub-m01_ses-day1")
    assert key == "openfield|sub-m01_ses-day1"
    assert split_pose_key(key) == ("openfield", "sub-m01_ses-day1")


def test_lock_and_failure_files_have_names_that_every_system_allows() -> None:
    layout = LabLayout(Path("/lab"))
    assert "|" not in layout.lock("pose_table", "openfield|ses-1").name
    assert "|" not in layout.failure("pose_table", "openfield|ses-1").name


def test_part_2_comes_before_part_10() -> None:
    assert sorted(["part10", "part2", "part1"], key=natural) == ["part1", "part2", "part10"]
    assert sorted(["b", "10", "a", "9", ""], key=natural) == ["", "9", "10", "a", "b"]


def test_the_nearest_name_is_offered_whatever_its_case_and_nothing_when_none_is_near() -> None:
    assert did_you_mean("SNOUT", ["snout", "tail"]) == ' Did you mean "snout"?'
    assert did_you_mean("openfeild", ["openfield"]) == ' Did you mean "openfield"?'
    assert did_you_mean("xyz", ["snout", "tail"]) == ""
    assert did_you_mean("xyz", []) == ""


# --- ranges of partitions -------------------------------------------------------------------------

KNOWN = ["a", "b", "c", "d", "e", "f"]


def ranges(wanted: list[str], most: int = 10) -> list[tuple[str, ...]]:
    return [part.keys for part in contiguous_ranges(wanted, KNOWN, most)]


def test_keys_side_by_side_are_one_run() -> None:
    assert ranges(["a", "b", "c"]) == [("a", "b", "c")]


def test_a_gap_starts_a_new_run_so_that_nothing_between_is_made() -> None:
    assert ranges(["a", "b", "d", "f"]) == [("a", "b"), ("d",), ("f",)]


def test_a_run_takes_no_more_than_it_may() -> None:
    assert ranges(KNOWN, most=4) == [("a", "b", "c", "d"), ("e", "f")]


def test_runs_follow_the_instances_order_and_take_each_key_once() -> None:
    assert ranges(["c", "a", "b", "a"]) == [("a", "b", "c")]


def test_nothing_wanted_is_no_run() -> None:
    assert ranges([]) == []


def test_a_key_that_the_instance_does_not_know_is_named() -> None:
    with pytest.raises(NotFoundError, match=r"not partitions of this instance: x, z\. Run `dlc-assets scan` first"):
        ranges(["a", "z", "x"])


def test_a_range_is_asked_for_by_its_ends_and_a_single_key_by_itself() -> None:
    assert KeyRange(("a",)).tags == {"dagster/partition": "a"}
    assert KeyRange(("a", "b", "c")).tags == {
        "dagster/asset_partition_range_start": "a",
        "dagster/asset_partition_range_end": "c",
    }
    assert KeyRange(("a", "b")).for_model("walker").keys == ("walker|a", "walker|b")
