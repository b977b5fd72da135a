"""Label maps of an engine against labelled pairs: a confusion matrix over all pairs, by day and by night."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mdrun.engine import Engine
from mdrun.errors import DataError, EngineError
from mdrun.segment import resize_labels
from mdtrain.data.records import LABEL_CLASSES, Record
from mdtrain.metrics.pairs import Alter, refuse_other_task, seen_by
from mdtrain.metrics.segmentation import (
    ClassScores,
    Matrix,
    confusion,
    mfnet_overall_accuracy,
    mfnet_scores,
    present_scores,
    rtfnet_scores,
)

UNLABELLED = 0
GROUPS: dict[str, bool | None] = {"all": None, "day": False, "night": True}


@dataclass
class Group:
    """Pairs that are scored together.

    Attributes:
        pairs: their number.
        matrix: (C, C) pixels, rows truth, columns predicted, summed over the pairs.
    """

    pairs: int = 0
    matrix: Matrix = field(default_factory=lambda: np.zeros((len(LABEL_CLASSES),) * 2, np.int64))


def check_label_maps(records: Sequence[Record], where: Path) -> None:
    """Refuse a street of an earlier version, which has boxes only.

    Raises:
        DataError: a record has no label map.
    """
    if any(record.label_map_file is None for record in records):
        raise DataError(f"{where}: has no label_maps/, which this version draws; run `mdtrain street` again")


class Judged(NamedTuple):
    """One pair beside what an engine says about it; maps (H, W) at the size of the truth.

    Attributes:
        truth: index into LABEL_CLASSES, or IGNORE_LABEL.
        predicted: index into LABEL_CLASSES.
        matrix: their confusion matrix.
    """

    truth: NDArray[np.uint8]
    predicted: NDArray[np.uint8]
    matrix: Matrix


def judge_labels(
    path: Path, records: Sequence[Record], thermal_size: tuple[int, int] | None, alter: Alter | None = None
) -> Iterator[Judged]:
    """Run an engine over pairs, one by one.

    Classes are matched by name; what the engine calls otherwise counts as unlabelled.

    Args:
        path: the engine.
        records: the pairs, each with a label map.
        thermal_size: width and height in pixels of the camera to simulate, by area averaging; None leaves the images.
        alter: changes visible and thermal image of each pair, in turn, before the camera is simulated.

    Raises:
        EngineError: the engine cannot be loaded, gives no label maps or knows none of the classes.
        DataError: a pair without a label map, or one that the engine does not take.
    """
    with Engine.load(path) as engine:
        refuse_other_task(engine.manifest, path, "segment")
        to_set = _class_table(engine.manifest.classes, path)
        for record in records:
            truth, visible, thermal = record.label_map, record.visible, record.thermal
            if truth is None:
                raise DataError(f"{record.name}: has no label map, wanted a class for every pixel; draw the set again")
            if alter is not None:
                visible, thermal = alter(visible, thermal)
            found = engine.segment(visible, seen_by(thermal, thermal_size)).label_map
            predicted = to_set[resize_labels(found, (truth.shape[1], truth.shape[0]))]
            yield Judged(truth, predicted, confusion(truth, predicted, len(LABEL_CLASSES)))


def _class_table(names: Sequence[str], path: Path) -> NDArray[np.uint8]:
    """(N,) index into LABEL_CLASSES of each of the engine's classes."""
    if not set(LABEL_CLASSES[1:]) & set(names):
        raise EngineError(
            f"{path}: its classes are {', '.join(names)}, wanted some of {', '.join(LABEL_CLASSES[1:])}; "
            "choose an engine trained for this set"
        )
    return np.array([LABEL_CLASSES.index(n) if n in LABEL_CLASSES else UNLABELLED for n in names], np.uint8)


def group_pairs(records: Sequence[Record], matrices: Sequence[Matrix]) -> dict[str, Group]:
    """Pairs of `all`, by `day` and by `night`; pairs of unknown time count in `all` only."""
    groups = {name: Group() for name in GROUPS}
    for record, matrix in zip(records, matrices, strict=True):
        for name, night in GROUPS.items():
            if night is None or record.night is night:
                groups[name].pairs += 1
                groups[name].matrix += matrix
    return groups


def group_json(group: Group) -> dict[str, Any]:
    """All numbers of a group as plain values in [0, 1]; None where a definition has none."""
    rtfnet, mfnet = rtfnet_scores(group.matrix), mfnet_scores(group.matrix)
    pixels = group.matrix.sum(1).tolist()
    return {
        "pairs": group.pairs,
        **_means(rtfnet),
        "classes": {
            name: {
                "pixels": pixels[index],
                "accuracy": _plain(rtfnet.accuracy[index]),
                "iou": _plain(rtfnet.iou[index]),
            }
            for index, name in enumerate(LABEL_CLASSES)
        },
        "present_classes": _means(present_scores(group.matrix)),
        "mfnet": {
            "overall_accuracy": _plain(mfnet_overall_accuracy(group.matrix)),
            **_means(mfnet),
            "classes": {
                name: {"accuracy": _plain(mfnet.accuracy[index]), "iou": _plain(mfnet.iou[index])}
                for index, name in enumerate(LABEL_CLASSES)
            },
        },
        "confusion": group.matrix.tolist(),
    }


def _means(scores: ClassScores) -> dict[str, float | None]:
    return {"mean_accuracy": _plain(scores.mean_accuracy), "mean_iou": _plain(scores.mean_iou)}


def _plain(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
