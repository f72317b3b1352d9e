"""Dividing labeled frames into train, validation and benchmark so that errors speak of unseen video.

This is for frames that nobody divided before; `division.py` keeps what was divided.
"""

from __future__ import annotations

import hashlib
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from dlc_assets.lab.errors import InputError, SettingsError, did_you_mean
from dlc_assets.training.labels import LabeledImage, natural_key

TRAIN, VALIDATION, BENCHMARK, GAP = "train", "validation", "benchmark", "gap"
LEARNED_FROM = (TRAIN, VALIDATION)
SETS = (TRAIN, VALIDATION, BENCHMARK)
_GAP_SHARE = 0.02  # of a folder's frames, left out between blocks of different sets
FAR_OFF = 0.15  # a set's share of frames may miss the one asked for by this much
_NEAR_ENOUGH = 0.005
_STARTS = 16

_Assignment = dict[str, str]  # folder -> set


@dataclass(frozen=True)
class Split:
    """Which labeled frame is for what.

    Attributes
    ----------
    sets
        "train", "validation", "benchmark" and "gap" (frames left out) to ascending indices into the images;
        every image is in exactly one of them.
    how
        "video": whole folders; "blocks": contiguous frames of a folder, with gaps; "frame": single frames.
    note
        A sentence for people: what was done and why.
    """

    sets: dict[str, tuple[int, ...]]
    how: str
    note: str


def split_frames(
    images: Sequence[LabeledImage],
    *,
    by: Literal["video", "frame"],
    train: float,
    validation: float,
    benchmark: float,
    seed: int,
) -> Split:
    """Divide images into sets; the same images, shares and seed give the same sets in any order of input.

    Parameters
    ----------
    images
        The labeled frames.
    by
        "video" keeps the frames of a folder together where there are enough folders for the shares, and else
        cuts each folder in contiguous blocks with a gap between them; "frame" draws single frames.
    train, validation, benchmark
        Shares of the frames, adding up to 1; benchmark may be 0.
    seed
        Chooses among divisions that are equally good.

    Raises
    ------
    SettingsError
        The shares or `by` are not as above.
    InputError
        There are too few frames for every set with a share to get one.
    """
    shares = _checked_shares({"train": train, "validation": validation, "benchmark": benchmark})
    if by not in ("video", "frame"):
        raise SettingsError(
            f'split: by should be "video" or "frame", but is {by!r}.{did_you_mean(str(by), ("video", "frame"))}'
        )
    if len(images) < max(3, len(shares)):
        raise InputError(f"{len(images)} labeled frames are too few to divide into {joined(shares)}; label more.")
    if by == "frame":
        return _by_frame(images, shares, seed)
    return _by_video(images, shares, seed)


def _checked_shares(stated: Mapping[str, float]) -> dict[str, float]:
    """Return the shares above 0."""
    said = ", ".join(f"{name}: {share:g}" for name, share in stated.items())
    if any(not math.isfinite(share) or share < 0 for share in stated.values()):
        raise SettingsError(f"split: shares should be numbers from 0 to 1, but are {said}.")
    if abs(sum(stated.values()) - 1) > 1e-6:
        raise SettingsError(f"split: shares should add up to 1, but {said} add up to {sum(stated.values()):g}.")
    for name in ("train", "validation"):
        if stated[name] == 0:
            raise SettingsError(
                f"split: {name} should be above 0: training needs frames to learn from and to check on."
            )
    return {name: share for name, share in stated.items() if share > 0}


# --- single frames --------------------------------------------------------------------------------


def _by_frame(images: Sequence[LabeledImage], shares: Mapping[str, float], seed: int) -> Split:
    order = sorted(range(len(images)), key=lambda at: draw(seed, images[at].folder, images[at].name))
    sizes = _sizes(len(images), shares)
    sets: dict[str, list[int]] = {}
    start = 0
    for name in shares:
        sets[name] = order[start : start + sizes[name]]
        start += sizes[name]
    note = (
        f"Single frames were drawn at random: {account(sets)}. Frames near in time lie in different sets "
        "and look alike, so errors on validation and benchmark are optimistic for new videos."
    )
    return as_split(sets, "frame", note)


# --- whole videos ---------------------------------------------------------------------------------


