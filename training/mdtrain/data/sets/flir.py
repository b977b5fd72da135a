"""FLIR-aligned: 640x512 road pairs of FLIR ADAS v1, aligned by Zhang et al. (ICIP 2020).

Layout: `JPEGImages/NAME_RGB.jpg`, `JPEGImages/NAME_PreviewData.jpeg`, `Annotations/NAME_PreviewData.xml` (PASCAL VOC),
`align_train.txt` and `align_validation.txt` with one `NAME_PreviewData` a line. Boxes were drawn on the thermal view.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mdtrain.data.problems import each
from mdtrain.data.records import CLASSES, Record, make_record
from mdtrain.data.sets.lists import no_list, text_lists
from mdtrain.data.sets.voc import read_voc
from mdtrain.metrics.files import read_text

LISTS = {"train": "align_train.txt", "val": "align_validation.txt"}
PUBLISHED = {Path(file).stem: name for name, file in LISTS.items()}  # the other way round
THERMAL = "_PreviewData"


def read_flir(root: Path, split: str, categories: Sequence[str] = CLASSES) -> list[Record]:
    """Pairs of a split, with boxes of the categories.

    Raises:
        SourceError: the list or a file of labels is missing.
        DataError: a malformed label, or a list that is not text.
    """
    listing = root / LISTS.get(split, f"{split}.txt")
    if not listing.is_file():
        layout = f"the FLIR-aligned layout is JPEGImages/, Annotations/, {', '.join(LISTS.values())}"
        raise no_list(f"{listing}: no such list of names", layout, flir_lists(root))
    lines = read_text(listing, "list of names").split()
    return each(lines, lambda line: _record(root, line.removesuffix(THERMAL), categories))


def flir_lists(root: Path) -> list[str]:
    """Lists of the set, `train` and `val` by these names."""
    return [PUBLISHED.get(name, name) for name in text_lists(root)]


def _record(root: Path, name: str, categories: Sequence[str]) -> Record:
    boxes, classes, size = read_voc(root / "Annotations" / f"{name}{THERMAL}.xml", categories)
    files = root / "JPEGImages" / f"{name}_RGB.jpg", root / "JPEGImages" / f"{name}{THERMAL}.jpeg"
    return make_record(name, files, boxes, classes, declared_size=size)
