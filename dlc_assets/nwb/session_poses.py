"""Which poses go into a session's NWB file, and how each of their tables is described to the writer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata as distributions
from pathlib import Path
from typing import Any

from dlc_assets.derived.filtered_poses import ASSET as FILTERED
from dlc_assets.derived.filtered_poses import filtered_cohort_files, filtered_pose_file
from dlc_assets.derived.product import derived_manifest
from dlc_assets.engine.workspace import read_pytorch_config
from dlc_assets.inference.frozen_poses import frozen_files, frozen_manifest
from dlc_assets.inference.pose_tables import latest_pose_manifest, pose_files, pose_manifest
from dlc_assets.inference.releases import Releases, releases_of
from dlc_assets.lab.cohorts import Cohort
from dlc_assets.lab.errors import DlcAssetsError, NotFoundError, did_you_mean
from dlc_assets.lab.files import content_hash
from dlc_assets.lab.filter_settings import steps_from
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.manifest import Manifest, read_manifest
from dlc_assets.nwb.confidence import confidence_definition
from dlc_assets.nwb.description import RecordingPoses
from dlc_assets.nwb.frame_times import FrameTimes
from dlc_assets.nwb.lab_description import described_device
from dlc_assets.nwb.labeled_videos import labeled_videos
from dlc_assets.nwb.training_frames import training_frames
from dlc_assets.poses.schema import PoseMetadata
from dlc_assets.poses.selection import PoseFile
from dlc_assets.poses.table_file import PoseTableFile
from dlc_assets.recordings.info import SessionInfo
from dlc_assets.training.models import ModelVersion, find_version

# What had a hand in the file, by the names of the distributions.
_PACKAGES = ("dlc-assets", "deeplabcut", "torch", "numpy", "pyarrow", "pynwb", "hdmf", "ndx-pose", "h5py")


def released_poses(lab: Lab, session: SessionInfo, releases: Releases | None = None) -> dict[str, Manifest]:
    """Return the manifest of the pose table of each model that is released for *session* and has analysed it."""
    found = {}
    releases = releases or releases_of(lab, session)
    for model in releases.versions:
        manifest = pose_manifest(lab, model, session, releases)
        if manifest is not None:
            found[model] = manifest
    return found


def frozen_poses(lab: Lab, cohort: Cohort, session_key: str) -> dict[str, Manifest]:
    """Return the manifest of the pose table of each model that *cohort* has of a session.

    Raises
    ------
    NotFoundError
        The session is not in the cohort, or its poses are not there any more.
    """
    pinned = cohort.sessions.get(session_key)
    if pinned is None:
        raise NotFoundError(
            f'the session {session_key} is not in the cohort "{cohort.name}".{did_you_mean(session_key, cohort.sessions)} '
            f"`dlc-assets cohorts {cohort.name}` lists its sessions."
        )
    found = {}
    for model, version in pinned.items():
        manifest = frozen_manifest(lab, cohort, session_key, model)
        if manifest is None:
            raise NotFoundError(
                f'the poses of {session_key} by {model}@{version} that the cohort "{cohort.name}" was frozen with are not there: '
                "restore them from a backup."
            )
        found[model] = manifest
    return found


@dataclass(frozen=True)
class ChosenPoses:
    """The pose tables that go into a file: their manifests by model (with its version where a model has several), and their files."""

    manifests: Mapping[str, Manifest]
    files: Sequence[PoseFile]
    filtered: Sequence[PoseFile] = ()
    left_out: Sequence[str] = ()

    @property
    def tables(self) -> dict[str, str]:
        """The data versions of all that goes into the file, by model, and by model and recording of filtered poses."""
        filtered = {
            f"{file.model}@{file.version} {file.recording}, filtered": _data_version(file) for file in self.filtered
        }
        return {**{model: found.data_version for model, found in self.manifests.items()}, **filtered}


def _data_version(file: PoseFile) -> str:
    return PoseTableFile.open(file.located()).metadata.data_version


def chosen_poses(lab: Lab, session: SessionInfo, cohort: Cohort | None, models: Sequence[str] | None) -> ChosenPoses:
    """Return the poses of *session* that go into its file: those of *cohort*, those by *models*, or the released ones.

    Filtered poses stand beside them as `nwb.filtered` of lab.yaml says; what is left out, because it is not made, is said.

    Raises
    ------
    NotFoundError
        There are no such poses.
    """
    chosen = _unfiltered(lab, session, cohort, models)
    if not lab.settings.nwb.filtered:
        return chosen
    if cohort is not None:
        try:
            return replace(chosen, filtered=filtered_cohort_files(lab, cohort, chosen.files))
        except DlcAssetsError as error:
            return replace(chosen, left_out=[f"filtered poses are left out: {error}"])
    if lab.settings.filters is None:
        return chosen
    pairs = [(file, filtered_pose_file(lab, file)) for file in chosen.files]
    absent = sorted({f"{file.model}@{file.version}" for file, filtered in pairs if filtered is None})
    if not lab.settings.review.auto:  # they are made where somebody wants them
        absent = []
    left_out = [
        f"filtered poses by {name} are left out: they are not made (`dlc-assets review` does)" for name in absent
    ]
    return replace(chosen, filtered=[filtered for _, filtered in pairs if filtered is not None], left_out=left_out)


def filtered_hashes(lab: Lab, poses: Mapping[str, Manifest]) -> dict[str, str]:
    """Return the filtered tables of released *poses* as an input of a session's file; nothing where none belong into it."""
    if not lab.settings.nwb.filtered or lab.settings.filters is None:
        return {}
    found = {}
    for model, table in poses.items():
        details = table.details
        made = derived_manifest(lab, FILTERED, model, details["version"], details["session"])
        found[model] = made.data_version if made is not None and made.inputs["poses"] == table.data_version else None
    return {"filtered": content_hash(found)}


