"""The doctor says what is wrong with a machine and what to do; a look that fails itself hides nothing, and no secret is said."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from dlc_assets.cli import app
from dlc_assets.doctor import instance as of_instance
from dlc_assets.doctor import machine, outside, places
from dlc_assets.doctor.findings import Finding, examined
from dlc_assets.lab.errors import EnvironmentProblem
from dlc_assets.lab.file_systems import kind_of
from dlc_assets.lab.lab import Lab, open_lab_folder
from dlc_assets.lab.locks import hold
from dlc_assets.resources.instance import dagster_home, open_instance
from dlc_assets_tests.conftest import use_lab


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    root = tmp_path / "lab"
    (root / "recordings").mkdir(parents=True)
    (root / "lab.yaml").write_text(
        'name: Smith lab\nrecordings: [{root: recordings, template: "{subject}/{session}/{camera}.mp4"}]\n'
    )
    use_lab(root, monkeypatch)
    monkeypatch.setattr("dlc_assets.engine.weights.why_no_hub", lambda: None)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    return open_lab_folder(root)


def doctor(*options: str) -> tuple[Result, list[dict[str, Any]]]:
    done = CliRunner().invoke(app, ["doctor", "--json", *options])
    return done, json.loads(done.stdout)["findings"]


def of(findings: list[Finding], about: str) -> Finding:
    (found,) = [finding for finding in findings if finding.about == about]
    return found


def test_a_lab_that_works_has_no_error(lab: Lab) -> None:
    done, findings = doctor()
    assert done.exit_code == 0, done.output
    levels = {finding["about"]: finding["level"] for finding in findings}
    assert levels["daemon"] == "warn", "nothing looks for new videos"
    assert {about for about, level in levels.items() if level == "ok"} >= {
        *(
            "lab",
            "store",
            "locks",
            "database",
            "dagster.yaml",
            "sensors",
            "runs",
            "GPUs",
            "torch",
            "clocks",
            "videos",
            "packages",
            "DANDI",
        )
    }
    assert findings[0]["level"] != "ok", "what is worst comes first"


def test_what_is_wrong_in_the_lab_is_an_error_with_its_reason(lab: Lab) -> None:
    (lab.root / "recordings").rmdir()
    (lab.root / "models").mkdir()
    (lab.root / "models" / "a.yaml").write_text("projekt: x\n")
    done, findings = doctor()
    assert done.exit_code == 1
    wrong = [finding["found"] for finding in findings if finding["level"] == "error"]
    assert any("there is no folder" in text for text in wrong)
    assert any('unknown key "projekt"' in text for text in wrong)


def test_a_look_that_fails_is_a_finding_and_hides_no_other(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails() -> list[Finding]:
        raise ZeroDivisionError("odd")

    monkeypatch.setattr(machine, "memory", fails)
    done, findings = doctor()
    assert done.exit_code == 1
    (memory,) = [finding for finding in findings if finding["about"] == "memory"]
    assert "ZeroDivisionError: odd" in memory["found"]
    assert len(findings) > 10
    assert examined("x", fails)[0].level == "error"


# --- where the lab lies ---------------------------------------------------------------------------

MOUNTS = """\
/dev/sda1 / ext4 rw 0 0
server:/home /home nfs4 rw 0 0
//server/data /mnt/lab\\040data cifs rw 0 0
/dev/sdb1 /home/ann/scratch xfs rw 0 0
""".splitlines()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/srv/lab", "ext4"),
        ("/home/ann/lab", "nfs4"),
        ("/home/ann/scratch/lab", "xfs"),
        ("/mnt/lab data/store", "cifs"),
        ("/homework", "ext4"),
    ],
)
def test_the_file_system_of_a_path_is_that_of_the_nearest_mount(path: str, kind: str) -> None:
    assert kind_of(Path(path), MOUNTS) == kind


def test_a_database_or_locks_on_a_network_file_system_are_refused(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "network_file_system", lambda _: "nfs4")
    assert of(list(places.locks(lab)), "locks").level == "error"
    with open_instance(lab) as instance:
        found = of(list(of_instance.database(lab, instance)), "database")
        assert found.level == "error"
        assert "nfs4" in found.found
        with pytest.raises(EnvironmentProblem, match="use PostgreSQL"):
            of_instance.refuse_unsafe_database(lab, instance)
    done = CliRunner().invoke(app, ["dev", "--port", "1"])
    assert done.exit_code == 1
    assert "SQLite databases are damaged" in done.output


def test_locks_that_do_not_exclude_are_an_error(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "_TRY_TO_HOLD", "print('held')")
    assert of(list(places.locks(lab)), "locks").level == "error"
    with hold(lab.layout.lock("doctor", "two processes"), "another doctor"):
        monkeypatch.setattr(places, "hold", _hold_shortly)
        assert of(list(places.locks(lab)), "locks").level == "warn"


def _hold_shortly(lock: Path, purpose: str, **_: object) -> Any:
    return hold(lock, purpose, timeout=0)


# --- the machine ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("program", "settings", "level", "said"),
    [
        ("printf '0, GPU-a, NVIDIA A, 900, 1000\\n'", "auto", "ok", "0: NVIDIA A, 900 of 1000 MiB free"),
        ("printf 'NVML: mismatch'; exit 18", "auto", "error", "NVML: mismatch"),
        ("exit 0", "required", "error", "`gpus: required`"),
        ("printf '0, GPU-a, NVIDIA A, 900, 1000\\n'", "[1]", "error", "NVIDIA A"),
    ],
)
def test_the_gpus_are_judged(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, settings: str, level: str, said: str
) -> None:
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{program}\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with (lab.root / "lab.yaml").open("a") as file:
        file.write(f"gpus: {settings}\n")
    found = of(list(machine.gpus(open_lab_folder(lab.root))), "GPUs")
    assert found.level == level
    assert said in found.found
    assert (level == "ok") is (found.todo == "")


@pytest.mark.parametrize(
    ("capability", "known", "fits"),
    [
        ((8, 6), ["sm_80", "sm_90"], True),
        ((6, 1), ["sm_75", "sm_80"], False),
        ((9, 0), ["sm_80", "sm_90"], True),
        ((7, 5), [], True),
    ],
)
def test_a_card_that_is_too_old_for_torch_is_known(capability: tuple[int, int], known: list[str], fits: bool) -> None:
    assert machine._is_built_for(capability, known) is fits


def test_a_disk_that_is_nearly_full_is_said_with_what_to_do(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free = 2**30

    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: Usage)
    found = list(machine.disks(lab))
    assert [finding.level for finding in found] == ["error", "warn"]
    assert all(finding.todo for finding in found)


def test_a_clock_that_is_ahead_is_said(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time
    monkeypatch.setattr(machine.time, "time", lambda: now() + 60)
    found = of(list(machine.clocks(lab)), "clocks")
    assert found.level == "warn"
    assert "60 s behind" in found.found


# --- the instance and the network -----------------------------------------------------------------


def test_a_changed_dagster_yaml_is_named_key_by_key(lab: Lab) -> None:
    with open_instance(lab):
        file = dagster_home(lab) / "dagster.yaml"
        file.write_text(
            file.read_text().replace("run_monitoring:\n  enabled: true", "run_monitoring:\n  enabled: false")
        )
        warned = [finding for finding in of_instance.configuration(lab) if finding.level == "warn"]
    assert [finding.found.partition(": ")[2] for finding in warned] == [
        "run_monitoring.enabled is False, and True in this release"
    ]


def test_the_archives_key_is_looked_for_and_never_said(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    with (lab.root / "lab.yaml").open("a") as file:
        file.write('dandi: {instance: "http://127.0.0.1:9", dandiset: "000123", key_env: SOME_KEY}\n')
    lab = open_lab_folder(lab.root)
    assert lab.settings.dandi is not None
    variable = lab.settings.dandi.key_variable
    monkeypatch.delenv(variable, raising=False)
    assert of(list(outside.archive(lab)), "DANDI").found.startswith(f"no key in {variable}")
    monkeypatch.setenv(variable, "topsecretkey")
    found = of(list(outside.archive(lab)), "DANDI")
    assert found.level == "warn"
    assert "cannot be reached" in found.found
    assert "topsecretkey" not in str(found)


def test_packages_of_different_patches_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    real: Callable[[str], str] = outside.version
    monkeypatch.setattr(outside, "version", lambda name: "1.13.26" if name == "dagster-webserver" else real(name))
    assert of(list(outside.packages()), "packages").level == "error"
