"""How sure a mean error is: intervals by drawing whole videos anew, because frames of one video are alike.

Drawing single frames would take a hundred frames of one video for a hundred independent facts, and call noise a difference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from dlc_assets.lab.keys import natural

DRAWS = 2000
LEVEL = 0.95
_SEED = 20260101
_NORMAL = 1.959963984540054  # the normal distribution's 97.5 % quantile


@dataclass(frozen=True)
class Units:
    """What is drawn anew: whole videos, or blocks of neighbouring frames where there is one video only.

    Attributes
    ----------
    kind
        ``videos`` or ``blocks``.
    of_frame
        (frames,) int: the unit of each frame.
    count
        Number of units.
    """

    kind: Literal["videos", "blocks"]
    of_frame: np.ndarray
    count: int


@dataclass(frozen=True)
class Interval:
    """A 95 % interval, in the unit of what it was computed from (px)."""

    low: float
    high: float

    def excludes_zero(self) -> bool:
        """Say whether zero lies outside: a difference with such an interval is more than noise."""
        return self.low > 0 or self.high < 0


def units_of(frames: Sequence[tuple[str, str]]) -> Units:
    """Return the units of *frames*, each (folder, image), where a frame may come several times (once for each of its labels).

    Units are folders; in one folder alone, blocks of neighbouring frames, about the square root of their number long.
    """
    folders = sorted({folder for folder, _ in frames})
    if len(folders) != 1:
        place = {folder: at for at, folder in enumerate(folders)}
        return Units("videos", np.array([place[folder] for folder, _ in frames], dtype=int), len(folders))
    ordered = sorted({image for _, image in frames}, key=lambda image: (natural(image), image))
    count = math.ceil(len(ordered) / max(1, round(math.sqrt(len(ordered)))))
    blocks = np.array_split(np.arange(len(ordered)), count)
    block_of = {ordered[at]: number for number, members in enumerate(blocks) for at in members}
    return Units("blocks", np.array([block_of[image] for _, image in frames], dtype=int), count)


def mean_interval(values: np.ndarray, units: Units) -> Interval | None:
    """Return the 95 % interval of the mean of *values*, (frames,) or (frames, labels of a frame), NaN where there is none.

    Each draw takes as many units as there are, some twice, some not at all, and means over all their values. With few units the
    spread of the draws is too narrow; it is widened as Student's t of units - 1 degrees of freedom asks for. The draws are
    seeded: the same values give the same interval.

    Returns
    -------
    Interval or None
        None where fewer than two units have a value: nothing can be said then.
    """
    flat = values.reshape(len(values), -1)
    there = ~np.isnan(flat)
    sums = np.bincount(units.of_frame, weights=np.where(there, flat, 0.0).sum(axis=1), minlength=units.count)
    counts = np.bincount(units.of_frame, weights=there.sum(axis=1), minlength=units.count)
    sums, counts = sums[counts > 0], counts[counts > 0]
    if len(counts) < 2:
        return None
    draws = _draws(len(counts))
    means = (draws @ sums) / (draws @ counts)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    mean = sums.sum() / counts.sum()
    wider = _widening(len(counts))
    return Interval(float(mean - wider * (mean - low)), float(mean + wider * (high - mean)))


@lru_cache(maxsize=32)
def _draws(units: int) -> np.ndarray:
    """Return how often each unit is taken in each draw, (DRAWS, units)."""
    generator = np.random.default_rng([_SEED, units])
    return generator.multinomial(units, np.full(units, 1 / units), size=DRAWS).astype(float)


def _widening(units: int) -> float:
    from scipy.special import stdtrit

    return math.sqrt(units / (units - 1)) * float(stdtrit(units - 1, (1 + LEVEL) / 2)) / _NORMAL
