"""Results of other programs are read as they are, by their content, and what is odd about them is said with its row."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
import tables

from dlc_assets.adoption.crop_facts import crop_of_result
from dlc_assets.adoption.result_files import images_of, read_result, result_header
from dlc_assets.lab.errors import InputError, NotFoundError
from dlc_assets.poses.formats import tracks_from_dlc

SCORER = "DLC_resnet50_walkNov1shuffle1_1000"


def table(
    rows: int = 5,
    *,
    parts: tuple[str, ...] = ("snout", "tail"),
    individuals: tuple[str, ...] = (),
    likelihood: bool = True,
) -> pd.DataFrame:
    """Return a table as DeepLabCut writes it, no two values the same."""
    coords = ("x", "y", "likelihood") if likelihood else ("x", "y")
    keys: list[tuple[str, ...]] = []
    for individual in individuals or ("",):
        level = (individual,) if individuals else ()
        keys += [(SCORER, *level, part, coord) for part in parts for coord in coords]
    levels = ["scorer", *(["individuals"] if individuals else []), "bodyparts", "coords"]
    values = np.arange(rows * len(keys), dtype=np.float64).reshape(rows, -1) / 7
    frame = pd.DataFrame(values, columns=pd.MultiIndex.from_tuples(keys, names=levels))
    for column in frame.columns:
        if column[-1] == "likelihood":
            frame[column] = (frame[column] % 1).round(4)
    return frame


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines()


def written(path: Path, df: pd.DataFrame, **how: Any) -> Path:
    if path.suffix == ".csv":
        df.to_csv(path)
    else:
        df.to_hdf(path, **{"key": "df_with_missing", "format": "table", "mode": "w", **how})
    return path


def assert_equal(path: Path, df: pd.DataFrame) -> None:
    """The file's poses are those of *df*, to the last bit of float32."""
    read = read_result(path)
    wanted = tracks_from_dlc(df)
    assert [(track.individual, track.bodypart) for track in read.tracks] == [(t.individual, t.bodypart) for t in wanted]
    for one, other in zip(read.tracks, wanted, strict=True):
        for name in ("x", "y", "likelihood"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert read.frames.tolist() == df.index.tolist()


def problem(path: Path, fragment: str) -> str:
    """Return the one problem of the file that holds *fragment*."""
    [found] = [problem for problem in read_result(path).problems if fragment in problem]
    return found


# --- what is read ---------------------------------------------------------------------------------


@pytest.mark.parametrize("individuals", [(), ("mouse1", "mouse2", "single")])
@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("m1DLC.h5", {}),
        ("m1DLC_el.h5", {"key": "tracks", "format": "fixed"}),
        ("m1DLC.csv", {}),
    ],
)
def test_deeplabcuts_tables_are_read_to_the_last_bit(
    tmp_path: Path, individuals: tuple[str, ...], name: str, how: dict[str, Any]
) -> None:
    df = table(individuals=individuals)
    df.iloc[1, 0:3] = np.nan
    path = written(tmp_path / name, df, **how)
    assert_equal(path, df)
    assert read_result(path).problems == []
    header = result_header(path)
    assert (header.scorer, header.rows, header.labels, header.filtered) == (SCORER, 5, False, False)
    assert (header.individuals, header.bodyparts) == (individuals or ("",), ("snout", "tail"))
    assert header.kind == ("dlc-csv" if name.endswith("csv") else "dlc-h5")


def test_a_table_of_mixed_columns_is_put_together(tmp_path: Path) -> None:
    df = table().astype({(SCORER, "snout", "x"): np.float32, (SCORER, "tail", "y"): np.int64})
    assert_equal(written(tmp_path / "a.h5", df), df)
    assert_equal(written(tmp_path / "b.h5", df, format="fixed"), df)


