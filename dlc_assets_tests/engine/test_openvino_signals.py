"""OpenVINO leaves the process able to hear signals, where Python's faulthandler is on, too, and calls nobody."""

from __future__ import annotations

import subprocess
import sys

import pytest

from dlc_assets.engine.openvino_network import has_openvino

SCRIPT = """
import faulthandler, gc, signal, threading
faulthandler.enable()
signal.signal(signal.SIGUSR1, lambda *_: print("heard"))
from dlc_assets.engine.openvino_network import _core
held = [_core()]
held[0].get_property("CPU", "FULL_DEVICE_NAME")  # loads the plugin
thread = threading.Thread(target=lambda: (held.clear(), gc.collect()))
thread.start()
thread.join()
signal.raise_signal(signal.SIGUSR1)
"""


@pytest.mark.skipif(not has_openvino(), reason="the extra openvino is not installed")
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGUSR1")
def test_a_signal_is_heard_after_the_last_network_was_let_go_in_another_thread() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout.split()) == (0, ["heard"]), done.stderr


REPORT = """
import multiprocessing, sys
multiprocessing.process.BaseProcess.start = lambda self: sys.exit("a process was forked to report the use")
import torch
from dlc_assets.engine.openvino_network import load_openvino
openvino = load_openvino()
openvino.convert_model(torch.nn.Linear(2, 2), example_input=torch.zeros(1, 2))
reporters = {name for name, module in sys.modules.items() if name.startswith("openvino_telemetry") and module is not None}
print(sorted(reporters))
"""


@pytest.mark.skipif(not has_openvino(), reason="the extra openvino is not installed")
@pytest.mark.slow
def test_converting_a_network_reports_nothing_to_anybody() -> None:
    done = subprocess.run([sys.executable, "-c", REPORT], capture_output=True, text=True, timeout=240, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr
