"""`dandi_asset`: a session's NWB files in the dandiset that lab.yaml names. No sensor asks for it: a person decides what leaves the lab."""

from collections.abc import Iterator

import dagster as dg
from pydantic import Field

from dlc_assets.assets import previews
from dlc_assets.assets.export import nwb_file
from dlc_assets.assets.reporting import Made, failing_clearly, make_partitions
from dlc_assets.checks import outcomes
from dlc_assets.lab.cohorts import find_cohort
from dlc_assets.lab.errors import SettingsError
from dlc_assets.partitions import sessions
from dlc_assets.publishing.archive import check_access
from dlc_assets.publishing.publish import is_published, publish_session, publishing_inputs
from dlc_assets.publishing.selection import dandi_settings
from dlc_assets.resources.lab import LabResource

# Differs from its neighbour's so that a backfill never fuses them: publishing is asked for by itself.
SESSIONS_PER_RUN = 20


class PublishConfig(dg.Config):
    """What one run publishes."""

    publish: bool = Field(
        False,
        description="say true to upload: so nothing leaves the lab by a click on Materialize all, or a backfill of everything",
    )
    cohort: str | None = Field(
        None, description="publish the files of this frozen cohort, with the poses that it was frozen with"
    )
    replace: bool = Field(
        False,
        description="take the place of files in the dandiset that this lab did not put there, or put there for a cohort",
    )
    recompute: bool = Field(False, description="compare with the archive though everything is known to be published")


@dg.asset(
    deps=[nwb_file],
    group_name="export",
    owners=["team:lab"],
    kinds={"nwb", "dandi"},
    partitions_def=sessions,
    backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=SESSIONS_PER_RUN),
    output_required=False,
    code_version="1",
)
def dandi_asset(
    context: dg.AssetExecutionContext, config: PublishConfig, lab: LabResource
) -> Iterator[dg.MaterializeResult]:
    """The session's NWB files in the DANDI archive, and its videos where lab.yaml says so: validated, and uploaded once."""
    opened = lab.open()
    with failing_clearly():
        if not config.publish:
            raise SettingsError(
                "nothing was uploaded: publishing is asked for by name. Run `dlc-assets publish`, or materialize dandi_asset with "
                "ops: {dandi_asset: {config: {publish: true}}} in the run's configuration (Open launchpad)."
            )
        settings = dandi_settings(opened)
        cohort = None if config.cohort is None else find_cohort(opened.layout, config.cohort)
        if config.recompute or not all(is_published(opened, key, config.cohort) for key in context.partition_keys):
            check_access(settings)

    def make(key: str) -> Made:
        manifest, asked_now = publish_session(
            opened,
            key,
            cohort=cohort,
            replace=config.replace,
            recompute=config.recompute,
            run_id=context.run.run_id,
            log=context.log.info,
        )
        details = manifest.details
        return Made(
            manifest.data_version,
            {
                "dagster/uri": dg.MetadataValue.url(details["links"][0]),
                "dandiset": f"{details['dandiset']} ({details['version']}) of {details['instance']}",
                "assets": previews.table(
                    [
                        {"path": asset["path"], "asset id": asset["asset_id"], "bytes": asset["bytes"]}
                        for asset in details["assets"]
                    ]
                ),
                "uploaded now": asked_now and any(asset["uploaded"] for asset in details["assets"]),
                "poses": manifest.inputs["poses"],
                "videos": manifest.inputs["videos"],
            },
            {"nwb_file": manifest.inputs["nwb"]},
            outcomes.evaluations(manifest, opened.root),
        )

    yield from make_partitions(context, opened, make, lambda key: publishing_inputs(opened, key, config.cohort))
