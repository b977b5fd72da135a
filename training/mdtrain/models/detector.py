"""Detectors: the two-stream GAFF teacher and the one-stream image-level student.

Both: ResNet-18 -> feature pyramid P3..P6 -> RetinaNet head with a shared light tower.
Zhang et al., Low-cost Multispectral Scene Analysis with Modality Distillation, WACV 2022, Fig. 1;
Lin et al., Focal Loss for Dense Object Detection, ICCV 2017. The light tower replaces
RetinaNet's two towers of four 256-channel convolutions.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812  # the name everybody knows
from torch import Tensor, nn

from mdtrain.models.anchors import ANCHORS_PER_PLACE
from mdtrain.models.gaff import GAFF, Fusion
from mdtrain.models.resnet import BasicBlock, Stem, initialise, stage

STRIDES = (8, 16, 32, 64)
CLASS_PRIOR = 0.01  # initial score of every anchor (Focal Loss, section 4.1)


class Prediction(NamedTuple):
    """Output of a detector in training.

    Attributes:
        logits: (B, A, classes).
        deltas: (B, A, 4), see `anchors.decode`.
        feature: (B, C, H/16, W/16) map of the fusion point: what the student imitates.
        joint: student only, the map before the semantic block: what the attention mask is read from.
        fusion: teacher only, masks of the fusion.
    """

    logits: Tensor
    deltas: Tensor
    feature: Tensor
    joint: Tensor | None = None
    fusion: Fusion | None = None


def conv_norm(in_channels: int, channels: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Convolution and batch norm, size kept but for the stride."""
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(channels)
    )


