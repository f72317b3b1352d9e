"""Writing the lab-wide overview from the records of all reports."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from dlc_assets.lab.files import content_hash, write_text
from dlc_assets.lab.lab import Lab
from dlc_assets.review.overview.page import html_of
from dlc_assets.review.overview.table import Overview, overview_of, pose_keys, write_csv
from dlc_assets.review.quality_record import newest_records, stored_records


@dataclass(frozen=True)
class WrittenOverview:
    """The overview, and the hash of what it says."""

    overview: Overview
    data_version: str


def write_overview(lab: Lab) -> WrittenOverview:
    """Write the overview's page and its table, in the place of what was there, and return it.

    Raises
    ------
    EnvironmentProblem
        The disk is full.
    """
    layout = lab.layout
    overview = overview_of(newest_records(stored_records(layout)), pose_keys(layout))
    write_csv(layout.quality_overview_table, overview)
    made = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    page = html_of(overview, lab=lab.settings.name, made=made, table=layout.quality_overview_table.name)
    write_text(layout.quality_overview, page)
    return WrittenOverview(overview, _hash(overview))


def _hash(overview: Overview) -> str:
    rows = [
        [row.session, row.model, row.version, None if row.verdict is None else row.verdict.sentence]
        + [[check, cell.state, cell.value] for check, cell in row.cells.items()]
        for row in overview.rows
    ]
    return content_hash(rows)
