"""How far poses that were estimated again lie from those of a table, position by position.

The table is read a stretch of frames at a time, so that memory does not grow with the length of the recording.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from dlc_assets.bundles.tolerance import Tolerance
from dlc_assets.lab.errors import InputError
from dlc_assets.poses.differences import Distances, is_likely
from dlc_assets.poses.table_file import PoseTableFile, quoted

_WORST = 5


@dataclass(frozen=True)
class WorstFrame:
    """A frame and its body part that differs most: px apart (infinite: one side has no position), likelihood then and again.

    `excess` is how many times the tolerance the difference is.
    """

    frame: int
    bodypart: str
    distance: float
    likelihood: float
    likelihood_again: float
    excess: float

    def sentence(self) -> str:
        """Return what differs, in words."""
        apart = f"{self.distance:.3g} px" if np.isfinite(self.distance) else "a position on one side only"
        return f"frame {self.frame}, {self.bodypart}: {apart}, likelihood {self.likelihood:.4g} then and {self.likelihood_again:.4g} again"


@dataclass
class Agreement:
    """How poses made again compare with those of a table.

    Attributes
    ----------
    frames, positions
        Frames compared, and frames times body parts.
    identical
        Positions of which x, y and likelihood are the same to the last bit.
    seen, agreeing
        Positions that reach the tolerance's likelihood on either side; of them, those within the tolerance.
    elsewhere
        Positions that are not seen and lie farther apart than the tolerance: counted, and not judged.
    gained, lost
        Detections that differ: positions that reach the p-cutoff only again, or only in the table.
    distances
        Of the seen positions that are there on both sides, px.
    largest_px, largest_likelihood
        Of the seen positions (infinite where one side has none), and of all.
    bias_px, bias_bodypart
        The largest mean difference of a body part in x or y, over positions that agree and reach the p-cutoff on both sides; 0 where
        there are none.
    worst
        Frames that differ most, the worst first; none that are the same.
    """

    frames: int = 0
    positions: int = 0
    identical: int = 0
    seen: int = 0
    agreeing: int = 0
    elsewhere: int = 0
    gained: int = 0
    lost: int = 0
    distances: Distances = field(default_factory=Distances)
    largest_px: float = 0.0
    largest_likelihood: float = 0.0
    bias_px: float = 0.0
    bias_bodypart: str = ""
    worst: list[WorstFrame] = field(default_factory=list)

    @property
    def share(self) -> float:
        """Share of the seen positions that agree; NaN where none is seen."""
        return self.agreeing / self.seen if self.seen else np.nan

    def notes(self, tolerance: Tolerance) -> list[str]:
        """Return what the comparison says nothing of, in sentences."""
        below = f"below a likelihood of {tolerance.likelihood_from:g}"
        said = []
        if not self.seen:
            said.append(f"every position is {below} on both sides: only the likelihoods were judged")
        if self.elsewhere:
            said.append(
                f"{self.elsewhere} of {self.positions - self.seen} positions {below} on both sides lie more than "
                f"{tolerance.position_px:g} px apart; the network saw nothing there, and they are not judged"
            )
        return said

    def differs(self, tolerance: Tolerance) -> list[str]:
        """Return a sentence for each limit of *tolerance* that does not hold."""
        found = []
        if self.seen and self.share < tolerance.least_share:
            found.append(
                f"{self.seen - self.agreeing} of {self.seen} positions with a likelihood of {tolerance.likelihood_from:g} or more "
                f"({100 * (1 - self.share):.3g} %) differ by more than {tolerance.position_px:g} px or {tolerance.likelihood:g} of "
                f"likelihood; at most {100 * (1 - tolerance.least_share):.2g} % may"
            )
        if not self.seen and self.largest_likelihood > tolerance.likelihood:
            found.append(
                f"no position is seen on either side, and likelihoods differ by up to {self.largest_likelihood:.3g}; at most "
                f"{tolerance.likelihood:g} is expected"
            )
        if tolerance.bias_px is not None and self.bias_px > tolerance.bias_px:
            found.append(
                f"{self.bias_bodypart} lies {self.bias_px:.3g} px aside on average; at most {tolerance.bias_px:g} px is expected"
            )
        return found


def compare_again(
    table_path: Path,
    bodyparts: Sequence[str],
    again: Callable[[int, int], np.ndarray],
    frames: int,
    tolerance: Tolerance,
    pcutoff: float | None,
) -> Agreement:
    """Compare the pose table at *table_path* with poses of the same frames that were estimated again.

    Parameters
    ----------
    bodyparts
        Of the poses made again.
    again
        Gives them: (last - first, body parts, 3) float32 of the frames *first* up to, not including, *last*; x and y in px and
        likelihood, NaN where nothing was found.
    frames
        Compare so many, from the first on; no more than either side has.

    Raises
    ------
    InputError
        The file is no pose table, or has other body parts.
    """
    table = PoseTableFile.open(table_path)
    if sorted(table.bodyparts) != sorted(bodyparts) or len(table.individuals) != 1:
        raise InputError(
            f"{table_path.name}: the table has the body parts {quoted(table.bodyparts)}, and the network beside it in the bundle finds "
            f"{quoted(bodyparts)}. They do not belong together: get the bundle again from whoever wrote it."
        )
    order = [list(bodyparts).index(name) for name in table.bodyparts]
    counted = _Counted(table.bodyparts, tolerance, pcutoff)
    for start in sorted({group.first_frame for group in table.row_groups}):
        if start >= frames:
            break
        names, values = table.values([group for group in table.row_groups if group.first_frame == start])
        stop = min(start + values.shape[2], frames)
        placed = values[[names.index((table.individuals[0], name)) for name in table.bodyparts], :, : stop - start]
        counted.add(start, placed, again(start, stop)[:, order].transpose(1, 2, 0))
    return counted.agreement()


class _Counted:
    """Counts stretch by stretch; arrays are (body parts, 3, frames)."""

    def __init__(self, bodyparts: Sequence[str], tolerance: Tolerance, pcutoff: float | None) -> None:
        self._bodyparts, self._tolerance, self._pcutoff = bodyparts, tolerance, pcutoff
        self._found = Agreement()
        self._sums = np.zeros((len(bodyparts), 2))
        self._sure = np.zeros(len(bodyparts), dtype=np.int64)

    def add(self, start: int, then: np.ndarray, again: np.ndarray) -> None:
        found, tolerance = self._found, self._tolerance
        apart = _apart(then[:, :2], again[:, :2])
        likelihood = _gap(then[:, 2], again[:, 2])
        seen = (then[:, 2] >= tolerance.likelihood_from) | (again[:, 2] >= tolerance.likelihood_from)
        agrees = (likelihood <= tolerance.likelihood) & (~seen | (apart <= tolerance.position_px))
        found.frames += then.shape[2]
        found.positions += seen.size
        found.identical += int(((then == again) | (np.isnan(then) & np.isnan(again))).all(axis=1).sum())
        found.seen += int(seen.sum())
        found.agreeing += int((seen & agrees).sum())
        found.elsewhere += int((~seen & (apart > tolerance.position_px)).sum())
        found.distances.add(apart[seen & np.isfinite(apart)])
        found.largest_px = max(found.largest_px, float(apart[seen].max(initial=0.0)))
        found.largest_likelihood = max(found.largest_likelihood, float(likelihood.max(initial=0.0)))
        for part, (was, now) in enumerate(zip(then, again, strict=True)):
            before, after = is_likely(was, self._pcutoff), is_likely(now, self._pcutoff)
            found.gained += int((after & ~before).sum())
            found.lost += int((before & ~after).sum())
            both = before & after & agrees[part]  # one that jumped says nothing of where the others lie
            self._sums[part] += (now[:2, both].astype(np.float64) - was[:2, both]).sum(axis=1)
            self._sure[part] += int(both.sum())
        self._remember_worst(start, then, again, np.where(seen, apart, 0.0), likelihood)

    def agreement(self) -> Agreement:
        means = np.abs(self._sums / np.maximum(self._sure, 1)[:, None]).max(axis=1)
        self._found.bias_px = float(means.max(initial=0.0))
        self._found.bias_bodypart = self._bodyparts[int(np.argmax(means))]
        return self._found

    def _remember_worst(
        self, start: int, then: np.ndarray, again: np.ndarray, apart: np.ndarray, likelihood: np.ndarray
    ) -> None:
        """Keep the frames that differ most, by how many times they exceed the tolerance."""
        scores = np.maximum(apart / self._tolerance.position_px, likelihood / self._tolerance.likelihood)
        of_frames = scores.max(axis=0)
        for place in np.argsort(-of_frames, kind="stable")[:_WORST]:
            if of_frames[place] > 0:
                part = int(np.argmax(scores[:, place]))
                worst = WorstFrame(
                    start + int(place),
                    self._bodyparts[part],
                    float(apart[part, place]),
                    float(then[part, 2, place]),
                    float(again[part, 2, place]),
                    float(of_frames[place]),
                )
                self._found.worst.append(worst)
        self._found.worst = sorted(self._found.worst, key=lambda worst: (-worst.excess, worst.frame))[:_WORST]


def _apart(then: np.ndarray, again: np.ndarray) -> np.ndarray:
    """Return distances (parts, frames) in px: infinite where one side alone has a position, 0 where none has."""
    there, here = np.isfinite(then).all(axis=1), np.isfinite(again).all(axis=1)
    distances = np.hypot(*np.moveaxis(again.astype(np.float64) - then, 1, 0))
    return np.where(there & here, distances, np.where(there ^ here, np.inf, 0.0))


def _gap(then: np.ndarray, again: np.ndarray) -> np.ndarray:
    """Return differences of likelihoods (parts, frames): infinite where one side alone has one, 0 where none has."""
    there, here = np.isfinite(then), np.isfinite(again)
    gaps = np.abs(again.astype(np.float64) - then)
    return np.where(there & here, gaps, np.where(there ^ here, np.inf, 0.0))
