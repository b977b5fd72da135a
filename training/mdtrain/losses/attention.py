"""Losses of the attention masks: GAFF's guidance and the attention transfer of Modality Distillation."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from mdtrain.models.gaff import Fusion

SELECTION_MARGIN = 0.1  # GAFF Table 1: the best of 0.05, 0.1, 0.2
IGNORE = -100
DICE_SMOOTH = 1.0  # not in the papers; keeps an image without objects at a loss of zero for an empty mask


def dice_loss(mask: Tensor, target: Tensor, smooth: float = DICE_SMOOTH) -> Tensor:
    """1 - 2 |mask * target| / (|mask| + |target|), per image, mean over the batch; both (B, 1, H, W) in [0, 1]."""
    overlap = (mask * target).sum((1, 2, 3))
    total = mask.sum((1, 2, 3)) + target.sum((1, 2, 3))
    return (1 - (2 * overlap + smooth) / (total + smooth)).mean()


def modality_label(thermal: Tensor, visible: Tensor, truth: Tensor, margin: float = SELECTION_MARGIN) -> Tensor:
    """Which sensor sees a pixel better (GAFF Eq. 5, 6): 0 thermal, 1 visible, IGNORE where the difference is small.

    Args:
        thermal: (B, 1, H, W) intra-modality mask.
        visible: the same of the other sensor.
        truth: (B, 1, H, W) ground-truth mask.
        margin: least difference of the errors that decides.

    Returns:
        (B, H, W) int64; carries no gradient, being a label.
    """
    error_thermal = (thermal.detach() - truth).abs()[:, 0]
    error_visible = (visible.detach() - truth).abs()[:, 0]
    label = torch.full_like(error_thermal, IGNORE, dtype=torch.int64)
    label[error_visible - error_thermal > margin] = 0
    label[error_thermal - error_visible > margin] = 1
    return label


def selection_loss(inter_logits: Tensor, label: Tensor) -> Tensor:
    """Cross-entropy of (B, 2, H, W) logits over the pixels that have a label; zero where none has."""
    counted = int((label != IGNORE).sum())
    total = F.cross_entropy(inter_logits, label, ignore_index=IGNORE, reduction="sum")
    return total / max(counted, 1)


def guidance_loss(fusion: Fusion, truth: Tensor) -> tuple[Tensor, Tensor]:
    """GAFF's two extra losses (Eq. 9, weights 1): Dice of both intra masks (mean) and the selection loss."""
    intra = (dice_loss(fusion.intra_visible, truth) + dice_loss(fusion.intra_thermal, truth)) / 2
    label = modality_label(fusion.intra_thermal, fusion.intra_visible, truth)
    return intra, selection_loss(fusion.inter_logits, label)


def ellipse_mask(boxes: list[Tensor], height: int, width: int, stride: int) -> Tensor:
    """Boxes as filled ellipses at feature resolution, (B, 1, height / stride, width / stride), 0 or 1 (GAFF 3.1).

    A feature is inside where its centre is, or where the box is so small that it would hold no centre: then the
    feature under the box's centre stands for it.
    """
    rows, columns = -(-height // stride), -(-width // stride)
    y = (torch.arange(rows) + 0.5)[:, None] * stride
    x = (torch.arange(columns) + 0.5)[None, :] * stride
    masks = torch.zeros(len(boxes), 1, rows, columns)
    for mask, image_boxes in zip(masks, boxes, strict=True):
        for x0, y0, x1, y1 in image_boxes.tolist():
            cx, cy, rx, ry = (x0 + x1) / 2, (y0 + y1) / 2, max((x1 - x0) / 2, 1e-3), max((y1 - y0) / 2, 1e-3)
            mask[0][((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 <= 1] = 1.0
            mask[0, min(max(int(cy / stride), 0), rows - 1), min(max(int(cx / stride), 0), columns - 1)] = 1.0
    return masks
