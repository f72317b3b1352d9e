"""Names that no one should give to files, and links that lead astray: mapped, or refused with the reason, and nothing else happens."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dlc_assets.lab.errors import SettingsError
from dlc_assets.lab.files import atomic_path
from dlc_assets.lab.keys import LONGEST_RECORDING_NAME, LONGEST_SESSION_KEY, recording_name, session_key
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.layout import LabLayout
from dlc_assets.recordings.discovery import Discovery, discover, find_sessions
from dlc_assets.recordings.index import RecordingIndex
from dlc_assets_tests.unit.test_discovery import NESTED, lab_with, put
from dlc_assets_tests.unit.test_index_histories import known, known_at_first_sight

FOLLOWING = '{root: recordings, template: "{subject}/{session}/{camera}.mp4", follow_links: true}'


def outside(folder: Path, lab: Lab) -> dict[str, int]:
    """Return the files and folders beside the lab, with their times of change."""
    return {
        str(path): path.lstat().st_mtime_ns
        for path in folder.rglob("*")
        if path != lab.root and not path.is_relative_to(lab.root)
    }


def looked_at(lab: Lab) -> Discovery:
    """Discover, and see that the kept index knows the same."""
    with RecordingIndex.opened(lab) as index:
        index.look()
        assert known(index) == known_at_first_sight(lab)
    return discover(lab)


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("a|b", "ses-a-b"),
        ("a\nb", "ses-a-b"),
        ("a\tb", "ses-a-b"),
        ("a b  c ", "ses-a-b-c"),
        ("day🐭1", "ses-day-1"),
        ("-rf", "ses-rf"),
        ("$(reboot)", "ses-reboot"),
        ("'; DROP TABLE session; --", "ses-DROP-TABLE-session"),
        ("a%2e%2e%2fb", "ses-a-2e-2e-2fb"),
        ("CON", "ses-CON"),
        ("a...", "ses-a"),
        ("日本", "ses-日本"),
    ],
)
def test_a_strange_name_becomes_one_that_files_and_archives_can_have(tmp_path: Path, name: str, key: str) -> None:
    lab = lab_with(tmp_path / "lab", '{template: "{session}/{camera}.mp4"}')
    put(tmp_path / "lab/recordings" / name / "top.mp4")
    found = looked_at(lab)
    assert list(found.sessions) == [key]
    assert found.sessions[key].session == name
    assert found.all_problems == []
    assert lab.layout.session_recordings(key).parent == lab.layout.recordings


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a\\..\\..\\etc", "has a slash: expected a name, not a path"),
        ("🐭", "has no letter or digit"),
        ("___", "has no letter or digit"),
        ("x" * 160, "of 164 bytes; names of files have room for 150"),
        ("ä" * 80, "of 164 bytes; names of files have room for 150"),
        (os.fsdecode(b"day\xff1"), "day\\udcff1: its name is not valid UTF-8 text; rename it"),
    ],
)
def test_a_name_that_cannot_be_used_is_refused_with_the_reason_and_others_are_taken(
    tmp_path: Path, name: str, said: str
) -> None:
    lab = lab_with(tmp_path / "lab", '{template: "{session}/{camera}.mp4"}', files=("day1/top.mp4",))
    put(tmp_path / "lab/recordings" / name / "top.mp4")
    found = looked_at(lab)
    assert list(found.sessions) == ["ses-day1"]
    assert len(found.problems) == 1
    assert said in found.problems[0]
    assert found.problems[0].isprintable()
    assert str(found.problems[0]).encode()


def test_a_file_name_that_is_no_text_is_refused_too(tmp_path: Path) -> None:
    lab = lab_with(tmp_path, '{template: "{session}.mp4", camera: top}', files=("day1.mp4",))
    put(tmp_path / "recordings" / os.fsdecode(b"day\xff2.mp4"))
    put(tmp_path / "recordings" / os.fsdecode(b"notes\xff.txt"))
    found = looked_at(lab)
    assert list(found.sessions) == ["ses-day1"]
    assert len(found.problems) == 1
    assert "day\\udcff2.mp4: its name is not valid UTF-8 text" in found.problems[0]


@pytest.mark.parametrize("name", [".hidden/1/top.mp4", "m01/..1/top.mp4", "m01/1/.top.mp4"])
def test_what_begins_with_a_dot_is_hidden(tmp_path: Path, name: str) -> None:
    found = looked_at(lab_with(tmp_path, NESTED, files=(name,)))
    assert (found.sessions, found.unmatched, found.problems) == ({}, [], [])


def test_a_recording_of_too_long_a_name_is_refused(tmp_path: Path) -> None:
    lab = lab_with(tmp_path, '{template: "{session}/{camera}_{trial}.mp4"}', files=(f"day1/{'c' * 60}_{'t' * 90}.mp4",))
    assert "of 151 bytes; names of files have room for 120" in looked_at(lab).problems[0]


def test_the_longest_names_fit_the_names_of_all_files_that_are_made_of_them(tmp_path: Path) -> None:
    layout = LabLayout(tmp_path)
    key = session_key("s" * 70, "d" * (LONGEST_SESSION_KEY - 79))
    assert len(key.encode()) == LONGEST_SESSION_KEY
    name = recording_name("c" * 60, "t" * (LONGEST_RECORDING_NAME - 61))
    model = "openfield-resnet50-of-the-second-rig"
    for path in (
        layout.recording_times(key, name),
        layout.pose_file(model, "0123456789ab", key, name),
        layout.failure("session_recordings", f"{model}|{key}"),
        layout.nwb_manifest(key),
        layout.nwb / f"sub-{'s' * 70}" / f"{key}_behavior+image.nwb",
        layout.lock("pose_table", f"{model}|{key}").with_suffix(".holder.json"),
    ):
        with atomic_path(path) as partial:
            partial.touch()
    with pytest.raises(SettingsError, match="Shorten the names"):
        session_key("s" * 70, "d" * (LONGEST_SESSION_KEY - 78))


# --- names that are equal but for how they are written ------------------------------------------


def test_a_name_typed_in_two_unicode_forms_is_one_session(tmp_path: Path) -> None:
    """macOS gives names decomposed to whoever mounts its shares."""
    composed, decomposed = "Käfig", "Ka\u0308fig"
    lab = lab_with(
        tmp_path,
        '{root: recordings, template: "{session}/Ka\u0308fig_{camera}.mp4", ignore: ["*_pröbe.mp4"]}',
        files=(
            f"{composed}/{composed}_top.mp4",
            f"{decomposed}/{decomposed}_side.mp4",
            f"{decomposed}/{decomposed}_{composed}_pro\u0308be.mp4",
        ),
    )
    put(tmp_path / f"recordings/{decomposed}/ses-{decomposed}.yaml").write_text("description: first day\n")
    found = looked_at(lab)
    assert found.all_problems == []
    assert found.unmatched == []
    (session,) = found.sessions.values()
    assert (session.key, session.session, sorted(session.recordings)) == (f"ses-{composed}", composed, ["side", "top"])
    assert session.metadata().description == "first day"


def test_one_file_in_two_unicode_forms_is_refused_with_both_named(tmp_path: Path) -> None:
    lab = lab_with(tmp_path, NESTED, files=("Käfig/1/top.mp4", "Ka\u0308fig/1/top.mp4"))
    (session,) = looked_at(lab).sessions.values()
    assert "two files make the same recording (top)" in session.refused["top"]
    assert all(f"/{subject}/1/top.mp4" in session.refused["top"] for subject in ("Käfig", "Ka\u0308fig"))


def test_keys_that_differ_in_case_only_are_refused_with_a_file_of_each_however_they_come(tmp_path: Path) -> None:
    lab = lab_with(tmp_path, NESTED, files=("m01/1/top.mp4",))
    assert looked_at(lab).all_problems == []
    put(tmp_path / "recordings/M01/1/top.mp4")
    found = looked_at(lab)
    assert list(found.sessions["sub-m01_ses-1"].refused) == ["*"]
    assert found.sessions["sub-M01_ses-1"].refused == {}
    (problem,) = found.all_problems
    assert f"rename one of them ({tmp_path}/recordings/m01/1/top.mp4 or {tmp_path}/recordings/M01/1/top.mp4)" in problem
    assert find_sessions(lab, ["sub-m01_ses-1"])["sub-m01_ses-1"].refused == {"*": problem}
    (tmp_path / "recordings/M01/1/top.mp4").unlink()
    assert looked_at(lab).all_problems == []


def test_recordings_of_one_session_that_differ_in_case_only_are_refused(tmp_path: Path) -> None:
    lab = lab_with(tmp_path, NESTED, files=("m01/1/Top.mp4", "m01/1/top.mp4", "m01/1/side.mp4"))
    session = looked_at(lab).sessions["sub-m01_ses-1"]
    assert list(session.refused) == ["top"]
    assert "the recordings Top and top differ in upper and lower case only" in session.refused["top"]


# --- links ----------------------------------------------------------------------------------------


def test_a_link_that_leaves_the_root_is_refused_unless_the_lab_says_otherwise(tmp_path: Path) -> None:
    put(tmp_path / "elsewhere/1/top.mp4")
    put(tmp_path / "elsewhere/side.mp4")
    lab = lab_with(tmp_path / "lab", NESTED, files=("m01/1/top.mp4",))
    recordings = tmp_path / "lab/recordings"
    (recordings / "m02").symlink_to(tmp_path / "elsewhere")
    (recordings / "m01/1/side.mp4").symlink_to(tmp_path / "elsewhere/side.mp4")
    before = outside(tmp_path, lab)
    found = looked_at(lab)
    assert {key: list(session.recordings) for key, session in found.sessions.items()} == {"sub-m01_ses-1": ["top"]}
    assert len(found.problems) == 2
    assert f"{recordings}/m02: this link leads out of the recording root, to {tmp_path}/elsewhere" in found.problems[0]
    assert f"{recordings}/m01/1/side.mp4: this link leads out" in found.problems[1]
    assert all("state `follow_links: true`" in problem for problem in found.problems)
    allowed = looked_at(lab_with(tmp_path / "lab", FOLLOWING))
    assert {key: sorted(session.recordings) for key, session in allowed.sessions.items()} == {
        "sub-m01_ses-1": ["side", "top"],
        "sub-m02_ses-1": ["top"],
    }
    assert allowed.all_problems == []
    assert outside(tmp_path, lab) == before


def test_a_link_within_the_root_is_followed_and_its_file_is_one_recording(tmp_path: Path) -> None:
    lab = lab_with(tmp_path, NESTED, files=("m01/1/top.mp4", "raw/a4711.mp4"))
    recordings = tmp_path / "recordings"
    (recordings / "latest").symlink_to("m01")  # shows a session a second time
    (recordings / "m02/1").mkdir(parents=True)
    (recordings / "m02/1/top.mp4").symlink_to("../../raw/a4711.mp4")  # gives a name that fits to one that does not
    found = looked_at(lab)
    assert sorted(found.sessions) == ["sub-m01_ses-1", "sub-m02_ses-1"]
    assert found.sessions["sub-m01_ses-1"].files[0].path == recordings / "m01/1/top.mp4"
    assert found.unmatched == []
    (recordings / "m01").rename(recordings / ".old")
    (recordings / "latest").unlink()
    (recordings / "latest").symlink_to("m02")
    assert sorted(looked_at(lab).sessions) == ["sub-m02_ses-1"]


def test_of_several_links_to_a_video_the_next_counts_when_one_goes(tmp_path: Path) -> None:
    lab = lab_with(tmp_path, NESTED, files=("raw/a.mp4",))
    recordings = tmp_path / "recordings"
    for subject in ("m01", "m02", "m03"):
        (recordings / subject / "1").mkdir(parents=True)
        (recordings / subject / "1/top.mp4").symlink_to("../../raw/a.mp4")
    assert list(looked_at(lab).sessions) == ["sub-m01_ses-1"]
    (recordings / "m01/1/top.mp4").unlink()
    assert list(looked_at(lab).sessions) == ["sub-m02_ses-1"]
    (recordings / "m02").rename(recordings / ".m02")
    assert list(looked_at(lab).sessions) == ["sub-m03_ses-1"]


def test_a_link_that_is_made_to_lead_elsewhere_shows_what_is_there(tmp_path: Path) -> None:
    lab = lab_with(tmp_path, NESTED, files=(".raw1/1/top.mp4", ".raw2/1/top.mp4"))
    recordings = tmp_path / "recordings"
    (recordings / "m01").symlink_to(".raw1")
    (recordings / "m02").symlink_to(".raw2")
    assert sorted(looked_at(lab).sessions) == ["sub-m01_ses-1", "sub-m02_ses-1"]
    (recordings / "m02").unlink()
    (recordings / "m02").symlink_to(".raw1")
    assert list(looked_at(lab).sessions) == ["sub-m01_ses-1"]  # one video is one recording


def test_links_in_circles_end(tmp_path: Path) -> None:
    lab = lab_with(tmp_path, NESTED, files=("m01/1/top.mp4", "m02/1/top.mp4"))
    recordings = tmp_path / "recordings"
    (recordings / "m01/again").symlink_to("..")
    (recordings / "m01/other").symlink_to("../m02")
    (recordings / "m02/other").symlink_to("../m01")
    (recordings / "m01/self").symlink_to("self")
    found = looked_at(lab)
    assert sorted(found.sessions) == ["sub-m01_ses-1", "sub-m02_ses-1"]
    assert "m01/self: this video cannot be looked at" not in " ".join(found.problems)


def test_a_video_that_is_a_link_to_nowhere_is_named(tmp_path: Path) -> None:
    lab = lab_with(tmp_path, NESTED, files=("m01/1/top.mp4",))
    (tmp_path / "recordings/m01/1/side.mp4").symlink_to("gone.mp4")
    (problem,) = looked_at(lab).problems
    assert "side.mp4: this video cannot be looked at (No such file or directory); is it a link to nowhere?" in problem


def test_a_root_that_is_a_link_itself_is_used(tmp_path: Path) -> None:
    put(tmp_path / "disk/m01/1/top.mp4")
    lab = lab_with(tmp_path / "lab", '{root: rig, template: "{subject}/{session}/{camera}.mp4"}')
    (tmp_path / "lab/rig").symlink_to(tmp_path / "disk")
    assert looked_at(lab).sessions["sub-m01_ses-1"].files[0].path == tmp_path / "lab/rig/m01/1/top.mp4"


@pytest.mark.parametrize("order", [1, -1])
def test_a_file_under_several_templates_and_nested_roots_is_the_first_ones_recording(
    tmp_path: Path, order: int
) -> None:
    entries = [
        '{root: recordings, template: "{subject}/{session}/{camera}.mp4"}',
        '{root: recordings/m01, template: "{session}/{camera}.mp4"}',
        '{root: recordings/../recordings, template: "{subject}/{session}/{camera}.mp4"}',
    ][::order]
    lab = lab_with(tmp_path, *entries, files=("m01/1/top.mp4",))
    found = looked_at(lab)
    assert sum(len(session.files) for session in found.sessions.values()) == 1
    assert found.all_problems == []


def test_the_stores_own_videos_are_no_recordings(tmp_path: Path) -> None:
    lab = lab_with(tmp_path, '{root: ., template: "{subject}/{session}/{camera}.mp4"}', files=())
    put(tmp_path / "m01/1/top.mp4")
    put(tmp_path / "store/1/top.mp4")
    assert list(looked_at(lab).sessions) == ["sub-m01_ses-1"]
