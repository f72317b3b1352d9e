"""Labeled videos: every frame has its own poses and its own time, whatever the video is like, and what cannot be is said."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from dlc_assets.inference.pose_tables import pose_inputs
from dlc_assets.inference.streaming import VideoPart
from dlc_assets.lab.errors import InputError, NotFoundError, SettingsError
from dlc_assets.lab.keys import pose_key
from dlc_assets.lab.lab import Lab, open_lab_folder
from dlc_assets.lab.labeled_video_settings import LabeledVideoSettings
from dlc_assets.lab.manifest import Manifest
from dlc_assets.lab.settings import LabSettings
from dlc_assets.lab.yaml_settings import parse_settings
from dlc_assets.poses import table_file
from dlc_assets.poses.schema import PoseMetadata, Track
from dlc_assets.poses.table_file import write_pose_table
from dlc_assets.recordings.discovery import discover
from dlc_assets.recordings.info import need_session_info, read_times
from dlc_assets.recordings.session_recordings import record_session
from dlc_assets.review import labeled_video, pose_stretches
from dlc_assets.review.drawing import FrameDrawer, Look, PoseStretch, distinct_inks, ink
from dlc_assets.review.labeled_video import (
    Span,
    draw_video,
    label_session,
    labeled_video_files,
    look_of,
    span_of,
)
from dlc_assets.review.pose_stretches import SpanPoses, joined_tracks
from dlc_assets.state.lab_state import lab_state
from dlc_assets.video.encode import TICK, ticks_of
from dlc_assets.video.planes import PictureShape, planes_of_stretch
from dlc_assets.video.probe import probe_video
from dlc_assets_tests.unit.released_lab import add_version

KEY = "ses-day1"
LAB = """\
name: Smith lab
devices: {top: {}}
recordings:
  - {root: whole, template: "{session}/{camera}.mp4"}
  - {root: split, template: "{session}/{camera}_{part}.mp4"}
release:
  - {model: walker}
