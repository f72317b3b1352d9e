"""A new version analyses sessions beside the released one, for real: compared, released, and then not made again."""

from __future__ import annotations

import shutil

import pytest

from dlc_assets.inference.pose_comparison import compare_poses, versions_to_compare
from dlc_assets.inference.pose_comparison_report import write_report
from dlc_assets.lab.files import sha256_file
from dlc_assets.lab.manifest import read_manifest
from dlc_assets.state.lab_state import lab_state
from dlc_assets.training.models import ModelVersion, current_version, version_of
from dlc_assets_tests.graph.conftest import Graph
from dlc_assets_tests.graph.small_lab import FIRST, SECOND, THIRD


def slightly_another(graph: Graph) -> ModelVersion:
    """Store a version whose weights differ a little from those of the current one, which stays current."""
    import torch

    layout = graph.lab.layout
    current = current_version(layout, "walker")
    assert current is not None
    folder = layout.model("walker") / ".new"
    shutil.copytree(current.folder, folder)
    saved = torch.load(folder / "snapshot.pt", map_location="cpu", weights_only=False)
    random = torch.Generator().manual_seed(1)
    for weights in saved["model"].values():
        if weights.dim() > 1:
            weights += 0.15 * weights.std() * torch.randn(weights.shape, generator=random)
    torch.save(saved, folder / "snapshot.pt")
    name = version_of(folder / "snapshot.pt", folder / "pytorch_config.yaml")
    manifest = read_manifest(folder)
    assert manifest is not None
    manifest.data_version = name
    manifest.details["sha256"] = sha256_file(folder / "snapshot.pt")
    manifest.write(folder)
    folder.rename(layout.version("walker", name))
    return ModelVersion("walker", name, layout.version("walker", name))


@pytest.mark.slow
def test_a_version_that_is_not_released_analyses_is_compared_and_once_released_need_not_analyse_again(
    demo: Graph,
) -> None:
    new = slightly_another(demo)
    before = {(p.asset, p.key): p.state for p in lab_state(demo.lab).products}
    key = f"walker|{FIRST}"
    assert demo.run("analyze", key, only=["pose_table"], ops={"pose_table": {"version": new.version}}).success
    assert {(p.asset, p.key): p.state for p in lab_state(demo.lab).products} == before

    found = compare_poses(demo.lab, *versions_to_compare(demo.lab, "walker", str(new)))
    assert found.only_old == [SECOND, THIRD]
    row = found.table().iloc[0]
    assert (row["session"], row["bodypart"]) == (FIRST, "(all)")
    assert 0.1 < row["median"] < 50
    assert row["changed"] > 0
    _, sheets, missing = write_report(demo.lab, found, limit=1, log=print)
    assert (len(sheets), missing) == (1, [])

    settings = demo.lab.layout.settings_file
    settings.write_text(settings.read_text().replace("model: walker}", f"model: {new}}}"))
    now = {(p.asset, p.key): (p.state, p.why) for p in lab_state(demo.lab).products}
    assert now["pose_table", key] == ("up to date", "")
    assert now["filtered_pose_table", key] == ("missing", "never made")
    assert now["nwb_file", FIRST][0] == "behind"
    assert now["pose_table", f"walker|{SECOND}"][0] == "behind"
