"""sessions.csv is read beneath session.yaml, imported whole or not at all, and puts behind only the sessions that it is about."""

from __future__ import annotations

import csv
import io
import json
import time
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from dlc_assets.cli import app
from dlc_assets.lab.errors import SettingsError
from dlc_assets.lab.lab import Lab, open_lab_folder
from dlc_assets.lab.session_metadata import SessionMetadata
from dlc_assets.lab.sessions_table import SessionsTable, parse_sessions_table
from dlc_assets.recordings.discovery import discover, find_sessions
from dlc_assets.recordings.index import RecordingIndex
from dlc_assets.recordings.session_import import SessionImport, import_sessions
from dlc_assets.recordings.session_recordings import day_of, session_inputs
from dlc_assets.state.lab_state import lab_state
from dlc_assets_tests.unit.test_discovery import NESTED, lab_with, put
from dlc_assets_tests.unit.test_session_recordings import KEY, LAB, film, record

FIRST, SECOND, OTHER = "sub-m01_ses-1", "sub-m01_ses-2", "sub-m02_ses-1"
VIDEOS = ("m01/1/top.mp4", "m01/2/top.mp4", "m02/1/top.mp4")
FLAT = '{root: recordings, template: "{session}/{camera}.mp4"}'


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return lab_with(tmp_path / "lab", NESTED, files=VIDEOS)


def table(place: Path, text: str | bytes) -> SessionsTable:
    path = place / "table.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return parse_sessions_table(path)


def state(lab: Lab, text: str) -> None:
    lab.layout.sessions_table.write_text(text)


def inputs(lab: Lab) -> dict[str, Any]:
    return {key: session_inputs(lab, found) for key, found in discover(lab).sessions.items()}


def rows(text: str) -> list[dict[str, str]]:
    return [
        {name: cell for name, cell in row.items() if cell}
        for row in csv.DictReader(io.StringIO(text.removeprefix("\ufeff")))
    ]


# --- what a table says ----------------------------------------------------------------------------


def test_each_column_has_its_meaning(tmp_path: Path) -> None:
    read = table(
        tmp_path,
        "session,start,description,subject,experimenters,tags.drug,tags.dose,tags.cage,tags.blind,consent.videos,consent.by,"
        "consent.date,recordings.top.device,recordings.top.offset,recordings.side.scale.px_per_cm\n"
        'sub-m01_ses-1,2026-05-01 10:12:00+02:00,"first, day",m01,"Last, First; Other, N",saline,1.5,007,true,no,Ann,'
        "2026-04-20,cam2,-0.5,8.1\n",
    )
    assert read.problems == ()
    (row,) = read.rows
    said = row.beneath(SessionMetadata())
    assert said.start is not None
    assert (said.start.astimezone(UTC), said.description) == (datetime(2026, 5, 1, 8, 12, tzinfo=UTC), "first, day")
    assert (said.subject, said.experimenters) == ("m01", ("Last, First", "Other, N"))
    assert said.tags == {"drug": "saline", "dose": 1.5, "cage": "007", "blind": True}
    assert said.consent is not None
    assert (said.consent.videos, said.consent.by, said.consent.day) == (False, "Ann", date(2026, 4, 20))
    assert (said.recordings["top"].device, said.recordings["top"].offset) == ("cam2", -0.5)
    assert said.recordings["side"].scale is not None
    assert said.recordings["side"].scale.px_per_cm == 8.1
    assert not said.recordings["top"].states_timestamps


