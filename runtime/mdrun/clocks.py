"""The machine's two clocks: the monotonic one, which intervals are measured by, and the wall clock, for people."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def wall_minus_monotonic() -> int:
    """Offset of this machine's wall clock to its monotonic clock, nanoseconds; changes when the clock is set."""
    return time.time_ns() - time.monotonic_ns()


def to_utc(wall_ns: int) -> str:
    """Nanoseconds since 1970 as ISO 8601 in UTC, to the millisecond: `2026-11-28T03:12:09.417Z`."""
    moment = EPOCH + timedelta(microseconds=wall_ns // 1000)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
