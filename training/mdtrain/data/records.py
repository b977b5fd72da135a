"""One labelled pair. Images are decoded when they are asked for, and kept as far as memory is granted.

Classes of boxes are indices into the categories that a set was read with, by default CLASSES. Classes of label maps are
MFNet's nine. Classes of whole pairs are names, which each training puts in an order of its own.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mdrun.errors import DataError, SourceError
from mdrun.frames import Modality
from mdrun.sources import images
from mdrun.street.config import LABEL_NAMES
from mdrun.thermal.normalise import Rule, normalise
from mdtrain.data.png import read_four_channels, read_label_map
from mdtrain.metrics.kaist_images import ImageTruth

CLASSES = ("person", "bicycle", "car")  # categories of boxes where none are named
LABEL_CLASSES = LABEL_NAMES  # of label maps: index 0 is unlabelled, the background
IGNORE_LABEL = 255  # pixels of label maps that neither losses nor measures look at
MAX_WIDTH = 800  # twice the default network's width; larger files only cost memory and time
DAY_NIGHT = ("day", "night")  # classes of pairs where a set says no more than when they were taken
PROBES = 16  # pairs of a set that are opened before a training
EIGHT_BITS = Rule()
# Between the proportions of the two images of a pair: RoadScene's registered crops differ by up to 11.2 %, two cameras
# of 4:3 and 3:2, whose views are not one, by 12.5 %.
MOST_STRETCH = 1.12
GREY_LIMIT = 1.0  # mean span of a pixel's channels; the greyest of 204 pairs of RoadScene and MSRS has 3.2


@dataclass
class ImageFile:
    """An image on disk, or one in memory; 8 bits, or 16-bit thermal counts and the rule that makes 8 bits of them.

    Attributes:
        path: of the file.
        colour: read as RGB (H, W, 3), else as grey (H, W).
        kept: the decoded image, once it was read and `keep` is set.
        keep: hold on to the decoded image.
        four_channels: the file holds the pair: RGB in three channels, thermal in the fourth (MFNet).
        rule: of thermal counts, `agc8` for files of 8 bits; set for many by `use_rule`.
    """

    path: Path
    colour: bool
    kept: NDArray[np.uint8] | None = None
    keep: bool = False
    four_channels: bool = False
    rule: Rule = EIGHT_BITS

    def read(self) -> NDArray[np.uint8]:
        """What was kept, else decode, at most MAX_WIDTH pixels wide.

        Raises:
            SourceError, DataError: as `decode`.
        """
        if self.kept is not None:
            return self.kept
        image = _at_most(self.decode())
        if self.keep:
            self.kept = image
        return image

    def decode(self) -> NDArray[np.uint8]:
        """As large as it is stored.

        Raises:
            SourceError, DataError: as `read_image`, or as `read_four_channels`.
        """
        if self.four_channels:
            return read_four_channels(self.path)[not self.colour]
        return _decode(self.path, colour=self.colour, rule=self.rule)


@dataclass
class LabelFile:
    """A label map on disk, or one in memory.

    Attributes:
        path: of the file: an 8-bit PNG of class indices.
        kept: the decoded map, once it was read and `keep` is set.
        keep: hold on to the decoded map.
    """

    path: Path
    kept: NDArray[np.uint8] | None = None
    keep: bool = False

    def read(self) -> NDArray[np.uint8]:
        """What was kept, else decode.

        Raises:
            SourceError, DataError: as `decode`.
        """
        if self.kept is not None:
            return self.kept
        label_map = self.decode()
        if self.keep:
            self.kept = label_map
        return label_map

    def decode(self) -> NDArray[np.uint8]:
        """(H, W) indices into LABEL_CLASSES, or IGNORE_LABEL; of any size.

        Raises:
            SourceError, DataError: as `read_label_map`.
        """
        return read_label_map(self.path, len(LABEL_CLASSES), IGNORE_LABEL)


@dataclass(frozen=True)
class Record:
    """One labelled pair of registered images.

    Attributes:
        name: unique within its set; MSRS names end in D (day) or N (night).
        visible_file: the visible image.
        thermal_file: the thermal one, the same field of view.
        boxes: (G, 4) float32 xyxy, fractions of the image in [0, 1].
        classes: (G,) int64, indices into the categories that the set was read with.
        night: taken by night; None where the set does not say.
        label_map_file: classes of all pixels, the same field of view; None where there are only boxes.
        label: class of the whole pair, where the set has one; see `class_name`.
        kaist: what KAIST's miss rate is judged by: also boxes that nothing learns from; None of other sets.
        declared_size: width and height in pixels that the set's labels say its boxes were counted in, before they
            became fractions; None where they say none.
    """

    name: str
    visible_file: ImageFile
    thermal_file: ImageFile
    boxes: NDArray[np.float32]
    classes: NDArray[np.int64]
    night: bool | None = field(default=None)
    label_map_file: LabelFile | None = None
    label: str | None = None
    kaist: ImageTruth | None = None
    declared_size: tuple[int, int] | None = None

    @property
    def class_name(self) -> str | None:
        """Class of the whole pair: its set's, else `day` or `night`; None where nothing says it."""
        return self.label if self.label is not None or self.night is None else DAY_NIGHT[self.night]

    @property
    def visible(self) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB."""
        return self.visible_file.read()

    @property
    def thermal(self) -> NDArray[np.uint8]:
        """(h, w) uint8."""
        return self.thermal_file.read()

    @property
    def label_map(self) -> NDArray[np.uint8] | None:
        """(H, W) indices into LABEL_CLASSES, or IGNORE_LABEL; its size may differ from the visible image's."""
        return self.label_map_file.read() if self.label_map_file is not None else None

    @property
    def files(self) -> tuple[ImageFile | LabelFile, ...]:
        """What is read from disk: visible image, thermal image, label map if there is one."""
        images = (self.visible_file, self.thermal_file)
        return images if self.label_map_file is None else (*images, self.label_map_file)