@pytest.mark.parametrize(
    "data",
    [
        b"session,description\nsub-m01_ses-1,Z\xc3\xbcrich\n",
        b"\xef\xbb\xbfsession,description\r\nsub-m01_ses-1,Z\xc3\xbcrich\r\n",
        b"session;description\r\nsub-m01_ses-1;Z\xc3\xbcrich\r\n",
        b"sep=;\r\nsession;description\r\nsub-m01_ses-1;Z\xc3\xbcrich\r\n",
        b"session\tdescription\nsub-m01_ses-1\tZ\xc3\xbcrich",
        b'"session";"description";"";\n"sub-m01_ses-1";"Z\xc3\xbcrich";;\n;;;\n\n',
        "session,description\nsub-m01_ses-1,Zu\u0308rich\n".encode(),
    ],
)
def test_tables_as_spreadsheets_write_them_are_read(tmp_path: Path, data: bytes) -> None:
    read = table(tmp_path, data)
    assert ([row.cells for row in read.rows], read.problems) == ([{"description": "Zürich"}], ())
    assert read.rows[0].keys[0] == FIRST


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "one of them session, got nothing"),
        (b"Session,start\nx,y\n", "one of them session, got Session, start"),
        (b"\xef\xbb\xbfsession,description\na,b\nc,Z\xfcrich\n", "line 3: expected UTF-8 text, got the byte 0xfc"),
        ("session\na".encode("utf-16"), "expected UTF-8 text, got UTF-16"),
        (b"PK\x03\x04", "got a spreadsheet file"),
        (b'session,description\na,"b\n', "is not a table of comma-separated values: unexpected end of data"),
    ],
)
def test_what_is_no_table_of_sessions_is_said(tmp_path: Path, data: bytes, said: str) -> None:
    with pytest.raises(SettingsError, match=r"table\.csv") as caught:
        table(tmp_path, data)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("column", "cell", "said"),
    [
        ("start", "01/05/2026 10:12", "year first: of other orders it cannot be told which is the day"),
        ("start", "1.5.2026 10:12", "year first"),
        ("start", "05-01-2026 10:12", "year first"),
        ("start", "2026-05-01", "expected a day and a time as 2026-05-01T10:12:00"),
        ("start", "2026-02-31T10:00", "day is out of range for month"),
        ("start", "1777629120", "expected a day and a time"),
        ("start", "2026-05-01 10:12 PM", "expected a day and a time"),
        ("recordings.top.offset", "0,5", "expected a number such as 12.5, with a decimal point, got '0,5'"),
        ("recordings.top.offset", "nan", "expected a number"),
        ("recordings.top.scale.px_per_cm", "0", "expected a number above 0"),
        ("consent.videos", "agreed", "expected true or false"),
        ("consent.by", "Ann", "column consent.videos: expected true or false, as consent is stated"),
        ("experimenters", "Ann;", "expected names with ; between them"),
        ("subject", "cage3/m01", "has a slash"),
        ("subject", "m02", 'expected a session of the subject "m02", as the column subject says'),
        ("sbject", "m01", "got 'sbject'. Did you mean \"subject\"?"),
        ("drug", "saline", 'A tag of your own would be "tags.drug".'),
        ("recordings.top.crop", "none", "expected one of the columns"),
        ("", "saline", "expected nothing in cell 2, which has no column name"),
    ],
)
def test_a_mistake_is_named_by_row_and_column(tmp_path: Path, column: str, cell: str, said: str) -> None:
    read = table(tmp_path, f'session,{column}\n\nsub-m01_ses-1,"{cell}"\n')
    (problem,) = [problem for problem in read.problems if said in str(problem)]
    assert str(problem).startswith("row 1, " if problem.got == column and column else "row 3")
    with pytest.raises(SettingsError, match="row"):
        read.rows[0].beneath(SessionMetadata())


def test_sessions_and_columns_that_stand_twice_are_said(tmp_path: Path) -> None:
    read = table(tmp_path, "session,subject,start,start\nsub-m01_ses-1,,,\n1,m01,,\n")
    assert [str(problem) for problem in read.problems] == [
        "row 1, column start: expected each column once, got 'start'.",
        f"row 3, column session: expected each session once (it stands in row 2, too), got '{FIRST}'.",
    ]


def test_a_row_without_a_session_is_said(tmp_path: Path) -> None:
    (problem,) = table(tmp_path, "session,description\n,first day\n").problems
    assert (problem.row, problem.column, problem.got) == (2, "session", "")


# --- beneath session.yaml -------------------------------------------------------------------------


