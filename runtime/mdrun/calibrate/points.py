"""A registration from point pairs: the same thing, seen in both images, picked by hand."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from mdrun.errors import CalibrationError
from mdrun.problems import find_problems, in_one_line
from mdrun.registration import Origin, Registration
from mdrun.registration.file import Side, to_dict
from mdrun.registration.geometry import Matrix, Points, Size, as_homography, as_points, corners, transform
from mdrun.strict import Strict

COLUMNS = ("visible_x", "visible_y", "thermal_x", "thermal_y")
LEAST_PAIRS = 3
# A click is good to about a pixel of a 160-pixel thermal image; three times that is a wrong pair.
OUTLIER_SHARE = 3 / 160
# Points whose spread across is below this share of their spread along lie on a line, as far as clicks can tell.
LEAST_SPREAD = 0.03
TURNS = 32  # pairs are left out one by one up to here, evenly spread groups of them beyond: all corners of a board
CLEARLY = 0.9  # the root mean square of a dozen errors is itself known to a fifth at best


@dataclass(frozen=True, eq=False)
class Fit:
    """A registration, and how well it fits what it was made from.

    Attributes:
        registration: with median and 95th percentile of the error in its origin: that of `left_out_px` where there is
            any, else of `residuals_px`.
        residuals_px: (N,) pixels of the thermal image between where a pair is and where the registration puts it.
        inliers: (N,) bool, pairs that agree with each other; only they were fitted.
        left_out_px: (N,) the same error of each pair under a fit to the other inliers; NaN for outliers and where too
            few are left. With few pairs residuals are small whatever the truth is (of four they are 0); this is not.
        notes: what the user should know, in words.
    """

    registration: Registration
    residuals_px: NDArray[np.float64]
    inliers: NDArray[np.bool_]
    left_out_px: NDArray[np.float64]
    notes: tuple[str, ...] = ()


def fit_homography(
    visible_points: Any,
    thermal_points: Any,
    visible_size: Size,
    thermal_size: Size,
    *,
    ransac: bool = True,
    depth_m: float | None = None,
) -> Fit:
    """Fit a homography to point pairs; an affine map to three, and where leaving one out shows that it fits better.

    Args:
        visible_points: (N, 2) pixels of the visible image, N at least 3, better 8 and all over the image.
        thermal_points: (N, 2) pixels of the thermal image, in the same order.
        visible_size: (width, height) of the visible image.
        thermal_size: (width, height) of the thermal image.
        ransac: find and leave out pairs that do not fit the others; only with 6 or more.
        depth_m: distance of the points, where they are all at one.

    Raises:
        CalibrationError: too few points, points on a line, or points that no pair of cameras sees so.
        ValueError: shapes that do not belong together.
    """
    visible, thermal = as_points(visible_points), as_points(thermal_points)
    if len(visible) != len(thermal):
        raise ValueError(f"{len(visible)} visible and {len(thermal)} thermal points, wanted pairs")
    _check(visible, thermal)
    limit_px = OUTLIER_SHARE * thermal_size[0]
    inliers = _agreeing(visible, thermal, limit_px) if ransac and len(visible) >= 6 else np.ones(len(visible), bool)
    _check(visible[inliers], thermal[inliers])
    model, to_thermal, left_out = _fit(visible[inliers], thermal[inliers], visible_size, thermal_size)
    residuals = np.linalg.norm(transform(to_thermal, visible) - thermal, axis=1)
    errors = np.full(len(visible), np.nan)
    errors[inliers] = left_out
    median, p95 = summarise(errors if np.isfinite(errors).any() else residuals[inliers])
    origin = Origin(f"points ({model})", now(), int(inliers.sum()), median, p95)
    registration = Registration.from_homography(
        np.linalg.inv(to_thermal), visible_size, thermal_size, depth_m=depth_m, origin=origin
    )
    return Fit(registration, residuals, inliers, errors, _notes(inliers, errors, limit_px))


def read_points(path: Path) -> tuple[Points, Points]:
    """(N, 2) visible and (N, 2) thermal points of a CSV file with the columns of COLUMNS.

    Raises:
        CalibrationError: no such file, or one line with every problem and its line.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [(number, [cell.strip() for cell in row]) for number, row in enumerate(csv.reader(file), 1) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CalibrationError(f"{path}: cannot be read as CSV: {error}") from error
    if not rows or tuple(rows[0][1]) != COLUMNS:
        got = ",".join(rows[0][1])[:80] if rows else "nothing"
        raise CalibrationError(f"{path} (line 1): {got}, wanted the columns {','.join(COLUMNS)}")
    values = [_numbers(row) for _, row in rows[1:]]
    wrong = [f"line {number}" for (number, _), value in zip(rows[1:], values, strict=True) if value is None]
    if wrong:
        raise CalibrationError(f"{path}: {', '.join(wrong)}: wanted four finite numbers each")
    table = np.array(values, np.float64).reshape(-1, 4)
    return table[:, :2], table[:, 2:]


class PointsRequest(Strict):
    """What the web page sends: sizes, and one row of four numbers a pair, as in the CSV file."""

    visible_size: tuple[Side, Side]
    thermal_size: tuple[Side, Side]
    pairs: list[tuple[float, float, float, float]] = Field(max_length=1000)
    depth_m: float | None = Field(None, gt=0, allow_inf_nan=False)


def fit_json(request: Any) -> tuple[Fit, dict[str, Any]]:
    """Fit what the web page sent; the fit, and its answer as plain JSON data.

    Raises:
        CalibrationError: not such a request, or points that cannot be fitted.
    """
    try:
        asked = PointsRequest.model_validate(request)
    except ValidationError as error:
        raise CalibrationError(in_one_line(find_problems(PointsRequest, error))) from error
    table = np.array(asked.pairs, np.float64).reshape(-1, 4)
    fit = fit_homography(table[:, :2], table[:, 2:], asked.visible_size, asked.thermal_size, depth_m=asked.depth_m)
    return fit, to_json(fit)


def to_json(fit: Fit) -> dict[str, Any]:
    """A fit as plain JSON data; errors that are unknown are None."""
    return {
        "registration": fit.registration.describe(),
        "calibration": to_dict(fit.registration),
        "residuals_px": _finite(fit.residuals_px),
        "left_out_px": _finite(fit.left_out_px),
        "inliers": fit.inliers.tolist(),
        "notes": list(fit.notes),
    }


def summarise(errors: NDArray[np.float64]) -> tuple[float, float]:
    """Median and 95th percentile of what is not NaN."""
    median, p95 = np.nanpercentile(errors, [50, 95])
    return float(median), float(p95)


def now() -> str:
    """ISO 8601 in UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _affine(visible: Points, thermal: Points) -> Matrix:
    """Least squares of (3, 3) with the last row 0 0 1."""
    design = np.column_stack([visible, np.ones(len(visible))])
    solution = np.linalg.lstsq(design, thermal, rcond=None)[0]
    return np.vstack([solution.T, [0.0, 0.0, 1.0]])


def _homography(visible: Points, thermal: Points) -> Matrix:
    """Least squares of the error in thermal pixels."""
    import cv2

    matrix = cv2.findHomography(visible, thermal, 0)[0]
    return np.asarray(np.full((3, 3), np.nan) if matrix is None else matrix, np.float64)


MODELS: dict[str, Callable[[Points, Points], Matrix]] = {"affine": _affine, "homography": _homography}
NEEDED = {"affine": 3, "homography": 4}


def _fit(
    visible: Points, thermal: Points, visible_size: Size, thermal_size: Size
) -> tuple[str, Matrix, NDArray[np.float64]]:
    """Name of the model, the map to thermal pixels and its left-out errors."""
    model, left_out = _choose(visible, thermal)
    try:
        return model, _upright(MODELS[model](visible, thermal), visible_size, thermal_size), left_out
    except CalibrationError:
        if model == "affine":
            raise
    # A homography of few noisy points may bend the rest of the image over its horizon; an affine map has none.
    to_thermal = _upright(MODELS["affine"](visible, thermal), visible_size, thermal_size)
    return "affine", to_thermal, _left_out("affine", visible, thermal)


def _choose(visible: Points, thermal: Points) -> tuple[str, NDArray[np.float64]]:
    """Name of the model and its left-out errors; a homography of 5 and more pairs only where it is clearly better.

    Two cameras side by side differ by almost an affine map, whose six parameters bear more noise than eight.
    """
    if len(visible) <= 4:
        return ("affine" if len(visible) == 3 else "homography"), _left_out("affine", visible, thermal)
    errors = {model: _left_out(model, visible, thermal) for model in MODELS}
    sizes = {model: float(np.linalg.norm(np.nan_to_num(values, nan=np.inf))) for model, values in errors.items()}
    model = "homography" if sizes["homography"] < CLEARLY * sizes["affine"] else "affine"
    return model, errors[model]


def _left_out(model: str, visible: Points, thermal: Points) -> NDArray[np.float64]:
    """(N,) error of every pair under a fit to the others, of many pairs a few at a time; NaN where too few are left."""
    count = len(visible)
    errors = np.full(count, np.nan)
    for turn in range(min(count, TURNS) if count > NEEDED[model] else 0):
        out = np.arange(count) % TURNS == turn
        if _across(visible[~out]) < LEAST_SPREAD:
            continue
        matrix = MODELS[model](visible[~out], thermal[~out])
        mapped = transform(matrix * np.sign(matrix[2, 2]), visible[out])
        errors[out] = np.linalg.norm(mapped - thermal[out], axis=1)
    return errors


def _agreeing(visible: Points, thermal: Points, limit_px: float) -> NDArray[np.bool_]:
    """(N,) which pairs one homography brings closer together than the limit."""
    import cv2

    cv2.setRNGSeed(0)  # the same points give the same answer
    matrix, mask = cv2.findHomography(visible, thermal, cv2.RANSAC, limit_px, maxIters=2000, confidence=0.999)
    if matrix is None or mask.sum() <= len(visible) / 2:
        raise CalibrationError(
            f"fewer than half of the {len(visible)} point pairs fit one homography within {limit_px:.1f} thermal "
            "pixels; check that both lists have the same order, and pick points at one distance"
        )
    return np.asarray(mask.ravel() > 0, np.bool_)


def _check(visible: Points, thermal: Points) -> None:
    """Refuse points that no map can be fitted to."""
    if len(visible) < LEAST_PAIRS:
        raise CalibrationError(
            f"{len(visible)} point pairs, wanted at least {LEAST_PAIRS}, better 8 all over the image"
        )
    for camera, points in (("visible", visible), ("thermal", thermal)):
        if not np.isfinite(points).all():
            raise CalibrationError(f"a {camera} point is not finite")
        if _across(points) < LEAST_SPREAD:
            raise CalibrationError(f"the {camera} points lie on a line; pick some beside it, all over the image")
        if len(points) == 4 and min(_across(np.delete(points, index, 0)) for index in range(4)) < LEAST_SPREAD:
            raise CalibrationError(f"three of the four {camera} points lie on a line; move one, or pick a fifth")


def _across(points: Points) -> float:
    """Spread of points across the line that fits them best, as a share of their spread along it."""
    along, across = np.linalg.svd(points - points.mean(axis=0), compute_uv=False)[:2]
    return float(across / along) if along > 0 else 0.0


def _upright(matrix: Matrix, visible_size: Size, thermal_size: Size) -> Matrix:
    """The same map, refused where it turns the image over: at every corner x to y must keep its sense of rotation."""
    to_thermal = as_homography(matrix, visible_size)
    as_homography(np.linalg.inv(to_thermal), thermal_size)
    for corner in corners(visible_size):
        around = transform(to_thermal, corner + np.array([[0, 0], [1, 0], [0, 1]]))
        right, down = around[1] - around[0], around[2] - around[0]
        if not right[0] * down[1] - right[1] * down[0] > 0:
            raise CalibrationError(
                "the points turn the image over or fold it, no pair of cameras does; check their order, and that "
                "x is to the right and y down"
            )
    return to_thermal


def _notes(inliers: NDArray[np.bool_], errors: NDArray[np.float64], limit_px: float) -> tuple[str, ...]:
    notes = []
    if not inliers.all():
        left = ", ".join(str(index + 1) for index in np.flatnonzero(~inliers))
        notes.append(f"left out, more than {limit_px:.1f} px off: pair {left}")
    if not np.isfinite(errors).any():
        notes.append("three pairs fit any affine map, so the error is unknown; a fourth would tell")
    elif len(errors) == 4:
        notes.append("four pairs fit any homography; the error is that of an affine map to three of them")
    return tuple(notes)


def _numbers(row: list[str]) -> list[float] | None:
    try:
        values = [float(cell) for cell in row]
    except ValueError:
        return None
    return values if len(values) == len(COLUMNS) and np.isfinite(values).all() else None


def _finite(values: NDArray[np.float64]) -> list[float | None]:
    return [round(float(value), 3) if np.isfinite(value) else None for value in values]
