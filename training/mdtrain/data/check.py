"""What is wrong with a labelled set, before a training finds out: files, sizes, labels, balance; and a picture."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from mdrun.errors import DataError, SourceError
from mdrun.frames import Classification, Detections, Frame, FramePair, Modality, Provenance, Result, Segmentation
from mdrun.sinks import Look
from mdrun.sinks.sheet import SheetSink
from mdrun.sources.uri import IMAGE_SUFFIXES
from mdtrain.data.augment import Sizes, augment
from mdtrain.data.problems import Problem
from mdtrain.data.records import CLASSES, IGNORE_LABEL, LABEL_CLASSES, MOST_STRETCH, Record, is_grey

TINY_PX = 8.0  # boxes lower than this, in pixels of the visible image as it is stored, are hardly learnt
TIMED_SAMPLES = 32

Kind = tuple[Path, str]  # files of one camera: their folder, and how their names end where both cameras share it


@dataclass
class SetReport:
    """Findings of one list.

    Attributes:
        pairs: names in the list.
        other_lists: of the set, which were not looked at.
        missing: files that the list wants and that are not there.
        unreadable: files that are there and no image of their camera, no label map or no labels.
        malformed: how many of those are whole files with a wrong content, which a new copy would have as well.
        swapped: pairs whose visible file is a thermal image and whose thermal file has colour.
        mismatched: images and label maps of other proportions than the visible image, labels for another size.
        unpaired: stems in one image folder without a partner in the other.
        visible_sizes: pairs by size `WxH` of the visible image, as it is stored.
        thermal_sizes: the same of the thermal one.
        objects: boxes by class, over all pairs.
        objects_by_night: boxes by class in the pairs that were taken by night.
        left_out: boxes by what they are, where that is not one of the categories, and crowds of own pairs.
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
    other_lists: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)
    malformed: int = 0
    swapped: int = 0
    mismatched: list[str] = field(default_factory=list)
    unpaired: list[str] = field(default_factory=list)
    visible_sizes: Counter[str] = field(default_factory=Counter)
    thermal_sizes: Counter[str] = field(default_factory=Counter)
    objects: Counter[str] = field(default_factory=Counter)
    objects_by_night: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
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
        return self.pairs > 0 and not (self.missing or self.unreadable or self.mismatched)

    @property
    def lost(self) -> bool:
        """Files are missing or damaged, which the original still has."""
        return bool(self.missing) or len(self.unreadable) > self.malformed

    def to_json(self) -> dict[str, Any]:
        """Plain values; dataclasses.asdict would count the items of a Counter."""
        return {name: dict(value) if isinstance(value, Counter) else value for name, value in vars(self).items()}


def check_set(
    records: Sequence[Record],
    size: tuple[int, int],
    problems: Sequence[Problem] = (),
    categories: Sequence[str] = CLASSES,
) -> tuple[SetReport, list[Record]]:
    """Open every file once.

    Args:
        records: the pairs of a list.
        size: width and height of the network's images, for the speed.
        problems: why the pairs of the list that are no records have no labels, one a pair.
        categories: names of their boxes by class index.

    Returns:
        What was found, and the usable records.
    """
    report = SetReport(len(records) + len(problems))
    for error in problems:
        _note_error(report, error)
    usable = []
    for record in records:
        _count_labels(report, record, categories)
        if _open(report, record):
            usable.append(record)
    report.unpaired = _unpaired(records)
    if usable:
        report.samples_per_second = _speed(usable, Sizes(size, (160, 128)))
    return report, usable


def _count_labels(report: SetReport, record: Record, categories: Sequence[str]) -> None:
    names = [categories[index] for index in record.classes]
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
    """Decode both images and the label map, each once; False where the pair cannot be used."""
    images: list[NDArray[np.uint8]] = []
    errors: list[Problem] = []
    for file in record.files:
        if not file.path.is_file():
            _note(report.missing, str(file.path))
            continue
        try:
            images.append(file.decode())
        except (SourceError, DataError) as error:
            errors.append(error)
    if errors and _is_swapped(record):
        report.swapped += 1
        names = record.visible_file.path, record.thermal_file.path.name
        errors = [DataError(f"{names[0]}: is a thermal image, and its thermal one {names[1]} has colour: swapped?")]
    for wrong in errors:
        _note_error(report, wrong)
    if len(images) < len(record.files):
        return False
    for counter, image in zip((report.visible_sizes, report.thermal_sizes), images, strict=False):
        counter[_size(image)] += 1
    heights = (record.boxes[:, 3] - record.boxes[:, 1]) * images[0].shape[0]
    report.tiny += int((heights < TINY_PX).sum())
    if record.label_map_file is not None:
        _count_pixels(report, images[2], record.night)
    mismatches = _mismatches(record, images)
    report.mismatched += mismatches
    return not mismatches


