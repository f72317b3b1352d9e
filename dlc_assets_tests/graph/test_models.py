"""Models through the graph, for real: relabeling, remaking, custom settings, and what is stale because of them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import dagster as dg
import pandas as pd
import pytest
from dagster._core.definitions.data_version import StaleStatus

from dlc_assets.assets.reporting import newest_events
from dlc_assets.demo.files import PROJECT, SCORER
from dlc_assets.jobs import REVIEWED
from dlc_assets.state.failures import last_failure
from dlc_assets.state.lab_state import lab_state
from dlc_assets.training.dataset import current_dataset
from dlc_assets.training.models import current_version, versions
from dlc_assets_tests.conftest import hash_inputs
from dlc_assets_tests.graph.conftest import Graph, rows_of
from dlc_assets_tests.graph.small_lab import FIRST, SECOND, SESSIONS, THIRD, video_of

FRESH, STALE = StaleStatus.FRESH, StaleStatus.STALE
ONE_VIDEO, ANOTHER_VIDEO = "m01_20260421_top", "m02_20260421_top"  # both are learned from
WALKER = [("training_dataset", "walker"), ("trained_model", "walker"), ("model_evaluation", "walker")]
POSES = [("pose_table", f"walker|{session}") for session in SESSIONS]
FILES = [(asset, session) for asset in ("session_recordings", "nwb_file") for session in SESSIONS]


def relabel(graph: Graph, folder: str, by: float = 1.0) -> None:
    """Move one label of one frame, as a person would in DeepLabCut's labeling tool, which writes both files."""
    labeled = graph.root / "projects" / PROJECT / "labeled-data" / folder
    labels: Any = pd.read_hdf(labeled / f"CollectedData_{SCORER}.h5")
    row = labels.index[labels.iloc[:, :2].notna().all(axis=1)][0]
    labels.loc[row, labels.columns[0]] += by
    labels.to_hdf(labeled / f"CollectedData_{SCORER}.h5", key="df_with_missing", mode="w")
    labels.to_csv(labeled / f"CollectedData_{SCORER}.csv")


def stale(graph: Graph, *partitions: tuple[str, str]) -> set[tuple[str, str]]:
    """Return those of *partitions* that the UI marks as out of date; none may be missing."""
    found = {partition: graph.stale(*partition) for partition in partitions}
    assert StaleStatus.MISSING not in found.values(), found
    return {partition for partition, status in found.items() if status is STALE}


def states(graph: Graph, asset: str) -> dict[str, tuple[str, str]]:
    return {product.key: (product.state, product.why) for product in lab_state(graph.lab).of(asset)}


def remake(graph: Graph, asset: str, model: str = "walker", **settings: Any) -> dg.ExecuteInProcessResult:
    return graph.run("train", model, only=[asset], ops={asset: settings} if settings else None)


# --- what the demo recorded -----------------------------------------------------------------------


@pytest.mark.slow
def test_nothing_of_a_finished_lab_is_stale_and_its_copy_has_its_history(demo: Graph) -> None:
    assert stale(demo, *WALKER, *POSES, *FILES) == set()
    assert lab_state(demo.lab).behind() == []


@pytest.mark.slow
def test_every_asset_shows_what_it_made(demo: Graph) -> None:
    def shown(asset: str, key: str | None = None) -> dict[str, Any]:
        return dict(demo.materialization(asset, key).metadata)

    def is_picture(value: Any) -> bool:
        text = str(value.value)
        return text.startswith("![") and "](data:image/" in text and len(text) < 600_000

    dataset = shown("training_dataset", "walker")
    assert dataset["dagster/row_count"].value == 96
    assert is_picture(dataset["labeled frames"])
    counts = rows_of(dataset["labels by folder and scorer"])
    assert sum(row["found"] for row in counts) == sum(row["used"] for row in counts) == 96
    assert {row["labels"] > 0 for row in rows_of(dataset["labels by body part"])} == {True}

    model = shown("trained_model", "walker")
    version = current_version(demo.lab.layout, "walker")
    assert version is not None
    assert model["version"].value == version.version
    assert is_picture(model["learning curve"])
    assert model["custom"].value is False

    evaluation = shown("model_evaluation", "walker")
    assert is_picture(evaluation["error by body part"])
    assert {row["set"] for row in rows_of(evaluation["errors"])} == {"train", "validation", "benchmark"}
    assert evaluation["dagster/row_count"].value > 100

    for session in SESSIONS:
        recordings = shown("session_recordings", session)
        assert "![frames](data:image/jpeg;base64," in recordings["frames"].value
        assert is_picture(recordings["frame intervals"])
        poses = shown("pose_table", f"walker|{session}")
        assert is_picture(poses["trajectories"])
        frames = recordings["dagster/partition_row_count"].value
        assert poses["frames"].value == frames
        assert poses["dagster/partition_row_count"].value % frames == 0
        assert Path(str(poses["dagster/uri"].value)).name == f"session={session}"
        assert shown("nwb_file", session)["size (bytes)"].value > 10_000
    assert shown("catalog")["dagster/row_count"].value > 20
    assert shown("model_comparison")["dagster/row_count"].value == 1
    for asset in ("session_recordings", "pose_table", "model_evaluation"):
        schema = demo.defs.resolve_asset_graph().get(dg.AssetKey(asset)).metadata["dagster/column_schema"]
        assert isinstance(schema.value if hasattr(schema, "value") else schema, dg.TableSchema)


