"""A student that learns with the rounding of its INT8 engine.

Covers: convolutions that round their input and their weights to 8 bits as `mdexport int8` will, and learn through it.
Does not cover: the engine itself, whose scales `mdexport int8` measures on real pairs; roundings in between that no
convolution reads (a sum's two sides, the last outputs).

Jacob et al., Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference, CVPR 2018,
section 3: values are rounded in the forward pass, gradients pass straight through.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812  # the name everybody knows
from torch import Tensor, nn

from mdrun.errors import UsageError
from mdtrain.config import Int8Target
from mdtrain.data.batches import STD, THERMAL_STD
from mdtrain.models.resnet import BasicBlock
from mdtrain.models.streams import Student

TRAINING_ONLY = ("attention", "adapter", "head.auxiliary")  # parts of a student that never reach an engine
REACH = "reach"
FADE = 0.02  # of the way to each input's own range: about fifty inputs are remembered
LEAST_SCALE = 1e-12  # of what is all zero


def quantise(model: nn.Module, target: Int8Target) -> None:
    """Let every convolution that an engine keeps round as INT8 does, and freeze the statistics of all batch norms.

    Raises:
        UsageError: the network is no student.
    """
    if not isinstance(model, Student):
        raise UsageError(f"quantise={target} wants a student, got a {type(model).__name__}: no engine is made of it")
    first = None if model.inputs == "thermal" else model.stem.first  # a thermal-only student has no engine
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_pre_hook(_freeze)
        elif isinstance(module, BasicBlock):
            module.register_forward_pre_hook(_round_shortcut)
        elif isinstance(module, nn.Conv2d) and not name.startswith(TRAINING_ONLY):
            kind = FirstConv if module is first else Int8Conv
            model.set_submodule(name, kind(module, target))


def plain_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict without the ranges: the keys and values of the network as it is built."""
    return {name: value for name, value in weights.items() if name.rpartition(".")[2] != REACH}


def round_input(x: Tensor, reach: Tensor, target: Int8Target) -> Tensor:
    """Values on the grid of 8 bits: unsigned with a zero point (`cpu`), or signed and symmetric (`tensorrt`).

    Args:
        x: any shape.
        reach: (2,) how far values go below and above zero, both positive. What lies beyond is clipped.
        target: who runs the engine.
    """
    nothing = torch.zeros(1, dtype=torch.int32, device=x.device)
    if target == "tensorrt":
        scale = (reach.amax(0, keepdim=True) / 127).clamp(min=LEAST_SCALE)
        return torch.fake_quantize_per_tensor_affine(x.float(), scale, nothing, -127, 127)
    scale = (reach.sum(0, keepdim=True) / 255).clamp(min=LEAST_SCALE)
    zero_point = nothing + (reach[:1] / scale).round().int()
    return torch.fake_quantize_per_tensor_affine(x.float(), scale, zero_point, 0, 255)


def round_weight(weight: Tensor) -> Tensor:
    """A kernel (C_out, C_in, k, k) on the grid of 8 bits: signed and symmetric, each output channel with its own scale.

    The engine rounds kernels with their batch norm folded in. That is the same: folding multiplies an output channel by
    one number, of either sign, and its scale with it.
    """
    scale = (weight.detach().abs().amax((1, 2, 3)) / 127).clamp(min=LEAST_SCALE)
    zeros = torch.zeros_like(scale, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight, scale, zeros, 0, -127, 127)


class Int8Conv(nn.Module):
    """A convolution with rounded input and weights, and the parameters of the one it stands for.

    Attributes:
        reach: (2,) how far inputs have gone below and above zero. It widens at once, so that training clips nothing, as
            calibration by smallest and largest values does; and fades slowly, since the inputs shrink as they learn. A
            head's convolution has one range for all levels of the pyramid, its engine one for each.
    """

    reach: Tensor

    def __init__(self, conv: nn.Conv2d, target: Int8Target) -> None:
        super().__init__()
        self.weight, self.bias = conv.weight, conv.bias
        self.target: Int8Target = target
        self.register_buffer(REACH, torch.zeros(2, device=conv.weight.device))
        self._conv = partial(
            F.conv2d, stride=conv.stride, padding=conv.padding, dilation=conv.dilation, groups=conv.groups
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, H, W) to (B, C_out, H', W'), as the convolution that it stands for."""
        return self.convolve(x, self.weight)

    def convolve(self, x: Tensor, weight: Tensor) -> Tensor:
        """Both rounded, then convolved."""
        return self._conv(self.round(x), round_weight(weight), self.bias)

    def round(self, x: Tensor) -> Tensor:
        """The input as the engine has it; in training the range follows it."""
        if self.training:
            self._follow(x.detach())
        return round_input(x, self.reach, self.target)

    def _follow(self, x: Tensor) -> None:
        low, high = x.aminmax()
        seen = torch.stack([-low, high]).float().clamp(min=0)
        self.reach.copy_(torch.maximum(seen, self.reach.lerp(seen, FADE)))


class FirstConv(Int8Conv):
    """The convolution that sees the image, with input and kernel as the engine has them: those are what it rounds.

    The engine reads mean-free bytes, with the deviations in the kernel; and the thermal image once, with the sum of its
    three kernels.
    """

    scale: Tensor

    def __init__(self, conv: nn.Conv2d, target: Int8Target) -> None:
        super().__init__(conv, target)
        deviations = STD if conv.in_channels == len(STD) else torch.tensor([*STD, THERMAL_STD])
        self.register_buffer("scale", deviations[:, None, None].to(conv.weight.device), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised image (B, 3 or 6, H, W), the last three channels equal, to (B, C_out, H', W')."""
        visible, thermal = torch.split(self.weight, [3, self.weight.shape[1] - 3], 1)
        weight = torch.cat([visible, thermal.sum(1, keepdim=True)], 1)[:, : len(self.scale)]
        return self.convolve(x[:, : len(self.scale)] * self.scale, weight / self.scale)


def _freeze(norm: nn.Module, _: Any) -> None:
    """Before each call: statistics as they are, since the engine has them folded into its kernels."""
    norm.training = False


def _round_shortcut(block: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    """Before each call: a block's input is rounded for the shortcut too. Its convolutions find it on their grid."""
    conv = block.get_submodule("conv1")
    assert isinstance(conv, Int8Conv)  # noqa: S101  # every block's is
    return (conv.round(*inputs),)
