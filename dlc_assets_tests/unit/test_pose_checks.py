"""The checks of pose tables: what is put in is found by the check that was made for it, and clean poses pass."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from fractions import Fraction
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from dlc_assets.checks.outcomes import CHECKS
from dlc_assets.demo.scene import BODYPARTS, Scene, SceneSettings
from dlc_assets.inference.pose_tables import pose_inputs
from dlc_assets.lab.errors import SettingsError
from dlc_assets.lab.keys import pose_key
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.manifest import Manifest, read_manifest
from dlc_assets.poses.schema import PoseMetadata, Track
from dlc_assets.poses.table_file import write_pose_table
from dlc_assets.recordings.info import need_session_info, write_times
from dlc_assets.review.checks.motion import side_pairs
from dlc_assets.review.findings import Finding
from dlc_assets.review.pose_checks import QUESTIONS, check_poses
from dlc_assets.training.models import find_version
from dlc_assets_tests.unit.released_lab import LAB, add_session, add_version, reopened, write_lab

SESSION = "sub-m01_ses-1"
FRAMES, RATE = 240, 25
SKELETON = [["snout", "leftear"], ["snout", "rightear"], ["bodycenter", "tailbase"]]
Tracks = dict[tuple[str, str], np.ndarray]


@cache
def _walk() -> tuple[np.ndarray, np.ndarray]:
    """Return where the demo's animal goes, (frames, body parts, 2) px, and whether each body part is seen."""
    scene = Scene(SceneSettings(frames=FRAMES, fps=Fraction(RATE), seed=4, subject_seed=1))
    frames = list(scene.frames())
    return np.stack([points for _, points, _ in frames]), np.stack([visible for *_, visible in frames])


def clean() -> Tracks:
    """Return the walk as a good network gives it: half a pixel off, sure of what can be seen. (3, frames) each."""
    points, visible = _walk()
    rng = np.random.default_rng(1)
    noisy = points + rng.normal(0, 0.5, points.shape)
    likelihood = np.where(visible, 0.97, 0.3)
    return {
        ("", part): np.stack([noisy[:, place, 0], noisy[:, place, 1], likelihood[:, place]]).astype(np.float32)
        for place, part in enumerate(BODYPARTS)
    }


def checked_lab(tmp_path: Path, tracks: Tracks, settings: str = "", times: np.ndarray | None = None) -> Lab:
    """Write a lab with one session, whose poses are *tracks*; *times* are those of the table, where they are other than the video's."""
    lab = write_lab(tmp_path / "lab", LAB + settings)
    frames = next(iter(tracks.values())).shape[1]
    add_session(lab, SESSION, date(2026, 5, 1))
    manifest = read_manifest(lab.layout.session_recordings(SESSION))
    assert manifest is not None
    manifest.details["recordings"][0] |= {"width": 256, "height": 192, "frame_count": frames, "rate": str(RATE)}
    manifest.write(lab.layout.session_recordings(SESSION))
    right = np.arange(frames) / RATE
    write_times(lab.layout.recording_times(SESSION, "top"), right, [frames])
    add_version(lab)
    _write_poses(lab, tracks, right if times is None else times)
    return reopened(lab)


def _write_poses(lab: Lab, tracks: Tracks, times: np.ndarray) -> None:
    version = find_version(lab.layout, "walker")
    session, _ = need_session_info(lab.layout, SESSION)
    metadata = PoseMetadata(
        model="walker",
        version=version.version,
        session=SESSION,
        recording="top",
        frame_count=len(times),
        bodyparts=list(dict.fromkeys(part for _, part in tracks)),
        individuals=list(dict.fromkeys(who for who, _ in tracks if who)),
        skeleton=SKELETON,
        pcutoff=0.6,
    )
    summary = write_pose_table(
        lab.layout.pose_file("walker", version.version, SESSION, "top"),
        [Track(*name, *values) for name, values in tracks.items()],
        times,
        metadata,
    )
    row = {"recording": "top", "device": "top", "frames": len(times), "data_version": summary.data_version}
    Manifest(
        asset="pose_table",
        key=pose_key("walker", SESSION),
        inputs=pose_inputs(lab, "walker", session),
        data_version=summary.data_version,
        details={
            "model": "walker",
            "version": version.version,
            "session": SESSION,
            "pcutoff": 0.6,
            "recordings": [row],
        },
    ).write(lab.layout.pose_folder("walker", version.version, SESSION))


