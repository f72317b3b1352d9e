"""A session's videos are probed as they are: split, of odd rates, half broken; and what is known of the session is put with them."""

from __future__ import annotations

import os
import re
import shutil
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from dlc_assets.demo.files import encode_video
from dlc_assets.lab.errors import InputError, NotFoundError, SettingsError
from dlc_assets.lab.lab import Lab, open_lab_folder
from dlc_assets.lab.manifest import Manifest, read_manifest
from dlc_assets.recordings.discovery import FoundSession, discover
from dlc_assets.recordings.info import SessionInfo, need_session_info, read_session_info, read_times
from dlc_assets.recordings.session_recordings import day_of, record_session, session_inputs

LAB = """\
name: Smith lab
timezone: Europe/Zurich
experimenters: ["Doe, Jane"]
recordings:
  - {root: recordings, template: "{subject}/{session}/{camera}.mp4"}
  - {root: split, template: "{session}/{camera}_{part}.mp4"}
  - {root: odd, template: "{session}.webm", camera: top}
  - {root: odd, template: "{session}.mp4", camera: top}
"""
KEY = "sub-m01_ses-20260501"


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    for root in ("recordings", "split", "odd"):
        (tmp_path / root).mkdir()
    (tmp_path / "lab.yaml").write_text(LAB)
    return open_lab_folder(tmp_path)


