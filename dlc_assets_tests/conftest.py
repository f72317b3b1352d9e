"""What every test may use: the real data folder, and a lab to write into."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from dlc_assets_tests import workers

_ROOT = Path(__file__).resolve().parent.parent

# A finished demo lab to copy from (with inputs.json and facts.json beside it), so that a developer need not train anew for each run.
_MADE_BEFORE = "DLC_ASSETS_TEST_DEMO"
_SIZE = "DemoSize(seconds_per_session=2.0, labeled_frames=96, epochs=12)"  # the least that learns something
_RENDER = f"""
import sys
from pathlib import Path
from dlc_assets.demo.run import DemoSize, write_demo_lab
write_demo_lab(Path(sys.argv[1]), {_SIZE}, lambda line: print(line, file=sys.stderr))
"""
_RUN = f"""
import json, sys
from pathlib import Path
from dlc_assets.demo.run import DemoSize, run_demo
report = run_demo(Path(sys.argv[1]), log=lambda line: print(line, file=sys.stderr), size={_SIZE})
json.dump({{"ok": report.ok, **report.facts}}, sys.stdout)
"""


def pytest_configure(config: pytest.Config) -> None:
    """Dagster's beta and preview warnings are errors, but for the features that we accept with a reason."""
    from dlc_assets.accepted_features import ACCEPTED

    workers.share_the_cores()
    for category in ("BetaWarning", "PreviewWarning"):
        config.addinivalue_line("filterwarnings", f"error::dagster.{category}")
    for accepted, message, _ in ACCEPTED:  # the last line that fits a warning counts
        config.addinivalue_line("filterwarnings", f"ignore:{message}:dagster.{accepted.__name__}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    workers.order(items)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> workers.InTheirOrder:
    return workers.InTheirOrder(config, log)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real recordings, labels and results (`DLC_ASSETS_TEST_DATA`, else ../shared/data)."""
    stated = os.environ.get("DLC_ASSETS_TEST_DATA")
    folder = Path(stated) if stated else _ROOT.parent / "shared" / "data"
    if stated and not folder.is_dir():
        pytest.fail(
            f"DLC_ASSETS_TEST_DATA names {folder}, which is not there: correct it, or unset it to skip these tests"
        )
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}: set DLC_ASSETS_TEST_DATA to its folder")
    return folder


@dataclass(frozen=True)
class FinishedDemo:
    """A demo's lab after the whole chain.

    Attributes
    ----------
    lab
        The lab folder.
    inputs_before
        sha256 by path of everything outside store/, taken after rendering and before the chain.
    facts
        What the demo reported: products by asset and state, accuracy against the truth.
    """

    lab: Path
    inputs_before: dict[str, str]
    facts: dict[str, Any]


def hash_inputs(lab: Path) -> dict[str, str]:
    """Return the sha256 of every file of *lab* that is not the platform's (store/), by its path in the lab."""
    return {
        path.relative_to(lab).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(lab.rglob("*"))
        if path.is_file() and path.relative_to(lab).parts[0] != "store"
    }


def environment_without_lab() -> dict[str, str]:
    """Return this process's environment without what would send a command to another lab or instance."""
    return {name: value for name, value in os.environ.items() if name not in {"DAGSTER_HOME", "DLC_ASSETS_LAB"}}


def _python(code: str, lab: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, str(lab)],
        capture_output=True,
        text=True,
        env=environment_without_lab(),
        check=False,
        timeout=1200,
    )
    said = f"the demo failed:\n{done.stderr[-8000:]}\n{done.stdout[-2000:]}"
    assert done.returncode == 0, said
    assert '"ok": false' not in done.stdout, said
    return done.stdout


@pytest.fixture(scope="session")
def finished_demo(tmp_path_factory: pytest.TempPathFactory) -> FinishedDemo:
    """A small demo, rendered, trained, analysed and exported for real, once for all tests. Read it; write into `lab_copy`."""
    stated = os.environ.get(_MADE_BEFORE)
    place = Path(stated) if stated else workers.common_folder(tmp_path_factory) / "demo"
    place.mkdir(parents=True, exist_ok=True)
    lab, inputs, facts = place / "lab", place / "inputs.json", place / "facts.json"
    with FileLock(place / "lock"):  # the other worker may be making it
        if not facts.is_file():
            _python(_RENDER, lab)
            inputs.write_text(json.dumps(hash_inputs(lab)))
            facts.write_text(_python(_RUN, lab))
    return FinishedDemo(lab, json.loads(inputs.read_text()), json.loads(facts.read_text()))


@pytest.fixture(scope="session")
def demo_lab(finished_demo: FinishedDemo) -> Path:
    """The lab folder of `finished_demo`: to be read only."""
    return finished_demo.lab


@pytest.fixture
def lab_copy(demo_lab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh copy of the finished demo's lab, with its Dagster instance, that commands of this test find by themselves."""
    lab = tmp_path / "lab"
    shutil.copytree(demo_lab, lab, symlinks=True)
    use_lab(lab, monkeypatch)
    return lab


def use_lab(lab: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make *lab* and its own Dagster instance the ones of this test's process; both are forgotten after the test."""
    monkeypatch.setenv("DLC_ASSETS_LAB", str(lab))
    monkeypatch.setenv("DAGSTER_HOME", "")  # remembered as unset, so that what the test's code sets is undone
    monkeypatch.delenv("DAGSTER_HOME")
