"""Sessions through the graph: what was made stays made, what failed is named, and nothing is silently missing."""

from __future__ import annotations

import errno
import os

import av
import dagster as dg
import pytest
from dagster._core.definitions.data_version import StaleStatus

from dlc_assets.assets import reporting
from dlc_assets.checks.outcomes import CHECKS
from dlc_assets.inference.releases import rule_problems
from dlc_assets.lab.errors import EnvironmentProblem
from dlc_assets.lab.manifest import Manifest
from dlc_assets.nwb.export import nwb_inputs
from dlc_assets.state.failures import last_failure, record_failure
from dlc_assets.state.lab_state import lab_state
from dlc_assets.training.dataset import make_dataset
from dlc_assets.training.models import current_version
from dlc_assets.training.train import training_inputs
from dlc_assets_tests.graph.conftest import Graph, rows_of
from dlc_assets_tests.graph.small_lab import (
    FIRST,
    SECOND,
    SESSIONS,
    THIRD,
    VERSION,
    as_if_analysed,
    as_if_trained,
    film,
    record,
    relabel,
    video_of,
)

RECORDINGS = dg.AssetKey("session_recordings")


def states(graph: Graph, asset: str) -> dict[str, str]:
    return {product.key: product.state for product in lab_state(graph.lab).of(asset)}


# --- probing --------------------------------------------------------------------------------------


def test_one_session_is_probed_with_its_preview_its_counts_and_its_checks(small: Graph) -> None:
    result = small.run("record", FIRST)
    assert result.success
    made = small.materialization("session_recordings", FIRST)
    assert made.metadata["dagster/partition_row_count"].value == 12
    assert made.metadata["start"].value == "2026-05-01T10:00:00+02:00"
    assert str(made.metadata["frames"].value).startswith("**top**\n\n![frames](data:image/jpeg;base64,")
    assert str(made.metadata["frame intervals"].value).startswith("![frame intervals](data:image/png;base64,")
    assert made.metadata["dagster/uri"].value == str(small.lab.layout.session_recordings(FIRST))
    (row,) = rows_of(made.metadata["recordings"])
    assert (row["recording"], row["frames"], row["rate"], row["size"]) == ("top", 12, "25", "64x48")
    assert (row["frames by header"], row["regular"], row["turned upright"]) == (12, True, "no")
    assert {name: e.passed for name, e in small.checks(result).items()} == {
        (check, FIRST): True for check in CHECKS["session_recordings"]
    }
    assert (made.tags or {})["dagster/data_version"] == small.recorded_version(FIRST)


def test_a_range_with_a_broken_video_in_the_middle_makes_the_others_and_names_it(small: Graph) -> None:
    (small.root / video_of(SECOND)).write_bytes(b"garbage" * 1000)
    result = small.run("record", SESSIONS)
    assert not result.success
    assert small.materialized("session_recordings") == {FIRST, THIRD}
    (failure,) = result.get_step_failure_events()
    said = failure.step_failure_data.user_failure_data
    assert said is not None
    assert said.description is not None
    assert said.description.startswith("1 of 3 failed; the others are done.")
    assert SECOND in said.description
    assert video_of(SECOND) in said.description
    assert FIRST not in said.description
    checks = small.checks(result)
    assert {check for check, evaluation in checks.items() if evaluation.passed} == {
        (check, key) for key in (FIRST, THIRD) for check in CHECKS["session_recordings"]
    }
    ((failed, evaluation),) = [each for each in checks.items() if not each[1].passed]
    assert failed == ("recordings_readable", SECOND), "the session fails its check with the reason"
    assert video_of(SECOND) in str(evaluation.description)
    kept = last_failure(small.lab.layout, "session_recordings", SECOND)
    assert kept is not None
    assert kept.run_id == result.run_id
    assert video_of(SECOND) in kept.message
    assert states(small, "session_recordings") == {FIRST: "up to date", SECOND: "failed", THIRD: "up to date"}


