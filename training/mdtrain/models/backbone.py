"""Backbones, each cut at the point where the teacher fuses its streams: a stem a stream, one shared top.

Stem: image -> maps, the last of them at the fusion point. Top: that map -> the coarsest map.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from torch import nn

from mdtrain.models.resnet import BasicBlock, ResNetStem, ResNetTop
from mdtrain.models.vgg import VGGStem, VGGTop

Widths = tuple[int, int, int, int]
BackboneName = Literal["resnet18", "vgg16"]
OutputStride = Literal[8, 16, 32]  # of ResNet-18's coarsest map; VGG-16 ends at 16
Stem = ResNetStem | VGGStem
Top = ResNetTop | VGGTop
PAPER_WIDTHS: Widths = (64, 128, 256, 512)


class Maps(NamedTuple):
    """Channels of a backbone's maps, finest first: those of the stem, the last at the fusion point, then the top's.

    Attributes:
        stem: channels; the first map is at stride 8.
        top: channels.
        fusion_stride: of the fusion point, in pixels: 16 for ResNet-18 (8 at an output stride of 8), 8 for VGG-16.
    """

    stem: tuple[int, ...]
    top: int
    fusion_stride: int

    @property
    def fused(self) -> int:
        """Channels at the fusion point."""
        return self.stem[-1]

    @property
    def all(self) -> tuple[int, ...]:
        """Channels of every map."""
        return (*self.stem, self.top)


def maps_of(backbone: BackboneName, widths: Widths, output_stride: OutputStride = 32) -> Maps:
    """Maps of a backbone of these widths."""
    if backbone == "vgg16":
        return Maps((widths[3],), widths[3], 8)
    return Maps((widths[1], widths[2]), widths[3], min(16, output_stride))


def make_stem(backbone: BackboneName, in_channels: int, widths: Widths, output_stride: OutputStride = 32) -> Stem:
    """One stream, from an image of `in_channels` to the fusion point."""
    if backbone == "vgg16":
        return VGGStem(in_channels, widths)
    return ResNetStem(in_channels, widths, output_stride)


def make_top(backbone: BackboneName, widths: Widths, output_stride: OutputStride = 32) -> Top:
    """What follows the fusion point."""
    return VGGTop(widths) if backbone == "vgg16" else ResNetTop(widths, output_stride)


def initialise(module: nn.Module) -> None:
    """He initialisation of every convolution; the last norm of each residual block starts at zero.

    Zero last norms make each residual block start as identity, which steadies training from scratch
    (Goyal et al., Accurate, Large Minibatch SGD, 2017, section 5.1).
    """
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
            if part.bias is not None:
                nn.init.zeros_(part.bias)
    for part in module.modules():
        if isinstance(part, BasicBlock):
            nn.init.zeros_(part.bn2.weight)
