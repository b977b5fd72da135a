"""Detection: focal and box loss, average precision, on KAIST its miss rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from mdrun.boxes import suppress
from mdrun.errors import DataError
from mdtrain.build import spec_of
from mdtrain.config import Config
from mdtrain.contract import NMS_IOU, TOP_K
from mdtrain.data.augment import Sizes
from mdtrain.data.batches import Batch, evaluation_batches
from mdtrain.data.categories import index_of
from mdtrain.data.records import Record
from mdtrain.losses.attention import ellipse_mask
from mdtrain.losses.detection import detection_loss
from mdtrain.metrics.coco import MAX_DETECTIONS, Found, Truth, average_precision
from mdtrain.metrics.kaist_images import MISS_RATES
from mdtrain.metrics.pairs import miss_rates_of
from mdtrain.models.anchors import decode
from mdtrain.models.detector import Boxes, DetectorSpec
from mdtrain.models.streams import Output
from mdtrain.tasks.base import CONDITIONS, Evaluation, Predict, Task, refuse_infinite


class Detect(Task):
    """Boxes of the categories: persons, bicycles and cars where `data.classes` names no others."""

    name = "detect"
    title = "AP50"

    def __init__(self, config: Config) -> None:
        spec = spec_of(config)
        assert isinstance(spec, DetectorSpec)  # noqa: S101  # of a detection run
        self.rows = tuple(config.categories)
        on_kaist = config.data.validation == ["kaist"]  # persons only
        first = self.rows[index_of("person", self.rows) or 0] if on_kaist else self.rows[0]
        others = MISS_RATES if on_kaist else tuple(f"{name}/ap50" for name in self.rows[1:])
        self.measures = (*(f"{first}{suffix}/ap50" for suffix in CONDITIONS), *others)
        self._named = config.data.classes
        self._size = config.model.visible
        self._stride = spec.maps.fusion_stride
        self._anchors = spec.make_anchors(self._size)

    def select(self, records: Sequence[Record]) -> list[Record]:
        """Some pair has a box; those without any are negatives. Label maps would only cost time."""
        if records and not any(len(record.boxes) for record in records):
            raise DataError(
                f"{records[0].visible_file.path}: neither it nor another of the {len(records)} pairs of its list has a "
                f"box of {', '.join(self.rows)}, which task=detect learns from; leave the set out, or --task segment "
                "where it has label maps"
            )
        return [replace(record, label_map_file=None) for record in records]

    def study(self, records: Sequence[Record]) -> None:
        """Refuse to learn a category of `data.classes` that no pair has a box of.

        Raises:
            DataError: naming it.
        """
        there = {index for record in records for index in record.classes.tolist()}
        if missing := [name for index, name in enumerate(self._named) if index not in there]:
            raise DataError(
                f"no training pair has a box of {missing[0]}, which data.classes names; add pairs with it to the "
                "training list, or leave it out of data.classes"
            )

    def losses(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Focal loss of the classes, Balanced L1 of the boxes."""
        assert isinstance(output, Boxes)  # noqa: S101  # of a detector
        anchors = self._anchors_on(output.logits.device)
        classification, box = detection_loss(
            output.logits.float(), output.deltas.float(), anchors, batch.boxes, batch.classes
        )
        return {"classification": classification, "box": box}

    def foreground(self, batch: Batch) -> Tensor:
        """Boxes as filled ellipses (GAFF 3.1)."""
        width, height = self._size
        return ellipse_mask(batch.boxes, height, width, self._stride).to(batch.visible.device)

    def evaluate(self, predict: Predict, records: Sequence[Record], sizes: Sizes, device: torch.device) -> Evaluation:
        """Score as COCO does, at IoU 0.5; where all pairs are KAIST's, by its miss rate as well."""
        found: list[Found] = []
        truth: list[Truth] = []
        anchors = self._anchors_on(device)
        with torch.inference_mode():
            for batch in evaluation_batches(records, sizes, device):
                output = predict(batch).output
                assert isinstance(output, Boxes)  # noqa: S101
                refuse_infinite(output)
                for logits, deltas in zip(output.logits.float(), output.deltas.float(), strict=True):
                    found.append(_detections(logits.cpu(), decode(deltas, anchors).cpu()))
                truth += [
                    Truth(boxes.cpu().numpy(), classes.cpu().numpy())
                    for boxes, classes in zip(batch.boxes, batch.classes, strict=True)
                ]
        scored = _score(truth, found, self.rows, [record.night for record in records])
        return _add_miss_rates(scored, records, found, self.rows, sizes.visible)

    def _anchors_on(self, device: torch.device) -> Tensor:
        self._anchors = self._anchors.to(device)  # moves once
        return self._anchors


def _score(truth: list[Truth], found: list[Found], categories: Sequence[str], nights: list[bool | None]) -> Evaluation:
    """AP50 of every category, over all pairs, those by day and those by night."""
    scores: dict[str, float] = {}
    display = 0.5
    for suffix, night in CONDITIONS.items():
        chosen = None if night is None else [index for index, value in enumerate(nights) if value is night]
        report = average_precision(truth, found, categories, chosen)["classes"]
        for name, of_class in report.items():
            scores[f"{name}{suffix}/ap50"] = float("nan") if of_class["ap50"] is None else of_class["ap50"]
        best = report[categories[0]]["best_f1"]
        if night is None and best is not None:
            display = best["threshold"]
    return Evaluation(scores, display)


def _add_miss_rates(
    scored: Evaluation,
    records: Sequence[Record],
    found: list[Found],
    categories: Sequence[str],
    size: tuple[int, int],
) -> Evaluation:
    """KAIST's measure, if every pair has its truth; boxes in pixels of an image of `size`."""
    rates = miss_rates_of(records, found, categories, size)
    if not rates or records[0].kaist is None:
        return scored
    return scored._replace(scores=scored.scores | rates, facts={"miss_rate_labels": records[0].kaist.source})


def _detections(logits: Tensor, boxes: Tensor) -> Found:
    """Top-k and NMS of one image."""
    scores, index = logits.flatten().topk(TOP_K)
    classes = (index % logits.shape[1]).numpy()
    chosen = boxes[index // logits.shape[1]].numpy()
    probability = functional.sigmoid(scores).numpy()
    kept = suppress(chosen, probability, classes, NMS_IOU)[:MAX_DETECTIONS]
    return Found(chosen[kept], probability[kept], classes[kept])
