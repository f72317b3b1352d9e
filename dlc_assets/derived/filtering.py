"""Filtering one track with a lab's steps, in order, and counting what each of them changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from dlc_assets.derived import filter_steps
from dlc_assets.derived.filter_steps import Clock, Left, Smoothed
from dlc_assets.lab.errors import did_you_mean
from dlc_assets.lab.filter_settings import PCUTOFF, FilterStep, Steps
from dlc_assets.poses.schema import Track
from dlc_assets.recordings.filter_rigs import FilterRig

_LEFT_SHARE = 0.01  # of a body part's points; that many must be left out by a window before it is called a problem


@dataclass(frozen=True)
class StepCount:
    """How many points of one track a step removed, filled in and moved, and what its window did not fit."""

    removed: int = 0
    filled: int = 0
    moved: int = 0
    short: Left = field(default_factory=Left)
    narrow: Left = field(default_factory=Left)


@dataclass(frozen=True)
class FilteredTrack:
    """A track after all steps, with what each of them did; None of a step that is not for this body part, or cannot be applied.

    *made_up* says of each frame, (frames,) bool, whether its point was filled in, in the place of none or of one that was removed.
    """

    track: Track
    made_up: np.ndarray
    counts: tuple[StepCount | None, ...]
    points_before: int
    points_after: int


@dataclass(frozen=True)
class RecordingFilter:
    """The steps as they are for one recording: with its times, the model's p-cutoff and the rig that they need."""

    steps: Steps
    clock: Clock
    rig: FilterRig
    pcutoff: float | None

    def refusals(self, tracks: Sequence[tuple[str, str]]) -> list[str]:
        """Say in a sentence each which steps cannot be applied to this recording, and which names no track (individual, body part) has."""
        parts = list(dict.fromkeys(bodypart for _, bodypart in tracks))
        said = []
        for number, step in enumerate(self.steps, start=1):
            why = self._why_not(step)
            if why is not None:
                said.append(f"step {number} ({step.words}) is left out: {why}")
            for name in step.bodyparts or ():
                if name not in parts:
                    said.append(
                        f'step {number} ({step.words}): the model has no body part "{name}".{did_you_mean(name, parts)}'
                    )
        return said

    def _why_not(self, step: FilterStep) -> str | None:
        """Return why *step* cannot be applied to this recording, None where it can."""
        if step.step == "confidence" and step.below == PCUTOFF and self.pcutoff is None:
            return "the model states no p-cutoff. State below, such as below: 0.6"
        if step.step == "arena" and self.rig.arena is None:
            return "the recording's setup has no arena. State arena under setups in lab.yaml"
        if step.uses_scale and self.rig.px_per_cm is None:
            return "the recording's setup has no scale. State scale under setups in lab.yaml, or the speed in px/s"
        return None

    def apply(self, track: Track) -> FilteredTrack:
        """Return *track* filtered: x and y float32, NaN where there is no point (any more); its likelihood is as it was."""
        raw = np.stack([track.x, track.y], axis=1).astype(np.float64)
        raw[~filter_steps.present(raw)] = np.nan
        xy = raw
        counts: list[StepCount | None] = []
        made_up = np.zeros(len(raw), dtype=bool)
        for step in self.steps:
            if not step.applies_to(track.bodypart) or self._why_not(step) is not None:
                counts.append(None)
                continue
            done = self._step(step, xy, track.likelihood)
            counts.append(_counted(xy, done))
            made_up |= ~filter_steps.present(xy)
            xy = done.xy
            made_up &= filter_steps.present(xy)
        x, y = (np.ascontiguousarray(column, dtype=np.float32) for column in xy.T)
        points = (int(np.count_nonzero(filter_steps.present(of))) for of in (raw, xy))
        return FilteredTrack(replace(track, x=x, y=y), made_up, tuple(counts), *points)

    def _step(self, step: FilterStep, xy: np.ndarray, likelihood: np.ndarray) -> Smoothed:
        if step.step == "median":
            return filter_steps.median(self.clock, xy, _stated(step.window))
        if step.step == "savgol":
            return filter_steps.savgol(self.clock, xy, _stated(step.window), int(_stated(step.order)))
        if step.step == "confidence":
            below = self.pcutoff if step.below == PCUTOFF else step.below
            if np.isnan(likelihood).all():  # imported poses, of which nobody knows how sure they are
                return Smoothed(xy)
            return Smoothed(filter_steps.mask_confidence(xy, likelihood, float(_stated(below))))
        if step.step == "jumps":
            return Smoothed(filter_steps.remove_jumps(self.clock, xy, _stated(step.px_per_s(self.rig.px_per_cm))))
        if step.step == "interpolate":
            return Smoothed(filter_steps.interpolate(self.clock, xy, _stated(step.max_gap)))
        assert self.rig.arena is not None
        return Smoothed(filter_steps.mask_outside(xy, self.rig.arena, _stated(step.margin)))


