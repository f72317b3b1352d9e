"""Body parts that are seldom found, and animals and body parts that are lost for long."""

from __future__ import annotations

import numpy as np

from dlc_assets.lab.check_settings import BodyPartsFound, LongAbsences
from dlc_assets.review.checked_poses import CheckedPoses, runs
from dlc_assets.review.checks.seen import Seen


def body_parts_found(poses: CheckedPoses, settings: BodyPartsFound) -> Seen:
    """Return the largest share of frames in which a body part is below the p-cutoff, and each body part's."""
    shares = {points.name: round(1 - float(points.sure.mean()), 4) for points in poses.all_points()}
    worst = max(shares, key=lambda name: shares[name])
    moments = []
    for points in poses.all_points():
        if shares[points.name] <= settings.max_share_below:
            continue
        found = runs(~points.sure)
        first, last = found[np.argmax(found[:, 1] - found[:, 0])]
        what = f"{points.name} is below the p-cutoff in {shares[points.name]:.0%} of the frames; here longest"
        moments.append(
            poses.moment(first, last, points.individual, (points.bodypart,), what, badness=shares[points.name])
        )
    return Seen(shares[worst], worst, moments, shares)


def long_absences(poses: CheckedPoses, settings: LongAbsences) -> Seen:
    """Return the longest time (s) without an animal, and without a body part of an animal that is seen otherwise.

    Times without frames (gaps) are no absence: nobody looked. The value is in units of the limit: 1 is just as long as is allowed.
    """
    longest: dict[str, float] = {}
    moments = []
    for individual in poses.individuals:
        _, _, count = poses.center(individual)
        whose = individual or "the animal"
        for bodypart, marked, limit in [
            (None, count == 0, settings.animal),
            *(
                (points.bodypart, ~points.sure & (count > 0), settings.body_part)
                for points in poses.all_points(individual)
            ),
        ]:
            name = whose if bodypart is None else f"{individual}: {bodypart}" if individual else bodypart
            found = runs(marked, poses.times, 1.5 * poses.interval)
            seconds = poses.times[found[:, 1]] - poses.times[found[:, 0]] + poses.interval
            longest[name] = round(float(seconds.max(initial=0.0)), 3)
            parts = tuple(part for who, part in poses.names if who == individual) if bodypart is None else (bodypart,)
            for (first, last), lasts in zip(found[seconds > limit], seconds[seconds > limit], strict=True):
                what = f"{name} is not seen for {lasts:.3g} s"
                moments.append(poses.moment(first, last, individual, parts, what, badness=lasts / limit))
    if not longest:
        return Seen()
    moments.sort(key=lambda moment: -moment.badness)
    worst = max((moment.badness for moment in moments), default=0.0)
    return Seen(worst, moments[0].what if moments else "", moments, longest)
