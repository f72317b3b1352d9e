"""Probing: counts and times are what decodes, and agree with what DeepLabCut will read through OpenCV."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import numpy as np
import pytest

from dlc_assets.demo.files import encode_video
from dlc_assets.lab.errors import InputError
from dlc_assets.video.frames import frame_strip, read_frames
from dlc_assets.video.probe import probe_video

ODD_THAT_OPEN = (
    "corrupted.mp4",
    "no_duration.webm",
    "pts_test_video.mkv",
    "stub_h264.mp4",
    "stub_mjpeg.avi",
    "stub_mp4v.mp4",
    "video.avi",
    "video_0.mov",
    "video_90.mov",
)


@pytest.fixture(scope="module")
def odd(real_data: Path) -> Path:
    return real_data / "odd-videos"


@cache
def read_by_opencv(path: Path) -> tuple[int, np.ndarray]:
    """Return how many frames OpenCV's loop reads, and the last of them in RGB."""
    import cv2

    video, count, last = cv2.VideoCapture(str(path)), 0, np.empty(0)
    while True:
        read, frame = video.read()
        if not read:
            return count, last[..., ::-1]
        count, last = count + 1, frame


def grabbed_by_opencv(path: Path) -> int:
    """Return how many frames OpenCV decodes, sparing the time of making pictures of them."""
    import cv2

    video, count = cv2.VideoCapture(str(path)), 0
    while video.grab():
        count += 1
    return count


probed = cache(probe_video)


def moving_square(count: int, width: int = 96, height: int = 64) -> list[np.ndarray]:
    pictures = np.full((count, height, width, 3), 60, dtype=np.uint8)
    for index, picture in enumerate(pictures):
        picture[16:32, index % (width - 16) : index % (width - 16) + 16] = (220, 40, 90)
    return list(pictures)


def write_at(path: Path, pts: list[int], tick: Fraction = Fraction(1, 1000)) -> Path:
    """Write one frame at each presentation time (in ticks)."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        stream.codec_context.time_base = tick
        for time, picture in zip(pts, moving_square(len(pts)), strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = time, tick
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def with_damaged_packet(source: Path, damaged: Path, number: int) -> Path:
    """Copy an mp4 and make the length of one packet's first unit impossible."""
    with av.open(str(source)) as container:
        at = [packet.pos for packet in container.demux(video=0) if packet.size][number]
    content = bytearray(source.read_bytes())
    content[at : at + 4] = b"\xff\xff\xff\xff"
    damaged.write_bytes(bytes(content))
    return damaged


@pytest.mark.parametrize("name", ODD_THAT_OPEN)
def test_frames_are_counted_and_sized_as_opencv_reads_them(odd: Path, name: str) -> None:
    video = probed(odd / name)
    count, last = read_by_opencv(odd / name)
    assert video.frame_count == count == len(video.times)
    assert (video.height, video.width) == last.shape[:2]


@pytest.mark.parametrize("name", ["video_90.mov", "video_0.mov", "stub_h264.mp4", "no_duration.webm"])
def test_pictures_are_upright_and_equal_to_those_of_opencv(odd: Path, name: str) -> None:
    count, last = read_by_opencv(odd / name)
    ours = read_frames(odd / name, [count - 1])[count - 1]
    assert np.abs(ours.astype(int) - last).mean() < 2


def test_the_openfield_video_has_2330_frames_at_its_exact_rate(real_data: Path) -> None:
    calls: list[tuple[float, float | None]] = []
    path = real_data / "openfield" / "videos" / "m3v1mp4.mp4"
    video = probe_video(path, on_progress=lambda done, total, note="": calls.append((done, total)))
    assert video.frame_count == video.header_frame_count == 2330 == grabbed_by_opencv(path)
    assert video.rate == Fraction(1000000, 33333)
    assert video.regular
    assert video.problems == ()
    assert (video.width, video.height, video.codec, video.pixel_format) == (640, 480, "h264", "yuv444p")
    assert video.times[-1] == pytest.approx(2329 * 0.033333, abs=1e-9)
    assert video.duration == pytest.approx(2330 * 0.033333, abs=1e-9)
    assert calls[0] == (100, 2330)
    assert calls[-1] == (2330, 2330)