@pytest.mark.slow
def test_every_check_has_an_answer_for_every_partition(demo: Graph) -> None:
    graph = demo.defs.resolve_asset_graph()
    of_poses = {"pose_table", *REVIEWED}
    partitions = {"training_dataset": ["walker"]} | {asset: [key for _, key in POSES] for asset in of_poses}
    for check in graph.asset_check_keys:
        asset = check.asset_key.to_user_string()
        if asset in {"catalog", "dandi_asset"}:  # not partitioned; published by nobody here
            continue
        infos = demo.instance.event_log_storage.get_asset_check_partition_info([check])
        answered = {info.partition_key for info in infos if str(info.latest_execution_status.value) == "SUCCEEDED"}
        known = {info.partition_key for info in infos}
        assert known == set(partitions.get(asset, SESSIONS)), check
        if asset not in of_poses or check.name == "frames_match":  # so short a training gives odd poses
            assert answered == known, check


# --- relabeling -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_relabeling_one_frame_marks_step_by_step_what_was_made_from_it_and_no_other_model(demo: Graph) -> None:
    (demo.root / "models" / "second.yaml").write_text(
        (demo.root / "models" / "walker.yaml").read_text().replace("{videos: all}", f"{{videos: [{ONE_VIDEO}]}}")
    )
    demo.tick("models_and_labels")
    assert remake(demo, "training_dataset", "second").success
    both = [("training_dataset", "walker"), ("training_dataset", "second")]
    assert stale(demo, *both) == set()

    relabel(demo, ANOTHER_VIDEO)
    demo.tick("models_and_labels")
    assert stale(demo, *both, *WALKER) == {("training_dataset", "walker")}
    (cause,) = demo.causes("training_dataset", "walker")
    assert cause.reason == "has a new dependency data version"
    assert cause.dependency is not None
    assert cause.dependency.asset_key == dg.AssetKey("label_set")
    assert states(demo, "training_dataset")["walker"] == ("behind", "labels changed")
    assert states(demo, "training_dataset")["second"] == ("up to date", "")
    assert states(demo, "trained_model")["walker"] == ("behind", "training_dataset walker is behind: labels changed")
    assert states(demo, "model_evaluation")["walker"][0] == "behind"
    check = demo.checks(demo.run("write_catalog"))["up_to_date", None]
    assert not check.passed
    listed = {(row["asset"], row["key"]): row["why"] for row in rows_of(check.metadata["behind"])}
    assert listed["training_dataset", "walker"] == "labels changed"
    exported = [("nwb_file", session) for session in SESSIONS]
    for product in (("trained_model", "walker"), ("model_evaluation", "walker"), *POSES, *exported):
        assert listed[product].endswith("labels changed"), "the whole chain is shown, with the reason at its top"
    demo.tick("recordings")
    assert not demo.asked("analysis"), "poses cannot be made again before the model is trained"

    assert remake(demo, "training_dataset").success
    assert stale(demo, *both, *WALKER) == {("trained_model", "walker")}
    assert states(demo, "training_dataset")["walker"] == ("up to date", "")
    assert states(demo, "trained_model")["walker"] == ("behind", "training dataset changed")

    relabel(demo, ANOTHER_VIDEO, by=-1.0)
    demo.tick("models_and_labels")
    assert remake(demo, "training_dataset").success
    assert stale(demo, *both, *WALKER, *POSES) == set(), "the same labels as before: nothing below is out of date"
    assert lab_state(demo.lab).of("trained_model")[-1].state == "up to date"


