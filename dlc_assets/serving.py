"""Dagster's services for one lab, kept running: code server, daemon and the server of the UI.

Dagster's own ``dagster dev`` does not start a code server again that was killed, and what it started outlives it. Here, a service that
ends is started again, and none outlives this process (`service`).
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._grpc.client import DagsterGrpcClient
from dagster._utils import find_free_port

from dlc_assets.lab.errors import EnvironmentProblem
from dlc_assets.service import GRACE_SECONDS

CODE_SERVER, DAEMON, UI = "dagster", "dagster._daemon", "dagster_webserver"  # the modules that are run
_LOCATION, _MODULE = "dlc_assets", "dlc_assets.definitions"
_HOST = "127.0.0.1"
_LOOK_SECONDS = 0.5
_LOADING_SECONDS = 180.0  # from a slow network share
# A service that ends so soon, so often, and never did better, does not work at all: its port is taken, or the instance is set up wrongly.
_SOON_SECONDS, _MOST_SOON = 20.0, 5
_MOST_PAUSE = 10.0  # s


@dataclass
class _Service:
    name: str
    module: str
    arguments: Sequence[str]
    process: subprocess.Popen[bytes] | None = field(default=None)
    started: float = 0.0
    ended_soon: int = 0  # times in a row
    worked: bool = False

    def start(self) -> None:
        # In a process group of its own: Ctrl-C is for this process, which ends the services in the right order.
        alone: dict[str, Any] = {"process_group": 0}
        if sys.platform == "win32":
            alone = {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "dlc_assets.service", self.module, *self.arguments], stdin=subprocess.PIPE, **alone
        )
        self.started = time.monotonic()

    def has_ended(self) -> bool:
        return self.process is not None and self.process.poll() is not None

    def close(self) -> None:
        """Let it know that it is to end."""
        if self.process is not None and self.process.stdin is not None:
            with suppress(BrokenPipeError):  # it has ended already
                self.process.stdin.close()

    def wait(self, seconds: float) -> None:
        if self.process is None:
            return
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def serve(port: int, log: Callable[[str], None]) -> None:
    """Run the services of the lab and instance that the environment names, until SIGINT or SIGTERM.

    Parameters
    ----------
    port
        Of the UI, on 127.0.0.1.
    log
        Gets a line for each service that is started again.

    Raises
    ------
    EnvironmentProblem
        A service ends again and again.
    """
    with _stopped_by_signals() as stopped, tempfile.TemporaryDirectory(prefix="dlc-assets-") as place:
        address = _address(Path(place))
        workspace = Path(place) / "workspace.yaml"
        server = {"location_name": _LOCATION, "host": "localhost", **address}
        server["additional_metadata"] = {"module_name": _MODULE}
        workspace.write_text(yaml.safe_dump({"load_from": [{"grpc_server": server}]}), encoding="utf-8")
        where = [text for name, value in address.items() for text in (f"--{name}", str(value))]
        code = _Service(
            "code server", CODE_SERVER, ["api", "grpc", *where, "-m", _MODULE, "--location-name", _LOCATION]
        )
        others = [
            _Service("daemon", DAEMON, ["run", "-w", str(workspace)]),
            _Service("UI", UI, ["-w", str(workspace), "-h", _HOST, "-p", str(port)]),
        ]
        try:
            code.start()
            _await_code(code, address, stopped)
            for service in others:
                service.start()
            _keep_running([code, *others], stopped, log)
        finally:
            for services in (others, [code]):  # nobody asks the code server for anything once it ends
                for service in services:
                    service.close()
                for service in services:
                    service.wait(GRACE_SECONDS + 5)


def _keep_running(services: Sequence[_Service], stopped: threading.Event, log: Callable[[str], None]) -> None:
    while not stopped.wait(_LOOK_SECONDS):
        for service in services:
            if not service.has_ended():
                continue
            soon = time.monotonic() - service.started < _SOON_SECONDS
            service.ended_soon = service.ended_soon + 1 if soon else 0
            service.worked |= not soon  # then it will again, once the database is back
            assert service.process is not None
            status = service.process.returncode
            if service.ended_soon >= _MOST_SOON and not service.worked:
                raise EnvironmentProblem(
                    f"The {service.name} of Dagster ended {_MOST_SOON} times within {_SOON_SECONDS:.0f} s of its start, the last time with "
                    f"status {status}. Its reason is in the lines above: is the port taken, or can the instance's database not be reached?"
                )
            log(f"the {service.name} has ended (status {status}) and is started again")
            service.close()
            if stopped.wait(min(_MOST_PAUSE, 2.0 * service.ended_soon)):
                return
            service.start()


def _await_code(code: _Service, address: dict[str, Any], stopped: threading.Event) -> None:
    """Wait until the code server answers, so that the others find the lab's graph when they begin."""
    client = DagsterGrpcClient(host="localhost", **address)
    deadline = time.monotonic() + _LOADING_SECONDS
    while not stopped.is_set():
        if code.has_ended() or time.monotonic() > deadline:
            raise EnvironmentProblem(
                "The code server of Dagster does not start; its reason is in the lines above. Does `dlc-assets status` work?"
            )
        try:
            client.ping("")
            return
        except DagsterUserCodeUnreachableError:
            stopped.wait(_LOOK_SECONDS)


def _address(place: Path) -> dict[str, Any]:
    """Return where the code server listens: a socket that only this user can open, or a port where there are no sockets."""
    return {"port": find_free_port()} if sys.platform == "win32" else {"socket": str(place / "code.sock")}


@contextmanager
def _stopped_by_signals() -> Iterator[threading.Event]:
    """Give an event that SIGINT and SIGTERM set, also where a script's `&` has made this process ignore the first."""
    stopped = threading.Event()
    before = {number: signal.signal(number, lambda *_: stopped.set()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
