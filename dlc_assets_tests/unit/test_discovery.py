"""Videos below the lab's roots become sessions; what does not fit is named, and one bad file stops nothing else."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dlc_assets.lab.errors import SettingsError
from dlc_assets.lab.lab import Lab, open_lab_folder
from dlc_assets.recordings.discovery import Discovery, discover
from dlc_assets.recordings.settling import unchanged_for

NESTED = '{root: recordings, template: "{subject}/{session}/{camera}.mp4"}'
NOON = 1_780_000_000.0


def lab_with(folder: Path, *templates: str, files: tuple[str, ...] = (), more: str = "") -> Lab:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "lab.yaml").write_text(f"name: Smith lab\nrecordings: [{', '.join(templates)}]\n{more}")
    (folder / "recordings").mkdir(exist_ok=True)
    for name in files:
        put(folder / "recordings" / name)
    return open_lab_folder(folder)


def put(path: Path, size: int = 10, at: float = NOON) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    os.utime(path, (at, at))
    return path


def found_in(folder: Path, template: str, *files: str) -> Discovery:
    return discover(lab_with(folder, template, files=files))


# --- what is found --------------------------------------------------------------------------------


def test_each_folder_of_a_subject_is_a_session_with_its_cameras(tmp_path: Path) -> None:
    found = found_in(
        tmp_path,
        NESTED,
        "m01/20260501/top.mp4",
        "m01/20260501/side.mp4",
        "m01/20260502/top.mp4",
        "m02/20260501/top.mp4",
    )
    assert {key: sorted(session.recordings) for key, session in found.sessions.items()} == {
        "sub-m01_ses-20260501": ["side", "top"],
        "sub-m01_ses-20260502": ["top"],
        "sub-m02_ses-20260501": ["top"],
    }
    session = found.sessions["sub-m01_ses-20260501"]
    assert (session.subject, session.session) == ("m01", "20260501")
    assert found.all_problems == []
    assert found.unmatched == []


def test_sessions_without_a_subject(tmp_path: Path) -> None:
    found = found_in(tmp_path, '{template: "{session}/{camera}.mp4"}', "day 1/top.mp4")
    assert list(found.sessions) == ["ses-day-1"]
    assert found.sessions["ses-day-1"].session == "day 1"


def test_parts_of_a_split_video_are_one_recording_in_their_order(tmp_path: Path) -> None:
    files = [f"day1_top_{part}.avi" for part in (10, 2, 1)]
    found = found_in(tmp_path, '{template: "{session}_{camera}_{part}.avi"}', *files)
    recording = found.sessions["ses-day1"].recordings["top"]
    assert [file.path.name for file in recording.files] == ["day1_top_1.avi", "day1_top_2.avi", "day1_top_10.avi"]


def test_trials_of_one_camera_are_separate_recordings(tmp_path: Path) -> None:
    found = found_in(tmp_path, '{template: "{session}/{camera}_{trial}.mp4"}', "day1/top_1.mp4", "day1/top_2.mp4")
    assert sorted(found.sessions["ses-day1"].recordings) == ["top_1", "top_2"]
    assert {r.camera for r in found.sessions["ses-day1"].recordings.values()} == {"top"}


def test_what_deeplabcut_wrote_beside_the_videos_is_no_recording(tmp_path: Path) -> None:
    found = found_in(
        tmp_path,
        NESTED,
        "m01/1/top.mp4",
        "m01/1/top_labeled.mp4",
        "m01/1/topDLC_resnet50_openfieldOct30shuffle1_1030000_labeled.mp4",
        "m01/1/topDLC_resnet50_openfieldOct30shuffle1_1030000.h5",
        "m01/1/top.csv",
    )
    assert list(found.sessions["sub-m01_ses-1"].recordings) == ["top"]
    assert found.unmatched == []
    assert sum(found.ignored.values()) == 2


def test_hidden_files_and_folders_are_not_looked_at(tmp_path: Path) -> None:
    found = found_in(tmp_path, NESTED, "m01/1/top.mp4", "m01/1/._top.mp4", ".trash/1/top.mp4", "m01/1/.top.mp4")
    assert list(found.sessions) == ["sub-m01_ses-1"]
    assert found.unmatched == []


def test_capital_suffixes_are_videos_too(tmp_path: Path) -> None:
    found = found_in(tmp_path, '{template: "{session}/{camera}.MP4"}', "day1/top.MP4")
    assert list(found.sessions) == ["ses-day1"]


def test_videos_that_fit_no_template_are_listed_and_other_files_are_not(tmp_path: Path) -> None:
    found = found_in(tmp_path, NESTED, "m01/top.mp4", "m01/1/top.avi", "notes.txt")
    assert [path.name for path in found.unmatched] == ["top.avi", "top.mp4"]
    assert found.sessions == {}


def test_a_file_that_a_second_template_takes_is_not_unmatched(tmp_path: Path) -> None:
    lab = lab_with(
        tmp_path, NESTED, '{template: "{subject}/{session}.mp4", camera: side}', files=("m01/1/top.mp4", "m01/2.mp4")
    )
    found = discover(lab)
    assert found.unmatched == []
    assert sorted(found.sessions) == ["sub-m01_ses-1", "sub-m01_ses-2"]


def test_a_root_that_is_not_mounted_is_a_problem_and_the_others_are_used(tmp_path: Path) -> None:
    lab = lab_with(
        tmp_path, '{root: /nowhere/rig2, template: "{session}/{camera}.mp4"}', NESTED, files=("m01/1/top.mp4",)
    )
    found = discover(lab)
    assert list(found.sessions) == ["sub-m01_ses-1"]
    assert len(found.problems) == 1
    assert "/nowhere/rig2: this recording root of lab.yaml is not there" in found.problems[0]


# --- what cannot be -------------------------------------------------------------------------------


def test_two_files_that_make_the_same_recording_are_both_named_and_other_recordings_are_used(tmp_path: Path) -> None:
    lab = lab_with(
        tmp_path,
        NESTED,
        '{root: copies, template: "{subject}/{session}/{camera}.mp4"}',
        files=("m01/1/top.mp4", "m01/1/side.mp4", "m02/1/top.mp4"),
    )
    put(tmp_path / "copies/m01/1/top.mp4")
    found = discover(lab)
    session = found.sessions["sub-m01_ses-1"]
    assert list(session.refused) == ["top"]
    assert "two files make the same recording (top)" in session.refused["top"]
    assert str(tmp_path / "copies/m01/1/top.mp4") in session.refused["top"]
    assert str(tmp_path / "recordings/m01/1/top.mp4") in session.refused["top"]
    assert found.sessions["sub-m02_ses-1"].refused == {}


def test_two_files_of_the_same_part_are_named_with_the_part(tmp_path: Path) -> None:
    found = discover(
        lab_with(
            tmp_path,
            '{template: "{session}_{camera}_{part}.avi"}',
            '{template: "{session}_{camera}_{part}.mp4"}',
            files=("day1_top_1.avi", "day1_top_1.mp4"),
        )
    )
    assert "two files make the same recording (top, part 1)" in found.all_problems[0]


def test_one_file_under_two_templates_is_one_recording(tmp_path: Path) -> None:
    found = discover(lab_with(tmp_path, NESTED, NESTED, files=("m01/1/top.mp4",)))
    assert found.all_problems == []
    assert len(found.sessions["sub-m01_ses-1"].files) == 1


def test_two_names_that_become_one_key_are_a_collision_that_names_both_files(tmp_path: Path) -> None:
    found = found_in(tmp_path, NESTED, "m 01/1/top.mp4", "m-01/1/top.mp4", "m02/1/top.mp4")
    session = found.sessions["sub-m-01_ses-1"]
    assert "*" in session.refused
    assert 'of subject "m-01"' in session.refused["*"]
    assert 'of subject "m 01"' in session.refused["*"]
    assert "both become sub-m-01_ses-1. Rename one of them." in session.refused["*"]
    assert str(tmp_path / "recordings/m 01/1/top.mp4") in session.refused["*"]
    assert found.sessions["sub-m02_ses-1"].refused == {}


def test_keys_that_differ_in_case_only_are_refused(tmp_path: Path) -> None:
    found = found_in(tmp_path, NESTED, "m01/1/top.mp4", "M01/1/top.mp4")
    assert [list(session.refused) for _, session in sorted(found.sessions.items())] == [[], ["*"]]
    assert "differ in upper and lower case only" in found.all_problems[0]


def test_a_name_of_which_nothing_is_left_is_a_problem_and_the_rest_goes_on(tmp_path: Path) -> None:
    found = found_in(tmp_path, NESTED, "___/1/top.mp4", "m01/1/top.mp4")
    assert list(found.sessions) == ["sub-m01_ses-1"]
    assert "has no letter or digit" in found.problems[0]
    assert "___/1/top.mp4" in found.problems[0]


# --- session.yaml ---------------------------------------------------------------------------------


def test_a_session_yaml_in_the_sessions_folder_is_its_own(tmp_path: Path) -> None:
    lab = lab_with(tmp_path, NESTED, files=("m01/1/top.mp4",))
    path = tmp_path / "recordings/m01/1/session.yaml"
    path.write_text("description: first day\n")
    session = discover(lab).sessions["sub-m01_ses-1"]
    assert session.metadata_file == path
    assert session.metadata().description == "first day"


def test_sessions_that_share_a_folder_need_a_file_each(tmp_path: Path) -> None:
    lab = lab_with(tmp_path, '{template: "{session}_{camera}.mp4"}', files=("a_top.mp4", "b_top.mp4"))
    (tmp_path / "recordings/session.yaml").write_text("description: whose?\n")
    (tmp_path / "recordings/ses-b.yaml").write_text("description: b's\n")
    found = discover(lab)
    assert found.sessions["ses-a"].metadata().description == ""
    assert found.sessions["ses-b"].metadata().description == "b's"
    assert len(found.all_problems) == 1
    assert "the sessions ses-a, ses-b share this folder" in found.all_problems[0]
    assert "Name it ses-a.yaml" in found.all_problems[0]


def test_two_metadata_files_of_one_session_are_both_named(tmp_path: Path) -> None:
    lab = lab_with(tmp_path, '{template: "{camera}/{session}.mp4"}', files=("top/a.mp4", "side/a.mp4"))
    for camera in ("top", "side"):
        (tmp_path / "recordings" / camera / "ses-a.yaml").write_text("description: one of two\n")
    assert "several metadata files" in discover(lab).all_problems[0]


# --- settling -------------------------------------------------------------------------------------


def test_a_command_takes_files_by_their_own_time(tmp_path: Path) -> None:
    found = discover(lab_with(tmp_path, NESTED, files=("m01/1/top.mp4",)))
    assert unchanged_for(found, 30, now=NOON + 29) == []
    assert unchanged_for(found, 30, now=NOON + 30) == ["sub-m01_ses-1"]


def test_a_command_takes_a_file_from_the_future(tmp_path: Path) -> None:
    lab = lab_with(tmp_path, NESTED)
    put(tmp_path / "recordings/m01/1/top.mp4", at=NOON + 86400)
    assert unchanged_for(discover(lab), 30, now=NOON) == ["sub-m01_ses-1"]


def test_a_subject_with_a_slash_in_session_yaml_is_an_error_that_names_the_file(tmp_path: Path) -> None:
    lab = lab_with(tmp_path, '{template: "{session}/{camera}.mp4"}', files=("day1/top.mp4",))
    path = tmp_path / "recordings/day1/session.yaml"
    path.write_text("subject: cage3/m01\n")
    with pytest.raises(SettingsError, match=r'session\.yaml: subject: the subject name "cage3/m01" has a slash'):
        discover(lab).sessions["ses-day1"].metadata()
