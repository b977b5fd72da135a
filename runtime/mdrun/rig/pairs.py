"""Pairs from a feed: each visible frame ends in exactly one pair or one counted drop.

Live, the newest frame that is ready goes first and the older ones are dropped as `busy`: a late answer about the
past is worth less than one about now. Frames that have waited for one thermal image are ready all at once: while the
engine keeps up they go in turn. On a recording's clock nothing is ever late, and nothing is dropped.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Protocol

from mdrun.errors import MdrunError
from mdrun.feeds import Event, Feed
from mdrun.frames import Clock, FfcState, Frame, FramePair, Modality, Notice, Provenance, SourceState, StateChange
from mdrun.monitor import Monitor
from mdrun.pairing import Pairer, PairLimits
from mdrun.rig.config import PairingConfig
from mdrun.sources.base import NS_PER_MS

TICK_S = 0.1  # the loop looks up at least so often: for signals, and for cameras that have fallen silent
FUTURE_NS = 20 * NS_PER_MS  # what two well-kept clocks, and an offset measured to some milliseconds, may differ
GONE = {SourceState.LOST, SourceState.CONNECTING, SourceState.FAILED, SourceState.ENDED}
SHUT = {FfcState.RUNNING, FfcState.SETTLING, FfcState.STUCK}
UNSEEN = {SourceState.CONNECTING, SourceState.LOST}
ABSENT_BY = {
    SourceState.STALLED: "stalled",
    SourceState.LOST: "lost",
    SourceState.CONNECTING: "lost",  # again
    SourceState.FAILED: "failed",
}


def why_absent(state: SourceState, seen: bool) -> str:
    """The reason for a missing image that its camera's state gives; empty where it gives none.

    Args:
        state: of the camera.
        seen: it has given an image before; what has never been there is not lost.
    """
    return "connecting" if not seen and state in UNSEEN else ABSENT_BY.get(state, "")


class Shutter(Protocol):
    """What a thermal chain knows about its camera's shutter."""

    @property
    def state(self) -> FfcState:
        """Now."""

    @property
    def events(self) -> int:
        """Shutter events so far."""

    @property
    def seconds(self) -> float:
        """Time behind the shutter so far."""


class Chain(Protocol):
    """What becomes of a thermal frame before it can be paired (`mdrun.thermal.chain`)."""

    @property
    def ffc(self) -> Shutter:
        """The camera's shutter."""

    def prepare(self, frame: Frame) -> Frame:
        """The frame with an 8-bit image, and `shutter` set where the image stands still."""

    def silent(self, now_ns: int) -> FfcState:
        """No frame has come up to now."""

    def reset(self) -> None:
        """The connection was lost: what comes next continues nothing."""

    @property
    def problems(self) -> list[str]:
        """What is wrong with the camera's first images."""


