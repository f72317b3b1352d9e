"""Whether a camera has moved: pictures are registered to a tenth of a pixel, and nobody is told all is well who cannot know."""

from __future__ import annotations

from datetime import date
from fractions import Fraction
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from dlc_assets.demo.files import encode_video
from dlc_assets.demo.scene import Scene, SceneSettings
from dlc_assets.lab.files import sha256_file
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.manifest import read_manifest
from dlc_assets.recordings.info import need_session_info
from dlc_assets.review.camera import CameraShift, camera_hashes, camera_shift
from dlc_assets.review.registration import register
from dlc_assets_tests.unit.released_lab import add_session, reopened, write_lab

FIRST, LATER = "sub-m01_ses-1", "sub-m01_ses-2"


@cache
def pictures(seed: int = 4, frames: int = 20) -> list[np.ndarray]:
    scene = Scene(SceneSettings(frames=frames, fps=Fraction(25), seed=seed, subject_seed=1))
    return [picture for picture, _, _ in scene.frames()]


def moved(picture: np.ndarray, dx: float, dy: float, degrees: float) -> np.ndarray:
    """Return *picture* as a camera sees it whose picture is turned clockwise about its center, and shifted."""
    height, width = picture.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), -degrees, 1.0)
    matrix[:, 2] += (dx, dy)
    return cv2.warpAffine(picture, matrix, (width, height), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT)


def gray(picture: np.ndarray) -> np.ndarray:
    return cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)


@pytest.mark.parametrize(
    ("dx", "dy", "degrees"), [(0, 0, 0), (0.4, -0.3, 0), (12, 7, 0), (-3, 2, 1.5), (25, -18, 4), (0, 0, -0.5)]
)
def test_shift_and_rotation_are_found_to_a_fraction_of_a_pixel(dx: float, dy: float, degrees: float) -> None:
    scene = pictures(frames=20)
    # another time of the day, and the animal elsewhere
    later = np.clip(moved(scene[-1], dx, dy, degrees).astype(float) * 0.8 + 12, 0, 255).astype(np.uint8)
    found = register(gray(scene[0]), gray(later))
    assert found is not None
    assert np.hypot(found.dx - dx, found.dy - dy) < 0.5
    assert abs(found.rotation - degrees) < 0.2


def test_a_shift_of_a_real_rig_is_found(real_data: Path) -> None:
    from dlc_assets.video.frames import read_frames

    video = real_data / "openfield" / "videos" / "m3v1mp4.mp4"
    early, late = range(0, 1000, 80), range(1000, 2000, 80)
    frames = read_frames(video, [*early, *late])
    one, other = (np.median([gray(frames[at]) for at in half], axis=0).astype(np.uint8) for half in (early, late))
    still = register(one, other)
    assert still is not None
    assert np.hypot(still.dx, still.dy) < 0.5
    found = register(one, moved(other, 9.3, -4.6, 0.8))
    assert found is not None
    np.testing.assert_allclose((found.dx, found.dy), (9.3, -4.6), atol=0.5)
    assert found.rotation == pytest.approx(0.8, abs=0.2)


def _arena(text: str = "", animal: tuple[int, int] | None = None, *, walls: bool = True) -> np.ndarray:
    """Return a plain floor in light that falls off slowly, maybe with walls around it, a time stamp in the picture, an animal asleep."""
    picture = np.tile(np.linspace(140, 165, 640), (480, 1)).astype(np.uint8)
    if walls:
        cv2.polylines(picture, [np.array([[40, 45], [600, 38], [612, 440], [30, 446]])], True, 60, 6)
    if animal is not None:
        cv2.ellipse(picture, animal, (60, 30), 20, 0, 360, 60, -1)
        cv2.circle(picture, (animal[0] + 40, animal[1] - 5), 8, 110, -1)
    return picture if not text else cv2.putText(picture, text, (60, 80), cv2.FONT_HERSHEY_SIMPLEX, 0.8, 255, 2)


def _filmed(picture: np.ndarray, seed: int) -> np.ndarray:
    noisy = cv2.GaussianBlur(picture, (0, 0), 1) + np.random.default_rng(seed).normal(0, 1, picture.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("dx", "dy", "degrees"), [(5, 5, 0), (20, -10, 0), (9.3, -4.6, 0.8), (0, 0, 2)])
def test_walls_around_a_plain_floor_are_enough(dx: float, dy: float, degrees: float) -> None:
    found = register(_filmed(_arena(), 1), _filmed(moved(_arena(), dx, dy, degrees), 2))
    assert found is not None
    assert np.hypot(found.dx - dx, found.dy - dy) < 0.5
    assert abs(found.rotation - degrees) < 0.2


def test_a_time_stamp_that_stays_does_not_hide_that_the_scene_has_moved() -> None:
    now = moved(_arena(), 12, -7, 1)
    cv2.putText(now, "2026-05-01 10:12 CAM 1", (60, 80), cv2.FONT_HERSHEY_SIMPLEX, 0.8, 255, 2)
    found = register(_filmed(_arena("2026-05-01 10:11 CAM 1"), 1), _filmed(now, 2))
    assert found is not None
    assert np.hypot(found.dx - 12, found.dy + 7) < 1
    assert abs(found.rotation - 1) < 0.2


