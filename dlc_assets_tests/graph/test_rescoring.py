"""A person corrects a label of a benchmark frame: models are scored anew by themselves, and nothing is trained or analysed again."""

from __future__ import annotations

import dagster as dg
import pytest

from dlc_assets.state.lab_state import lab_state
from dlc_assets.training import evaluation
from dlc_assets.training.benchmark import benchmark_frames
from dlc_assets.training.models import current_version
from dlc_assets_tests.graph.conftest import Graph
from dlc_assets_tests.graph.test_models import relabel


@pytest.mark.slow
def test_a_corrected_benchmark_label_scores_the_model_anew_and_touches_nothing_else(
    demo: Graph, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = current_version(demo.lab.layout, "walker")
    assert version is not None
    assert not demo.asked("evaluation")
    before = demo.materialization("model_evaluation", "walker").metadata
    folder = benchmark_frames(demo.lab, "walker", version.card["bodyparts"])[0].folder
    relabel(demo, folder, by=50.0)
    states = {(product.asset, product.key): product.state for product in lab_state(demo.lab).products}
    assert {key for key, state in states.items() if state != "up to date"} == {("model_evaluation", "walker")}

    assert demo.asked("evaluation") == [("evaluate", {"dagster/partition": "walker"})]
    monkeypatch.delattr(evaluation, "_run_network")  # whoever runs the network fails
    assert demo.run("evaluate", "walker").success
    assert lab_state(demo.lab).behind() == []
    after = demo.materialization("model_evaluation", "walker").metadata
    error, was = after["error (px)"].value, before["error (px)"].value
    assert isinstance(error, float)
    assert isinstance(was, float)
    assert error - was > 0.2, "a label of a hundred and more is 50 px away now"
    assert not demo.asked("evaluation")
    for name in ("error by body part", "histogram of errors", "PCK curve", "worst frames", "learning curve"):
        text = str(after[name].value)
        assert text.startswith("!["), (name, text[:200])
        assert len(text) < 600_000, name
    assert str(version) in str(after["model card"].value)
    for name in ("PCK within 5 px", "PCK within 0.1 of the animal", "mAP", "frames/s", "median error (px)"):
        assert isinstance(after[name], dg.FloatMetadataValue), name
    assert after["parameters"].value > 1e6

    assert demo.run("write_catalog").success
    compared = demo.materialization("model_comparison").metadata
    assert str(compared["errors with their intervals"].value).startswith("![")
    assert "that it has not seen" in str(compared["compared on"].value)
