"""Who holds what: one at a time, waiters know for whom they wait, and the dead hold nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dlc_assets.lab import compute
from dlc_assets.lab.compute import leased_device
from dlc_assets.lab.errors import BusyError
from dlc_assets.lab.layout import LabLayout
from dlc_assets.lab.locks import held_by_this_process, hold, is_held

_HOLD = """
import sys, time
from pathlib import Path
from dlc_assets.lab.locks import hold
with hold(Path(sys.argv[1]), "training walker"):
    print("held", flush=True)
    time.sleep(120)
"""


@contextmanager
def another_process_holds(lock: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen([sys.executable, "-c", _HOLD, str(lock)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return LabLayout(tmp_path).lock("train", "walker")


def test_a_lock_is_held_while_its_block_runs_and_free_after(lock: Path) -> None:
    assert not is_held(lock)
    with hold(lock, "training walker"):
        assert is_held(lock)
        assert held_by_this_process(lock)
    assert not is_held(lock)
    assert not held_by_this_process(lock)


def test_a_lock_is_free_after_an_error(lock: Path) -> None:
    with pytest.raises(RuntimeError), hold(lock, "training walker"):
        raise RuntimeError
    assert not is_held(lock)


def test_whoever_will_not_wait_is_told_who_holds_it(lock: Path) -> None:
    with another_process_holds(lock) as holder:
        assert is_held(lock)
        assert not held_by_this_process(lock)
        with (
            pytest.raises(BusyError, match=rf"process {holder.pid} on .* \(training walker, since .*Try again"),
            hold(lock, "training walker", timeout=0),
        ):
            pytest.fail("held twice")


def test_a_waiter_says_once_for_whom_it_waits_and_goes_on_when_the_holder_is_killed(lock: Path) -> None:
    said: list[str] = []
    with another_process_holds(lock) as holder:

        def kill_when_said(line: str) -> None:
            said.append(line)
            os.kill(holder.pid, signal.SIGKILL)

        begun = time.monotonic()
        with hold(lock, "training walker", log=kill_when_said, timeout=30):
            assert held_by_this_process(lock)
        assert time.monotonic() - begun < 20
    assert len(said) == 1
    assert f"waiting for process {holder.pid}" in said[0]


def test_a_holder_that_cannot_be_read_is_another_process(lock: Path) -> None:
    with another_process_holds(lock):
        lock.with_suffix(".holder.json").write_text("{")
        with pytest.raises(BusyError, match="another process is at it"), hold(lock, "training", timeout=0):
            pytest.fail("held twice")


def test_two_products_do_not_wait_for_each_other(tmp_path: Path) -> None:
    layout = LabLayout(tmp_path)
    first, second = layout.lock("pose_table", "walker|ses-1"), layout.lock("pose_table", "walker|ses-2")
    with hold(first, "poses"), hold(second, "poses", timeout=0):
        assert is_held(first)
        assert is_held(second)


# --- GPUs -----------------------------------------------------------------------------------------


def test_where_there_is_no_gpu_everything_runs_on_the_cpu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with leased_device(LabLayout(tmp_path), "analysing", print) as device:
        assert device == "cpu"


def test_each_step_gets_a_gpu_of_its_own_and_gives_it_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    layout = LabLayout(tmp_path)
    with another_process_holds(compute.lease(layout, "0")):
        with leased_device(layout, "analysing", print) as device:
            assert device == "1"
            assert os.environ["CUDA_VISIBLE_DEVICES"] == "1"
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"
    with leased_device(layout, "analysing", print) as device:
        assert device == "0"


def test_a_step_waits_asleep_for_a_gpu_and_takes_it_from_the_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.setattr(compute, "_POLL", 0.05)
    said: list[str] = []
    layout = LabLayout(tmp_path)
    with another_process_holds(compute.lease(layout, "0")) as holder:

        def kill_when_said(line: str) -> None:
            said.append(line)
            os.kill(holder.pid, signal.SIGKILL)

        with leased_device(layout, "analysing ses-1", kill_when_said) as device:
            assert device == "0"
    assert said == ["analysing ses-1: waiting for one of the GPUs 0"]


def test_an_error_on_a_gpu_gives_it_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    layout = LabLayout(tmp_path)
    with pytest.raises(BusyError, match="out of memory"), leased_device(layout, "analysing", print):
        raise BusyError("out of memory")
    assert not is_held(compute.lease(layout, "0"))
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"


_ANALYSE = """
import sys, time
from pathlib import Path
from dlc_assets.lab.compute import leased_device
from dlc_assets.lab.layout import LabLayout
with leased_device(LabLayout(Path(sys.argv[1])), "analysing ses-1", print) as device:
    print(device, flush=True)
    time.sleep(120)
"""


def test_the_gpu_of_a_killed_step_is_free_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-a,GPU-b")
    layout = LabLayout(tmp_path)
    steps = [
        subprocess.Popen([sys.executable, "-c", _ANALYSE, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    try:
        by_device = {step.stdout.readline().strip(): step for step in steps if step.stdout is not None}
        assert set(by_device) == {"GPU-a", "GPU-b"}, "each has one of its own"
        by_device["GPU-b"].kill()
        by_device["GPU-b"].wait()
        with leased_device(layout, "analysing ses-2", pytest.fail) as device:
            assert device == "GPU-b"
            assert is_held(compute.lease(layout, "GPU-a")), "the other step works on"
    finally:
        for step in steps:
            step.kill()
            step.communicate()
