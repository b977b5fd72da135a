"""Does a thermal camera send what it says? Looked at on the first images of a stream, and told as a problem.

Such streams decode without an error and give poor results, which is why nobody finds them (docs/thermal.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

LOOKS = 9  # images: one second of the slowest camera
LEVELS = 256  # of 8 bits
# A stretched 8-bit image has gaps between its levels. The coarsest real image at hand (FLIR E40) uses 900 counts of
# 1208; 16 counts a level leaves an order of magnitude between it and the finest stretch that does harm.
STRETCH = 16
# Steps between neighbours as sent, over those with the bytes swapped: below 1/100 in every real image at hand, so
# above 100 in the same ones swapped.
SWAPPED = 10.0


class StartCheck:
    """Collects what is wrong with the first images of one stream.

    Attributes:
        problems: one line each, with the way out; complete once `done`.
        done: enough images were seen.
    """

    def __init__(self, looks: int = LOOKS) -> None:
        """`looks`: images to look at; a problem must be in all of them."""
        self.problems: list[str] = []
        self.done = False
        self._left = looks
        self._found: list[str] | None = None

    def see(self, image: NDArray[Any], more: Sequence[str] = ()) -> None:
        """Look at the next image, (H, W) uint8 or uint16; after the last one this does nothing.

        `more`: problems of it that are known already.
        """
        if self.done:
            return
        found = [*image_problems(image), *more]
        kinds = [_kind(problem) for problem in found]
        self._found = found if self._found is None else [old for old in self._found if _kind(old) in kinds]
        self._left -= 1
        if self._left == 0 or not self._found:  # a problem that one image does not have is none
            self.problems, self.done = self._found, True


def image_problems(image: NDArray[Any]) -> list[str]:
    """What is wrong with one thermal image, (H, W) uint8 or uint16; empty for a sound one."""
    least, most = int(image.min()), int(image.max())
    if least == most:
        return [
            f"constant image: every pixel is {least}; is the lens covered, the shutter closed or the sensor dead?"
            " Wanted a scene"
        ]
    if image.dtype != np.uint16:
        return []
    told = _one_byte(image, most)
    if not told and _roughness(image) > SWAPPED * _roughness(image.byteswap()):
        return [
            f"swapped bytes: values jump between {least} and {most} and are smooth with their bytes swapped; "
            "choose the other byte order of Y16"
        ]
    if told := told or _stretched(image, least, most):
        return [f"8-bit output sent as 16 bits: {told}; switch the camera's gain control (AGC) off, or use 8 bits"]
    return []


def _one_byte(image: NDArray[np.uint16], most: int) -> str:
    """Why the image holds one byte a pixel; empty where it holds two."""
    if most < LEVELS:
        return f"no value is above {most}"
    low, high = image & 0xFF, image >> 8
    if not low.any():
        return "the low byte of every value is 0"
    return "both bytes of every value are alike" if np.array_equal(low, high) else ""


def _stretched(image: NDArray[np.uint16], least: int, most: int) -> str:
    """Why the image is 8 bits times some factor; empty where it is not."""
    levels = int(np.count_nonzero(np.bincount((image - np.uint16(least)).ravel())))
    if levels <= LEVELS and min(most - least, image.size) >= STRETCH * levels:
        return f"only {levels} levels between {least} and {most}"
    return ""


def _roughness(image: NDArray[np.uint16]) -> float:
    """Mean step between horizontal neighbours."""
    return float(np.abs(np.diff(image.astype(np.int32), axis=1)).mean()) if image.shape[1] > 1 else 0.0


def _kind(problem: str) -> str:
    return problem.partition(":")[0]
