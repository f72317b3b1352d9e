"""How the tests are shared out where several pytest processes run them (`pytest -n 2`): so that nothing is made twice, and none waits.

A worker takes a file at a time, because a file's tests share what its fixtures made. Tests with servers are not among them: they time
what the machine does, and run by themselves (see the Makefile).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pytest
from xdist.scheduler import LoadFileScheduling


class InTheirOrder(LoadFileScheduling):
    """Files in the order in which they were collected, whatever the number of their tests."""

    def __init__(self, config: pytest.Config, log: object) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False


def order(items: list[pytest.Item]) -> None:
    """Sort tests, those of a file kept together: what takes longest alone first, and last the many short ones that fill any gap.

    Those that need the demo's lab come after the other slow ones: one worker makes it, and the other has not to wait for it.
    """
    slow = _files(item for item in items if item.get_closest_marker("slow"))
    on_demo = _files(item for item in items if "finished_demo" in getattr(item, "fixturenames", ()))
    first_on_demo = next((item.path for item in items if item.path in on_demo), None)

    def place(item: pytest.Item) -> int:
        if item.path == first_on_demo:
            return 0
        if item.path in on_demo:
            return 2
        return 1 if item.path in slow else 3

    items.sort(key=place)


def _files(items: Iterable[pytest.Item]) -> set[Path]:
    return {item.path for item in items}


def share_the_cores() -> None:
    """Let torch, and what this worker starts, have this worker's part of the cores: more threads would wait for each other."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if workers > 1:
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))


def common_folder(factory: pytest.TempPathFactory) -> Path:
    """Return the folder of this run of the tests that all its workers have in common."""
    own = factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
