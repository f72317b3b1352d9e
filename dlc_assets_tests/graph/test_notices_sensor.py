"""The sensor that tells people: what Dagster knows of runs becomes words, on real runs, and each is said once."""

from __future__ import annotations

import time
from collections.abc import Iterator

import dagster as dg
import pytest

from dlc_assets.notices import rounds
from dlc_assets.partitions import SESSION
from dlc_assets.recordings.index import RecordingIndex
from dlc_assets.sensors.notices import could_be_made, run_facts
from dlc_assets_tests.graph.conftest import Graph
from dlc_assets_tests.graph.small_lab import FIRST, SECOND, SESSIONS, as_if_trained, record, video_of
from dlc_assets_tests.graph.test_sensors import start_run
from dlc_assets_tests.unit.mail_and_webhook import WebhookServer, webhook_server


@pytest.fixture
def hook(small: Graph, monkeypatch: pytest.MonkeyPatch) -> Iterator[WebhookServer]:
    """The small lab tells a webhook, at once."""
    with (small.root / "lab.yaml").open("a") as settings:
        settings.write("notify: {webhook: {format: json}}\n")
    monkeypatch.setattr(rounds, "GATHER_SECONDS", 0.0)
    with webhook_server() as server:
        monkeypatch.setenv("DLC_ASSETS_WEBHOOK_URL", server.url)
        yield server


def test_a_video_that_cannot_be_read_is_told_once_with_the_reason(small: Graph, hook: WebhookServer) -> None:
    assert small.tick("notices").skip_message == "0 messages sent, 0 to be sent"
    (small.root / video_of(SECOND)).write_bytes(b"garbage")
    assert not small.run("record", SESSIONS).success
    assert small.tick("notices").skip_message == "1 message sent, 0 to be sent"
    assert small.tick("notices").skip_message == "0 messages sent, 0 to be sent"
    ((_, message),) = hook.posts
    assert message["subject"] == "[Test lab] 1 new failure"  # of the session; its run is no news of its own
    assert SECOND in message["text"]
    assert "does not open as a video" in message["text"]


def test_a_run_whose_process_died_is_told_with_what_dagster_knows(small: Graph, hook: WebhookServer) -> None:
    small.tick("notices")
    run = start_run(small, "record", {"dagster/partition": FIRST})
    small.instance.report_run_failed(run, "its process is dead")
    small.tick("notices")
    small.tick("notices")
    ((_, message),) = hook.posts
    assert "its process is dead" in message["text"]
    assert f"{run.run_id[:8]} (record)" in message["text"]


def test_a_run_that_dagster_tries_again_by_itself_is_not_told(small: Graph, hook: WebhookServer) -> None:
    small.tick("notices")
    run = start_run(small, "record", {"dagster/partition": FIRST}, **{"dagster/will_retry": "true"})
    small.instance.report_run_failed(run, "its process is dead")
    small.tick("notices")
    assert hook.posts == []


def test_runs_are_known_with_when_they_last_said_anything(small: Graph) -> None:
    began = time.time()
    run = start_run(small, "record", {"dagster/partition": FIRST})
    small.instance.report_engine_event("at work", run)
    queued = small.instance.create_run_for_job(
        small.defs.resolve_job_def("record"), status=dg.DagsterRunStatus.NOT_STARTED, tags={"dagster/partition": SECOND}
    )
    facts = run_facts(small.instance, since=began)
    known = {each.run_id: each for each in facts.unfinished}
    assert set(known) == {run.run_id, queued.run_id}
    assert known[run.run_id].under_way
    assert not known[queued.run_id].under_way
    assert began - 1 <= known[run.run_id].last_word <= time.time() + 1
    assert facts.failed == []


def test_a_run_that_hangs_is_said(small: Graph, hook: WebhookServer, monkeypatch: pytest.MonkeyPatch) -> None:
    run = start_run(small, "record", {"dagster/partition": FIRST})
    assert str(small.tick("notices").skip_message).startswith("0 messages")
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + 4000)
    assert small.tick("notices").skip_message == "1 without progress; 1 message sent, 0 to be sent"
    ((_, message),) = hook.posts
    assert f"Run {run.run_id[:8]} (record) is under way and has logged nothing for 1 h" in message["text"]


def test_what_could_be_made_is_what_the_sensors_would_ask_for(small: Graph) -> None:
    with RecordingIndex.opened(small.lab) as index:
        index.look(now=time.time() - 60)
        index.look()
    assert could_be_made(small.lab, 10.0) == (3, "session_recordings sub-m02_ses-20260501")
    as_if_trained(small.lab)
    record(small.lab, *SESSIONS)
    count, example = could_be_made(small.lab, 10.0)
    assert count == 3
    assert example.startswith("pose_table walker|")
    lab_yaml = small.root / "lab.yaml"
    lab_yaml.write_text(lab_yaml.read_text().replace("auto: true", "auto: false"))
    assert could_be_made(small.lab, 10.0) == (0, "")


def test_a_broken_lab_yaml_is_told_by_the_tick_and_the_sensor_goes_on(
    small: Graph, hook: WebhookServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    small.tick("notices")
    (small.root / "lab.yaml").write_text("name: Test lab\nnmae: x\n")
    assert small.tick("notices").skip_message == "1 without progress; 1 message sent, 0 to be sent"
    ((_, message),) = hook.posts
    assert 'unknown key "nmae"' in message["text"]


def test_a_tick_asks_for_no_run_and_changes_no_partition(small: Graph) -> None:
    before = small.instance.get_dynamic_partitions(SESSION)
    data = small.tick("notices")
    assert not data.run_requests
    assert small.instance.get_dynamic_partitions(SESSION) == before
