"""A lab with real videos, sessions and pose tables made by the project's own analysis, whose network is a function of brightness."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dlc_assets.bundles.content import MANIFEST
from dlc_assets.inference.pose_tables import Estimators, estimate_session
from dlc_assets.lab.files import sha256_file
from dlc_assets.lab.lab import Lab, open_lab_folder
from dlc_assets.lab.manifest import Manifest
from dlc_assets.lab.settings import DynamicCropping
from dlc_assets.training.models import ModelVersion, set_current, version_of
from dlc_assets_tests.graph.small_lab import BODYPARTS, SESSIONS, record, write_small_lab

PCUTOFF = 0.6


class Brightness:
    """Stands in for a network: a body part lies where its picture's mean brightness says.

    Parameters
    ----------
    nudge
        Changes poses (n, 1, body parts, 3) before they are given.
    """

    bodyparts = tuple(BODYPARTS)
    why_not_fast = ""
    resumable = True
    batch_size = group = 4

    def __init__(self, nudge: Callable[[np.ndarray], np.ndarray] = lambda poses: poses, device: str = "cpu") -> None:
        self._nudge = nudge
        self.description: dict[str, Any] = {
            "deeplabcut_version": "3.0.2",
            "torch_version": "2.15.0+cu132",
            "device": device,
            "device_name": device,
            "path": "fast",
            "backend": "torch",
            "precision": "float32",
            "batch_size": 4,
        }

    def for_pictures(self, shape: tuple[int, int], batch_size: int | None = None) -> Brightness:
        self.shape, self.stated_batch = shape, batch_size
        return self

    def batches(self, pictures: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        remaining = iter(pictures)
        while batch := list(islice(remaining, self.group)):
            yield np.stack(batch)

    def run(self, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for batch in batches:
            bright = batch.reshape(len(batch), -1).mean(axis=1)
            parts = [np.stack([bright / 4, bright / 8 + part, 0.7 + bright / 1000], axis=1) for part in (0, 5)]
            yield self._nudge(np.stack(parts, axis=1)[:, None].astype(np.float32))


@dataclass(frozen=True)
class Asked:
    """Which network was asked for, and with what."""

    snapshot: str | None
    precision: str
    dynamic: DynamicCropping | None
    device: str
    weights: bytes


def use_network(monkeypatch: pytest.MonkeyPatch, network: Any) -> list[Asked]:
    """Let every version's network be *network*, or be what it raises; return what will have been asked for."""
    asked: list[Asked] = []

    def of(self: Estimators, version: ModelVersion, snapshot: str | None = None, precision: str = "float32") -> Any:
        weights = version.snapshot_file(snapshot).read_bytes()
        asked.append(Asked(snapshot, precision, self.dynamic, self._device, weights))
        if isinstance(network, BaseException):
            raise network
        return network

    monkeypatch.setattr(Estimators, "of", of)
    return asked


def add_network(
    lab: Lab, model: str = "walker", weights: bytes = b"weights", config: str = "method: bu\n"
) -> ModelVersion:
    """Store a version of *model* made of these *weights* and *config*, and make it current."""
    folder = lab.layout.model(model) / "new"
    folder.mkdir(parents=True)
    (folder / "snapshot.pt").write_bytes(weights)
    (folder / "pytorch_config.yaml").write_text(config)
    return store_version(lab, model, folder)


def store_version(lab: Lab, model: str, folder: Path, bodyparts: Iterable[str] = BODYPARTS) -> ModelVersion:
    """Make a version of *model* of the network in *folder*, with its card, and make it current."""
    name = version_of(folder / "snapshot.pt", folder / "pytorch_config.yaml")
    version = ModelVersion(model, name, folder.rename(lab.layout.version(model, name)))
    card = {
        "bodyparts": list(bodyparts),
        "skeleton": [],
        "individuals": [],
        "pcutoff": PCUTOFF,
        "scorer": f"{model}_{name}",
        "dataset": "d1",
        "epoch": 1,
        "training": {},
        "specification": {"weights": f"{lab.root}/weights/start.pt"},
        "sha256": sha256_file(version.snapshot),
    }
    Manifest(asset="trained_model", key=model, inputs={}, data_version=name, details=card).write(version.folder)
    set_current(lab.layout, version)
    return version


def recorded_lab(root: Path, text: str | None = None) -> Lab:
    """Write the small lab, with *text* as its lab.yaml if stated, and probe its sessions."""
    write_small_lab(root)
    if text is not None:
        (root / "lab.yaml").write_text(text)
    lab = open_lab_folder(root)
    record(lab, *SESSIONS)
    return lab


def analyse(
    lab: Lab, session: str, model: str = "walker", *, dynamic: DynamicCropping | None = None, **overrides: Any
) -> Manifest:
    """Estimate the poses of *session* as the asset `pose_table` does."""
    estimators = Estimators("cpu", dynamic=dynamic)
    return estimate_session(
        lab, model, session, estimators, overrides=overrides, recompute=True, run_id="", log=lambda _: None
    )[0]


def rewritten(bundle: Path, target: Path, changes: Mapping[str, bytes | None], *, honest: bool = False) -> Path:
    """Copy a bundle with other content of some members (None: left out); *honest* states their hashes anew, as a forger would."""
    with zipfile.ZipFile(bundle) as source:
        content = {entry.filename: source.read(entry) for entry in source.infolist()}
    content = {name: data for name, data in (content | dict(changes)).items() if data is not None}
    if honest:
        stated = json.loads(content[MANIFEST])
        for member in stated["members"]:
            data = content[member["name"]]
            member["size"], member["sha256"] = len(data), _sha256(data)
        content[MANIFEST] = json.dumps(stated).encode()
    with zipfile.ZipFile(target, "w") as written:
        for name, data in content.items():
            written.writestr(name, data)
    return target


def manifest_with(bundle: Path, **changes: Any) -> bytes:
    """Return the manifest of a bundle with some of its fields changed."""
    with zipfile.ZipFile(bundle) as archive:
        return json.dumps(json.loads(archive.read(MANIFEST)) | changes).encode()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