def test_session_yaml_wins_key_by_key(lab: Lab) -> None:
    put(lab.root / "recordings/m01/1/side.mp4")
    (lab.root / "recordings/m01/1/session.yaml").write_text(
        "description: of the sidecar\ntags: {drug: saline}\nrecordings: {top: {offset: 2, timestamps: none}}\n"
    )
    state(
        lab,
        "session,description,start,tags.drug,tags.dose,recordings.top.offset,recordings.top.device,recordings.side.device\n"
        f"{FIRST},of the table,2026-05-01T10:00,ko,3,1,cam1,cam2\n",
    )
    found = discover(lab).sessions
    said = found[FIRST].metadata()
    assert (said.description, said.start) == ("of the sidecar", datetime(2026, 5, 1, 10))
    assert said.tags == {"drug": "saline", "dose": 3}
    top = said.recordings["top"]
    assert (top.offset, top.device, top.timestamps, top.states_timestamps) == (2, "cam1", None, True)
    assert said.recordings["side"].device == "cam2"
    assert found[SECOND].metadata().description == ""
    assert day_of(found[FIRST], lab) == date(2026, 5, 1)


def test_a_row_may_name_its_session_by_key_or_by_the_names_in_the_path(tmp_path: Path) -> None:
    nested = lab_with(tmp_path / "nested", NESTED, files=VIDEOS)
    state(nested, "session,subject,description\n1,m01,a\n1,m02,b\nsub-m01_ses-2,,c\n")
    said = {key: found.metadata().description for key, found in discover(nested).sessions.items()}
    assert said == {FIRST: "a", OTHER: "b", SECOND: "c"}
    flat = lab_with(tmp_path / "flat", FLAT, files=("1/top.mp4", "ses-2/top.mp4"))
    state(flat, "session,subject\n1,m01\nses-2,m02\n")
    assert {key: found.metadata().subject for key, found in discover(flat).sessions.items()} == {
        "ses-1": "m01",
        "ses-ses-2": "m02",
    }


def test_two_rows_for_one_session_are_an_error_of_that_session_alone(tmp_path: Path) -> None:
    lab = lab_with(tmp_path, FLAT, files=("1/top.mp4", "2/top.mp4"))
    state(lab, "session,subject\n1,m01\n1,m02\n2,m01\n")
    found = discover(lab).sessions
    with pytest.raises(SettingsError, match="the rows 2 and 3 are all of ses-1"):
        found["ses-1"].metadata()
    assert found["ses-2"].metadata().subject == "m01"


def test_only_sessions_whose_rows_change_are_behind(lab: Lab) -> None:
    before = inputs(lab)
    state(lab, f"session,description,tags.drug\n{FIRST},first,1\n{SECOND},,\n")
    after = inputs(lab)
    assert {key for key in before if before[key] != after[key]} == {FIRST}
    lab.layout.sessions_table.write_bytes(f"tags.drug;session;description\r\n1;{FIRST};first\r\n".encode())
    assert inputs(lab) == after
    state(lab, f"session,description,tags.drug\n{FIRST},first,1\n{OTHER},other,\n")
    again = inputs(lab)
    assert {key for key in after if after[key] != again[key]} == {OTHER}
    lab.layout.sessions_table.unlink()
    assert inputs(lab) == before


def test_what_session_yaml_says_itself_puts_nothing_behind(lab: Lab) -> None:
    (lab.root / "recordings/m01/1/session.yaml").write_text("description: first\ntags: {drug: 1}\n")
    before = inputs(lab)
    state(lab, f"session,description,tags.drug\n{FIRST},another,2\n")
    assert inputs(lab) == before


def test_a_wrong_row_stops_its_session_alone_and_is_told(lab: Lab) -> None:
    looked(lab)  # from here on, the index and what was worked out with it are kept
    assert {product.state for product in lab_state(lab).of("session_recordings")} == {"missing"}
    state(lab, f"session,start\n{FIRST},tomorrow\n{SECOND},2026-05-01T10:00\n")
    states = {p.key: p for p in lab_state(lab).of("session_recordings")}
    assert {key: product.state for key, product in states.items()} == {
        FIRST: "failed",
        SECOND: "missing",
        OTHER: "missing",
    }
    assert "row 2, column start: expected a day and a time" in states[FIRST].why
    assert any("sessions.csv: row 2, column start" in problem for problem in lab_state(lab).problems)
    state(lab, f"session,start\n{SECOND},2026-05-01T10:00\n")
    assert {product.state for product in lab_state(lab).of("session_recordings")} == {"missing"}


