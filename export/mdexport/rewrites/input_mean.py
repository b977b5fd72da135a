"""From a camera's bytes to mean-free planes.

The mean is subtracted here and not folded into the bias of the first convolution: that one pads with zeros, which
mean "average" only in a mean-free image; folded, the border would change by up to 5.5 % (docs/export.md).
An upsampling may follow, for its weights sum to one: the mean of the small image is that of the large one.
"""

from __future__ import annotations

from torch import Tensor, nn

from mdexport.rewrites.base import RewriteError

REWRITE = "subtract the mean before the padding"
COLOUR, GREY = 3, 1  # channels
MOST = 255  # of a byte


class MeanSubtraction(nn.Module):
    """(B, H, W, 3) or (B, H, W) uint8 to (B, C, H, W) float32 without its mean, still in units of a byte."""

    mean: Tensor

    def __init__(self, mean: Tensor) -> None:
        """Check and keep the mean.

        Args:
            mean: (3,) for colour or (1,) for grey images, in [0, 255].

        Raises:
            RewriteError: the mean is of another number of channels, or of pixels that are no bytes.
        """
        super().__init__()
        if mean.shape not in {(COLOUR,), (GREY,)}:
            raise RewriteError(REWRITE, f"got the means of {mean.numel()} channels, wanted {COLOUR} or {GREY}")
        if not bool(((mean >= 0) & (mean <= MOST)).all()):
            raise RewriteError(REWRITE, f"the mean is {mean.tolist()}, wanted that of bytes, 0 to {MOST}")
        self.register_buffer("mean", mean.reshape(1, -1, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        """See the class.

        The cast comes first, since TensorRT takes a uint8 input nowhere else; the mean last, since a processor
        subtracts one number from a whole plane faster than three in turn from every pixel.
        """
        pixels = image.float()
        planes = pixels.permute(0, 3, 1, 2) if self.mean.shape[1] == COLOUR else pixels[:, None]
        return planes - self.mean
