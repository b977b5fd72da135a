"""The still part of a street as image planes: colour, warmth, labels, depth."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mdrun.street.arrays import Bytes, Floats, Window
from mdrun.street.camera import Camera
from mdrun.street.figure import Figure, outline

SKY_M = 1000.0


@dataclass
class Planes:
    """One value per pixel of the visible image.

    Attributes:
        albedo: (H, W, 3) linear.
        emission: (H, W, 3) own light, linear.
        celsius: (H, W) apparent temperature.
        label: (H, W) MFNet ids.
        z: (H, W) metres ahead of what is seen; `SKY_M` for the sky.
        upright: (H, W) bool: stands up, so it can hide something; the ground cannot.
        owner: (H, W) index + 1 into the list of still objects with boxes, 0 for none.
        sunlit: (H, W) share of the sun that arrives.
    """

    albedo: Floats
    emission: Floats
    celsius: Floats
    label: Bytes
    z: Floats
    upright: NDArray[np.bool_]
    owner: Bytes
    sunlit: Floats

    @classmethod
    def empty(cls, height: int, width: int, celsius: float) -> Planes:
        """Planes of nothing but sky at one temperature."""
        shape = (height, width)
        return cls(
            np.zeros((*shape, 3), np.float32),
            np.zeros((*shape, 3), np.float32),
            np.full(shape, celsius, np.float32),
            np.zeros(shape, np.uint8),
            np.full(shape, SKY_M, np.float32),
            np.zeros(shape, bool),
            np.zeros(shape, np.uint8),
            np.ones(shape, np.float32),
        )

    def blend(
        self,
        window: Window,
        alpha: Floats,
        albedo: Floats,
        celsius: Floats,
        z: Floats | float,
        *,
        emission: Floats | None = None,
        label: Bytes | int = 0,
        owner: int = 0,
        sunlit: float | Floats = 1.0,
    ) -> None:
        """Lay an upright thing over a window (x0, y0, x1, y1) with coverage `alpha` (h, w) in 0..1."""
        x0, y0, x1, y1 = window
        at = (slice(y0, y1), slice(x0, x1))
        a3 = alpha[..., None]
        self.albedo[at] += a3 * (albedo - self.albedo[at])
        self.emission[at] *= 1 - a3
        if emission is not None:
            self.emission[at] += a3 * emission
        self.celsius[at] += alpha * (celsius - self.celsius[at])
        self.sunlit[at] += alpha * (sunlit - self.sunlit[at])
        solid = alpha > 0.5
        self.z[at][solid] = z[solid] if isinstance(z, np.ndarray) else z
        self.label[at][solid] = label[solid] if isinstance(label, np.ndarray) else label
        self.upright[at][solid] = True
        self.owner[at][solid] = owner

    def draw(self, figure: Figure, camera: Camera, owner: int = 0, texture: Floats | None = None) -> None:
        """Paint a figure that never moves."""
        drawn = outline(figure, camera)
        if drawn is None:
            return
        index = np.zeros(drawn.shape, np.uint8)
        drawn.fill(index, [(i + 1,) for i in range(len(figure.parts))], cv2.LINE_8)
        base = max(range(len(figure.parts)), key=lambda i: figure.stops[i + 1] - figure.stops[i])
        index[index == 0] = base + 1
        parts = figure.parts
        rgb = np.array([(0, 0, 0), *(np.multiply(p.paint.rgb, p.shade) for p in parts)], np.float32)
        own = np.array([(0, 0, 0), *(np.multiply(p.paint.rgb, p.paint.emit) for p in parts)], np.float32)
        celsius = np.array([0, *(p.paint.celsius for p in parts)], np.float32)
        label = np.array([0, *(p.paint.label for p in parts)], np.uint8)
        albedo = rgb[index]
        if texture is not None:
            rows, columns = drawn.shape
            albedo = albedo * cv2.resize(texture, (columns, rows))[..., None]
        alpha = drawn.mask().astype(np.float32) / 255
        self.blend(
            drawn.window, alpha, albedo, celsius[index], figure.z, emission=own[index], label=label[index], owner=owner
        )

    def world(self, camera: Camera, step: int) -> tuple[Floats, Floats, Floats]:
        """World (x, y, z) of every `step`-th pixel."""
        slope_x, slope_y = camera.rays()
        z = self.z[::step, ::step]
        x = slope_x[:, ::step] * z
        y = camera.above + slope_y[::step] * z
        return x.astype(np.float32), y.astype(np.float32), z
