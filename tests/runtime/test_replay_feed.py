"""A replay is a feed: what was recorded, in order of arrival, on a clock of its own, always the same."""

from __future__ import annotations

import hashlib
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mdrun.errors import SourceError, UsageError
from mdrun.feeds import Event
from mdrun.frames import Frame, Modality, SourceState, StateChange
from mdrun.record.options import parse_options
from mdrun.record.recorder import Recorder
from mdrun.record.replay import ReplayFeed, open_replay
from mdrun.record.standard import STANDARD
from mdrun.sources.uri import SourceUri
from tests.recordings import CAMERAS, record_street, street_events, street_recording

S = 1_000_000_000
VISIBLE, THERMAL = Modality.VISIBLE, Modality.THERMAL


def parse_query(query: str) -> dict[str, str]:
    return dict(part.split("=", 1) for part in query.split("&")) if query else {}


def open_feed(query: str = "", folder: Path | None = None) -> ReplayFeed:
    return ReplayFeed(street_recording() if folder is None else folder, parse_options(parse_query(query)))


def play(query: str = "", folder: Path | None = None) -> list[Event]:
    events = []
    with open_feed(query, folder) as feed:
        while not feed.ended:
            event = feed.next(0.1)
            if event is not None:
                events.append(event)
    return events


def digest(events: list[Event]) -> str:
    found = hashlib.sha256()
    for event in events:
        if isinstance(event, Frame):
            found.update(event.image.tobytes())
        plain = replace(event, image=np.empty(0), counts=None) if isinstance(event, Frame) else event
        found.update(repr(plain).encode())
    return found.hexdigest()


def test_a_replay_is_what_was_recorded() -> None:
    given, found = street_events(), play()
    assert len(found) == len(given) + 2
    for one, other in zip(found[: len(given)], given, strict=True):
        if isinstance(one, Frame) and isinstance(other, Frame):
            np.testing.assert_array_equal(one.image, other.image)
            assert replace(one, image=other.image) == other
        else:
            assert one == other
    assert [event.state for event in found[-2:] if isinstance(event, StateChange)] == [SourceState.ENDED] * 2


@pytest.mark.parametrize("fault", STANDARD, ids=lambda fault: fault.name)
def test_standard_faults_play_and_differ_from_none(fault: object) -> None:
    query = fault.query  # type: ignore[attr-defined]
    with open_feed(query) as feed, open_feed() as plain:
        assert (feed._plan == plain._plan) == (query == "")
        times = [step.at_ns for step in feed._plan]
        assert times == sorted(times)
    assert len({each.name for each in STANDARD}) == len(STANDARD)


def test_the_same_query_gives_the_same_bytes_and_another_seed_does_not() -> None:
    query = next(fault.query for fault in STANDARD if fault.name == "bad_day") + "&noise_thermal=3&from=3s&to=6s"
    assert digest(play(query)) == digest(play(query))
    assert digest(play(query)) != digest(play(query.replace("seed=3", "seed=4")))


def test_the_clock_is_that_of_the_last_event() -> None:
    with open_feed("from=2s&to=3s") as feed:
        assert feed.now_ns() == 2 * S
        while not feed.ended:
            event = feed.next(0.1)
            if event is not None:
                at_ns = event.at_ns if isinstance(event, StateChange) else event.arrived_ns
                assert feed.now_ns() == at_ns


