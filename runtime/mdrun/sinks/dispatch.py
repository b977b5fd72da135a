"""Hands the results of a running rig to its sinks: one thread and one bounded queue each, and nothing ever waits.

A sink that is slow, hangs, fails or is gone costs its own results and nobody else's; docs/outputs.md has the rules.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from mdrun.clocks import wall_minus_monotonic
from mdrun.errors import MdrunError, SinkError
from mdrun.frames import Notice, Result
from mdrun.monitor import Monitor, SinkStatus
from mdrun.sinks.base import QUEUE_SIZE, FileSink, Sink
from mdrun.sinks.mailbox import Mailbox
from mdrun.sources.uri import redact

START_S = 5.0  # a port is bound or a file opened long before
FINISH_S = 1.5  # of the two seconds that a whole run may take to end
DRAIN = 0.6  # share of that in which what waits may still be written; the rest is for completing files
TICK_S = 1.0
PAUSE_S = (1.0, 30.0)  # before the first new attempt after a failure, and the longest; doubled in between

Tell = Callable[["_Worker", str, str], None]


class Dispatch:
    """The sinks of one running rig.

    `offer` and `notify` never block and never raise. Results that a sink wants = written + dropped + errors, once it
    has ended; before, some may wait.
    """

    def __init__(
        self,
        sinks: Sequence[Sink],
        monitor: Monitor,
        *,
        queue_size: int = QUEUE_SIZE,
        on_notice: Callable[[Notice], None] | None = None,
        wait_s: float = 0.0,
        now_ns: Callable[[], int] = time.monotonic_ns,
        to_wall_ns: Callable[[int], int | None] = lambda at_ns: at_ns + wall_minus_monotonic(),
    ) -> None:
        """Prepare the queues; `start` starts the threads.

        Args:
            sinks: where results go.
            monitor: gets the state of every sink, by its name.
            queue_size: results that may wait for one sink.
            on_notice: gets the notices about sinks, which the sinks get without it; None: the monitor does.
            wait_s: longest that `offer` waits for room in one queue; above 0 only for replays, which can wait.
            now_ns: the clock of the frames, which notices about sinks are told by.
            to_wall_ns: brings such a time to the wall clock.
        """
        self._rig = monitor.rig
        self._on_notice = on_notice or monitor.add_notice
        self._wait_s = wait_s
        self._now_ns = now_ns
        self._to_wall_ns = to_wall_ns
        self._workers = [
            _Worker(sink, name, Mailbox(queue_size, sink.overflow), monitor, self._tell)
            for sink, name in zip(sinks, _names(sinks), strict=True)
        ]

    def start(self) -> None:
        """Start every sink, side by side.

        Raises:
            MdrunError: a vital sink cannot start; the others are let go.
        """
        end = time.monotonic() + START_S
        for worker in self._workers:
            worker.thread.start()
        for worker in self._workers:
            worker.begun.wait(max(0.0, end - time.monotonic()))
        for worker in self._workers:
            failure = (
                worker.failure if worker.begun.is_set() else SinkError(f"{worker.name}: not ready in {START_S:g} s")
            )
            if worker.sink.vital and failure is not None:
                self.discard()
                raise failure

    def offer(self, result: Result) -> None:
        """Hand a result to every sink."""
        for worker in self._workers:
            worker.offer(result, self._wait_s)

    def notify(self, notice: Notice) -> None:
        """Hand a notice to every sink."""
        for worker in self._workers:
            worker.mail.notify(notice)

    def finish(self, timeout_s: float = FINISH_S) -> list[Path]:
        """Let every sink complete its work, side by side, and name the files; returns their paths.

        A sink that is not done by then is left behind, and counted as failed.
        """
        self._end(timeout_s)
        return [path for worker in self._workers if (path := worker.commit()) is not None]

    def discard(self, timeout_s: float = FINISH_S) -> None:
        """Let go of every sink; files that are not complete are removed."""
        for worker in self._workers:
            worker.discarded = True
        self._end(timeout_s)

    def _end(self, timeout_s: float) -> None:
        end = time.monotonic() + timeout_s
        for worker in self._workers:
            worker.close(end - (1 - DRAIN) * timeout_s)
        for worker in self._workers:
            worker.join(max(0.0, end - time.monotonic()))

    def _tell(self, about: _Worker, message: str, code: str) -> None:
        """A sink began to fail (message and code) or works again (both empty): the other sinks get to know."""
        data = {"sink": about.name, "alive": not message, "code": code, "message": message}
        at_ns = self._now_ns()
        notice = Notice("sink", self._rig, at_ns, data, self._to_wall_ns(at_ns))
        with suppress(Exception):  # this thread is a sink's: nobody here could mend it
            self._on_notice(notice)
        for worker in self._workers:
            if worker is not about:
                worker.mail.notify(notice)


class _Worker:
    """One sink, its queue, its thread and its counts.

    Attributes:
        begun: the sink was started, or could not be.
        failure: why it could not be started.
        discarded: end without completing anything.
    """

    def __init__(self, sink: Sink, name: str, mail: Mailbox, monitor: Monitor, tell: Tell) -> None:
        self.sink, self.name, self.mail = sink, name, mail
        self.begun = threading.Event()
        self.failure: Exception | None = None
        self.discarded = False
        self.thread = threading.Thread(target=self._work, name=f"sink-{name}", daemon=True)
        self._monitor, self._tell = monitor, tell
        self._lock = threading.Lock()
        self._status = SinkStatus()  # what this thread counts; `_publish` adds what mailbox and sink count
        self._message = self._code = ""  # of the failure that lasts
        self._told = False
        self._started = self._dead = self._done = False
        self._writing = self._left = False
        self._pause_s = 0.0
        self._resume_at = 0.0
        self._drain_until = float("inf")
        monitor.set_sink(name, SinkStatus())

    def offer(self, result: Result, wait_s: float) -> None:
        """From the pipeline's thread."""
        if self.sink.wants(result) and self.mail.offer(result, wait_s):
            self._publish()

    def close(self, drain_until: float) -> None:
        """Take no more; what waits is written until then (`time.monotonic`)."""
        self._drain_until = drain_until
        self.mail.close()
        self.sink.leave()

    def join(self, timeout_s: float) -> None:
        """Wait for the end of the thread; after that the sink is given up."""
        if not self.thread.ident:
            return
        self.thread.join(timeout_s)
        if self.thread.is_alive():
            self.mail.clear()
            self._count(errors=self._writing)  # it hangs in this result
            self._message, self._code = "did not end in time", self.sink.code
            if isinstance(self.sink, FileSink):
                self._lose()
                with suppress(OSError):
                    self.sink.remove()
            self._publish(last=True)
        else:
            self._publish()

    def commit(self) -> Path | None:
        """Name the file of a sink that has finished."""
        if not self._done:
            return None
        try:
            return self.sink.commit()
        except Exception as error:  # one file less; the others still get their names
            self._fail(error)
            self._publish()
            return None

    def _work(self) -> None:
        try:
            self.sink.start()
            self._started = True
        except Exception as error:  # raised by `Dispatch.start` where it matters, else told
            self.failure = error
            self._fail(error)
        self.begun.set()
        self._publish()
        ticked = time.monotonic()
        while not self.mail.ended:
            item = self.mail.take(TICK_S)
            if self.discarded or time.monotonic() > self._drain_until:
                self._count(dropped=isinstance(item, Result))
                self.mail.clear()
                break
            if item is not None:
                self._handle(item)
            if time.monotonic() - ticked >= TICK_S:
                ticked = time.monotonic()
                if self._ready():
                    self._attempt(self.sink.tick, proof=False)
            self._publish()
        self._end()

    def _handle(self, item: Result | Notice) -> None:
        if isinstance(item, Notice):
            if self._ready():
                self._attempt(lambda: self.sink.notice(item))
        elif self._dead:
            self._count(errors=1)
        elif not self._ready():
            self._count(dropped=1)
        else:
            self._writing = True
            written = self._attempt(lambda: self.sink.write(item))
            self._writing = False
            self._count(written=written, errors=not written)

    def _ready(self) -> bool:
        """The sink is started and no pause after a failure is on."""
        if self._dead or time.monotonic() < self._resume_at:
            return False
        if not self._started:
            self._started = self._attempt(self.sink.start)
        return self._started

    def _attempt(self, call: Callable[[], None], *, proof: bool = True) -> bool:
        """The call succeeded, which is a `proof` that the sink works again."""
        try:
            call()
        except Exception as error:  # counted and told: it must not reach the other sinks
            self._fail(error)
            return False
        if proof:
            self._message = ""
            if not self.sink.problem:  # taken, but nothing arrives: the pauses go on growing
                self._pause_s = 0.0
        return True

    def _fail(self, error: Exception) -> None:
        """Keep the message; pause before the next attempt, or give the sink up where none can help."""
        self._message = _one_line(error)
        self._code = error.code if isinstance(error, MdrunError) else self.sink.code
        first, longest = PAUSE_S
        self._pause_s = min(max(first, 2 * self._pause_s), longest)
        self._resume_at = time.monotonic() + self._pause_s
        if not self.sink.retries and not self._dead:
            self._dead = True
            self._let_go()

    def _end(self) -> None:
        if self._dead:
            return
        if self.discarded or not self._started:
            self._let_go()
        elif self._attempt(self.sink.finish):
            self._done = True
        self._publish()

    def _let_go(self) -> None:
        with suppress(Exception):  # the failure that led here is the one to tell
            if isinstance(self.sink, FileSink):
                self._lose()
                self.sink.discard()
            else:
                self.sink.abandon()

    def _lose(self) -> None:
        """A file that is removed takes with it what was written: errors after a failure, else dropped."""
        with self._lock:
            if self._left:
                return
            lost, self._status.written = self._status.written, 0
            if self._message:
                self._status.errors += lost
            else:
                self._status.dropped += lost

    def _count(self, written: int = 0, dropped: int = 0, errors: int = 0) -> None:
        with self._lock:
            if self._left:  # what it still does after the end belongs to no run
                return
            self._status.written += written
            self._status.dropped += dropped
            self._status.errors += errors

    def _publish(self, *, last: bool = False) -> None:
        """The monitor gets the state; a change between working and failing is told. Nothing follows the `last` one."""
        message, code = (self._message, self._code) if self._message else (self.sink.problem, self.sink.code)
        with self._lock:
            if self._left:
                return
            self._left = last
            delivered, given_up = self.sink.delivered, self.sink.given_up
            if last and delivered is not None:
                given_up = self._status.written - delivered  # what has not arrived by now
            status = replace(
                self._status,
                written=self._status.written if delivered is None else delivered,
                dropped=self._status.dropped + self.mail.dropped + given_up,
                lost=self.mail.notices_dropped + self.sink.lost,
                alive=not message,
                message=message,
            )
            changed = bool(message) != self._told
            self._told = bool(message)
            self._monitor.set_sink(self.name, status)
        if changed:
            self._tell(self, message, code if message else "")


def _names(sinks: Sequence[Sink]) -> list[str]:
    """A name each, numbered where two are called the same."""
    names: list[str] = []
    for sink in sinks:
        same = sum(name.partition(" #")[0] == sink.name for name in names)
        names.append(f"{sink.name} #{same + 1}" if same else sink.name)
    return names


def _one_line(error: Exception) -> str:
    """The error in the user's words, without credentials."""
    text = str(error) if isinstance(error, MdrunError) else f"{type(error).__name__}: {error}"
    if isinstance(error, OSError) and error.strerror and not isinstance(error, MdrunError):
        text = error.strerror
    return redact(" ".join(text.split()))
