"""Which part of a frame a network sees: session.yaml first, else the camera's setup on that day, else all of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from pathlib import Path

import pytest

from dlc_assets.inference.crops import crop_hashes, crop_of, setup_problems
from dlc_assets.inference.pose_tables import pose_inputs
from dlc_assets.lab.errors import SettingsError
from dlc_assets.lab.lab import Lab, open_lab_folder
from dlc_assets.lab.session_metadata import read_session_metadata
from dlc_assets.lab.settings import CropSettings
from dlc_assets.nwb.contents import _pose_description
from dlc_assets.nwb.description import RecordingPoses
from dlc_assets.nwb.session_poses import chosen_poses, recordings_to_write
from dlc_assets.poses.table_file import read_pose_metadata, read_tracks, write_pose_table
from dlc_assets.recordings.discovery import discover
from dlc_assets.recordings.info import RecordingInfo, SessionInfo, need_session_info
from dlc_assets.state.behind import session_products
from dlc_assets.state.lab_state import lab_state
from dlc_assets_tests.graph import small_lab
from dlc_assets_tests.graph.small_lab import FIRST, SECOND

SETUPS = """\
name: Test lab
devices: {top: {}, side: {}}
setups:
  top:
    - {until: 2026-05-31, crop: {x: [0, 40], y: [4, 44]}}
    - {from: 2026-07-01, crop: {x: [8, 64]}}
  side:
    - {crop: {x: [0, 64], y: [0, 48]}}
