"""What the UI shows of an evaluation and of the comparison of models: numbers that it plots, tables, figures, the model card."""

import base64
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg

from dlc_assets.assets import previews
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.manifest import Manifest
from dlc_assets.training import evaluation_figures as figures
from dlc_assets.training.card import card_text, write_card
from dlc_assets.training.evaluation import ERRORS, people_apart, read_summary, scored_frames
from dlc_assets.training.labels import FrameKey
from dlc_assets.training.models import ModelVersion

if TYPE_CHECKING:
    import pandas as pd

# Names in the UI, which plots each of them over the models' partitions, and what they are called in the summary.
_NUMBERS = {
    "error (px)": "rmse",
    "error, lower end (px)": "rmse_low",
    "error, upper end (px)": "rmse_high",
    "error above p-cutoff (px)": "rmse_pcutoff",
    "median error (px)": "median_error",
    "PCK within 5 px": "pck_5px",
    "PCK within 0.05 of the animal": "pck_05",
    "PCK within 0.1 of the animal": "pck_10",
    "PCK within 0.2 of the animal": "pck_20",
    "mAP": "map",
    "mAR": "mar",
}


def evaluation_metadata(lab: Lab, version: ModelVersion, manifest: Manifest) -> dict[str, Any]:
    """Return what the UI shows of the evaluation *manifest* of *version*; what is not known is left out."""
    import pandas as pd

    folder = lab.layout.evaluation(version.model, version.version)
    summary, errors = read_summary(lab, version), pd.read_parquet(folder / ERRORS)
    details = manifest.details
    scored = details[details["scoring_set"]] or {}
    paths = {frame.key: frame.path for frame in scored_frames(lab, version)}
    speed = details.get("speed") or {}
    numbers = {
        **{name: scored.get(column) for name, column in _NUMBERS.items()},
        "human error (px)": details.get("human_error"),
        "frames/s": speed.get("frames_per_second"),
        "parameters": details.get("parameters"),
        "p-cutoff": details["pcutoff"],
    }
    return {
        "version": version.version,
        "scored on": details["scoring_set"],
        **{name: number for name, number in numbers.items() if number is not None},
        "speed": dg.MetadataValue.json(speed),
        "errors": previews.table(
            [
                {name: None if value != value else value for name, value in row.items()}
                for row in summary.to_dict("records")
            ]
        ),
        **evaluation_pictures(errors, people_apart(lab, version), paths, details["pcutoff"]),
        **learning(version),
        "model card": dg.MetadataValue.md(card_text(write_card(lab, version))),
        "dagster/row_count": len(errors),
        "dagster/uri": dg.MetadataValue.path(str(folder)),
    }


def learning(version: ModelVersion) -> dict[str, dg.MarkdownMetadataValue]:
    """Return the learning curve, of versions that have one: of an imported network it may be lost."""
    return (
        {"learning curve": previews.learning_curve(version.learning_stats)} if version.learning_stats.is_file() else {}
    )


def embedded(draw: Callable[[], bytes], alt: str) -> dg.MarkdownMetadataValue:
    """Return the PNG or JPEG that *draw* gives inside Markdown; what went wrong, where drawing fails: the result is stored already."""
    try:
        content = draw()
    except Exception as error:  # noqa: BLE001  # whatever a drawing library makes of odd data
        return dg.MetadataValue.md(f"No picture could be drawn ({type(error).__name__}: {error}).")
    kind = "png" if content.startswith(b"\x89PNG") else "jpeg"
    return dg.MetadataValue.md(f"![{alt}](data:image/{kind};base64,{base64.b64encode(content).decode()})")


def evaluation_pictures(
    errors: "pd.DataFrame", human: "pd.DataFrame | None", paths: Mapping[FrameKey, Path], pcutoff: float
) -> dict[str, dg.MarkdownMetadataValue]:
    """Return the pictures of one evaluation by their names in the UI."""
    return {
        "error by body part": embedded(
            lambda: figures.as_png(figures.error_by_bodypart(errors, human)), "error by body part"
        ),
        "histogram of errors": embedded(
            lambda: figures.as_png(figures.error_histogram(errors, pcutoff)), "histogram of errors"
        ),
        "PCK curve": embedded(lambda: figures.as_png(figures.pck_curve(errors, human)), "PCK curve"),
        "worst frames": embedded(
            lambda: figures.as_jpeg(figures.worst_frames(errors, paths)), "labels and estimates on the worst frames"
        ),
    }


def comparison_picture(rows: Sequence[Mapping[str, Any]]) -> dg.MarkdownMetadataValue:
    """Return the errors of all ranked versions with their intervals."""
    return embedded(lambda: figures.as_png(figures.comparison_figure(rows)), "errors of the versions compared")
