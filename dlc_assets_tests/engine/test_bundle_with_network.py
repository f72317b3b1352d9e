"""A bundle verified with one of DeepLabCut's own networks: small, with random weights, never trained."""

from __future__ import annotations

import shutil
from fractions import Fraction
from pathlib import Path

import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from dlc_assets.bundles.reading import read_bundle
from dlc_assets.bundles.verifying import verify_bundle
from dlc_assets.bundles.writing import write_bundle
from dlc_assets.cli import app
from dlc_assets.demo.files import encode_video
from dlc_assets.engine.network_training import configured
from dlc_assets.engine.weights import WeightsSource, initial_weights
from dlc_assets.engine.workspace import ProjectContent, make_training_dataset
from dlc_assets.lab.errors import EnvironmentProblem
from dlc_assets.lab.lab import Lab, open_lab_folder
from dlc_assets.poses.table_file import read_pose_metadata, read_tracks, write_pose_table
from dlc_assets_tests.engine.test_engine import BODYPARTS, HEIGHT, SMALL, WIDTH, picture
from dlc_assets_tests.graph.small_lab import FIRST, LAB, record, video_of
from dlc_assets_tests.unit.bundled_lab import add_network, analyse, rewritten, store_version, use_network

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]
FRAMES = 7


@pytest.fixture(scope="module")
def network(one_thread: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with snapshot.pt and pytorch_config.yaml, as a training would leave them."""
    base = tmp_path_factory.mktemp("network")
    images = []
    for index in range(2):
        image, positions = picture(index)
        Image.fromarray(image).save(base / f"{index}.png")
        images.append(("video", f"{index}.png", base / f"{index}.png", positions))
    content = ProjectContent("toy", "Ann", "2026-01-01", BODYPARTS, (), 0.6, images, train=[0], validation=[1])
    project, folder = base / "project", base / "version"
    project.mkdir()
    folder.mkdir()
    config = configured(make_training_dataset(project, content, net_type="resnet_50")["pytorch_config"], SMALL)
    initial_weights(config, WeightsSource("random"), folder / "snapshot.pt", seed=3)
    _see_more(folder / "snapshot.pt")
    (folder / "pytorch_config.yaml").write_text(yaml.safe_dump(config))
    return folder


def _see_more(snapshot: Path) -> None:
    """Raise the heatmaps, so that what random weights say counts as seen."""
    import torch

    state = torch.load(snapshot, weights_only=True)
    last = [name for name in state["model"] if "heatmap" in name and name.endswith("bias")][-1]
    state["model"][last] += 4
    torch.save(state, snapshot)


@pytest.fixture(scope="module")
def lab(network: Path, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """A lab with one session, analysed by the network with a crop."""
    root = tmp_path_factory.mktemp("lab")
    path = root / video_of(FIRST)
    path.parent.mkdir(parents=True)
    encode_video(path, (picture(50 + index)[0] for index in range(FRAMES)), Fraction(25))
    (path.parent / "session.yaml").write_text("start: 2026-05-01T10:00:00\n")
    (root / "lab.yaml").write_text(f"{LAB}setups: {{top: [{{crop: {{x: [4, {WIDTH - 8}], y: [0, {HEIGHT}]}}}}]}}\n")
    opened = open_lab_folder(root)
    record(opened, FIRST)
    new = opened.layout.model("walker") / "new"
    shutil.copytree(network, new)
    store_version(opened, "walker", new, BODYPARTS)
    analyse(opened, FIRST)
    return opened


@pytest.fixture(scope="module")
def bundle(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(lab, FIRST, output=tmp_path_factory.mktemp("shared") / "session.zip").path


def test_the_network_in_the_bundle_gives_the_poses_in_it(lab: Lab, bundle: Path) -> None:
    (found,) = verify_bundle(bundle, [lab.root / video_of(FIRST)], log=lambda _: None).verified
    assert found.differs == []
    assert found.poses.crop == (4, WIDTH - 8, 0, HEIGHT)
    assert found.agreement.positions == FRAMES * len(BODYPARTS)
    assert found.agreement.seen > 0, "else the comparison says nothing"
    assert found.agreement.largest_px <= found.tolerance.position_px
    assert found.inference["path"] == found.poses.inference["path"] == "fast"


def test_a_pose_that_was_changed_is_found_by_the_network(lab: Lab, bundle: Path, tmp_path: Path) -> None:
    member, table = read_bundle(bundle).poses[0].table, tmp_path / "top.parquet"
    version = read_bundle(bundle).poses[0].version
    shutil.copy(lab.layout.pose_file("walker", version, FIRST, "top"), table)
    times, tracks = read_tracks(table)
    tracks[1].y[5] -= 3
    write_pose_table(table, tracks, times, read_pose_metadata(table))
    forged = rewritten(bundle, tmp_path / "forged.zip", {member: table.read_bytes()}, honest=True)
    result = CliRunner().invoke(app, ["verify", str(forged), "--video", str(lab.root / video_of(FIRST))])
    assert result.exit_code == 1
    assert f"beyond the tolerance: frame 5, {BODYPARTS[1]}: 3 px" in result.stdout


def test_other_weights_are_not_taken_for_those_of_the_bundle(lab: Lab, bundle: Path, tmp_path: Path) -> None:
    other = tmp_path / "lab"
    shutil.copytree(lab.root, other)
    moved = open_lab_folder(other)
    new = moved.layout.model("walker") / "new"
    shutil.copytree(moved.layout.version("walker", read_bundle(bundle).poses[0].version), new)
    config = yaml.safe_load((new / "pytorch_config.yaml").read_text())
    initial_weights(config, WeightsSource("random"), new / "snapshot.pt", seed=4)
    _see_more(new / "snapshot.pt")
    version = store_version(moved, "walker", new, BODYPARTS)
    analyse(moved, FIRST)
    swapped = write_bundle(moved, FIRST).path
    own, theirs = read_bundle(bundle).poses[0], read_bundle(swapped).poses[0]
    assert theirs.version == version.version != own.version
    # The table of the one network, passed off as that of the other.
    content = {theirs.table: lab.layout.pose_file("walker", own.version, FIRST, "top").read_bytes()}
    forged = rewritten(swapped, tmp_path / "forged.zip", content, honest=True)
    (found,) = verify_bundle(forged, [lab.root / video_of(FIRST)], log=lambda _: None).verified
    assert found.differs


def test_a_network_that_this_deeplabcut_does_not_know_is_said_plainly(
    network: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The configuration names a backbone of a later release, and what comes is DeepLabCut's own error."""
    from dlc_assets_tests.unit.bundled_lab import Brightness, recorded_lab

    lab = recorded_lab(tmp_path / "lab")
    config = yaml.safe_load((network / "pytorch_config.yaml").read_text())
    config["model"]["backbone"]["type"] = "BackboneOfTomorrow"
    add_network(lab, weights=(network / "snapshot.pt").read_bytes(), config=yaml.safe_dump(config))
    with monkeypatch.context() as patched:
        use_network(patched, Brightness())
        analyse(lab, FIRST)
    path = write_bundle(lab, FIRST).path
    with pytest.raises(EnvironmentProblem, match=r"cannot load this network: .*BackboneOfTomorrow"):
        verify_bundle(path, [lab.root / video_of(FIRST)], log=lambda _: None)
    result = CliRunner().invoke(app, ["verify", str(path), "--video", str(lab.root / video_of(FIRST))])
    assert result.exit_code == 1
    assert "were made with DeepLabCut 3.0.2 and torch 2.15.0+cu132" in result.stderr
    assert "Traceback" not in result.output
