"""What a lab already has is looked at, told apart, and asked for where nobody can tell: nothing is guessed, nothing lost silently."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dlc_assets.adopting import Adoption, look, report_rows
from dlc_assets.adoption.answers import Answers, read_answers, write_questions
from dlc_assets.adoption.scorer_names import scorer_name
from dlc_assets.demo.files import encode_video
from dlc_assets.lab.errors import InputError, NotFoundError, SettingsError
from dlc_assets.lab.lab import Lab, open_lab_folder
from dlc_assets.recordings.discovery import discover
from dlc_assets.recordings.session_recordings import record_session

SCORER = "DLC_resnet50_walkNov1shuffle1_1000"
LAB = """\
name: Old lab
recordings: [{root: recordings, template: "{subject}/{session}/{recording}.mp4", camera: top}]
"""
CONFIG = """\
Task: walk
scorer: Ann
date: Nov1
multianimalproject: false
project_path: C:\\old computer\\walk-Ann-2020-11-01
bodyparts: [nose, tail]
skeleton: []
iteration: 0
video_sets:
  ? C:\\old computer\\videos\\one.mp4
  : {crop: 0, 64, 0, 48}
  ? C:\\old computer\\videos\\lost.mp4
  : {crop: 0, 64, 0, 48}
"""


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """Two subjects with a video `walk.mp4` on each of two days, and one with a name of its own."""
    root = tmp_path / "lab"
    for where in ("m01/1/walk", "m01/2/walk", "m02/1/walk", "m02/1/alone"):
        film(root / f"recordings/{where}.mp4")
    (root / "lab.yaml").write_text(LAB)
    return open_lab_folder(root)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project of another computer: two labeled frames, and a TensorFlow network of 1000 iterations."""
    root = tmp_path / "walk-Ann-2020-11-01"
    (root / "videos").mkdir(parents=True)
    (root / "videos" / "one.mp4").write_bytes(b"")
    (root / "config.yaml").write_text(CONFIG.replace("{crop: 0, 64, 0, 48}", "{crop: '0, 64, 0, 48'}"))
    network(root, "dlc-models", "pose_cfg.yaml", "snapshot-1000.index")
    return root


def network(
    project: Path, models: str, configuration: str, *snapshots: str, percent: int = 95, shuffle: int = 1
) -> Path:
    train = project / models / "iteration-0" / f"walkNov1-trainset{percent}shuffle{shuffle}" / "train"
    train.mkdir(parents=True)
    (train / configuration).write_text("all_joints_names: [nose, tail]\nnet_type: resnet_50\n")
    for name in snapshots:
        (train / name).write_text("x")
    return train


def film(path: Path, frames: int = 12) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    encode_video(path, (np.full((48, 64, 3), number * 3, np.uint8) for number in range(frames)), Fraction(25), None)


