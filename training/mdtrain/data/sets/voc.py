"""Boxes of a PASCAL VOC annotation, as FLIR-aligned and LLVIP write them, and what other XML labels share with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree as ET

import numpy as np
from numpy.typing import NDArray

from mdrun.errors import DataError, SourceError
from mdtrain.data.categories import index_of
from mdtrain.data.problems import leave_out
from mdtrain.metrics.label_boxes import cut_box

EDGES = ("xmin", "ymin", "xmax", "ymax")


class VocLabels(NamedTuple):
    """Of one image.

    Attributes:
        boxes: (G, 4) xyxy in fractions of the image.
        classes: (G,) indices into the categories.
        size: width and height in pixels that the file gives.
    """

    boxes: NDArray[np.float64]
    classes: NDArray[np.int64]
    size: tuple[int, int]


def read_voc(path: Path, categories: Sequence[str]) -> VocLabels:
    """Boxes of the categories within the image; other objects are left out.

    Pixels are taken as they stand: files that count from 1 are off by one pixel at most.

    Raises:
        SourceError: the file is missing.
        DataError: not such a file, or a box without area within the image, naming what is wrong.
    """
    root = parse_xml(path)
    size = _size(root, path)
    boxes, indices = [], []
    for count, found in enumerate(root.iter("object"), start=1):
        name = (found.findtext("name") or "").strip().lower()
        index = index_of(name, categories)
        if index is None:
            leave_out(name)
            continue
        where = f"{path}, object {count}"
        corners = [number(found, f"bndbox/{edge}", where) for edge in EDGES]
        boxes.append(cut_box(corners, size, where, "{:g} {:g} {:g} {:g}".format(*corners)))
        indices.append(index)
    return VocLabels(np.array(boxes, np.float64).reshape(-1, 4), np.array(indices, np.int64), size)


def parse_xml(path: Path) -> ET.Element:
    """Root of an XML file of labels.

    Raises:
        SourceError: the file is missing.
        DataError: not XML.
    """
    try:
        return ET.parse(path).getroot()  # noqa: S314  # expat from 2.4.1 stops entity bombs by itself
    except FileNotFoundError:
        raise SourceError(f"{path}: no such file of labels; every name of the list wants one") from None
    except (ET.ParseError, LookupError, ValueError) as error:  # the latter two: encodings that expat does not know
        raise DataError(f"{path}: not XML ({error}); copy it again") from error


def number(element: ET.Element, place: str, where: str) -> float:
    """The number that a descendant holds; `where` names the element in errors.

    Raises:
        DataError: it is missing or holds no number.
    """
    text = element.findtext(place)
    try:
        return float(text or "")
    except ValueError:
        named = f"<{place.replace('/', '><')}>"
        raise DataError(f"{where}: {named} holds {text!r}, wanted a number; is it a label of this set?") from None


def _size(root: ET.Element, path: Path) -> tuple[int, int]:
    width, height = (number(root, f"size/{side}", str(path)) for side in ("width", "height"))
    if not (width.is_integer() and height.is_integer() and width > 0 and height > 0):
        raise DataError(f"{path}: its <size> is {width:g} x {height:g}, wanted the image's width and height in pixels")
    return int(width), int(height)
