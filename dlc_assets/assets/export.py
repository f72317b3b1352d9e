"""`nwb_file`: one NWB file a session, with the released poses of every camera."""

import enum
from collections.abc import Iterator
from typing import Any

import dagster as dg
from pydantic import Field

from dlc_assets.assets import previews
from dlc_assets.assets.inference import pose_table
from dlc_assets.assets.recordings import session_recordings
from dlc_assets.assets.reporting import Made, make_partitions
from dlc_assets.checks import outcomes
from dlc_assets.nwb.export import export_session, nwb_files, nwb_inputs
from dlc_assets.partitions import SESSION, sessions
from dlc_assets.resources.lab import LabResource

# Differs from its neighbours' so that a backfill never fuses them.
SESSIONS_PER_RUN = 25


class Videos(enum.Enum):
    """Where the videos of an NWB file go: linked or copied beside it, left where they are, or left out."""

    link = "link"
    copy = "copy"
    relative = "relative"
    leave_out = "leave_out"


class NwbConfig(dg.Config):
    """Settings of one export; empty means lab.yaml's. What is stated (but for recompute) makes the file "custom"."""

    videos: Videos | None = Field(
        None,
        description="videos: linked or copied beside the file, relative, or left out; default: lab.yaml's nwb.videos",
    )
    models: list[str] = Field(
        [], description="name or name@version: their poses are written in the place of the released ones"
    )
    recompute: bool = Field(False, description="write the file even though it is up to date")

    def overrides(self) -> dict[str, Any]:
        """Return what was stated."""
        videos = {} if self.videos is None else {"videos": self.videos.value}
        return {**videos, **({"models": self.models} if self.models else {})}


@dg.asset(
    deps=[
        session_recordings,
        dg.AssetDep(
            pose_table,
            # The poses of a session by every model: the release rules choose among them.
            partition_mapping=dg.MultiToSingleDimensionPartitionMapping(partition_dimension_name=SESSION),
        ),
    ],
    group_name="export",
    owners=["team:lab"],
    kinds={"nwb"},
    partitions_def=sessions,
    backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=SESSIONS_PER_RUN),
    output_required=False,
    code_version="1",
)
def nwb_file(context: dg.AssetExecutionContext, config: NwbConfig, lab: LabResource) -> Iterator[dg.MaterializeResult]:
    """The session as Neurodata Without Borders: subject, devices, videos and the released poses on their true times."""
    opened = lab.open()

    def make(key: str) -> Made:
        manifest, written_now = export_session(
            opened,
            key,
            overrides=config.overrides(),
            recompute=config.recompute,
            run_id=context.run.run_id,
            log=context.log.info,
        )
        files = nwb_files(opened, manifest)
        return Made(
            manifest.data_version,
            {
                "dagster/uri": dg.MetadataValue.path(str(files[0])),
                "files": previews.table([{"file": str(file)} for file in files]),
                "size (bytes)": manifest.details["bytes"],
                "recordings": ", ".join(manifest.details["recordings"]),
                "models": dg.MetadataValue.json(manifest.details["models"]),
                "videos": manifest.details["videos"],
                "written now": written_now,
                "custom": manifest.custom,
                "findings": previews.table([{"finding": line} for line in manifest.details["findings"]]),
            },
            {"session_recordings": manifest.inputs["session"], "pose_table": manifest.inputs["poses"]},
            outcomes.evaluations(manifest, opened.root),
        )

    yield from make_partitions(context, opened, make, lambda key: nwb_inputs(opened, key), retried=True)