@pytest.mark.slow
def test_labels_that_changed_since_they_were_observed_do_not_make_a_new_dataset_stale(demo: Graph) -> None:
    """Who relabels and presses Materialize at once does not wait for the sensor."""
    relabel(demo, ANOTHER_VIDEO)
    assert remake(demo, "training_dataset").success
    assert stale(demo, ("training_dataset", "walker")) == set()
    demo.tick("models_and_labels")
    assert stale(demo, ("training_dataset", "walker")) == set()


@pytest.mark.slow
def test_making_the_same_again_marks_nothing_below(demo: Graph) -> None:
    inputs = hash_inputs(demo.root)
    assert remake(demo, "training_dataset").success
    assert remake(demo, "model_evaluation", recompute=True).success
    assert demo.run("record", SESSIONS, ops={"session_recordings": {"recompute": True}}).success
    assert demo.run("analyze", [key for _, key in POSES], ops={"pose_table": {"recompute": True}}).success
    for _, key in POSES:
        assert demo.materialization("pose_table", key).metadata["estimated now"].value is True
    assert demo.run("export_nwb", SESSIONS, ops={"nwb_file": {"recompute": True}}).success
    assert stale(demo, *WALKER, *POSES, *FILES) == set()
    assert lab_state(demo.lab).behind() == []
    assert hash_inputs(demo.root) == inputs


# --- a range with a failure in the middle ---------------------------------------------------------


@pytest.mark.slow
def test_a_broken_video_in_the_middle_of_a_range_stops_only_its_own_poses(demo: Graph) -> None:
    (demo.root / video_of(SECOND)).write_bytes(b"garbage" * 1000)
    result = demo.run("analyze", [key for _, key in POSES], ops={"pose_table": {"recompute": True}})
    assert not result.success
    said = result.get_step_failure_events()[0].step_failure_data.user_failure_data
    assert said is not None
    assert str(said.description).startswith("1 of 3 failed; the others are done.")
    assert SECOND in str(said.description)
    assert FIRST not in str(said.description)
    version = current_version(demo.lab.layout, "walker")
    assert version is not None
    for session in (FIRST, THIRD):
        made = demo.materialization("pose_table", f"walker|{session}")
        tags = made.tags or {}
        assert made.metadata["estimated now"].value is True
        assert tags["dagster/input_data_version/trained_model"] == version.version
        assert tags["dagster/input_data_version/session_recordings"]
        assert tags["dagster/input_event_pointer/trained_model"].isdigit()
        assert tags["dagster/data_version"] != version.version
        assert demo.stale("pose_table", f"walker|{session}") is FRESH
    kept = last_failure(demo.lab.layout, "pose_table", f"walker|{SECOND}")
    assert kept is not None
    assert "has changed since it was probed" in kept.message
    assert not demo.run("record", SESSIONS).success
    assert states(demo, "session_recordings")[SECOND][0] == "failed"
    assert states(demo, "session_recordings")[FIRST] == ("up to date", "")


@pytest.mark.slow
def test_another_video_marks_the_poses_of_its_session_though_they_were_made_in_a_range(demo: Graph) -> None:
    shutil.copyfile(demo.root / video_of(THIRD), demo.root / video_of(FIRST))
    assert demo.run("record", FIRST).success
    below = {("pose_table", f"walker|{FIRST}"), ("nwb_file", FIRST)}
    assert stale(demo, *WALKER, *POSES, *FILES) == below
    assert states(demo, "pose_table")[f"walker|{FIRST}"] == ("behind", "recordings changed")
    assert states(demo, "nwb_file")[FIRST][0] == "behind"
    assert states(demo, "pose_table")[f"walker|{SECOND}"] == ("up to date", "")


# --- settings of a run, and versions --------------------------------------------------------------


