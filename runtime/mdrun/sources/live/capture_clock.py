"""When was an image captured? From the stream's own times, their arrival here, and the sender's wall clock.

A stream counts from anywhere (RTP timestamps, RFC 3550 section 5.1), but its steps are exact. What is looked for is one
number, the offset of that count to our monotonic clock. Two things tell it:

- *arrival*: an image arrives after its capture, never before it. The smallest difference seen is the offset, late by
  the shortest way that an image can take. It follows the slow drift between the two clocks.
- *sender*: RTCP sender reports give the sender's wall clock (RFC 3550 section 6.4.1). It is believed while it puts
  captures before their arrival and at most MAX_AGE_NS before it; a camera whose clock is not set is on arrival.

The offset in use moves towards the better of the two, at most by a quarter of the time that passes: capture times never
go backwards or jump when the first report comes, when a clock is set or when a camera's clock is found to be wrong.
"""

from __future__ import annotations

from collections.abc import Callable

from mdrun.clocks import wall_minus_monotonic
from mdrun.frames import Clock

# Crystals differ by up to ±100 ppm: the smallest difference is forgotten a little faster than that.
DRIFT = 200e-6
# Encoders and networks for live pictures take less; clocks that nobody set are off by more.
MAX_AGE_NS = 1_000_000_000
# A sender stamps its report with some jitter: so far a capture may lie behind its arrival before the clock is doubted.
TOLERANCE_NS = 5_000_000
SLEW = 0.25  # of the time that passes
# So near to the sender's clock the offset in use counts as it; reports jitter, so it then may be a little off.
SETTLED_NS, UNSETTLED_NS = 2_000_000, 20_000_000
# A count that is late by so much has been started again or has lost its link to time.
RESTART_NS = 10_000_000_000


class CaptureClock:
    """Capture times of one stream of one connection, never decreasing, never later than their arrival."""

    def __init__(self, use_sender: bool = True, wall_offset: Callable[[], int] = wall_minus_monotonic) -> None:
        """`use_sender`: believe the sender's wall clock at all. `wall_offset`: see `wall_minus_monotonic`."""
        self._use_sender = use_sender
        self._wall_offset = wall_offset
        self._arrival_ns: float | None = None  # smallest arrival minus stream time
        self._offset_ns = 0.0  # the one in use
        self._settled = False  # it is the sender's
        self._last_stream_ns = 0
        self._last_ns: int | None = None

    def stamp(self, stream_ns: int | None, arrived_ns: int, sender_ns: int | None = None) -> tuple[int, Clock]:
        """Capture time of the next image in presentation order.

        Args:
            stream_ns: its time as the stream counts; None where it has none.
            arrived_ns: when it arrived, on our monotonic clock.
            sender_ns: its time on the sender's wall clock (since 1970); None before the first report.

        Returns:
            Nanoseconds of our monotonic clock, and whose clock that is.
        """
        if stream_ns is None:
            return self._give(arrived_ns, arrived_ns), Clock.ARRIVAL
        passed_ns = self._follow_arrival(stream_ns, arrived_ns)
        target_ns, clock = self._target(stream_ns, sender_ns)
        limit_ns = SLEW * passed_ns
        self._offset_ns += min(max(target_ns - self._offset_ns, -limit_ns), limit_ns)
        near_ns = UNSETTLED_NS if self._settled else SETTLED_NS
        self._settled = clock is Clock.SENDER and abs(target_ns - self._offset_ns) <= near_ns
        captured_ns = self._give(round(stream_ns + self._offset_ns), arrived_ns)
        return captured_ns, Clock.SENDER if self._settled else Clock.ARRIVAL

    def _follow_arrival(self, stream_ns: int, arrived_ns: int) -> int:
        """Update the arrival offset; returns the stream time that has passed since the last image."""
        found_ns = float(arrived_ns - stream_ns)
        passed_ns = stream_ns - self._last_stream_ns
        self._last_stream_ns = stream_ns
        known = self._arrival_ns
        if known is None or passed_ns < 0 or found_ns - known > RESTART_NS:
            self._arrival_ns = self._offset_ns = found_ns
            return 0
        self._arrival_ns = min(known + DRIFT * passed_ns, found_ns)
        # never later than its arrival, whichever clock: a faster image proves that the offset was too late
        self._offset_ns = min(self._offset_ns, found_ns)
        return passed_ns

    def _target(self, stream_ns: int, sender_ns: int | None) -> tuple[float, Clock]:
        assert self._arrival_ns is not None  # noqa: S101  # set by _follow_arrival
        if sender_ns is None or not self._use_sender:
            return self._arrival_ns, Clock.ARRIVAL
        offset_ns = sender_ns - self._wall_offset() - stream_ns
        if -TOLERANCE_NS <= self._arrival_ns - offset_ns <= MAX_AGE_NS:
            return min(float(offset_ns), self._arrival_ns), Clock.SENDER
        return self._arrival_ns, Clock.ARRIVAL

    def _give(self, captured_ns: int, arrived_ns: int) -> int:
        captured_ns = min(captured_ns, arrived_ns)
        if self._last_ns is not None:
            captured_ns = max(captured_ns, self._last_ns)
        self._last_ns = captured_ns
        return captured_ns
