"""What is wrong with a labelled set, before a training finds out: files, sizes, labels, balance; and a picture."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mdrun.errors import DataError, SourceError
from mdrun.frames import Classification, Detections, Frame, FramePair, Modality, Provenance, Result, Segmentation
from mdrun.sinks import Look
from mdrun.sinks.sheet import SheetSink
from mdtrain.data.augment import Sizes, augment
from mdtrain.data.records import CLASSES, IGNORE_LABEL, LABEL_CLASSES, Record

TINY_PX = 8.0  # boxes lower than this, at the visible image's size as read, are hardly learnt
TIMED_SAMPLES = 32


@dataclass
class SetReport:
    """Findings of one split.

    Attributes:
        pairs: names in the list.
        missing: files that the list wants and that are not there.
        unreadable: files that are there and no image of their camera, or no label map.
        unpaired: stems in one image folder without a partner in the other.
        visible_sizes: pairs by size `WxH` of the visible image.
        thermal_sizes: the same of the thermal one.
        objects: boxes by class, over all pairs.
        objects_by_night: boxes by class in the pairs that were taken by night.
        day: pairs by day.
        night: pairs by night; pairs of unknown time count in neither.
        classes: pairs by the class of the whole pair, where the set has one.
        empty: pairs without a box.
        tiny: boxes lower than TINY_PX pixels.
        label_maps: pairs with a class for every pixel.
        label_pixels: their pixels by class, and `ignored` ones.
        label_pixels_by_day: the same of the pairs that were taken by day.
        label_pixels_by_night: the same by night.
        samples_per_second: decoding and augmentation of one worker at the size asked for.
    """

    pairs: int
    missing: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    unpaired: list[str] = field(default_factory=list)
    visible_sizes: Counter[str] = field(default_factory=Counter)
    thermal_sizes: Counter[str] = field(default_factory=Counter)
    objects: Counter[str] = field(default_factory=Counter)
    objects_by_night: Counter[str] = field(default_factory=Counter)
    day: int = 0
    night: int = 0
    classes: Counter[str] = field(default_factory=Counter)
    empty: int = 0
    tiny: int = 0
    label_maps: int = 0
    label_pixels: Counter[str] = field(default_factory=Counter)
    label_pixels_by_day: Counter[str] = field(default_factory=Counter)
    label_pixels_by_night: Counter[str] = field(default_factory=Counter)
    samples_per_second: float | None = None

    @property
    def usable(self) -> bool:
        """Every pair of the list can be trained on."""
        return self.pairs > 0 and not self.missing and not self.unreadable

    def to_json(self) -> dict[str, Any]:
        """Plain values; dataclasses.asdict would count the items of a Counter."""
        return {name: dict(value) if isinstance(value, Counter) else value for name, value in vars(self).items()}


def check_set(records: Sequence[Record], size: tuple[int, int]) -> tuple[SetReport, list[Record]]:
    """Open every file once. `size` (width, height) is the network's for the speed. Also gives the usable records."""
    report = SetReport(len(records))
    usable = []
    for record in records:
        _count_labels(report, record)
        if _open(report, record):
            usable.append(record)
    report.unpaired = _unpaired(records)
    if usable:
        report.samples_per_second = _speed(usable, Sizes(size, (160, 128)))
    return report, usable


def _count_labels(report: SetReport, record: Record) -> None:
    names = [CLASSES[index] for index in record.classes]
    report.objects.update(names)
    report.empty += not names
    if record.label is not None:
        report.classes[record.label] += 1
    if record.night is not None:
        report.night += record.night
        report.day += not record.night
    if record.night:
        report.objects_by_night.update(names)


def _open(report: SetReport, record: Record) -> bool:
    """Decode both images and the label map; False where one cannot be used."""
    images: list[NDArray[np.uint8]] = []
    for file in record.files:
        if not file.path.is_file():
            _note(report.missing, str(file.path))
            continue
        try:
            images.append(file.read())
        except (SourceError, DataError) as error:
            _note(report.unreadable, str(error))
    if len(images) < len(record.files):
        return False
    for counter, image in zip((report.visible_sizes, report.thermal_sizes), images, strict=False):
        counter[f"{image.shape[1]}x{image.shape[0]}"] += 1
    heights = (record.boxes[:, 3] - record.boxes[:, 1]) * images[0].shape[0]
    report.tiny += int((heights < TINY_PX).sum())
    if record.label_map_file is not None:
        _count_pixels(report, images[2], record.night)
    return True


