"""Top-k before softmax: it is monotone, so the best logits are the best scores. Its denominator is the energy's sum."""

from __future__ import annotations

from torch import Tensor, nn

from mdexport.rewrites.base import RewriteError
from mdtrain.models.energy import free_energy

REWRITE = "choose classes before the softmax"


class TopClasses(nn.Module):
    """Logits (B, classes) to the K best classes of each pair, and its free energy."""

    def __init__(self, classes: int, top_k: int) -> None:
        """Check and keep the number.

        Args:
            classes: number of classes.
            top_k: K.

        Raises:
            RewriteError: there are fewer than K classes to choose from.
        """
        super().__init__()
        if not 1 <= top_k <= classes:
            raise RewriteError(REWRITE, f"there are {classes} classes, wanted the {top_k} best")
        self.top_k = top_k

    def forward(self, logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Choose, then normalise: softmax is exp(logit - log sum exp), and the energy is -log sum exp.

        Returns:
            scores (B, K) float32 descending, classes (B, K) int32, energy (B,) float32.
        """
        energy = free_energy(logits)
        best, classes = logits.float().topk(self.top_k, dim=1)
        return (best + energy[:, None]).exp(), classes.int(), energy
