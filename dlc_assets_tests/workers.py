"""How the tests are shared out where several pytest processes run them (`pytest -n 2`): so that nothing is made twice, and none waits.

A worker takes a file at a time, because a file's tests share what its fixtures made. The tests with servers are one piece of work: they
share a busy lab, and two such labs on two cores would only be in each other's way.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import pytest
from xdist.scheduler import LoadFileScheduling

_TESTS = Path(__file__).resolve().parent
_SERVERS = "live"


def is_live(path: Path) -> bool:
    """Say whether the tests of the file *path* start servers."""
    return path.is_relative_to(_TESTS / _SERVERS)


class InTheirOrder(LoadFileScheduling):
    """Files in the order in which they were collected, whatever the number of their tests; those with servers to one worker."""

    def __init__(self, config: pytest.Config, log: object) -> None:
        super().__init__(config, log)
        config.option.loadscopereorder = False

    def _split_scope(self, nodeid: str) -> str:
        file = super()._split_scope(nodeid)
        return _SERVERS if is_live(_TESTS.parent / file) else file


def order(items: list[pytest.Item]) -> None:
    """Sort tests, those of a file kept together: what takes longest alone first, and last the many short ones that fill any gap.

    The first with servers makes the demo's lab. Until it is there, the other tests that need it would only wait for it.
    """
    slow = _files(item for item in items if item.get_closest_marker("slow"))
    on_demo, on_busy_lab = (
        _files(item for item in items if name in getattr(item, "fixturenames", ()))
        for name in ("finished_demo", "busy_lab")
    )

    def place(item: pytest.Item) -> int:
        if is_live(item.path):
            return 1 if item.path in on_busy_lab else 0
        if item.path in on_demo:
            return 3
        return 2 if item.path in slow else 4

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
