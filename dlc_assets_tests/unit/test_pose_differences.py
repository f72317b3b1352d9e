"""Two versions made poses of the same sessions: the numbers say which changed, the pictures where, and what cannot be said is said."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from PIL import Image
from typer.testing import CliRunner

from dlc_assets import commands, open_lab
from dlc_assets.cli import app
from dlc_assets.inference.pose_comparison import PoseComparison, compare_poses, versions_to_compare
from dlc_assets.inference.pose_comparison_report import TABLE, write_report
from dlc_assets.lab.errors import InputError, NotFoundError, SettingsError
from dlc_assets.lab.lab import Lab, open_lab_folder
from dlc_assets.lab.manifest import read_manifest
from dlc_assets.launching import RunOutcome
from dlc_assets.poses import table_file
from dlc_assets.poses.difference_pictures import window
from dlc_assets.poses.differences import Distances, TableChange, compare_tables, positions_in
from dlc_assets.poses.schema import PoseMetadata, Track
from dlc_assets.poses.table_file import write_pose_table
from dlc_assets.video.frames import read_frames
from dlc_assets_tests.conftest import use_lab
from dlc_assets_tests.graph import small_lab
from dlc_assets_tests.graph.small_lab import FIRST, SECOND, THIRD

OLD, NEW = "0123456789ab", "ba9876543210"
PARTS = ("snout", "tailbase")


def track(bodypart: str, x: Any, y: Any = 0.0, likelihood: Any = 0.9, *, frames: int = 100, animal: str = "") -> Track:
    values = (np.broadcast_to(np.asarray(value, np.float32), (frames,)).copy() for value in (x, y, likelihood))
    return Track(animal, bodypart, *values)


def stored(path: Path, tracks: Sequence[Track], *, first_frame: int = 0, pcutoff: float | None = 0.6) -> Path:
    frames = len(tracks[0].x)
    metadata = PoseMetadata(
        model="walker", version=path.stem, session=FIRST, recording="top", frame_count=10**7, pcutoff=pcutoff
    )
    write_pose_table(path, tracks, np.arange(frames) / 25, metadata, first_frame=first_frame)
    return path


def compared(folder: Path, old: Sequence[Track], new: Sequence[Track], **settings: Any) -> TableChange:
    return compare_tables(stored(folder / "old.parquet", old), stored(folder / "new.parquet", new), **settings)


# --- known answers ----------------------------------------------------------------------------------


def test_poses_that_all_moved_by_3_px_have_a_median_of_3(tmp_path: Path) -> None:
    ramp = np.arange(100)
    change = compared(tmp_path, [track("snout", ramp, 5)], [track("snout", ramp + 3, 5)])
    row = change.bodyparts["snout"].row()
    assert (row["median"], row["p95"]) == (3.0, 3.0)
    assert (row["changed"], row["moved"], row["gained"], row["lost"], row["likely"]) == (0, 0, 0, 0, 1)
    assert compared(tmp_path, [track("snout", ramp)], [track("snout", ramp + 3)], moved_px=2.9).total().changed == 1


def test_swapped_body_parts_have_moved_by_their_distance(tmp_path: Path) -> None:
    old = [track("snout", 0), track("tailbase", 30, 40)]
    new = [track("snout", 30, 40), track("tailbase", 0)]
    change = compared(tmp_path, old, new)
    assert {name: part.row()["median"] for name, part in change.bodyparts.items()} == {"snout": 50.0, "tailbase": 50.0}
    assert change.total().row()["moved"] == 1


def test_what_comes_and_goes_is_counted_and_has_no_distance(tmp_path: Path) -> None:
    likelihood = np.full(100, 0.9)
    likelihood[:25] = 0.1
    x = np.zeros(100)
    x[90:] = np.nan
    change = compared(tmp_path, [track("snout", 0, 0, likelihood)], [track("snout", x, x)])
    row = change.bodyparts["snout"].row()
    assert (row["gained"], row["lost"], row["likely"]) == (0.25, 0.10, 0.65)
    assert row["changed"] == pytest.approx(0.35)
    assert row["median"] == 0
    assert change.looks[0].distance == 0  # worth a look, as body parts came or went


def test_tables_without_any_pose_have_no_distances_and_no_frames_to_look_at(tmp_path: Path) -> None:
    nothing = [track("snout", np.nan, np.nan, np.nan)]
    change = compared(tmp_path, nothing, nothing)
    row = change.total().row()
    assert np.isnan([row["median"], row["p95"], row["moved"]]).all()
    assert (row["changed"], change.looks) == (0, [])


def test_each_tables_own_pcutoff_counts_and_none_takes_all_that_is_there(tmp_path: Path) -> None:
    old = stored(tmp_path / "old.parquet", [track("snout", 0, 0, 0.5)], pcutoff=0.4)
    new = stored(tmp_path / "new.parquet", [track("snout", 1, 0, 0.5)], pcutoff=0.6)
    assert compare_tables(old, new).total().row()["lost"] == 1
    stored(new, [track("snout", 1, 0, np.nan)], pcutoff=None)
    assert compare_tables(old, new).total().row()["likely"] == 1


def test_quantiles_are_those_of_all_values_within_a_hundredth() -> None:
    values = np.random.default_rng(1).gamma(2.0, 4.0, 50_000)
    whole, halves = Distances(), Distances()
    whole.add(values)
    for half in (values[:10], values[10:]):
        part = Distances()
        part.add(half)
        halves.merge(part)
    for share in (0.05, 0.5, 0.95, 1.0):
        assert whole.quantile(share) == pytest.approx(np.quantile(values, share), rel=0.01)
        assert halves.quantile(share) == pytest.approx(whole.quantile(share))
    assert np.isnan(Distances().quantile(0.5))


# --- tables that do not fit -------------------------------------------------------------------------


def test_body_parts_in_common_are_compared_and_the_others_named(tmp_path: Path) -> None:
    change = compared(
        tmp_path,
        [track("snout", 0), track("ear", 9)],
        [track("tailbase", 5), track("snout", 1), track("snout", 1, animal="m2")],
    )
    assert list(change.bodyparts) == ["snout"]
    assert change.only_old_tracks == [("", "ear")]
    assert change.only_new_tracks == [("", "tailbase"), ("m2", "snout")]
    with pytest.raises(InputError, match=r'no body part in common, .*"snout" and "tailbase"'):
        compared(tmp_path, [track("snout", 0)], [track("tailbase", 0)])


def test_frames_in_both_tables_are_compared_wherever_they_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_file, "ROW_GROUP_FRAMES", 32)  # so that neither's row groups begin where the other's do
    frames = np.arange(200)
    old = stored(tmp_path / "old.parquet", [track("snout", frames[:120], frames=120)])
    new = stored(tmp_path / "new.parquet", [track("snout", frames[50:200] + 4, frames=150)], first_frame=50)
    change = compare_tables(old, new)
    assert (change.frames, change.only_old_frames, change.only_new_frames) == (70, 50, 80)
    assert change.bodyparts["snout"].row()["median"] == 4.0
    stored(new, [track("snout", 1)], first_frame=500)
    with pytest.raises(InputError, match="no frame in common: the one has frames 0 to 119, the other 500 to 599"):
        compare_tables(old, new)


def test_no_more_than_a_row_group_of_a_body_part_is_read_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_file, "ROW_GROUP_FRAMES", 64)
    rng = np.random.default_rng(2)
    paths = [
        stored(tmp_path / f"{name}.parquet", [track(part, rng.normal(size=1000), frames=1000) for part in PARTS])
        for name in ("old", "new")
    ]
    read: list[int] = []
    whole = pq.ParquetFile.read_row_group

    def counted(self: pq.ParquetFile, number: int, **settings: Any) -> Any:
        rows = whole(self, number, **settings)
        read.append(len(rows))
        return rows

    monkeypatch.setattr(pq.ParquetFile, "read_row_group", counted)
    monkeypatch.setattr(pq.ParquetFile, "read", None)
    done: list[int] = []
    compare_tables(*paths, on_frames=done.append)
    assert max(read) == 64
    assert sum(read) == 2 * 2 * 1000  # each once
    assert done == [*range(64, 1000, 64), 1000]


def test_the_frames_to_look_at_changed_most_and_lie_far_apart(tmp_path: Path) -> None:
    moved = np.zeros(1000)
    moved[100:140] = 20  # one long change, of which one frame is enough
    moved[[500, 900]] = [40, 30]
    change = compared(tmp_path, [track("snout", 0, frames=1000)], [track("snout", moved, frames=1000)])
    frames = [look.frame for look in change.looks]
    assert frames[:2] == [500, 900]
    assert 100 <= frames[2] < 140
    assert len(frames) == 3
    assert [look.distance for look in change.looks] == [40, 30, 20]


def test_positions_of_single_frames_are_found_in_whichever_row_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_file, "ROW_GROUP_FRAMES", 16)
    path = stored(tmp_path / "old.parquet", [track("snout", np.arange(100), 7)])
    found = positions_in(path, [99, 3, 1000])["", "snout"]
    np.testing.assert_array_equal(found[:2], np.array([[99, 7, 0.9], [3, 7, 0.9]], np.float32))
    assert np.isnan(found[2]).all()


# --- pictures ---------------------------------------------------------------------------------------


def test_a_picture_shows_all_positions_with_room_around_them_within_the_frame() -> None:
    left, right, top, bottom = window(
        640, 480, [{("", "snout"): np.array([620.0, 20.0])}, {("", "tail"): np.array([520.0, 90.0])}]
    )
    assert left < 520
    assert (right, top) == (640, 0)
    assert right - left == bottom - top == 170
    assert window(64, 48, [{}, {}]) == (0, 64, 0, 48)
    assert window(64, 48, [{("", "snout"): np.array([5.0, 5.0])}]) == (
        0,
        64,
        0,
        48,
    )  # smaller than the least that is shown


def test_a_far_frame_of_a_steady_video_is_the_same_sought_and_decoded(tmp_path: Path) -> None:
    video = small_lab.film(tmp_path / "top.mp4", 400)
    wanted = [3, 250, 399]
    sought = read_frames(video, wanted, rate=Fraction(25))
    for frame, picture in read_frames(video, wanted).items():
        np.testing.assert_array_equal(sought[frame], picture)


def test_a_far_frame_of_an_uneven_video_is_sought_by_its_packets_or_decoded_where_they_are_not_its_frames(
    real_data: Path,
) -> None:
    video = real_data / "odd-videos" / "pts_test_video.mkv"  # 299 frames, with gaps of 33 and 67 ms
    (decoded,) = read_frames(video, [298]).values()
    for frame_count in (299, 300):
        (found,) = read_frames(video, [298], frame_count=frame_count).values()
        np.testing.assert_array_equal(found, decoded)


# --- sessions of a lab ------------------------------------------------------------------------------


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """Three sessions; the old version analysed all of them, the new one two: the first moved by 3 px, the second by 13."""
    small_lab.write_small_lab(tmp_path / "lab")
    lab = open_lab_folder(tmp_path / "lab")
    small_lab.record(lab, *small_lab.SESSIONS)
    small_lab.as_if_trained(lab, version=NEW)
    small_lab.as_if_trained(lab, version=OLD)
    small_lab.as_if_analysed(lab, *small_lab.SESSIONS, version=OLD)
    small_lab.as_if_analysed(lab, FIRST, SECOND, version=NEW)
    rewrite(lab, FIRST, [track(part, 23, 10, frames=12) for part in PARTS])
    rewrite(lab, SECOND, [track(part, 20, 23, frames=12) for part in PARTS])
    return lab


def rewrite(lab: Lab, session: str, tracks: list[Track], **settings: Any) -> None:
    stored(lab.layout.pose_file("walker", NEW, session, "top"), tracks, **settings)


def comparison(lab: Lab, sessions: Sequence[str] | None = None, **settings: Any) -> PoseComparison:
    return compare_poses(lab, *versions_to_compare(lab, "walker", f"walker@{NEW}"), sessions, **settings)


def test_sessions_are_ranked_by_how_much_they_change(lab: Lab) -> None:
    found = comparison(lab)
    assert [change.session for change in found.sessions] == [SECOND, FIRST]
    assert (found.only_old, found.only_new) == ([THIRD], [])
    table = found.table()
    assert list(table["bodypart"]) == ["(all)", *PARTS] * 2
    whole = table[table["bodypart"] == "(all)"].set_index("session")
    assert whole["median"].to_dict() == {SECOND: 13.0, FIRST: 3.0}
    assert whole["changed"].to_dict() == {SECOND: 1.0, FIRST: 0.0}
    assert set(whole["positions"]) == {24}


def test_the_notebook_gets_the_same_table_and_a_warning_of_what_is_left_out(lab: Lab) -> None:
    with pytest.warns(UserWarning, match=f"only walker@{OLD} has analysed {THIRD}"):
        table = open_lab(lab.root).compare_poses("walker", f"walker@{NEW[:4]}")
    pd.testing.assert_frame_equal(table, comparison(lab).table())


def test_the_report_has_table_and_pictures_of_the_sessions_that_change_most(lab: Lab) -> None:
    found = comparison(lab)
    report, sheets, missing = write_report(lab, found, limit=1, log=lambda _: None)
    assert missing == []
    assert [sheet.name for sheet in sheets] == [f"{SECOND}_top.png"]
    with Image.open(sheets[0]) as picture:
        assert min(picture.size) > 300
    text = report.read_text()
    assert text.index(SECOND) < text.index(FIRST)
    assert f"Only walker@{OLD} analysed\n\n- {THIRD}" in text
    read = pd.read_csv(report.parent / TABLE)
    assert list(read["session"]) == [SECOND] * 3 + [FIRST] * 3
    # Written again, what is not drawn any more is not left lying there.
    write_report(lab, found, limit=0, log=lambda _: None)
    assert sorted(path.name for path in report.parent.iterdir()) == [TABLE, report.name]


def test_without_the_videos_the_numbers_are_there_and_the_pictures_are_said_to_be_missing(lab: Lab) -> None:
    (lab.root / small_lab.video_of(SECOND)).unlink()
    found = comparison(lab)
    report, sheets, missing = write_report(lab, found, limit=5, log=lambda _: None)
    assert [sheet.name for sheet in sheets] == [f"{FIRST}_top.png"]
    assert len(missing) == 1
    assert f"{SECOND}, top: no pictures" in missing[0]
    assert "is gone" in missing[0]
    assert missing[0] in report.read_text()


def test_tables_of_different_length_and_without_poses_are_compared_as_far_as_they_go_and_that_is_said(lab: Lab) -> None:
    rewrite(lab, FIRST, [track(part, 20, 10, frames=9) for part in PARTS])
    rewrite(lab, SECOND, [track(part, np.nan, np.nan, np.nan, frames=12) for part in PARTS])
    found = comparison(lab)
    assert [change.session for change in found.sessions] == [SECOND, FIRST]  # all is lost in the second
    notes = "\n".join(found.notes)
    assert f"{FIRST}: recording top: the tables are of different length; the 9 frames in both are compared" in notes
    assert f"{SECOND}: recording top: no body part is likely in both tables" in notes


def test_one_table_that_cannot_be_read_does_not_stop_the_others(lab: Lab) -> None:
    lab.layout.pose_file("walker", NEW, SECOND, "top").write_bytes(b"no Parquet")
    found = comparison(lab)
    assert [change.session for change in found.sessions] == [FIRST]
    assert any(note.startswith(f"{SECOND}: recording top is left out") for note in found.notes)


def test_what_cannot_be_compared_is_refused_in_words(lab: Lab) -> None:
    with pytest.raises(SettingsError, match=f"same version, walker@{OLD}"):
        versions_to_compare(lab, "walker", f"walker@{OLD[:5]}")
    with pytest.raises(NotFoundError, match='no version begins with "ffff"'):
        versions_to_compare(lab, "walker", "walker@ffff")
    with pytest.raises(NotFoundError, match="Did you mean"):
        comparison(lab, [FIRST + "9"])
    with pytest.raises(NotFoundError, match=f"1 by walker@{OLD} alone .{THIRD}.*--analyze"):
        comparison(lab, [THIRD])
    with pytest.raises(SettingsError, match="more than 0 px"):
        comparison(lab, moved_px=0)
    manifest = read_manifest(lab.layout.version("walker", NEW))
    assert manifest is not None
    manifest.details["bodyparts"] = ["paw"]
    manifest.write(lab.layout.version("walker", NEW))
    with pytest.raises(InputError, match=r"no body part in common.*snout, tailbase and paw"):
        comparison(lab)


# --- the command ------------------------------------------------------------------------------------


def test_the_command_analyses_what_the_newer_version_lacks_with_that_version_and_compares(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_lab(lab.root, monkeypatch)
    asked: list[tuple[str, dict[str, str], Any]] = []

    def execute(
        _lab: Lab, _instance: Any, job: str, *, tags: dict[str, str], ops: Any, log: Callable[[str], None]
    ) -> RunOutcome:
        asked.append((job, tags, ops))
        small_lab.as_if_analysed(lab, THIRD, version=NEW)
        rewrite(lab, THIRD, [track(part, np.nan, np.nan, np.nan, frames=12) for part in PARTS])
        return RunOutcome("r", job, "SUCCESS", ())

    monkeypatch.setattr(commands, "execute_here", execute)
    result = CliRunner().invoke(app, ["compare-poses", "walker", f"walker@{NEW}", "--analyze", "--json"])
    assert result.exit_code == 0, result.stderr
    assert asked == [("analyze", {"dagster/partition": f"walker|{THIRD}"}, {"pose_table": {"version": NEW}})]
    stated = json.loads(result.stdout)
    whole = {row["session"]: row for row in stated["changes"] if row["bodypart"] == "(all)"}
    assert list(whole) == [SECOND, THIRD, FIRST]  # as much changed in the first two, but the lost ones lie nowhere
    assert (whole[THIRD]["lost"], whole[THIRD]["median"]) == (1.0, None)
    assert stated["only_old"] == []
    assert len(stated["pictures"]) == 3


def test_the_command_refuses_in_words_with_its_exit_status(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    use_lab(lab.root, monkeypatch)
    for arguments, status, said in (
        (("walker", "walker"), 2, "are the same version"),
        (("walker", "walkre"), 2, 'Did you mean "walker"?'),
        (("walker", f"walker@{NEW}", "--sessions", THIRD), 2, "no session has poses by both"),
        (("walker", f"walker@{NEW}", "--moved", "0"), 2, "more than 0 px"),
    ):
        result = CliRunner().invoke(app, ["compare-poses", *arguments])
        assert (result.exit_code, said in result.stderr.replace("\n", " ")) == (status, True), result.stderr