def make_record(
    name: str,
    files: tuple[Path, Path],
    boxes: NDArray[np.floating],
    classes: NDArray[np.integer],
    *,
    night: bool | None = None,
    label_map: Path | None = None,
    declared_size: tuple[int, int] | None = None,
) -> Record:
    """A record of a visible and a thermal file; `boxes` (G, 4) xyxy in fractions of the image."""
    visible, thermal = ImageFile(files[0], colour=True), ImageFile(files[1], colour=False)
    unit = boxes.reshape(-1, 4).astype(np.float32).clip(0, 1)
    labels = LabelFile(label_map) if label_map is not None else None
    return Record(name, visible, thermal, unit, classes.astype(np.int64), night, labels, declared_size=declared_size)


def use_rule(records: Sequence[Record], rule: Rule) -> None:
    """Read all thermal images by this rule from now on."""
    for record in records:
        record.thermal_file.rule = rule


def read_image(path: Path, *, colour: bool, rule: Rule = EIGHT_BITS) -> NDArray[np.uint8]:
    """RGB (H, W, 3) or grey (H, W), at most MAX_WIDTH wide; the pixels that `mdrun` would see.

    Args:
        path: of the file.
        colour: the visible camera's, else the thermal one's.
        rule: by which thermal counts become 8 bits; `agc8` takes files of 8 bits.

    Raises:
        SourceError: missing, truncated or not an image.
        DataError: a coloured thermal image or a visible one without colour, or not what the rule takes.
    """
    return _at_most(_decode(path, colour=colour, rule=rule))


def _decode(path: Path, *, colour: bool, rule: Rule) -> NDArray[np.uint8]:
    """As `read_image`, of any width."""
    image: NDArray[np.uint8] = images.read_image(path, Modality.VISIBLE if colour else Modality.THERMAL)
    if colour:
        return image
    try:
        return normalise(image, rule)
    except DataError as error:
        raise DataError(f"{path}: {error}; in training data.normalisation is the rule") from error


