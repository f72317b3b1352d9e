"""What an executor costs a step, and what a second worker brings: many empty steps in one run, in turn through each executor.

Ours is the executor of the graph, which holds the run's lock, with `executor: local`, `celery` and `slurm`; the peer is Dagster's own
multiprocess executor in the same run of the benchmark, on the same PostgreSQL. Celery has a real RabbitMQ and a worker of this machine,
Slurm a real cluster of this machine alone; where one of them cannot be had it is left out, with the reason. An empty step in a process of
its own is all start and imports, so that two workers show what this machine's cores give to such starts.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

import dagster as dg

from benchmarks.postgres import own_postgres
from benchmarks.rabbitmq import URL, rabbitmq
from benchmarks.report import command_line, finish, machine, result, target
from benchmarks.services import ServiceMissing
from benchmarks.slurm import own_slurm
from dlc_assets.executors import lab_executor
from dlc_assets.lab.files import write_text
from dlc_assets.lab.lab import LAB_VARIABLE, open_lab_folder
from dlc_assets.resources.instance import open_instance

STEPS_VARIABLE = "DLC_ASSETS_BENCHMARK_STEPS"
LIMIT_TO_PEER = 1.25  # our seconds a step of the peer's: the lock is one file; the rest is the noise of two busy cores
LIMIT_SECOND_WORKER = 1.0  # steps an hour with two workers of those with one
LIMIT_SENT = 5.0  # seconds that a step takes longer than with `local` where it is sent through a service
_SETTINGS = "name: Benchmark\ntimezone: UTC\nexecutor: {kind: local, slurm: {gpu: {gres: null}}}\n"
_ROOT = Path(__file__).resolve().parent.parent


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


def _seconds(job: Any, instance: dg.DagsterInstance, config: dict[str, Any], steps: int) -> float:
    """Return the seconds that a run of *job* takes a step."""
    asked = {"execution": {"config": config}} if config else {}
    begun = time.perf_counter()
    with dg.execute_job(dg.reconstructable(job), instance, run_config=asked) as done:
        taken = time.perf_counter() - begun
        if not done.success:
            raise RuntimeError(f"the run {done.run_id} of {job.__name__} failed")
    return taken / steps


@contextmanager
def _worker(root: Path) -> Iterator[None]:
    """A worker of this machine, of two steps at once."""
    words = [sys.executable, "-m", "dlc_assets.cli", "worker", "cpu", "--at-once", "2", "--lab", str(root)]
    with (root / "worker.log").open("wb") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log, cwd=_ROOT)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def run(*, steps: int, rounds: int) -> dict[str, Any]:
    """Measure all executors in turn, *rounds* times, and compare with the limits."""
    on = machine()
    ways: dict[str, tuple[Any, dict[str, Any]]] = {"in_process": (in_process, {})}
    for workers in (1, 2):
        ways[f"local_{workers}"] = local, {"max_concurrent": workers}
        ways[f"multiprocess_{workers}"] = multiprocess, {"max_concurrent": workers}
    missing = {"kubernetes": "it needs a cluster"}
    with ExitStack() as stack:
        stack.enter_context(patch.dict(os.environ))
        database = stack.enter_context(own_postgres())
        root = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "lab"
        write_text(root / "lab.yaml", _SETTINGS)
        os.environ.update(database.environment)
        os.environ[LAB_VARIABLE], os.environ[STEPS_VARIABLE] = str(root), str(steps)
        os.environ["PYTHONPATH"] = str(_ROOT)  # a job of Slurm's begins in the lab
        sent = []
        try:
            os.environ[URL] = stack.enter_context(rabbitmq())
            sent.append("celery")
        except ServiceMissing as why:
            missing["celery"] = str(why)
        try:
            os.environ.update(stack.enter_context(own_slurm()))
            sent.append("slurm")
        except ServiceMissing as why:
            missing["slurm"] = str(why)
        for kind in sent:
            for workers in (1, 2):
                ways[f"{kind}_{workers}"] = local, {"kind": kind, "max_concurrent": workers}
        measured: dict[str, list[float]] = {name: [] for name in ways}
        instance = stack.enter_context(open_instance(open_lab_folder(root)))
        if "celery" in sent:
            stack.enter_context(_worker(root))
        for number in range(rounds):
            for name, (job, config) in ways.items():
                print(f"round {number + 1} of {rounds}: {name}", file=sys.stderr, flush=True)
                measured[name].append(_seconds(job, instance, config, steps))
    return _compared(measured, sent, missing, on, steps=steps, rounds=rounds)


def _compared(
    measured: dict[str, list[float]],
    sent: list[str],
    missing: dict[str, str],
    on: dict[str, Any],
    *,
    steps: int,
    rounds: int,
) -> dict[str, Any]:
    medians = {name: statistics.median(each) for name, each in measured.items()}

    def in_pairs(one: str, other: str) -> float:
        # A shared machine is as fast at one time as it is slow at another.
        return statistics.median(a / b for a, b in zip(measured[one], measured[other], strict=True))

    def an_hour(name: str) -> dict[str, float]:
        return {str(workers): 3600 / medians[f"{name}_{workers}"] for workers in (1, 2)}

    ours = ["local", *sent]
    facts = {
        "steps": steps,
        "rounds": rounds,
        "ours": {
            "seconds_a_step": {"in_process": medians["in_process"], **{name: medians[f"{name}_1"] for name in ours}},
            "steps_an_hour": {name: an_hour(name) for name in ours},
            "not_measured": missing,
        },
        "peer": {"seconds_a_step": medians["multiprocess_1"], "steps_an_hour": an_hour("multiprocess")},
    }
    targets = {
        "seconds_a_step_to_peer": target(in_pairs("local_1", "multiprocess_1"), LIMIT_TO_PEER),
        "second_worker": target(in_pairs("local_1", "local_2"), LIMIT_SECOND_WORKER, "at least"),
        **{
            f"{name}_seconds_more_a_step": target(medians[f"{name}_1"] - medians["local_1"], LIMIT_SENT)
            for name in sent
        },
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

    def line(name: str, seconds: float, an_hour: dict[str, float]) -> str:
        return f"  {name}: {seconds:.2f} s a step; {an_hour['1']:.0f} steps an hour with one worker, {an_hour['2']:.0f} with two"

    return [
        f"runs of {measured['steps']} empty steps, medians of {measured['rounds']}",
        f"  in the run's process: {ours['seconds_a_step']['in_process']:.3f} s a step",
        *(line(name, ours["seconds_a_step"][name], an_hour) for name, an_hour in ours["steps_an_hour"].items()),
        line("Dagster's multiprocess executor", peer["seconds_a_step"], peer["steps_an_hour"]),
        *(f"  {kind}: {why}" for kind, why in ours["not_measured"].items()),
    ]


if __name__ == "__main__":
    # By its own name: the processes of steps import this module to find the jobs.
    sys.exit(import_module("benchmarks.scaling").main())
