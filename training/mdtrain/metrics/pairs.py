"""Average precision on labelled pairs, over all images, those by day and those by night."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mdrun.engine import Engine
from mdrun.errors import EngineError, UsageError
from mdrun.manifest import Manifest
from mdrun.models import resolve
from mdrun.onnx_file import read_manifest
from mdtrain.data.categories import index_of
from mdtrain.data.records import CLASSES, MAX_WIDTH, Record
from mdtrain.metrics.coco import Found, Scores, Truth, average_precision
from mdtrain.metrics.kaist_images import miss_rate_scores


def pair_scores(records: Sequence[Record], found: Sequence[Found], categories: Sequence[str]) -> dict[str, Scores]:
    """Scores over `all` images, by `day` and by `night`; images of unknown time count in `all` only.

    Args:
        records: the labelled pairs.
        found: what was detected in each, in pixels of its visible image.
        categories: names by class index, of both.
    """
    truth = [truth_of(record) for record in records]
    groups = {"all": list(range(len(records)))}
    for condition, night in (("day", False), ("night", True)):
        groups[condition] = [index for index, record in enumerate(records) if record.night is night]
    return {name: average_precision(truth, found, categories, images) for name, images in groups.items()}


def miss_rates_of(
    records: Sequence[Record], found: Sequence[Found], categories: Sequence[str], size: tuple[int, int]
) -> dict[str, float]:
    """KAIST's miss rates in [0, 1] by the names of MISS_RATES.

    None unless every pair has KAIST's truth and persons are one of the categories.

    Args:
        records: the pairs.
        found: what was found in each, boxes in pixels of an image of `size` (width, height).
        categories: names by class index.
        size: of all images.
    """
    truths = [record.kaist for record in records if record.kaist is not None]
    person = index_of("person", categories)
    if not truths or len(truths) < len(records) or person is None:
        return {}
    persons = [(one.boxes_xyxy[mine], one.scores[mine]) for one in found for mine in [one.classes == person]]
    return miss_rate_scores(truths, persons, size)


Alter = Callable[[NDArray[np.uint8], NDArray[np.uint8]], tuple[NDArray[np.uint8], NDArray[np.uint8]]]


def categories_of(path: Path) -> list[str]:
    """What a detector tells apart, by class index: sets that judge it are read with these categories.

    Raises:
        EngineError: the engine cannot be read or is no detector.
    """
    manifest = read_manifest(resolve(path))
    refuse_other_task(manifest, path, "detect")
    return manifest.classes


def run_engine(
    path: Path, records: Sequence[Record], thermal_size: tuple[int, int] | None, alter: Alter | None = None
) -> list[Found]:
    """Detections of an engine, at its manifest's report threshold as `mdrun` would write them.

    Args:
        path: the engine.
        records: the pairs, read with the categories of the engine.
        thermal_size: width and height in pixels of the camera to simulate, by area averaging; None leaves the images.
        alter: changes visible and thermal image of each pair, in turn, before the camera is simulated.

    Raises:
        EngineError: the engine cannot be loaded, is no detector or knows nothing of what is labelled.
        DataError: a pair that the engine does not take.
        UsageError: the camera to simulate is larger than the images.
    """
    with Engine.load(path) as engine:
        refuse_other_task(engine.manifest, path, "detect")
        names = engine.manifest.classes
        if not set(CLASSES) & set(names) and not any(len(record.boxes) for record in records):
            raise EngineError(
                f"{path}: its classes are {', '.join(names)}, of which no pair of the list has a box; "
                "choose an engine trained for this set"
            )
        return [infer_pair(engine, record, thermal_size, alter) for record in records]


def refuse_other_task(manifest: Manifest, path: Path, wanted: str) -> None:
    """Name the command that goes with the engine's task.

    Raises:
        EngineError: it is not the wanted one.
    """
    commands = {"detect": "mdtrain eval boxes", "segment": "mdtrain eval mfnet", "classify": "mdtrain eval classes"}
    task = manifest.task
    if task != wanted:
        way_out = f"`{commands[task]}` judges it" if task in commands else "choose another engine"
        raise EngineError(f"{path}: its task is {task!r}, wanted {wanted!r}; {way_out}")


def seen_by(thermal: NDArray[np.uint8], size: tuple[int, int] | None) -> NDArray[np.uint8]:
    """The thermal image of a camera with `size` (width, height) pixels, by area averaging; None leaves it.

    Raises:
        UsageError: the camera would be larger than the image, as it was read, both ways.
    """
    if size is None:
        return thermal
    height, width = thermal.shape[:2]
    if size[0] > width and size[1] > height:
        raise UsageError(
            f"--thermal-size is {size[0]}x{size[1]}, wanted a camera of at most the {width}x{height} pixels that a "
            f"thermal image is read with (files wider than {MAX_WIDTH} are reduced); leave it out to see all of them"
        )
    return np.asarray(cv2.resize(thermal, size, interpolation=cv2.INTER_AREA), np.uint8)


def infer_pair(
    engine: Engine, record: Record, thermal_size: tuple[int, int] | None, alter: Alter | None = None
) -> Found:
    """Detections of one pair; arguments as `run_engine`."""
    visible, thermal = record.visible, record.thermal
    if alter is not None:
        visible, thermal = alter(visible, thermal)
    return engine.infer(visible, seen_by(thermal, thermal_size))


def truth_of(record: Record) -> Truth:
    """Boxes of a pair in pixels of its visible image."""
    height, width = record.visible.shape[:2]
    size = np.array([width, height, width, height], dtype=np.float32)
    return Truth(record.boxes * size, record.classes)
