"""Watches whether the thermal image still lies on the visible one: a camera that was bumped looks elsewhere.

Once in a while one pair is compared on a thread of its own. What both images have in common is laid over each other
again; how far it had to be moved is the reading. A scene in which nothing fits anything, such as a dark one, says
nothing, and one odd reading is no alarm.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

WIDTH = 320  # px that both images are compared at: enough for a third of a Lepton pixel
RADIUS = 40  # px of those: an eighth of the view; a camera that was turned further shows an unknown scene
WINDOW = 80  # px: a quarter of the width
AGREE_PX = 3.0  # a window that fits best this near to the common place supports it
MIN_CONFIDENCE = 0.3  # share of windows that must; by chance it is 0.01
TO_RAISE = 3  # confident readings in a row beyond the limit before the alarm
TO_CLEAR = 3  # and within it, before it ends
CLEAR_SHARE = 0.8  # of the limit, below which a reading counts as within
NS_PER_S = 1_000_000_000
CLOSE_S = 0.5  # a comparison takes a tenth of that; the thread ends by itself afterwards


@dataclass(frozen=True, slots=True)
class DriftReading:
    """One look at the registration.

    Attributes:
        shift_px: median distance that the thermal image lies off, thermal pixels; meaningless without confidence.
        confidence: share of the places with structure that support it, 0 to 1.
        alarm: confident readings were beyond the limit several times in a row.
        at_ns: of the pair, on the clock of the frames.
        known: the confidence suffices; else the scene says nothing, and the alarm stays as it was.
    """

    shift_px: float
    confidence: float
    alarm: bool
    at_ns: int
    known: bool = True


class _Offer(NamedTuple):
    visible: NDArray[Any]
    thermal: NDArray[Any]
    at_ns: int
    pixels_across: float


class DriftMonitor:
    """Compares pairs in the background; nothing here blocks its caller.

    Args:
        limit_px: thermal pixels before a reading speaks for an alarm.
        every_s: seconds of the frames' clock between two comparisons.
        on_change: called from the monitor's thread when the alarm, or whether the shift is known, changes.
    """

    def __init__(
        self, limit_px: float, every_s: float, on_change: Callable[[DriftReading], None] | None = None
    ) -> None:
        self.on_change = on_change
        self._every_ns = round(every_s * NS_PER_S)
        self._limit_px = limit_px
        self._verdict = Verdict(limit_px)
        self._last: DriftReading | None = None
        self._taken_ns: int | None = None
        self._offer: _Offer | None = None
        self._closed = False
        self._wake = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="mdrun-drift", daemon=True)
        self._thread.start()

    def offer(
        self, visible: NDArray[Any], thermal: NDArray[Any], now_ns: int, pixels_across: float | None = None
    ) -> bool:
        """Offer a pair; taken when it is time and the last one is done with, else dropped.

        Args:
            visible: (H, W, 3) uint8 RGB; must not change afterwards.
            thermal: (h, w) uint8, already on the visible view.
            now_ns: capture time.
            pixels_across: thermal pixels that the width of the view spans; None: the width of `thermal`.

        Returns:
            Whether it was taken.
        """
        with self._wake:
            early = self._taken_ns is not None and 0 <= now_ns - self._taken_ns < self._every_ns
            if self._closed or early or self._offer is not None:
                return False
            self._taken_ns = now_ns
            self._offer = _Offer(visible, thermal, now_ns, float(pixels_across or thermal.shape[1]))
            self._wake.notify()
            return True

    def reading(self) -> DriftReading | None:
        """The last one; None before the first."""
        with self._wake:
            return self._last

    def restart(self) -> None:
        """Forget all readings, and the alarm with them: they were of another registration."""
        with self._wake:
            self._verdict = Verdict(self._limit_px)
            self._last = self._taken_ns = self._offer = None

    def close(self) -> None:
        """End the thread; a comparison under way is hardly waited for, and told to nobody."""
        with self._wake:
            self._closed = True
            self.on_change = None
            self._wake.notify()
        self._thread.join(CLOSE_S)

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._closed or self._offer is not None)
                if self._closed or self._offer is None:
                    return
                offer = self._offer
            shift, confidence = measure_shift(offer.visible, offer.thermal)
            with self._wake:
                if self._offer is not offer:  # restarted meanwhile
                    continue
                reading = self._verdict.judge(shift * offer.pixels_across, confidence, offer.at_ns)
                before, self._last, self._offer = self._last, reading, None
            if before is None or (before.alarm, before.known) != (reading.alarm, reading.known):
                self._tell(reading)

    def _tell(self, reading: DriftReading) -> None:
        if self.on_change is not None:
            with contextlib.suppress(Exception):  # a listener's fault must not end the watch
                self.on_change(reading)


class Verdict:
    """Readings in, alarm out: several in a row to raise it, several to end it.

    Args:
        limit_px: thermal pixels.
    """

    def __init__(self, limit_px: float) -> None:
        self._limit = limit_px
        self._alarm = False
        self._row = 0

    def judge(self, shift_px: float, confidence: float, at_ns: int) -> DriftReading:
        """The reading, with the alarm as it stands after it."""
        reading = DriftReading(shift_px, confidence, self._alarm, at_ns, known=confidence >= MIN_CONFIDENCE)
        if not reading.known:
            return reading
        against = shift_px < CLEAR_SHARE * self._limit if self._alarm else shift_px > self._limit
        self._row = self._row + 1 if against else 0
        if self._row >= (TO_CLEAR if self._alarm else TO_RAISE):
            self._alarm, self._row = not self._alarm, 0
        return replace(reading, alarm=self._alarm)


def measure_shift(visible: NDArray[Any], thermal: NDArray[Any]) -> tuple[float, float]:
    """How far a thermal image lies off the visible one, as a share of the width, and the confidence in it, 0 to 1.

    Args:
        visible: (H, W, 3) uint8 RGB.
        thermal: (h, w) uint8, on the same view.
    """
    import cv2

    from mdrun.calibrate.scene import climb
    from mdrun.calibrate.structure import gather, grey_levels, orientation, shifted, transform

    height = max(WINDOW, round(WIDTH * visible.shape[0] / visible.shape[1]))
    size = (WIDTH, height)
    fields = [
        orientation(grey_levels(np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)))
        for image in (visible, thermal)
    ]
    edge = (RADIUS,) * 4
    padded = np.asarray(cv2.copyMakeBorder(fields[0], *edge, cv2.BORDER_CONSTANT), np.float32)
    evidence = gather([padded], [fields[1]], RADIUS, WINDOW).smoothed(1.0)
    total = evidence.surfaces.mean(axis=0)
    y, x = np.unravel_index(int(total.argmax()), total.shape)
    start = shifted(float(x) - RADIUS, float(y) - RADIUS)
    homography, _ = climb(evidence, size, "similarity", start)
    moved = transform(homography, evidence.centres) - evidence.centres
    return float(np.median(np.hypot(*moved.T))) / WIDTH, evidence.support(moved, AGREE_PX)
