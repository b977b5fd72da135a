"""KAIST's ground truth image by image, as labelled pairs carry it, and the miss rate of a network on such pairs.

Reading the files is left to kaist_files.py and to the reader of the set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mdrun.boxes import Boxes, scale
from mdtrain.metrics.kaist import FIRST_PIXEL, Annotations, PersonDetections, miss_rates

WIDTH, HEIGHT = 640, 512  # of all images, pixels
MISS_RATES = ("miss_rate", "day/miss_rate", "night/miss_rate")  # names of scores: all pairs, by day, by night


@dataclass(frozen=True)
class ImageTruth:
    """All boxes of one image; attributes as those of `Annotations`.

    Attributes:
        name: such as `set06/V000/I00019`.
        boxes_xywh: (G, 4) float64 pixels of the 640x512 image, counted from 1.
        occlusion: (G,) int64.
        ignored: (G,) bool.
        source: file or folder that says so.
    """

    name: str
    boxes_xywh: NDArray[np.float64]
    occlusion: NDArray[np.int64]
    ignored: NDArray[np.bool_]
    source: str


def split(annotations: Annotations, source: str) -> dict[str, ImageTruth]:
    """The truth of each image by its name."""
    truths = {}
    for index, name in enumerate(annotations.image_names):
        chosen = annotations.images == index
        boxes, occlusion = annotations.boxes_xywh[chosen], annotations.occlusion[chosen]
        truths[name] = ImageTruth(name, boxes, occlusion, annotations.ignored[chosen], source)
    return truths


def join(truths: Sequence[ImageTruth]) -> Annotations:
    """One ground truth of at least one image; image ids count from 0."""
    return Annotations(
        image_names=tuple(truth.name for truth in truths),
        image_ids=tuple(range(len(truths))),
        person_category=1,
        images=np.repeat(np.arange(len(truths)), [len(truth.occlusion) for truth in truths]),
        boxes_xywh=np.concatenate([truth.boxes_xywh for truth in truths]),
        occlusion=np.concatenate([truth.occlusion for truth in truths]),
        ignored=np.concatenate([truth.ignored for truth in truths]),
    )


def miss_rate_scores(
    truths: Sequence[ImageTruth], persons: Sequence[tuple[Boxes, NDArray[np.float32]]], size: tuple[int, int]
) -> dict[str, float]:
    """Log-average miss rates of the reasonable subset, as `mdtrain eval kaist` computes them.

    Args:
        truths: of at least one image.
        persons: (D, 4) boxes xyxy and (D,) scores found in each.
        size: width and height in pixels of the image that the boxes are counted in, from 0.

    Returns:
        In [0, 1] by the names of MISS_RATES, lower is better; NaN where nobody of the subset occurs.
    """
    rates = miss_rates(join(truths), _as_detections(persons, size))
    values = (rates[condition] for condition in ("all", "day", "night"))
    return {name: float("nan") if rate is None else rate / 100 for name, rate in zip(MISS_RATES, values, strict=True)}


def _as_detections(persons: Sequence[tuple[Boxes, NDArray[np.float32]]], size: tuple[int, int]) -> PersonDetections:
    """In KAIST's pixels, counted from 1."""
    corners = scale(np.concatenate([boxes for boxes, _ in persons]), size, (WIDTH, HEIGHT)).astype(np.float64)
    boxes_xywh = np.concatenate([corners[:, :2] + FIRST_PIXEL, corners[:, 2:] - corners[:, :2]], axis=1)
    images = np.repeat(np.arange(len(persons)), [len(scores) for _, scores in persons])
    return PersonDetections(images, boxes_xywh, np.concatenate([scores for _, scores in persons]).astype(np.float64))
