"""How much a label would teach in each frame of a recording, told from its pose table alone: no picture is decoded for it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from dlc_assets.poses.differences import is_likely
from dlc_assets.poses.table_file import PoseTableFile

LOW_CONFIDENCE, JUMP, SWAP, DISAGREEMENT = "low confidence", "jump", "swap", "disagreement"
REASONS = (LOW_CONFIDENCE, JUMP, SWAP, DISAGREEMENT)
_WEIGHTS = {LOW_CONFIDENCE: 0.7, JUMP: 0.8, SWAP: 0.9, DISAGREEMENT: 0.8}
_PCUTOFF = 0.6  # of tables that state none; DeepLabCut's own
_SAMPLED = 2_000  # frames, for the animal's size and what is usual of a body part
_SIZE_UNKNOWN = 0.1  # of the frame's diagonal, where no two body parts were ever seen together
_HIDDEN = 0.05  # likelihood below which a body part is rather hidden than hard to find
_JUMPS_BY = 0.5  # of the animal's size, from one frame to the next
_UNUSUAL = 4.0  # times the step that 99 of 100 do not exceed: a fast animal does not jump all the time
_SWAP_APART = 0.1  # of the animal's size: nearer ones cannot be told apart by their positions
_AGREE = 0.1  # of the animal's size
_PAUSE = 1.5  # times the usual interval: over such a gap anything may have moved
_LEFT = re.compile(r"(?i:left)|(?<![a-zA-Z])[lL](?![a-zA-Z])|(?<=[a-z0-9])L(?![a-z])|(?<![a-zA-Z])L(?=[A-Z])")

TrackName = tuple[str, str]
"""Individual and body part."""


@dataclass(frozen=True)
class FrameScores:
    """How useful each frame of a recording is.

    Attributes
    ----------
    total
        (frames,) float32, 0 to 1: all reasons together.
    by_reason
        Reason to (frames,) float32, 0 to 1.
    culprit
        Reason to (frames,) int16: the place in `tracks` of the body part that it is about most.
    seen
        (frames,) int16: body parts that reach the p-cutoff.
    tracks
        Individual and body part, in the table's order.
    size
        px: the animal's, as far as its body parts show it.
    pcutoff
        Likelihood from which a body part counts as seen.
    """

    total: np.ndarray
    by_reason: dict[str, np.ndarray]
    culprit: dict[str, np.ndarray]
    seen: np.ndarray
    tracks: tuple[TrackName, ...]
    size: float
    pcutoff: float

    @property
    def frame_count(self) -> int:
        return len(self.total)


def score_frames(table: Path, others: Sequence[Path] = (), *, diagonal: float) -> FrameScores:
    """Return how useful each frame of the pose table at *table* is.

    One or two body parts are in memory at a time, and a few numbers of each frame.

    Parameters
    ----------
    others
        Pose tables of the same recording by other networks. Body parts that they have in common are compared; of several animals, with
        the nearest of the other table, since their order differs from network to network.
    diagonal
        Of the frame, px.

    Raises
    ------
    NotFoundError, InputError
        There is no such pose table, or it is damaged.
    """
    mine = PoseTableFile.open(table)
    pcutoff = _PCUTOFF if mine.metadata.pcutoff is None else mine.metadata.pcutoff
    size, usual = _what_is_usual(mine, pcutoff, diagonal)
    times = mine.times()
    scores = _Scores(len(times), list(usual))
    together = ~_pauses(times)
    for place, name in enumerate(usual):
        values = _track(mine, name)
        scores.confidence(place, values, pcutoff, usual[name])
        scores.jump(place, _jumps(values, pcutoff, size, together))
    for one, other in _look_alikes(list(usual)):
        swapped = _swaps(_track(mine, one), _track(mine, other), pcutoff, size, together)
        scores.add(SWAP, scores.names.index(one), swapped)
    tables = [PoseTableFile.open(path) for path in others]
    for place, name in enumerate(usual if tables else ()):
        values = _track(mine, name)
        # The mean: where only one of several networks stands apart from this one, it is rather that one which is wrong.
        apart = [_disagreement(values, name, mine, table, pcutoff, size) for table in tables]
        if known := [score for score in apart if score is not None]:
            scores.add(DISAGREEMENT, place, np.mean(known, axis=0))
    return scores.result(size, pcutoff)


def _track(table: PoseTableFile, name: TrackName) -> np.ndarray:
    """Return x, y, likelihood of one track, (3, frames) float32."""
    return table.values(table.matching([name[1]], [name[0]]))[1][0]


class _Scores:
    """The scores while they are collected, one body part after the other."""

    def __init__(self, frames: int, names: list[TrackName]) -> None:
        self.names = names
        self._by = {reason: np.zeros(frames, np.float32) for reason in REASONS}
        self._culprit = {reason: np.zeros(frames, np.int16) for reason in REASONS}
        self._unsure, self._weight = np.zeros(frames, np.float32), 0.0
        self._seen = np.zeros(frames, np.int16)

    def add(self, reason: str, place: int, score: np.ndarray) -> None:
        """Keep the largest of *score* and what is there."""
        score = score.astype(np.float32)
        more = score > self._by[reason]
        self._by[reason][more] = score[more]
        self._culprit[reason][more] = place

    def jump(self, place: int, score: np.ndarray) -> None:
        self.add(JUMP, place, score)

    def confidence(self, place: int, values: np.ndarray, pcutoff: float, usual: float) -> None:
        """Count how unsure the network is of one body part; one that is seldom seen counts less, as it is often hidden."""
        self._seen += is_likely(values, pcutoff)
        weight = 0.3 + 0.7 * usual
        unsure = weight * _unsure(values, pcutoff)
        self._unsure += unsure
        self._weight += weight
        self.add(LOW_CONFIDENCE, place, unsure)

    def result(self, size: float, pcutoff: float) -> FrameScores:
        # The worst body part, and all of them: a frame with many unsure ones teaches more.
        low = self._by[LOW_CONFIDENCE]
        low += self._unsure / max(self._weight, 1e-6)
        low /= 2
        free = np.ones(len(self._seen), np.float32)
        for reason, score in self._by.items():
            free *= 1 - _WEIGHTS[reason] * score
        return FrameScores(1 - free, self._by, self._culprit, self._seen, tuple(self.names), size, pcutoff)


def _unsure(values: np.ndarray, pcutoff: float) -> np.ndarray:
    likelihood = np.nan_to_num(values[2], nan=1.0)  # a table without likelihoods is sure of what it has
    unsure = np.clip((pcutoff - likelihood) / (0.75 * pcutoff), 0, 1) if pcutoff else np.zeros_like(likelihood)
    unsure *= 0.6 + 0.4 * np.clip(likelihood / _HIDDEN, 0, 1)
    unsure[np.isnan(values[0])] = 0.6
    return unsure


def _what_is_usual(table: PoseTableFile, pcutoff: float, diagonal: float) -> tuple[float, dict[TrackName, float]]:
    """Return the animal's size (px), and by body part the share of frames in which it is seen."""
    _, tracks = table.thinned(_SAMPLED)
    likely = [is_likely(np.stack([track.x, track.y, track.likelihood]), pcutoff) for track in tracks]
    usual = {(track.individual, track.bodypart): float(seen.mean()) for track, seen in zip(tracks, likely, strict=True)}
    sizes = []
    for individual in dict.fromkeys(track.individual for track in tracks):
        of = [at for at, track in enumerate(tracks) if track.individual == individual]
        seen = np.stack([likely[at] for at in of])
        enough = seen.sum(axis=0) >= 2
        spans = []
        for axis in ("x", "y"):
            values = np.stack([getattr(tracks[at], axis) for at in of])[:, enough]
            shown = seen[:, enough]
            spans.append(
                np.max(values, axis=0, where=shown, initial=-np.inf)
                - np.min(values, axis=0, where=shown, initial=np.inf)
            )
        sizes.append(np.hypot(*spans))
    known = np.concatenate(sizes)
    size = float(np.median(known)) if len(known) else 0.0
    return (size if size > 1 else _SIZE_UNKNOWN * diagonal), usual


