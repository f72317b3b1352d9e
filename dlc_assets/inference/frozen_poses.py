"""The poses that a cohort was frozen with: found again wherever they lie, and kept when their place is needed for others."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from dlc_assets.lab.cohorts import Cohort, cohorts, freezing
from dlc_assets.lab.errors import NotFoundError, did_you_mean
from dlc_assets.lab.files import atomic_folder
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.manifest import NAME, Manifest, read_manifest
from dlc_assets.poses.selection import PoseFile

_LISTED = 10


def frozen_manifest(lab: Lab, cohort: Cohort, session: str, model: str) -> Manifest | None:
    """Return the manifest of the poses that *cohort* has of (*session*, *model*), None when they are not there any more."""
    found = _frozen(lab, cohort, session, model)
    return None if found is None else found[1]


def is_kept_elsewhere(lab: Lab, cohort: Cohort, session: str, model: str) -> bool:
    """Say whether other poses lie where those of *cohort* were, so that its own were kept elsewhere."""
    found = _frozen(lab, cohort, session, model)
    return found is not None and found[0] != lab.layout.pose_folder(model, cohort.sessions[session][model], session)


def frozen_files(lab: Lab, cohort: Cohort, session: str, model: str) -> list[PoseFile]:
    """Return the pose tables that *cohort* has of (*session*, *model*); none when they are not there any more."""
    found = _frozen(lab, cohort, session, model)
    if found is None:
        return []
    folder, manifest = found
    there = [row["recording"] for row in manifest.details["recordings"]]
    chosen = cohort.recordings.get(session, {}).get(model, there)
    version = cohort.sessions[session][model]
    return [PoseFile(folder / f"{name}.parquet", model, version, session, name) for name in there if name in chosen]


def cohort_files(
    lab: Lab, cohort: Cohort, sessions: Sequence[str], models: Sequence[str], recordings: Sequence[str]
) -> list[PoseFile]:
    """Return the pose tables of *cohort*, of these sessions, models (``name`` or ``name@version``) and recordings; empty: all.

    Raises
    ------
    NotFoundError
        The cohort has no such session, model or recording; or poses that it was frozen with are not there any more.
    """
    for key in sessions:
        if key not in cohort.sessions:
            raise NotFoundError(
                f'the session "{key}" is not in the cohort "{cohort.name}".{did_you_mean(key, cohort.sessions)} Its sessions: '
                f"{_some(list(cohort.sessions))}."
            )
    known = {model for pinned in cohort.sessions.values() for model in pinned}
    for reference in models:
        model = reference.partition("@")[0]
        if not any(_means(reference, *version.split("@")) for version in cohort.versions):
            raise NotFoundError(
                f'the cohort "{cohort.name}" has no poses by "{reference}".{did_you_mean(model, known - {model})} It has: '
                f"{', '.join(cohort.versions)}."
            )
    files: list[PoseFile] = []
    missing = []
    for key in sessions or cohort.sessions:
        for model, version in cohort.sessions[key].items():
            if models and not any(_means(reference, model, version) for reference in models):
                continue
            found = frozen_files(lab, cohort, key, model)
            files += [file for file in found if not recordings or file.recording in recordings]
            missing += [] if found else [f"{key} by {model}@{version}"]
    if missing:
        raise NotFoundError(
            f'{len(missing)} of the poses that the cohort "{cohort.name}" was frozen with are not there: {_some(missing)}. '
            "Restore them from a backup."
        )
    if not files:
        asked = ", ".join((*sessions, *models, *recordings))
        raise NotFoundError(f'the cohort "{cohort.name}" has no poses of {asked} together.')
    return files


def _means(reference: str, model: str, version: str) -> bool:
    name, _, digits = reference.partition("@")
    return name == model and version.startswith(digits)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")


def missing_of(lab: Lab, cohort: Cohort) -> list[str]:
    """Return a line for each (session, model) of *cohort* whose poses are not there any more."""
    return [
        f"{session}: {model}@{version}"
        for session, pinned in cohort.sessions.items()
        for model, version in pinned.items()
        if frozen_manifest(lab, cohort, session, model) is None
    ]


def _frozen(lab: Lab, cohort: Cohort, session: str, model: str) -> tuple[Path, Manifest] | None:
    version = cohort.sessions[session][model]
    meant = cohort.poses.get(session, {}).get(model)
    here = lab.layout.pose_folder(model, version, session)
    # What was kept comes first: a crash while poses are replaced leaves new tables beside the old manifest.
    folders = [here] if meant is None else [lab.layout.kept_poses(model, version, session, meant), here]
    for folder in folders:
        manifest = read_manifest(folder)
        if manifest is not None and meant in {None, manifest.data_version} and _complete(folder, manifest):
            return folder, manifest
    return None


def _complete(folder: Path, manifest: Manifest) -> bool:
    return all((folder / f"{row['recording']}.parquet").is_file() for row in manifest.details["recordings"])


@contextmanager
def replacing(lab: Lab, existing: Manifest | None, data_version: str) -> Iterator[None]:
    """Hold cohorts still while poses take the place of *existing*, which is kept elsewhere if a cohort has it.

    Parameters
    ----------
    data_version
        Of the new poses: the same content needs no keeping.
    """
    with freezing(lab.layout):
        if existing is not None and existing.data_version != data_version:
            _keep(lab, existing)
        yield


def _keep(lab: Lab, manifest: Manifest) -> None:
    model, version, session = (manifest.details[name] for name in ("model", "version", "session"))
    if not any(cohort.pins(session, model, version, manifest.data_version) for cohort in cohorts(lab.layout)):
        return
    kept = lab.layout.kept_poses(model, version, session, manifest.data_version)
    source = lab.layout.pose_folder(model, version, session)
    if kept.exists() or not _complete(source, manifest):
        return
    with atomic_folder(kept) as partial:
        for row in manifest.details["recordings"]:
            name = f"{row['recording']}.parquet"
            shutil.copy2(source / name, partial / name)
        shutil.copy2(source / NAME, partial / NAME)