def _stated(value: Any) -> float:
    assert value is not None
    return float(value)


def _counted(before: np.ndarray, done: Smoothed) -> StepCount:
    was, there = filter_steps.present(before), filter_steps.present(done.xy)
    # What float32 does not tell apart is the same point: so it is in the table.
    differs = (before.astype(np.float32) != done.xy.astype(np.float32)).any(axis=1)
    return StepCount(
        removed=int(np.count_nonzero(was & ~there)),
        filled=int(np.count_nonzero(~was & there)),
        moved=int(np.count_nonzero(was & there & differs)),
        short=done.short,
        narrow=done.narrow,
    )


def track_name(individual: str, bodypart: str) -> str:
    """Return what a track is called where people read: the body part, after the individual where there are several."""
    return f"{individual}: {bodypart}" if individual else bodypart


def shares(steps: Steps, filtered: Sequence[FilteredTrack], frames: int) -> list[dict[str, Any]]:
    """Return each step's parameters with the shares of all *frames* that it changed, by track.

    ``tracks`` is by name of the track ``{"changed", "removed", "filled", "moved", "left"}``: changed is the three together, left the share
    of points that are in a place too short for the step's window. A track that the step is not for is not named.
    """
    return [
        {
            **step.parameters,
            "tracks": {
                track_name(of.track.individual, of.track.bodypart): {
                    "changed": round((count.removed + count.filled + count.moved) / frames, 6),
                    "removed": round(count.removed / frames, 6),
                    "filled": round(count.filled / frames, 6),
                    "moved": round(count.moved / frames, 6),
                    "left": round((count.short + count.narrow).points / frames, 6),
                }
                for of in filtered
                if (count := of.counts[place]) is not None
            },
        }
        for place, step in enumerate(steps)
    ]


def troubles(steps: Steps, filtered: Sequence[FilteredTrack]) -> list[str]:
    """Say what windows did not fit, where that is more than a few points, and of which body parts no point is left."""
    said = []
    for number, step in enumerate(steps, start=1):
        counted = [(of, count) for of in filtered if (count := of.counts[number - 1]) is not None]
        for kind, why in (
            ("short", "are shorter than the window and were left as they are"),
            (
                "narrow",
                f"have so few frames a second that the window holds {_too_few(step)}; they were left as they are",
            ),
        ):
            left = [(of, getattr(count, kind)) for of, count in counted]
            much = [(of, what) for of, what in left if what.points > _LEFT_SHARE * of.points_before]
            if not much:
                continue
            names = ", ".join(track_name(of.track.individual, of.track.bodypart) for of, _ in much)
            total = sum((what for _, what in much), Left())
            said.append(
                f"step {number} ({step.words}): {total.places} stretches with {total.points} points of {names} {why}."
            )
    said += _nothing_left([of for of in filtered if not of.points_before], filtered, "no point was ever detected")
    lost = [of for of in filtered if of.points_before and not of.points_after]
    return said + _nothing_left(lost, filtered, "no point is left after the filters")


def _nothing_left(which: Sequence[FilteredTrack], of_all: Sequence[FilteredTrack], what: str) -> list[str]:
    if not which:
        return []
    names = ", ".join(track_name(of.track.individual, of.track.bodypart) for of in which)
    return [f"{'every body part' if len(which) == len(of_all) else names}: {what}."]


def _too_few(step: FilterStep) -> str:
    return "no more frames than a polynomial has numbers" if step.step == "savgol" else "a single frame"
