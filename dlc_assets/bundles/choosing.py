"""Which poses of a session go into a bundle: those released for it, those of a cohort, or those of a model that is named."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from dlc_assets.inference.frozen_poses import cohort_files, frozen_manifest
from dlc_assets.inference.pose_tables import inputs_like, pose_files, pose_inputs
from dlc_assets.inference.releases import Releases, releases_of, rule_for
from dlc_assets.lab.cohorts import find_cohort
from dlc_assets.lab.errors import DlcAssetsError, InputError, NotFoundError
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.manifest import Manifest, read_manifest
from dlc_assets.lab.release_rules import rule_text
from dlc_assets.poses.selection import PoseFile
from dlc_assets.recordings.info import SessionInfo
from dlc_assets.training.models import ModelVersion, find_version


@dataclass(frozen=True)
class ChosenPoses:
    """The pose tables of one session by one model version, with their manifest."""

    version: ModelVersion
    manifest: Manifest
    files: list[PoseFile]


@dataclass
class Choice:
    """What a bundle will hold, who chose it (a sentence, and its record), and what a person should know of it."""

    poses: list[ChosenPoses]
    said: str
    record: dict[str, Any]
    notes: list[str] = field(default_factory=list)


def choose_poses(lab: Lab, session: SessionInfo, *, cohort: str | None = None, model: str | None = None) -> Choice:
    """Return the poses of *session* that are released, or those of *cohort*, or those of *model* (with a cohort: of both).

    Parameters
    ----------
    model
        ``name`` (its current version) or ``name@version``.

    Raises
    ------
    NotFoundError
        There is no such cohort, model or version, or it has no poses of this session.
    InputError
        Released poses are not there: they were never made, or the release rules contradict.
    """
    if cohort is not None:
        return _of_cohort(lab, session, cohort, model)
    if model is not None:
        return _of_model(lab, session, model)
    return _released(lab, session)


def _of_cohort(lab: Lab, session: SessionInfo, name: str, model: str | None) -> Choice:
    cohort = find_cohort(lab.layout, name)
    files = cohort_files(lab, cohort, [session.session], [model] if model is not None else [], [])
    chosen = []
    for of_model in dict.fromkeys(file.model for file in files):
        manifest = frozen_manifest(lab, cohort, session.session, of_model)
        if manifest is None:
            raise NotFoundError(
                f'the poses of {session.session} by {of_model} that the cohort "{name}" was frozen with are gone: restore them '
                "from a backup."
            )
        version = find_version(lab.layout, f"{of_model}@{cohort.sessions[session.session][of_model]}")
        chosen.append(ChosenPoses(version, manifest, [file for file in files if file.model == of_model]))
    record = {"cohort": name, "made": cohort.made, "by": cohort.by, "reason": cohort.reason}
    return Choice(chosen, f'the cohort "{name}", frozen {cohort.made}', record)


def _of_model(lab: Lab, session: SessionInfo, reference: str) -> Choice:
    version = find_version(lab.layout, reference)
    manifest = read_manifest(lab.layout.pose_folder(version.model, version.version, session.session))
    if manifest is None:
        raise NotFoundError(
            f"{session.session} has no poses by {version}. `dlc-assets analyze {session.session} --model {version.model}` makes "
            "those of the model's current version."
        )
    chosen = ChosenPoses(version, manifest, pose_files(lab, manifest))
    return Choice(
        [chosen], f"{version}, named by whoever made the bundle", {"model": str(version)}, _behind(lab, session, chosen)
    )


def _released(lab: Lab, session: SessionInfo) -> Choice:
    releases = releases_of(lab, session)
    if releases.waiting:
        raise InputError(f"{session.session}: {' '.join(releases.waiting.values())}")
    if not releases.versions:
        raise InputError(
            f"no release rule of lab.yaml covers a recording of {session.session}, so nothing is released for it. Release a model, "
            "or name one with --model, or a cohort with --cohort."
        )
    chosen = [
        _released_by(lab, session, version, releases.recordings[model]) for model, version in releases.versions.items()
    ]
    rules = _rules(lab, session, releases)
    notes = [note for poses in chosen for note in _behind(lab, session, poses)]
    if releases.uncovered:
        notes.append(f"no release rule covers {', '.join(releases.uncovered)}: the bundle has no poses of it")
    return Choice(chosen, f"the release rules of the lab: {'; '.join(rules)}", {"release": rules}, notes)


def _released_by(lab: Lab, session: SessionInfo, version: ModelVersion, recordings: Sequence[str]) -> ChosenPoses:
    manifest = read_manifest(lab.layout.pose_folder(version.model, version.version, session.session))
    files = [] if manifest is None else [file for file in pose_files(lab, manifest) if file.recording in recordings]
    missing = [name for name in recordings if name not in {file.recording for file in files}]
    if manifest is None or missing:
        raise InputError(
            f"{session.session} has no poses of {', '.join(missing)} by {version}, which is released for it. Run `dlc-assets analyze "
            f"{session.session}` first."
        )
    return ChosenPoses(version, manifest, files)


def _rules(lab: Lab, session: SessionInfo, releases: Releases) -> list[str]:
    covered = {name for names in releases.recordings.values() for name in names}
    rules = [rule_for(lab, session, session.recording(name)) for name in covered]
    return sorted({rule_text(rule) for rule in rules if rule is not None})


def _behind(lab: Lab, session: SessionInfo, chosen: ChosenPoses) -> list[str]:
    """Say what poses would be made from otherwise now; a bundle describes them as they were made."""
    manifest, version = chosen.manifest, chosen.version
    try:
        now = inputs_like(manifest, {**pose_inputs(lab, version.model, session), "model": manifest.inputs["model"]})
    except DlcAssetsError:
        return []
    changed = [name for name in sorted({*now, *manifest.inputs}) if now.get(name) != manifest.inputs.get(name)]
    if not changed:
        return []
    return [
        f"the poses by {version} would be made otherwise now ({', '.join(changed)}); the bundle has them as they were made"
    ]
