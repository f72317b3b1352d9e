"""Releasing a version: which rules are written, what becomes of past sessions, what would mix, and what stops it."""

from __future__ import annotations

import json
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from dlc_assets.cli import app, release_commands
from dlc_assets.inference.freezing import freeze
from dlc_assets.inference.releases import releases_of
from dlc_assets.inference.releasing import Release, carry_out, plan_release
from dlc_assets.lab.errors import BusyError, InputError, SettingsError
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.records import read_records
from dlc_assets.recordings.info import need_session_info
from dlc_assets.training.models import ModelVersion
from dlc_assets_tests.conftest import use_lab
from dlc_assets_tests.unit.released_lab import LAB, TODAY, add_poses, add_session, add_version, reopened, write_lab

PAST, OLDER, UNDATED, NEW = "sub-m01_ses-1", "sub-m02_ses-1", "sub-m01_ses-x", "sub-m02_ses-2"
TOMORROW = TODAY + timedelta(days=1)


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """Two past sessions, one without a day, nothing released and no model yet."""
    lab = write_lab(tmp_path / "lab")
    use_lab(lab.root, monkeypatch)
    add_session(lab, PAST, date(2026, 11, 1))
    add_session(lab, OLDER, date(2026, 10, 1))
    add_session(lab, UNDATED, None)
    return lab


def do(lab: Lab, version: ModelVersion, *, reason: str = "", force: bool = False, **options: Any) -> Release:
    """Release *version* today (2026-11-24)."""
    plan = plan_release(lab, version, today=TODAY, **options)
    carry_out(lab, plan, reason=reason, force=force)
    return plan


def released(lab: Lab, key: str) -> dict[str, str]:
    """Return the version that each recording of a session has under lab.yaml as it is now."""
    lab = reopened(lab)
    releases = releases_of(lab, need_session_info(lab.layout, key)[0])
    assert not releases.waiting
    return {name: str(releases.versions[model]) for model, names in releases.recordings.items() for name in names}


def rules(lab: Lab) -> list[str]:
    """Return the lines of lab.yaml's rules."""
    text = lab.layout.settings_file.read_text()
    return [line.strip() for line in text.partition("release:")[2].splitlines() if "model:" in line]


# --- which sessions -------------------------------------------------------------------------------


def test_the_first_release_covers_every_session_with_one_rule(lab: Lab) -> None:
    version = add_version(lab)
    plan = do(lab, version)
    assert rules(lab) == [f"- {{model: {version}}}"]
    assert plan.first is None
    for key in (PAST, OLDER, UNDATED):
        assert released(lab, key) == {"top": str(version)}
    assert lab.layout.settings_file.read_text().startswith(LAB)


def test_past_sessions_keep_their_version_and_new_ones_get_the_new_one(lab: Lab) -> None:
    first = add_version(lab)
    do(lab, first)
    add_poses(lab, first, PAST, OLDER, UNDATED)
    second = add_version(lab, weights=b"second")
    lab = reopened(lab)
    plan = do(lab, second)
    assert rules(lab) == [f"- {{model: {second}, from: 2026-11-24}}", f"- {{model: {first}}}"]
    assert not any(row.changes for row in plan.effects)
    add_session(lab, NEW, TODAY)
    assert released(lab, NEW) == {"top": str(second)}
    for key in (PAST, OLDER, UNDATED):
        assert released(lab, key) == {"top": str(first)}


def test_all_takes_past_sessions_and_those_without_a_day_as_well(lab: Lab) -> None:
    first = add_version(lab)
    do(lab, first)
    add_poses(lab, first, PAST)
    second = add_version(lab, weights=b"second")
    lab = reopened(lab)
    plan = do(lab, second, on_release="all")
    assert rules(lab)[0] == f"- {{model: {second}}}"
    assert {row.session for row in plan.effects if row.changes} == {PAST, OLDER, UNDATED}
    for key in (PAST, OLDER, UNDATED):
        assert released(lab, key) == {"top": str(second)}


def test_lab_yaml_says_which_sessions_unless_the_command_does(tmp_path: Path) -> None:
    lab = write_lab(tmp_path / "lab", LAB + "on_release: all\nrelease: [{model: walker@0000}]\n")
    version = add_version(lab)
    assert plan_release(lab, version, today=TODAY).on_release == "all"
    plan = plan_release(lab, version, on_release="new_sessions", today=TODAY)
    assert (plan.on_release, plan.first) == ("new_sessions", TODAY)
    with pytest.raises(SettingsError, match=r'expected new_sessions or all, got "al". Did you mean "all"'):
        plan_release(lab, version, on_release="al")
    with pytest.raises(SettingsError, match="leave out --from 2026-11-24, or --on-release all"):
        plan_release(lab, version, on_release="all", first=TODAY)


