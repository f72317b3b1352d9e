"""Odd videos: each is either used as OpenCV, and with it DeepLabCut, reads it, or refused; a person is told which, and why."""

from __future__ import annotations

import shutil
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import dagster as dg
import numpy as np
import pytest

from dlc_assets.checks.outcomes import evaluation
from dlc_assets.demo.files import encode_video
from dlc_assets.lab.errors import InputError, NotFoundError
from dlc_assets.lab.lab import Lab, open_lab_folder
from dlc_assets.lab.manifest import Manifest
from dlc_assets.recordings.discovery import discover
from dlc_assets.recordings.info import SessionInfo, need_session_info, read_times
from dlc_assets.recordings.session_recordings import record_session
from dlc_assets.video.decode import decode_video
from dlc_assets.video.probe import probe_video

KEY = "ses-day1"
KINDS = ("mp4", "avi", "mkv", "mov")
LAB = "name: Smith lab\nrecordings:\n" + "".join(
    f'  - {{root: recordings, template: "{{session}}/{{camera}}.{kind}"}}\n'
    f'  - {{root: split, template: "{{session}}/{{camera}}_{{part}}.{kind}"}}\n'
    for kind in KINDS
)
Size = tuple[int, int]


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    for root in ("recordings", "split"):
        (tmp_path / root / "day1").mkdir(parents=True)
    (tmp_path / "lab.yaml").write_text(LAB)
    return open_lab_folder(tmp_path)


@pytest.fixture
def day(lab: Lab) -> Path:
    """The folder of a session with one good recording, `side`."""
    good(lab.root / "recordings/day1/side.mp4")
    return lab.root / "recordings/day1"


def record(lab: Lab) -> tuple[SessionInfo, Manifest]:
    record_session(lab, discover(lab).sessions[KEY], run_id="", log=lambda _: None)
    return need_session_info(lab.layout, KEY)


def failed_check(lab: Lab, manifest: Manifest, name: str) -> str:
    """Return what the check that failed says, all of it."""
    said = evaluation(manifest, name, lab.root)
    assert not said.passed
    listed = said.metadata["all"]
    assert isinstance(listed, dg.JsonMetadataValue)
    return " ".join(str(sentence) for sentence in listed.data or ())


# --- making them ----------------------------------------------------------------------------------


def pictures(count: int, size: Size = (96, 64)) -> list[np.ndarray]:
    """Return pictures of a square that moves on by one px a frame."""
    width, height = size
    made = np.full((count, height, width, 3), 60, dtype=np.uint8)
    for index, picture in enumerate(made):
        picture[16:32, index % (width - 16) : index % (width - 16) + 16] = (220, 40, 90)
    return list(made)


def good(path: Path) -> None:
    encode_video(path, pictures(12), Fraction(25))


def packets_of(size: Size, count: int, codec: str) -> list[Any]:
    encoder: Any = av.CodecContext.create(codec, "w")
    encoder.width, encoder.height = size
    encoder.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    encoder.time_base = Fraction(1, 25)
    encoder.options = {"bf": "0"} if codec == "libx264" else {}
    frames = (av.VideoFrame.from_ndarray(picture, format="rgb24") for picture in pictures(count, size))
    encoded = [packet for frame in frames for packet in encoder.encode(frame.reformat(format=encoder.pix_fmt))]
    return [*encoded, *encoder.encode(None)]


def write(
    path: Path,
    sizes: Iterable[Size] = ((96, 64),),
    *,
    codec: str = "libx264",
    each: int = 10,
    pts: Sequence[int] | None = None,
    tick: Fraction = Fraction(1, 25),
    rotation: int = 0,
    tags: dict[str, str] | None = None,
    options: dict[str, str] | None = None,
) -> None:
    """Write *each* frames of every size, one after another, at *pts* ticks."""
    sizes = list(sizes)
    packets = [packet for size in sizes for packet in packets_of(size, each, codec)]
    with av.open(str(path), "w", options=options or {}) as container:
        stream: Any = container.add_stream(codec, rate=25, options={"bf": "0"} if codec == "libx264" else {})
        stream.width, stream.height = sizes[0]
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.time_base = tick
        stream.metadata.update(tags or {})
        if rotation:
            stream.set_display_rotation(rotation)
        container.start_encoding()  # also where no frame comes
        for number, packet in enumerate(packets):
            packet.stream, packet.time_base = stream, tick
            packet.pts = packet.dts = pts[number] if pts else number
            container.mux(packet)


