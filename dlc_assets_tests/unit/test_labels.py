"""Projects and labels as labs have them: moved, half labeled, from Windows, by several people, broken."""

from __future__ import annotations

import os
import pickle
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import tables
import yaml
from PIL import Image

from dlc_assets.lab.errors import InputError, NotFoundError, SettingsError
from dlc_assets.lab.files import sha256_file
from dlc_assets.lab.specification import FrameRule
from dlc_assets.training.dataset import dropped_labels, label_counts, label_warnings
from dlc_assets.training.labels import LabelSet, natural_key, read_all_scorers, read_label_set
from dlc_assets.training.project import DlcProject, read_project

BODYPARTS = ("snout", "tail")
SIZE = (64, 48)
Rows = Mapping[str, Sequence[float]]  # path in the index -> x, y of each body part
ROWS: Rows = {f"labeled-data/day1/img{at}.png": (at, at + 1, at + 10.5, at + 20.25) for at in (2, 10, 1)}


def _config(root: Path, **changes: Any) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    config = {
        "Task": "reach",
        "scorer": "Ann",
        "date": "Jan1",
        "multianimalproject": None,
        "project_path": "WILL BE AUTOMATICALLY UPDATED",
        "video_sets": {"WILL BE AUTOMATICALLY UPDATED": {"crop": "0, 64, 0, 48"}},
        "bodyparts": list(BODYPARTS),
        "skeleton": [["snout", "tail"]],
        "pcutoff": 0.4,
    }
    kept = {key: value for key, value in (config | changes).items() if value != "left out"}
    (root / "config.yaml").write_text(yaml.safe_dump(kept), encoding="utf-8")
    return root / "config.yaml"


def _frame(rows: Rows, scorer: str = "Ann", bodyparts: Sequence[str] = BODYPARTS) -> pd.DataFrame:
    columns = pd.MultiIndex.from_product([[scorer], bodyparts, ["x", "y"]], names=["scorer", "bodyparts", "coords"])
    return pd.DataFrame(np.array(list(rows.values()), dtype=float), index=list(rows), columns=columns)


