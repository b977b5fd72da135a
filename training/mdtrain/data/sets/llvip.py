"""LLVIP: aligned 1280x1024 pairs from surveillance height, mostly by night; persons only.

Layout: `visible/{train,test}/NAME.jpg`, `infrared/{train,test}/NAME.jpg`, `Annotations/NAME.xml` (PASCAL VOC).
"""

from __future__ import annotations

from pathlib import Path

from mdtrain.data.records import Record, make_record
from mdtrain.data.sets.lists import no_list
from mdtrain.data.sets.voc import read_voc

NAMES = {"person": 0}
FOLDERS = {"val": "test"}  # the set has no third part


def read_llvip(root: Path, split: str) -> list[Record]:
    """Pairs of a split, `train` or `test` (`val` is `test`).

    Raises:
        SourceError: the folder or a file of labels is missing.
        DataError: a malformed label.
    """
    part = FOLDERS.get(split, split)
    folder = root / "visible" / part
    if not folder.is_dir():
        layout = "the LLVIP layout is visible/, infrared/ with train/, test/, Annotations/"
        there = sorted(path.name for path in folder.parent.glob("*") if path.is_dir())
        raise no_list(f"{folder}: no such folder", layout, there)
    records = []
    for path in sorted(folder.glob("*.jpg")):
        boxes, classes = read_voc(root / "Annotations" / f"{path.stem}.xml", NAMES)
        records.append(make_record(path.stem, (path, root / "infrared" / part / path.name), boxes, classes))
    return records