@pytest.mark.slow
def test_a_run_with_settings_of_its_own_makes_a_custom_version_beside_the_first(demo: Graph) -> None:
    first = current_version(demo.lab.layout, "walker")
    assert first is not None
    result = demo.run("train", "walker", ops={"trained_model": {"epochs": 1}})
    assert result.success
    custom = current_version(demo.lab.layout, "walker")
    assert custom is not None
    assert custom.version != first.version
    assert [version.version for version in versions(demo.lab.layout, "walker")] == [first.version, custom.version]
    assert custom.manifest.overrides == {"epochs": 1}
    assert custom.card["training"]["epochs"] == 1
    assert states(demo, "trained_model")["walker"][0] == "custom"
    made = demo.materialization("trained_model", "walker")
    assert made.metadata["custom"].value is True
    assert made.metadata["trained now"].value is True
    assert stale(demo, *WALKER) == set()
    assert stale(demo, *POSES) == set(POSES), "a new version is out for the poses of every session"
    assert states(demo, "pose_table")[f"walker|{FIRST}"][0] == "behind"
    assert first.snapshot.is_file()
    assert demo.run("train", "walker", only=["trained_model"], ops={"trained_model": {"epochs": 1}}).success
    again = demo.materialization("trained_model", "walker")
    assert again.metadata["trained now"].value is False, "the same settings again are the same version"


def test_a_logged_partition_points_at_what_was_observed_of_the_labels(small: Graph) -> None:
    """Asset records hold no observations; without a pointer Dagster would never find the partition out of date."""
    label_set, recordings = dg.AssetKey("label_set"), dg.AssetKey("session_recordings")
    assert newest_events(small.instance, [label_set, recordings]) == {}
    small.tick("models_and_labels")
    small.run("record", FIRST)
    newest = newest_events(small.instance, [label_set, recordings])
    assert set(newest) == {label_set, recordings}
    assert newest[label_set] < newest[recordings]


# --- what a person gets wrong ---------------------------------------------------------------------


def test_a_body_part_that_config_yaml_lacks_fails_its_dataset_and_says_which(small: Graph) -> None:
    labels = small.root / "projects/walking/labeled-data/day1/CollectedData_Ann.csv"
    labels.write_text(labels.read_text().replace("tailbase", "tailbse"))
    result = remake(small, "training_dataset")
    assert not result.success
    kept = last_failure(small.lab.layout, "training_dataset", "walker")
    assert kept is not None
    assert "tailbse" in kept.message
    assert str(labels) in kept.message
    dataset = states(small, "training_dataset")
    assert dataset["walker"][0] == "failed"
    assert "tailbse" in dataset["walker"][1]
    assert dataset["day2-walker"] == ("missing", "never made")
    assert small.run("record", FIRST).success


@pytest.mark.parametrize(
    ("specification", "said"),
    [
        ("net_type: resnet_50\n", 'the key "project" is missing'),
        ("project: wolking\n", 'no DeepLabCut project "wolking"'),
    ],
)
def test_a_specification_without_a_project_fails_and_says_so(small: Graph, specification: str, said: str) -> None:
    (small.root / "models" / "walker.yaml").write_text(specification)
    assert not remake(small, "training_dataset").success
    kept = last_failure(small.lab.layout, "training_dataset", "walker")
    assert kept is not None
    assert said in kept.message
    assert small.run("record", FIRST).success


def test_a_model_that_was_never_trained_says_what_to_do_first(small: Graph) -> None:
    for asset, said in (
        ("trained_model", "there is no training dataset of walker yet"),
        ("model_evaluation", 'the model "walker" has no trained version'),
    ):
        assert not remake(small, asset).success
        kept = last_failure(small.lab.layout, asset, "walker")
        assert kept is not None
        assert said in kept.message


@pytest.mark.slow
def test_a_missing_image_is_counted_and_named_by_a_check_and_the_dataset_is_made_of_the_rest(small: Graph) -> None:
    (small.root / "projects/walking/labeled-data/day1/img3.png").unlink()
    result = remake(small, "training_dataset")
    assert result.success
    check = small.checks(result)["labels_all_used", "walker"]
    assert not check.passed
    assert check.severity is dg.AssetCheckSeverity.WARN
    assert "day1 (Ann): 1 of 6 labeled frames not used" in str(check.description)
    assert small.materialization("training_dataset", "walker").metadata["dagster/row_count"].value == 11
    manifest = current_dataset(small.lab, "walker")
    assert manifest is not None
    assert sum(manifest.details["sets"].values()) == 11
    assert remake(small, "training_dataset", "day2-walker").success
