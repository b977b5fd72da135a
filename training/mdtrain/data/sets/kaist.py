"""KAIST multispectral pedestrians, 640x512: persons only.

Layout: `images/set00/V000/{visible,lwir}/I00001.jpg`, `imageSets/LIST.txt` with lines `set00/V000/I00001`, and one
folder of labels:

- `annotations/set00/V000/I00001.txt`: original, in the text format of the KAIST toolbox (header `% bbGt version=3`,
  lines `label x y w h occlusion …` in pixels);
- `annotations_sanitized/set00/V000/I00001.txt`: sanitized (Li et al., BMVC 2018) in that format, or
  `annotations-xml-new-sanitized/set00/V000/I00001.xml` as they are published, for sets 00 to 05;
- `annotations_paired/set00/V000/{visible,lwir}/I00001.txt`: one file a sensor (Zhang et al., AR-CNN, ICCV 2019); the
  visible one is used, since results are boxes of the visible image.

Where `KAIST_annotation.json[.gz]` (the improved test annotations, Liu et al., BMVC 2016) is there and has every frame
of the list, it stands for all of them and no other labels are wanted.

`person` is learnt, where it is one of the categories. `people`, `person?` and `cyclist` are left out, as are persons of
at most 12 pixels (as MLPD does).
The miss rate knows all boxes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np

from mdrun.errors import DataError, SourceError
from mdtrain.data.categories import index_of
from mdtrain.data.problems import each, leave_out
from mdtrain.data.records import CLASSES, Record, make_record
from mdtrain.data.sets.kaist_labels import Label, labels_of, learnt_boxes, read_bbgt, read_xml
from mdtrain.data.sets.lists import no_list, text_lists
from mdtrain.metrics.files import read_text
from mdtrain.metrics.kaist_files import read_annotations
from mdtrain.metrics.kaist_images import ImageTruth, split

KaistLabels = Literal["original", "sanitized", "paired"]
FOLDERS: dict[KaistLabels, str] = {
    "original": "annotations",
    "sanitized": "annotations_sanitized",
    "paired": "annotations_paired",
}
SANITIZED_XML = "annotations-xml-new-sanitized"
SETS = {f"set{number:02d}" for number in range(12)}
DAY_SETS = {"set00", "set01", "set02", "set06", "set07", "set08"}
ANNOTATION_FILES = ("KAIST_annotation.json", "KAIST_annotation.json.gz")  # as sejong-rcv/MLPD ships it


def read_kaist(
    root: Path, split: str, labels: KaistLabels = "sanitized", categories: Sequence[str] = CLASSES
) -> list[Record]:
    """Frames of `imageSets/SPLIT.txt`, with boxes of persons where these are one of the categories.

    Raises:
        SourceError: the list or a file of labels is missing.
        DataError: a malformed line.
    """
    listing = root / "imageSets" / f"{split}.txt"
    if not listing.is_file():
        layout = f"the KAIST layout is images/, imageSets/, {FOLDERS[labels]}/"
        raise no_list(f"{listing}: no such list of frames", layout, text_lists(listing.parent))
    frames = each(read_text(listing, "list of frames").split(), lambda line: _frame(line, listing))
    person = index_of("person", categories)
    published = _published(root, frames)
    if published is not None:
        return each(published, lambda truth: _record(root, truth, labels_of(truth, root / truth.source), person))
    folder = _folder(root, labels)
    return each(frames, lambda frame: _labelled(root, folder, frame, labels, person))


def _frame(line: str, listing: Path) -> str:
    frame = line.removesuffix(".txt").removesuffix(".jpg")
    parts = frame.split("/")
    if len(parts) != 3 or parts[0] not in SETS:
        raise DataError(f"{listing}: got the line {line!r}, wanted set00/V000/I00001, of sets 00 to 11")
    return frame


def _published(root: Path, frames: Sequence[str]) -> list[ImageTruth] | None:
    """From the file of the published numbers, if it is there and has every frame."""
    path = next((path for name in ANNOTATION_FILES if (path := root / name).is_file()), None)
    if path is None:
        return None
    truths = split(read_annotations(path), path.name)
    return [truths[frame] for frame in frames] if truths.keys() >= set(frames) else None


def _folder(root: Path, labels: KaistLabels) -> Path:
    folder, published = root / FOLDERS[labels], root / SANITIZED_XML
    return published if labels == "sanitized" and published.is_dir() and not folder.is_dir() else folder


def _labels(folder: Path, frame: str, labels: KaistLabels) -> list[Label]:
    video, _, name = frame.rpartition("/")
    as_xml = folder.name == SANITIZED_XML
    path = folder / video / ("visible" if labels == "paired" else "") / f"{name}{'.xml' if as_xml else '.txt'}"
    if not path.is_file():
        raise SourceError(
            f"{path}: no such file of labels; every frame of the list wants one, empty or not, or {ANNOTATION_FILES[0]}"
            " has the whole list (sanitized labels are of sets 00 to 05 only, that file is of the test frames)"
        )
    return read_xml(path) if as_xml else read_bbgt(path)


def _labelled(root: Path, folder: Path, frame: str, labels: KaistLabels, person: int | None) -> Record:
    found = _labels(folder, frame, labels)
    return _record(root, _truth(frame, found, folder.name), found, person)


def _truth(frame: str, labels: Sequence[Label], source: str) -> ImageTruth:
    return ImageTruth(
        frame,
        np.array([label.box_xywh for label in labels], np.float64).reshape(-1, 4),
        np.array([label.occlusion for label in labels], np.int64),
        np.array([label.name != "person" for label in labels], np.bool_),
        source,
    )


def _record(root: Path, truth: ImageTruth, labels: Sequence[Label], person: int | None) -> Record:
    of_set, video, name = truth.name.split("/")
    files = [root / "images" / of_set / video / sensor / f"{name}.jpg" for sensor in ("visible", "lwir")]
    boxes = learnt_boxes(labels)
    if person is None:
        for _ in boxes:
            leave_out("person")
        boxes = boxes[:0]
    classes = np.full(len(boxes), person or 0, np.int64)
    record = make_record(f"{of_set}_{video}_{name}", (files[0], files[1]), boxes, classes, night=of_set not in DAY_SETS)
    return replace(record, kaist=truth)
