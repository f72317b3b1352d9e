"""What the checks of `session_recordings` see: cameras that disagree, videos that grew again, and sessions probed by releases before."""

from __future__ import annotations

import hashlib
import os
from fractions import Fraction
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pytest

from dlc_assets.checks.outcomes import CHECKS, evaluation
from dlc_assets.demo.files import encode_video
from dlc_assets.inference.pose_tables import pose_inputs
from dlc_assets.lab.files import content_hash, read_json, write_json
from dlc_assets.lab.lab import Lab, open_lab_folder
from dlc_assets.lab.manifest import Manifest
from dlc_assets.recordings.discovery import discover
from dlc_assets.recordings.hashing import hashed_meanwhile
from dlc_assets.recordings.info import RecordingInfo, SessionInfo, need_session_info, read_session_info
from dlc_assets.recordings.session_recordings import record_session, session_inputs
from dlc_assets.state.lab_state import lab_state
from dlc_assets_tests.unit.released_lab import add_version

KEY = "ses-day1"
# What this release stores beside what the one before stored.
NEW_OF_SESSION = (
    *("failed_about", "cameras"),
    *("start_without_zone", "consent", "identity", "extend_nwb", "extend_nwb_problem"),
)
NEW_OF_RECORDING = ("about", "times_files", "times_repaired")


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    for root in ("recordings", "trials"):
        (tmp_path / root / "day1").mkdir(parents=True)
    (tmp_path / "lab.yaml").write_text(
        "name: lab\nrecordings:\n"
        '  - {root: trials, template: "{session}/{camera}_{trial}.mp4"}\n'
        '  - {root: recordings, template: "{session}/{camera}.mp4"}\n'
    )
    return open_lab_folder(tmp_path)


def film(lab: Lab, name: str, frames: int = 50, rate: int = 25, value: int = 0) -> Path:
    path = lab.root / ("trials" if "_" in name else "recordings") / f"day1/{name}.mp4"
    encode_video(path, (np.full((48, 64, 3), value + n % 50, np.uint8) for n in range(frames)), Fraction(rate))
    return path


def record(lab: Lab) -> tuple[SessionInfo, Manifest]:
    record_session(lab, discover(lab).sessions[KEY], run_id="", log=lambda _: None)
    return need_session_info(lab.layout, KEY)


def said(lab: Lab, manifest: Manifest, check: str) -> str:
    outcome = evaluation(manifest, check, lab.root)
    return "" if outcome.passed else str(outcome.description)


# --- cameras of one session -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "agree"),
    [((50, 25), True), ((49, 25), True), ((100, 50), True), ((48, 25), False), ((94, 50), False), ((20, 25), False)],
)
def test_cameras_of_one_time_should_be_equally_long_to_a_frame_whatever_their_rate(
    lab: Lab, side: tuple[int, int], agree: bool
) -> None:
    film(lab, "top")
    film(lab, "side", *side)
    _, manifest = record(lab)
    sentence = said(lab, manifest, "cameras_agree")
    assert (sentence == "") is agree
    if not agree:
        assert "top has 50 frames in 2.000 s from 0.000 s on, at 25/s" in sentence
        assert f"side has {side[0]} frames in {side[0] / side[1]:.3f} s" in sentence
        assert sentence in manifest.problems


def test_trials_are_compared_with_the_same_trial_of_the_other_camera_only(lab: Lab) -> None:
    for camera in ("top", "side"):
        film(lab, f"{camera}_1", 50)
        film(lab, f"{camera}_2", 20)
    info, _ = record(lab)
    assert [sentence for sentence in info.cameras if "ran at the same time" in sentence] == []
    assert sum("overlap in time" in sentence for sentence in info.cameras) == 2
    film(lab, "side_2", 30)
    info, _ = record(lab)
    (sentence,) = [sentence for sentence in info.cameras if "ran at the same time" in sentence]
    assert sentence.startswith("side_2 and top_2 ran at the same time, but top_2 is 0.400 s shorter")


# --- changed since --------------------------------------------------------------------------------


