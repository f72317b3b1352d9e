"""Choosing among decoded candidates: useful ones, unlike each other and unlike what the project has, of all sessions and animals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dlc_assets.labeling.appearance import apart, nearest

_DUPLICATE = 0.4  # of how unlike the recording's frames are on the whole
_LEAST = 2e-4  # of gray: where nothing moves, everything is a near-duplicate
_MOST_UNSEEN = 0.2  # of the chosen frames may show no animal that the network sees
_BASE = 0.1  # of a frame without a score, which stands for its part of the recording


@dataclass(frozen=True)
class Seen:
    """One candidate once its picture was seen.

    Attributes
    ----------
    score
        0 to 1, from the poses.
    picture
        Its small picture.
    scale
        How unlike the recording's frames are on the whole.
    session, subject
        Whose it is.
    order
        Sorts equally good ones.
    found
        Whether the network found any body part.
    """

    score: float
    picture: np.ndarray
    scale: float
    session: str
    subject: str
    order: tuple[str, str, int]
    found: bool

    @property
    def too_near(self) -> float:
        """How unlike another frame must be, at least, to be worth labeling as well."""
        return max(_LEAST, _DUPLICATE * self.scale)


@dataclass(frozen=True)
class Chosen:
    """Which candidates were chosen.

    Attributes
    ----------
    places
        Into the candidates, the best first.
    nearest
        How unlike each of them is to the most similar picture that the project had; inf where it had none.
    notes
        Sentences about why there are not more.
    """

    places: list[int]
    nearest: list[float]
    notes: list[str]


def choose(candidates: Sequence[Seen], known: np.ndarray, count: int) -> Chosen:
    """Return up to *count* of *candidates*.

    One after the other, always the one that is worth most: its score, times how unlike it is to what the project has and to what was
    chosen, less for each frame that was chosen of its session and its animal. A near-duplicate is never chosen.

    Parameters
    ----------
    known
        (n, pixels) float32: small pictures that the project has, labeled or waiting for it.
    """
    ordered = sorted(range(len(candidates)), key=lambda at: candidates[at].order)
    of = [candidates[at] for at in ordered]
    if not of:
        return Chosen([], [], ["There was no frame to choose from."])
    pictures = np.array([candidate.picture for candidate in of])
    to_known = nearest(pictures, known)
    distance = to_known.copy()
    limits = np.array([candidate.too_near for candidate in of])
    scales = np.array([max(candidate.scale, _LEAST) for candidate in of])
    scores = np.array([_BASE + candidate.score for candidate in of])
    found = np.array([candidate.found for candidate in of])
    left = np.ones(len(of), dtype=bool)
    of_session: Counter[str] = Counter()
    of_subject: Counter[str] = Counter()
    unseen = max(1, round(_MOST_UNSEEN * count))
    places: list[int] = []
    while len(places) < count:
        usable = left & (distance >= limits) & (found | (unseen > 0))
        if not usable.any():
            break
        balance = np.array([1 + of_session[one.session] + 0.5 * of_subject[one.subject] for one in of])
        worth = scores * np.minimum(1, distance / scales) / balance
        worth[~usable] = -1
        best = int(np.argmax(worth))
        places.append(best)
        left[best] = False
        of_session[of[best].session] += 1
        of_subject[of[best].subject] += 1
        unseen -= not found[best]
        distance = np.minimum(distance, apart(pictures[best], pictures))
    notes = _notes(len(places), count, left, distance, to_known, limits, found, unseen)
    return Chosen([ordered[at] for at in places], [float(to_known[at]) for at in places], notes)


def _notes(
    chosen: int,
    count: int,
    left: np.ndarray,
    distance: np.ndarray,
    to_known: np.ndarray,
    limits: np.ndarray,
    found: np.ndarray,
    unseen: int,
) -> list[str]:
    if chosen == count:
        return []
    labeled = int((left & (to_known < limits)).sum())
    alike = int((left & (distance < limits)).sum()) - labeled
    empty = int((left & (distance >= limits) & ~found).sum()) if unseen <= 0 else 0
    reasons = [
        *([f"{labeled} look like pictures that the project has already"] if labeled else []),
        *([f"{alike} look like a chosen one"] if alike else []),
        *([f"in {empty} the network finds nothing, and a fifth of such frames is enough"] if empty else []),
    ]
    why = f": of the other candidates {'; '.join(reasons)}" if reasons else ": there were no more candidates"
    return [f"{chosen} of {count} frames were found{why}."]
