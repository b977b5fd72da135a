"""Light that moves: headlight pools on the road, glare in the lens, smears on the asphalt."""

from __future__ import annotations

import cv2
import numpy as np

from mdrun.street.arrays import Bytes, Floats, Window
from mdrun.street.camera import Camera
from mdrun.street.figure import Figure, Sprite
from mdrun.street.texture import smoothstep

HEADLIGHT = np.array([0.9, 0.87, 0.75], np.float32)
MAX_RADIUS_PX = 130  # at 640 px image width


class Glare:
    """Adds the light of vehicles to frames of one scene; `depth` (H, W) metres of what stands still, else far."""

    def __init__(self, depth: Floats, tint: Floats) -> None:
        self._depth = depth
        self._ground = depth > 1e5
        self._tint = tint
        grid = np.linspace(-1, 1, 65, dtype=np.float32)
        r = np.sqrt(grid[None] ** 2 + grid[:, None] ** 2)
        edge = 255 * (1 - smoothstep(0.6, 1.0, r))
        self._flare = ((np.exp(-((r / 0.16) ** 2)) + 0.3 * np.exp(-r / 0.22)) / 1.3 * edge).astype(np.uint8)
        self._pool = (np.exp(-((r / 0.55) ** 2)) * edge).astype(np.uint8)

    def beam(self, image: Bytes, figure: Figure, camera: Camera) -> None:
        """Pool of light that a car throws on the road before it."""
        toward = any(part.paint.emit > 2 for part in figure.parts)
        x, z = float(figure.points[:, 0].mean()), figure.z
        near, far = (max(z - 16, 2.0), z - 1.8) if toward else (z + 2.5, z + 18)
        if far < near + 0.5 or far < 3:
            return
        wide_near, wide_far = (3.0, 1.8) if toward else (1.4, 3.0)
        corners = [(x + s * w, 0.0, d) for d, w in ((near, wide_near), (far, wide_far)) for s in (-1, 1)]
        pixels, _ = camera.project(np.array(corners, np.float32))
        (x0, y0), (x1, y1) = np.floor(pixels.min(axis=0)).tolist(), np.ceil(pixels.max(axis=0)).tolist()
        box = (int(x0), int(y0), int(x1) + 1, int(y1) + 1)
        self._add(image, box, HEADLIGHT * (75.0 if toward else 40.0), self._pool, ground=True)

    def flare(self, image: Bytes, figure: Figure, camera: Camera, nearer: list[Sprite | None]) -> None:
        """Bloom around lamps that look at the camera, unless something hides them."""
        if figure.z < 2:
            return
        pixels, scale = camera.project(figure.points)
        lamps = [i for i, part in enumerate(figure.parts) if part.paint.emit > 0]
        for i in lamps:
            paint, first = figure.parts[i].paint, figure.stops[i]
            u, v = pixels[first : figure.stops[i + 1]].mean(axis=0).tolist()
            if not (0 <= u < camera.width and 0 <= v < camera.height) or self._depth[int(v), int(u)] < figure.z:
                continue
            if any(sprite is not None and sprite.covers(u, v) for sprite in nearer):
                continue
            power = min(paint.emit, 6.0)
            size = min(max(power * (4.0 + 0.22 * float(scale[first])), 3.0), MAX_RADIUS_PX) * camera.width / 640
            colour = np.array(paint.rgb, np.float32) * (60 + 60 * power)
            self._add(image, _box(u, v, size, size), colour, self._flare)
            if power > 2:  # the lamp's smear on the road below it
                foot = camera.cy + camera.fy * camera.above / figure.z
                self._add(
                    image,
                    _box(u, foot + 1.1 * (foot - v), 0.25 * size, 1.1 * (foot - v) + 2),
                    colour * 0.1,
                    self._pool,
                    ground=True,
                )

    def _add(self, image: Bytes, box: Window, colour: Floats, spot: Bytes, *, ground: bool = False) -> None:
        """Add a spot of light that fills a box, clipped to the image, or to its `ground`."""
        x0, y0, x1, y1 = box
        left, top, right, bottom = max(x0, 0), max(y0, 0), min(x1, image.shape[1]), min(y1, image.shape[0])
        if right <= left or bottom <= top or x1 - x0 < 2 or y1 - y0 < 2:
            return
        sx, sy = len(spot) / (x1 - x0), len(spot) / (y1 - y0)
        matrix = np.array([[sx, 0, (left - x0) * sx], [0, sy, (top - y0) * sy]], np.float32)
        way = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        light = cv2.warpAffine(spot, matrix, (right - left, bottom - top), flags=way)
        if ground:
            light = light * self._ground[top:bottom, left:right]
        added = cv2.merge([cv2.convertScaleAbs(light, alpha=float(c)) for c in colour * self._tint / 255])
        below = image[top:bottom, left:right]
        cv2.add(below, added, below)


def _box(u: float, v: float, half_width: float, half_height: float) -> Window:
    return int(u - half_width), int(v - half_height), int(u + half_width) + 1, int(v + half_height) + 1
