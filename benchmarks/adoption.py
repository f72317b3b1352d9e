"""How long it takes to look through a lab's old results, and to take them over.

A lab of many recordings and one result file of DeepLabCut for each (h5, four body parts) is made. The survey reads every header and matches
every file to a recording and a network (`dlc-assets adopt --dry-run`); the import writes pose tables of a part of them, whose videos are
probed before, and tells the Dagster instance (`dlc-assets adopt`). The peer is pandas: reading the same files with `pandas.read_hdf` and
writing each as Parquet, without matching, times or checks.
"""

from __future__ import annotations

import argparse
import os
import shutil
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

from benchmarks.report import command_line, finish, machine, result, target
from dlc_assets.adopting import adopt, look
from dlc_assets.demo.files import encode_video
from dlc_assets.lab.lab import open_lab_folder
from dlc_assets.recordings.discovery import discover
from dlc_assets.recordings.session_recordings import record_session

_SCORER = "DLC_resnet50_walkNov1shuffle1_1000"
_PARTS = ("snout", "leftear", "rightear", "tailbase")
_FRAMES = 900  # half a minute
_RECORDINGS_A_SESSION = 5
_PEER_FILES = 100
LIMIT_SURVEY_SECONDS, LIMIT_FILES_PER_SECOND = 120.0, 20.0
_LAB = """\
# Very many old results, to measure adoption with. Written by the benchmarks; safe to remove.
name: Benchmark lab
recordings: [{root: recordings, template: "{subject}/{session}/{recording}.mp4", camera: top}]
analyze: {settle_seconds: 0}
"""
_CONFIG = (
    f"Task: walk\nscorer: Ann\ndate: Nov1\nmultianimalproject: false\nbodyparts: [{', '.join(_PARTS)}]\nskeleton: []\n"
)


def run(folder: Path, *, files: int, imported: int) -> dict[str, Any]:
    """Measure the survey of *files* result files, and the import of *imported*, in labs below *folder*."""
    on = machine()
    table, video = _one_result(folder), _one_video(folder)
    survey_seconds, states = _survey(folder / "many", table, video, files)
    import_seconds, tables = _import(folder / "some", table, video, imported)
    peer_seconds = _peer(folder / "some" / "results")
    rate = imported / import_seconds
    facts = {
        "ours": {
            "surveyed": files,
            "survey_seconds": survey_seconds,
            "surveyed_per_second": files / survey_seconds,
            "states": states,
            "imported": imported,
            "pose_tables": tables,
            "import_seconds": import_seconds,
            "imported_per_second": rate,
        },
        "peer": {"name": "pandas.read_hdf and to_parquet", "files_per_second": 1 / peer_seconds},
    }
    targets = {
        "survey_seconds": target(survey_seconds * 10_000 / files, LIMIT_SURVEY_SECONDS),
        "imported_per_second": target(rate, LIMIT_FILES_PER_SECOND, "at least"),
        "matched": target(states.get("matched", 0), files, "at least"),
    }
    return result("adoption", facts, targets, on=on)


def _one_result(folder: Path) -> bytes:
    import pandas as pd

    columns = pd.MultiIndex.from_product(
        [[_SCORER], _PARTS, ["x", "y", "likelihood"]], names=["scorer", "bodyparts", "coords"]
    )
    values = np.random.default_rng(1).random((_FRAMES, len(columns))) * np.tile([60, 44, 1], len(_PARTS))
    path = folder / "one.h5"
    pd.DataFrame(values, columns=columns).to_hdf(path, key="df_with_missing", format="table", mode="w")
    return path.read_bytes()


def _one_video(folder: Path) -> bytes:
    path = folder / "one.mp4"
    encode_video(path, (np.full((48, 64, 3), n % 250, np.uint8) for n in range(_FRAMES)), Fraction(30), None)
    return path.read_bytes()


