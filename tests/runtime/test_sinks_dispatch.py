"""Sinks of a running rig: whatever one of them does, the others and the pipeline do not notice."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdrun.errors import OutputError, SinkError
from mdrun.frames import Notice, Result
from mdrun.logs import log_notice
from mdrun.monitor import Monitor
from mdrun.sinks import FileSink, JsonlSink, Overflow, Sink, dispatch
from mdrun.sinks.dispatch import Dispatch
from mdrun.sinks.mailbox import NOTICES, Mailbox
from mdrun.sinks.uri import build_sink
from tests.broker import wait_for
from tests.runtime.engines import CLASSES
from tests.runtime.live import make_context, make_event, make_live

LOOSE_S = 30.0  # what never happens in time on a busy machine is asserted in no test


class Recorder(Sink):
    """Keeps what it gets; `gate` closed: hangs in `write`."""

    def __init__(self, name: str = "recorder") -> None:
        self._name = name
        self.gate = threading.Event()
        self.gate.set()
        self.sequences: list[int] = []
        self.notices: list[Notice] = []
        self.ended = ""
        self.failing: Exception | None = None
        self.refuse_start: Exception | None = None
        self.writes = 0

    @property
    def name(self) -> str:
        return self._name

    def start(self) -> None:
        if self.refuse_start is not None:
            raise self.refuse_start

    def write(self, result: Result) -> None:
        self.writes += 1
        self.gate.wait()
        if self.failing is not None:
            raise self.failing
        self.sequences.append(result.pair.sequence)

    def notice(self, notice: Notice) -> None:
        self.notices.append(notice)

    def finish(self) -> None:
        self.ended = "finished"

    def abandon(self) -> None:
        self.ended = "abandoned"


@pytest.fixture
def monitor() -> Monitor:
    return make_context().monitor


@pytest.fixture(autouse=True)
def quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "PAUSE_S", (0.05, 0.1))


@pytest.fixture
def run(monitor: Monitor) -> Iterator[Callable[..., Dispatch]]:
    """Starts a dispatch, and ends it after the test, hanging sinks too."""
    started: list[tuple[Dispatch, list[Recorder]]] = []

    def begin(*sinks: Sink, queue_size: int = 8) -> Dispatch:
        made = Dispatch(sinks, monitor, queue_size=queue_size)
        started.append((made, [sink for sink in sinks if isinstance(sink, Recorder)]))
        made.start()
        return made

    yield begin
    for made, recorders in started:
        for recorder in recorders:
            recorder.gate.set()
        made.discard()


def _accounted(monitor: Monitor, name: str) -> int:
    status = monitor.sinks[name]
    return status.written + status.dropped + status.errors


def test_a_sink_that_hangs_costs_only_its_own_results(run: Callable[..., Dispatch], monitor: Monitor) -> None:
    stuck, well = Recorder("stuck"), Recorder("well")
    stuck.gate.clear()
    made = run(stuck, well)
    for sequence in range(50):
        made.offer(make_live(sequence))
        wait_for(lambda expected=sequence: expected in well.sequences, "the other sink")  # type: ignore[misc]  # bound now
    assert well.sequences == list(range(50))
    wait_for(lambda: stuck.writes == 1, "the stuck write")
    assert monitor.sinks["stuck"].dropped == 50 - 1 - 8  # one hangs, eight wait
    assert monitor.sinks["well"].dropped == 0


def test_the_end_does_not_wait_for_a_sink_that_hangs(
    run: Callable[..., Dispatch], monitor: Monitor, tmp_path: Path
) -> None:
    stuck = Recorder("stuck")
    stuck.gate.clear()
    lines = JsonlSink(tmp_path / "results.jsonl", CLASSES, "gate", thermal_used=True)
    made = run(stuck, lines)
    for sequence in range(4):
        made.offer(make_live(sequence))
    wait_for(lambda: stuck.writes == 1, "the stuck write")
    began = time.monotonic()
    paths = made.finish(timeout_s=1.0)
    assert time.monotonic() - began < LOOSE_S
    assert paths == [tmp_path / "results.jsonl"]
    assert len(paths[0].read_text(encoding="utf-8").splitlines()) == 4
    status = monitor.sinks["stuck"]
    assert (status.alive, status.message) == (False, "did not end in time")
    assert _accounted(monitor, "stuck") == 4


class Late(Recorder):
    """Knows only later what has arrived: nothing, so far."""

    delivered = 0

    def finish(self) -> None:
        self.gate.wait()
        self.given_up = 3  # too late for the counts


def test_what_a_sink_that_does_not_end_has_not_delivered_is_dropped(
    run: Callable[..., Dispatch], monitor: Monitor
) -> None:
    late = Late("late")
    made = run(late)
    for sequence in range(3):
        made.offer(make_live(sequence))
    wait_for(lambda: len(late.sequences) == 3, "the results")
    late.gate.clear()
    made.finish(timeout_s=0.2)
    status = monitor.sinks["late"]
    assert (status.written, status.dropped, status.errors, status.message) == (0, 3, 0, "did not end in time")
    late.gate.set()
    made._workers[0].thread.join()  # noqa: SLF001, RUF100
    assert monitor.sinks["late"] == status


def test_pauses_grow_while_what_is_taken_arrives_nowhere(
    run: Callable[..., Dispatch], monitor: Monitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "PAUSE_S", (0.01, 0.08))

    class Every(Recorder):
        def write(self, result: Result) -> None:
            super().write(result)
            if self.writes % 2 == 0:
                self.problem = "nothing arrives"
                raise SinkError(self.problem)

    every = Every("every")
    made = run(every)
    end = time.monotonic() + LOOSE_S
    while every.writes < 10:
        assert time.monotonic() < end
        made.offer(make_live())
        time.sleep(0.005)
    assert made._workers[0]._pause_s == 0.08  # noqa: SLF001, RUF100
    assert [notice["alive"] for notice in monitor.notices] == [False]


def test_a_failing_sink_is_told_once_and_comes_back(run: Callable[..., Dispatch], monitor: Monitor) -> None:
    ill, well = Recorder("ill"), Recorder("well")
    ill.failing = ConnectionRefusedError(111, "Connection refused by rtsp://user:hunter2@host/a")
    made = run(ill, well)
    offered = 0

    def offer_until(condition: Callable[[], bool]) -> None:
        nonlocal offered
        end = time.monotonic() + LOOSE_S
        while not condition():
            assert time.monotonic() < end
            made.offer(make_live(offered))
            offered += 1
            time.sleep(0.01)

    offer_until(lambda: ill.writes >= 3)  # it is tried again
    assert [notice.data["alive"] for notice in well.notices] == [False]  # told once, not thrice
    assert well.notices[0].kind == "sink"
    assert well.notices[0].data["sink"] == "ill"
    status = monitor.sinks["ill"]
    assert not status.alive
    assert "Connection refused" in status.message
    assert "hunter2" not in status.message + str(well.notices)
    ill.failing = None
    offer_until(lambda: bool(ill.sequences))
    wait_for(lambda: len(well.notices) == 2, "the good news")
    assert well.notices[1].data == {"sink": "ill", "alive": True, "code": "", "message": ""}
    assert monitor.sinks["ill"].alive
    assert ill.notices == []  # nobody is told about himself
    made.finish()
    assert _accounted(monitor, "ill") == _accounted(monitor, "well") == offered
    assert monitor.sinks["well"].errors == 0


def test_a_port_that_is_taken_and_a_broker_that_is_away_are_told_with_their_code(
    run: Callable[..., Dispatch], monitor: Monitor, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """At the start, in the notice and so in the log."""
    context = make_context()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        texts = [f"http://127.0.0.1:{taken.getsockname()[1]}", "mqtt://127.0.0.1:1"]
        well = Recorder("well")
        run(*(build_sink(text, context, tmp_path) for text in texts), well)
        wait_for(lambda: len(well.notices) == len(texts), "both notices")
    with caplog.at_level("INFO", "mdrun"):
        for notice in well.notices:
            log_notice(notice)
    assert {notice.data["sink"].partition(":")[0] for notice in well.notices} == {"http", "mqtt"}
    assert [record.__dict__["code"] for record in caplog.records] == [SinkError.code] * 2


class FullDisk(FileSink):
    """A file on a disk that is full after the second result."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.writes = 0

    def write(self, result: Result) -> None:
        self.writes += 1
        self._file.part.write_text("half a file", encoding="utf-8")
        if self.writes > 2:
            raise OSError(28, "No space left on device")

    def finish(self) -> None:
        raise AssertionError("what is damaged is not finished")

    def abandon(self) -> None:
        pass