def _note(found: list[str], what: str) -> None:
    """A file that holds both images of a pair is named once."""
    if what not in found:
        found.append(what)


def _count_pixels(report: SetReport, label_map: NDArray[np.uint8], night: bool | None) -> None:
    counts = np.bincount(label_map.ravel(), minlength=IGNORE_LABEL + 1)
    named = {name: int(counts[index]) for index, name in enumerate(LABEL_CLASSES) if counts[index]}
    if counts[IGNORE_LABEL]:
        named["ignored"] = int(counts[IGNORE_LABEL])
    report.label_maps += 1
    report.label_pixels.update(named)
    if night is not None:
        (report.label_pixels_by_night if night else report.label_pixels_by_day).update(named)


def _unpaired(records: Sequence[Record]) -> list[str]:
    """Files of the list's folders without a partner; folders that hold both sensors are left to the list."""
    found: list[str] = []
    for visible, thermal in sorted({(r.visible_file.path.parent, r.thermal_file.path.parent) for r in records}):
        if visible == thermal or not (visible.is_dir() and thermal.is_dir()):
            continue
        files = [{p.stem: p for p in folder.iterdir() if p.is_file()} for folder in (visible, thermal)]
        for own, other in (files, files[::-1]):
            found += [str(own[stem]) for stem in sorted(own.keys() - other.keys())]
    return found


def _speed(records: Sequence[Record], sizes: Sizes) -> float:
    """Samples a second of one worker: decoding and augmentation."""
    began = time.perf_counter()
    for index in range(TIMED_SAMPLES):
        augment(records[index % len(records)], sizes, np.random.default_rng(index))
    return TIMED_SAMPLES / (time.perf_counter() - began)


def draw_sheet(records: Sequence[Record], title: str, path: Path) -> None:
    """Contact sheet of labelled pairs, evenly spread over the set, in the look of `mdrun`'s own.

    Label maps are drawn where there are any, else the class of the pair, else boxes.

    Raises:
        OutputError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    segment = any(record.label_map_file is not None for record in records)
    labels = sorted({record.label for record in records if record.label is not None})
    task = "segment" if segment else "classify" if labels else "detect"
    look = Look(title, list({"segment": LABEL_CLASSES, "classify": labels, "detect": CLASSES}[task]), 0.0, True, task)
    sheet = SheetSink(path, look, timed=False)
    places = np.linspace(0, len(records) - 1, min(6, len(records))).round().astype(int)
    try:
        for sequence, place in enumerate(places):
            sheet.write(_as_result(records[place], sequence, look))
        sheet.finish()
        sheet.commit()
    finally:
        sheet.discard()


def _as_result(record: Record, sequence: int, look: Look) -> Result:
    """The labels of a pair as if an engine had found them."""
    visible = Frame(record.visible, Modality.VISIBLE, 0, sequence, "labels", record.name)
    thermal = Frame(record.thermal, Modality.THERMAL, 0, sequence, "labels", record.name)
    pair = FramePair(sequence, visible, thermal, Provenance.MEASURED)
    if look.task == "classify":
        index = [] if record.label is None else [look.classes.index(record.label)]
        labels = Classification(np.ones(len(index), np.float32), np.array(index, np.int64))
        return Result(pair, "labels", look.task, classification=labels)
    if look.task == "segment":
        label_map = record.label_map
        if label_map is None:
            return Result(pair, "labels", "segment", None)
        shown = np.where(label_map == IGNORE_LABEL, 0, label_map).astype(np.uint8)
        return Result(pair, "labels", "segment", None, segmentation=Segmentation(shown))
    height, width = record.visible.shape[:2]
    boxes = record.boxes * np.array([width, height] * 2, np.float32)
    found = Detections(boxes, np.ones(len(boxes), np.float32), record.classes)
    return Result(pair, "labels", "detect", found)
