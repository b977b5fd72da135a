"""The network as it is deployed: from the cameras' bytes to decoded boxes or to a label map.

Preprocessing is part of the graph, so training and inference cannot disagree. Exact rewrites, proven by the parity
check of every export:

- three equal thermal channels in front of the first convolution are one channel with the sum of their kernels;
- 1/255 and 1/std are folded into the first convolution; the mean is subtracted before its zero padding, because
  folding it into the bias would change the border (relative error 5.5e-2, docs/export.md);
- top-k runs on logits, sigmoid and box decoding only on the boxes that are left;
- the mean over the parts of a pyramid pooling is one matrix product.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from mdtrain.data.batches import MEAN, STD, THERMAL_MEAN, THERMAL_STD
from mdtrain.models.anchors import decode
from mdtrain.models.detector import DetectorSpec
from mdtrain.models.segmenter import SegmenterSpec, label_map, pooling_weights
from mdtrain.models.streams import Output, Student


class Deployed(nn.Module):
    """A copy of a student with fused preprocessing and a rewritten first convolution; subclasses finish the output."""

    mean: Tensor

    def __init__(self, student: Student) -> None:
        super().__init__()
        self.student = copy.deepcopy(student)
        self.student.stem.replace_first(fold_stem(student.stem.first))
        self.has_thermal = student.inputs == "both"
        self.register_buffer("mean", MEAN * 255)

    def predict(self, visible: Tensor, thermal: Tensor | None) -> Output:
        """From the cameras' bytes to the student's output.

        Args:
            visible: (1, H, W, 3) uint8 RGB.
            thermal: (1, h, w) uint8 at the sensor's resolution; None for visible-only students.
        """
        image = (visible.float() - self.mean).permute(0, 3, 1, 2)
        if self.has_thermal:
            assert thermal is not None  # noqa: S101  # the traced graph has both inputs
            grey = (thermal.float() - THERMAL_MEAN * 255)[:, None]
            image = torch.cat([image, F.interpolate(grey, image.shape[-2:], mode="bilinear", align_corners=False)], 1)
        return self.student.predict(image).output


class DeployedDetector(Deployed):
    """To decoded boxes, the `top_k` best ones."""

    anchors: Tensor

    def __init__(self, student: Student, visible_size: tuple[int, int], top_k: int) -> None:
        super().__init__(student)
        assert isinstance(student.spec, DetectorSpec)  # noqa: S101  # of the task
        self.top_k = top_k
        self.register_buffer("anchors", student.spec.make_anchors(visible_size))

    def forward(self, visible: Tensor, thermal: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Detect; see `predict` for the arguments.

        Returns:
            boxes (1, K, 4) float32 xyxy pixels of `visible`, scores (1, K) descending, classes (1, K) int32.
        """
        logits, deltas = self.predict(visible, thermal)
        assert deltas is not None  # noqa: S101  # a detector's
        classes = logits.shape[2]
        best, index = logits.flatten(1).topk(self.top_k, dim=1)
        anchor = torch.div(index, classes, rounding_mode="floor")
        chosen = deltas.gather(1, anchor[..., None].expand(-1, -1, 4))
        boxes = decode(chosen[0], self.anchors[anchor[0]])[None]
        return boxes, best.sigmoid(), (index - anchor * classes).int()


class DeployedSegmenter(Deployed):
    """To the class of every pixel: upsampling and argmax run in the engine, nine times less leaves it."""

    def __init__(self, student: Student, visible_size: tuple[int, int]) -> None:
        super().__init__(student)
        assert isinstance(student.spec, SegmenterSpec)  # noqa: S101  # of the task
        self.size = visible_size
        stride = student.spec.output_stride
        pooling_weights(visible_size[1] // stride, visible_size[0] // stride)  # kept: the tracer wants real numbers

    def forward(self, visible: Tensor, thermal: Tensor | None = None) -> Tensor:
        """Segment; see `predict` for the arguments. Gives labels (1, H, W) int32."""
        return label_map(self.predict(visible, thermal).logits, self.size).int()


def fold_stem(conv: nn.Conv2d) -> nn.Conv2d:
    """First convolution for mean-free pixel values in [0, 255]: scale folded, thermal kernels summed."""
    weight = conv.weight.detach().clone()
    weight[:, :3] /= 255 * STD[:, None, None]
    kernels = [weight[:, :3]]
    if conv.in_channels == 6:
        kernels.append(weight[:, 3:].sum(1, keepdim=True) / (255 * THERMAL_STD))
    merged = torch.cat(kernels, 1)
    folded = copy.deepcopy(conv)
    folded.in_channels = merged.shape[1]
    folded.weight = nn.Parameter(merged, requires_grad=False)
    return folded
