"""How large a pose table is, and how fast one body part is read from it, against DeepLabCut's own HDF5 files.

Both sides hold the same values: positions that wander with a detector's noise, likelihoods near 1. DeepLabCut's
side is written and read as DeepLabCut 3 and its users do: float32, ``to_hdf(key="df_with_missing",
format="table")``, then ``read_hdf`` and a choice of columns. Files of DeepLabCut 2 are float64: their size is
told beside. Limits are on ratios, which a slow or busy machine changes little.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.report import command_line, finish, machine, result, target
from dlc_assets.poses.formats import tracks_to_dlc
from dlc_assets.poses.schema import PoseMetadata, Track
from dlc_assets.poses.selection import PoseFile, PoseSelection
from dlc_assets.poses.table_file import write_pose_table

SCORER = "DLC_Resnet50_benchmarkshuffle1_snapshot_200"

# Ours divided by DeepLabCut's, at most. What a lab does daily (keep tables, read a body part) has to be better; a
# whole table may cost more, since the rows are tidy and compressed, but not without bound.
LIMITS = {"size_mb": 0.75, "read_one_bodypart_s": 0.4, "read_all_s": 5.0, "write_s": 3.0}


def synthetic_tracks(frames: int, bodyparts: int, seed: int = 0) -> list[Track]:
    """Return tracks of an animal that wanders over a 640x480 frame; one in fifty detections is missing."""
    rng = np.random.default_rng(seed)
    tracks = []
    for number in range(bodyparts):
        path = np.cumsum(rng.normal(scale=0.5, size=(2, frames)), axis=1) % np.array([[640], [480]])
        x, y = (path + rng.normal(scale=0.3, size=(2, frames))).astype(np.float32)
        likelihood = (1 - rng.beta(0.3, 30, size=frames)).astype(np.float32)
        missing = rng.random(frames) < 0.02
        x[missing] = y[missing] = np.nan
        tracks.append(Track("", f"bodypart{number + 1}", x, y, likelihood))
    return tracks


def median_seconds(ours: Callable[[], object], peer: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Return the median times of *ours* and *peer*, called in turn so that both meet the same machine."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for repeat in range(repeats + 1):
        for action, measured in zip((ours, peer), seconds, strict=True):
            start = time.perf_counter()
            action()
            if repeat:  # the first round warms the caches
                measured.append(time.perf_counter() - start)
    return statistics.median(seconds[0]), statistics.median(seconds[1])


def measure(folder: Path, tracks: list[Track], repeats: int) -> tuple[dict[str, float], dict[str, float]]:
    """Return size and times of the pose table, and of DeepLabCut's file with the same values.

    Raises
    ------
    AssertionError
        The two do not give back the same values: then there is nothing to compare.
    """
    frames = len(tracks[0].x)
    times = np.arange(frames) * 1001 / 30000
    metadata = PoseMetadata(
        model="benchmark", version="1", session="ses-1", recording="top", frame_count=frames, scorer=SCORER
    )
    file = PoseFile(folder / "top.parquet", "benchmark", "1", "ses-1", "top")
    bodypart = tracks[len(tracks) // 2].bodypart
    h5, table = folder / "top.h5", tracks_to_dlc(tracks, scorer=SCORER)

    actions: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
        "write": (
            lambda: write_pose_table(file.path, tracks, times, metadata),
            lambda: _write_h5(table, h5),
        ),
        "read_one_bodypart": (
            lambda: PoseSelection([file], bodyparts=bodypart).to_dlc(),
            lambda: pd.DataFrame(pd.read_hdf(h5)).xs(bodypart, level="bodyparts", axis=1, drop_level=False),
        ),
        "read_all": (lambda: PoseSelection([file]).to_dlc(), lambda: pd.read_hdf(h5)),
    }
    ours, peer = {}, {}
    for name, (of_ours, of_peer) in actions.items():
        ours[f"{name}_s"], peer[f"{name}_s"] = median_seconds(of_ours, of_peer, repeats)
        if name.startswith("read"):
            pd.testing.assert_frame_equal(of_ours(), of_peer())
    ours["size_mb"], peer["size_mb"] = (path.stat().st_size / 1e6 for path in (file.path, h5))
    _write_h5(table.astype(np.float64), h5)
    peer["size_mb_float64"] = h5.stat().st_size / 1e6
    return ours, peer


def run(frames: int, bodyparts: int, repeats: int) -> dict[str, Any]:
    """Measure both sides and compare them with the limits."""
    on = machine()
    with tempfile.TemporaryDirectory() as folder:
        ours, peer = measure(Path(folder), synthetic_tracks(frames, bodyparts), repeats)
    targets = {f"{name}_ratio": target(ours[name] / peer[name], limit) for name, limit in LIMITS.items()}
    facts = {"frames": frames, "bodyparts": bodyparts, "ours": ours, "peer": peer}
    return result("pose_storage", facts, targets, on=on)


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark, print it, and return 0 if every target is met, else 1."""
    parser = command_line("pose_storage", __doc__)
    parser.add_argument("--frames", type=int, default=200_000)
    parser.add_argument("--bodyparts", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=7, help="reads to take the median of")
    asked = parser.parse_args(arguments)
    measured = run(asked.frames, asked.bodyparts, asked.repeats)
    return finish(measured, _lines(measured), as_json=asked.json)


def _write_h5(table: pd.DataFrame, path: Path) -> None:
    table.to_hdf(path, key="df_with_missing", format="table", mode="w")


def _lines(measured: dict[str, Any]) -> list[str]:
    peer = measured["peer"]
    lines = [f"{measured['frames']} frames of {measured['bodyparts']} body parts"]
    return lines + [f"  {name}: {ours:.4g}, DeepLabCut's {peer[name]:.4g}" for name, ours in measured["ours"].items()]


if __name__ == "__main__":
    sys.exit(main())
