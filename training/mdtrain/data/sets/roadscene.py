"""RoadScene pairs with FLIR ADAS boxes, drawn on the thermal view.

Layout: `vi_crop_hr/NAME.jpg`, `ir_crop/NAME.jpg` (aligned), `annotations.json` with `boxes_crop_xyxy` in pixels of
`ir_crop` and FLIR class ids. A pair without boxes is no negative and is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mdrun.errors import SourceError
from mdtrain.data.categories import index_of
from mdtrain.data.problems import each, leave_out
from mdtrain.data.records import CLASSES, Record, make_record
from mdtrain.metrics.files import Entry, parse_json, read_text
from mdtrain.metrics.label_boxes import cut_box

FLIR_NAMES = {1: "person", 2: "bicycle", 3: "car", 17: "dog"}  # by FLIR ADAS ids


def read_roadscene(root: Path, categories: Sequence[str] = CLASSES) -> list[Record]:
    """All pairs that have boxes of the categories.

    Raises:
        SourceError: no annotations.
        DataError: they are not such a file, naming the entry that is wrong.
    """
    listing = root / "annotations.json"
    if not listing.is_file():
        raise SourceError(f"{listing}: no such file; the RoadScene layout is vi_crop_hr/, ir_crop/, annotations.json")
    where = str(listing)
    entries = Entry(parse_json(read_text(listing, "annotations"), where), where)
    records = each(sorted(entries.keys()), lambda stem: _record(root, stem, entries.entry(stem), categories))
    return [record for record in records if record is not None]


def _record(root: Path, stem: str, entry: Entry, categories: Sequence[str]) -> Record | None:
    rows, classes = [], []
    for row in entry.rows("boxes_crop_xyxy", "class x1 y1 x2 y2"):
        name = FLIR_NAMES.get(int(row[0]), "") if row[0].is_integer() else ""
        index = index_of(name, categories)
        if index is None:
            leave_out(name or f"class {row[0]:g}")
        else:
            rows.append(row)
            classes.append(index)
    if not rows:
        return None
    size = entry.size("ir_crop")
    boxes = [cut_box(row[1:5], size, f"{entry.where}: boxes_crop_xyxy", f"{row[:5]}") for row in rows]
    files = root / "vi_crop_hr" / f"{stem}.jpg", root / "ir_crop" / f"{stem}.jpg"
    return make_record(stem, files, np.array(boxes), np.array(classes))
