"""A limit on log records that say the same again and again: a camera that flaps all night must not fill a disk."""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass

PER_MINUTE = 6  # of one kind and text; three alternating states of a camera stay below 8 MB a day
WINDOW_S = 60.0
MOST_TEXTS = 1000  # known at once; beyond that records pass unlimited rather than unseen

_NUMBER = re.compile(r"\d+")  # times, counts and ports do not make another text


@dataclass
class _Window:
    """One minute of one text."""

    began_s: float
    passed: int = 0
    left_out: int = 0
    since: float = 0.0  # of the first of those left out
    last: logging.LogRecord | None = None  # of those left out: what was true in the end is told


class RepeatLimit:
    """Lets through `per_minute` records a minute of each rig, kind and text; the last of the others follows later.

    That one carries the number of the others as `left_out` and `time.time` of the first of them as `since`; `created`
    stays its own. Used under the handler's lock.
    """

    def __init__(self, per_minute: int = PER_MINUTE) -> None:
        self._per_minute = per_minute
        self._windows: dict[tuple[str, str, str], _Window] = {}

    def take(self, record: logging.LogRecord, now_s: float) -> list[logging.LogRecord]:
        """What is to be written now: those held back for long enough, and the record if it may pass."""
        told = self.held(now_s)
        key = (getattr(record, "rig", ""), getattr(record, "kind", record.name), _NUMBER.sub("#", record.getMessage()))
        if key not in self._windows and len(self._windows) >= MOST_TEXTS:
            return [*told, record]
        window = self._windows.setdefault(key, _Window(now_s))
        if window.passed < self._per_minute:
            window.passed += 1
            return [*told, record]
        if window.last is None:
            window.since = record.created
        window.left_out += 1
        window.last = record
        return told

    def held(self, now_s: float | None) -> list[logging.LogRecord]:
        """The last record of each text whose minute is over by then; None: of every text."""
        over = [key for key, window in self._windows.items() if now_s is None or now_s - window.began_s >= WINDOW_S]
        told = []
        for window in map(self._windows.pop, over):
            if window.last is not None:
                window.last.left_out, window.last.since = window.left_out - 1, window.since
                told.append(window.last)
        return sorted(told, key=lambda record: record.created)
