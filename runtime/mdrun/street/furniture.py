"""Things that stand in a street: trees, bushes, lamps, signs, rails, blocks, cones."""

from __future__ import annotations

from math import cos, pi, sin

import cv2
import numpy as np
from numpy.typing import NDArray

from mdrun.street.camera import Camera
from mdrun.street.figure import Figure, Paint, Part, place
from mdrun.street.layout import Spot
from mdrun.street.planes import Planes
from mdrun.street.texture import smoothstep, value_noise

Floats = NDArray[np.float32]
CAR_STOP_ID, GUARDRAIL_ID, CONE_ID = 5, 6, 7
Point = tuple[float, float, float]


def _box(x: float, y: float, z: float, w: float, h: float, d: float) -> list[Point]:
    """Corners of a box with its middle at (x, z) and its foot at y."""
    return [(x + i * w / 2, y + j * h, z + k * d / 2) for i in (-1, 1) for j in (0, 1) for k in (-1, 1)]


def lamp_head(spot: Spot) -> Point:
    """Where a street lamp's light is, world metres; the arm reaches over the road."""
    return spot.x + spot.heading * 0.9, spot.size - 0.1, spot.z


def furniture_figure(spot: Spot, air: float, *, lit: bool) -> Figure | None:
    """The figure of a spot, or None for kinds that are painted otherwise."""
    makers = {"lamp": _lamp, "sign": _sign, "guardrail": _guardrail, "car_stop": _car_stop, "cone": _cone}
    maker = makers.get(spot.kind)
    if maker is None:
        return None
    return place(maker(spot, air, lit), (spot.x, 0.0, spot.z))


def _lamp(spot: Spot, air: float, lit: bool) -> list[Part]:
    metal = Paint((0.1, 0.105, 0.1), air + 0.8)
    glass = Paint((1.0, 0.95, 0.82), air + (14.0 if lit else 1.0), 0, 5.0 if lit else 0.0)
    top, reach = spot.size, spot.heading * 0.9
    return [
        Part([(0, 0, 0), (0, top, 0)], (0.085, 0.05), metal),
        Part([(0, 0, 0), (0, 0.5, 0)], 0.12, metal),
        Part([(0, top, 0), (reach, top + 0.06, 0)], 0.04, metal),
        Part([(reach - 0.28, top + 0.02, 0), (reach + 0.28, top + 0.02, 0)], 0.08, metal),
        Part([(reach - 0.22, top - 0.06, 0), (reach + 0.22, top - 0.06, 0)], 0.06, glass),
    ]


def _sign(spot: Spot, air: float, lit: bool) -> list[Part]:
    rng = np.random.default_rng(spot.seed)
    metal, top = Paint((0.3, 0.3, 0.3), air + 0.3), spot.size
    white, red, blue = (Paint(c, air - 1.0) for c in ((0.75, 0.75, 0.75), (0.6, 0.02, 0.03), (0.02, 0.08, 0.5)))
    post = Part([(0, 0, 0), (0, top + 0.1, 0)], 0.035, metal)
    kind = int(rng.integers(3))
    if kind == 0:
        return [post, Part([(0, top, -0.05)], 0.3, red), Part([(0, top, -0.06)], 0.23, white), Part(_box(0, top - 0.1, -0.07, 0.1, 0.2, 0), 0.0, blue)]
    if kind == 1:
        return [post, Part([(0, top, -0.05)], 0.3, blue), Part([(-0.16, top - 0.05, -0.06), (0.16, top + 0.05, -0.06)], 0.05, white)]
    return [post, Part(_box(0, top - 0.3, -0.05, 0.55, 0.6, 0), 0.0, blue), Part([(-0.2, top - 0.22, -0.06), (0.2, top - 0.22, -0.06), (0, top + 0.2, -0.06)], 0.0, white)]


def _guardrail(spot: Spot, air: float, lit: bool) -> list[Part]:
    white = Paint((0.5, 0.51, 0.5), air - 0.8, GUARDRAIL_ID)
    half = spot.size / 2
    posts = [Part([(0, 0, z), (0, 0.8, z)], 0.055, white, 0.8) for z in (half, -half)]
    rails = [Part([(0, y, -half), (0, y, half)], 0.045, white) for y in (0.78, 0.55, 0.32)]
    return [*posts, *rails]


def _car_stop(spot: Spot, air: float, lit: bool) -> list[Part]:
    stone = Paint((0.42, 0.41, 0.38), air + 0.7, CAR_STOP_ID)
    yellow = Paint((0.6, 0.45, 0.06), air + 0.5, CAR_STOP_ID)
    w, h, d = 0.3, 0.3, spot.size
    top = [(-w / 3, h, -d / 2 + 0.05), (w / 3, h, -d / 2 + 0.05), (w / 3, h, d / 2 - 0.05), (-w / 3, h, d / 2 - 0.05)]
    front = [(-w / 2, 0, -d / 2), (w / 2, 0, -d / 2), (w / 3, h, -d / 2 + 0.05), (-w / 3, h, -d / 2 + 0.05)]
    body = [*front, *((x, y, -z) for x, y, z in front)]
    stripe = [(x * 1.01, y, z * s) for x, y, z in front[2:] for s in (1.0, 0.45)]
    return [Part(body, 0.0, stone, 0.7), Part(top, 0.0, stone, 1.15), Part(stripe, 0.0, yellow, 1.1), Part(front, 0.0, stone, 0.5)]


