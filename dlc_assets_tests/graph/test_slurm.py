"""Steps as jobs of a real Slurm of one node: killed, over their time limit, cancelled, started again by Slurm, and refused."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from benchmarks.postgres import Postgres, own_postgres
from benchmarks.slurm import own_slurm
from dlc_assets_tests.graph.sending import SendingLab, ended, messages, sending_lab, wait_until
from dlc_assets_tests.services import or_skip

pytestmark = pytest.mark.slow

Sending = tuple[SendingLab, dg.DagsterInstance]
# The node has no GPU; half a core is asked for nothing, so that both steps fit.
_SETTINGS = "executor: {kind: slurm, slurm: {gpu: {gres: null, cpus: 1%s}}}\n"


@pytest.fixture(scope="module")
def database() -> Iterator[Postgres]:
    with own_postgres() as server:
        yield server


@pytest.fixture(scope="module")
def cluster() -> Iterator[dict[str, str]]:
    with or_skip(own_slurm()) as environment:
        yield environment


@pytest.fixture
def lab(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    database: Postgres,
    cluster: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Sending]:
    """A lab whose steps are jobs; a test's parameter says more of those on a GPU."""
    settings = _SETTINGS % getattr(request, "param", "")
    with sending_lab(tmp_path / "lab", settings, database, monkeypatch, cluster) as given:
        yield given
        slurm(given[0], "scancel", "--user=root")


def slurm(sending: SendingLab, *words: str) -> str:
    """Return what a command of Slurm's says."""
    done = subprocess.run(words, env=sending.environment, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout


def job_at_work(sending: SendingLab, starts: int = 1) -> str:
    """Return the id of the job whose step is at work."""
    wait_until("the step is at work", lambda: len(sending.starts()) == starts or None, 60, sending)
    found = re.findall(r"JobId=(\d+) .*JobState=RUNNING", slurm(sending, "scontrol", "show", "job", "--oneliner"))
    assert len(found) == 1
    return str(found[0])


def test_a_job_whose_step_dies_is_sent_once_more(lab: Sending) -> None:
    sending, instance = lab
    (sending.root / "hold").touch()
    run_id, _ = sending.begin()
    job_at_work(sending)
    os.kill(sending.starts()[0], signal.SIGKILL)
    wait_until("another job is at it", lambda: len(sending.starts()) == 2 or None, 60, sending)
    (sending.root / "hold").unlink()
    run = wait_until("the run is over", lambda: ended(instance, run_id), 60, sending)
    said = messages(instance, run_id)
    assert run.status is dg.DagsterRunStatus.SUCCESS, said
    assert "was killed by signal 9" in said
    assert "It is sent once more" in said
    assert (sending.root / "second").read_text() == "1"


def test_a_job_that_slurm_starts_again_goes_on(lab: Sending) -> None:
    sending, instance = lab
    (sending.root / "hold").touch()
    run_id, _ = sending.begin()
    job = job_at_work(sending)
    slurm(sending, "scontrol", "requeue", job)
    wait_until("its first process is gone", lambda: not _is_there(sending.starts()[0]) or None, 60, sending)
    # Slurm holds a job back for two minutes before it starts it again; an administrator need not wait.
    wait_until(
        "it waits again", lambda: "PENDING" in slurm(sending, "scontrol", "show", "job", job) or None, 60, sending
    )
    slurm(sending, "scontrol", "update", f"JobId={job}", "StartTime=now")
    wait_until("it is at work again", lambda: len(sending.starts()) == 2 or None, 90, sending)
    assert job_at_work(sending, 2) == job
    (sending.root / "hold").unlink()
    run = wait_until("the run is over", lambda: ended(instance, run_id), 60, sending)
    assert run.status is dg.DagsterRunStatus.SUCCESS, messages(instance, run_id)


def test_a_run_that_is_cancelled_cancels_its_job(lab: Sending) -> None:
    sending, instance = lab
    (sending.root / "hold").touch()
    run_id, process = sending.begin()
    job = job_at_work(sending)
    run = instance.get_run_by_id(run_id)
    assert run is not None
    instance.report_run_canceling(run)
    process.send_signal(signal.SIGINT)
    assert wait_until("the run is over", lambda: ended(instance, run_id), 60, sending)
    over = re.compile("JobState=(CANCELLED|FAILED|COMPLETED)")
    wait_until("the job is over", lambda: over.search(slurm(sending, "scontrol", "show", "job", job)), 60, sending)
    wait_until("its process is gone", lambda: not _is_there(sending.starts()[0]) or None, 30, sending)


def test_a_job_that_a_person_cancels_fails_its_step(lab: Sending) -> None:
    sending, instance = lab
    (sending.root / "hold").touch()
    run_id, _ = sending.begin()
    slurm(sending, "scancel", job_at_work(sending))
    run = wait_until("the run is over", lambda: ended(instance, run_id), 60, sending)
    assert run.status is dg.DagsterRunStatus.FAILURE
    assert "it was cancelled in Slurm" in messages(instance, run_id)
    assert len(sending.starts()) == 1


@pytest.mark.parametrize("lab", [", time: '1'"], indirect=True)
def test_a_time_limit_is_said(lab: Sending) -> None:
    sending, instance = lab
    (sending.root / "hold").touch()
    run_id, _ = sending.begin()
    job = job_at_work(sending)
    assert "TimeLimit=00:01:00" in slurm(sending, "scontrol", "show", "job", job)
    slurm(sending, "scontrol", "update", f"JobId={job}", "EndTime=now")  # a minute is the least that Slurm knows
    run = wait_until("the run is over", lambda: ended(instance, run_id), 120, sending)
    said = messages(instance, run_id)
    assert run.status is dg.DagsterRunStatus.FAILURE
    assert len(sending.starts()) == 1, said
    assert "reached its time limit" in said, said


@pytest.mark.parametrize("lab", [", partition: nowhere"], indirect=True)
def test_a_partition_that_is_not_there_fails_the_step_at_once(lab: Sending) -> None:
    sending, instance = lab
    run_id, _ = sending.begin()
    run = wait_until("the run is over", lambda: ended(instance, run_id), 60, sending)
    assert run.status is dg.DagsterRunStatus.FAILURE
    said = messages(instance, run_id)
    assert "Slurm refuses the job of this step" in said
    assert "invalid partition" in said.lower()
    assert "executor.slurm.gpu" in said


def _is_there(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()
