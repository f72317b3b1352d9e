"""The registry of trained models: immutable versions in the store, and which one is current."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from dlc_assets.engine.detectors import DETECTOR
from dlc_assets.lab.errors import InputError, NotFoundError, did_you_mean
from dlc_assets.lab.files import sha256_file, sha256_unchanged_file, write_text
from dlc_assets.lab.layout import LabLayout
from dlc_assets.lab.manifest import Manifest, read_manifest

SNAPSHOT = "snapshot.pt"
SNAPSHOTS = "snapshots"
PYTORCH_CONFIG = "pytorch_config.yaml"
LEARNING_STATS = "learning_stats.csv"
_VERSION_DIGITS = 12


@dataclass(frozen=True)
class ModelVersion:
    """One trained network in the store: weights, configuration, and its card (the manifest)."""

    model: str
    version: str
    folder: Path

    @property
    def snapshot(self) -> Path:
        return self.folder / SNAPSHOT

    @property
    def pytorch_config(self) -> Path:
        return self.folder / PYTORCH_CONFIG

    @property
    def detector(self) -> Path | None:
        """The detector of a top-down network, None for others."""
        return self.folder / DETECTOR if self.card.get("detector") else None

    @property
    def learning_stats(self) -> Path:
        return self.folder / LEARNING_STATS

    @cached_property
    def manifest(self) -> Manifest:
        manifest = read_manifest(self.folder)
        if manifest is None:
            raise NotFoundError(
                f"{self.folder} has no readable manifest.json: restore it from a backup, or train again."
            )
        return manifest

    @property
    def card(self) -> dict[str, Any]:
        """What is known of the network: body parts, skeleton, scorer, training, software."""
        return self.manifest.details

    @property
    def runnable(self) -> bool:
        """Whether the network can be run here; of others there are only results that were made elsewhere."""
        return not self.why_not_runnable

    @property
    def why_not_runnable(self) -> str:
        """Why the network cannot be run here, empty where it can."""
        return str(self.card.get("not_runnable", ""))

    @property
    def can_be_scored(self) -> bool:
        """Whether labeled frames can judge the network: it runs here, the frames that it has seen are known, and labels are there."""
        return not self.why_not_scored

    @property
    def why_not_scored(self) -> str:
        """Why labeled frames cannot judge the network, empty where they can."""
        reasons = (
            self.why_not_runnable,
            *(self.card.get(name) for name in ("training_frames_unknown", "without_labels")),
        )
        return str(next(filter(None, reasons), ""))

    @property
    def snapshots(self) -> dict[int, Path]:
        """Every snapshot that is kept, by its epoch; versions of earlier releases have the best one only."""
        others = {row["epoch"]: self.folder / row["file"] for row in self.card.get("snapshots", [])}
        return dict(sorted({**others, self.card["epoch"]: self.snapshot}.items()))

    def snapshot_file(self, which: str | int | None) -> Path:
        """Return the snapshot that *which* means: ``best`` (or None), ``last``, or an epoch's number.

        Raises
        ------
        NotFoundError
            No snapshot of that epoch is kept.
        InputError
            The file is damaged, or the network cannot be run here.
        """
        if not self.runnable:
            raise InputError(f"{self} cannot be run here: {self.why_not_runnable}")
        if which is None or which == "best":
            return self._undamaged(self.snapshot)
        kept = self.snapshots
        epoch = which
        if which == "last":
            epoch = self.card.get("last_epoch") or self.card["training"].get("epochs", max(kept))
        try:
            return self._undamaged(kept[int(epoch)])
        except (KeyError, ValueError):
            asked = f"the last epoch ({epoch})" if which == "last" else f"epoch {which}"
            listed = ", ".join(f"{number}{' (best)' if path == self.snapshot else ''}" for number, path in kept.items())
            hint = (
                "An imported network has the one that `snapshot` in its import block names."
                if self.card.get("imported")
                else "How many are kept is training.max_snapshots in the model specification."
            )
            raise NotFoundError(f"{self} keeps no snapshot of {asked}. Epochs there are: {listed}. {hint}") from None

    def _undamaged(self, snapshot: Path) -> Path:
        """Return *snapshot* if it is what was stored, and the detector, too; versions of earlier releases do not say it of the best one."""
        stored = {self.folder / row["file"]: row["sha256"] for row in self.card.get("snapshots", [])}
        stored[self.snapshot] = self.card.get("sha256")
        used = [snapshot]
        if self.detector is not None:
            stored[self.detector] = self.card["detector"]["sha256"]
            used.append(self.detector)
        for path in used:
            if stored.get(path) is None:
                continue
            found = sha256_unchanged_file(path) if path.is_file() else None
            if found != stored[path]:
                why = (
                    "it is missing" if found is None else "it is not the file that training stored (its sha256 differs)"
                )
                raise InputError(
                    f"{path} of {self} is damaged: {why}. Restore the folder from a backup, or train again."
                )
        return snapshot

    def __str__(self) -> str:
        return f"{self.model}@{self.version}"


def version_of(snapshot: Path, pytorch_config: Path, detector: Path | None = None) -> str:
    """Return a trained network's version: the first 12 hexadecimal digits of sha256(snapshot + pytorch_config [+ detector])."""
    digest = hashlib.sha256()
    for path in (snapshot, pytorch_config, *([detector] if detector else [])):
        digest.update(bytes.fromhex(sha256_file(path)))
    return digest.hexdigest()[:_VERSION_DIGITS]


