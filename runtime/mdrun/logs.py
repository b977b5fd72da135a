"""Log lines of a running mdrun on stderr: text for people, JSON for collectors. docs/observability.md has the keys.

Neither a camera that flaps nor a terminal that stands still may harm a run: repeats are limited, and a thread of its
own writes.
"""

from __future__ import annotations

import json
import logging
import math
import queue
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, TextIO

from mdrun.clocks import to_utc
from mdrun.errors import UsageError
from mdrun.frames import Notice
from mdrun.log_repeats import RepeatLimit
from mdrun.notices import tell
from mdrun.sources.uri import redact
from mdrun.text import clean

LEVELS = ("debug", "info", "warning", "error")
STYLES = ("text", "json")
LIBRARIES = logging.WARNING  # what other libraries say below that is for their developers
QUEUE = 1000  # lines that wait for the terminal: a burst of all kinds, 200 kB
TICK_S = 1.0  # how often held back repeats are looked at
CLOSE_S = 1.0  # for the last lines; a terminal that stands still loses them

_log = logging.getLogger("mdrun")


def setup(level: str = "info", style: str = "text", stream: TextIO | None = None) -> None:
    """Send all log records to stderr; called again, it replaces what it set up before.

    Args:
        level: least level of mdrun's own records, one of LEVELS; other libraries are heard from `warning` on.
        style: `text` or `json`, one object a line.
        stream: in the place of stderr.

    Raises:
        UsageError: no such level or style.
    """
    if level not in LEVELS:
        raise UsageError(f"log level is {level!r}, wanted one of {', '.join(LEVELS)}")
    if style not in STYLES:
        raise UsageError(f"log format is {style!r}, wanted one of {', '.join(STYLES)}")
    close()
    root = logging.getLogger()
    root.addHandler(LogHandler(sys.stderr if stream is None else stream, JsonLine() if style == "json" else TextLine()))
    root.setLevel(LIBRARIES)
    _log.setLevel(level.upper())


def close() -> None:
    """Write what waits, within a second, and log no more; without `setup` this does nothing."""
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, LogHandler)]:
        root.removeHandler(handler)
        handler.close()


def log_notice(notice: Notice) -> None:
    """Log a notice: trouble as a warning, what ends all results as an error, the rest as information."""
    told = tell(notice)
    if _log.isEnabledFor(told.level):
        data = {"rig": notice.rig, "kind": notice.kind, "code": str(notice.data.get("code", "")), "data": notice.data}
        _log.log(told.level, "%s", told.text, extra=data)


class Redact(logging.Filter):
    """Takes credentials out of a record: its message, its data, its traceback."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Every record passes."""
        record.msg, record.args = redact(record.getMessage()), None
        if record.exc_info:  # the text is there already where another handler was first
            record.exc_text = redact(record.exc_text or logging.Formatter().formatException(record.exc_info))
        if hasattr(record, "data"):
            record.data = _redacted(record.data)
        return True


def _redacted(value: Any) -> Any:
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, float) and not math.isfinite(value):  # JSON has no word for it
        return None
    if isinstance(value, Mapping):
        return {str(key): _redacted(item) for key, item in value.items()}
    return [_redacted(item) for item in value] if isinstance(value, (list, tuple)) else value


class TextLine(logging.Formatter):
    """`2026-11-27T20:52:05.123Z WARNING gate source thermal cam1 lost: … [MDR-405]`; a traceback follows below."""

    def format(self, record: logging.LogRecord) -> str:
        """The record in one line."""
        found = _keys(record)
        code = f" [{found['code']}]" if found["code"] else ""
        others = f"{found['left_out']} more like it since {found['since']}, " if found["left_out"] else ""
        more = f" ({others}this one at {found['at']})" if found["since"] else ""  # held back, and written only now
        words = f"{found['rig'] or '-'} {found['kind']} {clean(found['message'])}"
        line = f"{found['ts']} {found['level'].upper():<7} {words}{code}{more}"
        return f"{line}\n{record.exc_text}" if record.exc_text else line


