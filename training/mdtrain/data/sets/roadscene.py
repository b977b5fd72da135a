"""RoadScene pairs with FLIR ADAS boxes, drawn on the thermal view.

Layout: `vi_crop_hr/NAME.jpg`, `ir_crop/NAME.jpg` (aligned), `annotations.json` with `boxes_crop_xyxy` in pixels of
`ir_crop` and FLIR class ids. A pair without boxes is no negative and is left out.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mdrun.errors import SourceError
from mdtrain.data.problems import each
from mdtrain.data.records import Record, make_record
from mdtrain.metrics.files import Entry, parse_json, read_text
from mdtrain.metrics.label_boxes import cut_box

FLIR_CLASSES = {1: 0, 2: 1, 3: 2}  # FLIR ADAS ids (COCO numbering); 17, dog, is not learnt


def read_roadscene(root: Path) -> list[Record]:
    """All pairs that have boxes.

    Raises:
        SourceError: no annotations.
        DataError: they are not such a file, naming the entry that is wrong.
    """
    listing = root / "annotations.json"
    if not listing.is_file():
        raise SourceError(f"{listing}: no such file; the RoadScene layout is vi_crop_hr/, ir_crop/, annotations.json")
    where = str(listing)
    entries = Entry(parse_json(read_text(listing, "annotations"), where), where)
    records = each(sorted(entries.keys()), lambda stem: _record(root, stem, entries.entry(stem)))
    return [record for record in records if record is not None]


def _record(root: Path, stem: str, entry: Entry) -> Record | None:
    rows = [row for row in entry.rows("boxes_crop_xyxy", "class x1 y1 x2 y2") if row[0] in FLIR_CLASSES]
    if not rows:
        return None
    size = entry.size("ir_crop")
    boxes = [cut_box(row[1:5], size, f"{entry.where}: boxes_crop_xyxy", f"{row[:5]}") for row in rows]
    classes = np.array([FLIR_CLASSES[int(row[0])] for row in rows])
    files = root / "vi_crop_hr" / f"{stem}.jpg", root / "ir_crop" / f"{stem}.jpg"
    return make_record(stem, files, np.array(boxes), classes)