def _cone(spot: Spot, air: float, lit: bool) -> list[Part]:
    rng = np.random.default_rng(spot.seed)
    rgb = ((0.75, 0.12, 0.02), (0.75, 0.05, 0.03), (0.03, 0.08, 0.45))[int(rng.choice([0, 1, 2], p=[0.5, 0.25, 0.25]))]
    plastic, white = Paint(rgb, air + 1.2, CONE_ID), Paint((0.75, 0.75, 0.75), air + 0.6, CONE_ID)
    h = spot.size

    def slice_of(low: float, high: float) -> list[Point]:
        return [(r * sin(a), y, -r * cos(a)) for y, r in ((low, 0.17 * (1 - low / h) + 0.03), (high, 0.17 * (1 - high / h) + 0.03)) for a in np.linspace(0, 2 * pi, 9).tolist()]

    base = Part(_box(0, 0, 0, 0.4, 0.05, 0.4), 0.0, plastic, 0.7)
    return [base, Part(slice_of(0.04, h), 0.0, plastic), Part(slice_of(0.45 * h, 0.68 * h), 0.0, white)]


class Gardener:
    """Paints leaves: crowns and bushes from noise with holes, darker below and inside."""

    def __init__(self, rng: np.random.Generator, air: float) -> None:
        self._air = air
        self._crowns = [_crown(rng, 256, lobes) for lobes in (9, 13, 17)]
        self._bushes = [_crown(rng, 192, 8, flat=True) for _ in range(2)]
        self._bark = (0.6 + 0.8 * value_noise(rng, 128, 10, 3)).astype(np.float32)

    def plant(self, planes: Planes, camera: Camera, spot: Spot) -> None:
        """Paint a tree or a bush at its spot."""
        rng = np.random.default_rng(spot.seed)
        green = np.array([0.06, 0.1, 0.028], np.float32) * rng.uniform(0.6, 1.5) * (1 + rng.normal(0, 0.15, 3)).astype(np.float32)
        if spot.kind == "bush":
            width = spot.size * rng.uniform(1.6, 2.4)
            self._leaves(planes, camera, self._bushes[int(rng.integers(2))], green, (spot.x, spot.size * 0.5, spot.z), width, spot.size * 1.15, rng)
            return
        self._trunk(planes, camera, spot, rng)
        crown = self._crowns[int(rng.integers(len(self._crowns)))]
        wide = spot.size * rng.uniform(0.75, 1.15)
        tall = spot.size * rng.uniform(0.65, 0.85)
        self._leaves(planes, camera, crown, green, (spot.x, spot.size * 0.9, spot.z - 0.3), wide, tall, rng)

    def _trunk(self, planes: Planes, camera: Camera, spot: Spot, rng: np.random.Generator) -> None:
        bark = Paint((0.09, 0.075, 0.06), self._air + 2.2)
        girth = 0.028 * spot.size
        top = spot.size * 0.75
        lean = rng.normal(0, 0.03) * top
        parts = [
            Part([(0, 0, 0), (0, 0.25, 0)], (girth * 1.5, girth), bark),
            Part([(0, 0.1, 0), (lean, top, 0)], (girth, girth * 0.6), bark),
        ]
        for _ in range(4):
            y, reach = rng.uniform(0.4, 0.65) * spot.size, rng.normal(0, 0.16) * spot.size
            parts.append(Part([(lean * y / top, y, 0), (reach, y + 0.22 * spot.size, 0)], (girth * 0.5, girth * 0.2), bark, 0.8))
        planes.draw(place(parts, (spot.x, 0.0, spot.z)), camera, texture=self._bark)

    def _leaves(
        self,
        planes: Planes,
        camera: Camera,
        crown: tuple[Floats, Floats],
        green: Floats,
        centre: Point,
        wide: float,
        tall: float,
        rng: np.random.Generator,
    ) -> None:
        pixels, scale = camera.project(np.array([centre], np.float32))
        w, h = max(3, int(wide * scale[0])), max(3, int(tall * scale[0] * camera.fy / camera.fx))
        left, top = int(pixels[0, 0] - w / 2), int(pixels[0, 1] - h / 2)
        x0, y0, x1, y1 = max(left, 0), max(top, 0), min(left + w, camera.width), min(top + h, camera.height)
        if x1 <= x0 or y1 <= y0 or centre[2] < 1.5:
            return
        side = crown[0].shape[0]
        columns = ((np.arange(x0, x1, dtype=np.float32) + 0.5 - left) * side / w - 0.5)[None].repeat(y1 - y0, axis=0)
        rows = ((np.arange(y0, y1, dtype=np.float32) + 0.5 - top) * side / h - 0.5)[:, None].repeat(x1 - x0, axis=1)
        if rng.random() < 0.5:
            columns = side - 1 - columns
        source = [cv2.resize(p, (w, h), interpolation=cv2.INTER_AREA)[y0 - top : y1 - top, x0 - left : x1 - left] if w < side and h < side else cv2.remap(p, columns, rows, cv2.INTER_LINEAR) for p in crown]
        alpha, bright = (np.asarray(p, np.float32) for p in source)
        albedo = green * bright[..., None]
        celsius = self._air + 0.2 + 1.4 * (bright - 0.7)
        planes.blend((x0, y0, x1, y1), alpha, albedo.astype(np.float32), celsius.astype(np.float32), centre[2], sunlit=(0.4 + 0.6 * np.clip(bright, 0, 1)).astype(np.float32))


def _crown(rng: np.random.Generator, size: int, lobes: int, *, flat: bool = False) -> tuple[Floats, Floats]:
    """Coverage and brightness of a mass of leaves, (size, size) each."""
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
    return alpha.astype(np.float32), np.maximum(bright, 0.05).astype(np.float32)
