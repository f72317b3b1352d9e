"""Whatever happened to the recordings, the index that followed it knows the same as one that sees them for the first time."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import Any

import pytest

from dlc_assets.lab.lab import Lab, open_lab_folder
from dlc_assets.recordings.discovery import discover, find_sessions
from dlc_assets.recordings.found import FoundSession
from dlc_assets.recordings.index import RecordingIndex

LAB = """\
name: Smith lab
recordings:
  - {root: rig1, template: "{subject}/{session}/{camera}.mp4", ignore: ["*_test*"]}
  - {root: rig1, template: "{subject}/{session}_{camera}_{part}.avi"}
  - {root: rig1/m01, template: "{session}_{camera}_{part}.avi", follow_links: true}
  - {root: rig2, template: "{camera}/{session}.mp4"}
"""
SUBJECTS = ("m01", "m02", "M02", "m 02", "Käfig", "Ka\u0308fig", "___")
SESSIONS = ("1", "2", "day_1", "day 1")
CAMERAS = ("top", "Top", "side", "top_test")


class History:
    """Random changes of a lab's recordings, each of which a person, a camera or a copy program could make."""

    def __init__(self, root: Path, seed: int) -> None:
        self.root = root
        self.random = random.Random(seed)
        self.clock = 1_700_000_000

    def step(self) -> str:
        change = self.random.choice(
            [
                self.add,
                self.add,
                self.add,
                self.grow,
                self.remove,
                self.rename,
                self.move_folder,
                self.describe,
                self.link,
            ]
        )
        change()
        return change.__name__

    def files(self) -> list[Path]:
        return sorted(path for path in self.root.glob("rig*/**/*.*") if path.is_file() and not path.is_symlink())

    def add(self) -> None:
        pick = self.random.choice
        subject, session, camera = pick(SUBJECTS), pick(SESSIONS), pick(CAMERAS)
        name = pick(
            [
                f"rig1/{subject}/{session}/{camera}.mp4",
                f"rig1/{subject}/{session.replace('_', '')}_{camera.replace('_', '')}_{pick('12')}.avi",
                f"rig2/{camera}/{session}.mp4",
                f"rig1/{subject}/notes.txt",
                f"rig1/{subject}/{session}/{camera}.mp4.done",
                f"rig1/{subject}/odd.mkv",
            ]
        )
        self.write(self.root / name)

    def write(self, path: Path) -> None:
        self.clock += 1
        if path.parent.is_symlink() and not path.parent.is_dir():
            return  # a link to nowhere, or to a file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * self.random.randint(1, 50))
        os.utime(path, (self.clock, self.clock))

    def grow(self) -> None:
        if files := self.files():
            self.write(self.random.choice(files))

    def remove(self) -> None:
        if len(files := self.files()) > 3:
            self.random.choice(files).unlink()

    def rename(self) -> None:
        if files := self.files():
            path = self.random.choice(files)
            path.rename(path.with_name(f"{self.random.choice(CAMERAS)}{path.suffix}"))

    def move_folder(self) -> None:
        folders = sorted(
            p for p in (self.root / "rig1").iterdir() if p.is_dir() and not p.is_symlink() and p.name != "m01"
        )
        place = self.root / "rig1" / self.random.choice(SUBJECTS)
        if folders and not place.exists() and not place.is_symlink():
            self.random.choice(folders).rename(place)

    def describe(self) -> None:
        if files := self.files():
            folder = self.random.choice(files).parent
            name = self.random.choice(["session.yaml", "sub-m02_ses-1.yaml", "ses-1.yaml", "sub-m01_ses-2.yaml"])
            self.write(folder / name)

    def link(self) -> None:
        """Make a link to a file or folder of the roots, to one outside them, back to itself, or to nowhere; or take one away."""
        links = sorted(path for path in self.root.glob("rig1/**/*") if path.is_symlink())
        if links and self.random.random() < 0.5:
            self.random.choice(links).unlink()
            return
        outside = self.root / "elsewhere"
        if not outside.exists():
            self.write(outside / "3" / "top.mp4")
            self.write(outside / "3_top_1.avi")
        targets = [*self.files(), outside, outside / "3" / "top.mp4", self.root / "rig1", self.root / "nowhere"]
        targets += [path.parent for path in self.files()]
        folder = self.random.choice(
            [self.root / "rig1" / "m01", *[p for p in (self.root / "rig1").iterdir() if p.is_dir()]]
        )
        link = folder / self.random.choice(["9", "9_top_1.avi", "8_side_2.avi", "1"])
        if not link.exists() and not link.is_symlink():
            link.symlink_to(self.random.choice(targets))


def told(session: FoundSession) -> tuple[Any, ...]:
    """Return all that a session says of itself, to be compared."""
    recordings = {
        name: (r.camera, [(part, file) for part, file in sorted(r.parts.items())])
        for name, r in session.recordings.items()
    }
    return session.subject, session.session, recordings, session.problems, session.refused, session.metadata_file


def known(index: RecordingIndex) -> dict[str, Any]:
    rows = index.connection.execute("SELECT key, stamp, day FROM session WHERE gone = 0 ORDER BY key").fetchall()
    return {
        "sessions": {session.key: told(session) for session in index.sessions()},
        "rows": rows,
        "problems": sorted(index.problems()),
        "unmatched": index.unmatched(),
        "ignored": index.ignored(),
    }


def known_at_first_sight(lab: Lab) -> dict[str, Any]:
    with RecordingIndex.opened(lab, kept=False) as fresh:
        fresh.look(settle=False)
        return known(fresh)


def look_to_the_end(lab: Lab, seconds: float | None) -> None:
    """Look until a round is done; with no time at all, folder by folder, and each look by another process."""
    while True:
        with RecordingIndex.opened(lab) as index:
            if index.look(seconds=seconds, settle=False).round_done:
                return


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    (tmp_path / "lab.yaml").write_text(LAB)
    (tmp_path / "rig1/m01").mkdir(parents=True)
    (tmp_path / "rig2").mkdir()
    for root in ("rig1", "rig1/m01", "rig2"):
        (tmp_path / root / "README").touch()  # an empty root would be one that was unmounted
    return open_lab_folder(tmp_path)


@pytest.mark.parametrize("seed", range(4))
def test_an_index_that_followed_a_history_knows_what_a_new_one_finds(lab: Lab, seed: int) -> None:
    history = History(lab.root, seed)
    for _ in range(25):
        history.add()
    done: list[str] = []
    for number in range(60):
        done.append(history.step())
        if number % 3 == 0:
            look_to_the_end(lab, seconds=0 if number % 2 else None)
            with RecordingIndex.opened(lab) as index:
                assert known(index) == known_at_first_sight(lab), done
    look_to_the_end(lab, None)
    found = discover(lab).sessions
    assert len(found) > 5
    assert {key: told(session) for key, session in find_sessions(lab, found).items()} == {
        key: told(session) for key, session in found.items()
    }


def test_changes_in_the_middle_of_a_round_are_seen_in_the_next_one(lab: Lab) -> None:
    history = History(lab.root, seed=7)
    for _ in range(30):
        history.add()
    for _ in range(25):
        history.step()
        with RecordingIndex.opened(lab) as index:
            index.look(seconds=0, settle=False)
    look_to_the_end(lab, None)  # the round that was under way
    look_to_the_end(lab, None)
    with RecordingIndex.opened(lab) as index:
        assert known(index) == known_at_first_sight(lab)
