"""The reader thread: nothing lost, errors carried, nothing left behind."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from mdrun.errors import SourceError
from mdrun.frames import Frame, Modality
from mdrun.sources.base import Source
from mdrun.sources.reader import Reader


class CountingSource(Source):
    """Gives `total` small frames, then ends or raises."""

    def __init__(self, total: int, error: BaseException | None = None, delay_s: float = 0.0) -> None:
        super().__init__("counting", Modality.THERMAL, timed=True)
        self.total, self.error, self.delay_s = total, error, delay_s
        self.given = 0
        self.closed_by: list[str] = []

    def open(self) -> None:
        pass

    def read(self) -> Frame | None:
        time.sleep(self.delay_s)
        if self.given == self.total:
            if self.error is not None:
                raise self.error
            return None
        self.given += 1
        return self._frame(np.zeros((2, 3), np.uint8), self.given, "memory", None)

    def close(self) -> None:
        self.closed_by.append(threading.current_thread().name)

    @property
    def size(self) -> tuple[int, int] | None:
        return (3, 2)

    @property
    def frame_count(self) -> int | None:
        return self.total


def reader_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("read ")]


@pytest.mark.parametrize("depth", [1, 2, 100])
@pytest.mark.parametrize("total", [0, 1, 7, 50])
def test_every_frame_in_order_whatever_the_depth(depth: int, total: int) -> None:
    with Reader(CountingSource(total), depth) as reader:
        got = []
        while (frame := reader.read()) is not None:
            got.append(frame.sequence)
        assert reader.read() is None  # and stays at the end
    assert got == list(range(total))
    assert reader_threads() == []


def test_reads_no_further_ahead_than_its_depth() -> None:
    source = CountingSource(100)
    with Reader(source, depth=3) as reader:
        assert reader.read() is not None
        time.sleep(0.1)
        assert source.given <= 1 + 3 + 1  # taken, queued, in the thread's hand


@pytest.mark.parametrize("error", [SourceError("file: damaged"), ValueError("a bug"), KeyboardInterrupt()])
def test_errors_arrive_after_the_frames_before_them(error: BaseException) -> None:
    with Reader(CountingSource(3, error)) as reader:
        assert all(reader.read() for _ in range(3))
        for _ in range(2):  # an error stays
            with pytest.raises(type(error)) as caught:
                reader.read()
            assert caught.value is error
    assert reader_threads() == []


@pytest.mark.parametrize("taken", [0, 1, 5])
def test_early_close_ends_the_thread_and_closes_the_source(taken: int) -> None:
    source = CountingSource(10**6)
    reader = Reader(source, depth=2)
    reader.start()
    for _ in range(taken):
        assert reader.read() is not None
    begin = time.monotonic()
    reader.close()
    reader.close()
    assert time.monotonic() - begin < 5
    assert reader_threads() == []
    assert set(source.closed_by) == {threading.current_thread().name}
    assert reader.read() is None


def test_close_without_start_closes_the_source() -> None:
    source = CountingSource(3)
    Reader(source).close()
    assert len(source.closed_by) == 1


def test_close_wakes_a_waiting_consumer() -> None:
    reader = Reader(CountingSource(5, delay_s=0.2))
    reader.start()
    got: list[Frame | None] = []
    consumer = threading.Thread(target=lambda: got.append(reader.read()))
    consumer.start()
    reader.close()
    consumer.join(5)
    assert not consumer.is_alive()


def test_a_stuck_read_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mdrun.sources.reader.JOIN_S", 0.05)
    reader = Reader(CountingSource(1, delay_s=0.5))
    reader.start()
    with pytest.raises(SourceError, match="did not return"):
        reader.close()
    reader._thread.join(5)
    reader.close()
    assert reader_threads() == []
