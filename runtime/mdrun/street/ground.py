"""The flat part of the street: asphalt, markings, kerbs, pavement, verge; all from pixel to metres."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mdrun.street.camera import Camera
from mdrun.street.layout import Layout, Road
from mdrun.street.texture import band, sample, smoothstep, stripes, value_noise

Floats = NDArray[np.float32]
KERB_ID, BUMP_ID = 4, 8
MAX_M = 400.0


@dataclass
class Ground:
    """Road and pavement per pixel below the horizon, row `top` first.

    Attributes:
        top: first row.
        albedo: (h, W, 3) linear.
        warm: (h, W) degrees Celsius over the air.
        label: (h, W) MFNet ids.
        z: (h, W) metres ahead.
    """

    top: int
    albedo: Floats
    warm: Floats
    label: NDArray[np.uint8]
    z: Floats


def paint_ground(layout: Layout, camera: Camera, rng: np.random.Generator, *, sunny: bool, night: bool) -> Ground:
    """Paint everything flat; `sunny` asphalt is hot, at `night` it is a little warmer than the air."""
    road = layout.road
    slope_x, slope_y = camera.rays()
    top = int(np.clip(np.floor(camera.cy + camera.fy * camera.above / MAX_M) + 1, 0, camera.height - 1))
    down = np.maximum(-slope_y[top:], 1e-4)
    z = (camera.above / down) * np.ones_like(slope_x)
    lateral = slope_x * z - road.curve * z * z
    across = z / camera.fx
    along = np.maximum(z * z / (camera.fy * camera.above), across)
    grain, patches = value_noise(rng, 512, 96, 3), value_noise(rng, 256, 5, 4)
    detail = 1.0 / (1.0 + 12 * along)
    fine = (sample(grain, lateral / 3.1, z / 3.1) - 0.5) * detail
    rough = sample(patches, lateral / 19, z / 27) - 0.5
    base = float(rng.uniform(0.07, 0.17))
    tint = np.array([1.0, 1.0, 1.0], np.float32) + rng.normal(0, 0.03, 3).astype(np.float32)
    albedo = (base * (1 + 0.75 * fine + 0.7 * rough))[..., None] * tint
    heat = rng.uniform(4, 12) if sunny else (rng.uniform(-0.5, 2.0) if night else rng.uniform(0, 2.5))
    warm = heat + 1.3 * rough + 1.2 * fine
    ground = Ground(top, albedo.astype(np.float32), warm.astype(np.float32), np.zeros(z.shape, np.uint8), z.astype(np.float32))
    _wear(ground, road, lateral, across)
    _markings(ground, layout, lateral, across, along, rough, rng)
    _beside(ground, layout, lateral, across, along, fine, rough, rng)
    return ground


def _mix(ground: Ground, share: Floats, albedo: Floats | tuple[float, float, float], warm: float = 0.0) -> None:
    """Blend another material in by its share of each pixel; `warm` is added to the temperature."""
    s = share[..., None]
    ground.albedo *= 1 - s
    ground.albedo += s * np.asarray(albedo, np.float32)
    ground.warm += share * warm


def _wear(ground: Ground, road: Road, lateral: Floats, across: Floats) -> None:
    """Wheel tracks are polished darker, and warmer by the traffic."""
    for lane in (road.centre - road.lane / 2, road.centre + road.lane / 2):
        for wheel in (-0.75, 0.75):
            track = np.exp(-(((lateral - lane - wheel) / (0.28 + across)) ** 2)).astype(np.float32)
            ground.albedo *= (1 - 0.14 * track)[..., None]
            ground.warm += 0.5 * track


def _markings(
    ground: Ground, layout: Layout, lateral: Floats, across: Floats, along: Floats, rough: Floats, rng: np.random.Generator
) -> None:
    road, z = layout.road, ground.z
    worn = np.clip(0.75 + 0.9 * rough, 0.1, 1) * rng.uniform(0.6, 1.0)
    paint = (0.62, 0.62, 0.6)
    inside = band(lateral, road.left, road.right, across)
    off_crossing = 1 - band(z, road.crossing - 3.6, road.crossing + 3.6, along)
    centre = (0.6, 0.42, 0.08) if rng.random() < 0.3 else paint
    dashes = stripes(z, rng.uniform(6, 10), rng.uniform(0.4, 0.6), along) if rng.random() < 0.7 else np.ones_like(z)
    _mix(ground, band(lateral, road.centre - 0.07, road.centre + 0.07, across) * dashes * worn * off_crossing, centre, -0.5)
    for line in (road.left + 0.35, road.right - 0.35):
        _mix(ground, band(lateral, line - 0.07, line + 0.07, across) * worn * off_crossing, paint, -0.5)
    zebra = stripes(lateral - road.left - 0.4, 0.95, 0.5, across) * band(z, road.crossing - 1.8, road.crossing + 1.8, along)
    _mix(ground, zebra * inside * worn, paint, -0.8)
    for stop, low, high in ((-3.2, road.left, road.centre), (3.2, road.centre, road.right)):
        at = road.crossing + stop if road.drives_left else road.crossing - stop
        _mix(ground, band(z, at - 0.2, at + 0.2, along) * band(lateral, low + 0.3, high - 0.3, across) * worn, paint, -0.5)
    for bump in layout.bumps:
        share = band(z, bump - 0.45, bump + 0.45, along) * band(lateral, road.left + 0.2, road.right - 0.2, across)
        yellow = stripes(lateral + 0.6 * (z - bump), 1.0, 0.5, across)[..., None]
        colour = yellow * np.array([0.6, 0.42, 0.05], np.float32) + (1 - yellow) * np.array([0.05, 0.05, 0.05], np.float32)
        bulge = 0.7 + 0.5 * np.cos((z - bump) * 3.0)[..., None]
        _mix(ground, share, (colour * bulge).astype(np.float32), 1.2)
        ground.label[share > 0.5] = BUMP_ID
    for spot in layout.spots:
        if spot.kind == "manhole":
            radius = np.sqrt((lateral + road.curve * z * z - spot.x) ** 2 + (z - spot.z) ** 2).astype(np.float32)
            share = band(radius, -1.0, spot.size, along)
            _mix(ground, share, (0.05, 0.05, 0.048), 2.5)
            _mix(ground, band(radius, spot.size - 0.05, spot.size, along), (0.14, 0.13, 0.12))


def _beside(
    ground: Ground,
    layout: Layout,
    lateral: Floats,
    across: Floats,
    along: Floats,
    fine: Floats,
    rough: Floats,
    rng: np.random.Generator,
) -> None:
    road, z = layout.road, ground.z
    slab = rng.uniform(0.4, 0.9)
    stone = np.array([0.26, 0.25, 0.23], np.float32) * rng.uniform(0.6, 1.3) * (1 + rng.normal(0, 0.06, 3)).astype(np.float32)
    grass = np.array([0.05, 0.085, 0.025], np.float32) * rng.uniform(0.7, 1.4)
    for side, kerb, width in ((-1, road.left, road.pavement_left), (1, road.right, road.pavement_right)):
        out = (lateral - kerb) * side
        joints = np.maximum(stripes(out, slab, 0.05, across), stripes(z, slab, 0.05, along))
        fade = (1 / (1 + 25 * along))[..., None]
        floor = stone * (1 + 0.5 * fine + 0.5 * rough)[..., None] * (1 - 0.45 * joints[..., None] * fade)
        _mix(ground, band(out, 0.0, 1e4, across), floor.astype(np.float32), -0.8)
        tactile = band(out, width - 0.75, width - 0.45, across) * rng.choice([0.0, 0.8])
        _mix(ground, tactile, (0.5, 0.38, 0.06), 0.2)
        verge = smoothstep(width, width + 0.15, out + 0.3 * fine)
        tuft = grass * (1 + 1.6 * fine + 0.8 * rough)[..., None]
        _mix(ground, verge, np.maximum(tuft, 0.004).astype(np.float32), 0.4)
        # The kerb: a light stone, its upright face in shade towards the road.
        gutter = band(out, -0.35, 0.0, across)
        _mix(ground, gutter * 0.5, (0.17, 0.165, 0.16))
        _mix(ground, band(out, 0.0, 0.08, across), (0.1, 0.1, 0.095), 0.6)
        _mix(ground, band(out, 0.08, 0.26, across), (0.36, 0.35, 0.33), -0.3)
        ground.label[band(out, 0.0, np.maximum(0.26, 1.2 * across), across) > 0.5] = KERB_ID
