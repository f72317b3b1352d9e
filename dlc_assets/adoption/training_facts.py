"""Which frames a network was trained on: DeepLabCut says it in a pickle of its training dataset, ``Documentation_data-*.pickle``."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dlc_assets.adoption.result_files import images_of
from dlc_assets.adoption.safe_pickle import load_pickle
from dlc_assets.lab.errors import DlcAssetsError, InputError

TRAINING_DATASETS = "training-datasets"
_NAME = re.compile(r"Documentation_data-(?P<task>.+)_(?P<percent>\d+)shuffle(?P<shuffle>\d+)\.pickle")


@dataclass(frozen=True)
class TrainingFrames:
    """The images of one shuffle.

    Parameters
    ----------
    path
        The pickle that says so.
    fraction
        Share of the images that is for training.
    train
        The images that it was trained on, as ``labeled-data/<video>/<image>``.
    test
        Those kept for testing; None where the table of the dataset's labels, which names them, is gone.
    train_count, test_count
        How many of each the pickle lists. *train* may be fewer: DeepLabCut leaves images without a label out.
    problems
        What is odd, in sentences.
    """

    path: Path
    fraction: float
    train: tuple[str, ...]
    test: tuple[str, ...] | None
    train_count: int
    test_count: int
    problems: tuple[str, ...] = ()


def documentation_files(project: Path, iteration: int | None = None) -> list[Path]:
    """Return the ``Documentation_data`` pickles of *project*, of one *iteration* or of all, sorted."""
    folder = "iteration-*" if iteration is None else f"iteration-{iteration}"
    return sorted((project / TRAINING_DATASETS).glob(f"{folder}/*/Documentation_data-*shuffle*.pickle"))


def training_frames_of(project: Path, iteration: int, fraction: float, shuffle: int) -> TrainingFrames | None:
    """Return the images that shuffle *shuffle* of *project* was trained on, None where DeepLabCut's pickle of them is gone.

    Parameters
    ----------
    project
        The project's folder.
    iteration, fraction, shuffle
        As DeepLabCut has them; *fraction* is the TrainingFraction, 0.95 say.

    Raises
    ------
    InputError
        Several files fit, or the file is damaged or holds more than data. State ``trained_on:`` then.
    """
    percents = {int(100 * fraction), round(100 * fraction)}  # DeepLabCut cuts off, and 100 * 0.29 is 28.999...
    found = [
        path
        for path in documentation_files(project, iteration)
        if (named := _NAME.fullmatch(path.name))
        and int(named["percent"]) in percents
        and int(named["shuffle"]) == shuffle
    ]
    if len(found) > 1:
        raise InputError(
            f"{project}: {len(found)} files say what shuffle {shuffle} of iteration {iteration} was trained on: "
            f"{', '.join(map(str, found))}. Keep the one that is right, or state trained_on."
        )
    return read_training_frames(found[0]) if found else None


def read_training_frames(path: Path) -> TrainingFrames:
    """Read one ``Documentation_data`` pickle; raises InputError as `training_frames_of`."""
    loaded = load_pickle(path)
    if not isinstance(loaded, (list, tuple)) or len(loaded) != 4 or not isinstance(loaded[0], (list, tuple)):
        raise InputError(
            f"{path}: expected DeepLabCut's [images, training, test, fraction], got {_what(loaded)}. State trained_on."
        )
    images, train_indices, test_indices, fraction = loaded
    train_rows, test_rows = _indices(path, train_indices), _indices(path, test_indices)
    if not isinstance(fraction, (int, float, np.integer, np.floating)) or not math.isfinite(float(fraction)):
        raise InputError(f"{path}: expected the training fraction as a number, got {fraction!r}. State trained_on.")
    train = tuple(dict.fromkeys(_image(path, number, entry) for number, entry in enumerate(images)))
    problems = []
    if len(train) != len(train_rows):
        problems.append(
            f"{path.name}: {len(train_rows)} images are listed for training and {len(train)} are described: those without a label were "
            "not used"
        )
    test, why = _by_row(path, test_rows)
    if why:
        problems.append(why)
    both = sorted({*train} & {*(test or ())})
    if both:
        problems.append(f"{path.name}: {len(both)} image(s) are for training and for testing, {both[0]} first")
    return TrainingFrames(path, float(fraction), train, test, len(train_rows), len(test_rows), tuple(problems))


def _indices(path: Path, stated: Any) -> list[int]:
    """Return the rows of the dataset's labels that *stated* lists; DeepLabCut fills up lists of its splits with -1."""
    values = stated.tolist() if isinstance(stated, np.ndarray) else stated
    if not isinstance(values, (list, tuple)) or not all(isinstance(value, (int, np.integer)) for value in values):
        raise InputError(f"{path}: expected the numbers of images, got {_what(stated)}. State trained_on.")
    return [int(value) for value in values if value >= 0]


def _image(path: Path, number: int, entry: Any) -> str:
    stated = entry.get("image") if isinstance(entry, dict) else None
    if isinstance(stated, np.ndarray):
        stated = stated.tolist()
    if isinstance(stated, (list, tuple)) and stated and all(isinstance(part, str) for part in stated):
        return image_name("/".join(stated))
    if isinstance(stated, str) and stated:
        return image_name(stated)
    raise InputError(f"{path}: image {number} has no name ({_what(stated)}). State trained_on.")


def image_name(stated: str) -> str:
    """Return an image as ``labeled-data/<video>/<image>``, of a path of any system, absolute or not."""
    parts = [part for part in stated.replace("\\", "/").split("/") if part not in {"", "."}]
    if "labeled-data" in parts:
        parts = parts[len(parts) - 1 - parts[::-1].index("labeled-data") :]
    return "/".join(parts)


def _by_row(path: Path, rows: Iterable[int]) -> tuple[tuple[str, ...] | None, str]:
    """Return the images in *rows* of the dataset's labels, and why they are not known, if so."""
    tables = [*sorted(path.parent.glob("CollectedData_*.h5")), *sorted(path.parent.glob("CollectedData_*.csv"))]
    if not tables:
        return None, f"{path.parent.name} has no CollectedData table: which images were for testing is not known"
    try:
        images = images_of(tables[0])
    except DlcAssetsError as error:
        return None, f"which images were for testing is not known: {error}"
    if images is None or max(rows, default=-1) >= len(images):
        return None, f"{tables[0].name} does not fit {path.name}: which images were for testing is not known"
    return tuple(image_name(images[row]) for row in rows), ""


def _what(value: Any) -> str:
    return f"{type(value).__name__} of {len(value)}" if hasattr(value, "__len__") else type(value).__name__
