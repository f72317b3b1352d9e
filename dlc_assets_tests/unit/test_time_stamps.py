"""Times of frames from files beside the videos: as given, on the session's clock, or refused; repaired only as the lab says."""

from __future__ import annotations

import os
import shutil
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from dlc_assets.checks.outcomes import evaluation
from dlc_assets.demo.files import encode_video
from dlc_assets.lab.errors import InputError, SettingsError
from dlc_assets.lab.lab import Lab, open_lab_folder
from dlc_assets.lab.manifest import Manifest
from dlc_assets.lab.session_metadata import read_session_metadata
from dlc_assets.recordings.discovery import discover
from dlc_assets.recordings.info import RecordingInfo, need_session_info, read_times
from dlc_assets.recordings.path_times import time_files
from dlc_assets.recordings.session_recordings import record_session, session_inputs

LAB = """\
name: Smith lab
timezone: Europe/Zurich
recordings:
  - {root: recordings, template: "{session}/{camera}.mp4"}
"""
PARTS = """\
name: Smith lab
recordings:
  - root: recordings
    template: "{session}/{camera}_{part}.mp4"
    timestamps: {file: "{stem}.times.csv", column: t, unit: ms}
"""
KEY = "ses-day1"
FRAMES = 12
START_NS = 1_777_623_120_000_000_000  # 2026-05-01 10:12:00 in Zurich
UNEVEN = np.array([0, 33, 67, 100, 133, 233, 267, 300, 333, 367, 400, 433])  # ms; two frames were dropped after frame 4


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return lab_of(tmp_path, LAB)


@pytest.fixture
def day(lab: Lab) -> Path:
    """A session's folder with one video of 12 frames, of which the container says 25/s."""
    film(lab.root / "recordings/day1/top.mp4")
    return lab.root / "recordings/day1"


def lab_of(root: Path, text: str) -> Lab:
    (root / "recordings/day1").mkdir(parents=True, exist_ok=True)
    (root / "lab.yaml").write_text(text)
    return open_lab_folder(root)


def film(path: Path, frames: int = FRAMES) -> None:
    encode_video(path, (np.full((48, 64, 3), 3 * n % 256, np.uint8) for n in range(frames)), Fraction(25))


def state(day: Path, timestamps: str, *, start: str = "2026-05-01T10:12:00", more: str = "") -> None:
    (day / "session.yaml").write_text(f"start: {start}\nrecordings: {{top: {{timestamps: {timestamps}{more}}}}}\n")


def csv(path: Path, times: np.ndarray, *, head: str = "t", ids: np.ndarray | None = None, delimiter: str = ",") -> Path:
    columns = [times] if ids is None else [ids, times]
    lines = [delimiter.join(str(value) for value in row) for row in zip(*columns, strict=True)]
    path.write_text("\n".join([*([head] if head else []), *lines]) + "\n")
    return path


def record(lab: Lab) -> tuple[RecordingInfo, np.ndarray, Manifest]:
    record_session(lab, discover(lab).sessions[KEY], run_id="", log=lambda _: None)
    info, manifest = need_session_info(lab.layout, KEY)
    return info.recording("top"), read_times(lab.layout, KEY, "top"), manifest


def refusal(lab: Lab) -> str:
    with pytest.raises(InputError, match="no recording can be used") as refused:
        record(lab)
    return str(refused.value)


# --- as given -------------------------------------------------------------------------------------


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize(("head", "column"), [("frame{}t", "t"), ("frame{}t", "1"), ("", "1")])
def test_a_column_of_a_csv_is_found_by_name_or_number_with_a_header_or_none(
    lab: Lab, day: Path, delimiter: str, head: str, column: str
) -> None:
    csv(day / "top.csv", UNEVEN, head=head.format(delimiter), ids=np.arange(FRAMES), delimiter=delimiter)
    state(day, f"{{file: top.csv, column: {column}, unit: ms}}")
    info, times, _ = record(lab)
    np.testing.assert_array_equal(times, UNEVEN / 1000)
    assert f"time stamps of top.csv, column {column} (in ms), as they are, on the session's clock" in info.clock


def test_seconds_are_kept_to_the_last_digit_and_the_offset_is_added(lab: Lab, day: Path) -> None:
    given = np.cumsum(np.random.default_rng(1).uniform(0.02, 0.05, FRAMES))
    csv(day / "top.csv", given)
    state(day, "{file: top.csv, unit: s}")
    assert (record(lab)[1] == given).all()
    state(day, "{file: top.csv, unit: s}", more=", offset: 1.5")
    info, times, _ = record(lab)
    assert (times == given + 1.5).all()
    assert "plus the recording's offset of 1.5 s" in info.clock


