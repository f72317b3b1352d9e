"""The benchmark of leases counts what it says: a slot that two hold, and slots that are idle while somebody waits."""

from __future__ import annotations

import pytest

from benchmarks.leases import judged

FAIR = """\
0.0 a wait -
0.0 b wait -
0.0 a in 0
0.0 b in 1
1.0 c wait -
2.0 a out 0
2.5 c in 0
4.0 b out 1
4.0 b done -
""".splitlines()


def test_time_that_a_slot_is_idle_while_somebody_waits_is_counted() -> None:
    found = judged(FAIR, 2)
    assert found["steps"] == 2
    assert found["held_twice"] == 0
    assert found["idle_while_waited_share"] == pytest.approx(0.5 / 8)


def test_an_idle_slot_that_nobody_waits_for_is_no_loss() -> None:
    assert judged([line for line in FAIR if " c " not in line], 2)["idle_while_waited_share"] == 0


def test_a_slot_that_two_hold_is_counted() -> None:
    twice = [line.replace("c in 0", "c in 1") for line in FAIR]
    assert judged(twice, 2)["held_twice"] == 1
