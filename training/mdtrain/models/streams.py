"""Networks of one stream (the student) and of two, fused at feature or at decision level (teachers).

All: backbone -> pyramid -> head; the last two are the task's: a detector's, a segmenter's or a classifier's.
Zhang et al., Low-cost Multispectral Scene Analysis with Modality Distillation, WACV 2022, Fig. 1, Tables 1 and 2.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812  # the name everybody knows
from torch import Tensor, nn

from mdtrain.models.backbone import initialise
from mdtrain.models.classifier import Classes, ClassifierSpec
from mdtrain.models.detector import Boxes, DetectorSpec
from mdtrain.models.gaff import GAFF, Fusion
from mdtrain.models.resnet import BasicBlock
from mdtrain.models.segmenter import SegmenterSpec, Segments

Inputs = Literal["both", "visible", "thermal"]
IN_CHANNELS = {"both": 6, "visible": 3, "thermal": 3}
Spec = DetectorSpec | SegmenterSpec | ClassifierSpec
Output = Boxes | Segments | Classes


class Prediction(NamedTuple):
    """What a network gives in training.

    Attributes:
        output: of the task.
        feature: (B, C, h, w) map of the fusion point: what the student imitates. None at decision level.
        attention: student only, (B, 1, h, w) logits of the mask that imitates the teacher's attention.
        fusion: GAFF only, masks of the fusion.
    """

    output: Output
    feature: Tensor | None = None
    attention: Tensor | None = None
    fusion: Fusion | None = None


class Student(nn.Module):
    """One stream on one image: visible, thermal, or both fused at image level.

    A basic residual block at the fusion point adds the detail that the low-resolution thermal lacks (paper section
    3.3, Semantic transfer); it stays in the deployed network. `attention` and `adapter` are used in training only.

    Args:
        spec: the network.
        inputs: what the one stream sees.
        imitates: channels of the teacher's map where they differ from the student's: a 1x1 convolution adapts.
    """

    def __init__(self, spec: Spec, inputs: Inputs = "both", imitates: int | None = None) -> None:
        super().__init__()
        self.spec = spec
        self.inputs: Inputs = inputs
        self.stem = spec.make_stem(IN_CHANNELS[inputs])
        self.semantic = BasicBlock(spec.maps.fused, spec.maps.fused)
        self.top = spec.make_top()
        self.pyramid = spec.make_pyramid()
        self.head = spec.make_head()
        self.attention = nn.Conv2d(spec.maps.fused, 1, 1)
        self.adapter = None if imitates in {None, spec.maps.fused} else nn.Conv2d(spec.maps.fused, imitates, 1)
        initialise(self)
        self.head.initialise()

    def forward(self, visible: Tensor, thermal: Tensor | None) -> Prediction:
        """Visible (B, 3, H, W) and thermal (B, 1, h, w) at the sensor's resolution, both normalised.

        A thermal-only student takes the visible image for its size alone.
        """
        return self.predict(self.fuse_images(visible, thermal))

    def predict(self, image: Tensor) -> Prediction:
        """Behind the image-level fusion: (B, channels, H, W)."""
        *finer, joint = self.stem(image)
        feature = self.semantic(joint)
        output = self.head(self.pyramid((*finer, feature, self.top(feature))))
        imitation = feature if self.adapter is None else self.adapter(feature)
        return Prediction(output, imitation, attention=self.attention(joint))

    def fuse_images(self, visible: Tensor, thermal: Tensor | None) -> Tensor:
        """Image-level fusion: thermal up to the visible size, its channel three times, behind the visible ones.

        Three equal thermal channels balance the two sensors in the first convolution (paper section 4.2).
        """
        if self.inputs == "visible":
            return visible
        if thermal is None:
            raise ValueError(f"a student of inputs={self.inputs} wants a thermal image, got none")
        upsampled = F.interpolate(thermal, visible.shape[-2:], mode="bilinear", align_corners=False)
        grey = upsampled.expand(-1, 3, -1, -1)
        return grey if self.inputs == "thermal" else torch.cat([visible, grey], 1)


class Addition(nn.Module):
    """Plain sum of the two streams: the baseline that GAFF replaces."""

    def forward(self, visible: Tensor, thermal: Tensor) -> Tensor:
        """Two (B, C, h, w) maps to one."""
        return visible + thermal


class Teacher(nn.Module):
    """Two streams to the fusion point, GAFF or a sum there, then one shared stream.

    Thermal is as large as visible, one channel. Maps finer than the fusion point reach the pyramid as the mean of the
    two streams, since the paper's parameter counts leave room for exactly one GAFF.
    """

    def __init__(self, spec: Spec, fusion: Literal["gaff", "addition"] = "gaff") -> None:
        super().__init__()
        self.spec = spec
        self.visible = spec.make_stem(3)
        self.thermal = spec.make_stem(1)
        self.fusion = GAFF(spec.maps.fused) if fusion == "gaff" else Addition()
        self.top = spec.make_top()
        self.pyramid = spec.make_pyramid()
        self.head = spec.make_head()
        initialise(self)
        self.head.initialise()

    def forward(self, visible: Tensor, thermal: Tensor) -> Prediction:
        """Visible (B, 3, H, W) and thermal (B, 1, H, W), normalised."""
        finer, feature, fusion = self.fuse(visible, thermal)
        output = self.head(self.pyramid((*finer, feature, self.top(feature))))
        return Prediction(output, feature, fusion=fusion)

    def fuse(self, visible: Tensor, thermal: Tensor) -> tuple[list[Tensor], Tensor, Fusion | None]:
        """Up to the fusion point, all that a student needs of its teacher: finer maps, fused map, GAFF's masks."""
        *visible_maps, visible_last = self.visible(visible)
        *thermal_maps, thermal_last = self.thermal(thermal)
        finer = [(v + t) / 2 for v, t in zip(visible_maps, thermal_maps, strict=True)]
        fused = self.fusion(visible_last, thermal_last)
        return (finer, fused.fused, fused) if isinstance(fused, Fusion) else (finer, fused, None)


class DecisionLevel(nn.Module):
    """Two whole networks, one a sensor; what they give is averaged, by anchor, by pixel or by class."""

    def __init__(self, spec: Spec) -> None:
        super().__init__()
        self.spec = spec
        self.visible = Student(spec, "visible")
        self.thermal = Student(spec, "thermal")

    def forward(self, visible: Tensor, thermal: Tensor) -> Prediction:
        """Visible (B, 3, H, W) and thermal (B, 1, H, W), normalised."""
        one, other = self.visible(visible, None).output, self.thermal(visible, thermal).output
        return Prediction(one.mean(other))
