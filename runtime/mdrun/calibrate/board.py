"""A registration from a checkerboard that both cameras see: printed, and warmed by the sun or a lamp.

Dark squares take up more heat, so a board is bright where the visible image is dark, or the other way round once it
cools; corners are the same in both.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mdrun.calibrate.points import Fit, fit_homography, now, summarise
from mdrun.errors import CalibrationError
from mdrun.registration import Origin, Registration, Stereo
from mdrun.registration.geometry import Points, Size, in_words
from mdrun.registration.lens import Lens

Image = NDArray[Any]
Grid = NDArray[np.float64]  # (rows, columns, 2) inner corners
Pattern = tuple[int, int]  # inner corners: columns, rows

DETECTED_WIDTH = 640  # smaller images are enlarged: the detectors want squares of ten pixels and more
LEAST_GOOD = 0.9  # share of corners that look like corners; a row too far out makes it 0.83 on a board of 6 x 5
LEAST_CONTRAST = 0.15  # between neighbouring squares, as a share of the board's median contrast
LEAST_VIEWS = 8  # for the intrinsics of two cameras; OpenCV's own tutorial asks for 10
FOCAL_KNOWN = 0.02  # relative standard deviation: the parallax is no better known than the focal length


@dataclass(frozen=True, eq=False)
class View:
    """One board in both images, the same corners in the same order."""

    visible: Points
    thermal: Points


def find_board(image: Image, pattern: Pattern) -> Grid | None:
    """Inner corners of a checkerboard, to a fraction of a pixel, left to right and top to bottom as far as it goes.

    Args:
        image: (H, W) or (H, W, 3) RGB, 8 or 16 bits.
        pattern: inner corners: columns, rows.

    Returns:
        (rows, columns, 2) pixels, None where no board of this pattern is seen.
    """
    grey = _grey(image)
    scale = max(1, math.ceil(DETECTED_WIDTH / grey.shape[1]))
    large = _enlarge(grey, scale)
    for corners in _candidates(large, pattern):
        grid = _upright(corners.reshape(pattern[1], pattern[0], 2).astype(np.float64))
        if _share_of_corners(large, grid) >= LEAST_GOOD:
            return np.asarray((grid + 0.5) / scale - 0.5, np.float64)
    return None


def find_views(pairs: Sequence[tuple[Image, Image]], pattern: Pattern) -> tuple[list[View], list[int]]:
    """The board in every (visible, thermal) pair, and the positions of the pairs without it.

    The cameras are taken to stand the same way up, more or less: a board's own corners cannot tell.
    """
    views, without = [], []
    for index, (visible, thermal) in enumerate(pairs):
        seen = find_board(visible, pattern)
        felt = find_board(thermal, pattern) if seen is not None else None
        if seen is None or felt is None:
            without.append(index)
        else:
            views.append(View(seen.reshape(-1, 2), _as_turned(felt, seen).reshape(-1, 2)))
    return views, without


def calibrate_board(
    pairs: Sequence[tuple[Image, Image]],
    pattern: Pattern,
    square_m: float,
    *,
    depth_m: float | None = None,
    lenses: tuple[Lens, Lens] | None = None,
) -> Fit:
    """Calibrate from (visible, thermal) image pairs of a board.

    Stereo where the lenses are given, or eight views and more tell them; else a homography, which holds for the
    distance of the board.

    Args:
        pairs: images, (H, W) or (H, W, 3) RGB, 8 or 16 bits.
        pattern: inner corners: columns, rows.
        square_m: side of a square in metres.
        depth_m: distance that the registration is for; of a homography, that of the board.
        lenses: visible and thermal, where they are known.

    Raises:
        CalibrationError: no board in any pair, or images of several sizes.
    """
    sizes = {(_size(visible), _size(thermal)) for visible, thermal in pairs}
    if len(sizes) != 1:
        words = ", ".join(sorted(f"{in_words(first)} and {in_words(second)}" for first, second in sizes)) or "none"
        raise CalibrationError(f"board images have the sizes {words}; wanted one size a camera")
    visible_size, thermal_size = sizes.pop()
    views, without = find_views(pairs, pattern)
    if not views:
        raise CalibrationError(
            f"none of {len(pairs)} image pairs shows a board of {pattern[0]}x{pattern[1]} inner corners in both "
            "cameras; count the corners between the squares, warm the board, fill more of the image with it"
        )
    notes = [f"no board in pair {', '.join(str(index + 1) for index in without)}"] if without else []
    if lenses is None and len(views) >= LEAST_VIEWS:
        lenses, doubt = _find_lenses(views, pattern, square_m, visible_size, thermal_size)
        notes += [doubt] if doubt else []
    if lenses is None:
        notes.append(f"a homography, for the distance of the board; {LEAST_VIEWS} tilted views give both lenses")
        return _as_homography(views, visible_size, thermal_size, depth_m, notes)
    mapping = _find_stereo(views, pattern, square_m, lenses, depth_m)
    errors = np.concatenate([_stereo_errors(view, mapping, pattern, square_m) for view in views])
    origin = Origin(f"board, {len(views)} views", now(), len(errors), *summarise(errors))
    registration = Registration(visible_size, thermal_size, mapping, origin)
    return Fit(registration, errors, np.ones(len(errors), bool), np.full(len(errors), np.nan), tuple(notes))


def _as_homography(
    views: Sequence[View], visible_size: Size, thermal_size: Size, depth_m: float | None, notes: list[str]
) -> Fit:
    visible = np.concatenate([view.visible for view in views])
    thermal = np.concatenate([view.thermal for view in views])
    fit = fit_homography(visible, thermal, visible_size, thermal_size, ransac=False, depth_m=depth_m)
    made = fit.registration
    origin = Origin(f"board, {len(views)} views", *list(vars(made.origin).values())[1:])
    registration = Registration(visible_size, thermal_size, made.mapping, origin)
    return Fit(registration, fit.residuals_px, fit.inliers, fit.left_out_px, tuple(notes))


def _find_lenses(
    views: Sequence[View], pattern: Pattern, square_m: float, visible_size: Size, thermal_size: Size
) -> tuple[tuple[Lens, Lens] | None, str]:
    """Both lenses; or None, and why the views do not tell them."""
    import cv2

    board = [_board(pattern, square_m).astype(np.float32)] * len(views)
    lenses = []
    for camera, size in (("visible", visible_size), ("thermal", thermal_size)):
        corners = [getattr(view, camera).astype(np.float32) for view in views]
        found = cv2.calibrateCameraExtended(board, corners, size, np.eye(3), np.zeros(5), flags=cv2.CALIB_FIX_K3)
        matrix, distortion, deviation = found[1], found[2], found[5].ravel()
        doubt = float(max(deviation[0] / matrix[0, 0], deviation[1] / matrix[1, 1]))
        if not doubt <= FOCAL_KNOWN:
            return None, (
                f"the {camera} focal length is known to {100 * doubt:.0f} % only, wanted {100 * FOCAL_KNOWN:.0f} %; "
                "tilt the board to all sides, and bring it to the corners of the image"
            )
        lenses.append(Lens(np.asarray(matrix, np.float64), np.asarray(distortion, np.float64).ravel()[:4]))
    return (lenses[0], lenses[1]), ""


def _find_stereo(
    views: Sequence[View], pattern: Pattern, square_m: float, lenses: tuple[Lens, Lens], depth_m: float | None
) -> Stereo:
    """How the cameras stand to each other. Works on rays, so it takes lenses of every model."""
    import cv2

    board = [_board(pattern, square_m).astype(np.float32)] * len(views)
    rays = [[lens.to_rays(getattr(view, camera)) for view in views] for lens, camera in _named(lenses)]
    if not all(np.isfinite(of_view).all() for of_camera in rays for of_view in of_camera):
        raise CalibrationError("a corner of the board lies where its lens model sees nothing; check the intrinsics")
    seen, felt = ([of_view.astype(np.float32) for of_view in of_camera] for of_camera in rays)
    unit, none = np.eye(3), np.zeros(4)
    found = cv2.stereoCalibrate(
        board, seen, felt, unit.copy(), none.copy(), unit.copy(), none.copy(), (1, 1), flags=cv2.CALIB_FIX_INTRINSIC
    )
    plane_m = math.inf if depth_m is None else depth_m
    return Stereo(*lenses, np.asarray(found[5], np.float64), np.asarray(found[6], np.float64).ravel(), plane_m)


def _stereo_errors(view: View, mapping: Stereo, pattern: Pattern, square_m: float) -> NDArray[np.float64]:
    """(N,) thermal pixels between the corners and where the board, as the visible camera sees it, would put them."""
    import cv2

    board = _board(pattern, square_m)
    rays = mapping.visible.to_rays(view.visible)
    _, turned, moved = cv2.solvePnP(board, rays, np.eye(3), np.zeros(4))
    in_visible = board @ cv2.Rodrigues(turned)[0].T + moved.ravel()
    in_thermal = in_visible @ mapping.rotation.T + mapping.translation_m
    pixels = mapping.thermal.to_pixels(in_thermal[:, :2] / in_thermal[:, 2:])
    return np.asarray(np.linalg.norm(pixels - view.thermal, axis=1), np.float64)


def _named(lenses: tuple[Lens, Lens]) -> Iterator[tuple[Lens, str]]:
    return zip(lenses, ("visible", "thermal"), strict=True)


def _board(pattern: Pattern, square_m: float) -> NDArray[np.float64]:
    """(N, 3) corners on the board itself, metres."""
    columns, rows = np.meshgrid(np.arange(pattern[0]), np.arange(pattern[1]))
    return np.column_stack([columns.ravel() * square_m, rows.ravel() * square_m, np.zeros(columns.size)])


def _candidates(grey: NDArray[np.uint8], pattern: Pattern) -> Iterator[NDArray[np.float32]]:
    """What the detectors take for the board, the quick one first; both want dark squares on a light ground."""
    import cv2

    local = cv2.createCLAHE(3.0, (8, 8)).apply(grey)  # contrast as of OpenCV's examples
    variants = [grey, 255 - grey, local, 255 - local]
    for variant in variants:
        found, corners = cv2.findChessboardCorners(
            variant, pattern, flags=cv2.CALIB_CB_ADAPTIVE_THRESH | cv2.CALIB_CB_NORMALIZE_IMAGE
        )
        if found:
            yield _refined(grey, corners, pattern)
    thorough = cv2.CALIB_CB_NORMALIZE_IMAGE | cv2.CALIB_CB_EXHAUSTIVE | cv2.CALIB_CB_ACCURACY
    for variant in variants[2:]:  # it takes seconds, and does not do without the local contrast where the other failed
        found, corners = cv2.findChessboardCornersSB(variant, pattern, flags=thorough)
        if found:
            yield np.asarray(corners, np.float32)


def _refined(grey: NDArray[np.uint8], corners: Any, pattern: Pattern) -> NDArray[np.float32]:
    """Corners moved to where the gradients around them meet, within a third of a square."""
    import cv2

    grid = np.asarray(corners, np.float32).reshape(pattern[1], pattern[0], 2)
    square = float(np.median(np.linalg.norm(np.diff(grid, axis=1), axis=2)))
    window = max(2, int(square / 3))
    stop = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 40, 0.001)
    return np.asarray(cv2.cornerSubPix(grey, grid.reshape(-1, 1, 2), (window, window), (-1, -1), stop), np.float32)


def _share_of_corners(grey: NDArray[np.uint8], grid: Grid) -> float:
    """Share of corners whose four squares are light and dark in turn, all with the sense that a board gives them.

    Detectors also find rows of the board's frame, or squares of something else.
    """
    smooth = _blurred(grey, grid)
    right, down = np.gradient(grid, axis=1) / 2, np.gradient(grid, axis=0) / 2
    squares = [smooth(grid + x * right + y * down) for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    sense = (-1.0) ** np.add.outer(np.arange(grid.shape[0]), np.arange(grid.shape[1]))
    steps = [
        sense * turn * (a - b) for a, b, turn in zip(squares, squares[1:] + squares[:1], (1, -1, 1, -1), strict=True)
    ]
    weakest = np.min(steps, axis=0) if np.median(steps) > 0 else np.min([-step for step in steps], axis=0)
    return float((weakest > LEAST_CONTRAST * max(abs(float(np.median(steps))), 1.0)).mean())


def _blurred(grey: NDArray[np.uint8], grid: Grid) -> Any:
    """Reads the image at positions (…, 2), each the mean of a fifth of a square around it."""
    import cv2

    square = float(np.median(np.linalg.norm(np.diff(grid, axis=1), axis=2)))
    side = max(1, round(square / 5))
    image = cv2.blur(grey.astype(np.float32), (side, side))

    def read(positions: Grid) -> NDArray[np.float64]:
        x, y = np.moveaxis(positions.astype(np.float32), -1, 0)
        return np.asarray(cv2.remap(image, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.float64)

    return read


def _upright(grid: Grid) -> Grid:
    """The same corners, not mirrored, and with the one of four beginnings whose rows run to the right."""
    across, along = _directions(grid)
    if across[0] * along[1] - across[1] * along[0] < 0:
        grid = grid[:, ::-1]
        across = -across
    return grid[::-1, ::-1] if across[0] < 0 else grid


def _as_turned(grid: Grid, wanted: Grid) -> Grid:
    """The same corners, with that beginning whose rows run most nearly as those of `wanted`."""
    turns = [grid, grid[::-1, ::-1]]
    if grid.shape[0] == grid.shape[1]:
        turns += [np.rot90(turn) for turn in (grid, grid[::-1, ::-1])]
    direction = _directions(wanted)[0]
    return max(turns, key=lambda turn: float(_directions(turn)[0] @ direction))


def _directions(grid: Grid) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Unit vectors along the rows and along the columns."""
    across, along = np.diff(grid, axis=1).mean(axis=(0, 1)), np.diff(grid, axis=0).mean(axis=(0, 1))
    return across / np.linalg.norm(across), along / np.linalg.norm(along)


def _grey(image: Image) -> NDArray[np.uint8]:
    import cv2

    if image.ndim == 3:
        image = np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))
    if image.dtype != np.uint8:
        low, high = np.percentile(image, [0.5, 99.5])  # dead pixels and hot spots aside
        image = np.clip((image.astype(np.float32) - low) * (255 / max(high - low, 1)), 0, 255)
    return np.asarray(image, np.uint8)


def _enlarge(grey: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    import cv2

    size = (grey.shape[1] * scale, grey.shape[0] * scale)
    return grey if scale == 1 else np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_CUBIC), np.uint8)


def _size(image: Image) -> Size:
    return image.shape[1], image.shape[0]
