"""KAIST log-average miss rate, as the published numbers were computed.

Covers: subsets, ignore regions, matching, the average over nine false-positive rates.
Does not cover: reading files (see kaist_files.py).

The rules are those of the MATLAB wrapper in Li-Chengyang/MSDS-RCNN (kaist_eval_full.m, bbGt.m), which the papers cite.
Boxes are x, y, w, h in pixels of the 640x512 image, counted from 1 as the published result files are: subtracting
that pixel moves GAFF from 6.48 to 7.34.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from mdrun.boxes import iou_matrix
from mdrun.errors import DataError

MIN_OVERLAP = 0.5
BORDER_XYXY = (5.0, 5.0, 635.0, 507.0)  # kaist_eval_full.m, xRng and yRng: a person beyond is an ignore region
FPPI_POINTS = 10.0 ** np.arange(-2.0, 0.25, 0.25)  # exact powers: rounded ones shift the day score by up to 0.03
FIRST_PIXEL = 1.0  # what boxes counted from 0 lack in x and y
MIN_MISS = 1e-10  # bbGt.m: keeps the logarithm finite
DAY_SETS = frozenset({0, 1, 2, 6, 7, 8})  # campus, road, downtown of training and test; 3-5 and 9-11 are night

FALSE_POSITIVE, TRUE_POSITIVE, LEFT_OUT = 0, 1, -1


@dataclass(frozen=True)
class Subset:
    """Which persons count; all others are ignore regions.

    Attributes:
        height_px: lowest and highest box height, both included.
        occlusion: occlusion levels that count: 0 none, 1 partial, 2 heavy.
    """

    height_px: tuple[float, float]
    occlusion: tuple[int, ...]


# kaist_eval_full.m, table `exps`. Texts that say 50 px for "reasonable" still print what 55 px gives.
SUBSETS = {
    "reasonable": Subset((55, np.inf), (0, 1)),
    "near": Subset((115, np.inf), (0,)),
    "medium": Subset((45, 115), (0,)),
    "far": Subset((1, 45), (0,)),
    "occlusion-none": Subset((1, np.inf), (0,)),
    "occlusion-partial": Subset((1, np.inf), (1,)),
    "occlusion-heavy": Subset((1, np.inf), (2,)),
}


@dataclass(frozen=True)
class Annotations:
    """Ground truth of a list of images.

    Attributes:
        image_names: (I,) names such as `set06/V000/I00019`; the set number tells day from night.
        image_ids: (I,) ids that COCO-style files use for these images.
        person_category: category id of persons in COCO-style files.
        images: (G,) int64, index of the image each box lies in.
        boxes_xywh: (G, 4) float64 pixels.
        occlusion: (G,) int64, 0 none, 1 partial, 2 heavy.
        ignored: (G,) bool, boxes that never count: `people`, `person?`, `cyclist`.
    """

    image_names: tuple[str, ...]
    image_ids: tuple[int, ...]
    person_category: int
    images: NDArray[np.int64]
    boxes_xywh: NDArray[np.float64]
    occlusion: NDArray[np.int64]
    ignored: NDArray[np.bool_]

    @cached_property
    def is_day(self) -> NDArray[np.bool_]:
        """(I,) whether each image was taken by day.

        Raises:
            DataError: if a name does not start with its set number.
        """
        return np.array([_is_day(name) for name in self.image_names], dtype=np.bool_)


@dataclass(frozen=True)
class PersonDetections:
    """Detected persons of all images.

    Attributes:
        images: (D,) int64, index into `Annotations.image_names`.
        boxes_xywh: (D, 4) float64 pixels.
        scores: (D,) float64, any scale; higher is surer.
    """

    images: NDArray[np.int64]
    boxes_xywh: NDArray[np.float64]
    scores: NDArray[np.float64]

    def best_first(self) -> PersonDetections:
        """The same detections by image, within an image by falling score; ties keep their order."""
        order = np.lexsort((-self.scores, self.images))
        return PersonDetections(self.images[order], self.boxes_xywh[order], self.scores[order])


def miss_rates(
    annotations: Annotations, detections: PersonDetections, subset: Subset = SUBSETS["reasonable"]
) -> dict[str, float | None]:
    """Log-average miss rate in percent over all images, those by day and those by night.

    Returns:
        `all`, `day`, `night`; None where no person of the subset occurs.

    Raises:
        DataError: if an image name does not tell day from night.
    """
    ignore = ignore_regions(annotations, subset)
    detections = detections.best_first()
    outcomes = match(annotations, detections, ignore)
    day = annotations.is_day
    conditions = {"all": np.ones_like(day), "day": day, "night": ~day}
    rates: dict[str, float | None] = {}
    for name, chosen in conditions.items():
        persons = int(np.count_nonzero(chosen[annotations.images] & ~ignore))
        counted = chosen[detections.images] & (outcomes != LEFT_OUT)
        fppi, recall = _curve(outcomes[counted], detections.scores[counted], int(chosen.sum()), persons)
        rates[name] = 100.0 * log_average_miss_rate(fppi, recall) if persons else None
    return rates


def plain_miss_rate(
    truth_xyxy: Sequence[NDArray[np.float32]], found: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]]
) -> float | None:
    """Log-average miss rate on images of any set: every box counts, nothing is left out.

    Args:
        truth_xyxy: (G, 4) boxes of each image.
        found: (D, 4) boxes and (D,) scores of each image.

    Returns:
        Miss rate in [1e-10, 1]; None where there is nothing to find.
    """
    outcomes: list[NDArray[np.int8]] = []
    for truth, (boxes, scores) in zip(truth_xyxy, found, strict=True):
        overlap = iou_matrix(boxes[np.argsort(-scores, kind="stable")], truth)
        outcomes.append(match_image(overlap.astype(np.float64), np.zeros(len(truth), np.bool_)))
    best_first = [-np.sort(-scores.astype(np.float64)) for _, scores in found]
    persons = sum(map(len, truth_xyxy))
    of_all = np.concatenate(outcomes or [np.empty(0, np.int8)])
    of_scores = np.concatenate(best_first or [np.empty(0)])
    return log_average_miss_rate(*_curve(of_all, of_scores, len(truth_xyxy), persons)) if persons else None


def ignore_regions(annotations: Annotations, subset: Subset) -> NDArray[np.bool_]:
    """(G,) which boxes are ignore regions: other classes and persons outside the subset or at the image border."""
    x, y, width, height = annotations.boxes_xywh.T
    left, top, right, bottom = BORDER_XYXY
    inside = (x >= left) & (y >= top) & (x + width <= right) & (y + height <= bottom)
    lowest, highest = subset.height_px
    wanted = (height >= lowest) & (height <= highest) & np.isin(annotations.occlusion, subset.occlusion)
    counted: NDArray[np.bool_] = inside & wanted & ~annotations.ignored
    return ~counted


def match(annotations: Annotations, detections: PersonDetections, ignore: NDArray[np.bool_]) -> NDArray[np.int8]:
    """Judge every detection.

    Args:
        annotations: ground truth.
        detections: as `best_first` returns them.
        ignore: (G,) which boxes are ignore regions.

    Returns:
        (D,) TRUE_POSITIVE, FALSE_POSITIVE or LEFT_OUT (on an ignore region only).
    """
    outcomes = np.zeros(len(detections.scores), dtype=np.int8)
    by_image = np.argsort(annotations.images, kind="stable")
    every_image = np.arange(len(annotations.image_names) + 1)
    truth_at = np.searchsorted(annotations.images[by_image], every_image)
    found_at = np.searchsorted(detections.images, every_image)
    for image in np.unique(detections.images):
        truth = by_image[truth_at[image] : truth_at[image + 1]]
        found = slice(found_at[image], found_at[image + 1])
        region = ignore[truth]
        overlap = overlaps(detections.boxes_xywh[found], annotations.boxes_xywh[truth], region)
        outcomes[found] = match_image(overlap, region)
    return outcomes


def overlaps(
    found_xywh: NDArray[np.float64], truth_xywh: NDArray[np.float64], ignore: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """(D, G) IoU with countable boxes; with ignore regions intersection over the *detection's* area."""
    found, truth = found_xywh[:, None], truth_xywh[None]
    low = np.maximum(found[..., :2], truth[..., :2])
    high = np.minimum(found[..., :2] + found[..., 2:], truth[..., :2] + truth[..., 2:])
    intersection = np.maximum(high - low, 0.0).prod(axis=-1)
    area = found[..., 2:].prod(axis=-1)
    union = area + truth[..., 2:].prod(axis=-1) - intersection
    whole = np.where(ignore, area, union)
    shared: NDArray[np.float64] = np.divide(intersection, whole, out=np.zeros_like(intersection), where=whole > 0)
    return shared


