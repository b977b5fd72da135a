"""MFNet: 1,569 registered 640x480 street pairs with a class for every pixel (Ha et al., IROS 2017).

Layout: `images/NAME.png` (RGB and thermal in four channels), `labels/NAME.png` (8-bit index into LABEL_CLASSES),
`train.txt`, `val.txt`, `test.txt`, `test_day.txt`, `test_night.txt` with one name a line. Names end in D (day) or N
(night). There are no boxes. `NAME_flip` in a list is a mirrored copy that the set's own script wrote beside the rest.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mdtrain.data.records import ImageFile, LabelFile, Record
from mdtrain.data.sets.lists import no_list, text_lists
from mdtrain.data.sets.msrs import NIGHT
from mdtrain.metrics.files import read_text

FLIPPED = "_flip"


def read_mfnet(root: Path, split: str) -> list[Record]:
    """Pairs of a split: `train`, `val`, `test`, `test_day` or `test_night`.

    Raises:
        SourceError: the list is missing.
        DataError: the list is not text.
    """
    listing = root / f"{split}.txt"
    if not listing.is_file():
        raise no_list(f"{listing}: no such list of names", _hint(root, split), text_lists(root))
    return [_record(root, Path(name).stem) for name in read_text(listing, "list of names").split()]


def _hint(root: Path, split: str) -> str:
    other = root / f"{split.replace('test_', 'text_')}.txt"  # the set's read-me spells two of the names so
    if other.is_file():
        return f"rename {other.name}, as some copies of the set call it"
    return "the MFNet layout is images/, labels/, train.txt, val.txt, test.txt, test_day.txt, test_night.txt"


def _record(root: Path, name: str) -> Record:
    file = root / "images" / f"{name}.png"
    visible = ImageFile(file, colour=True, four_channels=True)
    thermal = ImageFile(file, colour=False, four_channels=True)
    night = NIGHT.get(name.removesuffix(FLIPPED)[-1:])
    labels = LabelFile(root / "labels" / f"{name}.png")
    return Record(name, visible, thermal, np.zeros((0, 4), np.float32), np.zeros(0, np.int64), night, labels)