def test_a_session_of_today_that_was_analysed_this_morning_keeps_its_version(lab: Lab) -> None:
    first = add_version(lab)
    do(lab, first)
    add_session(lab, NEW, TODAY)
    second = add_version(lab, weights=b"second")
    lab = reopened(lab)
    assert plan_release(lab, second, today=TODAY).first == TODAY
    add_poses(lab, first, NEW)
    assert plan_release(lab, second, today=TODAY).first == TOMORROW
    do(lab, second)
    assert released(lab, NEW) == {"top": str(first)}


def test_sessions_that_no_rule_covered_get_the_version_though_others_keep_theirs(lab: Lab) -> None:
    add_session(lab, "sub-m02_ses-s", date(2026, 11, 2), cameras=("side",))
    first = add_version(lab)
    do(lab, first, devices=["top"])
    other = add_version(lab, "runner", b"other")
    lab = reopened(lab)
    do(lab, other)
    assert rules(lab) == [
        f"- {{model: {other}, from: 2026-11-24}}",
        f"- {{devices: [top], model: {first}}}",
        f"- {{model: {other}}}",
    ]
    assert released(lab, PAST) == released(lab, UNDATED) == {"top": str(first)}
    assert released(lab, "sub-m02_ses-s") == {"side": str(other)}


def test_a_stated_day_writes_one_rule_from_that_day(lab: Lab) -> None:
    first, second = add_version(lab), add_version(lab, weights=b"second")
    do(lab, first)
    lab = reopened(lab)
    plan = do(lab, second, first=date(2026, 11, 1))
    assert rules(lab)[0] == f"- {{model: {second}, from: 2026-11-01}}"
    assert [row.session for row in plan.effects if row.changes] == [PAST]
    assert released(lab, PAST) == {"top": str(second)}
    assert released(lab, OLDER) == released(lab, UNDATED) == {"top": str(first)}


def test_a_rule_stands_right_before_those_that_it_takes_something_from(tmp_path: Path) -> None:
    text = (
        "release:\n  # the side camera\n  - {devices: [side], model: runner}\n"
        "  - {devices: [top], model: walker@0000, until: 2026-10-31}\n"
        "  # top\n  - {devices: [top], model: walker@0000}\n"
    )
    lab = write_lab(tmp_path / "lab", LAB + text)
    version = add_version(lab)
    do(lab, version, devices=["top"])
    after = lab.layout.settings_file.read_text()
    assert after == LAB + text.replace(
        "  # top", f"  - {{devices: [top], model: {version}, from: 2026-11-24}}\n  # top"
    )


# --- what is released already ---------------------------------------------------------------------


def test_releasing_again_changes_nothing(lab: Lab) -> None:
    first, second = add_version(lab), add_version(lab, weights=b"second")
    do(lab, first)
    assert plan_release(reopened(lab), first, today=TODAY).done_already
    do(reopened(lab), second)
    add_poses(lab, first, PAST, OLDER, UNDATED)
    for today in (TODAY, TOMORROW):
        assert plan_release(reopened(lab), second, today=today).done_already
    assert not plan_release(reopened(lab), second, today=TODAY, on_release="all").done_already
    assert not plan_release(reopened(lab), first, today=TOMORROW).done_already


def test_a_rule_without_a_version_is_no_release_of_a_version(tmp_path: Path) -> None:
    lab = write_lab(tmp_path / "lab", LAB + "release: [{model: walker}]\n")
    version = add_version(lab)
    assert not plan_release(lab, version, today=TODAY).done_already
    do(lab, version, on_release="all")
    assert plan_release(reopened(lab), version, on_release="all", today=TODAY).done_already
    assert f"release: [{{model: {version}}}, {{model: walker}}]" in lab.layout.settings_file.read_text()


def test_a_version_written_with_fewer_digits_is_the_same_version(tmp_path: Path) -> None:
    lab = write_lab(tmp_path / "lab")
    version = add_version(lab)
    lab = write_lab(lab.root, LAB + f"release: [{{model: {str(version)[:-6]}, devices: [top, side]}}]\n")
    plan = plan_release(lab, version, devices=["side", "top"], today=TODAY)
    assert plan.done_already