def _is_swapped(record: Record) -> bool:
    """Each of the two files is an image of the other camera."""
    visible, thermal = record.visible_file, record.thermal_file
    if visible.four_channels:
        return False
    try:
        replace(visible, colour=False, rule=thermal.rule).decode()
        return not is_grey(replace(thermal, colour=True).decode())
    except (SourceError, DataError):
        return False


def _mismatches(record: Record, images: Sequence[NDArray[np.uint8]]) -> list[str]:
    """What cannot show the view of the visible image, a line each."""
    visible = images[0]
    wide = visible.shape[1] / visible.shape[0]
    found = []
    for file, image in zip(record.files[1:], images[1:], strict=True):
        if not 1 / MOST_STRETCH <= image.shape[1] / image.shape[0] / wide <= MOST_STRETCH:
            found.append(f"{file.path}: other proportions, {_size(image)} beside {_size(visible)}")
    declared = record.declared_size
    if declared is not None and declared != (visible.shape[1], visible.shape[0]):
        labels = f"labels are for {declared[0]}x{declared[1]}"
        found.append(f"{record.visible_file.path}: {labels}, the image has {_size(visible)}")
    return found


def _size(image: NDArray[np.uint8]) -> str:
    return f"{image.shape[1]}x{image.shape[0]}"


def _note(found: list[str], what: str) -> None:
    """A file that holds both images of a pair is named once."""
    if what not in found:
        found.append(what)


def _note_error(report: SetReport, error: Problem) -> None:
    if str(error) not in report.unreadable:
        report.unreadable.append(str(error))
        report.malformed += isinstance(error, DataError)


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
    """Images beside those of the list without a partner."""
    found: list[str] = []
    for kinds in sorted({_kinds(record) for record in records}):
        if not all(folder.is_dir() for folder, _ in kinds):
            continue
        files = [_by_pair(*kind) for kind in kinds]
        for own, other in (files, files[::-1]):
            found += [str(own[name]) for name in sorted(own.keys() - other.keys())]
    return found


def _kinds(record: Record) -> tuple[Kind, Kind]:
    """What tells the visible and the thermal files of the record's folder, or folders, apart."""
    visible, thermal = record.visible_file.path, record.thermal_file.path
    if visible.parent != thermal.parent:
        return (visible.parent, ""), (thermal.parent, "")
    endings = visible.name.removeprefix(record.name), thermal.name.removeprefix(record.name)
    return (visible.parent, endings[0]), (thermal.parent, endings[1])


def _by_pair(folder: Path, ending: str) -> dict[str, Path]:
    """Images of one kind by what their partner is called as well."""
    images = [path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.name.endswith(ending)]
    return {path.name.removesuffix(ending) if ending else path.stem: path for path in images}


def _speed(records: Sequence[Record], sizes: Sizes) -> float:
    """Samples a second of one worker, which has one thread: decoding and augmentation."""
    threads = cv2.getNumThreads()
    cv2.setNumThreads(0)  # as in a training
    try:
        began = time.perf_counter()
        for index in range(TIMED_SAMPLES):
            augment(records[index % len(records)], sizes, np.random.default_rng(index))
        return TIMED_SAMPLES / (time.perf_counter() - began)
    finally:
        cv2.setNumThreads(threads)


def draw_sheet(records: Sequence[Record], title: str, path: Path, categories: Sequence[str] = CLASSES) -> None:
    """Contact sheet of labelled pairs, evenly spread over the set, in the look of `mdrun`'s own.

    Label maps are drawn where there are any, else the class of the pair, else boxes.

    Raises:
        OutputError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    segment = any(record.label_map_file is not None for record in records)
    labels = sorted({record.label for record in records if record.label is not None})
    task = "segment" if segment else "classify" if labels else "detect"
    classes = list({"segment": LABEL_CLASSES, "classify": labels, "detect": categories}[task])
    look = Look(title, classes, 0.0, True, task, labels=True)
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
