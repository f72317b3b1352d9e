"""Streaming poses: order, resuming, errors of each thread, and an end that leaves no thread behind."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlc_assets.demo.files import encode_video
from dlc_assets.inference import streaming
from dlc_assets.inference.chunks import PoseChunks
from dlc_assets.inference.streaming import Ahead, VideoPart, stream_poses
from dlc_assets.lab.errors import InputError, SettingsError

FRAMES, WIDTH, HEIGHT = 23, 32, 16


class MeanColours:
    """Stands in for a network: its "poses" are a picture's size and mean brightness, so that each frame's is its own."""

    batch_size = group = 4

    def __init__(self, fail_at: int | None = None) -> None:
        self.seen, self._fail_at = 0, fail_at

    def batches(self, pictures: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        remaining = iter(pictures)
        while batch := list(islice(remaining, self.batch_size)):
            yield np.stack(batch)

    def run(self, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for batch in batches:
            if self._fail_at is not None and self.seen + len(batch) > self._fail_at:
                raise RuntimeError("the network broke")
            self.seen += len(batch)
            height, width = batch.shape[1:3]
            rows = [[[[width, height, picture.mean()]]] for picture in batch]
            yield np.array(rows, dtype=np.float32)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("videos") / "top.mp4"
    encode_video(path, (np.full((HEIGHT, WIDTH, 3), 10 * n, np.uint8) for n in range(FRAMES)), Fraction(25))
    return path


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


def chunks_in(folder: Path) -> PoseChunks:
    chunks = PoseChunks(folder / "chunks", {"input_hash": "a"}, 1)
    chunks.keep({"input_hash": "a"})
    return chunks


def run(network: Any, parts: list[VideoPart], folder: Path, **settings: Any) -> PoseChunks:
    chunks = chunks_in(folder)
    on_frames = settings.get("on_frames", lambda _: None)
    stream_poses(network, parts, chunks, crop=settings.get("crop"), on_frames=on_frames, frames=settings.get("frames"))
    return chunks


def test_every_frame_has_its_own_pose_in_order(video: Path, tmp_path: Path) -> None:
    done: list[int] = []
    chunks = run(MeanColours(), [VideoPart(video, FRAMES)], tmp_path, on_frames=done.append)
    values = chunks.blocks(0, FRAMES)[:, 0]
    np.testing.assert_allclose(values[:, 2], 10 * np.arange(FRAMES), atol=2)
    assert set(map(tuple, values[:, :2])) == {(WIDTH, HEIGHT)}
    assert done == [4, 8, 12, 16, 20, 23]


def test_parts_follow_one_another(video: Path, tmp_path: Path) -> None:
    chunks = run(MeanColours(), [VideoPart(video, FRAMES), VideoPart(video, FRAMES)], tmp_path)
    np.testing.assert_array_equal(chunks.blocks(0, FRAMES), chunks.blocks(FRAMES, 2 * FRAMES))


@pytest.mark.parametrize("broken_at", [3, 9, 23, 27, 45])
def test_a_broken_analysis_goes_on_and_ends_as_if_it_had_not_broken(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken_at: int
) -> None:
    monkeypatch.setattr(streaming, "_CHUNK_FRAMES", 8)
    parts = [VideoPart(video, FRAMES), VideoPart(video, FRAMES)]
    whole = run(MeanColours(), parts, tmp_path / "whole").blocks(0, 2 * FRAMES)
    with pytest.raises(RuntimeError, match="the network broke"):
        run(MeanColours(fail_at=broken_at), parts, tmp_path)
    left = chunks_in(tmp_path).frames
    assert left <= broken_at
    assert broken_at - left < MeanColours.batch_size + 1, "what was estimated was written"
    network = MeanColours()
    np.testing.assert_array_equal(run(network, parts, tmp_path).blocks(0, 2 * FRAMES), whole)
    assert network.seen == 2 * FRAMES - left


def test_a_crop_is_what_the_network_sees_and_poses_are_in_the_full_frame(video: Path, tmp_path: Path) -> None:
    chunks = run(MeanColours(), [VideoPart(video, FRAMES)], tmp_path, crop=(4, 20, 2, 10))
    np.testing.assert_array_equal(chunks.blocks(0, 1)[0, 0, :2], [16 + 4, 8 + 2])


def test_a_crop_outside_the_frame_is_refused(video: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"x: \[0, 33\].*32 px wide"):
        run(MeanColours(), [VideoPart(video, FRAMES)], tmp_path, crop=(0, 33, 0, 8))


@pytest.mark.parametrize("counted", [FRAMES - 1, FRAMES + 1])
def test_another_number_of_frames_than_was_counted_is_an_error(video: Path, tmp_path: Path, counted: int) -> None:
    with pytest.raises(InputError, match=rf"had {counted} frames.*{FRAMES} were decoded"):
        run(MeanColours(), [VideoPart(video, counted)], tmp_path)


@pytest.mark.parametrize("frames", [1, 4, FRAMES - 1, FRAMES, FRAMES + 5])
def test_only_the_first_frames_are_estimated_where_no_more_are_asked_for(
    video: Path, tmp_path: Path, frames: int
) -> None:
    network, parts = MeanColours(), [VideoPart(video, FRAMES), VideoPart(video, FRAMES)]
    whole = run(MeanColours(), parts, tmp_path / "whole").blocks(0, 2 * FRAMES)
    chunks = run(network, parts, tmp_path, frames=frames)
    assert network.seen == chunks.frames == frames
    np.testing.assert_array_equal(chunks.blocks(0, frames), whole[:frames])


def test_a_file_that_is_asked_for_whole_is_still_counted(video: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"had 10 frames.*{FRAMES} were decoded"):
        run(MeanColours(), [VideoPart(video, 10), VideoPart(video, FRAMES)], tmp_path, frames=FRAMES)


def test_parts_of_different_sizes_are_refused(video: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.mp4"
    encode_video(other, (np.zeros((HEIGHT, 2 * WIDTH, 3), np.uint8) for _ in range(3)), Fraction(25))
    with pytest.raises(InputError, match="64x16 px, the files before it of 32x16 px"):
        run(MeanColours(), [VideoPart(video, FRAMES), VideoPart(other, 3)], tmp_path)


def test_a_full_disk_stops_the_work_and_what_was_written_stays(
    video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streaming, "_CHUNK_FRAMES", 8)
    append = PoseChunks.append

    def full(self: PoseChunks, poses: np.ndarray) -> None:
        if self.frames:
            raise OSError(28, "No space left on device")
        append(self, poses)

    monkeypatch.setattr(PoseChunks, "append", full)
    with pytest.raises(OSError, match="No space left"):
        run(MeanColours(), [VideoPart(video, FRAMES)] * 20, tmp_path)
    monkeypatch.setattr(PoseChunks, "append", append)
    assert chunks_in(tmp_path).frames == 8


def test_an_interruption_keeps_what_was_estimated(video: Path, tmp_path: Path) -> None:
    def interrupt(done: int) -> None:
        if done >= 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(MeanColours(), [VideoPart(video, FRAMES)], tmp_path, on_frames=interrupt)
    assert chunks_in(tmp_path).frames == 12


def test_ahead_is_never_further_ahead_than_its_depth() -> None:
    given: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(50):
            given.append(number)
            yield number

    with Ahead(numbers(), 3) as ahead:
        for number in ahead:
            assert len(given) <= number + 1 + 3 + 2  # taken, waiting, and one in hand on either side
    assert given == list(range(50))