# --- what stops a release -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "made", "said"),
    [
        ("{}", {"error": None}, "is not evaluated: materialize model_evaluation for walker"),
        ("{max_error: 2.5}", {"error": 3.0}, r"on benchmark frames is 3 px, and lab.yaml asks for at most 2.5 px"),
        ("{min_labels: 41}", {"frames": 40}, "trained on 40 labeled frames, and lab.yaml asks for at least 41"),
    ],
)
def test_a_version_that_does_not_show_what_is_asked_is_not_released(
    tmp_path: Path, settings: str, made: dict[str, Any], said: str
) -> None:
    text = LAB + f"release_requirements: {settings}\n"
    lab = write_lab(tmp_path / "lab", text)
    version = add_version(lab, **made)
    with pytest.raises(InputError, match=said):
        do(lab, version)
    assert lab.layout.settings_file.read_text() == text
    assert read_records(lab.layout, "releases") == []
    do(lab, version, force=True, reason="the only one")
    (record,) = read_records(lab.layout, "releases")
    assert len(record["forced"]) == 1
    assert record["reason"] == "the only one"
    assert rules(lab) == [f"- {{model: {version}}}"]


def test_what_is_asked_and_shown_is_no_obstacle(tmp_path: Path) -> None:
    lab = write_lab(tmp_path / "lab", LAB + "release_requirements: {max_error: 3, min_labels: 40}\n")
    assert plan_release(lab, add_version(lab, error=3.0, frames=40)).against == ()


def test_a_damaged_network_is_not_released(lab: Lab) -> None:
    version = add_version(lab)
    version.snapshot.write_bytes(b"firsT")
    with pytest.raises(InputError, match="is damaged"):
        do(lab, version)


def test_two_versions_of_a_model_for_the_cameras_of_one_session_are_refused(lab: Lab) -> None:
    add_session(lab, "sub-m01_ses-both", date(2026, 11, 3), cameras=("side", "top"))
    first, second = add_version(lab), add_version(lab, weights=b"second")
    do(lab, first)
    with pytest.raises(
        InputError, match=f"cameras side, top could not be analysed: {first} for side and {second} for top"
    ):
        do(reopened(lab), second, devices=["top"])
    with pytest.raises(InputError, match=r"1 sessions could no longer be analysed.*: sub-m01_ses-both"):
        do(reopened(lab), second, devices=["top"], on_release="all")
    do(reopened(lab), second)


def test_a_camera_that_there_is_not_is_named_with_the_nearest(lab: Lab) -> None:
    with pytest.raises(SettingsError, match=r'no device "tpo" in lab.yaml. Did you mean "top"'):
        plan_release(lab, add_version(lab), devices=["tpo"])


def test_a_lab_yaml_that_changes_meanwhile_is_not_overwritten(lab: Lab) -> None:
    plan = plan_release(lab, add_version(lab), today=TODAY)
    lab.layout.settings_file.write_text(LAB + "# mine\n")
    with pytest.raises(BusyError):
        carry_out(lab, plan, reason="", force=False)
    assert lab.layout.settings_file.read_text() == LAB + "# mine\n"
    assert read_records(lab.layout, "releases") == []


def test_tabs_are_refused_as_everywhere(lab: Lab) -> None:
    version = add_version(lab)
    lab.layout.settings_file.write_text("name: x\nrelease:\n\t- {model: walker}\n")
    with pytest.raises(SettingsError, match=r"lab.yaml, line 3: not valid YAML"):
        plan_release(lab, version)


# --- what is said and kept ------------------------------------------------------------------------


def test_past_sessions_that_follow_the_newest_version_are_named(lab: Lab) -> None:
    first = add_version(lab)
    lab = write_lab(lab.root, LAB + "release: [{devices: [top], model: walker}]\n")
    (note,) = plan_release(lab, first, today=TODAY).notes
    assert note.startswith("3 of the sessions there are stay under a rule that names walker without a version")
    (note,) = plan_release(lab, first, today=TODAY, on_release="all").notes
    assert note.startswith("the rule {devices: [top], model: walker} will match nothing any more")
    assert plan_release(lab, first, today=TODAY, devices=["side"]).notes == ()


def test_what_would_mix_is_named_by_camera_tag_subject_and_cohort(lab: Lab) -> None:
    first = add_version(lab)
    do(lab, first)
    add_poses(lab, first, PAST, OLDER, UNDATED)
    freeze(reopened(lab), "paper", [PAST, OLDER])
    second = add_version(lab, weights=b"second")
    plan = plan_release(reopened(lab), second, today=TODAY)
    assert {(mixing.kind, mixing.name): mixing.versions for mixing in plan.mixings} == {
        ("device", "top"): {str(first): 3},
        ("subject", "m01"): {str(first): 2},
        ("subject", "m02"): {str(first): 1},
        ("tag", "group=control"): {str(first): 2},
        ("tag", "group=treated"): {str(first): 1},
    }
    assert str(plan.mixings[0]) == f"device top: 3 sessions by {first}, sessions to come by {second}"
    (cohort,) = plan_release(reopened(lab), second, today=TODAY, on_release="all").mixings
    assert (cohort.kind, cohort.name, cohort.versions) == ("cohort", "paper", {str(second): 2})


