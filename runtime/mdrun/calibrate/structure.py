"""What a visible and a thermal image of one scene have in common, and where it fits.

Warm things may be bright or dark in the visible image, so grey levels say nothing and neither does the sign of an edge.
Its direction does: each pixel becomes the doubled-angle gradient vector (cos 2θ, sin 2θ), short where there is no edge.
The product of two such fields is the normalised gradient field measure of Haber & Modersitzki (MICCAI 2006), and its
sum over a window at every displacement is a plain cross-correlation.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]

EDGE_SIGMA = 1.0  # px; a gradient of one-pixel noise is no edge
ENERGY_SIGMA = 8.0  # px; neighbourhood whose mean edge strength a pixel is measured against
NOISE_FLOOR = 0.02  # squared grey levels a pixel: below it there is no structure at all
_LOG_GAIN = 255 / np.log(256)


def grey_levels(image: NDArray[np.uint8]) -> Field:
    """(H, W, 3) RGB or (H, W) uint8 to (H, W) float32 in [0, 255]; logarithmic, so that shadow counts like light."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) if image.ndim == 3 else image
    return np.asarray(np.log1p(grey.astype(np.float32)) * np.float32(_LOG_GAIN), np.float32)


def orientation(image: Field) -> Field:
    """(H, W) grey levels to (H, W, 2) doubled-angle gradients of length 0 to 1."""
    smooth = cv2.GaussianBlur(image, (0, 0), EDGE_SIGMA)
    dx = cv2.Scharr(smooth, cv2.CV_32F, 1, 0, scale=1 / 32)
    dy = cv2.Scharr(smooth, cv2.CV_32F, 0, 1, scale=1 / 32)
    power = dx * dx + dy * dy
    weight = 1 / (power + cv2.GaussianBlur(power, (0, 0), ENERGY_SIGMA) + np.float32(NOISE_FLOOR))
    field = np.stack([(dx * dx - dy * dy) * weight, 2 * dx * dy * weight], axis=-1)
    return np.asarray(cv2.GaussianBlur(field, (0, 0), EDGE_SIGMA), np.float32)


def scaling(factor_x: float, factor_y: float | None = None) -> NDArray[np.float64]:
    """Homography between two sizes of one image; pixel centres lie at whole numbers."""
    y = factor_x if factor_y is None else factor_y
    return np.array([[factor_x, 0, (factor_x - 1) / 2], [0, y, (y - 1) / 2], [0, 0, 1]], np.float64)


def shifted(x: float, y: float) -> NDArray[np.float64]:
    """Homography that moves by (x, y)."""
    return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]], np.float64)


