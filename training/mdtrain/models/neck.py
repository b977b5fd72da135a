"""Feature pyramid: every level sees what the coarser ones found.

Lin et al., Feature Pyramid Networks for Object Detection, CVPR 2017, with batch norm behind each convolution.
"""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812  # the name everybody knows
from torch import Tensor, nn

FINEST_STRIDE = 8


def strides_of(levels: int) -> tuple[int, ...]:
    """Strides of the pyramid's levels: P3 is 8, each next one doubles."""
    return tuple(FINEST_STRIDE * 2**level for level in range(levels))


def conv_norm(in_channels: int, channels: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Convolution and batch norm, size kept but for the stride."""
    return nn.Sequential(
        nn.Conv2d(in_channels, channels, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(channels)
    )


class Pyramid(nn.Module):
    """Levels P3, P4, … at strides 8, 16, …: one of each map of the backbone, coarser ones by strided convolutions."""

    def __init__(self, in_channels: tuple[int, ...], channels: int, levels: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(conv_norm(c, channels, 1) for c in in_channels)
        self.smooth = nn.ModuleList(conv_norm(channels, channels, 3) for _ in in_channels)
        self.extra = nn.ModuleList(conv_norm(channels, channels, 3, stride=2) for _ in range(levels - len(in_channels)))

    def forward(self, maps: tuple[Tensor, ...]) -> list[Tensor]:
        """Maps (B, C_i, H_i, W_i), finest first, to levels (B, channels, H_i, W_i)."""
        merged = [lateral(m) for lateral, m in zip(self.lateral, maps, strict=True)]
        for level in reversed(range(len(merged) - 1)):
            merged[level] = merged[level] + F.interpolate(merged[level + 1], scale_factor=2.0, mode="nearest")
        levels = [smooth(m) for smooth, m in zip(self.smooth, merged, strict=True)]
        for conv in self.extra:
            levels.append(conv(F.relu(levels[-1])))
        return levels
