"""Frozen cohorts: what they pin, that they are read the same whatever is released or computed later, and what is refused."""

from __future__ import annotations

import json
import multiprocessing
import time
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner, Result

from dlc_assets import open_lab
from dlc_assets.cli import app
from dlc_assets.inference.freezing import freeze
from dlc_assets.inference.frozen_poses import cohort_files, missing_of, replacing
from dlc_assets.inference.releasing import carry_out, plan_release
from dlc_assets.lab import cohorts as lab_cohorts
from dlc_assets.lab.cohorts import check_new_name, cohorts, find_cohort
from dlc_assets.lab.errors import DlcAssetsError, EnvironmentProblem, InputError, NotFoundError, SettingsError
from dlc_assets.lab.lab import Lab, open_lab_folder
from dlc_assets.lab.manifest import read_manifest
from dlc_assets.lab.records import append_record
from dlc_assets.state.choosing import sessions_matching
from dlc_assets.training.models import ModelVersion
from dlc_assets_tests.unit.released_lab import LAB, TODAY, add_poses, add_session, add_version, reopened, write_lab

ONE, TWO, THREE = KEYS = ("sub-m01_ses-1", "sub-m01_ses-2", "sub-m02_ses-1")


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """Three sessions, all analysed by the released version of walker."""
    lab = write_lab(tmp_path / "lab")
    for number, key in enumerate(KEYS, start=1):
        add_session(lab, key, date(2026, 11, number), tags={"drug": "saline", "blind": True} if key == TWO else None)
    version = add_version(lab)
    lab = write_lab(lab.root, LAB + f"release:\n  - {{model: {version}}}\n")
    add_poses(lab, version, *KEYS)
    return lab


@pytest.fixture
def version(lab: Lab) -> ModelVersion:
    """The released version."""
    (only,) = {path.name for path in lab.layout.model("walker").iterdir() if path.is_dir()}
    return ModelVersion("walker", only, lab.layout.version("walker", only))


def dlc_assets(lab: Lab, *arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments), "--lab", str(lab.root)])


# --- what is frozen -------------------------------------------------------------------------------


def test_a_cohort_pins_sessions_and_the_versions_that_the_rules_name(lab: Lab, version: ModelVersion) -> None:
    freeze(lab, "paper", [ONE, THREE], reason="figure 2")
    cohort = find_cohort(lab.layout, "paper")
    assert cohort.sessions == {ONE: {"walker": version.version}, THREE: {"walker": version.version}}
    assert cohort.recordings == {ONE: {"walker": ["top"]}, THREE: {"walker": ["top"]}}
    assert [step["step"] for step in cohort.filters["steps"]] == ["confidence", "interpolate", "median"]
    assert cohort.reason == "figure 2"
    assert cohort.versions == [str(version)]


def test_a_cohort_is_read_the_same_before_and_after_a_new_release(lab: Lab, version: ModelVersion) -> None:
    freeze(lab, "paper", KEYS)
    before = open_lab(lab.root).poses(cohort="paper").to_pandas()
    second = add_version(lab, weights=b"second")
    carry_out(lab, plan_release(lab, second, on_release="all", today=TODAY), reason="", force=False)
    add_poses(reopened(lab), second, *KEYS, x=33.0)
    pd.testing.assert_frame_equal(open_lab(lab.root).poses(cohort="paper").to_pandas(), before)
    assert set(open_lab(lab.root).poses().to_pandas()["x"]) == {33.0}
    assert set(before["x"]) == {20.0}


def test_poses_of_a_cohort_are_kept_when_they_are_computed_again(lab: Lab, version: ModelVersion) -> None:
    freeze(lab, "paper", [ONE])
    before = open_lab(lab.root).poses(cohort="paper").to_pandas()
    for key in (ONE, TWO):
        existing = read_manifest(lab.layout.pose_folder("walker", version.version, key))
        assert existing is not None
        with replacing(lab, existing, "another hash"):
            add_poses(lab, version, key, x=44.0)
    pd.testing.assert_frame_equal(open_lab(lab.root).poses(cohort="paper").to_pandas(), before)
    assert set(open_lab(lab.root).poses(session=ONE).to_pandas()["x"]) == {44.0}
    assert open_lab(lab.root).cohorts()[["there", "kept_elsewhere"]].to_numpy().tolist() == [[True, True]]
    kept = [path.parts[-4:-1] for path in lab.root.glob("store/kept_poses/*/*/*/*/top.parquet")]
    assert [session for _, session, _ in kept] == [f"session={ONE}"]  # nobody froze the other
    freeze(lab, "revision", [ONE])
    assert set(open_lab(lab.root).poses(cohort="revision").to_pandas()["x"]) == {44.0}
    pd.testing.assert_frame_equal(open_lab(lab.root).poses(cohort="paper").to_pandas(), before)


