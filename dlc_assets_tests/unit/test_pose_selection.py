"""A user asks for poses and gets them as Arrow, pandas, movement or DeepLabCut have them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from dlc_assets.lab.body_part_names import BodyPartNames
from dlc_assets.lab.errors import DlcAssetsError, NotFoundError
from dlc_assets.poses.formats import tracks_from_dlc
from dlc_assets.poses.schema import COLUMNS, PoseMetadata, Track
from dlc_assets.poses.selection import PoseFile, PoseSelection
from dlc_assets.poses.table_file import write_pose_table

MOUSE = "openfield-reference-poses/m3v1mp4DLC_resnet50_openfieldOct30shuffle1_100000.h5"
TWO_MICE = "tracking-tables/test_madlc_topview/Tables/testDLC_h5_table_madlc.h5"
TABLE = [column.name for column in COLUMNS]


def stored(
    folder: Path,
    tracks: list[Track],
    times: np.ndarray,
    *,
    model: str = "openfield",
    version: str = "aaa",
    session: str = "sub-m01_ses-1",
    recording: str = "top",
    rate: str | None = "30",
    scorer: str | None = None,
) -> PoseFile:
    path = folder / f"model={model}" / f"version={version}" / f"session={session}" / f"{recording}.parquet"
    metadata = PoseMetadata(
        model=model,
        version=version,
        session=session,
        recording=recording,
        rate=rate,
        scorer=scorer,
        frame_count=len(times),
    )
    write_pose_table(path, tracks, times, metadata)
    return PoseFile(path, model, version, session, recording)


def stored_from_dlc(folder: Path, h5: Path, times: np.ndarray | None = None) -> tuple[PoseFile, pd.DataFrame]:
    df = pd.read_hdf(h5)
    times = np.arange(len(df)) / 30 if times is None else times
    return stored(folder, tracks_from_dlc(df), times, scorer=df.columns[0][0]), df


def ramp(bodypart: str, frames: int = 4, individual: str = "") -> Track:
    values = np.arange(frames, dtype=np.float32)
    return Track(individual, bodypart, values, 2 * values, np.ones(frames, dtype=np.float32))


@pytest.mark.parametrize("name", [MOUSE, TWO_MICE])
def test_to_dlc_equals_deeplabcuts_own_table(real_data: Path, tmp_path: Path, name: str) -> None:
    file, df = stored_from_dlc(tmp_path, real_data / name)

    ours = PoseSelection([file]).to_dlc()

    pd.testing.assert_frame_equal(ours, df.astype(np.float32))


def test_to_dlc_of_some_body_parts_equals_those_columns(real_data: Path, tmp_path: Path) -> None:
    file, df = stored_from_dlc(tmp_path, real_data / TWO_MICE)

    ours = PoseSelection([file], bodyparts=["Nose", "Center"], individuals="mouse_white_tail").to_dlc()

    keys = df.columns[
        (df.columns.get_level_values("individuals") == "mouse_white_tail")
        & df.columns.get_level_values("bodyparts").isin(["Nose", "Center"])
    ]
    pd.testing.assert_frame_equal(ours, df[keys].astype(np.float32))


@pytest.mark.parametrize("name", [MOUSE, TWO_MICE])
def test_to_xarray_equals_what_movement_reads_from_deeplabcuts_file(real_data: Path, tmp_path: Path, name: str) -> None:
    from movement.io import load_poses
    from movement.validators.datasets import ValidPosesInputs

    file, df = stored_from_dlc(tmp_path, real_data / name)
    theirs = load_poses.from_dlc_style_df(df, fps=30)

    ours = PoseSelection([file]).to_xarray()

    ValidPosesInputs.validate(ours)
    assert ours.position.dims == theirs.position.dims
    assert ours.confidence.dims == theirs.confidence.dims
    for name_of in theirs.coords:
        np.testing.assert_array_equal(ours[name_of], theirs[name_of])
    np.testing.assert_array_equal(ours.position, theirs.position.astype(np.float32))
    np.testing.assert_array_equal(ours.confidence, theirs.confidence.astype(np.float32))
    assert {key: ours.attrs[key] for key in theirs.attrs} == theirs.attrs


def test_movement_computes_velocity_on_the_frames_own_times(tmp_path: Path) -> None:
    from movement.filtering import filter_by_confidence
    from movement.kinematics import compute_velocity

    times = np.array([0.0, 0.1, 0.2, 5.0, 5.1, 5.2])  # a gap of 4.8 s
    x = (100 * times).astype(np.float32)
    still = np.zeros_like(x)
    tracks = [Track("", "snout", x, still, np.ones_like(x)), Track("", "tail", still, still, still)]
    poses = PoseSelection([stored(tmp_path, tracks, times, rate=None)]).to_xarray()

    velocity = compute_velocity(poses.position)

    np.testing.assert_allclose(velocity.sel(space="x", keypoints="snout").squeeze(), 100, rtol=1e-5)
    assert poses.individuals.values.tolist() == ["individual_0"]
    assert "fps" not in poses.attrs
    assert poses.attrs["time_unit"] == "seconds"
    trusted = filter_by_confidence(poses.position, poses.confidence, threshold=0.5)
    assert trusted.sel(keypoints="tail").isnull().all()
    assert trusted.sel(keypoints="snout").notnull().all()


def test_movement_saves_and_loads_the_dataset(real_data: Path, tmp_path: Path) -> None:
    from movement.io import load_poses, save_poses

    file, df = stored_from_dlc(tmp_path, real_data / MOUSE)

    poses = PoseSelection([file]).to_xarray()
    save_poses.to_dlc_file(poses, tmp_path / "again.h5", split_individuals=False)
    again = load_poses.from_dlc_file(tmp_path / "again.h5", fps=30)

    np.testing.assert_array_equal(again.position.values[:, 0, 0, 0], df.iloc[:, 0].astype(np.float32))
    saved = tmp_path / "poses.nc"
    poses.to_netcdf(saved)
    xr.testing.assert_identical(xr.load_dataset(saved), poses)


def test_body_parts_that_one_individual_lacks_are_nan_in_xarray(tmp_path: Path) -> None:
    tracks = [
        ramp("snout", individual="m1"),
        ramp("snout", individual="m2"),
        ramp("nest", individual="single"),
    ]

    poses = PoseSelection([stored(tmp_path, tracks, np.arange(4.0))]).to_xarray()

    assert poses.individuals.values.tolist() == ["m1", "m2", "single"]
    assert poses.position.sel(individuals="m1", keypoints="nest").isnull().all()
    assert poses.position.sel(individuals="single", keypoints="nest").notnull().all()


def test_one_recording_in_pandas_has_the_tables_own_columns(tmp_path: Path) -> None:
    rows = PoseSelection([stored(tmp_path, [ramp("snout"), ramp("tail")], np.arange(4.0))]).to_pandas()

    assert rows.columns.tolist() == TABLE
    assert rows.x.tolist() == [0, 1, 2, 3, 0, 1, 2, 3]
    assert rows.dtypes["x"] == np.float32
    assert rows.bodypart.cat.categories.tolist() == ["snout", "tail"]


def test_two_cameras_of_one_session_are_told_apart_by_recording(tmp_path: Path) -> None:
    files = [stored(tmp_path, [ramp("snout")], np.arange(4.0), recording=name) for name in ("top", "side")]

    rows = PoseSelection(files).to_pandas()

    assert rows.columns.tolist() == TABLE
    assert rows.groupby("recording", observed=True).size().to_dict() == {"top": 4, "side": 4}


def test_several_sessions_or_models_are_told_apart_by_columns_before_the_tables_own(tmp_path: Path) -> None:
    first, second = (
        stored(tmp_path, [ramp("snout")], np.arange(4.0), session=session) for session in ("ses-1", "ses-2")
    )
    third = stored(tmp_path, [ramp("nose")], np.arange(4.0), session="ses-1", model="other")

    by_session = PoseSelection([first, second]).to_pandas()
    by_model = PoseSelection([first, third]).to_pandas()

    assert by_session.columns.tolist() == ["session", "model", *TABLE]
    assert by_session.session.tolist() == ["ses-1"] * 4 + ["ses-2"] * 4
    assert by_model.columns.tolist() == ["session", "model", *TABLE]
    assert by_model.model.tolist() == ["openfield"] * 4 + ["other"] * 4


def test_a_body_part_of_one_of_two_models_selects_that_models_rows(tmp_path: Path) -> None:
    files = [
        stored(tmp_path, [ramp("snout"), ramp("tail")], np.arange(4.0)),
        stored(tmp_path, [ramp("nose")], np.arange(4.0), model="other"),
    ]

    rows = PoseSelection(files, bodyparts="nose").to_pandas()

    assert set(rows.model) == {"other"}
    with pytest.raises(NotFoundError, match=r'no body part "snot"\. Did you mean "snout"'):
        PoseSelection(files, bodyparts=["snot"]).to_arrow()


def test_versions_of_a_model_do_not_mix_unless_asked_for(tmp_path: Path) -> None:
    files = [stored(tmp_path, [ramp("snout")], np.arange(4.0), version=version) for version in ("aaa", "bbb")]

    with pytest.raises(DlcAssetsError) as raised:
        PoseSelection(files)
    for said in ('model "openfield"', "aaa (1 pose tables)", "bbb", "allow_mixed_versions=True"):
        assert said in str(raised.value)

    rows = PoseSelection(files, allow_mixed_versions=True).to_pandas()
    assert rows.columns.tolist() == ["version", *TABLE]
    assert rows.version.tolist() == ["aaa"] * 4 + ["bbb"] * 4


def test_several_recordings_make_no_single_dataset_and_are_listed(tmp_path: Path) -> None:
    files = [stored(tmp_path, [ramp("snout")], np.arange(4.0), recording=name) for name in ("top", "side")]
    selection = PoseSelection(files)

    for convert in (selection.to_xarray, selection.to_dlc):
        with pytest.raises(DlcAssetsError, match="exactly one recording") as raised:
            convert()
        for said in ("recording top", "recording side", "recording="):
            assert said in str(raised.value)


def test_an_empty_selection_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="selection is empty"):
        PoseSelection([])
    with pytest.raises(NotFoundError, match=r"bodyparts=\[\]"):
        PoseSelection([stored(tmp_path, [ramp("snout")], np.arange(4.0))], bodyparts=[])


def test_nothing_is_read_before_it_is_asked_for(tmp_path: Path) -> None:
    selection = PoseSelection([PoseFile(tmp_path / "gone.parquet", "openfield", "aaa", "ses-1", "top")])

    assert len(selection) == 1
    assert "session ses-1, recording top (openfield@aaa)" in repr(selection)
    with pytest.raises(NotFoundError, match=r"no pose table at .*gone\.parquet"):
        selection.to_pandas()


def test_a_selection_says_what_it_is_of_and_does_not_list_hundreds(tmp_path: Path) -> None:
    files = [PoseFile(tmp_path / f"{n}.parquet", "openfield", "aaa", f"ses-{n}", "top") for n in range(300)]

    said = repr(PoseSelection(files, bodyparts=["snout", "tail"]))

    assert said.startswith("PoseSelection of 300 pose tables; body parts: snout, tail; individuals: all")
    assert "and 288 more" in said


def test_the_metadata_of_each_file_comes_in_order(tmp_path: Path) -> None:
    files = [stored(tmp_path, [ramp("snout")], np.arange(4.0), recording=name) for name in ("top", "side")]

    assert [metadata.recording for metadata in PoseSelection(files).metadata()] == ["top", "side"]


# --- names of body parts that are united ----------------------------------------------------------

NAMES = BodyPartNames({"nose": "snout", "Snout": "snout", "tail_base": "tailbase"})


def of_three_models(folder: Path) -> list[PoseFile]:
    parts = {"a": ("snout", "tailbase"), "b": ("nose", "tail_base", "ear"), "c": ("ear",)}
    return [
        stored(folder, [ramp(part) for part in names], np.arange(4) / 30, model=model) for model, names in parts.items()
    ]


def called(selection: PoseSelection) -> set[tuple[str, str]]:
    return set(selection.to_pandas()[["model", "bodypart"]].itertuples(index=False, name=None))


@pytest.mark.parametrize(
    ("bodyparts", "canonical", "expected"),
    [
        (["snout"], False, {("a", "snout"), ("b", "snout")}),
        (["nose"], False, {("a", "nose"), ("b", "nose")}),
        (["nose"], True, {("a", "snout"), ("b", "snout")}),
        (["Snout", "ear"], False, {("a", "Snout"), ("b", "Snout"), ("b", "ear"), ("c", "ear")}),
        (["snout", "nose"], False, {("a", "snout"), ("b", "nose")}),
        (None, False, {("a", "snout"), ("a", "tailbase"), ("b", "nose"), ("b", "tail_base"), ("b", "ear"), ("c", "ear")}),
        (None, True, {("a", "snout"), ("a", "tailbase"), ("b", "snout"), ("b", "tailbase"), ("b", "ear"), ("c", "ear")}),
    ],
)  # fmt: skip
def test_a_part_is_found_by_any_of_its_names_and_called_as_it_was_asked_for(
    tmp_path: Path, bodyparts: list[str] | None, canonical: bool, expected: set[tuple[str, str]]
) -> None:
    files = of_three_models(tmp_path)
    assert called(PoseSelection(files, bodyparts=bodyparts, names=NAMES, canonical=canonical)) == expected


def test_united_names_are_those_of_movement_and_deeplabcut_tables_too(tmp_path: Path) -> None:
    file = stored(tmp_path, [ramp("nose"), ramp("ear")], np.arange(4) / 30)
    asked = PoseSelection([file], bodyparts="snout", names=NAMES)
    own = PoseSelection([file], bodyparts="nose")
    (dimension,) = [name for name in asked.to_xarray().dims if str(name).startswith("keypoint")]
    assert list(asked.to_xarray()[dimension].values) == ["snout"]
    np.testing.assert_array_equal(asked.to_xarray().position, own.to_xarray().position)
    assert set(asked.to_dlc().columns.get_level_values("bodyparts")) == {"snout"}
    np.testing.assert_array_equal(asked.to_dlc(), own.to_dlc())
    everything = PoseSelection([file], names=NAMES, canonical=True)
    assert list(everything.to_dlc().columns.unique("bodyparts")) == ["snout", "ear"]


def test_a_model_that_has_two_names_of_a_part_keeps_them_apart(tmp_path: Path) -> None:
    file = stored(tmp_path, [ramp("snout"), ramp("nose"), ramp("tail_base")], np.arange(4) / 30)
    both = PoseSelection([file], names=NAMES, canonical=True).to_pandas()
    assert set(both["bodypart"]) == {"snout", "nose", "tailbase"}
    assert set(PoseSelection([file], bodyparts="nose", names=NAMES).to_pandas()["bodypart"]) == {"nose"}
    with pytest.raises(DlcAssetsError, match='"Snout" can be snout or nose, which this model tells apart'):
        PoseSelection([file], bodyparts="Snout", names=NAMES).to_pandas()


def test_a_name_of_no_part_is_an_error_that_names_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match='there is no body part "whisker"'):
        PoseSelection(of_three_models(tmp_path), bodyparts=["snout", "whisker"], names=NAMES).to_pandas()
    with pytest.raises(NotFoundError, match='there is no body part "nose"'):
        PoseSelection(of_three_models(tmp_path)[2:], bodyparts="nose", names=NAMES).to_xarray()
