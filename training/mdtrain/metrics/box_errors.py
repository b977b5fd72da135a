"""What became of the boxes of each pair at one score threshold a class: found, missed, false alarm.

Matching is COCO's at IoU 0.5 (see coco.py): best score first, each detection takes the free object of its class that
it overlaps most. So the sums over a set are those that its best F1 was computed from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mdrun.boxes import Boxes, iou_matrix
from mdtrain.metrics.coco import Found, Scores, Truth

MATCH_IOU = 0.5


def no_boxes() -> Boxes:
    """(0, 4)."""
    return np.zeros((0, 4), np.float32)


@dataclass(frozen=True)
class PairErrors:
    """The boxes of one pair.

    Attributes:
        truth: what is there, G boxes.
        found: the D detections that reach the threshold of their class, best first.
        missed: (G,) whether no detection matches the object.
        hits: (D,) whether the detection matches an object; the others are false alarms.
        left_out: (R, 4) boxes that count neither way: regions to ignore, and detections that fall on them.
    """

    truth: Truth
    found: Found
    missed: NDArray[np.bool_]
    hits: NDArray[np.bool_]
    left_out: Boxes = field(default_factory=no_boxes)

    @property
    def errors(self) -> int:
        """Misses and false alarms together."""
        return int(self.missed.sum() + (~self.hits).sum())

    def counts(self, kind: int | None = None) -> tuple[int, int, int]:
        """Objects, misses and false alarms of one class, by its index; None takes all classes."""
        objects: NDArray[np.bool_] = np.ones(len(self.missed), bool) if kind is None else self.truth.classes == kind
        found: NDArray[np.bool_] = np.ones(len(self.hits), bool) if kind is None else self.found.classes == kind
        return int(objects.sum()), int((self.missed & objects).sum()), int((~self.hits & found).sum())


def class_thresholds(scores: Scores, fixed: float | None, otherwise: float) -> list[float]:
    """Lowest score that counts, by class index.

    Args:
        scores: of the evaluation, whose best F1 gives the thresholds.
        fixed: one threshold for all classes instead; None takes those of the evaluation.
        otherwise: for classes without a best F1: nothing of them is in the truth, or nothing was found.
    """
    if fixed is not None:
        return [fixed] * len(scores["classes"])
    best = [of_class["best_f1"] for of_class in scores["classes"].values()]
    return [otherwise if entry is None else entry["threshold"] for entry in best]


def find_errors(truth: Truth, found: Found, thresholds: Sequence[float]) -> PairErrors:
    """Match the detections of one pair with its truth.

    Args:
        truth: what is there.
        found: detections in any order, pixels of the same image.
        thresholds: lowest score that counts, by class index.
    """
    kept = np.flatnonzero(found.scores >= np.array(thresholds, np.float32)[found.classes])
    order = kept[np.argsort(-found.scores[kept], kind="stable")]
    best_first = Found(found.boxes_xyxy[order], found.scores[order], found.classes[order])
    overlaps = iou_matrix(best_first.boxes_xyxy, truth.boxes_xyxy)
    overlaps[best_first.classes[:, None] != truth.classes[None, :]] = 0
    free = np.ones(len(truth.classes), bool)
    hits = np.zeros(len(order), bool)
    for index, row in enumerate(overlaps):
        candidates = np.where(free, row, 0)
        if candidates.size and candidates.max() >= MATCH_IOU:
            free[candidates.argmax()] = False
            hits[index] = True
    return PairErrors(truth, best_first, free, hits)


def most_errors_first(pairs: Sequence[PairErrors]) -> list[int]:
    """Indices of the pairs in order of rank; equal ones keep their order."""
    return sorted(range(len(pairs)), key=lambda index: -pairs[index].errors)
