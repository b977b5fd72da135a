"""What makes a network a detector: feature pyramid and RetinaNet head."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from mdtrain.models.anchors import AnchorCount, make_anchors
from mdtrain.models.backbone import BackboneName, Maps, Stem, Top, Widths, make_stem, make_top, maps_of
from mdtrain.models.head import Boxes, Head
from mdtrain.models.neck import Pyramid, strides_of

__all__ = ["Boxes", "DetectorSpec"]


class DetectorSpec(NamedTuple):
    """What a detector is made of.

    Attributes:
        backbone: `resnet18` or `vgg16`.
        widths: channels of its four stages.
        neck: channels of pyramid and head.
        tower: convolutions of a tower.
        shared_tower: one tower for classes and boxes.
        anchors: anchors a place.
        levels: levels of the pyramid, from P3.
        classes: number of classes.
    """

    backbone: BackboneName
    widths: Widths
    neck: int
    tower: int
    shared_tower: bool
    anchors: AnchorCount
    levels: int
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

    def make_pyramid(self) -> Pyramid:
        """Pyramid over the backbone's maps."""
        return Pyramid(self.maps.all, self.neck, self.levels)

    def make_anchors(self, size: tuple[int, int]) -> Tensor:
        """Anchors (A, 4) of an image of `size` (width, height), in the order of the head."""
        return make_anchors(size[1], size[0], strides_of(self.levels), self.anchors)

    def make_head(self) -> Head:
        """Head behind the pyramid."""
        return Head(self.neck, self.tower, self.classes, self.anchors, shared=self.shared_tower)
