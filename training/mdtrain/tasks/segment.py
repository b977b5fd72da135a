"""Semantic segmentation: cross-entropy with the auxiliary head, class accuracy and IoU in RTFNet's definition."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mdrun.errors import DataError
from mdtrain.build import spec_of
from mdtrain.config import LEAST_BATCH, Config
from mdtrain.data.augment import Sizes
from mdtrain.data.batches import Batch, evaluation_batches
from mdtrain.data.records import LABEL_CLASSES, Record
from mdtrain.losses.segmentation import AUXILIARY_WEIGHT, enet_weights, foreground_share, pixel_cross_entropy
from mdtrain.metrics.energy import energy_threshold
from mdtrain.metrics.segmentation import Matrix, confusion, rtfnet_scores
from mdtrain.models.energy import free_energy
from mdtrain.models.segmenter import Segments, label_map
from mdtrain.models.streams import Output
from mdtrain.tasks.base import CONDITIONS, Evaluation, Predict, Task, refuse_infinite


class Segment(Task):
    """A class for every pixel, MFNet's nine."""

    name = "segment"
    title = "class accuracy"
    measures = (
        "mean/accuracy",
        "mean/day/accuracy",
        "mean/night/accuracy",
        "mean/iou",
        "person/accuracy",
        "car/accuracy",
    )
    rows = ("mean", *LABEL_CLASSES)
    least_batch = LEAST_BATCH

    def __init__(self, config: Config) -> None:
        self._stride = spec_of(config).maps.fusion_stride
        self._weighting = config.optimiser.class_weights
        self._weights: Tensor | None = None

    def select(self, records: Sequence[Record]) -> list[Record]:
        """Every pair has a label map."""
        for record in records:
            if record.label_map_file is None:
                raise DataError(
                    f"{record.visible_file.path}: has no label map, which task=segment learns from; leave its set out "
                    "(--set data.sets=[mfnet], or [] for --street alone), or draw the street again"
                )
        return list(records)

    def study(self, records: Sequence[Record]) -> None:
        """Count the pixels of each class where the loss is weighted by them."""
        if self._weighting == "none":
            return
        pixels = np.zeros(256, np.int64)
        for record in records:
            truth = record.label_map
            assert truth is not None  # noqa: S101  # checked on start
            pixels += np.bincount(truth.ravel(), minlength=256)
        self._weights = enet_weights(torch.from_numpy(pixels[: len(LABEL_CLASSES)]))

    def losses(self, output: Output, batch: Batch) -> dict[str, Tensor]:
        """Cross-entropy of the classifier and, at 0.4, of the auxiliary one."""
        assert isinstance(output, Segments) and batch.label_map is not None  # noqa: S101, PT018  # checked on start
        if self._weights is not None:
            self._weights = self._weights.to(output.logits.device)  # moves once
        losses = {"segmentation": pixel_cross_entropy(output.logits.float(), batch.label_map, self._weights)}
        if output.auxiliary is not None:
            auxiliary = pixel_cross_entropy(output.auxiliary.float(), batch.label_map, self._weights)
            losses["auxiliary"] = AUXILIARY_WEIGHT * auxiliary
        return losses

    def foreground(self, batch: Batch) -> Tensor:
        """Share of each place that belongs to one of the eight classes."""
        assert batch.label_map is not None  # noqa: S101  # checked on start
        return foreground_share(batch.label_map, self._stride)

    def evaluate(self, predict: Predict, records: Sequence[Record], sizes: Sizes, device: torch.device) -> Evaluation:
        """Compare at each label map's own resolution, as an engine's result would be."""
        matrices = {suffix: np.zeros((len(LABEL_CLASSES),) * 2, np.int64) for suffix in CONDITIONS}
        waiting = iter(records)
        energies: list[float] = []
        with torch.inference_mode():
            for batch in evaluation_batches(records, sizes, device):
                output = predict(batch).output
                assert isinstance(output, Segments)  # noqa: S101
                refuse_infinite([output.logits])
                energies += free_energy(output.logits).tolist()
                for found in label_map(output.logits.float(), sizes.visible).cpu().numpy():
                    record = next(waiting)
                    of_pair = _compare(record, found)
                    for suffix, night in CONDITIONS.items():
                        if night is None or record.night is night:
                            matrices[suffix] += of_pair
        scores = {name: v for suffix, matrix in matrices.items() for name, v in _scores(matrix, suffix)}
        return Evaluation(scores, energy_threshold=energy_threshold(energies))


def _compare(record: Record, found: NDArray[np.integer]) -> Matrix:
    truth = record.label_map
    assert truth is not None  # noqa: S101  # checked on start
    size = truth.shape[1], truth.shape[0]
    labels = cv2.resize(found.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST_EXACT)
    return confusion(truth, np.asarray(labels, np.uint8), len(LABEL_CLASSES))


def _scores(matrix: Matrix, suffix: str) -> list[tuple[str, float]]:
    """Named scores of one confusion matrix."""
    found = rtfnet_scores(matrix)
    return [
        (f"mean{suffix}/accuracy", found.mean_accuracy),
        (f"mean{suffix}/iou", found.mean_iou),
        *((f"{name}{suffix}/accuracy", float(v)) for name, v in zip(LABEL_CLASSES, found.accuracy, strict=True)),
        *((f"{name}{suffix}/iou", float(v)) for name, v in zip(LABEL_CLASSES, found.iou, strict=True)),
    ]
