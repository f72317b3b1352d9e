"""How large a pose table is, and what reading one body part of it takes, against DeepLabCut's own HDF5 files.

Both sides hold the same values, bit by bit, and are written and read in one run, in turn. DeepLabCut's file is what version
3.0.2 writes after an analysis: float32, ``to_hdf(key="df_with_missing", format="table", mode="w")``; it is read with
``pd.read_hdf``, the choice of columns after it not counted. DeepLabCut 2 wrote float64, about twice as much: that is told
beside, and has no limit here.

The poses are made up (`wandering_poses`), after what networks found in DeepLabCut's open-field video; ``--h5`` compares the sizes
of tables that a network did make as well. Peak memory of writing is that of a process of its own for each length.
"""

from __future__ import annotations

import math
import multiprocessing
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from scipy.signal import lfilter

from benchmarks.report import command_line, finish, machine, result, target
from dlc_assets.poses.formats import tracks_from_dlc
from dlc_assets.poses.schema import PoseMetadata, Track
from dlc_assets.poses.selection import PoseFile, PoseSelection
from dlc_assets.poses.table_file import write_pose_table, write_poses

SCORER = "DLC_Resnet50_benchmarkshuffle1_snapshot_200"
SHORT_FRAMES = 20_000  # of the memory's comparison; the other side is --frames

# Ours divided by DeepLabCut's, one body part divided by all, MB.
LIMITS = {"size_ratio": 0.4, "bytes_read_share": 1 / 6, "memory_growth_mb": 50.0}
LEAST_SPEED_RATIO = 8.0  # one body part, against read_hdf

_PICTURE = np.array([640.0, 480.0], dtype=np.float32)  # px
_RATE = 30.0  # frames/s
_MADE = 1 << 16  # frames of poses that are repeated where only memory is looked at


def wandering_poses(frames: int, bodyparts: int, seed: int = 0) -> np.ndarray:
    """Return poses (frames, body parts, 3), float32, of an animal in a picture of 640x480 px: x, y in px and likelihood.

    It walks (some 4 px a frame) and rests, turns, and sways; body parts lie within 60 px along its back. On top lies the jitter of a
    network, 0.3 px, and the log odds of the likelihood wander around 7.5 as those of open-field networks do. In 1 % of the
    time a part is hidden: likelihoods near 0.1, positions anywhere, as DeepLabCut gives them (it leaves out none).
    """
    rng = np.random.default_rng(seed)
    wander = rng.normal(size=(3, frames))
    walking = _drifting(wander[0], 0.02) > -0.3
    speed = lfilter([0.1], [1, -0.9], walking * (4 + _drifting(wander[1], 0.05)))
    heading = np.cumsum(0.05 * _drifting(wander[2], 0.1))
    middle = np.cumsum(speed * np.stack([np.cos(heading), np.sin(heading)]), axis=1)
    poses = np.empty((frames, bodyparts, 3), dtype=np.float32)
    for part, along in enumerate(np.linspace(-60, 60, bodyparts)):
        angle = heading + 0.3 * _drifting(rng.normal(size=frames), 0.03)
        place = middle + along * np.stack([np.cos(angle), np.sin(angle)]) + 0.3 * rng.normal(size=(2, frames))
        log_odds = 7.5 + 1.4 * _drifting(rng.normal(size=frames), 0.09)
        hidden = _drifting(rng.normal(size=frames), 0.02) > 2.33
        log_odds[hidden] = rng.normal(-2, 1, size=hidden.sum())
        place[:, hidden] = rng.uniform(0, 480, size=(2, hidden.sum()))
        poses[:, part, :2] = np.abs((place.T + _PICTURE) % (2 * _PICTURE) - _PICTURE)  # turned back at the walls
        poses[:, part, 2] = 1 / (1 + np.exp(-log_odds))
    return poses