def test_the_same_poses_again_need_no_keeping(lab: Lab, version: ModelVersion) -> None:
    freeze(lab, "paper", [ONE])
    existing = read_manifest(lab.layout.pose_folder("walker", version.version, ONE))
    assert existing is not None
    with replacing(lab, existing, existing.data_version):
        pass
    assert not (lab.layout.store / "kept_poses").exists()


def test_a_kill_while_poses_are_replaced_leaves_the_cohort_as_it_was(lab: Lab, version: ModelVersion) -> None:
    freeze(lab, "paper", [ONE])
    folder = lab.layout.pose_folder("walker", version.version, ONE)
    existing, manifest = read_manifest(folder), (folder / "manifest.json").read_bytes()
    with replacing(lab, existing, "another hash"):
        add_poses(lab, version, ONE, x=44.0)
        (folder / "manifest.json").write_bytes(manifest)  # the new table is in place, the new manifest is not
    assert set(open_lab(lab.root).poses(cohort="paper").to_pandas()["x"]) == {20.0}


def test_versions_can_be_stated_and_mixed(lab: Lab, version: ModelVersion) -> None:
    second = add_version(lab, weights=b"second")
    add_poses(lab, second, *KEYS, x=33.0)
    freeze(lab, "new", [ONE], models=[str(second)[:-6]])
    assert find_cohort(lab.layout, "new").versions == [str(second)]
    runner = add_version(lab, "runner", b"runner")
    add_poses(lab, runner, ONE, x=5.0)
    freeze(lab, "both", [ONE], models=["runner", str(version)])
    both = open_lab(lab.root).poses(cohort="both").to_pandas()
    assert both.groupby("model", observed=True)["x"].first().to_dict() == {"walker": 20.0, "runner": 5.0}
    with pytest.raises(SettingsError, match="a session has one version of a model in a cohort"):
        freeze(lab, "two", [ONE], models=[str(version), str(second)])


def test_a_cohort_across_a_release_reads_each_session_by_its_own_version(lab: Lab, version: ModelVersion) -> None:
    second = add_version(lab, weights=b"second")
    carry_out(lab, plan_release(lab, second, first=date(2026, 11, 3)), reason="", force=False)
    lab = reopened(lab)
    add_poses(lab, second, THREE, x=33.0)
    with pytest.raises(DlcAssetsError, match='mixes versions of the model "walker"'):
        open_lab(lab.root).poses()
    freeze(lab, "across", KEYS)
    read = open_lab(lab.root).poses(cohort="across").to_pandas()
    pd.testing.assert_frame_equal(read, open_lab(lab.root).poses(allow_mixed_versions=True).to_pandas())
    assert read.groupby("session", observed=True)["version"].first().to_dict() == {
        ONE: version.version,
        TWO: version.version,
        THREE: second.version,
    }


# --- what is refused ------------------------------------------------------------------------------


def test_sessions_without_poses_are_refused_and_all_are_named(lab: Lab, version: ModelVersion) -> None:
    add_session(lab, "sub-m02_ses-2", date(2026, 11, 4))
    add_session(lab, "sub-m02_ses-3", date(2026, 11, 5), cameras=("top", "side"))
    add_poses(lab, version, "sub-m02_ses-3")
    with pytest.raises(InputError) as refused:
        freeze(lab, "paper", sessions_matching(lab, None))
    assert "nothing was frozen: 2 of what the cohort needs is not there" in str(refused.value)
    assert f"sub-m02_ses-2: no poses by {version}" in str(refused.value)
    assert f"sub-m02_ses-3: no poses by {version} of side" in str(refused.value)
    assert cohorts(lab.layout) == []


