"""Your own pairs: two folders of images and one COCO file of boxes a split.

Layout: `visible/NAME`, `thermal/NAME` (the same stem; another ending is fine), `SPLIT.json` with `images`
(`id`, `file_name`, `width`, `height`; `night` 1 or 0, true or false, where known), `annotations` (`image_id`,
`category_id`, `bbox` x y w h in pixels of the visible image) and `categories` (`id`, `name`; plurals are fine). Boxes
of categories that are not learnt and crowds are left out, and counted by `mdtrain data check`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Container, Hashable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mdrun.errors import DataError
from mdrun.sources.uri import IMAGE_SUFFIXES
from mdtrain.data.categories import index_of
from mdtrain.data.problems import each, leave_out
from mdtrain.data.records import CLASSES, Record, make_record
from mdtrain.data.sets.lists import no_list
from mdtrain.metrics.files import Entry, parse_json, read_text
from mdtrain.metrics.label_boxes import cut_box

LARGEST_SIDE = 100_000  # pixels
UNKNOWN = -1  # whether by night, as some writers have it
CROWDS = "crowds"  # as what boxes with `iscrowd` are counted


class CocoEntry(Entry):
    """An object of the file: some writers have 640.0 for 640, and true or false for 1 and 0."""

    def whole(self, key: str, default: int | None = None) -> int:
        """A whole number; `default` where the key is absent."""
        value = self._value.get(key)
        return int(value) if isinstance(value, float) and value.is_integer() else super().whole(key, default)

    def side(self, key: str) -> int:
        """Pixels of a side of an image."""
        value = self.whole(key)
        return value if 0 < value <= LARGEST_SIDE else self.refuse(key, f"pixels, 1 to {LARGEST_SIDE}")

    def flag(self, key: str) -> bool | None:
        """True or false, also as 1 or 0; None where the key is absent or null."""
        value = self._value.get(key)
        if value is None or value == UNKNOWN:
            return None
        return bool(value) if value in (0, 1) else self.refuse(key, "1, 0, true or false; leave it out where unknown")

    def known(self, key: str, ids: Container[int], whose: str) -> int:
        """An id that the file has."""
        value = self.whole(key)
        return value if value in ids else self.refuse(key, f"an id of one of the file's {whose}")

    def objects(self, key: str) -> list[CocoEntry]:
        """A list of objects."""
        return [CocoEntry(entry._value, entry.where) for entry in self.entries(key)]


Label = tuple[CocoEntry, int]  # an annotation and the index of its class


def read_coco(root: Path, split: str, categories: Sequence[str] = CLASSES) -> list[Record]:
    """Pairs of a split, in the order of the file, with boxes of the categories.

    Raises:
        SourceError: the file is missing.
        DataError: not such a file, naming the entry that is wrong, or it has none of the categories.
    """
    path = root / f"{split}.json"
    if not path.is_file():
        layout = "the layout of own pairs is visible/, thermal/, train.json, val.json"
        raise no_list(f"{path}: no such file", layout, coco_lists(root))
    where = str(path)
    data = CocoEntry(parse_json(read_text(path, "annotations"), where), where)
    images = data.objects("images")
    _refuse_twice(images, "id", lambda image: image.whole("id"))
    _refuse_twice(images, "file_name", lambda image: Path(image.text("file_name")).stem, ", folder and ending aside")
    labels = _labels(data, {image.whole("id") for image in images}, categories)
    files = sorted((root / "thermal").glob("*"))
    thermal = {file.stem: file for file in files if file.suffix.lower() in IMAGE_SUFFIXES}
    return each(images, lambda image: _record(root, image, labels[image.whole("id")], thermal))


def coco_lists(root: Path) -> list[str]:
    """Lists of a set of own pairs."""
    return sorted(file.stem for file in root.glob("*.json"))


def _refuse_twice(
    entries: Sequence[CocoEntry], key: str, identity: Callable[[CocoEntry], Hashable], aside: str = ""
) -> None:
    first: dict[Hashable, CocoEntry] = {}
    for entry in entries:
        other = first.setdefault(identity(entry), entry)
        if other is not entry:
            entry.refuse(key, f"another than {other.where.rpartition(' ')[2]} has{aside}")


def _labels(data: CocoEntry, images: Container[int], wanted: Sequence[str]) -> dict[int, list[Label]]:
    """Annotations of wanted categories, by the id of their image; the others are counted as left out."""
    categories = data.objects("categories")
    _refuse_twice(categories, "id", lambda category: category.whole("id"))
    names = {category.whole("id"): category.text("name").strip().lower() for category in categories}
    known = {key: index for key, name in names.items() if (index := index_of(name, wanted)) is not None}
    if not known:
        raise DataError(
            f"{data.where}: none of its categories is learnt: it has {', '.join(names.values()) or 'none'}, "
            f"wanted some of {', '.join(wanted)}; name your own with --set data.classes=[…] (mdtrain data check: "
            "--classes), rename those that are one of these, or leave the set out"
        )
    labels: dict[int, list[Label]] = defaultdict(list)
    for entry in data.objects("annotations"):
        image, category = entry.known("image_id", images, "images"), entry.known("category_id", names, "categories")
        if category not in known:
            leave_out(names[category])
        elif entry.flag("iscrowd"):
            leave_out(CROWDS)
        else:
            labels[image].append((entry, known[category]))
    return labels


def _record(root: Path, image: CocoEntry, labels: Sequence[Label], thermal: dict[str, Path]) -> Record:
    file = root / "visible" / image.text("file_name")
    partner = thermal.get(file.stem, root / "thermal" / file.name)  # a missing one is found before the first iteration
    size = image.side("width"), image.side("height")
    boxes = np.array([_box(entry, size) for entry, _ in labels], np.float64)
    classes = np.array([index for _, index in labels], np.int64)
    return make_record(file.stem, (file, partner), boxes, classes, night=image.flag("night"), declared_size=size)


def _box(entry: CocoEntry, size: tuple[int, int]) -> NDArray[np.float64]:
    x, y, width, height = entry.four("bbox", "x y w h")
    return cut_box((x, y, x + width, y + height), size, f"{entry.where}: bbox", f"{x:g} {y:g} {width:g} {height:g}")
