"""What became of the persons of each KAIST image, by the rules of the miss rate (see kaist.py).

Boxes are moved by the pixel from which KAIST's files count, to where an image has them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mdrun.boxes import Boxes
from mdtrain.metrics.box_errors import PairErrors
from mdtrain.metrics.coco import Found, Truth, best_f1
from mdtrain.metrics.kaist import (
    FIRST_PIXEL,
    LEFT_OUT,
    TRUE_POSITIVE,
    Annotations,
    PersonDetections,
    Subset,
    ignore_regions,
    match,
    match_image,
    overlaps,
    partners,
)


def best_threshold(annotations: Annotations, detections: PersonDetections, subset: Subset) -> float | None:
    """Score with the highest F1 over all images; None where no person of the subset occurs, or none was found."""
    ignore = ignore_regions(annotations, subset)
    detections = detections.best_first()
    outcomes = match(annotations, detections, ignore)
    counted = outcomes != LEFT_OUT
    persons = int(np.count_nonzero(~ignore))
    best = best_f1(detections.scores[counted], outcomes[counted] == TRUE_POSITIVE, persons) if persons else None
    return None if best is None else best["threshold"]


def person_errors(
    annotations: Annotations, detections: PersonDetections, subset: Subset, threshold: float
) -> list[PairErrors]:
    """The boxes of every image, in the order of the annotations.

    Args:
        annotations: ground truth.
        detections: in any order.
        subset: which persons count; the others are regions to ignore.
        threshold: lowest score that counts.
    """
    ignore = ignore_regions(annotations, subset)
    detections = detections.best_first()
    scored = detections.scores >= threshold
    pairs = []
    for image in range(len(annotations.image_names)):
        of_truth, of_found = annotations.images == image, scored & (detections.images == image)
        truth, region = annotations.boxes_xywh[of_truth], ignore[of_truth]
        found, scores = detections.boxes_xywh[of_found], detections.scores[of_found]
        overlap = overlaps(found, truth, region)
        outcomes, taken = match_image(overlap, region), partners(overlap, region)
        missed, counted = ~region, outcomes != LEFT_OUT
        missed[taken[taken >= 0]] = False
        persons = Truth(_corners(truth[~region]), np.zeros(int((~region).sum()), np.int64))
        judged = Found(
            _corners(found[counted]), scores[counted].astype(np.float32), np.zeros(int(counted.sum()), np.int64)
        )
        left_out = _corners(np.concatenate([truth[region], found[~counted]]))
        hits = outcomes[counted] == TRUE_POSITIVE
        pairs.append(PairErrors(persons, judged, missed[~region], hits, left_out))
    return pairs


def _corners(boxes_xywh: NDArray[np.float64]) -> Boxes:
    """Pixels counted from 0."""
    x, y, width, height = (boxes_xywh - (FIRST_PIXEL, FIRST_PIXEL, 0, 0)).T
    return np.stack([x, y, x + width, y + height], axis=1).astype(np.float32)