def _drifting(noise: np.ndarray, rate: float) -> np.ndarray:
    """Return *noise* of deviation 1 as one that forgets at *rate* a frame, of deviation 1."""
    kept = 1 - rate
    return np.asarray(lfilter([math.sqrt(1 - kept**2)], [1, -kept], noise))


def medians_in_turn(actions: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Return the median seconds of each of *actions*, called in turn so that all meet the same machine."""
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for repeat in range(repeats + 1):
        for name, action in actions.items():
            start = time.perf_counter()
            action()
            if repeat:  # the first round warms the caches
                seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(each) for name, each in seconds.items()}


def measure(folder: Path, poses: np.ndarray, repeats: int) -> dict[str, Any]:
    """Return sizes, bytes read and seconds of the pose table, and of DeepLabCut's file with the same values.

    Raises
    ------
    AssertionError
        The two do not give back the same values: then there is nothing to compare.
    """
    frames, count, _ = poses.shape
    bodyparts = [f"bodypart{number + 1}" for number in range(count)]
    wanted = bodyparts[count // 2]
    metadata = described(frames)
    file = PoseFile(folder / "top.parquet", metadata.model, metadata.version, metadata.session, metadata.recording)
    h5, float64 = folder / "top.h5", folder / "float64.h5"
    names, times = [("", bodypart) for bodypart in bodyparts], np.arange(frames) / _RATE

    def read_one() -> pd.DataFrame:
        return PoseSelection([file], bodyparts=[wanted]).to_dlc()

    def read_all() -> pd.DataFrame:
        return PoseSelection([file]).to_dlc()

    seconds = medians_in_turn(
        {
            "write": lambda: write_poses(file.path, names, lambda first, last: poses[first:last], times, metadata),
            "write_h5": lambda: write_h5(h5, poses, bodyparts),
        },
        max(1, repeats // 3),
    )
    pd.DataFrame(pd.read_hdf(h5)).astype(np.float64).to_hdf(float64, key="df_with_missing", format="table", mode="w")
    seconds |= medians_in_turn(
        {
            "read_one": read_one,
            "read_one_as_rows": lambda: PoseSelection([file], bodyparts=[wanted]).to_pandas(),
            "read_hdf": lambda: pd.read_hdf(h5),
            "read_hdf_float64": lambda: pd.read_hdf(float64),
        },
        repeats,
    )
    seconds |= medians_in_turn({"read_all": read_all, "read_hdf_after_it": lambda: pd.read_hdf(h5)}, repeats)
    theirs = pd.DataFrame(pd.read_hdf(h5))
    pd.testing.assert_frame_equal(read_all(), theirs)
    pd.testing.assert_frame_equal(
        read_one(), pd.DataFrame(theirs.xs(wanted, level="bodyparts", axis=1, drop_level=False))
    )
    return {
        "seconds": seconds,
        "size_mb": file.path.stat().st_size / 1e6,
        "size_mb_by_column": _size_by_column(file.path),
        "size_mb_h5": h5.stat().st_size / 1e6,
        "size_mb_h5_float64": float64.stat().st_size / 1e6,
        "bytes_read": {
            "one": bytes_read(read_one),
            "all": bytes_read(read_all),
            "one_as_rows": bytes_read(lambda: PoseSelection([file], bodyparts=[wanted]).to_pandas()),
            "all_as_rows": bytes_read(lambda: PoseSelection([file]).to_pandas()),
        },
        "bits_per_value": {name: _least_bits(poses[..., place]) for place, name in enumerate(("x", "y", "likelihood"))},
    }


def write_h5(path: Path, poses: np.ndarray, bodyparts: Sequence[str]) -> None:
    """Write *poses* (frames, body parts, 3) as DeepLabCut 3.0.2 does after an analysis."""
    columns = pd.MultiIndex.from_product(
        [[SCORER], bodyparts, ["x", "y", "likelihood"]], names=["scorer", "bodyparts", "coords"]
    )
    table = pd.DataFrame(poses.reshape(len(poses), -1), columns=columns, index=range(len(poses)))
    table.to_hdf(path, key="df_with_missing", format="table", mode="w")


def bytes_read(action: Callable[[], object]) -> int:
    """Return how many bytes this process asks of files in *action*, cached or not, as Linux counts them."""
    before = _asked_for()
    action()
    return _asked_for() - before


def _asked_for() -> int:
    lines = Path("/proc/self/io").read_text(encoding="utf-8").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("rchar:")))


def described(frames: int) -> PoseMetadata:
    """Return what the pose tables of benchmarks say of themselves: recording ``top``, *frames* frames at 30 a second."""
    return PoseMetadata(
        model="benchmark",
        version="1",
        session="ses-1",
        recording="top",
        frame_count=frames,
        scorer=SCORER,
        rate="30",
        pcutoff=0.6,
    )


def _size_by_column(path: Path) -> dict[str, float]:
    footer = pq.read_metadata(path)
    groups = [footer.row_group(number) for number in range(footer.num_row_groups)]
    return {
        groups[0].column(place).path_in_schema: sum(group.column(place).total_compressed_size for group in groups) / 1e6
        for place in range(footer.num_columns)
    }


def _least_bits(values: np.ndarray) -> float:
    """Return about how few bits a value (frames, body parts) takes if nothing of it is lost, from its steps between frames.

    The steps are counted in float32's own, smallest ones, after the best of three simple predictions (the last value, or a line or
    parabola through the last ones); what is left is taken for noise, of which a coder can save nothing: the entropy of a
    histogram of powers of two, and every digit below.
    """
    steps = np.ascontiguousarray(values).view(np.int32).astype(np.int64)
    return min(_entropy(np.diff(steps, n=order, axis=0)) for order in (1, 2, 3))


def _entropy(residuals: np.ndarray) -> float:
    digits = np.ceil(np.log2(np.abs(residuals) + 1)).astype(int).ravel()
    shares = np.bincount(digits) / len(digits)
    known = shares > 0
    # which power of two, then sign and the digits below the first
    return float(-(shares[known] * np.log2(shares[known])).sum() + digits.mean())


def measure_h5(folder: Path, path: Path) -> dict[str, Any]:
    """Return the sizes of the poses of one of DeepLabCut's files *path* on both sides, without what a file of no frames takes."""
    tracks = tracks_from_dlc(pd.DataFrame(pd.read_hdf(path)))
    poses = np.stack([[track.x, track.y, track.likelihood] for track in tracks]).transpose(2, 0, 1)
    frames = len(poses)
    ours, h5 = folder / "real.parquet", folder / "real.h5"
    write_pose_table(ours, tracks, np.arange(frames) / _RATE, described(frames))
    write_h5(h5, np.ascontiguousarray(poses), [track.bodypart for track in tracks])
    table = frames * (8 + 4 * 3 * len(tracks)) / 1e6  # what the h5's rows hold: HDF5 adds 70 kB to each file
    named = [Track(track.individual, track.bodypart, *np.empty((3, 1), np.float32)) for track in tracks]
    write_pose_table(folder / "one-frame.parquet", named, np.zeros(1), described(1))
    rows = (ours.stat().st_size - (folder / "one-frame.parquet").stat().st_size) / 1e6
    return {
        "file": path.name,
        "frames": frames,
        "bodyparts": len(tracks),
        "size_mb": ours.stat().st_size / 1e6,
        "size_mb_h5": h5.stat().st_size / 1e6,
        "ratio": ours.stat().st_size / h5.stat().st_size,
        "ratio_of_rows": rows / table,
    }


