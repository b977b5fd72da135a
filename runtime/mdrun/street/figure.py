"""Figures: painted convex parts in metres, and how they become pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from mdrun.street.camera import Camera

SHIFT = 4  # fractional bits of the rasteriser's coordinates
_ANGLES = np.arange(12, dtype=np.float32) * (2 * np.pi / 12)
_CIRCLE = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)
_FAR_PX = 2.0e4  # the rasteriser's fixed point must not overflow


class Paint(NamedTuple):
    """Surface: linear albedo (R, G, B) in 0..1, apparent temperature in degrees Celsius, MFNet id, own light."""

    rgb: tuple[float, float, float]
    celsius: float
    label: int = 0
    emit: float = 0.0


class Part(NamedTuple):
    """Convex hull of discs: one disc is a ball, two a limb, radius 0 a polygon. `ring` draws the closed outline only.

    `points` are (x, y, z) metres; `radius` is one for all or one for each, metres; `shade` scales the light.
    """

    points: list[tuple[float, float, float]]
    radius: float | tuple[float, ...]
    paint: Paint
    shade: float = 1.0
    ring: bool = False


@dataclass(frozen=True)
class Figure:
    """Parts placed in the world, first drawn first.

    Attributes:
        points: (M, 3) float32 world metres.
        radii: (M,) float32 metres.
        stops: (P + 1) where each part's points begin and end.
        parts: the P parts, for their paint.
        z: distance of the figure for the depth order, metres.
    """

    points: NDArray[np.float32]
    radii: NDArray[np.float32]
    stops: list[int]
    parts: list[Part]
    z: float


def place(
    parts: list[Part], position: tuple[float, float, float], heading: float = 0.0, *, by_depth: bool = False
) -> Figure:
    """Turn parts by `heading` (radians, 0 looks along +z, positive towards +x) and move them to `position` (x, y, z).

    With `by_depth` farther parts are drawn first; else the given order stays.
    """
    points = np.array([p for part in parts for p in part.points], np.float32).reshape(-1, 3)
    counts = [len(part.points) for part in parts]
    sizes = [r for part in parts for r in _radii(part)]
    radii = np.array(sizes, np.float32)
    cos, sin = np.float32(np.cos(heading)), np.float32(np.sin(heading))
    x, z = points[:, 0] * cos + points[:, 2] * sin, points[:, 2] * cos - points[:, 0] * sin
    world = np.stack([x + position[0], points[:, 1] + position[1], z + position[2]], axis=1).astype(np.float32)
    stops = [0, *np.cumsum(counts).tolist()]
    figure = Figure(world, radii, stops, parts, position[2])
    return _sorted(figure) if by_depth else figure


def _radii(part: Part) -> tuple[float, ...]:
    return part.radius if isinstance(part.radius, tuple) else (part.radius,) * len(part.points)


def _sorted(figure: Figure) -> Figure:
    stops = figure.stops
    depth = np.add.reduceat(figure.points[:, 2], stops[:-1]) / np.diff(stops)
    order = np.argsort(-depth, kind="stable").tolist()
    index = np.concatenate([np.arange(stops[i], stops[i + 1]) for i in order])
    counts = [stops[i + 1] - stops[i] for i in order]
    parts = [figure.parts[i] for i in order]
    return Figure(figure.points[index], figure.radii[index], [0, *np.cumsum(counts).tolist()], parts, figure.z)


def shadow_of(figure: Figure, slope: tuple[float, float]) -> Figure:
    """The figure flattened onto the road along the light; `slope` is the shadow's (x, z) per metre of height."""
    points = figure.points.copy()
    points[:, 0] += points[:, 1] * slope[0]
    points[:, 2] += points[:, 1] * slope[1]
    points[:, 1] = 0.0
    return Figure(points, figure.radii * np.float32(0.7), figure.stops, figure.parts, figure.z)


@dataclass(frozen=True)
class Outline:
    """A projected figure: polygons in 1/16 px and the window (x0, y0, x1, y1) of the image that it touches."""

    window: tuple[int, int, int, int]
    polygons: list[NDArray[np.int32]]
    lines: list[int]  # thickness for a ring, 0 for a filled part

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the window."""
        x0, y0, x1, y1 = self.window
        return y1 - y0, x1 - x0

    def fill(self, canvas: NDArray[np.uint8], values: list[tuple[int, ...]], line_type: int = cv2.LINE_AA) -> None:
        """Draw every part into a canvas of the window's size, in order, with one value each."""
        for polygon, line, value in zip(self.polygons, self.lines, values, strict=True):
            if line:
                cv2.polylines(canvas, [polygon], True, value, line, line_type, SHIFT)
            else:
                cv2.fillConvexPoly(canvas, polygon, value, line_type, SHIFT)

    def mask(self) -> NDArray[np.uint8]:
        """Coverage of the window, 0 to 255."""
        canvas = np.zeros(self.shape, np.uint8)
        self.fill(canvas, [(255,)] * len(self.polygons))
        return canvas


def outline(figure: Figure, camera: Camera) -> Outline | None:
    """Project a figure; None where it lies outside the image or behind the camera."""
    if float(figure.points[:, 2].max()) <= 0.5:
        return None
    pixels, scale = camera.project(figure.points)
    reach = (figure.radii * scale)[:, None]
    low, high = (pixels - reach).min(axis=0), (pixels + reach).max(axis=0)
    x0, y0 = max(int(low[0]) - 2, 0), max(int(low[1]) - 2, 0)
    x1, y1 = min(int(high[0]) + 3, camera.width), min(int(high[1]) + 3, camera.height)
    if x1 <= x0 or y1 <= y0:
        return None
    # The rasteriser puts integer coordinates at pixel centres; ours are at pixel corners.
    pixels -= np.array([x0 + 0.5, y0 + 0.5], np.float32)
    discs = pixels[:, None, :] + _CIRCLE[None] * reach[:, :, None]
    fixed = np.clip(discs * (1 << SHIFT), -_FAR_PX * 16, _FAR_PX * 16).astype(np.int32)
    flat = np.clip(pixels * (1 << SHIFT), -_FAR_PX * 16, _FAR_PX * 16).astype(np.int32)
    polygons, lines = [], []
    for part, first, last in zip(figure.parts, figure.stops[:-1], figure.stops[1:], strict=True):
        if part.ring:
            polygons.append(flat[first:last])
            lines.append(max(1, round(2 * float(reach[first, 0]))))
        elif part.radius == 0:
            polygons.append(cv2.convexHull(flat[first:last]).astype(np.int32))
            lines.append(0)
        else:
            polygons.append(cv2.convexHull(fixed[first:last].reshape(-1, 2)).astype(np.int32))
            lines.append(0)
    return Outline((x0, y0, x1, y1), polygons, lines)
