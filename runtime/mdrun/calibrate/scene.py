"""Registration of two fixed cameras from what both see: no target, no clicks.

Coarse to fine: the thermal image is laid over the visible one at many sizes and angles, the best few places are
refined on growing images, and the one that explains most of the common edges is kept. Evidence of all pairs is added
up before anything is decided, because one rig has one homography.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from mdrun.calibrate.structure import (
    Evidence,
    Field,
    correlate,
    gather,
    grey_levels,
    orientation,
    scaling,
    seen_from,
    shifted,
    transform,
)
from mdrun.errors import CalibrationError

Matrix = NDArray[np.float64]
Model = Literal["similarity", "affine", "homography"]
Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]

COARSE_WIDTH = 128  # px of the thermal image in the first search; at 80 half of the street scenes are missed
COARSE_PAIRS = 4  # more only cost time there
CANDIDATES = 4  # places of the coarse search that are refined
LEVELS = (160, 320)  # thermal widths of the refinement; finer edges have no partner in the other spectrum
WINDOWS_ACROSS = 5  # a window spans a fifth of the width: smaller ones have too little structure, larger hide parallax
MIN_OVERLAP = 0.35  # share of the smaller image that both cameras must see
SUPPORT_PX = 3.0  # of the last level: windows whose own optimum lies nearer support the result
MIN_SCORE = 0.3  # share of windows that must; chance 0.02 to 0.06
BLOCKS = (3, 2)  # parts of the image (across, down), left out in turn to see how far the result depends on each
MAX_RESIDUAL = 0.02  # of the width: with a larger standard error the parts contradict each other
SIZES = 1.05 ** np.arange(-14, 15)  # thermal field of view over visible: a half to double
NEAR_SIZES = 1.04 ** np.arange(-3, 4)  # around a given start
ANGLES = np.deg2rad([-4.0, 0.0, 4.0])  # cameras are mounted upright
NEAR_SHIFT = 0.12  # of the width: how far a given start may be off


@dataclass(frozen=True)
class SceneAlignment:
    """What the scene says about the two cameras.

    Attributes:
        homography: (3, 3) float64, thermal pixel to visible pixel, for the distance most of the scene lies at.
        residual_px: how far the homography itself may be off, thermal pixels: its standard error, found by leaving out
            parts of the image.
        spread_px: how far single places lie off it, thermal pixels: parallax and lens distortion.
        score: share of the places with structure that fit best where the homography has them, 0 to 1.
        pairs_used: number of pairs.
    """

    homography: Matrix
    residual_px: float
    spread_px: float
    score: float
    pairs_used: int


class _Level(NamedTuple):
    """The pairs on one size of the thermal image: grey levels of both, fields of the thermal ones."""

    visible: list[Field]
    thermal: list[Field]
    to_full: Matrix

    @property
    def size(self) -> tuple[int, int]:
        return self.thermal[0].shape[1], self.thermal[0].shape[0]


def align_scene(pairs: Sequence[Pair], *, initial: Matrix | None = None, model: Model = "homography") -> SceneAlignment:
    """Find the homography that lays thermal images on visible ones.

    Args:
        pairs: visible (H, W, 3) uint8 RGB and thermal (h, w) uint8, all of one size; different scenes help, above all
            if something stands in each part of the image.
        initial: (3, 3) thermal pixel to visible pixel, off by less than a tenth of the image; None: search everywhere.
        model: degrees of freedom; `similarity` where there is little structure.

    Raises:
        CalibrationError: no pairs, unlike sizes, too little common structure, or parts that contradict each other.
    """
    _check(pairs)
    visible = [grey_levels(image) for image, _ in pairs]
    thermal = [grey_levels(image) for _, image in pairs]
    starts = _coarse(visible, thermal, initial)
    levels = [_level(visible, thermal, width) for width in LEVELS if width <= max(thermal[0].shape[1], LEVELS[0])]
    models: list[Model] = ["similarity" if model == "similarity" else "affine", model]
    first = [_refine(levels[0], start, "similarity") for start in starts]
    best = max(first, key=lambda found: found[1])[0]
    for level, used in zip(levels, models[-len(levels) :], strict=True):
        for _ in range(2):  # the second turn sees the whole window: the first moved it
            best, _score = _refine(level, best, used)
    return _judge(levels[-1], best, models[-1], len(pairs))


def _check(pairs: Sequence[Pair]) -> None:
    if not pairs:
        raise CalibrationError("no image pairs; give at least one pair of a scene with edges, better ten")
    shapes = {(v.shape, t.shape) for v, t in pairs}
    if len(shapes) > 1:
        raise CalibrationError(
            f"image pairs have {len(shapes)} different sizes; all must come from one pair of cameras"
        )
    (visible, thermal) = next(iter(shapes))
    if len(visible) != 3 or visible[2] != 3 or len(thermal) != 2 or min(*visible[:2], *thermal) < 32:
        raise CalibrationError(
            f"images are {visible} and {thermal}; wanted RGB (H, W, 3) and thermal (h, w), 32 px or more"
        )


def _level(visible: list[Field], thermal: list[Field], width: int) -> _Level:
    height, full = thermal[0].shape
    size = (width, max(32, round(height * width / full)))
    shrinks = width < full
    way = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    resized = [np.asarray(cv2.resize(t, size, interpolation=way), np.float32) for t in thermal]
    return _Level(visible, [orientation(t) for t in resized], scaling(full / width, height / size[1]))


def _coarse(visible: list[Field], thermal: list[Field], initial: Matrix | None) -> list[Matrix]:
    """The few best places of the whole thermal image in the whole visible one."""
    every = max(1, len(visible) // COARSE_PAIRS)
    level = _level(visible[::every], thermal[::every], COARSE_WIDTH)
    width, height = level.size
    if initial is None:
        rows, columns = visible[0].shape
        fit = max(columns / width, rows / height)
        base = shifted((columns - 1) / 2, (rows - 1) / 2) @ scaling(fit) @ shifted(-(width - 1) / 2, -(height - 1) / 2)
        sizes, margin = SIZES, round(0.75 * width)
    else:
        base, sizes, margin = initial @ level.to_full, NEAR_SIZES, round(NEAR_SHIFT * width)
    found: list[tuple[float, Matrix]] = []
    for size, angle in product(sizes, ANGLES):
        here = base @ _turned(float(size), float(angle), width, height)
        score, x, y = _place(level, here, margin)
        found.append((score, here @ shifted(x, y) @ np.linalg.inv(level.to_full)))
    found.sort(key=lambda entry: -entry[0])
    return [homography for _, homography in found[:CANDIDATES]]


def _turned(size: float, angle: float, width: int, height: int) -> Matrix:
    """Zoom and turn about the middle of the image."""
    x, y = (width - 1) / 2, (height - 1) / 2
    cos, sin = size * np.cos(angle), size * np.sin(angle)
    turn = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    return np.asarray(shifted(x, y) @ turn @ shifted(-x, -y), np.float64)


def _place(level: _Level, homography: Matrix, margin: int) -> tuple[float, float, float]:
    """Best shift (x, y) of the thermal image, and correlation times root of the overlap: chance falls with its area."""
    width, height = level.size
    outer = homography @ shifted(-margin, -margin)
    total: list[Field] = []
    for image, field in zip(level.visible, level.thermal, strict=True):
        seen, mask = seen_from(image, outer, (width + 2 * margin, height + 2 * margin))
        there = orientation(seen) * mask[..., None]
        terms = (
            correlate(there, field),
            _window_sum(np.sum(there * there, axis=-1), width, height),
            correlate(mask, np.sum(field * field, axis=-1)),
            _window_sum(mask, width, height),
        )
        total = [a + b for a, b in zip(total, terms, strict=True)] if total else list(terms)
    product_, of_visible, of_thermal, area = total
    overlap = np.maximum(area, 0) / len(level.visible)
    enough = overlap >= MIN_OVERLAP * min(width * height, float(mask.sum()))
    score = product_ / np.sqrt(np.maximum(of_visible * of_thermal, 1e-6)) * np.sqrt(np.maximum(overlap, 0))
    score = np.where(enough, score, -np.inf)
    y, x = np.unravel_index(int(score.argmax()), score.shape)
    return float(score[y, x]), float(x) - margin, float(y) - margin


def _window_sum(image: Field, width: int, height: int) -> Field:
    """Sum of every window of this size that lies wholly in the image."""
    sums = cv2.integral(image, sdepth=cv2.CV_64F)
    inner = sums[height:, width:] - sums[:-height, width:] - sums[height:, :-width] + sums[:-height, :-width]
    return np.asarray(inner, np.float32)


def _evidence(level: _Level, homography: Matrix, radius: int) -> Evidence:
    """Local evidence around a place, for displacements of up to `radius` pixels of this level."""
    width, height = level.size
    window = min(width // WINDOWS_ACROSS, height)
    outer = homography @ level.to_full @ shifted(-radius, -radius)
    fields: list[Field] = []
    for image in level.visible:
        seen, mask = seen_from(image, outer, (width + 2 * radius, height + 2 * radius))
        fields.append(orientation(seen) * mask[..., None])
    return gather(fields, level.thermal, radius, window)


def _refine(level: _Level, homography: Matrix, model: Model) -> tuple[Matrix, float]:
    """A better place near this one, and its mean agreement."""
    evidence = _evidence(level, homography, min(12, level.size[0] // 20))  # what a coarser stage may be off
    moved = np.eye(3)
    for sigma in (evidence.radius / 4, 1.0):
        moved, score = climb(evidence.smoothed(sigma), level.size, model, moved)
    better = homography @ level.to_full @ moved @ np.linalg.inv(level.to_full)
    return better / better[2, 2], score


def climb(evidence: Evidence, size: tuple[int, int], model: Model, start: Matrix) -> tuple[Matrix, float]:
    """Pattern search (Hooke & Jeeves 1961) over the corners of the image for the best agreement.

    Args:
        evidence: of windows of this image.
        size: (width, height) of the image.
        model: directions in which the corners may move.
        start: (3, 3) homography of the image onto itself.

    Returns:
        The homography, and its mean agreement.
    """
    width, height = size
    corners = np.array([[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]], np.float64)
    moves = _moves(width / height, model)

    def homography_of(at: NDArray[np.float64]) -> Matrix:
        return np.asarray(cv2.getPerspectiveTransform(corners.astype(np.float32), at.astype(np.float32)), np.float64)

    def agreement(at: NDArray[np.float64]) -> float:
        return evidence.agreement(transform(homography_of(at), evidence.centres) - evidence.centres)

    place = transform(start, corners)
    best, step = agreement(place), evidence.radius / 4
    while step > 0.02:
        improved = False
        for move in (*moves, *(-moves)):
            value = agreement(place + step * move)
            if value > best:
                best, place, improved = value, place + step * move, True
        step = step if improved else step / 2
    return homography_of(place), best


def _moves(aspect: float, model: Model) -> NDArray[np.float64]:
    """(N, 4, 2) unit moves of the corners: shifts, zoom, turn; aspect, shear; two keystones."""
    x, y = np.array([-1.0, 1, 1, -1]), np.array([-1.0, -1, 1, 1])
    one, none = np.ones(4), np.zeros(4)
    pairs = [(one, none), (none, one), (x, y / aspect), (-y / aspect, x)]
    if model != "similarity":
        pairs += [(x, -y / aspect), (y / aspect, x)]
    if model == "homography":
        pairs += [(x * y, none), (none, x * y)]
    return np.array([np.stack(pair, axis=1) for pair in pairs])


def _judge(level: _Level, homography: Matrix, model: Model, count: int) -> SceneAlignment:
    """How far the result can be believed.

    Raises:
        CalibrationError: it cannot.
    """
    evidence = _evidence(level, homography, level.size[0] // 8)  # wide: a wrong place must find better ones
    at_rest = np.zeros_like(evidence.centres)
    score = evidence.support(at_rest, SUPPORT_PX)
    if score < MIN_SCORE:
        raise CalibrationError(
            f"{score:.0%} of the places with structure fit the best alignment, wanted {MIN_SCORE:.0%}: the images "
            "share too few edges; add pairs of other scenes in daylight, or give points"
        )
    pixel = float(np.sqrt(abs(np.linalg.det(level.to_full[:2, :2]))))
    residual = _standard_error(evidence, level.size, model)
    if residual > MAX_RESIDUAL * level.size[0]:
        raise CalibrationError(
            f"parts of the image contradict each other by {residual * pixel:.1f} thermal pixels, wanted at most "
            f"{MAX_RESIDUAL * level.size[0] * pixel:.1f}; add pairs of other scenes, or give points"
        )
    distance, clear = evidence.own_optima(at_rest)
    spread = float(np.median(distance[clear])) * pixel
    return SceneAlignment(homography, residual * pixel, spread, score, count)


def _standard_error(evidence: Evidence, size: tuple[int, int], model: Model) -> float:
    """Median standard error over the image by the delete-a-block jackknife (Kuensch 1989), pixels of this level."""
    columns, rows = BLOCKS
    across = (evidence.centres[:, 0] * columns / size[0]).astype(int)
    block = across + columns * (evidence.centres[:, 1] * rows / size[1]).astype(int)
    without = [climb(evidence.part(block != one), size, model, np.eye(3))[0] for one in range(columns * rows)]
    places = np.stack([transform(homography, evidence.centres) for homography in without])
    variance = (len(places) - 1) / len(places) * ((places - places.mean(axis=0)) ** 2).sum(axis=(0, 2))
    return float(np.median(np.sqrt(variance)))
