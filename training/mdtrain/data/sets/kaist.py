"""KAIST multispectral pedestrians, 640x512: persons only.

Layout: `images/set00/V000/{visible,lwir}/I00001.jpg`, `imageSets/LIST.txt` with lines `set00/V000/I00001`, and one
folder of annotations in the text format of the KAIST toolbox (header `% bbGt version=3`, lines `label x y w h occlusion
…` in pixels):

- `annotations/set00/V000/I00001.txt`: original, or sanitized (Li et al., BMVC 2018) in `annotations_sanitized/`;
- `annotations_paired/set00/V000/{visible,lwir}/I00001.txt`: one file a sensor (Zhang et al., AR-CNN, ICCV 2019); the
  visible one is used, since results are boxes of the visible image.

`person` is learnt. `people`, `person?` and `cyclist` are left out, as are persons of at most 12 pixels (as MLPD does).
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from mdrun.errors import DataError, SourceError
from mdtrain.data.records import Record, make_record
from mdtrain.metrics.files import read_text

KaistLabels = Literal["original", "sanitized", "paired"]
FOLDERS: dict[KaistLabels, str] = {
    "original": "annotations",
    "sanitized": "annotations_sanitized",
    "paired": "annotations_paired",
}
WIDTH, HEIGHT = 640, 512
LEAST_HEIGHT = 12.0  # pixels
DAY_SETS = {"set00", "set01", "set02", "set06", "set07", "set08"}
HEADER = "% bbGt version=3"


def read_kaist(root: Path, split: str, labels: KaistLabels = "sanitized") -> list[Record]:
    """Frames of `imageSets/SPLIT.txt`.

    Raises:
        SourceError: the list or a file of labels is missing.
        DataError: a malformed line.
    """
    listing = root / "imageSets" / f"{split}.txt"
    if not listing.is_file():
        raise SourceError(
            f"{listing}: no such list of frames; the KAIST layout is images/, imageSets/, {FOLDERS[labels]}/"
        )
    records = []
    for line in read_text(listing, "list of frames").split():
        frame = line.removesuffix(".txt").removesuffix(".jpg")
        parts = frame.split("/")
        if len(parts) != 3:
            raise DataError(f"{listing}: got the line {line!r}, wanted set00/V000/I00001")
        video, name = root / "images" / parts[0] / parts[1], f"{parts[2]}.jpg"
        text = (
            root / FOLDERS[labels] / parts[0] / parts[1] / ("visible" if labels == "paired" else "") / f"{parts[2]}.txt"
        )
        boxes = read_bbgt(text)
        files = video / "visible" / name, video / "lwir" / name
        classes = np.zeros(len(boxes), np.int64)
        records.append(make_record("_".join(parts), files, boxes, classes, night=parts[0] not in DAY_SETS))
    return records


def read_bbgt(path: Path) -> NDArray[np.float64]:
    """Boxes (G, 4) xyxy of the persons of one frame, in fractions of 640x512.

    Raises:
        SourceError: the file is missing.
        DataError: another header or a malformed line, with its number.
    """
    if not path.is_file():
        raise SourceError(f"{path}: no such file of labels; every frame of the list wants one, empty or not")
    lines = read_text(path, "labels").splitlines()
    if not lines or lines[0].strip() != HEADER:
        raise DataError(f"{path}: begins with {lines[0].strip()[:40] if lines else ''!r}, wanted {HEADER!r}")
    boxes = []
    for number, line in enumerate(lines[1:], start=2):
        label, *values = line.split() or ["", ""]
        try:
            x, y, width, height = map(float, values[:4])
        except ValueError:
            if not line.strip():
                continue
            raise DataError(f"{path}, line {number}: got {line[:40]!r}, wanted label x y w h …") from None
        if label == "person" and height > LEAST_HEIGHT:
            boxes.append((x, y, x + width, y + height))
    unit: NDArray[np.float64] = np.array(boxes, np.float64).reshape(-1, 4) / np.array([WIDTH, HEIGHT] * 2)
    return unit
