"""What makes a network a classifier: the mean over the last map and one linear layer (ResNet's own head).

He et al., Deep Residual Learning for Image Recognition, CVPR 2016, Table 1: average pool, fully connected.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from mdtrain.models.backbone import BackboneName, Maps, Stem, Top, Widths, make_stem, make_top, maps_of

WEIGHT_STD = 0.01  # small: the first predictions are even


class Classes(NamedTuple):
    """What a classifier gives: logits (B, classes)."""

    logits: Tensor

    def mean(self, other: Classes) -> Classes:
        """The average of two."""
        return Classes((self.logits + other.logits) / 2)


class ClassifierSpec(NamedTuple):
    """What a classifier is made of.

    Attributes:
        backbone: `resnet18` or `vgg16`.
        widths: channels of its four stages.
        classes: number of classes.
    """

    backbone: BackboneName
    widths: Widths
    classes: int

    @property
    def maps(self) -> Maps:
        """Maps of the backbone."""
        return maps_of(self.backbone, self.widths)

    def make_stem(self, in_channels: int) -> Stem:
        """One stream of the backbone."""
        return make_stem(self.backbone, in_channels, self.widths)

    def make_top(self) -> Top:
        """The backbone behind the fusion point."""
        return make_top(self.backbone, self.widths)

    def make_pyramid(self) -> GlobalPooling:
        """Global average pooling of the last map; here for the place that pyramids have in the other tasks."""
        return GlobalPooling()

    def make_head(self) -> ClassHead:
        """Classifier of the pair."""
        return ClassHead(self.maps.top, self.classes)


class GlobalPooling(nn.Module):
    """The mean over the last map. It has no weights."""

    def forward(self, maps: tuple[Tensor, ...]) -> Tensor:
        """Maps of the backbone, finest first, to (B, C)."""
        return maps[-1].mean((2, 3))


class ClassHead(nn.Module):
    """Class logits of the pair."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.classify = nn.Linear(channels, classes)

    def forward(self, pooled: Tensor) -> Classes:
        """(B, C) to logits."""
        return Classes(self.classify(pooled))

    def initialise(self) -> None:
        """Small weights."""
        nn.init.normal_(self.classify.weight, std=WEIGHT_STD)
        nn.init.zeros_(self.classify.bias)