def test_filtered_results_say_so(tmp_path: Path) -> None:
    assert read_result(written(tmp_path / "m1DLC_filtered.h5", table())).filtered
    assert result_header(written(tmp_path / "m1DLC_filtered.csv", table())).filtered


def test_frames_are_the_index_and_what_is_missing_is_said(tmp_path: Path) -> None:
    df = table(6)
    df.index = pd.Index([3, 4, 5, 8, 9, 12])
    for name in ("a.h5", "a.csv"):
        path = written(tmp_path / name, df)
        read = read_result(path)
        assert read.frames.tolist() == [3, 4, 5, 8, 9, 12]
        assert read.problems == [
            "the frames begin at 3, not at 0: frames are taken as the index says",
            "4 frame(s) have no row: 6-7, 10-11; they have no poses",
        ]


def test_rows_out_of_order_are_put_in_order_and_said(tmp_path: Path) -> None:
    df = table(4)
    shuffled = df.iloc[[0, 2, 1, 3]]
    path = written(tmp_path / "a.csv", shuffled)
    assert_equal(path, df)
    assert problem(path, "order") == "line 6: frame 1 comes after frame 2; the rows were put in the order of frames"


def test_a_frame_that_comes_twice_is_refused_with_both_lines(tmp_path: Path) -> None:
    df = table(4)
    df.index = pd.Index([0, 1, 1, 2])
    with pytest.raises(InputError, match=r"a\.csv: frame 1 comes twice, in line 5 and line 6"):
        read_result(written(tmp_path / "a.csv", df))


@pytest.mark.parametrize("index", [[0, 1, 2, -1], [0, 1, 1.5, 2]])
def test_what_is_no_frame_number_is_refused_with_its_line(tmp_path: Path, index: list[float]) -> None:
    df = table(4)
    df.index = pd.Index(index)
    with pytest.raises(InputError, match=r"a\.csv, line [67]: expected a frame number from 0"):
        read_result(written(tmp_path / "a.csv", df))


# --- headers --------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", ["bodyparts", "coords"])
def test_a_missing_header_line_is_named(tmp_path: Path, level: str) -> None:
    path = written(tmp_path / "a.csv", table())
    path.write_text("\n".join(line for line in lines_of(path) if not line.startswith(level)) + "\n")
    for read in (read_result, result_header):
        with pytest.raises(InputError, match=rf'a\.csv: the header line "{level}" is missing.* before line 3'):
            read(path)


def test_a_table_of_several_animals_without_their_header_line_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", table(individuals=("a", "b")))
    path.write_text("\n".join(line for line in lines_of(path) if not line.startswith("individuals")) + "\n")
    with pytest.raises(InputError, match=r'snout, x comes twice.*the header line "individuals" is missing'):
        read_result(path)


