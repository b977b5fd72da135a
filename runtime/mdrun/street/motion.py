"""Everything that moves, as pure functions of time; each path closes, so the street never empties."""

from __future__ import annotations

from dataclasses import dataclass
from math import atan2, cos, floor, pi, sin
from typing import Protocol

import numpy as np

from mdrun.street.camera import Camera
from mdrun.street.car import Car, car_figure, random_car
from mdrun.street.figure import Figure
from mdrun.street.layout import Layout, Road, edge
from mdrun.street.person import Bicycle, Person, cyclist, pedestrian, random_bicycle, random_person

CYCLE_S = 26.0  # of the traffic light at the crossing
GREEN_S = 14.0  # cars move, then people cross
GIVE_WAY_M = 1.9  # who comes nearer to the camera's line than this steps aside
NEAR_M, FAR_M = -9.0, 120.0  # where cars wrap around


class Actor(Protocol):
    """Something that moves."""

    @property
    def kind(self) -> str:
        """`person`, `bicycle` or `car`."""
        ...

    def figure(self, time_s: float, camera: Camera) -> Figure | None:
        """What it looks like at a time; None where the camera cannot see it."""
        ...


def in_view(camera: Camera, x: float, z: float, reach: float) -> bool:
    """Whether anything within `reach` metres of (x, z) can be in the picture."""
    if z < 0.5 - reach:
        return False
    ahead = max(z + reach, 0.5)
    left, right = -camera.cx / camera.fx - 0.02, (camera.width - camera.cx) / camera.fx + 0.02
    return left * ahead - reach < x < right * ahead + reach


def give_way(lateral: float, z: float) -> float:
    """How far somebody at (lateral, z) has stepped aside, metres, so as not to walk into the camera."""
    outward = 1.0 if lateral >= 0 else -1.0
    return outward * 0.45 * max(0.0, 8.0 - z) if abs(lateral) < GIVE_WAY_M else 0.0


def _ease(t: float) -> float:
    t = min(max(t, 0.0), 1.0)
    return t * t * (3 - 2 * t)


def released(time_s: float) -> float:
    """How many green phases the cars have driven by `time_s`, smoothly; whole numbers while they stand."""
    cycle = floor(time_s / CYCLE_S)
    return cycle + _ease((time_s - cycle * CYCLE_S) / GREEN_S)


@dataclass(frozen=True)
class Driver:
    """A car in traffic: one place of a platoon further with every green phase."""

    car: Car
    road: Road
    lateral: float
    away: bool
    start: float  # distance at time 0
    step: float  # metres driven in one green phase
    loop: float
    kind: str = "car"

    def distance(self, time_s: float) -> float:
        """Metres ahead of the camera."""
        driven = self.start + self.step * released(time_s) * (1 if self.away else -1)
        return NEAR_M + (driven - NEAR_M) % self.loop

    def figure(self, time_s: float, camera: Camera) -> Figure | None:
        """The car where it is now, headed along the bend of the road."""
        z = self.distance(time_s)
        x = self.road.x(self.lateral, z)
        if not in_view(camera, x, z, 4.5):
            return None
        heading = atan2(2 * self.road.curve * z, 1.0) + (0.0 if self.away else pi)
        return car_figure(self.car, (x, 0.0, z), heading, camera)


@dataclass(frozen=True)
class Walker:
    """A person who walks along the pavement for ever, or stands (speed 0)."""

    person: Person
    road: Road
    lateral: float
    start: float
    speed: float  # metres a second, positive away from the camera
    near: float
    far: float
    heading: float = 0.0  # of one who stands
    kind: str = "person"

    def figure(self, time_s: float, camera: Camera) -> Figure | None:
        """The person where she is now."""
        walked = abs(self.speed) * time_s
        z = self.near + (self.start + self.speed * time_s - self.near) % (self.far - self.near)
        aside = give_way(self.lateral, z) if self.speed else 0.0
        if not in_view(camera, self.road.x(self.lateral + aside, z), z, 1.2):
            return None
        wander = 0.25 * sin(0.11 * walked + self.person.phase)
        if not self.speed:
            heading = self.heading + 0.25 * sin(0.4 * time_s + self.person.phase)
            return pedestrian(self.person, (self.road.x(self.lateral, z), 0.0, z), heading, 0.0, 0.0)
        x = self.road.x(self.lateral + wander + aside, z)
        veer = atan2(-0.45 if aside > 0 else 0.45, 1.0) if aside else 0.0
        return pedestrian(self.person, (x, 0.0, z), veer + (0.0 if self.speed > 0 else pi), walked, 1.0)


@dataclass(frozen=True)
class Crosser:
    """A person who crosses at the zebra in the red phase, there in one cycle and back in the next."""

    person: Person
    road: Road
    z: float
    begin: float  # seconds after the cars have stopped
    first: int  # 0 starts on the left
    kind: str = "person"

    def figure(self, time_s: float, camera: Camera) -> Figure | None:
        """The person waiting at the kerb or on the crossing."""
        left, right = self.road.left - 0.9, self.road.right + 0.9
        cycle = floor(time_s / CYCLE_S)
        seconds = (right - left) / 1.4  # brisk, as people cross
        progress = (time_s - cycle * CYCLE_S - GREEN_S - self.begin) / seconds
        forth = (cycle + self.first) % 2 == 0
        t = min(max(progress, 0.0), 1.0)
        lateral = left + (right - left) * (t if forth else 1 - t)
        walking = 0.0 < progress < 1.0
        if not in_view(camera, self.road.x(lateral, self.z), self.z, 1.0):
            return None
        heading = (pi / 2 if forth else -pi / 2) if progress < 1 else (-pi / 2 if forth else pi / 2)
        gait = min(1.0, 8 * t, 8 * (1 - t)) if walking else 0.0
        return pedestrian(self.person, (self.road.x(lateral, self.z), 0.0, self.z), heading, t * (right - left), gait)