class JsonLine(logging.Formatter):
    """One JSON object a line; keys are added, never renamed or removed."""

    def format(self, record: logging.LogRecord) -> str:
        """The record in one line."""
        return json.dumps(_keys(record), ensure_ascii=False, default=str)


def _keys(record: logging.LogRecord) -> dict[str, Any]:
    data, since = dict(getattr(record, "data", {})), getattr(record, "since", None)
    return {
        "ts": _stamp(getattr(record, "written", record.created)),
        "level": record.levelname.lower(),
        "rig": getattr(record, "rig", ""),
        "kind": getattr(record, "kind", "log"),
        "code": getattr(record, "code", ""),
        "message": record.getMessage(),
        "left_out": getattr(record, "left_out", 0),
        "since": "" if since is None else _stamp(since),
        "at": _stamp(record.created),
        "data": data | ({"traceback": record.exc_text} if record.exc_text else {}),
    }


def _stamp(time_s: float) -> str:
    return to_utc(round(time_s * 1e6) * 1000)


class LogHandler(logging.Handler):
    """Redacts, limits repeats, and hands lines to a thread that writes them; never waits for the stream.

    Attributes:
        lost: lines that the stream was too slow for.
    """

    def __init__(self, stream: TextIO, formatter: logging.Formatter) -> None:
        """Start the thread."""
        super().__init__()
        self.setFormatter(formatter)
        self.addFilter(Redact())
        self.lost = 0
        self._stream = stream
        self._limit = RepeatLimit()
        self._lines: queue.Queue[str | None] = queue.Queue(QUEUE)
        self._thread = threading.Thread(target=self._work, name="log", daemon=True)
        self._thread.start()

    def handle(self, record: logging.LogRecord) -> bool:
        """As logging has it; never raises, whatever a library puts into a record."""
        try:
            return super().handle(record)
        except Exception:  # noqa: BLE001, RUF100  # a filter raises too, which logging does not catch
            self.handleError(record)
            return False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's name
        """Tell where a record comes from that cannot be written.

        logging's own way waits for stderr, and prints the arguments, which may hold credentials.
        """
        with suppress(Exception):  # an error that cannot be put into words either
            error = sys.exc_info()[1]
            where = f"{record.name}, {record.filename}:{record.lineno}"
            super().handle(_own_record(f"a log line of {where} cannot be written: {type(error).__name__}: {error}"))

    def emit(self, record: logging.LogRecord) -> None:
        """Put the record into the queue, if it is none of too many repeats."""
        self._put(self._limit.take(record, time.monotonic()))

    def close(self) -> None:
        """Write what waits, as far as the stream takes it within a second; twice does no harm."""
        if self._thread.is_alive():
            self._put_held(None)
            with suppress(queue.Full):
                self._lines.put(None, timeout=CLOSE_S / 2)
            self._thread.join(CLOSE_S)
        super().close()

    def _put(self, records: list[logging.LogRecord]) -> None:
        for record in records:
            if self._lines.full():
                self.lost += 1
                continue
            record.written = time.time()  # threads may overtake each other up to here, and repeats were held back
            try:
                self._lines.put_nowait(self.format(record))  # the handler's lock is held: nobody else puts
            except Exception:  # noqa: BLE001, RUF100  # the log's own thread must not end by it either
                self.handleError(record)

    def _put_held(self, now_s: float | None) -> None:
        self.acquire()
        try:
            if self.lost and not self._lines.full():
                lost, self.lost = self.lost, 0
                self._put([_own_record(f"{lost} log lines lost: what reads them was too slow")])
            self._put(self._limit.held(now_s))
        finally:
            self.release()

    def _work(self) -> None:
        """Write lines until the end; a stream that is closed or full takes none."""
        while True:
            try:
                line = self._lines.get(timeout=TICK_S)
            except queue.Empty:
                self._put_held(time.monotonic())
                continue
            if line is None:
                return
            with suppress(OSError, ValueError):
                self._stream.write(line + "\n")
                self._stream.flush()


def _own_record(message: str) -> logging.LogRecord:
    """About the log itself."""
    return logging.LogRecord(_log.name, logging.WARNING, __file__, 0, message, None, None)