def write(
    path: Path, *, scorer: str = SCORER, rows: int = 12, first: int = 0, parts: Sequence[str] = ("nose", "tail")
) -> Path:
    """Write a result file as DeepLabCut does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = pd.MultiIndex.from_product(
        [[scorer], parts, ["x", "y", "likelihood"]], names=["scorer", "bodyparts", "coords"]
    )
    values = np.random.default_rng(len(str(path))).random((rows, len(columns))) * np.tile([20, 20, 1], len(parts))
    table = pd.DataFrame(values, columns=columns, index=pd.RangeIndex(first, first + rows))
    if path.suffix == ".csv":
        table.to_csv(path)
    else:
        table.to_hdf(path, key="df_with_missing", format="table", mode="w")
    return path


def looked(lab: Lab, project: Path, *roots: Path, answers: Path | None = None) -> Adoption:
    file = answers or lab.root / "answers.yaml"
    return look(lab, project / "config.yaml", roots, file, log=lambda _: None)[0]


def verdicts(done: Adoption) -> dict[str, tuple[str, str]]:
    """Return the state of each file that was found, and the recording or the reason."""
    return {row["file"]: (row["state"], row.get("recording") or row["why"]) for row in report_rows(done)}


# --- names of networks ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "engine", "shuffle", "snapshot", "best"),
    [
        ("DeepCut_resnet50_walkNov1shuffle1_15001", "tensorflow", 1, 15001, False),
        ("DLC_resnet50_walkNov1shuffle12_1000", "tensorflow", 12, 1000, False),
        ("DLC_mobnet_100_walkNov1shuffle2_1000", "tensorflow", 2, 1000, False),
        ("DLC_dlcrnetms5_walkNov1shuffle3_60000", "tensorflow", 3, 60000, False),
        ("DLC_Resnet50_walkNov1shuffle1_snapshot_200", "pytorch", 1, 200, False),
        ("DLC_HrnetW32_walkNov1shuffle1_snapshot_best-120", "pytorch", 1, 120, True),
        ("DLC_Resnet50_walkNov1shuffle1_detector_best-40_snapshot_best-120", "pytorch", 1, 120, True),
    ],
)
def test_what_a_scorer_says_is_read(name: str, engine: str, shuffle: int, snapshot: int, best: bool) -> None:
    said = scorer_name(name)
    assert said is not None
    assert (said.engine, said.shuffle, said.snapshot, said.best) == (engine, shuffle, snapshot, best)
    assert said.is_of("walk", "Nov1")
    assert not said.is_of("alk", "Nov1")
    assert not said.is_of("walk", "Nov2")


@pytest.mark.parametrize("name", ["", "heatmap_mhcrnn_tracker", "Ann", "DLC_resnet50_walk"])
def test_other_names_say_nothing(name: str) -> None:
    assert scorer_name(name) is None


# --- which recording ------------------------------------------------------------------------------


def test_a_name_that_one_video_has_is_enough_and_one_that_several_have_is_not(
    lab: Lab, project: Path, tmp_path: Path
) -> None:
    write(tmp_path / "res" / f"alone{SCORER}.h5")
    write(tmp_path / "res" / f"walk{SCORER}.h5")
    write(tmp_path / "res" / f"elone{SCORER}.h5")
    found = verdicts(looked(lab, project, tmp_path / "res"))
    assert found[f"alone{SCORER}.h5"] == ("matched", "sub-m02_ses-1/top_alone")
    state, why = found[f"walk{SCORER}.h5"]
    assert state == "ambiguous"
    assert "3 recordings" in why
    state, why = found[f"elone{SCORER}.h5"]
    assert state == "unmatched"
    assert 'Did you mean "alone"?' in why


def test_folders_tell_videos_of_one_name_apart(lab: Lab, project: Path, tmp_path: Path) -> None:
    beside = write(lab.root / "recordings/m01/1" / f"walk{SCORER}.h5")
    write(tmp_path / "res/m02/1" / f"walk{SCORER}.h5")
    write(tmp_path / "res/m01/3" / f"walk{SCORER}.h5")  # a day that there is not
    found = verdicts(looked(lab, project, tmp_path / "res", lab.root / "recordings"))
    assert found[beside.relative_to(lab.root / "recordings").as_posix()] == ("matched", "sub-m01_ses-1/top_walk")
    assert found[f"m02/1/walk{SCORER}.h5"] == ("matched", "sub-m02_ses-1/top_walk")
    assert found[f"m01/3/walk{SCORER}.h5"][0] == "ambiguous"


def test_more_rows_than_frames_are_of_another_video(lab: Lab, project: Path, tmp_path: Path) -> None:
    record_session(lab, discover(lab).sessions["sub-m02_ses-1"], run_id="", log=lambda _: None)
    write(tmp_path / "res" / f"alone{SCORER}.h5", rows=13)
    state, why = verdicts(looked(lab, project, tmp_path / "res"))[f"alone{SCORER}.h5"]
    assert state == "unmatched"
    assert "it spans 13 frames" in why
    assert "has 12" in why


def test_raw_results_go_before_filtered_ones_and_h5_before_csv(lab: Lab, project: Path, tmp_path: Path) -> None:
    for name in (f"alone{SCORER}.h5", f"alone{SCORER}.csv", f"alone{SCORER}_filtered.h5"):
        write(tmp_path / "res" / name)
    found = verdicts(looked(lab, project, tmp_path / "res"))
    assert found[f"alone{SCORER}.h5"][0] == "matched"
    assert found[f"alone{SCORER}_filtered.h5"][0] == "skipped"
    assert "which is taken" in found[str(tmp_path / "res" / f"alone{SCORER}.csv")][1]


def test_two_files_of_one_recording_are_asked_about_and_copies_are_not(lab: Lab, project: Path, tmp_path: Path) -> None:
    one = write(tmp_path / "res/a" / f"alone{SCORER}.h5")
    (tmp_path / "res/b").mkdir()
    copy = shutil.copyfile(one, tmp_path / "res/b" / one.name)
    found = verdicts(looked(lab, project, tmp_path / "res"))
    assert sorted(state for state, _ in found.values()) == ["matched", "skipped"]
    write(copy, rows=11)
    done = looked(lab, project, tmp_path / "res")
    assert done.states == {"ambiguous": 2}
    assert all("2 files are of sub-m02_ses-1/top_alone" in why for _, why in verdicts(done).values())


# --- what is left out -----------------------------------------------------------------------------


def test_everything_that_is_no_result_is_counted_with_its_reason(lab: Lab, project: Path, tmp_path: Path) -> None:
    res = tmp_path / "res"
    write(res / "__MACOSX" / f"._alone{SCORER}.h5")
    write(res / f"._alone{SCORER}.csv")
    write(res / "CollectedData_Ann.h5")
    write(res / f"alone{SCORER}.HOLDOUT.csv")
    (res / "walk-results.csv").write_text("a,b\n")
    (res / "broken.h5").write_bytes(b"no hdf5")
    (res / "notes.csv").write_text("day,weight\n1,20\n")
    (res / "note.txt").write_text("nothing")
    done = looked(lab, project, res)
    found = {Path(name).name: (state, why) for name, (state, why) in verdicts(done).items()}
    assert found.pop(f"alone{SCORER}.HOLDOUT.csv") == ("matched", "sub-m02_ses-1/top_alone")
    assert {name: state for name, (state, _) in found.items()} == {
        f"._alone{SCORER}.h5": "no result",
        f"._alone{SCORER}.csv": "no result",
        "CollectedData_Ann.h5": "no result",
        "walk-results.csv": "no result",
        "broken.h5": "unreadable",
        "notes.csv": "unreadable",
    }
    assert "macOS" in found[f"._alone{SCORER}.h5"][1]
    assert "expected an HDF5 file" in found["broken.h5"][1]


def test_a_csv_without_a_header_line_is_reported_with_file_and_line(lab: Lab, project: Path, tmp_path: Path) -> None:
    file = write(tmp_path / "res" / f"alone{SCORER}.csv")
    lines = file.read_text().splitlines()
    file.write_text("\n".join([lines[0], *lines[2:]]))
    state, why = verdicts(looked(lab, project, tmp_path / "res"))[str(file)]
    assert state == "unreadable"
    assert f"{file}: " in why
    assert 'header line "bodyparts" is missing' in why


def test_a_hostile_pickle_among_the_results_creates_nothing(lab: Lab, project: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"

    class Hostile:
        def __reduce__(self) -> tuple[object, tuple[Path]]:
            return Path.touch, (made,)

    file = tmp_path / "res" / f"alone{SCORER}_assemblies.pickle"
    file.parent.mkdir()
    file.write_bytes(pickle.dumps(Hostile()))
    assert verdicts(looked(lab, project, tmp_path / "res"))[str(file)][0] == "unreadable"
    assert not made.exists()


def test_a_folder_or_project_that_is_not_there_is_named(lab: Lab, project: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="--results"):
        looked(lab, project, tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"config\.yaml"):
        looked(lab, tmp_path / "nowhere", tmp_path)


# --- the project ----------------------------------------------------------------------------------


def test_labels_videos_and_networks_of_the_project_are_told(lab: Lab, project: Path, tmp_path: Path) -> None:
    labeled = project / "labeled-data" / "one"
    labeled.mkdir(parents=True)
    (labeled / "CollectedData_Ann.csv").write_text(
        "scorer,Ann,Ann,Ann,Ann\nbodyparts,nose,nose,tail,tail\ncoords,x,y,x,y\nlabeled-data/one/img1.png,1,2,3,4\n"
    )
    (labeled / "img2.png").write_bytes(b"")
    (tmp_path / "res").mkdir()
    done = looked(lab, project, tmp_path / "res")
    (count,) = done.survey.label_counts
    assert (count.folder, count.scorer, count.found, count.used) == ("one", "Ann", 1, 0)
    assert count.dropped, "its image is not there"
    where = {name: path is not None for name, path in done.survey.videos.items()}
    assert where == {r"C:\old computer\videos\one.mp4": True, r"C:\old computer\videos\lost.mp4": False}
    assert [str(network) for network in done.survey.networks] == ["iteration 0, trainset 95 %, shuffle 1 (tensorflow)"]


def test_results_belong_to_the_network_that_their_scorer_names(lab: Lab, project: Path, tmp_path: Path) -> None:
    write(tmp_path / "res" / f"alone{SCORER}.h5")
    write(tmp_path / "res" / "aloneDLC_resnet50_flyNov1shuffle1_1000.h5", scorer="DLC_resnet50_flyNov1shuffle1_1000")
    write(tmp_path / "res" / "aloneDLC_resnet50_walkNov1shuffle1_500.h5", scorer="DLC_resnet50_walkNov1shuffle1_500")
    write(tmp_path / "res" / "alone.csv", scorer="heatmap_tracker")
    models = {model.scorer: model for model in looked(lab, project, tmp_path / "res").models}
    assert models[SCORER].name == "walk-it0-95-shuffle1-tf"
    assert models[SCORER].network is not None
    assert "another project" in models["DLC_resnet50_flyNov1shuffle1_1000"].why
    assert "snapshot 500 is no longer" in models["DLC_resnet50_walkNov1shuffle1_500"].why
    assert models["heatmap_tracker"].name == "heatmap-tracker"
    assert all(model.certain for model in models.values())


def test_a_project_whose_name_ends_like_this_ones_is_another(lab: Lab, project: Path, tmp_path: Path) -> None:
    other = "DLC_resnet50_my_walkNov1shuffle1_1000"
    write(tmp_path / "res" / f"alone{other}.h5", scorer=other)
    (model,) = looked(lab, project, tmp_path / "res").models
    assert model.network is None
    assert model.name == "dlc-resnet50-my-walknov1shuffle1-1000"


@pytest.mark.parametrize(
    ("scorer", "config", "found"),
    [
        ("DLC_Resnet50_walkNov1shuffle1_snapshot_best-120", "net_type: resnet_50", True),
        ("DLC_Resnet101_walkNov1shuffle1_snapshot_best-120", "net_type: resnet_50", False),
        ("DLC_TopDownHrnetW32_walkNov1shuffle1_snapshot_best-120", "net_type: top_down_hrnet_w32", True),
    ],
)
def test_a_networks_kind_must_be_that_of_the_name(
    lab: Lab, project: Path, tmp_path: Path, scorer: str, config: str, found: bool
) -> None:
    train = network(project, "dlc-models-pytorch", "pytorch_config.yaml", "snapshot-best-120.pt")
    (train / "pytorch_config.yaml").write_text(config)
    write(tmp_path / "res" / f"alone{scorer}.h5", scorer=scorer)
    (model,) = looked(lab, project, tmp_path / "res").models
    assert (model.network is not None) is found


def test_the_snapshot_is_part_of_a_models_name_only_where_it_is_not_the_best(
    lab: Lab, project: Path, tmp_path: Path
) -> None:
    train = network(project, "dlc-models-pytorch", "pytorch_config.yaml", "snapshot-best-120.pt", "snapshot-200.pt")
    (train / "pytorch_config.yaml").write_text("net_type: resnet_50")
    for uid in ("best-120", "200"):
        scorer = f"DLC_Resnet50_walkNov1shuffle1_snapshot_{uid}"
        write(tmp_path / "res" / f"alone{scorer}.h5", scorer=scorer)
    names = {model.name for model in looked(lab, project, tmp_path / "res").models}
    assert names == {"walk-it0-95-shuffle1", "walk-it0-95-shuffle1-snapshot-200"}


def test_two_networks_of_one_name_are_asked_about(lab: Lab, project: Path, tmp_path: Path) -> None:
    network(project, "dlc-models", "pose_cfg.yaml", "snapshot-1000.index", percent=80)
    write(tmp_path / "res" / f"alone{SCORER}.h5")
    done = looked(lab, project, tmp_path / "res")
    (model,) = done.models
    assert not model.certain
    assert done.states == {"waiting": 1}
    file = tmp_path / "answers.yaml"
    assert write_questions(file, Answers(), done.models) == 1
    assert "network 1: iteration 0, trainset 80 %" in file.read_text()
    file.write_text(file.read_text().replace("{network: }", "{network: 2}"))
    (model,) = looked(lab, project, tmp_path / "res", answers=file).models
    assert model.network is not None
    assert model.network.percent == 95


# --- questions and answers ------------------------------------------------------------------------


def test_questions_are_asked_once_and_answers_kept(lab: Lab, project: Path, tmp_path: Path) -> None:
    write(tmp_path / "res" / f"walk{SCORER}.h5")
    write(tmp_path / "res" / f"gone{SCORER}.h5")
    write(tmp_path / "res" / "alone.csv", scorer="")
    file = tmp_path / "answers.yaml"
    done = looked(lab, project, tmp_path / "res")
    assert write_questions(file, Answers(), done.models, {SCORER: 2}) == 4
    assert read_answers(file).results[f"walk{SCORER}.h5"].recording is None, "a question is no answer"
    text = file.read_text()
    assert "sub-m01_ses-2/top_walk" in text
    text = text.replace(
        f'"walk{SCORER}.h5": {{recording: }}', f'"walk{SCORER}.h5": {{recording: sub-m01_ses-2/top_walk}}'
    )
    text = text.replace(f'"gone{SCORER}.h5": {{recording: }}', f'"gone{SCORER}.h5": {{recording: skip}}')
    text = text.replace("{name: }", "{name: tracker}").replace("{crop: }", "{crop: [0, 60, 4, 44]}")
    file.write_text(text)
    done = looked(lab, project, tmp_path / "res", answers=file)
    assert done.states == {"matched": 2, "skipped": 1}
    assert sorted(model.name for model in done.models) == ["tracker", "walk-it0-95-shuffle1-tf"]
    answers = read_answers(file)
    assert {answers.crop_of(model.scorer, model.results[0].result) for model in done.models} == {None, (0, 60, 4, 44)}
    assert write_questions(file, answers, done.models) == 0
    assert file.read_text() == text, "nothing is left to ask, so that the file is the person's"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("results: {walkX.h5: {recording: skip}}", 'there is no result file "walkX.h5"'),
        ("results: {FILE: {recording: sub-m09_ses-1/top_walk}}", 'there is no recording "sub-m09_ses-1/top_walk"'),
        ("models: {DLC_other: {name: x}}", 'no result file is by the scorer "DLC_other"'),
        (f"models: {{{SCORER}: {{name: Walk 1}}}}", "cannot be a model's name"),
        (f"models: {{{SCORER}: {{crop: [1, 2]}}}}", "crop"),
        ("results: {FILE: {recordng: skip}}", "recording"),
        ("results: [", "answers.yaml"),
    ],
)
def test_wrong_answers_are_named(lab: Lab, project: Path, tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "answers.yaml"
    write(tmp_path / "res" / f"walk{SCORER}.h5")
    file.write_text(text.replace("FILE", f"walk{SCORER}.h5"))
    with pytest.raises(SettingsError) as error:
        looked(lab, project, tmp_path / "res", answers=file)
    assert said in str(error.value)