def test_a_video_that_stops_early_is_described_with_both_numbers(odd: Path) -> None:
    video = probe_video(odd / "corrupted.mp4")
    assert (video.frame_count, video.header_frame_count) == (28, 50)
    (problem,) = video.problems
    assert "28 of the 50 frames" in problem


@pytest.mark.parametrize("packet", [1, 20, 58, 59])
def test_a_damaged_packet_ends_the_count_where_opencv_ends(tmp_path: Path, packet: int) -> None:
    encode_video(tmp_path / "whole.mp4", moving_square(60), Fraction(30))
    damaged = with_damaged_packet(tmp_path / "whole.mp4", tmp_path / "damaged.mp4", packet)
    by_opencv = read_by_opencv(damaged)[0]
    assert by_opencv < 60
    if by_opencv == 0:
        with pytest.raises(InputError, match="not one frame"):
            probe_video(damaged)
    else:
        video = probe_video(damaged)
        assert video.frame_count == by_opencv
        assert "60" in video.problems[0]


def test_a_video_of_a_browser_has_no_count_in_its_header_and_uneven_times(odd: Path) -> None:
    video = probe_video(odd / "no_duration.webm")
    assert (video.frame_count, video.header_frame_count) == (74, None)
    assert not video.regular
    assert (np.diff(video.times) > 0).all()
    assert video.times[-1] == pytest.approx(4.872)


def test_a_gap_in_time_is_named_with_its_place_and_length(odd: Path) -> None:
    video = probed(odd / "pts_test_video.mkv")
    assert video.frame_count == 299
    gap = int(np.argmax(np.diff(video.times)))
    assert not video.regular
    assert any(f"67 ms after frame {gap}" in problem and "1 frame missing" in problem for problem in video.problems)


def test_times_rounded_to_milliseconds_are_still_regular(tmp_path: Path) -> None:
    ntsc = Fraction(30000, 1001)
    video = probe_video(write_at(tmp_path / "ntsc.mkv", [round(1000 * i / ntsc) for i in range(200)]))
    assert video.regular
    assert video.rate == ntsc
    assert video.problems == ()


def test_a_dropped_frame_makes_a_video_irregular(tmp_path: Path) -> None:
    pts = [i * 40 for i in range(50) if i != 20]
    video = probe_video(write_at(tmp_path / "dropped.mkv", pts))
    assert not video.regular
    np.testing.assert_allclose(video.times, np.array(pts) / 1000)
    assert "80 ms after frame 19" in video.problems[0]


def test_times_count_from_the_first_frame_and_the_start_is_kept(tmp_path: Path) -> None:
    video = probe_video(write_at(tmp_path / "late.mkv", [2000 + i * 40 for i in range(30)]))
    assert video.start_pts == pytest.approx(2.0)
    assert video.times[0] == 0
    assert video.rate == 25


def test_a_stream_without_times_gets_them_from_its_rate_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "raw.h264"
    encode_video(tmp_path / "whole.mp4", moving_square(40), Fraction(25))
    with av.open(str(tmp_path / "whole.mp4")) as whole, av.open(str(path), "w") as raw:
        stream = raw.add_stream_from_template(whole.streams.video[0])
        for packet in whole.demux(video=0):
            if packet.size:
                packet.stream = stream
                raw.mux(packet)
    video = probe_video(path)
    assert video.frame_count == 40 == read_by_opencv(path)[0]
    assert video.header_frame_count is None
    np.testing.assert_allclose(np.diff(video.times), float(1 / video.rate))
    assert any("no presentation time" in problem for problem in video.problems)


def test_times_that_an_avi_gives_in_coded_order_are_sorted(real_data: Path) -> None:
    path = real_data / "trimouse-results" / "vid.avi"
    video = probe_video(path)
    assert video.frame_count == 256 == grabbed_by_opencv(path)
    assert (video.rate, video.regular, video.stored_times) == (30, True, False)
    np.testing.assert_allclose(np.diff(video.times), 1 / 30)
    assert "coded order" in video.problems[0]
    np.testing.assert_array_equal(read_frames(path, [200], probed=video)[200], read_frames(path, [200])[200])