def _pauses(times: np.ndarray) -> np.ndarray:
    """Say of each frame whether there is a gap between the one before and it, (frames,) bool; the first one has none before."""
    pauses = np.ones(len(times), dtype=bool)
    if len(times) > 1:
        intervals = np.diff(times)
        pauses[1:] = intervals > _PAUSE * np.median(intervals)
    return pauses


def _jumps(values: np.ndarray, pcutoff: float, size: float, together: np.ndarray) -> np.ndarray:
    """Return how much a body part jumps at each frame: most where it jumps there and away again, (frames,), 0 to 1."""
    seen = is_likely(values, pcutoff)
    step = np.zeros(values.shape[1], np.float32)
    known = seen[1:] & seen[:-1] & together[1:]
    step[1:][known] = np.hypot(*np.diff(values[:2], axis=1))[known]
    if not known.any():
        return step
    limit = max(_JUMPS_BY * size, _UNUSUAL * float(np.percentile(step[1:][known], 99)))
    far = np.clip(step / (2 * limit), 0, 1)
    far[step < limit] = 0
    after = np.append(far[1:], np.float32(0))
    return (np.maximum(far, after) + np.minimum(far, after)) / 2


def _look_alikes(names: Sequence[TrackName]) -> Iterator[tuple[TrackName, TrackName]]:
    """Give pairs that networks mistake for each other: left and right of one animal, and the same body part of two animals."""
    known = {(individual, part.lower()): (individual, part) for individual, part in names}
    for individual, part in names:
        for other in _other_sides(part):
            if (individual, other.lower()) in known:
                yield (individual, part), known[individual, other.lower()]
    for (one, part), (other_one, same) in combinations(names, 2):
        if part == same and one != other_one:
            yield (one, part), (other_one, same)


