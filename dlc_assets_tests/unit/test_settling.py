"""A recording counts once it is whole: left alone for a while, its end there, or said to be finished; a session once its cameras are."""

from __future__ import annotations

import os
import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from dlc_assets.demo.files import encode_video
from dlc_assets.lab.errors import SettingsError
from dlc_assets.lab.lab import Lab
from dlc_assets.recordings.discovery import discover
from dlc_assets.recordings.index import RecordingIndex
from dlc_assets.recordings.settling import unchanged_for
from dlc_assets.video import ending
from dlc_assets.video.ending import end_is_readable
from dlc_assets_tests.unit.test_discovery import NESTED, NOON, lab_with, put

FIRST, SECOND = "sub-m01_ses-1", "sub-m02_ses-1"
DAY = 86400.0


def film(path: Path, *, at: float = NOON, frames: int = 90) -> Path:
    """Write a video of *frames* small pictures at 30/s, last changed at *at*."""
    path.parent.mkdir(parents=True, exist_ok=True)
    encode_video(path, (np.full((32, 32, 3), n % 200, dtype=np.uint8) for n in range(frames)), Fraction(30))
    os.utime(path, (at, at))
    return path


def cut_off(path: Path, share: float, *, at: float = NOON) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    os.utime(path, (at, at))


def settled(lab: Lab, at: float) -> list[str]:
    with RecordingIndex.opened(lab) as index:
        assert index.look(now=at).round_done
        return list(index.settled())


def waiting(lab: Lab, key: str = FIRST) -> str:
    with RecordingIndex.opened(lab) as index:
        return index.connection.execute("SELECT waiting FROM session WHERE key = ?", (key,)).fetchone()[0]


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    lab = lab_with(tmp_path, NESTED)
    film(tmp_path / "recordings/m01/1/top.mp4")
    return lab


# --- unchanged for a while ------------------------------------------------------------------------


def test_a_session_is_taken_once_no_file_of_it_has_changed_for_a_while(lab: Lab) -> None:
    assert settled(lab, NOON + 5) == []
    assert waiting(lab) == (
        "top.mp4 changed, or was first seen, at 20:26:45; it counts once it has not changed for 30 s"
    )
    assert settled(lab, NOON + 34) == []
    assert settled(lab, NOON + 36) == [FIRST]
    assert waiting(lab) == ""


def test_an_index_that_is_not_kept_goes_by_the_files_own_time_and_says_the_same_each_time(lab: Lab) -> None:
    said = []
    for later in (5, 8):
        with RecordingIndex.opened(lab, kept=False) as index:
            index.look(now=NOON + later)
            said += index.connection.execute("SELECT waiting FROM session").fetchall()
    assert said == 2 * [
        ("top.mp4 changed, or was first seen, at 20:26:40; it counts once it has not changed for 30 s",)
    ]
    with RecordingIndex.opened(lab, kept=False) as index:
        index.look(now=NOON + 36)
        assert list(index.settled()) == [FIRST]


def test_a_growing_file_keeps_its_session_waiting_and_no_other(lab: Lab) -> None:
    film(lab.root / "recordings/m02/1/top.mp4")
    assert settled(lab, NOON) == []
    film(lab.root / "recordings/m01/1/top.mp4", frames=120, at=NOON + 25)
    assert settled(lab, NOON + 31) == [SECOND]
    assert settled(lab, NOON + 56) == [SECOND]
    assert settled(lab, NOON + 61) == [FIRST, SECOND]


def test_a_file_that_grows_after_it_was_taken_is_waited_for_again(lab: Lab) -> None:
    settled(lab, NOON)
    assert settled(lab, NOON + 31) == [FIRST]
    film(lab.root / "recordings/m01/1/top.mp4", frames=120, at=NOON + 40)
    assert settled(lab, NOON + 45) == []
    assert settled(lab, NOON + 76) == [FIRST]


def test_a_file_copied_with_its_old_time_is_watched_all_the_same(tmp_path: Path) -> None:
    """`cp -p` and `rsync -t` give a file its old time while, or just after, it grows."""
    lab = lab_with(tmp_path, NESTED)
    video = film(tmp_path / "recordings/m01/1/top.mp4", at=NOON - DAY)
    assert settled(lab, NOON) == []
    film(video, frames=120, at=NOON - DAY)
    assert settled(lab, NOON + 30) == []
    assert settled(lab, NOON + 60) == [FIRST]


