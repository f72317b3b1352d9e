"""Nothing outlives what started it, services that end are started again, and what the dead were writing is removed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dlc_assets import serving
from dlc_assets.lab.errors import EnvironmentProblem
from dlc_assets.lab.files import atomic_folder, atomic_path
from dlc_assets.lab.layout import LabLayout
from dlc_assets.lab.leftovers import remove_leftovers, unfinished_files
from dlc_assets.lab.processes import is_alive

# A run's process, and its step that computes in C without ever giving the interpreter's lock back, or sleeps.
_RUN = """
import multiprocessing, re, sys, time
from pathlib import Path
from dlc_assets.lab.processes import end_with_parent

def step(busy, grace, told):
    end_with_parent(grace_seconds=grace)
    print("step", flush=True)
    try:
        if busy:
            re.match("(a+)+$", "a" * 60 + "b")
        time.sleep(120)
    except KeyboardInterrupt:
        Path(told).write_text("interrupted")

if __name__ == "__main__":
    child = multiprocessing.get_context("spawn").Process(target=step, args=(sys.argv[1] == "busy", float(sys.argv[2]), sys.argv[3]))
    child.start()
    print(child.pid, flush=True)
    child.join()
"""


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Callable[..., tuple[subprocess.Popen[str], int]]]:
    """Starts a run with its step; gives the run's process and the step's id."""
    script = tmp_path / "run.py"
    script.write_text(_RUN)
    begun: list[subprocess.Popen[str]] = []

    def start(*arguments: object) -> tuple[subprocess.Popen[str], int]:
        process = subprocess.Popen(
            [sys.executable, str(script), *map(str, arguments)],
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        begun.append(process)
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        assert process.stdout.readline() == "step\n"
        time.sleep(0.2)  # the step is in its work
        return process, pid

    yield start
    for process in begun:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def ends(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while is_alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not is_alive(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux's kernel ends a process that never lets a thread run")
def test_a_step_in_the_middle_of_its_computing_ends_with_its_killed_run(
    started: Callable[..., tuple[subprocess.Popen[str], int]], tmp_path: Path
) -> None:
    run, step = started("busy", 0, tmp_path / "told")
    assert is_alive(step)
    run.kill()
    run.wait()
    assert ends(step, 5)


def test_a_run_has_time_to_say_that_its_code_server_was_killed(
    started: Callable[..., tuple[subprocess.Popen[str], int]], tmp_path: Path
) -> None:
    told = tmp_path / "told"
    parent, child = started("asleep", 20, told)
    parent.kill()
    parent.wait()
    assert ends(child, 10)
    assert told.read_text() == "interrupted"


def test_a_service_ends_when_the_process_that_started_it_does(tmp_path: Path) -> None:
    module = tmp_path / "waiting.py"
    module.write_text(
        "import sys, time\n"
        "try:\n    print(*sys.argv[1:], flush=True)\n    time.sleep(120)\nexcept KeyboardInterrupt:\n    print('interrupted', flush=True)\n"
    )
    service = subprocess.Popen(
        [sys.executable, "-m", "dlc_assets.service", "waiting", "--port", "3000"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
    )
    try:
        assert service.stdout is not None
        assert service.stdout.readline() == "--port 3000\n", "the module sees its own arguments"
        said, _ = service.communicate(timeout=20)  # closes its standard input, as the death of its starter does
        assert said == "interrupted\n"
    finally:
        service.kill()
        service.wait()


def test_a_service_that_ends_is_started_again_and_one_that_does_not_work_ends_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(serving, "_MOST_PAUSE", 0.0)
    monkeypatch.setattr(serving, "_LOOK_SECONDS", 0.02)
    broken = serving._Service("daemon", "no_such_module", [])
    broken.start()
    said: list[str] = []
    with pytest.raises(EnvironmentProblem, match=r"The daemon of Dagster ended 5 times .* is the port taken"):
        serving._keep_running([broken], threading.Event(), said.append)
    assert said == ["the daemon has ended (status 1) and is started again"] * 4


def test_a_service_that_has_worked_is_started_again_for_as_long_as_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "_MOST_PAUSE", 0.0)
    monkeypatch.setattr(serving, "_LOOK_SECONDS", 0.02)
    without_database = serving._Service("daemon", "no_such_module", [], worked=True)
    without_database.start()
    stopped, said = threading.Event(), []

    def log(line: str) -> None:
        said.append(line)
        if len(said) == 7:
            stopped.set()

    serving._keep_running([without_database], stopped, log)
    assert len(said) == 7


# --- what the dead were writing -------------------------------------------------------------------

_WRITING = """
import sys, time
from pathlib import Path
from dlc_assets.lab.files import atomic_folder, atomic_path
place = Path(sys.argv[1])
with atomic_path(place / "top.parquet") as partial, atomic_folder(place / "version") as folder:
    partial.write_bytes(b"half")
    (folder / "weights.pt").write_bytes(b"half")
    print("writing", flush=True)
    time.sleep(120)
"""


def test_what_a_killed_process_was_writing_is_removed_and_nothing_else(tmp_path: Path) -> None:
    layout = LabLayout(tmp_path)
    place = layout.pose_folder("walker", "v1", "ses-1")
    place.mkdir(parents=True)
    (place / "other.parquet").write_bytes(b"whole")
    elsewhere = (
        place / ".side.ffff00000a1234.partial.parquet"
    )  # of another host, so that nobody knows here whether it is at it
    elsewhere.write_bytes(b"half")
    said: list[str] = []
    writer = subprocess.Popen([sys.executable, "-c", _WRITING, str(place)], stdout=subprocess.PIPE, text=True)
    try:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "writing\n"
        assert remove_leftovers(layout, said.append)
        assert len(unfinished_files(layout)) == 2, "a living process is writing them"
        writer.kill()
        writer.wait()
        with atomic_path(place / "mine.parquet") as mine, atomic_folder(place / "mine") as folder:
            mine.write_bytes(b"half")
            assert remove_leftovers(layout, said.append)
            assert sorted(unfinished_files(layout)) == sorted([mine, folder])
    finally:
        writer.kill()
        writer.wait()
        assert writer.stdout is not None
        writer.stdout.close()
    assert said == ["2 unfinished files of processes that died were removed"]
    assert sorted(path.name for path in place.iterdir()) == sorted(
        [elsewhere.name, "mine", "mine.parquet", "other.parquet"]
    )


def test_a_store_that_is_too_large_for_the_time_is_looked_through_in_part(tmp_path: Path) -> None:
    layout = LabLayout(tmp_path)
    layout.pose_folder("walker", "v1", "ses-1").mkdir(parents=True)
    assert not remove_leftovers(layout, print, seconds=-1.0)
    assert remove_leftovers(layout, print, seconds=10.0)
