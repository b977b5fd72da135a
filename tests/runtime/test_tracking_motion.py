"""The filter and the assignment, by identities and against a plain Kalman filter."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mdrun import boxes
from mdrun.frames import Detections
from mdrun.tracking import motion
from mdrun.tracking.association import _overlap, _solver

BOX = np.array([[100, 100, 140, 200]], np.float32)


def first(box: NDArray[np.float32] = BOX) -> motion.Tracks:
    return motion.start(box, np.zeros(len(box), np.int64), np.full(len(box), 0.9, np.float32), 0)


@given(st.lists(st.floats(0.001, 0.5), min_size=1, max_size=8))
def test_many_small_steps_are_one_large_one(steps: list[float]) -> None:
    """White noise has no memory: how time is cut does not matter."""
    one, many = first(), first()
    motion.predict(one, sum(steps))
    for step in steps:
        motion.predict(many, step)
    for name in ("box", "speed", "place_var", "cross_var", "speed_var"):
        np.testing.assert_allclose(many[name], one[name], rtol=1e-9)


def test_the_filter_is_the_textbook_one() -> None:
    """State (place, speed) of the left edge, with matrices."""
    rng = np.random.default_rng(0)
    tracks = first()
    size = float(motion.sizes(BOX)[0])
    state = np.array([100.0, 0.0])
    cov = np.diag([(motion.MEASURED * size) ** 2, (motion.UNKNOWN_SPEED * size) ** 2])
    for step in range(20):
        dt = float(rng.uniform(0.01, 0.3))
        shift = rng.integers(-9, 9)  # of the whole box, exact in single precision: its size stays
        drive, turn = (motion.WANDER * size) ** 2, np.array([[1, dt], [0, 1]])
        state = turn @ state
        cov = turn @ cov @ turn.T + drive * np.array([[dt**3 / 3, dt**2 / 2], [dt**2 / 2, dt]])
        motion.predict(tracks, dt)
        found = BOX + np.float32(shift)
        gain = cov[:, 0] / (cov[0, 0] + (motion.MEASURED * size) ** 2)
        state = state + gain * (float(found[0, 0]) - state[0])
        cov = cov - np.outer(gain, cov[0])
        tracks = motion.correct(tracks, found, np.array([0.5], np.float32), step)
        got = [tracks[name][0] for name in ("place_var", "cross_var", "speed_var")]
        np.testing.assert_allclose([tracks["box"][0, 0], tracks["speed"][0, 0]], state, rtol=1e-9)
        np.testing.assert_allclose(got, [cov[0, 0], cov[0, 1], cov[1, 1]], rtol=1e-9)


@pytest.mark.parametrize("fps", [5, 30])
def test_a_steady_speed_is_learned(fps: int) -> None:
    tracks = first()
    for index in range(1, 2 * fps):
        motion.predict(tracks, 1 / fps)
        tracks = motion.correct(tracks, BOX + np.float32(80 * index / fps), np.array([0.9], np.float32), index)
    np.testing.assert_allclose(tracks["speed"][0], 80, rtol=0.03)
    before = tracks["box"][0, 0]
    motion.predict(tracks, 0.5)
    assert tracks["box"][0, 0] - before == pytest.approx(40, rel=0.03)


def test_overlap_of_tracks_that_are_sure_is_the_plain_one() -> None:
    rng = np.random.default_rng(3)
    corners = rng.uniform(0, 200, (12, 2)).astype(np.float32)
    found = np.hstack([corners, corners + rng.uniform(20, 90, (12, 2)).astype(np.float32)])
    tracks = first(found[:7])
    plain = boxes.iou_matrix(found[:7], found)
    detections = Detections(found, np.full(12, 0.9, np.float32), np.zeros(12, np.int64))
    widened = _overlap(tracks, detections)
    assert (widened >= plain - 1e-6).all()
    np.testing.assert_allclose(np.diag(widened), 1)
    other = Detections(found, detections.scores, np.ones(12, np.int64))
    assert not _overlap(tracks, other).any()


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 10**6))
def test_the_assignment_is_the_best_there_is(height: int, width: int, seed: int) -> None:
    """Against SciPy on the costs above the limit cut off, which is the same problem."""
    optimize = pytest.importorskip("scipy.optimize")
    costs = np.random.default_rng(seed).random((height, width))
    chosen = _solver()(costs, 0.7)
    pairs = [(row, int(column)) for row, column in enumerate(chosen) if column >= 0]
    assert len({column for _, column in pairs}) == len(pairs)
    assert all(costs[pair] <= 0.7 for pair in pairs)
    gain = np.maximum(0.7 - costs, 0)
    rows, columns = optimize.linear_sum_assignment(-gain)
    assert sum(0.7 - costs[pair] for pair in pairs) == pytest.approx(gain[rows, columns].sum(), abs=1e-9)
