"""Boxes as (N, 4) arrays of x1, y1, x2, y2 in pixels: overlap, clipping, suppression.

A crowded frame has a few hundred boxes; suppression is OpenCV's, a third of the time of one in NumPy.
"""

from __future__ import annotations

from typing import Any

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
    limits = np.array([*size_wh, *size_wh], dtype=np.float32)
    return np.asarray(np.minimum(np.maximum(boxes_xyxy, 0), limits))  # a third of the time of np.clip on few boxes


def suppress(
    boxes_xyxy: Boxes, scores: NDArray[np.float32], classes: NDArray[np.integer], iou: float
) -> NDArray[np.intp]:
    """Greedy non-maximum suppression within each class.

    Args:
        boxes_xyxy: (N, 4), none of them empty.
        scores: (N,), in any order.
        classes: (N,); boxes of different classes never suppress each other.
        iou: a box that overlaps a better one by more than this goes.

    Returns:
        Indices of the boxes that stay, best first; equal scores keep their order.
    """
    import cv2

    if not len(boxes_xyxy):
        return np.empty(0, np.intp)
    corner_and_size = boxes_xyxy.astype(np.float64)
    corner_and_size[:, 2:] -= corner_and_size[:, :2]
    suppress_batched: Any = cv2.dnn.NMSBoxesBatched  # its stub knows lists only
    kept = suppress_batched(corner_and_size, scores, classes.astype(np.int32), -np.inf, iou)
    return np.asarray(kept, np.intp)


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