def poses_of(lab: Lab) -> Manifest:
    found = next(lab.layout.poses.glob("model=*/version=*/session=*"))
    manifest = read_manifest(found)
    assert manifest is not None
    return manifest


def findings(lab: Lab) -> dict[str, Finding]:
    return {finding.check: finding for finding in check_poses(lab, poses_of(lab))}


def failing(lab: Lab) -> list[str]:
    return [name for name, finding in findings(lab).items() if not finding.passed]


def test_clean_poses_pass_every_check(tmp_path: Path) -> None:
    lab = checked_lab(tmp_path, clean())
    found = findings(lab)
    assert list(found) == list(QUESTIONS)
    assert {name: one.sentence for name, one in found.items() if not one.passed} == {}
    assert found["jumps"].sentence == "top: no body part jumps."


def _swap(tracks: Tracks) -> set[int]:
    left, right = tracks["", "leftear"], tracks["", "rightear"]
    seen = (left[2] > 0.6) & (right[2] > 0.6)
    first = next(frame for frame in range(20, FRAMES) if seen[frame - 1 : frame + 31].all())
    here = slice(first, first + 30)
    left[:2, here], right[:2, here] = right[:2, here].copy(), left[:2, here].copy()
    return {first, first + 30}


def _stick(tracks: Tracks) -> set[int]:
    tracks["", "snout"][:2, 60:160] = tracks["", "snout"][:2, 60:61]
    tracks["", "snout"][2] = 0.97
    return {60}


def _jump(tracks: Tracks) -> set[int]:
    tracks["", "tailbase"][:, 150] = (3, 3, 0.99)
    tracks["", "tailbase"][2, 145:156] = 0.97
    return {150}


def _lose(tracks: Tracks) -> set[int]:
    for values in tracks.values():
        values[:, 80 : 80 + RATE] = (np.nan, np.nan, 0)[0]
    return {80}


def _stray(tracks: Tracks) -> set[int]:
    tracks["", "snout"][0, 40:60] = 300
    return {40}


def _stretch(tracks: Tracks) -> set[int]:
    tracks["", "leftear"][0, 20:40] = tracks["", "snout"][0, 20:40] + 90
    return {20}


@pytest.mark.parametrize(
    ("put_in", "check"),
    [
        (_swap, "swaps"),
        (_stick, "stuck"),
        (_jump, "jumps"),
        (_lose, "long_absences"),
        (_stray, "outside"),
        (_stretch, "limb_lengths"),
    ],
)
def test_a_fault_is_found_by_the_check_that_is_made_for_it_and_where_it_is(
    tmp_path: Path, put_in: Callable[[Tracks], set[int]], check: str
) -> None:
    tracks = clean()
    frames = put_in(tracks)
    found = findings(checked_lab(tmp_path, tracks))[check]
    assert not found.passed
    assert found.value is not None
    covered = {frame for m in found.moments for frame in range(m.first_frame, m.last_frame + 1)}
    assert frames <= covered
    assert found.sentence.startswith("top: ")


def test_two_ears_that_change_places_do_not_count_as_jumping(tmp_path: Path) -> None:
    tracks = clean()
    _swap(tracks)
    assert failing(checked_lab(tmp_path, tracks)) == ["swaps"]


def test_a_second_whose_frames_are_lost_is_found_by_the_frames(tmp_path: Path) -> None:
    lab = checked_lab(tmp_path, clean())
    shorter = {name: np.delete(values, slice(100, 100 + RATE), axis=1) for name, values in clean().items()}
    _write_poses(lab, shorter, np.arange(FRAMES - RATE) / RATE)
    found = findings(reopened(lab))["frames_match"]
    assert (found.passed, found.severity) == (False, "error")
    assert f"{FRAMES - RATE} of the poses, {FRAMES} of the recording" in found.sentence