def film(
    path: Path,
    frames: int = 12,
    *,
    rate: Fraction | int = 25,
    size: tuple[int, int] = (64, 48),
    first: int = 0,
    created: datetime | None = None,
) -> Path:
    """Write a video whose frames get brighter, so that no two are the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    width, height = size
    pictures = (np.full((height, width, 3), (first + number) * 3 % 256, np.uint8) for number in range(frames))
    encode_video(path, pictures, Fraction(rate), created)
    return path


def record(lab: Lab, key: str = KEY) -> tuple[SessionInfo, Manifest]:
    record_session(lab, discover(lab).sessions[key], run_id="run", log=lambda _: None)
    return need_session_info(lab.layout, key)


def found(lab: Lab, key: str = KEY) -> FoundSession:
    return discover(lab).sessions[key]


# --- one camera -----------------------------------------------------------------------------------


def test_a_recording_has_size_rate_frames_and_a_time_for_each(lab: Lab) -> None:
    film(lab.root / "recordings/m01/20260501/top.mp4", 30, rate=Fraction(30000, 1001))
    info, manifest = record(lab)
    top = info.recording("top")
    assert (top.width, top.height, top.frame_count, top.rate, top.regular) == (64, 48, 30, "30000/1001", True)
    assert top.fraction == Fraction(30000, 1001)
    assert top.duration == pytest.approx(30 * 1001 / 30000, abs=1e-4)
    times = read_times(lab.layout, KEY, "top")
    assert times.dtype == np.float64
    np.testing.assert_allclose(times, np.arange(30) * 1001 / 30000, atol=1e-4)
    assert top.files[0].path == "recordings/m01/20260501/top.mp4"
    assert (info.subject, info.session_label, info.day) == ("m01", "20260501", date(2026, 5, 1))
    assert manifest.run_id == "run"


def test_an_offset_in_session_yaml_moves_every_frame_of_its_recording_only(lab: Lab) -> None:
    for camera in ("top", "side"):
        film(lab.root / f"recordings/m01/20260501/{camera}.mp4")
    (lab.root / "recordings/m01/20260501/session.yaml").write_text("recordings: {side: {offset: 1.5, device: cam2}}\n")
    info, _ = record(lab)
    assert info.recording("side").time_start == 1.5
    assert info.recording("side").device == "cam2"
    assert info.recording("top").time_start == 0.0
    np.testing.assert_allclose(
        read_times(lab.layout, KEY, "side") - read_times(lab.layout, KEY, "top"), 1.5, atol=1e-12
    )


def test_an_offset_for_a_recording_that_is_not_there_is_said(lab: Lab) -> None:
    film(lab.root / "recordings/m01/20260501/top.mp4")
    (lab.root / "recordings/m01/20260501/session.yaml").write_text("recordings: {topp: {offset: 1.5}}\n")
    _, manifest = record(lab)
    assert any(
        'recordings.topp: there is no recording "topp" in this session (it has top)' in p for p in manifest.problems
    )


# --- when it was ----------------------------------------------------------------------------------


def test_a_start_without_zone_is_in_the_labs_zone(lab: Lab) -> None:
    film(lab.root / "recordings/m01/20260501/top.mp4")
    (lab.root / "recordings/m01/20260501/session.yaml").write_text("start: 2026-05-01T10:12:00\n")
    info, _ = record(lab)
    assert info.start is not None
    assert info.start == datetime(2026, 5, 1, 8, 12, tzinfo=UTC)
    assert info.start.utcoffset() == timedelta(hours=2)
    assert info.start_source == "session.yaml"


def test_a_start_that_is_not_stated_is_the_videos_own(lab: Lab) -> None:
    created = datetime(2026, 5, 1, 9, 30, tzinfo=UTC)
    film(lab.root / "recordings/m01/20260501/top.mp4", created=created)
    film(lab.root / "recordings/m01/20260501/side.mp4", created=created + timedelta(seconds=3))
    info, _ = record(lab)
    assert info.start == created
    assert info.start_source == "video container's creation time"


def test_a_start_that_nobody_knows_is_none_and_the_day_is_the_names(lab: Lab) -> None:
    film(lab.root / "recordings/m01/20260501/top.mp4")
    info, _ = record(lab)
    assert info.start is None
    assert "state it in session.yaml" in info.start_source
    assert info.day == date(2026, 5, 1)


@pytest.mark.parametrize(
    ("session", "day"),
    [
        ("20260501", date(2026, 5, 1)),
        ("2026-05-01", date(2026, 5, 1)),
        ("run_2026_05_01_a", date(2026, 5, 1)),
        ("20260231", date(2025, 1, 2)),  # no day: the file's own time is taken
        ("120260501", date(2025, 1, 2)),
        ("habituation", date(2025, 1, 2)),
    ],
)
def test_the_day_of_a_session_before_it_is_probed(lab: Lab, session: str, day: date) -> None:
    video = lab.root / f"recordings/m01/{session}/top.mp4"
    video.parent.mkdir(parents=True)
    video.write_bytes(b"")
    noon = datetime(2025, 1, 2, 12, tzinfo=UTC).timestamp()
    os.utime(video, (noon, noon))
    (session_found,) = discover(lab).sessions.values()
    assert day_of(session_found, lab) == day


def test_the_day_of_a_session_is_its_stated_start_and_a_broken_session_yaml_does_not_hide_it(lab: Lab) -> None:
    film(lab.root / "recordings/m01/20260501/top.mp4")
    sidecar = lab.root / "recordings/m01/20260501/session.yaml"
    sidecar.write_text("start: 2026-06-07T23:00:00\n")
    assert day_of(found(lab), lab) == date(2026, 6, 7)
    sidecar.write_text("strat: 2026-06-07T23:00:00\n")
    assert day_of(found(lab), lab) == date(2026, 5, 1)


# --- split videos ---------------------------------------------------------------------------------


def test_parts_are_one_recording_whose_times_go_on(lab: Lab) -> None:
    film(lab.root / "split/day1/top_1.mp4", 10)
    film(lab.root / "split/day1/top_2.mp4", 7, first=10)
    film(lab.root / "split/day1/top_10.mp4", 5, first=17)
    info, _ = record(lab, "ses-day1")
    top = info.recording("top")
    assert [file.frame_count for file in top.files] == [10, 7, 5]
    assert [Path(file.path).name for file in top.files] == ["top_1.mp4", "top_2.mp4", "top_10.mp4"]
    assert top.frame_count == 22
    assert top.regular
    np.testing.assert_allclose(read_times(lab.layout, "ses-day1", "top"), np.arange(22) / 25, atol=1e-4)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"size": (80, 48)}, r"top_2\.mp4 has pictures of 80x48 px, .*top_1\.mp4 has pictures of 64x48 px\."),
        ({"rate": 30}, "has frame rate 30"),
    ],
)
def test_a_part_that_does_not_fit_the_first_is_named(lab: Lab, changed: dict[str, object], said: str) -> None:
    film(lab.root / "split/day1/top_1.mp4")
    film(lab.root / "split/day1/top_2.mp4", **changed)  # type: ignore[arg-type]
    film(lab.root / "split/day1/side_1.mp4")
    info, _ = record(lab, "ses-day1")
    assert [recording.recording for recording in info.recordings] == ["side"]
    with pytest.raises(NotFoundError, match='has no recording "top"'):
        info.recording("top")
    assert "its parts do not fit together" in info.failed["top"]
    assert "top_2.mp4" in info.failed["top"]

    assert re.search(said, info.failed["top"])


# --- odd and broken videos ------------------------------------------------------------------------


def test_a_video_that_does_not_open_is_named_beside_a_good_one(lab: Lab, real_data: Path) -> None:
    film(lab.root / "recordings/m01/20260501/top.mp4")
    shutil.copyfile(real_data / "odd-videos/chunk_out_of_range.mp4", lab.root / "recordings/m01/20260501/side.mp4")
    info, manifest = record(lab)
    assert [recording.recording for recording in info.recordings] == ["top"]
    assert list(info.failed) == ["side"]
    assert "side.mp4" in info.failed["side"]
    assert any(problem.startswith("side: ") for problem in manifest.problems)


def test_a_session_of_which_nothing_opens_is_an_error_that_says_why(lab: Lab) -> None:
    video = lab.root / "recordings/m01/20260501/top.mp4"
    video.parent.mkdir(parents=True)
    video.write_bytes(b"no video")
    with pytest.raises(InputError, match=rf"{KEY}: no recording can be used\. .*top\.mp4"):
        record(lab)
    assert read_session_info(lab.layout, KEY) is None


def test_two_files_of_one_recording_keep_the_other_camera_usable(lab: Lab) -> None:
    (lab.root / "lab.yaml").write_text(LAB + '  - {root: copies, template: "{subject}/{session}/{camera}.mp4"}\n')
    lab = open_lab_folder(lab.root)
    for path in ("recordings/m01/20260501/top.mp4", "recordings/m01/20260501/side.mp4", "copies/m01/20260501/top.mp4"):
        film(lab.root / path)
    info, manifest = record(lab)
    assert [recording.recording for recording in info.recordings] == ["side"]
    assert "two files make the same recording (top)" in info.failed["top"]
    assert sum("two files make the same recording" in problem for problem in manifest.problems) == 1


@pytest.mark.parametrize(
    ("name", "frames", "regular"),
    [("corrupted.mp4", 28, True), ("no_duration.webm", 74, False)],
)
def test_odd_videos_are_taken_as_they_decode_and_their_oddity_is_said(
    lab: Lab, real_data: Path, name: str, frames: int, regular: bool
) -> None:
    shutil.copyfile(real_data / "odd-videos" / name, lab.root / "odd" / name)
    key = f"ses-{Path(name).stem.replace('_', '-')}"
    info, manifest = record(lab, key)
    recording = info.recording("top")
    assert recording.frame_count == frames
    times = read_times(lab.layout, key, "top")
    assert len(times) == frames
    assert (np.diff(times) > 0).all()
    assert recording.regular is regular
    assert any(name in problem for problem in manifest.problems) is bool(recording.problems)
    if name == "corrupted.mp4":
        assert any("50" in problem and "28" in problem for problem in manifest.problems)


def test_a_session_yaml_that_cannot_be_read_stops_its_session_only(lab: Lab) -> None:
    film(lab.root / "recordings/m01/20260501/top.mp4")
    film(lab.root / "recordings/m02/20260501/top.mp4")
    (lab.root / "recordings/m01/20260501/session.yaml").write_text("strat: 2026-05-01T10:00:00\n")
    with pytest.raises(SettingsError, match=r'session\.yaml: unknown key "strat"\. Did you mean "start"'):
        record(lab)
    assert record(lab, "sub-m02_ses-20260501")[0].recordings


# --- when it must be done again -------------------------------------------------------------------


def test_a_session_is_behind_when_a_file_or_its_metadata_changes_and_not_otherwise(lab: Lab) -> None:
    video = film(lab.root / "recordings/m01/20260501/top.mp4")
    before = session_inputs(lab, found(lab))
    assert session_inputs(lab, found(lab)) == before
    (video.parent / "session.yaml").write_text("description: first day\n")
    described = session_inputs(lab, found(lab))
    assert [name for name in described if described[name] != before[name]] == ["session metadata"]
    film(video, 13)
    longer = session_inputs(lab, found(lab))
    assert [name for name in longer if longer[name] != described[name]] == ["videos"]
    film(video.with_name("side.mp4"))
    assert session_inputs(lab, found(lab))["videos"] != longer["videos"]


def test_a_lab_that_was_moved_or_copied_with_its_times_is_not_behind(
    lab: Lab, tmp_path_factory: pytest.TempPathFactory
) -> None:
    film(lab.root / "recordings/m01/20260501/top.mp4")
    moved = tmp_path_factory.mktemp("elsewhere") / "lab"
    shutil.copytree(lab.root, moved)  # keeps times of change, as `cp -a` and `rsync -a` do
    there = open_lab_folder(moved)
    assert session_inputs(there, found(there)) == session_inputs(lab, found(lab))


def test_the_same_content_again_has_the_same_version_and_another_content_another(lab: Lab) -> None:
    video = film(lab.root / "recordings/m01/20260501/top.mp4")
    _, first = record(lab)
    os.utime(video, (1_700_000_000, 1_700_000_000))
    _, touched = record(lab)
    assert touched.inputs != first.inputs
    assert touched.data_version == first.data_version
    film(video, 12, first=40)
    _, other = record(lab)
    assert other.data_version != first.data_version


def test_a_recording_that_is_gone_leaves_no_times_behind(lab: Lab) -> None:
    film(lab.root / "recordings/m01/20260501/top.mp4")
    side = film(lab.root / "recordings/m01/20260501/side.mp4")
    record(lab)
    side.unlink()
    record(lab)
    folder = lab.layout.session_recordings(KEY)
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "top.times.parquet"]


def test_a_manifest_is_read_back_whole_and_a_damaged_one_is_as_if_never_made(lab: Lab) -> None:
    film(lab.root / "recordings/m01/20260501/top.mp4")
    _, manifest = record(lab)
    folder = lab.layout.session_recordings(KEY)
    assert read_manifest(folder) == manifest
    (folder / "manifest.json").write_text((folder / "manifest.json").read_text()[:200])
    assert read_manifest(folder) is None
    assert read_session_info(lab.layout, KEY) is None
    with pytest.raises(NotFoundError, match=f"the recordings of {KEY} are not probed yet"):
        need_session_info(lab.layout, KEY)
