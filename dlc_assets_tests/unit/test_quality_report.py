"""The quality report: what is said, what is shown, and that odd poses, names and videos still give a page."""

from __future__ import annotations

import re
import time
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dlc_assets.lab.lab import Lab, open_lab_folder
from dlc_assets.lab.manifest import Manifest
from dlc_assets.poses.schema import Track
from dlc_assets.poses.table_file import write_pose_table
from dlc_assets.recordings.info import read_times
from dlc_assets.review.findings import Finding
from dlc_assets.review.quality_record import NAME, read_record
from dlc_assets.review.report import product
from dlc_assets.review.report.build import PAGE, SUMMARY, Report, build_report
from dlc_assets.review.report.charts import clock
from dlc_assets.review.report.measures import measure
from dlc_assets.review.report.moments import places_to_show, strip_frames
from dlc_assets.review.report.page import number_words
from dlc_assets.review.report.points import points_at
from dlc_assets.review.report.verdict import verdict_of
from dlc_assets_tests.unit.judged_lab import SESSION, add_poses, filmed_lab, finding, metadata_of, moment, walking

NAMES = (("", "snout"), ("", "leftear"), ("", "tailbase"))
SKELETON = (("snout", "leftear"), ("leftear", "tailbase"))


class Outline(HTMLParser):
    """What a page is made of: its elements, where they point to, and whether each is closed."""

    VOID = frozenset({"meta", "img", "br", "input", "link"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.sources: list[str] = []
        self.text: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.sources += [value or "" for name, value in attrs if name in {"src", "href", "xlink:href", "action"}]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def check_page(html: str) -> Outline:
    """Check that *html* is whole and needs nothing from elsewhere."""
    outline = Outline(html)
    assert outline.open == []
    assert all(source.startswith(("data:", "#")) for source in outline.sources), outline.sources
    assert "@import" not in html
    assert set(re.findall(r"url\(([^)]*)", html)) <= set(re.findall(r"url\((#[^)]*)", html))
    return outline


def make(
    lab: Lab, poses: Manifest, folder: Path, *findings: Finding, filtered: Path | None = None
) -> tuple[str, Report]:
    folder.mkdir()
    report = build_report(lab, poses, folder, findings, filtered=None if filtered is None else {"top": filtered})
    return (folder / PAGE).read_text(encoding="utf-8"), report


# --- what is said


def test_no_failed_check_is_good() -> None:
    verdict = verdict_of([finding("jumps"), finding("swaps")])
    assert (verdict.level, verdict.sentence) == ("good", "Good: all 2 checks pass.")


def test_a_failed_warning_asks_to_look_and_says_why() -> None:
    verdict = verdict_of([finding("jumps", False, says="snout jumps 3 times"), finding("swaps")])
    assert verdict.level == "look"
    assert verdict.sentence == "Look at it: 1 of 2 checks fails. snout jumps 3 times."


def test_one_failed_error_decides_whatever_else_there_is() -> None:
    verdict = verdict_of(
        [finding("jumps", False), finding("frames_match", False, "error", says="20 frames are missing.")]
    )
    assert verdict.level == "unusable"
    assert verdict.sentence == "Do not use: 1 of 2 checks fails. 20 frames are missing."


def test_many_failed_checks_are_named_and_the_first_two_said_in_full() -> None:
    verdict = verdict_of([finding(name, False, says=f"It is {name}.") for name in ("a_b", "c", "d_e", "f")])
    assert verdict.sentence == "Look at it: 4 of 4 checks fail. It is a_b. It is c. Also: d e, f."


def test_where_nothing_was_checked_nothing_is_good() -> None:
    assert verdict_of([]).level == "look"


def test_a_very_long_sentence_is_cut() -> None:
    assert len(verdict_of([finding("a", False, says="word " * 1000)]).sentence) <= 600


@pytest.mark.parametrize(
    ("seconds", "step", "said"),
    [
        (247, 1, "4:07"),
        (3847, 1, "1:04:07"),
        (59.96, 0.1, "1:00.0"),
        (4.72, 0.5, "0:04.7"),
        (-5, 1, "-0:05"),
        (-0.5, 0.1, "-0:00.5"),
    ],
)
def test_times_are_said_as_a_clock_does(seconds: float, step: float, said: str) -> None:
    assert clock(seconds, step) == said


def test_numbers_are_said_short() -> None:
    assert [number_words(v) for v in (None, float("nan"), 0.12345, 3.0, 12345.6, 0.000012)] == [
        "",
        "",
        "0.123",
        "3",
        "12,346",
        "1.2e-05",
    ]


# --- which moments


def test_each_failed_check_shows_its_worst_moment_before_any_shows_its_second() -> None:
    jumps = finding("jumps", False, "warn", moment(10, 10, "small", 1), moment(100, 100, "large", 9))
    lost = finding("lost", False, "error", moment(300, 320, "lost"))
    passed = finding("swaps", True, "warn", moment(500, 500, "no matter", 99))
    shown = [place.moment.what for place in places_to_show([passed, jumps, lost])]
    assert shown == ["lost", "large", "small"]


def test_two_findings_of_one_place_are_one_picture() -> None:
    jumps = finding("jumps", False, "warn", moment(100, 100, "jumps", 9))
    limbs = finding("limbs", False, "warn", moment(101, 101, "too long", 5))
    (place,) = places_to_show([jumps, limbs])
    assert (place.moment.what, place.also) == ("jumps", ("too long",))


def test_of_a_good_session_the_worst_is_shown_all_the_same() -> None:
    assert len(places_to_show([finding("jumps", True, "warn", moment(100, 100, "nearly"))])) == 1


def test_a_strip_stays_within_the_recording() -> None:
    assert strip_frames(moment(0, 0, ""), 12) == [0, 2]
    assert strip_frames(moment(9, 11, ""), 12) == [7, 10, 11]
    assert strip_frames(moment(0, 0, ""), 1) == [0]


# --- what is measured


def _table(path: Path, tracks: list[Track], times: np.ndarray) -> Path:
    write_pose_table(path, tracks, times, replace(metadata_of(tracks, SESSION, SKELETON), frame_count=len(times)))
    return path


def test_measures_are_those_of_the_whole_table(tmp_path: Path) -> None:
    frames, rate = 300_000, 25.0
    times = np.arange(frames) / rate
    tracks = walking(frames, *NAMES)
    steps = np.arange(frames)
    tracks = [
        replace(track, x=np.float32(10 + (steps % 1000) * 0.05)) for track in tracks
    ]  # 1.25 px/s, and back at once
    tracks[0].y[200_000] += 40
    tracks[1].likelihood[:30_000] = 0.1
    measures = measure(_table(tmp_path / "top.parquet", tracks, times), (64, 48), 0.6)
    assert measures.frames == frames
    assert measures.usable == pytest.approx([1.0, 0.9, 1.0])
    assert np.nanmean(measures.speed.mean) == pytest.approx(1.25 + 50 * 25 / 1000, rel=0.02)
    assert np.nanmin(measures.speed.low) == pytest.approx(1.25, rel=0.02)
    assert measures.limbs[0].median == pytest.approx(6)
    assert np.nanmax(measures.limb_length.high[0]) == pytest.approx(34, abs=0.1)  # one frame in 300,000 is seen
    assert np.isnan(measures.limb_length.mean[0][:40]).all()
    assert measures.occupancy.sum() == pytest.approx(frames / rate)
    assert len(measures.paths.times) <= 4_000


def test_a_gap_in_time_is_no_speed_and_stays_empty(tmp_path: Path) -> None:
    times = np.concatenate([np.arange(100), np.arange(100) + 1000]) / 25
    tracks = walking(200, *NAMES)
    for track in tracks:
        track.x[100:] += 20
    measures = measure(_table(tmp_path / "top.parquet", tracks, times), (64, 48), 0.6)
    assert np.nanmax(measures.speed.high) < 10
    assert np.isnan(measures.likelihood[0]).sum() > 50


def test_without_a_skeleton_the_nearest_body_parts_are_joined(tmp_path: Path) -> None:
    tracks = walking(50, *NAMES)
    metadata = replace(metadata_of(tracks, SESSION), frame_count=50)
    write_pose_table(tmp_path / "top.parquet", tracks, np.arange(50) / 25, metadata)
    measures = measure(tmp_path / "top.parquet", (64, 48), 0.6)
    assert {limb.ends for limb in measures.limbs} == {("snout", "leftear"), ("leftear", "tailbase")}
    assert not measures.stated_skeleton


def test_poses_of_single_frames_are_those_of_the_table(tmp_path: Path) -> None:
    frames = 140_000  # more than one row group
    tracks = walking(frames, *NAMES)
    path = _table(tmp_path / "top.parquet", tracks, np.arange(frames) / 25)
    found = points_at(path, [("", "tailbase"), ("", "tail")], [5, 139_999, 200_000])
    assert set(found) == {5, 139_999}
    assert found[139_999][0].tolist() == [tracks[2].x[-1], tracks[2].y[-1], tracks[2].likelihood[-1]]
    assert np.isnan(found[5][1]).all()


# --- the page


def test_a_report_shows_the_verdict_the_checks_the_moments_and_where_all_comes_from(tmp_path: Path) -> None:
    lab = filmed_lab(tmp_path / "lab")
    tracks = walking(12, *NAMES)
    poses = add_poses(lab, tracks, skeleton=SKELETON)
    smooth = tmp_path / "filtered.parquet"
    write_pose_table(smooth, tracks, read_times(lab.layout, SESSION, "top"), metadata_of(tracks, SESSION, SKELETON))
    jumps = finding("jumps", False, "warn", moment(5, 6, "snout jumps by 20 px"), says="snout jumps once.")
    html, report = make(lab, poses, tmp_path / "made", jumps, finding("swaps"), filtered=smooth)
    outline = check_page(html)
    text = " ".join(outline.text)
    for said in (
        "snout jumps once.",
        "snout jumps by 20 px",
        "0:00.2, frames 5 to 6",
        "2 px/cm",
        "cm/s",
        f"walker@{'0123456789ab'}",
        "mean after filtering",
        "The worst moments",
    ):
        assert said in text, said
    assert html.count("data:image/jpeg") == 1 + 1 + 3  # the moment, the even frames, paths before and after, places
    assert len(html) < 300_000
    assert report.record == read_record(tmp_path / "made" / NAME)
    with Image.open(tmp_path / "made" / SUMMARY) as summary:
        assert summary.width > 900
    assert (tmp_path / "made" / SUMMARY).stat().st_size < 180_000
    assert report.problems == ()


def test_names_of_the_lab_are_text_never_markup(tmp_path: Path) -> None:
    lab = filmed_lab(tmp_path / "lab")
    evil = '<script>alert("x")</script> & $\\frac$ ü'
    names = ((evil, evil), (evil, "b"), ("other", evil), ("other", "b"))
    poses = add_poses(lab, walking(12, *names), skeleton=[(evil, "b")])
    said = finding(evil, False, "error", moment(3, 3, evil, 1.0, evil), says=evil)
    html, _ = make(lab, poses, tmp_path / "made", said)
    outline = check_page(html)
    assert "script" not in outline.tags
    assert evil in "".join(outline.text)


def test_a_session_without_any_detection_still_has_a_report(tmp_path: Path) -> None:
    lab = filmed_lab(tmp_path / "lab")
    nothing = np.full(12, np.nan, np.float32)
    tracks = [Track("", part, nothing, nothing, nothing) for _, part in NAMES]
    html, _ = make(
        lab,
        add_poses(lab, tracks, skeleton=SKELETON),
        tmp_path / "made",
        finding("lost", False, "error", moment(0, 11, "nothing found")),
    )
    text = " ".join(check_page(html).text)
    assert "0.0%" in text
    assert "never seen" in text


def test_one_frame_is_enough_for_a_report(tmp_path: Path) -> None:
    lab = filmed_lab(tmp_path / "lab", frames=1)
    html, _ = make(
        lab,
        add_poses(lab, walking(1, *NAMES)),
        tmp_path / "made",
        finding("short", False, "warn", moment(0, 0, "one frame")),
    )
    assert "1 frame, 0.0 s" in " ".join(check_page(html).text)


def test_a_body_part_that_is_never_seen_and_a_point_far_outside_the_picture_are_drawn_as_such(tmp_path: Path) -> None:
    lab = filmed_lab(tmp_path / "lab")
    tracks = walking(12, *NAMES)
    tracks[2].likelihood[:] = 0.01
    tracks[0].x[5], tracks[0].y[5] = 1e9, -1e9
    html, _ = make(lab, add_poses(lab, tracks, skeleton=SKELETON), tmp_path / "made", finding("seen", False, "error"))
    text = " ".join(check_page(html).text)
    assert "never seen" in text
    assert "100.0%" in text


def test_where_the_video_is_gone_the_report_is_made_from_the_poses_and_says_so(tmp_path: Path) -> None:
    lab = filmed_lab(tmp_path / "lab")
    poses = add_poses(lab, walking(12, *NAMES))
    next((tmp_path / "lab" / "recordings").rglob("*.mp4")).unlink()
    html, report = make(lab, poses, tmp_path / "made", finding("jumps", False, "warn", moment(5, 6, "jumps")))
    (problem,) = report.problems
    assert problem.startswith("top: without pictures of the video: the video ")
    assert problem.endswith("is gone.")
    assert problem in " ".join(check_page(html).text)


def test_another_video_under_the_same_name_is_not_shown(tmp_path: Path) -> None:
    lab = filmed_lab(tmp_path / "lab")
    poses = add_poses(lab, walking(12, *NAMES))
    video = next((tmp_path / "lab" / "recordings").rglob("*.mp4"))
    video.write_bytes(video.read_bytes() + b"more")
    _, report = make(lab, poses, tmp_path / "made", finding("jumps"))
    assert "is not the video that was probed" in report.problems[0]


def test_a_setup_that_cannot_be_told_costs_scale_and_regions_and_not_the_report(tmp_path: Path) -> None:
    lab = filmed_lab(tmp_path / "lab")
    poses = add_poses(lab, walking(12, *NAMES))
    text = (lab.root / "lab.yaml").read_text().replace("{scale:", "{from: 2026-01-01, scale:")
    (lab.root / "lab.yaml").write_text(text)
    info = lab.layout.session_manifest(SESSION)
    info.write_text(info.read_text().replace('"day": "2026-05-01"', '"day": null'))
    html, report = make(open_lab_folder(lab.root), poses, tmp_path / "made", finding("jumps"))
    assert report.problems[0].startswith("top: without scale and regions: ")
    assert "px/s" in html


def test_many_animals_and_body_parts_fit_the_page_and_what_is_left_out_is_said(tmp_path: Path) -> None:
    lab = filmed_lab(tmp_path / "lab")
    names = [(f"fly {animal}", f"part {part}") for animal in range(12) for part in range(5)]
    html, _ = make(lab, add_poses(lab, walking(12, *names)), tmp_path / "made", finding("jumps"))
    text = " ".join(check_page(html).text)
    assert "4 more animals are not drawn" in text
    assert "20 more, which can be trusted more, are not drawn." in text
    assert len(html) < 1_000_000


def test_a_long_recording_is_measured_and_drawn_in_seconds(tmp_path: Path) -> None:
    lab = filmed_lab(tmp_path / "lab")
    tracks = walking(100_000, *(("", f"part {n}") for n in range(12)))
    path = lab.layout.pose_file("walker", "0123456789ab", SESSION, "top")
    poses = add_poses(lab, walking(12, *NAMES))
    metadata = replace(metadata_of(tracks, SESSION), frame_count=100_000)
    write_pose_table(path, tracks, np.arange(100_000) / 25, metadata)
    next((lab.root / "recordings").rglob("*.mp4")).unlink()
    begun = time.perf_counter()
    html, _ = make(lab, poses, tmp_path / "made", finding("jumps", False, "warn", moment(50_000, 50_010, "jumps")))
    assert time.perf_counter() - begun < 20
    assert len(html) < 3_000_000


# --- the product


def test_the_report_is_made_once_and_again_when_poses_or_rig_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dlc_assets.review import pose_checks
    from dlc_assets_tests.graph.small_lab import as_if_trained

    monkeypatch.setattr(
        pose_checks, "check_poses", lambda lab, manifest: [finding("jumps", False, says="snout jumps.")]
    )
    lab = filmed_lab(tmp_path / "lab")
    as_if_trained(lab)
    poses = add_poses(lab, walking(12, *NAMES))

    def make_now(lab: Lab) -> tuple[Manifest, bool]:
        return product.report_session(
            lab, "walker", SESSION, overrides={}, recompute=False, run_id="", log=lambda _: None
        )

    manifest, made_now = make_now(lab)
    assert made_now
    assert manifest.details["failed"] == ["jumps"]
    assert manifest.problems == ["snout jumps."]
    assert product.report_page(lab, manifest) == product.report_page(lab, poses)
    assert {path.name for path in product.report_folder(lab, poses).iterdir()} == {PAGE, SUMMARY, NAME, "manifest.json"}
    assert not make_now(lab)[1]
    (lab.root / "lab.yaml").write_text((lab.root / "lab.yaml").read_text().replace("px_per_cm: 2.0", "px_per_cm: 3.0"))
    assert make_now(open_lab_folder(lab.root))[1]


def test_a_report_that_was_never_made_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    lab = filmed_lab(tmp_path / "lab")
    with pytest.raises(product.NotFoundError, match="materialize quality_report"):
        product.report_page(lab, add_poses(lab, walking(12, *NAMES)))