def test_times_that_were_corrected_since_are_found(tmp_path: Path) -> None:
    times = np.arange(FRAMES) / RATE
    times[200:] += 1e-6
    found = findings(checked_lab(tmp_path, clean(), times=times))["frames_match"]
    assert (found.passed, found.moments[0].first_frame) == (False, 200)
    assert "40 of 240 frames have another time" in found.sentence


def test_two_animals_that_change_places_are_found(tmp_path: Path) -> None:
    one = {("a", part): values for (_, part), values in clean().items()}
    rng = np.random.default_rng(2)
    other = {
        ("b", part): np.stack(
            [255 - values[0] + rng.normal(0, 0.3, FRAMES), 191 - values[1], np.full(FRAMES, 0.97)]
        ).astype(np.float32)
        for (_, part), values in clean().items()
    }
    lab = checked_lab(tmp_path / "clean", one | other)
    assert findings(lab)["swaps"].passed
    for part in BODYPARTS:
        a, b = one["a", part], other["b", part]
        a[:, 50:90], b[:, 50:90] = b[:, 50:90].copy(), a[:, 50:90].copy()
    found = findings(checked_lab(tmp_path / "swapped", one | other))["swaps"]
    assert not found.passed
    assert {m.what for m in found.moments} >= {"a and b change places"}


def test_a_network_that_is_less_sure_than_of_its_labeled_frames_is_found(tmp_path: Path) -> None:
    import pandas as pd

    tracks = clean()
    tracks["", "snout"][2] = np.where(np.arange(FRAMES) % 2, 0.97, 0.3)
    lab = checked_lab(tmp_path, tracks)
    place = lab.layout.evaluation("walker", poses_of(lab).details["version"])
    images = [f"img{number:03}.png" for number in range(40)]
    labeled = pd.DataFrame({"folder": "a", "image": images, "bodypart": "snout", "likelihood": 0.95})
    labeled.to_parquet(place / "estimates.parquet")
    labeled.assign(set="benchmark").to_parquet(place / "errors.parquet")
    found = findings(lab)["drift"]
    assert (found.passed, found.value) == (False, pytest.approx(0.5, abs=0.1))
    assert "snout reaches the p-cutoff" in found.sentence


def test_severity_and_limits_are_the_labs(tmp_path: Path) -> None:
    tracks = clean()
    _jump(tracks)
    strict = checked_lab(tmp_path / "strict", tracks, "checks: {jumps: {severity: error}, swaps: {severity: off}}\n")
    found = findings(strict)
    assert (found["jumps"].passed, found["jumps"].severity, "swaps" in found) == (False, "error", False)
    mild = checked_lab(tmp_path / "mild", tracks, "checks: {jumps: {max_per_minute: 20}}\n")
    assert findings(mild)["jumps"].passed
    assert findings(mild)["jumps"].moments, "what is allowed can be looked at all the same"
    outcome = CHECKS["pose_table"]["swaps"](poses_of(strict), strict.root)
    assert (outcome.passed, outcome.description) == (True, "lab.yaml says checks.swaps.severity: off")


@pytest.mark.parametrize("frames", [1, 2])
def test_a_recording_of_one_or_two_frames_is_checked(tmp_path: Path, frames: int) -> None:
    tracks = {name: values[:, :frames] for name, values in clean().items()}
    found = findings(checked_lab(tmp_path, tracks))
    assert not [one.sentence for one in found.values() if "could not be done" in one.sentence]


def test_a_session_without_any_detection_is_said_and_nothing_else_breaks(tmp_path: Path) -> None:
    nothing = {name: np.full_like(values, np.nan) for name, values in clean().items()}
    found = findings(checked_lab(tmp_path, nothing))
    assert [name for name, one in found.items() if not one.passed] == ["body_parts_found", "long_absences"]
    assert "the animal is not seen for 9.6 s" in found["long_absences"].sentence
    assert not [one.sentence for one in found.values() if "could not be done" in one.sentence]


def test_poses_without_likelihoods_count_as_detected(tmp_path: Path) -> None:
    tracks = clean()
    for values in tracks.values():
        values[2] = np.nan
    assert failing(checked_lab(tmp_path, tracks)) == []