def _other_sides(part: str) -> Iterator[str]:
    """Give what the right body part may be called where *part* names a left one: leftear, ear_left, EarL, paw L."""
    for found in _LEFT.finditer(part):
        yield part[: found.start()] + ("right" if len(found[0]) > 1 else "r") + part[found.end() :]


def _swaps(one: np.ndarray, other: np.ndarray, pcutoff: float, size: float, together: np.ndarray) -> np.ndarray:
    """Return where two body parts change places from one frame to the next, (frames,), 0 or 1: both these frames."""
    seen = is_likely(one, pcutoff) & is_likely(other, pcutoff)
    known = seen[1:] & seen[:-1] & together[1:]
    a, b = one[:2], other[:2]

    def moved(start: np.ndarray, end: np.ndarray) -> np.ndarray:
        return np.hypot(*(end[:, 1:] - start[:, :-1]))

    apart = np.hypot(*(a[:, :-1] - b[:, :-1]))
    swapped = known & (moved(a, b) + moved(b, a) < 0.5 * (moved(a, a) + moved(b, b))) & (apart > _SWAP_APART * size)
    score = np.zeros(one.shape[1], np.float32)
    score[1:] = swapped
    score[:-1] = np.maximum(score[:-1], swapped)
    return score


def _disagreement(
    values: np.ndarray, name: TrackName, mine: PoseTableFile, other: PoseTableFile, pcutoff: float, size: float
) -> np.ndarray | None:
    """Return how far a track, (3, frames), lies from that of *other*: (frames,), 0 to 1; None where it has nothing to compare with."""
    tracks = _by_part(other).get(name[1], [])
    if not tracks or (len(tracks) > 1 and len(_by_part(mine)[name[1]]) == 1):
        return None  # or of one animal here and several there nobody knows which it is
    their_cutoff = _PCUTOFF if other.metadata.pcutoff is None else other.metadata.pcutoff
    theirs = [_track(other, track) for track in tracks]
    frames = min(track.shape[1] for track in (values, *theirs))
    seen = is_likely(values, pcutoff)[:frames]
    nearest = np.full(frames, np.inf, np.float32)
    for track in theirs:
        known = is_likely(track[:, :frames], their_cutoff) & np.isfinite(values[0, :frames])
        distance = np.hypot(*(values[:2, :frames] - track[:2, :frames]))
        nearest[known] = np.minimum(nearest[known], distance[known])
    found = np.isfinite(nearest)
    score = np.zeros(values.shape[1], np.float32)
    score[:frames][seen & found] = np.clip((nearest[seen & found] / size - _AGREE) / (5 * _AGREE), 0, 1)
    score[:frames][seen & ~found] = 0.5  # only one of them sees it
    return score


def _by_part(table: PoseTableFile) -> Mapping[str, list[TrackName]]:
    found: dict[str, list[TrackName]] = {}
    for name in dict.fromkeys((group.individual, group.bodypart) for group in table.row_groups):
        found.setdefault(name[1], []).append(name)
    return found