"""


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return lab_with(tmp_path, SETUPS)


def lab_with(folder: Path, text: str) -> Lab:
    (folder / "lab.yaml").write_text(text)
    return open_lab_folder(folder)


def recording(device: str = "top", crop: CropSettings | None = None) -> RecordingInfo:
    return RecordingInfo(
        recording=f"{device}_1",
        camera="camera",
        device=device,
        files=[],
        width=64,
        height=48,
        codec="h264",
        pixel_format="yuv420p",
        rotation=0,
        rate="25",
        regular=True,
        frame_count=12,
        header_frame_count=12,
        duration=0.48,
        time_start=0.0,
        clock="",
        content_hash="",
        crop=crop,
    )


def session(day: date | None, *recordings: RecordingInfo) -> SessionInfo:
    return SessionInfo(
        session=FIRST,
        session_label="20260501",
        session_source_name="20260501",
        subject="m01",
        subject_source_name="m01",
        start=None,
        start_source="",
        day=day,
        description="",
        experimenters=[],
        tags={},
        recordings=list(recordings),
    )


def crop_on(lab: Lab, day: date | None, of: RecordingInfo) -> tuple[int, int, int, int] | None:
    return crop_of(lab, session(day, of), of)


# --- which crop counts ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("day", "crop"),
    [
        (date(2026, 5, 31), (0, 40, 4, 44)),
        (date(2026, 6, 15), None),
        (date(2026, 7, 1), (8, 64, 0, 48)),
    ],
)
def test_the_setup_of_the_day_counts_and_between_two_the_whole_frame_is_seen(
    lab: Lab, day: date, crop: tuple[int, int, int, int] | None
) -> None:
    assert crop_on(lab, day, recording()) == crop


def test_a_camera_without_setup_and_a_crop_of_the_whole_frame_are_no_crop(lab: Lab) -> None:
    assert crop_on(lab, date(2026, 5, 1), recording("back")) is None
    assert crop_on(lab, None, recording("side")) is None


def test_what_session_yaml_states_comes_before_the_setup(lab: Lab) -> None:
    day = date(2026, 5, 1)
    assert crop_on(lab, day, recording(crop=CropSettings(x=(2, 10), y=(3, 11)))) == (2, 10, 3, 11)
    assert crop_on(lab, day, recording(crop=CropSettings())) is None
    assert crop_on(lab, None, recording(crop=CropSettings(y=(3, 11)))) == (0, 64, 3, 11)


def test_session_yaml_states_a_crop_or_the_whole_frame_and_no_other_word(tmp_path: Path) -> None:
    file = tmp_path / "session.yaml"
    file.write_text("recordings: {top: {crop: {x: [2, 10]}}, side: {crop: none}, back: {offset: 1}}\n")
    stated = read_session_metadata(file).recordings
    assert {name: metadata.crop for name, metadata in stated.items()} == {
        "top": CropSettings(x=(2, 10)),
        "side": CropSettings(),
        "back": None,
    }
    file.write_text("recordings: {top: {crop: nothing}}\n")
    with pytest.raises(SettingsError, match=r"session\.yaml: recordings\.top\.crop: expected .* or none"):
        read_session_metadata(file)


# --- crops that cannot be -------------------------------------------------------------------------


def test_a_crop_outside_the_frame_names_its_key_and_the_size_of_the_frame(lab: Lab) -> None:
    wide = recording().model_copy(update={"width": 32})
    with pytest.raises(SettingsError, match=r"lab\.yaml: setups\.top\.0\.crop: the crop x: \[0, 40\]") as caught:
        crop_on(lab, date(2026, 5, 1), wide)
    assert "which is 32 px wide and 48 px high" in str(caught.value)
    stated = recording(crop=CropSettings(y=(0, 49)))
    with pytest.raises(SettingsError, match=rf"session\.yaml of {FIRST}: recordings\.top_1\.crop: .*y: \[0, 49\]"):
        crop_on(lab, date(2026, 5, 1), stated)


def test_a_setup_for_a_day_that_nobody_knows_is_not_guessed(lab: Lab) -> None:
    with pytest.raises(SettingsError, match=rf"setups\.top: it depends on the day, and that of {FIRST} is not known"):
        crop_on(lab, None, recording())


def test_a_setup_of_a_camera_that_there_is_not_is_a_problem_with_the_nearest(tmp_path: Path) -> None:
    assert setup_problems(lab_with(tmp_path, SETUPS)) == []
    wrong = lab_with(tmp_path, SETUPS.replace("  side:\n", "  sied:\n"))
    (problem,) = setup_problems(wrong)
    assert 'setups names the device "sied"' in problem
    assert 'Did you mean "side"?' in problem
    assert problem in lab_state(wrong).problems
    assert setup_problems(lab_with(tmp_path, "name: Test lab\nsetups: {top: [{}]}\n")) == [], "no device is listed"


# --- crops as inputs of poses ---------------------------------------------------------------------


def test_only_recordings_with_a_crop_have_one_among_the_inputs(lab: Lab) -> None:
    recordings = [recording(), recording("side"), recording("back")]
    assert crop_hashes(lab, session(date(2026, 5, 1), *recordings), recordings) == {"crop of top_1": "x 0-40, y 4-44"}
    assert crop_hashes(lab, session(date(2026, 6, 1), *recordings), recordings) == {}


@pytest.fixture
def analysed(tmp_path: Path) -> Lab:
    """The small lab, two of its sessions analysed without a crop."""
    small_lab.write_small_lab(tmp_path)
    lab = open_lab_folder(tmp_path)
    small_lab.record(lab, FIRST, SECOND)
    small_lab.as_if_trained(lab)
    small_lab.as_if_analysed(lab, FIRST, SECOND)
    return lab


def poses(lab: Lab, key: str) -> tuple[str, str]:
    fresh = open_lab_folder(lab.root)
    found = {product.asset: product for product in session_products(fresh, key, discover(fresh).sessions[key])}
    return found["pose_table"].state, found["pose_table"].why


def test_poses_are_behind_when_the_setup_changes_on_their_day_and_no_others_are(analysed: Lab) -> None:
    assert poses(analysed, FIRST) == ("up to date", "")
    lab_yaml = analysed.root / "lab.yaml"
    plain = lab_yaml.read_text()
    lab_yaml.write_text(plain + "setups: {top: [{until: 2026-05-01, crop: {x: [0, 40]}}]}\n")
    assert poses(analysed, FIRST) == ("behind", "crop of top changed")
    assert poses(analysed, SECOND) == ("up to date", "")
    lab_yaml.write_text(plain + "setups: {top: [{until: 2026-05-01, crop: {x: [0, 400]}}]}\n")
    state, why = poses(analysed, FIRST)
    assert state == "failed"
    assert "setups.top.0.crop" in why


def test_a_crop_in_session_yaml_puts_the_poses_behind_though_the_videos_are_the_same(analysed: Lab) -> None:
    before = need_session_info(analysed.layout, FIRST)[0].recording("top").content_hash
    file = (analysed.root / small_lab.video_of(FIRST)).with_name("session.yaml")
    file.write_text(file.read_text() + "recordings: {top: {crop: {x: [0, 40]}}}\n")
    assert poses(analysed, FIRST)[0] == "behind"
    small_lab.record(analysed, FIRST)
    session, _ = need_session_info(analysed.layout, FIRST)
    assert session.recording("top").crop == CropSettings(x=(0, 40))
    assert session.recording("top").content_hash == before
    assert poses(analysed, FIRST) == ("behind", "crop of top changed")
    assert pose_inputs(analysed, "walker", session)["crop of top"] == "x 0-40, y 0-48"
    assert poses(analysed, SECOND) == ("up to date", "")


def test_a_session_that_an_earlier_release_probed_is_read_without_a_crop() -> None:
    earlier = recording().model_dump(mode="json", exclude={"crop"})
    assert RecordingInfo.model_validate(earlier).crop is None


# --- crops in NWB files ---------------------------------------------------------------------------


def exported_poses(lab: Lab, session: SessionInfo) -> list[RecordingPoses]:
    """Return the poses of each recording as they go into the session's NWB file."""
    return recordings_to_write(lab, session, chosen_poses(lab, session, None, None), "")


def test_an_nwb_file_says_what_the_network_saw_as_the_pose_table_has_it(analysed: Lab) -> None:
    session, _ = need_session_info(analysed.layout, FIRST)
    (plain,) = exported_poses(analysed, session)
    assert plain.crop is None
    path = analysed.layout.pose_file("walker", small_lab.VERSION, FIRST, "top")
    times, tracks = read_tracks(path)
    cropped = replace(read_pose_metadata(path), crop={"x": [0, 40], "y": [4, 44]})
    write_pose_table(path, tracks, times, cropped)
    (poses,) = exported_poses(analysed, session)
    assert poses.crop == (0, 40, 4, 44)
    assert "The network saw x 0 to 40, y 4 to 44; positions are in the full frame." in _pose_description(poses, "")
