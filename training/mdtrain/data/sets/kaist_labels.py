"""Labels of one KAIST frame: text of the toolbox, or XML of the sanitized labels as they are published."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree as ET

import numpy as np
from numpy.typing import NDArray

from mdrun.errors import DataError
from mdtrain.data.sets.voc import number, parse_xml
from mdtrain.metrics.files import read_text
from mdtrain.metrics.kaist_images import HEIGHT, WIDTH, ImageTruth
from mdtrain.metrics.label_boxes import cut_box

LEAST_HEIGHT = 12.0  # pixels
HEADER = "% bbGt version=3"


class Label(NamedTuple):
    """One box.

    Attributes:
        name: `person`, `people`, `person?` or `cyclist`.
        box_xywh: pixels, finite.
        occlusion: 0 none, 1 partial, 2 heavy.
        learnt: (4,) xyxy in fractions of the image; None where nothing learns from it.
    """

    name: str
    box_xywh: tuple[float, ...]
    occlusion: int
    learnt: NDArray[np.float64] | None


def learnt_boxes(labels: Sequence[Label]) -> NDArray[np.float64]:
    """Boxes (G, 4) xyxy of the persons that are learnt, in fractions of 640x512."""
    return np.array([label.learnt for label in labels if label.learnt is not None], np.float64).reshape(-1, 4)


def labels_of(truth: ImageTruth, path: Path) -> list[Label]:
    """Labels of a frame of KAIST_annotation.json in `path`, which does not tell people, person? and cyclist apart.

    Raises:
        DataError: a box that would be learnt has no area within the image.
    """
    names = ["people" if ignored else "person" for ignored in truth.ignored]
    rows = zip(names, truth.boxes_xywh.tolist(), truth.occlusion.tolist(), strict=True)
    return [_label(name, box, occlusion, f"{path}, {truth.name}") for name, box, occlusion in rows]


def read_bbgt(path: Path) -> list[Label]:
    """All boxes of one frame in the text format; an empty file has none.

    Raises:
        SourceError: the file is missing.
        DataError: another header, a malformed line or a box that cannot be, with its number.
    """
    text = read_text(path, "labels")
    if not text.strip():
        return []
    first, *lines = text.splitlines()
    if first.strip() != HEADER:
        raise DataError(f"{path}: begins with {first.strip()[:40]!r}, wanted {HEADER!r}")
    return [_parse(line, f"{path}, line {count}") for count, line in enumerate(lines, start=2) if line.strip()]


def _parse(line: str, where: str) -> Label:
    name, *values = line.split()
    try:
        x, y, width, height = map(float, values[:4])
        occlusion = int((*values, "0")[4])  # 0 where the line ends before it
    except ValueError:
        raise DataError(f"{where}: got {line[:40]!r}, wanted label x y w h and whole numbers") from None
    return _label(name, (x, y, width, height), occlusion, where)


def read_xml(path: Path) -> list[Label]:
    """All boxes of one frame in XML, an `object` a box.

    Raises:
        SourceError: the file is missing.
        DataError: not such a file, or a box that cannot be, with the number of the object.
    """
    objects = enumerate(parse_xml(path).iter("object"), start=1)
    return [_parse_object(found, f"{path}, object {count}") for count, found in objects]


def _parse_object(found: ET.Element, where: str) -> Label:
    box = [number(found, f"bndbox/{key}", where) for key in "xywh"]
    occlusion = number(found, "occlusion", where) if found.find("occlusion") is not None else 0.0
    if not occlusion.is_integer():
        raise DataError(f"{where}: <occlusion> is {occlusion:g}, wanted 0, 1 or 2")
    return _label((found.findtext("name") or "").strip(), box, int(occlusion), where)


def _label(name: str, box_xywh: Sequence[float], occlusion: int, where: str) -> Label:
    x, y, width, height = box_xywh
    shown = f"{x:g} {y:g} {width:g} {height:g}"
    if not all(map(math.isfinite, box_xywh)):
        raise DataError(f"{where}: the box is {shown!r}, wanted finite numbers x y w h; correct it or take it out")
    learnt = None
    if name == "person" and height > LEAST_HEIGHT:
        learnt = cut_box((x, y, x + width, y + height), (WIDTH, HEIGHT), where, shown)
    return Label(name, (x, y, width, height), occlusion, learnt)
