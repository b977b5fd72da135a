"""Accuracy of one class a pair: over all pairs, and as the mean over the classes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mdrun.engine import Engine
from mdrun.errors import EngineError
from mdtrain.data.records import Record
from mdtrain.metrics.pairs import refuse_other_task, seen_by
from mdtrain.metrics.segmentation import class_accuracy, confusion, present_scores

NONE = -1  # index of a pair that the engine puts into no class


def class_scores(truth: Sequence[int], found: Sequence[int], classes: Sequence[str]) -> dict[str, float]:
    """Accuracies in [0, 1]: `mean` over the classes that occur, `overall` over all pairs, then each class's recall.

    NaN where there is nothing to count. A pair of which nothing was found is wrong.

    Args:
        truth: class index of each pair.
        found: the same from a network, or NONE.
        classes: names in the order of the index.
    """
    count = len(classes)
    found = [count if index == NONE else index for index in found]
    matrix = confusion(np.array(truth, np.int64), np.array(found, np.int64), count + 1)  # the last column: none
    recall = class_accuracy(matrix)[:count]
    overall = float(np.diag(matrix).sum() / matrix.sum()) if matrix.any() else float("nan")
    named = dict(zip(classes, recall.tolist(), strict=True))
    return {"mean": present_scores(matrix).mean_accuracy, "overall": overall, **named}


class Judged(NamedTuple):
    """What an engine says about pairs.

    Attributes:
        found: class index of each pair in the order of the engine's classes, or NONE.
        energies: of each pair; empty for engines without.
        within: share of the pairs whose energy lies below the manifest's threshold for the engine's precision; None
            without one.
    """

    found: list[int]
    energies: list[float]
    within: float | None


def judge_classes(path: Path, records: Sequence[Record], thermal_size: tuple[int, int] | None) -> Judged:
    """Run an engine over pairs.

    Args:
        path: the engine.
        records: the pairs.
        thermal_size: width and height in pixels of the camera to simulate, by area averaging; None leaves the images.

    Raises:
        EngineError: the engine cannot be loaded, has another task, or does not know the class of a pair.
        DataError: a pair that the engine does not take.
    """
    found: list[int] = []
    energies: list[float] = []
    with Engine.load(path) as engine:
        refuse_other_task(engine.manifest, path, "classify")
        names = engine.manifest.classes
        if strange := [record.class_name for record in records if record.class_name not in names]:
            raise EngineError(
                f"{path}: its classes are {', '.join(names)}, and a pair is of {strange[0]}; "
                "choose another engine or set"
            )
        for record in records:
            of_pair = engine.classify(record.visible, seen_by(record.thermal, thermal_size))
            found.append(int(of_pair.classes[0]) if len(of_pair) else NONE)
            if of_pair.energy is not None:
                energies.append(of_pair.energy)
        limit = engine.manifest.energy_threshold
    within = float(np.mean(np.array(energies) <= limit)) if energies and limit is not None else None
    return Judged(found, energies, within)