def transform(homography: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """Points (N, 2) through a homography (3, 3)."""
    return np.asarray(cv2.perspectiveTransform(points[None], homography)[0], np.float64)


def seen_from(image: Field, homography: NDArray[np.float64], size: tuple[int, int]) -> tuple[Field, Field]:
    """The image as another camera sees it, and where that camera sees it at all.

    Args:
        image: (H, W) float32.
        homography: (3, 3) from pixels of the result to pixels of `image`.
        size: (width, height) of the result.

    Returns:
        (height, width) float32 image, edges repeated outside of it, and float32 mask of 0 and 1.
    """
    shrink = float(np.sqrt(abs(np.linalg.det(homography[:2, :2]))))
    if shrink > 1.2:  # less aliasing than that is gone after EDGE_SIGMA
        image = np.asarray(cv2.GaussianBlur(image, (0, 0), 0.5 * np.sqrt(shrink**2 - 1)), np.float32)
    inverse = cv2.WARP_INVERSE_MAP
    seen = cv2.warpPerspective(
        image, homography, size, flags=cv2.INTER_LINEAR | inverse, borderMode=cv2.BORDER_REPLICATE
    )
    mask = cv2.warpPerspective(np.ones_like(image), homography, size, flags=cv2.INTER_NEAREST | inverse)
    return np.asarray(seen, np.float32), np.asarray(mask, np.float32)


def correlate(image: Field, template: Field) -> Field:
    """Sum of products at every place where the template lies wholly in the image; any equal number of channels."""
    found = cv2.matchTemplate(np.ascontiguousarray(image), np.ascontiguousarray(template), cv2.TM_CCORR)
    return np.asarray(found, np.float32)


@dataclass(frozen=True)
class Evidence:
    """How well windows of the thermal image fit at every displacement in the visible one.

    Attributes:
        centres: (N, 2) float64, x and y of the windows in thermal pixels.
        surfaces: (N, 2R+1, 2R+1) float32, agreement for displacements of -R to R, mean product of fields a pixel.
    """

    centres: NDArray[np.float64]
    surfaces: Field

    @property
    def radius(self) -> int:
        """R, the largest displacement looked at, pixels."""
        return int(self.surfaces.shape[1]) // 2

    def part(self, keep: NDArray[np.bool_]) -> Evidence:
        """Only some of the windows."""
        return Evidence(self.centres[keep], self.surfaces[keep])

    def smoothed(self, sigma: float) -> Evidence:
        """The same, blurred over displacements: wider hills to climb."""
        return Evidence(self.centres, np.stack([cv2.GaussianBlur(s, (0, 0), sigma) for s in self.surfaces]))

    def agreement(self, displacements: NDArray[np.float64]) -> float:
        """Mean agreement with every window displaced by its row of (N, 2); 0 beyond the radius."""
        side = self.surfaces.shape[1]
        place = displacements + self.radius
        within = ((place >= 0) & (place <= side - 1)).all(axis=1)
        rows = place[:, 1].clip(0, side - 1) + np.arange(len(place)) * side
        columns = place[:, 0].clip(0, side - 1)
        maps = columns[None].astype(np.float32), rows[None].astype(np.float32)
        values = cv2.remap(self.surfaces.reshape(-1, side), *maps, cv2.INTER_CUBIC)[0]
        return float(np.where(within, values, 0).mean())

    def support(self, displacements: NDArray[np.float64], near: float) -> float:
        """Share of the windows whose own best displacement lies near its row of (N, 2).

        Only the half with the clearest optimum counts: the others show sky, road, or a dark corner.
        """
        distance, clear = self.own_optima(displacements)
        return float((distance[clear] <= near).mean())

    def own_optima(self, displacements: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """(N,) distance of each window's own optimum from its row of (N, 2), pixels, and (N,) whether it is clear."""
        flat = self.surfaces.reshape(len(self.surfaces), -1)
        y, x = np.unravel_index(flat.argmax(axis=1), self.surfaces.shape[1:])
        own = np.stack([x, y], axis=1) - float(self.radius)
        height = flat.max(axis=1)
        distance = np.where(height > 0, np.hypot(*(own - displacements).T), np.inf)  # nothing there: nowhere
        return distance, height >= np.median(height)


def gather(visible: list[Field], thermal: list[Field], radius: int, window: int) -> Evidence:
    """Evidence of windows on a grid with half overlap, summed over pairs.

    Args:
        visible: fields (H + 2R, W + 2R, 2) of the visible images as the thermal camera would see them.
        thermal: fields (H, W, 2).
        radius: R, pixels.
        window: side of a window, pixels.
    """
    height, width = thermal[0].shape[:2]
    starts = [
        np.linspace(0, length - window, max(2, round(2 * (length - window) / window) + 1)).astype(int)
        for length in (width, height)
    ]
    places = [(x, y) for y in starts[1] for x in starts[0]]
    surfaces = [
        sum(
            correlate(v[y : y + window + 2 * radius, x : x + window + 2 * radius], t[y : y + window, x : x + window])
            for v, t in zip(visible, thermal, strict=True)
        )
        / np.float32(len(thermal) * window**2)
        for x, y in places
    ]
    return Evidence(np.array(places, np.float64) + (window - 1) / 2, np.stack(surfaces).astype(np.float32))
