"""Argmax in the engine, right behind the upsampling: one number a pixel leaves it, not one a class.

A softmax between the two would change nothing, since it is monotone. Argmax before the upsampling would: a
bilinear mean of logits has borders that the map of the small image cannot know.
"""

from __future__ import annotations

from torch import Tensor, nn

from mdexport.rewrites.base import RewriteError
from mdtrain.models.segmenter import label_map

REWRITE = "choose the class of each pixel in the engine"
MOST_CLASSES = 256  # label maps are bytes in the runtime


class LabelMap(nn.Module):
    """Logits (B, classes, h, w) to labels (B, H, W) int32."""

    def __init__(self, classes: int, logits: tuple[int, int], size: tuple[int, int]) -> None:
        """Check and keep the size.

        Args:
            classes: number of classes.
            logits: (width, height) of the logits.
            size: (width, height) of the labels.

        Raises:
            RewriteError: the labels are smaller than the logits, so that pixels would be passed over; or there are
                more classes than a label map can tell apart.
        """
        super().__init__()
        if any(small > large for small, large in zip(logits, size, strict=True)):
            raise RewriteError(
                REWRITE, f"logits of {logits[0]}x{logits[1]} are larger than the label map, {size[0]}x{size[1]}"
            )
        if not 1 <= classes <= MOST_CLASSES:
            raise RewriteError(REWRITE, f"there are {classes} classes, wanted 1 to {MOST_CLASSES}")
        self.size = size

    def forward(self, logits: Tensor) -> Tensor:
        """See the class."""
        return label_map(logits, self.size).int()
