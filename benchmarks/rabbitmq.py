"""A virtual host of a real RabbitMQ, for tests and benchmarks: empty at first and gone afterwards.

The RabbitMQ is the one at `DLC_ASSETS_BROKER_URL`, else one that listens on this machine's standard port already, else one that is started
here from Debian's package, with its data in a temporary folder.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.services import ServiceMissing

URL = "DLC_ASSETS_BROKER_URL"
_STANDARD = 5672
_STARTING_SECONDS = 90.0


@contextmanager
def rabbitmq() -> Iterator[str]:
    """Give the address of a RabbitMQ.

    Raises
    ------
    ServiceMissing
        None listens here, and none can be started.
    """
    stated = os.environ.get(URL)
    if stated:
        yield stated
    elif _listens(_STANDARD):
        yield f"amqp://guest:guest@127.0.0.1:{_STANDARD}//"
    else:
        with tempfile.TemporaryDirectory(prefix="dlc-assets-rabbitmq-") as place:
            yield from _own(Path(place))


def _own(place: Path) -> Iterator[str]:
    program = shutil.which("rabbitmq-server", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/lib/rabbitmq/bin")
    if program is None:
        raise ServiceMissing(f"no RabbitMQ: install Debian's rabbitmq-server, or name one in {URL}")
    port, distribution = _free_port(), _free_port()
    place.chmod(0o777)  # as root, the server runs as the user rabbitmq
    settings = {
        "RABBITMQ_NODENAME": f"dlc-assets-{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(distribution),
        "RABBITMQ_MNESIA_BASE": str(place / "data"),
        "RABBITMQ_LOG_BASE": str(place / "log"),
        "RABBITMQ_PID_FILE": str(place / "pid"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(place / "plugins"),
    }
    with (place / "output").open("wb") as output:
        server = subprocess.Popen(
            [program], env={**os.environ, **settings}, stdout=output, stderr=output, start_new_session=True
        )
    try:
        deadline = time.monotonic() + _STARTING_SECONDS
        while not _listens(port):
            if server.poll() is not None or time.monotonic() > deadline:
                raise ServiceMissing(
                    f"RabbitMQ does not start: {(place / 'output').read_text(errors='replace')[-500:]}"
                )
            time.sleep(0.2)
        yield f"amqp://guest:guest@127.0.0.1:{port}//"
    finally:
        if server.poll() is None:
            os.killpg(server.pid, signal.SIGTERM)
            try:
                server.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(server.pid, signal.SIGKILL)
                server.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
