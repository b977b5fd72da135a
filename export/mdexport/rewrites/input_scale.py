"""w * (x / s) = (w / s) * x: what divides the image divides the kernels of the first convolution instead.

Its padding stays what it is, since 0 / s = 0.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mdexport.rewrites.base import RewriteError, describe, with_kernels

REWRITE = "fold the scale into the first convolution"


def fold_scale(conv: nn.Conv2d, scale: Tensor) -> nn.Conv2d:
    """The first convolution for an image that was not divided by `scale`.

    Args:
        conv: first convolution.
        scale: (C,), what each channel of the image was divided by.

    Raises:
        RewriteError: the convolution takes another number of channels or has groups, or a scale is 0 or not finite.
    """
    if conv.groups != 1 or scale.shape != (conv.in_channels,):
        raise RewriteError(REWRITE, f"it takes {describe(conv)}, wanted {len(scale)} in 1")
    if not bool((torch.isfinite(scale) & (scale != 0)).all()):
        raise RewriteError(REWRITE, f"the scale is {scale.tolist()}, wanted finite numbers other than 0")
    return with_kernels(conv, conv.weight.detach() / scale[:, None, None])
