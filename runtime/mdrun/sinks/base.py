"""What every place for results must do, and the queue that keeps it from blocking the cameras."""

from __future__ import annotations

import queue
import sys
import threading
from abc import ABC, abstractmethod
from enum import Enum
from pathlib import Path

from mdrun.errors import MdrunError, OutputError, SinkError
from mdrun.files import PartialFile
from mdrun.frames import Notice, Result

QUEUE_SIZE = 8  # a quarter of a second at 30 Hz; at 1280x1024 about 32 MB of images


class Overflow(str, Enum):
    """What happens to a result when a sink's queue is full."""

    WAIT = "wait"  # the pipeline waits: recorded sources, nothing is lost
    DROP_NEWEST = "drop_newest"  # the result skips this sink and is counted: live cameras
    KEEP_LATEST = "keep_latest"  # older results make room for it and are counted: what shows the present


class Sink(ABC):
    """One place for results: a file, a server, a page.

    `start`, `write`, `notice`, `tick` and `finish` run on the sink's own thread (with a SinkWorker `finish` on the
    caller's, once that thread has ended), so they may take their time: the pipeline never waits for them.

    Attributes:
        vital: a failure ends the run (in live runs: a failure to start). False: it is counted and told, and the sink
            goes on or stays silent by itself.
        overflow: what a full queue means in live runs.
        retries: a failed call may be followed by another, for example after a reconnect. False: what it writes is
            damaged then.
        code: of failures that bring none of their own, as docs/errors.md lists them.
        problem: why nothing arrives at the moment although no call failed, without credentials; empty: all is well.
        given_up: results that `write` took and that the sink had to give up later.
        lost: notices and other messages that the sink had to give up.
    """

    vital: bool = True
    overflow: Overflow = Overflow.DROP_NEWEST
    retries: bool = True
    code: str = SinkError.code
    problem: str = ""
    given_up: int = 0
    lost: int = 0

    @property
    @abstractmethod
    def name(self) -> str:
        """How summaries, metrics and notices call it; never holds credentials."""

    @property
    def delivered(self) -> int | None:
        """Results that have arrived, where that is known only after `write`; None: `write` delivers them."""
        return None

    def start(self) -> None:
        """Connect or open, before the first result; fails where that can never work."""

    def wants(self, result: Result) -> bool:  # noqa: ARG002  # for sinks that choose
        """The result is one for this sink; else it is neither queued nor counted. On the pipeline's thread: cheap."""
        return True

    @abstractmethod
    def write(self, result: Result) -> None:
        """Take one result."""

    def notice(self, notice: Notice) -> None:
        """Take one notice; sinks that only hold results pass it over."""

    def tick(self) -> None:
        """Called about once a second in live runs, also while no result comes."""

    def leave(self) -> None:
        """The run ends: a `write` that waits for somebody waits no longer. On another thread: cheap."""

    def commit(self) -> Path | None:
        """Name what `finish` has completed; None where there is no file."""
        return None

    @abstractmethod
    def finish(self) -> None:
        """Complete what is begun: a file under its temporary name, a last message."""

    @abstractmethod
    def abandon(self) -> None:
        """Release what is open without completing it; after `finish` there is nothing to do."""


class FileSink(Sink):
    """One output file, or a folder of files, that has its final name only once it is complete."""

    retries = False
    code = OutputError.code

    def __init__(self, path: Path, partial: type[PartialFile] = PartialFile) -> None:
        self._file = partial(path)

    @property
    def name(self) -> str:
        """The file's name; a folder's ends in a slash."""
        return self._file.path.name

    @property
    def written(self) -> bool:
        """There is something for `commit` to name."""
        return self._file.part.exists()

    def commit(self) -> Path | None:
        """Give the complete file its name; None where there was nothing to write."""
        return self._file.commit()

    def discard(self) -> None:
        """Remove whatever was written, also where closing it fails: on a full disk the last bytes do not fit."""
        try:
            self.abandon()
        finally:
            self.remove()

    def remove(self) -> None:
        """Remove the unfinished file, open or not."""
        self._file.discard()


class SinkWorker:
    """Feeds one sink from a bounded queue on a thread of its own.

    Attributes:
        sink: where the results go.
        drops: results that skipped the sink because its queue was full.
    """

    def __init__(self, sink: FileSink, policy: Overflow = Overflow.WAIT, size: int = QUEUE_SIZE) -> None:
        self.sink = sink
        self.drops = 0
        self._policy = policy
        self._queue: queue.Queue[Result | None] = queue.Queue(size)
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._work, name=f"sink-{sink.name}", daemon=True)
        self._thread.start()

    def offer(self, result: Result) -> None:
        """Hand over one result; on a full queue the policy decides.

        Raises:
            MdrunError: the sink failed on an earlier result.
        """
        self._check()
        if self._policy is Overflow.WAIT:
            self._queue.put(result)
            return
        try:
            self._queue.put_nowait(result)
        except queue.Full:
            self.drops += 1

    def finish(self) -> None:
        """Write what is queued, complete the file, end the thread.

        Raises:
            MdrunError: the sink failed.
        """
        self._stop()
        self._check()
        try:
            self.sink.finish()
        except Exception as error:
            raise _as_output_error(self.sink, error) from error

    def discard(self) -> None:
        """End the thread and remove whatever was written."""
        self._error = self._error or OutputError("discarded")  # the rest of the queue is skipped
        self._stop()
        self.sink.discard()

    def _stop(self) -> None:
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()

    def _work(self) -> None:
        while (result := self._queue.get()) is not None:
            if self._error is None:
                try:
                    self.sink.write(result)
                except Exception as error:  # noqa: BLE001, RUF100  # raised again in the pipeline's thread
                    self._error = error

    def _check(self) -> None:
        if self._error is not None:
            raise _as_output_error(self.sink, self._error) from self._error


def _as_output_error(sink: FileSink, error: Exception) -> Exception:
    """A full disk or a refused encoder in the user's words; anything else is our own mistake and stays as it is."""
    if isinstance(error, (OSError, *_encoder_errors())) and not isinstance(error, MdrunError):
        reason = getattr(error, "strerror", None) or str(error)
        return OutputError(f"{sink.name}: cannot be written ({reason}); free some space or choose another --output")
    return error


def _encoder_errors() -> tuple[type[Exception], ...]:
    """PyAV's own base class, where PyAV is in use at all."""
    av = sys.modules.get("av")
    return () if av is None else (av.FFmpegError,)
