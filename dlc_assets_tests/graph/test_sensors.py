"""What the platform does by itself: each thing is asked for once, a crash is tried again, a mistake is not, and the rest goes on."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

import dagster as dg
import pytest
from dagster._core.utils import make_new_run_id

from dlc_assets.executors import holder_tags
from dlc_assets.lab.locks import hold
from dlc_assets.partitions import MODEL, SESSION
from dlc_assets.recordings.discovery import discover
from dlc_assets.recordings.index import RecordingIndex
from dlc_assets.recordings.session_recordings import session_inputs
from dlc_assets.resources import janitor
from dlc_assets.resources.janitor import end_dead_runs
from dlc_assets.resources.run_launcher import ASKED_BY_TAG
from dlc_assets.state.failures import record_failure
from dlc_assets.state.lab_state import lab_state
from dlc_assets_tests.graph.conftest import Graph
from dlc_assets_tests.graph.small_lab import (
    FIRST,
    SECOND,
    SESSIONS,
    THIRD,
    as_if_analysed,
    as_if_trained,
    film,
    record,
    relabel,
    video_of,
)

RANGE_OF_ALL = {"dagster/asset_partition_range_start": FIRST, "dagster/asset_partition_range_end": THIRD}


@pytest.fixture
def idle(small: Graph) -> Graph:
    """The small lab, its videos seen long ago: nothing has been asked for yet."""
    small.tick("recordings")
    _let_time_pass(small)
    return small


def _let_time_pass(graph: Graph) -> None:
    """Make what the sensor saw of the videos a minute older."""
    with RecordingIndex.opened(graph.lab) as index:
        index.connection.execute("UPDATE file SET first_seen = first_seen - 60")
        index.connection.execute("UPDATE session SET again = 0")


def start_run(graph: Graph, job: str, tags: dict[str, str], **more: str) -> dg.DagsterRun:
    """Put a run of *job* in the instance, as the daemon does before it executes."""
    return graph.instance.create_run_for_job(
        graph.defs.resolve_job_def(job),
        run_id=make_new_run_id(),
        status=dg.DagsterRunStatus.STARTED,
        tags={**tags, **more},
    )


def end_run(graph: Graph, run: dg.DagsterRun) -> None:
    graph.instance.report_run_failed(run, "killed")


def warnings_of(graph: Graph, sensor: str, capfd: pytest.CaptureFixture[str]) -> str:
    capfd.readouterr()
    graph.tick(sensor)
    return capfd.readouterr().err


# --- recordings -----------------------------------------------------------------------------------


def test_new_videos_become_sessions_once_they_have_stopped_growing_and_are_probed_in_one_run(small: Graph) -> None:
    small.instance.delete_dynamic_partition(SESSION, THIRD)
    assert small.asked("recordings") == []
    assert THIRD not in small.instance.get_dynamic_partitions(SESSION)
    _let_time_pass(small)
    assert small.asked("recordings") == [("record", RANGE_OF_ALL)]
    assert small.instance.get_dynamic_partitions(SESSION) == list(SESSIONS)


def test_a_growing_video_is_left_alone_until_it_has_settled(idle: Graph) -> None:
    film(idle.root / video_of(SECOND), 20)
    os.utime(idle.root / video_of(SECOND))
    assert idle.asked("recordings") == [
        ("record", {"dagster/partition": THIRD}),  # the newest first
        ("record", {"dagster/partition": FIRST}),
    ]


def test_a_session_is_not_asked_for_again_while_its_run_is_under_way(idle: Graph) -> None:
    assert idle.asked("recordings") == [("record", RANGE_OF_ALL)]
    start_run(idle, "record", RANGE_OF_ALL)
    assert idle.asked("recordings") == []


def test_a_session_whose_run_is_done_is_not_asked_for_again(idle: Graph) -> None:
    assert idle.asked("recordings") == [("record", RANGE_OF_ALL)]
    record(idle.lab, *SESSIONS)
    assert idle.asked("recordings") == []


def test_a_run_that_vanished_is_asked_for_again_and_its_sessions_pause_if_it_vanishes_again(
    idle: Graph, capfd: pytest.CaptureFixture[str]
) -> None:
    keys = set()
    for _ in range(2):
        (asked,) = idle.tick("recordings").run_requests or []
        keys.add(asked.run_key)
        end_run(idle, start_run(idle, "record", RANGE_OF_ALL))
    assert len(keys) == 2
    assert idle.asked("recordings") == []
    _pause(idle, 60)
    assert idle.asked("recordings") == [("record", RANGE_OF_ALL)]
    assert f"{FIRST}: asked for 3 times" in warnings_of(idle, "recordings", capfd)


def _pause(graph: Graph, seconds: float) -> None:
    """Make what the sensors have asked for so much older."""
    with RecordingIndex.opened(graph.lab) as index:
        index.connection.execute("update asked set at = at - ?", (seconds,))


def test_changed_inputs_are_a_new_beginning(idle: Graph) -> None:
    for _ in range(3):
        idle.tick("recordings")
    assert idle.asked("recordings") == []
    film(idle.root / video_of(SECOND), 20)
    idle.tick("recordings")
    _let_time_pass(idle)
    assert idle.asked("recordings") == [("record", {"dagster/partition": SECOND})]


def test_a_failure_is_not_tried_again_until_its_inputs_change(idle: Graph) -> None:
    video = idle.root / video_of(SECOND)
    video.write_bytes(b"garbage")
    os.utime(video, (1_780_000_000, 1_780_000_000))
    idle.tick("recordings")
    _let_time_pass(idle)
    assert not idle.run("record", SESSIONS).success
    assert idle.asked("recordings") == []
    film(video)
    idle.tick("recordings")
    _let_time_pass(idle)
    assert idle.asked("recordings") == [("record", {"dagster/partition": SECOND})]


def test_a_changed_video_is_probed_again(idle: Graph) -> None:
    record(idle.lab, *SESSIONS)
    film(idle.root / video_of(FIRST), 20)
    idle.tick("recordings")
    _let_time_pass(idle)
    assert idle.asked("recordings") == [("record", {"dagster/partition": FIRST})]


def test_an_old_archive_becomes_sessions_and_is_not_queued(idle: Graph) -> None:
    lab_yaml = idle.root / "lab.yaml"
    lab_yaml.write_text(lab_yaml.read_text().replace("auto: true", "auto: true, since: 2026-05-02"))
    assert idle.asked("recordings") == [("record", {"dagster/partition": SECOND})]
    as_if_trained(idle.lab)
    record(idle.lab, *SESSIONS)
    assert idle.asked("analysis") == [("analyze", {"dagster/partition": f"walker|{SECOND}"})]
    as_if_analysed(idle.lab, *SESSIONS)
    assert idle.asked("export") == [("export_nwb", {"dagster/partition": SECOND})]


def test_a_lab_that_wants_nothing_by_itself_gets_nothing(idle: Graph) -> None:
    lab_yaml = idle.root / "lab.yaml"
    lab_yaml.write_text(lab_yaml.read_text().replace("auto: true", "auto: false"))
    as_if_trained(idle.lab)
    assert idle.asked("recordings") == []
    record(idle.lab, *SESSIONS)
    assert idle.asked("analysis") == []
    as_if_analysed(idle.lab, *SESSIONS)
    assert idle.asked("export") == []


def test_two_files_of_one_recording_are_warned_of_and_the_rest_goes_on(
    idle: Graph, capfd: pytest.CaptureFixture[str]
) -> None:
    lab_yaml = idle.root / "lab.yaml"
    second = ', {root: copies, template: "{subject}/{session}/{camera}.mp4"}]'
    lab_yaml.write_text(lab_yaml.read_text().replace('.mp4"}]', '.mp4"}' + second))
    copy = film(idle.root / "copies/m01/20260501/top.mp4")
    assert str(copy) in warnings_of(idle, "recordings", capfd)
    _let_time_pass(idle)
    assert idle.asked("recordings")


# --- failures, cancelled runs, the queue ----------------------------------------------------------


def fail(graph: Graph, session: str, message: str = "the disk is full", *, lasting: bool = False) -> None:
    """Record a failure to probe *session* as it is now."""
    lab = graph.lab
    inputs = session_inputs(lab, discover(lab).sessions[session])
    record_failure(lab.layout, "session_recordings", session, message, inputs=inputs, run_id="r", lasting=lasting)


def an_hour_ago(graph: Graph, session: str) -> None:
    """Make the failure of *session* an hour older."""
    file = graph.lab.layout.failure("session_recordings", session)
    kept = json.loads(file.read_text())
    when = datetime.fromisoformat(kept["when"]) - timedelta(hours=1)
    file.write_text(json.dumps({**kept, "when": when.isoformat()}))


def test_what_the_machine_failed_is_asked_for_again_after_a_pause_and_its_reason_is_kept(idle: Graph) -> None:
    record(idle.lab, FIRST, THIRD)
    assert idle.asked("recordings") == [("record", {"dagster/partition": SECOND})]
    fail(idle, SECOND)
    assert idle.asked("recordings") == []
    an_hour_ago(idle, SECOND)
    assert idle.asked("recordings") == [("record", {"dagster/partition": SECOND})]
    for attempt in (2, 3):
        fail(idle, SECOND)
        assert idle.asked("recordings") == [], attempt
        an_hour_ago(idle, SECOND)
        assert idle.asked("recordings") == [("record", {"dagster/partition": SECOND})]
    fail(idle, SECOND)
    an_hour_ago(idle, SECOND)
    assert idle.asked("recordings") == [], "three more attempts are enough"
    (product,) = [p for p in lab_state(idle.lab).of("session_recordings") if p.key == SECOND]
    assert product.state == "failed"
    assert product.why.startswith("the disk is full (tried 4 times; not again by itself")


def test_a_session_that_its_process_died_over_is_tried_again_and_the_others_go_on(idle: Graph) -> None:
    idle.tick("recordings")
    run = start_run(idle, "record", RANGE_OF_ALL, **holder_tags())
    with process_of_run(idle, run):
        attempt = idle.lab.layout.attempt("session_recordings", SECOND)
        inputs = session_inputs(idle.lab, discover(idle.lab).sessions[SECOND])
        attempt.parent.mkdir(parents=True)
        kept = {"asset": "session_recordings", "key": SECOND, "inputs": inputs, "run_id": run.run_id}
        attempt.write_text(json.dumps({**kept, "host": socket.gethostname(), "pid": 2**22 + 1}))
        record(idle.lab, FIRST)
        idle.tick("janitor")
        assert attempt.is_file(), "the run lives"
    idle.tick("janitor")
    assert not attempt.exists()
    asked = idle.asked("recordings")
    assert asked == [
        ("record", {"dagster/asset_partition_range_start": SECOND, "dagster/asset_partition_range_end": THIRD})
    ]
    states = {p.key: (p.state, p.why) for p in lab_state(idle.lab).of("session_recordings")}
    assert states[SECOND][0] == "failed"
    assert "died in the middle" in states[SECOND][1]
    assert states[THIRD][0] == "missing"


def test_what_a_person_cancelled_is_left_alone_until_asked_for_by_hand_or_its_inputs_change(idle: Graph) -> None:
    assert idle.asked("recordings") == [("record", RANGE_OF_ALL)]
    run = start_run(idle, "record", RANGE_OF_ALL, **{ASKED_BY_TAG: "sensor"})
    record(idle.lab, FIRST)
    idle.instance.report_run_canceled(run)
    assert idle.asked("recordings") == []
    assert idle.asked("recordings") == []
    states = {p.key: (p.state, p.why) for p in lab_state(idle.lab).of("session_recordings")}
    assert states[FIRST][0] == "up to date"
    assert states[SECOND] == (
        "failed",
        f"Run {run.run_id} of it was cancelled. It is not started again by itself: run `dlc-assets scan`, or materialize it in "
        "the UI.",
    )
    film(idle.root / video_of(SECOND), 20)
    idle.tick("recordings")
    _let_time_pass(idle)
    assert idle.asked("recordings") == [("record", {"dagster/partition": SECOND})]


def test_no_more_runs_wait_than_the_lab_says_and_the_newest_sessions_come_first(idle: Graph) -> None:
    lab_yaml = idle.root / "lab.yaml"
    lab_yaml.write_text(lab_yaml.read_text().replace("auto: true", "auto: true, queued_runs: 1"))
    record(idle.lab, SECOND)
    assert idle.asked("recordings") == [("record", {"dagster/partition": THIRD})]
    queued = idle.instance.create_run_for_job(
        idle.defs.resolve_job_def("record"),
        status=dg.DagsterRunStatus.NOT_STARTED,
        tags={"dagster/partition": THIRD, ASKED_BY_TAG: "sensor"},
    )
    assert idle.asked("recordings") == []
    assert "1 runs wait in the queue already" in str(idle.tick("recordings").skip_message)
    record(idle.lab, THIRD)
    end_run(idle, queued)
    assert idle.asked("recordings") == [("record", {"dagster/partition": FIRST})]


# --- analysis and export --------------------------------------------------------------------------


def test_probed_sessions_are_analysed_by_the_model_that_the_rules_name(idle: Graph) -> None:
    as_if_trained(idle.lab)
    assert idle.asked("analysis") == []
    record(idle.lab, *SESSIONS)
    all_by_walker = {name: f"walker|{session}" for name, session in RANGE_OF_ALL.items()}
    assert idle.asked("analysis") == [("analyze", all_by_walker)]
    start_run(idle, "analyze", all_by_walker)
    assert idle.asked("analysis") == []


def test_a_new_version_of_the_model_asks_for_its_sessions_again(idle: Graph) -> None:
    as_if_trained(idle.lab)
    record(idle.lab, *SESSIONS)
    as_if_analysed(idle.lab, *SESSIONS)
    assert idle.asked("analysis") == []
    as_if_trained(idle.lab, version="ba9876543210")
    assert [job for job, _ in idle.asked("analysis")] == ["analyze"]


def test_a_rule_for_a_model_that_does_not_exist_is_warned_of_and_the_rest_goes_on(
    idle: Graph, capfd: pytest.CaptureFixture[str]
) -> None:
    lab_yaml = idle.root / "lab.yaml"
    lab_yaml.write_text(lab_yaml.read_text().replace("release: [", "release: [{devices: [side], model: wolker}, "))
    film(idle.root / video_of(FIRST, "side"))
    as_if_trained(idle.lab)
    record(idle.lab, *SESSIONS)
    idle.tick("recordings")
    said = warnings_of(idle, "analysis", capfd)
    assert 'release rule 1 names the model "wolker", which does not exist. Did you mean "walker"?' in said
    idle.cursors.clear()
    (asked,) = idle.asked("analysis")
    assert asked[1]["dagster/asset_partition_range_start"] == f"walker|{FIRST}"


def test_a_model_that_is_not_trained_yet_keeps_its_sessions_waiting(idle: Graph) -> None:
    record(idle.lab, *SESSIONS)
    assert idle.asked("analysis") == []
    as_if_trained(idle.lab)
    assert len(idle.asked("analysis")) == 1


def test_sessions_that_are_not_partitions_yet_wait_for_the_sensor_that_makes_them(idle: Graph) -> None:
    as_if_trained(idle.lab)
    record(idle.lab, *SESSIONS)
    idle.instance.delete_dynamic_partition(SESSION, SECOND)
    ((_, tags),) = idle.asked("analysis")
    assert set(tags.values()) == {f"walker|{FIRST}", f"walker|{THIRD}"}
    start_run(idle, "analyze", tags)
    idle.tick("recordings")
    assert idle.asked("analysis") == [("analyze", {"dagster/partition": f"walker|{SECOND}"})]


def test_a_session_is_exported_when_all_its_poses_are_there(idle: Graph) -> None:
    as_if_trained(idle.lab)
    record(idle.lab, *SESSIONS)
    as_if_analysed(idle.lab, FIRST, THIRD)
    assert idle.asked("export") == [
        ("export_nwb", {"dagster/partition": THIRD}),
        ("export_nwb", {"dagster/partition": FIRST}),
    ]


# --- models and labels ----------------------------------------------------------------------------


def test_a_new_specification_becomes_a_model_and_starts_no_training(small: Graph) -> None:
    (small.root / "models" / "second.yaml").write_text("project: walking\n")
    data = small.tick("models_and_labels")
    assert not data.run_requests
    assert set(small.instance.get_dynamic_partitions(MODEL)) == {"walker", "day2-walker", "second"}
    assert {event.partition for event in data.asset_events} == {"walker", "day2-walker", "second"}


def test_relabeling_is_observed_once_and_only_for_the_models_that_use_the_frame(small: Graph) -> None:
    small.tick("models_and_labels")
    assert small.tick("models_and_labels").asset_events == []
    relabel(small.root / "projects" / "walking", "day1")
    observed = small.tick("models_and_labels").asset_events
    assert [event.partition for event in observed] == ["walker"]
    assert small.tick("models_and_labels").asset_events == []


def test_a_broken_specification_and_a_lost_project_are_warned_of_and_the_others_are_observed(
    small: Graph, capfd: pytest.CaptureFixture[str]
) -> None:
    (small.root / "models" / "broken.yaml").write_text("net_type: resnet_50\n")
    (small.root / "models" / "lost.yaml").write_text("project: wolking\n")
    capfd.readouterr()
    data = small.tick("models_and_labels")
    said = capfd.readouterr().err
    assert 'the key "project" is missing' in said
    assert 'no DeepLabCut project "wolking"' in said
    assert {event.partition for event in data.asset_events} == {"walker", "day2-walker"}
    assert "broken" not in small.instance.get_dynamic_partitions(MODEL)


def test_a_body_part_that_config_yaml_lacks_is_warned_of_and_the_other_model_is_observed(
    small: Graph, capfd: pytest.CaptureFixture[str]
) -> None:
    labels = small.root / "projects/walking/labeled-data/day1/CollectedData_Ann.csv"
    labels.write_text(labels.read_text().replace("tailbase", "tailbse"))
    capfd.readouterr()
    data = small.tick("models_and_labels")
    assert "tailbse" in capfd.readouterr().err
    assert [event.partition for event in data.asset_events] == ["day2-walker"]


# --- catalog --------------------------------------------------------------------------------------


def test_the_catalog_is_written_once_the_lab_has_come_to_rest_and_once_for_each_change(idle: Graph) -> None:
    assert idle.asked("catalog") == []
    assert idle.asked("catalog") == [("write_catalog", {})]
    assert idle.asked("catalog") == []
    record(idle.lab, FIRST)
    run = start_run(idle, "record", {"dagster/partition": SECOND})
    assert idle.asked("catalog") == []
    assert idle.asked("catalog") == []
    end_run(idle, run)
    idle.asked("catalog")
    assert idle.asked("catalog") == [("write_catalog", {})]


# --- janitor --------------------------------------------------------------------------------------

_HOLD = """
import sys, time
from pathlib import Path
from dlc_assets.lab.locks import hold
with hold(Path(sys.argv[1]), "run"):
    print("held", flush=True)
    time.sleep(120)
