"""Anchors and box coding of the RetinaNet head.

Each place has every scale in three shapes (width:height 1/2, 1, 2). Nine anchors are RetinaNet's (Lin et al., 2017,
section 4: three scales of an octave, base 4 strides). Six, and the variances 0.1 and 0.2, are those of the code of
Mutual Guidance (zhanghengdev/MutualGuide of 2020-10), with a base of 2 strides instead of 3: half of the persons of
MSRS are lower than 54 of 480 pixels. Three are the middle of the six.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor

AnchorCount = Literal[3, 6, 9]
RATIOS = (0.5, 1.0, 2.0)  # width / height
SCALES: dict[AnchorCount, tuple[float, ...]] = {  # side of the square anchor in strides
    3: (2.0 * 2**0.25,),
    6: (2.0, 2.0 * 2**0.5),
    9: (4.0, 4.0 * 2 ** (1 / 3), 4.0 * 2 ** (2 / 3)),
}
VARIANCES = (0.1, 0.2)
MAX_LOG_SIZE = math.log(1000.0 / 16.0)  # keeps exp() finite, as every public RetinaNet does


def level_shapes(height: int, width: int, strides: tuple[int, ...]) -> list[tuple[int, int]]:
    """Feature map sizes (rows, columns) of the pyramid for an image of height x width pixels."""
    return [(math.ceil(height / stride), math.ceil(width / stride)) for stride in strides]


def make_anchors(height: int, width: int, strides: tuple[int, ...], count: AnchorCount = 6) -> Tensor:
    """All anchors of an image, (A, 4) as cx, cy, w, h in pixels; order: level, row, column, anchor.

    `count` is the number of anchors a place.
    """
    levels = []
    for stride, (rows, columns) in zip(strides, level_shapes(height, width, strides), strict=True):
        cy, cx = torch.meshgrid(
            (torch.arange(rows) + 0.5) * stride, (torch.arange(columns) + 0.5) * stride, indexing="ij"
        )
        sides = [scale * stride for scale in SCALES[count]]
        sizes = torch.tensor([(side * math.sqrt(r), side / math.sqrt(r)) for side in sides for r in RATIOS])
        centres = torch.stack([cx, cy], -1).reshape(-1, 1, 2).expand(-1, len(sizes), 2)
        levels.append(torch.cat([centres, sizes.expand(len(centres), -1, 2)], -1).reshape(-1, 4))
    return torch.cat(levels)


def to_xyxy(boxes_cxcywh: Tensor) -> Tensor:
    """(..., 4) centre form to corner form."""
    centre, size = boxes_cxcywh[..., :2], boxes_cxcywh[..., 2:]
    return torch.cat([centre - size / 2, centre + size / 2], -1)


def encode(boxes_xyxy: Tensor, anchors: Tensor) -> Tensor:
    """Regression targets of boxes against their anchors, both (N, 4)."""
    size = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]).clamp(min=1e-3)
    centre = (boxes_xyxy[:, 2:] + boxes_xyxy[:, :2]) / 2
    offset = (centre - anchors[:, :2]) / anchors[:, 2:] / VARIANCES[0]
    return torch.cat([offset, (size / anchors[:, 2:]).log() / VARIANCES[1]], -1)


def decode(deltas: Tensor, anchors: Tensor) -> Tensor:
    """Boxes xyxy in pixels of deltas (..., A, 4) and anchors (A, 4); the inverse of `encode`."""
    centre = anchors[:, :2] + deltas[..., :2] * VARIANCES[0] * anchors[:, 2:]
    size = anchors[:, 2:] * (deltas[..., 2:] * VARIANCES[1]).clamp(max=MAX_LOG_SIZE).exp()
    return torch.cat([centre - size / 2, centre + size / 2], -1)


def pairwise_iou(a_xyxy: Tensor, b_xyxy: Tensor) -> Tensor:
    """Intersection over union of (N, 4) and (M, 4), or of (N, 4) and per-row (N, M, 4); gives (N, M)."""
    a = a_xyxy[:, None]
    b = b_xyxy if b_xyxy.dim() == 3 else b_xyxy[None]
    width = (torch.minimum(a[..., 2], b[..., 2]) - torch.maximum(a[..., 0], b[..., 0])).clamp_(min=0)
    height = (torch.minimum(a[..., 3], b[..., 3]) - torch.maximum(a[..., 1], b[..., 1])).clamp_(min=0)
    overlap = width * height
    return overlap / (_area(a) + _area(b) - overlap).clamp(min=1e-9)


def _area(boxes_xyxy: Tensor) -> Tensor:
    """(...,) area of (..., 4); zero where a corner passed the other."""
    size = (boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]).clamp(min=0)
    return size[..., 0] * size[..., 1]
