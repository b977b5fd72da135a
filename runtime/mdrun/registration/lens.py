"""A camera's intrinsics: rays to pixels and back, with distortion.

A ray is (x, y) on the plane at distance 1 before the camera, x to the right and y down.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mdrun.errors import CalibrationError
from mdrun.registration.geometry import Matrix, Points, Size, scale_matrix

Model = Literal["radtan", "equidistant"]
LENGTHS = {"radtan": (0, 4, 5, 8), "equidistant": (0, 4)}  # of the distortion coefficients
STEEPEST = 11.4  # tangent of 85 degrees from the axis: no lens of a pair of cameras sees farther
STEPS = 4096  # rays tried on the way to it
NEWTON_STEPS = 20  # 6 do for every lens tried; more only for what does not converge at all
CONVERGED = 1e-9  # of a ray: a millionth of a pixel at a focal length of 1000


@dataclass(frozen=True, eq=False)
class Lens:
    """Intrinsics of one camera at one image size.

    Attributes:
        matrix: (3, 3) focal lengths and principal point, pixels.
        distortion: (K,) `radtan`: k1 k2 p1 p2 [k3 [k4 k5 k6]] of Brown (1966) in OpenCV's order; `equidistant`: k1 to
            k4 of Kannala and Brandt (2006), the fisheye model of OpenCV and Kalibr. Empty: none.
        model: which of the two.

    Raises:
        CalibrationError: a matrix or coefficients that no camera has.
    """

    matrix: Matrix
    distortion: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    model: Model = "radtan"

    def __post_init__(self) -> None:
        """Refuse what is no camera."""
        matrix, distortion = self.matrix, self.distortion
        if matrix.shape != (3, 3) or not np.isfinite(matrix).all() or min(matrix[0, 0], matrix[1, 1]) <= 0:
            raise CalibrationError(f"a camera matrix is {matrix.tolist()}, wanted 3 x 3 with focal lengths above 0")
        if distortion.shape not in [(length,) for length in LENGTHS[self.model]] or not np.isfinite(distortion).all():
            wanted = " or ".join(str(length) for length in LENGTHS[self.model] if length)
            raise CalibrationError(f"{distortion.size} distortion coefficients; {self.model} wants {wanted}, or none")

    @property
    def focal_px(self) -> float:
        """Mean of both focal lengths."""
        return float((self.matrix[0, 0] + self.matrix[1, 1]) / 2)

    def resized(self, source: Size, target: Size) -> Lens:
        """The same lens for images of another size of the same view."""
        return Lens(scale_matrix(source, target) @ self.matrix, self.distortion, self.model)

    def to_pixels(self, rays: Points) -> Points:
        """(N, 2) pixels of rays; those beyond `widest` are drawn to it along their radius: outside, but finite."""
        radius = np.linalg.norm(rays, axis=1, keepdims=True)
        shrink = np.minimum(1.0, self.widest / np.maximum(radius, 1e-12))
        distorted = self._distort(rays * shrink)
        return np.asarray(distorted @ self.matrix[:2, :2].T + self.matrix[:2, 2], np.float64)

    def sees(self, rays: Points) -> NDArray[np.bool_]:
        """(N,) which rays the distortion model covers."""
        return np.asarray(np.linalg.norm(rays, axis=1) < self.widest, np.bool_)

    def to_rays(self, pixels: Points) -> Points:
        """(N, 2) rays of pixels, by Newton's method; NaN where the model has none."""
        wanted = (pixels - self.matrix[:2, 2]) @ np.linalg.inv(self.matrix[:2, :2]).T
        if not self.distortion.any() and self.model == "radtan":
            return np.asarray(wanted, np.float64)
        rays = np.clip(wanted, -STEEPEST, STEEPEST) * 0.9  # not on the axis, where an equidistant ray has no direction
        error = np.full(len(rays), np.inf)
        with np.errstate(all="ignore"):  # what runs away is NaN in the end
            for _ in range(NEWTON_STEPS):
                missing = wanted - self._distort(rays)
                error = np.abs(missing).max(axis=1, initial=0)
                if not (error > CONVERGED).any():
                    break
                rays = rays + _solve(self._jacobian(rays), missing)
            good = (error <= CONVERGED) & self.sees(rays)
        return np.where(good[:, None], rays, np.nan)

    @cached_property
    def widest(self) -> float:
        """Length of the longest ray up to which the distortion is one to one; beyond, the polynomial folds back."""
        radius = np.linspace(0, STEEPEST, STEPS)
        scale, _ = self._radial(radius)
        grows = np.diff(radius * scale) > 0
        return float(radius[-1] if grows.all() else radius[int(np.argmin(grows))])

    @cached_property
    def _brown(self) -> tuple[float, ...]:
        return tuple(np.pad(self.distortion, (0, 8 - len(self.distortion))).tolist())

    def _radial(self, radius: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Factor by which the lens stretches rays of this length, and the tangential coefficients."""
        if self.model == "equidistant":
            angle = np.arctan(radius)
            powers = np.stack([angle ** (2 * i) for i in range(1, len(self.distortion) + 1)] or [angle * 0])
            stretched = angle * (1 + np.tensordot(self.distortion if self.distortion.size else [0.0], powers, 1))
            return np.where(radius > 1e-9, stretched / np.maximum(radius, 1e-9), 1.0), np.zeros(2)
        k1, k2, p1, p2, k3, k4, k5, k6 = self._brown
        square = radius**2
        above = 1 + square * (k1 + square * (k2 + square * k3))
        return above / (1 + square * (k4 + square * (k5 + square * k6))), np.array([p1, p2])

    def _distort(self, rays: Points) -> Points:
        x, y = rays.T
        square = x**2 + y**2
        scale, (p1, p2) = self._radial(np.sqrt(square))
        right = x * scale + 2 * p1 * x * y + p2 * (square + 2 * x**2)
        down = y * scale + p1 * (square + 2 * y**2) + 2 * p2 * x * y
        return np.column_stack([right, down])

    def _jacobian(self, rays: Points) -> NDArray[np.float64]:
        """(N, 2, 2) by central differences: exact enough for Newton's method to converge."""
        step = 1e-6
        sides = [np.array([step, 0.0]), np.array([0.0, step])]
        columns = [(self._distort(rays + side) - self._distort(rays - side)) / (2 * step) for side in sides]
        return np.stack(columns, axis=2)


def _solve(jacobian: NDArray[np.float64], missing: Points) -> Points:
    """(N, 2) Newton steps; Cramer's rule, so that one singular point does not stop the others."""
    (a, b), (c, d) = jacobian[:, 0].T, jacobian[:, 1].T
    x, y = missing.T
    return np.asarray(np.column_stack([d * x - b * y, a * y - c * x]) / (a * d - b * c)[:, None], np.float64)
