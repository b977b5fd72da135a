"""What the rewrites share: the refusal, and convolutions with other kernels."""

from __future__ import annotations

import copy

from torch import Tensor, nn

from mdrun.errors import EngineError


class RewriteError(EngineError):
    """A rewrite that would change what the network computes."""

    def __init__(self, rewrite: str, reason: str) -> None:
        """Compose the line: which rewrite, what was got and what was wanted."""
        super().__init__(f"cannot {rewrite}: {reason}; export with the version that trained the weights")


def describe(conv: nn.Conv2d) -> str:
    """What a convolution takes, for example `6 channels in 1 group`."""
    return f"{conv.in_channels} channels in {conv.groups} group{'s' * (conv.groups > 1)}"


def with_kernels(conv: nn.Conv2d, kernels: Tensor) -> nn.Conv2d:
    """A copy of a convolution in one group that has these kernels, (out, in, kh, kw)."""
    changed = copy.deepcopy(conv)
    changed.in_channels = kernels.shape[1]
    changed.weight = nn.Parameter(kernels, requires_grad=False)
    return changed