def test_rotation_is_given_and_the_size_is_the_upright_one(odd: Path) -> None:
    turned, flat = probe_video(odd / "video_90.mov"), probe_video(odd / "video_0.mov")
    assert (turned.rotation, turned.width, turned.height) == (90, 320, 568)
    assert (flat.rotation, flat.width, flat.height) == (0, 568, 320)


def test_the_time_of_creation_is_read_in_utc(tmp_path: Path) -> None:
    created = datetime(2026, 5, 1, 10, 12, tzinfo=UTC)
    encode_video(tmp_path / "dated.mp4", moving_square(5), Fraction(30), created)
    encode_video(tmp_path / "undated.mp4", moving_square(5), Fraction(30))
    assert probe_video(tmp_path / "dated.mp4").creation_time == created
    assert probe_video(tmp_path / "undated.mp4").creation_time is None


def test_a_video_that_does_not_open_is_named_with_what_to_do(odd: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty.mp4"
    empty.touch()
    for path in (odd / "chunk_out_of_range.mp4", empty):
        with pytest.raises(InputError, match=r"does not open as a video.*copy it again") as caught:
            probe_video(path)
        assert str(path) in str(caught.value)
    with pytest.raises(InputError, match="no such video file"):
        probe_video(tmp_path / "missing.mp4")


def test_a_file_with_sound_only_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "calls.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), dtype=np.int16), format="s16", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
    with pytest.raises(InputError, match=r"no video stream .streams found: audio"):
        probe_video(path)


def test_frames_found_by_seeking_equal_those_found_by_decoding_all(tmp_path: Path) -> None:
    path = tmp_path / "long.mp4"
    encode_video(path, moving_square(700), Fraction(30))
    wanted = [0, 5, 300, 301, 650, 699]
    sought = read_frames(path, wanted, probed=probe_video(path))
    decoded = read_frames(path, wanted)
    assert list(sought) == list(decoded) == wanted
    for index in wanted:
        np.testing.assert_array_equal(sought[index], decoded[index])


def test_a_video_whose_key_frames_need_pictures_before_them_is_not_sought_in(real_data: Path) -> None:
    """A real one: after a seek its decoder shows green where the mouse is not."""
    path = real_data / "openfield/videos/m3v1mp4.mp4"
    sought, decoded = read_frames(path, [400], rate=Fraction(30)), read_frames(path, [400])
    np.testing.assert_array_equal(sought[400], decoded[400])
    strip = frame_strip(path, frames=2330).astype(int)
    assert np.abs(strip[..., 1] - strip[..., 0]).max() < 20  # the camera is grey


def test_a_frame_beyond_the_end_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "short.mp4"
    encode_video(path, moving_square(10), Fraction(30))
    with pytest.raises(InputError, match="frame 10 was asked for"):
        read_frames(path, [3, 10])
    with pytest.raises(InputError, match="frame 10 was asked for"):
        read_frames(path, [3, 10], probed=probe_video(path))
    with pytest.raises(InputError, match="count from 0"):
        read_frames(path, [-1])


def test_a_strip_shows_frames_side_by_side_even_of_a_very_short_video(odd: Path) -> None:
    assert frame_strip(odd / "no_duration.webm", 5, 90).shape == (90, 5 * 160, 3)
    assert frame_strip(odd / "video_90.mov", 5, 120).shape == (120, 3 * 68, 3)


def test_probing_leaves_the_file_as_it_was(odd: Path, tmp_path: Path) -> None:
    path = tmp_path / "stub.mp4"
    shutil.copyfile(odd / "stub_h264.mp4", path)
    before = path.read_bytes(), path.stat().st_mtime_ns
    probe_video(path)
    frame_strip(path)
    assert (path.read_bytes(), path.stat().st_mtime_ns) == before
