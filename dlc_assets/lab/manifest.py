"""What was made, from what, and when: one small JSON file beside every product of the platform.

The manifest is written last: a product without one does not exist. Sensors, `status`, the catalog and the assets all read
the same manifests, so the store alone says what is there and what is behind, with any Dagster instance or none.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dlc_assets.lab.files import content_hash, read_json, write_json

NAME = "manifest.json"


class Manifest(BaseModel):
    """One product.

    `inputs` are the hashes of what it was made from under the lab's files; `overrides` are a run's own settings (a product
    that has any is "custom"); `data_version` is the hash of its content.
    """

    model_config = ConfigDict(extra="forbid")

    asset: str
    key: str
    inputs: dict[str, str]
    overrides: dict[str, Any] = Field(default_factory=dict)
    data_version: str
    details: dict[str, Any] = Field(default_factory=dict)
    problems: list[str] = Field(default_factory=list)
    made: str = Field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    run_id: str = ""

    @property
    def custom(self) -> bool:
        return bool(self.overrides)

    @property
    def input_hash(self) -> str:
        return content_hash({"inputs": self.inputs, "overrides": self.overrides})

    def write(self, path: Path) -> None:
        """Write to *path*, or to ``manifest.json`` in it when it is a folder."""
        write_json(path / NAME if path.is_dir() else path, self.model_dump())


def read_manifest(path: Path) -> Manifest | None:
    """Read the manifest at *path* (a file, or the folder that holds it); None when there is none that can be read."""
    file = path if path.suffix == ".json" else path / NAME
    try:
        return Manifest.model_validate(read_json(file))
    except (FileNotFoundError, NotADirectoryError, ValidationError, ValueError):
        return None  # a product whose manifest cannot be read does not exist, and is made again
