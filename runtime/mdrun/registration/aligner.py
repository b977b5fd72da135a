"""Resampling with maps that are made once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mdrun.registration.geometry import Size, scale_matrix, transform

FAR = 10_000.0  # pixels: beyond every image, and within the 16 bits that OpenCV 4 keeps of a position


class Aligner:
    """Brings images of one size onto fixed positions: bilinear, where it shrinks an average first."""

    def __init__(self, image_wh: Size, positions: NDArray[np.float64]) -> None:
        """Make the maps.

        Args:
            image_wh: (w, h) of the images to come.
            positions: (H, W, 2) x and y in such an image, for every pixel of the result.
        """
        self._small = (_reduced(positions[..., 0], 1, image_wh[0]), _reduced(positions[..., 1], 0, image_wh[1]))
        self._shrinks = self._small != image_wh
        flat = transform(scale_matrix(image_wh, self._small), positions.reshape(-1, 2))
        near = np.clip(flat, -FAR, FAR).astype(np.float32).reshape(positions.shape)
        # Two float maps: with OpenCV 5 as fast as fixed-point ones for 8 bits, twice as fast for 16, and more exact.
        self._maps = np.ascontiguousarray(near[..., 0]), np.ascontiguousarray(near[..., 1])

    def __call__(self, image: NDArray[Any]) -> NDArray[Any]:
        """(H, W) of the image's type; beyond the image its border is repeated."""
        import cv2

        if self._shrinks:
            image = np.asarray(cv2.resize(image, self._small, interpolation=cv2.INTER_AREA))
        return np.asarray(cv2.remap(image, *self._maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))


def _reduced(coordinate: NDArray[np.float64], axis: int, side: int) -> int:
    """Side to average an image to before bilinear interpolation, so that a shrink has no aliasing.

    As mdrun.preprocess.resize_into: nothing below a shrink of two; else by the largest factor that divides the side,
    which is fast, provided that it leaves a shrink of two at most.
    """
    if coordinate.shape[axis] < 2:
        return side
    step = float(np.median(np.abs(np.diff(coordinate, axis=axis)))) + 1e-6
    factor = next((factor for factor in range(int(step), 0, -1) if side % factor == 0), 1)
    return side // factor if step / factor <= 2 else max(1, round(side / int(step)))
