"""Freezing a cohort: which sessions are meant, which poses they have by the versions that are meant, and writing it down."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from dlc_assets.inference.filters_in_force import filters_to_freeze
from dlc_assets.inference.pose_tables import inputs_like, pose_inputs
from dlc_assets.inference.releases import releases_of
from dlc_assets.lab.cohorts import Cohort, check_new_name, freezing, keep_cohort
from dlc_assets.lab.errors import DlcAssetsError, InputError, SettingsError
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.manifest import Manifest, read_manifest
from dlc_assets.recordings.info import SessionInfo, need_session_info
from dlc_assets.training.models import ModelVersion, find_version

_LISTED = 20


@dataclass
class Frozen:
    """What a cohort would hold, or holds: its content as in `Cohort`, and what a person should know of it.

    *tables* are the recordings of the pose tables, as `recordings` has those that are the cohort's.
    """

    sessions: dict[str, dict[str, str]] = field(default_factory=dict)
    recordings: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    poses: dict[str, dict[str, str]] = field(default_factory=dict)
    tables: dict[str, dict[str, list[str]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    cohort: Cohort | None = None


def freeze(
    lab: Lab,
    name: str,
    sessions: Iterable[str],
    *,
    models: Sequence[str] = (),
    reason: str = "",
    dry_run: bool = False,
) -> Frozen:
    """Freeze *sessions* as the cohort *name*, each with the versions that the release rules name for it, or with *models*.

    Parameters
    ----------
    models
        ``model@version`` (``model``: its current version) for all sessions, in the place of the release rules.
    dry_run
        Work it out and write nothing.

    Raises
    ------
    SettingsError
        The name cannot be used, or *models* names two versions of one model.
    NotFoundError
        A session or a version does not exist.
    InputError
        Sessions have no poses by these versions; all of them are named.
    """
    with freezing(lab.layout):
        check_new_name(lab.layout, name)
        found = _content(lab, list(dict.fromkeys(sessions)), _stated(lab, models))
        if not dry_run:
            found.cohort = keep_cohort(
                lab.layout,
                name,
                sessions=found.sessions,
                recordings=found.recordings,
                poses=found.poses,
                filters=filters_to_freeze(lab, found.tables),
                reason=reason,
            )
    return found


def _stated(lab: Lab, models: Sequence[str]) -> dict[str, ModelVersion]:
    versions: dict[str, ModelVersion] = {}
    for reference in models:
        version = find_version(lab.layout, reference)
        other = versions.setdefault(version.model, version)
        if other != version:
            raise SettingsError(f"{other} and {version}: a session has one version of a model in a cohort. Name one.")
    return versions


def _content(lab: Lab, keys: Sequence[str], stated: dict[str, ModelVersion]) -> Frozen:
    found = Frozen()
    missing: list[str] = []
    for key in keys:
        session, _ = need_session_info(lab.layout, key)
        chosen: dict[ModelVersion, list[str] | None] = dict.fromkeys(stated.values())
        notes: list[str] = []
        if not stated:
            chosen, notes = _released(lab, session)
        if chosen:
            found.notes += [f"{key}: {note}" for note in notes]
        else:
            missing += [f"{key}: {note}" for note in notes or ["it has no recording that could be read"]]
        for version, recordings in chosen.items():
            manifest = read_manifest(lab.layout.pose_folder(version.model, version.version, key))
            there = [row["recording"] for row in manifest.details["recordings"]] if manifest is not None else []
            without = [name for name in recordings or () if name not in there]
            if manifest is None or without:
                missing.append(f"{key}: no poses by {version}" + (f" of {', '.join(without)}" if manifest else ""))
                continue
            found.sessions.setdefault(key, {})[version.model] = version.version
            found.recordings.setdefault(key, {})[version.model] = recordings if recordings is not None else there
            found.poses.setdefault(key, {})[version.model] = manifest.data_version
            found.tables.setdefault(key, {})[version.model] = there
            found.notes += [f"{key}: {note}" for note in _notes(lab, session, version, manifest)]
    if missing:
        listed = "\n  ".join(
            [*missing[:_LISTED], *([f"... and {len(missing) - _LISTED} more"] if len(missing) > _LISTED else [])]
        )
        raise InputError(
            f"nothing was frozen: {len(missing)} of what the cohort needs is not there.\n  {listed}\n"
            "Make the poses with `dlc-assets analyze`, name the versions that there are with --models, or name other sessions."
        )
    return found


def _released(lab: Lab, session: SessionInfo) -> tuple[dict[ModelVersion, list[str] | None], list[str]]:
    """Return the released versions of *session* with their recordings, and what the rules leave out."""
    releases = releases_of(lab, session)
    notes = list(releases.waiting.values())
    if releases.uncovered:
        notes.append(f"no release rule covers {', '.join(releases.uncovered)}")
    if releases.waiting:
        return {}, notes
    return {version: releases.recordings[model] for model, version in releases.versions.items()}, notes


def _notes(lab: Lab, session: SessionInfo, version: ModelVersion, manifest: Manifest) -> list[str]:
    notes = []
    if manifest.custom:
        notes.append(f"its poses by {version} are custom: {manifest.overrides}")
    try:
        now = inputs_like(manifest, {**pose_inputs(lab, version.model, session), "model": manifest.inputs["model"]})
    except DlcAssetsError:
        return notes
    changed = [name for name in sorted({*now, *manifest.inputs}) if now.get(name) != manifest.inputs.get(name)]
    if changed:
        notes.append(
            f"its poses by {version} would be made otherwise now ({', '.join(changed)}): they are frozen as they are"
        )
    return notes
