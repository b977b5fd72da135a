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
Stem = ResNetStem | VGGStem
PAPER_WIDTHS: Widths = (64, 128, 256, 512)


class Maps(NamedTuple):
    """Channels of a backbone's maps, finest first: those of the stem, the last at the fusion point, then the top's.

    The finest map is at stride 8, each next one at twice the stride.
    """

    stem: tuple[int, ...]
    top: int

    @property
    def fused(self) -> int:
        """Channels at the fusion point."""
        return self.stem[-1]

    @property
    def all(self) -> tuple[int, ...]:
        """Channels of every map."""
        return (*self.stem, self.top)

    @property
    def fusion_stride(self) -> int:
        """Stride of the fusion point in pixels: 16 for ResNet-18, 8 for VGG-16."""
        return int(8 * 2 ** (len(self.stem) - 1))


def maps_of(backbone: BackboneName, widths: Widths) -> Maps:
    """Maps of a backbone of these widths."""
    return Maps((widths[1], widths[2]), widths[3]) if backbone == "resnet18" else Maps((widths[3],), widths[3])


def make_stem(backbone: BackboneName, in_channels: int, widths: Widths) -> Stem:
    """One stream, from an image of `in_channels` to the fusion point."""
    return ResNetStem(in_channels, widths) if backbone == "resnet18" else VGGStem(in_channels, widths)


def make_top(backbone: BackboneName, widths: Widths) -> ResNetTop | VGGTop:
    """What follows the fusion point."""
    return ResNetTop(widths) if backbone == "resnet18" else VGGTop(widths)


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
