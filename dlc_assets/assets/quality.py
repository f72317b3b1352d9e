"""`quality_report`: whether the poses of one session can be trusted, and where to look; `quality_overview`: all of them at a glance."""

import base64
from pathlib import Path
from typing import Any

import dagster as dg

from dlc_assets.assets import filtering, previews
from dlc_assets.assets.derived import DerivedConfig, derived_stage
from dlc_assets.assets.inference import pose_table
from dlc_assets.assets.reporting import Made, Stage
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.locks import hold
from dlc_assets.lab.manifest import Manifest
from dlc_assets.resources.lab import LabResource
from dlc_assets.review.overview.build import write_overview
from dlc_assets.review.overview.picture import heat_map
from dlc_assets.review.overview.table import Row
from dlc_assets.review.quality_record import NAME as RECORD
from dlc_assets.review.quality_record import QualityRecord, read_record
from dlc_assets.review.report.build import SUMMARY
from dlc_assets.review.report.charts import clock
from dlc_assets.review.report.moments import MOST, places_to_show
from dlc_assets.review.report.page import check_rows
from dlc_assets.review.report.product import FILTERED, KIND, report_folder, report_page, report_session

_MOST_BYTES = 190_000  # of a picture in metadata, of which the instance keeps one for each materialization
_LONGEST = 400  # characters of a sentence in a table of the UI


SPEC = dg.AssetSpec(
    KIND.asset,
    deps=[pose_table, filtering.SPEC],
    description=(
        "Whether the poses of one session by one model can be trusted, and where to look: a page with a verdict, all checks, and "
        "pictures.\n\nThe page shows where the animal went, likelihoods, limb lengths and speed over time, and the worst moments as frames "
        "of the video. It is one HTML file, for any browser. How to read it: docs/how-to/judge-results.md."
    ),
    group_name="review",
    owners=["team:lab"],
    kinds={"html"},
    code_version="1",
)


def quality_stage(context: dg.AssetExecutionContext, lab: Lab, config: DerivedConfig) -> Stage:
    """Return how a run makes quality reports."""

    def make(model: str, session: str) -> Made:
        manifest, made_now = report_session(
            lab,
            model,
            session,
            overrides=config.overrides(),
            recompute=config.recompute,
            run_id=context.run.run_id,
            log=context.log.info,
        )
        made_from = {
            "pose_table": manifest.inputs["poses"],
            **{name: version for name, version in manifest.inputs.items() if name == FILTERED},
        }
        return Made(manifest.data_version, _metadata(lab, manifest, made_now), made_from)

    return derived_stage(lab, KIND, make)


def _metadata(lab: Lab, manifest: Manifest, made_now: bool) -> dict[str, Any]:
    page, folder = report_page(lab, manifest), report_folder(lab, manifest)
    record = read_record(folder / RECORD)
    assert record is not None  # written with the page
    return {
        "verdict": record.verdict.sentence,
        "summary": _png(folder / SUMMARY),
        "page": dg.MetadataValue.path(str(page)),
        "checks": previews.table(_checks(record)),
        "worst moments": previews.table(_moments(record)),
        "problems": previews.table([{"problem": problem[:_LONGEST]} for problem in manifest.problems]),
        "model version": record.version,
        "made now": made_now,
        "dagster/uri": dg.MetadataValue.path(str(folder)),
    }


def _checks(record: QualityRecord) -> list[dict[str, str]]:
    return [
        {
            "verdict": row["word"],
            "check": row["check"],
            "says": row["sentence"][:_LONGEST],
            "value": row["value"],
            "limit": row["limit"],
        }
        for row in check_rows(record.findings)
    ]


def _moments(record: QualityRecord) -> list[dict[str, Any]]:
    return [
        {
            "recording": place.moment.recording,
            "time": clock(place.moment.time, 0.1),
            "frames": f"{place.moment.first_frame} to {place.moment.last_frame}",
            "check": place.finding.check,
            "what": place.moment.what[:_LONGEST],
        }
        for place in places_to_show(record.findings, MOST)
    ]


def _png(path: Path) -> dg.MarkdownMetadataValue:
    content = path.read_bytes()
    if len(content) > _MOST_BYTES:
        return dg.MetadataValue.md(f"The picture is too large to be shown here ({len(content)} bytes): open {path}.")
    return _shown(content, "summary of the report")


def _shown(png: bytes, alt: str) -> dg.MarkdownMetadataValue:
    return dg.MetadataValue.md(f"![{alt}](data:image/png;base64,{base64.b64encode(png).decode()})")


@dg.asset(deps=[SPEC], group_name="review", owners=["team:lab"], kinds={"html"}, code_version="1")
def quality_overview(context: dg.AssetExecutionContext, lab: LabResource) -> dg.MaterializeResult:
    """All sessions by all checks, the newest first, coloured by what needs a look; the page links to each session's report."""
    opened = lab.open()
    with hold(opened.layout.lock("quality_overview", "quality_overview"), "the overview", log=context.log.info):
        written = write_overview(opened)
    overview = written.overview
    return dg.MaterializeResult(
        metadata={
            "sessions": overview.sentence(),
            "sessions by check": _shown(heat_map(overview), "sessions by check"),
            "to look at, the worst first": previews.table([_line(row) for row in overview.to_look_at()]),
            "dagster/row_count": len(overview.rows),
            "page": dg.MetadataValue.path(str(opened.layout.quality_overview)),
            "table": dg.MetadataValue.path(str(opened.layout.quality_overview_table)),
            "dagster/uri": dg.MetadataValue.path(str(opened.layout.quality_overview)),
        },
        data_version=dg.DataVersion(written.data_version),
    )


def _line(row: Row) -> dict[str, str]:
    sentence = "" if row.verdict is None else row.verdict.sentence[:_LONGEST]
    return {"session": row.session, "model": row.model, "day": row.day[:10], "verdict": sentence}
