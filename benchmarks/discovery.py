"""How long the sensors' ticks take in a lab with very many recordings: the first discovery, a tick with nothing new, one new video.

The lab's files are tiny real videos. Ticks are evaluated as the daemon's code server does, in a process of their own, on a Dagster instance
of each storage. The process of the first discovery is killed in the middle (SIGKILL) and followed by another, which must find every
session. There is no peer: DeepLabCut and Element DeepLabCut find no recordings.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.discovery_lab import make_discovery_lab
from benchmarks.postgres import own_postgres
from benchmarks.report import command_line, finish, machine, result, target
from dlc_assets.demo.files import encode_video
from dlc_assets.lab.lab import open_lab_folder
from dlc_assets.recordings.index import RecordingIndex

_SENSORS = ("recordings", "analysis", "export", "catalog")
_STEADY_TICKS = 5
_SETTLE_SECONDS = 1.0
_KILLED_AFTER = 5.0  # s, in the middle of the first tick
LIMIT_TICK, LIMIT_STEADY, LIMIT_MB, LIMIT_CURSOR = 40.0, 2.0, 300.0, 65_536


def run(folder: Path, *, recordings: int, folders: int, storages: list[str]) -> dict[str, Any]:
    """Measure each of *storages* on a lab of its own below *folder*."""
    on = machine()
    measured = {}
    targets: dict[str, dict[str, Any]] = {}
    for storage in storages:
        lab = folder / storage
        _say(f"{storage}: making {recordings} recordings in {folders} folders")
        alone = recordings == folders
        video = _tiny_video(folder)
        root = make_discovery_lab(lab, recordings=recordings, folders=folders, video=video)
        settings = lab / "lab.yaml"
        since = f"analyze: {{auto: true, since: 2026-01-01, settle_seconds: {_SETTLE_SECONDS}}}"
        settings.write_text(settings.read_text().replace("analyze: {auto: false}", since))
        with _instance_of(storage) as environment:
            facts = _measure(lab, root, environment, recordings=recordings, alone=alone, video=video)
        measured[storage] = facts
        targets |= {f"{storage}_{name}": each for name, each in _targets(facts, recordings).items()}
    facts = {"recordings": recordings, "folders": folders, "ours": measured, "peer": {}}
    return result("discovery", facts, targets, on=on)


def _measure(
    lab: Path, root: Path, environment: dict[str, str], *, recordings: int, alone: bool, video: bytes
) -> dict[str, Any]:
    _say("the first discovery, killed in its middle")
    _killed(lab, environment)
    with RecordingIndex.opened(open_lab_folder(lab)) as index:
        (kept,) = index.connection.execute("select count(*) from session").fetchone()
    _say(f"{kept} sessions were kept; going on")
    first = _ticks(lab, environment, "recordings", "--until-found")
    with RecordingIndex.opened(open_lab_folder(lab)) as index:
        (found,) = index.connection.execute("select count(*) from session where not gone").fetchone()
    _say(f"{found} sessions after {len(first.ticks)} ticks; working out their states")
    states = _ticks(lab, environment, *_SENSORS[1:], "--ticks", "12")
    _say("nothing new")
    steady = _ticks(lab, environment, *_SENSORS, "--ticks", str(_STEADY_TICKS + 1))
    _say("one new video")
    place = root / "m000005"
    path = place / "20261124-new" / "top.mp4" if alone else place / "20261124-new_top.mp4"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(video)
    os.utime(path)
    seen = _ticks(lab, environment, "recordings", "--ticks", "1")
    time.sleep(_SETTLE_SECONDS + 0.5)
    new = _ticks(lab, environment, "recordings", "--ticks", "2")
    by_sensor = {
        sensor: [tick["seconds"] for tick in steady.ticks if tick["sensor"] == sensor][1:] for sensor in _SENSORS
    }
    everything = [first, states, steady, seen, new]
    return {
        "kept_by_the_kill": kept,
        "sessions_found": found,
        "first_discovery": {
            "ticks": len(first.ticks),
            "seconds": sum(tick["seconds"] for tick in first.ticks),
            "longest_tick": max(tick["seconds"] for tick in first.ticks),
        },
        "longest_tick": max(tick["seconds"] for each in everything for tick in each.ticks),
        "steady_seconds": {sensor: median(seconds) for sensor, seconds in by_sensor.items()},
        "new_video": {
            "seconds": new.ticks[0]["seconds"],
            "runs_before_it_settled": seen.ticks[0]["runs"],
            "runs_in_the_first_tick_after": new.ticks[0]["runs"],
            "runs_in_the_second": new.ticks[1]["runs"],
        },
        "imported_mb": max(each.imported_mb for each in everything),
        "peak_mb": max(tick["peak_mb"] for each in everything for tick in each.ticks),
        "cursor_bytes": max(tick["cursor_bytes"] for each in everything for tick in each.ticks),
    }


def _targets(facts: dict[str, Any], recordings: int) -> dict[str, dict[str, Any]]:
    return {
        "sessions_found": target(facts["sessions_found"], recordings, "at least"),
        "longest_tick_seconds": target(facts["longest_tick"], LIMIT_TICK),
        **{
            f"steady_{sensor}_seconds": target(value, LIMIT_STEADY) for sensor, value in facts["steady_seconds"].items()
        },
        "new_video_asked_for_one_tick_after_it_settled": target(
            facts["new_video"]["runs_in_the_first_tick_after"], 1, "at least"
        ),
        "peak_mb": target(facts["peak_mb"], LIMIT_MB),
        "cursor_bytes": target(facts["cursor_bytes"], LIMIT_CURSOR),
    }


class _Told:
    """What a process of ticks told."""

    def __init__(self, lines: list[str]) -> None:
        told = [json.loads(line) for line in lines if line.startswith("{")]
        self.imported_mb: float = told[0]["imported_mb"]
        self.ticks: list[dict[str, Any]] = told[1:]


def _command(lab: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "benchmarks.discovery_ticks", str(lab), *words]


def _ticks(lab: Path, environment: dict[str, str], *words: str) -> _Told:
    done = subprocess.run(
        _command(lab, *words), env={**os.environ, **environment}, stdout=subprocess.PIPE, text=True, check=True
    )
    return _Told(done.stdout.splitlines())


def _killed(lab: Path, environment: dict[str, str]) -> None:
    """Kill a process in the middle of its first tick."""
    with subprocess.Popen(
        _command(lab, "recordings", "--ticks", "1"),
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()  # it has imported all, and begins
        time.sleep(_KILLED_AFTER)
        process.send_signal(signal.SIGKILL)


@contextmanager
def _instance_of(storage: str) -> Iterator[dict[str, str]]:
    """Give the environment of a lab whose Dagster instance is of *storage*."""
    if storage == "sqlite":
        yield {}
        return
    with own_postgres() as postgres:
        yield postgres.environment


def _tiny_video(folder: Path) -> bytes:
    """Return a real video of two frames."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "tiny.mp4"
    encode_video(path, (np.full((32, 32, 3), shade, np.uint8) for shade in (40, 80)), Fraction(25))
    return path.read_bytes()


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> int:
    """Run the benchmark as the command line says."""
    parser = command_line("discovery", __doc__)
    parser.add_argument("--recordings", type=int, default=100_000)
    parser.add_argument("--folders", type=int, default=1_000)
    parser.add_argument("--storage", choices=["sqlite", "postgres", "both"], default="both")
    options = parser.parse_args()
    storages = ["sqlite", "postgres"] if options.storage == "both" else [options.storage]
    with tempfile.TemporaryDirectory(prefix="dlc-assets-discovery-") as place:
        measured = run(Path(place), recordings=options.recordings, folders=options.folders, storages=storages)
    lines = [f"{options.recordings} recordings in {options.folders} folders"]
    for storage, facts in measured["ours"].items():
        first = facts["first_discovery"]
        lines.append(
            f"  {storage}: first discovery {first['seconds']:.0f} s in {first['ticks']} ticks; nothing new "
            + ", ".join(f"{sensor} {seconds:.2f} s" for sensor, seconds in facts["steady_seconds"].items())
            + f"; {facts['peak_mb']:.0f} MB at most"
        )
    return finish(measured, lines, as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