def resized(path: Path) -> None:
    write(path, [(96, 64), (128, 80)], codec="mjpeg", each=5)


def cut_off(path: Path) -> None:
    """Write an mp4 with its table in front, as cameras that stream do, whose end is missing."""
    write(path, each=60, options={"movflags": "faststart"})
    path.write_bytes(path.read_bytes()[:-300])


def cut_before_its_table(path: Path) -> None:
    write(path)
    path.write_bytes(path.read_bytes()[:-200])


def unreadable_in_the_middle(path: Path) -> None:
    """Write an mp4 whose table gives frame 30 a size that no memory holds: the file cannot be read on from there."""
    write(path, each=60)
    content = bytearray(path.read_bytes())
    entry = content.index(b"stsz") + 16 + 4 * 30
    content[entry : entry + 4] = struct.pack(">I", 0x25000013)
    path.write_bytes(bytes(content))


def without_frames(path: Path) -> None:
    write(path, codec="mjpeg", each=0)


def claiming(count: int) -> Callable[[Path], None]:
    """Return what writes an AVI of 8 frames whose header states *count*."""

    def claim(path: Path) -> None:
        write(path, codec="mjpeg", each=8)
        content = bytearray(path.read_bytes())
        for where in (content.index(b"avih") + 8 + 16, content.index(b"strh") + 8 + 32):
            content[where : where + 4] = struct.pack("<I", count % 2**32)
        path.write_bytes(bytes(content))

    return claim


def named_in_another_encoding(path: Path) -> None:
    """Write an AVI whose title is not UTF-8, as those of many cameras."""
    write(path, codec="mjpeg", each=8)
    content = bytearray(path.read_bytes())
    at = content.index(b"Lavf")
    content[at : at + 4] = "Küh".encode("latin-1") + b"e"
    path.write_bytes(bytes(content))


def no_video(path: Path) -> None:
    path.write_text("time,x,y\n" * 100)


def turned(degrees: int) -> Callable[[Path], None]:
    return lambda path: write(path, rotation=degrees)


def uneven(path: Path) -> None:
    write(path, pts=UNEVEN, tick=Fraction(1, 1000))


UNEVEN = [0, 33, 80, 120, 150, 199, 240, 270, 318, 350]
MADE: dict[str, Callable[[Path], None]] = {
    "resized.avi": resized,
    "resized.ts": lambda path: write(path, [(96, 64), (128, 80)]),
    "cut_off.mp4": cut_off,
    "unreadable_in_the_middle.mp4": unreadable_in_the_middle,
    "cut_before_its_table.mp4": cut_before_its_table,
    "without_frames.avi": without_frames,
    "negative.avi": claiming(-5),
    "absurd.avi": claiming(2_000_000_000),
    "too_few.avi": claiming(3),
    "none.avi": claiming(0),
    "negative_tag.mkv": lambda path: write(path, tags={"NUMBER_OF_FRAMES": "-5"}),
    "no_duration.mkv": lambda path: write(path, options={"live": "1"}),
    "named_in_another_encoding.avi": named_in_another_encoding,
    "no_video.mp4": no_video,
    "empty.mp4": Path.touch,
    "uneven.mkv": uneven,
    "turned_90.mp4": turned(90),
    "turned_180.mp4": turned(180),
    "turned_270.mov": turned(270),
}
REFUSED = {"cut_before_its_table.mp4", "without_frames.avi", "no_video.mp4", "empty.mp4"}


