"""What in the values of a result file should make a person look, in sentences that name the row."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from dlc_assets.poses.schema import Track

_LISTED = 3


def gaps(frames: np.ndarray) -> list[str]:
    """Say where *frames*, strictly rising, do not begin at 0 or leave some out."""
    if not len(frames):
        return ["the table has no rows"]
    problems = []
    if frames[0] != 0:
        problems.append(f"the frames begin at {frames[0]}, not at 0: frames are taken as the index says")
    steps = np.diff(frames)
    missing = int((steps - 1).sum())
    if missing:
        at = np.flatnonzero(steps > 1)
        listed = [
            f"{frames[place] + 1}" if steps[place] == 2 else f"{frames[place] + 1}-{frames[place + 1] - 1}"
            for place in at[:_LISTED]
        ]
        problems.append(
            f"{missing} frame(s) have no row: {', '.join(listed)}{' and more' if len(at) > _LISTED else ''}; they have no poses"
        )
    return problems


def content_problems(tracks: Sequence[Track], frames: np.ndarray, row: Callable[[int], str]) -> list[str]:
    """Say what values of *tracks* cannot be what a network gave, and where first; *row* names a row of the file."""
    problems: list[str] = []
    outside: list[tuple[int, str, float]] = []
    zeros: list[tuple[int, str]] = []
    infinite: list[tuple[int, str]] = []
    never: list[str] = []
    counts = [0, 0, 0]
    for track in tracks:
        who = f"{track.individual}, {track.bodypart}" if track.individual else track.bodypart
        wrong = np.flatnonzero((track.likelihood < 0) | (track.likelihood > 1))
        counts[0] += len(wrong)
        outside += [(int(place), who, float(track.likelihood[place])) for place in wrong[:1]]
        at_zero = np.flatnonzero((track.x == 0) & (track.y == 0) & ~(track.likelihood > 0))
        counts[1] += len(at_zero)
        zeros += [(int(place), who) for place in at_zero[:1]]
        endless = np.flatnonzero(np.isinf(track.x) | np.isinf(track.y) | np.isinf(track.likelihood))
        counts[2] += len(endless)
        infinite += [(int(place), who) for place in endless[:1]]
        if len(frames) and np.isnan(track.x).all():
            never.append(who)
    if outside:
        place, who, value = min(outside)
        problems.append(
            f"{counts[0]} likelihood(s) lie outside 0 to 1, first in {row(place)} (frame {frames[place]}, {who}): {value:g}; they are kept "
            "and mean nothing to a p-cutoff"
        )
    if zeros:
        place, who = min(zeros)
        problems.append(
            f"{counts[1]} point(s) are x = 0, y = 0 without any likelihood, first in {row(place)} (frame {frames[place]}, {who}): another "
            "program may have written these where nothing was found; they are kept"
        )
    if infinite:
        place, who = min(infinite)
        problems.append(
            f"{counts[2]} point(s) are infinite, first in {row(place)} (frame {frames[place]}, {who}); they are kept"
        )
    if never:
        listed = ", ".join(never[:_LISTED]) + (f" and {len(never) - _LISTED} more" if len(never) > _LISTED else "")
        problems.append(f"{len(never)} of {len(tracks)} tracks have no pose at all: {listed}")
    return problems
