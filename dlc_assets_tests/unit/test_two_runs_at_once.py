"""Two runs want the poses of the same session by the same model at the same time: two processes, one analysis, one writer."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest

from dlc_assets.inference.pose_tables import Estimators, estimate_session
from dlc_assets.lab.lab import Lab, open_lab_folder
from dlc_assets.recordings.info import need_session_info
from dlc_assets_tests.graph.small_lab import FIRST, SECOND
from dlc_assets_tests.unit.bundled_lab import Brightness, add_network, recorded_lab, use_network

_FORK = multiprocessing.get_context("fork")
RUNS = 4


class Watched(Brightness):
    """A network that takes its time and writes down when it works, and for which process."""

    def __init__(self, record: Path) -> None:
        super().__init__()
        self._record = record

    def say(self, what: str) -> None:
        with self._record.open("a") as file:
            file.write(f"{what} {os.getpid()}\n")

    def run(self, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        self.say("begins")
        for poses in super().run(batches):
            time.sleep(0.1)
            yield poses
        self.say("ends")


def _analyse(root: Path, session: str, recompute: bool, barrier, said) -> None:  # type: ignore[no-untyped-def]
    lines: list[str] = []
    barrier.wait(timeout=60)
    manifest, now = estimate_session(
        open_lab_folder(root),
        "walker",
        session,
        Estimators("cpu"),
        overrides={},
        recompute=recompute,
        run_id=f"run-{os.getpid()}",
        log=lines.append,
    )
    said.put((os.getpid(), manifest.data_version, manifest.run_id, now, lines))


def at_once(lab: Lab, sessions: list[str], *, recompute: bool = False):  # type: ignore[no-untyped-def]
    """Analyse each of *sessions* in a process of its own, all beginning together; return what each said at its end."""
    barrier, said = _FORK.Barrier(len(sessions)), _FORK.Queue()
    runs = [_FORK.Process(target=_analyse, args=(lab.root, each, recompute, barrier, said)) for each in sessions]
    for run in runs:
        run.start()
    answers = [said.get(timeout=120) for _ in runs]
    for run in runs:
        run.join(timeout=60)
        assert run.exitcode == 0
    return answers


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    made = recorded_lab(tmp_path / "lab")
    add_network(made)
    use_network(monkeypatch, Watched(tmp_path / "record"))
    return made


def worked(tmp_path: Path) -> list[tuple[str, int]]:
    return [(what, int(pid)) for what, pid in (line.split() for line in (tmp_path / "record").read_text().splitlines())]


def test_one_of_many_runs_computes_and_the_others_wait_and_see_that_it_is_done(lab: Lab, tmp_path: Path) -> None:
    answers = at_once(lab, [FIRST] * RUNS)
    computed = [pid for pid, _, _, now, _ in answers if now]
    assert len(computed) == 1
    assert worked(tmp_path) == [("begins", computed[0]), ("ends", computed[0])]
    assert len({version for _, version, _, _, _ in answers}) == 1
    assert {run for _, _, run, _, _ in answers} == {f"run-{computed[0]}"}
    for pid, _, _, now, lines in answers:
        if not now:
            assert any(": waiting for " in line for line in lines), (pid, lines)
            assert any("are up to date" in line for line in lines), (pid, lines)
    session, _ = need_session_info(lab.layout, FIRST)
    tables = [path for path in (lab.layout.store / "poses").rglob("*.parquet") if FIRST in str(path)]
    assert len(tables) == len(session.recordings)


def test_runs_that_are_told_to_compute_again_do_so_one_after_the_other(lab: Lab, tmp_path: Path) -> None:
    answers = at_once(lab, [FIRST, FIRST], recompute=True)
    assert all(now for _, _, _, now, _ in answers)
    record = worked(tmp_path)
    assert [what for what, _ in record] == ["begins", "ends", "begins", "ends"]
    assert record[0][1] == record[1][1] != record[2][1] == record[3][1]


def test_runs_of_two_sessions_do_not_wait_for_each_other(lab: Lab, tmp_path: Path) -> None:
    answers = at_once(lab, [FIRST, SECOND])
    assert all(now for _, _, _, now, _ in answers)
    assert [what for what, _ in worked(tmp_path)] == ["begins", "begins", "ends", "ends"]
    assert not any(": waiting for " in line for _, _, _, _, lines in answers for line in lines)
