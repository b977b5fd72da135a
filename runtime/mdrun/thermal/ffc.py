"""Shutter events of a thermal camera (flat-field correction, FFC): what its image is worth now.

The camera's telemetry is believed where there is any. Else an event shows itself in one of two ways: the last image
is repeated (`repeats`), or none comes. docs/thermal.md tells what each kind of camera does and what delay remains.
"""

from __future__ import annotations

import math
from collections import deque
from statistics import median
from typing import Protocol

import numpy as np

from mdrun.frames import FfcState, Frame
from mdrun.sources.base import NS_PER_MS
from mdrun.thermal.repeats import Repeats

NS_PER_S = 1_000_000_000
STALL_PERIODS = 3.0  # frame periods without a frame before it counts as withheld: two may be lost to a busy bus
LEAST_STALL_NS = 250_000_000  # no shutter event is shorter (see `repeats`); networks pause for less
PERIODS = 9  # frame periods whose median is the camera's
UNTRUSTED = frozenset({FfcState.RUNNING, FfcState.SETTLING, FfcState.STUCK})


class FfcLimits(Protocol):
    """Limits of shutter events, as `FfcConfig` of a rig file has them."""

    @property
    def settle_ms(self) -> float:
        """After the shutter opens, before the image is trusted again."""

    @property
    def stuck_s(self) -> float:
        """Longer than any shutter event."""


class FfcMonitor:
    """State of the shutter of one camera, from its frames and from their absence. Used by one thread.

    Attributes:
        state: the current one.
        events: shutter events so far.
        seconds: time so far in which the image was not to be trusted: running, settling or stuck.
    """

    def __init__(self, limits: FfcLimits, *, telemetry: bool, nominal_fps: float | None = None) -> None:
        """`telemetry`: the camera's frames tell; `nominal_fps`: its frame rate, None where it is to be learnt."""
        self.state = FfcState.NORMAL
        self.events = 0
        self.seconds = 0.0
        self._settle_ns = round(limits.settle_ms * NS_PER_MS)
        self._stuck_ns = round(limits.stuck_s * NS_PER_S)
        self._telemetry = telemetry
        self._repeats = Repeats()
        self._nominal_ns = NS_PER_S / nominal_fps if nominal_fps else None
        self._periods: deque[float] = deque(maxlen=PERIODS)
        self._last: Frame | None = None
        self._shut_ns: int | None = None  # the event began; None while the shutter is open
        self._by_silence = False  # nothing but silence says that it is shut
        self._opened_ns: int | None = None  # first live frame after it; None once that has settled
        self._now_ns = 0

    @property
    def trusted(self) -> bool:
        """The image shows the scene as it is now."""
        return self.state not in UNTRUSTED

    def see(self, frame: Frame) -> FfcState:
        """Take in the next frame of the camera, its image as the camera gave it; the state holds for this frame."""
        self._notice_gap(frame)
        told = frame.ffc if frame.ffc is not None else FfcState.RUNNING if frame.shutter else FfcState.NORMAL
        began_ns = self._shut_since(frame, told)
        if began_ns is None:
            self._live(frame.captured_ns, told)
        else:
            self._shut(frame.captured_ns, began_ns, told)
        self._last = frame
        return self.state

    def silent(self, now_ns: int) -> FfcState:
        """No frame has come up to `now_ns`, on the clock of the frames: a camera may withhold them meanwhile."""
        if self._last is not None and now_ns - _arrived_ns(self._last) > self._stall_ns():
            self._by_silence = self._by_silence or self._shut_ns is None
            self._shut(now_ns, _arrived_ns(self._last), FfcState.RUNNING)
        return self.state

    def reset(self) -> None:
        """The connection was lost: what comes next continues nothing, and its silence is no shutter event."""
        self._repeats.reset()
        self._last = self._shut_ns = self._opened_ns = None
        self._by_silence = False
        self._move(self._now_ns, FfcState.NORMAL)

    def _shut_since(self, frame: Frame, told: FfcState) -> int | None:
        """When the event began that this frame lies in; None for a live frame."""
        still_since_ns = self._repeats.frozen_since(frame)
        if told in {FfcState.RUNNING, FfcState.STUCK}:
            return frame.captured_ns
        if still_since_ns is None or not (self._telemetry or frame.ffc is not None):
            return still_since_ns
        # Telemetry says that all is well, but nothing moves. Only counts prove it: their noise never repeats.
        stuck = frame.image.dtype == np.uint16 and frame.captured_ns - still_since_ns > self._stuck_ns
        return still_since_ns if stuck else None

    def _shut(self, at_ns: int, began_ns: int, told: FfcState) -> None:
        if self._shut_ns is None:
            self._shut_ns = began_ns
        stuck = told is FfcState.STUCK or at_ns - self._shut_ns > self._stuck_ns
        self._move(at_ns, FfcState.STUCK if stuck else FfcState.RUNNING)

    def _live(self, at_ns: int, told: FfcState) -> None:
        if self._shut_ns is not None:
            self._shut_ns, self._opened_ns = None, at_ns
        if self._opened_ns is not None and at_ns - self._opened_ns < self._settle_ns:
            told = FfcState.SETTLING
        else:
            self._opened_ns = None
        self._move(at_ns, told)

    def _move(self, at_ns: int, state: FfcState) -> None:
        """Count what has passed in the state so far, and take the next one."""
        if not self.trusted:
            self.seconds += max(at_ns - self._now_ns, 0) / NS_PER_S
        elif state in {FfcState.RUNNING, FfcState.STUCK}:
            self.events += 1
        self._now_ns = max(self._now_ns, at_ns)
        self.state = state

    def _notice_gap(self, frame: Frame) -> None:
        """Frames that the camera withheld, where nobody has called `silent` meanwhile; the frame period otherwise."""
        if self._last is None:
            return
        taken = max(frame.sequence - self._last.sequence, 1)  # more than 1: frames were dropped, not withheld
        period_ns = (frame.captured_ns - self._last.captured_ns) / taken
        if period_ns > self._stall_ns():
            self._shut(frame.captured_ns, self._last.captured_ns, FfcState.RUNNING)
            self._repeats.reset()
        else:
            if self._by_silence:
                self._shut_ns = None  # captured in time and late on its way: nothing was withheld
            if period_ns > 0:
                self._periods.append(period_ns)
        self._by_silence = False

    def _stall_ns(self) -> float:
        """Longest wait for a frame that is normal."""
        if len(self._periods) == PERIODS:
            period_ns = median(self._periods)
        elif self._nominal_ns is not None:
            period_ns = self._nominal_ns
        else:
            return math.inf
        return max(STALL_PERIODS * period_ns, LEAST_STALL_NS)


def _arrived_ns(frame: Frame) -> int:
    return frame.captured_ns if frame.arrived_ns is None else frame.arrived_ns
