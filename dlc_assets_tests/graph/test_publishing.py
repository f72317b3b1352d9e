"""Publishing in the graph: asked for by a person alone, once for each content, seen in the UI, and behind when its NWB file has changed."""

from __future__ import annotations

import json
from collections.abc import Iterator

import dagster as dg
import pytest
from typer.testing import CliRunner

from dlc_assets.assets import publishing as asset
from dlc_assets.cli import app
from dlc_assets.commands import publish_sessions, sessions_to_publish
from dlc_assets.lab.files import read_json, write_json
from dlc_assets.lab.trash import move_to_trash
from dlc_assets.recordings.removal import files_of_session
from dlc_assets.resources.known_outputs import report_known_outputs
from dlc_assets.state.lab_state import lab_state
from dlc_assets_tests.archive import DANDISET, KEY, StandInArchive, stand_in_archive
from dlc_assets_tests.graph.conftest import Graph, rows_of
from dlc_assets_tests.graph.small_lab import FIRST, SECOND, SESSIONS, as_if_analysed, as_if_trained, record

VARIABLE = "DLC_ASSETS_TEST_ARCHIVE_KEY"
PATHS = [f"sub-m01/sub-m01_ses-{day}_behavior+image.nwb" for day in ("20260501", "20260502")]


@pytest.fixture
def archive(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInArchive]:
    monkeypatch.setenv(VARIABLE, KEY)
    monkeypatch.setenv("DANDI_CACHE", "ignore")
    with stand_in_archive() as served:
        yield served


@pytest.fixture
def exported(small: Graph, archive: StandInArchive) -> Graph:
    """The small lab with the NWB files of its first two sessions, and a dandiset to publish to."""
    file = small.root / "lab.yaml"
    text = file.read_text().replace("2026-02-01}", "2026-02-01, description: a mouse}")
    block = {"instance": archive.url, "dandiset": DANDISET, "key_env": VARIABLE}
    about = 'institution: University of Somewhere\nexperimenters: ["Doe, Jane"]\n'
    file.write_text(f"{text}{about}dandi: {json.dumps(block)}\n")
    record(small.lab, *SESSIONS)
    as_if_trained(small.lab)
    as_if_analysed(small.lab, *SESSIONS)
    assert small.run("export_nwb", [FIRST, SECOND]).success
    return small


def published(graph: Graph, sessions: str | list[str]) -> dg.ExecuteInProcessResult:
    return graph.run("publish", sessions, ops={"dandi_asset": {"publish": True}})


def test_nothing_leaves_the_lab_by_a_click_on_everything(exported: Graph, archive: StandInArchive) -> None:
    result = exported.run("publish", FIRST)
    assert not result.success
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert "nothing was uploaded" in (failure.step_failure_data.user_failure_data.description or "")
    assert archive.requests == []


def test_a_published_session_shows_where_it_is_and_stays_as_long_as_nothing_changes(
    exported: Graph, archive: StandInArchive
) -> None:
    result = published(exported, [FIRST, SECOND])
    assert result.success
    assert archive.paths == PATHS
    shown = exported.materialization("dandi_asset", FIRST)
    (row,) = rows_of(shown.metadata["assets"])
    assert row["path"] == PATHS[0]
    assert row["asset id"] in archive.assets
    assert shown.metadata["dandiset"].value == f"{DANDISET} (draft) of {archive.url}"
    assert shown.metadata["dagster/uri"].value.endswith(f"/dandiset/{DANDISET}/draft/files?location=sub-m01")
    assert shown.metadata["uploaded now"].value is True
    checks = exported.checks(result)
    assert checks["published_current", FIRST].passed
    assert not checks["published_complete", FIRST].passed  # its video stays in the lab
    writes = list(archive.writes)
    assert published(exported, [FIRST, SECOND]).success
    assert archive.writes == writes


def test_no_sensor_asks_for_publishing_but_what_is_behind_can_be_seen(exported: Graph, archive: StandInArchive) -> None:
    assert published(exported, FIRST).success
    (product,) = lab_state(exported.lab).of("dandi_asset")
    assert (product.key, product.state, product.wanted) == (FIRST, "up to date", False)
    path = exported.lab.layout.pose_manifest("walker", "0123456789ab", FIRST)
    write_json(path, {**read_json(path), "data_version": "other poses"})
    assert exported.run("export_nwb", FIRST).success
    state = lab_state(exported.lab)
    (product,) = state.of("dandi_asset")
    assert (product.state, product.why) == ("behind", "nwb changed")
    assert product not in state.behind()
    assert exported.run_check(dg.AssetCheckKey(dg.AssetKey("dandi_asset"), "published_current"), FIRST).success
    for sensor in exported.defs.sensors or ():
        if sensor.name in {"export", "analysis", "catalog"}:
            assert all(job != "publish" for job, _ in exported.asked(sensor.name))
    result = published(exported, FIRST)
    assert result.success
    (product,) = lab_state(exported.lab).of("dandi_asset")
    assert product.state == "up to date"


def test_the_check_says_which_sessions_are_no_longer_what_was_published(
    exported: Graph, archive: StandInArchive
) -> None:
    assert published(exported, FIRST).success
    path = exported.lab.layout.nwb_manifest(FIRST)
    write_json(path, {**read_json(path), "data_version": "other"})
    result = exported.run_check(dg.AssetCheckKey(dg.AssetKey("dandi_asset"), "published_current"), FIRST)
    evaluation = exported.checks(result)["published_current", FIRST]
    assert not evaluation.passed
    assert f"dlc-assets publish {FIRST}" in (evaluation.description or "")


