"""A job of steps that tell, in files, that they are at work, and that end as they are told."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import dagster as dg

from dlc_assets.executors import COMPUTE_TAG, lab_executor

PLACE = "DLC_ASSETS_TEST_PLACE"


def place(name: str) -> Path:
    """Return a file by which steps and tests talk to each other."""
    return Path(os.environ[PLACE]) / name


@dg.op(tags={COMPUTE_TAG: "gpu"})
def first() -> int:
    """Say that it is at work; wait as long as the file ``hold`` is there, die where ``poison`` is."""
    with place("starts").open("a") as starts:
        starts.write(f"{os.getpid()}\n")
    if place("poison").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    while place("hold").exists():
        time.sleep(0.05)
    return 1


@dg.op
def second(number: int) -> None:
    """Say which number came from the step before."""
    place("second").write_text(str(number))


@dg.graph
def _two() -> None:
    second(first())


def two() -> dg.JobDefinition:
    """Return the job: a step for a GPU, and one for a CPU that needs what it made."""
    return _two.to_job("two", executor_def=lab_executor, resource_defs={"io_manager": dg.fs_io_manager})