@pytest.mark.parametrize(
    ("unit", "values"),
    [
        ("ns", START_NS + 1 + UNEVEN * 10**6),
        ("us", START_NS // 10**3 + 7 + UNEVEN * 10**3),
        ("s", np.array([f"1777623120.{ms:03}000007" for ms in UNEVEN])),
    ],
)
def test_times_since_1970_lie_on_the_sessions_clock_to_the_nanosecond(
    lab: Lab, day: Path, unit: str, values: np.ndarray
) -> None:
    csv(day / "top.csv", values)
    state(day, f"{{file: top.csv, unit: {unit}, clock: unix}}")
    _, times, _ = record(lab)
    extra = {"ns": 1e-9, "us": 7e-6, "s": 7e-9}[unit]
    np.testing.assert_allclose(times, UNEVEN / 1000 + extra, atol=1e-13, rtol=0)


def test_times_since_1970_say_when_the_session_began_where_nobody_else_does(lab: Lab, day: Path) -> None:
    csv(day / "top.csv", START_NS + UNEVEN * 10**6)
    (day / "session.yaml").write_text("recordings: {top: {timestamps: {file: top.csv, unit: ns, clock: unix}}}\n")
    _, times, _ = record(lab)
    info, _ = need_session_info(lab.layout, KEY)
    assert info.start == datetime(2026, 5, 1, 8, 12, tzinfo=UTC)
    assert info.start_source == "first time stamp of a file beside the video"
    assert times[0] == 0.0


def test_a_devices_own_counter_begins_with_the_recording(lab: Lab, day: Path) -> None:
    np.save(day / "top.npy", 987_654_321_000 + UNEVEN * 10**6)
    state(day, "{file: top.npy, unit: ns, clock: device}", more=", offset: 2.0")
    _, times, _ = record(lab)
    np.testing.assert_allclose(times, 2.0 + UNEVEN / 1000, atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("array", "which"),
    [
        (UNEVEN / 1000, ""),
        (np.column_stack([np.arange(FRAMES), UNEVEN / 1000]), ", column: 1"),
        (np.array([(i, t / 1000) for i, t in enumerate(UNEVEN)], dtype=[("n", "i8"), ("t", "f8")]), ", column: t"),
    ],
)
def test_a_numpy_file_of_one_or_more_columns_is_read(lab: Lab, day: Path, array: np.ndarray, which: str) -> None:
    np.save(day / "top.npy", array)
    state(day, f"{{file: top.npy, unit: s{which}}}")
    np.testing.assert_array_equal(record(lab)[1], UNEVEN / 1000)


def test_the_rate_and_the_gaps_are_those_of_the_time_stamps_not_of_the_video(lab: Lab, day: Path) -> None:
    csv(day / "top.csv", UNEVEN)
    state(day, "{file: top.csv, unit: ms}")
    info, _, manifest = record(lab)
    assert info.regular is False
    assert info.video_rate is None  # pictures must not be sought by these times
    check = evaluation(manifest, "recordings_without_gaps", lab.root)
    assert not check.passed
    assert "100 ms after frame 4; about 2 frames missing" in str(check.description)
    csv(day / "top.csv", np.arange(FRAMES) * 4)
    info, _, manifest = record(lab)
    assert (info.regular, info.rate) == (True, "250")
    assert info.duration == pytest.approx(FRAMES / 250)
    assert evaluation(manifest, "recordings_without_gaps", lab.root).passed


def test_real_time_stamps_of_a_camera_that_dropped_frames_are_kept_with_their_gap(lab: Lab, real_data: Path) -> None:
    (stamps,) = (real_data / "ibl-paw-left").glob("*.timestamps.left.npy")
    folder = lab.root / "recordings/day1"
    film(folder / "top.mp4", 1000)
    shutil.copyfile(stamps, folder / "left.npy")
    state(folder, "{file: left.npy, unit: s}")
    info, times, manifest = record(lab)
    np.testing.assert_array_equal(times, np.load(stamps))
    assert (info.regular, info.time_start) == (False, pytest.approx(180.573, abs=1e-3))
    said = str(evaluation(manifest, "recordings_without_gaps", lab.root).description)
    assert "1 gap in time where 16.6 ms is usual: 50 ms after frame 0; about 2 frames missing" in said


# --- refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize("surplus", [-2, 3])
def test_another_number_than_that_of_the_frames_is_an_error_with_both_numbers(
    lab: Lab, day: Path, surplus: int
) -> None:
    file = csv(day / "top.csv", np.arange(FRAMES + surplus) * 40)
    state(day, "{file: top.csv, unit: ms}")
    assert f"{file} has {FRAMES + surplus} time stamps, the video {FRAMES} frames" in refusal(lab)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("100", "line 6: 100 does not come after 100 on line 5"),
        ("nan", 'line 6: expected a number, got "nan"'),
        ("", "line 6: expected a number, got nothing"),
        ("133,3", "line 6: expected a number, got 2 cells where the first line has 1"),
    ],
)
def test_a_row_that_cannot_be_a_time_is_named(lab: Lab, day: Path, text: str, said: str) -> None:
    file = csv(day / "top.csv", UNEVEN)
    lines = file.read_text().split("\n")
    lines[5] = text
    file.write_text("\n".join(lines))
    state(day, "{file: top.csv, unit: ms}")
    assert f"{file}, {said}" in refusal(lab)


