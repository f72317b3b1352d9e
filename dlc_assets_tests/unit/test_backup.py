"""Backups: what is new is copied and read back, a backup that dies changes nothing, and a restored lab is the lab."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dlc_assets.backups import folder as backup_folder
from dlc_assets.backups.folder import BackupFolder
from dlc_assets.cli import app
from dlc_assets.doctor.backups import last_backup
from dlc_assets.lab.lab import Lab, open_lab_folder
from dlc_assets.lab.records import append_record, read_records
from dlc_assets.resources.instance import open_instance
from dlc_assets_tests.conftest import use_lab
from dlc_assets_tests.graph.small_lab import FIRST, as_if_analysed, as_if_trained, record, write_small_lab


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lab with recordings, a model, poses, a decision and a history."""
    root = tmp_path_factory.mktemp("made") / "lab"
    root.mkdir()
    write_small_lab(root)
    with pytest.MonkeyPatch.context() as patch:
        use_lab(root, patch)
        lab = open_lab_folder(root)
        record(lab, FIRST)
        version = as_if_trained(lab)
        (version.folder / "snapshot.pt").write_bytes(os.urandom(300_000))
        as_if_analysed(lab, FIRST)
        append_record(lab.layout, "releases", {"rule": "walker"})
        with open_instance(lab) as instance:
            instance.add_dynamic_partitions("kept", ["one"])
    return root


