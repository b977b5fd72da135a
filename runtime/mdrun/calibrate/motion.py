"""How much moves where: cheap motion energy of one camera, frame by frame, for recordings and live streams alike."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mdrun.calibrate.structure import scaling

GRID = (80, 60)  # cells (across, down): the smaller a cell, the shorter a thing is in it; 8x6 doubles the spread
BASELINE_NS = 111_111_111  # a frame period at 9 Hz: both cameras compare images that lie equally far apart
SMALL = (160, 120)  # pixels (width, height) that are compared; a Lepton has no more


@dataclass(frozen=True)
class Motion:
    """What moved between two images of one camera.

    Attributes:
        at_ns: middle of both capture times: what a difference of two images speaks of.
        energy: (60, 80) float32, mean absolute difference of each cell, grey levels.
    """

    at_ns: int
    energy: NDArray[np.float32]


@dataclass
class MotionMeter:
    """Compares every image with one that is about a baseline older.

    Attributes:
        homography: (3, 3) pixels of these images to pixels of the other camera's, on whose view cells are laid; None
            where both see the same field.
        size: (width, height) of the other camera's images, with `homography`.
        baseline_ns: age of the image compared with.
    """

    homography: NDArray[np.float64] | None = None
    size: tuple[int, int] | None = None
    baseline_ns: int = BASELINE_NS
    _past: deque[tuple[int, NDArray[np.float32]]] = field(default_factory=deque, repr=False)

    def add(self, captured_ns: int, grey: NDArray[Any]) -> Motion | None:
        """Take the next image, (H, W) uint8 or uint16; None while there is none to compare it with.

        An exact repeat is a closed shutter and left out, and so is a difference that spans one.
        """
        small = self._small(grey)
        if self._past and np.array_equal(small, self._past[-1][1]):
            return None
        self._past.append((captured_ns, small))
        target = captured_ns - self.baseline_ns
        while len(self._past) > 2 and abs(self._past[1][0] - target) <= abs(self._past[0][0] - target):
            self._past.popleft()
        before_ns, before = self._past[0]
        if not self.baseline_ns / 2 < captured_ns - before_ns < 2 * self.baseline_ns:
            return None
        return Motion((before_ns + captured_ns) // 2, _energy(before, small))

    def _small(self, grey: NDArray[Any]) -> NDArray[np.float32]:
        image = grey.astype(np.float32)
        if self.homography is not None and self.size is not None:
            to_small = scaling(SMALL[0] / self.size[0], SMALL[1] / self.size[1]) @ self.homography
            return np.asarray(cv2.warpPerspective(image, to_small, SMALL), np.float32)
        return np.asarray(cv2.resize(image, SMALL, interpolation=cv2.INTER_AREA), np.float32)


def _energy(before: NDArray[np.float32], after: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean absolute difference of each cell; automatic gain and exposure move the whole image and are taken out."""
    change = cv2.GaussianBlur(after - before, (0, 0), 1.0)
    return np.asarray(cv2.resize(np.abs(change - np.median(change)), GRID, interpolation=cv2.INTER_AREA), np.float32)