def test_partitions_of_a_range_have_versions_of_their_own_and_are_fresh(small: Graph) -> None:
    assert small.run("record", SESSIONS).success
    tags = {key: small.materialization("session_recordings", key).tags or {} for key in SESSIONS}
    assert len({tags[key]["dagster/data_version"] for key in SESSIONS}) == 3
    for key in SESSIONS:
        assert tags[key]["dagster/data_version"] == small.recorded_version(key)
        assert tags[key]["dagster/code_version"] == "1"
        assert small.stale("session_recordings", key) is StaleStatus.FRESH


def test_a_mended_video_is_probed_and_its_failure_forgotten(small: Graph) -> None:
    video = small.root / video_of(SECOND)
    video.write_bytes(b"garbage")
    assert not small.run("record", SECOND).success
    film(video)
    assert states(small, "session_recordings")[SECOND] == "missing"
    assert small.run("record", SECOND).success
    assert last_failure(small.lab.layout, "session_recordings", SECOND) is None
    assert states(small, "session_recordings")[SECOND] == "up to date"


def test_a_second_camera_that_does_not_open_fails_a_check_and_not_the_session(small: Graph) -> None:
    (small.root / video_of(FIRST, "side")).write_bytes(b"garbage")
    result = small.run("record", FIRST)
    assert result.success
    check = small.checks(result)["recordings_readable", FIRST]
    assert not check.passed
    assert check.severity is dg.AssetCheckSeverity.ERROR
    assert check.description is not None
    assert video_of(FIRST, "side") in check.description
    assert states(small, "session_recordings")[FIRST] == "up to date"
    assert any(video_of(FIRST, "side") in problem for problem in lab_state(small.lab).problems)


def test_a_rotated_video_is_shown_with_its_upright_size_and_how_it_was_turned(small: Graph) -> None:
    path = small.root / video_of(FIRST)
    upright = path.with_name("upright.mp4")
    path.rename(upright)
    with av.open(str(upright)) as stored, av.open(str(path), "w") as container:
        stream = container.add_stream_from_template(stored.streams.video[0])
        stream.set_display_rotation(-90)
        for packet in stored.demux(video=0):
            if packet.size:
                packet.stream = stream
                container.mux(packet)
    upright.unlink()
    assert small.run("record", FIRST).success
    (row,) = rows_of(small.materialization("session_recordings", FIRST).metadata["recordings"])
    assert (row["size"], row["turned upright"]) == ("48x64", "by 90°")


