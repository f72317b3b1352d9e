"""The product `filtered_pose_table`: the poses of one session after the lab's filters, and how such poses are read."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from dlc_assets.derived.filtered_files import filter_file
from dlc_assets.derived.product import Built, DerivedKind, DerivedTask, derived_manifest, make_derived
from dlc_assets.inference.filters_in_force import frozen_filters
from dlc_assets.inference.frozen_poses import frozen_manifest
from dlc_assets.lab.cohorts import Cohort
from dlc_assets.lab.errors import DlcAssetsError, NotFoundError, SettingsError
from dlc_assets.lab.files import content_hash
from dlc_assets.lab.filter_settings import ALGORITHM, Steps, filters_hash, steps_from
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.manifest import Manifest, read_manifest
from dlc_assets.poses.selection import PoseFile
from dlc_assets.recordings.filter_rigs import FilterRig, filter_rigs
from dlc_assets.recordings.info import SessionInfo

ASSET = "filtered_pose_table"
_LISTED = 10


def filter_inputs(lab: Lab, session: SessionInfo, poses: Manifest) -> dict[str, str]:
    """Return the hashes that the filtered table is made from: the poses, the steps, and what these need of the recordings' rigs."""
    steps = lab.settings.filters
    named = {"poses": poses.data_version, "filters": filters_hash(steps)}
    if steps is None:
        return named
    rigs = filter_rigs(lab, session, [row["recording"] for row in poses.details["recordings"]], steps)
    return {**named, **_rig_input(rigs)}


def _rig_input(rigs: Mapping[str, FilterRig]) -> dict[str, str]:
    stated = {name: rig.words for name, rig in rigs.items() if rig != FilterRig()}
    return {"rig": content_hash(stated)} if stated else {}


def wants_filters(lab: Lab) -> bool:
    """Say whether the lab wants filtered tables made by themselves."""
    return lab.settings.review.auto and lab.settings.filters is not None


KIND = DerivedKind(ASSET, inputs=filter_inputs, auto=wants_filters)


def filter_session(
    lab: Lab,
    model: str,
    session: str,
    *,
    overrides: Mapping[str, Any],
    recompute: bool,
    run_id: str,
    log: Callable[[str], None],
) -> tuple[Manifest, bool]:
    """Make the filtered table of (*model*, *session*); arguments and result as of `product.make_derived`.

    Raises
    ------
    SettingsError
        lab.yaml says ``filters: none``.
    NotFoundError
        There are no poses to filter.
    """
    _steps_of(lab)
    return make_derived(
        lab,
        KIND,
        model,
        session,
        overrides=overrides,
        recompute=recompute,
        run_id=run_id,
        log=log,
        build=_build,
    )


def _steps_of(lab: Lab) -> Steps:
    steps = lab.settings.filters
    if steps is None:
        raise SettingsError(
            f"{lab.layout.settings_file} says filters: none, so that no poses are filtered. State the steps there, or take the "
            "line out for the default ones."
        )
    return steps


def _build(task: DerivedTask, folder: Path) -> Built:
    steps = _steps_of(task.lab)
    rigs = filter_rigs(task.lab, task.session, [file.recording for file in task.files], steps)
    rows, problems = [], []
    for file in task.files:
        done = filter_file(file.path, folder / file.path.name, steps, rigs[file.recording])
        problems += [f"{file.recording}: {problem}" for problem in done.problems]
        rows.append(
            {
                "recording": file.recording,
                "device": done.metadata.device,
                "frames": done.metadata.frame_count,
                "rows": done.rows,
                "data_version": done.data_version,
                "points": done.points,
                "steps": done.steps,
                "spans": done.spans,
            }
        )
        task.log(f"{task.session.session}, {file.recording}: {done.metadata.frame_count} frames filtered")
    for problem in problems:
        task.log(f"{task.session.session}, {problem}")
    named = [step.parameters for step in steps]
    return Built(
        data_version=content_hash({"poses": {row["recording"]: row["data_version"] for row in rows}, "steps": named}),
        details={
            "filters": named,
            "filters_hash": filters_hash(steps),
            "recordings": rows,
            "frames": sum(row["frames"] for row in rows),
            "rows": sum(row["rows"] for row in rows),
        },
        problems=problems,
    )


def filtered_pose_files(lab: Lab, manifest: Manifest) -> list[PoseFile]:
    """Return the files of the filtered table of *manifest*, one a recording."""
    details = manifest.details
    model, version, session = (details[name] for name in ("model", "version", "session"))
    folder = lab.layout.derived_folder(ASSET, model, version, session)
    return [
        PoseFile(folder / f"{row['recording']}.parquet", model, version, session, row["recording"])
        for row in details["recordings"]
    ]


def filtered_pose_file(lab: Lab, file: PoseFile) -> PoseFile | None:
    """Return the filtered poses of one pose table's *file*; None where they are not made, or from other poses."""
    manifest = derived_manifest(lab, ASSET, file.model, file.version, file.session)
    poses = read_manifest(file.path.parent)
    if manifest is None or poses is None or manifest.inputs["poses"] != poses.data_version:
        return None
    return next((found for found in filtered_pose_files(lab, manifest) if found.recording == file.recording), None)


