"""Where every file of a lab lies: the only code that joins strings into paths of the store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class LabLayout:
    """The paths of the lab at *root* (an absolute path)."""

    root: Path

    # What the lab writes; read, never written.
    @property
    def settings_file(self) -> Path:
        return self.root / "lab.yaml"

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

    def failure(self, asset: str, key: str) -> Path:
        return self.work / "failures" / asset / f"{_file_name(key)}.json"

    def training_work(self, model: str, input_hash: str) -> Path:
        return self.work / "training" / model / input_hash[:12]

    def pose_work(self, model: str, version: str, session: str) -> Path:
        return self.work / "poses" / model / version / session

    @property
    def discovery_file(self) -> Path:
        return self.work / "discovery.json"

    def datasets(self, model: str) -> Path:
        return self.store / "datasets" / model

    def dataset(self, model: str, input_hash: str) -> Path:
        return self.datasets(model) / input_hash[:12]

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

    @property
    def comparison(self) -> Path:
        return self.store / "comparison"

    @property
    def records(self) -> Path:
        return self.store / "records"

    def records_file(self, kind: str) -> Path:
        return self.records / f"{kind}.jsonl"

    @property
    def recordings(self) -> Path:
        return self.store / "recordings"

    def session_recordings(self, session: str) -> Path:
        return self.recordings / f"session={session}"

    def recording_times(self, session: str, recording: str) -> Path:
        return self.session_recordings(session) / f"{recording}.times.parquet"

    @property
    def poses(self) -> Path:
        return self.store / "poses"

    def pose_folder(self, model: str, version: str, session: str) -> Path:
        return self.poses / f"model={model}" / f"version={version}" / f"session={session}"

    def pose_file(self, model: str, version: str, session: str, recording: str) -> Path:
        return self.pose_folder(model, version, session) / f"{recording}.parquet"

    @property
    def nwb(self) -> Path:
        return self.store / "nwb"

    def nwb_manifest(self, session: str) -> Path:
        return self.nwb / ".manifests" / f"{session}.json"

    @property
    def catalog(self) -> Path:
        return self.store / "catalog"

    def catalog_table(self, table: str) -> Path:
        return self.catalog / f"{table}.parquet"


def _file_name(key: str) -> str:
    """Return a key as a file name: ``|`` (of model|session) is not allowed on Windows."""
    return key.replace("|", "__")
