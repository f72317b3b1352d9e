"""The benchmark of executors measures each of them, on any machine, and prints one object."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest


@pytest.mark.slow
def test_every_executor_is_measured_or_left_out_with_a_reason() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.scaling", "--steps", "2", "--rounds", "1", "--json"],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    measured = json.loads(done.stdout)
    assert done.returncode == (0 if measured["ok"] else 1)
    ours, peer = measured["ours"], measured["peer"]
    assert 0 < ours["seconds_a_step"]["in_process"] < ours["seconds_a_step"]["local"]  # a process costs its start
    assert peer["seconds_a_step"] > 0
    sent = set(ours["steps_an_hour"]) - {"local"}
    assert sent | set(ours["not_measured"]) == {"celery", "slurm", "kubernetes"}
    assert all(ours["not_measured"].values())
    more = {f"{kind}_seconds_more_a_step" for kind in sent}
    assert set(measured["targets"]) == {"seconds_a_step_to_peer", "second_worker"} | more
