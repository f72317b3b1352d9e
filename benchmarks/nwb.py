"""What an NWB file of a long recording costs, against neuroconv's `DeepLabCutInterface` on the same poses in the same run.

Ours starts at the pose table, neuroconv at the file that DeepLabCut 3.0.2 writes of the same values (float32), as each product does;
both end with an NWB file on disk that refers to no video and states the times as a rate. DeepLabCut 2 wrote float64, which neuroconv
keeps: that is told beside, and has no limit here. The poses are made up (`poses.wandering_poses`).

Each file is written in a process of its own, in turn, whose imports are done before the clock starts. The memory compared is
the peak of the whole process, libraries included; what came on top of the libraries is told, too. Ours alone is written once
more at a quarter of the length: memory must not grow with it. Then the checks that follow each export are timed apart: reading
back, bit by bit, and the inspections.

Without the peer (`nwb_peer` makes its environment; ``--peer-python`` names another) there is no comparison: its targets
count as missed.
"""

from __future__ import annotations

import json
import math
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd

from benchmarks.nwb_peer import PeerMissingError, peer_python
from benchmarks.poses import described, wandering_poses, write_h5
from benchmarks.report import command_line, finish, machine, result, target
from dlc_assets.poses.table_file import write_poses

# Ours divided by neuroconv's; MB more of ours for four times the frames; places where ours does not give back the table.
LIMITS = {"seconds_ratio": 1.0, "memory_ratio": 0.5, "size_ratio": 0.5, "memory_growth_mb": 20.0, "differences": 0}

_RATE = 30.0  # frames/s, that of `described`
_SHORTER = 4  # the short recording is that much shorter
_LOG_END = 4000
_FIGURES = ("seconds", "cpu_seconds", "imported_mb", "peak_mb", "size_mb")
_REPOSITORY = Path(__file__).resolve().parent.parent

Told = dict[str, Any]


