"""The network as it is deployed: from the cameras' bytes to decoded boxes or to a label map, for any number of pairs.

Preprocessing is part of the graph, so training and inference cannot disagree. What differs from the network as it was
trained are the exact rewrites of `mdexport.rewrites`.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from mdexport.rewrites import LabelMap, MeanSubtraction, TopBoxes, fold_scale, read_blocks, sum_thermal_kernels
from mdtrain.data.batches import MEAN, STD, THERMAL_MEAN, THERMAL_STD
from mdtrain.models.detector import DetectorSpec
from mdtrain.models.segmenter import SegmenterSpec, free_energy, pooling_weights
from mdtrain.models.streams import Output, Student

PROBE = 8  # pixels a side of the image that shows how a student fuses its inputs


class Deployed(nn.Module):
    """A copy of a student with fused preprocessing and a rewritten first convolution; subclasses finish the output.

    Attributes:
        thermal: preprocessing of the thermal image; None in visible-only students.
    """

    def __init__(self, student: Student) -> None:
        """Copy and rewrite.

        Raises:
            RewriteError: the student is of another kind than those of mdtrain.
        """
        super().__init__()
        self.student = copy.deepcopy(student)
        self.student.stem.replace_first(rewrite_first(student))
        self.visible = MeanSubtraction(MEAN * 255)
        both = student.inputs == "both"
        self.thermal = MeanSubtraction(torch.tensor([THERMAL_MEAN * 255])) if both else None

    def image(self, visible: Tensor, thermal: Tensor | None) -> Tensor:
        """What the first convolution sees, (B, 3 or 4, H, W): mean-free, in units of a byte.

        Args:
            visible: (B, H, W, 3) uint8 RGB.
            thermal: (B, h, w) uint8 at the sensor's resolution; None for visible-only students.
        """
        planes: Tensor = self.visible(visible)
        if self.thermal is None:
            return planes
        assert thermal is not None  # noqa: S101  # the traced graph has both inputs
        grey = F.interpolate(self.thermal(thermal), planes.shape[-2:], mode="bilinear", align_corners=False)
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
        logits, deltas = self.predict(visible, thermal)
        found: tuple[Tensor, Tensor, Tensor] = self.top(logits, deltas)
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


def rewrite_first(student: Student) -> nn.Module:
    """First convolution of a student for mean-free pixels in units of a byte, thermal in one channel.

    Raises:
        RewriteError: the student is of another kind than those of mdtrain.
    """
    conv = _mean_free(student)
    # VGG's first convolution is another one, with stride 1
    return read_blocks(conv) if conv.stride == (2, 2) else conv


def _mean_free(student: Student) -> nn.Conv2d:
    conv, scale = student.stem.first, STD * 255
    if student.inputs == "visible":
        return fold_scale(conv, scale)
    generator = torch.Generator().manual_seed(0)
    visible, thermal = (torch.rand(1, channels, PROBE, PROBE, generator=generator) for channels in (3, 1))
    single = sum_thermal_kernels(conv, student.fuse_images(visible, thermal))
    return fold_scale(single, torch.cat([scale, torch.tensor([THERMAL_STD * 255])]))
