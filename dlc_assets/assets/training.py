"""From labels to a trained and evaluated model: `training_dataset` -> `trained_model` -> `model_evaluation` -> `model_comparison`."""

from collections.abc import Iterator
from typing import Any

import dagster as dg
from pydantic import Field

from dlc_assets.assets import previews
from dlc_assets.assets.labels import LABEL_SET, observe_labels
from dlc_assets.assets.model_previews import comparison_picture, evaluation_metadata, learning
from dlc_assets.assets.reporting import Made, make_partitions
from dlc_assets.catalog.schema import COMPARISON
from dlc_assets.checks import outcomes
from dlc_assets.executors import GPU_POOL, gpu_op_tags
from dlc_assets.inference.releases import released_by
from dlc_assets.lab.compute import leased_device
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.locks import hold
from dlc_assets.partitions import models
from dlc_assets.resources.lab import LabResource
from dlc_assets.training.comparison import compare_models
from dlc_assets.training.dataset import dataset_inputs, label_set_of, make_dataset
from dlc_assets.training.evaluation import evaluate_model, evaluation_inputs, to_be_scored
from dlc_assets.training.imported import import_model
from dlc_assets.training.models import ModelVersion, evaluation_manifest, find_version
from dlc_assets.training.rescoring import rescore_older_versions
from dlc_assets.training.scores import SUMMARY_COLUMNS
from dlc_assets.training.train import train_model, training_inputs

_COMMON: dict[str, Any] = {
    "group_name": "training",
    "owners": ["team:lab"],
    "partitions_def": models,
    "output_required": False,
}


class TrainingConfig(dg.Config):
    """Settings of one training run; empty means the model specification's own. What is stated makes the version "custom"."""

    epochs: int | None = Field(None, description="how often each training frame is seen")
    batch_size: int | None = Field(None, description="frames a step; fewer need less memory")
    save_epochs: int | None = Field(None, description="a snapshot every so many epochs")
    seed: int | None = Field(None, description="seed of everything random in training")
    patience: int | None = Field(None, description="stop once the validation has not become better for so many epochs")
    recompute: bool = Field(False, description="train even though the current version was trained from the same inputs")

    def overrides(self) -> dict[str, Any]:
        """Return what was stated."""
        stated = {
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "save_epochs": self.save_epochs,
            "seed": self.seed,
            "patience": self.patience,
        }
        return {name: value for name, value in stated.items() if value is not None}


class EvaluationConfig(dg.Config):
    """Settings of one evaluation."""

    recompute: bool = Field(False, description="evaluate even though this version was evaluated already")


@dg.asset(deps=[LABEL_SET], kinds={"deeplabcut", "yaml"}, code_version="1", **_COMMON)
def training_dataset(context: dg.AssetExecutionContext, lab: LabResource) -> Iterator[dg.MaterializeResult]:
    """A DeepLabCut project made in the store from the labels a model uses, labels and images copied in, and its split.

    The lab's own project is read and never opened by DeepLabCut. Every labeled frame found is used or counted with the reason
    why not.
    """
    opened = lab.open()

    def observe(model: str) -> None:
        context.instance.report_runless_asset_event(observe_labels(opened, model))

    def make(model: str) -> Made:
        with hold(opened.layout.lock("training_dataset", model), f"dataset of {model}", log=context.log.info):
            manifest = make_dataset(opened, model, run_id=context.run.run_id, log=context.log.info)
        details = manifest.details
        return Made(
            manifest.data_version,
            {
                "dagster/row_count": details["images"],
                "sets": dg.MetadataValue.json(details["sets"]),
                "split": details["split"]["note"],
                "labels by body part": previews.table(
                    [{"bodypart": name, "labels": count} for name, count in details["labels_of_bodyparts"].items()]
                ),
                **({} if details.get("imported") else _of_labels(opened, model, details)),
                "dagster/uri": dg.MetadataValue.path(str(opened.layout.datasets(model) / details["folder"])),
            },
            {"label_set": manifest.inputs["labels"]},
            outcomes.evaluations(manifest, opened.root),
        )

    yield from make_partitions(context, opened, make, lambda model: dataset_inputs(opened, model), observe)


def _of_labels(lab: Lab, model: str, details: dict[str, Any]) -> dict[str, Any]:
    labels = label_set_of(lab, model)
    frames = [(image.path, image.xy) for image in labels.images]
    return {
        "labels by folder and scorer": previews.table(details["counts"]),
        "labeled frames": previews.labels_picture(frames, labels.bodyparts),
        "network": details["net_type"],
    }


