"""A lab on a real PostgreSQL whose runs send their steps elsewhere, and runs of `sent_job` on it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import dagster as dg
import pytest
from dagster._core.utils import make_new_run_id

from benchmarks.postgres import Postgres
from dlc_assets.lab.lab import LAB_VARIABLE
from dlc_assets_tests.graph.sent_job import PLACE

T = TypeVar("T")
_ROOT = Path(__file__).resolve().parent.parent.parent
_RUN = """
import json, os, sys
import dagster as dg
from dagster._core.execution.api import execute_run
from dlc_assets_tests.graph.sent_job import two
with dg.DagsterInstance.get() as instance:
    job = dg.reconstructable(two)
    run = instance.create_run_for_job(
        job.get_definition(), run_id=sys.argv[1], job_code_origin=job.get_python_origin(),
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
    )
    execute_run(job, run, instance, raise_on_error=False)
"""


class SendingLab:
    """The lab, and what happens in it."""

    def __init__(self, root: Path, environment: dict[str, str]) -> None:
        self.root = root
        self.environment = {**os.environ, **environment, "PYTHONPATH": str(_ROOT)}
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, *words: str, log: str) -> subprocess.Popen[bytes]:
        """Start a Python process on the lab, in a process group of its own."""
        with (self.root / log).open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, *words],
                env=self.environment,
                cwd=_ROOT,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        self._started.append(process)
        return process

    def begin(self) -> tuple[str, subprocess.Popen[bytes]]:
        """Begin a run of the job; return its id and its process."""
        run_id = make_new_run_id()
        return run_id, self.start("-c", _RUN, run_id, log="run.log")

    def worker(self, queue: str) -> subprocess.Popen[bytes]:
        """Start a worker."""
        return self.start(
            "-m",
            "dlc_assets.cli",
            "worker",
            queue,
            "--at-once",
            "1",
            "--lab",
            str(self.root),
            log=f"worker-{queue}.log",
        )

    def starts(self) -> list[int]:
        """Return the process of each start of the first step."""
        place = self.root / "starts"
        return [int(line) for line in place.read_text().split()] if place.exists() else []

    def stop(self) -> None:
        """End what was started."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
                process.wait()


@contextmanager
def sending_lab(
    root: Path, settings: str, database: Postgres, monkeypatch: pytest.MonkeyPatch, environment: dict[str, str]
) -> Iterator[tuple[SendingLab, dg.DagsterInstance]]:
    """Give a lab with *settings* and its instance, opened here."""
    root.mkdir()
    (root / "lab.yaml").write_text(f"name: Sending\ntimezone: UTC\n{settings}")
    home = root / "instance"
    home.mkdir()
    shutil.copyfile(Path(database.environment["DAGSTER_HOME"]) / "dagster.yaml", home / "dagster.yaml")
    own = {"DAGSTER_HOME": str(home), LAB_VARIABLE: str(root), PLACE: str(root)}
    stated = {**database.environment, **own, **environment}
    for name, value in stated.items():
        monkeypatch.setenv(name, value)
    lab = SendingLab(root, stated)
    with dg.DagsterInstance.get() as instance:
        try:
            yield lab, instance
        finally:
            lab.stop()


def wait_until(what: str, look: Callable[[], T | None], seconds: float, lab: SendingLab) -> T:
    """Return the first true value of *look*, or fail with what the processes said."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            logs = "\n".join(f"{log}:\n{log.read_text()[-3000:]}" for log in sorted(lab.root.rglob("*.log")))
            pytest.fail(f"not within {seconds} s: {what}\n{logs}")
        time.sleep(0.1)


def ended(instance: dg.DagsterInstance, run_id: str) -> dg.DagsterRun | None:
    """Return the run once it is over."""
    run = instance.get_run_by_id(run_id)
    return run if run is not None and run.is_finished else None


def messages(instance: dg.DagsterInstance, run_id: str) -> str:
    """Return all that the events of a run say, errors of steps too."""
    said = []
    for entry in instance.all_logs(run_id):
        event = entry.dagster_event
        error = event.event_specific_data.error if event is not None and event.is_step_failure else None  # type: ignore[union-attr]
        said.append(f"{entry.user_message} {entry.message} {'' if error is None else error.message}")
    return "\n".join(said)
