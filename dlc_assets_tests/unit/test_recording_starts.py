"""When recordings began, as the names of their videos say: the session's start, and what lies between its cameras."""

from __future__ import annotations

from datetime import UTC, date, datetime
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from dlc_assets.demo.files import encode_video
from dlc_assets.lab.errors import SettingsError
from dlc_assets.lab.lab import Lab, open_lab_folder
from dlc_assets.recordings.discovery import discover
from dlc_assets.recordings.info import SessionInfo, need_session_info
from dlc_assets.recordings.session_recordings import day_of, record_session, session_inputs

FORMAT = "%Y-%m-%dT%H-%M-%S"


def lab_of(root: Path, template: str, start_format: str | None = FORMAT) -> Lab:
    (root / "recordings").mkdir(exist_ok=True)
    stated = "" if start_format is None else f', start_format: "{start_format}"'
    (root / "lab.yaml").write_text(
        f'name: lab\ntimezone: Europe/Zurich\nrecordings:\n  - {{template: "{template}"{stated}}}\n'
    )
    return open_lab_folder(root)


def film(path: Path, created: datetime | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    encode_video(path, (np.full((48, 64, 3), n, np.uint8) for n in range(5)), Fraction(25), created)
    return path


def record(lab: Lab) -> SessionInfo:
    ((key, found),) = discover(lab).sessions.items()
    record_session(lab, found, run_id="", log=lambda _: None)
    return need_session_info(lab.layout, key)[0]


@pytest.mark.parametrize(
    ("template", "start_format", "names"),
    [
        ("{session}/{camera}_{start}.mp4", FORMAT, "day1/{}_2026-05-01T10-12-0{}.mp4"),
        ("{session}/{start}/{camera}.mp4", "%Y%m%d_%H%M%S", "day1/20260501_10120{1}/{0}.mp4"),
        ("{session}/{camera}_{trial}.mp4", FORMAT, "day1/{}_2026-05-01T10-12-0{}.mp4"),
        ("{session}/{camera}-{start}.mp4", "%y%m%d-%H%M%S%z", "day1/{}-260501-08120{}+0000.mp4"),
    ],
)
def test_the_earliest_name_is_the_sessions_start_and_the_others_lie_after_it(
    tmp_path: Path, template: str, start_format: str, names: str
) -> None:
    lab = lab_of(tmp_path, template, start_format)
    created = datetime(2020, 1, 1, tzinfo=UTC)  # of a converted copy; the name is right
    film(lab.root / "recordings" / names.format("top", 1), created)
    film(lab.root / "recordings" / names.format("side", 4), created)
    info = record(lab)
    assert (info.start, info.start_source) == (datetime(2026, 5, 1, 8, 12, 1, tzinfo=UTC), "file name")
    starts = {recording.camera: recording.time_start for recording in info.recordings}
    assert starts == {"top": 0.0, "side": 3.0}
    assert info.day == date(2026, 5, 1)


def test_a_time_inside_the_sessions_name_is_its_start(tmp_path: Path) -> None:
    lab = lab_of(tmp_path, "{session}/{camera}.mp4")
    film(lab.root / "recordings/m01_2026-05-01T10-12-00/top.mp4")
    film(lab.root / "recordings/m01_2026-05-01T10-12-00/side.mp4")
    info = record(lab)
    assert info.start == datetime(2026, 5, 1, 8, 12, tzinfo=UTC)
    assert [recording.time_start for recording in info.recordings] == [0.0, 0.0]


def test_session_yaml_wins_over_the_names_for_the_start_and_for_an_offset(tmp_path: Path) -> None:
    lab = lab_of(tmp_path, "{session}/{camera}_{start}.mp4")
    film(lab.root / "recordings/day1/top_2026-05-01T10-12-01.mp4")
    film(lab.root / "recordings/day1/side_2026-05-01T10-12-04.mp4")
    (lab.root / "recordings/day1/session.yaml").write_text(
        "start: 2026-05-01T10:11:59\nrecordings: {side: {offset: 0.25}}\n"
    )
    info = record(lab)
    assert (info.start, info.start_source) == (datetime(2026, 5, 1, 8, 11, 59, tzinfo=UTC), "session.yaml")
    assert {r.camera: r.time_start for r in info.recordings} == {"top": 0.0, "side": 0.25}


def test_a_date_that_cannot_be_is_no_start_and_creation_times_move_no_camera(tmp_path: Path) -> None:
    lab = lab_of(tmp_path, "{session}/{camera}_{start}.mp4")
    film(lab.root / "recordings/day1/top_2026-02-31T10-12-00.mp4", datetime(2026, 3, 1, 9, tzinfo=UTC))
    film(lab.root / "recordings/day1/side_2026-02-31T10-12-00.mp4", datetime(2026, 3, 1, 9, 0, 7, tzinfo=UTC))
    info = record(lab)
    assert (info.start, info.start_source) == (
        datetime(2026, 3, 1, 9, tzinfo=UTC),
        "video container's creation time",
    )
    assert {r.time_start for r in info.recordings} == {0.0}


def test_a_damaged_video_does_not_move_the_others(tmp_path: Path) -> None:
    lab = lab_of(tmp_path, "{session}/{camera}_{start}.mp4")
    film(lab.root / "recordings/day1/top_2026-05-01T10-12-01.mp4").write_bytes(b"cut off")
    film(lab.root / "recordings/day1/side_2026-05-01T10-12-04.mp4")
    info = record(lab)
    assert info.recording("side").time_start == 3.0
    assert info.start == datetime(2026, 5, 1, 8, 12, 1, tzinfo=UTC)


def test_the_day_is_known_from_the_names_before_probing(tmp_path: Path) -> None:
    lab = lab_of(tmp_path, "{session}/{camera}_{start}.mp4", "%d.%m.%Y-%H.%M.%S")
    film(lab.root / "recordings/day1/top_01.05.2026-10.12.00.mp4")
    (found,) = discover(lab).sessions.values()
    assert day_of(found, lab) == date(2026, 5, 1)


def test_a_start_format_that_is_stated_later_puts_only_sessions_behind_whose_names_have_one(tmp_path: Path) -> None:
    lab = lab_of(tmp_path, "{session}/{camera}.mp4", None)
    film(lab.root / "recordings/day1/top.mp4")
    film(lab.root / "recordings/2026-05-01T10-12-00/top.mp4")
    before = {key: session_inputs(lab, found) for key, found in discover(lab).sessions.items()}
    lab = lab_of(tmp_path, "{session}/{camera}.mp4")
    after = {key: session_inputs(lab, found) for key, found in discover(lab).sessions.items()}
    assert [key for key in before if before[key] != after[key]] == ["ses-2026-05-01T10-12-00"]


@pytest.mark.parametrize(
    ("template", "start_format", "said"),
    [
        ("{session}/{camera}_{start}.mp4", None, "{start} needs start_format"),
        ("{session}/{camera}.mp4", "%Y-%m-%d", "expected a whole day and an hour"),
        ("{session}/{camera}.mp4", "%A %Y-%m-%d %H", "%A is not known here"),
    ],
)
def test_a_start_format_that_says_too_little_is_refused(
    tmp_path: Path, template: str, start_format: str | None, said: str
) -> None:
    with pytest.raises(SettingsError) as wrong:
        lab_of(tmp_path, template, start_format)
    assert said in str(wrong.value)
