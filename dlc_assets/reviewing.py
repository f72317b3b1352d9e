"""What the command `review` asks for: runs that make filtered poses, kinematics and quality reports of sessions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import dagster as dg

from dlc_assets.assets.derived import SESSIONS_PER_RUN
from dlc_assets.commands import register_models
from dlc_assets.derived.filtered_poses import ASSET as FILTERED
from dlc_assets.derived.filtered_poses import filter_inputs, wants_filters
from dlc_assets.derived.product import derived_manifest
from dlc_assets.inference.releases import releases_of
from dlc_assets.lab.errors import DlcAssetsError, NotFoundError, did_you_mean
from dlc_assets.lab.lab import Lab
from dlc_assets.launching import RunOutcome, execute_here
from dlc_assets.nwb.session_poses import released_poses
from dlc_assets.partitions import SESSION, add_keys, contiguous_ranges
from dlc_assets.recordings.info import need_session_info, read_session_info
from dlc_assets.review.quality_record import NAME as RECORD
from dlc_assets.review.quality_record import read_record
from dlc_assets.review.report.product import ASSET, report_folder, report_page
from dlc_assets.state.behind import recorded_sessions
from dlc_assets.training.models import ModelVersion, find_version


def review_sessions(
    lab: Lab,
    instance: dg.DagsterInstance,
    sessions: Sequence[str] | None,
    models: Sequence[str] = (),
    *,
    recompute: bool,
    log: Callable[[str], None],
) -> tuple[list[RunOutcome], list[dict[str, Any]]]:
    """Make what is made of poses by itself: of *sessions*, or of every session that has poses; of the released poses, or those by *models*.

    Returns
    -------
    tuple
        The runs, and a row for each report: session, model, verdict, and where its page lies.

    Raises
    ------
    NotFoundError
        Before any run: there is no such session or model.
    """
    tasks = tasks_of(lab, sessions, models)
    if not tasks:
        log("no session has poses of a released model yet: run `dlc-assets analyze` first")
    register_models(lab, instance, log)
    add_keys(instance, SESSION, [key for keys in tasks.values() for key in keys])
    order = instance.get_dynamic_partitions(SESSION)
    outcomes = []
    for version, keys in tasks.items():
        config = {**({"version": version.version} if models else {}), **({"recompute": True} if recompute else {})}
        ops = {"review_poses": config} if config else None
        for part in contiguous_ranges(keys, order, SESSIONS_PER_RUN):
            tags = part.for_model(version.model).tags
            outcomes.append(execute_here(lab, instance, "review", tags=tags, ops=ops, log=log))
    rows = [row for version, keys in tasks.items() for key in keys for row in _rows(lab, version, key)]
    return outcomes, rows


def review_before_export(
    lab: Lab, instance: dg.DagsterInstance, sessions: Sequence[str] | None, *, log: Callable[[str], None]
) -> list[RunOutcome]:
    """Make the filtered poses that the NWB files of *sessions* (None: of all) are to hold, where they are missing or behind."""
    if not (lab.settings.nwb.filtered and wants_filters(lab)):
        return []
    known = recorded_sessions(lab)
    behind = [key for key in sessions or known if key in known and _is_unfiltered(lab, key)]
    return review_sessions(lab, instance, behind, recompute=False, log=log)[0] if behind else []


def _is_unfiltered(lab: Lab, session: str) -> bool:
    info, _ = need_session_info(lab.layout, session)
    for poses in released_poses(lab, info).values():
        made = derived_manifest(lab, FILTERED, poses.details["model"], poses.details["version"], session)
        try:
            if made is None or made.inputs != filter_inputs(lab, info, poses):
                return True
        except DlcAssetsError:  # which its own run says
            return True
    return False


def tasks_of(lab: Lab, sessions: Sequence[str] | None, models: Sequence[str]) -> dict[ModelVersion, list[str]]:
    """Return which sessions' poses are meant, by the version that made them; see `review_sessions`."""
    stated = [find_version(lab.layout, model) for model in models]
    known = recorded_sessions(lab)
    for key in sessions or ():
        if key not in known:
            raise NotFoundError(
                f'no session "{key}" was recorded.{did_you_mean(key, known)} `dlc-assets status` lists the sessions.'
            )
    tasks: dict[ModelVersion, list[str]] = {}
    for key in sessions or known:
        for version in stated or _released(lab, key):
            # A session that was named is asked for although it has no poses: its run says so.
            if sessions or lab.layout.pose_manifest(version.model, version.version, key).is_file():
                tasks.setdefault(version, []).append(key)
    return tasks


def _released(lab: Lab, session: str) -> list[ModelVersion]:
    known = read_session_info(lab.layout, session)
    return [] if known is None else list(releases_of(lab, known[0]).versions.values())


def _rows(lab: Lab, version: ModelVersion, session: str) -> Iterator[dict[str, Any]]:
    report = derived_manifest(lab, ASSET, version.model, version.version, session)
    record = None if report is None else read_record(report_folder(lab, report) / RECORD, moments=False)
    if report is not None and record is not None:
        yield {
            "session": session,
            "model": str(version),
            "verdict": record.verdict.sentence,
            "report": str(report_page(lab, report)),
        }
