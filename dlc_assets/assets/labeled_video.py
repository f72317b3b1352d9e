"""`labeled_video`: the recordings of one session as videos with their poses drawn in."""

import enum
from collections.abc import Iterator
from typing import Any

import dagster as dg
from pydantic import Field

from dlc_assets.assets import filtering, previews
from dlc_assets.assets.derived import DerivedConfig, derived_stage
from dlc_assets.assets.inference import pose_table
from dlc_assets.assets.reporting import Made, failing_clearly, make_chains
from dlc_assets.lab.files import size_words
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.manifest import Manifest
from dlc_assets.partitions import session_models
from dlc_assets.resources.lab import LabResource
from dlc_assets.review.labeled_video import KIND, label_session, labeled_video_files, settings_of

# Differs from its neighbours' so that a backfill never fuses them.
SESSIONS_PER_RUN = 20


class Poses(enum.Enum):
    """Which poses are drawn."""

    raw = "raw"
    filtered = "filtered"


class BelowPcutoff(enum.Enum):
    """What becomes of points that are not sure."""

    omitted = "omitted"
    hollow = "hollow"


class ColorBy(enum.Enum):
    """What has a color of its own."""

    bodypart = "bodypart"
    individual = "individual"


class SpanUnit(enum.Enum):
    """What a span is counted in."""

    seconds = "seconds"
    frames = "frames"


class LabeledVideoConfig(DerivedConfig):
    """Settings of one run; empty means lab.yaml's. What is stated (but for version and recompute) makes the videos "custom"."""

    recordings: list[str] | None = Field(None, description="recordings of the session; default: all that have poses")
    poses: Poses | None = Field(None, description="raw or filtered ones")
    pcutoff: float | None = Field(None, description="likelihood below which a point is not sure; default: the model's")
    below_pcutoff: BelowPcutoff | None = Field(None, description="points that are not sure: omitted, or hollow")
    skeleton: bool | None = Field(None, description="draw the lines of the model's skeleton")
    trail: float | None = Field(None, description="seconds before each frame whose path is drawn; 0: none")
    point_size: float | None = Field(None, description="radius of a point, px of the labeled video")
    color_by: ColorBy | None = Field(None, description="a color for each bodypart, or for each individual")
    caption: bool | None = Field(None, description="write the frame's number and time into a corner")
    crop: bool | None = Field(None, description="show only the part that the network saw")
    start: float | None = Field(None, description="first frame shown, in span_unit")
    end: float | None = Field(None, description="first frame left out, in span_unit")
    span_unit: SpanUnit | None = Field(None, description="seconds (of the session's clock) or frames")
    speed: float | None = Field(None, description="of playback; 1: as recorded")
    width: int | None = Field(None, description="px of the labeled video, even; default: the recording's")

    def overrides(self) -> dict[str, Any]:
        """Return what was stated."""
        stated = super().overrides()
        return {name: value.value if isinstance(value, enum.Enum) else value for name, value in stated.items()}


@dg.asset(
    deps=[pose_table, filtering.SPEC],
    group_name="review",
    owners=["team:lab"],
    kinds={"mp4"},
    partitions_def=session_models,
    backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=SESSIONS_PER_RUN),
    output_required=False,
    code_version="1",
)
def labeled_video(
    context: dg.AssetExecutionContext, config: LabeledVideoConfig, lab: LabResource
) -> Iterator[dg.MaterializeResult]:
    """The videos of one session with the poses by one model drawn in: one mp4 (H.264) a recording, which every browser plays.

    Each frame keeps its own time, gaps and changing rates included. What is drawn, which span, how fast and how large: `labeled_video` in
    `lab.yaml`, or the settings of one run. They are made on request, unless `lab.yaml` says `labeled_video: {auto: true}`.
    How to make and read them: docs/how-to/labeled-videos.md.
    """
    opened = lab.open()
    with failing_clearly():
        settings_of(opened, config.overrides())

    def make(model: str, session: str) -> Made:
        manifest, made_now = label_session(
            opened,
            model,
            session,
            overrides=config.overrides(),
            recompute=config.recompute,
            run_id=context.run.run_id,
            log=context.log.info,
        )
        filtered = manifest.details["filtered_poses"]
        return Made(
            manifest.data_version,
            _metadata(opened, manifest, made_now),
            {"pose_table": manifest.inputs["poses"], **({"filtered_pose_table": filtered} if filtered else {})},
        )

    yield from make_chains(context, opened, [derived_stage(opened, KIND, make)])


def _metadata(lab: Lab, manifest: Manifest, made_now: bool) -> dict[str, Any]:
    details = manifest.details
    rows = details["recordings"]
    files = labeled_video_files(lab, manifest)
    shown = [
        {
            "recording": row["recording"],
            "frames": f"{row['first_frame']} to {row['end_frame'] - 1}",
            "size (px)": f"{row['width']}x{row['height']}",
            "plays for (s)": row["seconds"],
            "sure points": row["points"],
            "file": f"{file.name} ({size_words(row['bytes'])})",
        }
        for row, file in zip(rows, files, strict=True)
    ]
    strips = {row["recording"]: (file, row["frames"]) for row, file in zip(rows, files, strict=True)}
    return {
        "model version": details["version"],
        "poses": details["poses"],
        "videos": previews.table(shown),
        "frames of it": previews.strips(strips, count=4, height=200 if len(rows) == 1 else 110),
        "frames": details["frames"],
        "frames per second": rows[0]["frames_per_second"],
        "size (bytes)": details["bytes"],
        "made now": made_now,
        "custom": manifest.custom,
        "look": dg.MetadataValue.json(details["look"]),
        "problems": previews.table([{"problem": line} for line in manifest.problems]),
        "dagster/uri": dg.MetadataValue.path(str(files[0])),
    }
