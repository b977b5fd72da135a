"""One thread a source: reads ahead into a short queue and loses nothing."""

from __future__ import annotations

import queue
import threading
from contextlib import suppress
from types import TracebackType

from mdrun.errors import SourceError
from mdrun.frames import Frame
from mdrun.sources.base import Source

DEPTH = 4  # frames read ahead: hides one slow decode, holds 16 MB of 1280x1024 colour
JOIN_S = 10.0  # longer than any single read of a file that is not stuck


class Reader:
    """Reads one opened source in its own thread, in blocking mode: a full queue makes the source wait.

    Attributes:
        source: whose frames are read; closed with the reader.
    """

    def __init__(self, source: Source, depth: int = DEPTH) -> None:
        """Make ready; `start` starts the thread. `depth` is the number of frames read ahead, at least 1."""
        self.source = source
        self._queue: queue.Queue[Frame | BaseException | None] = queue.Queue(max(1, depth))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name=f"read {source.name}", daemon=True)
        self._end: BaseException | None = None
        self._ended = False

    def start(self) -> None:
        """Start reading; twice does no harm."""
        if self._thread.ident is None:
            self._thread.start()

    def read(self) -> Frame | None:
        """Next frame, None at the end and after `close`.

        Raises:
            Whatever the source raised, after all frames before it.
        """
        if not self._ended and not self._stop.is_set():
            item = self._queue.get()
            if isinstance(item, Frame):
                return item
            self._ended, self._end = True, item
        if self._end is not None:
            raise self._end
        return None

    def close(self) -> None:
        """Stop the thread, wait for it, close the source.

        Raises:
            SourceError: if the thread is stuck in a read.
        """
        self._stop.set()
        self._drain()  # a put that waits gets its place; the thread then sees the event
        if self._thread.ident is not None:
            self._thread.join(JOIN_S)
            if self._thread.is_alive():
                raise SourceError(f"{self.source.name}: a read did not return within {JOIN_S:.0f} s; check the disk")
        self._drain()
        self._queue.put_nowait(None)  # for a consumer that still waits
        self.source.close()

    def _work(self) -> None:
        item: Frame | BaseException | None = None
        while not self._stop.is_set():
            try:
                item = self.source.read()
            except BaseException as error:  # raised again where frames are consumed
                item = error
            self._queue.put(item)
            if not isinstance(item, Frame):
                return

    def _drain(self) -> None:
        with suppress(queue.Empty):
            while True:
                self._queue.get_nowait()

    def __enter__(self) -> Reader:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
