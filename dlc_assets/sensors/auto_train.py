"""Which models are trained again by themselves: those that ask for it, once their labels have changed and nobody is at them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import dagster as dg

from dlc_assets.lab.errors import DlcAssetsError
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.progress import duration_words
from dlc_assets.state.behind import Product, model_products
from dlc_assets.training.models import ModelVersion, current_version

_LABEL_FILES = "labeled-data/*/CollectedData_*"


@dataclass
class SeenLabels:
    """Since when the labels of each model are as they are: by model, their hash and the unix time of the first look that found it.

    Both this and the files' own times must be old enough: a copied label file keeps the time of its original, and one that is saved
    again without a change has a person at it.
    """

    since: dict[str, tuple[str, float]] = field(default_factory=dict)

    @classmethod
    def from_json(cls, text: str | None) -> SeenLabels:
        return cls({model: (labels, at) for model, (labels, at) in json.loads(text or "{}").items()})

    def to_json(self) -> str:
        return json.dumps(self.since, separators=(",", ":"))

    def first_seen(self, model: str, labels: str, now: float) -> float:
        """Return when *labels* were first seen as those of *model*: *now*, where they are new."""
        known, at = self.since.get(model, ("", now))
        if known != labels:
            at = now
        self.since[model] = (labels, at)
        return at


def changed_models(
    lab: Lab, instance: dg.DagsterInstance, seen: SeenLabels, now: float
) -> tuple[list[Product], list[str]]:
    """Return what to train now, and a sentence for each model whose labels have changed that is not trained yet.

    *seen* is brought up to date. A model that was never trained is left alone: the first training is a person's decision.
    """
    products, waiting = [], []
    specifications, _ = lab.specifications()
    wanted = {model for model, specification in specifications.items() if specification.auto_train}
    seen.since = {model: known for model, known in seen.since.items() if model in wanted}
    for model in sorted(wanted):
        version = current_version(lab.layout, model)
        if version is None:
            waiting.append(
                f"{model} says auto_train, and was never trained: train it once with `dlc-assets train {model}`."
            )
            continue
        try:
            product, why = _changed(lab, version)
            if product is None:
                seen.since.pop(model, None)
            elif not why:
                since = seen.first_seen(model, product.inputs["labels"], now)
                why = _unquiet(lab, model, since, now) or _cancelled(instance, model, since)
        except (DlcAssetsError, OSError) as error:
            product, why = None, str(error)
        if why:
            waiting.append(f"{model}: {why}")
        elif product is not None:
            products.append(product)
    return products, waiting


def _changed(lab: Lab, version: ModelVersion) -> tuple[Product | None, str]:
    """Return the training of a model whose labels have changed since *version* was trained, and why it cannot be done."""
    stages = {product.asset: product for product in model_products(lab, version.model, None)}
    dataset, trained = stages["training_dataset"], stages["trained_model"]
    if dataset.inputs and dataset.inputs["labels"] == version.card["label_hash"]:
        return None, ""
    failed = next((product for product in (dataset, trained) if product.state == "failed"), None)
    if failed is not None:
        return (
            None,
            f"labels changed, but {failed.asset} failed, and is not tried again before its inputs change: {failed.why}",
        )
    return Product("trained_model", version.model, "behind", "labels changed", trained.made, dataset.inputs), ""


def _unquiet(lab: Lab, model: str, since: float, now: float) -> str:
    quiet_seconds = lab.settings.auto_train.quiet_seconds
    saved = [at for at in _saved(lab.project_config(model).parent) if at <= now]  # a clock that is ahead says nothing
    missing = quiet_seconds - (now - max([since, *saved]))
    return (
        f"labels changed; it is trained once they are quiet for another {duration_words(missing)}"
        if missing > 0
        else ""
    )


def _saved(project: Path) -> list[float]:
    """Return when each label file of *project* was saved: whoever labels another of its videos may come to this one next."""
    return [path.stat().st_mtime for path in project.glob(_LABEL_FILES)]


def _cancelled(instance: dg.DagsterInstance, model: str, since: float) -> str:
    """Say that a person has cancelled the training from these labels: it is not begun again behind their back."""
    newest = instance.get_run_records(dg.RunsFilter(job_name="train", tags={"dagster/partition": model}), limit=1)
    if not newest or newest[0].dagster_run.status is not dg.DagsterRunStatus.CANCELED:
        return ""
    if newest[0].create_timestamp.timestamp() < since:
        return ""
    run_id = newest[0].dagster_run.run_id
    return f"labels changed, but run {run_id} was cancelled; go on with `dlc-assets train {model}`, or change a label"
