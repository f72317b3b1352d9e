"""Poses that do not fit into memory make the same table as those that do, and a preview of a table does not read it whole."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dlc_assets.lab.errors import EnvironmentProblem, InputError
from dlc_assets.poses import table_file
from dlc_assets.poses.schema import PoseMetadata, Track
from dlc_assets.poses.table_file import (
    pose_content_hash,
    read_pose_metadata,
    read_thinned_tracks,
    read_tracks,
    write_pose_table,
    write_poses,
)

NAMES = [("m1", "snout"), ("m2", "snout"), ("m1", "tail")]  # the file has m1's together


def described(frames: int, **other: object) -> PoseMetadata:
    stated = {"model": "openfield", "version": "1a2b3c", "session": "ses-1", "recording": "top", "pcutoff": 0.6}
    return PoseMetadata(**{**stated, "frame_count": frames, **other})  # type: ignore[arg-type]


def made_up(frames: int, tracks: int = len(NAMES), seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    poses = rng.random((frames, tracks, 3), dtype=np.float32) * np.array([640, 480, 1], dtype=np.float32)
    poses[::7, :, :2] = np.nan
    poses[3::11, 0, 2] = np.nan
    poses[5::13, :, 0] = -0.0
    return poses


def as_tracks(poses: np.ndarray) -> list[Track]:
    return [Track(*name, *poses[:, place].T) for place, name in enumerate(NAMES)]


@given(
    frames=st.integers(1, 300),
    block_bytes=st.integers(1, 20_000),
    row_group_frames=st.integers(1, 200),
    in_memory=st.booleans(),
    first_frame=st.sampled_from([0, 1000]),
)
@settings(deadline=None, max_examples=40)
def test_poses_that_come_in_blocks_make_the_same_table_as_whole_ones(
    tmp_path_factory: pytest.TempPathFactory,
    frames: int,
    block_bytes: int,
    row_group_frames: int,
    in_memory: bool,
    first_frame: int,
) -> None:
    folder = tmp_path_factory.mktemp("blocks")
    poses, times = made_up(frames), np.arange(frames) / 30
    metadata = described(first_frame + frames)
    asked: list[tuple[int, int]] = []

    def blocks(first: int, last: int) -> np.ndarray:
        asked.append((first, last))
        return poses[first - first_frame : last - first_frame]

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(table_file, "ROW_GROUP_FRAMES", row_group_frames)
        whole = write_pose_table(folder / "whole.parquet", as_tracks(poses), times, metadata, first_frame=first_frame)
        patched.setattr(table_file, "BLOCK_BYTES", block_bytes)
        patched.setattr(table_file, "IN_MEMORY_BYTES", 1 << 24 if in_memory else 0)
        written = write_poses(folder / "top.parquet", NAMES, blocks, times, metadata, first_frame=first_frame)

    assert (folder / "top.parquet").read_bytes() == (folder / "whole.parquet").read_bytes()
    assert written == whole
    assert written.data_version == pose_content_hash(as_tracks(poses), times)
    assert [first for first, _ in asked] == [
        first_frame,
        *(last for _, last in asked[:-1]),
    ]  # each frame once, in order
    assert asked[-1][1] == first_frame + frames
    rows = pq.read_table(folder / "top.parquet")
    assert rows["frame"].to_pylist() == list(range(first_frame, first_frame + frames)) * 3
    _, read = read_tracks(folder / "top.parquet")
    assert [(track.individual, track.bodypart) for track in read] == [NAMES[0], NAMES[2], NAMES[1]]
    for track, place in zip(read, (0, 2, 1), strict=True):
        np.testing.assert_array_equal(np.stack([track.x, track.y, track.likelihood]), poses[:, place].T)


def test_the_file_states_the_hash_of_its_content_whatever_the_caller_stated(tmp_path: Path) -> None:
    poses, times = made_up(50), np.arange(50) / 30

    written = write_poses(
        tmp_path / "top.parquet", NAMES, lambda f, t: poses[f:t], times, described(50, data_version="another")
    )

    assert read_pose_metadata(tmp_path / "top.parquet").data_version == written.data_version
    assert written.rows == 150


def test_likelihoods_are_summed_up_by_track_in_the_order_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_file, "ROW_GROUP_FRAMES", 100)
    poses = made_up(450)
    poses[:, 2, 2] = np.nan

    written = write_poses(
        tmp_path / "top.parquet", NAMES, lambda f, t: poses[f:t], np.arange(450) / 30, described(450, pcutoff=0.6)
    )

    likelihood = poses[:, :2, 2]
    np.testing.assert_allclose(
        written.mean_likelihood[:2], np.nanmean(likelihood, axis=0, dtype=np.float64), rtol=1e-12
    )
    np.testing.assert_array_equal(written.share_below_pcutoff[:2], (~(likelihood >= 0.6)).mean(axis=0))
    assert np.isnan(written.mean_likelihood[2])
    assert written.share_below_pcutoff[2] == 1


def test_without_a_pcutoff_no_share_is_below_it(tmp_path: Path) -> None:
    poses = made_up(5)

    written = write_poses(
        tmp_path / "top.parquet", NAMES, lambda f, t: poses[f:t], np.arange(5.0), described(5, pcutoff=None)
    )

    assert np.isnan(written.share_below_pcutoff).all()


def test_other_programs_read_what_was_written_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_file, "IN_MEMORY_BYTES", 0)
    poses, path = made_up(300), tmp_path / "top.parquet"
    write_poses(path, NAMES, lambda f, t: poses[f:t], np.arange(300) / 30, described(300))
    x = poses[:, 2, 0]

    by_pandas = pd.read_parquet(path)
    by_arrow = pq.read_table(path, filters=[("individual", "=", "m1"), ("bodypart", "=", "tail")])
    by_duckdb = duckdb.sql(
        f"select frame, x from '{path}' where individual = 'm1' and bodypart = 'tail' order by frame"
    ).fetchnumpy()

    chosen = by_pandas[(by_pandas.individual == "m1") & (by_pandas.bodypart == "tail")]
    np.testing.assert_array_equal(chosen.x, x)
    np.testing.assert_array_equal(by_arrow["x"].to_numpy(), x)
    np.testing.assert_array_equal(np.ma.filled(by_duckdb["x"], np.nan), x)
    assert by_arrow.schema.metadata.keys() >= {b"dlc_assets"}


def too_few(first: int, last: int) -> np.ndarray:
    return made_up(last - first)[:-1]


def too_many_tracks(first: int, last: int) -> np.ndarray:
    return made_up(last - first, tracks=4)


def no_space(first: int, last: int) -> np.ndarray:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    ("blocks", "error", "message"),
    [
        (too_few, InputError, r"session ses-1, recording top.*\(50, 3, 3\).*frames 0 to 49, got \(49, 3, 3\)"),
        (too_many_tracks, InputError, r"got \(50, 4, 3\)"),
        (no_space, EnvironmentProblem, "No space is left"),
    ],
)
@pytest.mark.parametrize("in_memory", [0, 1 << 24])
def test_poses_that_fail_to_come_leave_no_file(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    blocks: Callable[[int, int], np.ndarray],
    error: type[Exception],
    message: str,
    in_memory: int,
) -> None:
    monkeypatch.setattr(table_file, "IN_MEMORY_BYTES", in_memory)

    with pytest.raises(error, match=message):
        write_poses(tmp_path / "top.parquet", NAMES, blocks, np.arange(50.0), described(50))

    assert list(tmp_path.iterdir()) == []


def test_poses_that_are_on_their_way_have_no_name_beside_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_file, "IN_MEMORY_BYTES", 0)
    seen: list[list[str]] = []
    poses = made_up(50)

    def blocks(first: int, last: int) -> np.ndarray:
        seen.append([path.name for path in tmp_path.iterdir()])
        return poses[first:last]

    write_poses(tmp_path / "top.parquet", NAMES, blocks, np.arange(50.0), described(50))

    assert seen == [[]]
    assert [path.name for path in tmp_path.iterdir()] == ["top.parquet"]


_PEAK = """
import sys
from pathlib import Path
import numpy as np
from dlc_assets.poses.schema import PoseMetadata
from dlc_assets.poses.table_file import read_thinned_tracks, write_poses

