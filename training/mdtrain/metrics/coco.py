"""COCO average precision of boxes, by pycocotools, without its prints and files.

Covers: AP at IoU 0.5 and over 0.5 to 0.95, per class and mean, and the score threshold of the best F1.
Does not cover: size ranges and crowd boxes; all boxes of the truth count, at most 100 detections an image and class.

Lin et al., Microsoft COCO: Common Objects in Context, ECCV 2014; the measure: cocodataset.org/#detection-eval.
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from mdrun.frames import Detections

if TYPE_CHECKING:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

MAX_DETECTIONS = 100  # COCO's largest limit, per image and class
WHOLE_RANGE = [0.0, 1e10]  # box areas in square pixels that count: all

Found = Detections  # what a detector found in one image: boxes_xyxy, scores, classes; any order


@dataclass(frozen=True)
class Truth:
    """Ground truth of one image.

    Attributes:
        boxes_xyxy: (N, 4) float32 pixels.
        classes: (N,) int64, index into the class names.
    """

    boxes_xyxy: NDArray[np.float32]
    classes: NDArray[np.int64]

    def __post_init__(self) -> None:
        """Refuse shapes that do not belong together."""
        if self.classes.ndim != 1 or self.boxes_xyxy.shape != (len(self.classes), 4):
            raise ValueError(
                f"truth wants boxes (N, 4) and classes (N,); got {self.boxes_xyxy.shape} and {self.classes.shape}"
            )


class BestF1(TypedDict):
    """The score threshold with the highest F1 at IoU 0.5, and what it gives."""

    threshold: float
    f1: float
    precision: float
    recall: float


class ClassScores(TypedDict):
    """Scores of one class, in [0, 1]; None where the truth has no such object (`best_f1`: or nothing was found)."""

    objects: int
    ap50: float | None
    ap: float | None
    best_f1: BestF1 | None


class Scores(TypedDict):
    """Scores of one set of images; `ap50` and `ap` are means over the classes that occur in the truth."""

    images: int
    ap50: float | None
    ap: float | None
    classes: dict[str, ClassScores]


def average_precision(
    truth: Sequence[Truth],
    detections: Sequence[Found],
    class_names: Sequence[str],
    images: Iterable[int] | None = None,
) -> Scores:
    """Average precision of detections; images without objects count as negatives.

    Args:
        truth: one entry an image.
        detections: one entry an image, same order.
        class_names: names by class index.
        images: indices of the images to evaluate, for example those by night; None takes all.

    Raises:
        ValueError: lengths differ, a class has no name, a value is not finite.
    """
    chosen = list(range(len(truth)) if images is None else images)
    _check(truth, detections, len(class_names))
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        evaluation = _evaluate([truth[i] for i in chosen], [detections[i] for i in chosen], class_names)
    classes = {name: _class_scores(evaluation, index, len(chosen)) for index, name in enumerate(class_names)}
    return {
        "images": len(chosen),
        "ap50": _mean([scores["ap50"] for scores in classes.values()]),
        "ap": _mean([scores["ap"] for scores in classes.values()]),
        "classes": classes,
    }


def _check(truth: Sequence[Truth], detections: Sequence[Found], class_count: int) -> None:
    if len(truth) != len(detections):
        raise ValueError(f"got truth of {len(truth)} images and detections of {len(detections)}, wanted as many")
    for index, (wanted, found) in enumerate(zip(truth, detections, strict=True)):
        classes = np.concatenate([wanted.classes, found.classes])
        if classes.size and not (classes.min() >= 0 and classes.max() < class_count):
            raise ValueError(f"image {index}: classes {np.unique(classes)}, wanted 0 to {class_count - 1}")
        if not all(np.isfinite(v).all() for v in (wanted.boxes_xyxy, found.boxes_xyxy, found.scores)):
            raise ValueError(f"image {index}: NaN or infinity in boxes or scores, wanted finite numbers")


def _evaluate(truth: Sequence[Truth], detections: Sequence[Found], class_names: Sequence[str]) -> COCOeval:
    """The evaluated and accumulated COCOeval."""
    from pycocotools.cocoeval import COCOeval  # noqa: PLC0415  # only evaluations need it

    evaluation = COCOeval(
        _coco([(t.boxes_xyxy, t.classes, np.ones(len(t.classes))) for t in truth], class_names),
        _coco([(d.boxes_xyxy, d.classes, d.scores) for d in detections], class_names),
        iouType="bbox",
    )
    evaluation.params.areaRng, evaluation.params.areaRngLbl = [WHOLE_RANGE], ["all"]
    evaluation.params.maxDets = [MAX_DETECTIONS]
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation


def _coco(images: Iterable[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]], class_names: Sequence[str]) -> COCO:
    """A COCO index of boxes, classes and scores by image. Ids count from 1: the matcher takes id 0 for "no match"."""
    from pycocotools.coco import COCO  # noqa: PLC0415  # only evaluations need it

    entries: list[dict[str, Any]] = []
    count = 0
    for boxes, classes, scores in images:
        count += 1
        for (x1, y1, x2, y2), label, score in zip(boxes.tolist(), classes.tolist(), scores.tolist(), strict=True):
            width, height = x2 - x1, y2 - y1
            entries.append(
                {
                    "id": len(entries) + 1,
                    "image_id": count,
                    "category_id": label + 1,
                    "bbox": [x1, y1, width, height],
                    "area": width * height,
                    "score": score,
                    "iscrowd": 0,
                }
            )
    index = COCO()
    index.dataset = {
        "images": [{"id": image} for image in range(1, count + 1)],
        "annotations": entries,
        "categories": [{"id": label, "name": name} for label, name in enumerate(class_names, start=1)],
    }
    index.createIndex()
    return index


def _class_scores(evaluation: COCOeval, index: int, image_count: int) -> ClassScores:
    per_image = [e for e in evaluation.evalImgs[index * image_count : (index + 1) * image_count] if e is not None]
    objects = sum(len(e["gtIds"]) for e in per_image)
    if not objects:
        return {"objects": 0, "ap50": None, "ap": None, "best_f1": None}
    precision = evaluation.eval["precision"][:, :, index, 0, 0]  # IoU thresholds x recall points
    scores = np.concatenate([e["dtScores"] for e in per_image])
    hits = np.concatenate([e["dtMatches"][0] > 0 for e in per_image])
    return {
        "objects": objects,
        "ap50": float(precision[0].mean()),
        "ap": float(precision.mean()),
        "best_f1": best_f1(scores, hits, objects),
    }


def best_f1(scores: NDArray[np.float64], hits: NDArray[np.bool_], objects: int) -> BestF1 | None:
    """Highest F1 over all thresholds "score at least"; of equals the highest threshold.

    Args:
        scores: (D,) detection scores.
        hits: (D,) whether each found an object.
        objects: number of objects, more than 0.

    Returns:
        None without detections.
    """
    if not len(scores):
        return None
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    found = np.cumsum(hits[order])
    kept = np.arange(1, len(scores) + 1)
    f1 = 2.0 * found / (kept + objects)
    f1[:-1][ordered[:-1] == ordered[1:]] = -1.0  # a threshold keeps all detections of its score
    best = int(np.argmax(f1))
    return {
        "threshold": float(ordered[best]),
        "f1": float(f1[best]),
        "precision": float(found[best] / kept[best]),
        "recall": float(found[best] / objects),
    }


def _mean(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return float(np.mean(present)) if present else None
