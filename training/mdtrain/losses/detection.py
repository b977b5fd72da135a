"""Detection losses: focal loss, Balanced L1 and their sum over a batch."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from mdtrain.assign import IGNORED, NEGATIVE, Assignment, assign
from mdtrain.models.anchors import decode, encode, pairwise_iou, to_xyxy

FOCAL_ALPHA = 0.25
FOCAL_GAMMA = 1.0  # the code of Mutual Guidance trains with 1, its class default is 2
BALANCED_ALPHA = 0.5
BALANCED_GAMMA = 1.5
BALANCED_BETA = 0.11


def focal_loss(logits: Tensor, targets: Tensor, alpha: float = FOCAL_ALPHA, gamma: float = FOCAL_GAMMA) -> Tensor:
    """alpha_t (1 - p_t)^gamma BCE of every element, same shape as the logits. Lin et al. 2017, Eq. 5."""
    p = logits.sigmoid()
    p_t = p * targets + (1 - p) * (1 - targets)
    alpha_t = alpha * targets + (1 - alpha) * (1 - targets)
    bce = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    return alpha_t * (1 - p_t).pow(gamma) * bce


def balanced_l1(predicted: Tensor, target: Tensor) -> Tensor:
    """Sum of Balanced L1 over all elements. Pang et al., Libra R-CNN, CVPR 2019, Eq. 8.

    Below beta: alpha/b (b x + 1) ln(b x / beta + 1) - alpha x; above: gamma x + gamma / b - alpha beta,
    with b = exp(gamma / alpha) - 1, so that both meet at beta.
    """
    b = math.exp(BALANCED_GAMMA / BALANCED_ALPHA) - 1
    x = (predicted - target).abs()
    inner = BALANCED_ALPHA / b * (b * x + 1) * (b * x / BALANCED_BETA + 1).log() - BALANCED_ALPHA * x
    outer = BALANCED_GAMMA * x + BALANCED_GAMMA / b - BALANCED_ALPHA * BALANCED_BETA
    return torch.where(x < BALANCED_BETA, inner, outer).sum()


def assign_image(truth: Tensor, labels: Tensor, anchors: Tensor, logits: Tensor, deltas: Tensor) -> Assignment:
    """Mutual Guidance for one image, restricted to anchors that touch an object.

    The restriction is for speed: an anchor that touches no object has no overlap to amplify, and a box regressed from
    it would have to leave the anchor altogether.

    Args:
        truth: (G, 4) xyxy.
        labels: (G,) class index.
        anchors: (A, 4) cx, cy, w, h.
        logits: (A, classes).
        deltas: (A, 4).
    """
    overlap = pairwise_iou(truth, to_xyxy(anchors))
    near = (overlap > 0).any(0).nonzero().squeeze(1)
    boxes = decode(deltas[near], anchors[near])
    found = assign(overlap[:, near], pairwise_iou(truth, boxes), logits[near].sigmoid().T[labels])
    whole = Assignment(*(torch.full((len(anchors),), NEGATIVE, device=anchors.device) for _ in found))
    for target, part in zip(whole, found, strict=True):
        target[near] = part
    return whole


def detection_loss(
    logits: Tensor, deltas: Tensor, anchors: Tensor, boxes: list[Tensor], classes: list[Tensor]
) -> tuple[Tensor, Tensor]:
    """Classification and box loss of a batch, each divided by its number of positives.

    Args:
        logits: (B, A, classes).
        deltas: (B, A, 4).
        anchors: (A, 4) cx, cy, w, h.
        boxes: per image (G, 4) xyxy in pixels.
        classes: per image (G,) class index.
    """
    targets = torch.zeros_like(logits)
    counted = torch.ones_like(logits[..., 0])
    box_loss, box_count = deltas.new_zeros(()), 0
    # unbind, not deltas[image]: the gradient of each index would be a zero-filled map of the whole batch
    for image, (truth, labels, image_deltas) in enumerate(zip(boxes, classes, deltas.unbind(), strict=True)):
        with torch.no_grad():
            assignment = assign_image(truth, labels, anchors, logits[image], image_deltas)
        positive = assignment.classification >= 0
        targets[image, positive, labels[assignment.classification[positive]]] = 1.0
        counted[image, assignment.classification == IGNORED] = 0.0
        regressed = assignment.regression != NEGATIVE
        goal = encode(truth[assignment.regression[regressed]], anchors[regressed])
        box_loss = box_loss + balanced_l1(image_deltas[regressed], goal)
        box_count += int(regressed.sum())
    class_loss = (focal_loss(logits, targets) * counted[..., None]).sum()
    return class_loss / targets.sum().clamp(min=1), box_loss / max(4 * box_count, 1)