def test_sessions_that_no_rule_covers_are_refused_and_recordings_are_said(lab: Lab, version: ModelVersion) -> None:
    write_lab(lab.root, LAB + f"release: [{{devices: [top], model: {version}}}]\n")
    add_session(lab, "sub-m02_ses-s", date(2026, 11, 4), cameras=("side",))
    with pytest.raises(InputError, match="sub-m02_ses-s: no release rule covers side"):
        freeze(reopened(lab), "paper", ["sub-m02_ses-s"])
    add_session(lab, "sub-m02_ses-b", date(2026, 11, 4), cameras=("side", "top"))
    add_poses(reopened(lab), version, "sub-m02_ses-b")
    assert freeze(reopened(lab), "paper", ["sub-m02_ses-b"]).notes == ["sub-m02_ses-b: no release rule covers side"]


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "a b", "a|b", "ends.", "-x", "ü", "x" * 81, "a\n"])
def test_a_name_that_no_file_can_have_everywhere_is_refused(lab: Lab, name: str) -> None:
    with pytest.raises(SettingsError, match="cannot be a cohort's name"):
        freeze(lab, name, [ONE])


def test_a_name_is_used_once_whatever_its_letters(lab: Lab) -> None:
    freeze(lab, "Paper-2026.v1", [ONE])
    for name in ("Paper-2026.v1", "paper-2026.V1"):
        with pytest.raises(SettingsError, match=r'a cohort "Paper-2026.v1" was frozen already .*1 sessions'):
            freeze(lab, name, [TWO])
    assert check_new_name(lab.layout, "Paper-2026.v2") == "Paper-2026.v2"
    assert list(find_cohort(lab.layout, "Paper-2026.v1").sessions) == [ONE]


def test_an_unknown_cohort_is_answered_with_the_nearest(lab: Lab) -> None:
    freeze(lab, "paper", [ONE])
    with pytest.raises(NotFoundError, match=r'no cohort "papr". Did you mean "paper"'):
        open_lab(lab.root).poses(cohort="papr")


def test_a_record_that_was_mended_wrongly_is_said(lab: Lab) -> None:
    freeze(lab, "paper", [ONE])
    path = lab.layout.records_file("cohorts")
    path.write_text(path.read_text().replace('"sessions"', '"session"'))
    with pytest.raises(EnvironmentProblem, match=r"cohorts.jsonl: a cohort has no 'sessions'"):
        cohorts(lab.layout)


def _freeze_in_a_process(root: str, session: str, go: object, answers: object) -> None:
    go.wait()  # type: ignore[attr-defined]
    try:
        freeze(open_lab_folder(root), "paper", [session])
    except SettingsError:
        answers.put("refused")  # type: ignore[attr-defined]
    else:
        answers.put("frozen")  # type: ignore[attr-defined]


def test_of_several_people_who_freeze_one_name_at_once_one_does(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def slowly(*arguments: Any) -> Any:
        time.sleep(0.3)
        return append_record(*arguments)

    monkeypatch.setattr(lab_cohorts, "append_record", slowly)
    context = multiprocessing.get_context("fork")
    go, answers = context.Event(), context.Queue()
    processes = [context.Process(target=_freeze_in_a_process, args=(str(lab.root), key, go, answers)) for key in KEYS]
    for process in processes:
        process.start()
    go.set()
    assert Counter(answers.get(timeout=60) for _ in processes) == {"frozen": 1, "refused": 2}
    for process in processes:
        process.join()
    assert len(cohorts(lab.layout)) == 1


# --- which sessions -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("patterns", "tags", "chosen"),
    [
        (None, [], list(KEYS)),
        (["sub-m01_*"], [], [ONE, TWO]),
        ([THREE, "sub-m02_*"], [], [THREE]),
        (None, ["group=control"], [ONE, TWO]),
        (None, ["group=control", "drug=saline"], [TWO]),
        (None, ["blind=true"], [TWO]),
        (["*_ses-1"], ["group=control"], [ONE]),
    ],
)
def test_sessions_are_chosen_by_key_pattern_and_tag(
    lab: Lab, patterns: list[str] | None, tags: list[str], chosen: list[str]
) -> None:
    assert sessions_matching(lab, patterns, tags) == chosen


def test_a_choice_that_fits_nothing_says_what_there_is(lab: Lab) -> None:
    with pytest.raises(NotFoundError, match=r'fits "sub-m01_ses-3". Did you mean "sub-m01_ses-\d"'):
        sessions_matching(lab, ["sub-m01_ses-3"])
    with pytest.raises(
        NotFoundError, match=r"Tags of sessions and their subjects: blind=true, .*group=control, group=treated"
    ):
        sessions_matching(lab, None, ["group=sham"])
    with pytest.raises(SettingsError, match='expected a tag as name=value, such as group=control; got "control"'):
        sessions_matching(lab, None, ["control"])


