"""The mean is subtracted from the pixels, in units of a byte, before any zero padding.

It is not folded into the bias of the first convolution: that one pads with zeros, which mean "average" only in a
mean-free image; folded, the border would change by up to 5.5 % (docs/export.md). An upsampling may come before: its
weights sum to one, so the mean of the small image is that of the large one.
"""

from __future__ import annotations

from torch import Tensor, nn

from mdexport.rewrites.base import RewriteError

REWRITE = "subtract the mean before the padding"
MOST = 255  # of a byte


def to_planes(image: Tensor) -> Tensor:
    """(B, H, W, C) or (B, H, W) uint8 to (B, C, H, W) float32, values as they are.

    The cast comes first, since TensorRT takes a uint8 input nowhere else.
    """
    pixels = image.float()
    return pixels.permute(0, 3, 1, 2) if pixels.dim() == 4 else pixels[:, None]


def check_mean(mean: Tensor) -> None:
    """Raises RewriteError where the mean (C,) is not that of bytes."""
    if not bool(((mean >= 0) & (mean <= MOST)).all()):
        raise RewriteError(REWRITE, f"the mean is {mean.tolist()}, wanted that of bytes, 0 to {MOST}")


class MeanSubtraction(nn.Module):
    """(B, C, H, W) without its mean (C,), both in units of a byte."""

    mean: Tensor

    def __init__(self, mean: Tensor) -> None:
        """Check and keep the mean.

        Raises:
            RewriteError: it is not that of bytes.
        """
        super().__init__()
        check_mean(mean)
        self.register_buffer("mean", mean.reshape(1, -1, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        """See the class."""
        return image - self.mean