@dg.asset(
    deps=[training_dataset],
    kinds={"deeplabcut", "pytorch"},
    code_version="1",
    pool=GPU_POOL,
    op_tags=gpu_op_tags(),
    **_COMMON,
)
def trained_model(
    context: dg.AssetExecutionContext, config: TrainingConfig, lab: LabResource
) -> Iterator[dg.MaterializeResult]:
    """A network trained by DeepLabCut from the model's dataset: an immutable version, named by the hash of weights and configuration.

    Training again makes another version beside it; the model's partition means the newest. Starting weights come from the model
    specification (`imagenet`, `random`, another model of the lab, or a file). A specification with an `import` block takes a network
    that was trained elsewhere, and trains nothing.
    """
    opened = lab.open()

    def make(model: str) -> Made:
        if opened.specification(model).imported is not None:
            return _imported(opened, *import_model(opened, model, run_id=context.run.run_id, log=context.log.info))
        with leased_device(opened.layout, f"training {model}", context.log.info, gpus=opened.settings.gpus):
            version, trained_now = train_model(
                opened,
                model,
                overrides=config.overrides(),
                recompute=config.recompute,
                run_id=context.run.run_id,
                log=context.log.info,
            )
        card = version.card
        return Made(
            version.version,
            {
                "version": version.version,
                "released": ", ".join(released_by(opened, version)) or f"no; `dlc-assets release {version}` does it",
                "trained now": trained_now,
                "epoch": card["epoch"],
                "last epoch": card.get("last_epoch"),
                "stopped early": card.get("stopped_early", False),
                "resumed at": dg.MetadataValue.json(card.get("resumed_at", [])),
                "training seconds": card["training_seconds"],
                "body parts": ", ".join(card["bodyparts"]),
                "weights": dg.MetadataValue.json({"from": card["weights"], **card["weights_report"]}),
                "training": dg.MetadataValue.json(card["training"]),
                "custom": version.manifest.custom,
                **learning(version),
                "software": dg.MetadataValue.json(card["software"]),
                "dagster/uri": dg.MetadataValue.path(str(version.folder)),
            },
            {"training_dataset": version.manifest.inputs["training dataset"]},
        )

    yield from make_partitions(context, opened, make, lambda model: training_inputs(opened, model))


def _imported(lab: Lab, version: ModelVersion, imported_now: bool) -> Made:
    card = version.card
    return Made(
        version.version,
        {
            "version": version.version,
            "released": ", ".join(released_by(lab, version)) or f"no; `dlc-assets release {version}` does it",
            "imported now": imported_now,
            "imported from": dg.MetadataValue.json(card["imported"]),
            "runs here": version.why_not_runnable or "yes",
            "frames that trained it": card["training_frames_unknown"] or "known",
            "epoch": card["epoch"],
            "body parts": ", ".join(card["bodyparts"]),
            **learning(version),
            "dagster/uri": dg.MetadataValue.path(str(version.folder)),
        },
        {"training_dataset": version.manifest.inputs["training dataset"]},
    )


@dg.asset(
    deps=[trained_model],
    kinds={"deeplabcut", "parquet"},
    code_version="1",
    pool=GPU_POOL,
    op_tags=gpu_op_tags(),
    metadata={
        "dagster/column_schema": previews.column_schema(
            [
                ("set", "string", "train, validation or benchmark"),
                ("bodypart", "string", "body part, or (all)"),
                *SUMMARY_COLUMNS,
            ]
        )
    },
    **_COMMON,
)
def model_evaluation(
    context: dg.AssetExecutionContext, config: EvaluationConfig, lab: LabResource
) -> Iterator[dg.MaterializeResult]:
    """Errors of a model's current version, by set and body part, with the labels as they are now.

    Scored are the train and validation frames of its dataset, and the project's benchmark frames that it has not seen. Where only
    labels were corrected, the network is not run again.
    """
    opened = lab.open()

    def make(model: str) -> Made | None:
        version = find_version(opened.layout, model)
        if not version.can_be_scored:
            context.log.info(f"{version} is not evaluated: {version.why_not_scored}")
            return None
        manifest = evaluation_manifest(version, opened.layout)
        if manifest is None or config.recompute or to_be_scored(opened, version):
            manifest = evaluate_model(
                opened, version, run_id=context.run.run_id, log=context.log.info, recompute=config.recompute
            )
        return Made(
            manifest.data_version,
            evaluation_metadata(opened, version, manifest),
            {"trained_model": version.version},
        )

    yield from make_partitions(
        context, opened, make, lambda model: evaluation_inputs(opened, find_version(opened.layout, model))
    )


@dg.asset(
    deps=[model_evaluation],
    group_name="training",
    kinds={"parquet"},
    owners=["team:lab"],
    code_version="1",
    metadata={
        "dagster/column_schema": previews.column_schema([(c.name, c.type, c.description) for c in COMPARISON.columns])
    },
)
def model_comparison(context: dg.AssetExecutionContext, lab: LabResource) -> dg.MaterializeResult:
    """All versions of all models side by side, ranked where they can be: on benchmark frames that none of them has seen.

    Older versions are scored anew where benchmark labels were corrected or added.
    """
    opened: Lab = lab.open()
    for problem in rescore_older_versions(opened, run_id=context.run.run_id, log=context.log.info):
        context.log.warning(problem)
    compared, path = compare_models(opened)
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": len(compared.rows),
            "models": previews.table(compared.rows),
            "errors with their intervals": comparison_picture(compared.rows),
            "compared on": "\n".join(group.sentence() for group in compared.groups) or "nothing",
            "not ranked": "\n".join(compared.refused) or "nothing",
            "dagster/uri": dg.MetadataValue.path(str(path)),
        },
        data_version=dg.DataVersion(compared.data_version),
    )
