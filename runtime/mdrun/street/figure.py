"""Figures: painted convex parts in metres, and how they become pixels."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from math import cos, sin
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from mdrun.street.arrays import Bytes, Floats, Window
from mdrun.street.camera import Camera

SHIFT = 4  # fractional bits of the rasteriser's coordinates
_ANGLES = np.arange(12, dtype=np.float32) * (2 * np.pi / 12)
_CIRCLE = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)], axis=1)
TINY_PX = 1.3  # smaller parts are not drawn: nobody would see them
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


@dataclass(frozen=True)
class Model:
    """Parts as arrays in their own frame, ready to be placed; fields as in `Figure`."""

    points: NDArray[np.float32]
    radii: NDArray[np.float32]
    stops: list[int]
    parts: list[Part]

    @classmethod
    def of(cls, parts: list[Part]) -> Model:
        """Gather the points of parts."""
        points = np.array([p for part in parts for p in part.points], np.float32).reshape(-1, 3)
        radii = np.array([r for part in parts for r in _radii(part)], np.float32)
        return cls(points, radii, [0, *accumulate(len(part.points) for part in parts)], parts)

    def place(self, position: tuple[float, float, float], heading: float = 0.0, *, by_depth: bool = False) -> Figure:
        """Turn by `heading` (radians, 0 looks along +z, positive towards +x) and move to `position` (x, y, z).

        With `by_depth` farther parts are drawn first; else the given order stays.
        """
        turn = np.array(
            [[cos(heading), 0, -sin(heading)], [0, 1, 0], [sin(heading), 0, cos(heading)]],
            np.float32,
        )
        world = self.points @ turn + np.array(position, np.float32)
        figure = Figure(world, self.radii, self.stops, self.parts, position[2])
        return _sorted(figure) if by_depth else figure


def place(
    parts: list[Part], position: tuple[float, float, float], heading: float = 0.0, *, by_depth: bool = False
) -> Figure:
    """`Model.place` of parts that are used once."""
    return Model.of(parts).place(position, heading, by_depth=by_depth)


def _radii(part: Part) -> tuple[float, ...]:
    return part.radius if isinstance(part.radius, tuple) else (part.radius,) * len(part.points)


def _sorted(figure: Figure) -> Figure:
    stops = figure.stops
    counts = np.diff(stops)
    depth = np.add.reduceat(figure.points[:, 2], stops[:-1]) / counts
    order = np.argsort(-depth, kind="stable")
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    index = np.argsort(np.repeat(rank, counts), kind="stable")
    parts = [figure.parts[i] for i in order.tolist()]
    return Figure(figure.points[index], figure.radii[index], [0, *np.cumsum(counts[order]).tolist()], parts, figure.z)


def shadow_of(figure: Figure, slope: tuple[float, float]) -> Figure:
    """The figure flattened onto the road along the light; `slope` is the shadow's (x, z) per metre of height."""
    points = figure.points.copy()
    points[:, 0] += points[:, 1] * slope[0]
    points[:, 2] += points[:, 1] * slope[1]
    points[:, 1] = 0.0
    return Figure(points, figure.radii * np.float32(0.7), figure.stops, figure.parts, figure.z)


@dataclass(frozen=True)
class Sprite:
    """A drawn figure: its window of the image, colours (h, w) or (h, w, 3), coverage (h, w) 0 to 255, distance."""

    window: Window
    paint: Bytes
    mask: Bytes
    z: float

    def lay(self, image: Bytes, depth: Floats) -> None:
        """Draw over the image wherever nothing still is nearer; `depth` (H, W) in metres."""
        x0, y0, x1, y1 = self.window
        weight = (self.mask * (depth[y0:y1, x0:x1] > self.z)).astype(np.float32) * np.float32(1 / 255)
        below = image[y0:y1, x0:x1]
        cv2.blendLinear(self.paint, below, weight, 1 - weight, below)

    def covers(self, u: float, v: float) -> bool:
        """Whether it hides what is behind the pixel (u, v)."""
        x0, y0, x1, y1 = self.window
        return bool(x0 <= u < x1 and y0 <= v < y1 and self.mask[int(v) - y0, int(u) - x0] > 127)


@dataclass(frozen=True)
class Outline:
    """A projected figure: the window of the image that it touches, its distance, and polygons in 1/16 px."""

    window: Window
    z: float
    polygons: list[NDArray[np.int32]]
    lines: list[int]  # thickness for a ring, 0 for a filled part, -1 for one too small to draw

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the window."""
        x0, y0, x1, y1 = self.window
        return y1 - y0, x1 - x0

    def fill(self, canvas: Bytes, values: list[tuple[int, ...]], line_type: int = cv2.LINE_AA) -> None:
        """Draw every part into a canvas of the window's size, in order, with one value each."""
        for polygon, line, value in zip(self.polygons, self.lines, values, strict=True):
            if line < 0:
                continue
            if line:
                cv2.polylines(canvas, [polygon], True, value, line, line_type, SHIFT)
            else:
                cv2.fillConvexPoly(canvas, polygon, value, line_type, SHIFT)

    def paint(self, colours: Bytes) -> Sprite:
        """Draw every part in its colour; `colours` is (P, 3) or (P, 1).

        Coverage is one more channel of the same drawing. Edges fade to the mean colour, so they do not darken.
        """
        count, channels = colours.shape
        full = np.full((count, 4 if channels == 3 else 3), 255, np.uint8)  # the rasteriser smooths 1, 3 or 4 channels
        full[:, :channels] = colours
        blank = np.zeros(full.shape[1], np.uint8)
        blank[:channels] = colours.mean(axis=0)
        canvas = np.empty((*self.shape, len(blank)), np.uint8)
        canvas[:] = blank
        self.fill(canvas, [tuple(c) for c in full.tolist()])
        if channels == 3:
            paint = np.asarray(cv2.cvtColor(canvas, cv2.COLOR_BGRA2BGR), np.uint8)
            return Sprite(self.window, paint, canvas[..., 3].copy(), self.z)
        return Sprite(self.window, canvas[..., 0].copy(), canvas[..., 1].copy(), self.z)

    def mask(self) -> Bytes:
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
    span = _spans(pixels, reach, figure.stops)
    for i, part in enumerate(figure.parts):
        first, last = figure.stops[i], figure.stops[i + 1]
        if span[i] < TINY_PX:
            polygons.append(flat[first:last])
            lines.append(-1)
        elif part.ring:
            polygons.append(flat[first:last])
            lines.append(max(1, round(2 * float(reach[first, 0]))))
        else:
            corners = flat[first:last] if part.radius == 0 else fixed[first:last].reshape(-1, 2)
            polygons.append(np.asarray(cv2.convexHull(corners), np.int32))
            lines.append(0)
    return Outline((x0, y0, x1, y1), figure.z, polygons, lines)


def _spans(pixels: NDArray[np.float32], reach: NDArray[np.float32], stops: list[int]) -> list[float]:
    """Longer side of every part's bounding box, pixels."""
    low = np.minimum.reduceat(pixels - reach, stops[:-1], axis=0)
    high = np.maximum.reduceat(pixels + reach, stops[:-1], axis=0)
    return list((high - low).max(axis=1).tolist())
