"""The index of recordings: a look costs what changed, goes on where it was, and loses nothing when disks or processes vanish."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from benchmarks.discovery_lab import make_discovery_lab
from dlc_assets.lab.lab import Lab, open_lab_folder
from dlc_assets.lab.locks import hold
from dlc_assets.recordings import folder_rows, index, listing
from dlc_assets.recordings.discovery import discover, find_sessions
from dlc_assets.recordings.index import Look, RecordingIndex
from dlc_assets_tests.unit.test_discovery import NESTED, NOON, lab_with, put
from dlc_assets_tests.unit.test_index_histories import known, known_at_first_sight, told

FIRST, SECOND = "sub-m01_ses-1", "sub-m02_ses-1"
TWO = ("m01/1/top.mp4", "m02/1/top.mp4")


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return lab_with(tmp_path, NESTED, files=TWO)


def look(lab: Lab, **how: float) -> Look:
    with RecordingIndex.opened(lab) as kept:
        return kept.look(**how)


def rows(lab: Lab, columns: str) -> list[tuple[object, ...]]:
    with RecordingIndex.opened(lab) as kept:
        return kept.connection.execute(f"SELECT {columns} FROM session ORDER BY number").fetchall()


def keys(lab: Lab) -> list[str]:
    with RecordingIndex.opened(lab) as kept:
        return sorted(session.key for session in kept.sessions())


# --- what a look costs ----------------------------------------------------------------------------


def test_a_look_at_what_has_not_changed_reads_no_path_and_changes_nothing(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = look(lab, now=NOON)
    assert (first.round_done, first.folders, first.changed_sessions, first.warnings) == (True, 5, 2, ())
    monkeypatch.setattr(folder_rows, "place_file", lambda *_: pytest.fail("a path was read again"))
    second = look(lab, now=NOON + 5)
    assert (second.round_done, second.folders, second.files, second.changed_sessions) == (True, 5, first.files, 0)


def test_only_the_file_that_changed_is_read_again(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    put(lab.root / "recordings/m01/2/top.mp4")
    look(lab)
    put(lab.root / "recordings/m01/2/top.mp4", size=20)
    read: list[str] = []
    place_file = folder_rows.place_file

    def placing(covers: list[folder_rows.Covering], name: str) -> object:
        read.append(covers[0].relative + name)
        return place_file(covers, name)

    monkeypatch.setattr(folder_rows, "place_file", placing)
    assert look(lab).changed_sessions == 1
    assert read == ["m01/2/top.mp4"]


def test_a_look_that_has_no_time_reads_one_folder_and_the_next_goes_on_with_the_others(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    list_folder = listing.list_folder

    def reading(path: str) -> listing.Listing:
        read.append(path)
        return list_folder(path)

    monkeypatch.setattr(index, "list_folder", reading)
    looks = [look(lab, seconds=0)]
    while not looks[-1].round_done:
        looks.append(look(lab, seconds=0))
    assert [part.folders for part in looks] == [1, 1, 1, 1, 1]
    assert len(read) == len(set(read)) == 5
    assert keys(lab) == [FIRST, SECOND]


def test_a_session_is_numbered_in_the_order_in_which_it_was_found_and_keeps_its_number(lab: Lab) -> None:
    look(lab)
    put(lab.root / "recordings/a00/1/top.mp4")
    look(lab)
    (lab.root / "recordings/m01/1/top.mp4").unlink()
    look(lab)
    put(lab.root / "recordings/m01/1/top.mp4")
    look(lab)
    assert rows(lab, "key, number, gone") == [(FIRST, 1, 0), (SECOND, 2, 0), ("sub-a00_ses-1", 3, 0)]


def test_the_memory_of_a_look_does_not_grow_with_the_recordings(tmp_path: Path) -> None:
    """Where 4,000 files take a few MB, a list of all of them would show at 100,000: 4,000 entries at most are held."""
    make_discovery_lab(tmp_path, recordings=4_000, folders=40)
    script = (
        "import resource, sys; from dlc_assets.lab.lab import open_lab_folder; from dlc_assets.recordings import session_recordings\n"
        "from dlc_assets.recordings.index import RecordingIndex\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "with RecordingIndex.opened(open_lab_folder(sys.argv[1])) as index: assert index.look(settle=False).files == 4_080\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    grown = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    assert int(grown.stdout) < 60_000  # KiB


# --- killed ---------------------------------------------------------------------------------------

KILLED = """
import sys
from dlc_assets.lab.lab import open_lab_folder
from dlc_assets.recordings import index
index._ENTRIES_AT_ONCE = 50
with index.RecordingIndex.opened(open_lab_folder(sys.argv[1])) as kept:
    write = index._Batch.write
    def said(batch):
        write(batch)
        print("written", flush=True)
    index._Batch.write = said
    kept.look()
