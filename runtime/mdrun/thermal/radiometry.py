"""Counts of a radiometric thermal camera to degrees Celsius, and the hottest spot of each box."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from mdrun.thermal.normalise import KELVIN

if TYPE_CHECKING:
    from mdrun.rig.config import RadiometryConfig


class Radiometry(Protocol):
    """Rises with the counts, so the hottest pixel is the one with the most counts."""

    def celsius(self, counts: NDArray[Any]) -> NDArray[np.float32]:
        """Degrees of counts of any shape; NaN where no temperature gives such counts."""


@dataclass(frozen=True)
class Linear:
    """`scale` x counts + `offset`; the defaults are a Lepton with TLinear at 0.01 K.

    Raises:
        ValueError: a scale that is not positive.
    """

    scale: float = 0.01
    offset: float = -KELVIN

    def __post_init__(self) -> None:
        """Refuse a scale by which the hottest is the coldest."""
        if not (self.scale > 0 and math.isfinite(self.scale) and math.isfinite(self.offset)):
            raise ValueError(f"radiometry has scale {self.scale} and offset {self.offset}, wanted a scale above 0")

    def celsius(self, counts: NDArray[Any]) -> NDArray[np.float32]:
        """As `Radiometry`."""
        return np.asarray(counts * self.scale + self.offset, np.float32)


@dataclass(frozen=True)
class Planck:
    """FLIR's calibration: S = R1 / (R2 (exp(B / T) - F)) - O, with T in kelvin; the air between is left out.

    The constants stand in the metadata of a radiometric JPEG (exiftool names them PlanckR1 to PlanckR2). A surface
    of emissivity e gives e S(object) + (1 - e) S(reflected).
    Source: FLIR ResearchIR user's guide, "object signal"; constants and form as read by exiftool and Thermimage.
    """

    r1: float
    b: float
    f: float
    o: float
    r2: float
    emissivity: float = 1.0
    reflected_celsius: float = 20.0

    def counts(self, celsius: float) -> float:
        """Counts of a black body of this temperature."""
        return self.r1 / (self.r2 * (math.exp(self.b / (celsius + KELVIN)) - self.f)) - self.o

    def celsius(self, counts: NDArray[Any]) -> NDArray[np.float32]:
        """As `Radiometry`."""
        reflected = (1 - self.emissivity) * self.counts(self.reflected_celsius)
        signal = (np.asarray(counts, np.float64) - reflected) / self.emissivity + self.o
        with np.errstate(divide="ignore", invalid="ignore"):
            kelvin = self.b / np.log(self.r1 / (self.r2 * signal) + self.f)
        return np.where((signal > 0) & (kelvin > 0), kelvin - KELVIN, np.nan).astype(np.float32)


def of_config(config: RadiometryConfig) -> Radiometry:
    """The radiometry of a camera in a rig file.

    Raises:
        ValueError: a linear scale that is not positive.
    """
    if config.kind == "linear":
        return Linear(config.scale, config.offset)
    r1, b, f, o, r2 = (float(getattr(config, name)) for name in ("r1", "b", "f", "o", "r2"))  # planck has all five
    return Planck(r1, b, f, o, r2, config.emissivity, config.reflected_celsius)


def hottest(counts: NDArray[np.uint16], boxes: NDArray[np.floating], radiometry: Radiometry) -> NDArray[np.float32]:
    """Hottest temperature in each box.

    Args:
        counts: (H, W) uint16.
        boxes: (N, 4) xyxy, pixels of the thermal image; every pixel that a box touches counts.
        radiometry: of the camera.

    Returns:
        (N,) float32 in °C; NaN where a box lies outside of the image.
    """
    height, width = counts.shape
    most = np.full(len(boxes), np.nan)
    finite = np.isfinite(boxes).all(1)
    corners = np.where(finite[:, None], boxes, 0)
    left, top = (np.floor(corners[:, side]).clip(0, limit).astype(int) for side, limit in ((0, width), (1, height)))
    right, bottom = (np.ceil(corners[:, side]).clip(0, limit).astype(int) for side, limit in ((2, width), (3, height)))
    for index in np.flatnonzero(finite & (left < right) & (top < bottom)):
        most[index] = counts[top[index] : bottom[index], left[index] : right[index]].max()
    return radiometry.celsius(most)
