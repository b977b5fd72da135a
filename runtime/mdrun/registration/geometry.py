"""Points and sizes: what every registration computes with.

Coordinates are pixels, x to the right and y down; the centre of the first pixel is (0, 0), as in OpenCV. So an image of
width w reaches from -0.5 to w - 0.5, and a change of size by s takes x to (x + 0.5) s - 0.5.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mdrun.errors import CalibrationError

Points = NDArray[np.float64]  # (N, 2), x and y
Matrix = NDArray[np.float64]  # (3, 3)
Size = tuple[int, int]  # width, height

# Sides are rounded to whole pixels: one pixel of a side of 100, the shortest that cameras have.
ASPECT_TOLERANCE = 0.01
# Between 80x60 and 8000x6000 pixels the scale is 100 either way, the determinant its square: 1e-4. Far below is a line.
SMALLEST_DETERMINANT = 1e-9


def scale_matrix(source: Size, target: Size) -> Matrix:
    """(3, 3) pixels of an image of size `source` to pixels of the same view at size `target`."""
    x, y = target[0] / source[0], target[1] / source[1]
    return np.array([[x, 0, (x - 1) / 2], [0, y, (y - 1) / 2], [0, 0, 1]])


def check_aspect(size: Size, calibrated: Size, camera: str) -> None:
    """Refuse an image that shows another view than the calibrated one.

    Raises:
        CalibrationError: its proportions differ, so it was cut, padded or stretched in between.
    """
    if abs(size[0] * calibrated[1] / (size[1] * calibrated[0]) - 1) > ASPECT_TOLERANCE:
        raise CalibrationError(
            f"the {camera} image is {in_words(size)}, the calibration was made at {in_words(calibrated)}: other "
            "proportions, another view; calibrate again with `mdrun calibrate registration`"
        )


def transform(matrix: NDArray[np.floating[Any]], points: Points) -> Points:
    """(N, 2) points through a homography; NaN where they lie on or beyond its horizon."""
    mapped = homogeneous(points) @ matrix.T
    third = np.where(mapped[:, 2:] > 0, mapped[:, 2:], np.nan)
    return np.asarray(mapped[:, :2] / third, np.float64)


def homogeneous(points: Points) -> NDArray[np.float64]:
    """(N, 3): the same points with a third coordinate of 1."""
    return np.asarray(np.column_stack([points, np.ones(len(points))]), np.float64)


def as_points(points: Any) -> Points:
    """(N, 2) float64.

    Raises:
        ValueError: another shape.
    """
    array = np.asarray(points, np.float64)
    if array.ndim != 2 or array.shape[1] != 2:
        raise ValueError(f"points have the shape {array.shape}, wanted (N, 2)")
    return array


def as_homography(values: Any, size: Size) -> Matrix:
    """(3, 3) float64, scaled so that the third coordinate is 1 in the middle of an image of this size.

    Raises:
        CalibrationError: not 3 x 3 finite numbers, not invertible, or with its horizon inside the image.
    """
    matrix = np.asarray(values, np.float64)
    if matrix.shape != (3, 3) or not np.isfinite(matrix).all():
        raise CalibrationError(f"the homography has the shape {matrix.shape}, wanted 3 x 3 finite numbers")
    third = homogeneous(corners(size)) @ matrix[2]
    if not (third > 0).all() and not (third < 0).all():
        raise CalibrationError("the homography has its horizon inside the image, no camera pair looks like that")
    matrix = np.asarray(matrix / (homogeneous(corners(size).mean(axis=0, keepdims=True)) @ matrix[2]), np.float64)
    if abs(np.linalg.det(matrix)) < SMALLEST_DETERMINANT:
        raise CalibrationError("the homography maps everything onto a line; wanted an invertible one")
    return matrix


def corners(size: Size) -> Points:
    """(4, 2) centres of the corner pixels, clockwise from the top left."""
    right, bottom = size[0] - 1, size[1] - 1
    return np.array([[0, 0], [right, 0], [right, bottom], [0, bottom]], np.float64)


def pixel_grid(size: Size) -> Points:
    """(h * w, 2) centres of all pixels, row by row."""
    columns, rows = np.meshgrid(np.arange(size[0], dtype=np.float64), np.arange(size[1], dtype=np.float64))
    return np.column_stack([columns.ravel(), rows.ravel()])


def inside(points: Points, size: Size) -> NDArray[np.bool_]:
    """(N,) which points lie on an image of this size; those that are NaN do not."""
    left, right = points[:, 0] >= -0.5, points[:, 0] <= size[0] - 0.5
    top, bottom = points[:, 1] >= -0.5, points[:, 1] <= size[1] - 0.5
    return np.asarray(left & right & top & bottom, np.bool_)


def in_words(size: Size) -> str:
    """`640x512`."""
    return f"{size[0]}x{size[1]}"