def test_a_table_that_cannot_be_read_holds_everything_until_it_is_mended(lab: Lab) -> None:
    before = inputs(lab)
    lab.layout.sessions_table.write_bytes(b"session,description\nx,\xff\n")
    state_now = lab_state(lab)
    assert {product.state for product in state_now.of("session_recordings")} == {"failed"}
    assert any("expected UTF-8 text" in problem for problem in state_now.problems)
    lab.layout.sessions_table.unlink()
    assert inputs(lab) == before


def test_a_probed_session_has_what_the_table_says(tmp_path: Path) -> None:
    (tmp_path / "lab.yaml").write_text(LAB)
    for root in ("split", "odd"):
        (tmp_path / root).mkdir()
    film(tmp_path / "recordings/m01/20260501/top.mp4")
    lab = open_lab_folder(tmp_path)
    state(
        lab,
        "session,start,description,experimenters,tags.drug,recordings.top.offset,recordings.side.offset\n"
        f"{KEY},2026-05-01T10:12:00Z,first day,Ann; Bob,saline,1.5,2\n",
    )
    info, manifest = record(lab)
    assert (info.start, info.start_source) == (datetime(2026, 5, 1, 10, 12, tzinfo=UTC), "sessions.csv")
    assert (info.description, info.experimenters, info.tags) == ("first day", ["Ann", "Bob"], {"drug": "saline"})
    assert info.recording("top").time_start == 1.5
    assert f'{lab.layout.sessions_table}, row 2: recordings.side: there is no recording "side"' in manifest.problems[0]
    assert [product.state for product in lab_state(lab).of("session_recordings")] == ["up to date"]
    state(lab, f"session,description\n{KEY},second day\n")
    (product,) = lab_state(lab).of("session_recordings")
    assert (product.state, product.why) == ("behind", "sessions.csv changed")


# --- the index ------------------------------------------------------------------------------------


def looked(lab: Lab, **how: Any) -> tuple[int, dict[str, str]]:
    """Look, and return how many sessions changed, and the stamp of each."""
    with RecordingIndex.opened(lab) as index:
        changed = index.look(**how).changed_sessions
        return changed, dict(index.connection.execute("SELECT key, stamp FROM session").fetchall())


def test_a_look_sees_which_sessions_the_table_is_about_and_no_others(lab: Lab) -> None:
    _, before = looked(lab)
    state(lab, f"session,description\n{FIRST},first\nsub-m09_ses-1,none yet\n")
    changed, after = looked(lab)
    assert changed == 1
    assert {key for key in before if before[key] != after[key]} == {FIRST}
    assert find_sessions(lab, [FIRST])[FIRST].metadata().description == "first"
    assert looked(lab) == (0, after)
    lab.layout.sessions_table.write_bytes(b"session,description\nx,\xff\n")
    assert looked(lab)[0] == 3
    put(lab.root / "recordings/m09/1/top.mp4")
    looked(lab)
    state(lab, f"session,description\n{FIRST},first\n")
    changed, mended = looked(lab)
    assert changed == 4
    assert {key: mended[key] for key in after} == after
    lab.layout.sessions_table.unlink()
    _, last = looked(lab)
    assert {key: last[key] for key in before} == before


