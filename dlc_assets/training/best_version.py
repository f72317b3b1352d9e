"""The best of several model versions, chosen by the fair comparison, or a clear refusal to choose."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dlc_assets.lab.errors import InputError, NotFoundError
from dlc_assets.lab.lab import Lab
from dlc_assets.training.comparison import ALIKE, UNKNOWN, Comparison, chosen_versions, compare_versions
from dlc_assets.training.models import ModelVersion

_LISTED = 5


@dataclass(frozen=True)
class BestVersion:
    """The version with the smallest mean error, and how it stands to the others.

    Parameters
    ----------
    compared
        ``model@version`` of all that were compared, best first.
    alike
        Those whose error may differ from the best one's by chance alone.
    scored_on
        A sentence: which frames.
    error
        Mean error on these frames, px.
    """

    version: ModelVersion
    compared: tuple[str, ...]
    alike: tuple[str, ...]
    scored_on: str
    error: float | None = field(default=None)

    def sentence(self) -> str:
        """Say what was chosen among what, and whether the choice is within noise."""
        if len(self.compared) == 1:
            return f"{self.version} is the only version there is."
        said = f"{self.version} has the smallest mean error of {len(self.compared)} versions: {self.error:.4g} px on {self.scored_on}."
        if not self.alike:
            return said
        others = ", ".join(self.alike[:_LISTED]) + (", ..." if len(self.alike) > _LISTED else "")
        return f"{said} The difference is within noise for {others}: another one may be as good."

    def as_json(self) -> dict[str, Any]:
        """Return what the records keep of the choice."""
        return {
            "compared": list(self.compared),
            "alike": list(self.alike),
            "scored_on": self.scored_on,
            "error": self.error,
            "words": self.sentence(),
        }


def best_version(lab: Lab, model: str | None) -> BestVersion:
    """Return the best version of *model*, or without one of all models, as the comparison ranks them now.

    Raises
    ------
    NotFoundError
        There is no such model, or none is trained.
    InputError
        The versions cannot all be ranked against each other.
    """
    chosen = chosen_versions(lab, () if model is None else (model,))
    if not chosen:
        raise NotFoundError("no model is trained yet. Train one with `dlc-assets train MODEL`.")
    if len(chosen) == 1:
        return BestVersion(chosen[0], (str(chosen[0]),), (), "")
    compared = compare_versions(lab, chosen, together=True)
    best = next((version for version in chosen if str(version) == compared.best), None)
    if best is None:
        raise InputError(_refusal(model, compared))
    names = [f"{row['model']}@{row['version']}" for row in compared.rows]
    alike = [name for name, row in zip(names, compared.rows, strict=True) if row["verdict"] in {ALIKE, UNKNOWN}]
    return BestVersion(best, tuple(names), tuple(alike), compared.groups[0].sentence(), error=compared.rows[0]["rmse"])


def _refusal(model: str | None, compared: Comparison) -> str:
    of_what = "the models" if model is None else f"the versions of {model}"
    reasons = compared.refused[:_LISTED] or sorted({row["note"] for row in compared.rows if row["note"]})[:_LISTED]
    listed = "\n  ".join(reasons)
    return (
        f"{of_what} cannot be ranked against each other, so none is the best:\n  {listed}\n"
        "Name the version to release, as MODEL@VERSION. `dlc-assets compare-models` shows which can be compared."
    )