def test_a_rule_that_is_left_without_anything_is_named(lab: Lab) -> None:
    first, second = add_version(lab), add_version(lab, weights=b"second")
    do(lab, first, devices=["top"])
    assert plan_release(reopened(lab), second, today=TODAY).notes == ()
    (note,) = plan_release(reopened(lab), second, today=TODAY, on_release="all").notes
    assert note.startswith(f"the rule {{devices: [top], model: {first}}} will match nothing any more")


def test_the_record_keeps_what_was_decided_and_on_which_grounds(lab: Lab) -> None:
    version = add_version(lab)
    do(lab, version, devices=["top"], reason="best on benchmark")
    (record,) = read_records(lab.layout, "releases")
    assert (record["model"], record["version"]) == (version.model, version.version)
    assert record["rules"] == [{"rule": f"{{devices: [top], model: {version}}}", "before": 0}]
    assert record["evaluation"]["rmse_pcutoff"] == 3.0
    assert record["reason"] == "best on benchmark"
    assert record["forced"] == []


# --- the command ----------------------------------------------------------------------------------


def dlc_assets(lab: Lab, *arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments), "--lab", str(lab.root)])


def everything_below(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "locks" not in path.parts
    }


def test_a_dry_run_says_it_all_and_writes_nothing(lab: Lab) -> None:
    version = add_version(lab)
    before = everything_below(lab.root)
    result = dlc_assets(lab, "release", "walker", "--devices", "top", "--dry-run")
    assert result.exit_code == 0, result.output
    assert f"- {{devices: [top], model: {version}}}" in result.stdout
    assert "Nothing was changed." in result.stdout
    answer = json.loads(dlc_assets(lab, "release", "walker", "--dry-run", "--json").stdout)
    assert (answer["released"], answer["rules"]) == (False, [{"rule": f"{{model: {version}}}", "before": 0}])
    assert [row["after"] for row in answer["recordings"]] == [str(version)] * 3
    assert everything_below(lab.root) == before


def test_the_command_releases_and_says_so_and_the_second_time_says_that_it_is(lab: Lab) -> None:
    version = add_version(lab)
    answer = json.loads(
        dlc_assets(lab, "release", version, "--devices", "top,side", "--reason", "first", "--json").stdout
    )
    assert (answer["ok"], answer["released"], answer["already"]) == (True, True, False)
    assert rules(lab) == [f"- {{devices: [top, side], model: {version}}}"]
    again = dlc_assets(lab, "release", version, "--devices", "side", "--devices", "top")
    assert again.exit_code == 0
    assert "is released like this already: nothing was changed" in again.stdout
    assert len(read_records(lab.layout, "releases")) == 1


@pytest.mark.parametrize(("answer", "written"), [("y\n", True), ("n\n", False)])
def test_a_person_is_asked_before_anything_is_written(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, answer: str, written: bool
) -> None:
    add_version(lab)
    monkeypatch.setattr(release_commands, "_someone_is_there", lambda: True)
    result = CliRunner().invoke(app, ["release", "walker", "--lab", str(lab.root)], input=answer)
    assert "Write this into lab.yaml?" in result.stderr
    assert bool(read_records(lab.layout, "releases")) == written
    assert (result.exit_code == 0) == written
    assert (lab.layout.settings_file.read_text() != LAB) == written


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["release"], 2, "expected a model, or --best"),
        (["release", "wolker"], 2, 'Did you mean "walker"'),
        (["release", "walker@ffff"], 2, 'no version begins with "ffff"'),
        (["release", "walker", "--from", "24.11.2026"], 2, "expected a day such as 2026-11-24"),
        (["release", "walker", "--devices", "tpo"], 2, 'Did you mean "top"'),
        (["release", "walker@0123", "--best"], 2, "--best chooses a version"),
        (["release", "sitter"], 1, "--force releases it all the same"),
    ],
)
def test_wrong_usage_is_told_from_a_version_that_is_not_good_enough(
    lab: Lab, arguments: list[str], status: int, said: str
) -> None:
    add_version(lab, "sitter", b"unknown", error=None)
    add_version(lab)
    result = dlc_assets(lab, *arguments)
    assert result.exit_code == status, result.output
    assert said in result.stderr
    assert lab.layout.settings_file.read_text() == LAB
