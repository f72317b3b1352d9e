"""Jobs: what one run makes. Partition kinds do not share a run. See https://docs.dagster.io/guides/build/jobs."""

from __future__ import annotations

import dagster as dg

from dlc_assets.assets.catalog import catalog
from dlc_assets.assets.cohort_export import export_cohort
from dlc_assets.assets.export import nwb_file
from dlc_assets.assets.frames_to_label import frames_to_label
from dlc_assets.assets.inference import pose_table
from dlc_assets.assets.labeled_video import labeled_video
from dlc_assets.assets.publishing import dandi_asset
from dlc_assets.assets.quality import quality_overview
from dlc_assets.assets.recordings import session_recordings
from dlc_assets.assets.review import review_poses
from dlc_assets.assets.training import model_comparison, model_evaluation, trained_model, training_dataset

# The bodies of these assets log the evaluations of their checks themselves, for each of a run's many partitions.
_WITHOUT_CHECKS = dg.AssetSelection.checks_for_assets(
    training_dataset, session_recordings, pose_table, review_poses, nwb_file, dandi_asset
)


def _job(name: str, description: str, *assets: dg.AssetsDefinition) -> dg.UnresolvedAssetJobDefinition:
    return dg.define_asset_job(
        name, selection=dg.AssetSelection.assets(*assets) - _WITHOUT_CHECKS, description=description
    )


train = _job(
    "train",
    "From the labels of one model to a trained and evaluated version.",
    training_dataset,
    trained_model,
    model_evaluation,
)
evaluate = _job("evaluate", "Score models on the labels as they are now.", model_evaluation)
record = _job("record", "Probe the videos of sessions: frames, rates, times, hashes.", session_recordings)
analyze = _job("analyze", "Estimate the poses of sessions with one model.", pose_table)
choose_frames = _job(
    "choose_frames", "Choose the frames that are most worth labeling next for models.", frames_to_label
)
# What a run of `review` makes, in this order.
REVIEWED = tuple(spec.key.to_user_string() for spec in review_poses.specs)
review = _job("review", "Filter, measure and judge the poses of sessions.", review_poses)
label_videos = _job("label_videos", "Draw the poses of sessions onto their videos.", labeled_video)
export_nwb = _job("export_nwb", "Write the NWB files of sessions.", nwb_file)
publish = _job("publish", "Upload the NWB files of sessions to the dandiset that lab.yaml names.", dandi_asset)
write_catalog = _job(
    "write_catalog",
    "Write the catalog's tables, the comparison of models and the overview of the poses' quality.",
    catalog,
    model_comparison,
    quality_overview,
)

ALL = (
    train,
    evaluate,
    choose_frames,
    record,
    analyze,
    review,
    label_videos,
    export_nwb,
    export_cohort,
    publish,
    write_catalog,
)
