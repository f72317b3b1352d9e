"""What is being made at this moment, so that a process that dies over a product leaves its name behind.

Before a product is made, a small file says so; it is removed however the making ends. Only death leaves it: SIGKILL, a crash inside a
decoder, memory that runs out, power that fails. What is found so is recorded as a failure of that product (and of no other of its run),
so that a video that kills its process is set aside after a few attempts instead of stopping the others for ever.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from dlc_assets.lab.files import read_json, write_json
from dlc_assets.lab.layout import LabLayout
from dlc_assets.lab.locks import is_held
from dlc_assets.lab.processes import is_alive
from dlc_assets.state.failures import record_failure

_DIED = (
    "The process that worked on this died in the middle (it was killed, ran out of memory, or the machine went down). What it had "
    "finished is kept."
)


@dataclass(frozen=True)
class _Attempt:
    asset: str
    key: str
    inputs: dict[str, str]
    run_id: str
    host: str
    pid: int


@contextmanager
def attempting(layout: LabLayout, asset: str, key: str, *, inputs: dict[str, str], run_id: str) -> Iterator[None]:
    """Say that the product (*asset*, *key*) is being made from *inputs* by run *run_id*, until this ends in whatever way but death."""
    place = layout.attempt(asset, key)
    before = _read(place)
    if before is not None and _is_dead(layout, before):
        _bury(layout, place, before)
    write_json(place, asdict(_Attempt(asset, key, inputs, run_id, socket.gethostname(), os.getpid())))
    try:
        yield
    finally:
        place.unlink(missing_ok=True)


def record_deaths(layout: LabLayout, log: Callable[[str], None]) -> list[str]:
    """Record a failure for each product whose process died over it on this host; return them as ``asset key``."""
    died = []
    for place in sorted(layout.attempts.glob("*/[!.]*.json")):
        attempt = _read(place)
        if attempt is None or not _is_dead(layout, attempt):
            continue
        _bury(layout, place, attempt)
        died.append(f"{attempt.asset} {attempt.key}")
        log(f"{attempt.asset} {attempt.key}: its process died in the middle of it (run {attempt.run_id})")
    return died


def _bury(layout: LabLayout, place: Path, attempt: _Attempt) -> None:
    record_failure(
        layout,
        attempt.asset,
        attempt.key,
        _DIED,
        inputs=attempt.inputs,
        run_id=attempt.run_id,
        lasting=False,
        died=True,
    )
    place.unlink(missing_ok=True)


def _read(place: Path) -> _Attempt | None:
    try:
        return _Attempt(**read_json(place))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def _is_dead(layout: LabLayout, attempt: _Attempt) -> bool:
    """Say whether the process of *attempt* is no more; of another host nobody here can tell.

    A run whose lock is held lives, and a process of it that died is its own to report. Runs without a lock (in one process, as tests
    and notebooks make them) live as long as their process.
    """
    if attempt.host != socket.gethostname() or attempt.pid == os.getpid():
        return False
    lock = layout.lock("run", attempt.run_id)
    return not is_held(lock) if lock.exists() else not is_alive(attempt.pid)
