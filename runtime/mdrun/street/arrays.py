"""Names for the arrays of this package."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]  # float32 wherever it is as large as an image
Bytes = NDArray[np.uint8]
Window = tuple[int, int, int, int]  # x0, y0, x1, y1 in pixels
