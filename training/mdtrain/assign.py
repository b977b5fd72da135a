"""Mutual Guidance: which anchors learn which object, decided by each task for the other.

Zhang et al., Localize to Classify and Classify to Localize, ACCV 2020, and the code of that time
(zhanghengdev/MutualGuide of 2020-10): anchors that localise well become positive for classification, anchors that
classify well become positive for regression. Their number per object is that of plain IoU matching.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

POSITIVE_IOU = 0.5
IGNORE_IOU = 0.4
SIGMA = 2.0  # how strongly a confident score amplifies the overlap

NEGATIVE = -1
IGNORED = -2


class Assignment(NamedTuple):
    """Per anchor (A,): index of the object it learns, NEGATIVE or IGNORED. `regression` never holds IGNORED."""

    classification: Tensor
    regression: Tensor


def amplify(iou: Tensor, score: Tensor) -> Tensor:
    """Overlap amplified by the score of the object's class: iou ** ((sigma - p) / sigma)."""
    return iou.pow((SIGMA - score) / SIGMA)


def keep_best_object(table: Tensor) -> Tensor:
    """(G, A) overlaps: the best anchor of every object counts 1, then every anchor keeps only its best object."""
    table = table.clone()
    table[torch.arange(len(table), device=table.device), table.argmax(1)] = 1.0
    best = table.argmax(0)
    kept = torch.zeros_like(table)
    anchors = torch.arange(table.shape[1], device=table.device)
    kept[best, anchors] = table[best, anchors]
    return kept


def assign(iou_anchor: Tensor, iou_regressed: Tensor, score: Tensor) -> Assignment:
    """Assign anchors to the objects of one image.

    Args:
        iou_anchor: (G, A) overlap of objects and anchors.
        iou_regressed: (G, A) overlap of objects and the boxes predicted now.
        score: (G, A) score each anchor gives to the class of the object.
    """
    anchors = iou_anchor.shape[1]
    classification = torch.full((anchors,), NEGATIVE, device=iou_anchor.device)
    regression = torch.full((anchors,), NEGATIVE, device=iou_anchor.device)
    if len(iou_anchor) == 0:
        return Assignment(classification, regression)
    static = keep_best_object(iou_anchor)
    localised = keep_best_object(iou_regressed)
    amplified = keep_best_object(amplify(iou_anchor, score))
    positives = (static >= POSITIVE_IOU).sum(1)
    candidates = (static >= IGNORE_IOU).sum(1)
    for index in range(len(static)):
        ranked = _ranked(localised[index], int(candidates[index]))
        classification[ranked[int(positives[index]) :]] = IGNORED
        classification[ranked[: int(positives[index])]] = index
        regression[_ranked(amplified[index], int(positives[index]))] = index
    return Assignment(classification, regression)


def _ranked(row: Tensor, count: int) -> Tensor:
    """Indices of the `count` largest entries that belong to the object at all, best first."""
    values, indices = row.topk(min(count, len(row)))
    return indices[values > 0]