frames, path = int(sys.argv[1]), Path(sys.argv[2])
made = np.random.default_rng(0).random((1024, 20, 3), dtype=np.float32)
names = [("", f"bodypart{number}") for number in range(20)]
metadata = PoseMetadata(model="m", version="v", session="s", recording="r", frame_count=frames)
write_poses(path, names, lambda first, last: made[np.arange(first, last) % 1024], np.arange(frames) / 30, metadata)
read_thinned_tracks(path, 1000)
line = next(line for line in open("/proc/self/status") if line.startswith("VmHWM:"))
print(int(line.split()[1]) / 1024)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads Linux's account of a process")
def test_memory_of_writing_and_previewing_does_not_grow_with_the_frames(tmp_path: Path) -> None:
    short, long = (
        float(
            subprocess.run(
                [sys.executable, "-c", _PEAK, str(frames), str(tmp_path / f"{frames}.parquet")],
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        )
        for frames in (70_000, 400_000)
    )

    # 330,000 frames more of 20 body parts are 79 MB; their times alone may be there, a few times over
    assert long - short < 35


@pytest.mark.parametrize(
    ("frames", "most", "step"), [(1, 10, 1), (250, 1000, 1), (250, 250, 1), (251, 250, 2), (1000, 30, 34)]
)
def test_thinned_tracks_are_every_nth_frame_over_all_row_groups(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frames: int, most: int, step: int
) -> None:
    monkeypatch.setattr(table_file, "ROW_GROUP_FRAMES", 100)
    poses, times = made_up(frames), np.arange(frames) / 30
    write_pose_table(tmp_path / "top.parquet", as_tracks(poses), times, described(frames + 5), first_frame=5)

    read_times, tracks = read_thinned_tracks(tmp_path / "top.parquet", most)

    assert len(read_times) <= most
    np.testing.assert_array_equal(read_times, times[::step])
    assert [(track.individual, track.bodypart) for track in tracks] == [NAMES[0], NAMES[2], NAMES[1]]
    for track, place in zip(tracks, (0, 2, 1), strict=True):
        np.testing.assert_array_equal(np.stack([track.x, track.y, track.likelihood]), poses[::step, place].T)


def test_thinned_tracks_are_read_a_row_group_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_file, "ROW_GROUP_FRAMES", 100)
    poses = made_up(1000)
    write_pose_table(tmp_path / "top.parquet", as_tracks(poses), np.arange(1000) / 30, described(1000))
    read: list[int] = []
    original = pq.ParquetFile.read_row_group

    def counted(self: pq.ParquetFile, number: int, **options: object) -> pa.Table:
        rows = original(self, number, **options)
        read.append(len(rows))
        return rows

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counted)
    monkeypatch.delattr(pq.ParquetFile, "read_row_groups")
    read_thinned_tracks(tmp_path / "top.parquet", 50)

    assert read == [100] * 30
