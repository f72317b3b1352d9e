"""The model versions of a lab: how good each is, what names it, how much room it takes, and whether its files are whole."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from dlc_assets.lab.files import size_of, size_words
from dlc_assets.lab.lab import Lab
from dlc_assets.training.models import ModelVersion, damage_of, evaluation_manifest, versions
from dlc_assets.training.removal import VersionUses, uses_of

COLUMNS = ("model", "version", "trained", "error (px)", "used by", "size", "remarks")


@dataclass(frozen=True)
class VersionState:
    """One model version.

    Attributes
    ----------
    error
        px: mean distance over the labels of the frames that it is judged by (`scored_on`); None where it was not evaluated.
    uses
        What names it, and so keeps it.
    bytes
        Room that its files take, evaluation included, poses not.
    damage
        What is wrong with its files; empty where nothing is.
    """

    version: ModelVersion
    error: float | None
    scored_on: str
    uses: VersionUses
    bytes: int
    damage: str

    @property
    def remarks(self) -> str:
        """Whether it is current, custom, imported or damaged, and whether it runs here, in words."""
        marks = [
            "current" if self.uses.current else "",
            "custom" if self.version.manifest.custom else "",
            "imported" if self.version.card.get("imported") else "",
            "" if self.version.runnable else "does not run here",
            f"damaged: {self.damage}" if self.damage else "",
        ]
        return ", ".join(mark for mark in marks if mark)

    def cells(self) -> tuple[str, ...]:
        """Return a row for people, under `COLUMNS`."""
        version = self.version
        error = f"{self.error:.2f} ({self.scored_on})" if self.error is not None else ""
        uses, size = self.uses.summary(), size_words(self.bytes)
        return (version.model, version.version, version.manifest.made, error, uses, size, self.remarks)

    def facts(self) -> dict[str, Any]:
        """Return a row for programs."""
        uses = asdict(self.uses)
        return {
            "model": self.version.model,
            "version": self.version.version,
            "made": self.version.manifest.made,
            "current": uses.pop("current"),
            "custom": self.version.manifest.custom,
            "imported": bool(self.version.card.get("imported")),
            "runnable": self.version.runnable,
            "error": self.error,
            "scored_on": self.scored_on,
            "uses": uses,
            "bytes": self.bytes,
            "damage": self.damage,
        }


def version_states(lab: Lab) -> list[VersionState]:
    """Return every version of every model in the store, models by name, versions from the oldest on."""
    models = sorted(folder.name for folder in lab.layout.models.glob("[!.]*") if folder.is_dir())
    found = [version for model in models for version in versions(lab.layout, model)]
    return [_state(lab, version, uses) for version, uses in uses_of(lab, found).items()]


def _state(lab: Lab, version: ModelVersion, uses: VersionUses) -> VersionState:
    evaluation = evaluation_manifest(version, lab.layout)
    details = evaluation.details if evaluation is not None else {}
    scored_on = str(details.get("scoring_set", ""))
    row = details.get(scored_on) or {}
    return VersionState(
        version=version,
        error=row.get("rmse"),
        scored_on=scored_on,
        uses=uses,
        bytes=size_of(version.folder),
        damage=damage_of(version),
    )
