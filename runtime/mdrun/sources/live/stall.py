"""When a camera that is still connected counts as stalled: the one rule of live cameras and replays."""

from __future__ import annotations

PERIODS = 3  # frames in a row that may be missing before it is more than a busy network
LEAST_NS = 300_000_000  # of a fast camera: shorter pauses are the system's scheduling


def stall_after_ns(period_ns: float) -> int:
    """Nanoseconds without a frame after which a camera of this nominal frame period is stalled."""
    return max(round(PERIODS * period_ns), LEAST_NS)