def _levels(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the frame with its index as DeepLabCut writes it now: labeled-data, folder, image."""
    split = frame.copy()
    split.index = pd.MultiIndex.from_tuples([tuple(name.split("/")) for name in frame.index])
    return split


def _save(frame: pd.DataFrame, folder: Path, suffix: str = ".h5", scorer: str = "Ann") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"CollectedData_{scorer}{suffix}"
    if suffix == ".h5":
        frame.to_hdf(path, key="df_with_missing", mode="w")
    else:
        frame.to_csv(path)
    return path


def _images(folder: Path, names: Sequence[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for at, name in enumerate(names):
        Image.new("L", SIZE, color=at % 255).save(folder / name)


@pytest.fixture
def project(tmp_path: Path) -> DlcProject:
    """A project with three labeled images of one video in img*.png, its label file to be written by the test."""
    root = tmp_path / "reach-Ann"
    config = _config(root)
    _images(root / "labeled-data" / "day1", ["img1.png", "img2.png", "img10.png"])
    return read_project(config)


@pytest.fixture
def day1(project: DlcProject) -> Path:
    return project.root / "labeled-data" / "day1"


def _check_account(labels: LabelSet) -> None:
    for count in labels.counts:
        assert count.found == count.used + sum(count.dropped.values()), count
    assert len(labels.images) == sum(count.used for count in labels.counts)


# --- projects -------------------------------------------------------------------------------------


def test_the_open_field_project_is_read_though_its_paths_are_placeholders(real_data: Path) -> None:
    path = real_data / "openfield" / "config.yaml"
    before = sha256_file(path)
    project = read_project(path)
    assert (project.task, project.scorer, project.date) == ("openfield", "Pranav", "Oct30")
    assert project.bodyparts == ("snout", "leftear", "rightear", "tailbase")
    assert project.skeleton == ()
    assert project.pcutoff == 0.4
    assert project.multianimal is False
    assert project.root == real_data / "openfield"
    assert sha256_file(path) == before


def test_a_multi_animal_project_is_recognised(real_data: Path) -> None:
    project = read_project(real_data / "mabe-mice" / "project" / "config.yaml")
    assert project.multianimal is True
    assert len(project.bodyparts) == 12
    assert project.bodyparts[1] == "left ear"
    assert ("nose", "neck") in project.skeleton


def test_the_folder_of_a_project_will_do(tmp_path: Path) -> None:
    assert read_project(_config(tmp_path).parent) == read_project(tmp_path / "config.yaml")


def test_numbers_as_body_parts_and_dates_are_names(tmp_path: Path) -> None:
    path = _config(tmp_path, bodyparts=[1, 2], skeleton=[[1, 2]])
    path.write_text(path.read_text().replace("Jan1", "2026-01-01"))
    project = read_project(path)
    assert (project.bodyparts, project.skeleton, project.date) == (("1", "2"), (("1", "2"),), "2026-01-01")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"bodyparts": "left out"}, "bodyparts should list the body parts, but is missing"),
        ({"bodyparts": []}, "bodyparts should list the body parts, but is empty"),
        ({"bodyparts": "snout"}, "bodyparts should be a list of names"),
        ({"bodyparts": ["snout", "tail", "snout"]}, 'lists "snout" more than once'),
        ({"skeleton": [["snout", "tial"]]}, 'names "tial".*Did you mean "tail"'),
        ({"skeleton": [["snout", "tail", "tail"]]}, "skeleton edge should be a pair"),
        ({"skeleton": "snout-tail"}, "skeleton should be a list of pairs"),
        ({"pcutoff": 40}, "pcutoff should be a number from 0 to 1, but is 40"),
        ({"multianimalproject": "perhaps"}, "multianimalproject should be true or false"),
        (
            {"multianimalproject": True, "bodyparts": "MULTI!"},
            "multianimalbodyparts should list the body parts",
        ),
    ],
)
def test_a_wrong_config_is_an_error_that_names_file_and_key(tmp_path: Path, changes: dict[str, Any], said: str) -> None:
    path = _config(tmp_path, **changes)
    with pytest.raises(InputError, match=said) as raised:
        read_project(path)
    assert str(path) in str(raised.value)


def test_a_missing_config_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing.yaml cannot be read .*config\.yaml"):
        read_project(tmp_path / "nothing.yaml")


@pytest.mark.parametrize("text", ["a: [1, 2", "just text", "", "\tTask: x", "date: 2018-13-40"])
def test_a_config_that_is_no_mapping_is_an_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(InputError, match=r"config\.yaml"):
        read_project(path)


# --- real labels ----------------------------------------------------------------------------------


def test_all_116_open_field_frames_are_read_as_pandas_reads_them(real_data: Path) -> None:
    root = real_data / "openfield"
    labels = read_label_set(read_project(root / "config.yaml"))
    raw = pd.read_hdf(root / "labeled-data" / "m4s1" / "CollectedData_Pranav.h5")
    assert len(labels.images) == 116
    assert [image.name for image in labels.images[:3]] == ["img0000.png", "img0001.png", "img0002.png"]
    np.testing.assert_array_equal(np.stack([image.xy for image in labels.images]).reshape(116, 8), raw.to_numpy())
    [count] = labels.counts
    assert (count.folder, count.scorer, count.found, count.used) == ("m4s1", "Pranav", 116, 116)
    assert count.dropped == {}
    assert count.warnings == []


def test_h5_and_csv_of_the_open_field_give_the_same_content(real_data: Path, tmp_path: Path) -> None:
    copy = tmp_path / "openfield"
    shutil.copytree(real_data / "openfield", copy, ignore=shutil.ignore_patterns("videos"))
    from_h5 = read_label_set(read_project(copy))
    (copy / "labeled-data" / "m4s1" / "CollectedData_Pranav.h5").unlink()
    from_csv = read_label_set(read_project(copy))
    assert len(from_csv.images) == 116
    np.testing.assert_allclose(
        [image.xy for image in from_csv.images], [image.xy for image in from_h5.images], rtol=0, atol=1e-9
    )


def test_labels_with_gaps_stay_gaps(real_data: Path, tmp_path: Path) -> None:
    source = real_data / "mirror-mouse"
    text = (source / "CollectedData.csv").read_text()
    bodyparts = list(dict.fromkeys(text.splitlines()[1].split(",")[1:]))
    config = _config(tmp_path, bodyparts=bodyparts, skeleton=None, scorer="rick")
    folder = tmp_path / "labeled-data" / "mouse"
    shutil.copytree(source / "labeled-data", folder)
    (folder / "CollectedData_rick.csv").write_text(text.replace("labeled-data/", "labeled-data/mouse/"))
    labels = read_label_set(read_project(config))
    _check_account(labels)
    raw = pd.read_csv(source / "CollectedData.csv", header=[0, 1, 2], index_col=0)
    assert len(labels.images) == len(raw) == 90
    given = sum(int(np.isfinite(image.xy).sum()) for image in labels.images)
    assert given == int(raw.notna().to_numpy().sum())
    assert given < raw.size
    frame = labels.to_frame()
    row = frame[(frame["name"] == "img01.png") & (frame["bodypart"] == "tailBase_top")]
    assert len(frame) == 90 * 17
    assert row[["x", "y"]].isna().all(axis=None)


def test_a_multi_animal_project_is_refused_by_what_is_not_supported(real_data: Path) -> None:
    project = read_project(real_data / "mabe-mice" / "project")
    with pytest.raises(InputError, match=r"several animals per frame .* not supported yet"):
        read_label_set(project)


@pytest.mark.parametrize("suffix", [".h5", ".csv"])
def test_a_multi_animal_label_file_in_a_single_animal_project_is_refused(
    real_data: Path, project: DlcProject, day1: Path, suffix: str
) -> None:
    source = real_data / "mabe-mice" / "project" / "labeled-data" / "EGS8X2MN4SSUGFWAV976"
    shutil.copy(source / f"CollectedData_dlcscorer{suffix}", day1)
    with pytest.raises(InputError, match=r"column level individuals: .*not supported yet"):
        read_label_set(project)


# --- ways to write the same rows ------------------------------------------------------------------


def _write_levels_h5(day1: Path) -> None:
    _save(_levels(_frame(ROWS)), day1)


def _write_names_h5(day1: Path) -> None:
    _save(_frame(ROWS), day1)


def _write_table_h5(day1: Path) -> None:
    _frame(ROWS).to_hdf(day1 / "CollectedData_Ann.h5", key="df_with_missing", mode="w", format="table")


def _write_windows_h5(day1: Path) -> None:
    _save(_frame(ROWS).rename(index=lambda name: name.replace("/", "\\")), day1)


def _write_other_computers_h5(day1: Path) -> None:
    _save(_frame(ROWS).rename(index=lambda name: "C:\\Users\\ann\\reach\\" + name.replace("/", "\\")), day1)


def _write_bare_names_h5(day1: Path) -> None:
    _save(_frame(ROWS).rename(index=lambda name: name.split("/")[-1]), day1)


def _write_likelihood_h5(day1: Path) -> None:
    frame = _frame(ROWS)
    for part in BODYPARTS:
        frame[("Ann", part, "likelihood")] = 1.0
    _save(frame, day1)


def _write_other_order_h5(day1: Path) -> None:
    _save(_frame(ROWS)[[("Ann", part, coord) for part in ("tail", "snout") for coord in ("y", "x")]], day1)


def _write_object_h5(day1: Path) -> None:
    _save(_frame(ROWS).astype(object), day1)


def _write_levels_csv(day1: Path) -> None:
    _save(_levels(_frame(ROWS)), day1, ".csv")


def _write_names_csv(day1: Path) -> None:
    _save(_frame(ROWS), day1, ".csv")


def _write_windows_csv(day1: Path) -> None:
    path = _save(_frame(ROWS).rename(index=lambda name: name.replace("/", "\\")), day1, ".csv")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))


@pytest.mark.filterwarnings("ignore::pandas.errors.PerformanceWarning")
@pytest.mark.parametrize("write", [write for name, write in sorted(globals().items()) if name.startswith("_write_")])
def test_every_way_to_write_the_same_labels_gives_the_same_label_set(
    project: DlcProject, day1: Path, write: Any
) -> None:
    write(day1)
    labels = read_label_set(project)
    _check_account(labels)
    assert [image.name for image in labels.images] == ["img1.png", "img2.png", "img10.png"]
    assert labels.images[2].xy.tolist() == [[10, 11], [20.5, 30.25]]
    assert labels.images[2].path == day1 / "img10.png"
    assert labels.counts[0].notes == labels.counts[0].warnings == []
    for path in day1.glob("CollectedData_*"):
        path.unlink()
    _save(_frame(ROWS), day1)
    assert labels.content_hash == read_label_set(project).content_hash


def test_folder_names_keep_their_leading_zeros_in_a_csv(tmp_path: Path) -> None:
    config = _config(tmp_path)
    folder = tmp_path / "labeled-data" / "0007"
    _images(folder, ["img1.png"])
    _save(_levels(_frame({"labeled-data/0007/img1.png": (1, 2, 3, 4)})), folder, ".csv")
    assert [image.folder for image in read_label_set(read_project(config)).images] == ["0007"]


# --- which rows are used --------------------------------------------------------------------------


def test_every_dropped_row_is_counted_with_its_reason(project: DlcProject, day1: Path) -> None:
    nan = float("nan")
    frame = _frame(
        {
            "labeled-data/day1/img1.png": (1, 2, 3, 4),
            "labeled-data/day1/img2.png": (nan, nan, nan, nan),
            "labeled-data/day1/img10.png": (1, 2, nan, nan),
            "labeled-data/day1/img99.png": (1, 2, 3, 4),
            "labeled-data/day2/img1.png": (1, 2, 3, 4),
            "labeled-data/day1/broken.png": (1, 2, 3, 4),
        }
    )
    (day1 / "broken.png").write_bytes(b"not an image")
    _save(pd.concat([frame, frame.iloc[[0]]]), day1)
    labels = read_label_set(project)
    _check_account(labels)
    [count] = labels.counts
    assert (count.found, count.used) == (7, 2)
    assert count.dropped == {
        "no body part labeled": 1,
        "image missing": 1,
        "row names another folder": 1,
        "image cannot be read": 1,
        "duplicate row": 1,
    }
    assert "labeled-data/day1/img99.png: image missing" in count.examples
    assert "1 dropped (duplicate row)" in count.sentence()
    assert np.isnan(labels.images[1].xy[1]).all()


def test_examples_are_few_where_rows_are_many(project: DlcProject, day1: Path) -> None:
    _save(_frame(ROWS | {f"labeled-data/day1/gone{at}.png": (1, 2, 3, 4) for at in range(50)}), day1)
    [count] = read_label_set(project).counts
    assert count.dropped == {"image missing": 50}
    assert len(count.examples) == 3


def test_an_image_labeled_by_two_is_taken_from_the_projects_scorer(project: DlcProject, day1: Path) -> None:
    _save(_frame({"labeled-data/day1/img1.png": (1, 1, 1, 1)}), day1)
    rows = {"labeled-data/day1/img1.png": (9, 9, 9, 9), "labeled-data/day1/img2.png": (9, 9, 9, 9)}
    _save(_frame(rows, "Aaron"), day1, scorer="Aaron")
    labels = read_label_set(project)
    _check_account(labels)
    assert [(image.name, image.scorer) for image in labels.images] == [
        ("img1.png", "Ann"),
        ("img2.png", "Aaron"),
    ]
    assert labels.counts[1].dropped == {"labeled by Ann already": 1}
    assert dropped_labels(labels) == [], "that two people label a frame is how their differences become known"
    preferred = read_label_set(project, scorers=["Aaron", "Ann"])
    assert {image.scorer for image in preferred.images} == {"Aaron"}
    assert preferred.counts[1].dropped == {"labeled by Aaron already": 1}
    assert preferred.content_hash != labels.content_hash


def test_a_row_that_cannot_be_used_leaves_the_image_to_the_next_scorer(project: DlcProject, day1: Path) -> None:
    _save(_frame({"labeled-data/day1/img1.png": [float("nan")] * 4}), day1)
    _save(_frame({"labeled-data/day1/img1.png": (9, 9, 9, 9)}, "Bob"), day1, scorer="Bob")
    labels = read_label_set(project)
    assert [image.scorer for image in labels.images] == ["Bob"]
    _check_account(labels)


def test_a_scorer_not_asked_for_is_named_as_not_read(project: DlcProject, day1: Path) -> None:
    _save(_frame(ROWS), day1)
    (day1 / "CollectedData_Bob.h5").write_bytes(b"broken, but nobody asked")
    labels = read_label_set(project, scorers=["Ann"])
    assert labels.counts[1].scorer == "Bob"
    assert "not among those asked for" in labels.counts[1].notes[0]


def test_an_unknown_scorer_is_an_error_that_names_the_known_ones(project: DlcProject, day1: Path) -> None:
    _save(_frame(ROWS), day1)
    with pytest.raises(NotFoundError, match=r'"Anne".*which has scorers: Ann.*Did you mean "Ann"'):
        read_label_set(project, scorers=["Anne"])


def test_videos_are_chosen_by_folder_or_video_file(project: DlcProject, day1: Path) -> None:
    _save(_frame(ROWS), day1)
    other = day1.parent / "day2.cam1"
    _images(other, ["img1.png"])
    _save(_frame({"labeled-data/day2.cam1/img1.png": (1, 2, 3, 4)}), other)
    assert {image.folder for image in read_label_set(project).images} == {"day1", "day2.cam1"}
    for videos in (["day1"], ["day1.mp4"], ["D:\\videos\\day1.avi"], ["/data/day1.mp4", "day1"]):
        assert {image.folder for image in read_label_set(project, videos=videos).images} == {"day1"}
    for videos in (["day2.cam1"], ["day2.cam1.mp4"]):
        assert {image.folder for image in read_label_set(project, videos=videos).images} == {"day2.cam1"}
    with pytest.raises(NotFoundError, match=r'"dya1.mp4".*day1, day2.cam1.*Did you mean "day1"'):
        read_label_set(project, videos=["dya1.mp4"])
    with pytest.raises(SettingsError, match="list is empty"):
        read_label_set(project, videos=[])


def _many(day1: Path, count: int = 7) -> None:
    names = [f"img{at}.png" for at in range(count)]
    _images(day1, names)
    _save(_frame({f"labeled-data/day1/{name}": (1, 2, 3, 4) for name in names}), day1)


def test_frames_are_chosen_by_patterns_and_by_counting_and_the_others_counted(project: DlcProject, day1: Path) -> None:
    _many(day1, 12)
    rule = FrameRule(only=("day1/img?.png", "*/img11.png"), leave_out=("*img[45].png",), every=3)
    labels = read_label_set(project, frames=rule)
    _check_account(labels)
    assert [image.name for image in labels.images] == ["img0.png", "img3.png", "img8.png"]  # of 0 1 2 3 6 7 8 9 11
    [count] = labels.counts
    assert count.dropped == {
        "not in label_set.frames.only": 1,
        "in label_set.frames.leave_out": 2,
        "not the first of 3 (label_set.frames.every)": 6,
    }
    assert dropped_labels(labels) == [], "asked for, so nothing to warn of"
    assert "6 not the first of 3" in label_counts(labels)[0]["reasons"]


def test_a_frame_rule_that_leaves_all_frames_in_changes_nothing(project: DlcProject, day1: Path) -> None:
    _many(day1)
    everything = FrameRule(only=("*",), leave_out=("*/other*",), every=1)
    assert read_label_set(project, frames=everything).content_hash == read_label_set(project).content_hash
    some = FrameRule(every=2)
    assert read_label_set(project, frames=some).content_hash != read_label_set(project).content_hash


def test_every_nth_frame_counts_frames_of_all_scorers_of_a_folder_in_natural_order(
    project: DlcProject, day1: Path
) -> None:
    _save(_frame({"labeled-data/day1/img1.png": (1, 1, 1, 1), "labeled-data/day1/img10.png": (1, 1, 1, 1)}), day1)
    _save(_frame({"labeled-data/day1/img2.png": (9, 9, 9, 9)}, "Bob"), day1, scorer="Bob")
    labels = read_label_set(project, frames=FrameRule(every=2))
    _check_account(labels)
    assert [(image.name, image.scorer) for image in labels.images] == [("img1.png", "Ann"), ("img10.png", "Ann")]
    assert (labels.counts[1].found, labels.counts[1].used) == (1, 0)


def test_a_frame_rule_that_leaves_nothing_is_an_error_that_says_so(project: DlcProject, day1: Path) -> None:
    _many(day1)
    with pytest.raises(InputError, match=r"7 dropped \(not in label_set\.frames\.only\)"):
        read_label_set(project, frames=FrameRule(only=("day2/*",)))
    assert read_label_set(project, frames=FrameRule(only=("day2/*",)), may_be_empty=True).images == ()


def test_a_frame_labeled_twice_in_one_file_is_named(project: DlcProject, day1: Path) -> None:
    frame = _frame(ROWS)
    _save(pd.concat([frame, frame.iloc[[0]] + 5]), day1)
    labels = read_label_set(project)
    assert labels.images[1].xy.tolist() == [[2, 3], [12.5, 22.25]], "the first row counts"
    assert dropped_labels(labels) == [
        "day1 (Ann): 1 of 4 labeled frames not used: 1 duplicate row (such as labeled-data/day1/img2.png)"
    ]


def test_a_copy_stands_in_for_a_missing_image(project: DlcProject, day1: Path, tmp_path: Path) -> None:
    _save(_frame(ROWS), day1)
    copy = tmp_path / "copy.png"
    (day1 / "img2.png").rename(copy)
    labels = read_label_set(project, copies={("day1", "img2.png"): copy})
    assert [image.path for image in labels.images] == [day1 / "img1.png", copy, day1 / "img10.png"]


def test_what_several_people_labeled_is_read_whole(project: DlcProject, day1: Path) -> None:
    _save(_frame(ROWS), day1)
    _save(_frame({"labeled-data/day1/img1.png": (9, 9, 9, 9)}, "Bob"), day1, scorer="Bob")
    other = day1.parent / "day2"
    _images(other, ["img1.png"])
    _save(_frame({"labeled-data/day2/img1.png": (1, 2, 3, 4)}), other)
    read, problems = read_all_scorers(project, ["day1", "day2", "day3"])
    assert problems == []
    assert [(image.name, image.scorer) for image in read] == [
        ("img1.png", "Ann"),
        ("img1.png", "Bob"),
        ("img2.png", "Ann"),
        ("img10.png", "Ann"),
    ]


def test_names_sort_as_people_count_whatever_they_are() -> None:
    odd = ["10", "2", "", "b1c", "img", "img.png", "img2", "img2.png", "img2.png2"]
    assert sorted(odd, key=natural_key) == ["", "2", "10", "b1c", "img", "img2", "img2.png", "img2.png2", "img.png"]
    assert sorted(["img10.png", "img2.png", "img1.png"], key=natural_key) == ["img1.png", "img2.png", "img10.png"]


def test_folders_without_labels_are_listed_and_never_skipped_in_silence(project: DlcProject, day1: Path) -> None:
    _save(_frame(ROWS), day1)
    for name in ("day1_labeled", "day3", "day4", ".ipynb_checkpoints"):
        (day1.parent / name).mkdir()
    (day1.parent / "day4" / "CollectedData.csv").write_text("scorer")
    notes = {count.folder: count.notes for count in read_label_set(project).counts}
    assert notes["day1_labeled"] == ["skipped: pictures that DeepLabCut drew to check labels"]
    assert "no CollectedData_<scorer>.h5 or .csv" in notes["day3"][0]
    assert "CollectedData without a scorer" in notes["day4"][0]
    assert ".ipynb_checkpoints" not in notes


def test_a_label_set_with_nothing_in_it_says_why(project: DlcProject, day1: Path) -> None:
    _save(_frame({"labeled-data/old name/img1.png": (1, 2, 3, 4)}), day1)
    with pytest.raises(InputError, match=r"1 dropped \(row names another folder\).*old name/img1.png"):
        read_label_set(project)


def test_a_project_without_labeled_data_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="labeled-data does not exist"):
        read_label_set(read_project(_config(tmp_path)))


# --- what people should know ----------------------------------------------------------------------


def test_a_csv_that_disagrees_with_its_h5_is_noted_and_the_h5_used(project: DlcProject, day1: Path) -> None:
    _save(_frame(ROWS), day1)
    _save(_frame(ROWS) + 0.0005, day1, ".csv")
    assert read_label_set(project).counts[0].warnings == []
    _save(_frame(ROWS) + 0.5, day1, ".csv")
    labels = read_label_set(project)
    assert "3 images with other numbers" in labels.counts[0].warnings[0]
    assert labels.images[0].xy[0, 0] == 1
    (day1 / "CollectedData_Ann.csv").write_text("torn")
    assert "could not be compared" in read_label_set(project).counts[0].warnings[0]


def test_labels_that_deeplabcut_would_not_learn_from_are_kept_and_named(project: DlcProject, day1: Path) -> None:
    """DeepLabCut wants 0 < x < width and 0 < y < height, and takes every other label as not visible without a word."""
    rows = {
        "labeled-data/day1/img1.png": (0.5, 0.5, SIZE[0] - 0.5, SIZE[1] - 0.5),
        "labeled-data/day1/img2.png": (SIZE[0] + 5, 2, 3, 4),
        "labeled-data/day1/img10.png": (1, 0, 3.25, SIZE[1]),
    }
    _save(_frame(rows), day1)
    labels = read_label_set(project)
    assert len(labels.images) == 3
    assert labels.counts[0].warnings == [
        "labels on or outside the image's border, which DeepLabCut does not learn from: "
        "img2.png snout at (69, 2), img10.png snout at (1, 0), img10.png tail at (3.25, 48)"
    ]
    assert label_warnings(labels) == [f"day1 (Ann): {labels.counts[0].warnings[0]}"]
    assert dropped_labels(labels) == []


def test_many_labels_outside_are_counted(project: DlcProject, day1: Path) -> None:
    names = [f"far{at}.png" for at in range(9)]
    _images(day1, names)
    _save(_frame({f"labeled-data/day1/{name}": (-1, -1, 500, 500) for name in names}), day1)
    (warning,) = read_label_set(project).counts[0].warnings
    assert warning.endswith("far1.png snout at (-1, -1) and 15 more")


def test_images_of_two_sizes_in_one_video_are_noted(project: DlcProject, day1: Path) -> None:
    _save(_frame(ROWS), day1)
    Image.new("L", (32, 24)).save(day1 / "img2.png")
    assert read_label_set(project).counts[0].warnings == [
        "images of different sizes in one video: 2 of 64x48 px (such as img10.png), 1 of 32x24 px (such as img2.png)"
    ]
    other = day1.parent / "day2"
    other.mkdir()
    Image.new("L", (32, 24)).save(other / "img1.png")
    Image.new("L", SIZE).save(day1 / "img2.png")
    _save(_frame({"labeled-data/day2/img1.png": (1, 2, 3, 4)}), other)
    assert [count.warnings for count in read_label_set(project).counts] == [[], []], "two cameras"


def test_a_point_with_only_x_is_not_labeled(project: DlcProject, day1: Path) -> None:
    _save(_frame({"labeled-data/day1/img1.png": (1, float("nan"), 3, 4)}), day1)
    labels = read_label_set(project)
    assert np.isnan(labels.images[0].xy[0]).all()
    assert "1 body parts with only one of x and y" in labels.counts[0].warnings[0]


def test_another_scorer_inside_the_file_is_noted(project: DlcProject, day1: Path) -> None:
    _save(_frame(ROWS, "Bob"), day1)
    labels = read_label_set(project)
    assert labels.images[0].scorer == "Ann"
    assert 'names "Bob" as its scorer inside' in labels.counts[0].notes[0]


# --- broken files ---------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".h5", ".csv"])
def test_a_body_part_missing_from_the_config_is_named(project: DlcProject, day1: Path, suffix: str) -> None:
    path = _save(_frame(ROWS, bodyparts=("snout", "tial")), day1, suffix)
    with pytest.raises(
        InputError, match=r'labels the body part "tial".*Did you mean "tail".*Add it to bodyparts'
    ) as err:
        read_label_set(project)
    assert str(path) in str(err.value)
    assert str(project.config_path) in str(err.value)


def test_a_body_part_that_nobody_labeled_yet_is_not_labeled(tmp_path: Path, project: DlcProject, day1: Path) -> None:
    _save(_frame(ROWS), day1)
    config = _config(project.root, bodyparts=["paw", "tail", "snout"])
    labels = read_label_set(read_project(config))
    assert labels.bodyparts == ("paw", "tail", "snout")
    assert np.isnan(labels.images[0].xy[0]).all()
    assert labels.images[0].xy[1:].tolist() == [[11.5, 21.25], [1, 2]]


@pytest.mark.parametrize("content", [b"", b"no hdf5 at all", b"cut"])
def test_an_unreadable_h5_is_named(project: DlcProject, day1: Path, content: bytes) -> None:
    path = _save(_frame(ROWS), day1)
    path.write_bytes(path.read_bytes()[:3000] if content == b"cut" else content)
    with pytest.raises(InputError, match=r"CollectedData_Ann\.h5 cannot be read as DeepLabCut's label table"):
        read_label_set(project)


def test_an_h5_of_several_tables_is_refused(project: DlcProject, day1: Path) -> None:
    path = _save(_frame(ROWS), day1)
    _frame(ROWS).to_hdf(path, key="second", mode="a")
    with pytest.raises(InputError, match="should hold one table of labels, but holds 2"):
        read_label_set(project)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "should start with the lines scorer, bodyparts, coords"),
        ("scorer;Ann;Ann\nbodyparts;snout;snout\ncoords;x;y\n", "separated by commas"),
        ("scorer,Ann,Ann\nbodyparts,snout,snout\ncoords,x,y\na/day1/img1.png,1,two\n", 'img1.png: .*"two"'),
        (
            "scorer,Ann,Ann\nbodyparts,snout,snout\ncoords,x,y\na/day1/img1.png,1,2,3\n",
            "3 values, but the header",
        ),
        (
            "scorer,Ann,Ann\nbodyparts,snout,snout\ncoords,x,x\n",
            "one column x and one column y; snout has not",
        ),
        ("scorer,Ann\nbodyparts,snout\ncoords,x\n", "one column x and one column y; snout has not"),
        ("scorer,Ann,Bob\nbodyparts,snout,snout\ncoords,x,y\n", "should have one scorer.*Ann, Bob"),
    ],
)
def test_a_broken_csv_is_an_error_that_says_what_was_expected(
    project: DlcProject, day1: Path, text: str, said: str
) -> None:
    (day1 / "CollectedData_Ann.csv").write_text(text)
    with pytest.raises(InputError, match=said) as raised:
        read_label_set(project)
    assert "CollectedData_Ann.csv" in str(raised.value)


class _Foreign:
    """Something that makes a file when it is unpickled."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.made),)


@pytest.mark.parametrize("where", ["root attribute", "table attribute", "object array"])
def test_code_hidden_in_an_h5_is_refused_and_not_run(
    project: DlcProject, day1: Path, tmp_path: Path, where: str
) -> None:
    made = tmp_path / "made by the file"
    path = _save(_frame(ROWS), day1)
    with tables.open_file(path, "a") as file:
        if where == "object array":
            array = file.create_vlarray("/df_with_missing", "extra", tables.ObjectAtom())
            array.append(_Foreign(made))
        else:
            node = file.root if where == "root attribute" else file.root.df_with_missing
            node._v_attrs.extra = np.bytes_(pickle.dumps(_Foreign(made), protocol=0))
    with pytest.raises(InputError, match=r"holds a Python object \(.*mkdir\)"):
        read_label_set(project)
    assert not made.exists()


# --- content --------------------------------------------------------------------------------------


def test_the_hash_changes_with_a_label_an_image_and_nothing_else(project: DlcProject, day1: Path) -> None:
    path = _save(_frame(ROWS), day1)
    first = read_label_set(project).content_hash
    path.touch()
    assert read_label_set(project).content_hash == first
    _save(_frame(dict(reversed(ROWS.items()))), day1)
    assert read_label_set(project).content_hash == first
    relabeled = _frame(ROWS)
    relabeled.iloc[0, 0] += 0.5
    _save(relabeled, day1)
    assert read_label_set(project).content_hash != first
    _save(_frame(ROWS), day1)
    Image.new("L", SIZE, color=200).save(day1 / "img1.png")
    os.utime(day1 / "img1.png", ns=(1, 1))
    assert read_label_set(project).content_hash != first


def test_reading_changes_no_file_of_the_project(project: DlcProject, day1: Path) -> None:
    _save(_frame(ROWS), day1)
    _save(_frame(ROWS), day1, ".csv")
    before = {path: sha256_file(path) for path in project.root.rglob("*") if path.is_file()}
    _ = read_label_set(project).content_hash
    assert {path: sha256_file(path) for path in project.root.rglob("*") if path.is_file()} == before


def test_coordinates_cannot_be_changed_by_accident(project: DlcProject, day1: Path) -> None:
    _save(_frame(ROWS), day1)
    image = read_label_set(project).images[0]
    with pytest.raises(ValueError, match="read-only"):
        image.xy[0, 0] = 5
