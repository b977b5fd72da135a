"""Dead and hot pixels of a thermal camera: replaced where they are known, found where they are not."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mdrun.errors import DataError

LEAST_FRAMES = 16  # to look for bad pixels in: fewer cannot tell a quiet pixel from a dead one
ALIVE_SHARE = 0.99  # of the pixels must have changed before one that has not is dead
# Robust standard deviations of all pixels' lasting difference from their neighbours. Edges of a still scene reach
# 37 in the Lepton recordings at hand, the faults that matter several hundred.
DEVIATION = 60.0
TO_SIGMA = 1.4826  # median absolute deviation to standard deviation of a normal distribution
MOST_RINGS = 8  # around a bad pixel, before a hole is too large to be filled


class PixelRepair:
    """Replaces the bad pixels of images of one size by the median of their nearest good neighbours.

    Which pixels are read is worked out once; an image costs microseconds.
    """

    def __init__(self, bad: Sequence[tuple[int, int]], size: tuple[int, int]) -> None:
        """Work out the neighbours.

        Args:
            bad: (x, y) of each bad pixel.
            size: (width, height) of the images.

        Raises:
            DataError: a pixel outside of the image, or a hole of bad pixels too large to be filled.
        """
        width, height = size
        good = np.ones((height, width), bool)
        for x, y in bad:
            if not (0 <= x < width and 0 <= y < height):
                raise DataError(f"bad_pixels names ({x}, {y}), and the thermal image is {width}x{height}; correct it")
            good[y, x] = False
        groups: dict[int, list[tuple[int, list[int]]]] = defaultdict(list)
        for y, x in np.argwhere(~good):
            sources = _good_neighbours(good, int(x), int(y))
            groups[len(sources)].append((int(y) * width + int(x), sources))
        # pixels with equally many neighbours are done at once: (n,) places, (n, k) places of their neighbours
        self._groups = [
            (np.array([place for place, _ in group]), np.array([sources for _, sources in group]))
            for group in groups.values()
        ]

    def __call__(self, image: NDArray[Any]) -> NDArray[Any]:
        """A copy of (H, W) without the bad pixels, of the same type; the image itself where there are none."""
        if not self._groups:
            return image
        repaired = np.ascontiguousarray(image).copy()
        flat = repaired.reshape(-1)
        for places, sources in self._groups:
            flat[places] = np.rint(np.median(flat[sources], axis=1)).astype(image.dtype)
        return repaired


def find_bad_pixels(frames: NDArray[Any]) -> list[tuple[int, int]]:
    """(x, y) of the pixels that never change, or always lie far above or below their neighbours, row by row.

    Wants a scene that moves, or a camera that does: a small hot thing that stays where it is looks like a bad pixel.

    Args:
        frames: (N, H, W) uint8 or uint16 of one stream, without shutter events.

    Raises:
        DataError: fewer than LEAST_FRAMES images, or another type or shape.
    """
    import cv2

    if frames.ndim != 3 or frames.dtype not in (np.uint8, np.uint16) or len(frames) < LEAST_FRAMES:
        raise DataError(
            f"got {frames.dtype} {frames.shape}, wanted at least {LEAST_FRAMES} images (n, h, w) of 8 or 16 bits "
            "to find bad pixels in; record for longer"
        )
    still = frames.max(0) == frames.min(0)
    dead = still if still.mean() <= 1 - ALIVE_SHARE else np.zeros_like(still)
    differences = np.stack([frame.astype(np.int32) - cv2.medianBlur(frame, 3) for frame in frames])
    lasting = np.median(differences, axis=0)
    sigma = max(TO_SIGMA * float(np.median(np.abs(lasting - np.median(lasting)))), 1.0)  # 1: a count is the least step
    one_sided = (differences > 0).all(0) | (differences < 0).all(0)
    odd = one_sided & (np.abs(lasting) > DEVIATION * sigma)
    return [(int(x), int(y)) for y, x in np.argwhere(dead | odd)]


def _good_neighbours(good: NDArray[np.bool_], x: int, y: int) -> list[int]:
    """Flat places of the good pixels in the smallest square around (x, y) that has any."""
    width = good.shape[1]
    for ring in range(1, MOST_RINGS + 1):
        top, left = max(y - ring, 0), max(x - ring, 0)
        rows, columns = np.nonzero(good[top : y + ring + 1, left : x + ring + 1])
        if len(rows):
            return [int(place) for place in (rows + top) * width + columns + left]
    raise DataError(
        f"bad_pixels leave no good one within {MOST_RINGS} pixels of ({x}, {y}); the camera cannot be used like this"
    )