# --- what OpenCV makes of them ----------------------------------------------------------------------


def agrees_with_opencv(path: Path, *, compared: int = 12) -> None:
    """Compare number and size of the frames, and the first pictures, with what `cv2.VideoCapture` gives until it stops."""
    import cv2

    capture, count, shapes, theirs = cv2.VideoCapture(str(path)), 0, set(), []
    while (read := capture.read())[0]:
        count += 1
        shapes.add(read[1].shape)
        if count <= compared:
            theirs.append(read[1][..., ::-1])
    if not count:
        with pytest.raises(InputError) as refused:
            probe_video(path)
        assert str(path) in str(refused.value)
        return
    video = probe_video(path)
    assert video.frame_count == count == len(video.times)
    assert shapes == {(video.height, video.width, 3)}
    one_size = count if video.resized is None else video.resized[0]
    assert video.resized is None or any("changes its size" in problem for problem in video.problems)
    for their, ours in zip(theirs[:one_size], decode_video(path), strict=False):
        assert np.abs(ours.astype(int) - their).max() <= 2


@pytest.mark.parametrize("name", MADE)
def test_frames_are_those_of_opencv_or_the_difference_is_said(tmp_path: Path, name: str) -> None:
    MADE[name](tmp_path / name)
    agrees_with_opencv(tmp_path / name)


def test_frames_of_real_odd_videos_are_those_of_opencv(real_data: Path) -> None:
    videos = sorted(path for path in (real_data / "odd-videos").iterdir() if path.suffix != ".txt")
    assert len(videos) >= 10
    for path in videos:
        agrees_with_opencv(path, compared=1)


def test_a_picture_of_another_size_than_the_header_states_is_said(tmp_path: Path) -> None:
    write(tmp_path / "stated.mkv", codec="libvpx")
    content = (tmp_path / "stated.mkv").read_bytes()
    width = content.index(b"\xb0\x81\x60\xba\x81\x40")  # PixelWidth 96, PixelHeight 64
    (tmp_path / "stated.mkv").write_bytes(content[: width + 2] + b"\x50" + content[width + 3 :])
    video = probe_video(tmp_path / "stated.mkv")
    assert (video.width, video.height) == (96, 64)
    assert "of 96x64 px, the header states 80x64 px" in " ".join(video.problems)


# --- what becomes of them in a session ---------------------------------------------------------------


def test_fewer_frames_than_the_header_states_fail_a_check_with_both_numbers_and_the_first_bad_frame(
    lab: Lab, day: Path
) -> None:
    cut_off(day / "top.mp4")
    info, manifest = record(lab)
    top = info.recording("top")
    assert top.header_frame_count == 60
    assert 0 < top.frame_count < 60
    assert len(read_times(lab.layout, KEY, "top")) == top.frame_count
    said = failed_check(lab, manifest, "recordings_whole")
    assert f"{top.frame_count} frames decode, fewer than the 60 that the header states" in said
    assert f"frame {top.frame_count} is the first one missing" in said
    assert evaluation(manifest, "recordings_readable", lab.root).passed


def test_a_real_video_with_a_damaged_frame_in_the_middle_fails_a_check_with_its_number(
    lab: Lab, day: Path, real_data: Path
) -> None:
    (day / "top.mp4").write_bytes((real_data / "odd-videos/corrupted.mp4").read_bytes())
    info, manifest = record(lab)
    assert (info.recording("top").frame_count, info.recording("top").header_frame_count) == (28, 50)
    said = failed_check(lab, manifest, "recordings_whole")
    assert "after 28 of the 50 frames that the header states; frame 28 is the first bad one" in said


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_video_without_frames_is_named_and_the_sessions_other_recordings_are_used(
    lab: Lab, day: Path, name: str
) -> None:
    video = day / f"top{Path(name).suffix}"
    MADE[name](video)
    info, manifest = record(lab)
    assert [recording.recording for recording in info.recordings] == ["side"]
    assert str(video) in failed_check(lab, manifest, "recordings_readable")
    with pytest.raises(NotFoundError, match=rf'"top" that can be used: .*{video.name}'):
        info.recording("top")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("negative.avi", "The header states 4294967291 frames, which cannot be"),
        ("absurd.avi", "8 frames decode, fewer than the 2000000000 that the header states"),
        ("too_few.avi", "8 frames decode, more than the 3 that the header states"),
        ("negative_tag.mkv", "The header states -5 frames, which cannot be"),
    ],
)
def test_a_frame_count_that_cannot_be_is_said_and_the_decoded_frames_are_kept(
    lab: Lab, day: Path, name: str, said: str
) -> None:
    MADE[name](day / f"top{Path(name).suffix}")
    info, manifest = record(lab)
    assert info.recording("top").frame_count == (10 if name.endswith("mkv") else 8)
    assert said in failed_check(lab, manifest, "recordings_whole")


