"""What waits for one sink of a running rig: notices first, then results; bounded, and every loss counted."""

from __future__ import annotations

import threading
import time
from collections import deque

from mdrun.frames import Notice, Result
from mdrun.sinks.base import Overflow

NOTICES = 64  # more than one rig tells in a minute, even with a camera that comes and goes
LATEST = 2  # what shows the present keeps the latest result, and the latest that brought an event


class Mailbox:
    """Results and notices for one sink. Every method may be called from any thread.

    A result that brings events is given up only where every waiting result does.

    Attributes:
        dropped: results that were given up.
        notices_dropped: notices that were given up, the oldest first.
    """

    def __init__(self, size: int, overflow: Overflow) -> None:
        self.dropped = 0
        self.notices_dropped = 0
        self._oldest_first = overflow is Overflow.KEEP_LATEST
        self._size = min(size, LATEST) if self._oldest_first else size
        self._results: deque[Result] = deque()
        self._notices: deque[Notice] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._hangs = False  # waited for in vain; nobody waits again before something is taken

    def offer(self, result: Result, wait_s: float = 0.0) -> bool:
        """Add a result; True where it, or another in its place, was given up after waiting for room."""
        with self._changed:
            if wait_s and not self._hangs and len(self._results) >= self._size:
                self._hangs = not self._changed.wait_for(
                    lambda: len(self._results) < self._size or self._closed, wait_s
                )
            if not self._closed:
                self._results.append(result)
                if len(self._results) <= self._size:
                    self._changed.notify_all()
                    return False
                del self._results[self._victim()]
            self.dropped += 1
            return True

    def notify(self, notice: Notice) -> None:
        """Add a notice."""
        with self._changed:
            if self._closed:
                return
            if len(self._notices) == NOTICES:
                self._notices.popleft()
                self.notices_dropped += 1
            self._notices.append(notice)
            self._changed.notify_all()

    def take(self, timeout_s: float) -> Notice | Result | None:
        """The next item; None when none came in time, or it is closed and empty."""
        end = time.monotonic() + timeout_s
        with self._changed:
            while not (self._notices or self._results or self._closed):
                left = end - time.monotonic()
                if left <= 0:
                    return None
                self._changed.wait(left)
            self._hangs = False
            self._changed.notify_all()  # for an `offer` that waits for room
            if self._notices:
                return self._notices.popleft()
            return self._results.popleft() if self._results else None

    def close(self) -> None:
        """Take nothing more in; what waits can still be taken out."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def clear(self) -> None:
        """Give up what waits."""
        with self._changed:
            self.dropped += len(self._results)
            self.notices_dropped += len(self._notices)
            self._results.clear()
            self._notices.clear()

    @property
    def ended(self) -> bool:
        """It is closed and empty."""
        with self._changed:
            return self._closed and not self._notices and not self._results

    def _victim(self) -> int:
        """Place of the result to give up, the newest having been added."""
        places = range(len(self._results))
        order = places if self._oldest_first else places[::-1]
        return next((place for place in order if not self._results[place].events), order[0])
