"""`catalog`: tables over everything that the lab declared and the platform made, for SQL."""

import dagster as dg

from dlc_assets.assets import previews, quality
from dlc_assets.assets.export import nwb_file
from dlc_assets.assets.inference import pose_table
from dlc_assets.assets.recordings import session_recordings
from dlc_assets.assets.training import model_evaluation, trained_model
from dlc_assets.catalog.schema import TABLES
from dlc_assets.catalog.tables import write_catalog
from dlc_assets.lab.locks import hold
from dlc_assets.resources.lab import LabResource


@dg.asset(
    deps=[trained_model, model_evaluation, session_recordings, pose_table, quality.SPEC, nwb_file],
    group_name="catalog",
    owners=["team:lab"],
    kinds={"parquet", "duckdb"},
    code_version="1",
    metadata={
        # Of all tables, each column under its table's name: the UI lists and searches them.
        "dagster/column_schema": previews.column_schema(
            [(f"{table.name}.{c.name}", c.type, c.description) for table in TABLES for c in table.columns]
        )
    },
)
def catalog(context: dg.AssetExecutionContext, lab: LabResource) -> dg.MaterializeResult:
    """Subjects, devices, sessions, recordings, models, evaluations and pose estimations as Parquet tables.

    `dlc-assets sql` answers over the same tables as the store is at that moment.
    """
    opened = lab.open()
    with hold(opened.layout.lock("catalog", "catalog"), "writing the catalog", log=context.log.info):
        manifest = write_catalog(opened, run_id=context.run.run_id)
    rows = manifest.details["rows"]
    return dg.MaterializeResult(
        metadata={
            "tables": previews.table(
                [
                    {"table": table.name, "rows": rows[table.name], "what it holds": table.description}
                    for table in TABLES
                ]
            ),
            "dagster/row_count": sum(rows.values()),
            "dagster/uri": dg.MetadataValue.path(str(opened.layout.catalog)),
        },
        data_version=dg.DataVersion(manifest.data_version),
    )