class Pyramid(nn.Module):
    """Feature pyramid P3..P6 of maps at strides 8, 16 and 32."""

    def __init__(self, in_channels: tuple[int, int, int], channels: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(conv_norm(c, channels, 1) for c in in_channels)
        self.smooth = nn.ModuleList(conv_norm(channels, channels, 3) for _ in in_channels)
        self.p6 = conv_norm(channels, channels, 3, stride=2)

    def forward(self, maps: tuple[Tensor, Tensor, Tensor]) -> list[Tensor]:
        """Three (B, C_i, H_i, W_i) maps to four (B, channels, H_i, W_i)."""
        c3, c4, c5 = (lateral(m) for lateral, m in zip(self.lateral, maps, strict=True))
        c4 = c4 + F.interpolate(c5, scale_factor=2.0, mode="nearest")
        c3 = c3 + F.interpolate(c4, scale_factor=2.0, mode="nearest")
        p3, p4, p5 = (smooth(m) for smooth, m in zip(self.smooth, (c3, c4, c5), strict=True))
        return [p3, p4, p5, self.p6(F.relu(p5))]


class Head(nn.Module):
    """RetinaNet head: a tower shared by levels and tasks, then one convolution each for classes and boxes."""

    def __init__(self, channels: int, depth: int, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.tower = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(depth))
        self.classify = nn.Conv2d(channels, ANCHORS_PER_PLACE * classes, 3, padding=1)
        self.regress = nn.Conv2d(channels, ANCHORS_PER_PLACE * 4, 3, padding=1)

    def forward(self, levels: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Pyramid levels to logits (B, A, classes) and deltas (B, A, 4)."""
        logits, deltas = [], []
        for level in levels:
            x = F.relu(level)
            for conv in self.tower:
                x = F.relu(conv(x))
            logits.append(self._flat(self.classify(x), self.classes))
            deltas.append(self._flat(self.regress(x), 4))
        return torch.cat(logits, 1), torch.cat(deltas, 1)

    @staticmethod
    def _flat(x: Tensor, last: int) -> Tensor:
        """(B, anchors*last, H, W) to (B, H*W*anchors, last)."""
        return x.permute(0, 2, 3, 1).reshape(x.shape[0], -1, last)

    def initialise(self) -> None:
        """Small weights and the class prior, as in Focal Loss section 4.1."""
        for conv in (*self.tower, self.classify, self.regress):
            nn.init.normal_(conv.weight, std=0.01 if conv in (self.classify, self.regress) else 0.03)
            assert isinstance(conv, nn.Conv2d) and conv.bias is not None  # noqa: S101, PT018  # made above
            nn.init.zeros_(conv.bias)
        assert self.classify.bias is not None  # noqa: S101
        nn.init.constant_(self.classify.bias, -math.log((1 - CLASS_PRIOR) / CLASS_PRIOR))


class Teacher(nn.Module):
    """Two streams to layer3, GAFF there, then one shared stream. Thermal is as large as visible, one channel.

    The pyramid also wants a map at stride 8: it gets the mean of the two streams, since the paper's parameter counts
    leave room for exactly one GAFF.
    """

    def __init__(self, widths: tuple[int, int, int, int], neck: int, depth: int, classes: int) -> None:
        super().__init__()
        self.visible = Stem(3, widths)
        self.thermal = Stem(1, widths)
        self.gaff = GAFF(widths[2])
        self.layer4 = stage(widths[2], widths[3], 2)
        self.pyramid = Pyramid((widths[1], widths[2], widths[3]), neck)
        self.head = Head(neck, depth, classes)
        initialise(self)
        self.head.initialise()

    def forward(self, visible: Tensor, thermal: Tensor) -> Prediction:
        """Visible (B, 3, H, W) and thermal (B, 1, H, W), normalised."""
        c3, fusion = self.fuse(visible, thermal)
        logits, deltas = self.head(self.pyramid((c3, fusion.fused, self.layer4(fusion.fused))))
        return Prediction(logits, deltas, fusion.fused, fusion=fusion)

    def fuse(self, visible: Tensor, thermal: Tensor) -> tuple[Tensor, Fusion]:
        """Up to the fusion point: all that a student in training needs of its teacher."""
        visible_c3, visible_c4 = self.visible(visible)
        thermal_c3, thermal_c4 = self.thermal(thermal)
        return (visible_c3 + thermal_c3) / 2, self.gaff(visible_c4, thermal_c4)


class Student(nn.Module):
    """One stream on the image-level fusion of visible and, where it has one, low-resolution thermal.

    A basic residual block after layer3 adds the detail that the low-resolution thermal lacks (paper section 3.3,
    Semantic transfer); it stays in the deployed network. `attention` is used in training only.
    """

    def __init__(
        self, widths: tuple[int, int, int, int], neck: int, depth: int, classes: int, *, thermal: bool = True
    ) -> None:
        super().__init__()
        self.stem = Stem(6 if thermal else 3, widths)
        self.semantic = BasicBlock(widths[2], widths[2])
        self.layer4 = stage(widths[2], widths[3], 2)
        self.pyramid = Pyramid((widths[1], widths[2], widths[3]), neck)
        self.head = Head(neck, depth, classes)
        self.attention = nn.Conv2d(widths[2], 1, 1)
        initialise(self)
        self.head.initialise()

    def forward(self, visible: Tensor, thermal: Tensor | None) -> Prediction:
        """Visible (B, 3, H, W) and thermal (B, 1, h, w) at the sensor's resolution, both normalised."""
        c3, joint = self.stem(self.fuse_images(visible, thermal))
        feature = self.semantic(joint)
        logits, deltas = self.head(self.pyramid((c3, feature, self.layer4(feature))))
        return Prediction(logits, deltas, feature, joint=joint)

    def attention_logits(self, joint: Tensor) -> Tensor:
        """(B, 1, H/16, W/16) logits of the mask that imitates the teacher's attention."""
        return self.attention(joint)  # type: ignore[no-any-return]  # nn.Module.__call__ is untyped

    @staticmethod
    def fuse_images(visible: Tensor, thermal: Tensor | None) -> Tensor:
        """Image-level fusion: thermal up to the visible size, its channel three times, behind the visible ones.

        Three equal thermal channels balance the two sensors in the first convolution (paper section 4.2).
        """
        if thermal is None:
            return visible
        upsampled = F.interpolate(thermal, visible.shape[-2:], mode="bilinear", align_corners=False)
        return torch.cat([visible, upsampled.expand(-1, 3, -1, -1)], 1)
