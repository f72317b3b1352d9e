"""A network that DeepLabCut trained elsewhere is taken as it is: the same version, the same poses, scored without what it has seen."""

from __future__ import annotations

import pickle
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml

from dlc_assets.commands import analyze_sessions, train_model
from dlc_assets.inference.pose_tables import pose_files, pose_manifest
from dlc_assets.lab.lab import open_lab_folder
from dlc_assets.poses.table_file import read_tracks
from dlc_assets.recordings.info import need_session_info
from dlc_assets.resources.instance import open_instance
from dlc_assets.training.benchmark import seen_frames
from dlc_assets.training.evaluation import read_summary
from dlc_assets.training.models import SNAPSHOT, current_version, find_version
from dlc_assets_tests.graph.small_lab import FIRST

pytestmark = pytest.mark.slow


class _Hostile:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.target,)


def elsewhere(lab: Path) -> Path:
    """Add to *lab* what DeepLabCut left of a training on another computer; return the folder of the network."""
    trained = find_version(open_lab_folder(lab).layout, "walker")
    project = lab / "projects" / "elsewhere"
    shutil.copytree(lab / "store/datasets/walker" / trained.card["dataset"] / "project", project)
    config = project / "config.yaml"
    text = config.read_text()
    (line,) = [line for line in text.splitlines() if line.startswith("project_path:")]
    config.write_text(text.replace(line, r"project_path: D:\data\walker"))
    (train,) = project.glob("dlc-models-pytorch/iteration-0/*/train")
    shutil.copyfile(trained.snapshot, train / "snapshot-best-004.pt")
    shutil.copyfile(trained.pytorch_config, train / "pytorch_config.yaml")
    (lab / "models" / "old.yaml").write_text("project: elsewhere\nimport: {snapshot: best}\n")
    return train


def test_the_network_is_the_same_and_so_are_its_poses(lab_copy: Path) -> None:
    elsewhere(lab_copy)
    config = lab_copy / "projects" / "elsewhere" / "config.yaml"
    stated = yaml.safe_load(config.read_text())
    stated["bodyparts"] = ["came-later", *reversed(stated["bodyparts"])]  # as people change a project after a training
    config.write_text(yaml.safe_dump(stated))
    lab = open_lab_folder(lab_copy)
    with open_instance(lab) as instance:
        assert train_model(lab, instance, "old", {}, log=lambda _: None).success
        analysis = analyze_sessions(lab, instance, [FIRST], "old", recompute=False, log=lambda _: None)
    assert analysis.problems == []
    walker, old = find_version(lab.layout, "walker"), find_version(lab.layout, "old")
    assert old.version == walker.version, "the version is the hash of the network and its configuration"
    assert old.card["imported"]["snapshot"] == "snapshot-best-004"
    session = need_session_info(lab.layout, FIRST)[0]
    tables = [pose_manifest(lab, model, session) for model in ("walker", "old")]
    ours, theirs = (read_tracks(pose_files(lab, table)[0].path)[1] for table in tables if table is not None)
    assert len(ours) == len(theirs) > 0
    for one, other in zip(ours, theirs, strict=True):
        assert one.x.tobytes() == other.x.tobytes()
        assert one.likelihood.tobytes() == other.likelihood.tobytes()
    # Judged by the frames that DeepLabCut held out, and by none that it has learned from.
    summary, of_walker = read_summary(lab, old), read_summary(lab, walker)
    assert set(summary["set"]) == {"train", "validation"}
    columns = ["set", "bodypart", "n", "rmse"]
    same_sets = of_walker[of_walker["set"].isin(summary["set"])]
    pd.testing.assert_frame_equal(
        summary[columns].reset_index(drop=True), same_sets[columns].reset_index(drop=True), check_exact=False, atol=1e-6
    )
    assert seen_frames(lab, old) == seen_frames(lab, walker)
    card = lab.layout.model_card(old.model, old.version).read_text()
    assert "Trained elsewhere, and imported on" in card
    assert "snapshot-best-004" in card
    assert "Starting weights" not in card, "nobody knows them"


def test_a_snapshot_that_would_run_a_program_is_refused_and_runs_nothing(lab_copy: Path, tmp_path: Path) -> None:
    train, made = elsewhere(lab_copy), tmp_path / "made"
    (train / "snapshot-best-004.pt").write_bytes(pickle.dumps(_Hostile(made)))
    lab = open_lab_folder(lab_copy)
    with open_instance(lab) as instance:
        outcome = train_model(lab, instance, "old", {}, log=lambda _: None)
    assert not outcome.success
    assert any("could run a program" in message for message in outcome.failures)
    assert not made.exists()
    assert current_version(lab.layout, "old") is None
    assert not list((lab_copy / "store/models/old").glob(f"*/{SNAPSHOT}"))
