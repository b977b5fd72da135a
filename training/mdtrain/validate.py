"""Average precision of a network on labelled pairs."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from mdrun.boxes import suppress
from mdrun.errors import MdrunError
from mdtrain.contract import NMS_IOU, TOP_K
from mdtrain.data.augment import Sizes
from mdtrain.data.batches import Batch, evaluation_batches
from mdtrain.data.records import CLASSES, Record
from mdtrain.metrics.coco import MAX_DETECTIONS, Found, Truth, average_precision
from mdtrain.models.anchors import decode
from mdtrain.models.detector import Prediction


class DivergedError(MdrunError):
    """A network that gives numbers which are not finite."""


class Evaluation(NamedTuple):
    """Accuracy on labelled pairs.

    Attributes:
        ap50: of every class, over all images (`person`), by day (`person/day`) and by night (`person/night`).
        display_score: score threshold of the best F1 of persons.
    """

    ap50: dict[str, float]
    display_score: float


def evaluate(
    predict: Callable[[Batch], Prediction], records: list[Record], sizes: Sizes, anchors: Tensor
) -> Evaluation:
    """Run a network over all records and score it as COCO does.

    Raises:
        DivergedError: the network gives infinity or NaN.
    """
    found: list[Found] = []
    truth: list[Truth] = []
    with torch.inference_mode():
        for batch in evaluation_batches(records, sizes, anchors.device):
            prediction = predict(batch)
            if not (prediction.logits.isfinite().all() and prediction.deltas.isfinite().all()):
                raise DivergedError("the network gives NaN or infinity; lower optimiser.learning_rate and train again")
            for logits, deltas in zip(prediction.logits.float(), prediction.deltas.float(), strict=True):
                found.append(_detections(logits.cpu(), decode(deltas, anchors).cpu()))
            truth += [
                Truth(boxes.cpu().numpy(), classes.cpu().numpy())
                for boxes, classes in zip(batch.boxes, batch.classes, strict=True)
            ]
    by_night = [index for index, record in enumerate(records) if record.night is True]
    by_day = [index for index, record in enumerate(records) if record.night is False]
    reports = {
        suffix: average_precision(truth, found, CLASSES, images)["classes"]
        for suffix, images in (("", None), ("/day", by_day), ("/night", by_night))
    }
    ap50 = {name + suffix: scores["ap50"] for suffix, classes in reports.items() for name, scores in classes.items()}
    best = reports[""][CLASSES[0]]["best_f1"]
    return Evaluation(
        {name: float("nan") if value is None else value for name, value in ap50.items()},
        0.5 if best is None else best["threshold"],
    )


def _detections(logits: Tensor, boxes: Tensor) -> Found:
    """Top-k and NMS of one image."""
    scores, index = logits.flatten().topk(TOP_K)
    classes = (index % logits.shape[1]).numpy()
    chosen = boxes[index // logits.shape[1]].numpy()
    probability = functional.sigmoid(scores).numpy()
    kept = suppress(chosen, probability, classes, NMS_IOU)[:MAX_DETECTIONS]
    return Found(chosen[kept], probability[kept], classes[kept])