def test_time_passes_while_both_cameras_are_gone() -> None:
    with open_feed("kill_visible=8s-12s&kill_thermal=8s-12s&from=7.9s&to=13s") as feed:
        waits = []
        while not feed.ended:
            before_ns = feed.now_ns()
            if feed.next(0.1) is None and not feed.ended:
                waits.append(feed.now_ns() - before_ns)
                assert 8 * S < feed.now_ns() < 12 * S
        assert set(waits) == {S // 10}
        assert len(waits) == 39


def test_a_look_without_patience_lets_no_time_pass() -> None:
    with open_feed("from=2s") as feed:
        while feed.busy:
            assert feed.next(0.0) is not None
        before_ns = feed.now_ns()
        assert feed.next(0.0) is None
        assert feed.now_ns() == before_ns
        assert feed.next(1.0) is not None


def test_it_plays_in_real_time_on_the_clock_of_the_machine(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    record_street(folder, 1.0)
    with open_feed("pace=live", folder) as feed:
        assert feed.live
        began_ns = time.monotonic_ns()
        frames = []
        while not feed.ended:
            event = feed.next(0.05)
            if isinstance(event, Frame):
                assert event.arrived_ns is not None
                assert event.arrived_ns <= time.monotonic_ns()
                frames.append(event)
        assert time.monotonic_ns() - began_ns >= 0.9 * S
    visible = [frame.captured_ns for frame in frames if frame.modality is VISIBLE]
    assert visible[-1] - visible[0] == round(29 / 30 * S)
    assert abs(visible[0] - began_ns) < 0.5 * S


def test_close_ends_a_wait() -> None:
    with open_feed("pace=live&kill_visible=0s-10s&kill_thermal=0s-10s") as feed:
        while feed.next(0.0) is not None:
            pass
        threading.Timer(0.2, feed.close).start()
        began = time.monotonic()
        assert feed.next(60.0) is None
        assert time.monotonic() - began < 5


def test_wanted_cameras_and_their_offsets() -> None:
    uri = SourceUri("replay", str(street_recording()), {"to": "1s"})
    feed, live, told = open_replay(uri, {THERMAL: 7_000_000})
    assert (live, told) == (False, False)
    with feed:
        events = [event for _ in range(20) if (event := feed.next(0.2)) is not None]
    frames = [event for event in events if isinstance(event, Frame)]
    assert {event.modality for event in events} == {THERMAL}
    assert frames[0].captured_ns == 17_000_000 + 7_000_000
    assert frames[0].arrived_ns == 17_000_000


def test_the_shutter_is_told_where_the_query_or_the_recording_says_so(tmp_path: Path) -> None:
    def told(query: str, folder: Path | None = None) -> tuple[bool, int]:
        with open_feed(query, folder) as feed:
            return feed.shutter_told, sum(getattr(step, "shutter", False) for step in feed._plan)

    record_street(tmp_path / "told", 2.0, told=True)
    assert told("ffc=6s-7s") == (False, 0)
    assert told("ffc=6s-7s&ffc_telemetry=yes") == (True, 9)
    assert told("ffc=1s", tmp_path / "told") == (True, 9)
    assert told("ffc=1s&ffc_telemetry=no", tmp_path / "told") == (False, 0)


def test_what_cannot_be_played_is_told(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "run", {VISIBLE: CAMERAS[VISIBLE]})
    recorder.put(next(event for event in street_events(0.1) if isinstance(event, Frame)))
    recorder.close()
    uri = SourceUri("replay", str(tmp_path / "run"), {})
    with pytest.raises(SourceError, match="holds no thermal frames; leave that camera out"):
        open_replay(uri, {VISIBLE: 0, THERMAL: 0})
    with pytest.raises(SourceError, match="no frame is left to play"):
        open_replay(replace(uri, options={"drop_visible": "0s-"}))
    with pytest.raises(UsageError, match="unknown replay option 'speed'"):
        open_replay(replace(uri, options={"speed": "2"}))
    with pytest.raises(SourceError, match="no recording"):
        open_replay(replace(uri, path=str(tmp_path / "other")))


def test_damage_ends_the_run_after_the_frames_before_it(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    record_street(folder, 1.0)
    path = folder / "visible.nut"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(SourceError, match=r"image 1\d is damaged"):
        play("", folder)


def test_the_loop_of_a_rig_sees_a_pulled_camera(tmp_path: Path) -> None:
    """The same pairing that runs on live cameras; the promise of the standard fault `thermal_pulled`."""
    from mdrun.frames import FramePair, Notice, Provenance
    from mdrun.monitor import Monitor
    from mdrun.rig.config import PairingConfig
    from mdrun.rig.pairs import LivePairs

    notices: list[Notice] = []
    with open_feed("kill_thermal=8s-12s") as feed:
        monitor = Monitor("street", {VISIBLE: "cam0", THERMAL: "cam1"})
        pairs = LivePairs(feed, PairingConfig(), monitor, chain=None, realtime=False, tell=notices.append)
        found: list[FramePair] = list(pairs)
    assert len(found) == 600

    def between(first_s: float, end_s: float) -> list[FramePair]:
        return [pair for pair in found if first_s * S <= pair.visible.captured_ns < end_s * S]

    assert not any(pair.provenance is Provenance.MEASURED for pair in between(8.1, 12))
    assert {pair.reason for pair in between(8.5, 12)} == {"lost"}
    assert any(pair.provenance is Provenance.MEASURED for pair in between(12, 13))
    assert not any(pair.provenance is Provenance.ABSENT for pair in between(12.2, 20))
    told = [notice.data["state"] for notice in notices if notice.data["camera"] == "thermal"]
    assert told == ["live", "lost", "live", "ended"]
