"""Guided Attentive Feature Fusion of one visible and one thermal feature map.

Zhang, Fromont, Lefèvre, Avignon, Guided Attentive Feature Fusion for Multispectral Pedestrian Detection, WACV 2021,
sections 3.1 to 3.3. The kernel size is not in the text; three 3x3 convolutions at one fusion point follow from the
parameter counts of its Table 5 (54 C + 4 parameters: 13,828 at C = 256).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn


class Fusion(NamedTuple):
    """What the fusion gives. Masks are (B, 1, H, W); `inter_logits` is (B, 2, H, W), thermal first."""

    fused: Tensor
    intra_visible: Tensor
    intra_thermal: Tensor
    inter_logits: Tensor

    def teacher_mask(self) -> Tensor:
        """Attention the student imitates, (B, 1, H, W) (Modality Distillation, Eq. 3)."""
        inter = self.inter_logits.softmax(1)
        return self.intra_visible * inter[:, 1:] + self.intra_thermal * inter[:, :1]


class GAFF(nn.Module):
    """Intra-modality masks, inter-modality selection and their combination."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.intra_visible = nn.Conv2d(channels, 1, 3, padding=1)
        self.intra_thermal = nn.Conv2d(channels, 1, 3, padding=1)
        self.inter = nn.Conv2d(2 * channels, 2, 3, padding=1)

    def forward(self, visible: Tensor, thermal: Tensor) -> Fusion:
        """Fuse two (B, C, H, W) maps: the mean of f (1 + m_intra) (1 + m_inter) over both (Eq. 7, 8)."""
        mask_visible = self.intra_visible(visible).sigmoid()
        mask_thermal = self.intra_thermal(thermal).sigmoid()
        logits = self.inter(torch.cat([thermal, visible], 1))
        inter = logits.softmax(1)
        fused_visible = visible * (1 + mask_visible) * (1 + inter[:, 1:])
        fused_thermal = thermal * (1 + mask_thermal) * (1 + inter[:, :1])
        return Fusion((fused_visible + fused_thermal) / 2, mask_visible, mask_thermal, logits)