"""


def test_a_first_look_that_is_killed_again_and_again_ends_as_an_unbroken_one(tmp_path: Path) -> None:
    make_discovery_lab(tmp_path, recordings=3_000, folders=60)
    lab = open_lab_folder(tmp_path)
    sessions: list[int] = []
    for written in (3, 3, 5):
        process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        for _ in range(written):
            assert process.stdout.readline() == "written\n"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()
        with RecordingIndex.opened(lab) as kept:
            sessions.append(kept.counts()["sessions"])
            whole = kept.connection.execute(
                "SELECT COUNT(*) FROM file GROUP BY folder HAVING COUNT(*) <> 50"  # half a folder
            ).fetchall()
            assert whole == []
    assert 0 < sessions[0] < sessions[1] < sessions[2] < 3_000
    rest = look(lab)
    assert rest.round_done
    assert (
        rest.folders <= 61 - sessions[-1] // 50
    )  # the root is one of them; those that were written are not read again
    with RecordingIndex.opened(lab) as kept:
        assert known(kept) == known_at_first_sight(lab)


def test_two_processes_do_not_look_at_once(lab: Lab) -> None:
    with hold(lab.layout.lock("recordings", "look"), "looking for recordings"):
        busy = look(lab, seconds=0)
    assert (busy.round_done, busy.folders) == (False, 0)
    assert "looking for recordings: process" in busy.warnings[0]
    assert look(lab, seconds=60).round_done


# --- what vanishes --------------------------------------------------------------------------------


def test_a_session_whose_videos_are_deleted_is_gone_and_comes_back_with_them(lab: Lab) -> None:
    look(lab)
    (lab.root / "recordings/m01/1/top.mp4").unlink()
    assert look(lab).changed_sessions == 1
    assert rows(lab, "key, gone, settled, waiting") == [
        (FIRST, 1, 0, "its videos are gone"),
        (SECOND, 0, 0, rows(lab, "waiting")[1][0]),
    ]
    with RecordingIndex.opened(lab) as kept:
        assert kept.session(FIRST) is None
    put(lab.root / "recordings/m01/1/top.mp4")
    look(lab)
    assert keys(lab) == [FIRST, SECOND]


def test_a_folder_that_is_renamed_makes_another_session_of_it_once_the_round_is_done(lab: Lab) -> None:
    look(lab)
    (lab.root / "recordings/m01").rename(lab.root / "recordings/m03")
    while not look(lab, seconds=0).round_done:
        assert (FIRST, 0) in rows(lab, "key, gone")
    assert rows(lab, "key, gone") == [(FIRST, 1), (SECOND, 0), ("sub-m03_ses-1", 0)]


@pytest.fixture
def shares(tmp_path: Path) -> Lab:
    """A lab whose second root is a mounted share."""
    lab = lab_with(
        tmp_path / "lab",
        NESTED,
        f'{{root: {tmp_path}/share, template: "{{session}}/{{camera}}.mp4"}}',
        files=TWO,
    )
    put(tmp_path / "share/day1/top.mp4")
    return lab


@pytest.mark.parametrize(
    ("vanish", "said"),
    [("unmount", "has become empty"), ("remove", "is not there"), ("hang", "does not answer (Input/output error)")],
)
def test_a_share_that_vanishes_for_a_while_takes_no_session_with_it(
    shares: Lab, tmp_path: Path, vanish: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    look(shares)
    before = rows(shares, "key, stamp, gone")
    share, away = tmp_path / "share", tmp_path / "away"
    if vanish == "hang":
        scandir = os.scandir

        def hung(path: str) -> Iterable[os.DirEntry[str]]:
            if str(path).startswith(str(share)):
                raise OSError(5, "Input/output error", path)
            return scandir(path)

        monkeypatch.setattr(os, "scandir", hung)
    else:
        share.rename(away)
    if vanish == "unmount":
        share.mkdir()
    (shares.root / "recordings/m01/1/top.mp4").unlink()  # what happens elsewhere is seen
    for _ in range(3):
        without = look(shares)
        assert without.round_done
        assert len(without.warnings) == 1
        assert f"{share}: this recording root of lab.yaml {said}" in without.warnings[0]
        assert "its sessions stay as they are" in without.warnings[0]
    assert dict(rows(shares, "key, gone")) == {FIRST: 1, SECOND: 0, "ses-day1": 0}
    with RecordingIndex.opened(shares) as kept:
        assert kept.problems() == list(without.warnings)
    monkeypatch.undo()
    if vanish != "hang":
        if vanish == "unmount":
            share.rmdir()
        away.rename(share)
    put(shares.root / "recordings/m01/1/top.mp4")
    back = look(shares)
    assert back.warnings == ()
    assert rows(shares, "key, stamp, gone") == before


def test_a_share_that_vanishes_in_the_middle_of_a_look_takes_no_session_with_it(
    shares: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    look(shares)
    list_folder = listing.list_folder

    def unmounting(path: str) -> listing.Listing:
        if path.endswith("/share/day1"):
            (tmp_path / "share").rename(tmp_path / "away")
        return list_folder(path)

    monkeypatch.setattr(index, "list_folder", unmounting)
    assert "this recording root of lab.yaml is not there" in look(shares).warnings[0]
    assert (("ses-day1", 0)) in rows(shares, "key, gone")


def test_a_root_that_is_taken_out_of_lab_yaml_takes_its_sessions_along(shares: Lab) -> None:
    look(shares)
    lab = lab_with(shares.root, NESTED)
    look(lab)
    assert dict(rows(lab, "key, gone")) == {FIRST: 0, SECOND: 0, "ses-day1": 1}


def test_a_folder_that_cannot_be_read_keeps_what_is_known_of_it(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    look(lab)
    scandir = os.scandir

    def refusing(path: str) -> Iterable[os.DirEntry[str]]:
        if str(path).endswith("m01/1"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    refused = look(lab)
    assert refused.warnings == look(lab).warnings
    assert len(refused.warnings) == 1
    assert f"{lab.root}/recordings/m01/1: this folder cannot be read (Permission denied)" in refused.warnings[0]
    assert keys(lab) == [FIRST, SECOND]
    monkeypatch.undo()
    put(lab.root / "recordings/m01/1/side.mp4")
    assert look(lab).warnings == ()
    with RecordingIndex.opened(lab) as kept:
        session = kept.session(FIRST)
        assert kept.problems() == []
    assert session is not None
    assert sorted(session.recordings) == ["side", "top"]


# --- settings and the file ------------------------------------------------------------------------


def test_another_template_reads_everything_again_and_keeps_since_when_files_are_as_they_are(lab: Lab) -> None:
    look(lab, now=NOON)
    with RecordingIndex.opened(lab) as kept:
        seen = kept.connection.execute("SELECT folder, name, first_seen FROM file").fetchall()
    changed = lab_with(lab.root, '{root: recordings, template: "{session}/{trial}/{camera}.mp4"}')
    assert look(changed, now=NOON + 500).changed_sessions == 4
    assert rows(changed, "key, gone") == [(FIRST, 1), (SECOND, 1), ("ses-m01", 0), ("ses-m02", 0)]
    with RecordingIndex.opened(changed) as kept:
        assert kept.connection.execute("SELECT folder, name, first_seen FROM file").fetchall() == seen


def test_a_lab_that_was_moved_has_the_same_sessions_with_the_same_stamps(lab: Lab, tmp_path: Path) -> None:
    put(lab.root / "recordings/m01/1/session.yaml")
    look(lab)
    before = rows(lab, "key, number, stamp, gone")
    home = lab.root
    moved = home.rename(tmp_path.with_name(f"{tmp_path.name}-moved"))
    again = open_lab_folder(moved)
    look(again)
    assert rows(again, "key, number, stamp, gone") == before


@pytest.mark.parametrize("damage", [b"no database at all, by any means", b""])
def test_a_damaged_index_is_made_anew(lab: Lab, damage: bytes) -> None:
    look(lab)
    lab.layout.index_file.write_bytes(damage * 200)
    again = look(lab)
    assert again.changed_sessions == 2
    assert [f"{lab.layout.index_file} is damaged" in warning for warning in again.warnings] == (
        [True] if damage else []
    )
    assert look(lab).warnings == ()


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_an_index_with_damaged_pages_is_made_anew(lab: Lab, share: float) -> None:
    """Whether it shows when the file is opened, or in the middle of a look."""
    for number in range(200):
        put(lab.root / f"recordings/m{number:03}/1/top.mp4")
    look(lab)
    with sqlite3.connect(lab.layout.index_file) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = bytearray(lab.layout.index_file.read_bytes())
    whole = 4096 + int(share * len(content)) // 4096 * 4096
    content[whole:] = b"\xff" * (len(content) - whole)
    lab.layout.index_file.write_bytes(content)
    if share:
        with RecordingIndex.opened(lab) as kept:
            assert kept.looked_at() is not None  # it opens as if nothing were
    again = look(lab)
    assert "is damaged" in again.warnings[0]
    assert len(keys(lab)) == 202


def test_an_index_of_another_version_is_made_anew(lab: Lab) -> None:
    look(lab)
    with sqlite3.connect(lab.layout.index_file) as connection:
        connection.execute("PRAGMA user_version = 999")
    assert "was written by another version" in look(lab).warnings[0]
    assert keys(lab) == [FIRST, SECOND]


def test_other_tables_may_live_in_the_same_file(lab: Lab) -> None:
    with RecordingIndex.opened(lab) as kept:
        kept.connection.execute("CREATE TABLE IF NOT EXISTS product(session TEXT)")
        kept.connection.execute("INSERT INTO product VALUES (?)", (FIRST,))
        kept.look()
    with RecordingIndex.opened(lab) as kept:
        assert kept.connection.execute("SELECT session FROM product").fetchall() == [(FIRST,)]


def test_discovering_leaves_nothing_behind(lab: Lab) -> None:
    assert sorted(discover(lab).sessions) == [FIRST, SECOND]
    assert not lab.layout.store.exists()


# --- stamps and days ------------------------------------------------------------------------------


def test_a_stamp_changes_with_all_that_a_sessions_inputs_depend_on_and_with_nothing_else(lab: Lab) -> None:
    folder = lab.root / "recordings/m01/1"
    stamps = []
    for change in (
        lambda: None,
        lambda: put(folder / "top.mp4", size=20),
        lambda: put(folder / "top.mp4", size=20, at=NOON + 1),
        lambda: put(folder / "side.mp4"),
        lambda: (folder / "session.yaml").write_text("description: first day\n"),
        lambda: put(lab.root / "recordings/M01/1/top.mp4"),  # refused: one of the two
        lambda: lab_with(lab.root, NESTED, more="timezone: Europe/Zurich\n"),
    ):
        change()
        current = open_lab_folder(lab.root)
        look(current)
        look(current)
        stamps.append(dict(rows(current, "key, stamp"))[FIRST])
        put(folder / "notes.txt", size=len(stamps))
    assert len(set(stamps)) == len(stamps)
    look(current)
    assert dict(rows(current, "key, stamp"))[FIRST] == stamps[-1]


def test_the_day_of_a_session_is_kept_and_follows_its_metadata(lab: Lab) -> None:
    put(lab.root / "recordings/m02/20260501/top.mp4")
    look(lab)
    assert rows(lab, "day") == [("2026-05-28",), ("2026-05-28",), ("2026-05-01",)]
    (lab.root / "recordings/m01/1/session.yaml").write_text("start: 2026-02-03T10:00:00\n")
    look(lab)
    assert rows(lab, "day")[0] == ("2026-02-03",)


def test_a_nonsensical_time_of_change_stops_nothing(lab: Lab) -> None:
    put(lab.root / "recordings/m01/1/top.mp4", at=400_000_000_000)
    put(lab.root / "recordings/m02/1/top.mp4", at=-400_000_000_000)
    look(lab)
    assert keys(lab) == [FIRST, SECOND]
    assert look(lab).changed_sessions == 0


def test_a_metadata_file_is_no_longer_a_sessions_own_when_another_comes_into_its_folder(tmp_path: Path) -> None:
    lab = lab_with(tmp_path, '{template: "{session}_{camera}.mp4"}', files=("a_top.mp4",))
    put(tmp_path / "recordings/session.yaml")
    look(lab)
    alone = rows(lab, "stamp")[0]
    put(tmp_path / "recordings/b_top.mp4")
    look(lab)
    assert rows(lab, "stamp")[0] != alone
    with RecordingIndex.opened(lab) as kept:
        assert known(kept) == known_at_first_sight(lab)
    (tmp_path / "recordings/b_top.mp4").unlink()
    look(lab)
    assert rows(lab, "stamp")[0] == alone


# --- some sessions --------------------------------------------------------------------------------


def test_some_sessions_are_found_with_fresh_sizes_by_looking_at_their_folders_alone(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    look(lab)
    put(lab.root / "recordings/m01/1/top.mp4", size=77, at=NOON + 9)
    read: list[str] = []
    list_folder = listing.list_folder

    def reading(path: str) -> listing.Listing:
        read.append(path)
        return list_folder(path)

    monkeypatch.setattr(index, "list_folder", reading)
    found = find_sessions(lab, [FIRST])
    assert read == [f"{lab.root}/recordings/m01/1"]
    assert {key: told(session) for key, session in found.items()} == {FIRST: told(discover(lab).sessions[FIRST])}
    assert found[FIRST].files[0].size == 77


def test_a_session_that_the_index_does_not_know_yet_is_found_all_the_same(lab: Lab) -> None:
    assert sorted(find_sessions(lab, [FIRST, "sub-m09_ses-1"])) == [FIRST]  # there is no index
    look(lab)
    put(lab.root / "recordings/m03/1/top.mp4")
    assert sorted(find_sessions(lab, [FIRST, "sub-m03_ses-1"])) == [FIRST, "sub-m03_ses-1"]
    (lab.root / "recordings/m01/1/top.mp4").unlink()
    assert find_sessions(lab, [FIRST]) == {}
    assert find_sessions(lab, []) == {}


def test_an_index_that_nobody_looked_after_is_brought_up_to_date_first(lab: Lab) -> None:
    """A camera that came since in a folder of its own is not among those where the index would look."""
    by_camera = lab_with(lab.root / "two", '{template: "{camera}/{session}.mp4"}', files=("top/1.mp4",))
    look(by_camera, now=time.time() - 3600)
    put(by_camera.root / "recordings/side/1.mp4")
    assert sorted(find_sessions(by_camera, ["ses-1"])["ses-1"].recordings) == ["side", "top"]


def test_a_session_on_a_share_that_is_away_is_not_found(shares: Lab, tmp_path: Path) -> None:
    look(shares)
    (tmp_path / "share").rename(tmp_path / "away")
    assert find_sessions(shares, ["ses-day1"]) == {}
    assert sorted(find_sessions(shares, [FIRST, "ses-day1"])) == [FIRST]
