"""Buildings: facades with windows, drawn by inverse projection of their walls."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mdrun.street.arrays import Floats
from mdrun.street.camera import Camera
from mdrun.street.layout import Building
from mdrun.street.planes import Planes
from mdrun.street.texture import band, sample, stripes, value_noise

NEAREST_M = 1.2
PARAPET_M = 0.6


@dataclass(frozen=True)
class Wall:
    """A wall's pixels: place on the wall, and the surface that painting changes in place.

    Attributes:
        along: (h, w) metres along the wall.
        y: (h, w) metres above the road.
        z: (h, w) metres ahead of the camera.
        foot: (h, w) width of a pixel on the wall, metres.
        tall: (h, w) height of a pixel on the wall, metres.
        albedo: (h, w, 3) linear.
        celsius: (h, w) apparent temperature.
        emission: (h, w, 3) own light.
    """

    along: Floats
    y: Floats
    z: Floats
    foot: Floats
    tall: Floats
    albedo: Floats
    celsius: Floats
    emission: Floats

    @classmethod
    def over(cls, along: Floats, y: Floats, z: Floats, foot: Floats, fy: float) -> Wall:
        """A blank wall; `y` is (h, w), the others (1, w)."""
        along, z, foot = (np.repeat(a, len(y), axis=0).astype(np.float32) for a in (along, z, foot))
        blank = np.zeros((*y.shape, 3), np.float32)
        return cls(along, y.astype(np.float32), z, foot, z / fy, blank, np.zeros(y.shape, np.float32), blank.copy())


@dataclass(frozen=True)
class Windows:
    """A grid of windows: metres from one to the next, share of glass, sill and lintel as shares of a storey."""

    pitch: float
    fill: float
    sill: float
    lintel: float
    shop: bool


class Masonry:
    """Draws buildings with one set of wall textures."""

    def __init__(self, rng: np.random.Generator, *, dark: bool, air: float) -> None:
        self._grain = value_noise(rng, 256, 40, 3)
        self._stain = value_noise(rng, 256, 4, 4)
        self._dark = dark
        self._air = air

    def build(self, planes: Planes, camera: Camera, building: Building) -> None:
        """Draw the wall across the view, then the one along the road."""
        if building.z1 <= NEAREST_M:
            return
        z0 = max(building.z0, NEAREST_M)
        if building.z0 > NEAREST_M:
            self._wall(planes, camera, building, z0, across=True)
        self._wall(planes, camera, building, z0, across=False)

    def _wall(self, planes: Planes, camera: Camera, building: Building, z0: float, *, across: bool) -> None:
        back = building.x + (14.0 if building.x > 0 else -14.0)
        end = (back, z0) if across else (building.x, building.z1)
        feet = ((building.x, z0), end)
        corners = np.array([(x, y, z) for x, z in feet for y in (0.0, building.height)], np.float32)
        pixels, _ = camera.project(corners)
        low, high = pixels.min(axis=0), pixels.max(axis=0)
        x0, y0 = max(int(low[0]), 0), max(int(low[1]), 0)
        x1, y1 = min(int(high[0]) + 2, camera.width), min(int(high[1]) + 2, camera.height)
        if x1 <= x0 or y1 <= y0:
            return
        slope_x, slope_y = camera.rays()
        slope_x, slope_y = slope_x[:, x0:x1], slope_y[y0:y1]
        if across:
            z = np.full_like(slope_x, z0)
            along, foot = np.abs(slope_x * z - building.x), z / camera.fx
        else:
            ray = np.where(np.abs(slope_x) < 1e-5, np.float32(1e-5), slope_x)
            z = np.clip(building.x / ray, z0 * 0.98, building.z1 * 1.02)
            along, foot = z - building.z0, z * z / (camera.fx * abs(building.x))
        wall = Wall.over(along, camera.above + slope_y * z, z, foot, camera.fy)
        self._facade(building, wall)
        quad = (pixels[[0, 1, 3, 2]] - (x0 + 0.5, y0 + 0.5)) * 16
        alpha = np.zeros(wall.y.shape, np.uint8)
        cv2.fillConvexPoly(alpha, quad.clip(-4e5, 4e5).astype(np.int32), (255,), cv2.LINE_AA, 4)
        albedo = wall.albedo * (0.78 if across else 1.0)
        sunlit = 0.85 if across else 0.35
        cover = alpha.astype(np.float32) / 255
        planes.blend((x0, y0, x1, y1), cover, albedo, wall.celsius, wall.z, emission=wall.emission, sunlit=sunlit)

    def _facade(self, building: Building, wall: Wall) -> None:
        """Render, courses between the storeys, then the windows."""
        rng = np.random.default_rng(building.seed)
        stain = sample(self._stain, wall.along / 23, wall.y / 17) - 0.5
        grain = (sample(self._grain, wall.along / 2.7, wall.y / 2.7) - 0.5) / (1 + 8 * wall.foot)
        courses = stripes(wall.y, building.storey, 0.06, wall.tall)
        texture = (1 + 0.55 * stain + 0.5 * grain) * (1 - 0.35 * courses)
        wall.albedo[:] = texture[..., None] * np.array(building.rgb, np.float32)
        wall.celsius[:] = self._air + rng.uniform(-0.8, 4.5) + 2.4 * stain + 0.8 * grain + 0.8 * courses
        low = np.asarray(wall.y < (building.storey if building.shop else -1.0), bool)
        self._glaze(building, wall, ~low, Windows(building.pitch, rng.uniform(0.4, 0.7), 0.3, 0.8, False), rng)
        if building.shop:
            self._glaze(building, wall, low, Windows(3.4, 0.86, 0.1, 0.84, True), rng)

    def _glaze(
        self, building: Building, wall: Wall, where: NDArray[np.bool_], windows: Windows, rng: np.random.Generator
    ) -> None:
        storey, y = building.storey, wall.y
        column, floor = np.floor(wall.along / windows.pitch).astype(int), np.floor(y / storey).astype(int)
        up = y - floor * storey
        pane = stripes(wall.along, windows.pitch, windows.fill, wall.foot) * where
        pane = pane * band(up, windows.sill * storey, windows.lintel * storey, wall.tall)
        pane = pane * ((y > 0.2) & (y < building.height - PARAPET_M))
        bars = stripes(wall.along, windows.pitch * windows.fill / 2, 0.07, wall.foot)
        pane = pane * (1 - 0.8 * np.maximum(bars, stripes(up, storey * 0.25, 0.06, wall.tall)))
        chance = rng.random((32, 32), dtype=np.float32)[floor % 32, column % 32]
        glow = rng.uniform(0.1, 1.0, (32, 32)).astype(np.float32)[floor % 32, column % 32] ** 1.5
        lamps = np.array([(1.0, 0.72, 0.4), (1.0, 0.9, 0.72), (0.85, 1.0, 0.92)], np.float32)
        tint = lamps[rng.integers(0, 3, (32, 32))][floor % 32, column % 32]
        p = pane[..., None]
        sky = (0.04 + 0.05 * np.clip(y / 20, 0, 1) + 0.05 * glow)[..., None] * np.array([0.8, 0.95, 1.1], np.float32)
        wall.albedo[:] = wall.albedo * (1 - p) + p * sky
        lit = chance < (0.75 if windows.shop else building.lit) * (1.0 if self._dark else 0.12)
        # Curtains, shelves and lamps make a lit window uneven.
        inside = glow * (0.55 + 0.45 * np.clip(up / storey, 0, 1)) * (1.1 if windows.shop else 0.8)
        wall.emission[:] += (lit * pane * inside * (1.0 if self._dark else 0.5))[..., None] * tint
        wall.celsius[:] += pane * (glow * 7.0 - 2.0 + lit * 2.0)
