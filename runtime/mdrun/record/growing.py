"""Files that only grow, and hold whole pieces after every failure."""

from __future__ import annotations

import io
from contextlib import suppress
from pathlib import Path
from typing import Any


class WholeFile(io.FileIO):
    """A new file, unbuffered: what was written survives this process. A full disk is an error, not a short write."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "x")

    def write(self, data: Any) -> int:
        """Write all of it.

        Raises:
            OSError: the disk is full; a part may have been written.
        """
        rest = memoryview(data)
        while rest:
            rest = rest[super().write(rest) or 0 :]
        return len(data)

    def cut(self, size: int) -> None:
        """Take back what lies behind the first `size` bytes, as far as the disk lets us."""
        with suppress(OSError):
            self.truncate(size)
            self.seek(size)


class LineFile:
    """Appends lines.

    Attributes:
        size: bytes in the file.
    """

    def __init__(self, path: Path) -> None:
        self._file = WholeFile(path)
        self.size = 0

    def write(self, line: bytes) -> None:
        """Append one line.

        Raises:
            OSError: the disk is full; the file then ends with the line before.
        """
        try:
            self._file.write(line)
        except OSError:
            self._file.cut(self.size)
            raise
        self.size += len(line)

    def close(self) -> None:
        """Close the file; twice does no harm."""
        self._file.close()
