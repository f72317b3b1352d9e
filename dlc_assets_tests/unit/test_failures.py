"""Failures: which are tried again by themselves, how often and when; and what a process leaves behind that dies over a product."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import pytest

from dlc_assets.lab.errors import (
    BusyError,
    DlcAssetsError,
    EnvironmentProblem,
    InputError,
    NotFoundError,
    SettingsError,
)
from dlc_assets.lab.layout import LabLayout
from dlc_assets.lab.locks import hold
from dlc_assets.lab.settings import Retries
from dlc_assets.state.attempts import attempting, record_deaths
from dlc_assets.state.failures import RecordedFailure, clear_failure, is_lasting, last_failure, record_failure

ASSET, KEY = "pose_table", "walker|sub-m01_ses-20260501"
INPUTS = {"videos": "v1"}
RETRIES = Retries(times=2, pause_seconds=100)


@pytest.fixture
def layout(tmp_path: Path) -> LabLayout:
    return LabLayout(tmp_path)


def fail(layout: LabLayout, inputs: dict[str, str] = INPUTS, *, lasting: bool = False) -> RecordedFailure:
    return record_failure(layout, ASSET, KEY, "the disk is full", inputs=inputs, run_id="r", lasting=lasting)


def pause(failure: RecordedFailure) -> float | None:
    """Return the seconds after the failure from which it is tried again."""
    at = failure.retry_at(RETRIES)
    return None if at is None else at - datetime.fromisoformat(failure.when).timestamp()


@pytest.mark.parametrize(
    ("error", "lasts"),
    [
        (InputError("a video that does not open"), True),
        (SettingsError("a wrong key"), True),
        (NotFoundError("no such version"), True),
        (EnvironmentProblem("no space is left"), False),
        (BusyError("somebody else is at it"), False),
        (MemoryError(), False),
        (OSError("the share does not answer"), False),
    ],
)
def test_mistakes_last_and_troubles_of_the_machine_do_not(error: DlcAssetsError | Exception, lasts: bool) -> None:
    assert is_lasting(error) is lasts


def test_what_the_machine_failed_is_tried_again_after_longer_and_longer_pauses_and_not_for_ever(
    layout: LabLayout,
) -> None:
    assert pause(fail(layout)) == 100
    second = fail(layout)
    assert pause(second) == 200
    assert "attempt 2 of 3; it is tried again by itself" in second.sentence(RETRIES)
    third = fail(layout)
    assert pause(third) is None
    assert "tried 3 times; not again by itself" in third.sentence(RETRIES)
    assert last_failure(layout, ASSET, KEY) == third, "the reason is kept"


def test_a_mistake_is_not_tried_again(layout: LabLayout) -> None:
    failure = fail(layout, lasting=True)
    assert pause(failure) is None
    assert failure.sentence(RETRIES) == "the disk is full"


def test_other_inputs_and_a_success_begin_anew(layout: LabLayout) -> None:
    fail(layout)
    assert fail(layout).attempts == 2
    assert fail(layout, {"videos": "v2"}).attempts == 1
    clear_failure(layout, ASSET, KEY)
    assert fail(layout, {"videos": "v2"}).attempts == 1


def test_a_failure_of_the_release_before_is_read_as_one_that_lasts(layout: LabLayout) -> None:
    file = layout.failure(ASSET, KEY)
    file.parent.mkdir(parents=True)
    old = {
        "asset": ASSET,
        "key": KEY,
        "message": "m",
        "inputs": INPUTS,
        "run_id": "r",
        "when": "2026-05-01T10:00:00+00:00",
    }
    file.write_text(json.dumps(old))
    failure = last_failure(layout, ASSET, KEY)
    assert failure is not None
    assert (failure.lasting, failure.attempts, failure.retry_at(RETRIES)) == (True, 1, None)


# --- a process that dies over a product -----------------------------------------------------------

_DIE = """
import os, signal, sys
from pathlib import Path
from dlc_assets.lab.layout import LabLayout
from dlc_assets.lab.locks import hold
from dlc_assets.state.attempts import attempting

layout = LabLayout(Path(sys.argv[1]))
with hold(layout.lock("run", "run-1"), "run"), attempting(layout, "pose_table", sys.argv[2], inputs={"videos": "v1"}, run_id="run-1"):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def die_over_it(layout: LabLayout) -> None:
    """Let a real process be killed while it makes the product."""
    done = subprocess.run([sys.executable, "-c", _DIE, str(layout.root), KEY], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL


def test_a_product_that_a_process_died_over_has_failed_and_is_tried_again_at_once_then_later(layout: LabLayout) -> None:
    die_over_it(layout)
    assert last_failure(layout, ASSET, KEY) is None, "the dead say nothing"
    said: list[str] = []
    assert record_deaths(layout, said.append) == [f"{ASSET} {KEY}"]
    assert "died in the middle of it (run run-1)" in said[0]
    first = last_failure(layout, ASSET, KEY)
    assert first is not None
    assert (first.inputs, first.run_id, first.lasting, pause(first)) == (INPUTS, "run-1", False, 0)
    assert record_deaths(layout, said.append) == [], "each death counts once"

    die_over_it(layout)
    with attempting(layout, ASSET, KEY, inputs=INPUTS, run_id="run-2"):  # the next to try finds it, too
        second = last_failure(layout, ASSET, KEY)
    assert second is not None
    assert (second.attempts, pause(second)) == (2, 100)
    die_over_it(layout)
    record_deaths(layout, said.append)
    third = last_failure(layout, ASSET, KEY)
    assert third is not None
    assert third.retry_at(RETRIES) is None


def test_what_a_living_run_is_making_is_left_alone_also_when_it_fails(layout: LabLayout) -> None:
    with hold(layout.lock("run", "run-1"), "run"), attempting(layout, ASSET, KEY, inputs=INPUTS, run_id="run-1"):
        assert layout.attempt(ASSET, KEY).is_file()
        assert record_deaths(layout, print) == []
    with pytest.raises(InputError), attempting(layout, ASSET, KEY, inputs=INPUTS, run_id="run-1"):
        raise InputError("it does not open")
    assert not layout.attempt(ASSET, KEY).exists()
    assert record_deaths(layout, print) == []


def test_an_attempt_of_another_machine_is_not_judged_here(layout: LabLayout) -> None:
    die_over_it(layout)
    file = layout.attempt(ASSET, KEY)
    attempt = json.loads(file.read_text())
    file.write_text(json.dumps({**attempt, "host": "another-machine"}))
    assert record_deaths(layout, print) == []
    assert file.is_file()
