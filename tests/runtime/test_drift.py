"""The drift monitor: a bumped camera raises the alarm, a still one and a dark scene do not, and nothing blocks."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mdrun.registration.drift import (
    MIN_CONFIDENCE,
    TO_CLEAR,
    TO_RAISE,
    DriftMonitor,
    DriftReading,
    Verdict,
    measure_shift,
)

Image = NDArray[np.uint8]
NS = 1_000_000_000


def _scene(shift: tuple[float, float] = (0, 0)) -> tuple[Image, Image]:
    """Shared rectangles of unlike grey; the thermal image (160 px wide) moved by `shift` of its own pixels."""
    random = np.random.default_rng(5)
    visible, thermal = np.full((480, 640), 90, np.uint8), np.full((480, 640), 60, np.uint8)
    for _ in range(70):
        box = cv2.boxPoints((tuple(random.uniform(0, (640, 480))), tuple(random.uniform(20, 120, 2)), 30.0))
        for image in (visible, thermal):
            cv2.fillConvexPoly(image, box.astype(np.int32), int(random.integers(20, 255)))
    matrix = np.array([[1, 0, 4 * shift[0]], [0, 1, 4 * shift[1]]], np.float64)
    thermal = np.asarray(cv2.warpAffine(thermal, matrix, (640, 480), borderMode=cv2.BORDER_REPLICATE), np.uint8)
    small = np.asarray(cv2.resize(thermal, (160, 120), interpolation=cv2.INTER_AREA), np.uint8)
    return np.repeat(visible[..., None], 3, axis=2), small


def _until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.005)


@pytest.mark.parametrize("shift", [(0, 0), (3, 0), (0, -5), (-4, 3), (12, 6)])
def test_a_shift_is_measured(shift: tuple[float, float]) -> None:
    share, confidence = measure_shift(*_scene(shift))
    assert 160 * share == pytest.approx(np.hypot(*shift), abs=0.5)
    assert confidence > 0.7


def test_images_of_nothing_give_no_confidence() -> None:
    visible, thermal = _scene()
    random = np.random.default_rng(1)
    noise = random.integers(0, 12, thermal.shape).astype(np.uint8)
    assert measure_shift(visible, noise)[1] < MIN_CONFIDENCE
    assert measure_shift(np.zeros_like(visible), thermal)[1] < MIN_CONFIDENCE
    assert measure_shift(visible, np.zeros_like(thermal))[1] < MIN_CONFIDENCE


def test_one_odd_reading_is_no_alarm_and_several_are() -> None:
    verdict = Verdict(3)
    assert not verdict.judge(9, 0.9, 0).alarm
    assert not verdict.judge(1, 0.9, 1).alarm
    alarms = [verdict.judge(9, 0.9, at).alarm for at in range(TO_RAISE)]
    assert alarms == [False] * (TO_RAISE - 1) + [True]


def test_an_alarm_stays_near_the_limit_and_ends_well_within() -> None:
    verdict = Verdict(3)
    for at in range(TO_RAISE):
        verdict.judge(4, 0.9, at)
    assert all(verdict.judge(2.9, 0.9, at).alarm for at in range(5))
    alarms = [verdict.judge(1, 0.9, at).alarm for at in range(TO_CLEAR)]
    assert alarms == [True] * (TO_CLEAR - 1) + [False]


def test_an_unknown_scene_changes_nothing() -> None:
    verdict = Verdict(3)
    assert not any(verdict.judge(50, 0.1, at).alarm for at in range(20))
    assert not verdict.judge(50, 0.1, 20).known
    for at in range(TO_RAISE):
        verdict.judge(9, 0.9, at)
    assert all(verdict.judge(0, 0.1, at).alarm for at in range(20))


def test_the_monitor_tells_once_of_a_bump() -> None:
    told: list[DriftReading] = []
    monitor = DriftMonitor(limit_px=3, every_s=10, on_change=told.append)
    try:
        assert monitor.reading() is None
        for turn in range(2 * TO_RAISE):
            at_ns = turn * 10 * NS
            _until(lambda at_ns=at_ns: monitor.offer(*_scene((5, 0) if at_ns >= 30 * NS else (0, 0)), at_ns))  # type: ignore[misc]
            _until(lambda at_ns=at_ns: getattr(monitor.reading(), "at_ns", None) == at_ns)  # type: ignore[misc]
        _until(lambda: len(told) == 2)
    finally:
        monitor.close()
    assert [reading.alarm for reading in told] == [False, True]
    assert told[1].at_ns == (TO_RAISE + 2) * 10 * NS
    assert told[1].shift_px == pytest.approx(5, abs=0.6)


def test_pairs_between_two_looks_are_dropped_and_the_unit_can_be_told() -> None:
    monitor = DriftMonitor(limit_px=3, every_s=10)
    try:
        pair = _scene((2, 0))
        assert monitor.offer(*pair, 0, pixels_across=80)
        assert not any(monitor.offer(*pair, at * NS) for at in range(1, 10))
        _until(lambda: monitor.reading() is not None)
        reading = monitor.reading()
        assert reading is not None
        assert reading.shift_px == pytest.approx(1, abs=0.3)
        assert monitor.offer(*pair, 10 * NS)
    finally:
        monitor.close()
    assert not monitor.offer(*pair, 99 * NS)


def test_another_registration_starts_anew() -> None:
    told: list[DriftReading] = []
    monitor = DriftMonitor(limit_px=3, every_s=10, on_change=told.append)
    try:
        for turn in range(TO_RAISE):
            _until(lambda turn=turn: monitor.offer(*_scene((5, 0)), turn * 10 * NS))  # type: ignore[misc]
        _until(lambda: getattr(monitor.reading(), "alarm", False))
        assert monitor.offer(*_scene((5, 0)), 90 * NS)
        monitor.restart()  # while that pair is compared
        assert monitor.reading() is None
        assert monitor.offer(*_scene(), 91 * NS)  # at once, not after `every_s`
        _until(lambda: monitor.reading() is not None)
        reading = monitor.reading()
    finally:
        monitor.close()
    assert reading is not None
    assert (reading.at_ns, reading.alarm) == (91 * NS, False)
    assert [(reading.at_ns, reading.alarm) for reading in told[-2:]] == [(20 * NS, True), (91 * NS, False)]


def test_a_listener_that_fails_ends_nothing() -> None:
    def fail(_: DriftReading) -> None:
        raise RuntimeError("listener")

    monitor = DriftMonitor(limit_px=3, every_s=1, on_change=fail)
    try:
        for at in (0, 1, 2):
            _until(lambda at=at: monitor.offer(*_scene(), at * NS))  # type: ignore[misc]
            _until(lambda at=at: getattr(monitor.reading(), "at_ns", None) == at * NS)  # type: ignore[misc]
    finally:
        monitor.close()
    assert not any(thread.name == "mdrun-drift" and thread.is_alive() for thread in threading.enumerate())


def _clips(real_data: Path, step: int) -> list[tuple[Image, Image]]:
    pairs = []
    for clip in sorted(path for path in (real_data / "rgbt" / "stream_m3svd").iterdir() if path.is_dir()):
        for path in sorted((clip / "vi").glob("*.jpg"))[::step]:
            both = [cv2.imread(str(p)) for p in (path, clip / "ir" / path.name)]
            assert both[0] is not None
            assert both[1] is not None
            thermal = cv2.resize(both[1][..., 0], (160, 120), interpolation=cv2.INTER_AREA)
            pairs.append((np.asarray(both[0][..., ::-1], np.uint8), np.asarray(thermal, np.uint8)))
    return pairs


@pytest.mark.realdata
def test_a_real_stream_raises_the_alarm_only_once_it_is_shifted(real_data: Path) -> None:
    pairs = _clips(real_data, 3)
    still, bumped = Verdict(3), Verdict(3)
    move = np.array([[1, 0, 4], [0, 1, 3]], np.float64)
    alarms = []
    for index, (visible, thermal) in enumerate(pairs):
        share, confidence = measure_shift(visible, thermal)
        assert not still.judge(160 * share, confidence, index).alarm
        if index >= len(pairs) // 2:
            moved = cv2.warpAffine(thermal, move, (160, 120), borderMode=cv2.BORDER_REPLICATE)
            share, confidence = measure_shift(visible, np.asarray(moved, np.uint8))
        alarms.append(bumped.judge(160 * share, confidence, index).alarm)
    first = len(pairs) // 2 + TO_RAISE - 1
    assert alarms == [False] * first + [True] * (len(pairs) - first)
