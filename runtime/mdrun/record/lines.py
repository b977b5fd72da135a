"""A file of lines that only grows, and holds whole lines after every failure."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


class LineFile:
    """Appends lines. Unbuffered: what was written survives this process.

    Attributes:
        size: bytes in the file.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("xb", buffering=0)
        self.size = 0

    def write(self, line: bytes) -> None:
        """Append one line.

        Raises:
            OSError: the disk is full; the file then ends with the line before.
        """
        rest = memoryview(line)
        try:
            while rest:
                rest = rest[self._file.write(rest) :]
        except OSError:
            with suppress(OSError):
                self._file.truncate(self.size)
            raise
        self.size += len(line)

    def close(self) -> None:
        """Close the file; twice does no harm."""
        self._file.close()