def _by_video(images: Sequence[LabeledImage], shares: Mapping[str, float], seed: int) -> Split:
    folders = by_folder(images)
    frames = {folder: len(members) for folder, members in folders.items()}
    if len(folders) < len(shares):
        why = f"{count_of(len(folders), 'video')} cannot be divided whole among {joined(shares)}"
        sets = _blocks(images, folders, shares, seed)
        if lacking(sets, shares):
            raise InputError(_too_few(folders, shares, sets))
        return as_split(sets, "blocks", _blocks_note(why, sets))
    assignment = _best_assignment(frames, shares, seed)
    whole: dict[str, list[int]] = {name: [] for name in shares}
    for folder, name in assignment.items():
        whole[name] += folders[folder]
    off = max(abs(len(whole[name]) / len(images) - share) for name, share in shares.items())
    if off > FAR_OFF:
        sets = _blocks(images, folders, shares, seed)
        if sets[GAP] and not lacking(sets, shares):  # no gap: nothing was long enough to cut
            why = f"whole videos would miss the shares asked for by {100 * off:.0f} percentage points"
            return as_split(sets, "blocks", _blocks_note(why, sets))
    return as_split(whole, "video", _video_note(assignment, whole, off))


def by_folder(images: Sequence[LabeledImage]) -> dict[str, list[int]]:
    """Return folder to indices of its images in natural order."""
    folders: dict[str, list[int]] = defaultdict(list)
    for at in sorted(range(len(images)), key=lambda at: (images[at].folder, natural_key(images[at].name))):
        folders[images[at].folder].append(at)
    return dict(folders)


def _best_assignment(frames: Mapping[str, int], shares: Mapping[str, float], seed: int) -> _Assignment:
    """Return the assignment nearest to the shares by frames that several starts reach; no set is empty."""
    total = sum(frames.values())
    targets = {name: share * total for name, share in shares.items()}
    best: _Assignment = {}
    best_cost = math.inf
    for start in range(_STARTS):
        order = sorted(frames, key=lambda folder: draw(seed, str(start), folder))
        if start == 0:
            order.sort(key=lambda folder: -frames[folder])  # big ones first is good, and stable for equal ones
        assignment = _improved(_greedy(order, frames, targets), order, frames, targets)
        cost = _cost(assignment, frames, targets)
        if cost < best_cost - 1e-9:
            best, best_cost = assignment, cost
        if best_cost <= (_NEAR_ENOUGH * total) ** 2:
            break
    return best


def _greedy(order: Sequence[str], frames: Mapping[str, int], targets: Mapping[str, float]) -> _Assignment:
    """Give each folder to the set that lacks most; the last folders go to sets that would stay empty."""
    assignment: _Assignment = {}
    lack = dict(targets)
    for at, folder in enumerate(order):
        empty = [name for name in targets if name not in assignment.values()]
        candidates = empty if len(order) - at <= len(empty) else list(targets)
        name = max(candidates, key=lambda name: lack[name])
        assignment[folder] = name
        lack[name] -= frames[folder]
    return assignment


def _improved(
    assignment: _Assignment, order: Sequence[str], frames: Mapping[str, int], targets: Mapping[str, float]
) -> _Assignment:
    """Move and swap folders while that brings the sets nearer to their targets."""
    over = {name: -target for name, target in targets.items()}
    members = dict.fromkeys(targets, 0)
    for folder, name in assignment.items():
        over[name] += frames[folder]
        members[name] += 1

    def gain(source: str, to: str, moved: int) -> float:
        return over[source] ** 2 + over[to] ** 2 - (over[source] - moved) ** 2 - (over[to] + moved) ** 2

    def shift(source: str, to: str, moved: int) -> None:
        over[source] -= moved
        over[to] += moved

    better = True
    while better:
        better = False
        for at, folder in enumerate(order):
            for name in targets:
                mine = assignment[folder]
                if name != mine and members[mine] > 1 and gain(mine, name, frames[folder]) > 1e-9:
                    shift(mine, name, frames[folder])
                    members[mine] -= 1
                    members[name] += 1
                    assignment[folder] = name
                    better = True
            for other in order[at + 1 :]:
                mine, theirs = assignment[folder], assignment[other]
                moved = frames[folder] - frames[other]
                if mine != theirs and moved and gain(mine, theirs, moved) > 1e-9:
                    shift(mine, theirs, moved)
                    assignment[folder], assignment[other] = theirs, mine
                    better = True
    return assignment


def _cost(assignment: _Assignment, frames: Mapping[str, int], targets: Mapping[str, float]) -> float:
    over = {name: -target for name, target in targets.items()}
    for folder, name in assignment.items():
        over[name] += frames[folder]
    return sum(value**2 for value in over.values())


# --- blocks of a video ----------------------------------------------------------------------------


