"""Top-k before sigmoid and box decoding: sigmoid is monotone, so the best logits are the best scores."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mdexport.rewrites.base import RewriteError
from mdtrain.models.anchors import decode

REWRITE = "choose boxes before decoding"


class TopBoxes(nn.Module):
    """Logits (B, A, classes) and deltas (B, A, 4) to the K best boxes of each image.

    A class and an anchor make a box, as in the reference: one anchor may give several.
    """

    anchors: Tensor

    def __init__(self, anchors: Tensor, classes: int, top_k: int) -> None:
        """Check and keep what does not depend on the image.

        Args:
            anchors: (A, 4) cx, cy, w, h in pixels.
            classes: number of classes.
            top_k: K.

        Raises:
            RewriteError: there are fewer than K boxes to choose from.
        """
        super().__init__()
        if not 1 <= top_k <= len(anchors) * classes:
            raise RewriteError(
                REWRITE, f"{len(anchors)} anchors of {classes} classes are {len(anchors) * classes}, wanted {top_k}"
            )
        self.top_k = top_k
        self.register_buffer("anchors", anchors)

    def forward(self, logits: Tensor, deltas: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Choose, then decode.

        Returns:
            boxes (B, K, 4) float32 xyxy pixels, scores (B, K) descending, classes (B, K) int32.
        """
        classes = logits.shape[2]
        best, index = logits.flatten(1).topk(self.top_k, dim=1)
        anchor = torch.div(index, classes, rounding_mode="floor")
        chosen = deltas.gather(1, anchor[..., None].expand(-1, -1, 4))
        # `decode` wants (K, 4) anchors, the same for all images; here each image has its own
        boxes = decode(chosen.flatten(0, 1), self.anchors[anchor.flatten()])
        return boxes.reshape(-1, self.top_k, 4), best.sigmoid(), (index - anchor * classes).int()