def damage_of(version: ModelVersion, *, thorough: bool = False) -> str:
    """Return what is wrong with the files of *version*, empty where nothing is.

    Parameters
    ----------
    thorough
        Hash the network as well (seconds for a large one): its version is the hash of what was stored.
    """
    if not version.runnable:
        return ""  # its card is all there is
    others = [version.folder / row["file"] for row in version.card.get("snapshots", [])]
    for path in (version.snapshot, version.pytorch_config, *([version.detector] if version.detector else []), *others):
        if not path.is_file():
            return f"{path.relative_to(version.folder)} is missing"
        if not path.stat().st_size:
            return f"{path.relative_to(version.folder)} is empty"
    if thorough and version_of(version.snapshot, version.pytorch_config, version.detector) != version.version:
        return f"{version.snapshot.name} or {version.pytorch_config.name} is not what was stored (its hash differs)"
    return ""


def versions(layout: LabLayout, model: str) -> list[ModelVersion]:
    """Return every version of *model* in the store, oldest first."""
    folder = layout.model(model)
    found = [
        ModelVersion(model, path.name, path)
        for path in (folder.iterdir() if folder.is_dir() else ())
        if not path.name.startswith(".") and path.is_dir() and read_manifest(path) is not None
    ]
    return sorted(found, key=lambda version: (version.manifest.made, version.version))


def trained_models(layout: LabLayout) -> list[str]:
    """Return the names of all models that have a version in the store."""
    return sorted(path.parent.name for path in layout.models.glob("*/current"))


def current_version(layout: LabLayout, model: str) -> ModelVersion | None:
    """Return the version of *model* that its partition means, or None when it was never trained."""
    name = read_current(layout.current_version_file(model))
    if name is None:
        return None
    version = ModelVersion(model, name, layout.version(model, name))
    return version if read_manifest(version.folder) is not None else None


def set_current(layout: LabLayout, version: ModelVersion) -> None:
    """Make *version* the one that its model's partition means."""
    write_text(layout.current_version_file(version.model), version.version + "\n")


def find_version(layout: LabLayout, reference: str) -> ModelVersion:
    """Return the version that ``name`` (its current one) or ``name@digits`` means.

    Raises
    ------
    NotFoundError
        No such model, no such version, or digits that fit several.
    """
    model, _, digits = reference.partition("@")
    if not digits:
        version = current_version(layout, model)
        if version is not None:
            return version
        trained = trained_models(layout)
        near = did_you_mean(model, trained)
        train = "" if near else f" Train it with `dlc-assets train {model}`."
        raise NotFoundError(
            f'the model "{model}" has no trained version.{near} Trained models: {", ".join(trained) or "none"}.{train}'
        )
    known = versions(layout, model)
    fitting = [version for version in known if version.version.startswith(digits)]
    if len(fitting) == 1:
        return fitting[0]
    listed = ", ".join(version.version for version in known) or "none"
    many = "several versions begin" if fitting else "no version begins"
    raise NotFoundError(f'{reference}: {many} with "{digits}". Versions of {model}: {listed}.')


def evaluation_manifest(version: ModelVersion, layout: LabLayout) -> Manifest | None:
    """Return the evaluation of *version*, or None when it was not evaluated."""
    return read_manifest(layout.evaluation(version.model, version.version))


def read_current(path: Path) -> str | None:
    """Return the name in a ``current`` file, None when there is none."""
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except FileNotFoundError:
        return None
