"""Synthetic street scenes as `mdtrain street` writes them: the MSRS layout, and `label_maps/NAME.png` beside it.

A folder of an earlier version has no `label_maps/` and gives boxes only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from mdrun.errors import SourceError
from mdtrain.data.records import CLASSES, LabelFile, Record
from mdtrain.data.sets.msrs import read_msrs

LABEL_MAPS = "label_maps"


def read_street(root: Path, split: str, categories: Sequence[str] = CLASSES) -> list[Record]:
    """Pairs of a split, `train` or `val`, with boxes of the categories and label maps.

    Raises:
        SourceError: the list or a file of labels is missing.
        DataError: a malformed label, or a list that is not text.
    """
    if not root.is_dir():
        raise SourceError(f"{root}: no such folder; `mdtrain street --validation 40 --output {root}` draws one")
    if split == "val" and not (root / "val.txt").is_file() and (root / "train.txt").is_file():
        raise SourceError(
            f"{root}: has no val.txt; `mdtrain street --validation 40` draws scenes for validation as well"
        )
    records = read_msrs(root, split, categories=categories)
    if not (root / LABEL_MAPS).is_dir():
        return records
    return [replace(record, label_map_file=LabelFile(root / LABEL_MAPS / f"{record.name}.png")) for record in records]
