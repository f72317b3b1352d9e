"""Dividing labeled frames where earlier datasets have decided already: what is in a set stays there.

Only new frames are given to sets, to those that lack most; `split.py` divides frames that nobody divided before.
"""

from __future__ import annotations

import bisect
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from dlc_assets.lab.errors import InputError
from dlc_assets.lab.specification import SplitSettings
from dlc_assets.training.labels import FrameKey, LabeledImage, natural_key
from dlc_assets.training.split import (
    BENCHMARK,
    FAR_OFF,
    GAP,
    LEARNED_FROM,
    SETS,
    TRAIN,
    VALIDATION,
    Split,
    account,
    as_split,
    by_folder,
    count_of,
    cut_in_blocks,
    draw,
    joined,
    lacking,
    split_frames,
)


class _Neighbors:
    """The frames of one folder whose set is known, in natural order; and what that says of frames between them."""

    def __init__(self, frames: Iterable[tuple[str, str]]) -> None:
        ordered = sorted((natural_key(name), set_name) for name, set_name in frames)
        self._keys = [key for key, _ in ordered]
        self._sets = [set_name for _, set_name in ordered]

    def around(self, name: str) -> tuple[str | None, str | None]:
        """Return the sets of the frames before and after *name*, None beyond the first and the last."""
        at = bisect.bisect_left(self._keys, natural_key(name))
        before = self._sets[at - 1] if at else None
        return before, self._sets[at] if at < len(self._sets) else None


def _neighbors_in(frames: Mapping[FrameKey, str], folders: Collection[str]) -> dict[str, _Neighbors]:
    grouped: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for (folder, name), set_name in frames.items():
        if folder in folders:
            grouped[folder].append((name, set_name))
    return {folder: _Neighbors(members) for folder, members in grouped.items()}


@dataclass(frozen=True)
class Renamed:
    """Folders and images that a person has renamed since they were recorded: new name to old."""

    folders: Mapping[str, str] = field(default_factory=dict)
    frames: Mapping[FrameKey, FrameKey] = field(default_factory=dict)

    def recorded_as(self, frame: FrameKey) -> FrameKey:
        """Return the name that the records have for *frame*."""
        return self.frames.get(frame) or (self.folders.get(frame[0], frame[0]), frame[1])


@dataclass(frozen=True)
class Frozen:
    """The benchmark frames of a project: for scoring only, whichever model and split.

    Attributes
    ----------
    videos
        Folders of which every frame is a benchmark frame, those labeled later too.
    frames
        Frame to "benchmark", or to "gap" for frames that are left out because they lie beside a benchmark block.
    cut
        Folders that have a benchmark block: what is labeled later within it belongs to it.
    left_out
        Frames (names as they are now) with the content of a benchmark image that is still there under its own name; and other images
        under the name of a benchmark image.
    learned
        Frames (names as they are now) that models have learned from: they belong to no block, wherever a new name puts them.
    total
        Number of benchmark frames that are still there.
    """

    videos: frozenset[str] = frozenset()
    frames: Mapping[FrameKey, str] = field(default_factory=dict)
    cut: frozenset[str] = frozenset()
    left_out: frozenset[FrameKey] = frozenset()
    learned: frozenset[FrameKey] = frozenset()
    total: int = 0
    renamed: Renamed = field(default_factory=Renamed)

    @cached_property
    def _neighbors(self) -> dict[str, _Neighbors]:
        return _neighbors_in(self.frames, self.cut)

    def set_of(self, frame: FrameKey) -> str | None:
        """Return "benchmark", "gap" (too near to a benchmark block, or a copy), or None for a frame that models may learn from."""
        if frame in self.left_out:
            return GAP
        learned = frame in self.learned
        frame = self.renamed.recorded_as(frame)
        if (known := self.frames.get(frame)) is not None:
            return known
        folder, name = frame
        if folder in self.videos:
            return BENCHMARK
        if learned or folder not in self._neighbors:
            return None
        before, after = self._neighbors[folder].around(name)
        if BENCHMARK in (before, after):  # a block without a gap beside it reaches to the folder's first or last frame
            return GAP if GAP in (before, after) else BENCHMARK
        return GAP if before == after == GAP else None


