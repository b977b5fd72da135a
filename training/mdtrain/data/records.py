"""One labelled pair, and the readers of the sets that issue labels for multispectral training.

Classes everywhere: 0 person, 1 bicycle, 2 car.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mdrun.errors import SourceError
from mdtrain.metrics.yolo import read_yolo_labels

CLASSES = ("person", "bicycle", "car")
MAX_WIDTH = 800  # twice the network's width; the full RoadScene files would only cost memory
FLIR_CLASSES = {1: 0, 2: 1, 3: 2}  # FLIR ADAS ids (COCO numbering); 17, dog, is not learnt


@dataclass(frozen=True)
class Record:
    """One labelled pair of registered images.

    Attributes:
        name: file stem; MSRS names end in D (day) or N (night).
        visible: (H, W, 3) uint8 RGB.
        thermal: (h, w) uint8, the same field of view.
        boxes: (G, 4) float32 xyxy, fractions of the image in [0, 1].
        classes: (G,) int64.
    """

    name: str
    visible: NDArray[np.uint8]
    thermal: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    classes: NDArray[np.int64]


def read_msrs(root: Path, split: str, labels: str = "fusion") -> list[Record]:
    """MSRS street pairs, 640x480, names of `split`.txt; `labels` is fusion, infrared or visible.

    Raises:
        SourceError: naming the first file that is missing or unreadable.
    """
    listing = root / f"{split}.txt"
    if not listing.is_file():
        raise SourceError(f"{listing}: no such list of names; the MSRS layout is vi/, ir/, labels/, train.txt, val.txt")
    records = []
    for name in listing.read_text().split():
        stem = Path(name).stem
        visible, thermal = _read_pair(root / "vi" / f"{stem}.jpg", root / "ir" / f"{stem}.jpg")
        boxes, classes = read_yolo_labels(root / "labels" / labels / f"{stem}.txt", 1, 1, len(CLASSES))
        records.append(Record(stem, visible, thermal, boxes.astype(np.float32), classes.astype(np.int64)))
    return records


def read_roadscene(root: Path) -> list[Record]:
    """RoadScene pairs that have boxes (a pair without is not a negative), boxes from the thermal view."""
    listing = root / "annotations.json"
    if not listing.is_file():
        raise SourceError(f"{listing}: no such file; the RoadScene layout is vi_crop_hr/, ir_crop/, annotations.json")
    records = []
    try:
        entries = json.loads(listing.read_text())
    except json.JSONDecodeError as error:
        raise SourceError(f"{listing}: not JSON ({error}); copy it again") from error
    for stem, entry in sorted(entries.items()):
        rows = [row for row in entry.get("boxes_crop_xyxy") or [] if row[0] in FLIR_CLASSES]
        if not rows or not (root / "vi_crop_hr" / f"{stem}.jpg").is_file():
            continue
        visible, thermal = _read_pair(root / "vi_crop_hr" / f"{stem}.jpg", root / "ir_crop" / f"{stem}.jpg")
        if visible.shape[1] > MAX_WIDTH:
            factor = MAX_WIDTH / visible.shape[1]
            visible = cv2.resize(visible, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA).astype(np.uint8)
        width, height = entry["ir_crop"]
        boxes = np.array([row[1:5] for row in rows]) / (width, height, width, height)
        classes = np.array([FLIR_CLASSES[row[0]] for row in rows], np.int64)
        records.append(Record(stem, visible, thermal, boxes.astype(np.float32), classes))
    return records


def _read_pair(visible_path: Path, thermal_path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    visible = _read_image(visible_path, cv2.IMREAD_COLOR)
    return np.ascontiguousarray(visible[..., ::-1]), _read_image(thermal_path, cv2.IMREAD_GRAYSCALE)


def _read_image(path: Path, flags: int) -> NDArray[np.uint8]:
    image = cv2.imread(str(path), flags)
    if image is None:
        raise SourceError(f"{path}: missing or not an image; every name of the list wants a visible and a thermal file")
    return image.astype(np.uint8, copy=False)
