"""NWB files reach a dandiset whole, once, and only when nothing speaks against it; whatever goes wrong is said in words."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import h5py
import pytest

from dlc_assets.inference.freezing import freeze
from dlc_assets.lab.cohorts import Cohort, find_cohort
from dlc_assets.lab.errors import DlcAssetsError, EnvironmentProblem, InputError, NotFoundError, SettingsError
from dlc_assets.lab.files import read_json, sha256_file, write_json
from dlc_assets.lab.lab import Lab, open_lab_folder
from dlc_assets.lab.manifest import Manifest
from dlc_assets.lab.settings import KEY_VARIABLES
from dlc_assets.nwb.export import export_session, nwb_files, nwb_manifest
from dlc_assets.publishing.archive import RefusedError, connected, validation_errors
from dlc_assets.publishing.preview import preview
from dlc_assets.publishing.publish import publish_session, published_manifest
from dlc_assets.publishing.selection import dandi_settings, select
from dlc_assets_tests.archive import DANDISET, KEY, StandInArchive, stand_in_archive
from dlc_assets_tests.graph.small_lab import (
    FIRST,
    LAB,
    SECOND,
    SESSIONS,
    as_if_analysed,
    as_if_trained,
    record,
    video_of,
    write_small_lab,
)

KEY_VARIABLE = "DLC_ASSETS_TEST_ARCHIVE_KEY"
NWB = "sub-m01/sub-m01_ses-20260501_behavior+image.nwb"
_ABOUT = 'institution: University of Somewhere\nexperimenters: ["Doe, Jane"]\n'
_SUBJECT = "subjects: {m01: {species: Mus musculus, sex: F, date_of_birth: 2026-02-01, description: mouse}, m02: {species: Mus musculus}}\n"


def log(_line: str) -> None:
    """Take what the work layer says."""


def export(lab: Lab, session: str, **how: Any) -> Manifest:
    """Write the NWB file of a session."""
    return export_session(lab, session, overrides={}, recompute=True, run_id="", log=log, **how)[0]


@pytest.fixture(scope="module")
def exported_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lab of two sessions with NWB files that DANDI takes: to be copied only."""
    root = tmp_path_factory.mktemp("publishing") / "lab"
    write_small_lab(root)
    lines = [line for line in LAB.splitlines(keepends=True) if not line.startswith("subjects")]
    (root / "lab.yaml").write_text("".join(lines) + _ABOUT + _SUBJECT)
    lab = open_lab_folder(root)
    record(lab, *SESSIONS)
    as_if_trained(lab)
    as_if_analysed(lab, *SESSIONS)
    for session in (FIRST, SECOND):
        assert [line for line in export(lab, session).details["findings"] if not line.startswith("suggestion")] == []
    return root


@pytest.fixture(scope="module")
def validated() -> dict[tuple[str, str], list[str]]:
    """What dandi's validation found in a file, by path and content: it takes seconds, and the tests copy the same files."""
    return {}


