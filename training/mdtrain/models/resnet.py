"""ResNet-18 in two parts: to layer3 (stride 16), where streams fuse, and layer4 (stride 32).

He et al., Deep Residual Learning for Image Recognition, CVPR 2016. Parameter names are torchvision's, so its state
dicts load; `widths` scales the four stages (the paper's network is 64, 128, 256, 512). For an output stride of 16 or 8
the last stages keep their resolution and dilate their convolutions instead (Chen et al., DeepLab, 2017), so that the
same weights see the same field of view.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

PAPER_WIDTHS = (64, 128, 256, 512)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions, each with its dilation, and a shortcut."""

    def __init__(self, in_channels: int, channels: int, stride: int = 1, dilation: tuple[int, int] = (1, 1)) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, dilation[0], dilation[0], bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, 1, dilation[1], dilation[1], bias=False)
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


def stage(in_channels: int, channels: int, stride: int, limit: int = 32) -> nn.Sequential:
    """Two basic blocks from stride / 2 to `stride`, or only to `limit` where that is less: the rest is dilation.

    The convolution that would have had the stride still samples the finer map, so it has the dilation of the stage
    before; what follows has twice that. So each place computes what the strided stage does at every second one.
    """
    dilation = max(stride // limit, 1)
    before = max(dilation // 2, 1)
    first = BasicBlock(in_channels, channels, 1 if stride > limit else 2, (before, dilation))
    return nn.Sequential(first, BasicBlock(channels, channels, 1, (dilation, dilation)))


class ResNetStem(nn.Module):
    """From image to the fusion point: `conv1` … `layer3`.

    Gives the maps after layer2 (stride 8) and layer3 (stride 16, or 8 where that is the output stride).
    """

    is_backbone = True

    def __init__(self, in_channels: int, widths: tuple[int, int, int, int], output_stride: int = 32) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, widths[0], 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(BasicBlock(widths[0], widths[0]), BasicBlock(widths[0], widths[0]))
        self.layer2 = stage(widths[0], widths[1], 8, output_stride)
        self.layer3 = stage(widths[1], widths[2], 16, output_stride)

    @property
    def first(self) -> nn.Conv2d:
        """The convolution that sees the image."""
        return self.conv1

    def replace_first(self, conv: nn.Module) -> None:
        """Put another convolution there; a property setter would be passed over by nn.Module."""
        setattr(self, "conv1", conv)  # noqa: B010  # deployed networks have two convolutions in the place of one

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """(B, C, H, W) normalised image to ((B, w1, H/8, W/8), (B, w2, H/s, W/s)), s = 16 or 8."""
        x = self.maxpool(self.relu(self.bn1(self.conv1(image))))
        c3 = self.layer2(self.layer1(x))
        return c3, self.layer3(c3)


class ResNetTop(nn.Module):
    """`layer4`: from the fusion point to the output stride."""

    is_backbone = True

    def __init__(self, widths: tuple[int, int, int, int], output_stride: int = 32) -> None:
        super().__init__()
        self.layer4 = stage(widths[2], widths[3], 32, output_stride)

    def forward(self, x: Tensor) -> Tensor:
        """(B, w2, h, w) to (B, w3, h/2, w/2), or (B, w3, h, w) at an output stride below 32."""
        return self.layer4(x)  # type: ignore[no-any-return]  # nn.Module.__call__ is untyped