def test_a_file_from_the_future_is_taken_after_the_same_while(tmp_path: Path) -> None:
    """A camera's clock that is a day ahead must not keep its recordings from ever being analysed."""
    lab = lab_with(tmp_path, NESTED)
    film(tmp_path / "recordings/m01/1/top.mp4", at=NOON + DAY)
    assert settled(lab, NOON) == []
    assert settled(lab, NOON + 31) == [FIRST]


def test_a_session_is_taken_only_when_all_folders_have_been_looked_at(tmp_path: Path) -> None:
    """Its other camera may lie in one that comes later."""
    lab = lab_with(tmp_path, '{template: "{camera}/{session}.mp4"}')
    for camera in ("side", "top"):
        film(tmp_path / "recordings" / camera / "1.mp4")
    while True:
        with RecordingIndex.opened(lab) as index:
            done = index.look(seconds=0, now=NOON + 1000).round_done
            some = index.counts()["sessions"]
        if done:
            break
        assert waiting(lab, "ses-1") == "the look through the recording folders is not done yet" if some else not some
    assert settled(lab, NOON + 1031) == ["ses-1"]


# --- the container's end --------------------------------------------------------------------------


def test_a_video_without_its_end_is_waited_for_until_it_has_been_left_alone_for_long(lab: Lab) -> None:
    """A camera that is paused, or a copy that stalled: it does not grow, and is not finished. One that died is told in the end."""
    cut_off(lab.root / "recordings/m01/1/top.mp4", 0.7)
    assert settled(lab, NOON) == []
    assert settled(lab, NOON + 60) == []
    said = waiting(lab)
    assert said.startswith("top.mp4 has not changed since 20:26, but it ")  # how FFmpeg sees what is left of it differs
    assert said.endswith("; it is waited for until 20:36")
    assert settled(lab, NOON + 599) == []
    assert settled(lab, NOON + 601) == [FIRST]


def test_a_video_that_gets_its_end_is_taken(lab: Lab) -> None:
    video = lab.root / "recordings/m01/1/top.mp4"
    cut_off(video, 0.7)
    settled(lab, NOON)
    assert settled(lab, NOON + 60) == []
    film(video, at=NOON + 70)
    settled(lab, NOON + 71)
    assert settled(lab, NOON + 102) == [FIRST]


def test_each_video_is_opened_once(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[Path] = []

    def opening(path: Path) -> str:
        opened.append(path)
        return "it looks odd"

    monkeypatch.setattr(ending, "end_is_readable", opening)
    for minute in range(9):
        settled(lab, NOON + 60 * minute)
    assert opened == [lab.root / "recordings/m01/1/top.mp4"]


def test_a_look_opens_no_more_than_it_has_time_for_the_newest_first(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(2, 6):
        film(lab.root / f"recordings/m0{number}/1/top.mp4", at=NOON - DAY * number)
    settled(lab, NOON)

    def slowly(_: Path) -> str:
        time.sleep(0.4)
        return ""

    monkeypatch.setattr(ending, "end_is_readable", slowly)
    for count in range(1, 6):
        with RecordingIndex.opened(lab) as index:
            assert index.look(seconds=0.3, now=NOON + 60).round_done
            assert list(index.settled()) == [f"sub-m0{number}_ses-1" for number in range(1, count + 1)]


def test_where_nothing_is_waited_for_nothing_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lab = lab_with(tmp_path, NESTED, files=("m01/1/top.mp4",), more="analyze: {settle_seconds: 0}\n")
    monkeypatch.setattr(ending, "end_is_readable", lambda path: pytest.fail(f"{path} was opened"))
    assert settled(lab, NOON) == [FIRST]


VIDEOS = (
    "openfield/videos/m3v1mp4.mp4",
    "trimouse-results/vid.avi",
    "odd-videos/no_duration.webm",
    "odd-videos/pts_test_video.mkv",
    "odd-videos/video_90.mov",
    "odd-videos/corrupted.mp4",
)


@pytest.mark.parametrize("name", VIDEOS)
def test_the_end_of_a_real_video_is_readable(real_data: Path, name: str) -> None:
    assert end_is_readable(real_data / name) == ""


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("openfield/videos/m3v1mp4.mp4", "it does not open as a video"),
        ("sleap-flies/json_format_v1/centered_pair_low_quality.mp4", "no picture can be read at its end"),
        ("trimouse-results/vid.avi", "it has 221169 of the 442338 bytes that its header states"),
        ("odd-videos/pts_test_video.mkv", "its pictures end at 4.9 s of the 10.0 s that it states"),
        ("odd-videos/video_90.mov", "it does not open as a video"),
    ],
)
def test_a_video_copied_in_part_has_no_end(real_data: Path, tmp_path: Path, name: str, said: str) -> None:
    part = tmp_path / Path(name).name
    part.write_bytes((real_data / name).read_bytes())
    cut_off(part, 0.5)
    assert said in end_is_readable(part)