def test_a_table_without_scorer_is_read_and_said(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", table())
    path.write_text("\n".join(lines_of(path)[1:]) + "\n")
    assert len(read_result(path).frames) == 5
    assert read_result(path).scorer == ""
    assert problem(path, "scorer").startswith('line 1: the header line "scorer" is missing')
    empty = written(tmp_path / "b.csv", table().rename(columns={SCORER: ""}))
    assert problem(empty, "scorer") == "the scorer is empty: the table does not say which network it is of"
    assert result_header(empty).problems == ("the scorer is empty: the table does not say which network it is of",)


def test_two_scorers_in_one_table_are_refused(tmp_path: Path) -> None:
    df = pd.concat([table(parts=("snout",)), table(parts=("tail",)).rename(columns={SCORER: "other"})], axis=1)
    with pytest.raises(InputError, match="the poses of one network, got 2 scorers"):
        read_result(written(tmp_path / "a.csv", df))


# --- values ---------------------------------------------------------------------------------------


def test_an_absent_likelihood_is_empty_and_said(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", table(likelihood=False))
    assert all(np.isnan(track.likelihood).all() for track in read_result(path).tracks)
    assert problem(path, "likelihood").startswith("the table has no likelihood")


def test_likelihoods_outside_0_to_1_are_kept_and_said_with_their_line(tmp_path: Path) -> None:
    df = table()
    df.loc[2, (SCORER, "tail", "likelihood")] = 1.25
    df.loc[4, (SCORER, "snout", "likelihood")] = -1
    path = written(tmp_path / "a.csv", df)
    assert_equal(path, df)
    assert problem(path, "outside").startswith(
        "2 likelihood(s) lie outside 0 to 1, first in line 6 (frame 2, tail): 1.25;"
    )
    assert "first in row 3 (frame 2, tail)" in problem(written(tmp_path / "a.h5", df), "outside")


def test_cells_and_lines_that_are_not_whole_are_said_with_their_line(tmp_path: Path) -> None:
    path = written(tmp_path / "a.csv", table())
    lines = lines_of(path)
    lines[4] = lines[4].replace(lines[4].split(",")[1], "bad", 1)
    lines[6] = ",".join(lines[6].split(",")[:4])
    path.write_text("\n".join([*lines, ",,,,,,"]) + "\n")
    read = read_result(path)
    assert np.isnan(read.tracks[0].x[1])
    assert np.isnan(read.tracks[1].x[3])
    assert len(read.frames) == 5
    assert [text for text in read.problems if "line" in text] == [
        '1 cell(s) hold no number and became empty: line 5, snout x: "bad"',
        "1 line(s) have fewer cells than the header: line 7 has 4 of 7",
        "1 line(s) have no frame number and were left out: line 9",
    ]
    path.write_text("\n".join([*lines, "5,1,2,3,4,5,6,7"]) + "\n")
    with pytest.raises(InputError, match=r"expected 7 cells a line.*line 9"):
        read_result(path)


def test_points_written_as_zeros_and_tracks_without_poses_are_said(tmp_path: Path) -> None:
    df = table()
    df.iloc[1, 0:3] = 0
    df.iloc[:, 3:5] = np.nan
    path = written(tmp_path / "a.h5", df)
    assert "first in row 2 (frame 1, snout)" in problem(path, "x = 0, y = 0")
    assert problem(path, "no pose at all") == "1 of 2 tracks have no pose at all: tail"


# --- labels, junk, and what is no table -----------------------------------------------------------


def test_labels_are_told_from_results_and_paths_of_windows_are_read(tmp_path: Path) -> None:
    df = table(3, likelihood=False)
    df.index = pd.Index([rf"labeled-data\m1\img{number:03d}.png" for number in (7, 12, 30)])
    for name, how in (("a.csv", {}), ("a.h5", {}), ("b.h5", {"format": "fixed"})):
        path = written(tmp_path / name, df, **how)
        read = read_result(path)
        assert read.images == [f"labeled-data/m1/img{number:03d}.png" for number in (7, 12, 30)]
        assert read.frames.tolist() == [7, 12, 30]
        assert "not of results" in problem(path, "labelled images")
        assert "3 image(s) have paths with backslashes" in problem(path, "backslashes")
        assert result_header(path).labels
        assert images_of(path) == list(df.index)
    assert images_of(written(tmp_path / "c.h5", table())) is None


def test_what_is_put_aside_or_junk_is_said(tmp_path: Path) -> None:
    path = written(tmp_path / "m1DLC.h5", table())
    for name in ("m1DLC.h5.HOLDOUT", "m1DLC.HOLDOUT.h5"):
        aside = path.rename(tmp_path / name)
        assert "marked .HOLDOUT" in problem(aside, "HOLDOUT")
        assert result_header(aside).kind == "dlc-h5"
        path = aside.rename(path)
    junk = tmp_path / "__MACOSX" / "m1DLC.h5"
    junk.parent.mkdir()
    junk.write_bytes(b"\0\5\x16\7" * 20)
    for read in (read_result, result_header):
        with pytest.raises(InputError, match="__MACOSX"):
            read(junk)
        with pytest.raises(InputError, match=r"begins with \._"):
            read(tmp_path / "._m1DLC.h5")
        with pytest.raises(NotFoundError):
            read(tmp_path / "gone.h5")


@pytest.mark.parametrize("content", [b"", b"\x89HDF\r\n\x1a\n", b"hello"])
def test_files_that_were_not_copied_whole_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.h5"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.h5: expected an HDF5 file"):
        result_header(path)


def test_a_table_that_is_damaged_inside_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "a.h5", table(individuals=("a", "b")), key="tracks", format="fixed")
    whole = path.read_bytes()
    for damage in ("axis1", "block0_values", "block0_items_label2", "axis0_level1"):
        path.write_bytes(whole)
        with h5py.File(path, "r+") as file:
            del file[f"tracks/{damage}"]
        with pytest.raises(InputError, match=r"a\.h5: expected an HDF5 file with a table of poses"):
            read_result(path)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="not copied whole"):
        result_header(path)


