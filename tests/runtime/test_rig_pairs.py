"""Pairs from a feed: nothing is lost without a count, and the thermal image is what it is called."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdrun.feeds import Event, EventQueue, Feed
from mdrun.frames import Clock, FfcState, Frame, FramePair, Modality, Notice, Provenance, SourceState
from mdrun.monitor import Monitor
from mdrun.rig.config import PairingConfig
from mdrun.rig.pairs import LivePairs
from mdrun.sources.base import NS_PER_MS
from tests.runtime.rigs import CAMERAS, FakeChain, ScriptedFeed, change_at, frame_at, two_cameras

Made = tuple[list[FramePair], LivePairs, Monitor, list[Notice]]


def make(events: list[tuple[float, Event]], realtime: bool = False, **pairing: object) -> Made:
    notices: list[Notice] = []
    monitor = Monitor("gate", dict(CAMERAS))
    config = PairingConfig.model_validate(pairing)
    with ScriptedFeed(events) as feed:
        pairs = LivePairs(feed, config, monitor, chain=FakeChain(), realtime=realtime, tell=notices.append)
        return list(pairs), pairs, monitor, notices


def test_thirty_hertz_with_nine_gives_every_visible_frame_once() -> None:
    pairs, counted, monitor, _ = make(two_cameras(4))
    assert [pair.visible.sequence for pair in pairs] == list(range(120))
    assert counted.captured_visible == 120
    assert monitor.drops.total() == 0
    assert {pair.provenance for pair in pairs[5:]} == {Provenance.MEASURED, Provenance.HELD}
    for pair in pairs:
        if pair.provenance is Provenance.MEASURED:
            assert pair.thermal is not None
            assert abs(pair.visible.captured_ns - pair.thermal.captured_ns) <= 60 * NS_PER_MS


def test_waiting_for_the_nearer_frame_makes_every_pair_measured() -> None:
    pairs, _, _, _ = make(two_cameras(4), wait_ms=200)
    assert [pair.visible.sequence for pair in pairs] == list(range(120))
    assert {pair.provenance for pair in pairs[:-1]} == {Provenance.MEASURED}
    assert pairs[-1].provenance is Provenance.HELD  # the thermal camera's last frame is 78 ms older


def test_no_one_waits_for_a_camera_that_is_lost() -> None:
    events = two_cameras(2, missing=(1, 9))
    lost = (1050.0, change_at(Modality.THERMAL, SourceState.LOST, 1050, "MDR-405", "gone"))
    pairs, _, _, notices = make(sorted([*events, lost], key=lambda item: item[0]), wait_ms=500)
    late = [pair for pair in pairs if pair.visible.captured_ns > 1300 * NS_PER_MS]
    assert len(late) > 15
    assert {(pair.provenance, pair.reason) for pair in late} == {(Provenance.ABSENT, "lost")}
    assert [(n.data["camera"], n.data["state"]) for n in notices][-1] == ("thermal", "lost")


def test_the_last_image_of_a_lost_camera_says_that_it_is_lost() -> None:
    lost = (1050.0, change_at(Modality.THERMAL, SourceState.LOST, 1050, "MDR-405", "gone"))
    pairs, _, _, _ = make(sorted([*two_cameras(2, missing=(1, 9)), lost], key=lambda item: item[0]))
    held = [p for p in pairs if p.provenance is Provenance.HELD and p.visible.captured_ns > 1050 * NS_PER_MS]
    assert held
    assert {pair.reason for pair in held} == {"lost"}


def test_a_cameras_frame_rate_counts_what_was_dropped_on_the_way() -> None:
    monitor = Monitor("gate", dict(CAMERAS))
    for sequence in range(0, 60, 3):  # two of three had no room
        monitor.add_frame(frame_at(Modality.VISIBLE, 1000 * sequence / 30, sequence))
    assert monitor.cameras[Modality.VISIBLE].fps() == pytest.approx(30)


def reasons_after(*changes: tuple[float, SourceState], images: bool = True, cameras: int = 2) -> set[str]:
    """Why there is no thermal image in the last second of three; its camera gives images for a second, or never."""
    told = [(at, change_at(Modality.THERMAL, state, at)) for at, state in changes]
    events = [event for event in two_cameras(3, missing=(1 if images else 0, 3)) if images or not _is_thermal(event[1])]
    monitor = Monitor("gate", dict(list(CAMERAS.items())[:cameras]))
    with ScriptedFeed(sorted([*events, *told], key=lambda item: item[0])) as feed:
        pairs = list(LivePairs(feed, PairingConfig(), monitor, chain=None, realtime=False, tell=lambda notice: None))
    late = [pair for pair in pairs if pair.visible.captured_ns > 2000 * NS_PER_MS]
    assert {pair.provenance for pair in late} == {Provenance.ABSENT}
    return {pair.reason for pair in late}


def _is_thermal(event: Event) -> bool:
    return event.modality is Modality.THERMAL


def test_a_camera_that_has_given_nothing_yet_is_not_lost() -> None:
    again = (1200.0, SourceState.CONNECTING)
    assert reasons_after(images=False) == {"connecting"}
    assert reasons_after((500, SourceState.LOST), images=False) == {"connecting"}  # tried again and again
    assert reasons_after((500, SourceState.LOST), again, images=False) == {"connecting"}
    assert reasons_after((1100, SourceState.LOST)) == {"lost"}
    assert reasons_after((1100, SourceState.LOST), again) == {"lost"}
    assert reasons_after((1100, SourceState.STALLED)) == {"stalled"}
    assert (
        reasons_after((1100, SourceState.FAILED)) == reasons_after((9, SourceState.FAILED), images=False) == {"failed"}
    )
    assert reasons_after((1100, SourceState.ENDED)) == {"no_thermal"}
    assert reasons_after(images=False, cameras=1) == {"no_thermal"}


def test_a_camera_that_stays_away_is_told_once_and_again_for_another_reason() -> None:
    ways = [("LOST", "MDR-405"), *[("CONNECTING", ""), ("LOST", "MDR-401")] * 40, ("CONNECTING", ""), ("LIVE", "")]
    changes = [
        (500.0 + at, change_at(Modality.THERMAL, SourceState[name], 500 + at, code))
        for at, (name, code) in enumerate(ways)
    ]
    *_, monitor, notices = make(sorted([*two_cameras(2), *changes], key=lambda item: item[0]))
    told = [(n.data["state"], n.data["code"]) for n in notices if n.data.get("camera") == "thermal"]
    assert told == [("live", ""), ("lost", "MDR-405"), ("lost", "MDR-401"), ("live", "")]
    assert monitor.cameras[Modality.THERMAL].state is SourceState.LIVE


@pytest.mark.parametrize(
    ("policy", "wanted"),
    [("hold", {Provenance.MEASURED, Provenance.HELD}), ("lone", {Provenance.MEASURED, Provenance.ABSENT})],
)
def test_only_hold_holds(policy: str, wanted: set[Provenance]) -> None:
    pairs, counted, _, _ = make(two_cameras(3), policy=policy)
    assert {pair.provenance for pair in pairs[5:]} == wanted
    assert not any(counted.refuses(pair) for pair in pairs)


def test_strict_refuses_what_is_not_measured() -> None:
    pairs, counted, _, _ = make(two_cameras(3), policy="strict")
    refused = [pair for pair in pairs if counted.refuses(pair)]
    assert refused
    assert all(pair.provenance is not Provenance.MEASURED for pair in refused)
    assert all(pair.provenance is Provenance.MEASURED for pair in pairs if pair not in refused)


def test_a_shutter_event_is_absence_and_is_told() -> None:
    events = [
        (at, frame_at(Modality.THERMAL, event.captured_ns / NS_PER_MS, event.sequence, at, FfcState.RUNNING))
        if isinstance(event, Frame) and event.modality is Modality.THERMAL and 1000 <= at < 1600
        else (at, event)
        for at, event in two_cameras(3)
    ]
    pairs, _, monitor, notices = make(events)
    inside = [pair for pair in pairs if 1100 <= pair.visible.captured_ns / NS_PER_MS < 1550]
    assert {(pair.provenance, pair.reason) for pair in inside} == {(Provenance.ABSENT, "ffc")}
    told = [(n.data["from"], n.data["to"]) for n in notices if n.kind == "ffc"]
    assert told == [("normal", "running"), ("running", "normal")]
    assert monitor.cameras[Modality.THERMAL].ffc is FfcState.NORMAL


def test_what_nobody_can_know_of_the_shutter_is_absence_and_no_news_of_it() -> None:
    """Images that have only just begun to come again: as if none came, whatever it was."""
    states = {1: FfcState.UNKNOWN, 2: FfcState.RUNNING, 3: FfcState.UNKNOWN}
    events = [
        (at, frame_at(Modality.THERMAL, event.captured_ns / NS_PER_MS, event.sequence, at, states.get(int(at / 1000))))
        if isinstance(event, Frame) and event.modality is Modality.THERMAL
        else (at, event)
        for at, event in two_cameras(5)
    ]
    pairs, _, monitor, notices = make(events)
    for second, reason in ((1, "stalled"), (2, "ffc"), (3, "stalled")):
        at_ms = 1000 * second
        inside = [pair for pair in pairs if at_ms + 200 <= pair.visible.captured_ns / NS_PER_MS < at_ms + 800]
        assert {(pair.provenance, pair.reason) for pair in inside} == {(Provenance.ABSENT, reason)}
    told = [(n.data["from"], n.data["to"]) for n in notices if n.kind == "ffc"]
    assert told == [("normal", "running"), ("running", "normal")]
    assert monitor.cameras[Modality.THERMAL].ffc is FfcState.NORMAL


def test_what_is_captured_after_its_arrival_has_a_wrong_clock() -> None:
    events = [
        (at, frame_at(Modality.THERMAL, at + 640, event.sequence, at))
        if isinstance(event, Frame) and event.modality is Modality.THERMAL
        else (at, event)
        for at, event in two_cameras(2)
    ]
    pairs, _, _, notices = make(events)
    told = [notice.data for notice in notices if notice.kind == "clock"]
    assert told == [{"camera": "thermal", "source": "cam1", "ahead_ms": 640.0}]  # once
    assert {pair.thermal.clock for pair in pairs if pair.thermal is not None} == {Clock.ARRIVAL}
    for pair in pairs:
        if pair.thermal is not None:
            assert pair.thermal.captured_ns == pair.thermal.arrived_ns


def test_an_offset_on_purpose_is_no_wrong_clock() -> None:
    late_visible = [
        (at, frame_at(Modality.THERMAL, at + 60, event.sequence, at))
        if isinstance(event, Frame) and event.modality is Modality.THERMAL
        else (at, event)
        for at, event in two_cameras(2, delay_ms=(0, 0))
    ]
    notices: list[Notice] = []
    with ScriptedFeed(late_visible) as feed:
        offsets = {Modality.THERMAL: 60 * NS_PER_MS}
        monitor = Monitor("gate", dict(CAMERAS))
        pairs = LivePairs(
            feed, PairingConfig(), monitor, chain=None, realtime=False, tell=notices.append, offsets_ns=offsets
        )
        made = [pair for pair in pairs if pair.thermal is not None]
    assert not [notice for notice in notices if notice.kind == "clock"]
    assert {pair.thermal.clock for pair in made if pair.thermal is not None} == {Clock.FILE}


def test_frames_that_a_full_queue_gives_up_are_counted_for_both_cameras() -> None:
    events: list[Event] = [frame_at(m, 33 * i, i, 33 * i) for i in range(100) for m in Modality]
    monitor = Monitor("gate", dict(CAMERAS))
    pairs = LivePairs(BurstFeed(events), PairingConfig(), monitor, chain=None, realtime=True, tell=lambda notice: None)
    made = list(pairs)
    pairs.finish()
    assert pairs.captured_visible == pairs.captured_thermal == 100
    assert len(made) + monitor.drops.total() == 100
    assert [monitor.cameras[m].captured for m in Modality] == [100, 100]
    assert monitor.cameras[Modality.THERMAL].dropped == {"queue": 96}


class BurstFeed(Feed):
    """Everything has arrived already: an engine that was busy."""

    def __init__(self, events: list[Event]) -> None:
        super().__init__()
        self._queue = EventQueue({Modality.VISIBLE: 4, Modality.THERMAL: 4})
        self.dropped = self._queue.dropped
        for event in events:
            self._queue.put(event)

    def start(self) -> None: ...

    def next(self, timeout_s: float) -> Event | None:
        event = self._queue.get(0)
        self.ended = event is None
        return event

    def now_ns(self) -> int:
        return time.monotonic_ns()

    @property
    def busy(self) -> bool:
        return len(self._queue) > 0

    def close(self) -> None: ...


def test_live_the_newest_frame_goes_first_and_the_others_are_counted() -> None:
    monitor = Monitor("gate", dict(CAMERAS))
    events: list[Event] = [change_at(Modality.VISIBLE, SourceState.LIVE, 0)]
    events += [frame_at(Modality.VISIBLE, 33 * i, i, 33 * i) for i in range(7)]
    pairs = LivePairs(BurstFeed(events), PairingConfig(), monitor, chain=None, realtime=True, tell=lambda notice: None)
    made = list(pairs)
    assert [pair.visible.sequence for pair in made] == [6]
    assert dict(monitor.drops) == {"queue": 3, "busy": 3}
    assert pairs.captured_visible == 7 == len(made) + monitor.drops.total()


class PlayedFeed(ScriptedFeed):
    """Events come when their time has come; the clock goes on while the loop waits, and while an engine works."""

    def work(self, milliseconds: float) -> None:
        self._now_ns += round(milliseconds * NS_PER_MS)

    def next(self, timeout_s: float) -> Event | None:
        if not self._events:
            self.ended = True
            return None
        wait_ns = max(0, round(self._events[0][0] * NS_PER_MS) - self._now_ns)
        if wait_ns > timeout_s * 1e9:
            self._now_ns += round(timeout_s * 1e9)
            return None
        return super().next(timeout_s)

    @property
    def busy(self) -> bool:
        return bool(self._events) and self._events[0][0] * NS_PER_MS <= self._now_ns


def play(events: list[tuple[float, Event]], engine_ms: float, wait_ms: float) -> tuple[list[FramePair], Monitor, float]:
    """Pairs of an engine that takes its time, and the longest time from arrival until its turn, while cameras run."""
    monitor, feed, longest_ms = Monitor("gate", dict(CAMERAS)), PlayedFeed(events), 0.0
    config = PairingConfig(wait_ms=wait_ms)
    pairs = LivePairs(feed, config, monitor, chain=FakeChain(), realtime=True, tell=lambda notice: None)
    made = []
    while not pairs.ended:
        if (pair := pairs.poll()) is not None:
            assert pair.visible.arrived_ns is not None
            if not feed.ended:
                longest_ms = max(longest_ms, (feed.now_ns() - pair.visible.arrived_ns) / NS_PER_MS)
            made.append(pair)
            feed.work(engine_ms)
    assert pairs.captured_visible == len(made) + monitor.drops.total()
    return made, monitor, longest_ms


def test_frames_that_one_thermal_image_makes_ready_go_in_turn_while_the_engine_keeps_up() -> None:
    made, monitor, longest_ms = play(two_cameras(4, delay_ms=(20, 20)), engine_ms=10, wait_ms=120)
    assert monitor.drops.total() == 0
    assert [pair.visible.sequence for pair in made] == list(range(120))
    assert {pair.provenance for pair in made[:-3]} == {Provenance.MEASURED}
    assert longest_ms <= 120 + 2 * 10


@pytest.mark.parametrize("wait_ms", [0, 80])
@pytest.mark.parametrize("engine_ms", [70, 200])
def test_an_engine_that_does_not_keep_up_gets_the_newest_frame(engine_ms: float, wait_ms: float) -> None:
    made, monitor, longest_ms = play(two_cameras(10), engine_ms, wait_ms)
    assert set(monitor.drops) == {"busy"}
    assert len(made) == pytest.approx(10_000 / max(engine_ms, 1), rel=0.15)
    assert longest_ms <= wait_ms + 2 * 1000 / 30


def test_after_a_pause_of_the_network_the_past_is_dropped() -> None:
    """Two seconds of images at once, and an engine that is faster than the cameras."""
    events = [(max(at_ms, 3000.0) if at_ms > 1000 else at_ms, event) for at_ms, event in two_cameras(6)]
    made, monitor, _ = play(events, engine_ms=10, wait_ms=80)
    assert 50 <= monitor.drops["busy"] <= 70
    late = [pair for pair in made if pair.visible.captured_ns > 3100 * NS_PER_MS]
    assert [pair.visible.sequence for pair in late] == list(range(late[0].visible.sequence, 180))


@settings(max_examples=60, deadline=None)
@given(
    fps=st.tuples(st.floats(1, 60), st.floats(1, 60)),
    delay=st.tuples(st.floats(0, 400), st.floats(0, 400)),
    wait=st.floats(0, 300),
    policy=st.sampled_from(["hold", "lone", "strict"]),
    gap=st.floats(0, 2),
)
def test_every_captured_frame_is_a_pair_or_a_drop(
    fps: tuple[float, float], delay: tuple[float, float], wait: float, policy: str, gap: float
) -> None:
    events = two_cameras(2, fps, delay, missing=(gap, gap + 0.5))
    pairs, counted, monitor, _ = make(events, policy=policy, wait_ms=wait)
    assert [pair.visible.sequence for pair in pairs] == list(range(round(2 * fps[0])))
    assert counted.captured_visible == len(pairs) + monitor.drops.total()
    for pair in pairs:
        if pair.provenance is Provenance.MEASURED:
            assert pair.skew_ms is not None
            assert abs(pair.skew_ms) <= 60
        if pair.provenance is Provenance.ABSENT:
            assert pair.thermal is None
            assert pair.reason


def test_the_same_events_give_the_same_pairs() -> None:
    first, again = make(two_cameras(3), wait_ms=80)[0], make(two_cameras(3), wait_ms=80)[0]
    assert [(p.provenance, p.skew_ms, p.thermal_age_ms) for p in first] == [
        (p.provenance, p.skew_ms, p.thermal_age_ms) for p in again
    ]
