"""Chunks of poses: what a killed analysis left is found again, and nothing that does not belong to it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dlc_assets.inference.chunks import PoseChunks

SETTINGS = {"input_hash": "a1", "precision": "float32", "batch_size": 4}
FREE = frozenset({"batch_size"})


def poses(first: int, count: int, tracks: int = 2) -> np.ndarray:
    return np.arange(first * tracks * 3, (first + count) * tracks * 3, dtype=np.float32).reshape(count, tracks, 3)


def begun(folder: Path, *counts: int) -> PoseChunks:
    chunks = PoseChunks(folder, SETTINGS, 2, free=FREE)
    chunks.keep(SETTINGS)
    for count in counts:
        chunks.append(poses(chunks.frames, count))
    return chunks


def test_blocks_are_read_across_chunks(tmp_path: Path) -> None:
    chunks = begun(tmp_path / "top", 5, 3, 7)
    assert chunks.frames == 15
    for first, last in ((0, 15), (4, 6), (5, 8), (0, 5), (14, 15)):
        np.testing.assert_array_equal(chunks.blocks(first, last), poses(0, 15)[first:last])


def test_the_next_attempt_goes_on_after_the_last_chunk(tmp_path: Path) -> None:
    begun(tmp_path / "top", 5, 3)
    again = PoseChunks(tmp_path / "top", SETTINGS, 2, free=FREE)
    assert again.frames == 8
    again.append(poses(8, 2))
    np.testing.assert_array_equal(PoseChunks(tmp_path / "top", SETTINGS, 2, free=FREE).blocks(0, 10), poses(0, 10))


@pytest.mark.parametrize("changed", [{"input_hash": "b2"}, {"precision": "bfloat16"}, {"device": "cuda"}])
def test_chunks_that_were_made_otherwise_are_removed(tmp_path: Path, changed: dict[str, str]) -> None:
    begun(tmp_path / "top", 5)
    assert PoseChunks(tmp_path / "top", {**SETTINGS, **changed}, 2, free=FREE).frames == 0
    assert not list((tmp_path / "top").glob("*.npy"))


def test_the_batch_size_of_the_first_attempt_is_gone_on_with(tmp_path: Path) -> None:
    begun(tmp_path / "top", 5)
    again = PoseChunks(tmp_path / "top", {**SETTINGS, "batch_size": 16}, 2, free=FREE)
    assert (again.frames, again.settings["batch_size"]) == (5, 4)


def test_chunks_after_a_broken_one_are_not_trusted(tmp_path: Path) -> None:
    begun(tmp_path / "top", 5, 3, 7)
    (tmp_path / "top" / f"{5:012d}.npy").write_bytes(b"half a chu")
    again = PoseChunks(tmp_path / "top", SETTINGS, 2, free=FREE)
    assert again.frames == 5
    assert [path.name for path in (tmp_path / "top").glob(f"{8:012d}.npy")] == []
    again.append(poses(5, 1))
    np.testing.assert_array_equal(PoseChunks(tmp_path / "top", SETTINGS, 2, free=FREE).blocks(0, 6), poses(0, 6))


def test_a_half_written_chunk_is_none(tmp_path: Path) -> None:
    begun(tmp_path / "top", 5)
    (tmp_path / "top" / f".{5:012d}.ab12.partial.npy").write_bytes(b"\x93NUMPY")
    assert PoseChunks(tmp_path / "top", SETTINGS, 2, free=FREE).frames == 5


def test_poses_of_another_number_of_tracks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="poses of 2 tracks"):
        begun(tmp_path / "top").append(poses(0, 3, tracks=3))
