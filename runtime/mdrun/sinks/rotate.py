"""Files of a rig that runs for weeks: written under their own name from the first byte on, and rotated.

`results.jsonl` becomes `results-20261127T201500.123Z.jsonl` when its time or size is reached, and a new one begins.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from mdrun.errors import OutputError
from mdrun.frames import Result
from mdrun.sinks import options
from mdrun.sinks.base import Sink
from mdrun.sinks.context import SinkContext
from mdrun.sinks.lines import context_line
from mdrun.sinks.uri import OutputUri

STAMP = "%Y%m%dT%H%M%S"  # ISO 8601 basic format, milliseconds follow: sorts by time, and any file system takes it


@dataclass(frozen=True)
class Rotation:
    """When a file makes room for the next one.

    Attributes:
        period_s: at multiples of this since 1970, so at full hours and at midnight UTC; None: never by time.
        size: before it would grow beyond, in bytes; None: never by size.
        keep: how many of the older files stay; None: all.
    """

    period_s: float | None = None
    size: int | None = None
    keep: int | None = None

    @classmethod
    def from_options(cls, given: Mapping[str, str]) -> Rotation:
        """From the checked options of an output."""
        text = given.get("rotate", "")
        size = options.size(text)
        period_s = options.seconds(text) if text and size is None else None
        return cls(period_s, size, options.option(given, "keep", int, None))

    def due(self, size: int, more: int, written_s: float, now_s: float) -> bool:
        """A file of `size` bytes, last written at `written_s`, makes room before `more` bytes are added."""
        if size == 0:
            return False
        if self.size is not None and size + more > self.size:
            return True
        return self.period_s is not None and int(now_s // self.period_s) != int(written_s // self.period_s)


STDOUT = ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")


class RotatingFile:
    """One open file and the older ones beside it. Used by one thread.

    Opening changes nothing that is there, so that a run that is refused leaves everything as it was: an older file is
    set aside by the first `write`.

    Attributes:
        path: where the current one is.
        written: something was written since it was opened.
    """

    def __init__(self, path: Path, rotation: Rotation, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self.written = False
        self._rotation = rotation
        self._clock = clock
        self._file: FileIO | None = None
        self._regular = True
        self._made = False  # the file was not there before
        self._append = True
        self._size = 0
        self._written_s = 0.0
        self._unsynced = False

    def open(self, *, append: bool) -> None:
        """Open the file, and its folder if it is missing; an older file will be continued, or set aside.

        Raises:
            OutputError: it cannot be written, or another process writes it.
        """
        self.close()
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._open()
        except OSError as error:
            self.close()
            raise OutputError(f"{self.path}: cannot be written ({error.strerror}); choose another --output") from error
        self._append = append

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self._size

    @property
    def opened(self) -> bool:
        """It can be written."""
        return self._file is not None

    def due(self, more: int = 0) -> bool:
        """It makes room before `more` bytes are added; one that the first `write` sets aside makes none of its own."""
        if not (self._append or self.written):
            return False
        return self._regular and self._rotation.due(self._size, more, self._written_s, self._clock())

    def write(self, data: bytes) -> int:
        """Append all of it, or nothing of it.

        Raises:
            OSError: there is no room for it; what was written of it is taken back, and an older file that was set aside
                for it has its name again.
        """
        aside = self.rotate() if not (self._append or self.written) and self._size else None
        if self._file is None:
            raise OutputError(f"{self.path}: is not open")
        left = memoryview(data)
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError:
            if self._regular:
                os.ftruncate(self._file.fileno(), self._size)
            if aside is not None:
                self.close()
                with suppress(OSError):
                    aside.rename(self.path)
                    self._made = False
            raise
        self._size += len(data)
        self._written_s = self._clock()
        self.written = self._unsynced = True
        return len(data)

    def sync(self) -> None:
        """Make sure that what was written survives a power cut."""
        if self._file is not None and self._unsynced and self._regular:
            os.fsync(self._file.fileno())
        self._unsynced = False

    def rotate(self) -> Path | None:
        """Set the current file aside, begin a new one and remove those that are too old; returns where it is now."""
        if not self._regular:
            return None
        self.close()
        aside: Path | None = None
        with suppress(FileNotFoundError):  # somebody has moved or removed it
            aside = self.path.rename(self._aside())
        if self._rotation.keep is not None:
            for old in self.older()[: -self._rotation.keep]:
                old.unlink(missing_ok=True)
        self._open()
        return aside

    def older(self) -> list[Path]:
        """The files set aside, the oldest first."""
        stamp = "[0-9]" * 8 + "T" + "[0-9]" * 6 + "." + "[0-9]" * 3 + "Z"
        return sorted(self.path.parent.glob(f"{_literal(self.path.stem)}-{stamp}{_literal(self.path.suffix)}"))

    def close(self) -> None:
        """Close it; twice does no harm."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def discard(self) -> None:
        """Close it, and remove a file that was not there before and has nothing in it."""
        self.close()
        if self._made and not self._size:
            self.path.unlink(missing_ok=True)

    def _open(self) -> None:
        self._made = not self.path.exists()
        own = os.dup(1) if is_stdout(self.path) else self.path  # one place in the file for all of us
        file = open(own, "ab", buffering=0)  # noqa: SIM115, PTH123  # closed by `close`; unbuffered: FileIO
        self._file = file
        found = os.fstat(file.fileno())
        # a pipe or standard output cannot be locked, cut or renamed
        self._regular = stat.S_ISREG(found.st_mode) and not is_stdout(self.path)
        self._size = found.st_size if self._regular else 0
        self._written_s = found.st_mtime
        self.written = False
        if self._regular:
            _lock(file, self.path)

    def _aside(self) -> Path:
        """A name that is free, behind that of the newest one: names sort by age."""
        moment_ms = int(self._clock() * 1000)
        while (place := self._named(moment_ms)).exists():
            moment_ms += 1
        return place

    def _named(self, moment_ms: int) -> Path:
        stamp = time.strftime(STAMP, time.gmtime(moment_ms // 1000))
        return self.path.with_name(f"{self.path.stem}-{stamp}.{moment_ms % 1000:03d}Z{self.path.suffix}")


class LiveJsonlSink(Sink):
    """Appends one line a result, whole and at once, so that `tail -F` shows it."""

    code = OutputError.code

    def __init__(self, path: Path, uri: OutputUri, context: SinkContext) -> None:
        """Prepare the file; `start` opens it.

        Args:
            path: of the file.
            uri: `jsonl:…` with its options `rotate`, `keep`, `sync`.
            context: the rig.
        """
        self._name = str(uri)
        self._context = context
        self._file = RotatingFile(path, Rotation.from_options(uri.options))
        self._sync = uri.options.get("sync", "second")

    @property
    def name(self) -> str:
        """The output without its options."""
        return self._name

    def start(self) -> None:
        """Open the file."""
        self._file.open(append=True)

    def write(self, result: Result) -> None:
        """Append one line, a new one behind an unfinished line of a run that lost its power."""
        text = json.dumps(context_line(result, self._context), ensure_ascii=False) + "\n"
        line = text.encode("utf-8", "backslashreplace")
        if self._file.due(len(line)):
            self._file.rotate()
        if not self._file.opened:  # a rotation has failed half-way
            self._file.open(append=True)
        if self._file.size and not self._file.written and _last_byte(self._file.path) != b"\n":
            line = b"\n" + line
        self._file.write(line)
        if self._sync == "always":
            self._file.sync()

    def tick(self) -> None:
        """Bring the lines of the last second to the disk."""
        if self._sync == "second":
            self._file.sync()

    def finish(self) -> None:
        """Bring everything to the disk and close the file."""
        self._file.sync()
        self._file.close()

    def abandon(self) -> None:
        """Close the file as it is; without a line it was made for nothing."""
        self._file.discard()

    def commit(self) -> Path | None:
        """The file has had its name all the time."""
        return self._file.path


def is_stdout(path: Path | str) -> bool:
    """The name stands for this process's standard output."""
    return str(path) in STDOUT


def _lock(file: FileIO, path: Path) -> None:
    """Keep other processes from writing the same file; the lock ends with the process."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise OutputError(f"{path}: another process writes it; choose another --output") from None
    except OSError as error:  # a network file system without locks: then without
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
            raise


def _last_byte(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1)


def _literal(text: str) -> str:
    """The text with the wildcards of `glob` made plain."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in text)