def _unfiltered(lab: Lab, session: SessionInfo, cohort: Cohort | None, models: Sequence[str] | None) -> ChosenPoses:
    if cohort is not None:
        return ChosenPoses(frozen_poses(lab, cohort, session.session), _frozen_files(lab, session, cohort))
    if not models:
        poses = released_poses(lab, session)
        return ChosenPoses(poses, _released_files(lab, session, poses))
    manifests: dict[str, Manifest] = {}
    for reference in models:
        name, _, pinned = reference.partition("@")
        version = find_version(lab.layout, reference)
        manifest = read_manifest(lab.layout.pose_folder(version.model, version.version, session.session))
        if manifest is None and not pinned:
            manifest = latest_pose_manifest(lab, name, session.session)
        if manifest is None:
            raise NotFoundError(
                f"{session.session} has no poses by {version}: run `dlc-assets analyze {session.session} --model {name}`."
            )
        made_by = manifest.details["version"]
        manifests[name if name not in manifests else f"{name}@{made_by}"] = manifest
    files = [file for manifest in manifests.values() for file in pose_files(lab, manifest)]
    return ChosenPoses(manifests, files)


def _released_files(lab: Lab, session: SessionInfo, poses: Mapping[str, Manifest]) -> list[PoseFile]:
    released = releases_of(lab, session).recordings  # a table that is behind may still hold what is another model's now
    files = [
        file
        for model, manifest in poses.items()
        for file in pose_files(lab, manifest)
        if file.recording in released.get(model, ())
    ]
    if not files:
        raise NotFoundError(
            f"{session.session} has no pose table of a released model: add a release rule to lab.yaml if none covers its "
            f"cameras, and run `dlc-assets analyze {session.session}`."
        )
    return files


def _frozen_files(lab: Lab, session: SessionInfo, cohort: Cohort) -> list[PoseFile]:
    return [
        file for model in cohort.sessions[session.session] for file in frozen_files(lab, cohort, session.session, model)
    ]


def recordings_to_write(lab: Lab, session: SessionInfo, chosen: ChosenPoses, run_id: str) -> list[RecordingPoses]:
    """Return the poses as they are written, in the order of the recordings, filtered ones last of each; nothing is read yet."""
    versions: dict[str, set[str]] = {}
    for file in chosen.files:
        versions.setdefault(file.model, set()).add(file.version)
    filtered = {_task(file): file for file in chosen.filtered}
    videos = labeled_videos(lab, chosen.manifests)
    found = []
    for file in sorted(chosen.files, key=_task):
        several = len(versions[file.model]) > 1
        raw = _recording_poses(lab, session, file, run_id, several_versions=several)
        found.append(replace(raw, labeled_video=videos.get((*_task(file), False))))
        if (after := filtered.get(_task(file))) is not None:
            found.append(replace(_filtered(raw, after), labeled_video=videos.get((*_task(file), True))))
    return found


