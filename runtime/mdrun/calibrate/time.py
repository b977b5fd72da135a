"""Time offset of two cameras from what moves in both.

Whatever walks or drives changes both images at one moment, whatever its colour or warmth. Motion energy, cell by cell,
is correlated over shifts in time; its best shift is the difference of the two clocks. No target, no common trigger.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mdrun.calibrate.motion import Motion, MotionMeter
from mdrun.errors import CalibrationError

Signal = NDArray[np.float64]
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


@dataclass(frozen=True)
class TimeOffset:
    """How far the clock of the thermal camera is off.

    Attributes:
        offset_ms: to be added to thermal capture times.
        spread_ms: one standard deviation, from resampled pieces of the recording.
        confidence: height of the best shift over all others, in their standard deviations.
        seconds: of video that both cameras have and where something moved.
    """

    offset_ms: float
    spread_ms: float
    confidence: float
    seconds: float


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
        homography: (3, 3) thermal pixel to visible pixel; None where both see about the same field. With another
            field, what crosses the image sideways is seen too early or too late.
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
    start = visible[0].at_ns
    times_v, energy_v = _signal(visible, start)
    times_t, energy_t = _signal(thermal, start)
    common = min(times_v[-1], times_t[-1]) - max(times_v[0], times_t[0])
    if common < MIN_SECONDS:
        raise CalibrationError(f"both cameras have {max(common, 0):.1f} s in common; record 20 s or more")
    steps = round(limit_s / STEP_S)
    shifts = np.linspace(-steps * STEP_S, steps * STEP_S, 2 * steps + 1)
    pieces = _correlations(times_v, energy_v, times_t, energy_t, shifts)
    return _decide(pieces, shifts)


def _motions(meter: MotionMeter, images: TimedImages) -> list[Motion]:
    return [motion for at_ns, image in images if (motion := meter.add(at_ns, image)) is not None]


def _signal(motions: Sequence[Motion], start_ns: int) -> tuple[Signal, Signal]:
    """Times in seconds (N,) and energies (N, cells) without trend; roots, so that the nearest car is not everything."""
    times = np.array([(motion.at_ns - start_ns) / NS_PER_S for motion in motions])
    energy = np.sqrt(np.stack([motion.energy.ravel() for motion in motions]).astype(np.float64))
    sums = np.concatenate([np.zeros((1, energy.shape[1])), np.cumsum(energy, axis=0)])
    first = np.searchsorted(times, times - TREND_S / 2)
    last = np.searchsorted(times, times + TREND_S / 2, side="right")
    return times, energy - (sums[last] - sums[first]) / (last - first)[:, None]


def _correlations(
    times_v: Signal, energy_v: Signal, times_t: Signal, energy_t: Signal, shifts: Signal
) -> NDArray[np.float64]:
    """(pieces, shifts): sum of products of both energies, piece by piece of the thermal recording.

    Only thermal times that the visible recording covers at every shift are used, so that no shift has more of them.
    """
    position = np.searchsorted(times_v, times_t[:, None] + shifts).clip(1, len(times_v) - 1)
    width = times_v[position] - times_v[position - 1]
    share = (times_t[:, None] + shifts - times_v[position - 1]) / width
    usable = ((share >= 0) & (share <= 1) & (width <= GAP_S)).all(axis=1)
    if not usable.any() or np.ptp(times_t[usable]) < MIN_SECONDS:
        raise CalibrationError("the recordings overlap too little, or have too many gaps; record 20 s or more")
    scale = np.sqrt((energy_v**2).mean(axis=0) * (energy_t[usable] ** 2).mean(axis=0))
    weight = np.divide(1, scale, out=np.zeros_like(scale), where=scale > 0)
    number = (times_t // SEGMENT_S).astype(int)
    pieces = np.zeros((number.max() + 1, len(shifts)))
    for index in np.flatnonzero(usable):
        before, after = energy_v[position[index] - 1], energy_v[position[index]]
        at = before + share[index][:, None] * (after - before)
        pieces[number[index]] += at @ (energy_t[index] * weight)
    return np.asarray(pieces[np.unique(number[usable])], np.float64)


def _decide(pieces: NDArray[np.float64], shifts: Signal) -> TimeOffset:
    total = pieces.sum(axis=0)
    best = _peak(total, shifts)
    away = total[np.abs(shifts - best) > 0.3 * shifts[-1]]
    confidence = float((total.max() - away.mean()) / max(float(away.std()), 1e-9))
    if not total.any() or confidence < MIN_CONFIDENCE or abs(best) > shifts[-1] - PEAK_S:
        raise CalibrationError(
            f"the best shift stands out by {confidence:.1f} standard deviations, wanted {MIN_CONFIDENCE:g}; "
            "record 20 s in which people or cars move in view of both cameras"
        )
    random = np.random.default_rng(0)
    drawn = random.integers(0, len(pieces), (RESAMPLINGS, len(pieces)))
    peaks = np.array([_peak(pieces[rows].sum(axis=0), shifts) for rows in drawn])
    low, high = np.percentile(peaks, (16, 84))
    spread = float(high - low) / 2
    if spread > MAX_SPREAD_S:
        raise CalibrationError(
            f"parts of the recording disagree by {1000 * spread:.0f} ms; record longer, with people or cars that move"
        )
    return TimeOffset(1000 * best, 1000 * spread, confidence, len(pieces) * SEGMENT_S)


def _peak(values: NDArray[np.float64], shifts: Signal) -> float:
    """Top of the parabola through the values around the largest one, seconds."""
    at = int(values.argmax())
    near = np.abs(shifts - shifts[at]) <= PEAK_S + 1e-9
    if near.sum() < 3:
        return float(shifts[at])
    bend, slope, _ = np.polyfit(shifts[near] - shifts[at], values[near], 2)
    return float(shifts[at] - np.clip(slope / (2 * bend), -PEAK_S, PEAK_S)) if bend < 0 else float(shifts[at])