@pytest.mark.parametrize(
    ("text", "before", "now"),
    [("2026-05-01 CAM 1", None, None), ("", (200, 200), (260, 230)), ("2026-05-01 CAM 1", (200, 200), (400, 300))],
    ids=["time stamp", "sleeping animal", "both"],
)
def test_a_time_stamp_or_an_animal_on_a_blank_floor_vouches_for_nothing(
    text: str, before: tuple[int, int] | None, now: tuple[int, int] | None
) -> None:
    one, other = (_arena(text, animal, walls=False) for animal in (before, now))
    assert register(_filmed(one, 1), _filmed(other, 2)) is None


def test_one_straight_edge_does_not_tell_where_along_it_the_camera_stands() -> None:
    picture = np.full((240, 320), 90, np.uint8)
    picture[120:] = 170
    assert register(_filmed(picture, 1), _filmed(picture, 2)) is None


@pytest.mark.parametrize("what", ["dark", "noise", "another scene"])
def test_pictures_that_have_nothing_in_common_are_not_registered(what: str) -> None:
    rng = np.random.default_rng(1)
    before = gray(pictures(frames=1)[0])
    now = {
        "dark": np.full_like(before, 3),
        "noise": rng.integers(0, 255, before.shape).astype(np.uint8),
        "another scene": np.rot90(gray(pictures(seed=99, frames=1)[0]), 2).copy(),
    }[what]
    assert register(before, now) is None


def _lab(tmp_path: Path, reference: str, video: list[np.ndarray]) -> Lab:
    lab = write_lab(tmp_path / "lab", f"name: lab\ntimezone: UTC\nsetups: {{top: [{{reference: {reference}}}]}}\n")
    for key, frames in ((FIRST, pictures()), (LATER, video)):
        add_session(lab, key, date(2026, 5, 1))
        path = lab.root / f"{key}.mp4"
        encode_video(path, frames, Fraction(25))
        status = path.stat()
        file = {"path": path.name, "size": status.st_size, "mtime_ns": status.st_mtime_ns, "sha256": sha256_file(path)}
        manifest = read_manifest(lab.layout.session_recordings(key))
        assert manifest is not None
        size = {"width": frames[0].shape[1], "height": frames[0].shape[0]}
        manifest.details["recordings"][0] |= {"files": [{**file, "frame_count": len(frames)}], **size}
        manifest.write(lab.layout.session_recordings(key))
    return reopened(lab)


def _shift(lab: Lab, session: str = LATER) -> CameraShift | None:
    info, _ = need_session_info(lab.layout, session)
    return camera_shift(lab, info, info.recordings[0])


def test_a_session_can_be_the_reference_of_others(tmp_path: Path) -> None:
    lab = _lab(tmp_path, FIRST, [moved(picture, 8, 0, 0) for picture in pictures()])
    found = _shift(lab)
    assert found is not None
    assert (found.moved, found.dx) == (True, pytest.approx(8, abs=0.5))
    assert f"from where it stood in {FIRST}" in found.sentence
    itself = _shift(lab, FIRST)
    assert itself is not None
    assert (itself.moved, itself.shift) == (False, pytest.approx(0, abs=0.05))


def test_a_picture_can_be_the_reference(tmp_path: Path) -> None:
    lab = _lab(tmp_path, "top.png", pictures())
    Image.fromarray(pictures(frames=1)[0]).save(lab.root / "top.png")
    found = _shift(lab)
    assert found is not None
    assert not found.moved
    info, _ = need_session_info(lab.layout, LATER)
    before = camera_hashes(lab, info, info.recordings[0])
    Image.fromarray(moved(pictures(frames=1)[0], 9, 9, 0)).save(lab.root / "top.png")
    assert camera_hashes(lab, info, info.recordings[0]) != before
    again = _shift(lab)
    assert again is not None
    assert again.moved


@pytest.mark.parametrize("what", ["no such file", "no picture", "another size", "video gone", "blank"])
def test_a_camera_that_nobody_can_vouch_for_counts_as_moved(tmp_path: Path, what: str) -> None:
    lab = _lab(tmp_path, "top.png", pictures() if what != "blank" else [np.full((192, 256, 3), 9, np.uint8)] * 20)
    if what == "no picture":
        (lab.root / "top.png").write_text("not a picture")
    elif what != "no such file":
        picture = pictures(frames=1)[0]
        Image.fromarray(picture[:100] if what == "another size" else picture).save(lab.root / "top.png")
    if what == "video gone":
        (lab.root / f"{LATER}.mp4").unlink()
    found = _shift(lab)
    assert found is not None
    assert (found.moved, found.known) == (True, False)
    said = {
        "no such file": "there is no picture",
        "no picture": "expected a picture",
        "another size": "different sizes (256x100 and 256x192 px)",
        "video gone": "is not there",
        "blank": "could not be registered",
    }
    assert said[what] in found.sentence


def test_without_a_reference_there_is_nothing_to_say(tmp_path: Path) -> None:
    lab = write_lab(tmp_path / "lab", "name: lab\ntimezone: UTC\n")
    add_session(lab, FIRST, date(2026, 5, 1))
    info, _ = need_session_info(lab.layout, FIRST)
    assert camera_shift(lab, info, info.recordings[0]) is None
    assert camera_hashes(lab, info, info.recordings[0]) == {}