"""
WIDTH, HEIGHT = 320, 240
BLOCK, BITS = 16, 10  # px of a bit of a frame's number, which stands in the first rows
GREY = 90


def numbered(number: int, width: int = WIDTH, height: int = HEIGHT) -> np.ndarray:
    """Return a grey picture with *number* in black and white blocks in its upper left corner."""
    picture = np.full((height, width, 3), GREY, np.uint8)
    for bit in range(BITS):
        picture[:BLOCK, bit * BLOCK : (bit + 1) * BLOCK] = 255 if number >> bit & 1 else 0
    return picture


def number_in(picture: np.ndarray, scale: float = 1.0) -> int:
    middles = ((np.arange(BITS) + 0.5) * BLOCK * scale).astype(int)
    return sum(int(picture[int(BLOCK * scale / 2), x].mean() > 128) << bit for bit, x in enumerate(middles))


def place_of(number: int) -> tuple[float, float]:
    """Return where the snout is in frame *number*, px: every frame has another place, far from those beside it."""
    return 20.25 + (number * 97) % 280, 40.5 + (number * 61) % 180


def write_numbered(
    path: Path,
    numbers: Sequence[int],
    pts: Sequence[int] | None = None,
    *,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    tick: Fraction = Fraction(1, 1000),
    rotation: int = 0,
    pixels: str = "yuv420p",
) -> Path:
    """Write the pictures of *numbers* at *pts* ticks (None: 25 a second), as they are stored before a player turns them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options={"video_track_timescale": str(tick.denominator)}) as container:
        stream: Any = container.add_stream("libx264", rate=25, options={"crf": "12", "g": "30"})
        stream.width, stream.height, stream.pix_fmt = *size, pixels
        stream.time_base = stream.codec_context.time_base = tick
        if rotation:
            stream.set_display_rotation(rotation)
        for index, number in enumerate(numbers):
            picture = np.rot90(numbered(number, *(size[::-1] if rotation % 180 else size)), -rotation // 90)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24").reformat(format=pixels)
            frame.pts, frame.time_base = (40 * index if pts is None else pts[index]), tick
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def snout(count: int, likelihood: float = 0.9) -> Track:
    x, y = np.array([place_of(number) for number in range(count)], np.float32).T
    return Track("", "snout", x, y, np.full(count, likelihood, np.float32))


def write_table(path: Path, tracks: Sequence[Track], times: np.ndarray, **said: Any) -> Path:
    names = list(dict.fromkeys(track.bodypart for track in tracks))
    metadata = PoseMetadata(
        **{
            "model": "walker",
            "version": "1",
            "session": KEY,
            "recording": "top",
            "frame_count": len(times),
            "bodyparts": names,
            "pcutoff": 0.6,
            **said,
        }
    )
    write_pose_table(path, tracks, times, metadata)
    return path


def decoded(path: Path) -> tuple[list[float], list[np.ndarray]]:
    """Return the times (s) and pictures of the video at *path*."""
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    return [float(frame.pts * frame.time_base) for frame in frames], [
        frame.to_ndarray(format="rgb24") for frame in frames
    ]


def marked(picture: np.ndarray, top: int = BLOCK + 2) -> np.ndarray:
    """Return the middle (x, y) of what is colored in *picture*, below the number."""
    colored = np.ptp(picture.astype(int), axis=2) > 60
    colored[:top] = False
    ys, xs = np.nonzero(colored)
    return np.array([xs.mean(), ys.mean()]) if len(xs) else np.full(2, np.nan)


def assert_frames_have_their_poses(path: Path, numbers: Sequence[int], *, scale: float = 1.0) -> None:
    _, pictures = decoded(path)
    assert [number_in(picture, scale) for picture in pictures] == list(numbers)
    found = np.array([marked(picture, int(scale * BLOCK) + 2) for picture in pictures])
    wanted = (np.array([place_of(number) for number in numbers]) + 0.5) * scale - 0.5
    np.testing.assert_allclose(found, wanted, atol=1.0)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    (tmp_path / "lab.yaml").write_text(LAB)
    return open_lab_folder(tmp_path)


@pytest.fixture
def task(lab: Lab) -> Lab:
    """A session of one camera whose rate varies and whose recording has a gap, and its poses."""
    pts = np.cumsum([0, *([33, 34, 41] * 20), 900, *([33] * 15)])
    write_numbered(lab.root / "whole/day1/top.mp4", range(len(pts)), pts.tolist())
    estimate(lab)
    return lab


def estimate(lab: Lab, tracks: Sequence[Track] | None = None, frames: int | None = None, **said: Any) -> Manifest:
    """Probe the session, and store poses as an analysis would."""
    record_session(lab, discover(lab).sessions[KEY], run_id="", log=lambda _: None)
    session, _ = need_session_info(lab.layout, KEY)
    version = add_version(lab)
    rows = []
    for recording in session.recordings:
        times = read_times(lab.layout, KEY, recording.recording)[:frames]
        path = lab.layout.pose_file("walker", version.version, KEY, recording.recording)
        write_table(path, tracks or [snout(len(times))], times, recording=recording.recording, **said)
        rows.append({"recording": recording.recording, "frames": len(times)})
    manifest = Manifest(
        asset="pose_table",
        key=pose_key("walker", KEY),
        inputs=pose_inputs(lab, "walker", session),
        data_version="poses-1",
        details={"model": "walker", "version": version.version, "session": KEY, "recordings": rows},
    )
    manifest.write(lab.layout.pose_folder("walker", version.version, KEY))
    return manifest


def label(lab: Lab, *, recompute: bool = False, log: Any = lambda _: None, **overrides: Any) -> tuple[Manifest, bool]:
    overrides = {"caption": False, **overrides}
    return label_session(lab, "walker", KEY, overrides=overrides, recompute=recompute, run_id="r", log=log)


# --- the right poses on the right frames, at the right times ----------------------------------------


def test_every_frame_has_its_own_poses_and_its_own_time(task: Lab) -> None:
    said: list[str] = []
    manifest, made = label(task, log=said.append)
    (file,) = labeled_video_files(task, manifest)
    assert made
    times = read_times(task.layout, KEY, "top")
    assert_frames_have_their_poses(file, range(len(times)))
    np.testing.assert_allclose(decoded(file)[0], times - times[0], atol=float(TICK))
    assert np.diff(times).max() == pytest.approx(0.9)  # the gap is there
    probed = probe_video(file)
    assert (probed.codec, probed.pixel_format, probed.width, probed.height) == ("h264", "yuv420p", WIDTH, HEIGHT)
    content = file.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")  # a browser begins before all of it is there
    (row,) = manifest.details["recordings"]
    assert (row["first_frame"], row["end_frame"], row["points"]) == (0, len(times), len(times))
    assert any("labeling: 77 of 77 frames" in line and "frames/s" in line for line in said)
    assert not manifest.problems


def test_a_span_shows_its_frames_alone_and_begins_at_once(task: Lab) -> None:
    times = read_times(task.layout, KEY, "top")
    manifest, _ = label(task, start=float(times[50]), end=float(times[70]), speed=2.0)
    (file,) = labeled_video_files(task, manifest)
    assert_frames_have_their_poses(file, range(50, 70))
    np.testing.assert_allclose(decoded(file)[0], (times[50:70] - times[50]) / 2, atol=float(TICK))
    by_frames, _ = label(task, start=50, end=70, span_unit="frames", speed=2.0)
    assert by_frames.data_version == manifest.data_version
    assert by_frames.custom


def test_what_is_up_to_date_is_left_and_what_a_run_states_is_made_anew(task: Lab) -> None:
    first, _ = label(task)
    again, made = label(task)
    assert (again, made) == (first, False)
    assert label(task, recompute=True)[1]
    shown, made = label(task, width=160)
    assert made
    assert_frames_have_their_poses(labeled_video_files(task, shown)[0], range(77), scale=0.5)


def test_a_recording_in_parts_is_one_video(lab: Lab) -> None:
    write_numbered(lab.root / "split/day1/top_1.mp4", range(40))
    write_numbered(lab.root / "split/day1/top_2.mp4", range(40, 75))
    estimate(lab)
    manifest, _ = label(lab)
    assert_frames_have_their_poses(labeled_video_files(lab, manifest)[0], range(75))
    manifest, _ = label(lab, start=38, end=44, span_unit="frames")
    assert_frames_have_their_poses(labeled_video_files(lab, manifest)[0], range(38, 44))
    manifest, _ = label(lab, start=60, end=61, span_unit="frames")
    assert_frames_have_their_poses(labeled_video_files(lab, manifest)[0], [60])


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_a_turned_video_is_shown_upright(lab: Lab, rotation: int) -> None:
    size = (HEIGHT, WIDTH) if rotation % 180 else (WIDTH, HEIGHT)
    write_numbered(lab.root / "whole/day1/top.mp4", range(12), size=size, rotation=rotation)
    estimate(lab)
    session, _ = need_session_info(lab.layout, KEY)
    assert (session.recordings[0].width, session.recordings[0].height) == (WIDTH, HEIGHT)
    manifest, _ = label(lab)
    assert_frames_have_their_poses(labeled_video_files(lab, manifest)[0], range(12))


@pytest.mark.parametrize(
    ("size", "pixels"), [((321, 241), "yuv444p"), ((WIDTH, HEIGHT), "yuvj420p"), ((WIDTH, HEIGHT), "gray")]
)
def test_odd_sizes_and_other_pixels_are_shown_as_they_are(lab: Lab, size: tuple[int, int], pixels: str) -> None:
    path = write_numbered(lab.root / "whole/day1/top.mp4", range(12), size=size, pixels=pixels)
    estimate(lab)
    manifest, _ = label(lab)
    (file,) = labeled_video_files(lab, manifest)
    assert_frames_have_their_poses(file, range(12))
    ours, theirs = decoded(file)[1][5], decoded(path)[1][5]
    assert ours.shape == (HEIGHT, WIDTH, 3)  # an odd last column and row are left out
    unmarked = np.abs(ours.astype(int) - theirs[:HEIGHT, :WIDTH]).max(axis=2)
    assert np.median(unmarked) <= 2  # the same grey, whatever its range of values
    half, _ = label(lab, width=162)
    assert half.details["recordings"][0]["height"] == 122
    assert_frames_have_their_poses(labeled_video_files(lab, half)[0], range(12), scale=162 / size[0])


def test_only_what_the_network_saw_is_shown_where_that_is_asked_for(lab: Lab) -> None:
    write_numbered(lab.root / "whole/day1/top.mp4", range(30))
    estimate(lab, crop={"x": [0, 301], "y": [0, 239]})
    manifest, _ = label(lab, crop=True)
    assert (manifest.details["recordings"][0]["width"], manifest.details["recordings"][0]["height"]) == (300, 238)
    assert_frames_have_their_poses(labeled_video_files(lab, manifest)[0], range(30))


def test_a_late_span_of_a_steady_video_is_sought_and_is_the_right_one(tmp_path: Path, monkeypatch: Any) -> None:
    path = write_numbered(tmp_path / "long.mp4", range(700))
    read: list[int] = []
    decode = labeled_video.planes_of_stretch.__globals__["readable_frames"]

    def counted(container: Any, stream: Any) -> Any:
        for frame in decode(container, stream):
            read.append(frame.pts)
            yield frame

    monkeypatch.setattr("dlc_assets.video.planes.readable_frames", counted)
    shape = PictureShape.of((0, WIDTH, 0, HEIGHT))
    stretch = [
        planes[:HEIGHT, :]
        for planes in planes_of_stretch(path, 613, 640, shape, size=(WIDTH, HEIGHT), rate=Fraction(25))
    ]
    assert [number_in(plane[..., None]) for plane in stretch] == list(range(613, 640))
    assert len(read) < 100
    read.clear()
    stretch = [
        planes[:HEIGHT, :] for planes in planes_of_stretch(path, 613, 615, shape, size=(WIDTH, HEIGHT), rate=None)
    ]
    assert [number_in(plane[..., None]) for plane in stretch] == [613, 614]
    assert len(read) == 615
    # A rate that is not the video's finds no frame at its time, and all before are decoded.
    wrong = planes_of_stretch(path, 613, 615, shape, size=(WIDTH, HEIGHT), rate=Fraction(26))
    assert [number_in(planes[:HEIGHT, :, None]) for planes in wrong] == [613, 614]


def test_poses_come_block_by_block_with_those_of_the_trail_before_them(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(table_file, "ROW_GROUP_FRAMES", 50)
    monkeypatch.setattr(pose_stretches, "_FRAMES", 16)
    times = np.arange(230) / 10
    poses = SpanPoses.open(write_table(tmp_path / "t.parquet", [snout(230), snout(230)][:1], times), 230)
    for first, end, before in ((0, 230, 0.0), (37, 171, 1.5), (49, 51, 20.0), (120, 121, 0.0), (3, 160, 7.05)):
        begun = []
        for start, begin, values in poses.stretches(first, end, before):
            stop = start + values.shape[2]
            np.testing.assert_array_equal(values[0, 0], snout(230).x[start:stop])
            oldest = next(frame for frame in range(230) if times[frame] >= times[begin] - before)
            assert start == oldest
            begun += range(begin, stop)
        assert begun == list(range(first, end))


# --- what is drawn ----------------------------------------------------------------------------------


def drawn(look: Look, tracks: Sequence[tuple[float, float, float]], *, index: int = 0) -> np.ndarray:
    """Return the brightness of a grey picture of 100x80 px with *tracks* (x, y, likelihood) drawn in."""
    planes = np.full((120, 100), 128, np.uint8)
    values = np.array(tracks, np.float32).reshape(len(tracks), 3, -1)
    stretch = PoseStretch.of(0, np.arange(values.shape[2]) / 10, values, PictureShape.of((0, 100, 0, 80)), look)
    FrameDrawer(look).draw(planes, stretch, index)
    return planes[:80]


def test_points_below_the_cutoff_are_left_out_or_hollow_and_lines_join_sure_ones_only() -> None:
    inks = [ink(1, 1, 0)] * 2
    both = drawn(Look(inks, edges=[(0, 1)], radius=5, pcutoff=0.6), [(20, 30, 0.9), (70, 30, 0.7)])
    assert both[30, 20] == both[30, 70] == inks[0][0]
    assert both[30, 45] == inks[0][0]
    one = drawn(Look(inks, edges=[(0, 1)], radius=5, pcutoff=0.6), [(20, 30, 0.9), (70, 30, 0.5)])
    assert one[30, 20] == inks[0][0]
    assert (one[:, 30:] == 128).all()
    hollow = drawn(Look(inks, radius=5, pcutoff=0.6, hollow=True), [(20, 30, 0.9), (70, 30, 0.5)])
    assert hollow[30, 70] == 128
    assert hollow[30, 75] != 128
    without_likelihood = drawn(Look(inks, radius=5, pcutoff=0.6), [(20, 30, np.nan), (np.nan, np.nan, 0.9)])
    assert without_likelihood[30, 20] == inks[0][0]


@pytest.mark.parametrize("far", [(-3.0, 30.0), (1e9, 1e9), (-1e30, 5.0), (np.inf, 1.0), (130.0, 200.0)])
def test_points_outside_of_the_picture_are_no_trouble(far: tuple[float, float]) -> None:
    look = Look([ink(1, 0, 0)] * 2, edges=[(0, 1)], radius=5, hollow=True, trail=1.0, caption=True)
    picture = drawn(look, [(50, 40, 0.9), (*far, 0.9)])
    assert picture[40, 50] == ink(1, 0, 0)[0]


def test_a_trail_fades_and_has_a_hole_where_nothing_was_sure() -> None:
    x = np.linspace(10, 90, 21)
    likelihood = np.full(21, 0.9)
    likelihood[8:11] = 0.1
    track = np.stack([x, np.full(21, 40.0), likelihood])
    look = Look([ink(1, 1, 1)], radius=1, pcutoff=0.6, trail=2.0)
    row = drawn(look, [track], index=20)[40].astype(int) - 128  # type: ignore[list-item]
    assert row[85] > row[62] > row[18] > 0
    assert (row[43:49] == 0).all()
    assert (drawn(look, [track], index=5)[40, 40:] == 128).all()  # type: ignore[list-item]  # no trail of what comes


def test_a_caption_says_frame_and_time_and_covers_a_corner_only() -> None:
    picture = drawn(Look([ink(1, 0, 0)], caption=True), [(50, 20, 0.9)])
    assert picture[-6:, :60].min() < 60
    assert picture[-12:, :80].max() > 200
    assert (picture[:10] == 128).all()


def test_colors_are_those_of_body_parts_or_of_individuals(tmp_path: Path) -> None:
    tracks = [
        Track(individual, part, *np.full((3, 2), 9, np.float32))
        for individual in ("a", "b")
        for part in ("nose", "tail")
    ]
    path = write_table(
        tmp_path / "t.parquet", tracks, np.arange(2.0), individuals=["a", "b"], skeleton=[["nose", "tail"]]
    )
    poses = SpanPoses.open(path, 2)
    shape = PictureShape.of((0, 640, 0, 480))
    by_part = look_of(LabeledVideoSettings(), poses, shape)
    assert by_part.inks[0] == by_part.inks[2] != by_part.inks[1]
    assert by_part.edges == [(0, 1), (2, 3)]
    assert by_part.radius == 4
    by_animal = look_of(
        LabeledVideoSettings(color_by="individual", skeleton=False, point_size=9, pcutoff=0.1), poses, shape
    )
    assert by_animal.inks[0] == by_animal.inks[1] != by_animal.inks[2]
    assert (by_animal.edges, by_animal.radius, by_animal.pcutoff) == ((), 9, 0.1)
    assert joined_tracks([("", "nose")], [["nose", "tail"]]) == []
    assert len(set(distinct_inks(40))) == 40


# --- times ------------------------------------------------------------------------------------------


def test_times_closer_than_a_tick_stay_in_order_and_a_gap_that_mp4_cannot_hold_is_refused() -> None:
    assert ticks_of(np.array([5.0])).tolist() == [0, 3600]
    assert (np.diff(ticks_of(np.arange(100) / 1000, speed=500)) >= 1).all()
    np.testing.assert_array_equal(ticks_of(np.arange(4) * 1001 / 30000), np.arange(5) * 3003)
    with pytest.raises(InputError, match=r"8.3 h between two frames"):
        ticks_of(np.array([0.0, 0.1, 30_000.0]))


# --- what cannot be ---------------------------------------------------------------------------------


def test_a_table_of_another_length_than_the_video_is_refused_with_both_numbers(lab: Lab) -> None:
    write_numbered(lab.root / "whole/day1/top.mp4", range(20))
    estimate(lab, frames=18)
    with pytest.raises(InputError, match=r"poses of 18 frames, but the recording has 20"):
        label(lab)
    assert not lab.layout.derived("labeled_video").exists()


def test_a_span_without_a_frame_is_refused_and_says_what_there_is(task: Lab) -> None:
    with pytest.raises(InputError, match=r"from 100 to the end s. The recording has the frames 0 to 76, at 0.000 to"):
        label(task, start=100)
    with pytest.raises(InputError, match=r"no frame in the span from 80 to 90 frames"):
        label(task, start=80, end=90, span_unit="frames")
    times = np.array([0.0, 0.1, 5.0])
    with pytest.raises(InputError, match="no frame"):
        span_of(LabeledVideoSettings(start=0.2, end=4.9), times, "x")
    assert span_of(LabeledVideoSettings(start=-3, end=9), times, "x") == Span(0, 3)
    assert span_of(LabeledVideoSettings(start=1, span_unit="frames"), times, "x") == Span(1, 3)


def test_a_video_that_is_gone_or_has_changed_is_refused_and_nothing_is_left(task: Lab) -> None:
    video = task.root / "whole/day1/top.mp4"
    kept = video.read_bytes()
    video.write_bytes(kept + b"0")
    with pytest.raises(InputError, match="has changed since it was probed"):
        label(task)
    video.unlink()
    with pytest.raises(InputError, match="is gone"):
        label(task)
    assert not task.layout.derived("labeled_video").exists()


def test_a_video_that_decodes_no_more_as_far_leaves_nothing(tmp_path: Path) -> None:
    path = write_numbered(tmp_path / "top.mp4", range(10))
    poses = SpanPoses.open(write_table(tmp_path / "t.parquet", [snout(12)], np.arange(12) / 25), 12)
    shape, look = PictureShape.of((0, WIDTH, 0, HEIGHT)), Look(distinct_inks(1))
    with pytest.raises(InputError, match=r"at least 12 frames when it was probed, but only 10 were decoded"):
        draw_video(tmp_path / "o.mp4", [VideoPart(path, 12)], poses, Span(0, 12), shape, look, size=(WIDTH, HEIGHT))
    with pytest.raises(InputError, match=r"frame 0 is of 320x240 px, where 640x480 px were probed"):
        draw_video(tmp_path / "o.mp4", [VideoPart(path, 12)], poses, Span(0, 9), shape, look, size=(640, 480))


def test_an_error_in_the_middle_leaves_what_was_there(task: Lab, monkeypatch: Any) -> None:
    before, _ = label(task)

    def stop(_self: Any, _planes: Any, _stretch: Any, index: int) -> None:
        if index == 40:
            raise KeyboardInterrupt

    monkeypatch.setattr(FrameDrawer, "draw", stop)
    with pytest.raises(KeyboardInterrupt):
        label(task, width=160)
    (file,) = labeled_video_files(task, before)
    assert_frames_have_their_poses(file, range(77))
    assert not [path for path in task.layout.work.glob("labeled_videos/**/*") if path.is_file()]


def test_no_detections_and_one_frame_are_shown_and_said(lab: Lab) -> None:
    write_numbered(lab.root / "whole/day1/top.mp4", [5])
    estimate(lab, tracks=[Track("", "snout", *np.full((3, 1), np.nan, np.float32))])
    manifest, _ = label(lab)
    (file,) = labeled_video_files(lab, manifest)
    times, pictures = decoded(file)
    assert (times, number_in(pictures[0])) == ([0.0], 5)
    assert manifest.problems == [f"{KEY}, top: not one point of the frames 0 to 0 reaches the p-cutoff of 0.6."]


def test_recordings_outside_of_the_span_are_left_out_and_said(lab: Lab) -> None:
    write_numbered(lab.root / "whole/day1/top.mp4", range(50))
    write_numbered(lab.root / "whole/day1/side.mp4", range(10))
    estimate(lab)
    manifest, _ = label(lab, start=1.0)
    assert [row["recording"] for row in manifest.details["recordings"]] == ["top"]
    assert "side: there is no frame in the span" in manifest.problems[0]
    both, _ = label(lab)
    assert [path.name for path in labeled_video_files(lab, both)] == ["side.mp4", "top.mp4"]
    one, _ = label(lab, recordings=["side"])
    assert [path.name for path in labeled_video_files(lab, one)] == ["side.mp4"]
    with pytest.raises(NotFoundError, match="bottom"):
        label(lab, recordings=["bottom"])


@pytest.mark.parametrize(
    ("stated", "said"),
    [
        ({"width": 0}, "greater than or equal to 16"),
        ({"width": 321}, "even number of px, such as 322"),
        ({"speed": 0}, "greater than 0"),
        ({"speed": float("inf")}, "finite"),
        ({"pcutoff": 1.5}, "less than or equal to 1"),
        ({"start": 3, "end": 3}, "an end after the start, which is 3"),
        ({"start": 2.5, "span_unit": "frames"}, "number of a frame, from 0, but it is 2.5"),
        ({"trail": -1}, "greater than or equal to 0"),
        ({"poses": "smooth"}, "raw"),
        ({"withd": 640}, 'Did you mean "width"'),
    ],
)
def test_settings_that_cannot_be_are_refused(stated: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        LabeledVideoSettings().overridden(stated)
    with pytest.raises(SettingsError, match=said):
        parse_settings({"name": "lab", "labeled_video": stated}, LabSettings, where="lab.yaml")


def test_a_run_that_states_an_end_of_the_span_states_all_of_it() -> None:
    lab = LabeledVideoSettings(start=300, end=900, span_unit="frames", width=320)
    assert lab.overridden({"start": 12.5}) == LabeledVideoSettings(start=12.5, width=320)
    assert lab.overridden({"speed": 2}).end == 900


def test_filtered_poses_are_drawn_once_they_are_made(task: Lab) -> None:
    with pytest.raises(NotFoundError, match="filtered_pose_table"):
        label(task, poses="filtered")
    version = task.layout.current_version_file("walker").read_text().strip()
    folder = task.layout.derived_folder("filtered_pose_table", "walker", version, KEY)

    def filtered(data_version: str, likelihood: float) -> None:
        times = read_times(task.layout, KEY, "top")
        write_table(folder / "top.parquet", [snout(len(times), likelihood)], times)
        Manifest(
            asset="filtered_pose_table",
            key=pose_key("walker", KEY),
            inputs={"poses": "poses-1"},
            data_version=data_version,
            details={
                "model": "walker",
                "version": version,
                "session": KEY,
                "files": ["top.parquet"],
                "recordings": [{"recording": "top"}],
            },
        ).write(folder)

    folder.mkdir(parents=True)
    filtered("f1", 0.1)
    manifest, _ = label(task, poses="filtered")
    assert not manifest.problems  # filled-in points keep their likelihood, and are shown
    manifest, _ = label(task, poses="filtered", pcutoff=0.5)
    assert manifest.problems
    filtered("f2", 0.9)
    again, made = label(task, poses="filtered", pcutoff=0.5)  # the same settings, other poses
    assert made
    assert not again.problems
    assert not label(task, poses="filtered", pcutoff=0.5)[1]
    assert label(task, poses="raw")[1]


def test_the_lab_wants_them_where_it_says_so_and_shows_those_that_somebody_asked_for(task: Lab) -> None:
    def state(settings: str = "") -> list[tuple[str, bool]]:
        (task.root / "lab.yaml").write_text(LAB + settings)
        lab = open_lab_folder(task.root)
        products = lab_state(lab).products
        return [(product.state, product.wanted) for product in products if product.asset == "labeled_video"]

    assert state() == []
    assert state("labeled_video: {auto: true}\n") == [("missing", True)]
    label_session(task, "walker", KEY, overrides={}, recompute=False, run_id="r", log=lambda _: None)
    assert state() == [("up to date", False)]
    assert state("labeled_video: {auto: true}\n") == [("up to date", True)]
    assert state("labeled_video: {trail: 1}\n") == [("behind", False)]
    assert state("labeled_video: {auto: true, poses: filtered}\n")[0][0] in {"waiting", "behind"}
    label(task)
    assert state() == [("custom", False)]
