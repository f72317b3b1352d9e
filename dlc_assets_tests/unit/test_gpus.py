"""Which GPUs are used: what the driver names and lab.yaml allows; one that is gone is no reason to use the CPU in silence."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dlc_assets.lab import gpus as gpus_module
from dlc_assets.lab.compute import lease, leased_device, leased_slot, pool_limit
from dlc_assets.lab.errors import EnvironmentProblem, SettingsError
from dlc_assets.lab.gpu_settings import Gpus
from dlc_assets.lab.gpus import driver_gpus, forget_gpus, seen_gpus
from dlc_assets.lab.lab import open_lab_folder
from dlc_assets.lab.layout import LabLayout
from dlc_assets.lab.locks import hold, is_held
from dlc_assets.resources.instance import open_instance
from dlc_assets_tests.conftest import use_lab

TWO = "0, GPU-aaa, NVIDIA A, 1000, 8000\n1, GPU-bbb, NVIDIA B, 7000, 8000\n"


class Driver:
    """A stand-in for NVIDIA's program on the path."""

    def __init__(self, folder: Path) -> None:
        self.program = folder / "nvidia-smi"

    def says(self, text: str, *, status: int = 0, seconds: float = 0) -> None:
        self.program.write_text(f"#!/bin/sh\nsleep {seconds}\nprintf '{text}'\nexit {status}\n".replace("\n'", "\\n'"))
        self.program.chmod(0o755)


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Driver:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}/usr/bin{os.pathsep}/bin")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    found = Driver(folder)
    found.says(TWO.replace("\n", "\\n"))
    return found


@pytest.fixture
def layout(tmp_path: Path) -> LabLayout:
    return LabLayout(tmp_path / "lab")


def leased(layout: LabLayout, gpus: Gpus = "auto", wanted: str | None = None) -> tuple[str, list[str]]:
    said: list[str] = []
    with leased_device(layout, "analysing", said.append, gpus=gpus, wanted=wanted) as device:
        return device, said


# --- which ----------------------------------------------------------------------------------------


def test_the_free_gpu_with_most_free_memory_is_taken(driver: Driver, layout: LabLayout) -> None:
    assert leased(layout) == ("1", [])
    with hold(lease(layout, "1"), "another"):
        assert leased(layout) == ("0", [])


@pytest.mark.parametrize(
    ("gpus", "device", "limit"),
    [("auto", "1", 2), ("required", "1", 2), ("none", "cpu", 1), (("0",), "0", 1), (("GPU-aaa",), "0", 1)],
)
def test_lab_yaml_says_which_may_be_used(
    driver: Driver, layout: LabLayout, gpus: Gpus, device: str, limit: int
) -> None:
    assert leased(layout, gpus)[0] == device
    assert pool_limit(gpus) == limit


def test_a_gpu_that_lab_yaml_names_and_that_is_not_there_is_named(driver: Driver, layout: LabLayout) -> None:
    with pytest.raises(EnvironmentProblem, match=r"gpus names 2, GPU-x, and this machine .* has 0, 1"):
        leased(layout, ("0", "2", "GPU-x"))


@pytest.mark.parametrize("text", ["sometimes", "[]", "[0, 0]", "3"])
def test_a_wrong_setting_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "lab.yaml").write_text(f"name: a\ngpus: {text}\n")
    with pytest.raises(SettingsError, match="gpus"):
        _ = open_lab_folder(tmp_path).settings


def test_indices_of_lab_yaml_are_texts(tmp_path: Path) -> None:
    (tmp_path / "lab.yaml").write_text("name: a\ngpus: [0, GPU-aaa]\n")
    assert open_lab_folder(tmp_path).settings.gpus == ("0", "GPU-aaa")


