"""Pinhole camera over a flat street: metres in, pixels out."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

NEAR_M = 0.3  # points nearer than this are drawn at this distance


@dataclass(frozen=True)
class Camera:
    """World: x right, y up, z forward, metres, origin on the road under the lens. Tilt is a shifted principal point.

    Attributes:
        fx: focal length, horizontal pixels.
        fy: focal length, vertical pixels.
        cx: principal column.
        cy: row of the horizon.
        above: height of the lens over the road, metres.
        width: image width, pixels.
        height: image height, pixels.
    """

    fx: float
    fy: float
    cx: float
    cy: float
    above: float
    width: int
    height: int

    def resized(self, width: int, height: int) -> Camera:
        """The same field of view on another pixel grid."""
        sx, sy = width / self.width, height / self.height
        return Camera(self.fx * sx, self.fy * sy, self.cx * sx, self.cy * sy, self.above, width, height)

    def turned(self, yaw: float, pitch: float) -> Camera:
        """Camera turned by small angles, radians: the image moves by focal length x angle."""
        return replace(self, cx=self.cx + self.fx * yaw, cy=self.cy + self.fy * pitch)

    def project(self, points: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """World points (N, 3) to pixels (N, 2) and pixels per metre (N,)."""
        z = np.maximum(points[:, 2], NEAR_M)
        u = self.cx + self.fx * points[:, 0] / z
        v = self.cy + self.fy * (self.above - points[:, 1]) / z
        return np.stack([u, v], axis=1).astype(np.float32), (self.fx / z).astype(np.float32)

    def rays(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Slopes of the pixel centres: (1, W) x per metre forward and (H, 1) y per metre forward."""
        u = (np.arange(self.width, dtype=np.float32) + 0.5 - self.cx) / self.fx
        v = (self.cy - np.arange(self.height, dtype=np.float32) - 0.5) / self.fy
        return u[None, :], v[:, None]
