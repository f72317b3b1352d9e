"""What a split promises: nothing lost, nothing in two sets, neighbors apart, the same for the same seed."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dlc_assets.lab.errors import InputError, SettingsError
from dlc_assets.training.labels import LabeledImage, read_label_set
from dlc_assets.training.project import read_project
from dlc_assets.training.split import Split, split_frames

SHARES = {"train": 0.8, "validation": 0.1, "benchmark": 0.1}


def _frames(*folders: int) -> list[LabeledImage]:
    return [
        LabeledImage(f"video{at}", f"img{frame}.png", Path(), "Ann", np.zeros((1, 2)))
        for at, number in enumerate(folders)
        for frame in range(number)
    ]


def _names(images: list[LabeledImage], split: Split) -> dict[str, set[tuple[str, str]]]:
    return {name: {(images[at].folder, images[at].name) for at in members} for name, members in split.sets.items()}


def _split(images: list[LabeledImage], by: Any = "video", seed: int = 1, **shares: float) -> Split:
    return split_frames(images, by=by, seed=seed, **(shares or SHARES))


def _check_neighbors_are_apart(images: list[LabeledImage], split: Split) -> None:
    """Images are in natural order within each folder, as `_frames` makes them."""
    where = {at: name for name, members in split.sets.items() for at in members}
    for at in range(1, len(images)):
        if images[at].folder == images[at - 1].folder:
            assert where[at] == where[at - 1] or "gap" in (where[at], where[at - 1])


_shares = st.sampled_from([(0.8, 0.1, 0.1), (0.5, 0.5, 0.0), (0.34, 0.33, 0.33), (0.98, 0.01, 0.01), (0.1, 0.9, 0.0)])


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(
    folders=st.lists(st.integers(1, 60), min_size=1, max_size=12),
    by=st.sampled_from(["video", "frame"]),
    shares=_shares,
    seed=st.integers(0, 2**31),
)
def test_every_image_is_in_one_set_whatever_order_they_come_in(
    folders: list[int], by: Any, shares: tuple[float, float, float], seed: int
) -> None:
    images = _frames(*folders)
    asked = dict(zip(SHARES, shares, strict=True))
    try:
        split = split_frames(images, by=by, seed=seed, **asked)
    except InputError:
        wanted = sum(share > 0 for share in shares)
        assert len(images) < 3 or (by == "video" and len(folders) < wanted and max(folders) < 2 * wanted - 1)
        return
    assert sorted(itertools.chain(*split.sets.values())) == list(range(len(images)))
    assert list(split.sets) == ["train", "validation", "benchmark", "gap"]
    for name, share in asked.items():
        assert bool(split.sets[name]) == (share > 0)
    assert bool(split.sets["gap"]) == (split.how == "blocks")
    if split.how == "blocks":
        _check_neighbors_are_apart(images, split)
    shuffled = random.Random(seed).sample(images, len(images))
    again = split_frames(shuffled, by=by, seed=seed, **asked)
    assert _names(shuffled, again) == _names(images, split)
    assert (again.how, again.note) == (split.how, split.note)


def test_a_video_is_never_divided_where_there_are_enough() -> None:
    images = _frames(*[20] * 10)
    split = _split(images)
    assert split.how == "video"
    assert [len(split.sets[name]) for name in SHARES] == [160, 20, 20]
    folders = [{images[at].folder for at in split.sets[name]} for name in SHARES]
    assert not any(one & other for one, other in itertools.combinations(folders, 2))
    assert "train 8 videos, validation 1 video, benchmark 1 video" in split.note


@settings(deadline=None, max_examples=40)
@given(folders=st.lists(st.integers(1, 40), min_size=3, max_size=6), shares=_shares, seed=st.integers(0, 9))
def test_whole_videos_come_as_near_to_the_shares_as_any_assignment(
    folders: list[int], shares: tuple[float, float, float], seed: int
) -> None:
    asked = {name: share for name, share in zip(SHARES, shares, strict=True) if share}
    split = _split(_frames(*folders), seed=seed, **dict(zip(SHARES, shares, strict=True)))
    if split.how != "video":
        return
    total = sum(folders)

    def cost(sizes: list[int]) -> float:
        return sum((size - share * total) ** 2 for size, share in zip(sizes, asked.values(), strict=True))

    best = min(
        cost([sum(size for size, to in zip(folders, chosen, strict=True) if to == at) for at in range(len(asked))])
        for chosen in itertools.product(range(len(asked)), repeat=len(folders))
        if len(set(chosen)) == len(asked)
    )
    assert cost([len(split.sets[name]) for name in asked]) <= max(best, (0.005 * total) ** 2) + 1e-6


def test_many_videos_are_divided_quickly_and_well() -> None:
    images = _frames(*[random.Random(at).randint(1, 50) for at in range(300)])
    split = _split(images)
    for name, share in SHARES.items():
        assert len(split.sets[name]) / len(images) == pytest.approx(share, abs=0.01)


def test_the_seed_chooses_among_equal_videos() -> None:
    images = _frames(*[10] * 10)
    assert len({split.sets["benchmark"] for split in (_split(images, seed=seed) for seed in range(20))}) > 3


def test_one_video_is_cut_in_blocks_with_gaps_between_and_says_so() -> None:
    images = _frames(200)
    split = _split(images)
    assert split.how == "blocks"
    assert "1 video cannot be divided whole among train, validation and benchmark" in split.note
    assert "8 frames left out" in split.note
    assert len(split.sets["gap"]) == 2 * 4  # two gaps of 2 %
    where = {at: name for name, members in split.sets.items() for at in members}
    runs = [name for name, _ in itertools.groupby(where[at] for at in range(200))]
    assert sorted(runs) == ["benchmark", "gap", "gap", "train", "validation"]
    assert runs[1] == runs[3] == "gap"


def test_blocks_follow_the_natural_order_of_names() -> None:
    images = _frames(30)  # img0 ... img29: img10 comes after img9, not after img1
    split = _split(images[::-1], train=0.5, validation=0.5, benchmark=0.0)
    numbers = sorted(int(images[::-1][at].name[3:-4]) for at in split.sets["train"])
    assert numbers in (list(range(numbers[0], numbers[0] + len(numbers))),)


def test_shares_that_whole_videos_would_miss_lead_to_blocks() -> None:
    split = _split(_frames(100, 2, 2), train=0.6, validation=0.2, benchmark=0.2)
    assert split.how == "blocks"
    assert "whole videos would miss the shares asked for by" in split.note
    usable = 104 - len(split.sets["gap"])
    assert len(split.sets["train"]) / usable == pytest.approx(0.6, abs=0.03)


def test_uneven_videos_too_short_to_cut_stay_whole_and_the_note_says_how_far_off() -> None:
    split = _split(_frames(2, 2, 2, 2), train=0.98, validation=0.01, benchmark=0.01)
    assert split.how == "video"
    assert "missed by 48 percentage points" in split.note


def test_single_frames_are_marked_as_optimistic() -> None:
    images = _frames(50, 50)
    split = _split(images, by="frame")
    assert split.how == "frame"
    assert "optimistic" in split.note
    assert [len(split.sets[name]) for name in (*SHARES, "gap")] == [80, 10, 10, 0]
    assert _split(images, by="frame", seed=2).sets != split.sets


def test_a_set_with_a_tiny_share_still_gets_a_frame() -> None:
    split = _split(_frames(10), by="frame", train=0.98, validation=0.01, benchmark=0.01)
    assert [len(split.sets[name]) for name in SHARES] == [8, 1, 1]


def test_the_open_field_is_one_video_and_cut_in_blocks(real_data: Path) -> None:
    images = read_label_set(read_project(real_data / "openfield")).images
    split = split_frames(images, by="video", seed=1, **SHARES)
    assert split.how == "blocks"
    assert [len(split.sets[name]) for name in (*SHARES, "gap")] == [90, 11, 11, 4]


@pytest.mark.parametrize("folders", [(), (2,), (1, 1), (4,), (2, 2)])
def test_too_few_frames_are_an_error(folders: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="too few to divide into train, validation and benchmark"):
        _split(_frames(*folders))


@pytest.mark.parametrize(
    ("shares", "said"),
    [
        ((0.8, 0.1, 0.2), "add up to 1.1"),
        ((1.2, -0.1, -0.1), "from 0 to 1"),
        ((float("nan"), 0.5, 0.5), "from 0 to 1"),
        ((0.0, 0.5, 0.5), "train should be above 0"),
        ((0.9, 0.0, 0.1), "validation should be above 0"),
    ],
)
def test_wrong_shares_are_an_error_of_the_settings(shares: tuple[float, float, float], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        _split(_frames(20), **dict(zip(SHARES, shares, strict=True)))


def test_an_unknown_way_to_split_is_an_error_of_the_settings() -> None:
    with pytest.raises(SettingsError, match=r"is 'vidoe'.*Did you mean \"video\""):
        _split(_frames(20), by="vidoe")
