"""Reading the result lines of `mdrun` (JSONL, schema version 1) as detections to evaluate."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mdrun.errors import DataError
from mdtrain.metrics.coco import Found
from mdtrain.metrics.files import Entry, parse_json, read_text

SCHEMA_VERSION = 1


def read_results(path: Path, image_names: Sequence[str], class_names: Sequence[str]) -> list[Found]:
    """Detections of the named images, in their order.

    Images are matched by file name without its ending. Lines of other images and detections of other classes are
    left out: a run may cover more than the set that is evaluated.

    Args:
        path: a results.jsonl, plain or gzip.
        image_names: names without ending.
        class_names: names by class index; upper or lower case.

    Raises:
        SourceError: the file is missing, unreadable or damaged.
        DataError: a malformed line, two lines for one image, or images without a line.
    """
    wanted = set(image_names)
    found: dict[str, tuple[int, Found]] = {}
    for number, line in enumerate(read_text(path, "results").split("\n"), start=1):
        if not line.strip():
            continue
        where = f"results {path.name}, line {number}"
        entry = Entry(parse_json(line, where), where)
        if (version := entry.whole("schema_version")) != SCHEMA_VERSION:
            raise DataError(f"{where}: schema_version is {version}, wanted {SCHEMA_VERSION}; run mdrun again")
        name = Path(entry.entry("visible").text("name")).stem
        if name in found:
            raise DataError(
                f"{where}: second result for {name}, the first is line {found[name][0]}; wanted one an image: "
                "run mdrun once over the folder, without a loop"
            )
        if name in wanted:
            found[name] = (number, _detections(entry, class_names))
    if missing := [name for name in image_names if name not in found]:
        raise DataError(
            f"results {path.name}: no line for {len(missing)} of {len(image_names)} images ({', '.join(missing[:3])}"
            f"{', …' if len(missing) > 3 else ''}); run mdrun over all images of the set"
        )
    return [found[name][1] for name in image_names]


def _detections(entry: Entry, class_names: Sequence[str]) -> Found:
    index = {name.lower(): position for position, name in enumerate(class_names)}
    rows = [
        (index[item.text("class").lower()], item.number("score"), item.four("box_xyxy", "x1, y1, x2, y2"))
        for item in entry.entries("detections")
        if item.text("class").lower() in index
    ]
    return Found(
        boxes_xyxy=np.array([box for _, _, box in rows], dtype=np.float32).reshape(-1, 4),
        scores=np.array([score for _, score, _ in rows], dtype=np.float32),
        classes=np.array([label for label, _, _ in rows], dtype=np.int64),
    )
