"""Reading YOLO label files: one line a box, `class cx cy w h` in fractions of the image."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mdrun.errors import DataError
from mdtrain.metrics.files import read_text
from mdtrain.metrics.label_boxes import cut_box

LINE = "class cx cy w h"
ROUNDING = 1e-3  # labels are written with a few digits: an edge may lie this fraction of the image outside


def read_yolo_labels(
    path: Path, width: int, height: int, class_count: int | None = None
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Boxes and classes of one image; an empty file means that nothing is there.

    Args:
        path: the label file.
        width: of the image, pixels.
        height: of the image, pixels.
        class_count: classes run from 0 to one less than this; None allows any.

    Returns:
        (N, 4) boxes x1, y1, x2, y2 in pixels within the image, and (N,) class indices.

    Raises:
        SourceError: the file is missing or unreadable.
        DataError: a malformed line, with its number.
    """
    boxes, classes = [], []
    for number, line in enumerate(read_text(path, "labels").split("\n"), start=1):
        if line.strip():
            label, box = _parse(line, f"labels {path}, line {number}", class_count)
            classes.append(label)
            boxes.append(box)
    fractions = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    pixels = fractions * (width, height, width, height)
    return pixels.astype(np.float32), np.array(classes, dtype=np.int64)


def _parse(line: str, where: str, class_count: int | None) -> tuple[int, NDArray[np.float64]]:
    """Class and corner fractions x1, y1, x2, y2 of one line, within the image."""
    shown = line.strip()[:60]
    try:
        label, cx, cy, width, height = map(float, line.split())
    except ValueError:
        raise DataError(f"{where}: got {shown!r}, wanted five numbers as `{LINE}`") from None
    if not (label.is_integer() and 0 <= label < (class_count or math.inf)):
        limit = "0 upwards" if class_count is None else f"0 to {class_count - 1}"
        raise DataError(f"{where}: class is {label:g}, wanted {limit}")
    corners = [cx - width / 2, cy - height / 2, cx + width / 2, cy + height / 2]
    if not (width >= 0 and height >= 0 and all(-ROUNDING <= value <= 1 + ROUNDING for value in corners)):
        raise DataError(f"{where}: the box {shown!r} leaves the image, wanted `{LINE}` as fractions of its size")
    return int(label), cut_box(corners, (1, 1), where, shown)
