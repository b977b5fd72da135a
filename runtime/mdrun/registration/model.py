"""How the thermal image lies on the visible one, how well, and at which distance.

Coordinates as in mdrun.registration.geometry: the centre of the first pixel is (0, 0).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from mdrun.errors import CalibrationError, DataError
from mdrun.registration.aligner import Aligner
from mdrun.registration.geometry import (
    Points,
    Size,
    as_homography,
    as_points,
    check_aspect,
    in_words,
    inside,
    pixel_grid,
    scale_matrix,
    transform,
)
from mdrun.registration.mappings import Homography, Mapping, Stereo

# A detector bears 4 pixels of a 640-pixel image (docs/models.md#how-well-they-see), which is 1 of 160.
LIMIT_SHARE = 1 / 160
NEAREST_M = 0.2  # nothing that a pair of cameras watches is nearer
HALVINGS = 24  # of the range that a depth is searched in: to a ten-millionth of it
PARALLAX_AT_M = (2, 5, 10, 20, 50)  # depths at which parallax is told
COVERAGE_WIDTH = 160  # pixels of the mask that coverage is counted on
FIT_GRID: Size = (12, 9)  # points of the thermal image that a homography is fitted to
KEPT = 8  # sizes kept: one camera gives one, a page that shows an overlay another
REMAPPED = (np.uint8, np.uint16, np.int16, np.float32, np.float64)  # what cv2.remap takes

V = TypeVar("V")


@dataclass(frozen=True)
class Origin:
    """How a registration was made, and how well it fits what it was made from.

    Attributes:
        method: `board`, `points`, `scene`, `import` or `none`, with more words behind it.
        date: ISO 8601, empty where unknown.
        pairs: point pairs (or image pairs, of a scene) it was made from.
        residual_median_px, residual_p95_px: pixels of the thermal image; None where there was nothing to measure.
    """

    method: str = "none"
    date: str = ""
    pairs: int | None = None
    residual_median_px: float | None = None
    residual_p95_px: float | None = None


@dataclass(frozen=True, eq=False)
class Registration:
    """Maps pixels of one thermal camera to pixels of one visible camera, and back. Safe for several threads.

    Attributes:
        visible_size: (width, height) of the visible image it was made at.
        thermal_size: (width, height) of the thermal image it was made at.
        mapping: a homography, or two lenses and a plane.
        origin: how it was made.
    """

    visible_size: Size
    thermal_size: Size
    mapping: Mapping
    origin: Origin = Origin()
    _aligners: dict[tuple[Size, Size], Aligner] = field(default_factory=dict, init=False, repr=False)
    _resized: dict[tuple[Size, Size], Registration] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        """Refuse sizes of no image, and depths of no plane."""
        for camera, size in (("visible", self.visible_size), ("thermal", self.thermal_size)):
            if min(size) < 1:
                raise CalibrationError(f"the {camera} size is {in_words(size)}, wanted a width and a height in pixels")
        if not self.mapping.plane_m > 0:
            raise CalibrationError(f"the depth is {self.mapping.plane_m} m, wanted more than 0")

    @classmethod
    def from_homography(
        cls,
        matrix: Any,
        visible_size: Size,
        thermal_size: Size,
        *,
        depth_m: float | None = None,
        baseline_m: float | None = None,
        focal_px: float | None = None,
        origin: Origin = Origin(),
    ) -> Registration:
        """From a (3, 3) homography, thermal pixel to visible pixel.

        Raises:
            CalibrationError: it cannot be that of two cameras.
        """
        plane_m = math.inf if depth_m is None else depth_m
        mapping = Homography(as_homography(matrix, thermal_size), plane_m, baseline_m, focal_px)
        return cls(visible_size, thermal_size, mapping, origin)

    @classmethod
    def identity(cls, visible_size: Size, thermal_size: Size) -> Registration:
        """Both cameras see the same view, the thermal image is only stretched over it."""
        return cls.from_homography(scale_matrix(thermal_size, visible_size), visible_size, thermal_size)

    @classmethod
    def load(cls, path: Path) -> Registration:
        """Read a calibration file.

        Raises:
            CalibrationError: no such file, or one line with every problem and its line.
        """
        from mdrun.registration.file import load

        return load(path)

    def save(self, path: Path) -> None:
        """Write a calibration file, whole or not at all.

        Raises:
            OutputError: it cannot be written there.
        """
        from mdrun.registration.file import save

        save(self, path)

    @property
    def kind(self) -> str:
        """`homography` or `stereo`."""
        return self.mapping.kind

    @property
    def depth_m(self) -> float | None:
        """Distance from the visible camera at which it holds exactly; None: far away."""
        return self.mapping.plane_m if math.isfinite(self.mapping.plane_m) else None

    @cached_property
    def homography(self) -> NDArray[np.float64]:
        """(3, 3) thermal pixel to visible pixel; of a stereo one the nearest to it over both images, lenses left aside.

        For overlays and as a start for a search; positions come from `thermal_to_visible`.
        """
        if isinstance(self.mapping, Homography):
            return self.mapping.matrix
        import cv2

        thermal = transform(scale_matrix(FIT_GRID, self.thermal_size), pixel_grid(FIT_GRID))
        visible = self.mapping.to_visible(thermal)
        seen = inside(visible, self.visible_size)
        if seen.sum() < 4:
            raise CalibrationError("the two cameras see nothing in common at this depth; check the calibration")
        return as_homography(cv2.findHomography(thermal[seen], visible[seen], 0)[0], self.thermal_size)

    @property
    def residual_px(self) -> float | None:
        """Median error of what it was made from, pixels of the thermal image."""
        return self.origin.residual_median_px

    def thermal_to_visible(self, points: Any) -> Points:
        """(N, 2) visible pixels of (N, 2) thermal ones; NaN where there are none."""
        return self.mapping.to_visible(as_points(points))

    def visible_to_thermal(self, points: Any) -> Points:
        """(N, 2) thermal pixels of (N, 2) visible ones, maybe outside the image; NaN where there are none."""
        return self.mapping.to_thermal(as_points(points))

    def at(self, *, visible_size: Size | None = None, thermal_size: Size | None = None) -> Registration:
        """The same registration for cameras that give another resolution of the same view; kept, so ask every frame.

        Raises:
            CalibrationError: the proportions are other ones, so the view is.
        """
        visible, thermal = visible_size or self.visible_size, thermal_size or self.thermal_size
        if (visible, thermal) == (self.visible_size, self.thermal_size):
            return self
        return _kept(self._resized, (visible, thermal), self._resize)

    def at_depth(self, depth_m: float | None) -> Registration:
        """The same pair of cameras looking at another depth; None: far away.

        Raises:
            CalibrationError: a homography holds for its own depth only.
        """
        if not isinstance(self.mapping, Stereo):
            raise CalibrationError(
                "a homography holds for the depth it was made at; only a stereo calibration (board or Kalibr file) "
                "can be moved to another"
            )
        return replace(self, mapping=replace(self.mapping, plane_m=math.inf if depth_m is None else depth_m))

    def align(self, image: NDArray[Any], size_wh: Size) -> NDArray[Any]:
        """The thermal image resampled over the whole view of the visible camera, bilinear, without aliasing.

        Where the thermal camera does not look its border is repeated; `coverage_mask` tells where that is.

        Args:
            image: (h, w) uint8, uint16, int16, float32 or float64, of the calibrated proportions.
            size_wh: (W, H) of the result, in general the engine's thermal input.

        Returns:
            (H, W) of the image's type, new.

        Raises:
            DataError: no image.
            CalibrationError: an image of other proportions.
        """
        if image.ndim != 2 or image.dtype not in REMAPPED or not image.size:
            raise DataError(f"thermal image is {image.dtype} {image.shape}, wanted (h, w) of 8 or 16 bits or floats")
        return _kept(self._aligners, ((image.shape[1], image.shape[0]), size_wh), self._make_aligner)(image)

    def coverage_mask(self, size_wh: Size) -> NDArray[np.bool_]:
        """(H, W) where the thermal camera really looks, in the visible camera's view at this size."""
        view = transform(scale_matrix(size_wh, self.visible_size), pixel_grid(size_wh))
        return inside(self.mapping.to_thermal(view), self.thermal_size).reshape(size_wh[1], size_wh[0])

    @cached_property
    def coverage(self) -> float:
        """Share of the visible view, 0 to 1, that the thermal camera sees."""
        height = max(1, round(COVERAGE_WIDTH * self.visible_size[1] / self.visible_size[0]))
        return float(self.coverage_mask((COVERAGE_WIDTH, height)).mean())

    def parallax_px(self, depth_m: float) -> float | None:
        """Thermal pixels by which something at another depth is off; None where the cameras' distance is unknown."""
        return self.mapping.parallax_px(depth_m, self.thermal_size)

    @property
    def limit_px(self) -> float:
        """Thermal pixels of parallax that a detector bears: 1 of a 160-pixel image."""
        return self.thermal_size[0] * LIMIT_SHARE

    @cached_property
    def holds_from_m(self) -> float | None:
        """Nearest depth with parallax below `limit_px`; None where the cameras' distance is unknown."""
        return self._search(1 / NEAREST_M)

    @cached_property
    def holds_to_m(self) -> float | None:
        """Farthest depth with parallax below `limit_px`, maybe infinity; None as of `holds_from_m`."""
        return self._search(0.0)

    def describe(self) -> dict[str, Any]:
        """Plain JSON data for pages and metrics; infinite depths are None."""
        farthest = self.holds_to_m
        return {
            "kind": self.kind,
            "method": self.origin.method,
            "date": self.origin.date,
            "pairs": self.origin.pairs,
            "visible_size": list(self.visible_size),
            "thermal_size": list(self.thermal_size),
            "residual_px": self.residual_px,
            "residual_p95_px": self.origin.residual_p95_px,
            "coverage": round(self.coverage, 4),
            "depth_m": self.depth_m,
            "baseline_m": self.mapping.baseline_m,
            "limit_px": self.limit_px,
            "holds_from_m": self.holds_from_m,
            "holds_to_m": farthest if farthest is not None and math.isfinite(farthest) else None,
            "parallax_px": {str(depth): self.parallax_px(depth) for depth in PARALLAX_AT_M},
        }

    def _search(self, end: float) -> float | None:
        """Depth farthest from the plane, towards the inverse depth `end`, whose parallax is below the limit."""
        if self.parallax_px(NEAREST_M) is None:
            return None
        good, bad = 1 / self.mapping.plane_m, end
        if self._bears(bad):
            return math.inf if bad == 0 else 1 / bad
        for _ in range(HALVINGS):
            middle = (good + bad) / 2
            good, bad = (middle, bad) if self._bears(middle) else (good, middle)
        return 1 / good if good > 0 else math.inf

    def _bears(self, inverse_depth: float) -> bool:
        parallax = self.parallax_px(1 / inverse_depth if inverse_depth > 0 else math.inf)
        return parallax is not None and parallax <= self.limit_px

    def _make_aligner(self, image_wh: Size, size_wh: Size) -> Aligner:
        check_aspect(image_wh, self.thermal_size, "thermal")
        view = transform(scale_matrix(size_wh, self.visible_size), pixel_grid(size_wh))
        thermal = transform(scale_matrix(self.thermal_size, image_wh), self.mapping.clamped(view))
        return Aligner(image_wh, thermal.reshape(size_wh[1], size_wh[0], 2))

    def _resize(self, visible: Size, thermal: Size) -> Registration:
        check_aspect(visible, self.visible_size, "visible")
        check_aspect(thermal, self.thermal_size, "thermal")
        mapping = self.mapping.resized((self.visible_size, visible), (self.thermal_size, thermal))
        return Registration(visible, thermal, mapping, _scaled(self.origin, thermal[0] / self.thermal_size[0]))


def _kept(kept: dict[tuple[Size, Size], V], sizes: tuple[Size, Size], make: Callable[[Size, Size], V]) -> V:
    """What was made for these sizes before, or now."""
    found = kept.get(sizes)
    if found is None:
        found = make(*sizes)
        if len(kept) >= KEPT:
            kept.clear()
        kept[sizes] = found
    return found


def _scaled(origin: Origin, scale: float) -> Origin:
    median, p95 = origin.residual_median_px, origin.residual_p95_px
    return replace(
        origin,
        residual_median_px=None if median is None else median * scale,
        residual_p95_px=None if p95 is None else p95 * scale,
    )
