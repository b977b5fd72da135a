"""Time offset of two cameras from what moves in both.

Whatever walks or drives changes both images at one moment, whatever its colour or warmth. Motion energy, cell by cell,
is correlated over shifts in time; its best shift is the difference of the two clocks. No target, no common trigger.

If one image lies a little aside of the other, whatever crosses it reaches a cell too early or too late: a pixel of 160
is worth about 10 ms in a street. So the cells are shifted as well, and the shift in place and in time that explain the
motion best are taken together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mdrun.calibrate.motion import GRID, Motion, MotionMeter
from mdrun.errors import CalibrationError

Signal = NDArray[np.float64]
Place = tuple[int, int]
TimedImages = Iterable[tuple[int, NDArray[Any]]]

NS_PER_S = 1_000_000_000
STEP_S = 0.01  # of the shifts tried; the peak is found between them
PEAK_S = 0.05  # either side of the best shift that the parabola is laid through
GAP_S = 0.2  # without an image for longer there is no signal
TREND_S = 0.5  # slower changes say little about the moment
SEGMENT_S = 2.0  # resampled as one piece: longer than what moves stays correlated with itself
RESAMPLINGS = 200
MIN_SECONDS = 5.0
MIN_CONFIDENCE = 4.0  # standard deviations; chance reaches about 3 among the shifts tried
MAX_SPREAD_S = 0.05
PLACE_STEPS = (4, 2, 1)  # cells; the first is an error of registration that nobody would leave
PLACE_LIMIT = 12  # cells, a seventh of the width
CROSS: tuple[Place, ...] = ((0, 0), (-1, 0), (1, 0), (0, -1), (0, 1))


@dataclass(frozen=True)
class TimeOffset:
    """How far the clock of the thermal camera is off.

    Attributes:
        offset_ms: to be added to thermal capture times.
        spread_ms: one standard deviation, from resampled pieces of the recording.
        confidence: height of the best shift over all others, in their standard deviations.
        seconds: of video that both cameras have.
        aside: how far the motion in the thermal image lies off that in the visible one, (x, y) as shares of width and
            height; far from 0 the registration is worth a look.
    """

    offset_ms: float
    spread_ms: float
    confidence: float
    seconds: float
    aside: tuple[float, float] = (0.0, 0.0)


class _Energies(NamedTuple):
    """Times (N,) in seconds, and energies (N, 60, 80) float32 without trend."""

    times: Signal
    cells: NDArray[np.float32]


def estimate_offset(
    visible: TimedImages,
    thermal: TimedImages,
    *,
    homography: NDArray[np.float64] | None = None,
    visible_size: tuple[int, int] | None = None,
    limit_s: float = 1.0,
) -> TimeOffset:
    """Find the shift in time at which both cameras see the same motion.

    Args:
        visible: capture time in nanoseconds and grey image (H, W), in order; small ones (160x120) are enough.
        thermal: the same of the thermal camera; 6 Hz or faster.
        homography: (3, 3) thermal pixel to visible pixel; None where both see about the same field. It may be a few
            percent aside, but must have the right size.
        visible_size: (width, height) that `homography` leads to; needed with it.
        limit_s: largest offset looked for.

    Raises:
        CalibrationError: too short, nothing moves, or the motion does not tell one shift from another.
    """
    watched = _motions(MotionMeter(), visible)
    felt = _motions(MotionMeter(homography, visible_size), thermal)
    return offset_of_motion(watched, felt, limit_s=limit_s)


def offset_of_motion(visible: Sequence[Motion], thermal: Sequence[Motion], *, limit_s: float = 1.0) -> TimeOffset:
    """The same from motion energies that a `MotionMeter` has gathered, for example while a rig runs."""
    if min(len(visible), len(thermal)) < 2:
        raise CalibrationError(
            f"{len(visible)} visible and {len(thermal)} thermal images differ from the one before; "
            "record 20 s at 6 Hz or more in which people or cars move"
        )
    start_ns = visible[0].at_ns
    watched, felt = _energies(visible, start_ns), _energies(thermal, start_ns)
    common = min(watched.times[-1], felt.times[-1]) - max(watched.times[0], felt.times[0])
    if common < MIN_SECONDS:
        raise CalibrationError(f"both cameras have {max(common, 0):.1f} s in common; record 20 s or more")
    steps = round(limit_s / STEP_S)
    correlator = _Correlator(watched, felt, np.linspace(-steps * STEP_S, steps * STEP_S, 2 * steps + 1))
    return _decide(correlator, _best_place(correlator))


def _motions(meter: MotionMeter, images: TimedImages) -> list[Motion]:
    return [motion for at_ns, image in images if (motion := meter.add(at_ns, image)) is not None]


def _energies(motions: Sequence[Motion], start_ns: int) -> _Energies:
    """Roots of the energies, so that the nearest car is not everything, less their mean over `TREND_S`."""
    times = np.array([(motion.at_ns - start_ns) / NS_PER_S for motion in motions])
    energy = np.sqrt(np.stack([motion.energy for motion in motions]))
    sums = np.concatenate([np.zeros((1, *energy.shape[1:])), np.cumsum(energy, axis=0, dtype=np.float64)])
    first = np.searchsorted(times, times - TREND_S / 2)
    last = np.searchsorted(times, times + TREND_S / 2, side="right")
    mean = (sums[last] - sums[first]) / (last - first)[:, None, None]
    return _Energies(times, (energy - mean).astype(np.float32))


class _Correlator:
    """Correlation of two recordings over shifts in time, for cells shifted in place.

    Only thermal times that the visible recording covers at every shift are used, so that no shift has more of them.
    """

    def __init__(self, visible: _Energies, thermal: _Energies, shifts: Signal) -> None:
        self.shifts = shifts
        wanted = thermal.times[:, None] + shifts
        after = np.searchsorted(visible.times, wanted).clip(1, len(visible.times) - 1)
        width = visible.times[after] - visible.times[after - 1]
        share = (wanted - visible.times[after - 1]) / width
        usable = ((share >= 0) & (share <= 1) & (width <= GAP_S)).all(axis=1)
        if not usable.any() or np.ptp(thermal.times[usable]) < MIN_SECONDS:
            raise CalibrationError("the recordings overlap too little, or have too many gaps; record 20 s or more")
        self._after, self._share = after[usable], share[usable]
        self._visible, self._thermal = visible.cells, thermal.cells[usable]
        _, self._piece = np.unique(thermal.times[usable] // SEGMENT_S, return_inverse=True)
        self.seconds = float(np.ptp(thermal.times[usable]))
        self._known: dict[Place, Signal] = {}

    def pieces(self, place: Place) -> Signal:
        """(pieces, shifts): agreement with the thermal cells moved by `place`, piece by piece of the recording."""
        if place not in self._known:
            products = self._products(*place)
            columns = np.arange(products.shape[1])[:, None]
            before, after = products[self._after - 1, columns], products[self._after, columns]
            curves = before + self._share * (after - before)
            found = np.zeros((int(self._piece.max()) + 1, len(self.shifts)))
            np.add.at(found, self._piece, curves)
            self._known[place] = found
        return self._known[place]

    def _products(self, x: int, y: int) -> Signal:
        """(visible images, thermal images): mean product of the cells that both have, each cell by its own scale."""
        columns, rows = GRID
        there = self._visible[:, max(y, 0) : rows + min(y, 0), max(x, 0) : columns + min(x, 0)]
        here = self._thermal[:, max(-y, 0) : rows + min(-y, 0), max(-x, 0) : columns + min(-x, 0)]
        there, here = there.reshape(len(there), -1), here.reshape(len(here), -1)
        scale = np.sqrt((there**2).mean(axis=0) * (here**2).mean(axis=0))
        weight = np.divide(1, scale, out=np.zeros_like(scale), where=scale > 0)
        return np.asarray(there @ (here * weight).T / here.shape[1], np.float64)


def _best_place(correlator: _Correlator) -> Place:
    """Shift of the thermal cells that makes the agreement at its best shift in time highest; a hill climb."""
    best = (0, 0)
    for step in PLACE_STEPS:
        while True:
            near = [(best[0] + step * x, best[1] + step * y) for x, y in CROSS]
            near = [place for place in near if max(map(abs, place)) <= PLACE_LIMIT]
            top = max(near, key=lambda place: float(correlator.pieces(place).sum(axis=0).max()))
            if top == best:
                break
            best = top
    return best


def _decide(correlator: _Correlator, place: Place) -> TimeOffset:
    shifts = correlator.shifts
    cross = np.stack([correlator.pieces((place[0] + x, place[1] + y)) for x, y in CROSS])
    best, aside = _between(cross.sum(axis=1), shifts)
    total = cross[0].sum(axis=0)
    away = total[np.abs(shifts - best) > 0.3 * shifts[-1]]
    confidence = float((total.max() - away.mean()) / max(float(away.std()), 1e-12))
    if not total.any() or confidence < MIN_CONFIDENCE or abs(best) > shifts[-1] - PEAK_S:
        raise CalibrationError(
            f"the best shift stands out by {confidence:.1f} standard deviations, wanted {MIN_CONFIDENCE:g}; "
            "record 20 s in which people or cars move in view of both cameras"
        )
    count = cross.shape[1]
    drawn = np.random.default_rng(0).integers(0, count, (RESAMPLINGS, count))
    peaks = np.array([_between(cross[:, rows].sum(axis=1), shifts)[0] for rows in drawn])
    low, high = np.percentile(peaks, (16, 84))
    spread = float(high - low) / 2
    if spread > MAX_SPREAD_S:
        raise CalibrationError(
            f"parts of the recording disagree by {1000 * spread:.0f} ms; record longer, with people or cars that move"
        )
    where = (-(place[0] + aside[0]) / GRID[0], -(place[1] + aside[1]) / GRID[1])
    return TimeOffset(1000 * best, 1000 * spread, confidence, correlator.seconds, where)


def _between(cross: Signal, shifts: Signal) -> tuple[float, tuple[float, float]]:
    """Best shift in time, seconds, at the best place between cells, and this place.

    Args:
        cross: (5, shifts) agreement at a place and its neighbours as in `CROSS`.
        shifts: in time, seconds.
    """
    times, heights = zip(*(_peak(values, shifts) for values in cross), strict=True)
    at, place = times[0], []
    for low, high in ((1, 2), (3, 4)):
        bend = heights[low] - 2 * heights[0] + heights[high]
        way = 0.5 * (heights[low] - heights[high]) / bend if bend < 0 else 0.0
        way = float(np.clip(way, -1, 1))
        at += way * (times[high] - times[low]) / 2
        place.append(way)
    return at, (place[0], place[1])


def _peak(values: Signal, shifts: Signal) -> tuple[float, float]:
    """Place and height of the top of the parabola through the values around the largest one."""
    at = int(values.argmax())
    near = np.abs(shifts - shifts[at]) <= PEAK_S + 1e-9
    bend, slope, height = np.polyfit(shifts[near] - shifts[at], values[near], 2)
    if bend >= 0:
        return float(shifts[at]), float(values[at])
    way = float(np.clip(-slope / (2 * bend), -PEAK_S, PEAK_S))
    return float(shifts[at]) + way, float(height + slope * way + bend * way**2)
