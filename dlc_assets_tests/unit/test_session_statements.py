"""What session.yaml says for archives (consent, identity, a file to extend) is read strictly, kept with the session, and followed."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import dagster as dg
import pytest

from dlc_assets.checks.outcomes import evaluation
from dlc_assets.lab.errors import SettingsError
from dlc_assets.lab.files import sha256_file
from dlc_assets.lab.lab import Lab, open_lab_folder
from dlc_assets.lab.manifest import Manifest
from dlc_assets.lab.session_metadata import read_session_metadata
from dlc_assets.nwb.consent import may_leave
from dlc_assets.recordings.discovery import discover
from dlc_assets.recordings.info import SessionInfo
from dlc_assets.state.lab_state import lab_state
from dlc_assets_tests.unit.test_session_recordings import KEY, LAB, film, record

HUMAN = "http://purl.obolibrary.org/obo/NCBITaxon_9606"


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    (tmp_path / "lab.yaml").write_text(LAB)
    for root in ("split", "odd"):
        (tmp_path / root).mkdir()
    film(tmp_path / "recordings/m01/20260501/top.mp4")
    return open_lab_folder(tmp_path)


def state(lab: Lab, text: str) -> Path:
    sidecar = lab.root / "recordings/m01/20260501/session.yaml"
    sidecar.write_text(text)
    return sidecar


def recorded(lab: Lab, text: str) -> tuple[SessionInfo, Manifest]:
    state(lab, text)
    return record(lab)


def product(lab: Lab) -> tuple[str, str]:
    (one,) = lab_state(lab).of("session_recordings")
    return one.state, one.why


# --- read strictly --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("consent: {by: Ann}", 'the key "consent.videos" is missing'),
        ("consent: {videos: agreed}", "consent.videos: expected a valid boolean, got 'agreed'"),
        ("consent: {videos: 1}", "consent.videos: expected a valid boolean, got 1"),
        ("consent: true", 'consent: expected what is agreed to, and who states it: {videos: true, by: "Last, First"'),
        ("consent: {video: true}", 'unknown key "consent.video". Did you mean "videos"? Known keys here: videos, by, date'),
        ("consent: {videos: true, date: spring}", "consent.date: expected a valid date"),
        ("identity: {by: Ann}", 'the key "identity.how" is missing'),
        ("identity: {how: mark}", "identity.how: expected 'marked' or 'verified', got 'mark'"),
        ("identity: {how: marked, individual: {a: m01}}", 'Did you mean "individuals"?'),
        ("identity: {how: marked, individuals: {a: m01, b: m01}}", 'a subject for one track only: "a" and "b" are both m01'),
        ("identity: {how: marked, individuals: {a: cage3/m01}}", 'the subject name "cage3/m01" has a slash'),
        ("nwb: {extent: x.nwb}", 'unknown key "nwb.extent". Did you mean "extend"?'),
        ("nwb: {extend: [a.nwb]}", "nwb.extend: expected a valid string"),
    ],
)  # fmt: skip
def test_a_mistake_in_session_yaml_is_named_with_its_key(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "session.yaml"
    path.write_text(text)
    with pytest.raises(SettingsError) as caught:
        read_session_metadata(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert said in str(caught.value)


# --- kept with the session ------------------------------------------------------------------------


def test_consent_and_identity_are_kept_with_the_session(lab: Lab) -> None:
    info, _ = recorded(
        lab,
        'consent: {videos: true, by: "Doe, Jane", date: 2026-05-01}\n'
        "identity: {how: verified, by: Ann, date: 2026-06-01, individuals: {mouse1: m01, 2: 17}}\n",
    )
    assert info.consent is not None
    assert (info.consent.videos, info.consent.by, info.consent.day) == (True, "Doe, Jane", date(2026, 5, 1))
    assert info.identity is not None
    assert (info.identity.how, info.identity.by, info.identity.day) == ("verified", "Ann", date(2026, 6, 1))
    assert [info.identity.subject_of(track) for track in ("mouse1", "2", "mouse3")] == ["m01", "17", "mouse3"]


def test_stating_consent_puts_a_session_behind_and_makes_it_another(lab: Lab) -> None:
    none, before = recorded(lab, "description: walk\n")
    assert (none.consent, none.identity, none.extend_nwb, none.extend_nwb_problem) == (None, None, None, "")
    assert product(lab) == ("up to date", "")
    state(lab, "description: walk\nconsent: {videos: true}\n")
    assert product(lab) == ("behind", "session metadata changed")
    _, after = record(lab)
    assert after.data_version != before.data_version
    state(lab, "description: walk\n")
    _, again = record(lab)
    assert again.data_version == before.data_version


# --- a file to extend -----------------------------------------------------------------------------


@pytest.mark.parametrize("absolute", [False, True])
def test_the_file_to_extend_is_kept_by_its_path_and_content(lab: Lab, tmp_path: Path, absolute: bool) -> None:
    ephys = lab.root / "recordings/m01/ephys.nwb"
    ephys.write_bytes(b"spikes")
    info, _ = recorded(lab, f"nwb: {{extend: {ephys if absolute else '../ephys.nwb'}}}\n")
    assert info.extend_nwb is not None
    assert info.extend_nwb.path == "recordings/m01/ephys.nwb", "relative to the lab, so that it can be moved"
    assert info.extend_nwb.resolve(lab.root) == ephys
    assert (info.extend_nwb.size, info.extend_nwb.sha256) == (6, sha256_file(ephys))


def test_a_file_to_extend_that_changes_or_comes_puts_its_session_behind(lab: Lab) -> None:
    ephys = lab.root / "recordings/m01/20260501/ephys.nwb"
    info, _ = recorded(lab, "nwb: {extend: ephys.nwb}\n")
    assert info.extend_nwb is None
    ephys.write_bytes(b"spikes")
    assert product(lab) == ("behind", "NWB file to extend changed")
    _, first = record(lab)
    assert product(lab) == ("up to date", "")
    ephys.write_bytes(b"more spikes")
    assert product(lab) == ("behind", "NWB file to extend changed")
    _, second = record(lab)
    assert second.data_version != first.data_version


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("ephys.nwb", "there is no file {folder}/ephys.nwb. Expected an NWB file that is there"),
        ("top.mp4", "{folder}/top.mp4: expected an NWB file, whose name ends in .nwb."),
    ],
)
def test_a_file_to_extend_that_is_not_there_fails_the_sessions_check_and_not_its_videos(
    lab: Lab, named: str, said: str
) -> None:
    info, manifest = recorded(lab, f"start: 2026-05-01T10:00:00+02:00\nnwb: {{extend: {named}}}\n")
    folder = lab.root / "recordings/m01/20260501"
    assert [recording.recording for recording in info.recordings] == ["top"]
    assert info.extend_nwb is None
    check = evaluation(manifest, "recordings_described", lab.root)
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert str(check.description).startswith(f"{folder}/session.yaml: nwb.extend: {said.format(folder=folder)}")
    assert evaluation(manifest, "recordings_readable", lab.root).passed


def test_the_index_looks_at_the_file_to_extend_as_well(lab: Lab) -> None:
    """A look at the lab reads only what changed: the file is among what is watched."""
    ephys = lab.root / "ephys.nwb"
    ephys.write_bytes(b"spikes")
    recorded(lab, f"nwb: {{extend: {ephys}}}\n")
    assert discover(lab).sessions[KEY].metadata().nwb.extend == str(ephys)
    assert product(lab)[0] == "up to date"
    ephys.write_bytes(b"more spikes")
    assert product(lab)[0] == "behind"


# --- whether videos may leave ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "species", "reason"),
    [
        ("", "Mus musculus", None),
        ("", None, None),
        ("", "Homo sapiens", "states no consent"),
        ("", HUMAN, "states no consent"),
        ("consent: {videos: true}\n", "Homo sapiens", None),
        ("consent: {videos: false, by: Ann}\n", "Homo sapiens", "videos: false (stated by Ann)"),
        ("consent: {videos: false}\n", "Mus musculus", "videos: false: videos and pictures of frames stay in the lab"),
    ],
)
def test_videos_of_people_leave_with_consent_only(lab: Lab, text: str, species: str | None, reason: str | None) -> None:
    info, _ = recorded(lab, text)
    said = may_leave(info, species)
    assert said is None if reason is None else reason in str(said) and KEY in str(said)
