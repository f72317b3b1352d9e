"""A full disk: one error that says so and where, nothing half-written, everything else as it was, and a next run that goes on."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlc_assets.demo.files import encode_video
from dlc_assets.inference.chunks import PoseChunks
from dlc_assets.lab import files
from dlc_assets.lab.errors import DlcAssetsError, EnvironmentProblem, InputError
from dlc_assets.lab.files import atomic_folder, atomic_path, write_json
from dlc_assets.lab.lab import Lab, open_lab_folder
from dlc_assets.lab.locks import hold, is_held
from dlc_assets.poses.schema import PoseMetadata, Track
from dlc_assets.poses.table_file import read_tracks, write_pose_table
from dlc_assets.recordings.discovery import discover
from dlc_assets.recordings.info import need_session_info, read_times
from dlc_assets.recordings.session_recordings import record_session

KEY = "ses-day1"


def no_space() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def fill(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Return what makes the disk full from the nth file on (counted from 1) that is flushed to it; 0 frees it again."""
    flush = os.fsync
    state = {"from": 0, "flushed": 0}

    def fsync(descriptor: int) -> None:
        state["flushed"] += 1
        if state["from"] and state["flushed"] >= state["from"]:
            raise no_space()
        flush(descriptor)

    def full_from(number: int) -> None:
        state.update({"from": number, "flushed": 0})

    monkeypatch.setattr(files.os, "fsync", fsync)
    return full_from