class LivePairs:
    """Pairs of one rig, from its feed. Used by one thread.

    Attributes:
        captured_visible: visible frames so far, those of the feed's own drops among them.
        captured_thermal: thermal frames so far.
    """

    def __init__(
        self,
        feed: Feed,
        pairing: PairingConfig,
        monitor: Monitor,
        *,
        chain: Chain | None,
        realtime: bool,
        forgiving: bool = False,
        tell: Callable[[Notice], None],
        offsets_ns: Mapping[Modality, int] | None = None,
    ) -> None:
        """Take over a started feed.

        Args:
            feed: of the rig.
            pairing: limits and policy.
            monitor: of the rig; its cameras are those that count.
            chain: of the thermal camera.
            realtime: what is late is dropped.
            forgiving: a thermal image that cannot be used ends its camera, not the run.
            tell: given the notices of camera states and shutter events.
            offsets_ns: what was added to the capture times of a camera, on purpose.
        """
        self.captured_visible = 0
        self.captured_thermal = 0
        self._feed = feed
        self._policy = pairing.policy
        self._wait_ns = round(pairing.wait_ms * NS_PER_MS)
        self._pairer = Pairer(PairLimits(pairing.skew_ms, pairing.age_ms), hold=pairing.policy == "hold")
        self._monitor = monitor
        self._chain = chain
        self._realtime = realtime
        self._forgiving = forgiving
        self._thermal_refused = False
        self._tell = tell
        self._waiting: deque[Frame] = deque()
        self._behind = False  # the engine: frames have come faster than it took the last pair
        self._thermal_ns: int | None = None  # capture time of the newest thermal frame
        there = Modality.THERMAL in monitor.cameras
        self._thermal_state = SourceState.CONNECTING if there else SourceState.ENDED  # nothing to wait for
        self._ffc = self._ffc_told = FfcState.NORMAL
        self._feed_drops: Counter[Modality] = Counter()
        self._problems = 0
        self._damaged: Counter[Modality] = Counter()
        self._doubted: set[Modality] = set()
        self._last_told: dict[Modality, StateChange] = {}
        self._offsets_ns = dict(offsets_ns or {})

    def poll(self) -> FramePair | None:
        """The next pair; None when none could be made for a tick, so that the caller can look up.

        Raises:
            MdrunError: a camera failed in a way that ends the run.
        """
        self._monitor.beat = time.monotonic()
        if self._realtime:
            before = len(self._waiting)
            self._take_events(0)
            self._behind = len(self._waiting) - before > 1
        if (pair := self._next_pair()) is not None:
            return pair
        self._take_events(self._patience_s())
        return self._next_pair()

    def watch(self) -> None:
        """Take in what happens, and give up the visible frames: before the run has begun."""
        self._monitor.beat = time.monotonic()
        self._take_events(TICK_S)
        if len(self._waiting) > 1:
            newest = self._waiting.pop()
            self.drop_waiting("starting")
            self._waiting.append(newest)

    def __iter__(self) -> Iterator[FramePair]:
        """Pairs until the feed has ended."""
        while not self.ended:
            if (pair := self.poll()) is not None:
                yield pair

    @property
    def ended(self) -> bool:
        """No pair will follow."""
        return self._feed.ended and not self._waiting

    @property
    def thermal_state(self) -> SourceState:
        """Of the thermal camera."""
        return self._thermal_state

    def finish(self) -> None:
        """Count what no pair will hold, once the cameras are closed."""
        while self._realtime and (event := self._feed.next(0)) is not None:
            self._take(event)
        self._count_feed_drops()
        self.drop_waiting("stopped")

    def drop_waiting(self, cause: str) -> None:
        """Give up the visible frames that wait, counted: at the start, while engines load, and at the end."""
        self._drop(len(self._waiting), cause)
        self._waiting.clear()

    def refuses(self, pair: FramePair) -> bool:
        """The policy `strict` wants a measured thermal image or none of this pair."""
        return self._policy == "strict" and pair.provenance is not Provenance.MEASURED

    def _take_events(self, patience_s: float) -> None:
        """The next event, once it has come, and live those behind it that are there already."""
        event = self._feed.next(patience_s)
        while event is not None:
            self._take(event)
            event = self._feed.next(0) if self._realtime and self._feed.busy else None
        self._count_feed_drops()

    def _take(self, event: Event) -> None:
        if event.modality not in self._monitor.cameras:  # a replay has both cameras, the rig may have one
            return
        if self._thermal_refused and event.modality is Modality.THERMAL:
            return
        if isinstance(event, StateChange):
            self._take_state(event)
            return
        event = self._not_from_the_future(event)
        self._monitor.add_frame(event)
        if event.modality is Modality.VISIBLE:
            self.captured_visible += 1
            self._waiting.append(event)
            return
        self.captured_thermal += 1
        try:
            frame = event if self._chain is None else self._chain.prepare(event)
        except MdrunError as error:
            self.refuse_thermal(event, error)
            return
        self._thermal_ns = frame.captured_ns
        self._pairer.add_thermal(frame)
        self._tell_shutter(frame.captured_ns)

    def refuse_thermal(self, frame: Frame, error: MdrunError) -> None:
        """The camera's images cannot be used: it is given up, as one that is no thermal camera.

        Raises:
            MdrunError: the same, where the run wants both cameras.
        """
        if not self._forgiving:
            raise error
        if self._thermal_refused:  # an image of before
            return
        self._take_state(
            StateChange(Modality.THERMAL, frame.source, SourceState.FAILED, self._feed.now_ns(), error.code, str(error))
        )
        self._thermal_refused = True

    def _not_from_the_future(self, frame: Frame) -> Frame:
        """Nothing is captured after it has arrived: the clock that says so is wrong, and arrival is what is known."""
        if frame.arrived_ns is None:
            return frame
        latest_ns = frame.arrived_ns + self._offsets_ns.get(frame.modality, 0)
        if frame.captured_ns <= latest_ns + FUTURE_NS:
            return frame
        if frame.modality not in self._doubted:
            self._doubted.add(frame.modality)
            ahead_ms = (frame.captured_ns - latest_ns) / NS_PER_MS
            data = {"camera": frame.modality.value, "source": frame.source, "ahead_ms": round(ahead_ms, 1)}
            self._tell(Notice("clock", self._monitor.rig, frame.arrived_ns, data))
        return replace(frame, captured_ns=latest_ns, clock=Clock.ARRIVAL)

    def _take_state(self, change: StateChange) -> None:
        if change.modality is Modality.THERMAL:
            self._thermal_state = change.state
            if change.state is SourceState.ENDED:
                self._pairer.end_thermal()
            if change.state in GONE and self._chain is not None:
                self._chain.reset()
                self._tell_shutter(change.at_ns)
        self._monitor.add_state(change)
        if not self._is_news(change):
            return
        data = {
            "camera": change.modality.value,
            "source": change.source,
            "state": change.state.value,
            "code": change.code,
            "message": change.message,
        }
        self._tell(Notice("source", self._monitor.rig, change.at_ns, data))

    def _is_news(self, change: StateChange) -> bool:
        """Not every attempt to reach a lost camera again: hours of them would wash all else away."""
        last = self._last_told.get(change.modality)
        if last is not None and last.state is SourceState.LOST:
            again = change.state is SourceState.LOST and change.code == last.code
            if again or change.state is SourceState.CONNECTING:
                return False
        self._last_told[change.modality] = change
        return True

    def _tell_shutter(self, at_ns: int) -> None:
        if self._chain is None:
            return
        self._tell_problems(at_ns)
        shutter = self._chain.ffc
        self._monitor.add_ffc(shutter.state, shutter.events, shutter.seconds)
        self._ffc = shutter.state
        if shutter.state not in {self._ffc_told, FfcState.UNKNOWN}:  # what is not known of the shutter is no news of it
            data = {"from": self._ffc_told.value, "to": shutter.state.value, "events": shutter.events}
            self._ffc_told = shutter.state
            self._tell(Notice("ffc", self._monitor.rig, at_ns, data))

    def _tell_problems(self, at_ns: int) -> None:
        if self._chain is not None and len(self._chain.problems) > self._problems:
            for text in self._chain.problems[self._problems :]:
                self._tell(Notice("thermal", self._monitor.rig, at_ns, {"problem": text}))
            self._problems = len(self._chain.problems)

    def _next_pair(self) -> FramePair | None:
        ready = 0
        now_ns = self._feed.now_ns()
        for frame in self._waiting:
            if not self._is_ready(frame, now_ns):
                break
            ready += 1
        if not ready:
            return None
        if self._realtime:
            self._drop_late(ready - 1, now_ns)
        visible = self._waiting.popleft()
        if self._chain is not None and self._thermal_ns is not None and self._thermal_state not in GONE:
            self._chain.silent(now_ns)
            self._tell_shutter(now_ns)
        paired_ns = visible.captured_ns if visible.arrived_ns is None else max(now_ns, visible.captured_ns)
        return self._named(self._pairer.pair(visible, paired_ns))

    def _is_ready(self, frame: Frame, now_ns: int) -> bool:
        """A frame waits for a nearer thermal one, but not for a camera that gives none."""
        silent = self._thermal_state in GONE or self._thermal_state is SourceState.STALLED
        if self._wait_ns == 0 or silent or self._feed.ended:
            return True
        if self._thermal_ns is not None and self._thermal_ns >= frame.captured_ns:
            return True
        return now_ns - _since(frame) >= self._wait_ns

    def _drop_late(self, most: int, now_ns: int) -> None:
        """Give up frames with a newer one behind them that is ready as well.

        While the engine keeps up, a frame that was let wait for its thermal image may wait as long again for its turn.
        """
        late = 0
        while late < most and (self._behind or now_ns - _since(self._waiting[0]) >= 2 * self._wait_ns):
            self._waiting.popleft()
            late += 1
        self._drop(late, "busy")

    def _named(self, pair: FramePair) -> FramePair:
        """The pair with the cause of a missing thermal image, where the camera's own state tells it."""
        if pair.provenance is Provenance.HELD and self._ffc in SHUT:  # a camera that withholds its images meanwhile
            pair = replace(
                pair, thermal=None, provenance=Provenance.ABSENT, reason="ffc", skew_ms=None, thermal_age_ms=None
            )
        if pair.provenance is Provenance.HELD and self._thermal_state in GONE:
            return replace(pair, reason=why_absent(self._thermal_state, seen=True) or pair.reason)
        if pair.thermal is not None:
            return pair
        if self._ffc in SHUT and self._thermal_state not in GONE:
            return replace(pair, reason="stuck" if self._ffc is FfcState.STUCK else "ffc")
        by_state = why_absent(self._thermal_state, seen=self._thermal_ns is not None)
        if self._ffc is FfcState.UNKNOWN and self._thermal_state not in GONE:
            by_state = "stalled"
        return replace(pair, reason=by_state) if by_state and pair.reason != "ffc" else pair

    def _patience_s(self) -> float:
        if not self._waiting or not self._realtime:
            return TICK_S
        return min(TICK_S, max(0.0, (_since(self._waiting[0]) + self._wait_ns - self._feed.now_ns()) / 1e9))

    def _count_feed_drops(self) -> None:
        for modality in self._monitor.cameras:
            if (lost := self._feed.dropped[modality] - self._feed_drops[modality]) > 0:
                self._feed_drops[modality] += lost
                self._lose(modality, lost)
            if (damaged := self._feed.damaged(modality) - self._damaged[modality]) > 0:
                self._damaged[modality] += damaged
                self._monitor.add_frame_drop(modality, "damaged", damaged)

    def _lose(self, modality: Modality, count: int) -> None:
        """Frames that the feed had no room for: captured, and dropped."""
        self._monitor.add_lost(modality, count)
        if modality is Modality.VISIBLE:
            self.captured_visible += count
            self._drop(count, "queue")
        else:
            self.captured_thermal += count
            self._monitor.add_frame_drop(modality, "queue", count)

    def _drop(self, count: int, cause: str) -> None:
        if count:
            self._monitor.add_drop(cause, count)


def _since(frame: Frame) -> int:
    """When a frame began to wait, on the clock of the frames."""
    return frame.captured_ns if frame.arrived_ns is None else frame.arrived_ns
