"""A lab's own results become pose tables: equal to the files, said where they come from, and never estimated again by themselves."""

from __future__ import annotations

import dataclasses
import pickle
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from dlc_assets.adoption.crop_facts import crop_of_result
from dlc_assets.adoption.pose_import import ImportedResult, import_poses
from dlc_assets.adoption.result_files import read_result
from dlc_assets.adoption.training_facts import training_frames_of
from dlc_assets.demo.files import encode_video
from dlc_assets.inference.pose_tables import Estimators, estimate_session
from dlc_assets.lab.errors import InputError, NotFoundError
from dlc_assets.lab.lab import Lab, open_lab_folder
from dlc_assets.lab.manifest import Manifest
from dlc_assets.poses.schema import Track
from dlc_assets.poses.table_file import PoseTableFile, read_tracks
from dlc_assets.recordings.discovery import discover
from dlc_assets.recordings.index import RecordingIndex
from dlc_assets.recordings.info import need_session_info
from dlc_assets.recordings.session_recordings import record_session
from dlc_assets.state.agenda import Agenda
from dlc_assets.state.behind import session_products
from dlc_assets.training.models import ModelVersion
from dlc_assets_tests.unit.released_lab import PARTS, add_poses, add_version, reopened

KEY = "sub-m01_ses-20260501"
SCORER = "DLC_resnet50_walkNov1shuffle1_1000"
LAB = """\
name: Smith lab
timezone: Europe/Zurich
recordings:
  - {root: recordings, template: "{subject}/{session}/{camera}.mp4"}
devices: {top: {}, side: {}}
release: [{devices: [top], model: walker}]
analyze: {since: 2020-01-01}
"""


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """A session of one camera with 12 frames of 64 x 48 px, probed, its recordings released to the model walker."""
    root = tmp_path / "lab"
    film(root / "recordings/m01/20260501/top.mp4")
    (root / "lab.yaml").write_text(LAB)
    lab = open_lab_folder(root)
    record_session(lab, discover(lab).sessions[KEY], run_id="run", log=lambda _: None)
    return lab


@pytest.fixture
def version(lab: Lab) -> ModelVersion:
    return add_version(lab)


def film(path: Path, frames: int = 12) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures = (np.full((48, 64, 3), number * 3 % 256, np.uint8) for number in range(frames))
    encode_video(path, pictures, Fraction(25), None)


def results(folder: Path, rows: int = 12, *, name: str = "topDLC.h5", parts: list[str] = PARTS, first: int = 0) -> Path:
    """Write results as DeepLabCut does: x, y within 20 px, one detection missing."""
    folder.mkdir(parents=True, exist_ok=True)
    columns = pd.MultiIndex.from_product(
        [[SCORER], parts, ["x", "y", "likelihood"]], names=["scorer", "bodyparts", "coords"]
    )
    values = np.random.default_rng(rows).random((rows, len(columns))) * np.tile([20, 20, 1], len(parts))
    values[2, :3] = np.nan
    df = pd.DataFrame(values, columns=columns, index=pd.RangeIndex(first, first + rows))
    path = folder / name
    if path.suffix == ".csv":
        df.to_csv(path)
    else:
        df.to_hdf(path, key="df_with_missing", format="table", mode="w")
    return path


def meta(result: Path, crop: list[int] | None = None, **more: Any) -> Path:
    """Write the pickle that DeepLabCut writes beside *result*."""
    data = {"cropping": crop is not None, "cropping_parameters": crop or [0, 64, 0, 48], "Scorer": SCORER, **more}
    path = result.with_name(f"{result.stem.removesuffix('_filtered')}_meta.pickle")
    path.write_bytes(pickle.dumps({"data": data}))
    return path


def bring(lab: Lab, version: ModelVersion, path: Path, **how: Any) -> tuple[Manifest, bool]:
    return import_poses(lab, KEY, version, {"top": ImportedResult(path, **how)}, run_id="run", log=lambda _: None)


def table_of(lab: Lab, version: ModelVersion, recording: str = "top") -> Path:
    return lab.layout.pose_file(version.model, version.version, KEY, recording)


def stored(lab: Lab, version: ModelVersion) -> list[Track]:
    return read_tracks(table_of(lab, version))[1]


