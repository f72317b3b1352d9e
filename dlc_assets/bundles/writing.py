"""Writing a bundle: one zip file with a session's poses and all that is needed to make them again, but for the videos."""

from __future__ import annotations

import hashlib
import json
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dlc_assets.bundles.choosing import ChosenPoses, choose_poses
from dlc_assets.bundles.content import MANIFEST, README, SESSION, Bundle, BundledMember, BundledPoses, BundledVideo
from dlc_assets.bundles.reading import read_bundle
from dlc_assets.bundles.readme import readme
from dlc_assets.bundles.software import installed, this_platform
from dlc_assets.bundles.tolerance import tolerances
from dlc_assets.inference.pose_tables import dynamic_cropping_of, imported_from
from dlc_assets.lab.cohorts import freezing
from dlc_assets.lab.errors import DlcAssetsError, InputError, SettingsError
from dlc_assets.lab.files import atomic_path
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.manifest import NAME as MODEL_MANIFEST
from dlc_assets.poses.selection import PoseFile
from dlc_assets.poses.table_file import PoseTableFile
from dlc_assets.recordings.info import RecordingInfo, SessionInfo, need_session_info
from dlc_assets.recordings.session_recordings import CONTAINER_CLOCK
from dlc_assets.training.card import card_text
from dlc_assets.training.models import ModelVersion

_BLOCK = 1 << 20
_SQUEEZED = {".txt", ".md", ".json", ".yaml", ".csv"}  # weights and Parquet hardly get smaller


@dataclass(frozen=True)
class Written:
    """A bundle that was written: where, what it says of itself, and its size in bytes."""

    path: Path
    bundle: Bundle
    bytes: int


def write_bundle(
    lab: Lab, session_key: str, *, cohort: str | None = None, model: str | None = None, output: Path | None = None
) -> Written:
    """Write the bundle of *session_key* with the poses that `choose_poses` chooses.

    Parameters
    ----------
    output
        The file; default: the store's place for it. A bundle of the same session that is there is replaced.

    Raises
    ------
    NotFoundError
        The session is not probed, or there is no such cohort, model or version, or it has no poses of this session.
    InputError
        Poses are not there, or a file of the model version is damaged.
    SettingsError
        *output* is something else.
    """
    path = output if output is not None else lab.layout.bundle(session_key)
    session, _ = need_session_info(lab.layout, session_key)
    _check_place(path, session_key)
    with freezing(lab.layout):  # no pose table is replaced meanwhile
        choice = choose_poses(lab, session, cohort=cohort, model=model)
        bundle = Bundle(
            session=session_key,
            made=datetime.now(UTC).isoformat(timespec="seconds"),
            chosen_by=choice.said,
            chosen=choice.record,
            software=installed(),
            platform=this_platform(),
            poses=[_described(session, chosen, file) for chosen in choice.poses for file in chosen.files],
            notes=[*choice.notes, *_notes(choice.poses)],
        )
        with atomic_path(path) as partial, zipfile.ZipFile(partial, "w") as archive:
            members = _Members(archive)
            members.add_text(README, readme(bundle))
            members.add_text(SESSION, _json(_without_places(lab, session)))
            for chosen in choice.poses:
                _add_poses(lab, members, chosen)
            for version, snapshot in _networks(choice.poses):
                _add_network(lab, members, version, snapshot)
            _add_times(lab, members, session, bundle)
            bundle.members = members.listed
            members.add_text(MANIFEST, bundle.model_dump_json(indent=2) + "\n")
    return Written(path, bundle, path.stat().st_size)


def _check_place(path: Path, session: str) -> None:
    """Refuse to write over what is no bundle of *session*."""
    if path.is_dir():
        raise SettingsError(f"{path} is a folder: name the file, such as {path / f'{session}.zip'}.")
    if not path.exists():
        return
    try:
        there = read_bundle(path).session
    except DlcAssetsError:
        there = None
    if there != session:
        what = "something else than a bundle" if there is None else f"the bundle of {there}"
        raise SettingsError(
            f"{path} exists and is {what}: it is not replaced by the bundle of {session}. Name another file with --output, or move "
            "this one away."
        )


