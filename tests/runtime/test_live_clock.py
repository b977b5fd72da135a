"""Capture times of a stream: from arrival, from the sender's clock, and never nonsense."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from mdrun.frames import Clock
from mdrun.sources.live.capture_clock import MAX_AGE_NS, SLEW, CaptureClock

MS = 1_000_000
STEP = 33 * MS
WALL = 1_700_000_000_000_000_000  # our wall clock at the zero of our monotonic one
START = 50_000 * MS  # our monotonic clock at the first capture


class Stream:
    """A camera that captures every STEP; the tests know the truth."""

    def __init__(self, camera_clock_ns: int = 0, use_sender: bool = True) -> None:
        self.wall = WALL
        self.camera_clock_ns = camera_clock_ns  # how much the camera's wall clock is ahead
        self.clock = CaptureClock(use_sender, lambda: self.wall)
        self.count = 0

    def next(self, delay_ms: float, report: bool) -> tuple[int, Clock, int]:
        """(captured, clock, true capture time) of the next image."""
        truth = START + self.count * STEP
        sender = truth + WALL + self.camera_clock_ns if report else None
        captured, clock = self.clock.stamp(self.count * STEP, truth + round(delay_ms * MS), sender)
        self.count += 1
        return captured, clock, truth


def test_before_any_report_the_shortest_way_is_taken_off() -> None:
    stream = Stream()
    for delay in (100, 70, 40, 55, 80, 60, 41):  # the first ones waited together
        captured, clock, truth = stream.next(delay, report=False)
        assert clock is Clock.ARRIVAL
        assert truth <= captured <= truth + delay * MS
    assert captured - truth < 41 * MS  # the jitter is gone, the shortest delay of 40 ms stays


def test_the_sender_takes_over_smoothly() -> None:
    stream = Stream()
    times = [stream.next(60, report=index > 10) for index in range(60)]
    steps = [b[0] - a[0] for a, b in pairwise(times)]
    assert min(steps) >= STEP * (1 - SLEW) - 1
    assert max(steps) <= STEP * (1 + SLEW) + 1
    assert abs(times[10][0] - times[10][2] - 60 * MS) < MS
    assert times[-1][1] is Clock.SENDER
    assert abs(times[-1][0] - times[-1][2]) <= 2 * MS
    labels = [clock for _, clock, _ in times]
    assert labels == sorted(labels, key=lambda clock: clock is Clock.SENDER)  # changes once


def test_a_camera_whose_clock_is_wrong_stays_on_arrival() -> None:
    for wrong_ns in (3_600_000 * MS, 200 * MS, -MAX_AGE_NS - 100 * MS, -WALL):
        stream = Stream(camera_clock_ns=wrong_ns)
        for index in range(50):
            captured, clock, truth = stream.next(60, report=index > 5)
            assert clock is Clock.ARRIVAL
            assert truth <= captured <= truth + 61 * MS


def test_the_sender_can_be_ignored() -> None:
    stream = Stream(use_sender=False)
    assert {stream.next(60, report=True)[1] for _ in range(50)} == {Clock.ARRIVAL}


def test_a_clock_that_is_set_is_followed_without_a_jump() -> None:
    """Ours, by NTP after the start: first the camera seems wrong, then right."""
    stream = Stream()
    stream.wall = WALL - 86_400_000 * MS
    before = [stream.next(60, report=True) for _ in range(20)]
    assert {clock for _, clock, _ in before} == {Clock.ARRIVAL}
    stream.wall = WALL
    after = [stream.next(60, report=True) for _ in range(60)]
    assert after[-1][1] is Clock.SENDER
    assert abs(after[-1][0] - after[-1][2]) <= 2 * MS
    both = [captured for captured, _, _ in before + after]
    assert all(STEP * (1 - SLEW) - 1 <= b - a <= STEP * (1 + SLEW) + 1 for a, b in pairwise(both))


def test_a_stream_that_starts_again_does_not_go_back() -> None:
    stream = Stream()
    last = max(stream.next(60, report=False)[0] for _ in range(50))
    captured, clock = stream.clock.stamp(0, START + 52 * STEP, None)  # its count begins anew
    assert last <= captured <= START + 52 * STEP
    assert clock is Clock.ARRIVAL


def test_an_image_without_a_time_is_dated_by_its_arrival() -> None:
    clock = CaptureClock()
    assert clock.stamp(None, START) == (START, Clock.ARRIVAL)


def test_drift_between_the_crystals_is_followed() -> None:
    """The camera's count runs 100 ppm slow for ten minutes: 60 ms, all of them found."""
    clock = CaptureClock()
    for index in range(600 * 9):
        truth = START + index * 111 * MS
        captured, _ = clock.stamp(round(index * 111 * MS * (1 - 100e-6)), truth + 20 * MS)
    assert abs(captured - truth - 20 * MS) < 5 * MS


@given(
    st.lists(
        st.tuples(
            st.integers(-2_000, 20_000),  # ms of stream time since the last image
            st.integers(0, 5_000),  # ms between arrivals
            st.none() | st.integers(-10_000, 10_000),  # ms that the sender's clock seems off
        ),
        min_size=1,
    )
)
def test_whatever_comes_times_never_go_back_nor_lie_in_the_future(events: list[tuple[int, int, int | None]]) -> None:
    clock = CaptureClock(wall_offset=lambda: WALL)
    stream_ns, arrived_ns, last = 0, START, 0
    for step, wait, off in events:
        stream_ns += step * MS
        arrived_ns += wait * MS
        sender_ns = None if off is None else arrived_ns + WALL + off * MS
        captured, _ = clock.stamp(stream_ns, arrived_ns, sender_ns)
        assert last <= captured <= arrived_ns
        last = captured