def test_a_file_on_a_full_disk_is_dead_and_leaves_nothing(
    run: Callable[..., Dispatch], monitor: Monitor, tmp_path: Path
) -> None:
    full, well = FullDisk(tmp_path / "out.json"), Recorder("well")
    made = run(full, well, queue_size=100)
    for sequence in range(20):
        made.offer(make_live(sequence))
    wait_for(lambda: len(well.sequences) == 20, "the other sink")
    wait_for(lambda: _accounted(monitor, "out.json") == 20, "the dead sink")
    status = monitor.sinks["out.json"]
    assert (status.written, status.errors, status.alive) == (0, 20, False)  # the first two went with the file
    assert status.message == "No space left on device"
    assert [notice.data["code"] for notice in well.notices] == [OutputError.code]
    assert full.writes == 3  # not tried again
    assert made.finish() == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("moment", ["finish", "commit", "end"])
def test_a_file_that_is_removed_at_the_end_has_nothing_written(
    run: Callable[..., Dispatch], monitor: Monitor, tmp_path: Path, moment: str
) -> None:
    """The last bytes find no room, it cannot have its name, or it does not end in time."""
    go = threading.Event()

    class Last(FileSink):
        def write(self, result: Result) -> None:
            self._file.part.write_text("half a file", encoding="utf-8")

        def finish(self) -> None:
            if moment == "finish":
                raise OSError(28, "No space left on device")
            if moment == "end":
                go.wait()

        def commit(self) -> Path | None:
            raise OutputError("cannot be replaced")

        def abandon(self) -> None:
            pass

    made = run(Last(tmp_path / "out.json"), queue_size=100)
    for sequence in range(20):
        made.offer(make_live(sequence))
    wait_for(lambda: monitor.sinks["out.json"].written == 20, "the results")
    assert made.finish(timeout_s=0.3 if moment == "end" else LOOSE_S) == []
    go.set()
    status = monitor.sinks["out.json"]
    assert (status.written, status.dropped, status.errors, status.alive) == (0, 0, 20, False)
    assert list(tmp_path.iterdir()) == []


