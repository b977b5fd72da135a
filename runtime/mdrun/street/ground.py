"""The flat part of the street: asphalt, markings, kerbs, pavement, verge; all from pixel to metres."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mdrun.street.arrays import Bytes, Floats
from mdrun.street.camera import Camera
from mdrun.street.layout import Layout, Road
from mdrun.street.texture import band, sample, smoothstep, stripes, value_noise

KERB_ID, BUMP_ID = 4, 8
MAX_M = 400.0


@dataclass(frozen=True)
class Ground:
    """Road and pavement per pixel below the horizon; painting changes `albedo`, `warm` and `label` in place.

    Attributes:
        top: image row of the first row here.
        albedo: (h, W, 3) linear.
        warm: (h, W) degrees Celsius over the air.
        label: (h, W) MFNet ids.
        z: (h, W) metres ahead.
        lateral: (h, W) metres right of the camera, along the bend.
        across: (h, W) width of a pixel on the ground, metres.
        along: (h, W) length of a pixel on the ground, metres.
        fine: (h, W) grain of the material, about -0.5 to 0.5.
        rough: (h, W) stains, about -0.5 to 0.5.
    """

    top: int
    albedo: Floats
    warm: Floats
    label: Bytes
    z: Floats
    lateral: Floats
    across: Floats
    along: Floats
    fine: Floats
    rough: Floats

    def mix(self, share: Floats, albedo: Floats | tuple[float, float, float], warm: float = 0.0) -> None:
        """Blend another material in by its share of each pixel; `warm` is added to the temperature."""
        s = share[..., None]
        self.albedo[:] = self.albedo * (1 - s) + s * np.asarray(albedo, np.float32)
        self.warm[:] += share * warm

    def lane(self, low: float, high: float) -> Floats:
        """Share of each pixel between two lateral positions."""
        return band(self.lateral, low, high, self.across)

    def reach(self, low: float, high: float) -> Floats:
        """Share of each pixel between two distances ahead."""
        return band(self.z, low, high, self.along)


def paint_ground(layout: Layout, camera: Camera, rng: np.random.Generator, *, sunny: bool, night: bool) -> Ground:
    """Paint everything flat; `sunny` asphalt is warm, at `night` it is a little warmer than the air."""
    ground = _asphalt(layout.road, camera, rng, sunny=sunny, night=night)
    _wear(ground, layout.road)
    _lines(ground, layout.road, rng)
    _patches(ground, layout)
    _beside(ground, layout.road, rng)
    return ground


def _asphalt(road: Road, camera: Camera, rng: np.random.Generator, *, sunny: bool, night: bool) -> Ground:
    slope_x, slope_y = camera.rays()
    top = int(np.clip(np.floor(camera.cy + camera.fy * camera.above / MAX_M) + 1, 0, camera.height - 1))
    z = (camera.above / np.maximum(-slope_y[top:], 1e-4)) * np.ones_like(slope_x)
    lateral = slope_x * z - road.curve * z * z
    across = z / camera.fx
    along = np.maximum(z * z / (camera.fy * camera.above), across)
    grain, stains = value_noise(rng, 512, 96, 3), value_noise(rng, 256, 5, 4)
    fine = (sample(grain, lateral / 3.1, z / 3.1) - 0.5) / (1 + 12 * along)
    rough = sample(stains, lateral / 19, z / 27) - 0.5
    tint = float(rng.uniform(0.07, 0.17)) * (1 + rng.normal(0, 0.03, 3))
    albedo = ((1 + 0.75 * fine + 0.7 * rough)[..., None] * tint).astype(np.float32)
    heat = rng.uniform(0.5, 4.5) if sunny else (rng.uniform(-0.5, 2.0) if night else rng.uniform(0, 2.5))
    warm = (heat + 1.3 * rough + 1.2 * fine).astype(np.float32)
    return Ground(top, albedo, warm, np.zeros(z.shape, np.uint8), z, lateral, across, along, fine, rough)


def _wear(ground: Ground, road: Road) -> None:
    """Wheel tracks are polished darker, and warmer by the traffic."""
    for lane in (road.centre - road.lane / 2, road.centre + road.lane / 2):
        for wheel in (-0.75, 0.75):
            track = np.exp(-(((ground.lateral - lane - wheel) / (0.28 + ground.across)) ** 2))
            ground.albedo[:] *= (1 - 0.14 * track)[..., None]
            ground.warm[:] += 0.5 * track


def _lines(ground: Ground, road: Road, rng: np.random.Generator) -> None:
    """Centre line, edge lines, zebra crossing and the stop lines before it."""
    worn = np.clip(0.75 + 0.9 * ground.rough, 0.1, 1) * rng.uniform(0.6, 1.0)
    white = (0.62, 0.62, 0.6)
    free = worn * (1 - ground.reach(road.crossing - 3.6, road.crossing + 3.6))
    centre = (0.6, 0.42, 0.08) if rng.random() < 0.3 else white
    dashes = stripes(ground.z, rng.uniform(6, 10), rng.uniform(0.4, 0.6), ground.along)
    dashes = dashes if rng.random() < 0.7 else np.ones_like(dashes)
    ground.mix(ground.lane(road.centre - 0.07, road.centre + 0.07) * dashes * free, centre, -0.5)
    for line in (road.left + 0.35, road.right - 0.35):
        ground.mix(ground.lane(line - 0.07, line + 0.07) * free, white, -0.5)
    zebra = stripes(ground.lateral - road.left - 0.4, 0.95, 0.5, ground.across)
    zebra = zebra * ground.reach(road.crossing - 1.8, road.crossing + 1.8) * ground.lane(road.left, road.right)
    ground.mix(zebra * worn, white, -0.8)
    for stop, low, high in ((-3.2, road.left, road.centre), (3.2, road.centre, road.right)):
        at = road.crossing + (stop if road.drives_left else -stop)
        ground.mix(ground.reach(at - 0.2, at + 0.2) * ground.lane(low + 0.3, high - 0.3) * worn, white, -0.5)


def _patches(ground: Ground, layout: Layout) -> None:
    """Speed bumps and manhole covers."""
    road, z, lateral = layout.road, ground.z, ground.lateral
    yellow, black = np.array([0.6, 0.42, 0.05], np.float32), np.array([0.05, 0.05, 0.05], np.float32)
    for bump in layout.bumps:
        share = ground.reach(bump - 0.45, bump + 0.45) * ground.lane(road.left + 0.2, road.right - 0.2)
        stripe = stripes(lateral + 0.6 * (z - bump), 1.0, 0.5, ground.across)[..., None]
        bulge = 0.7 + 0.5 * np.cos((z - bump) * 3.0)[..., None]
        ground.mix(share, (stripe * yellow + (1 - stripe) * black) * bulge, 1.2)
        ground.label[share > 0.5] = BUMP_ID
    for spot in (spot for spot in layout.spots if spot.kind == "manhole"):
        radius = np.sqrt((lateral + road.curve * z * z - spot.x) ** 2 + (z - spot.z) ** 2)
        ground.mix(band(radius, -1.0, spot.size, ground.along), (0.05, 0.05, 0.048), 2.5)
        ground.mix(band(radius, spot.size - 0.05, spot.size, ground.along), (0.14, 0.13, 0.12))


def _beside(ground: Ground, road: Road, rng: np.random.Generator) -> None:
    """Kerb, pavement of slabs with a tactile line, and grass beyond."""
    across, along, fine, rough = ground.across, ground.along, ground.fine, ground.rough
    slab = rng.uniform(0.4, 0.9)
    stone = np.array([0.26, 0.25, 0.23]) * rng.uniform(0.6, 1.3) * (1 + rng.normal(0, 0.06, 3))
    grass = np.array([0.05, 0.085, 0.025]) * rng.uniform(0.7, 1.4)
    fade = (1 / (1 + 25 * along))[..., None]
    for side, kerb, width in ((-1, road.left, road.pavement_left), (1, road.right, road.pavement_right)):
        out = (ground.lateral - kerb) * side
        joints = np.maximum(stripes(out, slab, 0.05, across), stripes(ground.z, slab, 0.05, along))
        floor = stone * (1 + 0.5 * fine + 0.5 * rough)[..., None] * (1 - 0.45 * joints[..., None] * fade)
        ground.mix(band(out, 0.0, 1e4, across), floor, -0.8)
        tactile = band(out, width - 0.75, width - 0.45, across) * rng.choice([0.0, 0.8])
        ground.mix(tactile, (0.5, 0.38, 0.06), 0.2)
        tuft = np.maximum(grass * (1 + 1.6 * fine + 0.8 * rough)[..., None], 0.004)
        ground.mix(smoothstep(width, width + 0.15, out + 0.3 * fine), tuft, 0.4)
        # The kerb: a light stone, its upright face in shade towards the road.
        ground.mix(band(out, -0.35, 0.0, across) * 0.5, (0.17, 0.165, 0.16))
        ground.mix(band(out, 0.0, 0.08, across), (0.1, 0.1, 0.095), 0.6)
        ground.mix(band(out, 0.08, 0.26, across), (0.36, 0.35, 0.33), -0.3)
        ground.label[band(out, 0.0, np.maximum(0.26, 1.2 * across), across) > 0.5] = KERB_ID
