"""The visible camera: light on surfaces, glare, blur, sensor noise."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from mdrun.street.camera import Camera
from mdrun.street.figure import Figure, outline, shadow_of
from mdrun.street.light import tone
from mdrun.street.scene import Scene, contact
from mdrun.street.texture import smoothstep

Floats = NDArray[np.float32]
Bytes = NDArray[np.uint8]


def composite(image: Bytes, window: tuple[int, int, int, int], paint: Bytes, mask: Bytes, depth: Floats, z: float) -> None:
    """Lay `paint` over a window of the image where `mask` covers it and nothing still is nearer than `z`."""
    x0, y0, x1, y1 = window
    alpha = mask * (depth[y0:y1, x0:x1] > z)
    below = image[y0:y1, x0:x1]
    weight = alpha.astype(np.float32) * np.float32(1 / 255)
    cv2.blendLinear(paint, below, weight, 1 - weight, below)


class VisibleCamera:
    """Renders RGB frames of one scene."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._depth = np.where(scene.planes.upright, scene.planes.z, np.float32(1e6)).astype(np.float32)
        self._still = self._shade()
        self._glow = _glow(65)
        rng = np.random.default_rng((scene.config.seed, 5))
        self._noise = _noise_bank(rng, scene.config.height + 64, scene.config.width + 64, scene.weather.visible_noise)

    def _shade(self) -> Bytes:
        """The still street under its light."""
        scene, planes, weather = self._scene, self._scene.planes, self._scene.weather
        x, y, z = planes.world(scene.camera, 4)
        light = weather.light.at(x, y, np.minimum(z, 300))
        height, width = planes.z.shape
        light = cv2.resize(light, (width, height), interpolation=cv2.INTER_LINEAR)
        light += planes.sunlit[..., None] * weather.light.sun
        image = planes.albedo * light + planes.emission
        if not weather.time == "night":
            haze = (1 - np.exp(-planes.z / weather.haze_m))[..., None] * (planes.z < 900)[..., None]
            image = image * (1 - haze) + weather.horizon * 0.8 * haze
        image *= weather.light.tint
        if weather.dark:
            image += _bloom(image)
        return tone(image)

    def frame(self, time_s: float) -> Bytes:
        """(H, W, 3) uint8 RGB at a time."""
        scene = self._scene
        yaw, pitch = scene.turn(time_s)
        camera = scene.camera.turned(yaw, pitch)
        image = shifted(self._still, camera.cx - scene.camera.cx, camera.cy - scene.camera.cy)
        figures = scene.figures(time_s)
        for kind, figure in figures:
            self._shadow(image, kind, figure, camera)
            if kind == "car" and scene.weather.dark:
                self._beam(image, figure, camera)
        mids = np.array([figure.points.mean(axis=0) for _, figure in figures], np.float32).reshape(-1, 3)
        lights = scene.weather.light.at(mids[:, 0], np.ones(len(mids), np.float32), mids[:, 2])
        for (_, figure), light in zip(figures, lights, strict=True):
            self._draw(image, figure, camera, light)
        if scene.weather.dark:
            for kind, figure in figures:
                if kind != "person":
                    self._glare(image, figure, camera)
        image = cv2.GaussianBlur(image, (3, 3), 0.65)
        return self._sense(image, time_s)

    def _draw(self, image: Bytes, figure: Figure, camera: Camera, light: Floats) -> None:
        drawn = outline(figure, camera)
        if drawn is None:
            return
        paint, mask = drawn.paint(self._colours(figure, light))
        composite(image, drawn.window, paint, mask, self._depth, figure.z)

    def _colours(self, figure: Figure, light: Floats) -> Bytes:
        """8-bit colour of every part under the light where the figure is."""
        weather = self._scene.weather
        light = light + 0.6 * weather.light.sun
        rgb = np.array([p.paint.rgb for p in figure.parts], np.float32)
        shade = np.array([p.shade for p in figure.parts], np.float32)[:, None]
        emit = np.array([p.paint.emit for p in figure.parts], np.float32)[:, None]
        linear = rgb * (light * shade + emit)
        if not weather.dark:
            haze = 1 - np.exp(-figure.z / weather.haze_m)
            linear = linear * (1 - haze) + weather.horizon * 0.8 * haze
        return tone(linear * weather.light.tint)

    def _shadow(self, image: Bytes, kind: str, figure: Figure, camera: Camera) -> None:
        weather = self._scene.weather
        found = contact(figure, camera) if kind == "car" or not weather.dark else None
        if found is not None:
            self._darken(image, found[0], found[1], 0.55 if kind == "car" else 0.3)
        if weather.sunny:
            drawn = outline(shadow_of(figure, weather.light.shadow_slope), camera)
            if drawn is not None:
                self._darken(image, drawn.window, cv2.blur(drawn.mask(), (3, 3)), 0.42)

    def _darken(self, image: Bytes, window: tuple[int, int, int, int], mask: Bytes, share: float) -> None:
        x0, y0, x1, y1 = window
        below = image[y0:y1, x0:x1]
        weight = (1 - share / 255 * mask * (self._depth[y0:y1, x0:x1] > 1e5)).astype(np.float32)
        below[:] = (below * weight[..., None]).astype(np.uint8)

    def _beam(self, image: Bytes, figure: Figure, camera: Camera) -> None:
        """Pool of light that a car throws on the road before it."""
        heads = [i for i, p in enumerate(figure.parts) if p.paint.emit > 2]
        toward = bool(heads)
        x, z = float(figure.points[:, 0].mean()), figure.z
        near, far = (max(z - 16, 2.0), z - 1.8) if toward else (z + 2.5, z + 18)
        if far < near + 0.5 or far < 3:
            return
        points = np.array([(x - 1.6, 0, far), (x + 1.6, 0, far), (x + 2.6, 0, near), (x - 2.6, 0, near)], np.float32)
        if not toward:
            points[[0, 1, 2, 3], 0] = [x - 2.6, x + 2.6, x + 1.2, x - 1.2]
        pixels, _ = camera.project(points)
        low, high = pixels.min(axis=0).astype(int), pixels.max(axis=0).astype(int)
        x0, y0 = max(low[0], 0), max(low[1], 0)
        x1, y1 = min(high[0] + 1, camera.width), min(high[1] + 1, camera.height)
        if x1 - x0 < 3 or y1 - y0 < 2:
            return
        self._add(image, (low[0], low[1], high[0] + 1, high[1] + 1), np.float32([0.9, 0.87, 0.75]) * (55.0 if toward else 30.0), ground=True)

    def _glare(self, image: Bytes, figure: Figure, camera: Camera) -> None:
        """Bloom around lights that look at the camera."""
        pixels, scale = camera.project(figure.points)
        for i, part in enumerate(figure.parts):
            if part.paint.emit <= 0 or figure.z < 2:
                continue
            first, last = figure.stops[i], figure.stops[i + 1]
            u, v = pixels[first:last].mean(axis=0)
            power = min(part.paint.emit, 6.0)
            radius = float(np.clip(power * (4.0 + 0.22 * scale[first]), 3, 130) * camera.width / 640)
            colour = np.array(part.paint.rgb, np.float32) * min(255.0, 60 + 40 * power)
            if not (0 <= u < camera.width and 0 <= v < camera.height) or self._depth[int(v), int(u)] < figure.z:
                continue
            self._add(image, (int(u - radius), int(v - radius), int(u + radius) + 1, int(v + radius) + 1), colour)
            if power > 2:  # smear of the lamp on the road below it
                foot = camera.cy + camera.fy * camera.above / figure.z
                wide = radius * 0.22
                self._add(image, (int(u - wide), int(foot - 1), int(u + wide) + 1, int(foot + 2.2 * (foot - v)) + 2), colour * 0.22, ground=True)

    def _add(self, image: Bytes, box: tuple[int, int, int, int], colour: Floats, *, ground: bool = False) -> None:
        """Add a soft spot of light that fills a box, clipped to the image."""
        x0, y0, x1, y1 = box
        left, top, right, bottom = max(x0, 0), max(y0, 0), min(x1, image.shape[1]), min(y1, image.shape[0])
        if right <= left or bottom <= top or x1 - x0 < 2 or y1 - y0 < 2:
            return
        side = self._glow.shape[0]
        matrix = np.float32([[side / (x1 - x0), 0, (left - x0) * side / (x1 - x0)], [0, side / (y1 - y0), (top - y0) * side / (y1 - y0)]])
        spot = cv2.warpAffine(self._glow, matrix, (right - left, bottom - top), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        if ground:
            spot = spot * (self._depth[top:bottom, left:right] > 1e5)
        share = colour * self._scene.weather.light.tint / 255
        added = cv2.merge([cv2.convertScaleAbs(spot, alpha=float(c)) for c in share])
        below = image[top:bottom, left:right]
        cv2.add(below, added, below)

    def _sense(self, image: Bytes, time_s: float) -> Bytes:
        height, width = image.shape[:2]
        key = np.random.SeedSequence([self._scene.config.seed, 6, round(time_s * 1e6) & 0xFFFFFFFF]).generate_state(3)
        dy, dx = int(key[0] % 64), int(key[1] % 64)
        noise = self._noise[dy : dy + height, dx : dx + width]
        return np.asarray(cv2.add(image, noise, dtype=cv2.CV_8U), np.uint8)


def shifted(image: Bytes, dx: float, dy: float) -> Bytes:
    """A copy of the image moved by a fraction of a pixel or more."""
    if dx == 0 and dy == 0:
        return image.copy()
    matrix = np.float32([[1, 0, dx], [0, 1, dy]])
    size = (image.shape[1], image.shape[0])
    return np.asarray(cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.uint8)


def _bloom(image: Floats) -> Floats:
    """Light that a lens scatters around lamps and windows: a narrow and a wide veil."""
    height, width = image.shape[:2]
    small = cv2.resize(np.minimum(image, 5), (width // 4, height // 4), interpolation=cv2.INTER_AREA)
    veil = 0.14 * cv2.GaussianBlur(small, (0, 0), width / 180) + 0.1 * cv2.GaussianBlur(small, (0, 0), width / 50)
    return np.asarray(cv2.resize(veil, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def _glow(size: int) -> Bytes:
    """A spot of light: core and halo, 255 in the middle."""
    grid = (np.arange(size, dtype=np.float32) - size // 2) / (size // 2)
    r = np.sqrt(grid[None] ** 2 + grid[:, None] ** 2)
    core = np.exp(-((r / 0.16) ** 2)) + 0.3 * np.exp(-r / 0.22)
    return np.asarray(core / core.max() * (1 - smoothstep(0.6, 1.0, r)) * 255, np.uint8)


def _noise_bank(rng: np.random.Generator, height: int, width: int, sigma: float) -> NDArray[np.int16]:
    """Sensor noise after a camera's own smoothing: fine luminance, coarser colour."""
    luma = cv2.GaussianBlur(rng.standard_normal((height, width), dtype=np.float32), (3, 3), 0.6) * 1.7
    small = rng.standard_normal((height // 3, width // 3, 3), dtype=np.float32)
    chroma = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(np.rint(sigma * (luma[..., None] + 0.7 * chroma)), np.int16)