def test_a_vital_sink_that_cannot_start_ends_the_run(monitor: Monitor) -> None:
    well, ill = Recorder("well"), Recorder("ill")
    ill.refuse_start = OutputError("port 80: not allowed")
    with pytest.raises(OutputError, match="port 80"):
        Dispatch([well, ill], monitor).start()
    assert well.ended == "abandoned"


def test_another_one_is_started_again_later(run: Callable[..., Dispatch], monitor: Monitor) -> None:
    ill = Recorder("ill")
    ill.vital = False
    ill.refuse_start = SinkError("nobody there")
    made = run(ill)
    assert monitor.sinks["ill"].message == "nobody there"
    ill.refuse_start = None
    end = time.monotonic() + LOOSE_S
    while not ill.sequences:
        assert time.monotonic() < end
        made.offer(make_live())
        time.sleep(0.01)
    wait_for(lambda: monitor.sinks["ill"].alive, "the good news")


def test_a_vital_sink_that_hangs_at_the_start_ends_the_run(monitor: Monitor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "START_S", 0.1)
    never = threading.Event()

    class Slow(Recorder):
        def start(self) -> None:
            never.wait()

    made = Dispatch([Slow("slow")], monitor)
    monkeypatch.setattr(made, "discard", lambda: None)
    with pytest.raises(SinkError, match=r"slow: not ready in 0\.1 s"):
        made.start()
    never.set()


def test_two_of_the_same_name_are_counted_apart(run: Callable[..., Dispatch], monitor: Monitor) -> None:
    made = run(Recorder(), Recorder(), Recorder())
    made.offer(make_live())
    made.finish()
    assert {name: status.written for name, status in monitor.sinks.items()} == {
        "recorder": 1,
        "recorder #2": 1,
        "recorder #3": 1,
    }


