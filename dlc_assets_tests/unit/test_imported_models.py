"""Networks that were trained elsewhere: which one is meant, what it has seen, and those of which only results are left."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from dlc_assets.adoption.network_folders import network_folders
from dlc_assets.adoption.pose_import import ImportedResult, import_poses
from dlc_assets.cli import app
from dlc_assets.commands import analyze_sessions, analyze_with_version
from dlc_assets.inference.pose_tables import pose_inputs
from dlc_assets.lab.errors import DlcAssetsError, InputError, NotFoundError, SettingsError
from dlc_assets.lab.keys import pose_key
from dlc_assets.lab.lab import Lab, open_lab_folder
from dlc_assets.nwb.export import export_session, nwb_files
from dlc_assets.nwb.session_file import read_provenance
from dlc_assets.recordings.discovery import discover
from dlc_assets.recordings.info import need_session_info, read_session_info
from dlc_assets.resources.instance import open_instance
from dlc_assets.state.behind import Product, model_products, pose_products, recordings_product
from dlc_assets.state.failures import record_failure
from dlc_assets.training.benchmark import seen_frames
from dlc_assets.training.dataset import make_dataset
from dlc_assets.training.evaluation import dataset_frames
from dlc_assets.training.imported import import_inputs, import_model
from dlc_assets.training.models import ModelVersion, damage_of, find_version
from dlc_assets.training.requirements import training_frames
from dlc_assets_tests.conftest import use_lab
from dlc_assets_tests.graph.small_lab import BODYPARTS, FIRST, SESSIONS, as_if_trained, record, write_small_lab
from dlc_assets_tests.unit.test_pose_import import asked_for, results

SHUFFLE = "iteration-0/walkingJan1-trainset50shuffle1"
RESULTS_ONLY = f"import: {{results_only: true, scorer: DLC_old, bodyparts: [{', '.join(BODYPARTS)}]}}\n"
TENSORFLOW = "project: walking\nimport: {engine: tensorflow}\n"
TRAINED = [f"labeled-data/day1/img{at}.png" for at in range(3)]


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """A small lab whose project has a TensorFlow network that was trained on three frames of day1."""
    root = tmp_path / "lab"
    write_small_lab(root)
    train = root / "projects/walking/dlc-models" / SHUFFLE / "train"
    train.mkdir(parents=True)
    (train / "pose_cfg.yaml").write_text("all_joints_names: [snout, tailbase]\nnet_type: resnet_50\n")
    for name in ("snapshot-500.index", "snapshot-500.data-00000-of-00001", "snapshot-1000.index", "checkpoint"):
        (train / name).write_text(name)
    documentation(root, TRAINED)
    (root / "models" / "old.yaml").write_text(TENSORFLOW)
    (root / "models" / "lost.yaml").write_text(RESULTS_ONLY)
    return open_lab_folder(root)


def documentation(root: Path, trained: list[str]) -> Path:
    """Write DeepLabCut's pickle of the frames that a shuffle was trained on."""
    folder = root / "projects/walking/training-datasets/iteration-0/UnaugmentedDataSet_walkingJan1"
    folder.mkdir(parents=True, exist_ok=True)
    images = [{"image": tuple(name.split("/")), "size": (3, 48, 64), "joints": np.zeros((2, 3))} for name in trained]
    file = folder / "Documentation_data-walking_50shuffle1.pickle"
    file.write_bytes(pickle.dumps([images, list(range(len(trained))), [len(trained)], 0.5]))
    return file


def specify(lab: Lab, model: str, text: str) -> None:
    (lab.root / "models" / f"{model}.yaml").write_text(text)


def imported(lab: Lab, model: str) -> ModelVersion:
    make_dataset(lab, model, run_id="", log=lambda _: None)
    return import_model(lab, model, run_id="r", log=lambda _: None)[0]


# --- the specification ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("description: none\n", 'the key "project" is missing'),
        ("project: walking\nimport: {results_only: true}\n", "results_only needs the `scorer` and the `bodyparts`"),
        ("project: walking\nimport: {scorer: x}\n", "go with `results_only: true` alone"),
        ("project: walking\nimport: {}\ntraining: {epochs: 5}\n", "nothing is trained: leave out training"),
        ("project: walking\nimport: {shufle: 2}\n", "shuffle"),
        ("project: walking\nimport: {engine: keras}\n", "engine"),
    ],
)
def test_a_wrong_block_is_said(lab: Lab, text: str, said: str) -> None:
    specify(lab, "old", text)
    with pytest.raises(SettingsError, match=said) as error:
        lab.specification("old")
    assert "old.yaml" in str(error.value)


# --- which network --------------------------------------------------------------------------------


