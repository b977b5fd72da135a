"""SIGINT and SIGTERM as a polite request: the frame in hand is finished, files are closed."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ECHO_S = 0.3  # `timeout` and terminals signal a process and its group: that is one request, not two
SHOW_CURSOR = b"\x1b[?25h\n"  # a progress bar hides it


def leave_quietly() -> None:
    """Until `as_usual` or a StopRequest a signal ends the process at once, without a word: nothing has been begun yet.

    For imports, where a KeyboardInterrupt ends in a traceback or is lost, and for containers, whose first process the
    system kills by no signal that it has not asked for. What is ignored (`nohup`) stays so.
    """
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _leave)


def as_usual() -> None:
    """Signals as Python has them: KeyboardInterrupt, and an end at once even in the middle of a library's call."""
    for number in SIGNALS:
        if signal.getsignal(number) is _leave:
            signal.signal(number, signal.default_int_handler if number is signal.SIGINT else signal.SIG_DFL)


def _leave(number: int, _: FrameType | None) -> NoReturn:
    os._exit(128 + number)


@contextmanager
def held() -> Iterator[None]:
    """While entered, what a handler would raise waits for the end; a second signal ends the process at once.

    For libraries that call back into Python: an exception that comes up there is theirs, and they swallow it. What is
    ignored, or left to the system, stays so; outside the main thread nothing is held.
    """
    before = {number: handler for number in SIGNALS if callable(handler := signal.getsignal(number))}
    noted: list[tuple[int, float]] = []

    def note(number: int, _: FrameType | None) -> None:
        if not noted:
            noted.append((number, time.monotonic()))
        elif time.monotonic() - noted[0][1] > ECHO_S:
            os._exit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    for number in before:
        signal.signal(number, note)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for caught, _ in noted:
            before[signal.Signals(caught)](caught, None)


class StopRequest:
    """While entered, the first signal is only noted; the second ends the process at once.

    Outside the main thread, where Python allows no handlers, it does nothing. An exception out of a handler could
    come up anywhere, in a lock or a destructor as well, and be lost or never let go: so the second signal cleans up
    and leaves without one.

    Attributes:
        signal: what was caught, None so far.
        hold: the second signal is passed over: set while files get their names, a few renames that belong together.
    """

    def __init__(self, clean_up: Callable[[], None]) -> None:
        """`clean_up` removes unfinished files; it must not wait for anything."""
        self._clean_up = clean_up
        self.signal: signal.Signals | None = None
        self.hold = False
        self._first_s = 0.0
        self._before: dict[signal.Signals, Any] = {}

    @property
    def exit_code(self) -> int:
        """128 + signal number as shells report it; 0 without a signal."""
        return 0 if self.signal is None else 128 + self.signal

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, _: FrameType | None) -> None:
        if self.signal is None:
            self.signal = signal.Signals(number)
            self._first_s = time.monotonic()
            return
        if self.hold or time.monotonic() - self._first_s < ECHO_S:
            return
        self._clean_up()
        os.write(2, (SHOW_CURSOR if os.isatty(2) else b"") + b"mdrun: error: interrupted\n")
        os._exit(128 + number)
