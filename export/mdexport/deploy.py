"""The network as it is deployed: from the cameras' bytes to boxes, a label map or classes, for any number of pairs.

Preprocessing is part of the graph, so training and inference cannot disagree. What differs from the network as it was
trained are the exact rewrites of `mdexport.rewrites`.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from mdexport.rewrites import (
    LabelMap,
    MeanSubtraction,
    TopBoxes,
    TopClasses,
    fold_scale,
    read_blocks,
    sum_thermal_kernels,
    to_planes,
)
from mdtrain.contract import TOP_CLASSES, TOP_K
from mdtrain.data.batches import MEAN, STD, THERMAL_MEAN, THERMAL_STD
from mdtrain.models.classifier import ClassifierSpec
from mdtrain.models.detector import Boxes, DetectorSpec
from mdtrain.models.energy import free_energy
from mdtrain.models.segmenter import SegmenterSpec, pooling_weights
from mdtrain.models.streams import Output, Student

PROBE = 8  # pixels a side of the image that shows how a student fuses its inputs


class Deployed(nn.Module):
    """A copy of a student with fused preprocessing and a rewritten first convolution; subclasses finish the output."""

    def __init__(self, student: Student) -> None:
        """Copy and rewrite.

        Raises:
            RewriteError: the student is of another kind than those of mdtrain.
        """
        super().__init__()
        self.student = copy.deepcopy(student)
        self.student.stem.replace_first(rewrite_first(student))
        self.has_thermal = student.inputs == "both"

    def image(self, visible: Tensor, thermal: Tensor | None) -> Tensor:
        """What the first convolution sees, (B, 3 or 4, H, W), values of bytes.

        Args:
            visible: (B, H, W, 3) uint8 RGB.
            thermal: (B, h, w) uint8 at the sensor's resolution; None for visible-only students.
        """
        planes = to_planes(visible)
        if not self.has_thermal:
            return planes
        assert thermal is not None  # noqa: S101  # the traced graph has both inputs
        grey = F.interpolate(to_planes(thermal), planes.shape[-2:], mode="bilinear", align_corners=False)
        return torch.cat([planes, grey], 1)

    def predict(self, visible: Tensor, thermal: Tensor | None) -> Output:
        """From the cameras' bytes to the student's output; see `image` for the arguments."""
        return self.student.predict(self.image(visible, thermal)).output


class DeployedDetector(Deployed):
    """To decoded boxes, the `top_k` best ones."""

    def __init__(self, student: Student, visible_size: tuple[int, int], top_k: int) -> None:
        super().__init__(student)
        assert isinstance(student.spec, DetectorSpec)  # noqa: S101  # of the task
        self.top = TopBoxes(student.spec.make_anchors(visible_size), student.spec.classes, top_k)

    def forward(self, visible: Tensor, thermal: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Detect; see `image` for the arguments.

        Returns:
            boxes (B, K, 4) float32 xyxy pixels of `visible`, scores (B, K) descending, classes (B, K) int32.
        """
        output = self.predict(visible, thermal)
        assert isinstance(output, Boxes)  # noqa: S101
        found: tuple[Tensor, Tensor, Tensor] = self.top(output.logits, output.deltas)
        return found


class DeployedSegmenter(Deployed):
    """To the class of every pixel, and to the energy of the pair."""

    def __init__(self, student: Student, visible_size: tuple[int, int]) -> None:
        super().__init__(student)
        assert isinstance(student.spec, SegmenterSpec)  # noqa: S101  # of the task
        stride = student.spec.output_stride
        small = visible_size[0] // stride, visible_size[1] // stride
        pooling_weights(small[1], small[0])  # kept: the tracer wants real numbers
        self.labels = LabelMap(student.spec.classes, small, visible_size)

    def forward(self, visible: Tensor, thermal: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Segment; see `image` for the arguments. Gives labels (B, H, W) int32 and energy (B,) float32."""
        logits = self.predict(visible, thermal).logits
        return self.labels(logits), free_energy(logits)


class DeployedClassifier(Deployed):
    """To the best classes of the pair, and to its energy."""

    def __init__(self, student: Student) -> None:
        super().__init__(student)
        assert isinstance(student.spec, ClassifierSpec)  # noqa: S101  # of the task
        self.top = TopClasses(student.spec.classes, min(TOP_CLASSES, student.spec.classes))

    def forward(self, visible: Tensor, thermal: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Classify; see `image` for the arguments.

        Returns:
            scores (B, K) float32 descending, classes (B, K) int32, energy (B,) float32.
        """
        found: tuple[Tensor, Tensor, Tensor] = self.top(self.predict(visible, thermal).logits)
        return found


def deploy(student: Student, visible_size: tuple[int, int]) -> Deployed:
    """The student as it is deployed, by its task; `visible_size` is (width, height).

    Raises:
        RewriteError: a rewrite would change what it computes.
    """
    if isinstance(student.spec, SegmenterSpec):
        return DeployedSegmenter(student, visible_size)
    if isinstance(student.spec, ClassifierSpec):
        return DeployedClassifier(student)
    return DeployedDetector(student, visible_size, TOP_K)


def rewrite_first(student: Student) -> nn.Module:
    """First convolution of a student for bytes, thermal in one channel.

    Raises:
        RewriteError: the student is of another kind than those of mdtrain.
    """
    conv, scale, mean = student.stem.first, STD * 255, MEAN * 255
    if student.inputs == "both":
        generator = torch.Generator().manual_seed(0)
        visible, thermal = (torch.rand(1, channels, PROBE, PROBE, generator=generator) for channels in (3, 1))
        conv = sum_thermal_kernels(conv, student.fuse_images(visible, thermal))
        scale = torch.cat([scale, torch.tensor([THERMAL_STD * 255])])
        mean = torch.cat([mean, torch.tensor([THERMAL_MEAN * 255])])
    conv = fold_scale(conv, scale)
    if conv.stride == (1, 1):  # VGG's
        return nn.Sequential(MeanSubtraction(mean), conv)
    return read_blocks(conv, mean)
