"""Walking people and cyclists as articulated figures."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi, sin, sqrt

import numpy as np

from mdrun.street.figure import Figure, Paint, Part, place

PERSON_ID, BIKE_ID = 2, 3
SKIN_CELSIUS = 33.0  # cheeks and forehead of people outdoors
_CLOTHES = (
    (0.015, 0.015, 0.02),
    (0.03, 0.03, 0.05),
    (0.02, 0.04, 0.12),
    (0.35, 0.34, 0.32),
    (0.65, 0.64, 0.6),
    (0.3, 0.03, 0.03),
    (0.08, 0.16, 0.35),
    (0.25, 0.18, 0.1),
    (0.05, 0.12, 0.06),
    (0.45, 0.35, 0.22),
    (0.12, 0.12, 0.13),
    (0.55, 0.3, 0.08),
)
_SKINS = ((0.55, 0.36, 0.27), (0.42, 0.26, 0.18), (0.2, 0.11, 0.07), (0.62, 0.42, 0.33))
_HAIRS = ((0.01, 0.01, 0.01), (0.04, 0.025, 0.015), (0.15, 0.09, 0.04), (0.3, 0.28, 0.26))


@dataclass(frozen=True)
class Person:
    """Build, clothes and warmth of one pedestrian or rider."""

    height: float
    girth: float
    skin: Paint
    hair: Paint
    top: Paint
    sleeve: Paint
    legs: Paint
    shoes: Paint
    bag: Paint | None
    coat: float  # metres the coat reaches below the hip
    phase: float


def random_person(rng: np.random.Generator, air: float) -> Person:
    """Draw a person dressed for air of `air` degrees Celsius."""
    skin = _SKINS[rng.integers(len(_SKINS))]
    top, legs = (_CLOTHES[i] for i in rng.choice(len(_CLOTHES), 2))
    leak = rng.uniform(0.26, 0.58)  # how much body warmth the clothes let through
    warm = air + leak * (SKIN_CELSIUS - air)
    bare_arms = air > 15 and rng.random() < 0.5

    def cloth(rgb: tuple[float, float, float], more: float) -> Paint:
        return Paint(rgb, warm + more, PERSON_ID)

    skin_paint = Paint(skin, SKIN_CELSIUS + rng.normal(0, 0.8), PERSON_ID)
    return Person(
        height=float(np.clip(rng.normal(1.69, 0.08), 1.45, 1.92)),
        girth=float(rng.uniform(0.92, 1.2)),
        skin=skin_paint,
        hair=Paint(_HAIRS[rng.integers(len(_HAIRS))], air + 0.55 * (SKIN_CELSIUS - air), PERSON_ID),
        top=cloth(top, 0.0),
        sleeve=skin_paint if bare_arms else cloth((top[0] * 0.9, top[1] * 0.9, top[2] * 0.9), -0.6),
        legs=cloth(legs, rng.uniform(0.5, 4.0)),
        shoes=Paint((0.03, 0.03, 0.03), air + 0.2 * (SKIN_CELSIUS - air), PERSON_ID),
        bag=Paint(_CLOTHES[rng.integers(len(_CLOTHES))], air + 1.0, PERSON_ID) if rng.random() < 0.45 else None,
        coat=float(rng.choice([0.0, 0.05, 0.3, 0.45], p=[0.35, 0.3, 0.2, 0.15])),
        phase=float(rng.uniform(0, 2 * pi)),
    )


def _leg(person: Person, side: float, swing: float, bend: float, k: float) -> list[Part]:
    hip = (side * 0.09, 0.90 * k, 0.0)
    knee = (side * 0.095, hip[1] - 0.43 * k * cos(swing), 0.43 * k * sin(swing))
    shin = swing - bend
    foot = (side * 0.1, knee[1] - 0.41 * k * cos(shin), knee[2] + 0.41 * k * sin(shin))
    g = person.girth
    return [
        Part([hip, knee], (0.088 * g, 0.065 * g), person.legs),
        Part([knee, foot], (0.064 * g, 0.046), person.legs, 0.95),
        Part(
            [(foot[0], foot[1] - 0.02, foot[2] - 0.04), (foot[0], foot[1] - 0.03, foot[2] + 0.13)], 0.045, person.shoes
        ),
    ]


def _arm(person: Person, side: float, swing: float, k: float) -> list[Part]:
    shoulder = (side * 0.185 * person.girth, 1.40 * k, 0.0)
    elbow = (side * 0.225 * person.girth, shoulder[1] - 0.28 * k * cos(swing), 0.28 * k * sin(swing))
    fore = swing + 0.35
    hand = (side * 0.23 * person.girth, elbow[1] - 0.25 * k * cos(fore), elbow[2] + 0.25 * k * sin(fore))
    return [
        Part([shoulder, elbow], (0.062, 0.05), person.sleeve, 0.92),
        Part([elbow, hand], (0.048, 0.038), person.sleeve, 0.92),
        Part([hand, (hand[0], hand[1] - 0.06, hand[2])], 0.036, person.skin),
    ]


def _head(person: Person, centre: tuple[float, float, float]) -> list[Part]:
    x, y, z = centre
    return [
        Part([(x, y - 0.2, z - 0.01), (x, y - 0.08, z)], 0.05, person.skin, 0.8),
        Part([(x, y + 0.035, z - 0.035), (x, y - 0.03, z - 0.045)], (0.108, 0.09), person.hair),
        Part([(x, y + 0.0, z + 0.04), (x, y - 0.06, z + 0.045)], (0.085, 0.066), person.skin),
    ]


def _torso(person: Person, k: float) -> list[Part]:
    g = person.girth
    chest = [
        (-0.15 * g, 1.39 * k, 0.0),
        (0.15 * g, 1.39 * k, 0.0),
        (-0.09 * g, 0.97 * k, 0.0),
        (0.09 * g, 0.97 * k, 0.0),
    ]
    parts = [Part(chest, (0.065, 0.065, 0.095 * g, 0.095 * g), person.top)]
    if person.coat:
        low = (0.95 - person.coat) * k
        hem = [(-0.1 * g, 1.0 * k, 0.0), (0.1 * g, 1.0 * k, 0.0), (-0.13 * g, low, 0.0), (0.13 * g, low, 0.0)]
        parts.append(Part(hem, (0.09, 0.09, 0.07, 0.07), person.top, 0.9))
    if person.bag:
        parts.append(Part([(0.0, 1.32 * k, -0.17), (0.0, 1.05 * k, -0.18)], (0.11, 0.13), person.bag))
    return parts


def pedestrian(
    person: Person, position: tuple[float, float, float], heading: float, walked: float, gait: float
) -> Figure:
    """A person at `position` after `walked` metres; `gait` is 0 for standing, 1 for walking."""
    k = person.height / 1.75
    phase = person.phase + walked * 2 * pi / (1.45 * k)
    swing = 0.46 * gait * sin(phase)
    bend = [0.12 + 0.75 * gait * max(0.0, cos(phase + lag)) for lag in (0.5, 0.5 + pi)]
    bob = 0.02 * gait * cos(2 * phase)
    parts = [
        *_leg(person, -1, swing, bend[0] if gait else 0.02, k),
        *_leg(person, 1, -swing, bend[1] if gait else 0.02, k),
        *_torso(person, k),
        *_arm(person, -1, -0.8 * swing + 0.05, k),
        *_arm(person, 1, 0.8 * swing + 0.05, k),
        *_head(person, (0.0, 1.63 * k, 0.02)),
    ]
    x, y, z = position
    return place(parts, (x, y + bob + 0.03, z), heading, by_depth=True)


@dataclass(frozen=True)
class Bicycle:
    """Paints of a bicycle."""

    frame: Paint
    tyre: Paint
    metal: Paint
    lamp: Paint
    tail: Paint


def random_bicycle(rng: np.random.Generator, air: float) -> Bicycle:
    """Draw a bicycle standing in air of `air` degrees Celsius."""
    frame = _CLOTHES[rng.integers(len(_CLOTHES))]
    return Bicycle(
        Paint((frame[0] + 0.05, frame[1] + 0.05, frame[2] + 0.05), air - 0.5, BIKE_ID),
        Paint((0.02, 0.02, 0.02), air + 0.8, BIKE_ID),
        Paint((0.4, 0.4, 0.42), air - 1.0, BIKE_ID),
        Paint((1.0, 0.95, 0.8), air + 3.0, BIKE_ID, 2.5),
        Paint((0.9, 0.04, 0.03), air + 0.5, BIKE_ID, 0.5),
    )


def _wheel(bicycle: Bicycle, z: float) -> list[Part]:
    ring = [(0.0, 0.34 + 0.32 * sin(a), z + 0.32 * cos(a)) for a in np.linspace(0, 2 * pi, 14)[:-1].tolist()]
    spokes = [
        Part([(0.0, 0.34 + 0.3 * s * sin(a), z + 0.3 * s * cos(a)) for s in (-1, 1)], 0.004, bicycle.metal, 0.6)
        for a in (0.3, 1.35, 2.4)
    ]
    # A tyre seen end on is a line of its own width.
    return [
        *spokes,
        Part([(0.0, 0.05, z), (0.0, 0.63, z)], 0.018, bicycle.tyre, 0.8),
        Part(ring, 0.022, bicycle.tyre, 1.0, ring=True),
    ]


def bicycle_parts(bicycle: Bicycle, *, front_light: bool = False, rear_light: bool = False) -> list[Part]:
    """Parts of a bicycle that heads along +z, its wheels on the road."""
    seat, crank, head = (0.0, 0.9, -0.2), (0.0, 0.3, -0.05), (0.0, 0.88, 0.4)
    rear, front = (0.0, 0.34, -0.53), (0.0, 0.34, 0.53)
    tubes = [
        (seat, crank),
        (crank, head),
        ((0.0, 0.82, -0.18), head),
        (rear, crank),
        (rear, (0.0, 0.82, -0.18)),
        (head, front),
    ]
    parts = [*_wheel(bicycle, -0.53), *_wheel(bicycle, 0.53)]
    parts += [Part([a, b], 0.02, bicycle.frame) for a, b in tubes]
    parts.append(Part([(-0.27, 1.02, 0.33), (0.27, 1.02, 0.33)], 0.016, bicycle.metal))
    parts.append(Part([head, (0.0, 1.02, 0.35)], 0.016, bicycle.metal))
    parts.append(Part([(0.0, 0.93, -0.32), (0.0, 0.93, -0.1)], 0.05, bicycle.tyre))
    parts.append(
        Part([(-0.12, 0.85, 0.55), (0.12, 0.85, 0.55), (-0.1, 0.7, 0.55), (0.1, 0.7, 0.55)], 0.05, bicycle.metal, 0.7)
    )
    if front_light:
        parts.append(Part([(0.0, 0.62, 0.66)], 0.05, bicycle.lamp))
    if rear_light:
        parts.append(Part([(0.0, 0.7, -0.7)], 0.04, bicycle.tail))
    return parts


def _pedalling(person: Person, side: float, phase: float) -> list[Part]:
    hip = (side * 0.09, 0.97, -0.2)
    foot = (side * 0.12, 0.32 - 0.17 * cos(phase), -0.05 + 0.17 * sin(phase))
    across, up = foot[2] - hip[2], foot[1] - hip[1]
    reach = sqrt(across * across + up * up)
    out = sqrt(max(0.0, 0.43**2 - (reach / 2) ** 2))  # thigh and shin are 0.43 m each
    knee = (side * 0.11, (hip[1] + foot[1]) / 2 + out * across / reach, (hip[2] + foot[2]) / 2 - out * up / reach)
    return [
        Part([hip, knee], (0.095, 0.065), person.legs),
        Part([knee, foot], (0.062, 0.045), person.legs, 0.95),
        Part([(foot[0], foot[1], foot[2] - 0.05), (foot[0], foot[1], foot[2] + 0.12)], 0.04, person.shoes),
    ]


def cyclist(
    person: Person,
    bicycle: Bicycle,
    position: tuple[float, float, float],
    heading: float,
    ridden: float,
    *,
    lit: bool,
    away: bool,
) -> Figure:
    """A rider after `ridden` metres, `away` from the camera or towards it.

    Parts of the rider carry the id of a person, the rest that of a bike.
    """
    phase = person.phase + ridden * 2 * pi / 4.5
    g = person.girth
    chest = [(-0.15 * g, 1.42, 0.08), (0.15 * g, 1.42, 0.08), (-0.09 * g, 1.0, -0.2), (0.09 * g, 1.0, -0.2)]
    rider = [*_pedalling(person, -1, phase), *_pedalling(person, 1, phase + pi)]
    rider.append(Part(chest, (0.065, 0.065, 0.1, 0.1), person.top))
    for side in (-1.0, 1.0):
        shoulder, elbow, hand = (side * 0.18 * g, 1.42, 0.08), (side * 0.25, 1.2, 0.17), (side * 0.25, 1.05, 0.33)
        rider += [
            Part([shoulder, elbow], (0.06, 0.048), person.sleeve),
            Part([elbow, hand], (0.047, 0.036), person.sleeve),
        ]
        rider.append(Part([hand], 0.045, person.skin))
    rider += _head(person, (0.0, 1.67, 0.16))
    if person.bag:
        rider.append(Part([(0.0, 1.38, -0.14), (0.0, 1.15, -0.28)], (0.11, 0.12), person.bag))
    return place(
        [*bicycle_parts(bicycle, front_light=lit and not away, rear_light=lit and away), *rider],
        position,
        heading,
        by_depth=True,
    )