@pytest.fixture
def disk_without_space(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage

    def full(path: Any) -> Any:
        return usage(path)._replace(free=4096)

    monkeypatch.setattr(files.shutil, "disk_usage", full)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def write_half(path: Path, error: Exception) -> None:
    """Write to *path* as every writer does, until *error*."""
    with atomic_path(path) as partial:
        partial.write_text("half of")
        raise error


# --- the one place ----------------------------------------------------------------------------------


def test_a_file_that_finds_no_space_is_an_error_with_its_place_and_leaves_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "table.parquet"
    target.write_text("before")
    with pytest.raises(
        EnvironmentProblem, match=r"No space is left to write .*/table\.parquet: .* MB are free"
    ) as said:
        write_half(target, no_space())
    assert isinstance(said.value.__cause__, OSError)
    assert contents(tmp_path) == {"table.parquet": b"before"}


def test_the_error_names_the_final_file_also_where_one_hidden_name_is_written_through_another(
    tmp_path: Path, fill: Callable[[int], None]
) -> None:
    fill(1)
    with pytest.raises(EnvironmentProblem) as said, atomic_path(tmp_path / "manifest.json") as partial:
        write_json(partial, {})
    assert f"write {tmp_path / 'manifest.json'}:" in str(said.value)
    assert contents(tmp_path) == {}


def test_a_folder_that_finds_no_space_does_not_appear(tmp_path: Path) -> None:
    def fill_folder() -> None:
        with atomic_folder(tmp_path / "version1") as partial:
            (partial / "weights.pt").write_bytes(b"half of")
            raise no_space()

    with pytest.raises(EnvironmentProblem, match="version1"):
        fill_folder()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_found_behind_the_error_of_a_library(tmp_path: Path, number: int) -> None:
    error = RuntimeError("the writer failed")
    error.__cause__ = OSError(number, "no more")
    with pytest.raises(EnvironmentProblem, match="the writer failed"):
        write_half(tmp_path / "a.nwb", error)


@pytest.mark.usefixtures("disk_without_space")
def test_a_library_that_loses_the_errors_number_is_understood_by_asking_the_disk(tmp_path: Path) -> None:
    with pytest.raises(EnvironmentProblem, match=r"0\.0 MB are free"):
        write_half(tmp_path / "a.npy", OSError("100000 requested and 32752 written"))  # as numpy says it


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    for error in (ValueError("wrong"), OSError(errno.EIO, "disk broken"), InputError("a bad label file")):
        with pytest.raises(type(error)) as raised:
            write_half(tmp_path / "a.json", error)
        assert raised.value is error


@pytest.mark.usefixtures("disk_without_space")
def test_an_error_written_for_people_stays_itself_on_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a bad label file"):
        write_half(tmp_path / "a.json", InputError("a bad label file"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a device that is always full")
@pytest.mark.parametrize(
    "write", [lambda path: path.write_text("x" * 100_000), lambda path: np.save(path, np.zeros(100_000))]
)
def test_a_real_device_without_space_is_understood(tmp_path: Path, write: Callable[[Path], None]) -> None:
    def write_to_device() -> None:
        with atomic_path(tmp_path / "a.npy") as partial:
            partial.symlink_to("/dev/full")
            write(partial)

    with pytest.raises(EnvironmentProblem, match="No space left on device"):
        write_to_device()
    assert list(tmp_path.iterdir()) == []
    assert Path("/dev/full").exists()


def test_a_lock_on_a_full_disk_is_an_error_that_says_so_and_is_not_held_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / "locks" / "a.lock"

    def write_text(_: Path, *__: object, **___: object) -> int:
        raise no_space()

    with monkeypatch.context() as full:
        full.setattr(Path, "write_text", write_text)
        with pytest.raises(EnvironmentProblem, match="No space is left"), hold(lock, "training walker"):
            pass
    assert not is_held(lock)
    with hold(lock, "training walker"):
        assert is_held(lock)


# --- sessions and poses -----------------------------------------------------------------------------


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    for shade, camera in enumerate(("side", "top")):
        video = tmp_path / f"recordings/day1/{camera}.mp4"
        video.parent.mkdir(parents=True, exist_ok=True)
        encode_video(video, [np.full((48, 64, 3), 80 * shade + n, np.uint8) for n in range(10)], Fraction(25))
    template = 'recordings: [{root: recordings, template: "{session}/{camera}.mp4"}]'
    (tmp_path / "lab.yaml").write_text(f"name: Smith lab\n{template}\n")
    return open_lab_folder(tmp_path)


def record(lab: Lab) -> None:
    record_session(lab, discover(lab).sessions[KEY], run_id="", log=lambda _: None)


def test_a_session_that_finds_no_space_at_any_of_its_files_is_as_it_was_before_and_is_recorded_next_time(
    lab: Lab, fill: Callable[[int], None]
) -> None:
    record(lab)
    folder = lab.layout.session_recordings(KEY)
    before = contents(folder)
    (lab.root / "recordings/day1/session.yaml").write_text("recordings: {side: {offset: 1.5}, top: {offset: 2.5}}\n")
    for number in (1, 2, 3):  # the manifest, and the times of two recordings
        fill(number)
        with pytest.raises(EnvironmentProblem, match=f"No space is left to write {folder}/"):
            record(lab)
        assert contents(folder) == before, number
    fill(0)
    record(lab)
    assert need_session_info(lab.layout, KEY)[0].recording("top").time_start == 2.5
    assert read_times(lab.layout, KEY, "side")[0] == 1.5


def test_poses_that_find_no_space_leave_the_older_table_and_no_part_of_the_new(
    tmp_path: Path, fill: Callable[[int], None]
) -> None:
    path, times = tmp_path / "top.parquet", np.arange(50) / 25
    metadata = PoseMetadata(
        model="walker", version="0123456789ab", session=KEY, recording="top", frame_count=50, bodyparts=["snout"]
    )

    def tracks(x: float) -> list[Track]:
        return [Track("", "snout", *(np.full(50, value, np.float32) for value in (x, 10, 0.9)))]

    write_pose_table(path, tracks(20), times, metadata)
    fill(1)
    with pytest.raises(EnvironmentProblem, match=r"top\.parquet"):
        write_pose_table(path, tracks(30), times, metadata)
    assert list(contents(tmp_path)) == ["top.parquet"]
    assert read_tracks(path)[1][0].x[0] == 20
    fill(0)
    write_pose_table(path, tracks(30), times, metadata)
    assert read_tracks(path)[1][0].x[0] == 30


def test_an_analysis_goes_on_after_the_last_chunk_that_found_space(tmp_path: Path, fill: Callable[[int], None]) -> None:
    settings = {"input_hash": "a1"}
    poses = np.arange(20 * 2 * 3, dtype=np.float32).reshape(20, 2, 3)
    chunks = PoseChunks(tmp_path / "top", settings, 2)
    chunks.keep(settings)
    chunks.append(poses[:8])
    fill(1)
    with pytest.raises(DlcAssetsError, match="No space is left"):
        chunks.append(poses[8:])
    fill(0)
    again = PoseChunks(tmp_path / "top", settings, 2)
    assert again.frames == 8
    again.append(poses[8:])
    np.testing.assert_array_equal(again.blocks(0, 20), poses)
