"""One JPEG image of a camera, or nothing where it is damaged."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mdrun.frames import Modality
from mdrun.sources.images import check_thermal, check_visible

_START, END = b"\xff\xd8", b"\xff\xd9"  # SOI and EOI (ITU T.81, annex B)


def decode_jpeg(data: bytes, modality: Modality, where: str) -> NDArray[Any] | None:
    """As frames hold it; None where it is cut short or no JPEG at all.

    Raises:
        DataError: the image of the other camera of a rig.
    """
    import cv2

    whole = data.rstrip(b"\r\n\0")  # drivers and servers pad
    if not whole.startswith(_START) or not whole.endswith(END):
        return None
    image: NDArray[Any] | None = cv2.imdecode(np.frombuffer(whole, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None:
        return None
    if modality is Modality.THERMAL:
        return check_thermal(image, where)
    check_visible(8, image.shape[2] if image.ndim == 3 else 1, where)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
