"""KAIST multispectral pedestrians, 640x512: persons only.

Layout: `images/set00/V000/{visible,lwir}/I00001.jpg`, `imageSets/LIST.txt` with lines `set00/V000/I00001`, and one
folder of annotations in the text format of the KAIST toolbox (header `% bbGt version=3`, lines `label x y w h occlusion
…` in pixels):

- `annotations/set00/V000/I00001.txt`: original, or sanitized (Li et al., BMVC 2018) in `annotations_sanitized/`;
- `annotations_paired/set00/V000/{visible,lwir}/I00001.txt`: one file a sensor (Zhang et al., AR-CNN, ICCV 2019); the
  visible one is used, since results are boxes of the visible image.

`person` is learnt. `people`, `person?` and `cyclist` are left out, as are persons of at most 12 pixels (as MLPD does).
The miss rate knows all boxes: those of `KAIST_annotation.json[.gz]` (the improved test annotations, Liu et al., BMVC
2016) where this file is there and has every frame of the list, else those of the labels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mdrun.errors import DataError, SourceError
from mdtrain.data.records import Record, make_record
from mdtrain.data.sets.lists import no_list, text_lists
from mdtrain.metrics.files import read_text
from mdtrain.metrics.kaist_files import read_annotations
from mdtrain.metrics.kaist_images import HEIGHT, WIDTH, ImageTruth, split

KaistLabels = Literal["original", "sanitized", "paired"]
FOLDERS: dict[KaistLabels, str] = {
    "original": "annotations",
    "sanitized": "annotations_sanitized",
    "paired": "annotations_paired",
}
LEAST_HEIGHT = 12.0  # pixels
SETS = {f"set{number:02d}" for number in range(12)}
DAY_SETS = {"set00", "set01", "set02", "set06", "set07", "set08"}
HEADER = "% bbGt version=3"
ANNOTATION_FILES = ("KAIST_annotation.json", "KAIST_annotation.json.gz")  # as sejong-rcv/MLPD ships it


class Label(NamedTuple):
    """One line of a file of labels.

    Attributes:
        name: `person`, `people`, `person?` or `cyclist`.
        box_xywh: pixels.
        occlusion: 0 none, 1 partial, 2 heavy.
    """

    name: str
    box_xywh: tuple[float, float, float, float]
    occlusion: int


def read_kaist(root: Path, split: str, labels: KaistLabels = "sanitized") -> list[Record]:
    """Frames of `imageSets/SPLIT.txt`.

    Raises:
        SourceError: the list or a file of labels is missing.
        DataError: a malformed line.
    """
    listing = root / "imageSets" / f"{split}.txt"
    if not listing.is_file():
        layout = f"the KAIST layout is images/, imageSets/, {FOLDERS[labels]}/"
        raise no_list(f"{listing}: no such list of frames", layout, text_lists(listing.parent))
    records = []
    for line in read_text(listing, "list of frames").split():
        frame = line.removesuffix(".txt").removesuffix(".jpg")
        parts = frame.split("/")
        if len(parts) != 3 or parts[0] not in SETS:
            raise DataError(f"{listing}: got the line {line!r}, wanted set00/V000/I00001, of sets 00 to 11")
        video, name = root / "images" / parts[0] / parts[1], f"{parts[2]}.jpg"
        text = (
            root / FOLDERS[labels] / parts[0] / parts[1] / ("visible" if labels == "paired" else "") / f"{parts[2]}.txt"
        )
        found = read_bbgt(text)
        boxes = learnt_boxes(found)
        files = video / "visible" / name, video / "lwir" / name
        classes = np.zeros(len(boxes), np.int64)
        record = make_record("_".join(parts), files, boxes, classes, night=parts[0] not in DAY_SETS)
        records.append(replace(record, kaist=_truth(frame, found, FOLDERS[labels])))
    return _judged_as_published(records, root)


def _truth(frame: str, labels: Sequence[Label], source: str) -> ImageTruth:
    return ImageTruth(
        frame,
        np.array([label.box_xywh for label in labels], np.float64).reshape(-1, 4),
        np.array([label.occlusion for label in labels], np.int64),
        np.array([label.name != "person" for label in labels], np.bool_),
        source,
    )


def _judged_as_published(records: list[Record], root: Path) -> list[Record]:
    """Judge by the file of the published numbers, if it is there and has every frame."""
    path = next((path for name in ANNOTATION_FILES if (path := root / name).is_file()), None)
    if path is None:
        return records
    truths = split(read_annotations(path), path.name)
    names = [record.kaist.name for record in records if record.kaist is not None]
    if not truths.keys() >= set(names):
        return records
    return [replace(record, kaist=truths[name]) for record, name in zip(records, names, strict=True)]


def learnt_boxes(labels: Sequence[Label]) -> NDArray[np.float64]:
    """Boxes (G, 4) xyxy of the persons that are learnt, in fractions of 640x512."""
    persons = [label.box_xywh for label in labels if label.name == "person" and label.box_xywh[3] > LEAST_HEIGHT]
    boxes = [(x, y, x + width, y + height) for x, y, width, height in persons]
    unit: NDArray[np.float64] = np.array(boxes, np.float64).reshape(-1, 4) / np.array([WIDTH, HEIGHT] * 2)
    return unit


def read_bbgt(path: Path) -> list[Label]:
    """All boxes of one frame.

    Raises:
        SourceError: the file is missing.
        DataError: another header or a malformed line, with its number.
    """
    if not path.is_file():
        raise SourceError(f"{path}: no such file of labels; every frame of the list wants one, empty or not")
    lines = read_text(path, "labels").splitlines()
    if not lines or lines[0].strip() != HEADER:
        raise DataError(f"{path}: begins with {lines[0].strip()[:40] if lines else ''!r}, wanted {HEADER!r}")
    labels = []
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        name, *values = line.split()
        try:
            x, y, width, height = map(float, values[:4])
            occlusion = int((*values, "0")[4])  # 0 where the line ends before it
        except ValueError:
            raise DataError(
                f"{path}, line {number}: got {line[:40]!r}, wanted label x y w h and whole numbers"
            ) from None
        labels.append(Label(name, (x, y, width, height), occlusion))
    return labels