def _at_most(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Scaled down to MAX_WIDTH if it is wider."""
    if image.shape[1] > MAX_WIDTH:
        factor = MAX_WIDTH / image.shape[1]
        return np.asarray(cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA), np.uint8)
    return image


def keep_images(records: Sequence[Record], budget_mb: int) -> None:
    """Let the first records keep what was decoded, until `budget_mb` MiB are spent; the rest is decoded each time.

    The size of the first pair and its label map stands for all.
    """
    if not records:
        return
    pair = sum(file.read().nbytes for file in records[0].files)
    for record in records[: budget_mb * 2**20 // pair]:
        for file in record.files:
            file.keep = True


def check_records(records: Sequence[Record], where: Path, command: str | None = None) -> None:
    """Fail now, not in the middle of a training: all files are there, some of them are opened.

    Args:
        records: of one list.
        where: folder of their set.
        command: what lists all missing files, see `check_command`; None where the pairs are of no list of the set.

    Raises:
        SourceError: no records, or a file is missing (names the first and how many more there are) or unreadable.
        DataError: visible and thermal images seem to be swapped.
    """
    if not records:
        raise SourceError(f"{where}: its list names no pairs, wanted at least one; fill the list or leave the set out")
    missing = [path for path in dict.fromkeys(f.path for r in records for f in r.files) if not path.is_file()]
    if missing:
        more = f" and {len(missing) - 1} more files are" if len(missing) > 1 else " is"
        way_out = f"copy what is missing into {where}" if command is None else f"`{command}` lists all"
        raise SourceError(f"{missing[0]}{more} missing; {way_out}")
    refuse_swapped(records, where)


def refuse_shared(records: Sequence[Record], validation: Sequence[Record], split: str) -> None:
    """Refuse to judge by pairs that are learnt from: lists of other names may share some (KAIST, MFNet).

    Raises:
        DataError: names the first such pair, and how many there are.
    """
    learnt = {os.path.realpath(record.visible_file.path) for record in records}  # links to one image are one
    paths = [record.visible_file.path for record in validation]
    if shared := [path for path in paths if os.path.realpath(path) in learnt]:
        raise DataError(
            f"{shared[0]}: {len(shared)} of the {len(validation)} pairs of the list {split} are learnt from as well, "
            "wanted pairs that only judge; take another data.validation_list or data.lists"
        )


def check_command(
    layout: str,
    folder: Path,
    split: str,
    labels: str = "fusion",
    kaist_labels: str = "sanitized",
    rule: Rule = EIGHT_BITS,
    categories: Sequence[str] = CLASSES,
) -> str:
    """The command that shows what is wrong with a list, with the options that `read_set` was given."""
    words = ["mdtrain", "data", "check", str(folder), "--set", layout, "--split", split]
    if layout == "msrs" and labels != "fusion":
        words += ["--labels", labels]
    if layout == "kaist" and kaist_labels != "sanitized":
        words += ["--kaist-labels", kaist_labels]
    if rule != EIGHT_BITS:
        words += ["--normalisation", str(rule)]
    if tuple(categories) != CLASSES:
        words += ["--classes", ",".join(categories)]
    return shlex.join(words)


def refuse_swapped(records: Sequence[Record], where: Path) -> None:
    """Open a few records, evenly spread: coloured thermal or only grey visible images are the other camera's.

    Raises:
        SourceError: one of them cannot be read.
        DataError: they are, or a label map holds what is no class.
    """
    probes = records[:: -(-len(records) // PROBES) or 1]
    for record in probes:
        for file in record.files[1:]:
            file.read()
    if probes and not any(record.visible.any() for record in probes):
        raise DataError(
            f"{where}: its visible images are black ({len(probes)} of {len(records)} were opened); "
            "copy them again, or leave the set out"
        )
    if probes and all(is_grey(record.visible) for record in probes):
        raise DataError(
            f"{where}: none of its visible images has colour ({len(probes)} of {len(records)} were opened), wanted "
            "colour: exchange its visible and thermal images if they are swapped, else leave the set out: "
            "what a visible camera without colour saw cannot be learnt from or judged here"
        )


def is_grey(image: NDArray[np.uint8]) -> bool:
    """Three channels that hold one image, a JPEG's rounding apart."""
    sparse = image[::4, ::4]
    return float((sparse.max(2) - sparse.min(2)).mean()) < GREY_LIMIT
