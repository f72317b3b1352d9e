"""`pose_table`: the poses of one session by one model, a partition for each pose-estimation task."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
import numpy as np
from pydantic import Field

from dlc_assets.assets import previews
from dlc_assets.assets.recordings import session_recordings
from dlc_assets.assets.reporting import Made, failing_clearly, make_partitions
from dlc_assets.assets.training import trained_model
from dlc_assets.checks import outcomes
from dlc_assets.executors import GPU_POOL, gpu_op_tags
from dlc_assets.inference.pose_tables import Estimators, estimate_session, pose_files, pose_inputs
from dlc_assets.lab.compute import leased_device
from dlc_assets.lab.keys import split_pose_key
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.manifest import Manifest
from dlc_assets.partitions import session_models
from dlc_assets.poses.schema import COLUMNS
from dlc_assets.poses.table_file import read_thinned_tracks
from dlc_assets.recordings.info import need_session_info
from dlc_assets.resources.lab import LabResource

# Differs from its neighbours' so that a backfill never fuses them; a network is loaded once for so many sessions.
SESSIONS_PER_RUN = 50


class PoseTableConfig(dg.Config):
    """Settings of one analysis; empty means the lab's files. What is stated (but for version and recompute) makes the table "custom"."""

    version: str | None = Field(
        None, description="version of the model; default: the released one, else the current one"
    )
    recordings: list[str] | None = Field(
        None, description="recordings of the session; default: those released to the model"
    )
    batch_size: int | None = Field(None, ge=1, description="frames at once; default: lab.yaml's inference.batch_size")
    precision: str | None = Field(
        None,
        description="float32, or proven (a faster one, for models that are proven); default: lab.yaml's inference.precision",
    )
    snapshot: str | None = Field(None, description="best, last, or an epoch's number; default: best")
    device: str | None = Field(None, description="cpu or gpu; default: a GPU where there is one")
    dynamic_cropping: bool | None = Field(
        None, description="look only around where the animal was; default: lab.yaml's inference.dynamic_cropping"
    )
    recompute: bool = Field(
        False, description="estimate even though the stored table is up to date, from the first frame on"
    )

    def overrides(self) -> dict[str, Any]:
        """Return what was stated."""
        return {name: value for name, value in self.model_dump(exclude={"recompute"}).items() if value is not None}


@dg.asset(
    deps=[trained_model, session_recordings],
    group_name="inference",
    owners=["team:lab"],
    kinds={"deeplabcut", "parquet"},
    partitions_def=session_models,
    backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=SESSIONS_PER_RUN),
    output_required=False,
    code_version="1",
    pool=GPU_POOL,
    op_tags=gpu_op_tags(),
    metadata={
        "dagster/column_schema": previews.column_schema(
            [(c.name, c.arrow, f"{c.description}{f' ({c.unit})' if c.unit else ''}") for c in COLUMNS]
        )
    },
)
def pose_table(
    context: dg.AssetExecutionContext, config: PoseTableConfig, lab: LabResource
) -> Iterator[dg.MaterializeResult]:
    """The poses of one session by one model: one Parquet file a recording, long and tidy, the same columns for every model.

    Each session is recorded as soon as its files are in place; a failure in the middle keeps what was done.
    """
    opened = lab.open()
    with failing_clearly():
        inference = opened.settings.inference.overridden(
            precision=config.precision, batch_size=config.batch_size, dynamic_cropping=config.dynamic_cropping
        )
    lease = leased_device(
        opened.layout,
        f"analysing in run {context.run.run_id}",
        context.log.info,
        wanted=config.device,
        gpus=opened.settings.gpus,
    )
    with failing_clearly(), lease as device:
        estimators = Estimators(
            device, inference.batch_size, precision=inference.precision, dynamic=inference.dynamic_cropping
        )

        def make(key: str) -> Made:
            model, session = split_pose_key(key)
            manifest, estimated_now = estimate_session(
                opened,
                model,
                session,
                estimators,
                overrides=config.overrides(),
                recompute=config.recompute,
                run_id=context.run.run_id,
                log=context.log.info,
            )
            return Made(
                manifest.data_version,
                _metadata(opened, manifest, estimated_now),
                {"trained_model": manifest.details["version"], "session_recordings": manifest.inputs["recordings"]},
                outcomes.evaluations(manifest, opened.root),
            )

        def inputs(key: str) -> dict[str, str]:
            model, session = split_pose_key(key)
            return pose_inputs(opened, model, need_session_info(opened.layout, session)[0])

        yield from make_partitions(context, opened, make, inputs, retried=True)


def _how(inference: dict[str, Any]) -> dict[str, Any]:
    """Return how poses were estimated, for the UI to plot; of what an older table does not say, nothing."""
    shares = inference.get("shares", {})
    said = {
        "path": inference.get("path"),
        "precision": inference.get("precision"),
        "device": inference.get("device_name"),
        "batch size": inference.get("batch_size"),
        **{f"share of time, {stage}": share for stage, share in shares.items()},
    }
    return {name: value for name, value in said.items() if value is not None}


def _metadata(lab: Lab, manifest: Manifest, estimated_now: bool) -> dict[str, Any]:
    details = manifest.details
    first = pose_files(lab, manifest)[0]
    info, _ = need_session_info(lab.layout, details["session"])
    recording = info.recording(first.recording)
    times, tracks = read_thinned_tracks(first.path, previews.TRAJECTORY_POINTS)
    rows = details["recordings"]
    seconds = sum(row["seconds"] for row in rows)
    likelihoods = [
        value for row in rows for value in row["mean_likelihood"].values()
    ]  # none: imported poses without any
    return {
        "model version": details["version"],
        "trajectories": previews.trajectories(tracks, times, recording.width, recording.height, details["pcutoff"]),
        "dagster/partition_row_count": details["rows"],
        "frames": details["frames"],
        "frames per second": round(details["frames"] / seconds, 2) if seconds else np.nan,
        "estimated now": estimated_now,
        "custom": manifest.custom,
        "recordings": previews.table(
            [{key: row[key] for key in ("recording", "device", "frames", "rows", "seconds")} for row in rows]
        ),
        "share below p-cutoff": previews.table(
            [{"recording": row["recording"], **row["share_below_pcutoff"]} for row in rows]
        ),
        "mean likelihood": round(float(np.mean(likelihoods)), 4) if likelihoods else np.nan,
        **_how(details["inference"]),
        "inference": dg.MetadataValue.json(details["inference"]),
        "dagster/uri": dg.MetadataValue.path(str(first.path.parent)),
    }