# --- reading --------------------------------------------------------------------------------------


def test_a_part_of_a_cohort_is_chosen_by_session_model_and_body_part(lab: Lab, version: ModelVersion) -> None:
    freeze(lab, "paper", [ONE, THREE])
    opened = open_lab(lab.root)
    chosen = opened.poses(cohort="paper", session=THREE, model=str(version)[:-4], bodyparts="snout")
    assert [file.session for file in chosen.files] == [THREE]
    assert set(chosen.to_pandas()["bodypart"]) == {"snout"}
    with pytest.raises(NotFoundError, match=f'"{TWO}" is not in the cohort "paper"'):
        opened.poses(cohort="paper", session=TWO)
    with pytest.raises(NotFoundError, match=r'has no poses by "wolker". Did you mean "walker"'):
        opened.poses(cohort="paper", model="wolker")
    with pytest.raises(NotFoundError, match='has no poses by "walker@ffff"'):
        opened.poses(cohort="paper", model="walker@ffff")
    with pytest.raises(NotFoundError, match="has no poses of side together"):
        opened.poses(cohort="paper", recording="side")


def test_poses_that_are_gone_are_an_error_and_no_smaller_selection(lab: Lab, version: ModelVersion) -> None:
    freeze(lab, "paper", KEYS)
    lab.layout.pose_file("walker", version.version, TWO, "top").unlink()
    with pytest.raises(NotFoundError, match=f"1 of the poses.*not there: {TWO} by {version}"):
        open_lab(lab.root).poses(cohort="paper")
    assert missing_of(lab, find_cohort(lab.layout, "paper")) == [f"{TWO}: {version}"]
    assert len(cohort_files(lab, find_cohort(lab.layout, "paper"), [ONE], (), ())) == 1
    table = open_lab(lab.root).cohorts()
    assert table[~table["there"]]["session"].tolist() == [TWO]


def test_cohorts_are_a_table_for_sql(lab: Lab, version: ModelVersion) -> None:
    freeze(lab, "paper", [ONE, THREE], reason="figure 2")
    asked = "select cohort, session, model, version, recordings, reason, there from cohorts order by session"
    answer = json.loads(dlc_assets(lab, "sql", asked, "--json").stdout)
    assert answer["rows"] == [
        ["paper", key, "walker", version.version, ["top"], "figure 2", True] for key in (ONE, THREE)
    ]


# --- the commands ---------------------------------------------------------------------------------


def test_several_sessions_follow_the_option_as_one_types_them(lab: Lab, version: ModelVersion) -> None:
    answer = json.loads(dlc_assets(lab, "freeze", "paper", "--sessions", ONE, THREE, "--reason", "x", "--json").stdout)
    assert (answer["ok"], answer["frozen"]) == (True, True)
    assert list(answer["sessions"]) == [ONE, THREE]
    listed = json.loads(dlc_assets(lab, "cohorts", "--json").stdout)["cohorts"]
    assert [(c["name"], c["reason"], c["missing"]) for c in listed] == [("paper", "x", [])]
    shown = dlc_assets(lab, "cohorts", "paper")
    assert THREE in shown.stdout
    assert str(version) in shown.stdout


def test_a_dry_run_of_freezing_writes_nothing(lab: Lab) -> None:
    result = dlc_assets(lab, "freeze", "paper", "--all", "--dry-run")
    assert result.exit_code == 0
    assert "paper: 3 sessions" in result.stdout
    assert cohorts(lab.layout) == []


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["freeze", "paper"], 2, "which sessions? Give --sessions"),
        (["freeze", "paper", "--all", ONE], 2, "--all means every session"),
        (["freeze", "a/b", "--all"], 2, "cannot be a cohort's name"),
        (["freeze", "paper", "--sessions", "sub-m03*"], 2, 'no session that was probed fits "sub-m03*"'),
        (["freeze", "paper", "--all", "--models", "walker@ffff"], 2, 'no version begins with "ffff"'),
        (["freeze", "paper", "--all", "--models", "runner"], 1, "no poses by runner@"),
        (["cohorts", "papr"], 2, "Cohorts: none yet"),
    ],
)
def test_wrong_usage_is_told_from_missing_poses(lab: Lab, arguments: list[str], status: int, said: str) -> None:
    add_version(lab, "runner", b"runner")
    result = dlc_assets(lab, *arguments)
    assert result.exit_code == status, result.output
    assert said in result.stderr
    assert cohorts(lab.layout) == []