def test_every_network_of_a_project_is_found(lab: Lab) -> None:
    (network,) = network_folders(lab.root / "projects/walking")
    assert (network.engine, network.iteration, network.percent, network.shuffle) == ("tensorflow", 0, 50, 1)
    assert [snapshot.name for snapshot in network.snapshots] == ["snapshot-500", "snapshot-1000"]


@pytest.mark.parametrize(
    ("block", "error", "said"),
    [
        ("{engine: tensorflow, shuffle: 2}", NotFoundError, "Networks there: iteration 0, trainset 50 %, shuffle 1"),
        ("{engine: pytorch}", NotFoundError, "trained with pytorch. Networks there"),
        ("{engine: tensorflow, iteration: 3}", NotFoundError, "iteration 3"),
        ("{engine: tensorflow, snapshot: 700}", NotFoundError, "snapshot-500, snapshot-1000"),
        ("{engine: tensorflow, trainset_fraction: 0.8}", NotFoundError, "trainset_fraction 0.8"),
    ],
)
def test_a_network_that_is_not_there_is_named_with_those_that_are(
    lab: Lab, block: str, error: type[Exception], said: str
) -> None:
    specify(lab, "old", f"project: walking\nimport: {block}\n")
    with pytest.raises(error, match=said):
        imported(lab, "old")


def test_two_training_fractions_are_not_guessed_between(lab: Lab) -> None:
    models = lab.root / "projects/walking/dlc-models/iteration-0"
    shutil.copytree(models / "walkingJan1-trainset50shuffle1", models / "walkingJan1-trainset80shuffle1")
    with pytest.raises(InputError, match=r"state trainset_fraction \(0\.50, 0\.80\)"):
        imported(lab, "old")


def test_a_shuffle_without_snapshots_is_said_to_be_untrained(lab: Lab) -> None:
    for file in (lab.root / "projects/walking/dlc-models" / SHUFFLE / "train").glob("snapshot*"):
        file.unlink()
    with pytest.raises(NotFoundError, match="never trained"):
        imported(lab, "old")


# --- what it has seen -----------------------------------------------------------------------------


def test_the_frames_that_trained_it_are_deeplabcuts(lab: Lab) -> None:
    version = imported(lab, "old")
    assert seen_frames(lab, version) == {("day1", f"img{at}.png") for at in range(3)}
    assert version.card["training_frames_unknown"] == ""


def test_without_the_pickle_nobody_knows_and_it_is_said_until_it_is_stated(lab: Lab) -> None:
    documentation(lab.root, TRAINED).unlink()
    version = imported(lab, "old")
    with pytest.raises(NotFoundError, match="state `trained_on`"):
        seen_frames(lab, version)
    specify(lab, "old", "project: walking\nimport: {engine: tensorflow, trained_on: frames.txt}\n")
    (lab.root / "projects/walking/frames.txt").write_text("day1/img0.png\nlabeled-data\\day2\\img5.png\n")
    assert seen_frames(lab, imported(lab, "old")) == {("day1", "img0.png"), ("day2", "img5.png")}
    specify(lab, "old", "project: walking\nimport: {engine: tensorflow, trained_on: [img0.png]}\n")
    with pytest.raises(InputError, match=r'"img0\.png" names no frame'):
        imported(lab, "old")


def test_a_folder_that_was_renamed_after_training_is_still_known_as_seen(lab: Lab) -> None:
    labeled = lab.root / "projects/walking/labeled-data"
    (labeled / "day1").rename(labeled / "first day")
    csv = labeled / "first day" / "CollectedData_Ann.csv"
    csv.write_text(csv.read_text().replace("labeled-data/day1", "labeled-data/first day"))
    (labeled / "day2" / "img0.png").unlink()  # so that only the renamed folder has all the frames
    version = imported(lab, "old")
    assert {("first day", f"img{at}.png") for at in range(3)} <= seen_frames(lab, version)
    dataset = make_dataset(lab, "old", run_id="", log=lambda _: None)
    assert any("is the folder first day now" in problem for problem in dataset.problems)


def test_a_renamed_folder_that_lost_frames_is_not_taken_for_unseen(lab: Lab) -> None:
    labeled = lab.root / "projects/walking/labeled-data"
    (labeled / "day1").rename(labeled / "first day")
    csv = labeled / "first day" / "CollectedData_Ann.csv"
    lines = [line for line in csv.read_text().splitlines() if "/img0.png" not in line]
    csv.write_text("\n".join(lines).replace("labeled-data/day1", "labeled-data/first day") + "\n")
    for image in (labeled / "day2").glob("img*.png"):
        image.unlink()  # so that no other folder has them
    version = imported(lab, "old")
    assert {("first day", "img1.png"), ("first day", "img2.png")} <= seen_frames(lab, version)
    dataset = make_dataset(lab, "old", run_id="", log=lambda _: None)
    assert any("2 of the 3" in problem and "first day" in problem for problem in dataset.problems)