def test_a_video_that_grew_again_after_probing_fails_a_check_and_its_session_is_out_of_date(lab: Lab) -> None:
    video = film(lab, "top")
    _, manifest = record(lab)
    assert said(lab, manifest, "recordings_unchanged") == ""
    size = video.stat().st_size
    with video.open("ab") as stream:
        stream.write(b"more")
    check = evaluation(manifest, "recordings_unchanged", lab.root)
    assert check.severity == dg.AssetCheckSeverity.ERROR
    assert f"{video} had {size} bytes when it was probed and has {size + 4} now" in str(check.description)
    (product,) = lab_state(lab).of("session_recordings")
    assert (product.state, product.why) == ("behind", "videos changed")
    video.unlink()
    assert f"{video} cannot be looked at (No such file or directory)" in said(lab, manifest, "recordings_unchanged")


def test_a_video_that_was_only_copied_is_probed_again_but_what_was_made_from_it_stays_up_to_date(lab: Lab) -> None:
    video = film(lab, "top")
    version = add_version(lab)
    info, manifest = record(lab)
    poses = pose_inputs(lab, version.model, info)
    os.utime(video, (1_700_000_000, 1_700_000_000))
    check = evaluation(manifest, "recordings_unchanged", lab.root)
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert manifest.inputs != session_inputs(lab, discover(lab).sessions[KEY])
    info, again = record(lab)
    assert again.data_version == manifest.data_version
    assert pose_inputs(lab, version.model, info) == poses
    film(lab, "top", value=90)
    info, _ = record(lab)
    assert pose_inputs(lab, version.model, info) != poses


def test_a_hash_that_is_made_meanwhile_is_that_of_the_file_and_ends_with_an_error(tmp_path: Path) -> None:
    path = tmp_path / "large.bin"
    path.write_bytes(bytes(range(256)) * 40_000)
    with hashed_meanwhile(path) as sha256:
        assert sha256() == hashlib.sha256(path.read_bytes()).hexdigest()
    with pytest.raises(ValueError, match="not a video"), hashed_meanwhile(path):
        raise ValueError("not a video")
    with pytest.raises(FileNotFoundError), hashed_meanwhile(tmp_path / "gone") as sha256:
        sha256()


# --- what the release before stored ---------------------------------------------------------------


def as_before(lab: Lab) -> dict[str, Any]:
    """Rewrite the stored manifest as the release before would have written it."""
    file = lab.layout.session_recordings(KEY) / "manifest.json"
    stored: dict[str, Any] = read_json(file)
    for key in NEW_OF_SESSION:
        del stored["details"][key]
    for recording in stored["details"]["recordings"]:
        for key in NEW_OF_RECORDING:
            del recording[key]
    write_json(file, stored)
    return stored


def test_an_archive_that_the_release_before_probed_is_not_probed_again(lab: Lab) -> None:
    film(lab, "top")
    (lab.root / "recordings/day1/session.yaml").write_text("recordings: {top: {offset: 1.5}}\n")
    record(lab)
    stored = as_before(lab)
    known = read_session_info(lab.layout, KEY)
    assert known is not None
    assert known[0].recording("top").times_files == []
    (product,) = lab_state(lab).of("session_recordings")
    assert product.state == "up to date"
    assert all(
        set(of) == set(model.model_fields) - {*new}
        for of, model, new in (
            (stored["details"], SessionInfo, NEW_OF_SESSION),
            (stored["details"]["recordings"][0], RecordingInfo, NEW_OF_RECORDING),
        )
    )
    _, again = record(lab)
    assert again.data_version == stored["data_version"]


def test_a_session_without_files_of_times_is_made_from_the_same_hashes_as_before(lab: Lab) -> None:
    video = film(lab, "top")
    status = video.stat()
    stated = [["recordings/day1/top.mp4", status.st_size, status.st_mtime_ns]]
    assert session_inputs(lab, discover(lab).sessions[KEY]) == {
        "videos": content_hash({"top": stated}),
        "session metadata": "",
        "refused": content_hash({}),
        "time zone": "UTC",
    }


def test_what_the_release_before_found_is_told_by_one_check(lab: Lab) -> None:
    film(lab, "top", 50)
    video = film(lab, "side", 50)
    content = video.read_bytes()
    entry = content.index(b"stts") + 16
    video.write_bytes(content[:entry] + (10_000_000).to_bytes(4, "big") + content[entry + 4 :])
    record(lab)
    _, manifest = need_session_info(lab.layout, KEY)
    kinds = {check for check in CHECKS["session_recordings"] if not evaluation(manifest, check, lab.root).passed}
    as_before(lab)
    _, manifest = need_session_info(lab.layout, KEY)
    assert {check for check in CHECKS["session_recordings"] if not evaluation(manifest, check, lab.root).passed} == {
        "recordings_described"
    }
    assert kinds
