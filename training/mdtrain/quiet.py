"""Lines of other packages that say nothing to the user."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_line(logger: str, text: str) -> Iterator[None]:
    """Hold back what this logger says with `text` in it, and nothing else."""
    source = logging.getLogger(logger)

    def worth_reading(record: logging.LogRecord) -> bool:
        return text not in record.getMessage()

    source.addFilter(worth_reading)
    try:
        yield
    finally:
        source.removeFilter(worth_reading)