def peak_of_writing(frames: int, bodyparts: int) -> float:
    """Return the most memory (MB) that this process ever had resident, after writing a table of so many frames."""
    made = wandering_poses(_MADE, bodyparts)

    def blocks(first: int, last: int) -> np.ndarray:
        return np.asarray(made[np.arange(first, last) % _MADE])

    with tempfile.TemporaryDirectory() as folder:
        names = [("", f"bodypart{number + 1}") for number in range(bodyparts)]
        write_poses(Path(folder) / "top.parquet", names, blocks, np.arange(frames) / _RATE, described(frames))
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmHWM:"))) / 1024


def run(frames: int, bodyparts: int, repeats: int, files: Sequence[Path]) -> dict[str, Any]:
    """Measure both sides and compare them with the limits."""
    on = machine()
    with tempfile.TemporaryDirectory() as folder:
        real = [measure_h5(Path(folder), path) for path in files]
        measured = measure(Path(folder), wandering_poses(frames, bodyparts), repeats)
    peaks = {}
    for length in (SHORT_FRAMES, frames):
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as process:
            peaks[length] = process.submit(peak_of_writing, length, bodyparts).result()
    seconds, read, bits = measured["seconds"], measured["bytes_read"], measured["bits_per_value"]
    values = {
        "size_ratio": measured["size_mb"] / measured["size_mb_h5"],
        "bytes_read_share": max(read["one"] / read["all"], read["one_as_rows"] / read["all_as_rows"]),
        "memory_growth_mb": peaks[frames] - peaks[SHORT_FRAMES],
    }
    targets = {name: target(value, LIMITS[name]) for name, value in values.items()}
    targets["speed_ratio"] = target(seconds["read_hdf"] / seconds["read_one"], LEAST_SPEED_RATIO, "at least")
    least = frames * bodyparts * sum(bits.values()) / 8e6
    facts = {
        "frames": frames,
        "bodyparts": bodyparts,
        "repeats": repeats,
        **measured,
        "size_ratio_without_loss": least / measured["size_mb_h5"],
        "peak_mb": peaks,
        "real": real,
    }
    return result("poses", facts, targets, on=on)