def test_a_schedulers_choice_counts(driver: Driver, layout: LabLayout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    assert leased(layout)[0] == "7"
    assert leased(layout, ("0",))[0] == "7"
    assert seen_gpus(layout) is None, "what one process may use says nothing of the machine"


def test_in_a_pod_the_clusters_choice_counts_and_nothing_is_remembered(
    driver: Driver, layout: LabLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert leased(layout)[0] == "1"
    assert seen_gpus(layout) is None, "each pod is a machine of its own"
    driver.says("NVML: mismatch", status=18)
    with pytest.raises(EnvironmentProblem, match="mismatch"):
        leased(layout)
    driver.program.unlink()
    assert leased(layout)[0] == "cpu"
    with pytest.raises(EnvironmentProblem, match="a GPU was asked for"):
        leased(layout, "required")


# --- none -----------------------------------------------------------------------------------------


def test_where_there_never_was_one_it_is_said_once(driver: Driver, layout: LabLayout) -> None:
    driver.program.unlink()
    device, said = leased(layout)
    assert device == "cpu"
    assert len(said) == 1
    assert "no GPU was found" in said[0]
    assert leased(layout) == ("cpu", [])
    assert pool_limit() == 1
    with pytest.raises(EnvironmentProblem, match="`gpus: required`"):
        leased(layout, "required")
    with pytest.raises(EnvironmentProblem, match="a GPU was asked for"):
        leased(layout, wanted="gpu")


def test_one_that_was_there_and_is_gone_is_an_error_until_a_person_says_otherwise(
    driver: Driver, layout: LabLayout
) -> None:
    assert leased(layout)[0] == "1"
    driver.program.unlink()
    with pytest.raises(EnvironmentProblem, match=r"had NVIDIA A 0, NVIDIA B 1 on .* --forget-gpus"):
        leased(layout)
    assert leased(layout, "none")[0] == "cpu"
    assert leased(layout, wanted="cpu")[0] == "cpu"
    assert forget_gpus(layout)
    assert leased(layout)[0] == "cpu"
    assert not forget_gpus(layout)


def test_fewer_than_before_are_used_with_a_warning_each_time(driver: Driver, layout: LabLayout) -> None:
    leased(layout)
    driver.says("0, GPU-aaa, NVIDIA A, 1000, 8000")
    for _ in range(2):
        device, said = leased(layout)
        assert device == "0"
        assert "had 2 GPUs" in said[0]


def test_a_driver_that_fails_or_hangs_is_an_error_and_not_no_gpu(
    driver: Driver, layout: LabLayout, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver.says("Failed to initialize NVML: Driver/library version mismatch", status=18)
    with pytest.raises(EnvironmentProblem, match="version mismatch"):
        leased(layout)
    assert leased(layout, "none")[0] == "cpu"
    monkeypatch.setattr(gpus_module, "_SECONDS", 0.3)
    driver.says("", seconds=5)
    assert "does not answer" in driver_gpus().problem
    assert seen_gpus(layout) is None


def test_a_card_that_does_not_tell_its_memory_is_usable(driver: Driver, layout: LabLayout) -> None:
    driver.says("0, GPU-aaa, NVIDIA A, [N/A], [N/A]")
    assert leased(layout)[0] == "0"


# --- the pool -------------------------------------------------------------------------------------


def test_the_pool_has_as_many_slots_as_gpus_and_a_persons_number_stays(
    driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "lab"
    root.mkdir()
    (root / "lab.yaml").write_text("name: a\n")
    use_lab(root, monkeypatch)

    def limit() -> int | None:
        with open_instance(open_lab_folder(root)) as instance:
            return instance.event_log_storage.get_concurrency_info("gpu").limit

    assert limit() == 2
    driver.says("0, GPU-aaa, NVIDIA A, 1000, 8000")
    assert limit() == 1, "it follows the machine"
    driver.says(TWO.replace("\n", "\\n"))
    assert limit() == 2
    with open_instance(open_lab_folder(root)) as instance:
        instance.event_log_storage.set_concurrency_slots("gpu", 5)
    assert limit() == 5


# --- many steps -----------------------------------------------------------------------------------

_STEPS = """
import os, sys, time
from pathlib import Path
from dlc_assets.lab.compute import leased_slot
from dlc_assets.lab.layout import LabLayout
layout, record = LabLayout(Path(sys.argv[1])), os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND)
for step in range(int(sys.argv[3])):
    with leased_slot(layout, [str(n) for n in range(4)], "a step", lambda _: None) as name:
        os.write(record, f"{name} {os.getpid()} in {time.monotonic()}\\n".encode())
        time.sleep(0.01)
        os.write(record, f"{name} {os.getpid()} out {time.monotonic()}\\n".encode())
"""


@pytest.fixture
def workers(tmp_path: Path, layout: LabLayout) -> Iterator[tuple[Path, list[subprocess.Popen[bytes]]]]:
    record = tmp_path / "record"
    record.touch()
    started = [subprocess.Popen([sys.executable, "-c", _STEPS, str(layout.root), str(record), "40"]) for _ in range(6)]
    yield record, started
    for worker in started:
        worker.kill()
        worker.wait()


def test_no_slot_is_used_twice_though_holders_are_killed(
    workers: tuple[Path, list[subprocess.Popen[bytes]]], layout: LabLayout
) -> None:
    record, started = workers
    deadline = time.monotonic() + 60
    while record.read_text().count("in") < 40 and time.monotonic() < deadline:
        time.sleep(0.01)
    killed = {started[0].pid, started[1].pid}
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    assert [worker.wait(60) for worker in started[2:]] == [0] * 4
    holder: dict[str, str] = {}
    done = 0
    for line in record.read_text().splitlines():
        name, pid, what, _ = line.split()
        if what == "in":
            before = holder.get(name)
            assert before is None or int(before) in killed, f"{pid} and {before} had {name} at once"
            holder[name] = pid
        else:
            holder.pop(name)
            done += 1
    assert done >= 4 * 40
    assert not any(is_held(lease(layout, str(number))) for number in range(4))
    with leased_slot(layout, ["0"], "the next", pytest.fail) as name:
        assert name == "0"