def test_a_full_disk_fails_the_sessions_it_meets_which_the_next_run_makes(
    small: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    flush = os.fsync

    def fsync(descriptor: int) -> None:
        if any((small.lab.layout.session_recordings(SECOND)).glob(".manifest*")):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        flush(descriptor)

    with monkeypatch.context() as full:
        full.setattr(os, "fsync", fsync)
        result = small.run("record", SESSIONS)
    assert not result.success
    failure = last_failure(small.lab.layout, "session_recordings", SECOND)
    assert failure is not None
    assert "No space is left to write" in failure.message
    assert "MB are free" in failure.message
    assert states(small, "session_recordings") == {FIRST: "up to date", SECOND: "failed", THIRD: "up to date"}
    assert list(small.lab.layout.session_recordings(SECOND).iterdir()) == []
    assert small.run("record", SECOND).success
    assert set(states(small, "session_recordings").values()) == {"up to date"}


def test_a_disk_so_full_that_not_even_the_failure_can_be_kept_stops_no_other_session(
    small: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(*_: object, **__: object) -> None:
        raise EnvironmentProblem("No space is left to write failures/a.json")

    (small.root / video_of(SECOND)).write_bytes(b"no video")
    with monkeypatch.context() as full:
        full.setattr(reporting, "record_failure", no_space)
        assert not small.run("record", SESSIONS).success
    assert states(small, "session_recordings") == {FIRST: "up to date", SECOND: "missing", THIRD: "up to date"}


def test_two_files_that_make_the_same_recording_fail_a_check_and_the_rest_goes_on(small: Graph) -> None:
    lab_yaml = small.root / "lab.yaml"
    second_template = ', {root: copies, template: "{subject}/{session}/{camera}.mp4"}]'
    lab_yaml.write_text(lab_yaml.read_text().replace('.mp4"}]', '.mp4"}' + second_template))
    copy = film(small.root / "copies/m01/20260501/top.mp4")
    film(small.root / video_of(FIRST, "side"))
    result = small.run("record", SESSIONS)
    assert result.success
    check = small.checks(result)["recordings_readable", FIRST]
    assert not check.passed
    assert check.description is not None
    assert str(copy) in check.description
    assert "two files make the same recording (top)" in check.description
    info = small.session(FIRST)
    assert [recording.recording for recording in info.recordings] == ["side"]
    assert states(small, "session_recordings") == dict.fromkeys(SESSIONS, "up to date")


def test_a_subject_with_a_slash_fails_its_session_and_the_rest_goes_on(small: Graph) -> None:
    sidecar = (small.root / video_of(SECOND)).parent / "session.yaml"
    sidecar.write_text("subject: cage3/m01\n")
    result = small.run("record", SESSIONS)
    assert not result.success
    assert small.materialized("session_recordings") == {FIRST, THIRD}
    kept = last_failure(small.lab.layout, "session_recordings", SECOND)
    assert kept is not None
    assert "has a slash" in kept.message
    assert str(sidecar) in kept.message


def test_a_session_whose_videos_are_gone_is_named_with_what_to_do(small: Graph) -> None:
    (small.root / video_of(SECOND)).unlink()
    result = small.run("record", SESSIONS)
    assert not result.success
    assert small.materialized("session_recordings") == {FIRST, THIRD}
    kept = last_failure(small.lab.layout, "session_recordings", SECOND)
    assert kept is not None
    assert "no video of this session is there" in kept.message


def test_a_session_that_is_up_to_date_is_not_probed_again_unless_asked(small: Graph) -> None:
    small.run("record", FIRST)
    manifest = small.lab.layout.session_recordings(FIRST) / "manifest.json"
    before = manifest.stat().st_mtime_ns
    assert small.run("record", FIRST).success
    assert manifest.stat().st_mtime_ns == before
    assert small.run("record", FIRST, ops={"session_recordings": {"recompute": True}}).success
    assert manifest.stat().st_mtime_ns > before


def test_a_reversed_range_fails_instead_of_making_nothing(small: Graph) -> None:
    result = small.run("record", [THIRD, FIRST])
    assert not result.success


# --- NWB files, from poses that stand in ----------------------------------------------------------


@pytest.fixture
def analysed(small: Graph) -> Graph:
    """The small lab with every session recorded and analysed."""
    as_if_trained(small.lab)
    record(small.lab, *SESSIONS)
    as_if_analysed(small.lab, *SESSIONS)
    for key in SESSIONS:
        small.report_poses("walker", key, f"poses of {key}")
    return small


@pytest.fixture
def relabeled(analysed: Graph) -> Graph:
    """The analysed lab, its model trained from the labels as they were before one was moved; SECOND's export has failed."""
    lab = analysed.lab
    make_dataset(lab, "walker", run_id="", log=lambda _: None)
    version = current_version(lab.layout, "walker")
    assert version is not None
    version.manifest.model_copy(update={"inputs": training_inputs(lab, "walker")}).write(version.folder)
    assert states(analysed, "trained_model")["walker"] == "up to date"
    lab.layout.nwb.mkdir()
    for key in SESSIONS:
        inputs = nwb_inputs(lab, key)
        if key == SECOND:
            record_failure(lab.layout, "nwb_file", key, "no start", inputs=inputs, run_id="")
        else:
            (lab.layout.nwb / f"{key}.nwb").touch()
            made = Manifest(asset="nwb_file", key=key, inputs=inputs, data_version="", details={"path": f"{key}.nwb"})
            made.write(lab.layout.nwb_manifest(key))
    assert states(analysed, "nwb_file") == {FIRST: "up to date", SECOND: "failed", THIRD: "up to date"}
    relabel(analysed.root / "projects" / "walking", "day1")
    return analysed


def test_new_labels_put_poses_and_files_of_the_old_model_behind_and_what_failed_stays_failed(relabeled: Graph) -> None:
    state = lab_state(relabeled.lab)
    why = "trained_model walker is behind: training_dataset walker is behind: labels changed"
    assert {p.key: (p.state, p.why) for p in state.of("pose_table")} == {
        f"walker|{key}": ("behind", why) for key in SESSIONS
    }
    assert states(relabeled, "nwb_file") == {FIRST: "behind", SECOND: "failed", THIRD: "behind"}
    assert {p.why for p in state.of("nwb_file")} == {
        "no start",
        *(f"pose_table walker|{key} is behind: {why}" for key in (FIRST, THIRD)),
    }
    assert not any(p.inputs for p in state.of("pose_table")), "it is not known yet what they will be made from"


def test_new_labels_leave_poses_of_a_pinned_version_up_to_date(relabeled: Graph) -> None:
    lab_yaml = relabeled.root / "lab.yaml"
    lab_yaml.write_text(lab_yaml.read_text().replace("model: walker}", f"model: walker@{VERSION}}}"))
    assert states(relabeled, "trained_model")["walker"] == "behind"
    assert set(states(relabeled, "pose_table").values()) == {"up to date"}
    assert states(relabeled, "nwb_file") == {FIRST: "up to date", SECOND: "failed", THIRD: "up to date"}


@pytest.mark.slow
def test_a_range_of_nwb_files_goes_on_over_a_session_whose_start_is_unknown(analysed: Graph) -> None:
    (analysed.root / video_of(SECOND)).with_name("session.yaml").unlink()
    assert analysed.run("record", SECOND).success
    result = analysed.run("export_nwb", SESSIONS)
    assert not result.success
    assert analysed.materialized("nwb_file") == {FIRST, THIRD}
    kept = last_failure(analysed.lab.layout, "nwb_file", SECOND)
    assert kept is not None
    assert "NWB needs the session's start time" in kept.message
    assert states(analysed, "nwb_file") == {FIRST: "up to date", SECOND: "failed", THIRD: "up to date"}
    made = analysed.materialization("nwb_file", FIRST)
    assert (analysed.lab.layout.nwb / "sub-m01/sub-m01_ses-20260501_behavior+image.nwb").is_file()
    assert made.metadata["videos"].value == "link"
    tags = made.tags or {}
    assert tags["dagster/input_data_version/session_recordings"] == analysed.recorded_version(FIRST)
    checks = analysed.checks(result)
    assert checks["nwb_valid", FIRST].passed
    assert not checks["nwb_valid", THIRD].passed
    assert "missing age and date_of_birth" in str(checks["nwb_valid", THIRD].description)


@pytest.mark.slow
def test_a_range_of_nwb_files_goes_on_over_a_session_whose_subject_has_no_species(analysed: Graph) -> None:
    lab_yaml = analysed.root / "lab.yaml"
    lab_yaml.write_text(lab_yaml.read_text().replace(", m02: {species: Mus musculus}", ""))
    result = analysed.run("export_nwb", SESSIONS)
    assert not result.success
    assert analysed.materialized("nwb_file") == {FIRST, SECOND}
    kept = last_failure(analysed.lab.layout, "nwb_file", THIRD)
    assert kept is not None
    assert f'{lab_yaml} does not say of which species the subject "m02" is' in kept.message
    assert states(analysed, "nwb_file")[THIRD] == "failed"
    lab_yaml.write_text(lab_yaml.read_text() + "subject_defaults: {species: Mus musculus}\n")
    assert states(analysed, "nwb_file")[THIRD] != "failed", "what it is made from has changed: it is tried again"
    assert analysed.run("export_nwb", THIRD).success


@pytest.mark.slow
def test_new_poses_make_the_nwb_file_of_their_session_stale_and_no_other(analysed: Graph) -> None:
    assert analysed.run("export_nwb", SESSIONS).success
    assert {analysed.stale("nwb_file", key) for key in SESSIONS} == {StaleStatus.FRESH}
    analysed.report_poses("walker", SECOND, "other poses")
    assert analysed.stale("nwb_file", SECOND) is StaleStatus.STALE
    assert analysed.stale("nwb_file", FIRST) is StaleStatus.FRESH
    assert analysed.stale("nwb_file", THIRD) is StaleStatus.FRESH


@pytest.mark.slow
def test_a_session_probed_again_with_another_content_makes_what_is_below_it_stale(analysed: Graph) -> None:
    assert analysed.run("record", SESSIONS).success
    assert analysed.run("export_nwb", SESSIONS).success
    assert analysed.run("record", SESSIONS, ops={"session_recordings": {"recompute": True}}).success
    assert {analysed.stale("nwb_file", key) for key in SESSIONS} == {StaleStatus.FRESH}, (
        "the same content marks nothing"
    )
    film(analysed.root / video_of(SECOND), 20, first=50)
    assert analysed.run("record", SESSIONS).success
    assert analysed.stale("nwb_file", SECOND) is StaleStatus.STALE
    (cause,) = analysed.causes("nwb_file", SECOND)
    assert cause.reason == "has a new dependency data version"
    assert cause.dependency is not None
    assert cause.dependency.asset_key == RECORDINGS
    assert analysed.stale("nwb_file", FIRST) is StaleStatus.FRESH


@pytest.mark.slow
def test_settings_in_the_launchpad_make_a_custom_file_which_status_says(analysed: Graph) -> None:
    result = analysed.run("export_nwb", FIRST, ops={"nwb_file": {"videos": "leave_out"}})
    assert result.success
    assert analysed.materialization("nwb_file", FIRST).metadata["custom"].value is True
    assert (analysed.lab.layout.nwb / "sub-m01/sub-m01_ses-20260501_behavior.nwb").is_file()
    assert states(analysed, "nwb_file")[FIRST] == "custom"


def test_a_range_of_poses_names_the_session_that_was_never_probed(small: Graph) -> None:
    as_if_trained(small.lab)
    record(small.lab, FIRST, THIRD)
    as_if_analysed(small.lab, FIRST, THIRD)
    result = small.run("analyze", [f"walker|{key}" for key in SESSIONS])
    assert not result.success
    assert small.materialized("pose_table") == {f"walker|{FIRST}", f"walker|{THIRD}"}
    kept = last_failure(small.lab.layout, "pose_table", f"walker|{SECOND}")
    assert kept is not None
    assert f"the recordings of {SECOND} are not probed yet" in kept.message
    tags = small.materialization("pose_table", f"walker|{FIRST}").tags or {}
    assert tags["dagster/input_data_version/trained_model"] == "0123456789ab"
    assert tags["dagster/input_data_version/session_recordings"]


def test_a_video_that_changed_since_it_was_probed_is_not_analysed(small: Graph) -> None:
    as_if_trained(small.lab)
    record(small.lab, FIRST)
    film(small.root / video_of(FIRST), 20)
    result = small.run("analyze", f"walker|{FIRST}")
    assert not result.success
    kept = last_failure(small.lab.layout, "pose_table", f"walker|{FIRST}")
    assert kept is not None


# --- the whole lab --------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_catalog_says_what_is_behind_along_the_whole_chain_and_why(analysed: Graph) -> None:
    assert analysed.run("export_nwb", SESSIONS).success
    film(analysed.root / video_of(SECOND), 20, first=50)
    result = analysed.run("write_catalog")
    assert result.success
    check = analysed.checks(result)["up_to_date", None]
    assert not check.passed
    assert check.severity is dg.AssetCheckSeverity.WARN
    rows = {(row["asset"], row["key"]): row for row in rows_of(check.metadata["behind"])}
    assert rows["session_recordings", SECOND]["why"] == "videos changed"
    for asset, key in (("pose_table", f"walker|{SECOND}"), ("nwb_file", SECOND)):
        assert rows[asset, key]["state"] == "behind"
        assert rows[asset, key]["why"] == f"session_recordings {SECOND} is behind: videos changed"
    assert not any(key in (FIRST, f"walker|{FIRST}") for _, key in rows)
    made = analysed.materialization("catalog")
    assert int(made.metadata["dagster/row_count"].value) > 10  # type: ignore[arg-type]


def test_a_release_rule_for_a_model_that_does_not_exist_fails_a_check_and_stops_nothing(analysed: Graph) -> None:
    lab_yaml = analysed.root / "lab.yaml"
    lab_yaml.write_text(lab_yaml.read_text().replace("release: [", "release: [{devices: [side], model: wolker}, "))
    (problem,) = rule_problems(analysed.lab)
    assert 'release rule 1 names the model "wolker", which does not exist. Did you mean "walker"?' in problem
    result = analysed.run("write_catalog")
    assert result.success
    checks = analysed.checks(result)
    assert checks["release_rules_valid", None].description == problem
    assert not checks["release_rules_valid", None].passed
    assert not checks["lab_files_valid", None].passed
    assert analysed.run("record", FIRST).success


def test_a_specification_that_names_no_project_fails_a_check_and_stops_no_other_model(analysed: Graph) -> None:
    (analysed.root / "models" / "broken.yaml").write_text("net_type: resnet_50\n")
    (analysed.root / "models" / "lost.yaml").write_text("project: wolking\n")
    result = analysed.run("write_catalog")
    assert result.success
    check = analysed.checks(result)["lab_files_valid", None]
    assert not check.passed
    assert check.description is not None
    assert 'the key "project" is missing' in check.description
    state = lab_state(analysed.lab)
    why = {product.key: (product.state, product.why) for product in state.of("training_dataset")}
    assert why["broken"][0] == "failed"
    assert 'the key "project" is missing' in why["broken"][1]
    assert why["lost"][0] == "failed"
    assert 'no DeepLabCut project "wolking"' in why["lost"][1]
    assert why["walker"][0] == "missing"


def test_a_subject_of_lab_yaml_with_a_slash_fails_a_check_and_the_rest_goes_on(small: Graph) -> None:
    lab_yaml = small.root / "lab.yaml"
    lab_yaml.write_text(lab_yaml.read_text().replace("subjects: {", "subjects: {cage3/m01: {}, m 02: {}, m-02: {}, "))
    check = small.checks(small.run("write_catalog"))["lab_files_valid", None]
    assert not check.passed
    said = str(check.description)
    assert f'{lab_yaml}: subjects: the subject name "cage3/m01" has a slash' in said
    assert '"m 02" and "m-02" both become m-02' in said
    assert small.run("record", SESSIONS).success


def test_files_of_the_lab_that_are_well_pass_their_checks(analysed: Graph) -> None:
    checks = analysed.checks(analysed.run("write_catalog"))
    assert checks["release_rules_valid", None].passed
    assert checks["lab_files_valid", None].passed


def test_a_check_run_alone_says_which_of_all_products_do_not_pass(small: Graph) -> None:
    film(small.root / video_of(FIRST, "side")).write_bytes(b"garbage")
    assert small.run("record", [FIRST, SECOND]).success
    name = dg.AssetCheckKey(RECORDINGS, "recordings_readable")
    (evaluation,) = small.run_check(name).get_asset_check_evaluations()
    assert (evaluation.passed, evaluation.severity, evaluation.partition) == (False, dg.AssetCheckSeverity.ERROR, None)
    assert evaluation.description == "1 of 2 do not pass"
    (row,) = rows_of(evaluation.metadata["failing"])
    assert row["key"] == FIRST
    assert "side" in str(row["why"])
    (evaluation,) = small.run_check(
        dg.AssetCheckKey(dg.AssetKey("nwb_file"), "nwb_valid")
    ).get_asset_check_evaluations()
    assert (evaluation.passed, evaluation.description) == (True, "all 0 pass")


def test_a_check_of_some_sessions_answers_for_each_of_them(small: Graph) -> None:
    film(small.root / video_of(FIRST, "side")).write_bytes(b"garbage")
    assert small.run("record", [FIRST, SECOND]).success
    name = dg.AssetCheckKey(RECORDINGS, "recordings_readable")
    some = small.run_check(name, FIRST, SECOND).get_asset_check_evaluations()
    assert {each.partition: each.passed for each in some} == {FIRST: False, SECOND: True}
    for key, passed in ((FIRST, False), (SECOND, True), (THIRD, False)):
        result = small.run_check(name, key)
        (evaluation,) = result.get_asset_check_evaluations()
        assert (evaluation.passed, evaluation.partition) == (passed, key)
    assert evaluation.description == f"{THIRD} is not made yet"


def test_a_lab_folder_that_is_not_one_is_said_by_whatever_runs_first(small: Graph) -> None:
    (small.root / "lab.yaml").unlink()
    result = small.run("record", FIRST)
    assert not result.success
    (failure,) = result.get_step_failure_events()
    error = failure.step_failure_data.error
    assert error is not None
    assert "is not a lab folder: it has no lab.yaml" in (error.cause or error).message