@pytest.fixture
def lab(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    root = tmp_path / "lab"
    shutil.copytree(made, root)
    use_lab(root, monkeypatch)
    return open_lab_folder(root)


def run(*words: object) -> dict[str, Any]:
    """Run a command; return its object, and its exit status as `exit`."""
    done = CliRunner().invoke(app, [*(str(word) for word in words), "--json"])
    return {**json.loads(done.stdout), "exit": done.exit_code}


def content(root: Path) -> dict[str, bytes]:
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_a_second_backup_copies_what_is_new_and_nothing_else(lab: Lab, tmp_path: Path) -> None:
    before = content(lab.root)
    first = run("backup", tmp_path / "b")
    assert first["exit"] == 0, first
    assert first["copied"] > 10
    changed = {name for name, data in content(lab.root).items() if before.get(name) != data and "/locks/" not in name}
    # Whoever reads an SQLite database that is in use makes these beside it.
    assert {name for name in changed if not name.endswith(("-wal", "-shm"))} == {"store/records/backups.jsonl"}
    names = set(BackupFolder(tmp_path / "b").read().files)
    version = "store/models/walker/0123456789ab"
    assert {"lab.yaml", "models/walker.yaml", f"{version}/snapshot.pt", "store/records/releases.jsonl"} <= names
    assert "projects/walking/labeled-data/day1/CollectedData_Ann.csv" in names
    assert not [name for name in names if name.endswith(".mp4") or name.startswith("store/poses/")]

    assert run("backup", tmp_path / "b")["copied"] == 0
    (lab.root / "models" / "walker.yaml").write_text("project: walking\n# changed\n")
    third = run("backup", tmp_path / "b", "--verify", "--poses", "--keep", 1)
    assert third["copied"] == 3  # the specification, a pose table and its manifest
    assert third["removed"] == 2
    assert len(BackupFolder(tmp_path / "b").names()) == 1
    assert run("restore", tmp_path / "b", "--check")["exit"] == 0


def test_a_restored_lab_is_the_lab(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run("backup", tmp_path / "b", "--poses")["exit"] == 0
    there = tmp_path / "again"
    restored = run("restore", tmp_path / "b", "--lab", there)
    assert restored["exit"] == 0, restored
    for name, data in content(there).items():
        if not name.endswith((".db", ".sqlite")):
            assert (lab.root / name).read_bytes() == data, name
    use_lab(there, monkeypatch)
    again = open_lab_folder(there)
    assert read_records(again.layout, "releases")[0]["rule"] == "walker"
    with open_instance(again) as instance:
        assert instance.get_dynamic_partitions("kept") == ["one"]
    # Its own backups go elsewhere: the first lab may still be there.
    refused = run("backup", tmp_path / "b")
    assert refused["exit"] == 2
    assert "another lab" in refused["error"]


def test_a_backup_that_dies_leaves_the_one_before(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "b"
    assert run("backup", place)["exit"] == 0
    before = BackupFolder(place).read()
    for number in range(5):
        (lab.root / "models" / f"more{number}.yaml").write_text(f"project: walking # {number}\n")
    calls = 0

    def dying(path: Path) -> tuple[str, int]:
        nonlocal calls
        calls += 1
        if calls == 4:
            raise KeyboardInterrupt
        return hashed(path)

    hashed = backup_folder.hashed
    with monkeypatch.context() as patch:
        patch.setattr(backup_folder, "hashed", dying)
        assert run("backup", place)["exit"] == 130
    assert BackupFolder(place).read() == before
    assert run("restore", place, "--check")["exit"] == 0
    assert run("backup", place)["files"] == len(before.files) + 5
    assert not list((place / "files").glob(".*"))


def test_what_is_damaged_is_named_and_the_rest_restored(lab: Lab, tmp_path: Path) -> None:
    place = tmp_path / "b"
    run("backup", place)
    folder = BackupFolder(place)
    hurt = "store/models/walker/0123456789ab/snapshot.pt"
    file = folder.object(folder.read().files[hurt].sha256)
    file.write_bytes(b"x" * file.stat().st_size)
    for words in (("restore", place, "--check"), ("restore", place, "--lab", tmp_path / "again")):
        done = run(*words)
        assert done["exit"] == 1
        (problem,) = done["problems"]
        assert problem.startswith(f"{hurt}: ")
        assert "is damaged" in problem
    assert (tmp_path / "again" / "lab.yaml").is_file()
    assert not (tmp_path / "again" / hurt).exists()
    # A backup that reads everything back says so, too; one that finds the file missing copies it again.
    assert run("backup", place, "--verify")["exit"] == 1
    file.unlink()
    assert run("backup", place)["copied"] == 1
    assert run("restore", place, "--check")["exit"] == 0


def test_a_disk_that_gives_back_something_else_is_found_at_once(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BackupFolder, "problem", lambda self, kept: f"{kept.sha256} is damaged")
    done = run("backup", tmp_path / "b")
    assert done["exit"] == 1
    assert "right after it was written" in done["problems"][0]
    assert not list((tmp_path / "b" / "files").glob("*/*"))


@pytest.mark.parametrize(
    ("place", "said"), [("lab/backups", "lies in the lab"), ("other", "is no folder of backups"), ("file", "is a file")]
)
def test_a_wrong_folder_is_refused(lab: Lab, tmp_path: Path, place: str, said: str) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.docx").write_text("mine")
    (tmp_path / "file").write_text("")
    done = run("backup", tmp_path / place)
    assert done["exit"] in {1, 2}
    assert said in done["error"]
    assert list((tmp_path / "other").iterdir()) == [tmp_path / "other" / "thesis.docx"]


def test_a_lab_is_never_restored_over_something(lab: Lab, tmp_path: Path) -> None:
    run("backup", tmp_path / "b")
    assert "is not empty" in run("restore", tmp_path / "b", "--lab", lab.root)["error"]
    assert "no whole backup" in run("restore", tmp_path / "nothing", "--lab", tmp_path / "new")["error"]
    wrong = run("restore", tmp_path / "b", "--lab", tmp_path / "new", "--at", "yesterday")
    assert "holds no backup yesterday" in wrong["error"]
    assert not (tmp_path / "new").exists()


def test_a_database_is_whole_though_somebody_writes_to_it(lab: Lab, tmp_path: Path) -> None:
    database = lab.layout.index_file
    database.unlink(missing_ok=True)
    done = threading.Event()
    with sqlite3.connect(database) as setup:
        setup.execute("pragma journal_mode = wal")
        setup.execute("create table pairs (one int, two int)")

    def write() -> None:
        number = 0
        with sqlite3.connect(database, timeout=30) as connection:
            while not done.is_set():
                number += 1
                connection.execute("insert into pairs values (?, ?)", (number, -number))
                connection.commit()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        assert run("backup", tmp_path / "b")["exit"] == 0
    finally:
        done.set()
        writer.join()
    run("restore", tmp_path / "b", "--lab", tmp_path / "again")
    copy = tmp_path / "again" / database.relative_to(lab.root)
    with sqlite3.connect(copy) as connection:
        assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
        assert connection.execute("select count(*) from pairs where one + two != 0").fetchone() == (0,)


def test_no_password_is_copied(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "instance"
    home.mkdir()
    (home / "dagster.yaml").write_text(
        "storage:\n  postgres:\n    postgres_url: postgresql+psycopg2://lab:hunter2@db:5432/lab\n"
    )
    monkeypatch.setenv("DAGSTER_HOME", str(home))
    done = run("backup", tmp_path / "b")
    assert done["exit"] == 0
    assert any("pg_dump" in note for note in done["notes"])
    kept = content(tmp_path / "b")
    assert not [name for name, data in kept.items() if b"hunter2" in data]
    assert [name for name, data in kept.items() if b"postgresql+psycopg2://lab:***@db" in data]


def test_the_doctor_asks_for_a_backup(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (never,) = last_backup(lab)
    assert (never.level, "dlc-assets backup DIR" in never.todo) == ("warn", True)
    run("backup", tmp_path / "b")
    (fresh,) = last_backup(lab)
    assert (fresh.level, str(tmp_path / "b") in fresh.found) == ("ok", True)
    monkeypatch.setattr("dlc_assets.doctor.backups._DAYS", -1)
    (old,) = last_backup(lab)
    assert (old.level, str(tmp_path / "b") in old.todo) == ("warn", True)


def test_a_history_on_sqlite_is_in_the_backup(lab: Lab, tmp_path: Path) -> None:
    run("backup", tmp_path / "b")
    names = BackupFolder(tmp_path / "b").read().files
    assert "store/dagster/dagster.yaml" in names
    assert [name for name in names if name.startswith("store/dagster/") and name.endswith(".db")]
    assert not [name for name in names if name.endswith(("-wal", "-shm", ".lock"))]