@pytest.mark.parametrize("known", [["tailbase", "snout"], ["tailbase"]])
def test_labels_are_those_of_the_networks_own_body_parts_in_its_order(lab: Lab, known: list[str]) -> None:
    pose_cfg = lab.root / "projects/walking/dlc-models" / SHUFFLE / "train" / "pose_cfg.yaml"
    pose_cfg.write_text(f"all_joints_names: [{', '.join(known)}]\n")
    version = imported(lab, "old")
    assert version.card["bodyparts"] == known
    labels = {"snout": [10, 20], "tailbase": [30, 25]}  # of img0, as the project has them
    frame = next(frame for frame in dataset_frames(lab, version) if frame.image == "img0.png")
    assert frame.xy.tolist() == [labels[part] for part in known]
    # A label of a body part that came later says nothing of a network that does not know it.
    csv = lab.root / "projects/walking/labeled-data/day1/CollectedData_Ann.csv"
    csv.write_text(csv.read_text().replace("img0.png,10,20", "img0.png,11,21"))
    states = {product.asset: product.state for product in model_products(lab, "old", None)}
    assert states["training_dataset"] == ("behind" if "snout" in known else "up to date")


def test_frames_without_labels_any_more_stay_seen(lab: Lab) -> None:
    documentation(lab.root, [*TRAINED, "labeled-data/day1/img77.png"])
    version = imported(lab, "old")
    assert ("day1", "img77.png") in seen_frames(lab, version)
    dataset = make_dataset(lab, "old", run_id="", log=lambda _: None)
    assert any("day1/img77.png" in problem for problem in dataset.problems)


def test_a_project_without_its_labels_leaves_nothing_to_score(lab: Lab) -> None:
    shutil.rmtree(lab.root / "projects/walking/labeled-data")
    version = imported(lab, "old")
    assert "labeled-data" in version.card["without_labels"]
    assert training_frames(lab, version) == 3, "it was trained on them all the same"
    assert {("day1", "img0.png"), ("day1", "img1.png"), ("day1", "img2.png")} == seen_frames(lab, version)


# --- versions that do not run ---------------------------------------------------------------------


@pytest.mark.parametrize("model", ["old", "lost"])
def test_a_model_of_which_there_are_results_is_registered_once_and_does_not_run(lab: Lab, model: str) -> None:
    version = imported(lab, model)
    again, now = import_model(lab, model, run_id="r2", log=lambda _: None)
    assert (again, now) == (version, False)
    assert version.card["bodyparts"] == BODYPARTS
    assert not version.runnable
    assert damage_of(version, thorough=True) == ""
    with pytest.raises(InputError, match="cannot be run here"):
        version.snapshot_file(None)
    states = {product.asset: product.state for product in model_products(lab, model, None)}
    assert states == {"training_dataset": "up to date", "trained_model": "up to date"}


def test_a_project_that_is_gone_makes_nothing_behind_and_another_block_does(lab: Lab, tmp_path: Path) -> None:
    imported(lab, "old")
    for file in (lab.root / "projects/walking/dlc-models" / SHUFFLE / "train").glob("snapshot*"):
        file.unlink()
    assert {product.state for product in model_products(lab, "old", None)} == {"up to date"}
    (lab.root / "projects/walking").rename(tmp_path / "away")
    states = {product.asset: product for product in model_products(lab, "old", None)}
    assert {product.state for product in states.values()} == {"up to date"}
    assert "cannot be read now" in states["trained_model"].why
    specify(lab, "old", "project: walking\nimport: {engine: tensorflow, snapshot: 500}\n")
    assert {product.state for product in model_products(lab, "old", None)} == {"failed", "behind"}


def test_another_snapshot_is_another_version_and_puts_the_old_one_behind(lab: Lab) -> None:
    first = imported(lab, "old")
    specify(lab, "old", "project: walking\nimport: {engine: tensorflow, snapshot: 500}\n")
    assert import_inputs(lab, "old") != first.manifest.inputs
    assert imported(lab, "old").version != first.version


