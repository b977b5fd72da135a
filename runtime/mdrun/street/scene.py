"""A scene: layout, weather, actors, and the still planes painted from far to near."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from math import sin

import cv2
import numpy as np
from numpy.typing import NDArray

from mdrun.street.camera import Camera
from mdrun.street.car import car_figure, random_car
from mdrun.street.config import BICYCLE, CAR, StreetConfig
from mdrun.street.figure import Figure, outline, place, shadow_of
from mdrun.street.furniture import furniture_figure
from mdrun.street.garden import Gardener
from mdrun.street.ground import paint_ground
from mdrun.street.houses import Masonry
from mdrun.street.layout import Layout, Spot, make_layout
from mdrun.street.motion import Actor, make_actors
from mdrun.street.person import bicycle_parts, random_bicycle
from mdrun.street.planes import Planes
from mdrun.street.texture import value_noise
from mdrun.street.weather import Weather, make_weather


@dataclass(frozen=True)
class Still:
    """A parked car or bicycle: its class and its full mask before anything hides it."""

    kind: int
    box: tuple[int, int, int, int]
    pixels: int


@dataclass(frozen=True)
class Scene:
    """All that is needed to render any moment.

    Attributes:
        config: what was asked for.
        layout: what stands where.
        weather: light and temperatures.
        camera: of the visible image, at rest.
        actors: what moves.
        planes: what does not, at visible size.
        stills: objects with boxes in `planes`; `planes.owner` holds index + 1.
        sway: amplitude of the camera's turning, radians.
        posed: the figures of the moment asked for last.
    """

    config: StreetConfig
    layout: Layout
    weather: Weather
    camera: Camera
    actors: list[Actor]
    planes: Planes
    stills: list[Still]
    sway: float
    posed: dict[float, list[tuple[str, Figure]]] = field(default_factory=dict, compare=False, repr=False)

    def turn(self, time_s: float) -> tuple[float, float]:
        """Yaw and pitch of the camera, radians: an idling vehicle or a mast in the wind."""
        phase = self.config.seed % 7
        yaw = self.sway * (sin(1.7 * time_s + phase) + 0.5 * sin(4.1 * time_s))
        pitch = self.sway * (0.6 * sin(2.3 * time_s + 1 + phase) + 0.4 * sin(5.3 * time_s))
        return yaw, pitch

    def figures(self, time_s: float) -> list[tuple[str, Figure]]:
        """Kind and figure of every actor, farthest first."""
        known = self.posed.get(time_s)
        if known is None:
            posed = [(actor.kind, actor.figure(time_s, self.camera)) for actor in self.actors]
            known = sorted(
                ((kind, figure) for kind, figure in posed if figure is not None), key=lambda item: -item[1].z
            )
            # One moment is asked for by both cameras and the labels.
            self.posed.clear()
            self.posed[time_s] = known
        return known


@lru_cache(maxsize=1)  # both cameras of a street are opened, one after the other; nobody changes a scene
def make_scene(config: StreetConfig) -> Scene:
    """Build a scene; all randomness is drawn here."""
    layout = make_layout(config)
    weather = make_weather(config, layout)
    actors = make_actors(config.seed, layout, weather.air, lit=weather.dark, sunny=weather.sunny)
    rng = np.random.default_rng((config.seed, 4))
    planes = Planes.empty(config.height, config.width, weather.sky_celsius)
    camera = layout.camera
    _sky(planes, camera, weather, rng)
    ground = paint_ground(layout, camera, rng, sunny=weather.sunny, night=weather.time == "night")
    rows = slice(ground.top, None)
    planes.albedo[rows], planes.label[rows], planes.z[rows] = ground.albedo, ground.label, ground.z
    planes.emission[rows] = 0
    planes.celsius[rows] = weather.air + ground.warm
    planes.upright[rows] = False
    if weather.sunny:
        _cast_shadows(planes, camera, layout, weather)
    stills = _stand(planes, camera, layout, weather, rng)
    sway = float(rng.choice([0.0, 0.0006, 0.0014]))
    return Scene(config, layout, weather, camera, actors, planes, stills, sway)


def _sky(planes: Planes, camera: Camera, weather: Weather, rng: np.random.Generator) -> None:
    """Gradient, clouds, and a far line of trees and towers that closes the road."""
    height, width = planes.z.shape
    up = np.clip((camera.cy - np.arange(height, dtype=np.float32)) / (0.8 * camera.fy), 0, 1)[:, None, None]
    cloud = cv2.resize(value_noise(rng, 256, 3, 4), (width, height), interpolation=cv2.INTER_LINEAR)
    sky = weather.horizon * (1 - np.sqrt(up)) + weather.zenith * np.sqrt(up)
    sky = (
        sky * (1 + 0.5 * (cloud - 0.5))[..., None]
        if not weather.sunny
        else sky + np.clip(cloud - 0.55, 0, 1)[..., None] * 1.2
    )
    planes.emission[:] = sky
    planes.celsius[:] = weather.sky_celsius + (1 - np.sqrt(up[..., 0])) * 8 + 5 * (cloud - 0.5)
    columns = np.arange(width, dtype=np.float32)
    line = np.interp(columns, np.linspace(0, width, 200), value_noise(rng, 256, 14, 4)[0, :200])
    tops = camera.cy - camera.fy * (0.02 + 0.09 * np.clip(line, 0, 1))
    for _ in range(int(rng.integers(0, 4))):
        left, wide, tall = rng.uniform(0, width), rng.uniform(0.02, 0.06) * width, rng.uniform(0.1, 0.28) * camera.fy
        inside = (columns > left) & (columns < left + wide)
        tops = np.where(inside, np.minimum(tops, camera.cy - tall), tops)
    y = np.arange(height, dtype=np.float32)[:, None]
    alpha = np.clip(y - tops[None], 0, 1).astype(np.float32)
    albedo = np.broadcast_to(np.array([0.04, 0.05, 0.035], np.float32), (height, width, 3))
    spots = (rng.random((height // 4 + 1, width // 4 + 1)) < 0.03).repeat(4, 0).repeat(4, 1)[:height, :width]
    lights = (spots * (y < tops[None] + 0.2 * camera.fy) * (0.5 if weather.dark else 0.0))[..., None] * np.array(
        [1.0, 0.75, 0.45], np.float32
    )
    planes.blend(
        (0, 0, width, height),
        alpha,
        albedo,
        np.full((height, width), weather.air, np.float32),
        160.0,
        emission=lights.astype(np.float32),
        sunlit=0.6,
    )
    planes.upright[:] = False


def _figures(layout: Layout, camera: Camera, weather: Weather) -> list[tuple[Spot, Figure, int]]:
    """Figure and class (or -1) of every spot that has one."""
    result = []
    for spot in layout.spots:
        rng = np.random.default_rng(spot.seed)
        if spot.kind == "car":
            car = random_car(rng, weather.air, driven=bool(rng.random() < 0.15), lit=False, sunny=weather.sunny)
            heading = spot.heading + 2 * layout.road.curve * spot.z
            result.append((spot, car_figure(car, (spot.x, 0.0, spot.z), heading, camera), CAR))
        elif spot.kind == "bicycle":
            parts = bicycle_parts(random_bicycle(rng, weather.air))
            result.append((spot, place(parts, (spot.x, 0.0, spot.z), spot.heading, by_depth=True), BICYCLE))
        else:
            figure = furniture_figure(spot, weather.air, lit=weather.dark)
            if figure is not None:
                result.append((spot, figure, -1))
    return result


def _cast_shadows(planes: Planes, camera: Camera, layout: Layout, weather: Weather) -> None:
    """Take the sun from the ground behind everything that stands."""
    slope = weather.light.shadow_slope
    shade = np.zeros(planes.z.shape, np.uint8)

    def add(figure: Figure) -> None:
        drawn = outline(shadow_of(figure, slope), camera)
        if drawn is not None:
            x0, y0, x1, y1 = drawn.window
            shade[y0:y1, x0:x1] = np.maximum(shade[y0:y1, x0:x1], drawn.mask())

    for _, figure, _ in _figures(layout, camera, weather):
        add(figure)
    rng = np.random.default_rng(7)
    for spot in layout.spots:
        if spot.kind in ("tree", "bush"):
            crown = spot.size * (0.9 if spot.kind == "tree" else 0.5)
            for _ in range(60):
                dx, dy, dz = rng.normal(0, 0.2 * spot.size, 3)
                x, z = spot.x + dx + slope[0] * (crown + dy), spot.z + dz + slope[1] * (crown + dy)
                ring = [
                    (x + r * np.cos(a), z + r * np.sin(a)) for r in (0.075 * spot.size,) for a in np.linspace(0, 6.3, 9)
                ]
                points = np.array([(px, 0.0, pz) for px, pz in ring], np.float32)
                if points[:, 2].min() > 1.0:
                    pixels, _ = camera.project(points)
                    cv2.fillConvexPoly(shade, (pixels * 16).clip(-4e5, 4e5).astype(np.int32), (255,), cv2.LINE_AA, 4)
    ground = planes.z < 150
    soft = cv2.GaussianBlur(shade, (0, 0), 2.2).astype(np.float32) / 255
    planes.sunlit[ground] = 1 - 0.92 * soft[ground]
    planes.celsius -= 1.5 * soft * ground


def _stand(planes: Planes, camera: Camera, layout: Layout, weather: Weather, rng: np.random.Generator) -> list[Still]:
    """Paint all that stands, farthest first, and note what has a box."""
    mason, gardener = Masonry(rng, dark=weather.dark, air=weather.air), Gardener(rng, weather.air)
    drawn = {id(spot): (figure, kind) for spot, figure, kind in _figures(layout, camera, weather)}
    things: list[tuple[float, int, int]] = [
        (b.z0 if b.z0 > 1 else b.z1 * 0.5, 0, i) for i, b in enumerate(layout.buildings)
    ]
    things += [(spot.z, 1, i) for i, spot in enumerate(layout.spots) if spot.kind != "manhole"]
    stills: list[Still] = []
    for _, group, i in sorted(things, reverse=True):
        if group == 0:
            mason.build(planes, camera, layout.buildings[i])
            continue
        spot = layout.spots[i]
        if spot.kind in ("tree", "bush"):
            gardener.plant(planes, camera, spot)
            continue
        figure, kind = drawn[id(spot)]
        still = _still(figure, kind, camera) if kind >= 0 and len(stills) < 255 else None
        if still is not None:
            stills.append(still)
        _contact_shadow(planes, camera, figure, kind)
        planes.draw(figure, camera, owner=len(stills) if still is not None else 0)
    return stills


def _contact_shadow(planes: Planes, camera: Camera, figure: Figure, kind: int) -> None:
    """Little sky light reaches the ground under a parked car."""
    mask = contact(figure, camera) if kind == CAR else None
    if mask is not None:
        (x0, y0, x1, y1), dark = mask
        planes.albedo[y0:y1, x0:x1] *= (1 - 0.75 * dark.astype(np.float32) / 255)[..., None]


def contact(figure: Figure, camera: Camera) -> tuple[tuple[int, int, int, int], NDArray[np.uint8]] | None:
    """Window and darkness (0 to 255) of the soft shadow straight below a figure."""
    drawn = outline(shadow_of(figure, (0.0, 0.0)), camera)
    if drawn is None:
        return None
    x0, y0, x1, y1 = drawn.window
    pad = max(2, (y1 - y0) // 3)
    window = max(x0 - pad, 0), max(y0 - pad, 0), min(x1 + pad, camera.width), min(y1 + pad, camera.height)
    canvas = np.zeros((window[3] - window[1], window[2] - window[0]), np.uint8)
    canvas[y0 - window[1] : y1 - window[1], x0 - window[0] : x1 - window[0]] = drawn.mask()
    soft = cv2.blur(
        cv2.blur(canvas, (pad, pad)), (pad, pad)
    )  # two boxes: near a Gaussian, at any size for the same price
    return window, np.asarray(soft, np.uint8)


def _still(figure: Figure, kind: int, camera: Camera) -> Still | None:
    drawn = outline(figure, camera)
    if drawn is None:
        return None
    canvas = np.zeros(drawn.shape, np.uint8)
    drawn.fill(canvas, [(1,)] * len(drawn.polygons), cv2.LINE_8)
    if not canvas.any():
        return None
    x, y, w, h = cv2.boundingRect(canvas)
    x0, y0 = drawn.window[:2]
    return Still(kind, (x0 + x, y0 + y, x0 + x + w, y0 + y + h), int(canvas.sum()))
