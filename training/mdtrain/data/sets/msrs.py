"""MSRS street pairs, 640x480, with the detection labels of Lele-3/MSRS-detection-label; also the synthetic street.

Layout: `vi/NAME.jpg`, `ir/NAME.jpg`, `labels/{fusion,infrared,visible}/NAME.txt` in YOLO lines, `SPLIT.txt` with one
name a line. Names end in D (day) or N (night). The views were labelled separately: at night most persons are in
`infrared` and `fusion` only.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mdtrain.data.categories import indices_of
from mdtrain.data.problems import each, leave_out
from mdtrain.data.records import CLASSES, Record, make_record
from mdtrain.data.sets.lists import no_list, text_lists
from mdtrain.metrics.files import read_text
from mdtrain.metrics.yolo import read_yolo_labels

NIGHT = {"D": False, "N": True}


def read_msrs(root: Path, split: str, labels: str = "fusion", categories: Sequence[str] = CLASSES) -> list[Record]:
    """Pairs of a split; `labels` is fusion, infrared or visible, boxes are those of the categories.

    Raises:
        SourceError: the list or a file of labels is missing.
        DataError: a malformed label, or a list that is not text.
    """
    listing = root / f"{split}.txt"
    if not listing.is_file():
        layout = "the MSRS layout is vi/, ir/, labels/, train.txt, val.txt"
        raise no_list(f"{listing}: no such list of names", layout, text_lists(root))
    names = read_text(listing, "list of names").split()
    return each(names, lambda name: _record(root, Path(name).stem, labels, categories))


def _record(root: Path, stem: str, labels: str, categories: Sequence[str]) -> Record:
    boxes, labelled = read_yolo_labels(root / "labels" / labels / f"{stem}.txt", 1, 1, len(CLASSES))
    classes = indices_of(CLASSES, categories)[labelled]
    kept = classes >= 0
    for index in labelled[~kept]:
        leave_out(CLASSES[index])
    files = root / "vi" / f"{stem}.jpg", root / "ir" / f"{stem}.jpg"
    return make_record(stem, files, boxes[kept], classes[kept], night=NIGHT.get(stem[-1]))