def _task(file: PoseFile) -> tuple[str, str, str]:
    return file.recording, file.model, file.version


def _filtered(raw: RecordingPoses, file: PoseFile) -> RecordingPoses:
    """Return the poses of *raw* after the filters whose result *file* is."""
    table = PoseTableFile.open(file.located())
    steps = table.metadata.filters or []
    return replace(
        raw,
        times=FrameTimes(table.metadata.frame_count, table.time_blocks),
        tracks=table.streams(),
        filters=", ".join(step.words for step in steps_from([_parameters(step) for step in steps])),
        labeled_frames=(),
        data_version=table.metadata.data_version,
        provenance={**raw.provenance, "filters": steps},
    )


def _parameters(step: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in step.items() if name != "tracks"}


def _recording_poses(
    lab: Lab, session: SessionInfo, file: PoseFile, run_id: str, *, several_versions: bool
) -> RecordingPoses:
    recording = session.recording(file.recording)
    table = PoseTableFile.open(file.path)
    metadata = table.metadata
    made_by = _version_of(lab, metadata)
    return RecordingPoses(
        recording=recording.recording,
        model=f"{metadata.model}-{metadata.version}" if several_versions else metadata.model,
        device=described_device(lab, recording),
        video_files=tuple(part.resolve(lab.root) for part in recording.files),
        part_frame_counts=tuple(part.frame_count for part in recording.files),
        width=recording.width,
        height=recording.height,
        times=FrameTimes(metadata.frame_count, table.time_blocks),
        rate=recording.fraction if recording.regular else None,
        tracks=table.streams(),
        scorer=metadata.scorer or metadata.model,
        software_version=str(metadata.software.get("deeplabcut", "")) or None,
        skeleton=tuple((edge[0], edge[1]) for edge in metadata.skeleton),
        confidence_definition=_confidence_of(made_by),
        labeled_frames=training_frames(lab, session, recording, made_by)
        if made_by is not None and lab.settings.nwb.training_frames
        else (),
        crop=None if metadata.crop is None else (*metadata.crop["x"], *metadata.crop["y"]),
        data_version=metadata.data_version,
        provenance={
            "model": metadata.model,
            "version": metadata.version,
            "snapshot_sha256": None if made_by is None else made_by.card.get("sha256"),
            "specification": None if made_by is None else made_by.card.get("specification"),
            "videos": metadata.video_files,
            "times": [{"name": Path(times.path).name, "sha256": times.sha256} for times in recording.times_files],
            "clock": metadata.clock,
            "crop": metadata.crop,
            "software": metadata.software,
            "packages": _package_versions(),
            "inference": metadata.inference,
            "pose_data_version": metadata.data_version,
            "runs": {"export": run_id, "poses": _run_of(file.path)},
        },
    )


def _version_of(lab: Lab, metadata: PoseMetadata) -> ModelVersion | None:
    """Return the model version that made the poses, None where it is not there any more or never was."""
    try:
        return find_version(lab.layout, f"{metadata.model}@{metadata.version}")
    except DlcAssetsError:
        return None


def _confidence_of(version: ModelVersion | None) -> str | None:
    """Return what the likelihoods of *version* are, None where its configuration is not there to say it."""
    if version is None or not version.pytorch_config.is_file():
        return None
    return confidence_definition(read_pytorch_config(version.pytorch_config))


def _run_of(pose_file: Path) -> str:
    """Return the Dagster run that made a pose table, empty where none is known."""
    manifest = read_manifest(pose_file.parent)
    return manifest.run_id if manifest is not None else ""


def _package_versions() -> dict[str, str]:
    """Return the versions of the packages that write the file."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = distributions.version(package)
        except distributions.PackageNotFoundError:  # run from a checkout that is not installed
            continue
    return found
