"""Accuracy of label maps from confusion matrices, in the three definitions that tables of MFNet's set mix up.

- RTFNet (Sun et al., RA-L 2019, yuxiangsun/RTFNet `util/util.py`), which nearly all later tables use and which leads
  here: Acc is recall, IoU is over the whole matrix including unlabelled, the mean over all classes; a class that does
  not occur counts as 0 in it.
- Present classes: the same numbers, the mean over those classes only that occur in the truth.
- MFNet (Ha et al., IROS 2017, haqishen/MFNet-pytorch): its "class accuracy" is precision; IoU without the row and the
  column of unlabelled, 0 for unlabelled itself, the mean still over all; overall accuracy without unlabelled truth.

Every group of pairs (all, day, night) has one matrix summed over its pixels, so scores by day and by night need not lie
on both sides of the score of all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

IGNORED = 255  # as IGNORE_LABEL of the records

Matrix = NDArray[np.int64]
Values = NDArray[np.float64]


def confusion(truth: NDArray[np.integer], predicted: NDArray[np.integer], classes: int) -> Matrix:
    """Pixels by class: rows are the truth, columns what was predicted.

    Args:
        truth: (H, W) class indices; pixels of 255 do not count.
        predicted: (H, W) class indices.
        classes: their number.

    Returns:
        (classes, classes) counts.

    Raises:
        ValueError: two sizes, or an index that is no class.
    """
    if truth.shape != predicted.shape:
        raise ValueError(f"truth is {truth.shape}, prediction {predicted.shape}; wanted label maps of one size")
    counted = truth != IGNORED
    rows, columns = truth[counted].astype(np.int64), predicted[counted].astype(np.int64)
    for name, values in (("truth", rows), ("prediction", columns)):
        if values.size and not (values.min() >= 0 and values.max() < classes):
            raise ValueError(f"{name} holds {values.min()} to {values.max()}, wanted 0 to {classes - 1}")
    counts: Matrix = np.bincount(rows * classes + columns, minlength=classes**2).astype(np.int64)
    return counts.reshape(classes, classes)


def class_accuracy(matrix: Matrix) -> Values:
    """Recall, TP / (TP + FN), of each class (C,); NaN where it does not occur in the truth."""
    return _ratio(np.diag(matrix), matrix.sum(1))


def class_precision(matrix: Matrix) -> Values:
    """Precision, TP / (TP + FP), of each class (C,); NaN where it is never predicted."""
    return _ratio(np.diag(matrix), matrix.sum(0))


def class_iou(matrix: Matrix) -> Values:
    """TP / (TP + FP + FN) of each class (C,); NaN where it neither occurs nor is predicted."""
    return _ratio(np.diag(matrix), matrix.sum(1) + matrix.sum(0) - np.diag(matrix))


@dataclass(frozen=True)
class ClassScores:
    """One definition's numbers in [0, 1].

    Attributes:
        accuracy: (C,) what the definition calls the accuracy of a class; NaN where it has none.
        iou: (C,) the same for its IoU.
        mean_accuracy: over classes, as the definition does it; NaN without any pixel.
        mean_iou: likewise.
    """

    accuracy: Values
    iou: Values
    mean_accuracy: float
    mean_iou: float


def rtfnet_scores(matrix: Matrix) -> ClassScores:
    """RTFNet's definition: recall and IoU over the whole matrix, NaN as 0 in the means."""
    accuracy, iou = class_accuracy(matrix), class_iou(matrix)
    return ClassScores(accuracy, iou, *(_mean(np.nan_to_num(values), matrix) for values in (accuracy, iou)))


def present_scores(matrix: Matrix) -> ClassScores:
    """The same, means over the classes that occur in the truth."""
    accuracy, iou = class_accuracy(matrix), class_iou(matrix)
    present = matrix.sum(1) > 0
    return ClassScores(accuracy, iou, *(_mean(values[present], matrix) for values in (accuracy, iou)))


def mfnet_scores(matrix: Matrix) -> ClassScores:
    """MFNet's own code: precision, and IoU of the matrix without unlabelled; both 0 for a class never predicted."""
    precision, iou = np.nan_to_num(class_precision(matrix)), np.zeros(len(matrix))
    iou[1:] = np.nan_to_num(class_iou(matrix[1:, 1:]))
    return ClassScores(precision, iou, *(_mean(values, matrix) for values in (precision, iou)))


def mfnet_overall_accuracy(matrix: Matrix) -> float:
    """Share of the labelled pixels, truth other than unlabelled, that are right; NaN where there are none."""
    labelled = matrix[1:].sum()
    return float(np.diag(matrix)[1:].sum() / labelled) if labelled else float("nan")


def _mean(values: Values, matrix: Matrix) -> float:
    """Mean over classes; NaN where nothing was counted: a set without night pairs has no score by night, not 0."""
    return float(values.mean()) if matrix.any() else float("nan")


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> Values:
    """Part / whole, NaN where the whole is 0."""
    ratio: Values = np.full(np.shape(whole), np.nan)
    np.divide(part, whole, out=ratio, where=np.asarray(whole) > 0)
    return ratio
