"""The model card: what a person should know of a version before using it, in Markdown beside its weights."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dlc_assets.engine.net_types import licence_of_weights
from dlc_assets.lab.errors import NotFoundError
from dlc_assets.lab.files import atomic_path, sha256_unchanged_file, write_text
from dlc_assets.lab.lab import Lab
from dlc_assets.lab.manifest import Manifest, read_manifest
from dlc_assets.training.evaluation import ERRORS, ScoredFrame, read_summary, scored_frames
from dlc_assets.training.evaluation_figures import as_jpeg, worst_frames
from dlc_assets.training.models import ModelVersion, evaluation_manifest
from dlc_assets.training.scores import ALL, SETS

if TYPE_CHECKING:
    import pandas as pd

_PICTURE_LINE = re.compile(r"^!\[.*\n+", re.MULTILINE)
_FEW_LABELS = 20
_LISTED = 12


def write_card(lab: Lab, version: ModelVersion) -> Path:
    """Write the card of *version*, which was evaluated, and the picture of its worst frames; return the card's file.

    Raises
    ------
    NotFoundError
        *version* was not evaluated: its card says how good it is.
    """
    import pandas as pd

    evaluated = evaluation_manifest(version, lab.layout)
    if evaluated is None:
        raise NotFoundError(f"{version} is not evaluated yet: materialize model_evaluation for {version.model}.")
    place = lab.layout.evaluation(version.model, version.version)
    summary, errors = read_summary(lab, version), pd.read_parquet(place / ERRORS)
    frames = scored_frames(lab, version)
    picture = lab.layout.model_card_examples(version.model, version.version)
    with atomic_path(picture) as partial:
        partial.write_bytes(as_jpeg(worst_frames(errors, {frame.key: frame.path for frame in frames})))
    dataset = read_manifest(lab.layout.datasets(version.model) / str(version.card.get("dataset")))
    sections = [
        _head(version),
        _use(lab, version, summary, evaluated, frames, dataset),
        _errors(summary, evaluated),
        f"## Examples\n\n![The frames with the largest errors]({picture.name})\n\nThe frames that it is scored on with the largest "
        "errors: rings are labels, crosses are what the network said.",
        _data(version, dataset),
        _training(version),
        _files(version),
    ]
    path = lab.layout.model_card(version.model, version.version)
    write_text(path, "\n\n".join(sections) + "\n")
    return path


def card_text(path: Path) -> str:
    """Return the card at *path* without its picture, for where links to files beside it lead nowhere."""
    return _PICTURE_LINE.sub("", path.read_text(encoding="utf-8"))


def _head(version: ModelVersion) -> str:
    card = version.card
    lines = [
        f"# {version}",
        f"{card['net_type']}{_with_detector(card)}, for the body parts {', '.join(card['bodyparts'])}. {_origin(version)}",
    ]
    if version.manifest.custom:
        stated = ", ".join(f"{name} {value}" for name, value in version.manifest.overrides.items())
        lines.append(f"Custom: its run stated settings of its own ({stated}).")
    return "\n\n".join(lines)


def _origin(version: ModelVersion) -> str:
    card, day = version.card, version.manifest.made[:10]
    if not card.get("imported"):
        return f"Trained on {day} from labels of the project {_project(card)}."
    came = card["imported"]
    return (
        f"Trained elsewhere, and imported on {day} from the project {_project(card)} (iteration {came['iteration']}, trainset "
        f"{came['trainset_percent']} %, shuffle {came['shuffle']}, {came['snapshot']})."
    )


def _with_detector(card: Mapping[str, Any]) -> str:
    detector = card.get("detector") or {}
    return f" with the detector {detector['name']}" if detector.get("name") else ""


def _project(card: Mapping[str, Any]) -> str:
    return str(card.get("project_name") or (card.get("specification") or {}).get("project") or card.get("project"))


# --- what for -------------------------------------------------------------------------------------


def _use(
    lab: Lab,
    version: ModelVersion,
    summary: pd.DataFrame,
    evaluated: Manifest,
    frames: Sequence[ScoredFrame],
    dataset: Manifest | None,
) -> str:
    description = (version.card.get("specification") or {}).get(
        "description"
    ) or "The model specification states no description."
    folders = sorted({frame.folder for frame in frames})
    known = [
        f"Labeled videos: {len(folders)} ({_listed(folders)}), pictures of {_sizes(frames)}.",
        *_named_in(folders, lab),
    ]
    limits = [
        "Other cameras, distances, light, arenas, strains and coats than those of the labeled videos are not tested."
    ]
    limits += _limits(summary, evaluated, dataset)
    return "\n\n".join(
        ["## Intended use and limits", description.strip(), _bullets(known), "Limits:", _bullets(limits)]
    )


def _sizes(frames: Sequence[ScoredFrame]) -> str:
    from PIL import Image

    counted: Counter[str] = Counter()
    for frame in frames:
        if frame.path.is_file():
            with Image.open(frame.path) as image:
                counted[f"{image.width}x{image.height} px"] += 1
    return _listed([size for size, _ in counted.most_common()]) or "unknown size"


def _named_in(folders: Sequence[str], lab: Lab) -> list[str]:
    """Return what the names of the labeled videos say of cameras and subjects that lab.yaml declares."""
    words = {word for folder in folders for word in re.split(r"[^0-9A-Za-z]+", folder)}
    cameras = [name for name in lab.settings.devices if name in words]
    subjects = {name: lab.settings.subject(name) for name in lab.settings.subjects if name in words}
    said = [f"Cameras, by the videos' names: {_listed(cameras)}."] if cameras else []
    if subjects:
        species = sorted({subject.species for subject in subjects.values() if subject.species})
        strains = sorted({subject.strain for subject in subjects.values() if subject.strain})
        of = "; ".join([*species, *strains])
        said.append(f"Subjects, by the videos' names: {_listed(sorted(subjects))}{f' ({of})' if of else ''}.")
    return said


def _limits(summary: pd.DataFrame, evaluated: Manifest, dataset: Manifest | None) -> list[str]:
    found = []
    if evaluated.details.get("scoring_set") != "benchmark":
        found.append(
            "There are no benchmark frames. The validation frames chose the snapshot, so that its error on them is too good."
        )
    note = str(((dataset.details if dataset else {}).get("split") or {}).get("note", ""))
    if "optimistic" in note:
        found.append(
            "Training has seen frames of the very videos that it is scored on: the error is too good for new videos."
        )
    labels = (dataset.details if dataset else {}).get("labels_of_bodyparts") or {}
    few = [f"{part} ({count})" for part, count in labels.items() if count < _FEW_LABELS]
    if few:
        found.append(f"Fewer than {_FEW_LABELS} labels: {_listed(few)}.")
    scored = summary[(summary["set"] == evaluated.details.get("scoring_set")) & (summary["bodypart"] != ALL)]
    if len(scored) > 1 and scored["rmse"].notna().any():
        errors = dict(zip(scored["bodypart"], scored["rmse"], strict=True))
        worst = max(errors, key=lambda part: -1.0 if errors[part] != errors[part] else errors[part])
        found.append(f"It is worst on {worst}: {errors[worst]:.1f} px.")
    return found


# --- how good -------------------------------------------------------------------------------------


def _errors(summary: pd.DataFrame, evaluated: Manifest) -> str:
    details = evaluated.details
    columns = (
        "set",
        "labels",
        "mean error (px)",
        "95 % interval",
        "median (px)",
        "above p-cutoff (px)",
        "within 5 px",
        "mAP",
    )
    totals = [row for name in SETS for row in _rows_of(summary, name) if row["bodypart"] == ALL]
    table = _table(columns, [(row["set"], *_cells(row), _number(row["map"], 1)) for row in totals])
    scored = [row for row in _rows_of(summary, str(details.get("scoring_set"))) if row["bodypart"] != ALL]
    parts = _table(("body part", *columns[1:-1]), [(row["bodypart"], *_cells(row)) for row in scored])
    human, speed = details.get("human_error"), details.get("speed") or {}
    said = [
        "The error is the Euclidean distance between label and estimate. Intervals are by bootstrap over videos (over blocks of "
        "frames where there is one video).",
        f"Two people who labeled the same frames are {human:.2f} px apart on average ({details['human_error_labels']} labels)."
        if human is not None
        else "No two people labeled the same frame: there is no human error to compare with.",
    ]
    if details.get("parameters"):
        said.append(f"The network has {details['parameters'] / 1e6:.1f} million parameters.")
    if speed:
        said.append(
            f"Speed: {speed['frames_per_second']:g} frames/s at {speed['width']}x{speed['height']} px on {speed['device_name']}."
        )
    return "\n\n".join(
        [
            "## Errors",
            f"Judged by: {details.get('scoring_set')}.",
            table,
            f"By body part, {details.get('scoring_set')}:",
            parts,
            " ".join(said),
        ]
    )


def _rows_of(summary: pd.DataFrame, name: str) -> list[dict[str, Any]]:
    return [
        {str(key): value for key, value in row.items()} for row in summary[summary["set"] == name].to_dict("records")
    ]


def _cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    interval = "not known" if row["rmse_low"] != row["rmse_low"] else f"{row['rmse_low']:.2f} to {row['rmse_high']:.2f}"
    share = "" if row["pck_5px"] != row["pck_5px"] else f"{row['pck_5px']:.0%}"
    return (
        str(row["n"]),
        _number(row["rmse"]),
        interval,
        _number(row["median_error"]),
        _number(row["rmse_pcutoff"]),
        share,
    )


# --- from what ------------------------------------------------------------------------------------


def _data(version: ModelVersion, dataset: Manifest | None) -> str:
    card, details = version.card, dataset.details if dataset else {}
    lines = [
        f"Labels by: {_listed(card.get('scorers') or []) or 'not known'}.",
        f"Hash of the label set: `{card.get('label_hash')}`.",
    ]
    if not details:
        return "\n\n".join(["## Data", _bullets([*lines, "Its training dataset is no longer in the store."])])
    sets = ", ".join(f"{name} {number}" for name, number in (details.get("sets") or {}).items() if number)
    lines += [f"Frames: {sets}.", f"Split: {(details.get('split') or {}).get('note', 'not known')}"]
    counts = [
        (row["folder"], row["scorer"], row["found"], row["used"], row["reasons"]) for row in details.get("counts") or ()
    ]
    numbers = details.get("labels_of_bodyparts") or {}
    parts = [(part, numbers[part]) for part in card["bodyparts"] if part in numbers]
    return "\n\n".join(
        [
            "## Data",
            _bullets(lines),
            _table(("video", "labeled by", "frames found", "used", "reasons for those left out"), counts),
            _table(("body part", "labels"), parts),
        ]
    )


def _training(version: ModelVersion) -> str:
    import yaml

    card = version.card
    specification = card.get("specification") or {}
    weights = str(card.get("weights") or specification.get("weights") or "not known")
    report = card.get("weights_report") or {}
    software = ", ".join(f"{name} {number}" for name, number in (card.get("software") or {}).items())
    facts = [
        f"Imported with: {software or 'not known'}.",
        "When, from which weights and with what it was trained is not known here.",
    ]
    if not card.get("imported"):
        facts = _training_facts(card, weights, report, software)
    stated = yaml.safe_dump(specification, sort_keys=False, allow_unicode=True, width=100).strip()
    return "\n\n".join(["## Training", _bullets(facts), f"The model specification:\n\n```yaml\n{stated}\n```"])


def _training_facts(card: Mapping[str, Any], weights: str, report: Mapping[str, Any], software: str) -> list[str]:
    return [
        f"Starting weights: `{weights}`"
        + (
            f" ({report['loaded']} tensors loaded, {report.get('from random numbers', 0)} from random numbers)"
            if "loaded" in report
            else ""
        )
        + f". Licence: {licence_of_weights(weights)}.",
        f"Seed: {(card.get('training') or {}).get('seed', 'not known')}. Kept snapshot: epoch {card.get('epoch')} of "
        f"{(card.get('training') or {}).get('epochs', 'an unknown number')}, the best on the validation frames.",
        f"Software: {software or 'not known'}.",
    ]


def _files(version: ModelVersion) -> str:
    rows = [
        (path.relative_to(version.folder).as_posix(), what, f"`{sha256_unchanged_file(path)}`")
        for path, what in _networks(version)
        if path.is_file()
    ]
    return "\n\n".join(["## Files", _table(("file", "what", "sha256"), rows)])


def _networks(version: ModelVersion) -> Iterable[tuple[Path, str]]:
    for epoch, path in version.snapshots.items():
        of_training = ", the best" if path == version.snapshot and not version.card.get("imported") else ""
        yield path, f"epoch {epoch}{of_training}"
    if version.detector is not None:
        yield version.detector, "detector, which finds the animal for the network"
    yield version.pytorch_config, "configuration of the network"


# --- words ----------------------------------------------------------------------------------------


def _number(value: float, digits: int = 2) -> str:
    return "" if value is None or value != value else f"{value:.{digits}f}"


def _bullets(lines: Iterable[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(
        "| " + " | ".join(str(cell).replace("|", "\\|").replace("\n", " ") for cell in line) + " |" for line in lines
    )


def _listed(names: Sequence[str]) -> str:
    more = f", and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more