@dataclass(frozen=True)
class Earlier:
    """What earlier datasets of the same split decided.

    Attributes
    ----------
    how
        As in `Split`, of the first dataset.
    videos
        Folder to set, where a folder was given whole to a set: its new frames go there as well.
    frames
        Frame to set, of every frame that was ever divided.
    cut
        Folders that were cut in blocks: a new frame belongs to the block that surrounds it, or to the gap.
    """

    how: str
    videos: Mapping[str, str] = field(default_factory=dict)
    frames: Mapping[FrameKey, str] = field(default_factory=dict)
    cut: frozenset[str] = frozenset()
    renamed: Renamed = field(default_factory=Renamed)

    @cached_property
    def _neighbors(self) -> dict[str, _Neighbors]:
        return _neighbors_in(self.frames, self.cut)

    def set_of(self, frame: FrameKey) -> str | None:
        """Return the set that *frame* is in or falls into, None for a frame that nothing was decided of."""
        frame = self.renamed.recorded_as(frame)
        if (known := self.frames.get(frame)) is not None:
            return known
        folder, name = frame
        if folder in self.videos:
            return self.videos[folder]
        if folder not in self._neighbors:
            return None
        before, after = self._neighbors[folder].around(name)
        if before is None or after is None or before == after:
            return before if before is not None else after
        return GAP


@dataclass(frozen=True)
class Division:
    """A split, and what later datasets must know to keep it.

    Attributes
    ----------
    split
        The sets.
    frames
        Every image's set.
    videos, cut
        As in `Earlier`, of the folders that nothing was decided of before.
    """

    split: Split
    frames: dict[FrameKey, str]
    videos: dict[str, str]
    cut: frozenset[str]


def divide(
    images: Sequence[LabeledImage],
    shares: SplitSettings,
    *,
    earlier: Earlier | None = None,
    frozen: Frozen | None = None,
    seen: Collection[FrameKey] = (),
) -> Division:
    """Divide images without moving any that was divided before.

    Parameters
    ----------
    images
        The labeled frames of one model.
    shares
        How, and which share of the frames is for what. New frames are given to the sets that lack most.
    earlier
        What earlier datasets of this split decided; None for the first.
    frozen
        The project's benchmark frames, which stay out of train and validation whatever the split says; None where the project has
        none yet, so that this split may choose them among all frames.
    seen
        Frames that some dataset of the project has in train or validation, or left out beside them, under whatever split: where there
        are benchmark frames already, no frame (by: frame) and no video (by: video) of these is added to them.

    Raises
    ------
    InputError
        Train or validation would be empty, or there are too few frames.
    """
    if earlier is None and frozen is None:
        split = split_frames(images, **shares.model_dump())
        return _division(images, split, range(len(images)), split.how)
    frozen = frozen or Frozen()
    fixed = _fixed(images, earlier, frozen)
    new = [at for at in range(len(images)) if at not in fixed]
    if not new and not any(name in LEARNED_FROM for name in fixed.values()):
        raise InputError(_all_for_scoring(fixed))
    occupied = {images[at].folder for at in fixed} | {folder for folder, _ in seen}
    free = {
        at for at in new if (images[at].key not in seen if shares.by == "frame" else images[at].folder not in occupied)
    }
    targets = _targets(fixed, len(images), frozen, shares)
    if earlier is None:
        how, added = _beside_benchmark(images, fixed, new, free, targets, shares)
    elif earlier.how == "frame":
        how, added = earlier.how, _added_frames(images, fixed, new, free, targets, shares.seed)
    else:
        how = earlier.how
        added = _added_videos(images, fixed, new, free, targets, shares.seed, may_cut=how == "blocks")
    set_of = {**fixed, **added}
    sets = {name: [at for at in range(len(images)) if set_of[at] == name] for name in (*SETS, GAP)}
    if empty := lacking(sets, dict.fromkeys(LEARNED_FROM, 0.0)):
        raise InputError(
            f"No frame is left for {joined(empty)} ({account(sets)}): frames never move from one set to another. Label more videos, "
            "choose others, or state another split.seed, which divides all but the benchmark frames anew."
        )
    note = _note_of(how, sets, 0 if earlier is None else len(added), earlier is not None, shares.benchmark)
    return _division(images, as_split(sets, how, note), new, how)


