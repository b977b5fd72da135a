"""Time offset from motion: known offsets come back, the middle of a difference is its time, stillness is refused."""

from __future__ import annotations

from collections.abc import Iterator

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

    def view(self, time_s: float, camera: int, homography: NDArray[np.float64] | None = None) -> Image:
        """(120, 160) as camera 0 (visible) or 1 (thermal) sees it, with sensor noise."""
        image = np.full((120, 160), 30 + 40 * camera, np.uint8)
        at = self._middle + self._swing * np.sin(2 * np.pi * self._rate * time_s + self._phase)
        for centre, size, grey in zip(at, self._size, self._grey[camera], strict=True):
            corners = np.array([centre - size, centre + size * (1, -1), centre + size, centre + size * (-1, 1)])
            cv2.fillConvexPoly(image, np.round(corners * 16).astype(np.int32), int(grey), cv2.LINE_AA, shift=4)
        if homography is not None:
            image = np.asarray(cv2.warpPerspective(image, homography, (160, 120)), np.uint8)
        noise = np.random.default_rng((self._seed, camera, round(1e6 * time_s))).normal(0, 1.5, image.shape)
        return np.clip(image + noise, 0, 255).astype(np.uint8)


def _film(
    yard: Yard, camera: int, rate: float, seconds: float, *, late_ms: float = 0, shutter: tuple[float, float] = (0, 0)
) -> Iterator[tuple[int, Image]]:
    """Frames with stamps that are `late_ms` behind the true time; the image stands still within `shutter`."""
    last = None
    for index in range(round(seconds * rate)):
        time_s = 0.013 * camera + index / rate
        if last is None or not shutter[0] <= time_s < shutter[1]:
            last = yard.view(time_s, camera)
        yield round((time_s + late_ms / 1000) * NS), last


@pytest.mark.parametrize(("late_ms", "seed"), [(83.5, 2), (-240, 3)])
def test_an_injected_offset_comes_back(late_ms: float, seed: int) -> None:
    yard = Yard(seed)
    found = estimate_offset(_film(yard, 0, 30, 20), _film(yard, 1, 9, 20, late_ms=late_ms))
    assert found.offset_ms == pytest.approx(-late_ms, abs=5)
    assert found.spread_ms < 10
    assert 10 <= found.seconds <= 20


def test_a_closed_shutter_does_no_harm() -> None:
    yard = Yard(4)
    found = estimate_offset(_film(yard, 0, 30, 20), _film(yard, 1, 9, 20, late_ms=50, shutter=(8, 9.2)))
    assert found.offset_ms == pytest.approx(-50, abs=6)


def test_a_change_of_exposure_does_no_harm() -> None:
    yard = Yard(5)
    visible = [(at, (image // (1 + (at // NS) % 2)).astype(np.uint8)) for at, image in _film(yard, 0, 30, 20)]
    found = estimate_offset(visible, _film(yard, 1, 9, 20, late_ms=50))
    assert found.offset_ms == pytest.approx(-50, abs=10)


def test_another_field_of_view_is_taken_care_of_by_the_homography() -> None:
    yard = Yard(6)
    to_thermal = shifted(6, -4) @ scaling(0.85)
    thermal = [(at, yard.view((at - 30_000_000) / NS, 1, to_thermal)) for at, _ in _film(yard, 1, 9, 20, late_ms=30)]
    to_visible = np.asarray(np.linalg.inv(to_thermal), np.float64)
    found = estimate_offset(_film(yard, 0, 30, 20), thermal, homography=to_visible, visible_size=(160, 120))
    assert found.offset_ms == pytest.approx(-30, abs=6)


@pytest.mark.parametrize(
    ("boxes", "seconds", "other", "says"),
    [
        (0, 20, False, "stands out"),  # nothing moves: noise only
        (6, 20, True, "stands out|disagree"),  # each camera sees something else
        (6, 3, False, "in common"),
        (6, 0.05, False, "differ from the one before"),
    ],
)
def test_what_cannot_be_told_is_refused(boxes: int, seconds: float, other: bool, says: str) -> None:
    yard, second = Yard(7, boxes), Yard(8 if other else 7, boxes)
    with pytest.raises(CalibrationError, match=says):
        estimate_offset(_film(yard, 0, 30, seconds), _film(second, 1, 9, seconds))


def test_recordings_that_never_meet_are_refused() -> None:
    yard = Yard(9)
    later = [(at + 60 * NS, image) for at, image in _film(yard, 1, 9, 10)]
    with pytest.raises(CalibrationError, match="in common"):
        estimate_offset(_film(yard, 0, 30, 10), later)


@pytest.mark.parametrize("rate", [9.0, 25.0, 30.0, 60.0])
def test_a_difference_belongs_to_the_middle_of_its_images(rate: float) -> None:
    yard, meter, times = Yard(10), MotionMeter(), []
    for at, image in _film(yard, 0, rate, 2):
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