def test_a_check_that_cannot_be_done_says_why_and_the_others_speak(tmp_path: Path) -> None:
    lab = checked_lab(tmp_path, clean())
    lab.layout.recording_times(SESSION, "top").write_bytes(b"nonsense")
    found = findings(lab)
    assert [name for name, one in found.items() if not one.passed] == ["frames_match"]
    assert found["frames_match"].sentence.startswith("This check could not be done: ArrowInvalid")
    next(lab.layout.poses.rglob("*.parquet")).unlink()
    manifest = poses_of(lab)
    manifest.data_version = "another"
    gone = check_poses(lab, manifest)
    assert all(not one.passed and "could not be done" in one.sentence for one in gone)


def test_body_parts_that_differ_in_their_side_are_paired() -> None:
    names = [
        "nose",
        "left_ear",
        "right_ear",
        "paw_L",
        "paw_R",
        "LHip",
        "RHip",
        "tail",
        "tair",
        "l_eye",
        "r_eye",
        "Lick",
    ]
    assert side_pairs(names) == [("left_ear", "right_ear"), ("paw_L", "paw_R"), ("LHip", "RHip"), ("l_eye", "r_eye")]


def test_the_arena_is_kept_with_a_margin(tmp_path: Path) -> None:
    points, visible = _walk()
    low, high = points[visible].min(axis=0) - 1, points[visible].max(axis=0) + 1
    arena = f"[[{low[0]:.0f}, {low[1]:.0f}], [{high[0]:.0f}, {high[1]:.0f}]]"
    inside = checked_lab(tmp_path / "in", clean(), f"setups: {{top: [{{arena: {arena}}}]}}\n")
    assert findings(inside)["outside"].passed
    small = checked_lab(
        tmp_path / "out", clean(), "setups: {top: [{arena: {circle: {center: [128, 96], radius: 20}}}]}\n"
    )
    found = findings(small)["outside"]
    assert not found.passed
    assert "outside the arena" in found.moments[0].what


@pytest.mark.parametrize("stated", ["off", "{severity: off}", "{severity: 'off'}"])
def test_a_check_is_turned_off_as_people_write_it(tmp_path: Path, stated: str) -> None:
    lab = checked_lab(tmp_path, clean(), f"checks: {{jumps: {stated}, drift: error}}\n")
    assert "jumps" not in findings(lab)
    assert lab.settings.checks.drift.severity == "error"


def test_another_word_than_a_severity_is_refused(tmp_path: Path) -> None:
    said = r"checks\.jumps\.severity: expected 'warn', 'error' or 'off', got 'never'"
    with pytest.raises(SettingsError, match=said):
        write_lab(tmp_path / "lab", LAB + "checks: {jumps: never}\n")


def test_what_is_beyond_the_labs_own_speed_is_a_jump(tmp_path: Path) -> None:
    scale = "setups: {top: [{scale: {px_per_cm: 8}}]}\n"
    calm = checked_lab(tmp_path / "calm", clean(), scale + "checks: {jumps: {max_cm_per_s: 300}}\n")
    assert findings(calm)["jumps"].passed
    tracks = clean()
    _jump(tracks)
    strict = findings(checked_lab(tmp_path / "strict", tracks, scale + "checks: {jumps: {max_cm_per_s: 300}}\n"))[
        "jumps"
    ]
    assert not strict.passed
    assert "cm/s" in strict.moments[0].what
    mild = checked_lab(tmp_path / "mild", tracks, scale + "checks: {jumps: {max_cm_per_s: 5000}}\n")
    assert findings(mild)["jumps"].passed


def test_limbs_can_be_stated_where_the_model_has_none(tmp_path: Path) -> None:
    tracks = clean()
    tracks["", "tailbase"][0, 20:40] = tracks["", "snout"][0, 20:40] + 200
    usual = findings(checked_lab(tmp_path / "usual", tracks))["limb_lengths"]
    assert list(usual.details["top"]) == [f"{one} to {other}" for one, other in SKELETON]
    stated = "checks: {limb_lengths: {pairs: [[snout, tailbase], [snout, whisker]]}}\n"
    found = findings(checked_lab(tmp_path / "stated", tracks, stated))["limb_lengths"]
    assert list(found.details["top"]) == ["snout to tailbase"]
    assert not found.passed


