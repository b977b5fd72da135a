"""Where everything stands: road, houses, trees, lamps, furniture. Drawn once per seed."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from mdrun.street.camera import Camera
from mdrun.street.config import StreetConfig


@dataclass(frozen=True)
class Road:
    """Lateral positions in metres from the camera, right positive; the road bends by `curve` x z squared.

    Attributes:
        left: left kerb.
        right: right kerb.
        centre: line between the two directions.
        lane: width of a lane; what is left of the road is a parking strip.
        pavement_left: width of the left pavement.
        pavement_right: width of the right pavement.
        curve: metres sideways per square metre ahead.
        crossing: distance of the zebra crossing, metres.
        drives_left: traffic keeps left.
    """

    left: float
    right: float
    centre: float
    lane: float
    pavement_left: float
    pavement_right: float
    curve: float
    crossing: float
    drives_left: bool

    def x(self, lateral: float, z: float) -> float:
        """World x of a lateral position at distance z."""
        return lateral + self.curve * z * z


@dataclass(frozen=True)
class Building:
    """A box: facade along the road at `x`, from z0 to z1, `height` high."""

    x: float
    z0: float
    z1: float
    height: float
    rgb: tuple[float, float, float]
    storey: float
    pitch: float
    lit: float
    shop: bool
    seed: int


@dataclass(frozen=True)
class Spot:
    """A thing of one kind that stands at (x, z); `size` in metres."""

    kind: str
    x: float
    z: float
    size: float
    seed: int = 0
    heading: float = 0.0


@dataclass(frozen=True)
class Layout:
    """The whole street that does not move."""

    road: Road
    camera: Camera
    view: str  # lane | kerb | mast
    buildings: list[Building] = field(default_factory=list)
    spots: list[Spot] = field(default_factory=list)
    bumps: list[float] = field(default_factory=list)
    density: float = 1.0


def make_layout(config: StreetConfig) -> Layout:
    """Draw camera, road and everything beside it from the seed."""
    rng = np.random.default_rng((config.seed, 1))
    view = str(rng.choice(["lane", "kerb", "mast"], p=[0.5, 0.3, 0.2]))
    road = _road(rng, view)
    layout = Layout(road, _camera(rng, config, view), view, density=float(rng.uniform(0.7, 1.4)))
    for side in (-1, 1):
        _houses(rng, layout, side)
        _greenery(rng, layout, side)
        _furniture(rng, layout, side)
    _on_the_road(rng, layout)
    return layout


def _camera(rng: np.random.Generator, config: StreetConfig, view: str) -> Camera:
    """Lens and pose as in street photographs: persons of 28 to 134 px of 480 at 8 to 40 m."""
    above = rng.uniform(3.0, 5.0) if view == "mast" else rng.uniform(1.25, 2.1)
    horizon = rng.uniform(0.25, 0.38) if view == "mast" else rng.uniform(0.42, 0.53)
    focal = rng.uniform(0.85, 1.15)
    fx = focal * config.width
    cx = config.width * rng.uniform(0.42, 0.58)
    return Camera(fx, fx, cx, config.height * horizon, above, config.width, config.height)


def _road(rng: np.random.Generator, view: str) -> Road:
    lane = rng.uniform(2.8, 3.5)
    drives_left = bool(rng.random() < 0.5)
    near = {"lane": lane / 2 + rng.uniform(0.2, 0.8), "kerb": -rng.uniform(0.3, 1.2), "mast": rng.uniform(-1.0, 2.5)}[
        view
    ]
    parking = 2.2 if rng.random() < 0.5 else 0.0
    far = 2 * lane - near + parking
    centre = lane - near
    left, right = (-near, far) if drives_left else (-far, near)
    centre = centre if drives_left else -centre
    return Road(
        left=left,
        right=right,
        centre=centre,
        lane=lane,
        pavement_left=rng.uniform(1.8, 3.6),
        pavement_right=rng.uniform(1.8, 3.6),
        curve=float(rng.normal(0, 0.0012)),
        crossing=float(rng.uniform(11, 19)),
        drives_left=drives_left,
    )


def edge(road: Road, side: int, beyond: float) -> float:
    """Lateral position `beyond` metres outside the kerb of the given side (-1 left, 1 right)."""
    return road.right + beyond if side > 0 else road.left - beyond


def _houses(rng: np.random.Generator, layout: Layout, side: int) -> None:
    road = layout.road
    pavement = road.pavement_right if side > 0 else road.pavement_left
    z = rng.uniform(-6, 4)
    walls = (
        (0.42, 0.38, 0.32),
        (0.3, 0.16, 0.11),
        (0.5, 0.5, 0.48),
        (0.25, 0.25, 0.26),
        (0.45, 0.36, 0.22),
        (0.2, 0.19, 0.17),
    )
    open_land = rng.random() < 0.3  # a park instead of a row of houses
    while z < 120:
        length = rng.uniform(8, 22)
        gap = rng.uniform(0.3, 3) if rng.random() < 0.7 else rng.uniform(6, 14)
        if not open_land or rng.random() < 0.25:
            # A bend would push far facades into the road: set them back by it.
            bend = road.curve * (z + length) ** 2
            x = edge(road, side, pavement + rng.uniform(0.3, 4.0)) + (
                bend if bend * side > 0 else road.curve * max(z, 0) ** 2
            )
            shop = bool(rng.random() < 0.35)
            building = Building(
                x,
                z,
                z + length,
                float(rng.choice([6.5, 9.5, 13.0, 19.0, 28.0], p=[0.25, 0.3, 0.25, 0.12, 0.08])),
                walls[rng.integers(len(walls))],
                rng.uniform(2.9, 3.5),
                rng.uniform(1.7, 3.2),
                float(rng.choice([0.06, 0.2, 0.45])),
                shop,
                int(rng.integers(1 << 30)),
            )
            layout.buildings.append(building)
        z += length + gap


def _greenery(rng: np.random.Generator, layout: Layout, side: int) -> None:
    road = layout.road
    pavement = road.pavement_right if side > 0 else road.pavement_left
    avenue = rng.random() < 0.6
    z = rng.uniform(5, 12)
    step = rng.uniform(7, 13)
    while z < 90:
        if avenue and rng.random() < 0.8:
            lateral = edge(road, side, rng.uniform(0.5, 0.8) if rng.random() < 0.7 else pavement + 1)
            if abs(lateral) > 1.5 or z > 18:  # no trunk right before the lens
                layout.spots.append(Spot("tree", road.x(lateral, z), z, rng.uniform(5, 10), int(rng.integers(1 << 30))))
        z += step * rng.uniform(0.8, 1.3)
    if rng.random() < 0.55:
        z = rng.uniform(6, 14)
        lateral = edge(road, side, pavement + 0.4)
        for i in range(int(rng.integers(4, 14))):
            layout.spots.append(
                Spot("bush", road.x(lateral, z + 2 * i), z + 2 * i, rng.uniform(0.9, 1.5), int(rng.integers(1 << 30)))
            )
    for _ in range(int(rng.integers(2, 7))):
        z = rng.uniform(25, 110)
        lateral = edge(road, side, pavement + rng.uniform(3, 14))
        layout.spots.append(Spot("tree", road.x(lateral, z), z, rng.uniform(7, 13), int(rng.integers(1 << 30))))


def _furniture(rng: np.random.Generator, layout: Layout, side: int) -> None:
    road = layout.road

    def put(kind: str, beyond: float, z: float, size: float, heading: float = 0.0) -> None:
        x = road.x(edge(road, side, beyond), z)
        layout.spots.append(Spot(kind, x, z, size, int(rng.integers(1 << 30)), heading))

    for z in np.arange(rng.uniform(8, 16), 100, rng.uniform(14, 24)).tolist():
        put("lamp", 0.45, z, rng.uniform(4.5, 7.0), -side)
    if rng.random() < 0.5:
        put("sign", 0.35, rng.uniform(9, 24), rng.uniform(2.2, 2.8))
    if rng.random() < 0.4:
        rails = rng.uniform(6, 12) + 2.0 * np.arange(rng.integers(3, 9))
        for z in rails[np.abs(rails + 1 - road.crossing) > 3].tolist():
            put("guardrail", 0.25, z, 2.0)
    if rng.random() < 0.35:
        start = rng.uniform(5, 10)
        for i in range(int(rng.integers(3, 8))):
            put("car_stop", -0.3 if rng.random() < 0.9 else 0.6, start + 2.6 * i, rng.uniform(0.8, 1.1))
    if rng.random() < 0.5:
        start, beyond = rng.uniform(7, 26), (road.pavement_right if side > 0 else road.pavement_left) - 0.5
        for i in range(int(rng.integers(2, 8))):
            put("bicycle", beyond, start + 0.75 * i, 1.0, float(side * rng.normal(1.3, 0.12)))
    strip = (road.right - road.centre if side > 0 else road.centre - road.left) - road.lane
    parked = rng.uniform(8, 16) + np.cumsum(rng.uniform(5.6, 12, rng.integers(1, 6)))
    if strip > 2:
        for z in parked[np.abs(parked - road.crossing) > 5].tolist():
            put("car", -1.0, z, 1.0, 0.0 if (side < 0) == road.drives_left else np.pi)


def _on_the_road(rng: np.random.Generator, layout: Layout) -> None:
    road = layout.road
    if rng.random() < 0.4:
        side = 1 if rng.random() < 0.5 else -1
        start = rng.uniform(6, 14)
        for i in range(int(rng.integers(2, 8))):
            z = start + i * rng.uniform(1.3, 1.8)
            x = road.x(edge(road, side, -0.4 - 0.12 * i), z)
            layout.spots.append(Spot("cone", x, z, rng.uniform(0.6, 0.8), int(rng.integers(1 << 30))))
    if rng.random() < 0.4:
        layout.bumps.append(float(road.crossing + rng.choice([-4.5, 5.5]) + rng.uniform(-0.5, 0.5)))
    for _ in range(int(rng.integers(1, 4))):
        z = rng.uniform(5, 30)
        x = road.x(rng.uniform(road.left + 1, road.right - 1), z)
        layout.spots.append(Spot("manhole", x, z, 0.33))
