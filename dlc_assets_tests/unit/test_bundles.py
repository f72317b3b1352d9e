"""Bundles: what is in one, what is never in one, and what verifying says of damage, of other videos and of other poses."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from dlc_assets.bundles import software
from dlc_assets.bundles.content import MANIFEST, README, SESSION
from dlc_assets.bundles.reading import read_bundle
from dlc_assets.bundles.tolerance import tolerances
from dlc_assets.bundles.verifying import Verified, verify_bundle
from dlc_assets.bundles.writing import write_bundle
from dlc_assets.cli import app
from dlc_assets.inference.freezing import freeze
from dlc_assets.lab.errors import EnvironmentProblem, InputError, NotFoundError, SettingsError
from dlc_assets.lab.files import sha256_file, write_text
from dlc_assets.lab.lab import Lab, open_lab_folder
from dlc_assets.lab.settings import DynamicCropping
from dlc_assets.poses.table_file import read_pose_metadata, read_tracks, write_pose_table
from dlc_assets.training.models import find_version
from dlc_assets_tests.graph.small_lab import BODYPARTS, FIRST, LAB, SECOND, film, record, video_of
from dlc_assets_tests.unit.bundled_lab import (
    Brightness,
    add_network,
    analyse,
    manifest_with,
    recorded_lab,
    rewritten,
    use_network,
)

FRAMES = 12


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """A lab of which the first session is analysed by the released model."""
    use_network(monkeypatch, Brightness())
    lab = recorded_lab(tmp_path / "lab")
    add_network(lab)
    analyse(lab, FIRST)
    return lab


@pytest.fixture
def bundle(lab: Lab) -> Path:
    return write_bundle(lab, FIRST).path


def video(lab: Lab, session: str = FIRST, camera: str = "top") -> Path:
    return lab.root / video_of(session, camera)


def verified(bundle: Path, *videos: Path, **settings: Any) -> Verified:
    (only,) = verify_bundle(bundle, videos, log=lambda _: None, **settings).verified
    return only


def dlc_assets(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def members(bundle: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(bundle) as archive:
        return {entry.filename: archive.read(entry) for entry in archive.infolist()}


# --- what is in a bundle ---------------------------------------------------------------------------


def test_a_bundle_holds_poses_network_times_and_what_made_them(lab: Lab, bundle: Path) -> None:
    version = read_bundle(bundle).poses[0].version
    assert bundle == lab.layout.bundle(FIRST)
    assert set(members(bundle)) == {
        README,
        SESSION,
        MANIFEST,
        f"poses/walker@{version}/top.parquet",
        f"poses/walker@{version}/manifest.json",
        f"models/walker@{version}/snapshot.pt",
        f"models/walker@{version}/pytorch_config.yaml",
        f"models/walker@{version}/manifest.json",
        "recordings/top.times.parquet",
    }
    stated = read_bundle(bundle)
    (poses,) = stated.poses
    (of_video,) = poses.videos
    assert (of_video.name, of_video.sha256) == ("top.mp4", sha256_file(video(lab)))
    assert (of_video.size, of_video.frames) == (video(lab).stat().st_size, FRAMES)
    assert poses.software["deeplabcut"] == "3.0.2"
    assert poses.inference["precision"] == "float32"
    assert poses.tolerances == tolerances(0.6)
    assert stated.chosen_by == "the release rules of the lab: {devices: [top], model: walker}"
    assert stated.software["numpy"] == np.__version__


def test_no_video_and_no_place_of_the_lab_is_in_it(lab: Lab, bundle: Path) -> None:
    content = members(bundle)
    assert not any(name.endswith((".mp4", ".jpg", ".png")) for name in content)
    for name, data in content.items():
        assert str(lab.root).encode() not in data, name
    assert b'"weights": "weights/start.pt"' in next(
        data for name, data in content.items() if name.startswith("models/") and name.endswith("manifest.json")
    )
    recording = json.loads(content[SESSION])["recordings"][0]
    assert [file["path"] for file in recording["files"]] == ["top.mp4"]


def test_the_model_card_goes_along_without_its_picture_of_frames(lab: Lab) -> None:
    version = read_bundle(write_bundle(lab, FIRST).path).poses[0].version
    card, picture = lab.layout.model_card("walker", version), lab.layout.model_card_examples("walker", version)
    write_text(card, f"# walker\n\n![The frames](card-examples.jpg)\n\nTrained in {lab.root}/projects.\n")
    picture.write_bytes(b"a picture of frames")
    content = members(write_bundle(lab, FIRST).path)
    assert content[f"models/walker@{version}/card.md"] == b"# walker\n\nTrained in projects.\n"
    assert not any("examples" in name for name in content)


def test_the_readme_says_how_to_verify_with_the_versions_that_made_the_poses(bundle: Path) -> None:
    text = members(bundle)[README].decode()
    assert "pip install deeplabcut==3.0.2 torch==2.15.0\n" in text
    assert f"dlc-assets verify {FIRST}.zip --video top.mp4\n" in text
    assert "0.01 px" in text
    assert max(map(len, text.splitlines())) <= 200


def test_large_members_are_stored_as_they_are(bundle: Path) -> None:
    with zipfile.ZipFile(bundle) as archive:
        stored = {entry.filename: entry.compress_type == zipfile.ZIP_STORED for entry in archive.infolist()}
    assert {name.rpartition(".")[2] for name, is_stored in stored.items() if is_stored} == {"pt", "parquet"}


def test_poses_that_were_never_made_are_said_with_what_to_do(lab: Lab) -> None:
    with pytest.raises(InputError, match=rf"{SECOND} has no poses of top by walker@.*dlc-assets analyze {SECOND}"):
        write_bundle(lab, SECOND)
    assert not lab.layout.bundle(SECOND).exists()


def test_a_session_that_no_rule_covers_needs_a_model_named(lab: Lab) -> None:
    (lab.root / "lab.yaml").write_text(LAB.replace("devices: [top], model", "devices: [side], model"))
    unreleased = open_lab_folder(lab.root)
    with pytest.raises(InputError, match=r"no release rule.*--model"):
        write_bundle(unreleased, FIRST)
    assert write_bundle(unreleased, FIRST, model="walker").bundle.poses[0].recording == "top"


def test_an_older_version_can_be_named(lab: Lab) -> None:
    first = read_bundle(write_bundle(lab, FIRST).path).poses[0].version
    newer = add_network(lab, weights=b"other weights")
    with pytest.raises(InputError, match=f"no poses of top by {newer}"):
        write_bundle(lab, FIRST)
    chosen = write_bundle(lab, FIRST, model=f"walker@{first[:6]}").bundle
    assert [poses.version for poses in chosen.poses] == [first]
    assert chosen.chosen == {"model": f"walker@{first}"}


def test_a_cohorts_poses_are_bundled_from_wherever_they_are_kept(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    freeze(lab, "paper", [FIRST], reason="figure 2")
    frozen = write_bundle(lab, FIRST, cohort="paper").bundle
    use_network(monkeypatch, Brightness(lambda poses: poses + np.float32(1)))
    analyse(lab, FIRST)
    kept = write_bundle(lab, FIRST, cohort="paper").bundle
    assert kept.poses == frozen.poses
    assert kept.chosen["reason"] == "figure 2"
    assert write_bundle(lab, FIRST).bundle.poses[0].data_version != frozen.poses[0].data_version
    with pytest.raises(NotFoundError, match="no cohort"):
        write_bundle(lab, FIRST, cohort="papers")


def test_frozen_poses_of_a_video_that_was_replaced_are_still_described(lab: Lab) -> None:
    freeze(lab, "paper", [FIRST])
    before = sha256_file(video(lab))
    film(video(lab), 20, first=99)
    record(lab, FIRST)
    written = write_bundle(lab, FIRST, cohort="paper")
    (of_video,) = written.bundle.poses[0].videos
    assert (of_video.sha256, of_video.size, of_video.frames) == (before, None, None)
    assert "recordings/top.times.parquet" not in members(written.path), "these are the times of another video"


def test_custom_poses_and_poses_that_are_behind_are_said(lab: Lab) -> None:
    analyse(lab, FIRST, recordings=["top"])
    (lab.root / "lab.yaml").write_text(f"{LAB}setups: {{top: [{{crop: {{x: [0, 32]}}}}]}}\n")
    notes = write_bundle(open_lab_folder(lab.root), FIRST).bundle.notes
    assert any("would be made otherwise now (crop of top)" in note for note in notes)
    assert any("custom" in note for note in notes)


# --- where it is written ---------------------------------------------------------------------------


def test_the_same_sessions_bundle_is_replaced_and_nothing_else_is(lab: Lab, bundle: Path, tmp_path: Path) -> None:
    assert write_bundle(lab, FIRST).path == bundle
    strange = tmp_path / "thesis.zip"
    strange.write_bytes(b"years of work")
    with pytest.raises(SettingsError, match=r"thesis\.zip exists and is something else than a bundle.*--output"):
        write_bundle(lab, FIRST, output=strange)
    assert strange.read_bytes() == b"years of work"
    analyse(lab, SECOND)
    with pytest.raises(SettingsError, match=f"is the bundle of {FIRST}"):
        write_bundle(lab, SECOND, output=bundle)
    with pytest.raises(SettingsError, match="is a folder"):
        write_bundle(lab, FIRST, output=tmp_path)


def test_a_bundle_that_breaks_off_leaves_what_was_there(
    lab: Lab, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = bundle.read_bytes()

    def broken(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("dlc_assets.bundles.writing._add_times", broken)
    with pytest.raises(EnvironmentProblem, match="No space is left"):
        write_bundle(lab, FIRST)
    assert bundle.read_bytes() == before
    assert [path.name for path in bundle.parent.iterdir()] == [bundle.name]


def test_a_damaged_network_is_not_bundled(lab: Lab) -> None:
    version = read_bundle(write_bundle(lab, FIRST).path).poses[0].version
    (lab.layout.version("walker", version) / "snapshot.pt").write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"snapshot\.pt of walker@.*is damaged"):
        write_bundle(lab, FIRST)


# --- verifying -------------------------------------------------------------------------------------


def test_the_same_network_gives_the_same_poses_without_the_lab(lab: Lab, bundle: Path, tmp_path: Path) -> None:
    taken, film_taken = tmp_path / "taken.zip", tmp_path / "a name of its own.mp4"
    shutil.copy(bundle, taken)
    shutil.copy(video(lab), film_taken)
    shutil.rmtree(lab.root)
    found = verified(taken, film_taken)
    assert found.differs == []
    assert found.agreement.identical == found.agreement.positions == FRAMES * len(BODYPARTS)
    assert (found.frames_found, found.largest_time) == (FRAMES, 0.0)
    assert found.agreement.worst == []


def moved(frame: int, part: int, by: tuple[float, float, float]) -> Callable[[np.ndarray], np.ndarray]:
    """Return what moves one body part of one frame, of all that are estimated one after another."""
    seen = 0

    def nudge(poses: np.ndarray) -> np.ndarray:
        nonlocal seen
        if seen <= frame < seen + len(poses):
            poses[frame - seen, 0, part] += np.float32(by)
        seen += len(poses)
        return poses

    return nudge


@pytest.mark.parametrize(
    ("by", "reproduced"),
    [
        ((0.009, 0, 0), True),
        ((0.02, 0, 0), False),
        ((0, 0, 5e-5), True),
        ((0, 0, -2e-4), False),
        ((0, 0, -0.2), False),
        ((np.nan, np.nan, 0), False),
    ],
)
def test_one_position_beyond_the_tolerance_is_named(
    lab: Lab, bundle: Path, monkeypatch: pytest.MonkeyPatch, by: tuple[float, float, float], reproduced: bool
) -> None:
    use_network(monkeypatch, Brightness(moved(7, 1, by)))
    found = verified(bundle, video(lab))
    assert (found.differs == []) is reproduced
    assert (found.agreement.worst[0].frame, found.agreement.worst[0].bodypart) == (7, "tailbase")
    assert found.agreement.lost == (by[2] == -0.2 or np.isnan(by[0]))
    if not reproduced:
        assert "1 of 24 positions with a likelihood of 0.1 or more" in found.differs[0]


def test_what_lies_below_every_likelihood_is_not_compared_but_for_its_likelihood(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unseen(offset: float) -> Callable[[np.ndarray], np.ndarray]:
        return lambda poses: poses * np.float32([1, 1, 0.05]) + np.float32([offset, 0, 0])

    use_network(monkeypatch, Brightness(unseen(0)))
    analyse(lab, FIRST)
    path = write_bundle(lab, FIRST).path
    use_network(monkeypatch, Brightness(unseen(30)))
    found = verified(path, video(lab))
    assert (found.agreement.seen, found.agreement.elsewhere, found.differs) == (0, 24, [])
    assert "only the likelihoods were judged" in found.notes[0]
    assert "24 of 24 positions below a likelihood of 0.1 on both sides lie more than 0.01 px apart" in found.notes[1]
    use_network(monkeypatch, Brightness(lambda poses: poses * np.float32([1, 1, 0.06])))
    assert "no position is seen on either side" in verified(path, video(lab)).differs[0]


@pytest.mark.parametrize(("shift", "reproduced"), [(0.02, True), (0.045, True), (0.06, False)])
def test_a_gpu_is_given_a_wider_tolerance(
    lab: Lab, bundle: Path, monkeypatch: pytest.MonkeyPatch, shift: float, reproduced: bool
) -> None:
    use_network(monkeypatch, Brightness(lambda poses: poses + np.float32([shift, 0, 0]), device="cuda"))
    found = verified(bundle, video(lab))
    assert found.tolerance == tolerances(0.6).gpu
    assert (found.differs == []) is reproduced
    assert any("device_name cpu then, cuda here" in note for note in found.notes)


@pytest.mark.parametrize(("shift", "reproduced"), [(0.04, True), (0.06, False)])
def test_a_body_part_that_lies_aside_is_refused_where_each_position_alone_would_pass(
    lab: Lab, bundle: Path, monkeypatch: pytest.MonkeyPatch, shift: float, reproduced: bool
) -> None:
    network = Brightness(lambda poses: poses + np.float32([[0, 0, 0], [0, shift, 0]]))
    network.description["precision"] = "bfloat16"
    use_network(monkeypatch, network)
    found = verified(bundle, video(lab))
    assert found.tolerance == tolerances(0.6).reduced
    assert found.agreement.share == 1
    assert found.differs == (
        [] if reproduced else ["tailbase lies 0.06 px aside on average; at most 0.05 px is expected"]
    )


def test_a_damaged_member_is_named_and_nothing_is_estimated(
    lab: Lab, bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_network(monkeypatch, AssertionError("the network was asked"))
    table = read_bundle(bundle).poses[0].table
    changed = rewritten(bundle, tmp_path / "changed.zip", {table: b"PAR1 other poses PAR1", SESSION: None, "more": b""})
    with pytest.raises(InputError) as raised:
        verified(changed, video(lab))
    said = str(raised.value)
    assert "nothing was verified" in said
    assert f"{table}: it has another size" in said
    assert f"{SESSION}: it is missing" in said
    assert "more: the manifest does not name it" in said


def test_a_byte_that_flipped_on_a_disk_is_found(lab: Lab, bundle: Path, tmp_path: Path) -> None:
    data = bytearray(bundle.read_bytes())
    place = data.index(b"weights", data.index(b"snapshot.pt") + 1)
    data[place] ^= 1
    (tmp_path / "flipped.zip").write_bytes(data)
    with pytest.raises(InputError, match=r"snapshot\.pt: it cannot be read \(Bad CRC-32"):
        verified(tmp_path / "flipped.zip", video(lab))


def test_a_bundle_that_was_copied_in_part_is_said(lab: Lab, bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "half.zip").write_bytes(bundle.read_bytes()[:-500])
    with pytest.raises(InputError, match="damaged or was copied in part"):
        verified(tmp_path / "half.zip", video(lab))
    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as other:
        other.writestr("photo.txt", "")
    with pytest.raises(InputError, match=f"is no bundle: expected a zip file with a member {MANIFEST}"):
        verified(tmp_path / "photos.zip", video(lab))
    with pytest.raises(NotFoundError, match="there is no bundle"):
        verified(tmp_path / "none.zip", video(lab))


def test_poses_that_were_changed_with_their_hash_are_not_reproduced(lab: Lab, bundle: Path, tmp_path: Path) -> None:
    member = read_bundle(bundle).poses[0].table
    table = tmp_path / "top.parquet"
    table.write_bytes(members(bundle)[member])
    times, tracks = read_tracks(table)
    tracks[0].x[4] += 25
    write_pose_table(table, tracks, times, read_pose_metadata(table))
    forged = rewritten(bundle, tmp_path / "forged.zip", {member: table.read_bytes()}, honest=True)
    found = verified(forged, video(lab))
    assert "1 of 24 positions" in found.differs[0]
    assert found.agreement.worst[0].sentence().startswith("frame 4, snout: 25 px")


def test_a_network_that_was_changed_with_its_hash_is_not_the_version(lab: Lab, bundle: Path, tmp_path: Path) -> None:
    member = f"{read_bundle(bundle).poses[0].network}/pytorch_config.yaml"
    forged = rewritten(bundle, tmp_path / "forged.zip", {member: b"method: td\n"}, honest=True)
    with pytest.raises(InputError, match=r"is not walker@.*was changed after it was written"):
        verified(forged, video(lab))


def test_a_member_cannot_be_written_outside(lab: Lab, bundle: Path, tmp_path: Path) -> None:
    stated = read_bundle(bundle).model_dump(mode="json")["members"]
    stated.append({"name": "../outside.txt", "size": 1, "sha256": "0"})
    changes = {MANIFEST: manifest_with(bundle, members=stated), "../outside.txt": b"x"}
    with pytest.raises(InputError, match=r"\.\./outside\.txt: its name leads out of the bundle"):
        verified(rewritten(bundle, tmp_path / "evil.zip", changes), video(lab))


def test_a_bundle_of_a_later_layout_is_refused_with_who_wrote_it(lab: Lab, bundle: Path, tmp_path: Path) -> None:
    newer = {"layout": 2, "software": {"dlc-assets": "3.1.0"}, "poses": "another shape altogether"}
    later = rewritten(bundle, tmp_path / "later.zip", {MANIFEST: json.dumps(newer).encode()})
    with pytest.raises(InputError, match=r"layout 2.*written by dlc-assets 3\.1\.0.*reads layouts up to 1. Update"):
        verified(later, video(lab))


# --- which video -----------------------------------------------------------------------------------


def test_another_video_of_the_same_name_is_told_by_its_content(lab: Lab, bundle: Path) -> None:
    other = video(lab, SECOND)
    with pytest.raises(InputError, match="is not a video that these poses were made from") as raised:
        verified(bundle, other)
    assert sha256_file(other) in str(raised.value)
    assert sha256_file(video(lab)) in str(raised.value)


def test_no_video_a_missing_one_and_a_recording_that_is_not_there(lab: Lab, bundle: Path) -> None:
    with pytest.raises(SettingsError, match=r"Give --video with top\.mp4"):
        verified(bundle)
    with pytest.raises(NotFoundError, match="there is no video"):
        verified(bundle, lab.root / "gone.mp4")
    with pytest.raises(NotFoundError, match=r'no recording "tob"\. Did you mean "top"'):
        verified(bundle, video(lab), recording="tob")


@pytest.fixture
def two_cameras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, dict[str, Path]]:
    """The bundle of a session with a camera of two files and one of one file, cropped; and its videos."""
    use_network(monkeypatch, Brightness())
    root = tmp_path / "two"
    text = LAB.replace("{camera}.mp4", "{camera}-{part}.mp4").replace("[top]", "[top, side]")
    crop = "setups: {side: [{crop: {x: [8, 40], y: [4, 44]}}]}\n"
    folder = root / "recordings/m01/20260501"
    videos = {
        "top-1": film(folder / "top-1.mp4", 6),
        "top-2": film(folder / "top-2.mp4", 9, first=40),
        "side-1": film(folder / "side-1.mp4", 5, first=20),
    }
    (folder / "session.yaml").write_text("start: 2026-05-01T10:00:00\n")
    (root / "lab.yaml").write_text(text + crop)
    lab = open_lab_folder(root)
    record(lab, FIRST)
    add_network(lab)
    analyse(lab, FIRST)
    return write_bundle(lab, FIRST).path, videos


def test_parts_of_a_recording_are_put_in_order_and_all_are_needed(
    two_cameras: tuple[Path, dict[str, Path]],
) -> None:
    bundle, videos = two_cameras
    found = verify_bundle(bundle, [videos["top-2"], videos["top-1"]], log=lambda _: None)
    assert found.reproduced
    assert found.not_verified == ["side"]
    (top,) = found.verified
    assert top.videos == [videos["top-1"], videos["top-2"]]
    assert (top.frames_found, top.agreement.identical) == (15, 30)
    assert top.largest_time is not None
    assert top.largest_time < 1e-9
    with pytest.raises(InputError, match=r'"top" is in 2 files, and top-2\.mp4 is not given'):
        verified(bundle, videos["top-1"])


def test_a_crop_is_used_again_and_videos_of_several_recordings_go_together(
    two_cameras: tuple[Path, dict[str, Path]],
) -> None:
    bundle, videos = two_cameras
    found = verify_bundle(bundle, list(videos.values()), log=lambda _: None)
    assert {one.poses.recording: one.poses.crop for one in found.verified} == {"side": (8, 40, 4, 44), "top": None}
    assert found.reproduced
    assert found.not_verified == []
    assert verified(bundle, videos["side-1"], recording="side").differs == []
    with pytest.raises(SettingsError, match='is a video of the recording "top", not of "side"'):
        verified(bundle, videos["top-1"], videos["top-2"], recording="side")


@pytest.mark.parametrize("frames", [1, 6, 7, 14])
def test_a_quick_look_compares_the_first_frames_and_says_so(
    two_cameras: tuple[Path, dict[str, Path]], frames: int
) -> None:
    bundle, videos = two_cameras
    found = verified(bundle, videos["top-1"], videos["top-2"], frames=frames)
    assert found.agreement.frames == frames
    assert found.agreement.identical == 2 * frames
    assert (found.frames_found, found.largest_time) == (None, None)
    assert f"only the first {frames} of 15 frames" in "".join(found.notes)
    whole = verify_bundle(bundle, [videos["top-1"], videos["top-2"]], frames=99, log=lambda _: None)
    assert (whole.frames, whole.verified[0].frames_found) == (None, 15)


# --- frames and times ------------------------------------------------------------------------------


def test_times_from_a_file_cannot_come_from_the_video_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_network(monkeypatch, Brightness())
    stamped = LAB.replace('{camera}.mp4"', '{camera}.mp4", timestamps: {file: "{stem}.npy", unit: s}')
    root = tmp_path / "lab"
    path = film(root / video_of(FIRST))
    np.save(path.with_suffix(".npy"), np.arange(FRAMES) * 0.05 + 3)
    (path.parent / "session.yaml").write_text("start: 2026-05-01T10:00:00\n")
    (root / "lab.yaml").write_text(stamped)
    lab = open_lab_folder(root)
    record(lab, FIRST)
    add_network(lab)
    analyse(lab, FIRST)
    found = verified(write_bundle(lab, FIRST).path, path)
    assert found.differs == []
    assert found.largest_time is None
    assert any(
        "cannot be computed again from the video: they are time stamps of top.npy" in note for note in found.notes
    )


def with_table(bundle: Path, target: Path, change: Callable[[np.ndarray], np.ndarray], frames: int = FRAMES) -> Path:
    """Return the bundle with other times in its table, or fewer frames, as if another decoder had made it."""
    member, table = read_bundle(bundle).poses[0].table, target.with_suffix(".parquet")
    table.write_bytes(members(bundle)[member])
    times, tracks = read_tracks(table)
    cut = [
        type(track)(track.individual, track.bodypart, track.x[:frames], track.y[:frames], track.likelihood[:frames])
        for track in tracks
    ]
    write_pose_table(table, cut, change(times)[:frames], read_pose_metadata(table))
    stated = read_bundle(bundle).model_dump(mode="json")["poses"]
    stated[0]["frames"] = frames
    changes = {member: table.read_bytes(), MANIFEST: manifest_with(bundle, poses=stated)}
    return rewritten(bundle, target, changes, honest=True)


def test_times_that_are_not_the_videos_are_said(lab: Lab, bundle: Path, tmp_path: Path) -> None:
    late = with_table(bundle, tmp_path / "late.zip", lambda times: times * 1.01)
    assert "the times of the frames differ by up to 0.0044 s" in verified(late, video(lab)).differs[0]
    moved_start = with_table(bundle, tmp_path / "offset.zip", lambda times: times + 3600)
    assert verified(moved_start, video(lab)).differs == [], "the session's clock may begin anywhere"


def test_another_number_of_frames_is_said_and_those_of_both_are_compared(
    lab: Lab, bundle: Path, tmp_path: Path
) -> None:
    fewer = with_table(bundle, tmp_path / "fewer.zip", lambda times: times, frames=10)
    found = verified(fewer, video(lab))
    assert "12 frames can be decoded here, and the table has 10" in found.differs[0]
    assert (found.agreement.frames, found.agreement.identical) == (10, 20)


# --- other versions of DeepLabCut ------------------------------------------------------------------


def install(monkeypatch: pytest.MonkeyPatch, **versions: str) -> None:
    now = {"dlc-assets": "0.1.0", **versions}
    monkeypatch.setattr("dlc_assets.bundles.verifying.installed", lambda: now)


def test_a_deeplabcut_that_cannot_load_it_is_said_with_the_one_that_can(
    lab: Lab, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, deeplabcut="4.1.0", torch="3.0.0")
    use_network(monkeypatch, TypeError("get_pose_inference_runner() got an unexpected keyword argument 'dynamic'"))
    with pytest.raises(EnvironmentProblem) as raised:
        verified(bundle, video(lab))
    said = str(raised.value)
    assert "were made with DeepLabCut 3.0.2 and torch 2.15.0" in said
    assert (
        "DeepLabCut 4.1.0 with torch 3.0.0 is installed here, and cannot load this network: TypeError: get_pose" in said
    )
    assert "pip install deeplabcut==3.0.2 torch==2.15.0" in said


def test_a_deeplabcut_that_loads_it_and_then_fails_is_said_likewise(
    lab: Lab, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: np.ndarray) -> np.ndarray:
        raise AttributeError("'PoseModel' object has no attribute 'heads'")

    install(monkeypatch, deeplabcut="4.1.0", torch="3.0.0")
    use_network(monkeypatch, Brightness(broken))
    with pytest.raises(EnvironmentProblem, match="cannot run this network: AttributeError: 'PoseModel'"):
        verified(bundle, video(lab))


def test_without_deeplabcut_it_is_said_what_to_install(lab: Lab, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, torch="2.15.0")
    use_network(monkeypatch, ModuleNotFoundError("No module named 'deeplabcut'"))
    with pytest.raises(
        EnvironmentProblem, match=r"DeepLabCut is not installed here. Install it: pip install deeplabcut==3"
    ):
        verified(bundle, video(lab))


def test_with_the_same_versions_no_other_is_recommended(
    lab: Lab, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, deeplabcut="3.0.2", torch="2.15.0")
    use_network(monkeypatch, InputError("the weights do not fit"))
    with pytest.raises(
        EnvironmentProblem, match="cannot load this network: the weights do not fit\nThe versions are the same"
    ):
        verified(bundle, video(lab))


def test_other_versions_are_listed_though_the_poses_agree(
    lab: Lab, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = {**software.installed(), "deeplabcut": "3.1.0", "torch": "2.15.0"}
    monkeypatch.setattr("dlc_assets.bundles.verifying.installed", lambda: now)
    found = verify_bundle(bundle, [video(lab)], log=lambda _: None)
    assert found.reproduced
    assert found.software == ["deeplabcut 3.0.2 then, 3.1.0 here"]


def test_a_gpu_that_is_not_there_is_no_fault_of_deeplabcut(
    lab: Lab, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(EnvironmentProblem, match="a GPU was asked for"):
        verified(bundle, video(lab), device="gpu")
    with pytest.raises(SettingsError, match="expected cpu or gpu"):
        verified(bundle, video(lab), device="tpu")


# --- the settings of the analysis, again ---------------------------------------------------------------


def test_dynamic_cropping_is_used_again_as_it_was_then(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    dynamic = DynamicCropping(threshold=0.35, margin=25)
    analyse(lab, FIRST, dynamic=dynamic, dynamic_cropping=True)
    written = write_bundle(lab, FIRST)
    assert written.bundle.poses[0].dynamic_cropping == dynamic
    assert "dynamic cropping, threshold 0.35, margin 25 px" in members(written.path)[README].decode()
    asked = use_network(monkeypatch, Brightness())
    assert verified(written.path, video(lab)).differs == []
    assert [one.dynamic for one in asked] == [dynamic]


def test_another_snapshot_than_the_best_goes_along_and_is_loaded(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    version = find_version(lab.layout, "walker")
    other = version.folder / "snapshots" / "snapshot-3.pt"
    other.parent.mkdir()
    other.write_bytes(b"weights of the third epoch")
    row = {"epoch": 3, "file": "snapshots/snapshot-3.pt", "sha256": sha256_file(other)}
    unused = {"epoch": 2, "file": "snapshots/snapshot-2.pt", "sha256": "0"}
    manifest = version.manifest
    manifest.details["snapshots"] = [row, unused]
    manifest.write(version.folder)
    analyse(lab, FIRST, snapshot="3")
    written = write_bundle(lab, FIRST)
    assert f"models/{version}/snapshots/snapshot-3.pt" in members(written.path)
    asked = use_network(monkeypatch, Brightness())
    assert verified(written.path, video(lab)).differs == []
    assert [(one.snapshot, one.weights) for one in asked] == [("3", b"weights of the third epoch")]


@pytest.mark.parametrize("here", ["bfloat16", None])
def test_a_reduced_precision_is_used_again_where_the_machine_has_it(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, here: str | None
) -> None:
    network = Brightness()
    network.description["precision"] = "bfloat16"
    use_network(monkeypatch, network)
    analyse(lab, FIRST)
    path = write_bundle(lab, FIRST).path
    monkeypatch.setattr("dlc_assets.engine.estimator.reduced_precision", lambda _: here)
    asked = use_network(monkeypatch, Brightness(lambda poses: poses + np.float32([0.04, 0, 0])))
    found = verified(path, video(lab))
    assert [one.precision for one in asked] == [here or "float32"]
    assert found.tolerance == tolerances(0.6).reduced
    assert found.differs == []
    assert any("this machine is not made for" in note for note in found.notes) is (here is None)


@pytest.mark.parametrize(("gpus", "device", "batch"), [((), "cpu", None), (("0",), "cuda", 4)])
def test_poses_of_a_gpu_are_made_again_on_one_where_there_is_one(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, gpus: tuple[str, ...], device: str, batch: int | None
) -> None:
    use_network(monkeypatch, Brightness(device="cuda"))
    analyse(lab, FIRST)
    path = write_bundle(lab, FIRST).path
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", ",".join(gpus))
    network = Brightness(device=device)
    asked = use_network(monkeypatch, network)
    found = verified(path, video(lab))
    assert [one.device for one in asked] == [device]
    assert network.stated_batch == batch
    assert found.tolerance == tolerances(0.6).gpu


# --- the commands ----------------------------------------------------------------------------------


def test_the_commands_end_with_statuses_that_scripts_can_trust(
    lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "shared.zip"
    made = dlc_assets("bundle", FIRST, "--output", target, "--lab", lab.root, "--json")
    assert made.exit_code == 0, made.output
    told = json.loads(made.stdout)
    assert (told["ok"], told["bundle"], told["bytes"]) == (True, str(target), target.stat().st_size)
    same = dlc_assets("verify", target, "--video", video(lab), "--json")
    assert same.exit_code == 0, same.output
    answer = json.loads(same.stdout)
    assert answer["ok"] is True
    assert answer["recordings"][0]["frames"] == {"table": FRAMES, "video": FRAMES, "compared": FRAMES}
    use_network(monkeypatch, Brightness(lambda poses: poses + np.float32([0, 3, 0])))
    other = dlc_assets("verify", target, "--video", video(lab), "--json")
    assert other.exit_code == 1
    answer = json.loads(other.stdout)
    assert answer["ok"] is False
    assert answer["recordings"][0]["largest_px"] == pytest.approx(3, abs=1e-5)
    assert dlc_assets("verify", target).exit_code == 2
    assert dlc_assets("verify", target, "--video", video(lab, SECOND)).exit_code == 1
    assert dlc_assets("bundle", "ses-none", "--lab", lab.root).exit_code == 2


def test_people_are_told_what_differs_and_where(lab: Lab, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    same = dlc_assets("verify", bundle, "--video", video(lab))
    assert "every position is the same, to the last bit" in same.stdout
    assert "Reproduced: the poses are those of the bundle, within the tolerance." in same.stdout
    use_network(monkeypatch, Brightness(moved(3, 0, (0, 12, 0))))
    quick = dlc_assets("verify", bundle, "--video", video(lab), "--frames", 5)
    assert quick.exit_code == 1
    assert "beyond the tolerance: frame 3, snout: 12 px" in quick.stdout
    assert "NOT reproduced in the first 5 frames." in quick.stdout
    assert "only the first 5 of 12 frames were looked at" in quick.stderr
