"""States, reconnects and stalls of a live camera, against a camera that does as it is told."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest

from mdrun.errors import (
    DataError,
    MdrunError,
    SourceAuthError,
    SourceLostError,
    SourceNotFoundError,
    SourceSupportError,
    SourceTimeoutError,
)
from mdrun.frames import Clock, FfcState, Frame, Modality, SourceState, StateChange
from mdrun.sources.live import Camera, CameraInfo, EndOfRecording, Grab, LiveReader
from mdrun.sources.live.reader import LEAST_STALL_S, Backoff, Pulse

WAIT_S = 20.0  # for things that take milliseconds on a machine that is not busy
C, L, S, X, E, F = (
    SourceState.CONNECTING,
    SourceState.LIVE,
    SourceState.STALLED,
    SourceState.LOST,
    SourceState.ENDED,
    SourceState.FAILED,
)


class Puppet(Camera):
    """Connects as `connections` say, then gives what is put into `script`: an image, or an error."""

    def __init__(self, *connections: CameraInfo | Exception) -> None:
        super().__init__("cam1", Modality.THERMAL)
        self.connections = list(connections)
        self.script: queue.Queue[Any] = queue.Queue()
        self.disconnects = 0
        self.deaf = False

    def connect(self) -> CameraInfo:
        found = self.connections.pop(0) if len(self.connections) > 1 else self.connections[0]
        if isinstance(found, Exception):
            raise found
        return found

    def grab(self) -> Grab:
        item = self.script.get()
        if isinstance(item, Exception):
            raise item
        now = time.monotonic_ns()
        return Grab(item, now - 1000, now, Clock.DEVICE, ffc=FfcState.NORMAL)

    def disconnect(self) -> None:
        self.disconnects += 1

    def interrupt(self) -> None:
        if not self.deaf:
            self.script.put(SourceLostError("closed"))


class Log:
    """What a reader put."""

    def __init__(self) -> None:
        self.events: list[Frame | StateChange] = []
        self.changed = threading.Condition()

    def put(self, event: Frame | StateChange) -> None:
        with self.changed:
            self.events.append(event)
            self.changed.notify_all()

    def wait(self, done: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(done, WAIT_S), self.states

    @property
    def states(self) -> list[SourceState]:
        return [event.state for event in self.events if isinstance(event, StateChange)]

    @property
    def changes(self) -> list[StateChange]:
        return [event for event in self.events if isinstance(event, StateChange)]

    @property
    def frames(self) -> list[Frame]:
        return [event for event in self.events if isinstance(event, Frame)]


INFO = CameraInfo(160, 120, "uint16", identity="serial 1", fps=9.0)


def image(width: int = 160, dtype: str = "uint16") -> Any:
    return np.zeros((120, width), dtype)


@contextmanager
def reading(camera: Puppet, **options: Any) -> Iterator[tuple[LiveReader, Log]]:
    log = Log()
    reader = LiveReader(camera, log.put, **{"reconnect_s": 0.05, "stall_s": 60.0} | options)
    reader.start()
    reader.start()  # twice does no harm
    try:
        yield reader, log
    finally:
        reader.close()
    assert not reader._thread.is_alive() or camera.deaf


def test_frames_are_numbered_frozen_and_dated() -> None:
    camera = Puppet(INFO)
    camera.offset_ns = 5
    with reading(camera, offset_ns=2) as (reader, log):
        for _ in range(3):
            camera.script.put(image())
        log.wait(lambda: len(log.frames) == 3)
        assert reader.first(WAIT_S)
        assert reader.state is L
        assert reader.info == INFO
    assert log.states == [C, L]
    assert isinstance(log.events[1], StateChange)  # LIVE stands before the first image
    for number, frame in enumerate(log.frames):
        assert (frame.sequence, frame.source, frame.modality) == (number, "cam1", Modality.THERMAL)
        assert frame.arrived_ns is not None
        assert frame.arrived_ns - frame.captured_ns == 1000 - 7
        assert (frame.clock, frame.ffc) == (Clock.DEVICE, FfcState.NORMAL)
        assert frame.counts is frame.image
        with pytest.raises(ValueError, match="read-only"):
            frame.image[0, 0] = 1


def test_lost_and_back_with_numbers_that_go_on() -> None:
    camera = Puppet(INFO)
    with reading(camera) as (_, log):
        for _ in range(2):
            camera.script.put(image())
            camera.script.put(SourceLostError("rtsp://admin:hunter2@cam: the connection has ended"))
        camera.script.put(image())
        log.wait(lambda: len(log.frames) == 3)
    assert log.states == [C, L, X, C, L, X, C, L]
    assert [frame.sequence for frame in log.frames] == [0, 1, 2]
    lost = log.changes[2]
    assert lost.code == "MDR-405"
    assert lost.message == "rtsp://cam: the connection has ended"
    assert camera.disconnects >= 2


def test_a_camera_that_is_not_there_at_first() -> None:
    camera = Puppet(SourceNotFoundError("no"), SourceNotFoundError("no"), INFO)
    with reading(camera) as (reader, log):
        camera.script.put(image())
        assert reader.first(WAIT_S)
        log.wait(lambda: bool(log.frames))
    assert log.states == [C, X, C, X, C, L]


@pytest.mark.parametrize(
    "other",
    [
        CameraInfo(160, 120, "uint16", identity="serial 2"),
        CameraInfo(640, 120, "uint16", identity="serial 1"),
        CameraInfo(160, 120, "uint8", identity="serial 1"),
    ],
)
def test_another_camera_or_image_after_a_reconnect_gives_no_frame(other: CameraInfo) -> None:
    camera = Puppet(INFO, other, INFO)
    with reading(camera) as (_, log):
        camera.script.put(image())
        camera.script.put(SourceLostError("gone"))
        camera.script.put(image())
        log.wait(lambda: len(log.frames) == 2)
    assert log.states == [C, L, X, C, X, C, L]
    assert [change.code for change in log.changes if change.state is X] == ["MDR-405", "MDR-406"]


@pytest.mark.parametrize("odd", [image(width=80), image(dtype="uint8")])
def test_an_image_that_changes_under_way_is_refused(odd: Any) -> None:
    camera = Puppet(INFO)
    with reading(camera) as (_, log):
        for item in (image(), odd, image()):
            camera.script.put(item)
        log.wait(lambda: len(log.frames) == 2)
    assert log.states == [C, L, X, C, L]
    assert log.changes[2].code == "MDR-406"
    assert {frame.image.shape for frame in log.frames} == {(120, 160)}


@pytest.mark.parametrize("error", [SourceSupportError("no GStreamer"), DataError("colour")])
def test_what_no_retry_can_mend_fails(error: MdrunError) -> None:
    camera = Puppet(error)
    with reading(camera) as (reader, log):
        assert not reader.first(WAIT_S)
        log.wait(lambda: log.states[-1:] == [F])
    assert log.states == [C, F]
    assert log.changes[-1].code == error.code


def test_a_picture_of_the_other_kind_later_on_is_retried() -> None:
    camera = Puppet(INFO, DataError("false colours"), INFO)
    with reading(camera) as (_, log):
        for item in (image(), SourceLostError("gone"), image()):
            camera.script.put(item)
        log.wait(lambda: len(log.frames) == 2)
    assert log.states == [C, L, X, C, X, C, L]


def test_an_error_of_our_own_is_told_and_retried() -> None:
    camera = Puppet(ZeroDivisionError("oops"), INFO)
    with reading(camera) as (_, log):
        camera.script.put(image())
        log.wait(lambda: bool(log.frames))
    assert "ZeroDivisionError: oops" in log.changes[1].message


def test_the_end_of_a_recording() -> None:
    camera = Puppet(INFO)
    with reading(camera) as (_, log):
        camera.script.put(image())
        camera.script.put(EndOfRecording())
        log.wait(lambda: log.states[-1:] == [E])
    assert log.states == [C, L, E]


def test_silence_is_a_stall_while_the_read_still_waits() -> None:
    camera = Puppet(INFO)
    with reading(camera, stall_s=0.2) as (_, log):
        camera.script.put(image())
        log.wait(lambda: log.states == [C, L, S])
        assert len(log.frames) == 1
        camera.script.put(image())
        log.wait(lambda: len(log.frames) == 2)
        log.wait(lambda: log.states == [C, L, S, L, S])
        camera.script.put(SourceTimeoutError("nothing"))
        camera.script.put(image())
        log.wait(lambda: len(log.frames) == 3)
    assert log.states[:8] == [C, L, S, L, S, X, C, L]
    stalled = log.changes[2]
    assert log.frames[0].arrived_ns is not None
    assert stalled.at_ns - log.frames[0].arrived_ns >= 200_000_000


def test_close_does_not_wait_for_a_camera_that_hangs_and_nothing_comes_after_it() -> None:
    camera = Puppet(INFO)
    camera.deaf = True
    with reading(camera) as (reader, log):
        camera.script.put(image())
        log.wait(lambda: len(log.frames) == 1)
        begun = time.monotonic()
        reader.close()
        assert time.monotonic() - begun < 2.0 + 1.0  # 1: a busy machine
        camera.script.put(image())
        reader._thread.join(WAIT_S)
    assert len(log.frames) == 1


def test_close_before_start_and_during_the_wait_for_a_retry() -> None:
    LiveReader(Puppet(INFO), Log().put).close()
    camera = Puppet(SourceAuthError("401"))
    with reading(camera, reconnect_s=3600.0) as (_, log):
        log.wait(lambda: log.states == [C, X])
    assert log.states == [C, X]  # a wrong password is not tried again at once


def test_backoff() -> None:
    backoff = Backoff(30.0)
    waits = [backoff.next() for _ in range(12)]
    assert waits[0] == 0.0
    for attempt, wait in enumerate(waits[1:]):
        longest = min(30.0, 0.25 * 2**attempt)
        assert longest / 2 <= wait <= longest
    assert Backoff(30.0).next(patient=True) == 30.0
    backoff.reset()
    assert backoff.next() == 0.0
    for _ in range(5000):
        assert backoff.next() <= 30.0


def test_pulse_follows_the_true_rate() -> None:
    pulse = Pulse()
    pulse.begin(30.0)
    pulse.beat()
    assert pulse.silent_at(None) == pytest.approx(pulse._last + LEAST_STALL_S)
    pulse.begin(1.0)  # a slow one that says so
    pulse.beat()
    assert pulse.silent_at(None) == pytest.approx(pulse._last + 3.0)
    pulse.begin(25.0)  # one that claims 25 and gives 2
    pulse._periods.extend([0.5] * 9)
    assert pulse.silent_at(None) == pytest.approx(pulse._last + 1.5)
    assert pulse.silent_at(9.0) == pytest.approx(pulse._last + 9.0)