def test_discard_finishes_nothing(run: Callable[..., Dispatch], monitor: Monitor, tmp_path: Path) -> None:
    recorder = Recorder()
    made = run(recorder, JsonlSink(tmp_path / "results.jsonl", CLASSES, "gate", thermal_used=True))
    made.offer(make_live())
    wait_for(lambda: monitor.sinks["results.jsonl"].written == 1, "the result")
    made.discard()
    assert recorder.ended == "abandoned"
    assert list(tmp_path.iterdir()) == []
    status = monitor.sinks["results.jsonl"]
    assert (status.written, status.dropped, status.errors) == (0, 1, 0)


def test_a_replay_may_wait_for_its_sinks(monitor: Monitor) -> None:
    slow = Recorder()
    made = Dispatch([slow], monitor, queue_size=2, wait_s=LOOSE_S)
    made.start()
    for sequence in range(100):
        made.offer(make_live(sequence))
    made.finish()
    assert slow.sequences == list(range(100))


def test_a_listener_that_fails_reaches_nobody(monitor: Monitor) -> None:
    def complain(_notice: Notice) -> None:
        raise RuntimeError("not mine")

    ill, well = Recorder("ill"), Recorder("well")
    ill.failing = OSError(5, "Input/output error")
    made = Dispatch([ill, well], monitor, on_notice=complain)
    made.start()
    made.offer(make_live())
    wait_for(lambda: well.notices, "the notice")
    made.finish()
    assert well.sequences == [0]


def test_a_sink_that_fails_before_the_first_result_is_told_by_the_clock_of_the_frames(monitor: Monitor) -> None:
    ill, well = Recorder("ill"), Recorder("well")
    ill.vital = False
    ill.refuse_start = SinkError("nobody there")
    made = Dispatch([ill, well], monitor, now_ns=lambda: 7_000_000_000)
    made.start()
    wait_for(lambda: well.notices, "the notice")
    made.finish()
    assert [notice.at_ns for notice in well.notices] == [7_000_000_000]
    assert monitor.notices[0]["at_s"] == 7.0


def test_ticks_come_without_results(run: Callable[..., Dispatch], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "TICK_S", 0.02)
    ticks: list[float] = []

    class Ticking(Recorder):
        def tick(self) -> None:
            ticks.append(time.monotonic())

    run(Ticking())
    wait_for(lambda: len(ticks) >= 3, "three ticks")


@given(
    offers=st.lists(st.booleans(), max_size=40), size=st.integers(1, 8), overflow=st.sampled_from(list(Overflow)[1:])
)
def test_a_full_queue_gives_up_what_brings_no_event(offers: list[bool], size: int, overflow: Overflow) -> None:
    mail = Mailbox(size, overflow)
    for sequence, eventful in enumerate(offers):
        mail.offer(make_live(sequence, events=(make_event(),) if eventful else ()))
    kept: list[Result] = []
    mail.close()
    while not mail.ended:
        item = mail.take(0)
        assert isinstance(item, Result)
        kept.append(item)
    room = min(size, 2) if overflow is Overflow.KEEP_LATEST else size
    assert len(kept) + mail.dropped == len(offers)
    assert len(kept) == min(len(offers), room)
    assert sum(bool(result.events) for result in kept) == min(sum(offers), room)
    sequences = [result.pair.sequence for result in kept]
    assert sequences == sorted(sequences)
    if not any(offers) and len(offers) > room:
        newest = overflow is Overflow.KEEP_LATEST
        assert sequences == list(range(len(offers) - room, len(offers)) if newest else range(room))


def test_notices_come_first_and_are_not_displaced() -> None:
    mail = Mailbox(2, Overflow.DROP_NEWEST)
    mail.notify(Notice("ffc", "gate", 0, {}))
    for sequence in range(10):
        mail.offer(make_live(sequence))
    assert isinstance(mail.take(0), Notice)
    for number in range(NOTICES + 3):
        mail.notify(Notice("ffc", "gate", number, {}))
    assert mail.notices_dropped == 3
    first = mail.take(0)
    assert isinstance(first, Notice)
    assert first.at_ns == 3


def test_what_a_sink_does_not_want_is_not_counted(run: Callable[..., Dispatch], monitor: Monitor) -> None:
    class Even(Recorder):
        def wants(self, result: Result) -> bool:
            return result.pair.sequence % 2 == 0

    even = Even()
    made = run(even, queue_size=100)
    for sequence in range(10):
        made.offer(make_live(sequence))
    made.finish()
    assert even.sequences == [0, 2, 4, 6, 8]
    assert _accounted(monitor, "recorder") == 5