@pytest.mark.parametrize(("name", "frames"), [("no_duration.mkv", 10), ("none.avi", 8)])
def test_a_file_that_states_no_length_has_that_of_its_frames(lab: Lab, day: Path, name: str, frames: int) -> None:
    MADE[name](day / f"top{Path(name).suffix}")
    info, _ = record(lab)
    top = info.recording("top")
    assert (top.frame_count, top.header_frame_count, top.problems) == (frames, None, [])
    assert top.duration == pytest.approx(frames / 25)


def test_a_picture_that_changes_its_size_refuses_the_recording_with_the_frame_and_both_sizes(
    lab: Lab, day: Path
) -> None:
    resized(day / "top.avi")
    info, manifest = record(lab)
    assert [recording.recording for recording in info.recordings] == ["side"]
    said = failed_check(lab, manifest, "recordings_readable")
    assert f"{day / 'top.avi'}: the picture changes its size at frame 5, from 96x64 px to 128x80 px" in said
    assert said == failed_check(lab, manifest, "recordings_of_one_size")
    assert evaluation(manifest, "recordings_of_one_size", lab.root).severity == dg.AssetCheckSeverity.ERROR
    with pytest.raises(InputError, match="96x64 px up to frame 4 and 128x80 px"):
        list(decode_video(day / "top.avi"))


@pytest.mark.parametrize(
    ("second", "said"),
    [
        (lambda path: write(path, [(128, 80)]), "has pictures of 128x80 px, "),
        (turned(90), "has pictures of 64x96 px, turned by "),
        (turned(180), "has pictures of 96x64 px, turned by 180 degrees, "),
    ],
)
def test_parts_whose_pictures_differ_are_refused_with_both_files_and_sizes(
    lab: Lab, day: Path, second: Callable[[Path], None], said: str
) -> None:
    first_part, second_part = (lab.root / f"split/day1/top_{number}.mp4" for number in (1, 2))
    write(first_part)
    second(second_part)
    info, manifest = record(lab)
    assert [recording.recording for recording in info.recordings] == ["side"]
    why = failed_check(lab, manifest, "recordings_readable")
    assert f"{second_part} {said}" in why
    assert f"{first_part} has pictures of 96x64 px." in why


def test_parts_with_uneven_times_need_not_have_one_average_rate(lab: Lab) -> None:
    uneven(lab.root / "split/day1/top_1.mkv")
    write(lab.root / "split/day1/top_2.mkv", pts=[2 * time for time in UNEVEN], tick=Fraction(1, 1000))
    info, _ = record(lab)
    assert (info.recording("top").frame_count, info.recording("top").regular) == (20, False)
    times = read_times(lab.layout, KEY, "top")
    np.testing.assert_allclose(times[10:] - times[10], np.array(UNEVEN) / 500, atol=1e-9)


def test_a_rotated_recording_has_its_upright_size_and_says_how_it_was_turned(lab: Lab, day: Path) -> None:
    write(day / "top.mov", rotation=-90)
    info, manifest = record(lab)
    top = info.recording("top")
    assert (top.width, top.height, top.rotation) == (64, 96, 90)
    assert top.problems == []
    assert next(decode_video(day / "top.mov")).shape == (96, 64, 3)
    assert evaluation(manifest, "recordings_readable", lab.root).passed


