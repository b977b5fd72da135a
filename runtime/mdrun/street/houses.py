"""Buildings: facades with windows, drawn by inverse projection of their walls."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from mdrun.street.camera import Camera
from mdrun.street.layout import Building
from mdrun.street.planes import Planes
from mdrun.street.texture import band, sample, stripes, value_noise

Floats = NDArray[np.float32]
NEAREST_M = 1.2


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
        side = 1.0 if building.x > 0 else -1.0
        z0 = max(building.z0, NEAREST_M)
        far_x = building.x + side * 14.0
        if building.z0 > NEAREST_M:
            self._wall(planes, camera, building, (building.x, z0), (far_x, z0), 0.78)
        self._wall(planes, camera, building, (building.x, z0), (building.x, building.z1), 1.0)

    def _wall(
        self,
        planes: Planes,
        camera: Camera,
        building: Building,
        start: tuple[float, float],
        end: tuple[float, float],
        shade: float,
    ) -> None:
        corners = np.array([(x, y, z) for x, z in (start, end) for y in (0.0, building.height)], np.float32)
        pixels, _ = camera.project(corners)
        low, high = pixels.min(axis=0), pixels.max(axis=0)
        x0, y0 = max(int(low[0]), 0), max(int(low[1]), 0)
        x1, y1 = min(int(high[0]) + 2, camera.width), min(int(high[1]) + 2, camera.height)
        if x1 <= x0 or y1 <= y0:
            return
        slope_x, slope_y = camera.rays()
        slope_x, slope_y = slope_x[:, x0:x1], slope_y[y0:y1]
        if start[1] == end[1]:  # across the view
            z = np.full_like(slope_x, start[1])
            along = np.abs(slope_x * z - start[0])
            foot = z / camera.fx
        else:
            ray = np.where(np.abs(slope_x) < 1e-5, np.float32(1e-5), slope_x)
            z = np.clip(start[0] / ray, start[1] * 0.98, end[1] * 1.02)
            along = z - building.z0
            foot = z * z / (camera.fx * abs(start[0]))
        y = camera.above + slope_y * z
        rows = y.shape[0]
        wide = [np.repeat(a, rows, axis=0).astype(np.float32) for a in (z, along, foot)]
        albedo, celsius, emission = self._facade(building, wide[1], y.astype(np.float32), wide[2], wide[0] / camera.fy)
        quad = (np.array([pixels[0], pixels[1], pixels[3], pixels[2]]) - (x0 + 0.5, y0 + 0.5)) * 16
        alpha = np.zeros((y1 - y0, x1 - x0), np.uint8)
        cv2.fillConvexPoly(alpha, quad.clip(-4e5, 4e5).astype(np.int32), (255,), cv2.LINE_AA, 4)
        planes.blend(
            (x0, y0, x1, y1), alpha.astype(np.float32) / 255, albedo * shade, celsius, wide[0], emission=emission,
            sunlit=0.85 if shade < 1 else 0.35,
        )

    def _facade(
        self, building: Building, along: Floats, y: Floats, foot: Floats, tall: Floats
    ) -> tuple[Floats, Floats, Floats]:
        """Albedo, temperature and own light of a wall from metres `along` and height `y`; pixel sizes `foot`, `tall`."""
        rng = np.random.default_rng(building.seed)
        stain = sample(self._stain, along / 23, y / 17) - 0.5
        grain = (sample(self._grain, along / 2.7, y / 2.7) - 0.5) / (1 + 8 * foot)
        albedo = np.array(building.rgb, np.float32) * (1 + 0.55 * stain + 0.5 * grain)[..., None]
        celsius = self._air + rng.uniform(-0.8, 4.5) + 2.4 * stain + 0.8 * grain
        emission = np.zeros_like(albedo)
        courses = stripes(y, building.storey, 0.06, tall)
        albedo *= (1 - 0.35 * courses)[..., None]
        celsius += 0.8 * courses
        ground_floor = y < building.storey if building.shop else np.zeros(y.shape, bool)
        for wall, pitch, fill, sill, top in ((~ground_floor, building.pitch, rng.uniform(0.4, 0.7), 0.3, 0.8), (ground_floor, 3.4, 0.86, 0.1, 0.84)):
            if not wall.any():
                continue
            column, floor = np.floor(along / pitch).astype(int), np.floor(y / building.storey).astype(int)
            across = stripes(along, pitch, fill, foot)
            up = y - floor * building.storey
            pane = across * band(up, sill * building.storey, top * building.storey, tall) * wall * (y > 0.2) * (y < building.height - 0.6)
            frame = pane * np.maximum(stripes(along, pitch * fill / 2, 0.07, foot), stripes(up, building.storey * 0.25, 0.06, tall))
            self._glaze(building, rng, pane - frame * 0.8, column, floor, albedo, celsius, emission, y, shop=bool(wall is ground_floor))
        return albedo.astype(np.float32), celsius.astype(np.float32), emission.astype(np.float32)

    def _glaze(
        self,
        building: Building,
        rng: np.random.Generator,
        pane: Floats,
        column: NDArray[np.int_],
        floor: NDArray[np.int_],
        albedo: Floats,
        celsius: Floats,
        emission: Floats,
        y: Floats,
        *,
        shop: bool,
    ) -> None:
        chance = rng.random((32, 32)).astype(np.float32)
        glow = rng.uniform(0.1, 1.0, (32, 32)).astype(np.float32) ** 1.5
        warm_white = np.array([(1.0, 0.72, 0.4), (1.0, 0.9, 0.72), (0.85, 1.0, 0.92)], np.float32)
        tint = warm_white[rng.integers(0, 3, (32, 32))]
        cell = (floor % 32, column % 32)
        p = pane[..., None]
        reflect = 0.04 + 0.05 * np.clip(y / 20, 0, 1) + 0.05 * glow[cell]
        albedo *= 1 - p
        albedo += p * reflect[..., None] * np.array([0.8, 0.95, 1.1], np.float32)
        lit_share = (0.75 if shop else building.lit) * (1.0 if self._dark else 0.12)
        lit = (chance[cell] < lit_share) * pane
        # Curtains, shelves and lamps make a lit window uneven.
        inside = glow[cell] * (0.55 + 0.45 * np.clip((y % building.storey) / building.storey, 0, 1)) * (1.1 if shop else 0.8)
        emission += (lit * inside)[..., None] * tint[cell] * (1.0 if self._dark else 0.5)
        celsius += pane * (glow[cell] * 7.0 - 2.0 + (chance[cell] < lit_share) * 2.0)