def test_a_time_that_is_not_finite_in_a_numpy_file_is_named_by_its_row(lab: Lab, day: Path) -> None:
    times = UNEVEN / 1000
    times[7] = np.nan
    np.save(day / "top.npy", times)
    state(day, "{file: top.npy, unit: s}")
    assert f"{day / 'top.npy'}, row 7 (the first is 0): expected a number, got nan" in refusal(lab)


def test_a_wrong_unit_or_clock_is_not_guessed_but_refused(lab: Lab, day: Path) -> None:
    csv(day / "top.csv", START_NS + UNEVEN * 10**6)
    state(day, "{file: top.csv, unit: ns}")
    assert "State the unit and clock that it has: session" in refusal(lab)
    state(day, "{file: top.csv, unit: us, clock: unix}")
    assert "read in us on the clock `unix`, a frame would lie 1.77" in refusal(lab)


def test_a_file_that_is_missing_or_holds_objects_is_refused(lab: Lab, day: Path) -> None:
    state(day, "{file: top.npy, unit: s}")
    said = refusal(lab)
    assert f"{day / 'top.npy'}: there is no such file of time stamps, which recordings.top.timestamps of" in said
    np.save(day / "top.npy", np.array([{"t": 1}]), allow_pickle=True)
    assert "is no NumPy array of numbers" in refusal(lab)


def test_a_column_that_is_not_there_is_named_with_the_nearest(lab: Lab, day: Path) -> None:
    csv(day / "top.csv", UNEVEN, head="frame,time", ids=np.arange(FRAMES))
    state(day, "{file: top.csv, column: tme, unit: ms}")
    assert 'there is no column "tme" (column). Did you mean "time"? It has: frame, time.' in refusal(lab)
    state(day, "{file: top.csv, unit: ms}")
    assert "has 2 columns: frame, time. State which holds the times, as column" in refusal(lab)


@pytest.mark.parametrize(
    ("timestamps", "said"),
    [
        ("{file: top.csv}", 'the key "recordings.top.timestamps.unit" is missing'),
        ("{file: top.txt, unit: s}", "expected a file that ends in .csv or .npy"),
        ("{file: top.csv, unit: s, on_mismatch: by_frame_id}", "by_frame_id needs frame_column"),
        ("{file: '{camera}.csv', unit: s}", "unknown field {camera}"),
        ("{file: top.csv, unit: s, column: -1}", "expected a column's name, or its number from 0"),
    ],
)
def test_what_is_stated_wrongly_is_said_when_it_is_read(day: Path, timestamps: str, said: str) -> None:
    state(day, timestamps)
    with pytest.raises(SettingsError) as wrong:
        read_session_metadata(day / "session.yaml")
    assert said in str(wrong.value)


# --- repaired as the lab says ---------------------------------------------------------------------


def test_surplus_times_at_the_end_are_left_out_where_the_lab_says_so_even_half_a_line(lab: Lab, day: Path) -> None:
    file = csv(day / "top.csv", np.arange(FRAMES + 3) * 40)
    file.write_text(file.read_text() + "6x")
    state(day, "{file: top.csv, unit: ms, on_mismatch: truncate_tail}")
    info, times, manifest = record(lab)
    np.testing.assert_array_equal(times, np.arange(FRAMES) * 0.04)
    (repaired,) = info.times_repaired
    assert f"has 16 time stamps, the video {FRAMES} frames: the last 4 time stamps were left out" in repaired
    assert repaired in str(evaluation(manifest, "recordings_without_gaps", lab.root).description)
    csv(day / "top.csv", np.arange(FRAMES - 1) * 40)
    assert "cannot make up those that are missing" in refusal(lab)


