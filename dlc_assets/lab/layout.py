"""Where every file of a lab lies: the only code that joins strings into paths of the store."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# Of each asset that is made from pose tables, its folder in the store.
_DERIVED_FOLDERS = {
    "filtered_pose_table": "filtered_poses",
    "kinematics": "kinematics",
    "quality_report": "quality",
    "labeled_video": "labeled_videos",
}


@dataclass(frozen=True)
class LabLayout:
    """The paths of the lab at *root* (an absolute path)."""

    root: Path

    # What the lab writes; read, never written.
    @property
    def settings_file(self) -> Path:
        return self.root / "lab.yaml"

    @property
    def sessions_table(self) -> Path:
        return self.root / "sessions.csv"

    @property
    def projects(self) -> Path:
        return self.root / "projects"

    @property
    def specifications(self) -> Path:
        return self.root / "models"

    def specification(self, model: str) -> Path:
        return self.specifications / f"{model}.yaml"

    # What the platform makes.
    @property
    def store(self) -> Path:
        return self.root / "store"

    @property
    def dagster_home(self) -> Path:
        return self.store / "dagster"

    @property
    def work(self) -> Path:
        return self.store / "work"

    @property
    def locks(self) -> Path:
        return self.work / "locks"

    def lock(self, kind: str, key: str) -> Path:
        return self.locks / kind / f"{_file_name(key)}.lock"

    def locks_on_poses(self, *, model: str = "*", session: str = "*") -> list[Path]:
        """Return the lock files of all pose tables of *model* or of *session*, and of what is made from them, held or not."""
        name = _file_name(f"{model}|{session}")
        return sorted(
            path for kind in ("pose_table", *_DERIVED_FOLDERS) for path in (self.locks / kind).glob(f"{name}.lock")
        )

    def sent_steps(self, run_id: str) -> Path:
        """Return the folder of what is known of the steps of a run that other processes or machines work on."""
        return self.work / "steps" / run_id

    def sent_step(self, run_id: str, step: str, attempt: int) -> Path:
        return self.sent_steps(run_id) / f"{_file_name(step)}.{attempt}.json"

    def sent_step_lock(self, run_id: str, step: str) -> Path:
        return self.sent_steps(run_id) / f"{_file_name(step)}.lock"

    @property
    def slurm_outputs(self) -> Path:
        return self.work / "slurm"

    def slurm_output(self, run_id: str, step: str, attempt: int) -> Path:
        return self.slurm_outputs / f"{run_id}.{_file_name(step)}.{attempt}.log"

    @property
    def failures(self) -> Path:
        return self.work / "failures"

    def failure(self, asset: str, key: str) -> Path:
        return self.failures / asset / f"{_file_name(key)}.json"

    @property
    def attempts(self) -> Path:
        return self.work / "attempts"

    def attempt(self, asset: str, key: str) -> Path:
        return self.attempts / asset / f"{_file_name(key)}.json"

    def failures_of(self, key: str) -> list[Path]:
        """Return what went wrong last with *key* in any asset, and with the pose tables of that model or session."""
        names = (key, f"{key}|*", f"*|{key}")
        return sorted({path for name in names for path in self.failures.glob(f"*/{_file_name(name)}.json")})

    def training_work(self, model: str, input_hash: str) -> Path:
        return self.work / "training" / model / input_hash[:12]

    def pose_work(self, model: str, version: str, session: str) -> Path:
        return self.work / "poses" / model / version / session

    @property
    def index_file(self) -> Path:
        return self.work / "index.sqlite"

    @property
    def told_file(self) -> Path:
        return self.work / "notices" / "told.json"

    @property
    def looked_file(self) -> Path:
        return self.work / "notices" / "looked.json"

    def datasets(self, model: str) -> Path:
        return self.store / "datasets" / model

    def dataset(self, model: str, input_hash: str) -> Path:
        return self.datasets(model) / input_hash[:12]

    def benchmarks(self, project: str) -> Path:
        return self.store / "benchmarks" / _folder_name(project)

    def benchmark_image(self, project: str, folder: str, image: str) -> Path:
        return self.benchmarks(project) / folder / image

    @property
    def models(self) -> Path:
        return self.store / "models"

    def model(self, model: str) -> Path:
        return self.models / model

    def current_version_file(self, model: str) -> Path:
        return self.model(model) / "current"

    def version(self, model: str, version: str) -> Path:
        return self.model(model) / version

    def evaluation(self, model: str, version: str) -> Path:
        return self.version(model, version) / "evaluation"

    def model_card(self, model: str, version: str) -> Path:
        return self.version(model, version) / "card.md"

    def model_card_examples(self, model: str, version: str) -> Path:
        return self.version(model, version) / "card-examples.jpg"

    @property
    def comparison(self) -> Path:
        return self.store / "comparison"

    def pose_comparison(self, old: str, new: str) -> Path:
        return self.comparison / "poses" / f"{old}--{new}"

    @property
    def trash(self) -> Path:
        return self.store / "trash"

    @property
    def records(self) -> Path:
        return self.store / "records"

    def machine(self, host: str) -> Path:
        """Return what the lab knows of the machine *host*."""
        return self.store / "machines" / f"{_file_name(host)}.json"

    def adoption_report(self, project: str) -> Path:
        return self.store / "adoption" / f"{_file_name(project)}.csv"

    def records_file(self, kind: str) -> Path:
        return self.records / f"{kind}.jsonl"

    @property
    def recordings(self) -> Path:
        return self.store / "recordings"

    def session_recordings(self, session: str) -> Path:
        return self.recordings / f"session={session}"

    def session_manifest(self, session: str) -> Path:
        return self.session_recordings(session) / "manifest.json"

    def recording_times(self, session: str, recording: str) -> Path:
        return self.session_recordings(session) / f"{recording}.times.parquet"

    @property
    def poses(self) -> Path:
        return self.store / "poses"

    def poses_of_model(self, model: str) -> Path:
        return self.poses / f"model={model}"

    def poses_of_version(self, model: str, version: str) -> Path:
        return self.poses_of_model(model) / f"version={version}"

    def pose_folder(self, model: str, version: str, session: str) -> Path:
        return self.poses_of_version(model, version) / f"session={session}"

    def pose_manifest(self, model: str, version: str, session: str) -> Path:
        return self.pose_folder(model, version, session) / "manifest.json"

    def pose_file(self, model: str, version: str, session: str, recording: str) -> Path:
        return self.pose_folder(model, version, session) / f"{recording}.parquet"

    def kept_poses(self, model: str, version: str, session: str, data_version: str) -> Path:
        """Return where poses of a cohort lie once their place in `poses` was needed for others."""
        task = self.store / "kept_poses" / f"model={model}" / f"version={version}" / f"session={session}"
        return task / f"poses={data_version[:12]}"

    # What is made from pose tables, in folders like theirs.
    def derived(self, asset: str) -> Path:
        return self.store / _DERIVED_FOLDERS[asset]

    def derived_folder(self, asset: str, model: str, version: str, session: str) -> Path:
        return self.derived(asset) / f"model={model}" / f"version={version}" / f"session={session}"

    def derived_manifest(self, asset: str, model: str, version: str, session: str) -> Path:
        return self.derived_folder(asset, model, version, session) / "manifest.json"

    def derived_of(self, *, model: str = "*", version: str = "*", session: str = "*") -> list[Path]:
        """Return the folders of all that was made from the pose tables of *model*, *version* and *session*."""
        return sorted(
            folder
            for name in _DERIVED_FOLDERS.values()
            for folder in self.store.glob(f"{name}/model={model}/version={version}/session={session}")
        )

    def derived_work(self, asset: str, model: str, version: str, session: str) -> Path:
        return self.work / _DERIVED_FOLDERS[asset] / model / version / session

    def quality_files(self, name: str) -> Iterator[Path]:
        """Give the place of the file *name* in the folder of every quality report; a lab has tens of thousands."""
        for version in sorted(self.derived("quality_report").glob("model=*/version=*")):
            for session in sorted(entry.name for entry in os.scandir(version) if entry.name.startswith("session=")):
                yield version / session / name

    @property
    def quality_overview(self) -> Path:
        return self.derived("quality_report") / "overview.html"

    @property
    def quality_overview_table(self) -> Path:
        return self.derived("quality_report") / "overview.csv"

    # Frames that were chosen to be labeled next.
    def to_label(self, model: str) -> Path:
        return self.store / "to_label" / model

    def to_label_batch(self, model: str, input_hash: str) -> Path:
        return self.to_label(model) / input_hash[:12]

    def current_batch_file(self, model: str) -> Path:
        """Return the file that names the newest batch of frames to label."""
        return self.to_label(model) / "current"

    @property
    def nwb(self) -> Path:
        return self.store / "nwb"

    @property
    def nwb_manifests(self) -> Path:
        return self.nwb / ".manifests"

    def nwb_manifest(self, session: str) -> Path:
        return self.nwb_manifests / f"{session}.json"

    def cohort_nwb(self, cohort: str) -> Path:
        return self.nwb / "cohorts" / cohort

    def cohort_nwb_manifest(self, cohort: str, session: str) -> Path:
        return self.cohort_nwb(cohort) / ".manifests" / f"{session}.json"

    def dandiset_file(self, cohort: str | None = None) -> Path:
        """Return where a description of the dandiset lies that the NWB files below it are to go to."""
        return (self.nwb if cohort is None else self.cohort_nwb(cohort)) / "dandiset.yaml"

    def published(self, instance: str, dandiset: str) -> Path:
        return self.store / "published" / _folder_name(instance) / dandiset

    def published_manifest(self, instance: str, dandiset: str, session: str) -> Path:
        return self.published(instance, dandiset) / f"{session}.json"

    def published_of_session(self, session: str) -> list[Path]:
        """Return what says that *session* was published, in whichever dandiset."""
        return sorted((self.store / "published").glob(f"*/*/{session}.json"))

    def publishing_work(self, instance: str, dandiset: str, session: str) -> Path:
        return self.work / "publishing" / _folder_name(instance) / dandiset / session

    @property
    def bundles(self) -> Path:
        return self.store / "bundles"

    def bundle(self, session: str) -> Path:
        return self.bundles / f"{session}.zip"

    @property
    def irreplaceable(self) -> list[Path]:
        """Return the folders of the store that hold what cannot be made again, or only at great cost; poses are apart."""
        names = ("adoption", "benchmarks", "datasets", "kept_poses", "machines", "models", "published", "recordings")
        folders = [self.store / name for name in (*names, "records", "to_label")]
        return [*folders, self.failures, self.told_file.parent]

    @property
    def catalog(self) -> Path:
        return self.store / "catalog"

    def catalog_table(self, table: str) -> Path:
        return self.catalog / f"{table}.parquet"


def _file_name(key: str) -> str:
    """Return a key as a file name: ``|`` (of model|session) is not allowed on Windows."""
    return key.replace("|", "__")


def _folder_name(name: str) -> str:
    """Return a name that people chose as a folder's: separators of paths and what Windows refuses become ``_``."""
    return re.sub(r'[<>:"/\\|?*\x00-\x1f]|^\.+', "_", name)
