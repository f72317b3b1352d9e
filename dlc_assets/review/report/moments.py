"""Which moments of a session a person should see: the worst of what failed, each check in its turn, none twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dlc_assets.review.findings import Finding, Moment
from dlc_assets.review.report.verdict import worst_first

MOST = 12
_ALIKE_SECONDS = 0.5  # moments of one recording that are nearer are one place to look at


@dataclass(frozen=True)
class Place:
    """A moment to be shown, with the finding that it is of, and what other findings say of the same place."""

    finding: Finding
    moment: Moment
    also: tuple[str, ...] = ()

    @property
    def frame(self) -> int:
        """The frame in its middle."""
        return (self.moment.first_frame + self.moment.last_frame) // 2


def places_to_show(findings: Sequence[Finding], most: int = MOST) -> list[Place]:
    """Return up to *most* places: of each failed finding its worst moment, then the second worst of each, and so on.

    Where nothing failed, what passed gives its worst moments: how bad the worst of a good session is, is worth a look, too.
    """
    ordered = [finding for finding in worst_first(findings) if finding.moments]
    failed = [finding for finding in ordered if not finding.passed]
    chosen: list[Place] = []
    turns = failed or ordered
    for turn in range(max((len(finding.moments) for finding in turns), default=0)):
        for finding in turns:
            if turn >= len(finding.moments):
                continue
            moment = sorted(finding.moments, key=lambda moment: -moment.badness)[turn]
            same = next((place for place in chosen if _same_place(place.moment, moment)), None)
            if same is not None:
                if same.finding is not finding and moment.what not in (same.moment.what, *same.also):
                    chosen[chosen.index(same)] = Place(same.finding, same.moment, (*same.also, moment.what))
            elif len(chosen) < most:
                chosen.append(Place(finding, moment))
    return chosen


def _same_place(one: Moment, other: Moment) -> bool:
    if one.recording != other.recording:
        return False
    same = (one.first_frame, one.last_frame) == (other.first_frame, other.last_frame)
    return same or abs(one.time - other.time) < _ALIKE_SECONDS


def strip_frames(moment: Moment, frame_count: int, beside: int = 2) -> list[int]:
    """Return the frames before, in and after *moment*: *beside* frames from its ends, as far as the recording goes."""
    last = frame_count - 1
    middle = (moment.first_frame + moment.last_frame) // 2
    wanted = (moment.first_frame - beside, middle, moment.last_frame + beside)
    return list(dict.fromkeys(min(max(frame, 0), max(last, 0)) for frame in wanted))


def even_frames(frame_count: int, count: int = 5) -> list[int]:
    """Return *count* frames spread evenly over a recording, for what it looks like most of the time."""
    return sorted({int((place + 0.5) / count * frame_count) for place in range(count)} & set(range(frame_count)))