"""


@contextmanager
def process_of_run(graph: Graph, run: dg.DagsterRun) -> Iterator[subprocess.Popen[str]]:
    lock = graph.lab.layout.lock("run", run.run_id)
    process = subprocess.Popen([sys.executable, "-c", _HOLD, str(lock)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def without_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(janitor, "_GRACE_SECONDS", 0.0)


def status_of(graph: Graph, run: dg.DagsterRun) -> dg.DagsterRunStatus:
    found = graph.instance.get_run_by_id(run.run_id)
    assert found is not None
    return found.status


@pytest.mark.usefixtures("without_grace")
def test_a_run_whose_process_is_dead_is_ended_and_one_that_lives_is_left(small: Graph) -> None:
    dead = start_run(small, "record", {"dagster/partition": FIRST}, **holder_tags())
    alive = start_run(small, "record", {"dagster/partition": SECOND}, **holder_tags())
    with process_of_run(small, alive), process_of_run(small, dead) as process:
        process.kill()
        process.wait()
        assert "ended 1 run" in str(small.tick("janitor").skip_message)
        assert status_of(small, dead) is dg.DagsterRunStatus.FAILURE
        assert status_of(small, alive) is dg.DagsterRunStatus.STARTED
        assert small.tick("janitor").skip_message == "no dead run"
    (failure,) = small.instance.get_records_for_run(dead.run_id, of_type=dg.DagsterEventType.RUN_FAILURE).records
    assert "What it had finished is kept" in str(failure.event_log_entry.dagster_event)


@pytest.mark.usefixtures("without_grace")
def test_a_run_of_another_machine_and_one_that_never_said_where_are_left(small: Graph) -> None:
    lock_kept = start_run(small, "record", {"dagster/partition": FIRST}, **{"dlc_assets/host": "another-machine"})
    unknown = start_run(small, "record", {"dagster/partition": SECOND})
    for run in (lock_kept, unknown):
        with hold(small.lab.layout.lock("run", run.run_id), "run"):
            pass
    assert end_dead_runs(small.instance, small.lab.layout, print) == []
    assert status_of(small, lock_kept) is dg.DagsterRunStatus.STARTED
    assert status_of(small, unknown) is dg.DagsterRunStatus.STARTED
    assert socket.gethostname() != "another-machine"


@pytest.mark.usefixtures("without_grace")
def test_the_pool_slot_of_a_dead_run_is_free_for_the_next(small: Graph) -> None:
    with dg.instance_for_test() as instance:  # on disk: slots in memory are never given back
        graph = Graph(small.root, instance, small.defs)
        storage = instance.event_log_storage
        storage.set_concurrency_slots("gpu", 1)
        dead = start_run(graph, "analyze", {"dagster/partition": f"walker|{FIRST}"}, **holder_tags())
        assert storage.claim_concurrency_slot("gpu", dead.run_id, "pose_table").is_claimed
        assert not storage.claim_concurrency_slot("gpu", make_new_run_id(), "pose_table").is_claimed
        with process_of_run(graph, dead):
            assert end_dead_runs(instance, small.lab.layout, print) == []
            assert storage.get_concurrency_info("gpu").claimed_slots
        assert end_dead_runs(instance, small.lab.layout, print) == [dead.run_id]
        assert not storage.get_concurrency_info("gpu").claimed_slots


def test_a_session_of_a_dead_run_is_asked_for_again(idle: Graph, without_grace: None) -> None:
    assert idle.asked("recordings") == [("record", RANGE_OF_ALL)]
    run = start_run(idle, "record", RANGE_OF_ALL, **holder_tags())
    with process_of_run(idle, run):
        assert idle.asked("recordings") == []
    idle.tick("janitor")
    assert idle.asked("recordings") == [("record", RANGE_OF_ALL)]


def test_what_the_sensors_remember_stays_small(idle: Graph) -> None:
    idle.tick("recordings")
    assert FIRST not in idle.cursors["recordings"]
    record(idle.lab, *SESSIONS)
    idle.tick("recordings")
    with RecordingIndex.opened(idle.lab) as index:
        assert index.connection.execute("select count(*) from asked").fetchone() == (0,)
