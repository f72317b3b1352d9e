"""How points move, by trajectories whose speed, acceleration, way and angles are known, and by movement."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from movement import kinematics as movement_kinematics
from movement.utils.vector import compute_norm

from dlc_assets.derived import motion
from dlc_assets.derived.filter_steps import Clock

RATE = 100.0


def _circle(times: np.ndarray, radius: float = 50.0, turns_per_s: float = 0.25) -> np.ndarray:
    angle = 2 * np.pi * turns_per_s * times
    return np.stack([200 + radius * np.cos(angle), 150 + radius * np.sin(angle)], axis=1)


def test_a_circle_at_constant_speed_has_its_speed_acceleration_way_and_heading() -> None:
    times = 7.25 + np.arange(801) / RATE  # two turns in 8 s, on a clock that does not begin at 0
    xy = _circle(times - times[0])
    clock, speed = Clock(times), 2 * np.pi * 50 * 0.25
    moving = motion.velocity(clock, xy)
    np.testing.assert_allclose(motion.magnitude(moving)[1:-1], speed, rtol=1e-4)
    acceleration = motion.magnitude(motion.velocity(clock, moving))
    np.testing.assert_allclose(acceleration[2:-2], speed**2 / 50, rtol=1e-3)
    assert motion.path_length(clock, xy)[-1] == pytest.approx(2 * 2 * np.pi * 50, rel=1e-4)
    # From the right of the circle the way leads along y, down in the picture; a quarter of a turn later to the left.
    assert motion.direction(moving)[[1, 100, 200, 300]] == pytest.approx([90, 180, -90, 0], abs=2)


@pytest.mark.filterwarnings("ignore:The result may be unreliable")  # movement's, of missing points, which are meant
def test_it_is_movements_on_a_recording_without_gaps() -> None:
    rng = np.random.default_rng(3)
    times = np.arange(500) / 30
    xy = np.cumsum(rng.normal(0, 3, (500, 2)), axis=0)
    xy[[7, 100, 101, 102, 499]] = np.nan
    data = xr.DataArray(xy, dims=("time", "space"), coords={"time": times, "space": ["x", "y"]})
    clock = Clock(times)
    ours = motion.velocity(clock, xy)
    theirs = movement_kinematics.compute_velocity(data).to_numpy()
    known = ~np.isnan(xy[:, 0])
    np.testing.assert_allclose(ours[known], theirs[known])
    assert np.isnan(ours[~known]).all()
    np.testing.assert_allclose(
        motion.magnitude(motion.velocity(clock, ours)),
        compute_norm(movement_kinematics.compute_acceleration(data)).where(known).to_numpy(),
    )
    length = motion.path_length(clock, xy)
    assert np.nanmax(length) == pytest.approx(float(movement_kinematics.compute_path_length(data, nan_policy="ffill")))
    assert np.isnan(length[~known]).all()


def test_nothing_reaches_across_a_gap_in_time() -> None:
    times = np.concatenate([np.arange(50), np.arange(50) + 500, [900.0], np.arange(20) + 1500]) / RATE
    rng = np.random.default_rng(1)
    xy = np.cumsum(rng.normal(0, 1, (len(times), 2)), axis=0)
    xy[50:] += 1000  # where the animal went while no frame came
    whole = motion.velocity(Clock(times), xy)
    for part in (slice(0, 50), slice(50, 100), slice(101, 121)):
        alone = motion.velocity(Clock(times[part]), xy[part])
        np.testing.assert_allclose(whole[part], alone)
        assert np.isfinite(alone).all()
    assert np.isnan(whole[100]).all()  # a frame by itself has no speed
    length = motion.path_length(Clock(times), xy)
    assert length[-1] < 400
    assert length[50] == length[49]
    lasts = motion.durations(Clock(times), None)
    assert lasts[[0, 49, 50, 99]] == pytest.approx(0.01)
    assert lasts.sum() == pytest.approx(1.21, abs=0.02)


def test_times_that_vary_are_the_ones_that_count() -> None:
    times = np.cumsum(np.random.default_rng(2).uniform(0.02, 0.028, 400))
    xy = np.stack([30 * times, -40 * times], axis=1)
    np.testing.assert_allclose(motion.magnitude(motion.velocity(Clock(times), xy)), 50.0)
    assert motion.direction(motion.velocity(Clock(times), xy)) == pytest.approx(np.degrees(np.arctan2(-40, 30)))


def test_times_that_stand_still_or_go_back_are_gaps() -> None:
    times = np.array([0, 1, 2, 2, 3, 4, 1, 2, 3]) / RATE
    xy = np.stack([np.arange(9.0), np.zeros(9)], axis=1)
    np.testing.assert_allclose(motion.velocity(Clock(times), xy)[:, 0], RATE)


def test_a_direction_needs_a_length_and_lies_in_one_turn() -> None:
    vectors = np.array([[1.0, 0], [0, 1], [-1, 0], [-1, -0.0], [0, -1], [0, 0], [np.nan, 1]])
    np.testing.assert_allclose(motion.direction(vectors), [0, 90, 180, 180, -90, np.nan, np.nan])


def test_what_stands_still_has_no_speed_and_no_heading() -> None:
    moving = motion.velocity(Clock(np.arange(90) / 30), np.full((90, 2), 613.7))
    assert (motion.magnitude(moving) == 0).all()
    assert np.isnan(motion.direction(moving)).all()


@pytest.mark.parametrize("frames", [0, 1])
def test_too_few_frames_for_a_speed(frames: int) -> None:
    clock, xy = Clock(np.arange(frames) / RATE), np.full((frames, 2), 5.0)
    assert np.isnan(motion.velocity(clock, xy)).all()
    assert motion.path_length(clock, xy).tolist() == [0.0] * frames
    assert motion.durations(clock, 0.04).tolist() == [0.04] * frames


def test_entries_count_from_outside_to_inside() -> None:
    assert motion.entries(np.array([True, True, False, True, False, False, True], dtype=bool)) == 2
    assert motion.entries(np.array([], dtype=bool)) == 0
