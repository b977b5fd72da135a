"""Shutter events of a thermal camera (flat-field correction, FFC): what its image is worth now.

Two things prove an event: the camera's telemetry, and an image that repeats, bit for bit, for longer than the shortest
event (`repeats`). Silence, a gap in capture time, shorter repeats and those of compressed video prove nothing: behind
them may be a shutter, the network or a busy machine. The image is not trusted then either, nor just after it, but the
state is UNKNOWN and no event is counted. docs/thermal.md tells what each kind of camera does and what delay remains.
"""

from __future__ import annotations

import math
from collections import deque
from statistics import median
from typing import Protocol

import numpy as np

from mdrun.frames import FfcState, Frame
from mdrun.sources.base import NS_PER_MS
from mdrun.thermal.repeats import SHORTEST_NS, Repeats

NS_PER_S = 1_000_000_000
STALL_PERIODS = 3.0  # frame periods without a frame before it counts as missing: two may be lost to a busy bus
PERIODS = 9  # frame periods whose median is the camera's
SHUT = frozenset({FfcState.RUNNING, FfcState.STUCK})
BEHIND = SHUT | {FfcState.SETTLING}
UNTRUSTED = BEHIND | {FfcState.UNKNOWN}


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
        events: proven shutter events so far.
        seconds: time so far that is known to have been behind the shutter: running, settling or stuck.
    """

    def __init__(
        self, limits: FfcLimits, *, telemetry: bool, nominal_fps: float | None = None, compressed: bool = False
    ) -> None:
        """Begin with an open shutter.

        Args:
            limits: of events.
            telemetry: the camera's frames tell.
            nominal_fps: its frame rate, None where it is to be learnt.
            compressed: its 8-bit images come through a video encoder, which repeats what hardly changes.
        """
        self.state = FfcState.NORMAL
        self.events = 0
        self.seconds = 0.0
        self._settle_ns = round(limits.settle_ms * NS_PER_MS)
        self._stuck_ns = round(limits.stuck_s * NS_PER_S)
        self._telemetry = telemetry
        self._compressed = compressed
        self._repeats = Repeats()
        self._nominal_ns = NS_PER_S / nominal_fps if nominal_fps else None
        self._periods: deque[float] = deque(maxlen=PERIODS)
        self._last: Frame | None = None
        self._since_ns: int | None = None  # no image has been known to be live since then; None while they are
        self._proven = False  # and that is a shutter event
        self._by_silence = False  # nothing but silence speaks for it
        self._opened_ns: int | None = None  # first live image after it; None once that has settled
        self._settling = FfcState.SETTLING  # the state until then
        self._now_ns = 0

    @property
    def trusted(self) -> bool:
        """The image shows the scene as it is now."""
        return self.state not in UNTRUSTED

    def see(self, frame: Frame) -> FfcState:
        """Take in the next frame of the camera, its image as the camera gave it; the state holds for this frame."""
        self._notice_gap(frame)
        told = frame.ffc if frame.ffc is not None else FfcState.RUNNING if frame.shutter else FfcState.NORMAL
        still_ns = self._repeats.frozen_since(frame)
        if told in SHUT:
            self._doubt(frame.captured_ns, frame.captured_ns, proven=True, told=told)
        elif still_ns is not None and self._repeats_count(frame, still_ns):
            self._doubt(frame.captured_ns, still_ns, proven=self._repeats_prove(frame, still_ns))
        else:
            self._live(frame.captured_ns, told)
        self._last = frame
        return self.state

    def silent(self, now_ns: int) -> FfcState:
        """No frame has come up to `now_ns`, on the clock of the frames: it is late, lost or withheld."""
        if self._last is not None and now_ns - _arrived_ns(self._last) > self._stall_ns():
            self._by_silence = self._by_silence or self._since_ns is None
            self._doubt(now_ns, self._last.captured_ns)
        return self.state

    def reset(self) -> None:
        """The connection was lost: what comes next continues nothing, and nothing is known until then."""
        self._repeats.reset()
        self._last = self._since_ns = self._opened_ns = None
        self._proven = self._by_silence = False
        self._move(self._now_ns, FfcState.UNKNOWN)

    def _repeats_count(self, frame: Frame, still_ns: int) -> bool:
        """Telemetry goes before repeats, unless an image stands still for ever: its noise never repeats."""
        if not (self._telemetry or frame.ffc is not None):
            return True
        return not self._is_encoded(frame) and frame.captured_ns - still_ns > self._stuck_ns

    def _repeats_prove(self, frame: Frame, still_ns: int) -> bool:
        return not self._is_encoded(frame) and frame.captured_ns - still_ns > SHORTEST_NS

    def _is_encoded(self, frame: Frame) -> bool:
        return self._compressed and frame.image.dtype != np.uint16  # no encoder keeps 16 bits

    def _doubt(self, at_ns: int, since_ns: int, *, proven: bool = False, told: FfcState = FfcState.RUNNING) -> None:
        """There is no live image; what is proven once stays so until there is one."""
        if self._since_ns is None or (proven and not self._proven):
            self._since_ns = since_ns
        self._proven = self._proven or proven
        stuck = told is FfcState.STUCK or at_ns - self._since_ns > self._stuck_ns
        shut = FfcState.STUCK if stuck else FfcState.RUNNING
        self._move(at_ns, shut if self._proven else FfcState.UNKNOWN)

    def _live(self, at_ns: int, told: FfcState) -> None:
        if self._since_ns is not None:
            if self._proven or at_ns - self._since_ns > SHORTEST_NS:  # else it was shorter than any event
                self._opened_ns = at_ns
                self._settling = FfcState.SETTLING if self._proven else FfcState.UNKNOWN
            self._since_ns, self._proven = None, False
        if self._opened_ns is not None and at_ns - self._opened_ns < self._settle_ns:
            told = told if told is FfcState.SETTLING else self._settling
        else:
            self._opened_ns = None
        self._move(at_ns, told)

    def _move(self, at_ns: int, state: FfcState) -> None:
        """Count what has passed in the state so far, and take the next one."""
        if self.state in BEHIND:
            self.seconds += max(at_ns - self._now_ns, 0) / NS_PER_S
        elif state in SHUT:
            self.events += 1
        self._now_ns = max(self._now_ns, at_ns)
        self.state = state

    def _notice_gap(self, frame: Frame) -> None:
        """A gap in capture time, whether or not anybody has called `silent` meanwhile; the frame period otherwise."""
        if self._last is None:
            return
        passed_ns = frame.captured_ns - self._last.captured_ns
        if passed_ns > self._stall_ns():
            self._doubt(frame.captured_ns, self._last.captured_ns)
            self._repeats.reset()
        elif self._by_silence:
            self._since_ns = None  # captured in time and late on its way: nothing is missing
        self._by_silence = False
        period_ns = passed_ns / max(frame.sequence - self._last.sequence, 1)  # some may have been dropped here
        if 0 < period_ns <= self._stall_ns():
            self._periods.append(period_ns)

    def _stall_ns(self) -> float:
        """Longest wait for a frame that is normal."""
        if len(self._periods) == PERIODS:
            period_ns = median(self._periods)
        elif self._nominal_ns is not None:
            period_ns = self._nominal_ns
        else:
            return math.inf
        return max(STALL_PERIODS * period_ns, SHORTEST_NS)


def _arrived_ns(frame: Frame) -> int:
    return frame.captured_ns if frame.arrived_ns is None else frame.arrived_ns
