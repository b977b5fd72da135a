"""The free energy of class logits: low on what a network knows, high on what is strange to it."""

from __future__ import annotations

from torch import Tensor


def free_energy(logits: Tensor) -> Tensor:
    """(B,) float32 free energy -log sum exp of logits (B, classes), or (B, classes, h, w) as the mean over the map.

    Liu et al., Energy-based Out-of-distribution Detection, NeurIPS 2020, Eq. 4 at temperature 1; up to a constant it is
    -log p(x) of a classifier read as an energy-based model (Grathwohl et al., Your Classifier is Secretly an
    Energy-Based Model, ICLR 2020, Eq. 6).
    """
    energy = -logits.float().logsumexp(1)
    return energy if energy.ndim == 1 else energy.mean((1, 2))