@dataclass(frozen=True)
class Rider:
    """A cyclist along the edge of the road."""

    person: Person
    bicycle: Bicycle
    road: Road
    lateral: float
    start: float
    speed: float
    lit: bool
    kind: str = "bicycle"

    def figure(self, time_s: float, camera: Camera) -> Figure | None:
        """The cyclist where he is now."""
        near, far = (2.2 if abs(self.lateral) < GIVE_WAY_M else -2.0), 60.0
        z = near + (self.start + self.speed * time_s - near) % (far - near)
        sway = 0.06 * sin(1.3 * time_s + self.person.phase)
        aside = give_way(self.lateral, z)
        x = self.road.x(self.lateral + sway + aside, z)
        if not in_view(camera, x, z, 1.5):
            return None
        heading = (0.0 if self.speed > 0 else pi) + 0.05 * cos(1.3 * time_s)
        return cyclist(
            self.person, self.bicycle, (x, 0.0, z), heading, abs(self.speed) * time_s, lit=self.lit, away=self.speed > 0
        )


def make_actors(seed: int, layout: Layout, air: float, *, lit: bool, sunny: bool) -> list[Actor]:
    """People and traffic for a layout; `air` in degrees Celsius, `lit` with lights on."""
    rng = np.random.default_rng((seed, 2))
    walkers: list[Actor] = [*_walkers(rng, layout, air), *_crossers(rng, layout, air)]
    return [*walkers, *_riders(rng, layout, air, lit=lit), *_drivers(rng, layout, air, lit=lit, sunny=sunny)]


def _walkers(rng: np.random.Generator, layout: Layout, air: float) -> list[Actor]:
    road, actors = layout.road, list[Actor]()
    total = max(5, round(rng.uniform(5, 9) * layout.density))
    far = 46.0
    for i in range(total):
        side = 1 if rng.random() < 0.5 else -1
        width = road.pavement_right if side > 0 else road.pavement_left
        lateral = edge(road, side, rng.uniform(0.5, max(width - 0.3, 0.8)))
        # Out of the picture before it wraps around: half a field of view of about 30 degrees.
        near = max(abs(lateral) / 0.75, 2.2)
        start = near + (far - near) * ((i + rng.uniform(0.1, 0.6)) / total)
        speed = float(rng.choice([-1, 1]) * rng.uniform(0.9, 1.5)) if rng.random() < 0.8 else 0.0
        if not speed:
            start = rng.uniform(max(9.0, near + 2), 26.0)
        heading = float(rng.uniform(-pi, pi))
        actors.append(Walker(random_person(rng, air), road, lateral, start, speed, near, far, heading))
        if speed and rng.random() < 0.3:  # two who walk together
            beside = lateral + 0.6 * side
            actors.append(Walker(random_person(rng, air), road, beside, start + 0.2, speed, near, far))
    return actors


def _crossers(rng: np.random.Generator, layout: Layout, air: float) -> list[Actor]:
    road = layout.road
    count = int(rng.integers(2, 6))
    return [
        Crosser(
            random_person(rng, air),
            road,
            road.crossing + float(rng.uniform(-1.3, 1.3)),
            float(rng.uniform(0.3, 4.0)),
            i % 2,
        )
        for i in range(count)
    ]


def _riders(rng: np.random.Generator, layout: Layout, air: float, *, lit: bool) -> list[Actor]:
    road, actors = layout.road, list[Actor]()
    for side in (-1, 1):
        for _ in range(int(rng.integers(0, 3))):
            away = (side < 0) == road.drives_left
            lateral = edge(road, side, -0.5 if rng.random() < 0.6 else 0.9)
            speed = rng.uniform(2.8, 4.6) * (1 if away else -1)
            person, bicycle = random_person(rng, air), random_bicycle(rng, air)
            actors.append(
                Rider(person, bicycle, road, lateral, float(rng.uniform(0, 60)), speed, lit and rng.random() < 0.7)
            )
    return actors


def _drivers(rng: np.random.Generator, layout: Layout, air: float, *, lit: bool, sunny: bool) -> list[Actor]:
    road, actors = layout.road, list[Actor]()
    for away in (True, False):
        side = -1 if away == road.drives_left else 1
        lateral = road.centre + side * road.lane / 2
        blocked = abs(lateral) < 1.6  # the camera stands in this lane
        count = int(rng.integers(3, 6))
        loop = FAR_M - NEAR_M
        step = loop / count
        # While they stand, no car stands on the crossing: the nearest one waits just before it.
        stop = road.crossing + (-6.0 if away else 7.0)
        for i in range(count):
            car = random_car(rng, air, driven=True, lit=lit, sunny=sunny)
            if not blocked:
                actors.append(Driver(car, road, lateral, away, stop + i * step, step, loop))
        if blocked:
            queue = road.crossing + 9.0 + rng.uniform(0, 8)
            car = random_car(rng, air, driven=True, lit=lit, sunny=sunny)
            actors.append(Driver(car, road, lateral, away, queue, 0.0, loop))
    return actors
