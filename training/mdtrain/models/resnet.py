"""ResNet-18 in two parts: to stride 16 (layer3), where streams fuse, and layer4 at stride 32.

He et al., Deep Residual Learning for Image Recognition, CVPR 2016. Parameter names are torchvision's, so its state
dicts load; `widths` scales the four stages (the paper's network is 64, 128, 256, 512).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

PAPER_WIDTHS = (64, 128, 256, 512)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut."""

    def __init__(self, in_channels: int, channels: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or in_channels != channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) to (B, C, H / stride, W / stride)."""
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return torch.relu_(y + shortcut)


def stage(in_channels: int, channels: int, stride: int) -> nn.Sequential:
    """Two basic blocks, the first with the stride."""
    return nn.Sequential(BasicBlock(in_channels, channels, stride), BasicBlock(channels, channels))


class ResNetStem(nn.Module):
    """From image to stride 16: `conv1` … `layer3`.

    Gives the maps after layer2 (stride 8) and layer3 (stride 16).
    """

    is_backbone = True

    def __init__(self, in_channels: int, widths: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, widths[0], 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = stage(widths[0], widths[0], 1)
        self.layer2 = stage(widths[0], widths[1], 2)
        self.layer3 = stage(widths[1], widths[2], 2)

    @property
    def first(self) -> nn.Conv2d:
        """The convolution that sees the image."""
        return self.conv1

    def replace_first(self, conv: nn.Conv2d) -> None:
        """Put another convolution there; a property setter would be passed over by nn.Module."""
        self.conv1 = conv

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """(B, C, H, W) normalised image to ((B, w1, H/8, W/8), (B, w2, H/16, W/16))."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(image))))
        c3 = self.layer2(self.layer1(x))
        return c3, self.layer3(c3)


class ResNetTop(nn.Module):
    """`layer4`: from stride 16 to stride 32."""

    is_backbone = True

    def __init__(self, widths: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.layer4 = stage(widths[2], widths[3], 2)

    def forward(self, x: Tensor) -> Tensor:
        """(B, w2, H/16, W/16) to (B, w3, H/32, W/32)."""
        return self.layer4(x)  # type: ignore[no-any-return]  # nn.Module.__call__ is untyped