def test_two_paws_are_no_measure_of_a_mouse(tmp_path: Path) -> None:
    """They swing by their own distance many times a second, one rests while the other moves: no fault of the network."""
    seconds = np.arange(FRAMES) / RATE
    moving = np.stack([80 + 25 * np.sin(14 * seconds), 90 + 10 * np.cos(14 * seconds), np.full(FRAMES, 0.97)])
    resting = np.stack([np.full(FRAMES, 100.0), np.full(FRAMES, 95.0), np.full(FRAMES, 0.97)])
    paws = {("", "paw_l"): moving.astype(np.float32), ("", "paw_r"): resting.astype(np.float32)}
    assert failing(checked_lab(tmp_path / "paws", paws)) == []
    paws["", "paw_l"][:2, 100] = (250, 10)
    assert failing(checked_lab(tmp_path / "jump", paws)) == ["jumps"]


def test_a_point_that_is_still_within_a_long_sleep_is_no_fault_but_one_that_is_left_behind_after_it_is(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(3)
    asleep = 4_000
    tracks = {}
    for name, values in clean().items():
        sleeping = np.repeat(values[:, :1], asleep, axis=1)
        sleeping[:2] += rng.normal(0, 0.2, (2, asleep))
        sleeping[2] = 0.97
        tracks[name] = np.concatenate([sleeping, values], axis=1).astype(np.float32)
    assert findings(checked_lab(tmp_path / "asleep", tracks))["stuck"].passed
    tracks["", "snout"][:2, asleep:] = tracks["", "snout"][:2, asleep - 1 : asleep]
    tracks["", "snout"][2, asleep:] = 0.97
    found = findings(checked_lab(tmp_path / "left", tracks))["stuck"]
    assert not found.passed
    assert found.moments[0].first_frame <= asleep < found.moments[0].last_frame


def test_a_check_that_fails_itself_never_stops_a_pose_table_and_is_a_warning(tmp_path: Path) -> None:
    lab = checked_lab(tmp_path, clean(), "checks: {jumps: error}\n")
    next(lab.layout.poses.rglob("*.parquet")).write_bytes(b"nonsense")
    outcome = CHECKS["pose_table"]["jumps"](poses_of(lab), lab.root)
    assert (outcome.passed, outcome.severity.value) == (False, "WARN")
    assert "could not be done" in outcome.description
    lab.layout.settings_file.write_text("checks: [")
    outcome = CHECKS["pose_table"]["jumps"](poses_of(lab), lab.root)
    assert (outcome.passed, outcome.severity.value) == (False, "WARN")
    assert "not valid YAML" in outcome.description


def test_findings_follow_what_they_were_made_from(tmp_path: Path) -> None:
    lab = checked_lab(tmp_path, clean())
    assert findings(lab)["frames_match"].passed
    times = lab.layout.recording_times(SESSION, "top")
    write_times(times, np.arange(FRAMES) / RATE + 1, [FRAMES])
    probed = read_manifest(lab.layout.session_recordings(SESSION))
    assert probed is not None
    probed.data_version = "probed again"
    probed.write(lab.layout.session_recordings(SESSION))
    assert not findings(lab)["frames_match"].passed


def test_a_camera_that_nobody_can_vouch_for_is_a_warning_though_one_that_moved_is_an_error(tmp_path: Path) -> None:
    lab = checked_lab(tmp_path, clean(), "setups: {top: [{reference: nowhere.png}]}\n")
    found = findings(lab)["camera_moved"]
    assert (found.passed, found.severity) == (False, "warn")
    assert lab.settings.checks.camera_moved.severity == "error"


def test_every_body_part_that_is_seldom_found_is_named(tmp_path: Path) -> None:
    tracks = clean()
    for part in ("snout", "leftear", "tailbase", "bodycenter"):
        tracks["", part][2, : FRAMES * 3 // 4] = 0.1
    said = findings(checked_lab(tmp_path, tracks))["body_parts_found"].sentence
    assert sum(part in said for part in ("snout", "leftear", "tailbase", "bodycenter")) == 3
    assert "and 1 more" in said