def test_a_look_that_has_no_time_goes_on_with_the_table_the_next_time(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked(lab)
    lines = "".join(f"sub-m01_ses-x{number},none\n" for number in range(1000))
    state(lab, f"session,description\n{FIRST},first\n{lines}sub-m02_ses-1,last\n")
    clock = iter(range(100_000))
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    counts = [looked(lab, seconds=1, settle=False)[0] for _ in range(6)]
    assert sum(counts) == 2
    assert counts[0] < 2


# --- importing ------------------------------------------------------------------------------------


def imported(lab: Lab, text: str, **how: Any) -> SessionImport:
    file = lab.root.parent / "new.csv"
    file.write_text(text)
    return import_sessions(lab, file, discover(lab).sessions, **how)


def test_rows_are_added_by_session_and_nothing_is_taken_away(lab: Lab) -> None:
    state(lab, f"session,tags.cage,description\n{FIRST},7,Zürich\nsub-m09_ses-1,8,\n")
    plan = imported(lab, "session;subject;tags.drug;description\r\n1;m01;saline;\r\n2;m01;;second\r\n1;m07;ko;\r\n")
    assert [(row.row, row.session, row.what) for row in plan.rows] == [
        (2, FIRST, "added to"),
        (3, SECOND, "new"),
        (4, "sub-m07_ses-1", "new"),
    ]
    assert plan.not_found == ("sub-m07_ses-1",)
    assert plan.rows[2].says == ('the session is not found yet; its row is kept. Did you mean "sub-m02_ses-1"?',)
    written = lab.layout.sessions_table.read_text(encoding="utf-8")
    assert written.startswith("\ufeffsession,tags.cage,description,subject,tags.drug\n")  # the mark, as of ü
    assert rows(written) == [
        {"session": FIRST, "tags.cage": "7", "description": "Zürich", "subject": "m01", "tags.drug": "saline"},
        {"session": "sub-m09_ses-1", "tags.cage": "8"},
        {"session": SECOND, "description": "second", "subject": "m01"},
        {"session": "1", "subject": "m07", "tags.drug": "ko"},
    ]
    put(lab.root / "recordings/m07/1/top.mp4")
    assert discover(lab).sessions["sub-m07_ses-1"].metadata().tags == {"drug": "ko"}


def test_twice_gives_the_same(lab: Lab) -> None:
    text = "session,subject,start,tags.dose\n1,m01,2026-05-01T10:00:00,1.5\n1,m08,,2\n"
    assert imported(lab, text).content is not None
    before = lab.layout.sessions_table.read_bytes()
    again = imported(lab, text.replace("T10:00:00", " 10:00"))
    assert ([row.what for row in again.rows], again.content) == (["same", "same"], None)
    assert lab.layout.sessions_table.read_bytes() == before
    own = import_sessions(lab, lab.layout.sessions_table, discover(lab).sessions)
    assert (own.content, own.problems) == (None, ())


def test_other_values_are_shown_and_replaced_only_when_asked(lab: Lab) -> None:
    state(lab, f"session,description,tags.drug\n{FIRST},first,saline\n")
    text = f"session,description,tags.drug\n{FIRST},,ko\n{SECOND},second,\n"
    before = lab.layout.sessions_table.read_bytes()
    plan = imported(lab, text)
    assert plan.differences == (f"row 2, {FIRST}: tags.drug is 'saline' in the lab's table and 'ko' in the file.",)
    assert [row.what for row in plan.rows] == ["differs", "new"]
    assert lab.layout.sessions_table.read_bytes() == before
    assert [row.what for row in imported(lab, text, replace=True).rows] == ["replaced", "new"]
    assert rows(lab.layout.sessions_table.read_text()) == [
        {"session": FIRST, "description": "first", "tags.drug": "ko"},
        {"session": SECOND, "description": "second"},
    ]


@pytest.mark.parametrize("how", [{}, {"replace": True}])
def test_one_wrong_row_and_nothing_is_written(lab: Lab, how: dict[str, bool]) -> None:
    plan = imported(lab, f"session,start\n{FIRST},2026-05-01T10:00\n{SECOND},1/5/26\n", **how)
    assert [row.what for row in plan.rows] == ["new", "wrong"]
    assert (len(plan.problems), plan.content) == (1, None)
    assert not lab.layout.sessions_table.exists()


def test_rows_that_mean_one_session_in_two_ways_are_said(tmp_path: Path) -> None:
    lab = lab_with(tmp_path / "lab", FLAT, files=("1/top.mp4",))
    plan = imported(lab, "session,subject\n1,m01\nses-1,\n")
    assert any(
        "row 3, column session: expected each session once, got 'ses-1', which row 2" in p for p in plan.problems
    )
    assert plan.content is None


def test_a_wrong_table_of_the_labs_own_is_mended_first(lab: Lab) -> None:
    state(lab, f"session,start\n{FIRST},soon\n")
    with pytest.raises(SettingsError, match="the lab's table is wrong; mend it before more is imported") as caught:
        imported(lab, f"session,start\n{SECOND},2026-05-01T10:00\n")
    assert "row 2, column start" in str(caught.value)


def test_what_a_person_should_know_of_a_right_row_is_said(tmp_path: Path) -> None:
    lab = lab_with(tmp_path / "lab", NESTED, files=VIDEOS, more="subjects: {m01: {}}\ndevices: {top: {}}\n")
    (lab.root / "recordings/m01/1/session.yaml").write_text("description: first\n")
    plan = imported(
        lab,
        "session,subject,description,recordings.top.device,recordings.tpo.offset\n"
        f"{FIRST},m01,other,topp,1\n{OTHER},m02,,top,\n",
    )
    first, other = plan.rows
    assert [words.partition("/recordings/")[2] or words for words in first.says] == [
        'there is no recording "tpo" in this session. Did you mean "top"? It has top.',
        "m01/1/session.yaml states description, and wins.",
        'recordings.top.device: lab.yaml describes no device "topp". Did you mean "top"?',
    ]
    assert other.says == ('lab.yaml describes no subject "m02". Did you mean "m01"?',)
    assert plan.content is not None


# --- the command ----------------------------------------------------------------------------------


def run(lab: Lab, *arguments: object) -> Result:
    words = [str(argument) for argument in arguments]
    return CliRunner().invoke(app, ["import-sessions", *words, "--lab", str(lab.root)])


def test_a_template_has_every_session_and_what_is_known_and_comes_back_as_it_was(lab: Lab, tmp_path: Path) -> None:
    (lab.root / "recordings/m01/1/session.yaml").write_text(
        "start: 2026-05-01T10:00:00+02:00\ndescription: 'first, day'\nexperimenters: ['Last, First', B]\n"
        "tags: {blind: true, dose: 1.5}\nconsent: {videos: true, date: 2026-05-01}\n"
        "recordings: {top: {offset: 2, scale: {px_per_cm: 8}}}\n"
    )
    before = inputs(lab)
    file = tmp_path / "template.csv"
    assert run(lab, file, "--template").exit_code == 0
    first, second, other = rows(file.read_text())
    assert first == {
        "session": FIRST,
        "subject": "m01",
        "start": "2026-05-01T10:00:00+02:00",
        "description": "first, day",
        "experimenters": "Last, First; B",
        "tags.blind": "true",
        "tags.dose": "1.5",
        "consent.videos": "true",
        "consent.date": "2026-05-01",
        "recordings.top.offset": "2.0",
        "recordings.top.scale.px_per_cm": "8.0",
    }
    assert (second, other["session"]) == ({"session": SECOND, "subject": "m01"}, OTHER)
    filled = file.read_bytes()
    again = run(lab, file, "--template")
    assert (again.exit_code, file.read_bytes()) == (2, filled)
    done = run(lab, file)
    assert (done.exit_code, "wins" in done.stdout) == (0, False)
    assert discover(lab).sessions[FIRST].metadata().tags == {"blind": True, "dose": 1.5}
    changed = {key for key, now in inputs(lab).items() if now != before[key]}
    assert changed == set()


def test_the_command_reports_by_row_and_says_with_its_exit_status_whether_it_imported(lab: Lab, tmp_path: Path) -> None:
    file = tmp_path / "new.csv"
    file.write_text(f"session,tags.drug\n{FIRST},saline\n")
    dry = json.loads(run(lab, file, "--dry-run", "--json").stdout)
    assert (dry["ok"], dry["written"], lab.layout.sessions_table.exists()) == (True, False, False)
    done = run(lab, file)
    assert (done.exit_code, "1 new; written" in done.stdout) == (0, True)
    file.write_text(f"session,tags.drug\n{FIRST},ko\n")
    differs = run(lab, file, "--json")
    told = json.loads(differs.stdout)
    assert (differs.exit_code, told["ok"], told["rows"][0]["what"]) == (1, False, "differs")
    assert run(lab, file, "--replace").exit_code == 0
    file.write_text(f"session,start,drug\n{FIRST},soon,x\n")
    wrong = run(lab, file, "--json")
    told = json.loads(wrong.stdout)
    assert (wrong.exit_code, told["written"], len(told["problems"])) == (2, False, 2)
    assert told["rows"][0]["row"] == 2
    assert "row 2, column start" in told["rows"][0]["says"][0]
    assert run(lab, tmp_path / "none.csv").exit_code == 2
