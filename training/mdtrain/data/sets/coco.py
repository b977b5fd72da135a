"""Your own pairs: two folders of images and one COCO file of boxes a split.

Layout: `visible/NAME`, `thermal/NAME` (the same stem; another ending is fine), `SPLIT.json` with `images`
(`id`, `file_name`, `width`, `height`; `night` 1 or 0 where known), `annotations` (`image_id`, `category_id`, `bbox`
x y w h in pixels of the visible image) and `categories` (`id`, `name`). Other categories and crowds are left out.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np

from mdrun.errors import DataError
from mdtrain.data.records import CLASSES, Record, make_record
from mdtrain.data.sets.lists import no_list
from mdtrain.metrics.files import Entry, parse_json, read_text

ALIASES = {"people": "person", "pedestrian": "person", "bike": "bicycle", "cyclist": "bicycle"}


def read_coco(root: Path, split: str) -> list[Record]:
    """Pairs of a split, in the order of the file.

    Raises:
        SourceError: the file is missing.
        DataError: not such a file, naming the entry that is wrong.
    """
    path = root / f"{split}.json"
    if not path.is_file():
        layout = "the layout of own pairs is visible/, thermal/, train.json, val.json"
        raise no_list(f"{path}: no such file", layout, sorted(file.stem for file in root.glob("*.json")))
    where = str(path)
    data = Entry(parse_json(read_text(path, "annotations"), where), where)
    known = {}
    for category in data.entries("categories"):
        name = category.text("name").lower()
        if ALIASES.get(name, name) in CLASSES:
            known[category.whole("id")] = CLASSES.index(ALIASES.get(name, name))
    if not known:
        raise DataError(f"{where}: none of its categories is learnt, wanted some of {', '.join(CLASSES)}")
    boxes: dict[int, list[tuple[int, list[float]]]] = defaultdict(list)
    for entry in data.entries("annotations"):
        label = known.get(entry.whole("category_id"))
        if label is not None and not entry.whole("iscrowd", 0):
            boxes[entry.whole("image_id")].append((label, entry.four("bbox", "x y w h")))
    thermal = {file.stem: file for file in sorted((root / "thermal").glob("*"))}
    return [_record(root, image, boxes[image.whole("id")], thermal) for image in data.entries("images")]


def _record(root: Path, image: Entry, rows: list[tuple[int, list[float]]], thermal: dict[str, Path]) -> Record:
    file = root / "visible" / image.text("file_name")
    partner = thermal.get(file.stem, root / "thermal" / file.name)  # a missing one is found before the first iteration
    size = np.array([image.whole("width"), image.whole("height")] * 2)
    table = np.array([box for _, box in rows], np.float64).reshape(-1, 4)
    table[:, 2:] += table[:, :2]
    night = {0: False, 1: True}.get(image.whole("night", -1))
    labels = np.array([label for label, _ in rows], np.int64)
    return make_record(file.stem, (file, partner), table / size, labels, night=night)