def test_uneven_times_are_kept_as_they_are_and_said(lab: Lab, day: Path) -> None:
    uneven(day / "top.mkv")
    info, manifest = record(lab)
    assert info.recording("top").regular is False
    np.testing.assert_allclose(read_times(lab.layout, KEY, "top"), np.array(UNEVEN) / 1000, atol=1e-9)
    assert "The frame rate varies: 30.0 to 49.0 ms" in failed_check(lab, manifest, "recordings_without_gaps")


def test_a_gap_on_a_clock_as_coarse_as_the_rate_is_no_regular_recording(tmp_path: Path) -> None:
    write(tmp_path / "gap.avi", codec="mjpeg", pts=[0, 1, 2, 3, 4, 6, 7, 8, 9, 10])
    write(tmp_path / "even.avi", codec="mjpeg")
    gap, even = probe_video(tmp_path / "gap.avi"), probe_video(tmp_path / "even.avi")
    assert (gap.regular, even.regular) == (False, True)
    assert even.problems == ()


def test_frames_that_the_decoder_still_holds_count_where_the_file_cannot_be_read_on(tmp_path: Path) -> None:
    unreadable_in_the_middle(tmp_path / "top.mp4")
    video = probe_video(tmp_path / "top.mp4")
    assert video.frame_count == 30
    assert "30" in video.problems[0]
    assert "60" in video.problems[0]


def test_text_that_is_not_utf8_does_not_refuse_a_video(tmp_path: Path) -> None:
    named_in_another_encoding(tmp_path / "top.avi")
    assert probe_video(tmp_path / "top.avi").frame_count == 8


def test_an_odd_session_does_not_stop_the_next(lab: Lab, day: Path) -> None:
    other = lab.root / "recordings/day2"
    other.mkdir()
    no_video(other / "top.mp4")
    with pytest.raises(InputError, match=r"ses-day2: no recording can be used\. .*day2/top\.mp4"):
        record_session(lab, discover(lab).sessions["ses-day2"], run_id="", log=lambda _: None)
    assert [recording.recording for recording in record(lab)[0].recordings] == ["side"]


# --- real ones, each with what is expected of it ------------------------------------------------------


@dataclass(frozen=True)
class Expected:
    """What probing gives of a real odd video; None as `frames`: it is refused."""

    frames: int | None
    header: int | None = None
    size: Size = (0, 0)
    rotation: int = 0
    rate: str = ""
    regular: bool = True
    fails: Mapping[str, str] = field(default_factory=dict)  # check: what it says


