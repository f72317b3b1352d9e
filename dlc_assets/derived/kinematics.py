"""The product `kinematics`: what is measured of the poses of one session, a file a recording."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dlc_assets.derived.filtered_poses import ASSET as FILTERED
from dlc_assets.derived.filtered_poses import filter_inputs, filtered_pose_files
from dlc_assets.derived.kinematics_file import MeasuredFile, MeasuredRig, measure_file
from dlc_assets.derived.product import Built, DerivedKind, DerivedTask, make_derived
from dlc_assets.derived.region_geometry import share_within
from dlc_assets.lab.errors import NotFoundError, SettingsError, did_you_mean
from dlc_assets.lab.files import content_hash
from dlc_assets.lab.kinematics_settings import KinematicsSettings
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.manifest import Manifest
from dlc_assets.poses.selection import PoseFile
from dlc_assets.poses.table_file import PoseTableFile, quoted
from dlc_assets.recordings.info import RecordingInfo, SessionInfo
from dlc_assets.recordings.setups import setup_of
from dlc_assets.review.camera import CameraShift, camera_hashes, camera_shift
from dlc_assets.training.models import current_version, trained_models

ASSET = "kinematics"
SHARE_WITHIN = 0.5  # of a region that must lie in the picture; less is a region of another camera, or of another size


def measures_filtered(lab: Lab) -> bool:
    """Say whether the lab's kinematics are of filtered poses."""
    return lab.settings.kinematics.source == "filtered" and lab.settings.filters is not None


def kinematics_inputs(lab: Lab, session: SessionInfo, poses: Manifest) -> dict[str, str]:
    """Return the hashes that kinematics are made from: poses, filters, settings, and the recordings' rigs."""
    recordings = _recordings(session, poses)
    rigs = {name: _rig(lab, session, recording).words for name, recording in recordings.items()}
    cameras: dict[str, str] = {}
    for recording in recordings.values():
        if _needs_the_camera(rigs[recording.recording]):
            cameras |= camera_hashes(lab, session, recording)
    filtered = measures_filtered(lab)
    return {
        "poses": poses.data_version,
        "source": f"filtered {filters_input(filter_inputs(lab, session, poses))}" if filtered else "raw",
        "kinematics": lab.settings.kinematics.hash,
        "rig": content_hash(rigs),
        **cameras,
    }


def filters_input(inputs: Mapping[str, str]) -> str:
    """Return what of a filtered table's *inputs* is of the filters: the steps and what they need of the rig."""
    return content_hash({name: value for name, value in inputs.items() if name != "poses"})


def _wanted(lab: Lab) -> bool:
    return lab.settings.review.auto


def _above(lab: Lab) -> tuple[str, ...]:
    return (FILTERED,) if measures_filtered(lab) else ()


KIND = DerivedKind(ASSET, inputs=kinematics_inputs, auto=_wanted, above=_above)


def measure_session(
    lab: Lab,
    model: str,
    session: str,
    *,
    overrides: Mapping[str, Any],
    recompute: bool,
    run_id: str,
    log: Callable[[str], None],
) -> tuple[Manifest, bool]:
    """Make the kinematics of (*model*, *session*); arguments and result as of `product.make_derived`.

    ``source`` among *overrides* is ``filtered`` or ``raw``, in the place of lab.yaml's ``kinematics.from``.

    Raises
    ------
    SettingsError
        A body part that no model has, a region outside of the picture, or measures that would have one name.
    NotFoundError
        There are no poses, or they are not filtered as lab.yaml says.
    """
    source = overrides.get("source")
    if source not in {None, "filtered", "raw"}:
        raise SettingsError(f'source: expected filtered or raw, got "{source}".')
    return make_derived(
        lab, KIND, model, session, overrides=overrides, recompute=recompute, run_id=run_id, log=log, build=_build
    )


def _build(task: DerivedTask, folder: Path) -> Built:
    lab, settings = task.lab, task.lab.settings.kinematics
    stated = task.overrides.get("source")
    filtered = measures_filtered(lab) if stated is None else stated == "filtered"
    files, of_filtered = _filtered_files(task) if filtered else (task.files, None)
    problems = _unknown_names(lab, settings, files)
    recordings = _recordings(task.session, task.poses)
    rows, columns = [], dict[str, None]()
    for file in files:
        rig = _rig_with_camera(task, recordings.get(file.recording))
        done = measure_file(file.path, folder / file.path.name, settings, rig, filtered=filtered)
        problems += [f"{file.recording}: {problem}" for problem in done.problems]
        rows.append(_row(done))
        columns |= dict.fromkeys(done.columns)
        task.log(f"{task.session.session}, {file.recording}: {done.metadata.frame_count} frames measured")
    for problem in problems:
        task.log(f"{task.session.session}, {problem}")
    return Built(
        data_version=content_hash({row["recording"]: row["data_version"] for row in rows}),
        details={
            "source": "filtered" if filtered else "raw",
            "settings": settings.model_dump(mode="json", by_alias=True),
            "filtered_poses": None if of_filtered is None else of_filtered.data_version,
            "filters_hash": None if of_filtered is None else of_filtered.details["filters_hash"],
            "recordings": rows,
            "columns": list(columns),
            "frames": sum(row["frames"] for row in rows),
            "rows": sum(row["rows"] for row in rows),
        },
        problems=problems,
    )


