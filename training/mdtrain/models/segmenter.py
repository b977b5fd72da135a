"""What makes a network a segmenter: pyramid pooling and a classifier a pixel (PSPNet).

Zhao et al., Pyramid Scene Parsing Network, CVPR 2017. Widths and auxiliary head are those of the ResNet-18 students of
Liu et al., Structured Knowledge Distillation for Semantic Segmentation, CVPR 2019: a quarter of the channels a bin, a
3x3 convolution to 128, the auxiliary head on layer3.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812  # the name everybody knows
from torch import Tensor, nn

from mdtrain.models.backbone import BackboneName, Maps, OutputStride, Stem, Top, Widths, make_stem, make_top, maps_of
from mdtrain.models.neck import conv_norm

BINS = (1, 2, 3, 6)  # PSPNet section 3.2
DROPOUT = 0.1


class Segments(NamedTuple):
    """What a segmenter gives, at its output stride.

    Attributes:
        logits: (B, classes, h, w).
        auxiliary: (B, classes, h', w') of the auxiliary head on the fusion point's map; in training only.
    """

    logits: Tensor
    auxiliary: Tensor | None = None

    def mean(self, other: Segments) -> Segments:
        """The average of two."""
        if self.auxiliary is None or other.auxiliary is None:
            return Segments((self.logits + other.logits) / 2)
        return Segments((self.logits + other.logits) / 2, (self.auxiliary + other.auxiliary) / 2)


class SegmenterSpec(NamedTuple):
    """What a segmenter is made of.

    Attributes:
        backbone: `resnet18`; VGG-16 has no last stage to dilate.
        widths: channels of its four stages.
        output_stride: of the backbone's last map, 8 in PSPNet.
        decoder: channels of the convolution behind the pyramid pooling.
        classes: number of classes.
    """

    backbone: BackboneName
    widths: Widths
    output_stride: OutputStride
    decoder: int
    classes: int

    @property
    def maps(self) -> Maps:
        """Maps of the backbone."""
        return maps_of(self.backbone, self.widths, self.output_stride)

    def make_stem(self, in_channels: int) -> Stem:
        """One stream of the backbone."""
        return make_stem(self.backbone, in_channels, self.widths, self.output_stride)

    def make_top(self) -> Top:
        """The backbone behind the fusion point."""
        return make_top(self.backbone, self.widths, self.output_stride)

    def make_pyramid(self) -> PyramidPooling:
        """Pyramid pooling of the last map."""
        return PyramidPooling(self.maps.top)

    def make_head(self) -> SegmentHead:
        """Classifier of every place, and the auxiliary one."""
        return SegmentHead(2 * self.maps.top, self.maps.fused, self.decoder, self.classes)


class PyramidPooling(nn.Module):
    """The last map and its means over 1, 4, 9 and 36 parts of the image, each reduced to a quarter of the channels."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.reduce = nn.ModuleList(conv_norm(channels, channels // len(BINS), 1) for _ in BINS)

    def forward(self, maps: tuple[Tensor, ...]) -> list[Tensor]:
        """Maps of the backbone, finest first, to [map of the fusion point, (B, 2 C, h, w)]."""
        last = maps[-1]
        height, width = last.shape[-2:]
        weights = pooling_weights(height, width).to(last)
        parts = torch.split(last.flatten(2) @ weights, [bins * bins for bins in BINS], dim=2)
        context = [last]
        for bins, part, reduce in zip(BINS, parts, self.reduce, strict=True):
            small = F.relu(reduce(part.reshape(*last.shape[:2], bins, bins)))
            context.append(F.interpolate(small, (height, width), mode="bilinear", align_corners=False))
        return [maps[-2], torch.cat(context, 1)]


@cache
def pooling_weights(height: int, width: int) -> Tensor:
    """(h * w, 50) matrix that averages a flat map over all parts of the pyramid.

    The same numbers as adaptive average pooling, whose parts overlap where bins do not divide a map; but one plain
    matrix product, which every engine runs and no exporter refuses.
    """
    columns = []
    with torch.inference_mode(mode=False):  # an evaluation that comes first must not spoil it for a training
        for bins in BINS:
            rows, cols = _bin_weights(height, bins), _bin_weights(width, bins)
            columns.append(torch.einsum("ih,jw->hwij", rows, cols).reshape(height * width, bins * bins))
        return torch.cat(columns, 1)


def _bin_weights(size: int, bins: int) -> Tensor:
    """(bins, size): each row averages the pixels from floor(i size / bins) to ceil((i + 1) size / bins)."""
    weights = torch.zeros(bins, size)
    for index in range(bins):
        start, end = index * size // bins, -(-(index + 1) * size // bins)
        weights[index, start:end] = 1 / (end - start)
    return weights


class SegmentHead(nn.Module):
    """Class logits of every place; in training also those of the auxiliary head (PSPNet section 3.3)."""

    def __init__(self, channels: int, fused: int, decoder: int, classes: int) -> None:
        super().__init__()
        self.decode = nn.Sequential(conv_norm(channels, decoder, 3), nn.ReLU(inplace=True), nn.Dropout2d(DROPOUT))
        self.classify = nn.Conv2d(decoder, classes, 1)
        self.auxiliary = nn.Sequential(
            conv_norm(fused, decoder, 3), nn.ReLU(inplace=True), nn.Dropout2d(DROPOUT), nn.Conv2d(decoder, classes, 1)
        )

    def forward(self, levels: list[Tensor]) -> Segments:
        """What the pyramid pooling gives, to logits."""
        fused, context = levels
        auxiliary = self.auxiliary(fused) if self.training else None
        return Segments(self.classify(self.decode(context)), auxiliary)

    def initialise(self) -> None:
        """Small weights of the classifiers: the first predictions are even."""
        for conv in (self.classify, self.auxiliary[-1]):
            assert isinstance(conv, nn.Conv2d)  # noqa: S101  # built above
            nn.init.normal_(conv.weight, std=0.01)


def label_map(logits: Tensor, size: tuple[int, int]) -> Tensor:
    """Class of every pixel, (B, H, W) int64, of logits (B, classes, h, w) brought to `size` (width, height)."""
    full = F.interpolate(logits, (size[1], size[0]), mode="bilinear", align_corners=False)
    return full.argmax(1)
