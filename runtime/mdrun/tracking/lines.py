"""One event as plain JSON data, for every output (docs/tracking.md)."""

from __future__ import annotations

from typing import Any

from mdrun.frames import TrackEvent

BOX_DIGITS = 1  # a tenth of a pixel is finer than any detector
SCORE_DIGITS = 4


def event_to_dict(event: TrackEvent) -> dict[str, Any]:
    """The event with its keys in the documented order; what it does not have is null."""
    return {
        "kind": event.kind,
        "track_id": event.track_id,
        "class": event.class_name,
        "score": round(event.score, SCORE_DIGITS),
        "box_xyxy": [round(edge, BOX_DIGITS) for edge in event.box_xyxy],
        "at_ns": event.at_ns,
        "place": event.place or None,
        "direction": event.direction or None,
        "thermal": event.thermal.value,
        "alarm": event.alarm,
    }
