"""Which frames of a recording are worth decoding: the most useful ones, not all of one moment, and some of every part of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dlc_assets.labeling.frame_scores import REASONS, FrameScores
from dlc_assets.training.split import draw

SPREAD = "spread"
_APART = 1.0  # s between candidates; less in a short recording
_NOTICED = 0.15  # a reason is given from this score on
_EVERY = 4  # every so many-th candidate is there for its place in the recording, whatever its poses are
_LEAST_SPREAD = 6  # by which the looks of the recording are judged
_MOST_UNSEEN = 0.2  # of the candidates may show no animal that the network sees
_LEAST_SCORE = 0.02
_PIECES = 4  # into which a short recording is cut for each frame that is wanted of it


@dataclass(frozen=True, eq=False)
class Candidate:
    """One frame of a recording.

    Attributes
    ----------
    frame
        Counted over all files of the recording.
    score
        0 to 1, `FrameScores.total`.
    reasons
        Why, the strongest first; `SPREAD` for a frame that stands for its part of the recording.
    culprits
        Reason to the (individual, body part) that it is about most.
    seen
        Whether any body part reaches the p-cutoff.
    spread
        Whether it is there for its place in the recording, whatever its poses are.
    """

    frame: int
    score: float
    reasons: tuple[str, ...]
    culprits: dict[str, tuple[str, str]]
    seen: bool
    spread: bool


def candidates_of(
    scores: FrameScores, times: np.ndarray, most: int, *, wanted: int, seed: int, name: str
) -> list[Candidate]:
    """Return up to *most* frames of one recording, those first that should be decoded first.

    Parameters
    ----------
    times
        (frames,) float64, s.
    wanted
        How many frames of this recording will be chosen about: a short one is cut finely enough for them.
    seed, name
        Where in its part of the recording a frame is that stands for it: the same for the same seed and name of the recording.
    """
    spread = _spread(scores.frame_count, max(_LEAST_SPREAD, most // _EVERY), seed, name)
    useful = _useful(scores, times, most, wanted)
    unseen = round(_MOST_UNSEEN * most)
    found: dict[int, Candidate] = {}
    waiting = list(spread)
    for frame in useful:
        if not scores.seen[frame]:
            unseen -= 1
            if unseen < 0:
                continue
        if len(found) % _EVERY == _EVERY - 1 and waiting:
            at = waiting.pop(0)
            found.setdefault(at, _candidate(scores, at, spread=True))
        found.setdefault(frame, _candidate(scores, frame))
    for frame in waiting:
        found.setdefault(frame, _candidate(scores, frame, spread=True))
    return list(found.values())[:most]


def _spread(frames: int, count: int, seed: int, name: str) -> Sequence[int]:
    """Return frames, one of each of *count* equal parts of the recording, the parts in an order that jumps about."""
    edges = np.linspace(0, frames, min(count, frames) + 1).astype(int)
    parts = sorted(range(len(edges) - 1), key=lambda part: draw(seed, name, str(part)))
    places = [int.from_bytes(draw(seed, name, "place", str(part))[:4], "big") / 2**32 for part in parts]
    return [
        int(edges[part] + place * (edges[part + 1] - edges[part])) for part, place in zip(parts, places, strict=True)
    ]


def _useful(scores: FrameScores, times: np.ndarray, most: int, wanted: int) -> list[int]:
    """Return frames with a score, the largest first, no two of them in the same second (less where the recording is short)."""
    frames = scores.frame_count
    interval = (times[-1] - times[0]) / (frames - 1) if frames > 1 else 1.0
    window = max(1, min(round(_APART / max(interval, 1e-6)), frames // (_PIECES * wanted)))
    whole = -(-frames // window)
    padded = np.full(whole * window, -1, np.float32)
    padded[:frames] = scores.total
    best = padded.reshape(whole, window).argmax(axis=1) + np.arange(whole) * window
    best = best[scores.total[best] > _LEAST_SCORE]
    # Enough for those that are dropped as too near or unseen; a long recording has a window for each of its seconds.
    order = best[np.argsort(-scores.total[best], kind="stable")][: 8 * most + 64]
    chosen: list[int] = []
    for frame in order.tolist():
        if all(abs(frame - other) > window // 2 for other in chosen):
            chosen.append(frame)
    return chosen


def _candidate(scores: FrameScores, frame: int, *, spread: bool = False) -> Candidate:
    of = {reason: float(scores.by_reason[reason][frame]) for reason in REASONS}
    reasons = sorted((reason for reason in REASONS if of[reason] >= _NOTICED), key=lambda reason: -of[reason])
    return Candidate(
        frame=frame,
        score=float(scores.total[frame]),
        reasons=tuple(reasons) or (SPREAD,),
        culprits={reason: scores.tracks[int(scores.culprit[reason][frame])] for reason in reasons},
        seen=bool(scores.seen[frame]),
        spread=spread,
    )
