"""The whole graph, as Dagster loads it: `build_defs` makes it, so that tests build the same graph with other resources."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg

from dlc_assets import jobs
from dlc_assets.assets.catalog import catalog
from dlc_assets.assets.documentation import with_pages
from dlc_assets.assets.export import nwb_file
from dlc_assets.assets.frames_to_label import frames_to_label
from dlc_assets.assets.inference import pose_table
from dlc_assets.assets.labeled_video import labeled_video
from dlc_assets.assets.labels import label_set
from dlc_assets.assets.publishing import dandi_asset
from dlc_assets.assets.quality import quality_overview
from dlc_assets.assets.recordings import session_recordings
from dlc_assets.assets.review import review_poses
from dlc_assets.assets.training import model_comparison, model_evaluation, trained_model, training_dataset
from dlc_assets.checks.definitions import all_checks
from dlc_assets.executors import lab_executor
from dlc_assets.resources.lab import LabResource
from dlc_assets.sensors import definitions as sensors


def build_defs(
    *, resources: Mapping[str, Any] | None = None, executor: dg.ExecutorDefinition | None = None
) -> dg.Definitions:
    """Build the graph; *resources* replace those of the same name."""
    return dg.Definitions(
        assets=with_pages(
            [
                label_set,
                training_dataset,
                trained_model,
                model_evaluation,
                model_comparison,
                frames_to_label,
                session_recordings,
                pose_table,
                review_poses,
                labeled_video,
                nwb_file,
                dandi_asset,
                catalog,
                quality_overview,
            ]
        ),
        asset_checks=list(all_checks()),
        jobs=list(jobs.ALL),
        sensors=list(sensors.ALL),
        resources={"lab": LabResource(), **(resources or {})},
        executor=executor or lab_executor,
    )


defs = build_defs()