def main(arguments: list[str] | None = None) -> int:
    """Run the benchmark, print it, and return 0 if every target is met, else 1."""
    parser = command_line("poses", __doc__)
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--bodyparts", type=int, default=12)
    parser.add_argument("--repeats", type=int, default=7, help="reads to take the median of")
    parser.add_argument(
        "--h5", type=Path, action="append", default=[], help="a result of DeepLabCut to compare the sizes of as well"
    )
    asked = parser.parse_args(arguments)
    measured = run(asked.frames, asked.bodyparts, asked.repeats, asked.h5)
    return finish(measured, _lines(measured), as_json=asked.json)


def _lines(measured: dict[str, Any]) -> list[str]:
    bits = ", ".join(f"{name} {each:.1f}" for name, each in measured["bits_per_value"].items())
    columns = ", ".join(f"{name} {each:.1f}" for name, each in measured["size_mb_by_column"].items())
    return [
        f"{measured['frames']} frames of {measured['bodyparts']} body parts, medians of {measured['repeats']}",
        f"  size: {measured['size_mb']:.1f} MB ({columns})",
        f"  size of DeepLabCut's: {measured['size_mb_h5']:.1f} MB, {measured['size_mb_h5_float64']:.1f} as float64",
        f"  bits that a value of 32 takes without loss, about: {bits}; a size ratio of {measured['size_ratio_without_loss']:.2f}",
        *(f"  {name}: {seconds * 1000:.0f} ms" for name, seconds in measured["seconds"].items()),
        *(f"  bytes read, {name}: {count / 1e6:.1f} MB" for name, count in measured["bytes_read"].items()),
        *(f"  peak memory of writing {length} frames: {peak:.0f} MB" for length, peak in measured["peak_mb"].items()),
        *(
            f"  {real['file']}, {real['frames']} frames of {real['bodyparts']} body parts: "
            f"{real['ratio']:.2f} of the h5, rows alone {real['ratio_of_rows']:.2f}"
            for real in measured["real"]
        ),
    ]


if __name__ == "__main__":
    sys.exit(main())
