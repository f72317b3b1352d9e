"""The labels that people made: an external asset, observed and never written.

See https://docs.dagster.io/guides/build/assets/external-assets. Its data version is the hash of the labels that one model learns from or
is checked on, so that relabeling a frame marks exactly the training datasets of the models that use it. Benchmark frames only score: a
corrected label of one marks no dataset.
"""

from __future__ import annotations

import dagster as dg

from dlc_assets.lab.lab import Lab
from dlc_assets.partitions import models
from dlc_assets.training.dataset import dataset_inputs, label_counts, label_set_of, labels_version

LABEL_SET = dg.AssetKey("label_set")

label_set = dg.AssetSpec(
    LABEL_SET,
    description=(
        "The labeled frames of a DeepLabCut project that one model uses (its specification's project, videos and scorers). "
        "Made by people in a labeling tool; observed by the sensor `models_and_labels`, which starts nothing: it marks what is out of date."
    ),
    group_name="training",
    kinds={"deeplabcut"},
    owners=["team:lab"],
    partitions_def=models,
)


def observe_labels(lab: Lab, model: str) -> dg.AssetObservation:
    """Return the observation of the labels that *model* uses now."""
    if lab.specification(model).imported is not None:  # its project may be gone, or hold labels that nothing here reads
        version = dataset_inputs(lab, model)["labels"]
        return dg.AssetObservation(LABEL_SET, partition=model, tags={"dagster/data_version": version})
    labels = label_set_of(lab, model)
    rows = label_counts(labels)
    return dg.AssetObservation(
        LABEL_SET,
        partition=model,
        metadata={
            "frames": len(labels.images),
            "dropped frames": sum(row["dropped"] for row in rows),
            "project": dg.MetadataValue.path(str(labels.project.config_path)),
        },
        tags={"dagster/data_version": labels_version(lab, model, labels)},
    )
