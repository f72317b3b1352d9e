"""Where points lie: limbs that are too long, points outside of what can be."""

from __future__ import annotations

import numpy as np

from dlc_assets.lab.check_settings import LimbLengths, Outside
from dlc_assets.review.checked_poses import CheckedPoses, runs
from dlc_assets.review.checks.seen import Seen
from dlc_assets.review.findings import Moment


def limb_lengths(poses: CheckedPoses, settings: LimbLengths) -> Seen:
    """Return the largest share of frames in which a limb is longer than so many times its median: a skeleton's edge, or a stated pair.

    A limb that points at the camera is short, so that only too long ones count.
    """
    shares: dict[str, float] = {}
    moments: list[Moment] = []
    known = set(poses.names)
    pairs = poses.table.metadata.skeleton if settings.pairs == "skeleton" else settings.pairs
    if not pairs:
        return Seen(sentence="the model has no skeleton, and checks.limb_lengths.pairs states none")
    for individual in poses.individuals:
        for start, end in pairs:
            if (individual, start) not in known or (individual, end) not in known:
                continue
            one, other = poses.points(individual, start), poses.points(individual, end)
            both = one.sure & other.sure
            if not both.any():
                continue
            length = np.hypot(one.x - other.x, one.y - other.y)
            median = float(np.median(length[both]))
            # A limb of a few pixels is as long as the points are uncertain.
            limit = settings.max_factor * max(median, 0.1 * poses.size(individual))
            with np.errstate(invalid="ignore"):
                long = both & (length > limit)
            name = f"{one.name} to {end}"
            shares[name] = round(float(long.sum() / both.sum()), 4)
            for first, last in runs(long):
                worst = float(length[first : last + 1].max())
                what = f"{name} is {worst:.0f} px long, {worst / max(median, 1e-9):.1f} times its median"
                moments.append(poses.moment(first, last, individual, (start, end), what, badness=worst / limit))
    if not shares:
        return Seen()
    name = max(shares, key=lambda key: shares[key])
    return Seen(shares[name], name, sorted(moments, key=lambda moment: -moment.badness), shares)


def outside(poses: CheckedPoses, settings: Outside) -> Seen:
    """Return the largest share of frames in which a body part lies outside the picture, the crop or the arena."""
    from dlc_assets.derived.region_geometry import signed_distance

    width, height = poses.recording.width, poses.recording.height
    left, right, top, bottom = poses.crop or (0, width, 0, height)
    margin = settings.margin if poses.crop is not None else 0.0
    shares: dict[str, float] = {}
    moments: list[Moment] = []
    for points in poses.all_points():
        with np.errstate(invalid="ignore"):
            beyond = np.maximum.reduce(
                [
                    left - margin - 0.5 - points.x,
                    points.x - (right + margin - 0.5),
                    top - margin - 0.5 - points.y,
                    points.y - (bottom + margin - 0.5),
                    -0.5 - points.x,
                    points.x - (width - 0.5),
                    -0.5 - points.y,
                    points.y - (height - 0.5),
                ]
            )
        what = "the picture" if poses.crop is None else "what the network saw"
        if poses.setup.arena is not None:
            from_arena = signed_distance(poses.setup.arena, points.x, points.y) - settings.margin
            with np.errstate(invalid="ignore"):
                if (points.sure & (from_arena > 0) & (from_arena > beyond)).any():
                    what = "the arena"
                beyond = np.fmax(beyond, from_arena)
        with np.errstate(invalid="ignore"):
            out = points.sure & (beyond > 0)
        shares[points.name] = round(float(out.sum() / max(1, points.sure.sum())), 4)
        for first, last in runs(out):
            farthest = float(np.nanmax(beyond[first : last + 1]))
            sentence = f"{points.name} is {farthest:.0f} px outside {what}"
            moments.append(poses.moment(first, last, points.individual, (points.bodypart,), sentence, badness=farthest))
    if not shares:
        return Seen()
    name = max(shares, key=lambda key: shares[key])
    return Seen(shares[name], name, sorted(moments, key=lambda moment: -moment.badness), shares)
