"""DeepLabCut's ``_assemblies.pickle``: the animals of each frame of a multi-animal analysis, before anybody tells them apart over time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dlc_assets.adoption.safe_pickle import load_pickle
from dlc_assets.lab.errors import InputError

ASSEMBLIES = "_assemblies.pickle"
_SINGLE = "single"  # DeepLabCut's key, and individual, of body parts that there is one of
NOT_TRACKED = (
    "the animals are not told apart over time: {first} of one frame may be another animal in the next. Import the table that tracking "
    "made (_el.h5, _bx.h5 or _sk.h5), if there is one"
)


@dataclass(frozen=True)
class Assemblies:
    """The animals of each frame: *values* (animals, body parts, 3, frames) float32: x, y, likelihood, NaN where there is none.

    *unique* (body parts, 3, frames) are the body parts that there is one of, *frames* (frames,) int64 the frames that are listed.
    """

    scorer: str
    bodyparts: tuple[str, ...]
    unique_bodyparts: tuple[str, ...]
    frames: np.ndarray
    values: np.ndarray
    unique: np.ndarray


def read_assemblies(path: Path) -> Assemblies:
    """Read the assemblies at *path*; the body parts' names stand in the ``_meta.pickle`` or ``_full.pickle`` beside it.

    Raises
    ------
    InputError
        The names are not there, do not fit, or one of the pickles holds more than data.
    """
    held = load_pickle(path)
    if not isinstance(held, dict):
        raise InputError(f"{path}: expected DeepLabCut's assemblies, a dictionary by frame, got {type(held).__name__}.")
    scorer, bodyparts, unique_bodyparts = _names(path)
    singles = held.get(_SINGLE) or {}
    if not isinstance(singles, dict) or not all(
        isinstance(value, (list, np.ndarray)) for value in held.values() if value is not singles
    ):
        raise InputError(f"{path}: expected DeepLabCut's assemblies, a list of animals for each frame.")
    numbers = sorted({key for key in [*held, *singles] if isinstance(key, int) and not isinstance(key, bool)})
    strange = [key for key in held if key != _SINGLE and key not in numbers]
    if strange or (numbers and numbers[0] < 0):
        raise InputError(f"{path}: expected frame numbers from 0, got {(strange or numbers)[0]!r}.")
    animals = max((len(held[number]) for number in numbers if number in held), default=0)
    values = np.full((animals, len(bodyparts), 3, len(numbers)), np.nan, dtype=np.float32)
    unique = np.full((len(unique_bodyparts), 3, len(numbers)), np.nan, dtype=np.float32)
    for place, number in enumerate(numbers):
        for animal, stated in enumerate(held.get(number, ())):
            values[animal, :, :, place] = _points(path, number, stated, len(bodyparts))
        if number in singles:
            unique[:, :, place] = _points(path, number, singles[number], len(unique_bodyparts))
    return Assemblies(scorer, bodyparts, unique_bodyparts, np.array(numbers, dtype=np.int64), values, unique)


def _points(path: Path, frame: int, stated: Any, count: int) -> np.ndarray:
    points: np.ndarray = stated if isinstance(stated, np.ndarray) else np.empty(0)
    if points.dtype.kind not in "fiu" or points.ndim != 2 or len(points) != count or points.shape[1] < 3:
        raise InputError(
            f"{path}, frame {frame}: expected {count} body parts of x, y, likelihood, got the shape {points.shape}."
        )
    made = points[:, :3].astype(np.float32)
    made[(made[:, :2] < 0).all(axis=1)] = np.nan  # DeepLabCut 3 writes -1 where nothing was found
    return made


def _part(held: Any, name: str) -> dict[Any, Any]:
    part = held.get(name) if isinstance(held, dict) else None
    return part if isinstance(part, dict) else {}


def _names(path: Path) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """Return the scorer, the body parts of each animal, and those that there is one of."""
    stem = path.name.removesuffix(ASSEMBLIES)
    meta, full = path.with_name(f"{stem}_meta.pickle"), path.with_name(f"{stem}_full.pickle")
    scorer = ""
    if meta.is_file():
        data = _part(load_pickle(meta), "data")
        scorer = str(data.get("Scorer", ""))
        if "bodyparts" in data:  # DeepLabCut 3
            return scorer, tuple(map(str, data["bodyparts"])), tuple(map(str, data.get("unique_bodyparts") or ()))
        names = _part(data, "DLC-model-config file").get("all_joints_names")
        if names:
            return scorer, tuple(map(str, names)), ()
    if full.is_file():
        names = _part(load_pickle(full), "metadata").get("all_joints_names")
        if names:
            return scorer, tuple(map(str, names)), ()
    raise InputError(
        f"{path}: the names of the body parts are in neither {meta.name} nor {full.name} beside it. Bring one of them, or import the table "
        "that tracking made."
    )
