"""Frames to label through the graph: asked for, added, corrected, and what is behind because of it."""

from __future__ import annotations

import json
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.data_version import StaleStatus

from dlc_assets.demo.files import PROJECT, SCORER
from dlc_assets.labeling.adding import add_to_project
from dlc_assets.labeling.batch import batch_folder, current_batch
from dlc_assets.resources.known_outputs import report_known_outputs
from dlc_assets.state.behind import model_products
from dlc_assets.training.dataset import label_set_of
from dlc_assets_tests.conftest import hash_inputs
from dlc_assets_tests.graph.conftest import Graph, rows_of
from dlc_assets_tests.unit.labeling_lab import correct

MOST_METADATA = 300_000  # bytes of one materialization


def states(graph: Graph) -> dict[str, tuple[str, str]]:
    return {product.asset: (product.state, product.why) for product in model_products(graph.lab, "walker", None)}


def choose(graph: Graph, **settings: object) -> dg.ExecuteInProcessResult:
    return graph.run("choose_frames", "walker", ops={"frames_to_label": settings})


@pytest.mark.slow
def test_frames_are_chosen_added_and_corrected_and_the_model_is_behind(demo: Graph) -> None:
    before = hash_inputs(demo.root)
    labels = label_set_of(demo.lab, "walker")
    assert choose(demo, count=6).success
    manifest = current_batch(demo.lab, "walker")
    assert manifest is not None
    shown = demo.materialization("frames_to_label", "walker")
    assert shown.tags is not None
    assert shown.tags["dagster/data_version"] == manifest.data_version
    assert shown.metadata["dagster/partition_row_count"].value == 6
    assert len(rows_of(shown.metadata["frames"])) == 6
    assert "data:image/jpeg;base64," in str(shown.metadata["contact sheet"].value)
    size = len(json.dumps({name: str(value.value) for name, value in shown.metadata.items()}))
    assert size < MOST_METADATA
    assert shown.metadata["dagster/uri"].value == str(batch_folder(demo.lab, manifest))
    assert hash_inputs(demo.root) == before
    assert demo.stale("frames_to_label", "walker") is StaleStatus.FRESH
    as_made = dict.fromkeys(("training_dataset", "trained_model", "model_evaluation"), ("up to date", ""))
    assert states(demo) == as_made
    assert choose(demo, count=6).success
    assert demo.materialization("frames_to_label", "walker").metadata["chosen now"].value is False

    added = add_to_project(demo.lab, manifest)
    assert sum(added.added.values()) == 6
    # Machine labels alone are nobody's labels.
    assert label_set_of(demo.lab, "walker").content_hash == labels.content_hash
    assert states(demo) == as_made

    for folder in added.added:
        correct(demo.root / "projects" / PROJECT / "labeled-data" / folder, SCORER)
    corrected = label_set_of(demo.lab, "walker")
    assert len(corrected.images) == len(labels.images) + 6
    assert corrected.content_hash != labels.content_hash
    state, why = states(demo)["training_dataset"]
    assert state == "behind"
    assert "labels changed" in why
    assert states(demo)["trained_model"][0] == states(demo)["model_evaluation"][0] == "behind"
    demo.tick("models_and_labels")
    assert demo.stale("training_dataset", "walker") is StaleStatus.STALE


@pytest.mark.slow
def test_another_instance_is_told_of_the_frames(demo: Graph) -> None:
    assert choose(demo, count=3).success
    with dg.DagsterInstance.ephemeral() as instance:
        report_known_outputs(instance, demo.lab, lambda _: None)
        assert instance.get_materialized_partitions(dg.AssetKey("frames_to_label")) == {"walker"}


def test_what_cannot_be_chosen_fails_in_words_and_nothing_is_half_written(small: Graph) -> None:
    result = choose(small, count=3)
    assert not result.success
    failure = next(event for event in result.all_events if event.is_step_failure)
    assert 'the model "walker" has no trained version' in str(failure.step_failure_data.user_failure_data)
    assert not list(Path(small.root, "store").glob("to_label/*/*"))
    with pytest.raises(dg.DagsterInvalidConfigError, match="count"):
        choose(small, count="many")
