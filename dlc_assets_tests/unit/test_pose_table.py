"""A pose table holds what was put into it, gives back what was asked for, and other programs read it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dlc_assets.lab.errors import InputError, NotFoundError
from dlc_assets.poses import table_file
from dlc_assets.poses.formats import tracks_from_dlc, tracks_to_dlc
from dlc_assets.poses.schema import COLUMNS, METADATA_KEY, SCHEMA_VERSION, PoseMetadata, Track, arrow_schema
from dlc_assets.poses.table_file import (
    ROW_GROUP_FRAMES,
    PoseTableFile,
    pose_content_hash,
    read_pose_metadata,
    read_pose_table,
    read_tracks,
    write_pose_table,
)

SINGLE_ANIMAL = [
    "openfield-reference-poses/m3v1mp4DLC_resnet50_openfieldAug20shuffle1_30000.h5",
    "openfield-reference-poses/m3v1mp4DLC_resnet50_openfieldOct30shuffle1_100000.h5",
    "openfield-reference-poses/m3v1mp4DeepCut_resnet50_openfieldOct30shuffle1_15001.h5",
    "tracking-tables/test_square_arena_topview/Tables/testDLC_square_arena.h5",
]
TWO_MICE = "tracking-tables/test_madlc_topview/Tables/testDLC_h5_table_madlc.h5"


def described(frames: int, **other: object) -> PoseMetadata:
    stated = {"model": "openfield", "version": "1a2b3c", "session": "sub-m01_ses-1", "recording": "top"}
    return PoseMetadata(**{**stated, "frame_count": frames, **other})  # type: ignore[arg-type]


def walk(individual: str, bodypart: str, frames: int, seed: int = 0) -> Track:
    rng = np.random.default_rng(seed)
    x, y = (200 + np.cumsum(rng.normal(size=(2, frames)), axis=1)).astype(np.float32)
    likelihood = rng.random(frames, dtype=np.float32)
    x[::7] = y[::7] = np.nan
    likelihood[::11] = np.nan
    return Track(individual, bodypart, x, y, likelihood)


def irregular_times(frames: int) -> np.ndarray:
    """30000/1001 frames a second that wander by microseconds, with one gap of 2.5 s; starts before 0."""
    times = np.arange(frames) * 1001 / 30000 + np.random.default_rng(1).normal(scale=1e-6, size=frames)
    times[frames // 2 :] += 2.5
    return times - 0.1


def assert_same_tracks(ours: list[Track], expected: list[Track]) -> None:
    assert [(t.individual, t.bodypart) for t in ours] == [(t.individual, t.bodypart) for t in expected]
    for one, other in zip(ours, expected, strict=True):
        for column in ("x", "y", "likelihood"):
            assert getattr(one, column).dtype == np.float32
            np.testing.assert_array_equal(getattr(one, column), getattr(other, column))


@pytest.mark.parametrize("name", [*SINGLE_ANIMAL, TWO_MICE])
def test_a_deeplabcut_table_comes_back_value_for_value(real_data: Path, tmp_path: Path, name: str) -> None:
    df = pd.read_hdf(real_data / name)
    tracks, times = tracks_from_dlc(df), np.arange(len(df)) / 30
    path = tmp_path / "top.parquet"
    write_pose_table(path, tracks, times, described(len(df)))

    read_times, read = read_tracks(path)
    again = tracks_to_dlc(read, scorer=df.columns[0][0])

    np.testing.assert_array_equal(read_times, times)
    pd.testing.assert_frame_equal(again, df.astype(np.float32))


def test_missing_detections_are_nulls_and_not_nan(tmp_path: Path) -> None:
    track = walk("", "snout", 100)
    write_pose_table(tmp_path / "top.parquet", [track], irregular_times(100), described(100))

    found = duckdb.sql(
        f"""select count(*) - count(x), count(*) - count(y), count(*) - count(likelihood),
        count(*) filter (isnan(x) or isnan(y) or isnan(likelihood)) from '{tmp_path}/top.parquet'"""
    ).fetchall()

    assert found == [(15, 15, 10, 0)]


def test_irregular_times_and_gaps_come_back_to_the_bit(tmp_path: Path) -> None:
    frames = 1000
    times, track = irregular_times(frames), walk("", "snout", frames)
    write_pose_table(tmp_path / "top.parquet", [track], times, described(frames))

    read_times, read = read_tracks(tmp_path / "top.parquet")

    assert read_times.tobytes() == times.tobytes()
    assert_same_tracks(read, [track])


def test_rows_are_ordered_by_individual_body_part_and_frame(tmp_path: Path) -> None:
    names = [("m2", "tail"), ("m1", "tail"), ("m2", "snout"), ("m1", "snout")]
    tracks = [walk(*name, frames=5, seed=n) for n, name in enumerate(names)]
    write_pose_table(tmp_path / "top.parquet", tracks, np.arange(5.0), described(5))

    rows = read_pose_table(tmp_path / "top.parquet").to_pandas()

    assert rows.columns.tolist() == [column.name for column in COLUMNS]
    starts = rows[rows.frame == 0][["individual", "bodypart"]].astype(str).to_numpy().tolist()
    assert starts == [["m2", "tail"], ["m2", "snout"], ["m1", "tail"], ["m1", "snout"]]
    assert rows.frame.tolist() == list(range(5)) * 4


def test_the_file_has_the_columns_of_the_schema_and_a_row_group_for_each_stretch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(table_file, "ROW_GROUP_FRAMES", 100)
    tracks = [walk("", "snout", 250), walk("", "tail", 250, seed=1)]
    path = tmp_path / "top.parquet"
    write_pose_table(path, tracks, irregular_times(250), described(250))

    assert pq.read_schema(path).equals(arrow_schema())
    assert pq.read_schema(path).field("x").metadata[b"unit"] == b"px"
    groups = pq.read_metadata(path)
    assert [groups.row_group(number).num_rows for number in range(groups.num_row_groups)] == [
        100,
        100,
        50,
    ] * 2
    assert_same_tracks(read_tracks(path)[1], tracks)


def test_one_body_part_is_read_without_touching_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table_file, "ROW_GROUP_FRAMES", 100)
    tracks = [walk(m, b, 250, seed=n) for n, (m, b) in enumerate([("a", "snout"), ("a", "tail"), ("b", "snout")])]
    path = tmp_path / "top.parquet"
    write_pose_table(path, tracks, irregular_times(250), described(250))
    read: list[int] = []
    original = pq.ParquetFile.read_row_groups

    def counted(self: pq.ParquetFile, row_groups: list[int], **options: object) -> pa.Table:
        read.extend(row_groups)
        return original(self, row_groups, **options)

    monkeypatch.setattr(pq.ParquetFile, "read_row_groups", counted)
    rows = read_pose_table(path, bodyparts="snout", individuals=["a"])

    assert read == [0, 1, 2]
    np.testing.assert_array_equal(rows["x"].to_numpy(), tracks[0].x)
    assert_same_tracks(read_tracks(path, bodyparts=["snout"])[1], [tracks[0], tracks[2]])


def test_a_later_part_of_a_recording_keeps_its_frame_numbers(tmp_path: Path) -> None:
    path = tmp_path / "top.parquet"
    write_pose_table(path, [walk("", "snout", 10)], np.arange(10.0), described(30), first_frame=20)

    assert read_pose_table(path)["frame"].to_pylist() == list(range(20, 30))
    assert PoseTableFile.open(path).first_frame == 20


def test_duckdb_reads_the_store_with_model_version_and_session_as_text(tmp_path: Path) -> None:
    for session, recording in [("sub-m01_ses-1", "top"), ("sub-m01_ses-1", "side"), ("20260501", "top")]:
        folder = tmp_path / "poses" / "model=openfield" / "version=123456789012" / f"session={session}"
        metadata = described(50, session=session, recording=recording)
        write_pose_table(folder / f"{recording}.parquet", [walk("", "snout", 50)], irregular_times(50), metadata)

    rows = duckdb.sql(
        f"""select model, version, session, recording, count(*) as rows, count(x) as seen, min(time) as start
        from read_parquet(
            '{tmp_path}/poses/*/*/*/*.parquet', hive_partitioning=true, hive_types_autocast=false
        )
        where bodypart = 'snout' group by all order by session, recording"""
    ).fetchall()

    start, seen = irregular_times(50)[0], 42
    assert rows == [
        ("openfield", "123456789012", "20260501", "top", 50, seen, start),
        ("openfield", "123456789012", "sub-m01_ses-1", "side", 50, seen, start),
        ("openfield", "123456789012", "sub-m01_ses-1", "top", 50, seen, start),
    ]


def test_duckdb_has_the_types_that_the_schema_states(tmp_path: Path) -> None:
    write_pose_table(tmp_path / "top.parquet", [walk("", "snout", 5)], np.arange(5.0), described(5))

    described_rows = duckdb.sql(f"describe select * from '{tmp_path}/top.parquet'").fetchall()

    assert [row[:2] for row in described_rows] == [(column.name, column.sql) for column in COLUMNS]


def test_a_write_that_fails_half_way_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    original = pq.ParquetWriter.write_table
    written: list[int] = []

    def second_fails(self: pq.ParquetWriter, table: pa.Table, *args: object, **options: object) -> None:
        if written:
            raise OSError("No space left on device")
        written.append(len(table))
        original(self, table, *args, **options)

    monkeypatch.setattr(pq.ParquetWriter, "write_table", second_fails)
    with pytest.raises(OSError, match="No space left"):
        write_pose_table(
            tmp_path / "top.parquet",
            [walk("", "snout", 50), walk("", "tail", 50)],
            irregular_times(50),
            described(50),
        )

    assert written == [50]
    assert list(tmp_path.iterdir()) == []


def test_a_failed_write_leaves_the_table_that_was_there(tmp_path: Path) -> None:
    path = tmp_path / "top.parquet"
    write_pose_table(path, [walk("", "snout", 50)], irregular_times(50), described(50))
    before = path.read_bytes()

    with pytest.raises(InputError):
        write_pose_table(path, [walk("", "snout", 50)], irregular_times(49), described(50))

    assert path.read_bytes() == before


def test_a_track_of_another_length_than_the_times_is_refused_with_both_numbers(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r'"tail".*x of shape \(40,\); there are 50 frame times'):
        write_pose_table(
            tmp_path / "top.parquet",
            [walk("", "snout", 50), walk("", "tail", 40)],
            irregular_times(50),
            described(50),
        )


@pytest.mark.parametrize(
    ("tracks", "times", "frames", "message"),
    [
        ([], np.arange(3.0), 3, "at least one track and one frame time, got 0 tracks"),
        ([walk("", "snout", 0)], np.arange(0.0), 0, "at least one track and one frame time"),
        ([walk("", "snout", 3)] * 2, np.arange(3.0), 3, '"snout" of individual "" comes twice'),
        ([walk("", "snout", 3)], np.array([0, np.nan, 1]), 3, "time of frame 1 is nan"),
        ([walk("", "snout", 3)], np.arange(3.0), 2, "frames 0 to 2 do not fit into a recording of 2 frames"),
        (
            [walk("", "nose", 3)],
            np.arange(3.0),
            3,
            '"nose".*not among the model\'s body parts "snout", "tail"',
        ),
    ],
)
def test_tracks_that_make_no_table_are_refused(
    tmp_path: Path, tracks: list[Track], times: np.ndarray, frames: int, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        write_pose_table(tmp_path / "top.parquet", tracks, times, described(frames, bodyparts=["snout", "tail"]))


def test_an_unknown_body_part_is_named_with_the_nearest_and_all_that_are_there(tmp_path: Path) -> None:
    path = tmp_path / "top.parquet"
    write_pose_table(path, [walk("", "snout", 5), walk("", "tailbase", 5)], np.arange(5.0), described(5))

    with pytest.raises(NotFoundError) as raised:
        read_pose_table(path, bodyparts=["snout", "tail_base"])

    for said in ("top.parquet", '"tail_base"', 'Did you mean "tailbase"?', '"snout", "tailbase"'):
        assert said in str(raised.value)


def test_a_body_part_that_the_named_individual_lacks_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "top.parquet"
    write_pose_table(path, [walk("m1", "snout", 5), walk("single", "nest", 5)], np.arange(5.0), described(5))

    with pytest.raises(NotFoundError, match='none of the individuals "m1" has any of the body parts "nest"'):
        read_pose_table(path, bodyparts="nest", individuals="m1")


def test_files_that_are_no_pose_tables_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.parquet").write_text("not Parquet at all")
    pq.write_table(pa.table({"x": [1.0]}), tmp_path / "foreign.parquet")

    with pytest.raises(InputError, match=r"text\.parquet: expected a pose table"):
        read_pose_table(tmp_path / "text.parquet")
    with pytest.raises(InputError, match=r"foreign\.parquet.*no metadata under 'dlc_assets'"):
        read_pose_metadata(tmp_path / "foreign.parquet")
    with pytest.raises(NotFoundError, match="no pose table at"):
        read_pose_metadata(tmp_path / "absent.parquet")


def test_a_truncated_pose_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "top.parquet"
    write_pose_table(path, [walk("", "snout", 500)], irregular_times(500), described(500))
    path.write_bytes(path.read_bytes()[:-100])

    with pytest.raises(InputError, match="cannot be read"):
        read_pose_table(path)


def test_a_pose_table_that_another_program_rewrote_is_refused_rather_than_misread(tmp_path: Path) -> None:
    path = tmp_path / "top.parquet"
    write_pose_table(path, [walk("", "snout", 5), walk("", "tail", 5)], np.arange(5.0), described(5))
    pq.write_table(pq.read_table(path), path)  # one row group now, the metadata kept

    with pytest.raises(InputError, match="does not hold one bodypart alone"):
        read_pose_table(path, bodyparts="snout")


def test_row_groups_in_another_order_than_the_file_states_are_refused_rather_than_misread(tmp_path: Path) -> None:
    path = tmp_path / "top.parquet"
    write_pose_table(path, [walk("", "snout", 5), walk("", "tail", 5)], np.arange(5.0), described(5))
    with pq.ParquetFile(path) as file:
        tail_first = pa.concat_tables([file.read_row_group(1), file.read_row_group(0)])
    pq.write_table(tail_first, path, row_group_size=5)

    with pytest.raises(InputError, match=r'body part "tail".* where the file says.* body part "snout"'):
        read_pose_table(path, bodyparts="snout")


def test_a_table_of_an_earlier_release_that_states_no_layout_is_read_by_its_statistics(tmp_path: Path) -> None:
    path = tmp_path / "top.parquet"
    tracks = [walk("", "snout", 5), walk("", "tail", 5)]
    write_pose_table(path, tracks, np.arange(5.0), described(5))
    with pq.ParquetFile(path) as file:
        rows = file.read()
    without = replace(read_pose_metadata(path), layout=None)
    pq.write_table(rows.replace_schema_metadata({METADATA_KEY: without.to_json()}), path, row_group_size=5)

    times, (tail,) = read_tracks(path, bodyparts="tail")
    np.testing.assert_array_equal(tail.x, tracks[1].x)
    np.testing.assert_array_equal(times, np.arange(5.0))


def test_the_metadata_comes_back_as_it_was(tmp_path: Path) -> None:
    metadata = described(
        5,
        device="top",
        video_files=[{"name": "a.mp4", "sha256": "00"}, {"name": "b.mp4", "sha256": "11"}],
        crop={"x": [0, 640], "y": [0, 480]},
        rate="30000/1001",
        time_start=-0.1,
        bodyparts=["snout"],
        skeleton=[["snout", "tail"]],
        inference={"batch_size": 8},
        scorer="DLC_Resnet50",
    )
    written = write_pose_table(tmp_path / "top.parquet", [walk("", "snout", 5)], np.arange(5.0), metadata)

    layout = {"tracks": [["", "snout"]], "first_frame": 0, "row_group_frames": ROW_GROUP_FRAMES}
    expected = replace(metadata, data_version=written.data_version, layout=layout)
    assert read_pose_metadata(tmp_path / "top.parquet") == expected
    assert metadata.fps == pytest.approx(29.97003)


def test_metadata_of_a_later_schema_asks_for_an_update(tmp_path: Path) -> None:
    later = replace(described(5), schema_version=SCHEMA_VERSION + 1)
    table = pa.table({"x": [1.0]}).replace_schema_metadata({METADATA_KEY: later.to_json()})
    pq.write_table(table, tmp_path / "later.parquet")

    with pytest.raises(InputError, match=r"later\.parquet.*schema version 2.*Update dlc-assets"):
        read_pose_metadata(tmp_path / "later.parquet")


def test_the_content_hash_survives_the_file_and_sees_every_value(tmp_path: Path) -> None:
    tracks, times = [walk("", "snout", 50), walk("", "tail", 50, seed=1)], irregular_times(50)
    write_pose_table(tmp_path / "top.parquet", tracks, times, described(50))
    hashed = pose_content_hash(tracks, times)

    read_times, read = read_tracks(tmp_path / "top.parquet")
    assert pose_content_hash(read, read_times) == hashed

    nudged = tracks[1].x.copy()
    nudged[-2] = np.nextafter(nudged[-2], np.float32(np.inf))
    later = times.copy()
    later[-1] = np.nextafter(later[-1], np.inf)
    others = {
        pose_content_hash([tracks[0], replace(tracks[1], x=nudged)], times),
        pose_content_hash([tracks[0], replace(tracks[1], bodypart="tailbase")], times),
        pose_content_hash(tracks, later),
        pose_content_hash(tracks[:1], times),
    }
    assert len(others | {hashed}) == 5


def test_the_content_hash_does_not_see_the_bits_of_a_nan_or_the_sign_of_a_zero() -> None:
    other_nan = np.array([0xFFC00001, 0x80000000], dtype=np.uint32).view(np.float32)
    plain = np.array([np.nan, 0], dtype=np.float32)
    assert other_nan.tobytes() != plain.tobytes()

    hashes = {pose_content_hash([Track("", "snout", x, x, x)], np.arange(2.0)) for x in (other_nan, plain)}

    assert len(hashes) == 1


def test_the_same_tracks_make_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_pose_table(tmp_path / f"{name}.parquet", [walk("", "snout", 50)], np.arange(50.0), described(50))

    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()


def test_a_table_of_labels_is_not_taken_for_results() -> None:
    columns = pd.MultiIndex.from_product([["Pranav"], ["snout"], ["x", "y"]], names=["scorer", "bodyparts", "coords"])
    labels = pd.DataFrame([[1.0, 2.0]], index=["labeled-data/m3/img0.png"], columns=columns)

    with pytest.raises(InputError, match=r"labeled-data/m3/img0\.png"):
        tracks_from_dlc(labels)
    with pytest.raises(InputError, match="one scorer, got 2"):
        tracks_from_dlc(pd.concat([labels, labels.rename(columns={"Pranav": "Eva"})], axis=1))
    with pytest.raises(InputError, match="column levels"):
        tracks_from_dlc(labels.droplevel("scorer", axis=1))


def test_three_dimensional_tables_are_refused_rather_than_flattened() -> None:
    columns = pd.MultiIndex.from_product([["3D"], ["snout"], ["x", "y", "z"]], names=["scorer", "bodyparts", "coords"])

    with pytest.raises(InputError, match="got x, y, z"):
        tracks_from_dlc(pd.DataFrame([[1.0, 2.0, 3.0]], columns=columns))