def match_image(overlap: NDArray[np.float64], ignore: NDArray[np.bool_]) -> NDArray[np.int8]:
    """Judge the detections of one image, best first.

    Each takes the free countable box it overlaps most (of equals the last); one that gets none may fall on an ignore
    region, which takes any number.

    Args:
        overlap: (D, G) from `overlaps`.
        ignore: (G,) which boxes are ignore regions.

    Returns:
        (D,) outcomes.
    """
    on_region = (overlap[:, ignore] >= MIN_OVERLAP).any(axis=1)
    outcomes = np.where(on_region, LEFT_OUT, FALSE_POSITIVE).astype(np.int8)
    outcomes[partners(overlap, ignore) >= 0] = TRUE_POSITIVE
    return outcomes


def partners(overlap: NDArray[np.float64], ignore: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(D,) index of the box that each detection of one image takes, -1 for none; arguments as `match_image`."""
    good = overlap >= MIN_OVERLAP
    taken = np.full(len(overlap), -1, np.int64)
    free = ~ignore
    for index in np.flatnonzero(good[:, ~ignore].any(axis=1)):
        candidates = np.where(free & good[index], overlap[index], 0.0)
        last_best = len(candidates) - 1 - int(np.argmax(candidates[::-1]))
        if candidates[last_best] > 0:
            free[last_best] = False
            taken[index] = last_best
    return taken


def log_average_miss_rate(fppi: NDArray[np.float64], recall: NDArray[np.float64]) -> float:
    """Geometric mean miss rate at nine false-positive rates from 1e-2 to 1e0.

    At each rate the last point of the curve at or below it counts, without interpolation; recall 0 if there is none.

    Args:
        fppi: (D,) false positives per image, non-decreasing, one entry per detection.
        recall: (D,) recall at the same detections, in [0, 1].

    Returns:
        Miss rate in [1e-10, 1].
    """
    points = np.searchsorted(fppi, FPPI_POINTS, side="right")
    reached = np.concatenate([[0.0], recall])[points]
    return float(np.exp(np.log(np.maximum(1.0 - reached, MIN_MISS)).mean()))


def _curve(
    outcomes: NDArray[np.int8], scores: NDArray[np.float64], images: int, persons: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """False positives per image and recall after each detection, best first."""
    hits = outcomes[np.argsort(-scores, kind="stable")] == TRUE_POSITIVE
    return np.cumsum(~hits) / max(images, 1), np.cumsum(hits) / max(persons, 1)


def _is_day(name: str) -> bool:
    found = re.match(r"set(0\d|1[01])/", name)
    if found is None:
        raise DataError(f"annotations: image name {name!r}, wanted set00/ to set11/ in front to tell day from night")
    return int(found[1]) in DAY_SETS
