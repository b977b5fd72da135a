"""RetinaNet head, the standard one and light ones.

Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, section 4: two towers of four 256-channel convolutions
and nine anchors a place. A light head is narrower and shallower and lets both tasks share one tower: two thirds of
the work of the paper's student is its head.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812  # the name everybody knows
from torch import Tensor, nn

CLASS_PRIOR = 0.01  # initial score of every anchor (Focal Loss, section 4.1)


class Boxes(NamedTuple):
    """What a detector gives, one row an anchor.

    Attributes:
        logits: (B, A, classes).
        deltas: (B, A, 4), see `anchors.decode`.
    """

    logits: Tensor
    deltas: Tensor

    def mean(self, other: Boxes) -> Boxes:
        """The average of two."""
        return Boxes((self.logits + other.logits) / 2, (self.deltas + other.deltas) / 2)


class Head(nn.Module):
    """Towers shared by all levels, then one convolution each for classes and boxes.

    Attributes:
        tower: of both tasks, or of the classes where `box_tower` is there.
        box_tower: of the boxes, None where the tasks share a tower.
    """

    def __init__(self, channels: int, depth: int, classes: int, anchors: int, *, shared: bool) -> None:
        super().__init__()
        self.classes = classes
        self.tower = _tower(channels, depth)
        self.box_tower = None if shared else _tower(channels, depth)
        self.classify = nn.Conv2d(channels, anchors * classes, 3, padding=1)
        self.regress = nn.Conv2d(channels, anchors * 4, 3, padding=1)

    def forward(self, levels: list[Tensor]) -> Boxes:
        """Pyramid levels, finest first, to boxes."""
        logits, deltas = [], []
        for level in levels:
            features = _run(self.tower, level)
            box_features = features if self.box_tower is None else _run(self.box_tower, level)
            logits.append(_flat(self.classify(features), self.classes))
            deltas.append(_flat(self.regress(box_features), 4))
        return Boxes(torch.cat(logits, 1), torch.cat(deltas, 1))

    def initialise(self) -> None:
        """Small weights and the class prior, as in Focal Loss section 4.1."""
        for part in self.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.normal_(part.weight, std=0.01 if part in (self.classify, self.regress) else 0.03)
                assert part.bias is not None  # noqa: S101  # made with one
                nn.init.zeros_(part.bias)
        assert self.classify.bias is not None  # noqa: S101
        nn.init.constant_(self.classify.bias, -math.log((1 - CLASS_PRIOR) / CLASS_PRIOR))


def _tower(channels: int, depth: int) -> nn.ModuleList:
    return nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(depth))


def _run(tower: nn.ModuleList, level: Tensor) -> Tensor:
    x = F.relu(level)
    for conv in tower:
        x = F.relu(conv(x))
    return x


def _flat(x: Tensor, last: int) -> Tensor:
    """(B, anchors*last, H, W) to (B, H*W*anchors, last)."""
    return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, last)
