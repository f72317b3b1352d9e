"""`frames_to_label`: the frames of a model's sessions that are most worth labeling next."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
from pydantic import Field

from dlc_assets.assets import previews
from dlc_assets.assets.inference import pose_table
from dlc_assets.assets.model_previews import embedded
from dlc_assets.assets.reporting import Made, make_partitions
from dlc_assets.assets.training import trained_model
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.manifest import Manifest
from dlc_assets.labeling.batch import (
    CONTACT_SHEET,
    COUNT,
    SEED,
    WHY_COLUMNS,
    Request,
    batch_folder,
    batch_inputs,
    frames_by_session,
    make_batch,
)
from dlc_assets.labeling.contact_sheet import sheet_for_page
from dlc_assets.partitions import MODEL, models
from dlc_assets.resources.lab import LabResource

_SHEET_BYTES = 180_000  # in the page's metadata it takes a third more


class FramesToLabelConfig(dg.Config):
    """What frames are asked for."""

    count: int = Field(COUNT, ge=1, description="how many frames")
    sessions: list[str] = Field([], description="keys of the sessions to choose from; none means all that have poses")
    seed: int = Field(
        SEED, description="of what is drawn: the sessions of a large lab, and frames that stand for a recording"
    )

    def request(self) -> Request:
        """Return the request that they state."""
        return Request(self.count, tuple(self.sessions), self.seed)


@dg.asset(
    deps=[
        trained_model,
        dg.AssetDep(
            pose_table,
            # The poses of all sessions by the model.
            partition_mapping=dg.MultiToSingleDimensionPartitionMapping(partition_dimension_name=MODEL),
        ),
    ],
    group_name="training",
    owners=["team:lab"],
    kinds={"deeplabcut"},
    partitions_def=models,
    output_required=False,
    code_version="1",
    metadata={
        "dagster/column_schema": previews.column_schema(
            [
                (
                    name,
                    "double" if name in {"time", "score", "unlike"} else "int" if name == "frame" else "string",
                    what,
                )
                for name, what in WHY_COLUMNS.items()
            ]
        )
    },
)
def frames_to_label(
    context: dg.AssetExecutionContext, config: FramesToLabelConfig, lab: LabResource
) -> Iterator[dg.MaterializeResult]:
    """The frames that would teach a model most: where it is unsure, jumps, swaps, or other models disagree, and no two alike.

    DeepLabCut's labeled-data folders with machine labels to correct in napari-deeplabcut. They lie in the store: the project gets them
    by `dlc-assets frames-to-label MODEL --add`. Made on request only.
    """
    opened = lab.open()
    request = config.request()

    def make(model: str) -> Made:
        manifest, chosen_now = make_batch(opened, model, request, run_id=context.run.run_id, log=context.log.info)
        return Made(
            manifest.data_version,
            _metadata(opened, manifest, chosen_now),
            {"trained_model": manifest.details["version"], "pose_table": manifest.inputs["poses"]},
        )

    yield from make_partitions(context, opened, make, lambda model: batch_inputs(opened, model, request))


def _metadata(lab: Lab, manifest: Manifest, chosen_now: bool) -> dict[str, Any]:
    details, folder = manifest.details, batch_folder(lab, manifest)
    rows = [{name: row[name] for name in WHY_COLUMNS if name != "video"} for row in details["frames"]]
    notes = [*details["notes"], *manifest.problems]
    return {
        "dagster/partition_row_count": len(rows),
        "model version": details["version"],
        "chosen now": chosen_now,
        "contact sheet": embedded(
            lambda: sheet_for_page(folder / CONTACT_SHEET, _SHEET_BYTES), "the frames with machine labels"
        ),
        "frames": previews.table(rows),
        "frames by session": previews.table(
            [{"session": session, "frames": number} for session, number in frames_by_session(manifest).items()]
        ),
        "candidates looked at": details["candidates"],
        "what to know": "\n".join(notes) or "nothing",
        "how to add them to the project": f"`dlc-assets frames-to-label {manifest.key} --add`",
        "dagster/uri": dg.MetadataValue.path(str(folder)),
    }
