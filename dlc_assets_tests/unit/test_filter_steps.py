"""Each step of the filters on data whose result is known: against movement and scipy where nothing is missing, and never across a gap."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from movement.filtering import interpolate_over_time, rolling_filter, savgol_filter
from scipy import signal
from xarray import DataArray, set_options

from dlc_assets.derived import filter_steps as steps
from dlc_assets.derived.filter_steps import Clock, Left
from dlc_assets.derived.filtering import RecordingFilter
from dlc_assets.derived.time_stretches import time_stretches
from dlc_assets.lab.filter_settings import DEFAULT_FILTERS, FilterStep
from dlc_assets.poses.schema import Track
from dlc_assets.recordings.filter_rigs import FilterRig

RATE = 30.0


def _walk(frames: int, seed: int = 0) -> np.ndarray:
    return np.cumsum(np.random.default_rng(seed).normal(size=(frames, 2)), axis=0) + 100


def _times(frames: int, *gaps_after: int, lost: float = 2.0) -> np.ndarray:
    times = np.arange(frames) / RATE
    for frame in gaps_after:
        times[frame + 1 :] += lost
    return times


def _with_holes(xy: np.ndarray, share: float, seed: int = 1) -> np.ndarray:
    holed = xy.copy()
    holed[np.random.default_rng(seed).random(len(xy)) < share] = np.nan
    return holed


# --- time -----------------------------------------------------------------------------------------


def test_stretches_end_at_gaps_and_a_rate_that_changes_is_none() -> None:
    assert [(s.start, s.stop) for s in time_stretches(_times(100, 9, 59))] == [(0, 10), (10, 60), (60, 100)]
    one_lost_frame = np.delete(np.arange(100) / RATE, 40)
    assert [(s.start, s.stop) for s in time_stretches(one_lost_frame)] == [(0, 40), (40, 99)]
    slower = np.concatenate([np.arange(100) / 30, 100 / 30 + np.arange(100) / 10])
    assert [(s.start, s.stop, s.steady) for s in time_stretches(slower)] == [(0, 200, False)]
    backward = np.array([0, 1, 2, 1.5, 2.5, 3.5]) / RATE
    assert [(s.start, s.stop) for s in time_stretches(backward)] == [(0, 3), (3, 6)]


@pytest.mark.parametrize("frames", [3, 10, 32, 33, 300])
def test_a_gap_after_the_first_or_before_the_last_frame_is_one(frames: int) -> None:
    assert [(s.start, s.stop) for s in time_stretches(_times(frames, 0, lost=1.0))] == [(0, 1), (1, frames)]
    last = frames - 1
    assert [(s.start, s.stop) for s in time_stretches(_times(frames, last - 1, lost=1.0))] == [
        (0, last),
        (last, frames),
    ]


def test_the_gap_in_a_real_recording_is_found(real_data: Path) -> None:
    (file,) = real_data.glob("ibl-paw-left/*.timestamps.left.npy")
    assert [(s.start, s.stop) for s in time_stretches(np.load(file))] == [(0, 1), (1, 1000)]


@pytest.mark.parametrize("frames", [0, 1, 2])
def test_stretches_of_hardly_any_frames(frames: int) -> None:
    assert [(s.start, s.stop) for s in time_stretches(_times(frames))] == ([(0, frames)] if frames else [])


def test_times_that_are_rounded_to_milliseconds_are_steady() -> None:
    (stretch,) = time_stretches(np.round(np.arange(500) / 120, 3))
    assert stretch.steady
    assert [stretch.half(window) for window in (0.1, 0.05, 0.01)] == [6, 3, 0]


@given(
    gaps=st.sets(st.integers(0, 118), max_size=8),
    lost=st.floats(0.06, 30),
    seed=st.integers(0, 1000),
    step=st.sampled_from(["interpolate", "median", "savgol"]),
    share=st.sampled_from([0.0, 0.1, 0.5]),
)
@settings(max_examples=60, deadline=None)
def test_no_step_reaches_across_a_gap(gaps: set[int], lost: float, seed: int, step: str, share: float) -> None:
    """Each stretch by itself gives the very numbers that it gives among the others."""
    clock = Clock(_times(120, *gaps, lost=lost))
    xy = _with_holes(_walk(120, seed), share, seed)

    def apply(of: Clock, points: np.ndarray) -> np.ndarray:
        if step == "interpolate":
            return steps.interpolate(of, points, 0.2)
        if step == "median":
            return steps.median(of, points, 0.2).xy
        return steps.savgol(of, points, 0.2, 2).xy

    together = apply(clock, xy)
    for stretch in clock.stretches:
        frames = slice(stretch.start, stretch.stop)
        if stretch.frames > 1:  # of one frame alone nobody knows the rate
            alone = apply(Clock(clock.times[frames]), xy[frames])
            np.testing.assert_array_equal(together[frames], alone)
        else:
            np.testing.assert_array_equal(together[frames], xy[frames])


# --- confidence and arena -------------------------------------------------------------------------


def test_points_below_the_cutoff_are_removed_and_no_others() -> None:
    xy, likelihood = _walk(5), np.array([0.6, 0.59, np.nan, 1.0, 0.0], np.float32)
    masked = steps.mask_confidence(xy, likelihood, 0.6)
    np.testing.assert_array_equal(steps.present(masked), [True, False, False, True, False])
    np.testing.assert_array_equal(masked[[0, 3]], xy[[0, 3]])
    np.testing.assert_array_equal(steps.mask_confidence(masked, likelihood, 0.6), masked)


def test_points_outside_the_arena_are_removed_beyond_the_margin() -> None:
    xy = np.array([[5.0, 5], [12, 5], [16, 5], [np.nan, np.nan], [-5, 5]])
    arena = ((0.0, 0.0), (10.0, 10.0))
    np.testing.assert_array_equal(steps.present(steps.mask_outside(xy, arena, 5)), [True, True, False, False, True])
    np.testing.assert_array_equal(steps.present(steps.mask_outside(xy, arena, 0)), [True, False, False, False, False])


# --- jumps ----------------------------------------------------------------------------------------


def test_a_jump_is_removed_and_what_is_around_it_stays() -> None:
    xy = _walk(100)
    jumped = xy.copy()
    jumped[[40, 41]] += 300
    jumped[70] += 300
    cleaned = steps.remove_jumps(Clock(_times(100)), jumped, 300.0)
    np.testing.assert_array_equal(np.flatnonzero(~steps.present(cleaned)), [40, 41, 70])
    kept = steps.present(cleaned)
    np.testing.assert_array_equal(cleaned[kept], xy[kept])


@pytest.mark.parametrize("wrong", [slice(0, 3), slice(97, 100)])
def test_a_wrong_beginning_or_end_takes_no_right_points_with_it(wrong: slice) -> None:
    xy = _walk(100)
    xy[wrong] += 300
    cleaned = steps.remove_jumps(Clock(_times(100)), xy, 300.0)
    np.testing.assert_array_equal(np.flatnonzero(~steps.present(cleaned)), np.arange(100)[wrong])


def test_where_the_body_part_really_is_elsewhere_points_count_again_once_it_could_be_there() -> None:
    xy = np.zeros((300, 2))
    xy[100:] += [60.0, 0]
    cleaned = steps.remove_jumps(Clock(_times(300)), xy, 60.0)
    gone = np.flatnonzero(~steps.present(cleaned))
    # One second at 60 px/s; the longer part (after) is the one that is believed.
    assert (gone.min(), gone.max(), len(gone)) == (71, 99, 29)


def test_a_gap_in_time_is_time_to_move() -> None:
    xy = np.zeros((20, 2))
    xy[10:] += [60.0, 0]
    assert steps.present(steps.remove_jumps(Clock(_times(20, 9, lost=2.0)), xy, 60.0)).all()
    assert not steps.present(steps.remove_jumps(Clock(_times(20, 9, lost=0.2)), xy, 60.0)).all()


@given(seed=st.integers(0, 10_000), speed=st.floats(5, 3000), share=st.sampled_from([0.0, 0.3, 0.9]))
@settings(max_examples=60, deadline=None)
def test_nothing_that_is_left_is_faster_and_once_is_enough(seed: int, speed: float, share: float) -> None:
    rng = np.random.default_rng(seed)
    xy = _with_holes(_walk(200, seed), share, seed)
    xy[rng.random(200) < 0.2] += rng.normal(0, 100, 2)
    clock = Clock(_times(200, int(rng.integers(0, 199)), lost=float(rng.uniform(0.1, 2))))
    cleaned = steps.remove_jumps(clock, xy, speed)
    at = np.flatnonzero(steps.present(cleaned))
    speeds = np.hypot(*np.diff(cleaned[at], axis=0).T) / np.diff(clock.times[at])
    assert (speeds <= speed * (1 + 1e-6)).all()
    assert len(at) or not steps.present(xy).any()
    np.testing.assert_array_equal(cleaned[at], xy[at])
    np.testing.assert_array_equal(steps.remove_jumps(clock, cleaned, speed), cleaned)


def test_noise_without_end_takes_no_time() -> None:
    xy = np.random.default_rng(0).uniform(0, 600, (20_000, 2))
    cleaned = steps.remove_jumps(Clock(_times(20_000)), xy, 500.0)
    assert 0 < steps.present(cleaned).sum() < 10_000


# --- interpolation --------------------------------------------------------------------------------


def test_interpolation_is_movements_where_times_are_even() -> None:
    xy = _with_holes(_walk(400), 0.3)
    xy[[0, -1]] = 100
    even = DataArray(xy, dims=("time", "space"), coords={"time": _times(400)})
    expected = interpolate_over_time(even, max_gap=2).to_numpy()
    filled = steps.interpolate(Clock(_times(400)), xy, 3 / RATE)  # two missing between points three intervals apart
    np.testing.assert_allclose(filled, expected, rtol=1e-12)


def test_interpolation_goes_by_the_frames_own_times() -> None:
    times = np.array([0, 0.03, 0.075, 0.105])
    xy = np.array([[0.0, 10], [np.nan, np.nan], [np.nan, np.nan], [10.5, 0]])
    filled = steps.interpolate(Clock(times), xy, 0.2)
    np.testing.assert_allclose(filled[:, 0], times * 100)


def test_ends_long_gaps_and_gaps_in_time_stay_missing() -> None:
    xy = np.ones((40, 2))
    xy[[0, 5, 6, 7, 8, 20, 30, 39]] = np.nan
    filled = steps.interpolate(Clock(_times(40, 20)), xy, 0.1)
    np.testing.assert_array_equal(np.flatnonzero(~steps.present(filled)), [0, 5, 6, 7, 8, 20, 39])
    np.testing.assert_array_equal(steps.interpolate(Clock(_times(40, 20)), filled, 0.1), filled)


# --- median ---------------------------------------------------------------------------------------


def test_the_median_is_movements_where_the_stretch_is_whole() -> None:
    xy = _walk(300)
    with set_options(use_numbagg=False):  # which compiles itself for many seconds first
        expected = rolling_filter(DataArray(xy, dims=("time", "space")), window=7).to_numpy()
    np.testing.assert_array_equal(steps.median(Clock(_times(300)), xy, 0.2).xy, expected)


@given(seed=st.integers(0, 1000), share=st.sampled_from([0.05, 0.5, 0.95]))
@settings(max_examples=25, deadline=None)
def test_the_median_is_that_of_the_points_there_are(seed: int, share: float) -> None:
    xy = _with_holes(_walk(60, seed), share, seed)
    found = steps.median(Clock(_times(60)), xy, 0.2).xy
    for frame in range(3, 57):
        window = xy[frame - 3 : frame + 4]
        expected = np.nanmedian(window, axis=0) if steps.present(xy)[frame] else [np.nan, np.nan]
        np.testing.assert_array_equal(found[frame], expected)
    assert (steps.present(found) == steps.present(xy)).all(), "the median makes up no point and loses none"


def test_a_window_longer_than_the_stretch_leaves_it_and_says_so() -> None:
    xy = _walk(40)
    clock = Clock(_times(40, 4))
    done = steps.median(clock, xy, 0.3)  # 9 frames
    np.testing.assert_array_equal(done.xy[:5], xy[:5])
    assert not np.array_equal(done.xy[5:], xy[5:])
    assert (done.short, done.narrow) == (Left(5, 1), Left())
    whole = steps.median(clock, xy, 10.0)
    np.testing.assert_array_equal(whole.xy, xy)
    assert whole.short == Left(40, 2)


def test_a_window_of_one_frame_does_nothing_and_says_so() -> None:
    clock = Clock(np.arange(20) / 5.0)
    xy = _walk(20)
    done = steps.median(clock, xy, 0.1)
    np.testing.assert_array_equal(done.xy, xy)
    assert done.narrow == Left(20, 1)
    assert steps.savgol(clock, xy, 0.5, 2).narrow == Left(20, 1), "three points, and three numbers of a parabola"


def test_where_the_rate_varies_windows_go_by_time() -> None:
    rng = np.random.default_rng(2)
    times = np.cumsum(rng.uniform(0.028, 0.045, 200))
    clock = Clock(times)
    (stretch,) = clock.stretches
    assert not stretch.steady
    xy = _with_holes(_walk(200), 0.1)
    found = steps.median(clock, xy, 0.2).xy
    reach = 0.1 + 0.25 * stretch.interval
    for frame in np.flatnonzero(steps.present(xy)):
        within = np.abs(times - times[frame]) <= reach
        np.testing.assert_array_equal(found[frame], np.nanmedian(xy[within], axis=0))


# --- Savitzky-Golay -------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [0, 2, 3])
def test_savgol_is_scipys_where_the_track_is_whole(order: int) -> None:
    xy = _walk(300)
    done = steps.savgol(Clock(_times(300)), xy, 0.2, order)
    np.testing.assert_allclose(done.xy, signal.savgol_filter(xy, 7, order, axis=0), rtol=1e-10)
    by_movement = savgol_filter(DataArray(xy, dims=("time", "space")), 7, order).to_numpy()
    np.testing.assert_allclose(done.xy, by_movement, rtol=1e-10)


@given(seed=st.integers(0, 1000), share=st.sampled_from([0.02, 0.2]))
@settings(max_examples=25, deadline=None)
def test_savgol_takes_each_sequence_of_points_by_itself(seed: int, share: float) -> None:
    xy = _with_holes(_walk(150, seed), share, seed)
    done = steps.savgol(Clock(_times(150)), xy, 0.2, 2)
    at = np.flatnonzero(steps.present(xy))
    left = 0
    for frames in np.split(at, np.flatnonzero(np.diff(at) > 1) + 1):
        if len(frames) < 7:
            np.testing.assert_array_equal(done.xy[frames], xy[frames])
            left += len(frames)
        else:
            expected = signal.savgol_filter(xy[frames], 7, 2, axis=0)
            np.testing.assert_allclose(done.xy[frames], expected, rtol=1e-9)
    assert done.short.points == left
    assert (steps.present(done.xy) == steps.present(xy)).all()


@pytest.mark.parametrize("rate_varies", [False, True])
def test_a_parabola_stays_what_it_is(rate_varies: bool) -> None:
    times = np.cumsum(np.random.default_rng(5).uniform(0.028, 0.045, 100)) if rate_varies else _times(100)
    xy = np.stack([3 + 20 * times - 4 * times**2, 100 - times], axis=1)
    xy[50] = np.nan
    done = steps.savgol(Clock(times), xy, 0.3, 2)
    assert done.short == Left()
    np.testing.assert_allclose(done.xy, xy, atol=1e-7)


def test_uneven_times_that_hardly_differ_give_what_even_ones_do() -> None:
    xy = _walk(120)
    even = steps.savgol(Clock(_times(120)), xy, 0.2, 2).xy
    uneven = xy.copy()
    steps._polynomials_by_time(_times(120), xy, uneven, 0, 120, 0.2, 2)
    np.testing.assert_allclose(uneven, even, rtol=1e-9)


# --- all of them ----------------------------------------------------------------------------------

ALL = (
    FilterStep(step="confidence"),
    FilterStep(step="arena", margin=20),
    FilterStep(step="jumps", max_speed="40 cm/s"),
    *DEFAULT_FILTERS[1:],
    FilterStep(step="savgol", bodyparts=("nose",)),
)
RIG = FilterRig(px_per_cm=10.0, arena=((0.0, 0.0), (300.0, 300.0)))


@pytest.mark.parametrize("frames", [1, 2, 3, 50])
@pytest.mark.parametrize("seen", [True, False])
def test_hardly_any_frames_and_a_body_part_that_was_never_seen(frames: int, seen: bool) -> None:
    xy = _walk(frames).astype(np.float32) if seen else np.full((frames, 2), np.nan, np.float32)
    track = Track("", "nose", xy[:, 0], xy[:, 1], np.full(frames, 0.9 if seen else np.nan, np.float32))
    done = RecordingFilter(ALL, Clock(_times(frames)), RIG, 0.6).apply(track)
    assert (done.track.x.dtype, done.track.y.dtype) == (np.float32, np.float32)
    assert (done.points_before, done.points_after) == ((frames, frames) if seen else (0, 0))
    assert done.track.likelihood is track.likelihood
    assert all(count is not None for count in done.counts)


def test_what_each_step_changed_is_counted() -> None:
    xy = np.full((90, 2), 50, np.float32)
    likelihood = np.full(90, 0.9, np.float32)
    likelihood[10:12] = 0.1  # filled in again
    likelihood[40:60] = 0.1  # too long to fill
    xy[30] += 200
    track = Track("", "nose", xy[:, 0], xy[:, 1], likelihood)
    wanted = (FilterStep(step="confidence"), FilterStep(step="jumps", max_speed="600 px/s"), *DEFAULT_FILTERS[1:])
    done = RecordingFilter(wanted, Clock(_times(90)), FilterRig(), 0.6).apply(track)
    counts = [count for count in done.counts if count is not None]
    assert [(count.removed, count.filled, count.moved) for count in counts] == [
        (22, 0, 0),
        (1, 0, 0),
        (0, 3, 0),
        (0, 0, 0),
    ]
    np.testing.assert_array_equal(np.flatnonzero(done.made_up), [10, 11, 30])
    assert (done.points_before, done.points_after) == (90, 70)


def test_a_step_for_one_body_part_leaves_the_others() -> None:
    xy = _walk(90).astype(np.float32)
    filters = RecordingFilter((FilterStep(step="median", bodyparts=("nose",)),), Clock(_times(90)), FilterRig(), 0.6)
    nose, tail = (filters.apply(Track("", name, xy[:, 0], xy[:, 1], xy[:, 0])) for name in ("nose", "tail"))
    assert nose.counts[0] is not None
    assert nose.counts[0].moved > 30
    assert tail.counts == (None,)
    np.testing.assert_array_equal(tail.track.x, xy[:, 0])
    assert filters.refusals([("", "nsoe")]) == [
        'step 1 (median over 0.1 s (nose)): the model has no body part "nose". Did you mean "nsoe"?'
    ]


def test_steps_that_need_what_the_rig_does_not_state_are_left_out_and_said() -> None:
    track = Track("", "nose", *np.full((3, 5), 500, np.float32))
    filters = RecordingFilter(ALL[:3], Clock(_times(5)), FilterRig(), None)
    assert filters.apply(track).counts == (None, None, None)
    said = " ".join(filters.refusals([("", "nose")]))
    for word in ("no p-cutoff", "no arena", "no scale"):
        assert word in said
    assert FilterStep(step="jumps", max_speed="40 cm/s").px_per_s(8.0) == 320