class _Members:
    """Adds members to a zip file and lists them with their hashes."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._archive = archive
        self._now = time.localtime()[:6]
        self.listed: list[BundledMember] = []

    def add_text(self, name: str, text: str) -> None:
        data = text.encode()
        self._archive.writestr(self._entry(name, len(data)), data)
        self.listed.append(BundledMember(name=name, size=len(data), sha256=hashlib.sha256(data).hexdigest()))

    def add_file(self, name: str, path: Path) -> None:
        digest, size = hashlib.sha256(), 0
        with path.open("rb") as source, self._archive.open(self._entry(name, path.stat().st_size), "w") as target:
            while block := source.read(_BLOCK):
                digest.update(block)
                target.write(block)
                size += len(block)
        self.listed.append(BundledMember(name=name, size=size, sha256=digest.hexdigest()))

    def _entry(self, name: str, size: int) -> zipfile.ZipInfo:
        entry = zipfile.ZipInfo(name, self._now)
        entry.file_size = size  # tells the zip file whether it needs 64 bits for it
        entry.external_attr = 0o644 << 16
        squeezed = Path(name).suffix in _SQUEEZED
        entry.compress_type = zipfile.ZIP_DEFLATED if squeezed else zipfile.ZIP_STORED
        return entry


def _poses_folder(version: ModelVersion) -> str:
    return f"poses/{version}"


def _network_folder(version: ModelVersion) -> str:
    return f"models/{version}"


def _described(session: SessionInfo, chosen: ChosenPoses, file: PoseFile) -> BundledPoses:
    """Return what is stated of one pose table: what it says of itself counts, not what the lab would do now.

    Raises
    ------
    InputError
        The table is not the one that its manifest speaks of.
    """
    metadata = PoseTableFile.open(file.path).metadata
    row = next(row for row in chosen.manifest.details["recordings"] if row["recording"] == file.recording)
    if metadata.data_version != row["data_version"]:
        raise InputError(
            f"{file.path} is not the table that the manifest beside it speaks of: restore both from a backup, or estimate the poses "
            f"again with `dlc-assets analyze {file.session} --recompute`."
        )
    if imported_from(chosen.manifest) is not None:
        raise InputError(
            f"{file.path} was {metadata.origin}: it was not made here, so nobody could make it again from a bundle. Estimate the poses "
            f"with `dlc-assets analyze {file.session} --recompute` if the network runs here, or leave the session out."
        )
    if not metadata.video_files:
        raise InputError(
            f"{file.path} does not say which video it was made from, so nobody could make it again: estimate the poses with "
            f"`dlc-assets analyze {file.session} --recompute`."
        )
    crop = metadata.crop
    return BundledPoses(
        model=file.model,
        version=file.version,
        recording=file.recording,
        camera=metadata.device,
        table=f"{_poses_folder(chosen.version)}/{file.recording}.parquet",
        network=_network_folder(chosen.version),
        snapshot=_snapshot(chosen),
        dynamic_cropping=dynamic_cropping_of(chosen.manifest),
        frames=metadata.frame_count,
        videos=_videos(session, metadata.video_files, file.recording),
        crop=None if crop is None else (*crop["x"], *crop["y"]),
        clock=metadata.clock,
        times_from_video=metadata.clock == CONTAINER_CLOCK,
        time_start=metadata.time_start,
        pcutoff=metadata.pcutoff,
        tolerances=tolerances(metadata.pcutoff),
        inference=metadata.inference,
        software={name: str(number) for name, number in metadata.software.items()},
        overrides=chosen.manifest.overrides,
        data_version=metadata.data_version,
        created=metadata.created,
    )


def _snapshot(chosen: ChosenPoses) -> str | None:
    stated = chosen.manifest.details.get("inference", {}).get("snapshot")
    return None if stated in {None, "best"} else str(stated)


def _videos(session: SessionInfo, stated: Sequence[dict[str, str]], recording: str) -> list[BundledVideo]:
    """Return the videos that a table was made from; size and frames as they were probed, where the lab still knows this file."""
    now = _recording(session, recording)
    known = {} if now is None else {file.sha256: file for file in now.files}
    return [
        BundledVideo(
            name=video["name"],
            sha256=video["sha256"],
            size=known[video["sha256"]].size if video["sha256"] in known else None,
            frames=known[video["sha256"]].frame_count if video["sha256"] in known else None,
        )
        for video in stated
    ]


def _recording(session: SessionInfo, name: str) -> RecordingInfo | None:
    return next((recording for recording in session.recordings if recording.recording == name), None)


def _notes(poses: Sequence[ChosenPoses]) -> list[str]:
    return [
        f"the poses by {chosen.version} are custom: their run stated {chosen.manifest.overrides}"
        for chosen in poses
        if chosen.manifest.custom
    ]


def _add_poses(lab: Lab, members: _Members, chosen: ChosenPoses) -> None:
    folder = _poses_folder(chosen.version)
    for file in chosen.files:
        members.add_file(f"{folder}/{file.recording}.parquet", file.path)
    members.add_text(f"{folder}/manifest.json", _json(_in_the_lab(lab, chosen.manifest.model_dump(mode="json"))))


def _networks(poses: Sequence[ChosenPoses]) -> list[tuple[ModelVersion, str | None]]:
    return [(chosen.version, _snapshot(chosen)) for chosen in poses]


def _add_network(lab: Lab, members: _Members, version: ModelVersion, snapshot: str | None) -> None:
    """Add a model version such that `ModelVersion` opens its folder; its picture of frames stays out, as videos do."""
    folder = _network_folder(version)
    used = version.snapshot_file(snapshot)  # refuses what is damaged
    best = version.snapshot_file(None)
    for path in dict.fromkeys(
        (best, used, version.pytorch_config, *([version.detector] if version.detector is not None else []))
    ):
        members.add_file(f"{folder}/{path.relative_to(version.folder).as_posix()}", path)
    members.add_text(f"{folder}/{MODEL_MANIFEST}", _json(_in_the_lab(lab, version.manifest.model_dump(mode="json"))))
    card = lab.layout.model_card(version.model, version.version)
    if card.is_file():
        members.add_text(f"{folder}/{card.name}", _in_the_lab(lab, card_text(card)))


def _add_times(lab: Lab, members: _Members, session: SessionInfo, bundle: Bundle) -> None:
    """Add the times of the frames as they were probed, of recordings whose videos are still those of the poses."""
    for name in bundle.recordings():
        recording = _recording(session, name)
        of = [poses for poses in bundle.poses if poses.recording == name]
        if recording is not None and all(
            [v.sha256 for v in p.videos] == [f.sha256 for f in recording.files] for p in of
        ):
            path = lab.layout.recording_times(session.session, name)
            members.add_file(f"recordings/{path.name}", path)


def _without_places(lab: Lab, session: SessionInfo) -> Any:
    """Return what is known of a session, each video by its name alone."""
    stated = session.model_dump(mode="json")
    files = [file for r in session.recordings for file in (*r.files, *r.times_files)]
    folders = {str(file.resolve(lab.root).parent) for file in files}
    for recording in stated["recordings"]:
        for file in (*recording["files"], *recording["times_files"]):
            file["path"] = Path(file["path"]).name
    return _without(stated, [*sorted(folders, key=len, reverse=True), str(lab.root)])


def _in_the_lab(lab: Lab, obj: Any) -> Any:
    """Return *obj* with paths as they are in the lab, wherever it lies."""
    return _without(obj, [str(lab.root)])


def _without(obj: Any, folders: Sequence[str]) -> Any:
    """Return *obj* with the names of *folders* cut off from the paths in its texts."""
    if isinstance(obj, dict):
        return {name: _without(value, folders) for name, value in obj.items()}
    if isinstance(obj, list):
        return [_without(value, folders) for value in obj]
    if isinstance(obj, str):
        for folder in folders:
            obj = obj.replace(f"{folder}/", "")
    return obj


def _json(obj: Any) -> str:
    return json.dumps(obj, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
