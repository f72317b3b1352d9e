"""Where in the frame the poses of a result file were estimated: DeepLabCut says it in a pickle beside the file, or nowhere.

Results of a cropped analysis are relative to the crop. Without its offset they look right and are not.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dlc_assets.adoption.assembly_files import ASSEMBLIES
from dlc_assets.adoption.result_files import file_name, plain_name
from dlc_assets.adoption.safe_pickle import load_pickle
from dlc_assets.lab.errors import InputError

META = "_meta.pickle"
_TRACKERS = re.compile(r"_(el|bx|sk|ctd)$")  # DeepLabCut's marks of its trackers, which the pickle's name lacks


@dataclass(frozen=True)
class CropFact:
    """The part of the frame that a network saw: *x* and *y* from, to (px), None where it saw all of it; *source* says who says so."""

    x: tuple[int, int] | None
    y: tuple[int, int] | None
    source: str

    @property
    def offset(self) -> tuple[int, int]:
        """What is added to x and y of the results, px."""
        return (self.x[0] if self.x else 0, self.y[0] if self.y else 0)


@dataclass(frozen=True)
class MetaFacts:
    """What a ``_meta.pickle`` tells: the crop, the network's scorer, and how many frames the video had (None: not said)."""

    crop: CropFact
    scorer: str
    frames: int | None


def meta_file(result: Path) -> Path | None:
    """Return the ``_meta.pickle`` that DeepLabCut wrote beside *result*, None where there is none."""
    return next((path for path in _candidates(result) if path.is_file()), None)


def crop_of_result(path: Path) -> CropFact | None:
    """Return the crop of the DeepLabCut result at *path*, None where its ``_meta.pickle`` is gone.

    Raises
    ------
    InputError
        The pickle holds more than data, is damaged, or says nothing of the crop.
    """
    facts = meta_of_result(path)
    return None if facts is None else facts.crop


def meta_of_result(path: Path) -> MetaFacts | None:
    """Return what the ``_meta.pickle`` of the result at *path* tells; raises as `crop_of_result`."""
    meta = meta_file(path)
    if meta is None:
        return None
    loaded = load_pickle(meta)
    data = loaded.get("data") if isinstance(loaded, dict) else None
    if not isinstance(data, dict):
        raise InputError(
            f"{meta}: expected DeepLabCut's facts of an analysis (a dictionary with data), got {type(loaded).__name__}."
        )
    frames = data.get("nframes")
    return MetaFacts(
        _crop(meta, data), str(data.get("Scorer", "")), int(frames) if isinstance(frames, (int, np.integer)) else None
    )


def _candidates(result: Path) -> Iterator[Path]:
    stem = plain_name(result).removesuffix(ASSEMBLIES)
    folders = result.name.removesuffix(file_name(result))  # of an archive made on Windows: part of the name
    yield result.with_name(f"{folders}{stem}{META}")
    without = _TRACKERS.sub("", stem)
    if without != stem:
        yield result.with_name(f"{folders}{without}{META}")


def _crop(meta: Path, data: dict[Any, Any]) -> CropFact:
    name = file_name(meta)
    if "cropping" not in data:
        raise InputError(f"{meta}: it does not say whether the video was cropped. State the crop by hand.")
    if not data["cropping"]:
        return CropFact(None, None, f"{name} (not cropped)")
    stated = data.get("cropping_parameters")
    whole = (int, float, np.integer, np.floating)
    if (
        not isinstance(stated, (list, tuple, np.ndarray))
        or len(stated) != 4
        or not all(isinstance(v, whole) for v in stated)
    ):
        raise InputError(
            f"{meta}: expected cropping_parameters as [x from, x to, y from, y to], got {stated!r}. State the crop by hand."
        )
    if not all(math.isfinite(value) and float(value) == int(value) for value in stated):
        raise InputError(f"{meta}: expected cropping_parameters in whole px, got {stated!r}. State the crop by hand.")
    x0, x1, y0, y1 = (int(value) for value in stated)
    if not (0 <= x0 < x1 and 0 <= y0 < y1):
        raise InputError(
            f"{meta}: cropping_parameters {[x0, x1, y0, y1]} are no part of a frame. State the crop by hand."
        )
    return CropFact((x0, x1), (y0, y1), name)
