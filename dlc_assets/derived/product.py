"""Making a product from one pose table: its lock, what it is made from, its place in the store; what it is, its own module says."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dlc_assets.inference.pose_tables import pose_files, wanted_version
from dlc_assets.lab.errors import NotFoundError
from dlc_assets.lab.files import saying_when_full
from dlc_assets.lab.keys import pose_key
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.locks import hold
from dlc_assets.lab.manifest import Manifest, read_manifest
from dlc_assets.poses.selection import PoseFile
from dlc_assets.recordings.info import SessionInfo, need_session_info
from dlc_assets.training.models import ModelVersion, find_version


def _nothing_above(_lab: Lab) -> tuple[str, ...]:
    return ()


@dataclass(frozen=True)
class DerivedKind:
    """One kind of product that is made from pose tables, a partition [model|session].

    Attributes
    ----------
    asset
        Its asset's name.
    inputs
        Gives the hashes that it is made from: of a lab, a session, and the manifest of its pose table. Those of the pose table itself
        are ``{"poses": manifest.data_version}``; its own settings and the rig belong here.
    auto
        Says whether a lab wants it made by itself of every released pose table.
    above
        Names the other derived assets that it is made from in a lab, and that must be up to date before it.
    """

    asset: str
    inputs: Callable[[Lab, SessionInfo, Manifest], dict[str, str]]
    auto: Callable[[Lab], bool]
    above: Callable[[Lab], tuple[str, ...]] = _nothing_above


@dataclass(frozen=True)
class DerivedTask:
    """What a product is made from: one session, its pose table by one model version, and what a run states itself."""

    lab: Lab
    version: ModelVersion
    session: SessionInfo
    poses: Manifest
    overrides: Mapping[str, Any]
    log: Callable[[str], None]

    @property
    def model(self) -> str:
        return self.version.model

    @property
    def files(self) -> list[PoseFile]:
        """The files of the pose table, one a recording."""
        return pose_files(self.lab, self.poses)

    def above(self, asset: str) -> Manifest:
        """Return the manifest of the other product (*asset*) of the same pose table.

        Raises
        ------
        NotFoundError
            It is not made, or it was made from other poses.
        """
        found = derived_manifest(self.lab, asset, self.model, self.version.version, self.session.session)
        if found is None or found.inputs.get("poses") != self.poses.data_version:
            why = "is not made yet" if found is None else "was made from other poses than those that are there now"
            raise NotFoundError(
                f"{self.session.session}: its {asset} by {self.version} {why}. Materialize {asset} for it first, or run "
                f"`dlc-assets review {self.session.session}`."
            )
        return found


@dataclass(frozen=True)
class Built:
    """What was put into a product's folder: its content hash, what the manifest is to say of it, and what a person should know."""

    data_version: str
    details: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def make_derived(
    lab: Lab,
    kind: DerivedKind,
    model: str,
    session_key: str,
    *,
    overrides: Mapping[str, Any],
    recompute: bool,
    run_id: str,
    log: Callable[[str], None],
    build: Callable[[DerivedTask, Path], Built],
) -> tuple[Manifest, bool]:
    """Make the product of *kind* from the pose table of (*model*, *session_key*).

    Parameters
    ----------
    overrides
        A run's own settings: ``version`` (of the model, in the place of the released or current one), and those of the kind, which make
        the product "custom".
    recompute
        Make it even though it is up to date.
    build
        Fills an empty folder with the product's files.

    Returns
    -------
    tuple
        The manifest, and whether something was made now (False: it was up to date).

    Raises
    ------
    NotFoundError
        There is no such pose table, or something else that it is made from is not there.
    """
    layout = lab.layout
    with hold(layout.lock(kind.asset, pose_key(model, session_key)), f"{kind.asset} of {session_key}", log=log):
        session, _ = need_session_info(layout, session_key)
        version = _version(lab, model, session, overrides.get("version"))
        poses = read_manifest(layout.pose_folder(model, version.version, session_key))
        if poses is None:
            raise NotFoundError(
                f"{session_key} has no poses by {version} yet: materialize pose_table for it, or run `dlc-assets analyze {session_key}`."
            )
        own = {name: value for name, value in overrides.items() if name != "version"}
        manifest = Manifest(
            asset=kind.asset,
            key=pose_key(model, session_key),
            inputs=kind.inputs(lab, session, poses),
            overrides=own,
            data_version="",
            run_id=run_id,
        )
        folder = layout.derived_folder(kind.asset, model, version.version, session_key)
        existing = read_manifest(folder)
        if existing is not None and not recompute and existing.input_hash == manifest.input_hash:
            log(f"{session_key}: its {kind.asset} by {version} is up to date")
            return existing, False
        work = layout.derived_work(kind.asset, model, version.version, session_key)
        shutil.rmtree(work, ignore_errors=True)
        try:
            with saying_when_full(work):
                work.mkdir(parents=True)
                built = build(DerivedTask(lab, version, session, poses, own, log), work)
            manifest.data_version = built.data_version
            manifest.details = {
                "model": model,
                "version": version.version,
                "session": session_key,
                "files": sorted(path.relative_to(work).as_posix() for path in work.rglob("*") if path.is_file()),
                **built.details,
            }
            manifest.problems = built.problems
            _put_in_place(work, folder, manifest)
        finally:
            shutil.rmtree(work, ignore_errors=True)
        return manifest, True


def _version(lab: Lab, model: str, session: SessionInfo, stated: str | None) -> ModelVersion:
    return find_version(lab.layout, f"{model}@{stated}") if stated else wanted_version(lab, model, session)


def _put_in_place(work: Path, folder: Path, manifest: Manifest) -> None:
    """Move the files of *work* to *folder*, in the place of all that was there; the manifest comes last."""
    with saying_when_full(folder):
        folder.mkdir(parents=True, exist_ok=True)
        # Without a manifest it does not exist, so that nobody takes a half of the old files and a half of the new for one product.
        (folder / "manifest.json").unlink(missing_ok=True)
        names = set(manifest.details["files"])
        for path in [path for path in folder.rglob("*") if path.is_file()]:
            if path.relative_to(folder).as_posix() not in names:
                path.unlink()
        for name in sorted(names):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (work / name).replace(folder / name)
        manifest.write(folder)


def derived_manifest(lab: Lab, asset: str, model: str, version: str, session: str) -> Manifest | None:
    """Return the manifest of a product, None where it was never made."""
    return read_manifest(lab.layout.derived_folder(asset, model, version, session))


def latest_derived_manifest(lab: Lab, asset: str, model: str, session: str) -> Manifest | None:
    """Return the manifest of the newest product of (*model*, *session*), from the poses of whichever version."""
    found = [
        manifest
        for folder in lab.layout.derived(asset).glob(f"model={model}/version=*/session={session}")
        if (manifest := read_manifest(folder)) is not None
    ]
    return max(found, key=lambda manifest: manifest.made, default=None)


def derived_files(lab: Lab, manifest: Manifest) -> list[Path]:
    """Return the files of a product, but for its manifest."""
    details = manifest.details
    folder = lab.layout.derived_folder(manifest.asset, details["model"], details["version"], details["session"])
    return [folder / name for name in details["files"]]