@pytest.fixture(autouse=True)
def _validate_each_content_once(validated: dict[tuple[str, str], list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    def errors_of(file: Any) -> list[str]:
        key = (file.path, sha256_file(file.filepath))
        if key not in validated:
            validated[key] = validation_errors(file)
        return validated[key]

    monkeypatch.setattr("dlc_assets.publishing.publish.validation_errors", errors_of)


@pytest.fixture
def archive(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandInArchive]:
    """The stand-in, with its key in the environment, and dandi's memory of digests left aside."""
    monkeypatch.setenv("DANDI_CACHE", "ignore")
    monkeypatch.setenv(KEY_VARIABLE, KEY)
    monkeypatch.setattr("dandi.dandiapi.REQUEST_RETRIES", 3)
    with stand_in_archive() as served:
        yield served


@pytest.fixture
def root(exported_files: Path, tmp_path: Path, archive: StandInArchive) -> Path:
    """A copy of the lab whose lab.yaml names the archive."""
    copy = tmp_path / "lab"
    shutil.copytree(exported_files, copy, symlinks=True)
    configure(copy, archive)
    return copy


def configure(root: Path, archive: StandInArchive, **settings: Any) -> Lab:
    """Write the `dandi` block of lab.yaml, and open the lab."""
    file = root / "lab.yaml"
    rest = re.sub(r"^dandi: .*\n", "", file.read_text(), flags=re.MULTILINE)
    block = {"instance": archive.url, "dandiset": DANDISET, "key_env": KEY_VARIABLE, **settings}
    file.write_text(f"{rest}dandi: {json.dumps(block)}\n")
    return open_lab_folder(root)


@pytest.fixture
def lab(root: Path) -> Lab:
    return open_lab_folder(root)


def publish(lab: Lab, session: str = FIRST, **how: Any) -> tuple[Manifest, bool]:
    return publish_session(lab, session, run_id="", log=log, **how)


def refused(lab: Lab, kind: type[DlcAssetsError], *words: str, session: str = FIRST, **how: Any) -> str:
    """Publish a session, which must fail with an error of *kind* that has *words*; no error ever shows the key."""
    with pytest.raises(kind) as caught:
        publish(lab, session, **how)
    message = str(caught.value)
    for word in words:
        assert word in message
    assert KEY not in message
    assert "X-Amz-Signature" not in message
    return message


# --- what arrives


def test_a_session_arrives_as_it_lies_in_the_store(lab: Lab, archive: StandInArchive) -> None:
    manifest, asked = publish(lab)
    assert asked
    assert archive.paths == [NWB]
    (file,) = nwb_files(lab, _nwb(lab))
    assert archive.content(NWB) == file.read_bytes()
    (asset,) = manifest.details["assets"]
    assert archive.assets[asset["asset_id"]].path == NWB
    assert asset["uploaded"]
    assert asset["bytes"] == file.stat().st_size
    metadata = archive.assets[asset["asset_id"]].metadata
    assert metadata["wasAttributedTo"][0]["identifier"] == "m01"
    assert manifest.details["links"] == [f"{archive.url}/dandiset/{DANDISET}/draft/files?location=sub-m01"]
    assert archive.keys_at_storage == 0  # the storage has addresses of its own, and no business with the key


def _nwb(lab: Lab, session: str = FIRST) -> Manifest:
    manifest = nwb_manifest(lab, session)
    assert manifest is not None
    return manifest


def test_the_same_session_is_not_uploaded_again(lab: Lab, archive: StandInArchive) -> None:
    first, _ = publish(lab)
    asked_before = list(archive.requests)
    again, asked = publish(lab)
    assert not asked
    assert again == first
    assert archive.requests == asked_before


def test_a_file_that_was_written_again_from_the_same_inputs_is_not_uploaded_again(
    lab: Lab, archive: StandInArchive
) -> None:
    publish(lab)
    (file,) = nwb_files(lab, _nwb(lab))
    before = file.read_bytes()
    export(lab, FIRST)
    assert file.read_bytes() != before
    assert not publish(lab)[1]
    assert archive.content(NWB) == before


def test_a_session_whose_poses_changed_takes_the_place_of_its_former_file(lab: Lab, archive: StandInArchive) -> None:
    first, _ = publish(lab)
    _change_poses(lab, FIRST)
    export(lab, FIRST)
    second, asked = publish(lab)
    assert asked
    assert archive.paths == [NWB]
    assert archive.content(NWB) == nwb_files(lab, _nwb(lab))[0].read_bytes()
    assert second.details["assets"][0]["asset_id"] != first.details["assets"][0]["asset_id"]
    assert second.data_version != first.data_version


def _change_poses(lab: Lab, session: str) -> None:
    path = lab.layout.pose_manifest("walker", "0123456789ab", session)
    manifest = Manifest.model_validate_json(path.read_text())
    manifest.data_version = "other poses"
    manifest.write(path)


def test_asked_for_all_the_same_only_the_digests_are_compared(lab: Lab, archive: StandInArchive) -> None:
    publish(lab)
    writes = list(archive.writes)
    manifest, asked = publish(lab, recompute=True)
    assert asked
    assert archive.writes == writes
    assert not manifest.details["assets"][0]["uploaded"]


def test_a_file_that_was_deleted_there_is_uploaded_again_on_demand(lab: Lab, archive: StandInArchive) -> None:
    publish(lab)
    archive.assets.clear()
    manifest, _ = publish(lab, recompute=True)
    assert archive.paths == [NWB]
    assert ("POST", "/api/uploads/initialize/") in archive.writes
    assert len(archive.blobs) == 1  # the archive still had the bytes: 409, and only the asset is made anew
    assert manifest.details["assets"][0]["uploaded"]


def test_a_file_of_somebody_else_is_not_replaced_unless_told_to(lab: Lab, archive: StandInArchive) -> None:
    archive.put(NWB, b"recorded by another group")
    refused(lab, InputError, NWB, "did not publish", "--replace")
    assert archive.writes == []
    publish(lab, replace=True)
    assert archive.content(NWB) == nwb_files(lab, _nwb(lab))[0].read_bytes()


# --- videos


def _videos(lab: Lab) -> list[str]:
    return [str(file.path) for file in select(lab, FIRST).files if file.kind == "video"]


def test_videos_stay_unless_lab_yaml_says_otherwise_and_the_preview_says_so(lab: Lab, archive: StandInArchive) -> None:
    chosen = select(lab, FIRST)
    assert [str(file.path) for file in chosen.files] == [NWB]
    assert "refers to 1 video that will not be in the dandiset" in chosen.notes[0]
    manifest, _ = publish(lab)
    assert manifest.problems == chosen.notes


def test_videos_go_with_their_nwb_file_as_what_their_links_lead_to(root: Path, archive: StandInArchive) -> None:
    lab = configure(root, archive, videos=True)
    original = root / video_of(FIRST)
    publish(lab)
    (video,) = _videos(lab)
    assert archive.paths == sorted([NWB, video])
    assert (lab.layout.nwb / video).is_symlink()
    assert archive.content(video) == original.read_bytes()
    created = [path for method, path in archive.writes if path.endswith("/assets/") and method == "POST"]
    assert len(created) == 2
    with h5py.File(lab.layout.nwb / NWB) as file:
        (name,) = {place for video in file["acquisition"].values() for place in video["external_file"].asstr()[:]}
    assert PurePosixPath(NWB).parent / name == PurePosixPath(video)


def test_a_video_that_is_gone_keeps_the_whole_session_back(root: Path, archive: StandInArchive) -> None:
    lab = configure(root, archive, videos=True)
    (link,) = (lab.layout.nwb / NWB).with_suffix("").iterdir()
    link.unlink()
    link.symlink_to("nowhere.mp4")
    refused(lab, InputError, "is not there", link.name)
    assert archive.requests == []


def test_people_are_filmed_only_for_the_lab(root: Path, archive: StandInArchive) -> None:
    file = root / "lab.yaml"
    file.write_text(file.read_text().replace("m01: {species: Mus musculus", "m01: {species: Homo sapiens"))
    lab = configure(root, archive, videos=True)
    refused(lab, InputError, "not made from what is there now")
    assert archive.requests == []
    export(lab, FIRST)
    publish(lab)
    assert archive.paths == [NWB.replace("behavior+image", "behavior")]


def test_a_video_of_a_person_that_an_nwb_file_refers_to_all_the_same_is_kept_back(
    root: Path, archive: StandInArchive
) -> None:
    import h5py

    lab = configure(root, archive, videos=True)
    with h5py.File(lab.layout.nwb / NWB, "r+") as file:
        del file["general/subject/species"]
        file["general/subject/species"] = "Homo sapiens"
    refused(lab, InputError, "Homo sapiens", "consent")
    assert archive.requests == []


def test_videos_are_encoded_for_browsers_when_asked_with_every_frame_in_its_place(
    root: Path, archive: StandInArchive
) -> None:
    _film_as(root, "mjpeg.avi")
    lab = configure(root, archive, videos=True, reencode="h264")
    (video,) = _videos(lab)
    assert video.endswith(".mp4")
    publish(lab)
    assert archive.paths == sorted([NWB, video])
    copy, there = root / "copy.mp4", root / "there.nwb"
    copy.write_bytes(archive.content(video))
    there.write_bytes(archive.content(NWB))
    (original,) = (lab.layout.nwb / NWB).with_suffix("").iterdir()
    assert original.suffix == ".avi"
    assert _frames(copy) == _frames(original)
    with h5py.File(there) as file:
        (name,) = {place for one in file["acquisition"].values() for place in one["external_file"].asstr()[:]}
    assert PurePosixPath(NWB).parent / name == PurePosixPath(video)
    assert not lab.layout.publishing_work(archive.url, DANDISET, FIRST).exists()
    writes = list(archive.writes)
    publish(lab, recompute=True)  # encoded again: the same bytes, and nothing to upload
    assert archive.writes == writes


def _frames(video: Path) -> list[tuple[Any, int, int]]:
    import av

    with av.open(str(video)) as container:
        return [(frame.pts * frame.time_base, frame.width, frame.height) for frame in container.decode(video=0)]


def _film_as(root: Path, name: str, size: tuple[int, int] = (64, 48)) -> None:
    """Put a video of another kind into the place of the first session's, and make all from it again."""
    import av
    import numpy as np

    codec, suffix = name.split(".")
    old = root / video_of(FIRST)
    new = old.with_suffix(f".{suffix}")
    old.unlink()
    with av.open(str(new), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for number in range(12):
            picture = np.full((size[1], size[0], 3), number * 20, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode())
    os.utime(new, (1_780_000_000, 1_780_000_000))
    file = root / "lab.yaml"
    file.write_text(file.read_text().replace("{camera}.mp4", f"{{camera}}.{suffix}"))
    lab = open_lab_folder(root)
    record(lab, FIRST)
    as_if_analysed(lab, FIRST)
    export(lab, FIRST)


def test_what_cannot_be_encoded_exactly_is_not_published(root: Path, archive: StandInArchive) -> None:
    _film_as(root, "mpeg4.avi", size=(63, 47))
    lab = configure(root, archive, videos=True, reencode="h264")
    refused(lab, InputError, "63x47 px", "even sides", "reencode: none")
    assert archive.writes == []


def test_a_video_that_browsers_do_not_play_is_pointed_out(root: Path, archive: StandInArchive) -> None:
    _film_as(root, "mpeg4.avi")
    chosen = select(configure(root, archive, videos=True), FIRST)
    assert any("does not play in browsers" in note for note in chosen.notes)
    assert chosen.problems == []


# --- what keeps a session back


def test_a_session_without_an_nwb_file_is_sent_to_be_exported(lab: Lab, archive: StandInArchive) -> None:
    refused(lab, NotFoundError, "no NWB file", f"dlc-assets export {SESSIONS[2]}", session=SESSIONS[2])
    assert archive.requests == []


def test_a_file_that_is_behind_is_not_published(lab: Lab, archive: StandInArchive) -> None:
    _change_poses(lab, FIRST)
    refused(lab, InputError, "not made from what is there now", "dlc-assets export")
    assert archive.requests == []


@pytest.mark.parametrize(("line", "blocks"), [("error: no sex (/)", True), ("suggestion: a nicer name (/)", False)])
def test_what_validation_found_at_the_export_blocks_unless_it_is_a_suggestion(
    lab: Lab, archive: StandInArchive, line: str, blocks: bool
) -> None:
    manifest = _nwb(lab)
    manifest.details["findings"] = [line]
    manifest.write(lab.layout.nwb_manifest(FIRST))
    if blocks:
        refused(lab, InputError, line, FIRST)
        assert archive.requests == []
    else:
        assert publish(lab)[1]


def test_a_file_that_says_another_subject_than_its_path_is_not_published(lab: Lab, archive: StandInArchive) -> None:
    with h5py.File(lab.layout.nwb / NWB, "r+") as file:
        del file["general/subject/subject_id"]
        file["general/subject/subject_id"] = "m99"
    refused(lab, InputError, NWB, "expected sub-m99/sub-m99_ses-20260501_")
    assert archive.requests == []


def test_a_file_that_dandi_itself_refuses_is_not_published(lab: Lab, archive: StandInArchive) -> None:
    with h5py.File(lab.layout.nwb / NWB, "r+") as file:
        del file["general/subject/species"]
    refused(lab, InputError, NWB, "nothing was uploaded", "species")
    assert archive.writes == []


def test_without_a_dandiset_in_lab_yaml_the_message_shows_one(root: Path) -> None:
    file = root / "lab.yaml"
    file.write_text(re.sub(r"^dandi: .*\n", "", file.read_text(), flags=re.MULTILINE))
    refused(open_lab_folder(root), SettingsError, "there is no `dandi`", 'dandiset: "000123"')


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ('{dandiset: "123"}', "six digits"),
        ('{dandiset: "000123", instance: dandi-sandbx}', 'Did you mean "dandi-sandbox"'),
        ('{dandiset: "000123", instance: "https://archive.example.org"}', "key_env is missing"),
        ('{dandiset: "000123", instance: "http://archive.example.org", key_env: KEY}', "expected https://"),
        ('{dandiset: "000123", instance: "https://ann:secret@archive.example.org", key_env: KEY}', "does not belong"),
        ('{dandiset: "000123", key_env: "0123-4567"}', "name of an environment variable"),
        ('{dandiset: "000123", reencode: h265}', "reencode"),
    ],
)
def test_a_wrong_setting_is_told_when_lab_yaml_is_read(tmp_path: Path, block: str, words: str) -> None:
    (tmp_path / "lab.yaml").write_text(f"name: small\ndandi: {block}\n")
    with pytest.raises(SettingsError, match=re.escape(words)) as caught:
        open_lab_folder(tmp_path)
    assert "ann:secret" not in str(caught.value)


@pytest.mark.parametrize("dandiset", ["000123", '"000123"', "123456"])
def test_a_dandiset_is_its_six_digits_in_quotes_or_not(tmp_path: Path, dandiset: str) -> None:
    (tmp_path / "lab.yaml").write_text(f"name: small\ndandi: {{dandiset: {dandiset}}}\n")
    settings = dandi_settings(open_lab_folder(tmp_path))
    assert settings.dandiset == dandiset.strip('"')
    assert (settings.instance, settings.key_variable, settings.videos) == ("dandi", "DANDI_API_KEY", False)


def test_the_variables_of_keys_are_those_that_dandi_itself_reads() -> None:
    from dandi.consts import known_instances

    for name, variable in KEY_VARIABLES.items():
        assert variable == f"{known_instances[name].name.upper().replace('-', '_')}_API_KEY"


# --- the key, the archive, the network


def test_a_missing_key_is_named_by_its_variable(
    lab: Lab, archive: StandInArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(KEY_VARIABLE)
    refused(lab, SettingsError, KEY_VARIABLE, "is not set")
    assert archive.requests == []


def test_a_refused_key_is_named_by_its_variable(lab: Lab, archive: StandInArchive) -> None:
    archive.key = "another"
    refused(lab, RefusedError, "refuses the key", KEY_VARIABLE)
    assert archive.writes == []


def test_an_unknown_dandiset_is_named(root: Path, archive: StandInArchive) -> None:
    lab = configure(root, archive, dandiset="000999")
    refused(lab, NotFoundError, "no dandiset 000999", "sandbox")
    assert archive.writes == []


def test_a_key_without_rights_in_the_dandiset_is_told_apart_from_a_wrong_one(lab: Lab, archive: StandInArchive) -> None:
    archive.may_write = False
    refused(lab, RefusedError, "may not write into the dandiset 000123", KEY_VARIABLE, NWB)
    assert archive.paths == []


def test_an_archive_that_nobody_answers_for_is_said_at_once(root: Path, archive: StandInArchive) -> None:
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    lab = configure(root, archive, instance=f"http://127.0.0.1:{port}")
    refused(lab, EnvironmentProblem, "cannot be reached")


def test_an_error_of_the_archive_in_passing_does_no_harm(lab: Lab, archive: StandInArchive) -> None:
    archive.fail("POST", "/initialize/", status=500)
    archive.fail("PUT", "/storage/", status=500)
    publish(lab)
    assert archive.content(NWB) == (lab.layout.nwb / NWB).read_bytes()


def test_a_connection_that_is_cut_in_the_middle_of_a_part_is_made_anew(lab: Lab, archive: StandInArchive) -> None:
    archive.fail("PUT", "/storage/", cut=True)
    publish(lab)
    assert archive.content(NWB) == (lab.layout.nwb / NWB).read_bytes()


def test_an_archive_that_goes_on_failing_is_given_up_and_gone_on_with(lab: Lab, archive: StandInArchive) -> None:
    archive.fail("POST", "/initialize/", status=503, times=100)
    refused(lab, EnvironmentProblem, "HTTP 503", NWB)
    assert published_manifest(lab, FIRST) is None
    archive.faults.clear()
    assert publish(lab)[1]


def test_a_permission_of_the_storage_that_ended_is_not_taken_for_the_keys(lab: Lab, archive: StandInArchive) -> None:
    archive.fail("PUT", "/storage/", status=403, times=100)
    refused(lab, EnvironmentProblem, "The storage of the archive", "HTTP 403", NWB)


@pytest.mark.parametrize("where", ["PUT", "POST"])
def test_bytes_that_arrive_damaged_are_not_taken(lab: Lab, archive: StandInArchive, where: str) -> None:
    archive.fail(where, "/storage/", wrong_etag=True)
    refused(lab, EnvironmentProblem, "did not arrive as it was sent", NWB)
    assert archive.paths == []


def test_files_of_several_parts_arrive_whole_and_several_at_once(
    root: Path, archive: StandInArchive, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dandischema.digests.dandietag import PartGenerator

    monkeypatch.setattr(PartGenerator, "DEFAULT_PART_SIZE", 1 << 16)
    monkeypatch.setattr(PartGenerator, "MIN_PART_SIZE", 1 << 10)
    lab = configure(root, archive, videos=True)
    archive.fail("PUT", "/storage/.*/2", cut=True)
    publish(lab)
    assert sum(1 for method, path in archive.writes if method == "PUT" and "/storage/" in path) > 2
    assert archive.content(NWB) == (lab.layout.nwb / NWB).read_bytes()


def test_what_a_stopped_run_uploaded_is_not_uploaded_again(root: Path, archive: StandInArchive) -> None:
    lab = configure(root, archive, videos=True)
    (video,) = _videos(lab)
    created = 0

    def stop(method: str, path: str) -> None:
        nonlocal created
        if method == "POST" and path.endswith("/assets/"):
            created += 1
        if created and path.endswith("/initialize/"):
            raise ConnectionAbortedError  # the NWB file, after its video has arrived

    archive.before = stop
    refused(lab, EnvironmentProblem, "cannot be reached")
    assert archive.paths == [video]
    assert published_manifest(lab, FIRST) is None
    archive.before = lambda method, path: None
    writes = len(archive.writes)
    manifest, _ = publish(lab)
    assert archive.paths == sorted([NWB, video])
    assert {asset["path"]: asset["uploaded"] for asset in manifest.details["assets"]} == {video: False, NWB: True}
    assert sum(path.endswith("/initialize/") for _, path in archive.writes[writes:]) == 1


def test_a_run_that_was_stopped_may_replace_what_it_put_there_itself(lab: Lab, archive: StandInArchive) -> None:
    publish(lab)
    begun = lab.layout.publishing_work(archive.url, DANDISET, FIRST) / "begun.json"
    begun.parent.mkdir(parents=True)
    begun.write_text(json.dumps([NWB]))
    lab.layout.published_manifest(archive.url, DANDISET, FIRST).unlink()  # as if it had died before it wrote this
    _change_poses(lab, FIRST)
    export(lab, FIRST)
    publish(lab)
    assert archive.content(NWB) == (lab.layout.nwb / NWB).read_bytes()


def test_no_file_of_the_lab_and_no_log_ever_holds_the_key(
    lab: Lab, archive: StandInArchive, caplog: pytest.LogCaptureFixture
) -> None:
    archive.fail("PUT", "/storage/", status=500, text=f"you sent {KEY}")
    with caplog.at_level(logging.INFO):
        publish(lab)
        archive.fail("POST", "/initialize/", status=400, text=f"you sent {KEY}")
        refused(lab, InputError, "HTTP 400", "***", session=SECOND)
    assert KEY not in caplog.text
    assert "X-Amz-Signature" not in caplog.text
    for file in lab.root.rglob("*"):
        if file.is_file() and not file.is_symlink():
            assert KEY.encode() not in file.read_bytes(), file


# --- cohorts


@pytest.fixture
def cohort(lab: Lab) -> Cohort:
    freeze(lab, "paper-2026", [FIRST], reason="the paper")
    return find_cohort(lab.layout, "paper-2026")


def test_a_cohorts_file_is_published_though_the_session_has_gone_on(
    lab: Lab, archive: StandInArchive, cohort: Cohort
) -> None:
    export(lab, FIRST, cohort=cohort)
    manifest, _ = publish(lab, cohort=cohort)
    assert archive.content(NWB) == (lab.layout.cohort_nwb(cohort.name) / NWB).read_bytes()
    assert manifest.details["cohort"] == cohort.name
    assert not publish(lab, cohort=cohort)[1]
    refused(lab, InputError, 'the cohort "paper-2026"', "--replace")
    publish(lab, replace=True)
    assert archive.content(NWB) == (lab.layout.nwb / NWB).read_bytes()


# --- any archive: the stand-in, and a real one that the environment names

_REAL = ("DLC_ASSETS_TEST_DANDI_URL", "DLC_ASSETS_TEST_DANDI_KEY", "DLC_ASSETS_TEST_DANDI_DANDISET")


@pytest.fixture(params=["stand-in", "real"])
def anywhere(request: pytest.FixtureRequest, exported_files: Path, tmp_path: Path) -> Lab:
    """A copy of the lab whose lab.yaml names an archive; a real one is left with a session of the subject m01 in its dandiset."""
    if request.param == "stand-in":
        archive = request.getfixturevalue("archive")
        block = {"instance": archive.url, "dandiset": DANDISET, "key_env": KEY_VARIABLE}
    else:
        url, _, dandiset = values = [os.environ.get(name) for name in _REAL]
        if not all(values):
            pytest.skip(f"no archive to publish to: set {', '.join(_REAL)}")
        block = {"instance": url, "dandiset": dandiset, "key_env": _REAL[1]}
    root = tmp_path / "lab"
    shutil.copytree(exported_files, root, symlinks=True)
    with (root / "lab.yaml").open("a") as file:
        file.write(f"dandi: {json.dumps({**block, 'videos': True})}\n")
    return open_lab_folder(root)


def there_as_published(lab: Lab, manifest: Manifest) -> bool:
    """Say whether the archive has each asset under its id, with its digest."""
    with connected(dandi_settings(lab)) as archive:
        there = [archive.asset_at(asset["path"]) for asset in manifest.details["assets"]]
    return [(one.asset.identifier, one.digest) for one in there if one is not None] == [
        (asset["asset_id"], asset["digest"]) for asset in manifest.details["assets"]
    ]


def test_an_archive_takes_a_session_once(anywhere: Lab) -> None:
    manifest, _ = publish(anywhere, replace=True)
    assert len(manifest.details["assets"]) == 2
    assert there_as_published(anywhere, manifest)
    again, _ = publish(anywhere, recompute=True)
    assert not any(asset["uploaded"] for asset in again.details["assets"])
    assert {row["state"] for row in preview(anywhere, [FIRST], None, replace=False).rows} == {"published"}


def test_an_archive_takes_a_file_that_has_changed_in_the_place_of_the_former(anywhere: Lab) -> None:
    publish(anywhere, replace=True)
    path = anywhere.layout.pose_manifest("walker", "0123456789ab", FIRST)
    write_json(path, {**read_json(path), "data_version": "other poses"})
    export(anywhere, FIRST)
    manifest, _ = publish(anywhere)
    assert [asset["uploaded"] for asset in manifest.details["assets"]] == [False, True]  # the video; the NWB file
    assert there_as_published(anywhere, manifest)


def test_an_archive_refuses_a_wrong_key_and_has_no_other_dandiset(
    anywhere: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = dandi_settings(anywhere)
    elsewhere = settings.model_copy(update={"dandiset": "999999"})
    with pytest.raises(NotFoundError, match="999999"), connected(elsewhere):
        pass
    monkeypatch.setenv(settings.key_variable, "0" * 40)
    with pytest.raises(RefusedError, match=settings.key_variable), connected(settings):
        pass