def _row(done: MeasuredFile) -> dict[str, Any]:
    of = done.metadata
    return {
        "recording": of.recording,
        "device": of.device,
        "frames": of.frame_count,
        "rows": done.rows,
        "data_version": of.data_version,
        "px_per_cm": of.px_per_cm,
        "regions": of.regions,
        "camera": of.camera,
        "withheld": of.withheld,
        "individuals": done.summaries,
        "known": of.known,
    }


def _filtered_files(task: DerivedTask) -> tuple[list[PoseFile], Manifest]:
    manifest = task.above(FILTERED)
    if manifest.inputs != filter_inputs(task.lab, task.session, task.poses):
        raise NotFoundError(
            f"{task.session.session}: its poses by {task.version} were filtered with other steps than lab.yaml states now. Materialize "
            f"{FILTERED} for it first, or run `dlc-assets review {task.session.session}`."
        )
    return filtered_pose_files(task.lab, manifest), manifest


def _recordings(session: SessionInfo, poses: Manifest) -> dict[str, RecordingInfo]:
    """Return the recordings of a pose table by name; one that the session has no more is not among them."""
    names = {row["recording"] for row in poses.details["recordings"]}
    return {recording.recording: recording for recording in session.recordings if recording.recording in names}


def _rig(lab: Lab, session: SessionInfo, recording: RecordingInfo) -> MeasuredRig:
    setup = setup_of(lab, session, recording)
    return MeasuredRig(setup.px_per_cm, setup.regions)


def _needs_the_camera(words: Mapping[str, Any]) -> bool:
    return bool(words["px_per_cm"] is not None or words["regions"])


def _rig_with_camera(task: DerivedTask, recording: RecordingInfo | None) -> MeasuredRig:
    """Return the rig of *recording*, and what is withheld where its camera moved.

    Raises
    ------
    SettingsError
        A region lies outside of the picture.
    """
    if recording is None:
        return MeasuredRig()
    rig = _rig(task.lab, task.session, recording)
    for name, region in rig.regions.items():
        share = share_within(region, recording.width, recording.height)
        if share < SHARE_WITHIN:
            raise SettingsError(
                f'{task.session.session}: the region "{name}" (setups.{recording.device}.regions in lab.yaml, or '
                f"recordings.{recording.recording}.regions in session.yaml) lies "
                f"{'outside of' if share == 0 else f'with only {share:.0%} of its area in'} the picture of {recording.recording}, which "
                f"is {recording.width}x{recording.height} px. Regions are in px of the full upright frame."
            )
    shift = _camera(task, recording) if _needs_the_camera(rig.words) else None
    if shift is None:
        return rig
    said = shift.sentence.removeprefix(f"{recording.recording}: ")
    withheld = None
    if shift.moved:
        withheld = f"{said}; nothing is said in cm and of regions."
    return MeasuredRig(rig.px_per_cm, rig.regions, camera=said, withheld=withheld)


def _camera(task: DerivedTask, recording: RecordingInfo) -> CameraShift | None:
    return camera_shift(task.lab, task.session, recording)


def _unknown_names(lab: Lab, settings: KinematicsSettings, files: list[PoseFile]) -> list[str]:
    """Say which body parts of *settings* this model does not have; a name that no model of the lab has is an error."""
    parts = list(dict.fromkeys(part for file in files for part in PoseTableFile.open(file.path).bodyparts))
    unknown = list(dict.fromkeys((key, name) for key, name in settings.named if name not in parts))
    if not unknown:
        return []
    elsewhere = {
        part
        for model in trained_models(lab.layout)
        if (version := current_version(lab.layout, model)) is not None
        for part in version.card.get("bodyparts", ())
    }
    for key, name in unknown:
        if name not in elsewhere:
            raise SettingsError(
                f'{lab.layout.settings_file}: kinematics.{key}: the model {files[0].model} has no body part "{name}".'
                f"{did_you_mean(name, parts)} It has: {quoted(parts)}."
            )
    return [
        f'kinematics.{key}: the model {files[0].model} has no body part "{name}", as another model has; what needs it is left out.'
        for key, name in unknown
    ]
