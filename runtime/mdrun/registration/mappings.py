"""The two ways from a thermal pixel to a visible one: a homography, or two lenses and a plane."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from mdrun.errors import CalibrationError
from mdrun.registration.geometry import (
    Matrix,
    Points,
    Size,
    pixel_grid,
    scale_matrix,
    transform,
)
from mdrun.registration.lens import Lens

PROBE: Size = (5, 4)  # points of the thermal image at which parallax is measured
ORTHONORMAL = 1e-3  # how far a rotation may be from one: files round to four digits


@dataclass(frozen=True, eq=False)
class Homography:
    """One plane of the scene, or a scene so far away that it looks like one.

    Attributes:
        matrix: (3, 3) thermal pixel to visible pixel.
        plane_m: depth of the plane; infinity where the scene is far away.
        baseline_m: distance between the two lenses; None where unknown.
        focal_px: focal length of the thermal camera in pixels; None where unknown.
    """

    matrix: Matrix
    plane_m: float = np.inf
    baseline_m: float | None = None
    focal_px: float | None = None

    kind: Literal["homography"] = "homography"

    def to_visible(self, thermal: Points) -> Points:
        """(N, 2) visible pixels of thermal ones; NaN beyond the horizon."""
        return transform(self.matrix, thermal)

    def to_thermal(self, visible: Points) -> Points:
        """(N, 2) thermal pixels of visible ones; NaN beyond the horizon."""
        return transform(np.linalg.inv(self.matrix), visible)

    def clamped(self, visible: Points) -> Points:
        """The same, but finite everywhere: far outside where there is none."""
        return np.asarray(np.nan_to_num(self.to_thermal(visible), nan=-1e4), np.float64)

    def parallax_px(self, depth_m: float, size: Size) -> float | None:  # noqa: ARG002  # as of Stereo
        """Thermal pixels between a point at `depth_m` and where the plane puts it: f B |1 / depth - 1 / plane|.

        None where baseline or focal length are unknown. `size`, of the thermal image, does not matter here.
        """
        if self.baseline_m is None or self.focal_px is None:
            return None
        return self.focal_px * self.baseline_m * abs(1 / depth_m - 1 / self.plane_m)

    def resized(self, visible: tuple[Size, Size], thermal: tuple[Size, Size]) -> Homography:
        """For images of other sizes of the same views; each pair is (from, to)."""
        matrix = scale_matrix(*visible) @ self.matrix @ scale_matrix(*reversed(thermal))
        focal = None if self.focal_px is None else self.focal_px * thermal[1][0] / thermal[0][0]
        return Homography(matrix, self.plane_m, self.baseline_m, focal)


@dataclass(frozen=True, eq=False)
class Stereo:
    """Both lenses, and how the cameras stand to each other: x_thermal = rotation x_visible + translation_m.

    A pixel alone has no depth; the plane at `plane_m` before the visible camera, parallel to its sensor, gives it one.
    The plane induces a homography between rays, H = R + t n^T / d with n = (0, 0, 1) (Hartley and Zisserman, Multiple
    View Geometry, 2nd ed., eq. 13.2, here with the sign of x_thermal = R x_visible + t).

    Attributes:
        visible, thermal: the lenses.
        rotation: (3, 3).
        translation_m: (3,) metres.
        plane_m: depth of the plane; infinity where the scene is far away.
    """

    visible: Lens
    thermal: Lens
    rotation: Matrix
    translation_m: Matrix
    plane_m: float = np.inf

    kind: Literal["stereo"] = "stereo"

    def __post_init__(self) -> None:
        """Refuse what is no rotation or no translation."""
        rotation, translation = self.rotation, self.translation_m
        if (
            rotation.shape != (3, 3)
            or not np.isfinite(rotation).all()
            or np.abs(rotation @ rotation.T - np.eye(3)).max() > ORTHONORMAL
            or np.linalg.det(rotation) < 0
        ):
            raise CalibrationError(f"the rotation is {rotation.tolist()}, wanted 3 x 3 orthonormal, determinant 1")
        if translation.shape != (3,) or not np.isfinite(translation).all():
            raise CalibrationError(f"the translation is {translation.tolist()}, wanted 3 finite numbers, metres")

    @property
    def baseline_m(self) -> float:
        """Distance between the two lenses."""
        return float(np.linalg.norm(self.translation_m))

    @property
    def focal_px(self) -> float:
        """Focal length of the thermal camera in pixels."""
        return self.thermal.focal_px

    def to_visible(self, thermal: Points) -> Points:
        """(N, 2) visible pixels of thermal ones; NaN where a lens model or the plane has none."""
        rays = transform(np.linalg.inv(self._rays(self.plane_m)), self.thermal.to_rays(thermal))
        return np.where(self.visible.sees(rays)[:, None], self.visible.to_pixels(rays), np.nan)

    def to_thermal(self, visible: Points) -> Points:
        """(N, 2) thermal pixels of visible ones; NaN where a lens model or the plane has none."""
        rays = transform(self._rays(self.plane_m), self.visible.to_rays(visible))
        return np.where(self.thermal.sees(rays)[:, None], self.thermal.to_pixels(rays), np.nan)

    def clamped(self, visible: Points) -> Points:
        """The same, but finite everywhere: outside, or far outside, where there is none."""
        rays = transform(self._rays(self.plane_m), self.visible.to_rays(visible))
        return np.asarray(np.nan_to_num(self.thermal.to_pixels(rays), nan=-1e4), np.float64)

    def parallax_px(self, depth_m: float, size: Size) -> float | None:
        """Median, over the thermal image, of the way a point goes there when its depth is another than the plane's."""
        probe = transform(scale_matrix(PROBE, size), pixel_grid(PROBE))
        rays = transform(np.linalg.inv(self._rays(self.plane_m)), self.thermal.to_rays(probe))
        moved = self.thermal.to_pixels(transform(self._rays(depth_m), rays))
        ways = np.linalg.norm(moved - probe, axis=1)
        return float(np.nanmedian(ways)) if np.isfinite(ways).any() else None

    def resized(self, visible: tuple[Size, Size], thermal: tuple[Size, Size]) -> Stereo:
        """For images of other sizes of the same views; each pair is (from, to)."""
        lenses = self.visible.resized(*visible), self.thermal.resized(*thermal)
        return Stereo(*lenses, self.rotation, self.translation_m, self.plane_m)

    def _rays(self, plane_m: float) -> Matrix:
        """(3, 3) visible rays to thermal rays, for points on the plane."""
        normal = np.array([0.0, 0.0, 1.0])
        return np.asarray(self.rotation + np.outer(self.translation_m, normal) / plane_m, np.float64)


Mapping = Homography | Stereo
