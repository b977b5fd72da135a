"""Time offset from motion: known offsets come back, the middle of a difference is its time, stillness is refused."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mdrun.calibrate.motion import BASELINE_NS, GRID, MotionMeter
from mdrun.calibrate.structure import scaling, shifted
from mdrun.calibrate.time import estimate_offset
from mdrun.errors import CalibrationError

Image = NDArray[np.uint8]
NS = 1_000_000_000


class Yard:
    """Boxes that walk to and fro, drawn at any time for either camera."""

    def __init__(self, seed: int, boxes: int = 6) -> None:
        random = np.random.default_rng(seed)
        self._middle = random.uniform((20, 15), (140, 105), (boxes, 2))
        self._swing = random.uniform(8, 40, (boxes, 2))
        self._rate = random.uniform(0.08, 0.35, (boxes, 2))
        self._phase = random.uniform(0, 2 * np.pi, (boxes, 2))
        self._size = random.uniform(5, 14, (boxes, 2))
        self._grey = random.integers(40, 255, (2, boxes))
        self._seed = seed

    def view(self, time_s: float, camera: int) -> Image:
        """(120, 160) as camera 0 (visible) or 1 (thermal) sees it, with sensor noise."""
        image = np.full((120, 160), 30 + 40 * camera, np.uint8)
        at = self._middle + self._swing * np.sin(2 * np.pi * self._rate * time_s + self._phase)
        for centre, size, grey in zip(at, self._size, self._grey[camera], strict=True):
            corners = np.array([centre - size, centre + size * (1, -1), centre + size, centre + size * (-1, 1)])
            cv2.fillConvexPoly(image, np.round(corners * 16).astype(np.int32), int(grey), cv2.LINE_AA, shift=4)
        noise = np.random.default_rng((self._seed, camera, round(1e6 * time_s))).normal(0, 1.5, image.shape)
        return np.clip(image + noise, 0, 255).astype(np.uint8)


@cache
def _views(seed: int, boxes: int, camera: int, rate: float, seconds: float) -> tuple[tuple[float, Image], ...]:
    yard = Yard(seed, boxes)
    times = 0.013 * camera + np.arange(round(seconds * rate)) / rate
    return tuple((float(time_s), yard.view(float(time_s), camera)) for time_s in times)


def _film(
    camera: int,
    rate: float,
    *,
    seed: int = 2,
    boxes: int = 6,
    seconds: float = 20,
    late_ms: float = 0,
    shutter: tuple[float, float] = (0, 0),
) -> Iterator[tuple[int, Image]]:
    """Frames with stamps that are `late_ms` behind the true time; the image stands still within `shutter`."""
    last = None
    for time_s, image in _views(seed, boxes, camera, rate, seconds):
        if last is None or not shutter[0] <= time_s < shutter[1]:
            last = image
        yield round((time_s + late_ms / 1000) * NS), last


@pytest.mark.parametrize("late_ms", [83.5, -240])
def test_an_injected_offset_comes_back(late_ms: float) -> None:
    found = estimate_offset(_film(0, 30), _film(1, 9, late_ms=late_ms))
    assert found.offset_ms == pytest.approx(-late_ms, abs=5)
    assert found.spread_ms < 10
    assert 10 <= found.seconds <= 20


def test_a_closed_shutter_does_no_harm() -> None:
    found = estimate_offset(_film(0, 30), _film(1, 9, late_ms=50, shutter=(8, 9.2)))
    assert found.offset_ms == pytest.approx(-50, abs=6)


def test_a_change_of_exposure_does_no_harm() -> None:
    visible = [(at, (image // (1 + (at // NS) % 2)).astype(np.uint8)) for at, image in _film(0, 30)]
    found = estimate_offset(visible, _film(1, 9, late_ms=50))
    assert found.offset_ms == pytest.approx(-50, abs=10)


def test_another_field_of_view_is_taken_care_of_by_the_homography() -> None:
    to_thermal = shifted(6, -4) @ scaling(0.85)
    thermal = [(at, _moved(image, to_thermal)) for at, image in _film(1, 9, late_ms=30)]
    to_visible = np.asarray(np.linalg.inv(to_thermal), np.float64)
    found = estimate_offset(_film(0, 30), thermal, homography=to_visible, visible_size=(160, 120))
    assert found.offset_ms == pytest.approx(-30, abs=6)


def test_an_image_that_lies_aside_is_found_out() -> None:
    thermal = [(at, _moved(image, shifted(5, -3))) for at, image in _film(1, 9, late_ms=30)]
    found = estimate_offset(_film(0, 30), thermal)
    assert found.offset_ms == pytest.approx(-30, abs=6)
    assert (160 * found.aside[0], 120 * found.aside[1]) == pytest.approx((5, -3), abs=0.6)


def _moved(image: Image, homography: NDArray[np.float64]) -> Image:
    return np.asarray(cv2.warpPerspective(image, homography, (160, 120), borderMode=cv2.BORDER_REPLICATE), np.uint8)


@pytest.mark.parametrize(
    ("visible", "thermal", "says"),
    [
        ({"boxes": 0}, {"boxes": 0}, "stands out"),  # nothing moves: noise only
        ({}, {"seed": 8}, "stands out|disagree"),  # each camera sees something else
        ({"seconds": 3}, {"seconds": 3}, "in common"),
        ({"seconds": 0.05}, {"seconds": 0.05}, "differ from the one before"),
        ({"seconds": 3}, {"seconds": 3, "late_ms": 60_000}, "in common"),
    ],
)
def test_what_cannot_be_told_is_refused(visible: dict[str, Any], thermal: dict[str, Any], says: str) -> None:
    with pytest.raises(CalibrationError, match=says):
        estimate_offset(_film(0, 30, **visible), _film(1, 9, **thermal))


@pytest.mark.parametrize("rate", [9.0, 25.0, 30.0, 60.0])
def test_a_difference_belongs_to_the_middle_of_its_images(rate: float) -> None:
    meter, times = MotionMeter(), []
    for at, image in _film(0, rate, seconds=2):
        motion = meter.add(at, image)
        if motion is not None:
            times.append((at, motion.at_ns))
            assert motion.energy.shape == GRID[::-1]
    ages = np.array([at - middle for at, middle in times])
    assert len(times) > rate  # most frames of two seconds
    assert np.abs(ages[5:] - BASELINE_NS / 2).max() <= 0.5 * NS / rate


def test_repeats_and_what_spans_them_are_no_motion() -> None:
    meter, image = MotionMeter(), Yard(11).view(0, 1)
    assert meter.add(0, image) is None
    assert meter.add(111_111_111, image) is None
    assert meter.add(2 * NS, Yard(12).view(1, 1)) is None
    assert meter.add(2 * NS + 111_111_111, Yard(12).view(1.1, 1)) is not None


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "time"), [(3, "night"), (1, "day")])
def test_the_street_is_read_to_5_ms(seed: int, time: str) -> None:
    from mdrun.street import Street, StreetConfig

    street = Street(StreetConfig(seed=seed, time=time, width=160, height=128))
    visible = [(round(i / 30 * NS), cv2.cvtColor(street.visible(i / 30), cv2.COLOR_RGB2GRAY)) for i in range(600)]
    thermal = [(round((0.017 + i / 9 + 0.06) * NS), street.thermal(0.017 + i / 9)) for i in range(180)]
    found = estimate_offset(visible, thermal)
    assert found.offset_ms == pytest.approx(-60, abs=5)