def filtered_manifests(lab: Lab, poses: Sequence[Manifest]) -> list[Manifest]:
    """Return the manifests of the filtered tables of *poses* (manifests of pose tables), in that order.

    Raises
    ------
    NotFoundError
        One is not made, or was made from other poses than those that are there now.
    DlcAssetsError
        They were filtered in different ways.
    """
    found: list[Manifest] = []
    absent: list[str] = []
    for table in poses:
        details = table.details
        manifest = derived_manifest(lab, ASSET, details["model"], details["version"], details["session"])
        named = f"{details['session']} by {details['model']}@{details['version']}"
        if manifest is None:
            absent.append(f"{named} (never filtered)")
        elif manifest.inputs["poses"] != table.data_version:
            absent.append(f"{named} (filtered from other poses than are there now)")
        else:
            found.append(manifest)
    if absent:
        raise NotFoundError(
            f"{len(absent)} of {len(poses)} pose tables have no filtered poses: {_some(absent)}. `dlc-assets review` makes them; "
            "filtered=False reads the poses as the network gave them."
        )
    ways: dict[str, list[str]] = {}
    for manifest in found:
        ways.setdefault(manifest.inputs["filters"], []).append(manifest.details["session"])
    if len(ways) > 1:
        listed = "; ".join(f"{_some(sessions)} with {_words(found, way)}" for way, sessions in ways.items())
        raise DlcAssetsError(
            f"the selection mixes poses that were filtered in different ways: {listed}. `dlc-assets review` filters again what "
            "is behind; session= chooses those that were filtered alike."
        )
    return found


def _words(manifests: Sequence[Manifest], way: str) -> str:
    steps = next(manifest for manifest in manifests if manifest.inputs["filters"] == way).details["filters"]
    return ", ".join(step.words for step in steps_from(steps))


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_LISTED]) + (", ..." if len(names) > _LISTED else "")


def is_filtered_as_stated(lab: Lab, manifests: Sequence[Manifest]) -> bool:
    """Say whether these filtered tables were made with the steps that lab.yaml states now."""
    return all(manifest.inputs["filters"] == filters_hash(lab.settings.filters) for manifest in manifests)


# --- cohorts


class _Room:
    """A temporary folder that lasts as long as a selection of poses that are filtered for it."""

    @cached_property
    def _folder(self) -> tempfile.TemporaryDirectory[str]:
        return tempfile.TemporaryDirectory(prefix="dlc-assets-filtered-")

    def path(self, name: str) -> Path:
        """Return where a file called *name* is to lie."""
        return Path(self._folder.name) / name


@dataclass(frozen=True)
class FilteredWhenRead(PoseFile):
    """Poses of a cohort whose filtered table is not in the store (any more): filtered from the frozen ones when they are read."""

    steps: Steps
    rig: FilterRig
    room: _Room

    def located(self) -> Path:
        """Filter the poses, the first time, and return where the filtered file lies."""
        name = f"{self.model}_{self.version}_{self.session}_{self.recording}.parquet"
        target = self.room.path(name)
        if not target.exists():
            filter_file(self.path, target, self.steps, self.rig)
        return target


def frozen_filter_inputs(lab: Lab, cohort: Cohort, session: str, model: str) -> dict[str, str]:
    """Return what `filter_inputs` would give if the lab were as *cohort* was frozen: its poses, its filters, its rigs.

    Raises
    ------
    NotFoundError
        The cohort was frozen without filters, before filters were recorded, or has no such poses any more.
    """
    frozen = frozen_filters(cohort)
    poses = frozen_manifest(lab, cohort, session, model)
    if poses is None:
        raise NotFoundError(
            f'the poses of {session} by {model} that the cohort "{cohort.name}" was frozen with are not there.'
        )
    return {"poses": poses.data_version, "filters": frozen.hash, **_rig_input(frozen.rigs_of(session, model))}


def filtered_cohort_files(lab: Lab, cohort: Cohort, files: Sequence[PoseFile]) -> list[PoseFile]:
    """Return the filtered poses of *files* (frozen pose tables of *cohort*), by the filters that it was frozen with.

    Those of the store are taken where they were made from these very poses with these filters; others are filtered when they
    are read, which gives the same.

    Raises
    ------
    NotFoundError
        The cohort was frozen without filters, or before filters were recorded.
    DlcAssetsError
        It was frozen with filters of another release, and its filtered tables are not there any more.
    """
    frozen = frozen_filters(cohort)
    room = _Room()
    found: list[PoseFile] = []
    inputs: dict[tuple[str, str], dict[str, str]] = {}
    for file in files:
        task = file.session, file.model
        if task not in inputs:
            inputs[task] = frozen_filter_inputs(lab, cohort, file.session, file.model)
        made = derived_manifest(lab, ASSET, file.model, file.version, file.session)
        if made is not None and not made.custom and made.inputs == inputs[task]:
            folder = lab.layout.derived_folder(ASSET, file.model, file.version, file.session)
            found.append(replace(file, path=folder / file.path.name))
            continue
        if frozen.algorithm != ALGORITHM:
            raise DlcAssetsError(
                f'the cohort "{cohort.name}" was frozen by a release whose filters give other numbers (algorithm '
                f"{frozen.algorithm}, here {ALGORITHM}), and the filtered poses of {file.session} are not in the store. Read it with "
                "the release that froze it, or without filtered=True."
            )
        rig = frozen.rigs_of(file.session, file.model).get(file.recording, FilterRig())
        found.append(
            FilteredWhenRead(file.path, file.model, file.version, file.session, file.recording, frozen.steps, rig, room)
        )
    return found