def test_a_refused_key_fails_the_run_before_any_session_and_says_which_key(
    exported: Graph, archive: StandInArchive
) -> None:
    archive.key = "another"
    result = published(exported, [FIRST, SECOND])
    assert not result.success
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    assert VARIABLE in (failure.step_failure_data.user_failure_data.description or "")
    assert KEY not in str(result.all_events)
    assert archive.writes == []


def test_one_session_that_cannot_be_published_does_not_keep_back_the_others(
    exported: Graph, archive: StandInArchive
) -> None:
    result = published(exported, SESSIONS)
    assert not result.success
    assert archive.paths == PATHS
    (product,) = [p for p in lab_state(exported.lab).of("dandi_asset") if p.key == SESSIONS[2]]
    assert product.state == "failed"
    assert f"dlc-assets export {SESSIONS[2]}" in product.why


def test_another_instance_is_told_of_what_was_published(exported: Graph, archive: StandInArchive) -> None:
    assert published(exported, FIRST).success
    with dg.DagsterInstance.ephemeral() as other:
        report_known_outputs(other, exported.lab, lambda _: None)
        assert other.get_materialized_partitions(dg.AssetKey("dandi_asset")) == {FIRST}


def test_a_session_that_is_removed_takes_its_record_along(exported: Graph, archive: StandInArchive) -> None:
    assert published(exported, FIRST).success
    lab = exported.lab
    record_file = lab.layout.published_manifest(archive.url, DANDISET, FIRST)
    files = files_of_session(lab, FIRST)
    assert record_file in files
    move_to_trash(lab.layout, "session", FIRST, files, check=lambda: None, log=lambda _: None)
    assert not record_file.exists()
    assert archive.paths == [PATHS[0]]


def test_the_command_publishes_what_has_an_nwb_file_and_the_dry_run_only_looks(
    exported: Graph, archive: StandInArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_here(lab: object, instance: object, job: str, *, tags: dict[str, str], ops: dict[str, object], log: object):
        keys = [tags[name] for name in tags if "partition" in name]
        assert exported.run(job, keys, ops={name: dict(value) for name, value in ops.items()}).success
        return "ran"

    monkeypatch.setattr("dlc_assets.commands.execute_here", run_here)
    shown = _dry_run()
    assert [(row["path"], row["state"]) for row in shown["files"]] == [(path, "new") for path in PATHS]
    assert all(row["bytes"] > 0 for row in shown["files"])
    assert shown["problems"] == []
    assert archive.writes == []
    lab = exported.lab
    wanted = sessions_to_publish(lab, (), None, lambda _: None)
    assert wanted == [FIRST, SECOND]
    outcomes, rows = publish_sessions(
        lab, exported.instance, wanted, None, replace=False, recompute=False, log=lambda _: None
    )
    assert len(outcomes) == 1
    assert [row["path"] for row in rows] == PATHS
    assert [row["state"] for row in _dry_run()["files"]] == ["published", "published"]
    again, _ = publish_sessions(
        lab, exported.instance, wanted, None, replace=False, recompute=False, log=lambda _: None
    )
    assert again == []
    assert asset.SESSIONS_PER_RUN > 1


def _dry_run() -> dict[str, list]:
    done = CliRunner().invoke(app, ["publish", "--dry-run", "--json"])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_the_dry_run_says_what_is_wrong_and_fails(
    exported: Graph, archive: StandInArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive.put(PATHS[0], b"of somebody else")
    done = CliRunner().invoke(app, ["publish", "--dry-run", "--json"])
    assert done.exit_code == 1
    assert "--replace" in json.loads(done.stdout)["problems"][0]
    monkeypatch.delenv(VARIABLE)
    done = CliRunner().invoke(app, ["publish", SECOND, "--dry-run", "--json"])
    assert done.exit_code == 1
    said = json.loads(done.stdout)
    assert VARIABLE in said["problems"][0]
    assert [row["state"] for row in said["files"]] == ["not known"]
    assert archive.writes == []


def test_a_dandiset_file_is_written_from_lab_yaml_and_never_over_another(exported: Graph) -> None:
    from dandi.dandiset import Dandiset
    from dandi.files import DandisetMetadataFile

    done = CliRunner().invoke(app, ["publish", "--init", "--json"])
    assert done.exit_code == 2
    assert "`description` is empty" in json.loads(done.stdout)["error"]
    file = exported.root / "lab.yaml"
    file.write_text(file.read_text().replace("dandi: {", 'dandi: {"description": "Mice that walk.", '))
    done = CliRunner().invoke(app, ["publish", "--init", "--json"])
    assert done.exit_code == 0, done.output
    folder = exported.lab.layout.nwb
    assert json.loads(done.stdout)["written"] == str(folder / "dandiset.yaml")
    assert Dandiset(folder).identifier == DANDISET
    assert DandisetMetadataFile(folder / "dandiset.yaml", folder).get_validation_errors() == []
    assert CliRunner().invoke(app, ["publish", "--init"]).exit_code == 1
