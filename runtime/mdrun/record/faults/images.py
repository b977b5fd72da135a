"""What a camera's images show: darkness, noise, another direction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mdrun.frames import Modality
from mdrun.record.faults.base import Fault
from mdrun.record.plan import Plan, Scene, Shot, Span, map_shots

DARK = 16  # a lamp goes out: one sixteenth of the light, about what separates a lit street from an unlit one
_NUMBERS = {Modality.VISIBLE: 0, Modality.THERMAL: 1}  # of the cameras, for seeds


@dataclass(frozen=True)
class Darken:
    """A look: every value divided by `DARK`."""

    def __call__(self, image: NDArray[Any]) -> NDArray[Any]:
        """The same image, darker."""
        return image // DARK


@dataclass(frozen=True)
class AddNoise:
    """A look: Gaussian noise of `sigma` counts, the same for the same seed."""

    sigma: float
    seed: tuple[int, ...]

    def __call__(self, image: NDArray[Any]) -> NDArray[Any]:
        """The same image with noise, clipped to its type."""
        noise = np.random.default_rng(self.seed).normal(0.0, self.sigma, image.shape).astype(np.float32)
        return np.rint(image + noise).clip(0, np.iinfo(image.dtype).max).astype(image.dtype)


@dataclass(frozen=True)
class Move:
    """A look: the image `right` and `down` by whole pixels, its edge repeated."""

    right: int
    down: int

    def __call__(self, image: NDArray[Any]) -> NDArray[Any]:
        """The same image, moved."""
        height, width = image.shape[:2]
        rows = (np.arange(height) - self.down).clip(0, height - 1)
        columns = (np.arange(width) - self.right).clip(0, width - 1)
        moved: NDArray[Any] = image[rows][:, columns]
        return moved


@dataclass(frozen=True)
class Dark(Fault):
    """The light goes out before the visible camera."""

    span: Span
    stage: ClassVar[int] = 10

    def apply(self, plan: Plan, scene: Scene) -> Plan:
        """Darken what arrives in the span."""

        def darken(shot: Shot) -> Shot:
            return shot.looking(Darken()) if self.span.holds(shot.at_ns, scene) else shot

        return map_shots(plan, Modality.VISIBLE, darken)


@dataclass(frozen=True)
class Noise(Fault):
    """A camera is noisier than it was, by `sigma` counts of its own depth."""

    modality: Modality
    sigma: float
    stage: ClassVar[int] = 11

    def apply(self, plan: Plan, scene: Scene) -> Plan:
        """Add to every image noise of its own."""

        def add(shot: Shot) -> Shot:
            return shot.looking(AddNoise(self.sigma, (scene.seed, _NUMBERS[self.modality], shot.sequence)))

        return map_shots(plan, self.modality, add) if self.sigma else plan


@dataclass(frozen=True)
class Bump(Fault):
    """Something pushed the thermal camera: from `first_ns` on it looks elsewhere."""

    right: int
    down: int
    span: Span
    stage: ClassVar[int] = 10

    def apply(self, plan: Plan, scene: Scene) -> Plan:
        """Move the image from then on."""

        def move(shot: Shot) -> Shot:
            return shot.looking(Move(self.right, self.down)) if self.span.holds(shot.at_ns, scene) else shot

        return map_shots(plan, Modality.THERMAL, move)
