"""What an executor costs a step, and what a second worker brings: many empty steps in one run, in turn through each executor.

Ours is the executor of the graph with `executor: local`, which holds the run's lock; the peer is Dagster's own multiprocess executor
in the same run of the benchmark. Executors that need a service are left out, with the reason, where it is not there. An empty step in a
process of its own is all start and imports, so that two workers show what this machine's cores give to such starts.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

import dagster as dg

from benchmarks.report import command_line, finish, machine, result, target
from dlc_assets.executors import lab_executor
from dlc_assets.lab.files import write_text
from dlc_assets.lab.lab import LAB_VARIABLE, open_lab_folder
from dlc_assets.resources.instance import open_instance

STEPS_VARIABLE = "DLC_ASSETS_BENCHMARK_STEPS"
LIMIT_TO_PEER = 1.25  # our seconds a step of the peer's: the lock is one file; the rest is the noise of two busy cores
LIMIT_SECOND_WORKER = 1.0  # steps an hour with two workers of those with one
_SERVICES = ("celery", "slurm", "kubernetes")


def _graph() -> dg.GraphDefinition:
    @dg.op
    def nothing() -> None: ...

    @dg.graph
    def many() -> None:
        for number in range(int(os.environ[STEPS_VARIABLE])):
            nothing.alias(f"step_{number}")()

    return many


# Found by name in the process of each step, which defines the job anew.
def in_process() -> dg.JobDefinition:
    """Return the job whose steps are executed in the process of its run."""
    return _graph().to_job("in_process", executor_def=dg.in_process_executor)


def local() -> dg.JobDefinition:
    """Return the job with our executor."""
    return _graph().to_job("local", executor_def=lab_executor)


def multiprocess() -> dg.JobDefinition:
    """Return the job with Dagster's own executor."""
    return _graph().to_job("multiprocess", executor_def=dg.multiprocess_executor)


def _seconds(job: Any, instance: dg.DagsterInstance, workers: int | None, steps: int) -> float:
    """Return the seconds that a run of *job* takes a step."""
    config = {} if workers is None else {"execution": {"config": {"max_concurrent": workers}}}
    begun = time.perf_counter()
    with dg.execute_job(dg.reconstructable(job), instance, run_config=config) as done:
        taken = time.perf_counter() - begun
        if not done.success:
            raise RuntimeError(f"the run {done.run_id} of {job.__name__} failed")
    return taken / steps


def _not_available() -> dict[str, str]:
    """Return why each executor that needs a service is not measured."""
    reasons = {}
    for kind in _SERVICES:
        try:
            import_module(f"dlc_assets.executor_kinds.{kind}")
        except ImportError as error:
            reasons[kind] = f"not available: {error}"
        else:
            reasons[kind] = "not measured here: its runs are launched by a service"
    return reasons


def run(*, steps: int, rounds: int) -> dict[str, Any]:
    """Measure all executors in turn, *rounds* times, and compare with the limits."""
    on = machine()
    ways: dict[str, tuple[Any, int | None]] = {
        "in_process": (in_process, None),
        "local_1": (local, 1),
        "multiprocess_1": (multiprocess, 1),
        "local_2": (local, 2),
        "multiprocess_2": (multiprocess, 2),
    }
    measured: dict[str, list[float]] = {name: [] for name in ways}
    with tempfile.TemporaryDirectory() as folder, patch.dict(os.environ):
        root = Path(folder) / "lab"
        write_text(root / "lab.yaml", "name: Benchmark\ntimezone: UTC\n")
        os.environ.pop("DAGSTER_HOME", None)
        os.environ[LAB_VARIABLE], os.environ[STEPS_VARIABLE] = str(root), str(steps)
        with open_instance(open_lab_folder(root)) as instance:
            for number in range(rounds):
                for name, (job, workers) in ways.items():
                    print(f"round {number + 1} of {rounds}: {name}", file=sys.stderr, flush=True)
                    measured[name].append(_seconds(job, instance, workers, steps))
    medians = {name: statistics.median(each) for name, each in measured.items()}
    # In pairs, as a shared machine is as fast at one time as it is slow at another.
    to_peer = statistics.median(a / b for a, b in zip(measured["local_1"], measured["multiprocess_1"], strict=True))
    second = statistics.median(a / b for a, b in zip(measured["local_1"], measured["local_2"], strict=True))
    facts = {
        "steps": steps,
        "rounds": rounds,
        "ours": {
            "seconds_a_step": {"in_process": medians["in_process"], "local": medians["local_1"]},
            "steps_an_hour": {"1": 3600 / medians["local_1"], "2": 3600 / medians["local_2"]},
            "not_measured": _not_available(),
        },
        "peer": {
            "seconds_a_step": medians["multiprocess_1"],
            "steps_an_hour": {"1": 3600 / medians["multiprocess_1"], "2": 3600 / medians["multiprocess_2"]},
        },
    }
    targets = {
        "seconds_a_step_to_peer": target(to_peer, LIMIT_TO_PEER),
        "second_worker": target(second, LIMIT_SECOND_WORKER, "at least"),
    }
    return result("scaling", facts, targets, on=on)


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark, print it, and return 0 if the targets are met, else 1."""
    parser: argparse.ArgumentParser = command_line("scaling", __doc__)
    parser.add_argument("--steps", type=int, default=8, help="of each run")
    parser.add_argument("--rounds", type=int, default=3, help="runs through each executor to take the median of")
    asked = parser.parse_args(arguments)
    measured = run(steps=asked.steps, rounds=asked.rounds)
    return finish(measured, _lines(measured), as_json=asked.json)


def _lines(measured: dict[str, Any]) -> list[str]:
    ours, peer = measured["ours"], measured["peer"]
    return [
        f"runs of {measured['steps']} empty steps, medians of {measured['rounds']}",
        f"  in the run's process: {ours['seconds_a_step']['in_process']:.3f} s a step",
        f"  local: {ours['seconds_a_step']['local']:.2f} s a step; {ours['steps_an_hour']['1']:.0f} steps an hour with one worker, "
        f"{ours['steps_an_hour']['2']:.0f} with two",
        f"  Dagster's multiprocess executor: {peer['seconds_a_step']:.2f} s a step; {peer['steps_an_hour']['1']:.0f} and "
        f"{peer['steps_an_hour']['2']:.0f}",
        *(f"  {kind}: {why}" for kind, why in ours["not_measured"].items()),
    ]


if __name__ == "__main__":
    # By its own name: the processes of steps import this module to find the jobs.
    sys.exit(import_module("benchmarks.scaling").main())