def _blocks(
    images: Sequence[LabeledImage],
    folders: Mapping[str, Sequence[int]],
    shares: Mapping[str, float],
    seed: int,
) -> dict[str, list[int]]:
    """Cut each folder in a block per set; one too short for that goes whole to the set that lacks most."""
    sets: dict[str, list[int]] = {name: [] for name in (*shares, GAP)}
    done = 0
    for folder in sorted(folders, key=lambda folder: (-len(folders[folder]), draw(seed, folder))):
        members = folders[folder]
        done += len(members)
        pieces = cut_in_blocks(members, shares, seed, folder)
        if not pieces:
            pieces = {max(shares, key=lambda name: shares[name] * done - len(sets[name])): members}
        for name, indices in pieces.items():
            sets[name] += indices
    return sets


def cut_in_blocks(
    members: Sequence[int], shares: Mapping[str, float], seed: int, folder: str
) -> dict[str, Sequence[int]]:
    """Cut a folder's images in a block per set with gaps between; nothing for one that is too short."""
    gap = max(1, round(_GAP_SHARE * len(members)))
    usable = len(members) - gap * (len(shares) - 1)
    if usable < len(shares):
        return {}
    sizes = _sizes(usable, shares)
    blocks: dict[str, Sequence[int]] = {}
    gaps: list[int] = []
    start = 0
    for name in sorted(shares, key=lambda name: draw(seed, folder, name)):
        if start:
            gaps += members[start : start + gap]
            start += gap
        blocks[name] = members[start : start + sizes[name]]
        start += sizes[name]
    return {**blocks, GAP: gaps}


def _sizes(number: int, shares: Mapping[str, float]) -> dict[str, int]:
    """Return whole numbers that add up to *number*, near to the shares and at least 1 each."""
    sizes = {name: max(1, math.floor(share * number)) for name, share in shares.items()}
    while sum(sizes.values()) < number:
        sizes[max(shares, key=lambda name: shares[name] * number - sizes[name])] += 1
    while sum(sizes.values()) > number:
        large = [name for name in shares if sizes[name] > 1]
        sizes[max(large, key=lambda name: sizes[name] - shares[name] * number)] -= 1
    return sizes


# --- results and words ----------------------------------------------------------------------------


def draw(seed: int, *what: str) -> bytes:
    """Return a random-looking sort key that depends on the seed and the names, not on order or platform."""
    return hashlib.sha256("\0".join([str(seed), *what]).encode("utf-8", "surrogateescape")).digest()


def as_split(sets: Mapping[str, Sequence[int]], how: str, note: str) -> Split:
    """Return a split with indices in order, whatever sets are named."""
    return Split({name: tuple(sorted(sets.get(name, ()))) for name in (*SETS, GAP)}, how, note)


def lacking(sets: Mapping[str, Sequence[int]], shares: Mapping[str, float]) -> list[str]:
    """Return those of *shares* whose set is empty."""
    return [name for name in shares if not sets[name]]


def _video_note(assignment: _Assignment, sets: Mapping[str, Sequence[int]], off: float) -> str:
    videos = {name: sum(to == name for to in assignment.values()) for name in sets}
    said = ", ".join(f"{name} {count_of(videos[name], 'video')}" for name in sets)
    note = f"Whole videos were kept together ({said}): {account(sets)}."
    if off > FAR_OFF:
        note += (
            f" The shares asked for are missed by {100 * off:.0f} percentage points: "
            "the videos are too few or too uneven."
        )
    return note


def _blocks_note(why: str, sets: Mapping[str, Sequence[int]]) -> str:
    return (
        f"Because {why}, each video was cut in contiguous blocks of frames with "
        f"{count_of(len(sets[GAP]), 'frame')} left out between them: "
        f"{account({name: sets[name] for name in sets if name != GAP})}. "
        "Training has seen other frames of the same videos, so errors on validation and benchmark are "
        "optimistic for new videos."
    )


def _too_few(
    folders: Mapping[str, Sequence[int]], shares: Mapping[str, float], sets: Mapping[str, Sequence[int]]
) -> str:
    frames = sum(map(len, folders.values()))
    return (
        f"{count_of(frames, 'labeled frame')} of {count_of(len(folders), 'video')} are too few to divide into "
        f"{joined(shares)}: {joined(lacking(sets, shares))} would be empty. Label at least "
        f"{2 * len(shares) - 1} frames of one video, or frames of {len(shares)} videos."
    )


def account(sets: Mapping[str, Sequence[int]]) -> str:
    """Return the sizes of sets in words."""
    total = sum(map(len, sets.values()))
    return ", ".join(
        f"{name} {count_of(len(sets[name]), 'frame')} ({100 * len(sets[name]) / total:.0f} %)" for name in sets
    )


def count_of(number: int, what: str) -> str:
    """Return a number with its noun."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def joined(names: Mapping[str, float] | Sequence[str]) -> str:
    """Return names as people list them."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last
