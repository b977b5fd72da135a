"""Things that stand in a street: lamps, signs, rails, blocks, cones."""

from __future__ import annotations

from collections.abc import Callable
from math import cos, pi, sin

import numpy as np

from mdrun.street.figure import Figure, Paint, Part, place
from mdrun.street.layout import Spot

CAR_STOP_ID, GUARDRAIL_ID, CONE_ID = 5, 6, 7
Point = tuple[float, float, float]


def _box(foot: Point, w: float, h: float, d: float) -> list[Point]:
    """Corners of a box w wide, h high, d deep, with the middle of its base at `foot`."""
    x, y, z = foot
    return [(x + i * w / 2, y + j * h, z + k * d / 2) for i in (-1, 1) for j in (0, 1) for k in (-1, 1)]


def lamp_head(spot: Spot) -> Point:
    """Where a street lamp's light is, world metres; the arm reaches over the road."""
    return spot.x + spot.heading * 0.9, spot.size - 0.1, spot.z


def furniture_figure(spot: Spot, air: float, *, lit: bool) -> Figure | None:
    """The figure of a spot, or None for kinds that are painted otherwise."""
    if spot.kind == "lamp":
        parts = _lamp(spot, air, lit=lit)
    elif spot.kind in _MAKERS:
        parts = _MAKERS[spot.kind](spot, air)
    else:
        return None
    return place(parts, (spot.x, 0.0, spot.z))


def _lamp(spot: Spot, air: float, *, lit: bool) -> list[Part]:
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


def _sign(spot: Spot, air: float) -> list[Part]:
    rng = np.random.default_rng(spot.seed)
    metal, top = Paint((0.3, 0.3, 0.3), air + 0.3), spot.size
    white, red, blue = (Paint(c, air - 1.0) for c in ((0.75, 0.75, 0.75), (0.6, 0.02, 0.03), (0.02, 0.08, 0.5)))
    post = Part([(0, 0, 0), (0, top + 0.1, 0)], 0.035, metal)
    kind = int(rng.integers(3))
    if kind == 0:
        return [
            post,
            Part([(0, top, -0.05)], 0.3, red),
            Part([(0, top, -0.06)], 0.23, white),
            Part(_box((0, top - 0.1, -0.07), 0.1, 0.2, 0), 0.0, blue),
        ]
    if kind == 1:
        return [
            post,
            Part([(0, top, -0.05)], 0.3, blue),
            Part([(-0.16, top - 0.05, -0.06), (0.16, top + 0.05, -0.06)], 0.05, white),
        ]
    return [
        post,
        Part(_box((0, top - 0.3, -0.05), 0.55, 0.6, 0), 0.0, blue),
        Part([(-0.2, top - 0.22, -0.06), (0.2, top - 0.22, -0.06), (0, top + 0.2, -0.06)], 0.0, white),
    ]


def _guardrail(spot: Spot, air: float) -> list[Part]:
    white = Paint((0.5, 0.51, 0.5), air - 0.8, GUARDRAIL_ID)
    half = spot.size / 2
    posts = [Part([(0, 0, z), (0, 0.8, z)], 0.055, white, 0.8) for z in (half, -half)]
    rails = [Part([(0, y, -half), (0, y, half)], 0.045, white) for y in (0.78, 0.55, 0.32)]
    return [*posts, *rails]


def _car_stop(spot: Spot, air: float) -> list[Part]:
    stone = Paint((0.42, 0.41, 0.38), air + 0.7, CAR_STOP_ID)
    yellow = Paint((0.6, 0.45, 0.06), air + 0.5, CAR_STOP_ID)
    w, h, d = 0.3, 0.3, spot.size
    top = [(-w / 3, h, -d / 2 + 0.05), (w / 3, h, -d / 2 + 0.05), (w / 3, h, d / 2 - 0.05), (-w / 3, h, d / 2 - 0.05)]
    front = [(-w / 2, 0, -d / 2), (w / 2, 0, -d / 2), (w / 3, h, -d / 2 + 0.05), (-w / 3, h, -d / 2 + 0.05)]
    body = [*front, *((x, y, -z) for x, y, z in front)]
    stripe = [(x * 1.01, y, z * s) for x, y, z in front[2:] for s in (1.0, 0.45)]
    return [
        Part(body, 0.0, stone, 0.7),
        Part(top, 0.0, stone, 1.15),
        Part(stripe, 0.0, yellow, 1.1),
        Part(front, 0.0, stone, 0.5),
    ]


def _cone(spot: Spot, air: float) -> list[Part]:
    rng = np.random.default_rng(spot.seed)
    rgb = ((0.75, 0.12, 0.02), (0.75, 0.05, 0.03), (0.03, 0.08, 0.45))[int(rng.choice([0, 1, 2], p=[0.5, 0.25, 0.25]))]
    plastic, white = Paint(rgb, air + 1.2, CONE_ID), Paint((0.75, 0.75, 0.75), air + 0.6, CONE_ID)
    h = spot.size

    def slice_of(low: float, high: float) -> list[Point]:
        return [
            (r * sin(a), y, -r * cos(a))
            for y, r in ((low, 0.17 * (1 - low / h) + 0.03), (high, 0.17 * (1 - high / h) + 0.03))
            for a in np.linspace(0, 2 * pi, 9).tolist()
        ]

    base = Part(_box((0, 0, 0), 0.4, 0.05, 0.4), 0.0, plastic, 0.7)
    return [base, Part(slice_of(0.04, h), 0.0, plastic), Part(slice_of(0.45 * h, 0.68 * h), 0.0, white)]


_MAKERS: dict[str, Callable[[Spot, float], list[Part]]] = {
    "sign": _sign,
    "guardrail": _guardrail,
    "car_stop": _car_stop,
    "cone": _cone,
}