def run(frames: int, bodyparts: int, rounds: int, asked_python: Path | None) -> Told:
    """Measure both sides in turn and compare the medians with the limits."""
    on = machine()
    peer, why_not = _peer(asked_python)
    sides: dict[str, list[Told]] = {"ours": [], **({"peer": [], "peer_float64": []} if peer else {})}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        poses = wandering_poses(frames, bodyparts)
        _write_inputs(folder, poses)
        for _ in range(rounds):
            for side, told in sides.items():
                told.append(_write(side, folder, peer))
        if peer:
            for side in ("peer", "peer_float64"):
                _check_same(Path(sides[side][-1]["file"]), poses)
        checks = _ask(Path(sys.executable), "check_ours", folder / "top.parquet", sides["ours"][-1]["file"])
        _write_inputs(folder, poses[: max(1, frames // _SHORTER)])
        short = {side: _write(side, folder, peer) for side in list(sides)[:2]}
    medians = {side: _medians(told) for side, told in sides.items()}
    facts = {
        "frames": frames,
        "bodyparts": bodyparts,
        "rounds": rounds,
        "medians": medians,
        "ratios": {side: _ratios(medians["ours"], each) for side, each in medians.items() if side != "ours"},
        "short": {"frames": max(1, frames // _SHORTER), **{side: _figures(told) for side, told in short.items()}},
        "checks": checks,
        "peer_versions": sides["peer"][0]["versions"] if peer else None,
        "peer_missing": why_not,
    }
    return result("nwb", facts, _targets(facts), on=on)


def _targets(facts: Told) -> dict[str, dict[str, Any]]:
    ratios = facts["ratios"].get("peer", {})
    values = {
        **{f"{name}_ratio": ratios.get(name, math.nan) for name in ("seconds", "memory", "size")},
        "memory_growth_mb": facts["medians"]["ours"]["peak_mb"] - facts["short"]["ours"]["peak_mb"],
        "differences": len(facts["checks"]["differences"]),
    }
    return {name: target(value, LIMITS[name]) for name, value in values.items()}


def _peer(asked: Path | None) -> tuple[Path | None, str | None]:
    """Return the Python that has neuroconv, or why there is none."""
    if asked is not None:
        return asked, None
    try:
        return peer_python(), None
    except PeerMissingError as error:
        return None, str(error)


def _write_inputs(folder: Path, poses: np.ndarray) -> None:
    """Write *poses* (frames, body parts, 3) as each side reads them."""
    frames, count, _ = poses.shape
    bodyparts = [f"bodypart{number + 1}" for number in range(count)]
    names = [("", bodypart) for bodypart in bodyparts]
    times = np.arange(frames) / _RATE
    write_poses(folder / "top.parquet", names, lambda first, last: poses[first:last], times, described(frames))
    write_h5(folder / "peer.h5", poses, bodyparts)
    table = pd.DataFrame(pd.read_hdf(folder / "peer.h5")).astype(np.float64)
    table.to_hdf(folder / "peer_float64.h5", key="df_with_missing", format="table", mode="w")


def _write(side: str, folder: Path, peer: Path | None) -> Told:
    """Have *side* write its NWB file in a new process; what it measured."""
    if side == "ours" or peer is None:
        return _ask(Path(sys.executable), "write_ours", folder / "top.parquet", folder)
    file = folder / f"{side}.nwb"
    file.unlink(missing_ok=True)
    return _ask(peer, "write_peer", folder / f"{side}.h5", file, _RATE)


def _ask(python: Path, *words: object) -> Told:
    """Return what ``benchmarks.nwb_sides`` answers to *words*.

    Raises
    ------
    RuntimeError
        It failed; the message has the end of what it said.
    """
    command = [str(python), "-m", "benchmarks.nwb_sides", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False, cwd=_REPOSITORY)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed. The end of what it said:\n{done.stderr[-_LOG_END:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def _check_same(file: Path, poses: np.ndarray) -> None:
    """Raise an AssertionError unless the peer's file holds *poses* at their rate: else there is nothing to compare."""
    with h5py.File(file) as opened:
        container = opened["processing/behavior/PoseEstimationDeepLabCut"]
        for part in range(poses.shape[1]):
            series = container[f"PoseEstimationSeriesBodypart{part + 1}"]
            np.testing.assert_array_equal(series["data"][:], poses[:, part, :2])
            np.testing.assert_array_equal(series["confidence"][:], poses[:, part, 2])
            assert math.isclose(series["starting_time"].attrs["rate"], _RATE), file


def _figures(told: Mapping[str, Any]) -> dict[str, float]:
    return {name: told[name] for name in _FIGURES}


def _medians(told: Sequence[Told]) -> dict[str, float]:
    return {name: statistics.median(each[name] for each in told) for name in _FIGURES}


def _ratios(ours: Mapping[str, float], theirs: Mapping[str, float]) -> dict[str, float]:
    """Return ours divided by theirs; ``memory`` is of whole processes, ``memory_added`` of what came on top of the libraries."""
    return {
        "seconds": ours["seconds"] / theirs["seconds"],
        "cpu_seconds": ours["cpu_seconds"] / theirs["cpu_seconds"],
        "memory": ours["peak_mb"] / theirs["peak_mb"],
        "memory_added": (ours["peak_mb"] - ours["imported_mb"]) / (theirs["peak_mb"] - theirs["imported_mb"]),
        "size": ours["size_mb"] / theirs["size_mb"],
    }


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark, print it, and return 0 if every target is met, else 1."""
    parser = command_line("nwb", __doc__)
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--bodyparts", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=5, help="files of each side to take the median of")
    parser.add_argument("--peer-python", type=Path, help="a Python that has neuroconv; without it, one is made")
    asked = parser.parse_args(arguments)
    measured = run(asked.frames, asked.bodyparts, asked.rounds, asked.peer_python)
    return finish(measured, _lines(measured), as_json=asked.json)


def _lines(measured: Told) -> list[str]:
    checks, short = measured["checks"], measured["short"]
    return [
        f"{measured['frames']} frames of {measured['bodyparts']} body parts, medians of {measured['rounds']}",
        *(f"  {side}: {_line(each)}" for side, each in measured["medians"].items()),
        *(
            f"  ours / {side}: " + ", ".join(f"{name} {value:.2f}" for name, value in ratios.items())
            for side, ratios in measured["ratios"].items()
        ),
        *(f"  {short['frames']} frames, {side}: {_line(short[side])}" for side in ("ours", "peer") if side in short),
        f"  reading back {checks['readback_seconds']:.1f} s: {len(checks['differences'])} differences; "
        f"inspections {checks['check_seconds']:.1f} s: {len(checks['findings'])} findings; "
        f"peak of both {checks['peak_mb']:.0f} MB",
        *(f"    {finding}" for finding in (*checks["differences"], *checks["findings"])),
        *([f"  NOT COMPARED: {measured['peer_missing']}"] if measured["peer_missing"] else []),
    ]


def _line(figures: Mapping[str, float]) -> str:
    return (
        f"{figures['seconds']:.1f} s ({figures['cpu_seconds']:.1f} of the processor), peak {figures['peak_mb']:.0f} MB "
        f"({figures['imported_mb']:.0f} after imports), file {figures['size_mb']:.1f} MB"
    )


if __name__ == "__main__":
    sys.exit(main())