# --- beside what was divided before ---------------------------------------------------------------


def _fixed(images: Sequence[LabeledImage], earlier: Earlier | None, frozen: Frozen) -> dict[int, str]:
    """Return index to set of the images whose set is settled."""
    fixed: dict[int, str] = {}
    for at, image in enumerate(images):
        known = frozen.set_of(image.key)
        if known is None and earlier is not None:
            known = earlier.set_of(image.key)
            known = GAP if known == BENCHMARK else known  # other models learn from it, so it cannot score
        if known is not None:
            fixed[at] = known
    return fixed


def _targets(fixed: Mapping[int, str], images: int, frozen: Frozen, shares: SplitSettings) -> dict[str, float]:
    """Return how many frames each set should have; the project's benchmark frames outside of the label set count as well."""
    benchmark = sum(name == BENCHMARK for name in fixed.values())
    usable = images - sum(name == GAP for name in fixed.values())
    elsewhere = max(0, frozen.total - benchmark)
    held_out = max(float(benchmark), shares.benchmark * usable - elsewhere)
    train = shares.train / (shares.train + shares.validation)
    return {
        TRAIN: train * (usable - held_out),
        VALIDATION: (1 - train) * (usable - held_out),
        BENCHMARK: held_out,
    }


def _lack(fixed: Mapping[int, str], targets: Mapping[str, float]) -> dict[str, float]:
    return {name: target - sum(to == name for to in fixed.values()) for name, target in targets.items()}


def _beside_benchmark(
    images: Sequence[LabeledImage],
    fixed: Mapping[int, str],
    new: Sequence[int],
    free: Collection[int],
    targets: Mapping[str, float],
    shares: SplitSettings,
) -> tuple[str, dict[int, str]]:
    """Divide the images that are no benchmark frames as for the first time; some are added to those where nobody learned from them."""
    held_out = _more_benchmark(images, new, free, _lack(fixed, targets)[BENCHMARK], shares)
    rest = [at for at in new if at not in held_out]
    learned = shares.train + shares.validation
    try:
        divided = split_frames(
            [images[at] for at in rest],
            by=shares.by,
            train=shares.train / learned,
            validation=shares.validation / learned,
            benchmark=0.0,
            seed=shares.seed,
        )
    except InputError as error:
        if not fixed:
            raise
        raise InputError(
            f"{error} ({count_of(len(fixed), 'other labeled frame')}: the project's benchmark, or beside it.)"
        ) from error
    added = {rest[at]: name for name, members in divided.sets.items() for at in members}
    return divided.how, {**added, **dict.fromkeys(held_out, BENCHMARK)}


def _more_benchmark(
    images: Sequence[LabeledImage], new: Sequence[int], free: Collection[int], lack: float, shares: SplitSettings
) -> set[int]:
    """Return images of *free* to add to the benchmark: whole videos or single frames, until the share is nearly reached."""
    units: dict[FrameKey, list[int]] = defaultdict(list)
    for at in new:
        units[images[at].key if shares.by == "frame" else (images[at].folder, "")].append(at)
    chosen: set[int] = set()
    left = len(units)
    for unit in sorted(units, key=lambda unit: draw(shares.seed, BENCHMARK, *unit)):
        members = units[unit]
        # Two are left for train and validation, and the share is not missed by more than without.
        if left > 2 and len(members) < 2 * lack and all(at in free for at in members):
            chosen |= set(members)
            lack -= len(members)
            left -= 1
    return chosen


def _added_frames(
    images: Sequence[LabeledImage],
    fixed: Mapping[int, str],
    new: Sequence[int],
    free: Collection[int],
    targets: Mapping[str, float],
    seed: int,
) -> dict[int, str]:
    """Give each new frame to the set that lacks most."""
    lack = _lack(fixed, targets)
    added: dict[int, str] = {}
    for at in sorted(new, key=lambda at: draw(seed, images[at].folder, images[at].name)):
        allowed = SETS if at in free and lack[BENCHMARK] >= 1 else LEARNED_FROM
        name = max(allowed, key=lambda name: lack[name])
        added[at] = name
        lack[name] -= 1
    return added