def _make(lab: Path, table: bytes, video: bytes, files: int) -> None:
    """Make a lab with *files* recordings, a project of one TensorFlow network, and a result file for each recording."""
    (lab / "results").mkdir(parents=True)
    (lab / "lab.yaml").write_text(_LAB, encoding="utf-8")
    train = lab / "projects" / "walk" / "dlc-models" / "iteration-0" / "walkNov1-trainset95shuffle1" / "train"
    train.mkdir(parents=True)
    (lab / "projects" / "walk" / "config.yaml").write_text(_CONFIG, encoding="utf-8")
    (train / "pose_cfg.yaml").write_text(f"all_joints_names: [{', '.join(_PARTS)}]\n", encoding="utf-8")
    (train / "snapshot-1000.index").write_text("x", encoding="utf-8")
    for number in range(files):
        session = number // _RECORDINGS_A_SESSION
        place = lab / "recordings" / f"m{session % 50:02d}" / f"{20200101 + session}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"v{number:05d}.mp4").write_bytes(video)
        (lab / "results" / f"v{number:05d}{_SCORER}.h5").write_bytes(table)


def _survey(folder: Path, table: bytes, video: bytes, files: int) -> tuple[float, dict[str, int]]:
    _say(f"making {files} result files")
    _make(folder, table, b"no video", files)
    lab = open_lab_folder(folder)
    _say("looking")
    began = time.perf_counter()
    done, _ = look(lab, folder / "projects/walk/config.yaml", [folder / "results"], folder / "answers.yaml", log=_say)
    seconds = time.perf_counter() - began
    shutil.rmtree(folder)
    return seconds, dict(done.states)


def _import(folder: Path, table: bytes, video: bytes, files: int) -> tuple[float, int]:
    from dlc_assets.resources.instance import open_instance

    _say(f"making {files} result files with their videos, and probing these")
    _make(folder, table, video, files)
    lab = open_lab_folder(folder)
    for session in discover(lab).sessions.values():
        record_session(lab, session, run_id="", log=lambda _: None)
    _say("importing")
    with _own_instance(), open_instance(lab, lambda _: None) as instance:
        began = time.perf_counter()
        config = folder / "projects/walk/config.yaml"
        done = adopt(lab, instance, config, [folder / "results"], folder / "answers.yaml", log=_say)
        seconds = time.perf_counter() - began
    assert not done.problems, done.problems[:3]
    return seconds, len(done.pose_tables)


@contextmanager
def _own_instance() -> Iterator[None]:
    """Leave no instance but the lab's own in the environment."""
    before = {name: os.environ.pop(name) for name in ("DAGSTER_HOME", "DLC_ASSETS_LAB") if name in os.environ}
    try:
        yield
    finally:
        for name in ("DAGSTER_HOME", "DLC_ASSETS_LAB"):
            os.environ.pop(name, None)
        os.environ |= before


def _peer(results: Path) -> float:
    """Return the median seconds a file that pandas takes to read it and write it as Parquet."""
    import pandas as pd

    seconds = []
    for path in sorted(results.iterdir())[:_PEER_FILES]:
        began = time.perf_counter()
        table = pd.DataFrame(pd.read_hdf(path))
        table.columns = ["_".join(name) for name in table.columns]
        table.to_parquet(path.with_suffix(".parquet"))
        seconds.append(time.perf_counter() - began)
    return median(seconds)


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def main() -> int:
    parser: argparse.ArgumentParser = command_line("adoption", __doc__)
    parser.add_argument("--files", type=int, default=10_000, help="result files that are surveyed")
    parser.add_argument("--imported", type=int, default=1_000, help="result files that are imported")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="adoption-") as folder:
        measured = run(Path(folder), files=options.files, imported=options.imported)
    ours, peer = measured["ours"], measured["peer"]
    lines = [
        f"survey of {ours['surveyed']} files: {ours['survey_seconds']:.1f} s, {ours['surveyed_per_second']:.0f} files/s",
        f"import of {ours['imported']} files: {ours['import_seconds']:.1f} s, {ours['imported_per_second']:.1f} files/s",
        f"{peer['name']}: {peer['files_per_second']:.1f} files/s",
    ]
    return finish(measured, lines, as_json=options.json)


if __name__ == "__main__":
    sys.exit(main())
