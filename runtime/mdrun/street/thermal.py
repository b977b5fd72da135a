"""The thermal camera: apparent temperature to grey, lens blur, few pixels, fixed-pattern and random noise."""

from __future__ import annotations

import cv2
import numpy as np

from mdrun.street.arrays import Bytes, Floats
from mdrun.street.figure import outline
from mdrun.street.scene import Scene
from mdrun.street.visible import shifted


class ThermalCamera:
    """Renders grey frames of one scene at one resolution, with the visible camera's field of view."""

    def __init__(self, scene: Scene, width: int, height: int) -> None:
        self._scene = scene
        self._size = (width, height)
        full = (scene.camera.width, scene.camera.height)
        # Twice the sensor's resolution is enough for its pixels to average over.
        self._canvas = (min(full[0], 2 * width), min(full[1], 2 * height))
        self._camera = scene.camera.resized(*self._canvas)
        depth = np.where(scene.planes.upright, scene.planes.z, np.float32(1e6)).astype(np.float32)
        self._depth = np.asarray(cv2.resize(depth, self._canvas, interpolation=cv2.INTER_NEAREST), np.float32)
        still = cv2.resize(scene.planes.celsius, self._canvas, interpolation=cv2.INTER_AREA)
        self._still = self._grey(np.asarray(still, np.float32))
        rng = np.random.default_rng((scene.config.seed, 8))
        self._pattern = _fixed_pattern(rng, height, width)
        self._noise = rng.standard_normal((height + 32, width + 32), dtype=np.float32)

    def _grey(self, celsius: Floats) -> Bytes:
        """The camera's automatic gain, frozen: degrees to 8 bit, compressed above the skin's level."""
        weather = self._scene.weather
        grey = weather.offset + weather.gain * (celsius - weather.air)
        high = np.maximum(grey - 200, 0)
        return np.asarray((np.minimum(grey, 200) + 50 * (1 - np.exp(-high / 50))).clip(0, 255), np.uint8)

    def frame(self, time_s: float, noise: float) -> Bytes:
        """(h, w) uint8 at a time; `noise` scales all noise, 0 for none."""
        scene = self._scene
        yaw, pitch = scene.turn(time_s)
        camera = self._camera.turned(yaw, pitch)
        image = shifted(self._still, camera.cx - self._camera.cx, camera.cy - self._camera.cy)
        for _, figure in scene.figures(time_s):
            drawn = outline(figure, camera)
            if drawn is None:
                continue
            celsius = np.array([p.paint.celsius for p in figure.parts], np.float32)
            drawn.paint(self._grey(celsius)[:, None]).lay(image, self._depth)
        return self._sense(image, time_s, noise)

    def _sense(self, image: Bytes, time_s: float, noise: float) -> Bytes:
        width, height = self._size
        blurred = cv2.GaussianBlur(image, (0, 0), 0.55 * max(self._canvas[0] / width, 1.0))
        way = cv2.INTER_AREA if self._canvas[0] >= width else cv2.INTER_CUBIC
        grey = cv2.resize(blurred, self._size, interpolation=way)
        if noise <= 0:
            return np.asarray(grey, np.uint8)
        key = np.random.SeedSequence([self._scene.config.seed, 9, round(time_s * 1e6) & 0xFFFFFFFF]).generate_state(2)
        dy, dx = int(key[0] % 32), int(key[1] % 32)
        random = self._noise[dy : dy + height, dx : dx + width]
        total = grey + np.float32(noise) * (self._pattern + 0.9 * random)
        return np.asarray(np.rint(total).clip(0, 255), np.uint8)


def _fixed_pattern(rng: np.random.Generator, height: int, width: int) -> Floats:
    """Column gains and pixel offsets that a calibration leaves behind, grey levels."""
    columns = rng.normal(0, 0.7, width).astype(np.float32)
    pixels = rng.normal(0, 0.4, (height, width)).astype(np.float32)
    return columns[None] + pixels
