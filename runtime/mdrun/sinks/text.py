"""Text on images: a real typeface where OpenCV has one (5.0 and later), its stroke font before.

Colours are RGB, and so are the images.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import cv2

Image = NDArray[np.uint8]
Colour = tuple[int, int, int]

REGULAR, BOLD = 400, 650  # weights of a variable font
HERSHEY_PX = 30.0  # height of FONT_HERSHEY_DUPLEX at scale 1, ascender to descender
PLAIN = str.maketrans({"·": "|", "…": "..."})  # the stroke font knows ASCII only
SEPARATOR = " · "


def draw_text(image: Image, text: str, xy: tuple[int, int], px: int, colour: Colour, *, weight: int = REGULAR) -> None:
    """Write one line in place, `px` pixels high; `xy` is its left end on the line the letters stand on."""
    import cv2

    if (face := _face()) is not None:
        cv2.putText(image, text, xy, colour, face, px, weight)
    else:
        thickness = 2 if weight >= BOLD and px >= 20 else 1
        plain, size = text.translate(PLAIN), px / HERSHEY_PX
        cv2.putText(image, plain, xy, cv2.FONT_HERSHEY_DUPLEX, size, colour, thickness, cv2.LINE_AA)


def text_width(text: str, px: int, weight: int = REGULAR) -> int:
    """Width of one line in pixels."""
    import cv2

    if (face := _face()) is not None:
        left, _, width, _ = cv2.getTextSize((0, 0), text, (0, 0), face, px, weight)
        return int(left + width)
    return int(cv2.getTextSize(text.translate(PLAIN), cv2.FONT_HERSHEY_DUPLEX, px / HERSHEY_PX, 1)[0][0])


def shorten(text: str, px: int, room: int) -> str:
    """The line without its last parts (`a · b · c` to `a · …`) where it is wider than `room` pixels."""
    parts = text.split(SEPARATOR)
    while len(parts) > 1 and text_width(text, px) > room:
        parts.pop()
        text = SEPARATOR.join([*parts, "…"])
    return text


@cache
def _face() -> cv2.FontFace | None:
    """The built-in sans serif of OpenCV 5, None before."""
    import cv2

    return cv2.FontFace("sans") if hasattr(cv2, "FontFace") else None