EXPECTED = {
    "chunk_out_of_range.mp4": Expected(None, fails={"recordings_readable": "does not open as a video"}),
    "corrupted.mp4": Expected(
        28, 50, (1280, 720), rate="10", fails={"recordings_whole": "Decoding stops after 28 of the 50 frames"}
    ),
    "no_duration.webm": Expected(
        *(74, None, (1280, 720)),
        rate="15000/1001",
        regular=False,
        fails={"recordings_without_gaps": "The frame rate varies: 62.0 to 72.0 ms"},
    ),
    "pts_test_video.mkv": Expected(
        *(299, None, (1920, 1080)),
        rate="30",
        regular=False,
        fails={"recordings_without_gaps": "1 gap in time where 33.0 ms is usual: 67 ms after frame 36; about 1 frame"},
    ),
    "stub_h264.mp4": Expected(5, 5, (160, 120), rate="10"),
    "stub_mjpeg.avi": Expected(3, 3, (160, 120), rate="10"),
    "stub_mp4v.mp4": Expected(5, 5, (160, 120), rate="10"),
    "video.avi": Expected(8, 8, (32, 32), rate="1"),
    "video_0.mov": Expected(3, 3, (568, 320), rate="30"),
    "video_90.mov": Expected(3, 3, (320, 568), rotation=90, rate="30"),
}
EVERY = {
    "recordings_readable",
    "recordings_whole",
    "recordings_without_gaps",
    "recordings_of_one_size",
    "cameras_agree",
}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_real_odd_video_is_what_is_expected_of_it(lab: Lab, real_data: Path, name: str) -> None:
    expected = EXPECTED[name]
    kind = Path(name).suffix
    if kind not in {f".{known}" for known in KINDS}:
        lab = with_template(lab, kind)
    shutil.copyfile(real_data / "odd-videos" / name, lab.root / f"recordings/day1/top{kind}")
    if expected.frames is None:
        with pytest.raises(InputError, match=f"top{kind}: .*{expected.fails['recordings_readable']}"):
            record(lab)
        return
    info, manifest = record(lab)
    top = info.recording("top")
    assert (top.frame_count, top.header_frame_count, (top.width, top.height), top.rotation, top.rate, top.regular) == (
        *(expected.frames, expected.header, expected.size, expected.rotation, expected.rate, expected.regular),
    )
    assert len(read_times(lab.layout, KEY, "top")) == expected.frames
    failing = {check for check in EVERY if not evaluation(manifest, check, lab.root).passed}
    assert failing == set(expected.fails)
    for check, said in expected.fails.items():
        assert said in failed_check(lab, manifest, check)


def with_template(lab: Lab, kind: str) -> Lab:
    settings = lab.root / "lab.yaml"
    settings.write_text(f'{settings.read_text()}  - {{root: recordings, template: "{{session}}/{{camera}}{kind}"}}\n')
    return open_lab_folder(lab.root)


def test_every_real_odd_video_has_an_expectation(real_data: Path) -> None:
    assert {path.name for path in (real_data / "odd-videos").iterdir() if path.suffix != ".txt"} == set(EXPECTED)


# --- parts between which time is missing --------------------------------------------------------------


def test_files_whose_time_stamps_run_on_show_a_gap_between_them(lab: Lab) -> None:
    write(lab.root / "split/day1/top_1.mkv", pts=range(0, 400, 40), tick=Fraction(1, 1000))
    write(lab.root / "split/day1/top_2.mkv", pts=range(900, 1300, 40), tick=Fraction(1, 1000))
    _, manifest = record(lab)
    said = failed_check(lab, manifest, "recordings_without_gaps")
    assert "Between top_1.mkv and top_2.mkv lies a gap of 0.500 s, by their own time stamps" in said


def test_files_that_follow_each_other_without_a_gap_say_nothing(lab: Lab) -> None:
    write(lab.root / "split/day1/top_1.mkv", pts=range(0, 400, 40), tick=Fraction(1, 1000))
    write(lab.root / "split/day1/top_2.mkv", pts=range(400, 800, 40), tick=Fraction(1, 1000))
    write(lab.root / "split/day1/top_3.mkv")  # counts from 0, as most do
    _, manifest = record(lab)
    assert evaluation(manifest, "recordings_without_gaps", lab.root).passed


def test_a_gap_between_files_is_seen_by_the_times_in_their_names(tmp_path: Path) -> None:
    (tmp_path / "lab.yaml").write_text(
        "name: lab\nrecordings:\n"
        '  - {root: recordings, template: "{session}/{camera}_{part}_{start}.mkv", start_format: "%Y%m%dT%H%M%S"}\n'
    )
    for part, start in enumerate(("101200", "101201", "101230"), start=1):
        path = tmp_path / f"recordings/day1/top_{part}_20260501T{start}.mkv"
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, each=25)
    lab = open_lab_folder(tmp_path)
    info, manifest = record(lab)
    assert info.recording("top").time_start == 0
    said = failed_check(lab, manifest, "recordings_without_gaps")
    assert said.count("Between") == 1
    assert "_20260501T101201.mkv and top_3_20260501T101230.mkv lies a gap of 28.000 s, by their names" in said
