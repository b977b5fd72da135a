"""Time of day as numbers: light, air temperature, sky, and the two cameras' settings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mdrun.street.arrays import Floats
from mdrun.street.config import StreetConfig
from mdrun.street.furniture import lamp_head
from mdrun.street.layout import Layout
from mdrun.street.light import Light


@dataclass(frozen=True)
class Weather:
    """What the hour and the seed make of the street.

    Attributes:
        time: `day`, `dusk` or `night`.
        air: degrees Celsius.
        sunny: the sun casts shadows.
        sky_celsius: apparent temperature of the zenith.
        zenith: (3,) linear colour of the sky above.
        horizon: (3,) linear colour of the sky at the horizon.
        haze_m: distance at which haze hides 63 %.
        visible_noise: standard deviation in grey levels.
        black: grey levels that the visible camera's contrast setting takes from the shadows.
        gain: thermal grey levels per degree.
        offset: thermal grey level of the air temperature.
        light: light of the street.
    """

    time: str
    air: float
    sunny: bool
    sky_celsius: float
    zenith: Floats
    horizon: Floats
    haze_m: float
    visible_noise: float
    black: float
    gain: float
    offset: float
    light: Light

    @property
    def dark(self) -> bool:
        """Lamps, windows and headlights are on."""
        return self.time != "day"


def _rgb(*values: float) -> Floats:
    return np.array(values, np.float32)


def make_weather(config: StreetConfig, layout: Layout) -> Weather:
    """Draw light and temperatures for the configured time of day."""
    rng = np.random.default_rng((config.seed, 3))
    time = config.time
    sunny = time == "day" and bool(rng.random() < 0.55)
    air = float({"day": rng.uniform(12, 22), "dusk": rng.uniform(8, 16), "night": rng.uniform(3, 12)}[time])
    light = _light(rng, layout, time, sunny=sunny)
    level = float(light.ambient.mean())
    if time == "day":
        cloud = rng.uniform(0.75, 1.3)
        zenith, horizon = (
            (_rgb(0.25, 0.42, 0.8), _rgb(0.75, 0.82, 0.9))
            if sunny
            else (_rgb(0.7, 0.74, 0.78) * cloud, _rgb(0.85, 0.87, 0.88) * cloud)
        )
    elif time == "dusk":
        zenith, horizon = _rgb(0.05, 0.08, 0.17), _rgb(0.42, 0.24, 0.15) * rng.uniform(0.6, 1.2)
    else:
        zenith, horizon = _rgb(0.2, 0.22, 0.25) * level * 0.25, _rgb(0.6, 0.5, 0.4) * level * 0.6
    # Grey levels of MSRS: ground near 15, clothes near 65, faces 150 to 200; one in four cameras is set brighter.
    span = rng.uniform(120, 185)
    bright = rng.random() < 0.25
    return Weather(
        time=time,
        air=air,
        sunny=sunny,
        sky_celsius=air - (rng.uniform(14, 30) if time != "day" or sunny else rng.uniform(5, 12)),
        zenith=zenith.astype(np.float32),
        horizon=horizon.astype(np.float32),
        haze_m=float(rng.uniform(250, 1000)),
        visible_noise={"day": 1.3, "dusk": 1.5, "night": 1.3}[time] * float(rng.uniform(0.6, 1.3)),
        black={"day": 17.0, "dusk": 13.0, "night": 11.0}[time],
        gain=float(span / (33.0 - air)),
        offset=float(rng.uniform(24, 48) if bright else rng.uniform(9, 20)),
        light=light,
    )


def _light(rng: np.random.Generator, layout: Layout, time: str, *, sunny: bool) -> Light:
    ambient = {
        "day": _rgb(0.5, 0.56, 0.66) if sunny else _rgb(0.82, 0.85, 0.88),
        "dusk": _rgb(0.1, 0.11, 0.16) * rng.uniform(0.7, 1.5),
        "night": _rgb(0.9, 1.0, 0.85) * float(np.exp(rng.uniform(np.log(0.004), np.log(0.018)))),
    }[time]
    spots = [s for s in layout.spots if s.kind == "lamp" and s.z < 60] if time != "day" else []
    broken = rng.random(len(spots)) < 0.15
    lamps = [lamp_head(s) for s, out in zip(spots, broken, strict=True) if not out]
    # Sodium, warm white and greenish mercury lamps.
    kinds = (_rgb(1.0, 0.62, 0.25), _rgb(1.0, 0.86, 0.62), _rgb(0.8, 1.0, 0.78))
    colour = kinds[int(rng.integers(3))] * rng.uniform(0.08, 0.3)
    angle = rng.uniform(-1.0, 1.0)
    length = rng.uniform(0.6, 1.6)
    ego = rng.uniform(0.3, 1.0) if layout.view == "lane" and time == "night" and rng.random() < 0.6 else 0.0
    tint = {"night": _rgb(0.76, 1.0, 0.72), "dusk": _rgb(1.0, 0.97, 0.95), "day": _rgb(0.97, 1.0, 0.97)}[time]
    exposure = rng.uniform(0.45, 0.9) if time == "day" else 1.0
    return Light(
        ambient=(ambient * exposure).astype(np.float32),
        sun=_rgb(1.25, 1.12, 0.9) * (exposure * rng.uniform(0.6, 1.0) if sunny else 0.0),
        shadow_slope=(float(length * np.sin(angle)), float(length * np.cos(angle) * rng.choice([-1, 1]))),
        lamps=np.array(lamps, np.float32).reshape(-1, 3),
        lamp_rgb=np.array([colour] * len(lamps), np.float32).reshape(-1, 3),
        ego=float(ego),
        tint=(tint * (1 + rng.normal(0, 0.04, 3))).astype(np.float32),
    )
