"""What is made from a pose table by itself, in one step: filtered poses, kinematics and the quality report, [model|session] each.

One step, and not one a product: each takes a second or two, the start of a step more. A product that fails holds back those that are
made from it, of its session only.
"""

from collections.abc import Iterator

import dagster as dg

from dlc_assets.assets import filtering, kinematics, quality
from dlc_assets.assets.derived import SESSIONS_PER_RUN, ReviewConfig
from dlc_assets.assets.reporting import make_chains
from dlc_assets.partitions import session_models
from dlc_assets.resources.lab import LabResource


@dg.multi_asset(
    name="review_poses",
    specs=[filtering.SPEC, kinematics.SPEC, quality.SPEC],
    partitions_def=session_models,
    backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=SESSIONS_PER_RUN),
    can_subset=True,
)
def review_poses(
    context: dg.AssetExecutionContext, config: ReviewConfig, lab: LabResource
) -> Iterator[dg.MaterializeResult]:
    """Filter the poses of sessions, measure how the animals move, and judge the poses."""
    opened = lab.open()
    every = (
        filtering.filter_stage(context, opened, config),
        kinematics.kinematics_stage(context, opened, config),
        quality.quality_stage(context, opened, config),
    )
    stages = [stage for stage in every if stage.key in context.selected_asset_keys]
    if opened.settings.filters is None and len(stages) > 1:
        context.log.info("lab.yaml says filters: none, so that no poses are filtered")
        stages = [stage for stage in stages if stage.asset != filtering.KIND.asset]
    yield from make_chains(context, opened, stages)
