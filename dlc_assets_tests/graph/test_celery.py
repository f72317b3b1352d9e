"""Steps through a real RabbitMQ and real workers: done again where a worker dies, never twice, and never lost without a reason."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from benchmarks.postgres import Postgres, own_postgres
from benchmarks.rabbitmq import URL, rabbitmq
from dlc_assets.executor_kinds.celery_app import celery_app, queue_name
from dlc_assets.executors import GPU_POOL
from dlc_assets.lab.errors import EnvironmentProblem
from dlc_assets.lab.lab import open_lab_folder
from dlc_assets.resources.instance import set_gpu_pool
from dlc_assets.resources.lab_id import lab_id
from dlc_assets_tests.graph.sending import SendingLab, ended, messages, sending_lab, wait_until
from dlc_assets_tests.services import or_skip

pytest.importorskip("celery")
pytestmark = pytest.mark.slow

Sending = tuple[SendingLab, dg.DagsterInstance]


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    with own_postgres() as server:
        yield server


@pytest.fixture(scope="module")
def broker() -> Iterator[str]:
    with or_skip(rabbitmq()) as url:
        yield url


@pytest.fixture
def lab(tmp_path: Path, database: Postgres, broker: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sending]:
    """A lab whose steps go to queues that nobody else has, with a worker for each."""
    with sending_lab(tmp_path / "lab", "executor: celery\n", database, monkeypatch, {URL: broker}) as (
        sending,
        instance,
    ):
        yield sending, instance
        name = lab_id(instance, open_lab_folder().layout)
        with celery_app(name).connection_for_write() as connection:
            for kind in ("gpu", "cpu"):
                connection.default_channel.queue_delete(queue_name(name, kind))


def test_a_step_whose_worker_is_killed_is_done_by_another(lab: Sending) -> None:
    sending, instance = lab
    (sending.root / "hold").touch()
    killed = sending.worker("gpu")
    sending.worker("cpu")
    run_id, process = sending.begin()
    (pid,) = wait_until("the first step is at work", lambda: sending.starts() or None, 60, sending)
    os.killpg(killed.pid, signal.SIGKILL)
    sending.worker("gpu")
    wait_until("another worker is at it", lambda: len(sending.starts()) == 2 or None, 90, sending)
    (sending.root / "hold").unlink()
    run = wait_until("the run is over", lambda: ended(instance, run_id), 60, sending)

    said = messages(instance, run_id)
    assert run.status is dg.DagsterRunStatus.SUCCESS, said
    assert "is no more: its worker was killed" in said
    assert pid not in sending.starts()[1:]
    assert (
        len(sending.starts()) == 2
    )  # the message that RabbitMQ delivers again is the first attempt's, which has begun
    assert (sending.root / "second").read_text() == "1"
    process.wait(20)
    assert not list(open_lab_folder().layout.sent_steps("").glob("*"))


def test_a_step_that_kills_its_process_fails_with_the_reason(lab: Sending) -> None:
    sending, instance = lab
    (sending.root / "poison").touch()
    sending.worker("gpu")
    run_id, _ = sending.begin()
    run = wait_until("the run is over", lambda: ended(instance, run_id), 90, sending)

    said = messages(instance, run_id)
    assert run.status is dg.DagsterRunStatus.FAILURE
    assert "was killed by signal 9 (memory ran out?)" in said
    assert "It was sent 2 times." in said
    assert len(sending.starts()) == 2
    assert not (sending.root / "second").exists()


def test_a_run_that_is_cancelled_ends_its_step(lab: Sending) -> None:
    sending, instance = lab
    (sending.root / "hold").touch()
    worker = sending.worker("gpu")
    run_id, process = sending.begin()
    (pid,) = wait_until("the step is at work", lambda: sending.starts() or None, 60, sending)
    run = instance.get_run_by_id(run_id)
    assert run is not None
    instance.report_run_canceling(run)
    process.send_signal(signal.SIGINT)
    assert wait_until("the run is over", lambda: ended(instance, run_id), 60, sending)
    wait_until("the step has ended", lambda: not Path(f"/proc/{pid}").exists() or None, 40, sending)
    assert worker.poll() is None
    assert len(sending.starts()) == 1


def test_a_broker_that_does_not_answer_is_named_without_its_password(
    lab: Sending, monkeypatch: pytest.MonkeyPatch
) -> None:
    sending, instance = lab
    set_gpu_pool(instance, open_lab_folder())
    assert instance.event_log_storage.get_concurrency_info(GPU_POOL).limit == 1
    wrong = {**sending.environment, URL: "amqp://rat:secret@127.0.0.1:9//"}
    words = [sys.executable, "-m", "dlc_assets.cli", "worker", "gpu", "--lab", str(sending.root)]
    done = subprocess.run(words, env=wrong, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode != 0
    assert "Is RabbitMQ running there" in done.stderr
    assert "secret" not in done.stdout + done.stderr
    with monkeypatch.context() as unset:
        unset.delenv(URL)
        with pytest.raises(EnvironmentProblem, match="DLC_ASSETS_BROKER_URL"):
            celery_app("0")
