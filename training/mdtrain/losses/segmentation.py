"""Segmentation loss: cross-entropy a pixel, and the auxiliary head's."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from mdtrain.data.records import IGNORE_LABEL

AUXILIARY_WEIGHT = 0.4  # PSPNet section 3.3


def pixel_cross_entropy(logits: Tensor, label_map: Tensor, weights: Tensor | None = None) -> Tensor:
    """Mean cross-entropy over the pixels that have a label, weighted by class; zero where none has.

    Logits are brought to the labels' size by bilinear interpolation, as in the deployed network: classes that are a
    few pixels wide would vanish from labels of the output stride.

    Args:
        logits: (B, classes, h, w).
        label_map: (B, H, W) int64, IGNORE_LABEL where nothing is known.
        weights: (classes,); None counts every pixel alike.
    """
    full = F.interpolate(logits, label_map.shape[-2:], mode="bilinear", align_corners=False)
    total = F.cross_entropy(full, label_map, weights, ignore_index=IGNORE_LABEL, reduction="sum")
    labels = label_map[label_map != IGNORE_LABEL]
    count = len(labels) if weights is None else float(weights[labels].sum())
    return total / max(count, 1.0)


def enet_weights(pixels: Tensor) -> Tensor:
    """Weight of each class, 1 / ln(1.02 + share of its pixels): between 1.4 and 50.5.

    Paszke et al., ENet, 2016, section 5.2. A street is background for nine pixels of ten; without weights a short
    training never learns the cones.

    Args:
        pixels: (classes,) counts.
    """
    share = pixels.double() / pixels.sum().clamp(min=1)
    return (1 / (1.02 + share).log()).float()


def foreground_share(label_map: Tensor, stride: int) -> Tensor:
    """(B, 1, H / stride, W / stride): share of each place's pixels that belong to any class but the background.

    The masks of GAFF want to know where objects are; the papers say nothing about segmentation, where boxes are
    missing. Shares are kept soft, since kerbs and cones are thinner than half a place.
    """
    labelled = (label_map > 0) & (label_map != IGNORE_LABEL)
    return F.avg_pool2d(labelled[:, None].to(torch.float32), stride)
