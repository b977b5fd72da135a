"""Trees and bushes: leaves from noise with holes, darker below and inside."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi, sin

import cv2
import numpy as np

from mdrun.street.arrays import Floats
from mdrun.street.camera import Camera
from mdrun.street.figure import Paint, Part, place
from mdrun.street.layout import Spot
from mdrun.street.planes import Planes
from mdrun.street.texture import smoothstep, value_noise


@dataclass(frozen=True)
class Crown:
    """A mass of leaves seen from the side: coverage 0 to 1 and brightness, square arrays."""

    cover: Floats
    bright: Floats


@dataclass(frozen=True)
class Place:
    """Where a crown hangs: its middle (x, y, z), width and height in metres."""

    centre: tuple[float, float, float]
    wide: float
    tall: float


class Gardener:
    """Paints trees and bushes with one set of leaves."""

    def __init__(self, rng: np.random.Generator, air: float) -> None:
        self._air = air
        self._crowns = [_crown(rng, 256, lobes) for lobes in (9, 13, 17)]
        self._bushes = [_crown(rng, 192, 8, flat=True) for _ in range(2)]
        self._bark = (0.6 + 0.8 * value_noise(rng, 128, 10, 3)).astype(np.float32)

    def plant(self, planes: Planes, camera: Camera, spot: Spot) -> None:
        """Paint a tree or a bush at its spot."""
        rng = np.random.default_rng(spot.seed)
        green = np.array([0.06, 0.1, 0.028]) * rng.uniform(0.6, 1.5) * (1 + rng.normal(0, 0.15, 3))
        if spot.kind == "bush":
            crown = self._bushes[int(rng.integers(2))]
            wide = spot.size * rng.uniform(1.6, 2.4)
            where = Place((spot.x, spot.size * 0.5, spot.z), wide, spot.size * 1.15)
        else:
            self._trunk(planes, camera, spot, rng)
            crown = self._crowns[int(rng.integers(len(self._crowns)))]
            wide, tall = spot.size * rng.uniform(0.75, 1.15), spot.size * rng.uniform(0.65, 0.85)
            where = Place((spot.x, spot.size * 0.9, spot.z - 0.3), wide, tall)
        if rng.random() < 0.5:
            crown = Crown(crown.cover[:, ::-1].copy(), crown.bright[:, ::-1].copy())
        self._leaves(planes, camera, crown, where, green)

    def _trunk(self, planes: Planes, camera: Camera, spot: Spot, rng: np.random.Generator) -> None:
        bark = Paint((0.09, 0.075, 0.06), self._air + 2.2)
        girth, top = 0.028 * spot.size, spot.size * 0.75
        lean = rng.normal(0, 0.03) * top
        roots = [(-0.4 * girth, girth, 0.0), (0.4 * girth, girth, 0.0), (0.0, 4 * girth, 0.0)]
        parts = [
            Part(roots, (girth, girth, girth * 0.9), bark),
            Part([(0, 2 * girth, 0), (lean, top, 0)], (girth, girth * 0.6), bark),
        ]
        for _ in range(4):
            y, reach = rng.uniform(0.4, 0.65) * spot.size, rng.normal(0, 0.16) * spot.size
            branch = [(lean * y / top, y, 0.0), (reach, y + 0.22 * spot.size, 0.0)]
            parts.append(Part(branch, (girth * 0.5, girth * 0.2), bark, 0.8))
        planes.draw(place(parts, (spot.x, 0.0, spot.z)), camera, texture=self._bark)

    def _leaves(self, planes: Planes, camera: Camera, crown: Crown, where: Place, green: Floats) -> None:
        pixels, scale = camera.project(np.array([where.centre], np.float32))
        w, h = max(3, int(where.wide * scale[0])), max(3, int(where.tall * scale[0] * camera.fy / camera.fx))
        left, top = int(pixels[0, 0] - w / 2), int(pixels[0, 1] - h / 2)
        x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + w, camera.width), min(top + h, camera.height)
        if x1 <= x0 or y1 <= y0 or where.centre[2] < 1.5:
            return
        alpha, bright = (
            _enlarged(p, (w, h), (x0 - left, y0 - top, x1 - left, y1 - top)) for p in (crown.cover, crown.bright)
        )
        celsius = self._air + 0.2 + 1.4 * (bright - 0.7)
        sunlit = 0.4 + 0.6 * np.clip(bright, 0, 1)
        planes.blend((x0, y0, x1, y1), alpha, green * bright[..., None], celsius, where.centre[2], sunlit=sunlit)


def _enlarged(plane: Floats, size: tuple[int, int], window: tuple[int, int, int, int]) -> Floats:
    """A window (x0, y0, x1, y1) of the plane resized to `size` (w, h), without making the rest."""
    x0, y0, x1, y1 = window
    side = plane.shape[0]
    if size[0] < side and size[1] < side:
        return np.asarray(cv2.resize(plane, size, interpolation=cv2.INTER_AREA), np.float32)[y0:y1, x0:x1]
    columns = (np.arange(x0, x1, dtype=np.float32) + 0.5) * side / size[0] - 0.5
    rows = (np.arange(y0, y1, dtype=np.float32) + 0.5) * side / size[1] - 0.5
    grid = np.meshgrid(columns, rows)
    return np.asarray(cv2.remap(plane, grid[0], grid[1], cv2.INTER_LINEAR), np.float32)


def _crown(rng: np.random.Generator, size: int, lobes: int, *, flat: bool = False) -> Crown:
    """Lobes with ragged edges, lit from above."""
    grid = (np.arange(size, dtype=np.float32) + 0.5) / size * 2 - 1
    x, y = grid[None, :], grid[:, None]
    body = np.full((size, size), -1.0, np.float32)
    lit = np.zeros((size, size), np.float32)
    for _ in range(lobes):
        angle, far = rng.uniform(0, 2 * pi), rng.uniform(0.1, 0.55)
        cx, cy = far * cos(angle), far * sin(angle) * (0.75 if not flat else 0.5)
        r = rng.uniform(0.28, 0.45)
        inside = 1 - np.sqrt(((x - cx) / (1.5 if flat else 1.0)) ** 2 + (y - cy) ** 2) / r
        lit = np.where(inside > body, 0.75 - 0.9 * (y - cy) / r * 0.5, lit)
        body = np.maximum(body, inside)
    twigs, leaves = value_noise(rng, size, 12, 3), value_noise(rng, size, size // 4, 2)
    edge = body + 0.9 * (twigs - 0.5) + 0.55 * (leaves - 0.5)
    alpha = smoothstep(-0.02, 0.16, edge.astype(np.float32))
    bright = (0.35 + 0.75 * lit * (0.4 + 0.6 * np.clip(body * 2, 0, 1))) * (0.45 + 1.1 * leaves) * (0.7 + 0.6 * twigs)
    return Crown(alpha.astype(np.float32), np.maximum(bright, 0.05).astype(np.float32))
