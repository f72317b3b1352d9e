"""OpenVINO leaves the process able to hear signals, where Python's faulthandler is on, too."""

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
