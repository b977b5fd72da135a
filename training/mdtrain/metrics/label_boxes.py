"""What every label of a box has to be, whichever file it stands in."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mdrun.errors import DataError


def cut_box(corners: Sequence[float], size: tuple[float, float], where: str, shown: str) -> NDArray[np.float64]:
    """Corners x1, y1, x2, y2 in fractions of the image; what leaves the image, as in published sets, is cut off.

    Args:
        corners: x1, y1, x2, y2.
        size: width and height of the image in the same unit.
        where: names file and entry in errors.
        shown: the box as the file has it.

    Raises:
        DataError: a corner is no finite number, or nothing of the box is within the image.
    """
    fractions = np.array(corners, np.float64) / (*size, *size)
    cut = fractions.clip(0, 1)
    x1, y1, x2, y2 = cut.astype(np.float32)  # as records hold them: thinner boxes are none
    if not (np.isfinite(fractions).all() and x1 < x2 and y1 < y2):
        raise DataError(
            f"{where}: the box {shown!r} has no area within the image, {size[0]:g} wide and {size[1]:g} high; "
            "correct it or take it out"
        )
    return cut
