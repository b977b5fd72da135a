"""How well an energy tells strange images from familiar ones.

Liu et al., Energy-based Out-of-distribution Detection, NeurIPS 2020: the higher the free energy, the stranger the
image; AUROC, and FPR95, the share of strange images that pass where 95 % of the familiar ones do.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

FAMILIAR_SHARE = 0.95  # of the familiar images lie below the threshold


class Separation(NamedTuple):
    """Familiar against strange images, all in [0, 1].

    Attributes:
        auroc: probability that a strange image has the higher energy; 0.5 says nothing.
        fpr95: share of strange images that lie below the threshold of 95 % of the familiar ones.
    """

    auroc: float
    fpr95: float


def energy_threshold(familiar: ArrayLike) -> float:
    """Energy below which 95 % of the familiar images lie.

    Args:
        familiar: (N,) energies of images such as those of the training.
    """
    return float(np.quantile(np.asarray(familiar, np.float64), FAMILIAR_SHARE))


def separation(familiar: ArrayLike, strange: ArrayLike) -> Separation:
    """AUROC and FPR95 of energies (N,) and (M,); equal energies count half."""
    usual: NDArray[Any] = np.asarray(familiar, np.float64)[None]
    odd: NDArray[Any] = np.asarray(strange, np.float64)[:, None]
    above = (odd > usual).mean() + 0.5 * (odd == usual).mean()
    return Separation(float(above), float((odd <= energy_threshold(usual)).mean()))
