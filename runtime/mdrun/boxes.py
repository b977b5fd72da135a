"""Boxes as (N, 4) arrays of x1, y1, x2, y2 in pixels: overlap, clipping, suppression.

numpy only: a crowded frame has a few hundred boxes, and the loop below needs no image library.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float32]


def areas(boxes_xyxy: Boxes) -> NDArray[np.float32]:
    """Area of each box, square pixels, (N,); 0 where a box is turned inside out."""
    extent = np.maximum(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], 0)
    return np.asarray(extent[:, 0] * extent[:, 1], dtype=np.float32)


def iou_matrix(first_xyxy: Boxes, second_xyxy: Boxes) -> NDArray[np.float32]:
    """Intersection over union of every box with every other, (N, M) in [0, 1]; 0 where both are empty."""
    shared, union = _overlap(first_xyxy, second_xyxy)
    ratio: NDArray[np.float32] = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    return ratio


def scale(boxes_xyxy: Boxes, from_wh: tuple[int, int], to_wh: tuple[int, int]) -> Boxes:
    """Boxes of an image of one size in the pixels of the same image at another size."""
    factor = np.array([to_wh[0] / from_wh[0], to_wh[1] / from_wh[1]] * 2, dtype=np.float32)
    return boxes_xyxy * factor


def clip(boxes_xyxy: Boxes, size_wh: tuple[int, int]) -> Boxes:
    """Boxes cut at the border of an image."""
    return np.clip(boxes_xyxy, 0, np.array([*size_wh, *size_wh], dtype=np.float32))


def suppress(
    boxes_xyxy: Boxes, scores: NDArray[np.float32], classes: NDArray[np.integer], iou: float
) -> NDArray[np.intp]:
    """Greedy non-maximum suppression within each class.

    Args:
        boxes_xyxy: (N, 4).
        scores: (N,), in any order.
        classes: (N,); boxes of different classes never suppress each other.
        iou: a box that overlaps a better one by more than this goes.

    Returns:
        Indices of the boxes that stay, best first; equal scores keep their order.
    """
    order = np.argsort(-scores, kind="stable")
    boxes, kinds = boxes_xyxy[order], classes[order]
    kept = [np.empty(0, np.intp)]
    for kind in np.unique(kinds):
        members = np.flatnonzero(kinds == kind)
        kept.append(members[_survivors(boxes[members], iou)])
    return order[np.sort(np.concatenate(kept))]


def _survivors(boxes_xyxy: Boxes, iou: float) -> list[int]:
    """Greedy suppression of boxes that are sorted best first."""
    shared, union = _overlap(boxes_xyxy, boxes_xyxy)
    beats = shared > iou * union
    gone = np.zeros(len(boxes_xyxy), dtype=bool)
    kept = []
    for index, row in enumerate(beats):
        if not gone[index]:
            kept.append(index)
            gone |= row
    return kept


def _overlap(first_xyxy: Boxes, second_xyxy: Boxes) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Areas of intersection and union, (N, M) each; edge by edge in place, four times faster than on (N, M, 2)."""
    left, top, right, bottom = np.ascontiguousarray(first_xyxy.T)[:, :, None]
    other_left, other_top, other_right, other_bottom = np.ascontiguousarray(second_xyxy.T)
    shared = np.minimum(right, other_right)
    shared -= np.maximum(left, other_left)
    np.maximum(shared, 0, out=shared)
    height = np.minimum(bottom, other_bottom)
    height -= np.maximum(top, other_top)
    np.maximum(height, 0, out=height)
    shared *= height
    union = areas(first_xyxy)[:, None] + areas(second_xyxy)[None, :]
    union -= shared
    return shared, union
