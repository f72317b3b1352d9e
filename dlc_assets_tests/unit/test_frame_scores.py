"""Which frames a pose table makes worth labeling: each kind of fault is found by the reason made for it, and sound frames are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dlc_assets.labeling.appearance import apart, nearest, small_picture, typical
from dlc_assets.labeling.candidates import SPREAD, candidates_of
from dlc_assets.labeling.choosing import Seen, choose
from dlc_assets.labeling.frame_scores import (
    DISAGREEMENT,
    JUMP,
    LOW_CONFIDENCE,
    SWAP,
    FrameScores,
    _look_alikes,
    score_frames,
)
from dlc_assets.poses.schema import PoseMetadata, Track
from dlc_assets.poses.table_file import write_pose_table
from dlc_assets_tests.unit.labeling_lab import FRAMES, PARTS, PCUTOFF, RATE, picture, true_poses, write_table

DIAGONAL = 200.0


def scored(tmp_path: Path, poses: dict[str, np.ndarray], *others: dict[str, np.ndarray]) -> FrameScores:
    tables = []
    for number, one in enumerate((poses, *others)):
        tables.append(tmp_path / f"{number}.parquet")
        write_table(tables[-1], one)
    return score_frames(tables[0], tables[1:], diagonal=DIAGONAL)


def test_sound_poses_ask_for_nothing(tmp_path: Path) -> None:
    scores = scored(tmp_path, true_poses(), true_poses())
    assert scores.total.shape == (FRAMES,)
    assert scores.total.max() < 0.02
    assert (scores.seen == len(PARTS)).all()
    assert 25 < scores.size < 40  # the square's body parts are 28 px apart, and 18 across


def test_each_fault_is_found_where_it_is_and_by_its_name(tmp_path: Path) -> None:
    poses, other = true_poses(), true_poses()
    poses["snout"][2, 50:56] = 0.2
    poses["tailbase"][:2, 90] += 60
    ears = poses["leftear"][:, 120:].copy()
    poses["leftear"][:, 120:], poses["rightear"][:, 120:] = poses["rightear"][:, 120:], ears
    other["rightear"], other["leftear"] = poses["rightear"].copy(), poses["leftear"].copy()
    other["snout"][:2, 160] += 25
    scores = scored(tmp_path, poses, other)
    assert {reason: int(scores.by_reason[reason].argmax()) for reason in (JUMP, DISAGREEMENT)} == {
        JUMP: 90,
        DISAGREEMENT: 90,  # the other network did not jump with this one
    }
    assert scores.by_reason[DISAGREEMENT][160] > 0.5
    assert np.flatnonzero(scores.by_reason[SWAP]).tolist() == [119, 120]
    assert np.flatnonzero(scores.by_reason[LOW_CONFIDENCE] > 0.25).tolist() == list(range(50, 56))
    assert {PARTS[scores.culprit[JUMP][90]], PARTS[scores.culprit[LOW_CONFIDENCE][52]]} == {"tailbase", "snout"}
    sound = np.setdiff1d(np.arange(FRAMES), [*range(50, 56), 89, 90, 91, 119, 120, 160])
    assert scores.total[sound].max() < 0.1


def test_the_mean_of_several_networks_counts(tmp_path: Path) -> None:
    apart = true_poses()
    apart["snout"][:2, 70] += 60
    alone = scored(tmp_path, true_poses(), apart).by_reason[DISAGREEMENT][70]
    outvoted = scored(tmp_path, true_poses(), apart, true_poses()).by_reason[DISAGREEMENT][70]
    assert outvoted == pytest.approx(alone / 2)


def test_a_body_part_that_is_hidden_most_of_the_time_asks_for_less(tmp_path: Path) -> None:
    seldom = true_poses()
    seldom["tailbase"][2, :180] = 0.01
    scores = scored(tmp_path, seldom).by_reason[LOW_CONFIDENCE]
    once = true_poses()
    once["tailbase"][2, 100] = 0.3
    assert scores[100] < 0.5 * scored(tmp_path, once).by_reason[LOW_CONFIDENCE][100]


def test_nothing_moves_over_a_gap_and_nulls_are_no_faults(tmp_path: Path) -> None:
    poses = true_poses()
    poses["snout"][:2, 100:] += 50
    times = np.arange(FRAMES) / RATE
    times[100:] += 3
    write_table(tmp_path / "gap.parquet", poses, times=times)
    assert score_frames(tmp_path / "gap.parquet", diagonal=DIAGONAL).by_reason[JUMP].max() == 0
    nothing = {part: np.full((3, FRAMES), np.nan, np.float32) for part in PARTS}
    scores = scored(tmp_path, nothing)
    assert (scores.seen == 0).all()
    assert np.isfinite(scores.total).all()


def test_one_frame_and_one_body_part_can_be_scored(tmp_path: Path) -> None:
    write_table(tmp_path / "one.parquet", {"snout": np.array([[5], [6], [0.3]], np.float32)})
    scores = score_frames(tmp_path / "one.parquet", diagonal=DIAGONAL)
    assert scores.frame_count == 1
    assert scores.total[0] > 0.2
    assert [one.frame for one in candidates_of(scores, np.zeros(1), 10, wanted=5, seed=1, name="one")] == [0]


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("leftear", "rightear"),
        ("ear_left", "ear_right"),
        ("LeftPaw", "RightPaw"),
        ("paw L", "paw R"),
        ("l_hip", "r_hip"),
        ("earL", "earR"),
        ("EarL1", "EarR1"),
        ("LEar", "REar"),
    ],
)
def test_left_and_right_are_told_by_their_names(left: str, right: str) -> None:
    assert list(_look_alikes([("", "tail"), ("", right), ("", left), ("", "belly")])) == [(("", left), ("", right))]


def test_two_animals_that_change_places_are_a_swap(tmp_path: Path) -> None:
    one, other = true_poses(), {part: values.copy() for part, values in true_poses().items()}
    for values in other.values():
        values[1] += 40
    tracks = []
    for part in PARTS:
        one[part][:, 100:], other[part][:, 100:] = other[part][:, 100:].copy(), one[part][:, 100:].copy()
        tracks += [Track("a", part, *one[part]), Track("b", part, *other[part])]
    metadata = PoseMetadata(
        model="m", version="v", session="s", recording="r", frame_count=FRAMES, bodyparts=list(PARTS), pcutoff=PCUTOFF
    )
    write_pose_table(tmp_path / "two.parquet", tracks, np.arange(FRAMES) / RATE, metadata)
    scores = score_frames(tmp_path / "two.parquet", [tmp_path / "two.parquet"], diagonal=DIAGONAL)
    assert np.flatnonzero(scores.by_reason[SWAP]).tolist() == [99, 100]
    assert scores.by_reason[DISAGREEMENT].max() == 0


# --- candidates -----------------------------------------------------------------------------------


def test_candidates_are_not_of_one_moment_and_some_stand_for_their_part(tmp_path: Path) -> None:
    poses = true_poses()
    poses["snout"][2, 40:80] = np.linspace(0.1, 0.5, 40)
    scores = scored(tmp_path, poses)
    times = np.arange(FRAMES) / RATE
    found = candidates_of(scores, times, 30, wanted=2, seed=1, name="a")
    assert len(found) == len({one.frame for one in found}) <= 30
    useful = sorted(one.frame for one in found if not one.spread)
    assert useful
    assert set(useful) <= set(range(40, 80))
    assert min(np.diff(useful)) > RATE / 2
    spread = [one for one in found if one.spread]
    assert len(spread) >= 6
    assert {one.frame * 4 // FRAMES for one in spread} == {0, 1, 2, 3}
    assert all(one.reasons == (SPREAD,) for one in found if one.frame < 40)
    again = candidates_of(scores, times, 30, wanted=2, seed=1, name="a")
    assert [one.frame for one in again] == [one.frame for one in found]
    other = candidates_of(scores, times, 30, wanted=2, seed=2, name="a")
    assert [one.frame for one in other] != [one.frame for one in found]


def test_few_candidates_show_nothing(tmp_path: Path) -> None:
    poses = true_poses()
    for values in poses.values():
        values[2, :150] = 0.1
    found = candidates_of(scored(tmp_path, poses), np.arange(FRAMES) / RATE, 20, wanted=10, seed=1, name="a")
    assert sum(not one.seen for one in found if not one.spread) == 4


# --- what they look like --------------------------------------------------------------------------


def test_noise_and_light_make_no_other_frame_and_a_step_does() -> None:
    random = np.random.default_rng(1)
    shown = picture(20)
    noisy = (shown + random.normal(0, 4, shown.shape)).clip(0, 255).astype(np.uint8)
    lighter = shown + np.uint8(12)
    step, across = picture(22), picture(48)
    near = apart(small_picture(shown), np.array([small_picture(one) for one in (noisy, lighter, step, across)]))
    usual = typical([small_picture(picture(frame)) for frame in range(0, FRAMES, 20)])
    assert near[:2].max() < 0.02 * usual < 0.2 * usual < near[2] < near[3]
    assert nearest(np.array([small_picture(shown)]), np.empty((0, 0))).tolist() == [np.inf]


# --- choosing -------------------------------------------------------------------------------------


def seen(frame: int, *, score: float = 0.5, session: str = "a", subject: str = "m", found: bool = True) -> Seen:
    shown = small_picture(picture(frame, floor=60 + 30 * (session == "b")))
    usual = typical([small_picture(picture(other)) for other in range(0, FRAMES, 20)])
    return Seen(score, shown, usual, session, subject, (session, "top", frame), found)


def test_near_duplicates_are_never_chosen_however_useful() -> None:
    known = np.array([small_picture(picture(100))])
    candidates = [seen(100, score=1.0), seen(101, score=1.0), seen(20, score=0.9), seen(21, score=0.8), seen(150)]
    chosen = choose(candidates, known, 5)
    assert [candidates[at].order[2] for at in chosen.places] == [20, 150]
    assert min(chosen.nearest) > 0
    assert chosen.notes == [
        "2 of 5 frames were found: of the other candidates 2 look like pictures that the project has already; "
        "1 look like a chosen one."
    ]


def test_frames_come_from_all_sessions_and_animals() -> None:
    many = [seen(frame, score=0.9) for frame in range(0, 190, 12)]
    few = [seen(frame, score=0.6, session="b", subject="n") for frame in range(5, 190, 40)]
    chosen = [(many + few)[at] for at in choose([*many, *few], np.empty((0, 0)), 8).places]
    assert sum(one.session == "b" for one in chosen) >= 3


def test_the_choice_does_not_depend_on_the_order_of_the_candidates() -> None:
    candidates = [seen(frame, score=0.5) for frame in range(0, 190, 12)]
    chosen = {candidates[at].order for at in choose(candidates, np.empty((0, 0)), 6).places}
    backwards = candidates[::-1]
    assert {backwards[at].order for at in choose(backwards, np.empty((0, 0)), 6).places} == chosen


def test_a_fifth_may_show_nothing() -> None:
    candidates = [seen(frame, score=0.9, found=False) for frame in range(0, 190, 12)] + [seen(6, score=0.1)]
    chosen = choose(candidates, np.empty((0, 0)), 10)
    assert sum(not candidates[at].found for at in chosen.places) == 2
    assert len(chosen.places) == 3
    assert "the network finds nothing" in chosen.notes[0]
    assert choose([], np.empty((0, 0)), 3).places == []
