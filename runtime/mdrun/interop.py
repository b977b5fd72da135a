"""Results in the types of other libraries, none of which the runtime needs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mdrun.errors import UsageError
from mdrun.frames import Detections, Result

if TYPE_CHECKING:
    import supervision


def to_supervision(found: Result | Detections, classes: Sequence[str] | None = None) -> supervision.Detections:
    """Boxes as `supervision.Detections`, for its annotators, zones, metrics and writers.

    Args:
        found: a result of the task `detect`, or its detections.
        classes: names in the order of the class index; with them `data["class_name"]` is there.

    Returns:
        `xyxy` (N, 4) float32, pixels of the visible frame as captured; `confidence` (N,); `class_id` (N,);
        of a result also `tracker_id` (N,), -1 for no track, and `data["celsius"]` (N,), where it has them.

    Raises:
        UsageError: `supervision` is not installed, or the result has no boxes.
    """
    try:
        import supervision
    except ImportError as error:
        raise UsageError("to_supervision needs the package supervision; pip install supervision") from error
    result = found if isinstance(found, Result) else None
    boxes = found.detections if isinstance(found, Result) else found
    if boxes is None:
        task = "" if result is None else result.task
        raise UsageError(f"supervision.Detections hold boxes, a result of the task {task} has none; wanted detect")
    data: dict[str, Any] = {}
    if classes is not None:
        data["class_name"] = np.array([classes[index] for index in boxes.classes], dtype=np.str_)
    if result is not None and result.celsius is not None:
        data["celsius"] = result.celsius
    return supervision.Detections(
        xyxy=boxes.boxes_xyxy,
        confidence=boxes.scores,
        class_id=boxes.classes,
        tracker_id=None if result is None else result.track_ids,
        data=data,
    )
