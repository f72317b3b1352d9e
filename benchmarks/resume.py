"""What a kill costs: an analysis is ended with SIGKILL at half of its frames, and done again by the same command.

The command is `dlc-assets analyze`, killed with all its processes as soon as its log says that half of the frames are done. After it,
at most the rest and one chunk may be computed, and the table must be that of an unbroken analysis: the same data version,
the same bytes in every column. How many frames were done at the kill is taken from that last line of the log; the few
done after it was written count as rest.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.inference_lab import SMALL, add_lab_options, need_lab, need_model, need_recording, probe, say
from benchmarks.openfield import command
from benchmarks.report import command_line, finish, machine, result, target
from benchmarks.worker import use_device
from dlc_assets.inference.pose_tables import pose_files, pose_manifest
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.manifest import Manifest
from dlc_assets.recordings.info import need_session_info
from dlc_assets.training.models import ModelVersion

SIZE = (320, 240)  # px
# Several chunks, which are finished by time or number of frames.
_FRAMES = {"cpu": 2_400, "cuda": 40_000}
_DONE = re.compile(r": (\d+) of \d+ frames")


def analyze_and_kill(lab: Lab, session: str, at: int) -> int:
    """Analyze *session* and kill that when *at* frames are done; return how many were, by the log.

    Raises
    ------
    RuntimeError
        The analysis ended before.
    """
    line = [
        sys.executable,
        "-m",
        "dlc_assets.cli",
        "analyze",
        session,
        "--model",
        SMALL,
        "--lab",
        str(lab.root),
        "--json",
    ]
    environment = {name: value for name, value in os.environ.items() if name != "DAGSTER_HOME"}
    process = subprocess.Popen(
        line, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    assert process.stderr is not None
    said = []
    try:
        for text in process.stderr:
            said.append(text)
            told = _DONE.search(text)
            if told and int(told[1]) >= at:
                return int(told[1])
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stderr.close()
    raise RuntimeError(f"{session}: the analysis ended before {at} frames were done. It said:\n{''.join(said)[-4000:]}")


def columns_hash(path: Path) -> str:
    """Return the sha256 (hex) of the values of a pose table, column by column; what its metadata says is left out."""
    digest = hashlib.sha256()
    table = pq.read_table(path)
    for name, column in zip(table.column_names, table.columns, strict=True):
        plain = column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
        (batch,) = pa.table({name: plain}).combine_chunks().to_batches()
        digest.update(batch.serialize())
    return digest.hexdigest()


def _table(lab: Lab, session: str) -> tuple[Manifest, Path]:
    manifest = pose_manifest(lab, SMALL, need_session_info(lab.layout, session)[0])
    if manifest is None:
        raise RuntimeError(f"{session} has no pose table")
    (file,) = pose_files(lab, manifest)
    return manifest, file.path


def _chunks(lab: Lab, version: ModelVersion, session: str) -> Iterator[int]:
    """Give the frames of each finished chunk."""
    for path in lab.layout.pose_work(version.model, version.version, session).glob("*/*.npy"):
        yield len(np.load(path, mmap_mode="r"))


def run(folder: Path, *, device: str, frames: int | None) -> dict[str, Any]:
    """Break an analysis off and compare what follows with an unbroken one."""
    kind = use_device(device)
    frames = frames or _FRAMES[kind]
    lab = need_lab(folder)
    version = need_model(lab, SMALL)
    session, _ = need_recording(lab, "resume", frames, size=SIZE)
    probe(lab)
    on = machine()
    say(f"{session}: unbroken")
    command(lab.root, "analyze", session, "--model", SMALL, "--recompute")
    unbroken, table = _table(lab, session)
    of_unbroken = columns_hash(table)
    shutil.rmtree(table.parent)
    say(f"{session}: killed at half")
    done = analyze_and_kill(lab, session, frames // 2)
    chunks = list(_chunks(lab, version, session))
    say(f"{session}: killed after {done} of {frames} frames, {sum(chunks)} of them in {len(chunks)} chunks; again")
    command(lab.root, "analyze", session, "--model", SMALL)
    resumed, table = _table(lab, session)
    computed = frames - resumed.details["recordings"][0]["resumed_after"]
    chunk = max(chunks, default=0)
    facts = {
        "device": kind,
        "frames": frames,
        "done_at_kill": done,
        "chunks": chunks,
        "computed_after": computed,
        "seconds": {"unbroken": _seconds(unbroken), "resumed": _seconds(resumed)},
        "inference": resumed.details["inference"],
    }
    same = unbroken.data_version == resumed.data_version and of_unbroken == columns_hash(table)
    targets = {
        "computed_after": target(computed, frames - done + chunk),
        "finished_chunks": target(len(chunks), 1, "at least"),  # else nothing was there to go on from
        "identical": target(int(same), 1, "at least"),
    }
    return result("resume", facts, targets, on=on)


def _seconds(manifest: Manifest) -> float:
    return float(manifest.details["recordings"][0]["stages"]["total"])


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark, print it, and return 0 if every target is met, else 1."""
    parser = command_line("resume", __doc__)
    add_lab_options(parser)
    parser.add_argument(
        "--frames", type=int, help=f"of the video (default: {_FRAMES['cpu']}, {_FRAMES['cuda']} on a GPU)"
    )
    asked = parser.parse_args(arguments)
    measured = run(asked.lab, device=asked.device, frames=asked.frames)
    return finish(measured, _lines(measured), as_json=asked.json)


def _lines(measured: dict[str, Any]) -> list[str]:
    seconds = measured["seconds"]
    return [
        f"{measured['frames']} frames of {SIZE[0]}x{SIZE[1]} px on {measured['device']}: killed after {measured['done_at_kill']}, of which "
        f"{sum(measured['chunks'])} were in {len(measured['chunks'])} chunks; {measured['computed_after']} computed after it "
        f"({seconds['resumed']:.1f} s; unbroken {seconds['unbroken']:.1f} s)"
    ]


if __name__ == "__main__":
    sys.exit(main())
