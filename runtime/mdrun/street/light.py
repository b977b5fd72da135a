"""Light of a street: sky, sun, lamps and the camera's own vehicle; and the curve from light to pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mdrun.street.arrays import Floats


@dataclass(frozen=True)
class Light:
    """All linear, relative to a white surface that fills the pixel's range at 1.

    Attributes:
        ambient: (3,) light from everywhere.
        sun: (3,) light of the sun on what faces it; zero without sun.
        shadow_slope: (x, z) metres of shadow per metre of height.
        lamps: (L, 3) positions, metres.
        lamp_rgb: (L, 3) light of each lamp.
        ego: strength of the headlights of the vehicle that carries the camera.
        tint: (3,) white balance of the camera.
    """

    ambient: Floats
    sun: Floats
    shadow_slope: tuple[float, float]
    lamps: Floats
    lamp_rgb: Floats
    ego: float
    tint: Floats

    def at(self, x: Floats, y: Floats, z: Floats) -> Floats:
        """Light (..., 3) without the sun that falls on world points."""
        total = np.broadcast_to(self.ambient, (*x.shape, 3)).astype(np.float32)
        for (lx, ly, lz), rgb in zip(self.lamps, self.lamp_rgb, strict=True):
            down = np.maximum(ly - y, 0.0)
            square = (x - lx) ** 2 + down**2 + (z - lz) ** 2 + 1.0
            total += (np.where(y < ly, 0.15 + 0.85 * down / np.sqrt(square), 0.05) * 25.0 / square)[..., None] * rgb
        if self.ego:
            total += (self.ego * headlight_beam(x, y, z))[..., None] * np.array([1.0, 0.96, 0.85], np.float32)
        return total


def headlight_beam(x: Floats, y: Floats, z: Floats) -> Floats:
    """Dipped beam of a vehicle at the origin that looks along +z: wide and low, cut off at lamp height."""
    ahead = np.maximum(z, 0.8)
    spread = np.exp(-((x / (0.32 * ahead + 0.8)) ** 2))
    low = np.exp(-((np.maximum(y - 0.5, 0) / (0.25 + 0.015 * ahead)) ** 2))
    return np.asarray(np.where(z > 0.5, spread * low * 60.0 / (ahead**2 + 60.0), 0), np.float32)


def tone(linear: Floats, black: float) -> NDArray[np.uint8]:
    """Camera curve from linear light to 8 bit: a soft shoulder towards white, gamma 1/2.2, `black` levels crushed."""
    x = np.maximum(linear, 0)
    shoulder = np.where(x < 0.7, x, 1.0 - 0.3 * np.exp(-(x - 0.7) / 0.3))
    grey = np.power(shoulder, 1 / 2.2) * (255.0 + 1.6 * black) - black
    return np.asarray(np.rint(grey).clip(0, 255), np.uint8)