def the_problem(manifest: Manifest, fragment: str) -> str:
    [found] = [problem for problem in manifest.problems if fragment in problem]
    return found


def asked_for(lab: Lab) -> list[tuple[str, str]]:
    """Return what the sensors would make of the lab now."""
    with RecordingIndex.opened(lab) as index:
        index.look(settle=False)
        agenda = Agenda(lab, index)
        agenda.refresh(thorough=True)
        return [(p.key, p.state) for p in agenda.todo("pose_table", now=time.time(), most=10)]


def state_of(lab: Lab) -> tuple[str, str]:
    [product] = [
        p for p in session_products(lab, KEY, discover(lab).sessions[KEY]) if p.asset == "pose_table"
    ]  # fmt: skip
    return product.state, product.why


# --- equal to the file, and up to date ------------------------------------------------------------


def test_results_become_the_pose_table_and_the_sensors_ask_for_nothing(
    lab: Lab, version: ModelVersion, tmp_path: Path
) -> None:
    assert asked_for(lab) == [(f"walker|{KEY}", "missing")]
    path = results(tmp_path / "results")
    meta(path)
    manifest, written = bring(lab, version, path)
    assert written
    assert manifest.problems == []
    for one, other in zip(stored(lab, version), read_result(path).tracks, strict=True):
        assert one.bodypart == other.bodypart
        for name in ("x", "y", "likelihood"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert state_of(lab) == ("up to date", "")
    assert asked_for(lab) == []


def test_where_poses_come_from_is_stated(lab: Lab, version: ModelVersion, tmp_path: Path) -> None:
    manifest, _ = bring(lab, version, results(tmp_path))
    metadata = PoseTableFile.open(table_of(lab, version)).metadata
    assert metadata.origin.startswith("imported from topDLC.h5, sha256 ")
    assert metadata.origin.endswith(f"scorer {SCORER}")
    assert manifest.details["origin"] == metadata.origin
    assert (metadata.scorer, metadata.bodyparts, metadata.frame_count) == (SCORER, PARTS, 12)
    assert metadata.inference["program"] == "DeepLabCut"


def test_importing_again_writes_nothing(lab: Lab, version: ModelVersion, tmp_path: Path) -> None:
    path = results(tmp_path)
    first, _ = bring(lab, version, path)
    before = table_of(lab, version).stat()
    again, written = bring(lab, version, path)
    assert not written
    assert again == first
    assert table_of(lab, version).stat().st_mtime_ns == before.st_mtime_ns
    assert not lab.layout.pose_work(version.model, version.version, KEY).exists()
    _, written = bring(lab, version, path, crop="none")
    assert written  # what is known of it has changed
    meta(path)
    _, written = bring(lab, version, path, crop="none")
    assert written


def test_imported_poses_stay_when_the_lab_crops_otherwise_and_go_behind_with_a_new_version(
    lab: Lab, version: ModelVersion, tmp_path: Path
) -> None:
    bring(lab, version, results(tmp_path))
    settings = lab.layout.settings_file
    settings.write_text(LAB + "setups: {top: [{crop: {x: [0, 32], y: [0, 48]}}]}\ninference: {dynamic_cropping: {}}\n")
    lab = reopened(lab)
    assert state_of(lab) == ("up to date", "")
    assert asked_for(lab) == []
    _, made = estimate_session(
        lab, "walker", KEY, Estimators("cpu"), overrides={}, recompute=False, run_id="run", log=lambda _: None
    )
    assert not made  # by hand neither, unless asked for
    add_version(lab, weights=b"second")
    assert state_of(lab)[0] == "behind"


def test_poses_estimated_here_are_not_replaced(lab: Lab, version: ModelVersion, tmp_path: Path) -> None:
    add_poses(lab, version, KEY)
    with pytest.raises(InputError, match="estimated here"):
        bring(lab, version, results(tmp_path))
    assert stored(lab, version)[0].x[0] == 20


def test_a_recording_of_an_earlier_import_keeps_its_poses(lab: Lab, version: ModelVersion, tmp_path: Path) -> None:
    film(lab.root / "recordings/m01/20260501/side.mp4")
    lab = reopened(lab)
    record_session(lab, discover(lab).sessions[KEY], run_id="run", log=lambda _: None)
    first, _ = bring(lab, version, results(tmp_path))
    assert the_problem(first, "no results") == "no results were imported of side"
    side = ImportedResult(results(tmp_path, name="sideDLC.h5"))
    both, _ = import_poses(lab, KEY, version, {"side": side}, run_id="run", log=lambda _: None)
    assert sorted(row["recording"] for row in both.details["recordings"]) == ["side", "top"]
    assert not [problem for problem in both.problems if "no results" in problem]
    assert table_of(lab, version).exists()
    assert table_of(lab, version, "side").exists()


# --- frames ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["topDLC.h5", "topDLC.csv"])
def test_fewer_rows_than_frames_leave_nulls_and_say_so(
    lab: Lab, version: ModelVersion, tmp_path: Path, name: str
) -> None:
    path = results(tmp_path, 7, name=name, first=2)
    manifest, _ = bring(lab, version, path)
    track = stored(lab, version)[1]
    assert np.flatnonzero(np.isnan(track.x)).tolist() == [0, 1, 9, 10, 11]
    np.testing.assert_array_equal(track.x[2:9], read_result(path).tracks[1].x)
    assert the_problem(manifest, "have no poses (null)") == (
        f"top, {name}: the table has 7 rows and the recording 12 frames: 5 frame(s) have no poses (null), 3 of them at the end, from "
        "frame 9 on"
    )
    assert "begin at 2" in the_problem(manifest, "begin at")


def test_more_rows_than_frames_are_refused_with_both_numbers(lab: Lab, version: ModelVersion, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"reaches frame 14 \(15 rows\), but top has 12 frames"):
        bring(lab, version, results(tmp_path, 15))
    assert not table_of(lab, version).exists()
    assert state_of(lab)[0] == "missing"


def test_a_table_of_another_network_is_refused(lab: Lab, version: ModelVersion, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the body parts paw are none of walker@"):
        bring(lab, version, results(tmp_path, parts=["snout", "paw"]))
    manifest, _ = bring(lab, version, results(tmp_path, parts=["snout"]))
    assert the_problem(manifest, "the table has no tailbase")


def test_files_and_recordings_that_are_not_there_are_named(lab: Lab, version: ModelVersion, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"goneDLC\.h5"):
        bring(lab, version, tmp_path / "goneDLC.h5")
    with pytest.raises(NotFoundError, match='no recording "front"'):
        import_poses(lab, KEY, version, {"front": ImportedResult(results(tmp_path))}, run_id="run", log=lambda _: None)


def test_labels_are_taken_only_where_they_are_wanted(lab: Lab, version: ModelVersion, tmp_path: Path) -> None:
    path = results(tmp_path, 3, name="CollectedData.csv")
    path.write_text(
        path.read_text().replace("\n0,", "\nlabeled-data/top/img01.png,").replace("\n1,", "\nlabeled-data/top/img05.png,")
        .replace("\n2,", "\nlabeled-data/top/img11.png,")
    )  # fmt: skip
    with pytest.raises(InputError, match="got labels, one row an image"):
        bring(lab, version, path)
    bring(lab, version, path, labels=True)
    assert np.flatnonzero(np.isfinite(stored(lab, version)[1].x)).tolist() == [1, 5, 11]


# --- crops ----------------------------------------------------------------------------------------


def test_the_offset_of_a_crop_is_added_back(lab: Lab, version: ModelVersion, tmp_path: Path) -> None:
    path = results(tmp_path, name="topDLC_filtered.h5")
    meta(path, [10, 40, 5, 45])
    manifest, _ = bring(lab, version, path)
    one, other = stored(lab, version)[1], read_result(path).tracks[1]
    np.testing.assert_array_equal(one.x, other.x + np.float32(10))
    np.testing.assert_array_equal(one.y, other.y + np.float32(5))
    metadata = PoseTableFile.open(table_of(lab, version)).metadata
    assert metadata.crop == {"x": [10, 40], "y": [5, 45]}
    assert metadata.inference["crop"] == "topDLC_meta.pickle"
    assert metadata.inference["filtered"]
    assert manifest.problems == []


def test_a_crop_that_nobody_states_is_unknown_and_a_stated_one_counts(
    lab: Lab, version: ModelVersion, tmp_path: Path
) -> None:
    path = results(tmp_path)
    manifest, _ = bring(lab, version, path)
    assert the_problem(manifest, "crop unknown").startswith(
        "top, topDLC.h5: crop unknown: its _meta.pickle is not beside it."
    )
    assert PoseTableFile.open(table_of(lab, version)).metadata.inference["crop"] == "crop unknown"
    manifest, _ = bring(lab, version, path, crop=(3, 60, 4, 48))
    assert manifest.problems == []
    np.testing.assert_array_equal(stored(lab, version)[1].x, read_result(path).tracks[1].x + np.float32(3))
    meta(path)
    manifest, _ = bring(lab, version, path, crop=(3, 60, 4, 48))
    assert "the stated one counts" in the_problem(manifest, "stated crop")


def test_a_hostile_pickle_beside_the_results_is_refused_and_creates_nothing(
    lab: Lab, version: ModelVersion, tmp_path: Path
) -> None:
    path, made = results(tmp_path), tmp_path / "made"

    class Creates:
        def __reduce__(self) -> Any:
            return (Path.touch, (made,))

    path.with_name("topDLC_meta.pickle").write_bytes(pickle.dumps({"data": {"cropping": Creates()}}))
    manifest, _ = bring(lab, version, path)
    assert not made.exists()
    assert "topDLC_meta.pickle: not read" in the_problem(manifest, "crop unknown")
    with pytest.raises(InputError, match="not read"):
        crop_of_result(path)


def test_a_crop_is_found_for_trackers_and_wrong_ones_are_refused(tmp_path: Path) -> None:
    path = results(tmp_path)
    tracked = path.rename(tmp_path / "topDLC_el.h5")
    meta(path, [1, 40, 2, 45])
    crop = crop_of_result(tracked)
    assert crop is not None
    assert (crop.x, crop.y, crop.offset) == ((1, 40), (2, 45), (1, 2))
    for wrong in ([40, 1, 2, 45], [1, 40, 2], ["a", 40, 2, 45], [1, 40.5, 2, 45], [1, float("nan"), 2, 45]):
        meta(path, wrong)
        with pytest.raises(InputError, match="State the crop by hand"):
            crop_of_result(tracked)
    assert crop_of_result(tmp_path / "otherDLC.h5") is None
    meta(path, [1, 40, 2, 45]).rename(tmp_path / r"videos\topDLC_meta.pickle")
    unpacked = crop_of_result(tracked.rename(tmp_path / r"videos\topDLC_filtered.HOLDOUT.h5"))
    assert unpacked is not None
    assert unpacked.offset == (1, 2)


def test_the_real_multi_animal_facts_are_read(real_data: Path) -> None:
    with pytest.raises(InputError, match="does not say whether the video was cropped"):
        crop_of_result(real_data / "trimouse-results/trimouse.h5")


def test_coordinates_that_need_a_larger_video_are_said_with_frame_and_place(
    lab: Lab, version: ModelVersion, tmp_path: Path
) -> None:
    path = results(tmp_path)
    df = pd.read_hdf(path)
    assert isinstance(df, pd.DataFrame)
    df.iloc[4, 3] = 640.0
    df.iloc[5, 4] = -40.0
    df.to_hdf(path, key="df_with_missing", format="table", mode="w")
    meta(path, nframes=14)
    manifest, _ = bring(lab, version, path)
    said = the_problem(manifest, "outside the video")
    assert said.startswith(
        "top, topDLC.h5: 2 point(s) lie more than 16 px outside the video of 64 x 48 px, farthest in frame 4 (tailbase"
    )
    assert "had 14 frames" in the_problem(manifest, "_meta.pickle the video")
    assert stored(lab, version)[1].x[4] == 640


# --- real results ---------------------------------------------------------------------------------


def test_the_open_fields_results_are_imported_equal_to_the_file(real_data: Path, tmp_path: Path) -> None:
    path = real_data / "openfield-reference-poses/m3v1mp4DLC_resnet50_openfieldAug20shuffle1_30000.h5"
    root = tmp_path / "lab"
    film(root / "recordings/m01/20260501/top.mp4", 2330)
    (root / "lab.yaml").write_text(LAB)
    lab = open_lab_folder(root)
    record_session(lab, discover(lab).sessions[KEY], run_id="run", log=lambda _: None)
    version = add_version(lab)
    card = {**version.card, "bodyparts": ["snout", "leftear", "rightear", "tailbase"]}
    version.manifest.model_copy(update={"details": card}).write(version.folder)
    version = dataclasses.replace(version)  # reads its card again
    manifest, _ = bring(lab, version, path)
    df = pd.read_hdf(path)
    assert isinstance(df, pd.DataFrame)
    for place, track in enumerate(stored(lab, version)):
        np.testing.assert_array_equal(track.x, df.iloc[:, 3 * place].to_numpy(np.float32))
        np.testing.assert_array_equal(track.likelihood, df.iloc[:, 3 * place + 2].to_numpy(np.float32))
    assert "crop unknown" in manifest.problems[0]
    assert need_session_info(lab.layout, KEY)[0].recording("top").frame_count == 2330


# --- training frames ------------------------------------------------------------------------------


def documentation(
    project: Path, images: list[Any], train: Any, test: Any, *, percent: int = 95, shuffle: int = 1
) -> Path:
    folder = project / "training-datasets/iteration-0/UnaugmentedDataSet_walkNov1"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"Documentation_data-walk_{percent}shuffle{shuffle}.pickle"
    described = [{"image": image, "size": np.array([3, 48, 64]), "joints": [np.zeros((2, 3))]} for image in images]
    path.write_bytes(pickle.dumps([described, train, test, percent / 100]))
    return path


def test_training_frames_are_read_and_those_for_testing_from_the_labels(tmp_path: Path) -> None:
    images = [rf"C:\lab\walk\labeled-data\m1\img{n}.png" for n in (2, 9)] + [("labeled-data", "m1", "img10.png")]
    path = documentation(tmp_path, images, np.array([1, 0, 3, 4, -1]), [np.int64(2)])
    frames = training_frames_of(tmp_path, 0, 0.95, 1)
    assert frames is not None
    assert frames.train == tuple(f"labeled-data/m1/img{n}.png" for n in (2, 9, 10))
    assert (frames.train_count, frames.test_count, frames.test, frames.fraction) == (4, 1, None, 0.95)
    assert "4 images are listed for training and 3 are described" in frames.problems[0]
    assert "no CollectedData table" in frames.problems[1]
    labels = results(path.parent, 5, name="CollectedData_Ann.h5")
    df = pd.read_hdf(labels)
    df.index = pd.Index([f"labeled-data/m1/img{n}.png" for n in (9, 2, 33, 10, 5)])
    df.to_hdf(labels, key="df_with_missing", format="table", mode="w")
    again = training_frames_of(tmp_path, 0, 0.95, 1)
    assert again is not None
    assert again.test == ("labeled-data/m1/img33.png",)  # its row in the table, not its number
    assert training_frames_of(tmp_path, 0, 0.95, 2) is None
    assert training_frames_of(tmp_path, 1, 0.95, 1) is None


def test_training_frames_that_are_damaged_or_hostile_are_refused(tmp_path: Path) -> None:
    made = tmp_path / "made"

    class Creates:
        def __reduce__(self) -> Any:
            return (Path.touch, (made,))

    for content in ([1, 2], [[{"image": 3}], [0], [1], 0.95], [[], "all", [1], 0.95], [[Creates()], [0], [1], 0.95]):
        documentation(tmp_path, [], [], []).write_bytes(pickle.dumps(content))
        with pytest.raises(InputError, match=r"Documentation_data-walk_95shuffle1\.pickle"):
            training_frames_of(tmp_path, 0, 0.95, 1)
    assert not made.exists()


def test_a_fraction_that_is_not_whole_percent_is_found(tmp_path: Path) -> None:
    documentation(tmp_path, ["labeled-data/a/img1.png"], [0], [], percent=28)
    assert training_frames_of(tmp_path, 0, 0.29, 1) is not None  # DeepLabCut cuts 28.999... off
