"""w3 * t + w4 * t + w5 * t = (w3 + w4 + w5) * t: three equal thermal channels are one with the sum of their kernels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mdexport.rewrites.base import RewriteError, describe, with_kernels

REWRITE = "sum the thermal kernels"
VISIBLE, BOTH = 3, 6  # channels of an image without and with the thermal one


def sum_thermal_kernels(conv: nn.Conv2d, image: Tensor) -> nn.Conv2d:
    """The first convolution for four channels: visible RGB and one thermal.

    Args:
        conv: first convolution.
        image: (B, 6, H, W), an example of what the network gives it; not a constant one, whose channels are all equal.

    Raises:
        RewriteError: the convolution does not take six channels in one group, or the last three of the image differ.
    """
    if conv.in_channels != BOTH or conv.groups != 1:
        raise RewriteError(REWRITE, f"the first convolution takes {describe(conv)}, wanted {BOTH} in 1")
    first, *others = image[:, VISIBLE:].unbind(1)
    if len(others) != BOTH - VISIBLE - 1 or not all(torch.equal(first, other) for other in others):
        raise RewriteError(REWRITE, "the thermal channels of the network's image differ, wanted three equal ones")
    weight = conv.weight.detach()
    return with_kernels(conv, torch.cat([weight[:, :VISIBLE], weight[:, VISIBLE:].sum(1, keepdim=True)], 1))
