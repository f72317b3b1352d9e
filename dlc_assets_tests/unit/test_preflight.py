"""What an NWB file would be wrong without is said before any work, all at once, with the file and the key to mend."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import h5py
import pytest

from dlc_assets.checks.outcomes import evaluation
from dlc_assets.lab.errors import InputError
from dlc_assets.lab.lab import Lab, open_lab_folder
from dlc_assets.nwb.export import export_session
from dlc_assets.nwb.lab_description import described_session
from dlc_assets.nwb.preflight import check_exportable, check_place
from dlc_assets.recordings.info import SessionInfo
from dlc_assets_tests.unit.test_session_recordings import KEY, film, record

LAB = """\
name: Smith lab
timezone: Europe/Zurich
recordings: [{root: recordings, template: "{subject}/{session}/{camera}.mp4"}]
subjects: {m01: {species: Mus musculus, date_of_birth: 2026-02-01}}
"""
START = "start: 2026-05-01T10:12:00+02:00\n"
VIDEO = "recordings/m01/20260501/top.mp4"


def with_lab(folder: Path, text: str = LAB) -> Lab:
    folder.mkdir(exist_ok=True)
    (folder / "lab.yaml").write_text(text)
    return open_lab_folder(folder)


def recorded(lab: Lab, session_yaml: str = START, *, created: datetime | None = None) -> SessionInfo:
    video = film(lab.root / VIDEO, created=created)
    video.with_name("session.yaml").write_text(session_yaml)
    return record(lab)[0]


def refusal(lab: Lab, session: SessionInfo, *, with_video: bool = True) -> str:
    with pytest.raises(InputError) as caught:
        check_exportable(lab, session, with_video=with_video)
    return str(caught.value)


def place_refused(path: Path, lab: Lab, session: SessionInfo) -> str:
    with pytest.raises(InputError) as caught:
        check_place(path, described_session(lab, session, {}))
    return str(caught.value)


def nwb(path: Path, subject: str | None, session: str | None, identifier: str = KEY) -> Path:
    with h5py.File(path, "w") as file:
        file["identifier"] = identifier
        if subject is not None:
            file["general/subject/subject_id"] = subject
        if session is not None:
            file["general/session_id"] = session
    return path


def test_a_session_with_all_that_archives_need_is_let_through(tmp_path: Path) -> None:
    lab = with_lab(tmp_path)
    check_exportable(lab, recorded(lab), with_video=True)
    check_place(tmp_path / "not-there.nwb", described_session(lab, recorded(lab), {}))


def test_a_session_without_a_subject_is_let_through(tmp_path: Path) -> None:
    lab = with_lab(
        tmp_path, 'name: lab\ntimezone: UTC\nrecordings: [{root: recordings, template: "{session}/{camera}.mp4"}]\n'
    )
    film(tmp_path / "recordings/day1/top.mp4").with_name("session.yaml").write_text(START)
    session = record(lab, "ses-day1")[0]
    check_exportable(lab, session, with_video=True)
    check_place(nwb(tmp_path / "ours.nwb", None, "day1", "ses-day1"), described_session(lab, session, {}))


def test_an_unknown_age_is_no_reason_to_refuse(tmp_path: Path) -> None:
    lab = with_lab(tmp_path, LAB.replace(", date_of_birth: 2026-02-01", ""))
    check_exportable(lab, recorded(lab), with_video=True)


# --- start ----------------------------------------------------------------------------------------


def test_an_unknown_start_is_refused(tmp_path: Path) -> None:
    lab = with_lab(tmp_path)
    said = refusal(lab, recorded(lab, "description: first day\n"))
    assert said.startswith(f"{KEY}: NWB needs the session's start time")
    assert "Write session.yaml beside the videos with a line such as: start: 2026-05-01T10:12:00+02:00" in said


def test_a_start_in_an_assumed_zone_is_refused_and_told_by_a_check_until_lab_yaml_states_the_zone(
    tmp_path: Path,
) -> None:
    lab = with_lab(tmp_path, LAB.replace("timezone: Europe/Zurich\n", ""))
    session = recorded(lab, "start: 2026-05-01T10:12:00\n")
    said = refusal(lab, session)
    assert said == (
        f"{KEY}: start in session.yaml is 2026-05-01T10:12:00 without a time zone, and {tmp_path}/lab.yaml has no timezone: UTC is "
        "assumed. Write timezone: Europe/Zurich (yours) into lab.yaml, or start: 2026-05-01T10:12:00+02:00 (its offset from UTC) "
        "into session.yaml."
    )
    _, manifest = record(lab)
    check = evaluation(manifest, "recordings_described", lab.root)
    assert (check.passed, check.severity, check.description) == (False, dg.AssetCheckSeverity.WARN, said)
    stated = with_lab(tmp_path, LAB.replace("Europe/Zurich", "UTC"))
    check_exportable(stated, session, with_video=True)
    assert evaluation(manifest, "recordings_described", lab.root).passed


def test_a_start_in_the_videos_names_is_in_an_assumed_zone_unless_they_state_one(tmp_path: Path) -> None:
    for number, (start, written, assumed) in enumerate(
        [
            ("%Y-%m-%dT%H-%M-%S", "2026-05-01T10-12-00", True),
            ("%Y-%m-%dT%H-%M-%S%z", "2026-05-01T10-12-00+0200", False),
        ]
    ):
        lab = with_lab(
            tmp_path / str(number),
            f'name: lab\nrecordings: [{{root: recordings, template: "{{session}}/{{camera}}_{{start}}.mp4", start_format: "{start}"}}]\n',
        )
        film(lab.root / f"recordings/day1/top_{written}.mp4")
        session, _ = record(lab, "ses-day1")
        assert session.start_without_zone is assumed
        if assumed:
            assert "the start in the videos' names is 2026-05-01T10:12:00 without a time zone" in refusal(lab, session)
        else:
            check_exportable(lab, session, with_video=True)


def test_a_start_that_states_its_zone_or_is_the_cameras_own_is_no_assumption(tmp_path: Path) -> None:
    lab = with_lab(tmp_path, LAB.replace("timezone: Europe/Zurich\n", ""))
    check_exportable(lab, recorded(lab), with_video=True)
    session = recorded(lab, "", created=datetime(2026, 5, 1, 9, 30, tzinfo=UTC))
    assert session.start is not None
    check_exportable(lab, session, with_video=True)


# --- subjects -------------------------------------------------------------------------------------


def test_a_subject_without_a_species_is_refused_and_defaults_give_it_one(tmp_path: Path) -> None:
    lab = with_lab(tmp_path, LAB.replace("m01: {species: Mus musculus, ", "m01: {"))
    session = recorded(lab)
    said = refusal(lab, session)
    assert f'{tmp_path}/lab.yaml does not say of which species the subject "m01" is' in said
    assert "subjects.m01.species" in said
    assert "subject_defaults.species" in said
    check_exportable(
        with_lab(tmp_path, LAB.replace("m01: {species: Mus musculus, ", "m01: {") + "subject_defaults: {species: Mus musculus}\n"),
        session,
        with_video=True,
    )  # fmt: skip


def test_a_subject_that_lab_yaml_does_not_list_is_refused_and_defaults_give_it_a_species(tmp_path: Path) -> None:
    lab = with_lab(tmp_path, LAB.replace("m01:", "m02:"))
    session = recorded(lab)
    assert "subjects.m01.species" in refusal(lab, session)
    check_exportable(
        with_lab(tmp_path, LAB.replace("m01:", "m02:") + "subject_defaults: {species: Mus musculus}\n"),
        session,
        with_video=True,
    )


def test_the_subjects_that_tracks_are_need_a_species_too(tmp_path: Path) -> None:
    lab = with_lab(tmp_path)
    session = recorded(lab, START + "identity: {how: marked, individuals: {white: m01, black: m02}}\n")
    said = refusal(lab, session)
    assert "subjects.m02.species" in said
    assert "subjects.m01" not in said


def test_a_session_before_its_subject_was_born_is_refused(tmp_path: Path) -> None:
    lab = with_lab(tmp_path, LAB.replace("2026-02-01", "2026-05-02"))
    said = refusal(lab, recorded(lab))
    assert f"{tmp_path}/lab.yaml: subjects.m01.date_of_birth" in said
    assert "born on 2026-05-02, after its session started (2026-05-01T10:12:00+02:00)" in said
    born_that_day = with_lab(tmp_path, LAB.replace("2026-02-01", "2026-05-01"))
    check_exportable(born_that_day, recorded(born_that_day), with_video=True)


# --- files ----------------------------------------------------------------------------------------


def test_a_video_that_is_not_as_it_was_probed_is_refused_where_videos_go_with_the_file(tmp_path: Path) -> None:
    lab = with_lab(tmp_path)
    session = recorded(lab)
    video = tmp_path / VIDEO
    size = video.stat().st_size
    os.utime(video, (1_700_000_000, 1_700_000_000))
    assert f"{KEY}, top: {video} was written again since the session was probed" in refusal(lab, session)
    with video.open("ab") as stream:
        stream.write(b"more")
    assert f"{video} had {size} bytes when the session was probed and has {size + 4} now" in refusal(lab, session)
    video.rename(video.with_name("moved.mp4"))
    said = refusal(lab, session)
    assert f"{video} is not where it was when the session was probed (No such file or directory)" in said
    assert "Run `dlc-assets scan`" in said
    check_exportable(lab, session, with_video=False)


def test_a_file_to_extend_must_be_there_and_as_it_was(tmp_path: Path) -> None:
    lab = with_lab(tmp_path)
    stated = START + "nwb: {extend: ephys.nwb}\n"
    assert "nwb.extend: there is no file" in refusal(lab, recorded(lab, stated), with_video=False)
    ephys = nwb((tmp_path / VIDEO).with_name("ephys.nwb"), "m01", "20260501")
    session = recorded(lab, stated)
    check_exportable(lab, session, with_video=False)
    ephys.unlink()
    assert f"nwb.extend in session.yaml: {ephys} is not where it was" in refusal(lab, session, with_video=False)


@pytest.mark.parametrize(
    ("subject", "label", "said"),
    [
        ("m02", "20260501", 'its subject_id is "m02" (expected "m01")'),
        ("m01", "20260502", 'its session_id is "20260502" (expected "20260501")'),
        (None, None, 'its subject_id is missing (expected "m01") and its session_id is missing (expected "20260501")'),
    ],
)
def test_a_file_of_another_that_is_there_already_is_not_written_over(
    tmp_path: Path, subject: str | None, label: str | None, said: str
) -> None:
    lab = with_lab(tmp_path)
    session = recorded(lab)
    path = nwb(tmp_path / "there.nwb", subject, label)
    refused = place_refused(path, lab, session)
    assert refused.startswith(f"{path}, where the NWB file of {KEY} belongs, is that of another: {said}.")
    assert "Move that file elsewhere or delete it, then export again" in refused
    check_place(nwb(path, "m01", "20260501"), described_session(lab, session, {}))
    nwb(path, "m01", "20260501", "another session that is called so")
    assert 'its identifier is "another session that is called so"' in place_refused(path, lab, session)


def test_what_is_there_and_is_no_nwb_file_is_not_written_over(tmp_path: Path) -> None:
    lab = with_lab(tmp_path)
    path = tmp_path / "there.nwb"
    path.write_text("notes")
    assert "is there and cannot be read as one" in place_refused(path, lab, recorded(lab))
    assert path.read_text() == "notes"


# --- all at once ----------------------------------------------------------------------------------


def test_all_that_is_wrong_is_said_at_once_and_before_poses_are_looked_for(tmp_path: Path) -> None:
    lab = with_lab(tmp_path, LAB.replace("species: Mus musculus, ", "").replace("timezone: Europe/Zurich\n", ""))
    recorded(lab, "start: 2026-01-01T10:12:00\n")
    (tmp_path / VIDEO).unlink()
    with pytest.raises(InputError) as caught:  # without any pose: nothing of them was read
        export_session(lab, KEY, overrides={}, recompute=False, run_id="", log=lambda _: None)
    head, *lines = str(caught.value).splitlines()
    assert head == f"{KEY} cannot be exported:"
    wanted = ("has no timezone", "subjects.m01.species", "date_of_birth", "is not where it was")
    assert len(lines) == len(wanted)
    assert all(part in line for part, line in zip(wanted, lines, strict=True))