def test_an_avi_file_that_is_still_written_has_no_size_in_its_header(real_data: Path, tmp_path: Path) -> None:
    content = bytearray((real_data / "trimouse-results/vid.avi").read_bytes())
    content[4:8] = bytes(4)
    (tmp_path / "open.avi").write_bytes(content)
    assert end_is_readable(tmp_path / "open.avi") == "its header is not filled in"


def test_sound_alone_and_a_file_that_is_not_there_have_no_end(tmp_path: Path) -> None:
    wav = b"RIFF" + (36 + 800).to_bytes(4, "little") + b"WAVEfmt " + (16).to_bytes(4, "little")
    wav += b"\x01\x00\x01\x00" + (8000).to_bytes(4, "little") + (8000).to_bytes(4, "little") + b"\x01\x00\x08\x00"
    (tmp_path / "sound.avi").write_bytes(wav + b"data" + (800).to_bytes(4, "little") + b"\x80" * 800)
    assert end_is_readable(tmp_path / "sound.avi") == "it has no video stream"
    assert end_is_readable(tmp_path / "nowhere.mp4") == "it does not open as a video (No such file or directory)"


# --- the lab's own signals ------------------------------------------------------------------------


def signalling(folder: Path, signals: str) -> Lab:
    return lab_with(folder, f'{{template: "{{subject}}/{{session}}/{{camera}}.mp4", finished: {signals}}}')


@pytest.mark.parametrize("done", ["top.mp4.done", "top.done"])
def test_a_done_file_finishes_a_video_at_once(tmp_path: Path, done: str) -> None:
    lab = signalling(tmp_path, "[quiet, done_file]")
    folder = put(tmp_path / "recordings/m01/1/top.mp4").parent
    assert settled(lab, NOON + 1) == []
    put(folder / done)
    assert settled(lab, NOON + 2) == [FIRST]


def test_where_only_a_done_file_counts_time_does_not(tmp_path: Path) -> None:
    lab = signalling(tmp_path, "done_file")
    video = film(tmp_path / "recordings/m01/1/top.mp4")
    assert settled(lab, NOON) == []
    assert settled(lab, NOON + DAY) == []
    assert waiting(lab) == "top.mp4 waits for top.mp4.done since 2026-05-28 20:26"
    assert unchanged_for(discover(lab), 30, now=NOON + DAY) == []
    put(video.with_name("top.mp4.done"))
    assert settled(lab, NOON + DAY + 1) == [FIRST]
    assert unchanged_for(discover(lab), 30, now=NOON) == [FIRST]


def test_a_camera_that_renames_its_finished_videos_needs_no_waiting(tmp_path: Path) -> None:
    lab = signalling(tmp_path, "[renamed]")
    video = put(tmp_path / "recordings/m01/1/top.mp4.part")
    assert settled(lab, NOON) == []
    video.rename(video.with_suffix(""))
    assert settled(lab, NOON + 1) == [FIRST]
    assert unchanged_for(discover(lab), 30, now=NOON + 1) == [FIRST]


