"""Cars, vans and buses as two convex bodies with windows, wheels and lights."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import cos, pi, sin

import numpy as np

from mdrun.street.camera import Camera
from mdrun.street.figure import Figure, Model, Paint, Part

CAR_ID = 1
Point = tuple[float, float, float]
_COLOURS = (
    (0.7, 0.7, 0.7),
    (0.5, 0.51, 0.53),
    (0.03, 0.03, 0.035),
    (0.25, 0.26, 0.27),
    (0.35, 0.03, 0.03),
    (0.04, 0.09, 0.3),
    (0.75, 0.73, 0.66),
    (0.1, 0.12, 0.1),
    (0.4, 0.3, 0.15),
)


@dataclass(frozen=True)
class Shape:
    """Proportions in metres: profile heights and where windscreen and tail begin, from the middle, front positive."""

    length: float
    width: float
    height: float
    belt: float  # where the windows begin
    bonnet: float  # height of the bonnet's front edge
    screen: float  # foot of the windscreen
    roof_front: float
    roof_rear: float
    tail: float  # foot of the rear window


SHAPES = {
    "saloon": Shape(4.5, 1.76, 1.45, 0.95, 0.78, 0.95, 0.25, -0.95, -1.65),
    "hatch": Shape(3.9, 1.7, 1.52, 0.97, 0.82, 1.05, 0.4, -1.55, -1.85),
    "kei": Shape(3.4, 1.48, 1.68, 0.98, 0.9, 1.2, 0.75, -1.55, -1.66),
    "van": Shape(4.7, 1.75, 1.95, 1.08, 0.98, 1.85, 1.2, -2.2, -2.3),
    "bus": Shape(7.5, 2.2, 2.9, 1.3, 1.25, 3.68, 3.55, -3.65, -3.7),
}


@dataclass(frozen=True)
class Car:
    """One car: its shape, and the paint of each kind of surface."""

    shape: Shape
    body: Paint
    bonnet: Paint
    front: Paint
    glass: Paint
    tyre: Paint
    rim: Paint
    under: Paint
    exhaust: Paint
    plate: Paint
    head: Paint
    tail: Paint


def random_car(rng: np.random.Generator, air: float, *, driven: bool, lit: bool, sunny: bool, shape: str = "") -> Car:
    """Draw a car; `driven` ones have a warm engine, tyres and exhaust, `lit` ones their lights on."""
    rgb = _COLOURS[rng.integers(len(_COLOURS))]
    key = shape or str(rng.choice(["saloon", "hatch", "kei", "van", "bus"], p=[0.32, 0.27, 0.17, 0.16, 0.08]))
    skin = air + (rng.uniform(1, 6) if sunny else rng.uniform(-2.5, 0.5)) + (1.0 if driven else 0.0)
    heat = rng.uniform(0.6, 1.3) if driven else 0.0

    def paint(colour: tuple[float, float, float], celsius: float, emit: float = 0.0) -> Paint:
        return Paint(colour, float(celsius), CAR_ID, emit)

    return Car(
        shape=SHAPES[key],
        body=paint(rgb, skin),
        bonnet=paint(rgb, skin + 8 * heat),
        front=paint((0.04, 0.04, 0.045), skin + 15 * heat),
        glass=paint((0.03, 0.035, 0.04), air - 2 + 3 * heat),
        tyre=paint((0.02, 0.02, 0.02), air + 0.5 + 12 * heat),
        rim=paint((0.35, 0.35, 0.36), air + 1 + 8 * heat),
        under=paint((0.008, 0.008, 0.008), air + 1 + 9 * heat),
        exhaust=paint((0.05, 0.05, 0.05), air + 1 + 18 * heat),
        plate=paint((0.75, 0.75, 0.7), skin + 1),
        head=paint((1.0, 0.97, 0.86) if lit else (0.7, 0.72, 0.75), skin + 10 * heat, 6.0 if lit else 0.0),
        tail=paint((0.9, 0.05, 0.03) if lit else (0.35, 0.02, 0.02), skin + 5 * heat, 0.9 if lit else 0.0),
    )


def _quad(x: float, y0: float, y1: float, z: float, half: float) -> list[Point]:
    """A rectangle across the car."""
    return [(x - half, y0, z), (x + half, y0, z), (x + half, y1, z), (x - half, y1, z)]


def _wheels(car: Car) -> list[Part]:
    shape = car.shape
    radius = 0.31 if shape.height < 2.5 else 0.45
    parts = []
    for z in (-shape.length * 0.31, shape.length * 0.31):
        for side in (-1.0, 1.0):
            circle = [(radius * cos(a), radius * sin(a)) for a in np.linspace(0, 2 * pi, 13)[:-1].tolist()]
            tread = [(side * x, radius + v, z + u) for x in (shape.width / 2 - 0.2, shape.width / 2) for u, v in circle]
            parts.append(Part(tread, 0.0, car.tyre))
    return parts


def _hubs(car: Car, side: float) -> list[Part]:
    shape, x = car.shape, side * (car.shape.width / 2 + 0.01)
    radius = 0.31 if shape.height < 2.5 else 0.45
    parts = []
    for z in (-shape.length * 0.31, shape.length * 0.31):
        for scale, paint, shade in (
            (1.18, car.under, 1.0),
            (1.0, car.tyre, 1.0),
            (0.62, car.rim, 0.8),
            (0.2, car.under, 1.0),
        ):
            ring = [
                (x, radius + scale * radius * sin(a), z + scale * radius * cos(a))
                for a in np.linspace(0, 2 * pi, 13)[:-1].tolist()
            ]
            parts.append(Part(ring, 0.0, paint, shade))
    return parts


def _side(car: Car, side: float) -> list[Part]:
    s, x = car.shape, side * car.shape.width / 2
    half = s.length / 2
    rear_top = s.belt if s.tail > -half + 0.3 else s.belt + 0.05
    body = [(x, 0.28, -half), (x, rear_top, -half), (x, s.belt, s.screen), (x, s.bonnet, half), (x, 0.3, half)]
    inner = x - side * 0.12  # the cabin leans inwards
    cabin = [
        (x, s.belt - 0.02, s.tail),
        (x, s.belt - 0.02, s.screen),
        (inner, s.height, s.roof_front),
        (inner, s.height, s.roof_rear),
    ]
    parts = [
        Part(body, 0.0, car.body, 0.8),
        Part([(x, 0.28, -half), (x, 0.28, half), (x, 0.4, half), (x, 0.4, -half)], 0.0, car.under),
    ]
    parts.append(Part(cabin, 0.0, car.body, 0.8))
    parts += _side_windows(car, side)
    parts += _hubs(car, side)
    return parts


def _side_windows(car: Car, side: float) -> list[Part]:
    s, x = car.shape, side * (car.shape.width / 2 + 0.01)
    low, high = s.belt + 0.03, s.height - 0.1
    inner = x - side * 0.11
    cuts = (s.tail + 0.22, (s.tail + s.screen) / 2 - 0.1, s.screen - 0.2)
    tops = (s.roof_rear + 0.15, (s.roof_rear + s.roof_front) / 2, s.roof_front - 0.06)
    parts = []
    for i in (0, 1):
        gap = 0.05 if i == 0 else -0.05
        a, b = cuts[i] + max(-gap, 0), cuts[i + 1] - max(gap, 0)
        c, d = tops[i] + max(-gap, 0), tops[i + 1] - max(gap, 0)
        parts.append(Part([(x, low, a), (x, low, b), (inner, high, d), (inner, high, c)], 0.0, car.glass))
    return parts


def _front(car: Car) -> list[Part]:
    s = car.shape
    z, w = s.length / 2, s.width / 2
    screen = [(-w + 0.1, s.belt + 0.02, s.screen), (w - 0.1, s.belt + 0.02, s.screen)]
    screen += [(w - 0.2, s.height - 0.09, s.roof_front), (-w + 0.2, s.height - 0.09, s.roof_front)]
    frame = [
        (-w, s.belt - 0.02, s.screen),
        (w, s.belt - 0.02, s.screen),
        (w - 0.12, s.height, s.roof_front),
        (-w + 0.12, s.height, s.roof_front),
    ]
    parts = [
        Part(_quad(0, 0.25, s.bonnet, z, w), 0.0, car.body, 0.9),
        Part(
            [(-w, s.bonnet, z), (w, s.bonnet, z), (w, s.belt, s.screen), (-w, s.belt, s.screen)], 0.0, car.bonnet, 1.25
        ),
        Part(frame, 0.0, car.body, 0.9),
        Part(screen, 0.0, car.glass, 1.3),
        Part(_quad(0, 0.5, s.bonnet - 0.12, z + 0.01, w * 0.5), 0.0, car.front),
        Part(_quad(0, 0.25, 0.4, z + 0.01, w * 0.85), 0.0, car.front, 0.6),
        Part(_quad(0, 0.42, 0.55, z + 0.02, 0.2), 0.0, car.plate),
    ]
    for side in (-1, 1):
        lamp = _quad(side * (w - 0.24), s.bonnet - 0.2, s.bonnet - 0.05, z + 0.02, 0.19)
        parts.append(Part(lamp, 0.0, car.head))
    return parts


def _rear(car: Car) -> list[Part]:
    s = car.shape
    z, w = -s.length / 2, s.width / 2
    top = s.belt + 0.03
    frame = [
        (-w, s.belt - 0.02, s.tail),
        (w, s.belt - 0.02, s.tail),
        (w - 0.12, s.height, s.roof_rear),
        (-w + 0.12, s.height, s.roof_rear),
    ]
    glass = [(-w + 0.16, s.belt + 0.06, s.tail), (w - 0.16, s.belt + 0.06, s.tail)]
    glass += [(w - 0.24, s.height - 0.12, s.roof_rear - 0.01), (-w + 0.24, s.height - 0.12, s.roof_rear - 0.01)]
    parts = [
        Part(_quad(0, 0.27, top, z, w), 0.0, car.body, 0.8),
        Part([(-w, top, z), (w, top, z), (w, s.belt, s.tail), (-w, s.belt, s.tail)], 0.0, car.body, 1.15),
        Part(frame, 0.0, car.body, 0.85),
        Part(glass, 0.0, car.glass, 1.2),
        Part(_quad(0, 0.27, 0.42, z - 0.01, w * 0.95), 0.0, car.under),
        Part(_quad(0, 0.62, 0.76, z - 0.01, 0.22), 0.0, car.plate, 0.9),
        Part([(-0.5 * w, 0.3, z - 0.02)], 0.04, car.exhaust),
    ]
    for side in (-1, 1):
        lamp = _quad(side * (w - 0.17), top - 0.27, top - 0.06, z - 0.02, 0.14)
        parts.append(Part(lamp, 0.0, car.tail))
    return parts


@lru_cache(maxsize=512)
def _model(car: Car, side: int, end: int, *, roof: bool) -> Model:
    """The faces that a camera sees: `side` -1, 0 or 1, `end` -1 for the rear, 1 for the front."""
    s = car.shape
    w, d = s.width / 2 - 0.05, s.length / 2 - 0.1
    bottom = [(sx * w, y, sz * d) for sx in (-1, 1) for y in (0.12, 0.3) for sz in (-1, 1)]
    parts = [Part(bottom, 0.0, car.under), *_wheels(car)]
    if roof:
        w = s.width / 2 - 0.12
        top = [
            (x, s.height, z) for x, z in ((-w, s.roof_front), (w, s.roof_front), (w, s.roof_rear), (-w, s.roof_rear))
        ]
        parts.append(Part(top, 0.0, car.body, 1.3))
    if side:
        parts += _side(car, float(side))
    if end:
        parts += _front(car) if end > 0 else _rear(car)
    return Model.of(parts)


def car_figure(car: Car, position: Point, heading: float, camera: Camera) -> Figure:
    """A car at `position`; only the faces that look at the camera are drawn, so the order needs no depth."""
    s = car.shape
    x, _, z = position
    # The camera in the car's own frame: which faces can it see?
    cam_x = -x * cos(heading) + z * sin(heading)
    cam_z = -x * sin(heading) - z * cos(heading)
    side = 0 if abs(cam_x) <= s.width / 2 else (1 if cam_x > 0 else -1)
    end = 1 if cam_z > s.length / 2 - 0.6 else (-1 if cam_z < -s.length / 2 + 0.6 else 0)
    return _model(car, side, end, roof=camera.above > s.height).place(position, heading)
