"""A 7x7 convolution with stride 2 is a 4x4 one with stride 1 over blocks of 2x2 pixels.

The sums are the same, an eighth of the kernel's taps being new zeros. But four times the channels fill the registers
that a first convolution of three or four channels leaves empty: in INT8 on x86 it takes half the time, and TensorRT's
fast INT8 and FP16 convolutions want channels by the dozen, too. (The same rewrite is known from MLPerf's ResNet-50.)

The convolution that makes the blocks pads nothing, so its bias can subtract the mean: no pass over the image is left.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from mdexport.rewrites.base import RewriteError
from mdexport.rewrites.input_mean import check_mean

REWRITE = "read the image in blocks of pixels"
BLOCK = 2  # pixels a side
KERNEL, STRIDE, PADDING = (7, 7), (BLOCK, BLOCK), (3, 3)
BEFORE, AFTER = 2, 1  # blocks that the kernel reaches to the left and to the right


def read_blocks(conv: nn.Conv2d, mean: Tensor) -> nn.Sequential:
    """The first convolution in two: image to mean-free blocks, blocks to its output; height and width must be even.

    Args:
        conv: first convolution of C channels, for mean-free pixels.
        mean: (C,) of the pixels.

    Raises:
        RewriteError: it is not 7x7 with stride 2 and 3 zeros around, in one group and without dilation, or the mean is
            not that of bytes.
    """
    check_mean(mean)
    got = (conv.kernel_size, conv.stride, conv.padding, conv.dilation, conv.groups, conv.padding_mode)
    wanted = (KERNEL, STRIDE, PADDING, (1, 1), 1, "zeros")
    if got != wanted:
        raise RewriteError(REWRITE, f"the first convolution is {got}, wanted {wanted}")
    outputs, channels = conv.weight.shape[:2]
    blocks = nn.Conv2d(channels, BLOCK * BLOCK * channels, BLOCK, BLOCK)
    blocks.bias = nn.Parameter(-mean.repeat(BLOCK * BLOCK).to(conv.weight), requires_grad=False)
    blocks.weight = nn.Parameter(_copy_kernels(channels).to(conv.weight), requires_grad=False)
    # output y sums input 2 y - 3 + k: with a zero in front, k + 1 is 2 (block) + (row in it), blocks y - 2 to y + 1
    taps = BEFORE + 1 + AFTER
    kernels = F.pad(conv.weight.detach(), (1, 0, 1, 0)).reshape(outputs, channels, taps, BLOCK, taps, BLOCK)
    small = nn.Conv2d(blocks.out_channels, outputs, taps, bias=conv.bias is not None)
    small.weight = nn.Parameter(kernels.permute(0, 3, 5, 1, 2, 4).flatten(1, 3).contiguous(), requires_grad=False)
    small.bias = conv.bias
    return nn.Sequential(blocks, nn.ZeroPad2d((BEFORE, AFTER, BEFORE, AFTER)), small)


def _copy_kernels(channels: int) -> Tensor:
    """(4 C, C, 2, 2): each output copies one pixel of the block of one channel."""
    eye = torch.eye(BLOCK * BLOCK * channels)
    return eye.reshape(-1, BLOCK, BLOCK, channels).permute(0, 3, 1, 2)
