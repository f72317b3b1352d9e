"""The product `quality_report`: what it is made from, how it is made, and where its page lies."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dlc_assets.derived.filtered_poses import ASSET as FILTERED
from dlc_assets.derived.filtered_poses import filtered_pose_files
from dlc_assets.derived.product import Built, DerivedKind, DerivedTask, derived_manifest, make_derived
from dlc_assets.lab.errors import DlcAssetsError, NotFoundError
from dlc_assets.lab.files import content_hash
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.manifest import Manifest
from dlc_assets.lab.regions import region_words
from dlc_assets.recordings.info import RecordingInfo, SessionInfo
from dlc_assets.recordings.setups import setup_of
from dlc_assets.review.findings import Finding
from dlc_assets.review.report.build import PAGE, build_report
from dlc_assets.review.report.verdict import worst_first

ASSET = "quality_report"
_DRAWN = "1"  # changes when reports are drawn in another way, so that all are made again


def report_inputs(lab: Lab, session: SessionInfo, poses: Manifest) -> dict[str, str]:
    """Return the hashes that a report is made from: the poses, the filtered ones where there are any, the checks, and the rigs."""
    filtered = _filtered(lab, poses)
    return {
        "poses": poses.data_version,
        **({} if filtered is None else {FILTERED: filtered.data_version}),
        "checks": content_hash(lab.settings.model_dump(mode="json", include={"checks"})),
        "rig": content_hash({recording.recording: _rig(lab, session, recording) for recording in session.recordings}),
        "drawn": _DRAWN,
    }


def _rig(lab: Lab, session: SessionInfo, recording: RecordingInfo) -> Any:
    try:
        setup = setup_of(lab, session, recording)
    except DlcAssetsError as error:  # which the report says
        return str(error)
    regions = {name: region_words(region) for name, region in setup.regions.items()}
    arena = None if setup.arena is None else region_words(setup.arena)
    return [setup.px_per_cm, regions, arena, setup.reference]


def _wanted(lab: Lab) -> bool:
    return lab.settings.review.auto


KIND = DerivedKind(ASSET, inputs=report_inputs, auto=_wanted)
# Filtered poses are drawn where there are any, but nothing waits for them: a report says why filters cannot do their work.


def report_session(
    lab: Lab,
    model: str,
    session: str,
    *,
    overrides: Mapping[str, Any],
    recompute: bool,
    run_id: str,
    log: Callable[[str], None],
) -> tuple[Manifest, bool]:
    """Make the report of (*model*, *session*); arguments, result and errors as of `product.make_derived`."""
    return make_derived(
        lab, KIND, model, session, overrides=overrides, recompute=recompute, run_id=run_id, log=log, build=_build
    )


def _build(task: DerivedTask, folder: Path) -> Built:
    from dlc_assets.review.pose_checks import check_poses

    filtered = _filtered(task.lab, task.poses)
    files = {} if filtered is None else {file.recording: file.path for file in filtered_pose_files(task.lab, filtered)}
    findings = check_poses(task.lab, task.poses)
    report = build_report(task.lab, task.poses, folder, findings, filtered=files, log=task.log)
    verdict = report.record.verdict
    return Built(
        data_version=report.data_version,
        details={
            "verdict": verdict.level,
            "sentence": verdict.sentence,
            "checks": len(findings),
            "failed": [finding.check for finding in worst_first(findings) if not finding.passed],
        },
        problems=_problems(findings, report.problems),
    )


def _problems(findings: list[Finding], notes: tuple[str, ...]) -> list[str]:
    return [*(finding.sentence for finding in worst_first(findings) if not finding.passed), *notes]


def _filtered(lab: Lab, poses: Manifest) -> Manifest | None:
    """Return the manifest of the filtered table that was made from *poses*, None where there is none."""
    details = poses.details
    found = derived_manifest(lab, FILTERED, details["model"], details["version"], details["session"])
    return found if found is not None and found.inputs.get("poses") == poses.data_version else None


def report_manifest(lab: Lab, poses: Manifest) -> Manifest | None:
    """Return the manifest of the report of the pose table of *poses*, None where it was never made."""
    details = poses.details
    return derived_manifest(lab, ASSET, details["model"], details["version"], details["session"])


def report_folder(lab: Lab, manifest: Manifest) -> Path:
    """Return the folder of the report of *manifest*, which is the report's own or its pose table's."""
    details = manifest.details
    return lab.layout.derived_folder(ASSET, details["model"], details["version"], details["session"])


def report_page(lab: Lab, manifest: Manifest) -> Path:
    """Return the page to open of the report of *manifest*, which is the report's own or its pose table's.

    Raises
    ------
    NotFoundError
        The report was never made, or its page is gone.
    """
    page = report_folder(lab, manifest) / PAGE
    if not page.is_file():
        details = manifest.details
        raise NotFoundError(
            f"{details['session']} has no quality report by {details['model']}@{details['version']} (no {page}): materialize "
            f"{ASSET} for it."
        )
    return page
