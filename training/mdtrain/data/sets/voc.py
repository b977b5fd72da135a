"""Boxes of a PASCAL VOC annotation, as FLIR-aligned and LLVIP write them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
from numpy.typing import NDArray

from mdrun.errors import DataError, SourceError


def read_voc(path: Path, classes: Mapping[str, int]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Boxes (G, 4) xyxy in fractions of the image, and classes (G,); objects of other names are left out.

    Pixels are taken as they stand: files that count from 1 are off by one pixel at most.

    Raises:
        SourceError: the file is missing.
        DataError: not such a file, naming what is wrong.
    """
    try:
        root = ET.parse(path).getroot()  # noqa: S314  # expat from 2.4.1 stops entity bombs by itself
    except FileNotFoundError:
        raise SourceError(f"{path}: no such file of labels; every name of the list wants one") from None
    except (ET.ParseError, LookupError, ValueError) as error:  # the latter two: encodings that expat does not know
        raise DataError(f"{path}: not XML ({error}); copy it again") from error
    try:
        width, height = (_number(root, f"size/{side}") for side in ("width", "height"))
        rows = [
            (classes[name], *(_number(found, f"bndbox/{edge}") for edge in ("xmin", "ymin", "xmax", "ymax")))
            for found in root.iter("object")
            if (name := (found.findtext("name") or "").strip().lower()) in classes
        ]
    except ValueError as error:
        raise DataError(f"{path}: {error}, wanted a PASCAL VOC annotation with size and bndbox") from error
    table = np.array(rows, np.float64).reshape(-1, 5)
    return table[:, 1:] / np.array([width, height] * 2), table[:, 0].astype(np.int64)


def _number(element: ET.Element, place: str) -> float:
    text = element.findtext(place)
    try:
        return float(text or "")
    except ValueError:
        raise ValueError(f"<{place.replace('/', '><')}> holds {text!r}") from None