def test_times_find_their_frames_by_number_and_what_is_missing_is_named(lab: Lab, day: Path) -> None:
    ids = np.delete(np.arange(100, 100 + FRAMES + 4), [3, 4, 9])  # no row for frames 3, 4, 9; four rows too many
    csv(day / "top.csv", (ids - 100) * 40, head="id,t", ids=ids)
    stated = "{file: top.csv, column: t, unit: ms, frame_column: id, first_frame_id: 100, on_mismatch: by_frame_id}"
    state(day, stated)
    info, times, _ = record(lab)
    np.testing.assert_allclose(times, np.arange(FRAMES) * 0.04, atol=1e-12)
    (repaired,) = info.times_repaired
    assert "4 time stamps are of frames that the video lacks and were left out" in repaired
    assert "3 frames have none, and theirs lie evenly between their neighbours': 3, 4, 9" in repaired
    state(day, stated.replace("first_frame_id: 100, ", ""))
    assert "Is first_frame_id right?" in refusal(lab)
    state(day, stated.replace("by_frame_id", "error"))
    assert "line 5 is for frame 105 where 103 was expected" in refusal(lab)
    csv(day / "top.csv", np.arange(FRAMES) * 40, head="id,t", ids=np.r_[100, 100 : 100 + FRAMES - 1])
    state(day, stated)
    assert "frame 100 stands twice, on line 2 and line 3" in refusal(lab)


def test_a_session_yaml_that_cannot_be_read_is_said_by_probing_and_hides_no_change(lab: Lab, day: Path) -> None:
    state(day, "{file: top.csv}")
    wrong = session_inputs(lab, discover(lab).sessions[KEY])
    with pytest.raises(SettingsError, match=r'"recordings\.top\.timestamps\.unit" is missing'):
        record(lab)
    state(day, "{file: top.csv, unit: ms}")
    assert session_inputs(lab, discover(lab).sessions[KEY]) != wrong


# --- a whole lab, and what is out of date ---------------------------------------------------------


def test_lab_yaml_says_it_for_all_and_each_part_has_its_file(tmp_path: Path) -> None:
    lab = lab_of(tmp_path, PARTS)
    day = lab.root / "recordings/day1"
    for part in (1, 2):
        film(day / f"top_{part}.mp4")
        csv(day / f"top_{part}.times.csv", UNEVEN + (part - 1) * 1000)
    info, times, _ = record(lab)
    np.testing.assert_allclose(times, np.r_[UNEVEN, UNEVEN + 1000] / 1000)
    assert [Path(file.path).name for file in info.times_files] == ["top_1.times.csv", "top_2.times.csv"]
    assert time_files(lab, discover(lab).sessions[KEY]) == [day / "top_1.times.csv", day / "top_2.times.csv"]
    csv(day / "top_2.times.csv", UNEVEN)
    assert "The parts of a recording need one clock" in refusal(lab)
    (day / "session.yaml").write_text("recordings: {top: {timestamps: none}}\n")
    info, times, _ = record(lab)
    assert (info.times_files, times[-1]) == ([], pytest.approx((2 * FRAMES - 1) / 25))


def test_a_missing_file_of_one_camera_sets_that_recording_aside_until_it_comes(lab: Lab, day: Path) -> None:
    lab = lab_of(lab.root, LAB.replace('mp4"', 'mp4", timestamps: {file: "{stem}.csv", unit: ms}'))
    film(day / "side.mp4")
    csv(day / "side.csv", UNEVEN)
    record_session(lab, discover(lab).sessions[KEY], run_id="", log=lambda _: None)
    info, manifest = need_session_info(lab.layout, KEY)
    assert [recording.recording for recording in info.recordings] == ["side"]
    assert "top.csv: there is no such file of time stamps" in info.failed["top"]
    csv(day / "top.csv", UNEVEN)
    assert session_inputs(lab, discover(lab).sessions[KEY]) != manifest.inputs
    assert record(lab)[0].recording == "top"


def test_a_changed_file_of_times_puts_the_session_behind_and_gives_it_another_version(lab: Lab, day: Path) -> None:
    file = csv(day / "top.csv", UNEVEN)
    state(day, "{file: top.csv, unit: ms}")
    _, _, first = record(lab)
    assert session_inputs(lab, discover(lab).sessions[KEY]) == first.inputs
    os.utime(file, (1_700_000_000, 1_700_000_000))
    assert session_inputs(lab, discover(lab).sessions[KEY]) != first.inputs
    assert evaluation(first, "recordings_unchanged", lab.root).passed is False
    _, _, touched = record(lab)
    assert touched.data_version == first.data_version
    csv(file, UNEVEN + 1)
    _, _, moved = record(lab)
    assert moved.data_version != first.data_version