def test_another_signal_in_lab_yaml_counts_at_once(tmp_path: Path) -> None:
    lab = signalling(tmp_path, "done_file")
    film(tmp_path / "recordings/m01/1/top.mp4")
    assert settled(lab, NOON) == []
    assert settled(signalling(tmp_path, "renamed"), NOON + 1) == [FIRST]


# --- cameras that are expected --------------------------------------------------------------------


def expecting(folder: Path, more: str = "") -> Lab:
    return lab_with(folder, NESTED, more=f"timezone: Europe/Zurich\nexpect: [top, side]\n{more}")


def test_a_session_waits_for_its_cameras(tmp_path: Path) -> None:
    lab = expecting(tmp_path)
    settled(lab, NOON - 10)
    film(tmp_path / "recordings/m01/1/top.mp4")
    assert settled(lab, NOON) == []
    assert settled(lab, NOON + 31) == []
    assert waiting(lab) == "waits for camera side until 23:26"
    film(tmp_path / "recordings/m01/1/side.mp4", at=NOON + 40)
    assert settled(lab, NOON + 41) == []
    assert settled(lab, NOON + 72) == [FIRST]


def test_after_its_time_a_session_waits_no_longer_and_a_late_camera_makes_another_of_it(tmp_path: Path) -> None:
    lab = expecting(tmp_path, "expect_timeout: 600\n")
    settled(lab, NOON - 10)
    film(tmp_path / "recordings/m01/1/top.mp4")
    settled(lab, NOON)
    assert settled(lab, NOON + 599) == []
    assert settled(lab, NOON + 601) == [FIRST]
    with RecordingIndex.opened(lab) as index:
        before = index.connection.execute("SELECT stamp FROM session").fetchone()
        film(tmp_path / "recordings/m01/1/side.mp4", at=NOON + 700)
        index.look(now=NOON + 701)
        assert index.connection.execute("SELECT stamp FROM session").fetchone() != before


def test_each_new_file_gives_the_other_cameras_their_time_again(tmp_path: Path) -> None:
    lab = lab_with(tmp_path, '{template: "{session}/{camera}_{trial}.mp4"}', more="expect: [top, side]\n")
    settled(lab, NOON - 10)
    film(tmp_path / "recordings/1/top_1.mp4")
    settled(lab, NOON)
    film(tmp_path / "recordings/1/top_2.mp4", at=NOON + 3000)
    settled(lab, NOON + 3000)
    assert settled(lab, NOON + 3700) == []
    assert settled(lab, NOON + 6601) == ["ses-1"]


def test_an_old_archive_does_not_wait_and_an_old_recording_that_arrives_later_does(tmp_path: Path) -> None:
    lab = expecting(tmp_path)
    film(tmp_path / "recordings/m01/1/top.mp4", at=NOON - DAY)
    settled(lab, NOON)
    assert settled(lab, NOON + 31) == [FIRST]
    film(tmp_path / "recordings/m02/1/top.mp4", at=NOON - DAY)
    settled(lab, NOON + 40)
    assert settled(lab, NOON + 80) == [FIRST]
    assert waiting(lab, SECOND) == "waits for camera side until 23:27"


def test_an_expectation_that_is_given_up_counts_at_once(tmp_path: Path) -> None:
    lab = expecting(tmp_path, "expect_timeout: 1.0e+15\n")
    settled(lab, NOON - 10)
    film(tmp_path / "recordings/m01/1/top.mp4")
    settled(lab, NOON)
    assert settled(lab, NOON + DAY) == []
    assert waiting(lab) == "waits for camera side until a time that no calendar has"
    assert settled(lab_with(tmp_path, NESTED), NOON + DAY) == [FIRST]


def test_a_camera_that_no_device_is_called_by_is_not_expected_in_vain(tmp_path: Path) -> None:
    known = "devices: {top: {}, side: {}}\n"
    lab_with(tmp_path, NESTED, more=f"{known}expect: [top, side]\n")
    with pytest.raises(SettingsError, match=r'lab\.yaml.*expect: there is no camera "sied".*Did you mean "side"'):
        lab_with(tmp_path, NESTED, more=f"{known}expect: [top, sied]\n")
    fixed = '{template: "{session}.mp4", camera: front}'
    assert lab_with(tmp_path, fixed, more=f"{known}expect: front\n").settings.expect == ("front",)