def test_it_analyses_nothing_and_its_sessions_wait_for_results(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    imported(lab, "lost")
    settings = lab.root / "lab.yaml"
    settings.write_text(settings.read_text().replace("model: walker", "model: lost"))
    lab = open_lab_folder(lab.root)
    record(lab, *SESSIONS)
    assert states_of(lab, FIRST)["pose_table"].state == "waiting"
    assert "import its results" in states_of(lab, FIRST)["pose_table"].why
    use_lab(lab.root, monkeypatch)
    with open_instance(lab) as instance:
        with pytest.raises(SettingsError, match="cannot analyse: only results of it are left"):
            analyze_sessions(lab, instance, None, "lost", recompute=False, log=lambda _: None)
        done = analyze_sessions(lab, instance, None, None, recompute=False, log=lambda _: None)
    assert done.outcomes == []
    assert [problem for problem in done.problems if "3 sessions are released to lost@" in problem]
    version = imported(lab, "lost")
    frames = need_session_info(lab.layout, FIRST)[0].recordings[0].frame_count
    file = results(tmp_path / "results", frames, parts=BODYPARTS)
    import_poses(lab, FIRST, version, {"top": ImportedResult(file, crop="none")}, run_id="", log=lambda _: None)
    assert states_of(lab, FIRST)["pose_table"].state == "up to date"
    assert states_of(lab, SESSIONS[1])["pose_table"].state == "waiting"


def test_a_failed_attempt_by_hand_leaves_its_sessions_waiting_and_others_may_have_a_snapshot_chosen(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    imported(lab, "lost")
    as_if_trained(lab, "walker")
    settings = lab.root / "lab.yaml"
    settings.write_text(settings.read_text().replace("model: walker", "model: lost"))
    lab = open_lab_folder(lab.root)
    record(lab, *SESSIONS)
    use_lab(lab.root, monkeypatch)
    with open_instance(lab) as instance:
        version = find_version(lab.layout, "lost")
        with pytest.raises(SettingsError, match="cannot analyse"):
            analyze_with_version(lab, instance, version, [FIRST], log=lambda _: None)
        done = analyze_sessions(
            lab, instance, None, None, settings={"snapshot": "last"}, recompute=False, log=lambda _: None
        )
    assert any("released to lost@" in problem for problem in done.problems)
    inputs = pose_inputs(lab, "lost", need_session_info(lab.layout, FIRST)[0])
    assert asked_for(lab) == [], "the sensors ask nobody for what nobody can make"
    record_failure(
        lab.layout, "pose_table", pose_key("lost", FIRST), "refused", inputs=inputs, run_id="", lasting=False
    )
    assert asked_for(lab) == []
    product = states_of(lab, FIRST)["pose_table"]
    assert (product.state, product.retry_at) == ("waiting", None)


def test_a_release_of_it_is_forced_and_asks_for_results(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    record(lab, *SESSIONS)
    imported(lab, "lost")
    use_lab(lab.root, monkeypatch)
    asked = ["release", "lost", "--on-release", "all", "--reason", "the old poses", "--yes"]
    refused = CliRunner().invoke(app, asked)
    assert (refused.exit_code, "is not judged here" in refused.output) == (1, True)
    done = CliRunner().invoke(app, [*asked, "--force"])
    assert done.exit_code == 0, done.output
    assert "import its results" in done.output
    assert "to be analysed" not in done.output


def test_imported_poses_are_exported_though_nobody_knows_what_trained_the_network(lab: Lab, tmp_path: Path) -> None:
    settings = lab.root / "lab.yaml"
    text = settings.read_text().replace("model: walker", "model: lost") + "nwb: {training_frames: true}\n"
    settings.write_text(text)
    lab = open_lab_folder(lab.root)
    record(lab, FIRST)
    version = imported(lab, "lost")
    frames = need_session_info(lab.layout, FIRST)[0].recordings[0].frame_count
    file = results(tmp_path / "results", frames, parts=BODYPARTS)
    import_poses(lab, FIRST, version, {"top": ImportedResult(file, crop="none")}, run_id="", log=lambda _: None)
    manifest, _ = export_session(lab, FIRST, overrides={}, recompute=False, run_id="", log=lambda _: None, cohort=None)
    (path,) = nwb_files(lab, manifest)
    (poses,) = read_provenance(path)["recordings"]["top"]["poses"]
    assert poses["model"] == f"{version.model}"
    assert poses["provenance"]["version"] == version.version
    assert poses["provenance"]["inference"]["origin"].startswith("imported from topDLC.h5")
    assert training_frames(lab, version) is None, "unknown is not none"


def states_of(lab: Lab, session: str) -> dict[str, Product]:
    known = read_session_info(lab.layout, session)
    assert known is not None
    recordings = recordings_product(lab, session, discover(lab).sessions[session], known)
    return {product.asset: product for product in pose_products(lab, known[0], recordings)}


def test_errors_are_of_the_house(lab: Lab) -> None:
    specify(lab, "old", "project: gone\nimport: {engine: tensorflow}\n")
    with pytest.raises(DlcAssetsError, match='there is no DeepLabCut project "gone"'):
        imported(lab, "old")
