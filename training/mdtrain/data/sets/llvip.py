"""LLVIP: aligned 1280x1024 pairs from surveillance height, mostly by night; persons only.

Layout: `visible/{train,test}/NAME.jpg`, `infrared/{train,test}/NAME.jpg`, `Annotations/NAME.xml` (PASCAL VOC).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mdtrain.data.problems import each
from mdtrain.data.records import CLASSES, Record, make_record
from mdtrain.data.sets.lists import no_list
from mdtrain.data.sets.voc import read_voc

FOLDERS = {"val": "test"}  # the set has no third part


def read_llvip(root: Path, split: str, categories: Sequence[str] = CLASSES) -> list[Record]:
    """Pairs of a split, `train` or `test` (`val` is `test`), with boxes of the categories.

    Raises:
        SourceError: the folder or a file of labels is missing.
        DataError: a malformed label.
    """
    part = FOLDERS.get(split, split)
    folder = root / "visible" / part
    if not folder.is_dir():
        layout = "the LLVIP layout is visible/, infrared/ with train/, test/, Annotations/"
        raise no_list(f"{folder}: no such folder", layout, llvip_lists(root))
    return each(sorted(folder.glob("*.jpg")), lambda path: _record(root, path, part, categories))


def llvip_lists(root: Path) -> list[str]:
    """Lists of the set: its folders of visible images."""
    return sorted(path.name for path in (root / "visible").glob("*") if path.is_dir())


def _record(root: Path, visible: Path, part: str, categories: Sequence[str]) -> Record:
    boxes, classes, size = read_voc(root / "Annotations" / f"{visible.stem}.xml", categories)
    files = visible, root / "infrared" / part / visible.name
    return make_record(visible.stem, files, boxes, classes, declared_size=size)
