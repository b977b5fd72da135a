"""Reading KAIST annotations and result files.

Annotations: the COCO-style JSON of sejong-rcv/MLPD (`images`, `annotations`, `categories`).
Detections: text lines `image_id,x,y,w,h,score` with `image_id` counted from 1 in the order of the annotation's
images, or a COCO-style JSON list with the annotation's own image ids. All files plain or gzip.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mdrun.errors import DataError
from mdtrain.metrics.files import Entry, json_kind, parse_json, read_text
from mdtrain.metrics.kaist import Annotations, PersonDetections

LINE = "image_id,x,y,w,h,score"

Row = tuple[int, list[float], float]  # image index, x y w h in pixels, score


def read_annotations(path: Path) -> Annotations:
    """Read ground truth.

    Raises:
        SourceError: the file is missing, unreadable or damaged.
        DataError: not the expected JSON, with the entry that is wrong.
    """
    where = f"annotations {path.name}"
    data = Entry(parse_json(read_text(path, "annotations"), where), where)
    images, boxes = data.entries("images"), data.entries("annotations")
    persons = [category.whole("id") for category in data.entries("categories") if category.text("name") == "person"]
    if len(persons) != 1:
        raise DataError(
            f"{where}: got {len(persons)} categories named person, wanted one; is this the annotation file?"
        )
    person = persons[0]
    index = {image.whole("id"): position for position, image in enumerate(images)}
    if not images or len(index) < len(images):
        raise DataError(f"{where}: got {len(images)} images with {len(index)} different ids, wanted one id an image")
    return Annotations(
        image_names=tuple(image.text("im_name") for image in images),
        image_ids=tuple(index),
        person_category=person,
        images=np.array([_position(box, index) for box in boxes], dtype=np.int64),
        boxes_xywh=np.array([_xywh(box) for box in boxes], dtype=np.float64).reshape(-1, 4),
        occlusion=np.array([box.whole("occlusion") for box in boxes], dtype=np.int64),
        # MLPD's file calls every box a person and marks people, person? and cyclist by `ignore`; others use the class.
        ignored=np.array(
            [box.whole("category_id") != person or box.whole("ignore", 0) != 0 for box in boxes], dtype=np.bool_
        ),
    )


def read_detections(path: Path, annotations: Annotations) -> PersonDetections:
    """Read detections of the images that `annotations` lists; an empty file means that none was found.

    Raises:
        SourceError: the file is missing, unreadable or damaged.
        DataError: a malformed line or entry, with its number.
    """
    text = read_text(path, "detections")
    if ".json" in path.suffixes or text.lstrip()[:1] in {"[", "{"}:
        rows = _rows_of_json(text, f"detections {path.name}", annotations)
    else:
        rows = parse_lines(text, f"detections {path.name}", len(annotations.image_names))
    return PersonDetections(
        images=np.array([image for image, _, _ in rows], dtype=np.int64),
        boxes_xywh=np.array([box for _, box, _ in rows], dtype=np.float64).reshape(-1, 4),
        scores=np.array([score for _, _, score in rows], dtype=np.float64),
    )


def parse_lines(text: str, where: str, image_count: int) -> list[Row]:
    """Read result lines, values separated by commas or by white space; empty lines are skipped.

    Args:
        text: the lines.
        where: names their file in errors.
        image_count: image ids run from 1 to this number.

    Returns:
        One row a line; image *indices* from 0.

    Raises:
        DataError: with the number of the line.
    """
    return [
        _row_of_line(line, f"{where}, line {number}", image_count)
        for number, line in enumerate(text.split("\n"), start=1)
        if line.strip()
    ]


def _row_of_line(line: str, where: str, image_count: int) -> Row:
    parts = line.split(",") if "," in line else line.split()
    if len(parts) != 6:
        raise DataError(f"{where}: got {len(parts)} values, wanted 6 as {LINE}")
    try:
        image, *box, score = map(float, parts)
    except ValueError:
        raise DataError(f"{where}: got {line.strip()[:60]!r}, wanted six numbers as {LINE}") from None
    if not all(map(math.isfinite, (image, *box, score))):
        raise DataError(f"{where}: got NaN or infinity, wanted finite numbers")
    _check_size(box, where)
    if not (image.is_integer() and 1 <= image <= image_count):
        raise DataError(
            f"{where}: image_id is {parts[0].strip()}, wanted 1 to {image_count}; "
            "ids count the annotation's images from 1 in their order"
        )
    return int(image) - 1, box, score


def _rows_of_json(text: str, where: str, annotations: Annotations) -> list[Row]:
    data = parse_json(text, where)
    if not isinstance(data, list):
        raise DataError(f"{where}: got a JSON {json_kind(data)}, wanted a list of {{image_id, bbox, score}}")
    index = {image_id: position for position, image_id in enumerate(annotations.image_ids)}
    rows: list[Row] = []
    for number, item in enumerate(data):
        entry = Entry(item, f"{where}[{number}]")
        if entry.whole("category_id", annotations.person_category) != annotations.person_category:
            entry.refuse("category_id", f"{annotations.person_category} (person); leave other classes out of the file")
        rows.append((_position(entry, index), _xywh(entry), entry.number("score")))
    return rows


def _position(entry: Entry, index: Mapping[int, int]) -> int:
    """Index of the image an entry belongs to."""
    image_id = entry.whole("image_id")
    if image_id not in index:
        entry.refuse("image_id", f"an id of the annotation's {len(index)} images")
    return index[image_id]


def _xywh(entry: Entry) -> list[float]:
    box = entry.four("bbox", "x, y, w, h")
    _check_size(box, entry.where)
    return box


def _check_size(box: Sequence[float], where: str) -> None:
    if box[2] < 0 or box[3] < 0:
        raise DataError(f"{where}: the box is {box[2]:g} x {box[3]:g}, wanted x, y, width, height, not two corners")
