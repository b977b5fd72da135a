"""The visible camera: light on surfaces, glare, blur, sensor noise."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from mdrun.street.arrays import Bytes, Floats
from mdrun.street.camera import Camera
from mdrun.street.figure import Figure, Sprite, outline, shadow_of
from mdrun.street.glare import Glare
from mdrun.street.light import tone
from mdrun.street.scene import Scene, contact


class VisibleCamera:
    """Renders RGB frames of one scene."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._depth = np.where(scene.planes.upright, scene.planes.z, np.float32(1e6)).astype(np.float32)
        self._still = self._shade()
        self._glare = Glare(self._depth, scene.weather.light.tint)
        rng = np.random.default_rng((scene.config.seed, 5))
        self._noise = _noise_bank(rng, scene.config.height + 64, scene.config.width + 64, scene.weather.visible_noise)

    def _shade(self) -> Bytes:
        """The still street under its light."""
        scene, planes, weather = self._scene, self._scene.planes, self._scene.weather
        x, y, z = planes.world(scene.camera, 4)
        light = weather.light.at(x, y, np.minimum(z, 300))
        height, width = planes.z.shape
        light = np.asarray(cv2.resize(light, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)
        light += planes.sunlit[..., None] * weather.light.sun
        image = planes.albedo * light + planes.emission
        if weather.time != "night":
            haze = (1 - np.exp(-planes.z / weather.haze_m))[..., None] * (planes.z < 900)[..., None]
            image = image * (1 - haze) + weather.horizon * 0.8 * haze
        image *= weather.light.tint
        if weather.dark:
            image += _bloom(image)
        return tone(image, weather.black)

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
                self._glare.beam(image, figure, camera)
        mids = np.array([figure.points.mean(axis=0) for _, figure in figures], np.float32).reshape(-1, 3)
        lights = scene.weather.light.at(mids[:, 0], np.ones(len(mids), np.float32), mids[:, 2])
        sprites = [self._draw(image, figure, camera, light) for (_, figure), light in zip(figures, lights, strict=True)]
        if scene.weather.dark:
            for i, (kind, figure) in enumerate(figures):
                if kind != "person":
                    self._glare.flare(image, figure, camera, sprites[i + 1 :])
        return self._sense(np.asarray(cv2.GaussianBlur(image, (3, 3), 0.65), np.uint8), time_s)

    def _draw(self, image: Bytes, figure: Figure, camera: Camera, light: Floats) -> Sprite | None:
        drawn = outline(figure, camera)
        if drawn is None:
            return None
        sprite = drawn.paint(self._colours(figure, light))
        sprite.lay(image, self._depth)
        return sprite

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
        return tone(linear * weather.light.tint, weather.black)

    def _shadow(self, image: Bytes, kind: str, figure: Figure, camera: Camera) -> None:
        weather = self._scene.weather
        found = contact(figure, camera) if kind == "car" or not weather.dark else None
        if found is not None:
            self._darken(image, found[0], found[1], 0.55 if kind == "car" else 0.3)
        if weather.sunny:
            drawn = outline(shadow_of(figure, weather.light.shadow_slope), camera)
            if drawn is not None:
                self._darken(image, drawn.window, np.asarray(cv2.blur(drawn.mask(), (3, 3)), np.uint8), 0.42)

    def _darken(self, image: Bytes, window: tuple[int, int, int, int], mask: Bytes, share: float) -> None:
        x0, y0, x1, y1 = window
        below = image[y0:y1, x0:x1]
        weight = (1 - share / 255 * mask * (self._depth[y0:y1, x0:x1] > 1e5)).astype(np.float32)
        below[:] = (below * weight[..., None]).astype(np.uint8)

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
    matrix = np.array([[1, 0, dx], [0, 1, dy]], np.float32)
    size = (image.shape[1], image.shape[0])
    return np.asarray(
        cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.uint8
    )


def _bloom(image: Floats) -> Floats:
    """Light that a lens scatters around lamps and windows: a narrow and a wide veil."""
    height, width = image.shape[:2]
    small = cv2.resize(np.minimum(image, 5), (width // 4, height // 4), interpolation=cv2.INTER_AREA)
    veil = 0.14 * cv2.GaussianBlur(small, (0, 0), width / 180) + 0.1 * cv2.GaussianBlur(small, (0, 0), width / 50)
    return np.asarray(cv2.resize(veil, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def _noise_bank(rng: np.random.Generator, height: int, width: int, sigma: float) -> NDArray[np.int16]:
    """Sensor noise after a camera's own smoothing: fine luminance, coarser colour."""
    luma = cv2.GaussianBlur(rng.standard_normal((height, width), dtype=np.float32), (3, 3), 0.6) * 1.7
    small = rng.standard_normal((height // 3, width // 3, 3), dtype=np.float32)
    chroma = cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(np.rint(sigma * (luma[..., None] + 0.7 * chroma)), np.int16)
