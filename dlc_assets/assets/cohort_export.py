"""The job `export_cohort`: NWB files of a frozen cohort, beside the released ones and never in their place.

No asset: a session's partition of `nwb_file` means its released poses, and those of a cohort are never behind.
"""

from typing import Any

import dagster as dg
from pydantic import Field

from dlc_assets.assets import previews
from dlc_assets.assets.export import Videos
from dlc_assets.assets.reporting import failing_clearly
from dlc_assets.inference.frozen_poses import cohort_files
from dlc_assets.lab.cohorts import cohorts, find_cohort
from dlc_assets.lab.errors import DlcAssetsError, SettingsError
from dlc_assets.lab.lab import Lab
from dlc_assets.nwb.export import export_session, nwb_files
from dlc_assets.resources.lab import LabResource


class CohortExportConfig(dg.Config):
    """What one export of a cohort writes."""

    cohort: str = Field("", description="the cohort's name; may be left out where there is one only")
    sessions: list[str] = Field([], description="which of its sessions; none means all")
    videos: Videos | None = Field(
        None, description="videos beside the files: linked, copied, or left out; default: lab.yaml's nwb.videos"
    )
    recompute: bool = Field(False, description="write the files even though they are up to date")


@dg.op(description="Write the NWB files of a frozen cohort, each session with the poses that it was frozen with.")
def write_cohort_nwb(context: dg.OpExecutionContext, config: CohortExportConfig, lab: LabResource) -> None:
    """Write a file a session; after a failure go on with the next one, and fail at the end."""
    opened = lab.open()
    with failing_clearly():
        cohort = find_cohort(opened.layout, config.cohort or _only_cohort(opened))
        cohort_files(opened, cohort, config.sessions, (), ())  # what is missing is said before anything is written
    keys = config.sessions or list(cohort.sessions)
    overrides: dict[str, Any] = {} if config.videos is None else {"videos": config.videos.value}
    rows, failures = [], {}
    for number, key in enumerate(keys, start=1):
        context.log.info(f"{key} ({number} of {len(keys)})")
        try:
            manifest, written_now = export_session(
                opened,
                key,
                overrides=overrides,
                recompute=config.recompute,
                run_id=context.run_id,
                log=context.log.info,
                cohort=cohort,
            )
        except (DlcAssetsError, OSError) as error:
            failures[key] = str(error)
            context.log.error(f"{key}: {error}")
            continue
        findings = "; ".join(manifest.details["findings"]) or "valid"
        rows += [
            {"session": key, "file": str(file), "written now": written_now, "findings": findings}
            for file in nwb_files(opened, manifest)
        ]
    context.add_output_metadata(
        {"files": previews.table(rows), "folder": dg.MetadataValue.path(str(opened.layout.cohort_nwb(cohort.name)))}
    )
    if failures:
        listed = "\n".join(f"{key}: {message}" for key, message in failures.items())
        raise dg.Failure(
            f"{len(failures)} of {len(keys)} failed; the others are done.\n{listed}",
            metadata={"failed": dg.MetadataValue.json(failures)},
            allow_retries=False,
        )


def _only_cohort(lab: Lab) -> str:
    names = [cohort.name for cohort in cohorts(lab.layout)]
    if len(names) == 1:
        return names[0]
    raise SettingsError(f"which cohort? Cohorts: {', '.join(names) or 'none yet; `dlc-assets freeze` makes one'}.")


@dg.job(description="Write the NWB files of a frozen cohort, beside the released ones.")
def export_cohort() -> None:
    """Write what the run's configuration names."""
    write_cohort_nwb()