def _added_videos(
    images: Sequence[LabeledImage],
    fixed: Mapping[int, str],
    new: Sequence[int],
    free: Collection[int],
    targets: Mapping[str, float],
    seed: int,
    *,
    may_cut: bool,
) -> dict[int, str]:
    """Give each new video to the set that lacks most; where videos were cut before and the shares would be far off, cut it too."""
    folders = by_folder([images[at] for at in new])
    lack = _lack(fixed, targets)
    added: dict[int, str] = {}
    order = sorted(folders, key=lambda folder: (-len(folders[folder]), draw(seed, folder)))
    for number, folder in enumerate(order):
        members = [new[at] for at in folders[folder]]
        allowed = SETS if members[0] in free and lack[BENCHMARK] * 2 > len(members) else LEARNED_FROM
        empty = [name for name in LEARNED_FROM if name not in fixed.values() and name not in added.values()]
        name = max(empty if len(order) - number <= len(empty) else allowed, key=lambda name: lack[name])
        pieces: Mapping[str, Sequence[int]] = {name: members}
        if may_cut and len(members) - lack[name] > FAR_OFF * (len(fixed) + len(added) + len(members)):
            parts = {to: targets[to] for to in LEARNED_FROM}
            pieces = (
                cut_in_blocks(members, {to: part / sum(parts.values()) for to, part in parts.items()}, seed, folder)
                or pieces
            )
        for to, indices in pieces.items():
            added |= dict.fromkeys(indices, to)
            lack[to] = lack.get(to, 0.0) - len(indices)
    return added


def _division(images: Sequence[LabeledImage], split: Split, new: Iterable[int], how: str) -> Division:
    """Return a split with what later datasets must know; the folders of the images *new* are those that it decided of."""
    set_of = {at: name for name, members in split.sets.items() for at in members}
    frames = {images[at].key: name for at, name in set_of.items()}
    in_folder: dict[str, set[str]] = defaultdict(set)
    for at in new if how != "frame" else ():
        in_folder[images[at].folder].add(set_of[at])
    videos = {folder: next(iter(names)) for folder, names in in_folder.items() if len(names) == 1}
    return Division(split, frames, videos, frozenset(set(in_folder) - set(videos)))


# --- words ----------------------------------------------------------------------------------------


_HOW_WORDS = {
    "video": "Whole videos were kept together",
    "blocks": (
        "Videos were cut in contiguous blocks of frames with gaps between them, so errors on validation and benchmark may be "
        "optimistic for new videos"
    ),
    "frame": (
        "Single frames were drawn at random, so errors on validation and benchmark are optimistic for new videos: frames near in "
        "time lie in different sets and look alike"
    ),
}


def _note_of(how: str, sets: Mapping[str, Sequence[int]], added: int, kept: bool, benchmark: float) -> str:
    said = [f"{_HOW_WORDS[how]}: {account({name: sets[name] for name in SETS if sets[name]})}."]
    if kept:
        also = f"; {count_of(added, 'new frame')} joined the sets" if added else ""
        said.append(f"Every frame stays in the set that earlier datasets gave it{also}.")
    if sets[BENCHMARK] and not benchmark:
        said.append(
            "This model asks for no benchmark frames; those of its project stay out of its training all the same."
        )
    if sets[GAP]:
        said.append(f"{count_of(len(sets[GAP]), 'frame')} left out between sets.")
    return " ".join(said)


def _all_for_scoring(fixed: Mapping[int, str]) -> str:
    scoring = sum(name == BENCHMARK for name in fixed.values())
    return (
        f"Nothing is left to learn from: of {count_of(len(fixed), 'labeled frame')}, {scoring} are benchmark frames of the project, "
        f"which only score, and {len(fixed) - scoring} lie beside them. Choose more videos in label_set, or label frames of other "
        "videos."
    )