@pytest.mark.parametrize(
    "held", [[1], {0: 3}, {0: [[1, 2], [3]]}, {"a": []}, {"single": 4}, {-1: []}, {0: [np.ones(3)]}]
)
def test_assemblies_that_are_none_are_refused(tmp_path: Path, held: Any) -> None:
    path = tmp_path / "m1DLC_assemblies.pickle"
    path.write_bytes(pickle.dumps(held))
    (tmp_path / "m1DLC_meta.pickle").write_bytes(pickle.dumps({"data": {"bodyparts": ["snout"]}}))
    with pytest.raises(InputError, match=r"m1DLC_assemblies\.pickle.*expected"):
        read_result(path)


def test_a_csv_that_is_no_table_of_poses_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "learning_stats.csv"
    path.write_text("500, 0.03, 0.005\n")
    with pytest.raises(InputError, match='the header line "bodyparts" is missing'):
        result_header(path)


# --- pickles in HDF5 ------------------------------------------------------------------------------


class Creates:
    """Creates a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


@pytest.mark.filterwarnings("ignore::pandas.errors.PerformanceWarning")
def test_a_column_of_pickles_is_refused_and_nothing_is_loaded(tmp_path: Path) -> None:
    made = tmp_path / "made"
    df = table()
    df[(SCORER, "snout", "what")] = [Creates(made)] * len(df)
    path = written(tmp_path / "a.h5", df, format="fixed")
    made.unlink(missing_ok=True)
    with pytest.raises(InputError, match="pandas has pickled"):
        read_result(path)
    assert not made.exists()
    pd.read_hdf(path)
    assert made.exists()  # pandas itself does


def test_an_attribute_that_is_a_hostile_pickle_is_refused_and_not_loaded(tmp_path: Path) -> None:
    made = tmp_path / "made"
    path = written(tmp_path / "a.h5", table())
    with h5py.File(path, "r+") as file:
        file["df_with_missing"].attrs["non_index_axes"] = np.bytes_(pickle.dumps(Creates(made), 0))
    for read in (read_result, result_header):
        with pytest.raises(InputError, match=r"a\.h5.*attribute non_index_axes.*names"):
            read(path)
    assert not made.exists()
    with tables.open_file(str(path)) as file:
        _ = file.root.df_with_missing._v_attrs.non_index_axes
    assert made.exists()  # PyTables itself does


# --- other programs -------------------------------------------------------------------------------


def sleap(path: Path, tracks: np.ndarray, names: list[str], scores: np.ndarray | None = None, dims: str = "") -> Path:
    with h5py.File(path, "w") as file:
        file["tracks"] = tracks
        file["node_names"] = np.array([b"head", b"tail", b"paw"])
        file["track_names"] = np.array([name.encode() for name in names], dtype="S8")
        if scores is not None:
            file["point_scores"] = scores
        if dims:
            file["tracks"].attrs["dims"] = dims
    return path


def test_sleaps_files_are_read_in_both_orders_of_axes(tmp_path: Path) -> None:
    original = np.random.default_rng(1).random((2, 2, 3, 5))  # tracks, xy, nodes, frames
    scores = np.random.default_rng(2).random((2, 3, 5))
    one = sleap(tmp_path / "a.h5", original, ["a", "b"], scores)
    standard = '["frame", "track", "node", "xy"]'
    other = sleap(tmp_path / "b.h5", original.transpose(3, 0, 2, 1), ["a", "b"], scores.transpose(2, 0, 1), standard)
    for path in (one, other):
        read = read_result(path)
        assert (read.kind, read.individuals, read.bodyparts) == ("sleap", ["a", "b"], ["head", "tail", "paw"])
        place = [(track.individual, track.bodypart) for track in read.tracks].index(("b", "tail"))
        np.testing.assert_array_equal(read.tracks[place].x, original[1, 0, 1].astype(np.float32))
        np.testing.assert_array_equal(read.tracks[place].y, original[1, 1, 1].astype(np.float32))
        np.testing.assert_array_equal(read.tracks[place].likelihood, scores[1, 1].astype(np.float32))
        assert result_header(path).rows == 5


def test_sleaps_files_without_track_names_are_read_and_said(tmp_path: Path) -> None:
    alone = read_result(sleap(tmp_path / "a.h5", np.ones((1, 2, 3, 5)), []))
    assert alone.individuals == [""]
    assert "no point scores" in alone.problems[0]
    assert "no track names for 2 tracks" in problem(sleap(tmp_path / "b.h5", np.ones((2, 2, 3, 5)), []), "track names")


def test_lightning_poses_tables_are_known_by_their_scorer(tmp_path: Path) -> None:
    df = table().rename(columns={SCORER: "heatmap_mhcrnn_tracker"})
    df[("heatmap_mhcrnn_tracker", "snout", "x_ens_var")] = 0.5
    path = written(tmp_path / "a.csv", df)
    assert read_result(path).kind == "lightning-pose"
    assert problem(path, "coordinates") == "columns of other coordinates were not taken: x_ens_var"


# --- real files -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "openfield-reference-poses/m3v1mp4DLC_resnet50_openfieldAug20shuffle1_30000.h5",
        "openfield-reference-poses/m3v1mp4DeepCut_resnet50_openfieldOct30shuffle1_15001.h5",
        "tracking-tables/test_madlc_topview/Tables/testDLC_h5_table_madlc.h5",
        "tracking-tables/test_multi_topview/Tables/testDLC_h5_table_multi.h5",
        "tracking-tables/test_square_arena_topview/Tables/testDLC_square_arena.h5",
        "tracking-tables/test_single_topview/Tables/testDLC_csv_table.csv",
        "ibl-paw-left/3f859b5c-e73a-4044-b49e-34bb81e96715.left.rng=0.csv",
    ],
)
def test_real_results_are_what_pandas_reads(real_data: Path, name: str) -> None:
    path = real_data / name
    df = pd.read_csv(path, header=[0, 1, 2], index_col=0) if path.suffix == ".csv" else pd.read_hdf(path)
    assert isinstance(df, pd.DataFrame)
    assert_equal(path, df)
    header = result_header(path)
    assert header.rows == len(df)
    assert header.scorer == df.columns[0][0]


def test_real_files_get_the_warnings_they_deserve(real_data: Path) -> None:
    numbered = real_data / "tracking-tables/test_madlc_topview/Tables/testDLC_csv_table_madlc.csv"
    assert problem(numbered, "scorer").startswith("the scorer is numbered through")
    assert "679 point(s) are x = 0, y = 0" in problem(numbered, "x = 0")
    labels = real_data / "mirror-mouse/CollectedData.csv"
    assert len(read_result(labels).frames) == 90
    assert [text.split(":")[0] for text in read_result(labels).problems] == [
        "the table has no likelihood",
        "the rows are labelled images (labeled-data/img01.png ...), not the frames of one video",
    ]
    calibration = real_data / "trimouse-results/trimouse_calib.h5"
    assert "2 folders" in problem(calibration, "folders")
    short = real_data / "sleap-flies/dlc/labeled-data/video/maudlc_testdata.csv"
    assert 'line 1: the header line "scorer" has 13 cells' in problem(short, "scorer")


def test_real_assemblies_are_read_and_said_not_to_be_tracked(real_data: Path) -> None:
    path = real_data / "trimouse-results/trimouse_assemblies.pickle"
    read = read_result(path)
    with path.open("rb") as file:
        held = pickle.load(file)
    assert (read.individuals, len(read.bodyparts), len(read.frames)) == (["animal1", "animal2", "animal3"], 12, 50)
    assert (read.scorer, read.bodyparts[0]) == ("DLC_resnet_50_MultiMouseDec16shuffle0_20000", "snout")
    for frame in (0, 31, 49):
        for animal in range(3):
            for part in range(12):
                track = read.tracks[12 * animal + part]
                got = [track.x[frame], track.y[frame], track.likelihood[frame]]
                np.testing.assert_array_equal(got, held[frame][animal][part, :3].astype(np.float32))
    assert problem(path, "not told apart")
    assert result_header(path).rows == 50
    with pytest.raises(InputError, match="assemblies alone hold poses"):
        read_result(path.with_name("trimouse_tracklets.pickle"))


def test_assemblies_of_frames_with_fewer_animals_and_unique_body_parts_are_read(tmp_path: Path) -> None:
    path = tmp_path / "m1DLC_assemblies.pickle"
    one = np.array([[1.0, 2, 0.5, -1], [-1, -1, -1, -1]])
    path.write_bytes(pickle.dumps({0: one[None], 2: np.stack([one, one + 4]), "single": {2: np.array([[7.0, 8, 1]])}}))
    with pytest.raises(InputError, match=r"neither m1DLC_meta\.pickle nor m1DLC_full\.pickle"):
        read_result(path)
    facts = {"Scorer": SCORER, "bodyparts": ["snout", "tail"], "unique_bodyparts": ["corner"], "cropping": False}
    (tmp_path / "m1DLC_meta.pickle").write_bytes(pickle.dumps({"data": facts}))
    read = read_result(path)
    assert read.frames.tolist() == [0, 2]
    assert [(track.individual, track.bodypart) for track in read.tracks][-2:] == [
        ("animal2", "tail"),
        ("single", "corner"),
    ]
    np.testing.assert_array_equal(read.tracks[0].x, np.float32([1, 1]))
    np.testing.assert_array_equal(read.tracks[1].likelihood, np.float32([np.nan, np.nan]))
    np.testing.assert_array_equal(read.tracks[2].x, np.float32([np.nan, 5]))
    np.testing.assert_array_equal(read.tracks[4].y, np.float32([np.nan, 8]))
    crop = crop_of_result(path)
    assert crop is not None
    assert crop.offset == (0, 0)


def test_the_real_flies_are_sleaps_and_their_scores_are_no_likelihoods(real_data: Path) -> None:
    path = real_data / "sleap-flies/analysis-h5/centered_pair_standard.analysis.h5"
    read = read_result(path)
    with h5py.File(path) as file:
        tracks = file["tracks"][:].astype(np.float32)
    assert (len(read.individuals), len(read.bodyparts), len(read.frames)) == (27, 24, 1100)
    np.testing.assert_array_equal(read.tracks[24 + 2].y, tracks[:, 1, 2, 1])
    assert "315 likelihood(s) lie outside 0 to 1, first in row 10 (frame 9, 2, wingR)" in problem(path, "outside")
    assert result_header(path).video.endswith("centered_pair_low_quality.mp4")
